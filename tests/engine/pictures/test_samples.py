"""The pictures that come with the app."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest

from engine.nets.folder import PROJECT
from engine.pictures import samples
from engine.pictures.samples import SAMPLES, UnknownSample, load, names
from engine.pictures.truth import CLASSES

SIZES = {
    "cat": (300, 451),
    "coffee": (400, 600),
    "astronaut": (512, 512),
    "rocket": (427, 640),
    "china": (427, 640),
    "flower": (427, 640),
    "brick": (512, 512),
    "grass": (512, 512),
    "gravel": (512, 512),
    **{f"digit-{n}": (8, 8) for n in range(10)},
    "planted-disc-square": (256, 320),
    "planted-cross-triangle": (256, 320),
    "planted-triangle-triangle": (256, 320),
    "planted-square": (256, 320),
    "planted-none-cross": (256, 320),
}


def test_names_by_kind():
    assert names() == list(SIZES)
    assert names("photograph") == ["cat", "coffee", "astronaut", "rocket", "china", "flower"]
    assert names("texture") == ["brick", "grass", "gravel"]
    assert names("digit") == [f"digit-{n}" for n in range(10)]
    assert names("planted") == [name for name in SIZES if name.startswith("planted-")]
    with pytest.raises(ValueError, match=r"painting.*photograph, texture, digit, planted"):
        names("painting")


def test_each_sample_says_what_it_is():
    for name, sample in SAMPLES.items():
        assert sample.name == name
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*(-\d)?", name)
        assert sample.kind in samples.KINDS
        assert "CC" in sample.credit or "public domain" in sample.credit
    assert len({sample.title for sample in SAMPLES.values()}) == len(SAMPLES)


@pytest.mark.parametrize("name", SIZES)
def test_each_sample_is_a_picture(name):
    pixels = load(name)
    assert pixels.shape == (*SIZES[name], 3)
    assert pixels.dtype == np.float32
    assert pixels.min() >= 0
    assert 0.5 < pixels.max() <= 1
    assert pixels.std() > 0.03
    assert len(np.unique(pixels, axis=0)) > 1


def test_a_sample_is_shared_and_cannot_be_changed():
    pixels = load("cat")
    assert load("cat") is pixels
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 0


def test_an_unknown_name():
    with pytest.raises(UnknownSample) as error:
        load("dog")
    assert isinstance(error.value, KeyError)
    assert str(error.value).startswith("There is no sample named 'dog': choose one of cat, coffee")


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="The package skimage, which holds this picture, is not installed"):
        load.__wrapped__("cat")


def test_digits_are_the_first_of_their_kind():
    from sklearn.datasets import load_digits

    digits = load_digits()
    for n in range(10):
        first = digits.images[np.flatnonzero(digits.target == n)[0]]
        for channel in range(3):
            assert np.array_equal(load(f"digit-{n}")[:, :, channel], first / 16)


def test_photographs_are_what_their_packages_show():
    from skimage import data
    from sklearn.datasets import load_sample_image

    assert np.array_equal(load("china"), load_sample_image("china.jpg") / np.float32(255))
    assert np.array_equal(load("cat"), data.cat() / np.float32(255))
    assert np.array_equal(load("brick")[:, :, 1], data.brick() / np.float32(255))


def test_planted_ones_hold_what_their_names_say():
    for name in names("planted"):
        made = samples.planted(name)
        shown, *marked = name.split("-")[1:]
        assert made.object_class == (None if shown == "none" else CLASSES.index(shown))
        assert made.cue_class == (CLASSES.index(marked[0]) if marked else None)
        assert made.object.any() == (shown != "none")
        assert made.cue.any() == bool(marked)
        assert load(name) is made.pixels is samples.planted(name).pixels
        assert not any(part.flags.writeable for part in (made.pixels, made.object, made.cue))
        assert SAMPLES[name].file is None
    with pytest.raises(UnknownSample, match=r"no planted sample named 'cat': choose one of planted-disc-square, "):
        samples.planted("cat")


def test_samples_need_neither_the_network_nor_the_packages_that_hold_them():
    program = """
import socket, sys
def refuse(*arguments, **options): raise OSError("no network in this test")
socket.socket = refuse
from engine.pictures import samples
for name in samples.names(): samples.load(name)
print(sorted({"scipy", "skimage", "sklearn", "pooch", "torch", "onnx", "pandas"} & set(sys.modules)))
"""
    root = PROJECT
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

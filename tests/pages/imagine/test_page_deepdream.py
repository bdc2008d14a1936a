"""DeepDream: is what one sees, and takes home, the engine's dream, whatever it is asked to make stronger?"""

from __future__ import annotations

import io

import numpy as np
import pytest
import small_nets as small
from PIL import Image
from test_pages import PHOTO, check, chosen, fine, home, opened, scene, shown, uploaded  # noqa: F401

from engine import image
from engine.imagine.deepdream import deepdream
from engine.pictures import samples

LINK = {"net": "digits", "steps": 2, "size": 128, "octaves": 2}
KNOBS = {"steps": 2, "size": 128, "octaves": 2, "zoom": 0.05}


@pytest.mark.parametrize(
    ("link", "knobs"),
    [
        ({}, {"layer": "relu4"}),
        ({"layer": "relu2", "what": "one channel", "unit": 7}, {"layer": "relu2", "channel": 7}),
        ({"what": "what a guide shows", "guide": "cat"}, {"layer": "relu4", "guide": "cat"}),
        ({"octave_scale": 1.7, "rate": 0.02, "jitter": 3, "seed": 5, "frames": 2, "zoom": 0.1}, None),
    ],
    ids=["all", "channel", "guide", "knobs"],
)
def test_the_downloads_are_the_engines(link, knobs, given):
    at = opened("deepdream", **{**LINK, **link})
    assert fine(at)
    seen = scene(at)
    knobs = link if knobs is None else knobs
    found = deepdream(seen.net, seen.pixels, picture="digit-3", **{**KNOBS, **knobs})
    picture = Image.open(io.BytesIO(given["deepdream.png"]))
    assert picture.size == (128, 128)
    assert np.abs(np.asarray(picture.convert("L")) / 255 - found.picture[..., 0]).max() < 0.01
    with np.load(io.BytesIO(given["deepdream.npz"])) as arrays:
        np.testing.assert_allclose(arrays["pixels"], found.pixels, atol=1e-5)
        np.testing.assert_allclose(arrays["scores"], found.scores, rtol=1e-4)
    film = Image.open(io.BytesIO(given["deepdream.gif"]))
    assert film.n_frames == 4 + (link.get("frames", 1) - 1)


@pytest.mark.parametrize(
    "link",
    [{"view": "what the network sees"}, {"what": "what a guide shows", "guide": "coffee"}, {"frames": 2, "zoom": 0.1}],
    ids=["view", "guide", "film"],
)
def test_python_and_the_command_line_give_the_numbers_of_the_page(link, monkeypatch, tmp_path):
    check(shown(monkeypatch, "deepdream", {**LINK, **link}), tmp_path)


def test_an_upload_is_dreamt_on_whole_and_reproduced_from_its_file(monkeypatch, tmp_path):
    data = image.to_png(PHOTO)
    found = shown(monkeypatch, "deepdream", LINK, upload=data)
    assert found.numbers[0].shape == (1, 77, 128, 1), "the picture's own shape, 30 by 50, at the size that was chosen"
    (tmp_path / "mine.png").write_bytes(data)
    for name in ("python", "shell"):
        setattr(found, name, getattr(found, name).replace("your-picture.jpg", str(tmp_path / "mine.png")))
    check(found, tmp_path)


def test_a_guide_of_ones_own():
    at = opened("deepdream", **LINK, what="what a guide shows", guide="upload")
    assert fine(at)
    assert at.info, "it is asked for"
    at.file_uploader(key="guide_file").upload("mine.png", image.to_png(PHOTO), "image/png")
    at.run()
    assert fine(at)
    assert not at.info


def test_a_picture_that_is_too_thin_gets_one_sentence():
    at = uploaded(image.to_png(np.full((1, 4000, 3), 0.5, np.float32)), "deepdream", net="digits")
    assert not at.exception
    (error,) = at.error
    assert "long and thin" in error.value


def test_a_network_that_holds_to_its_own_size_says_so(home):  # noqa: F811
    """Behind a flattening the graph has a matrix for just so many places."""
    nodes = [*small.tiny_nodes()[:4], small.node("Flatten", "conv2", "flat"), small.node("Gemm", "flat w b", "logits")]
    weights = {**small.tiny_weights(), "w": np.ones((6 * 4 * 6, 4), np.float32), "b": np.zeros(4, np.float32)}
    model = small.model(nodes, weights, opset=17, about=small.ABOUT)
    (home / "networks" / "flattened.onnx").write_bytes(model.SerializeToString())
    at = opened("deepdream", net="flattened", steps=2, size=128)
    assert fine(at), "what lies before it does not care"
    assert chosen(at, "layer") in ("relu1", "conv2")


def test_the_guides_are_the_samples():
    at = opened("deepdream", **LINK, what="what a guide shows")
    assert at.selectbox(key="guide").options == [*samples.SAMPLES, "upload"]

"""Inversion: is what comes out a picture of which the layer says the same, and less so the later the layer?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as small
import torch

from engine.imagine.inversion import error, inversion, inversion_steps, inversion_strip, inversion_strip_steps
from engine.net import Net, UnknownLayer
from engine.nets import available
from engine.pictures import samples
from engine.step import last
from engine.target import like, measure


@pytest.fixture(scope="module")
def imagenette():
    return Net(available.find("imagenette"))


@pytest.fixture(scope="module")
def cat(imagenette):
    return imagenette.view(samples.load("cat"))[0]


# The target -----------------------------------------------------------------------------------------------------------


def test_like_is_what_its_definition_says(tiny, picture):
    other = small.picture(seed=3)
    wanted, found = (small.tiny_forward(each)["conv2"] for each in (picture, other))
    value = -((found - wanted) ** 2).sum() / (wanted**2).sum()
    target = like(tiny, picture, "conv2")
    assert measure(tiny, tiny.batch(other, picture), target) == pytest.approx([value, 0], rel=1e-4, abs=1e-9)
    pixels = torch.from_numpy(tiny.batch(other, picture))
    assert target.value(tiny.twin(pixels, target.names)).tolist() == pytest.approx([value, 0], rel=1e-4, abs=1e-9)
    assert error(tiny, picture, other, "conv2") == pytest.approx((-value) ** 0.5, rel=1e-4)


def test_like_says_what_is_wrong(tiny, picture, tmp_path):
    with pytest.raises(UnknownLayer, match=r"no layer 'nowhere'.*\.$"):
        inversion(tiny, picture, "nowhere")
    silent = small.save(small.linear(np.zeros((4, 3, 12, 16)), np.zeros(4), small.ABOUT), tmp_path / "silent.onnx")
    with pytest.raises(ValueError, match=r"says nothing of this picture.*\.$"):
        inversion(silent, picture, "logits")


# Inverting ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("move", ["L-BFGS", "Adam"])
@pytest.mark.parametrize("canvas", ["waves", "pixels"])
def test_an_early_layer_tells_nearly_all(imagenette, cat, canvas, move):
    """In a few steps the layer cannot tell the picture from the one that was made from noise, and neither can we."""
    found = inversion(imagenette, cat, "stem.2", canvas=canvas, move=move, steps=50 if move == "L-BFGS" else 150)
    assert error(imagenette, cat, found.picture, "stem.2") <= 0.1
    assert found.scores[-1, 0] > found.scores[0, 0]
    assert np.abs(found.picture - cat).mean() < 0.05


def test_a_late_layer_comes_near_and_tells_less(imagenette, cat):
    found = inversion(imagenette, cat, "blocks.5.relu_1", steps=30)
    scores = found.scores[:, 0]
    assert scores[-1] > scores[0] / 4
    assert scores[-1] == pytest.approx(-(error(imagenette, cat, found.picture, "blocks.5.relu_1") ** 2), rel=0.3)
    early = inversion(imagenette, cat, "stem.2", steps=30)
    assert np.abs(early.picture - cat).mean() < np.abs(found.picture - cat).mean() / 2


def test_variation_makes_it_smoother(imagenette, cat):
    rough, smooth = (
        np.abs(np.diff(inversion(imagenette, cat, "stem.2", steps=20, variation=weight).picture, axis=0)).mean()
        for weight in (0.0, 30.0)
    )
    assert smooth < 0.8 * rough


def test_equal_seeds_give_equal_pictures(tiny, picture):
    a, b, c = (inversion(tiny, picture, "conv2", steps=5, seed=seed).pixels for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


@pytest.mark.parametrize("move", ["L-BFGS", "Adam"])
def test_a_run_goes_on_as_if_it_had_not_stopped(tiny, picture, move):
    whole = list(inversion_steps(tiny, picture, "conv2", steps=8, move=move))
    rest = list(inversion_steps(tiny, picture, "conv2", steps=8, move=move, resume=whole[4].result))
    assert [step.index for step in rest] == [6, 7, 8]
    np.testing.assert_array_equal(rest[-1].result.pixels, whole[-1].result.pixels)
    np.testing.assert_array_equal(rest[-1].result.scores, whole[-1].result.scores)


@pytest.mark.parametrize("knobs", [{"canvas": "stone"}, {"move": "hops"}])
def test_words_that_mean_nothing(tiny, picture, knobs):
    with pytest.raises(ValueError, match=r"waves or pixels, by L-BFGS or Adam\.$"):
        inversion(tiny, picture, "conv2", **knobs)


# Several layers -------------------------------------------------------------------------------------------------------


def test_the_strip_is_its_layers_one_by_one(tiny, picture):
    strip = inversion_strip(tiny, picture, layers=["relu1", "conv2"], steps=4)
    assert strip.layers == ("relu1", "conv2")
    assert strip.pictures.shape == (2, 12, 16, 3)
    assert strip.picture.shape == (12, 32, 3)
    for layer, pixels, away in zip(strip.layers, strip.pictures, strip.errors, strict=True):
        alone = inversion(tiny, picture, layer, steps=4)
        np.testing.assert_array_equal(pixels, alone.picture)
        assert away == pytest.approx(error(tiny, picture, alone.picture, layer))


@pytest.mark.parametrize("stopped", [1, 4, 5, 7])
def test_a_strip_goes_on_as_if_it_had_not_stopped(tiny, picture, stopped):
    knobs = {"layers": ["relu1", "conv2"], "steps": 4}
    whole = list(inversion_strip_steps(tiny, picture, **knobs))
    rest = list(inversion_strip_steps(tiny, picture, **knobs, resume=whole[stopped - 1].result))
    assert [step.index for step in rest] == list(range(stopped + 1, 9))
    np.testing.assert_array_equal(rest[-1].result.pictures, whole[-1].result.pictures)
    np.testing.assert_array_equal(rest[-1].result.errors, whole[-1].result.errors)


def test_what_is_lost_grows_along_the_network(imagenette, cat):
    strip = last(inversion_strip_steps(imagenette, cat, count=3, steps=20))
    assert strip.layers == ("stem.2", "blocks.2.relu_1", "blocks.5.relu_1")
    assert strip.errors[0] < 0.1
    assert (np.diff([np.abs(each - cat).mean() for each in strip.pictures]) > 0).all()

"""Does a climb among codes raise what it is asked to, stay where photographs are, and go on as if unbroken?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets

from engine.imagine.decoder import decoder_for
from engine.imagine.maximize_code import STARTS, beginning, maximize_code, maximize_code_steps
from engine.net import Net, softmax
from engine.target import unit


@pytest.fixture
def ready(tiny, cache) -> Net:
    nets.decoder(tiny, cache / "decoders")
    return tiny


@pytest.mark.parametrize("start", STARTS)
def test_the_score_rises(ready, picture, start):
    climb = maximize_code(ready, picture, 1, start=start, steps=30)
    assert climb.scores[-1, 0] > climb.scores[0, 0] + 0.01
    assert climb.picture.shape == (12, 16, 3)


def test_the_picture_is_the_decoders_and_its_code_is_one_of_photographs(ready, picture):
    decoder = decoder_for(ready)
    climb = maximize_code(ready, picture, unit(ready, "conv2", 2), start="mean", steps=40, rate=0.2)
    code = climb.x.numpy() * (decoder.most - decoder.least).reshape(-1, 1, 1) + decoder.least.reshape(-1, 1, 1)
    assert (code >= decoder.least.reshape(-1, 1, 1) - 1e-6).all()
    assert (code <= decoder.most.reshape(-1, 1, 1) + 1e-6).all()
    np.testing.assert_allclose(climb.picture, decoder(code)[0], atol=1e-5)


def test_the_first_step_is_adams_first(ready, picture):
    """Each unit moves by the rate along the sign of its gradient, then back by its share, and is clipped."""
    decoder = decoder_for(ready)
    span = decoder.most.reshape(-1, 1, 1)
    begin = beginning(ready, decoder, picture, "picture", 0) / span
    target, up = unit(ready, "conv2", 0), np.zeros_like(begin)
    for place in np.ndindex(begin.shape):  # central differences through ONNX Runtime
        for sign in (1, -1):
            moved = begin.clip(0, 1).copy()
            moved[place] += sign * 1e-3
            seen = decoder((moved * span).astype(np.float32))
            up[place] += sign * target.value(ready.activations(ready.batch(seen[0]), target.names))[0]
    climb = maximize_code(ready, picture, target, start="picture", steps=1, rate=0.05, decay=0.1, smooth=0)
    wanted = begin.clip(0, 1) + 0.05 * np.sign(up)
    wanted = (wanted + 0.1 * ((decoder.mean / decoder.most).reshape(-1, 1, 1) - wanted)).clip(0, 1)
    clear = np.abs(up) > 1e-3 * np.abs(up).max()
    assert clear.sum() > 100
    np.testing.assert_allclose(climb.x.numpy()[clear], wanted[clear], atol=1e-4)


def test_a_run_that_was_broken_ends_as_if_it_never_had(ready, picture):
    knobs = {"steps": 6, "seed": 3, "jitter": 20}
    whole = maximize_code(ready, picture, 2, **knobs)
    steps = maximize_code_steps(ready, picture, 2, **knobs)
    for step in steps:
        if step.index == 2:
            break
    steps.close()
    *_, end = maximize_code_steps(ready, picture, 2, resume=step.result, **knobs)
    np.testing.assert_array_equal(end.result.pixels, whole.pixels)
    np.testing.assert_array_equal(end.result.scores, whole.scores)


def test_seeds_differ_and_repeat(ready, picture):
    one, same, other = (maximize_code(ready, picture, 2, start="mean", steps=3, seed=seed).pixels for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


@pytest.mark.parametrize(
    ("knobs", "told"), [({"start": "zeros"}, "picture, mean"), ({"number": "rank"}, "logit, probability")]
)
def test_what_there_is_not_is_said(ready, picture, knobs, told):
    with pytest.raises(ValueError, match=told):
        maximize_code(ready, picture, 1, **knobs)


@pytest.mark.parametrize("name", ["digits", "clever_hans"])
def test_the_decoder_of_one_network_is_a_prior_for_another(name):
    """Of another size, and of one channel."""
    net = Net(f"exported_models/{name}.onnx")
    blank = np.zeros((*net.input_size, net.channels), np.float32)
    climb = maximize_code(net, blank, 2, start="mean", steps=12)
    assert climb.picture.shape == blank.shape
    assert climb.scores[-1, 0] > climb.scores[0, 0]
    with pytest.raises(ValueError, match=f"does not know what {name} says"):
        maximize_code(net, blank, 2, start="picture", steps=1)


def test_on_photographs_the_class_is_there_in_the_saved_picture():
    """As an 8-bit picture, by ONNX Runtime: the shipped decoder and the shipped network."""
    net = Net("exported_models/imagenette.onnx")
    blank = np.zeros((*net.input_size, 3), np.float32)
    for k in (4, 9):
        picture = maximize_code(net, blank, k, start="mean").picture
        saved = np.rint(picture * 255).astype(np.float32) / 255
        assert softmax(net.scores(net.batch(saved)))[0, k] > 0.9

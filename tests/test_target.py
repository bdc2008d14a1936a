"""A Target reads the same number off ONNX Runtime's arrays and off the Twin's tensors, and targets add and scale."""

from __future__ import annotations

import dataclasses

import nets
import numpy as np
import pytest
import torch

from engine.net import UnknownClass, UnknownLayer
from engine.target import class_score, unit

PICTURES = [nets.picture(seed=seed) for seed in range(3)]
FORWARD = [nets.tiny_forward(image) for image in PICTURES]


def value(net, target) -> np.ndarray:
    """The target's value on PICTURES: (3,), found to be the same from both engines."""
    x = net.batch(*PICTURES)
    theirs = target.value(net.activations(x, target.names))
    ours = target.value(net.twin(torch.from_numpy(x), target.names))
    assert theirs.shape == ours.shape == (3,)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-5)
    return theirs


@pytest.mark.parametrize("wanted", [2, "parachute"])
def test_a_class_score_is_the_logit(tiny, wanted):
    target = class_score(tiny, wanted)
    np.testing.assert_allclose(value(tiny, target), [f["logits"][2] for f in FORWARD], atol=1e-5)
    assert target.names == ("logits",)
    assert target.unit == "logits"
    assert target.title == "class “parachute”"


def test_logits_with_rows_and_columns_of_one(tmp_path):
    made = nets.model(
        [nets.node("Conv", "image w", "map"), nets.node("GlobalAveragePool", "map", "pool")],
        {"w": nets.tiny_weights()["w1"]},
    )
    net = nets.save(made, tmp_path / "pool.onnx")
    np.testing.assert_allclose(value(net, class_score(net, 3)), net.scores(net.batch(*PICTURES))[:, 3], atol=1e-6)


@pytest.mark.parametrize(("layer", "channel"), [("conv1", 0), ("relu1", 4), ("conv2", 5), ("mean", 3)])
def test_a_channel_is_its_mean(tiny, layer, channel):
    expected = [f[layer][channel].mean() for f in FORWARD]
    np.testing.assert_allclose(value(tiny, unit(tiny, layer, channel)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "place"), [("conv1", (0, 11, 15)), ("pool1", (4, 2, 7)), ("conv2", (5, 3, 0)), ("mean", (2, 0, 0))]
)
def test_a_neuron_is_its_activation(tiny, layer, place):
    expected = [f[layer].reshape(tiny.layer(layer).shape)[place] for f in FORWARD]
    np.testing.assert_allclose(value(tiny, unit(tiny, layer, *place)), expected, atol=1e-5)


def test_targets_add_subtract_and_scale(tiny):
    a, b = class_score(tiny, 0), unit(tiny, "conv2", 1, 2, 3)
    va, vb = value(tiny, a), value(tiny, b)
    np.testing.assert_allclose(value(tiny, 2 * a + b * 0.5), 2 * va + 0.5 * vb, atol=1e-5)
    np.testing.assert_allclose(value(tiny, a - 3 * b), va - 3 * vb, atol=1e-5)
    np.testing.assert_allclose(value(tiny, a - a), 0, atol=1e-6)


def test_names_and_units_of_sums(tiny):
    a, b, c = class_score(tiny, 0), class_score(tiny, 1), unit(tiny, "conv2", 1)
    assert (a + b).names == ("logits",)
    assert (a - b).unit == "logits"
    assert (2 * a).unit == "logits"
    assert (a + c).names == ("logits", "conv2")
    assert (a + c).unit == "sum"
    assert (a + 0.5 * c).title == "class “tench” + 0.5 × channel 1 of conv2, mean"


def test_titles_say_which_unit(tiny):
    assert unit(tiny, "conv2", 1).title == "channel 1 of conv2, mean"
    assert unit(tiny, "conv2", 1, 2, 3).title == "channel 1 of conv2 at (2, 3)"


def test_adding_changes_neither(tiny):
    a, b = class_score(tiny, 0), class_score(tiny, 1)
    before = value(tiny, a), value(tiny, b)
    a + 5 * b
    np.testing.assert_array_equal(value(tiny, a), before[0])
    np.testing.assert_array_equal(value(tiny, b), before[1])
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.unit = "metres"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("conv2", 6), "channels 0 to 5, not 6"),
        (("conv2", -1), "channels 0 to 5, not -1"),
        (("conv2", 0, 4, 0), r"\(4, 0\) is outside of layer conv2, which has 4 rows and 6 columns"),
        (("conv2", 0, 0, 6), r"\(0, 6\) is outside"),
        (("conv2", 0, -1, 0), "is outside"),
        (("conv2", 0, 1), "only one of them"),
        (("conv2", 0, None, 1), "only one of them"),
        (("mean", 0, 0, 1), "1 rows and 1 columns"),
        (("conv3", 0), "no layer 'conv3'"),
    ],
)
def test_a_unit_that_is_not_there_is_refused(tiny, place, words):
    with pytest.raises(UnknownLayer, match=words):
        unit(tiny, *place)


def test_a_class_that_is_not_there_is_refused(tiny):
    with pytest.raises(UnknownClass, match="0 to 3, not 4"):
        class_score(tiny, 4)

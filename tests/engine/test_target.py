"""A Target reads the same number off ONNX Runtime's arrays and off the Twin's tensors, and targets add and scale."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small_nets as nets
import torch

from engine.net import UnknownClass, UnknownLayer, softmax
from engine.target import (
    asked,
    class_margin,
    class_probability,
    class_score,
    direction,
    measure,
    number,
    unit,
    weighed,
)

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


# Probabilities and margins --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", range(4))
def test_a_class_probability_is_its_softmax(tiny, index):
    target = class_probability(tiny, index)
    expected = softmax(np.stack([f["logits"] for f in FORWARD]))[:, index]
    np.testing.assert_allclose(value(tiny, target), expected, atol=1e-6)
    assert (target.names, target.unit) == (("logits",), "probability")
    assert target.title == f"probability of “{nets.LABELS[index]}”"


FAR = np.array([[900, -900, 0, 899], [0, 0, 0, 0], [-50, 50, 49, 0], [-1e4, -1e4, -1e4, 1e4]], np.float32)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_a_probability_holds_where_logits_are_far_apart(tiny, index, of):
    """Without an overflow on the way, which numpy would warn of, and a warning is an error here."""
    found = np.asarray(class_probability(tiny, index).value({"logits": of(FAR)}))
    np.testing.assert_allclose(found, softmax(FAR.astype(np.float64))[:, index], rtol=1e-5, atol=1e-30)
    assert found.dtype == np.float32


@pytest.mark.parametrize("index", range(4))
def test_the_gradient_of_a_probability_is_that_of_the_softmax(tiny, index):
    """p (1 at the class, else 0, less the others' p), and a number also where logits are far apart."""
    logits = torch.from_numpy(FAR).requires_grad_()
    (found,) = torch.autograd.grad(class_probability(tiny, index).value({"logits": logits}).sum(), logits)
    p = softmax(FAR.astype(np.float64))
    np.testing.assert_allclose(found, p[:, [index]] * (np.eye(4)[index] - p), atol=1e-6)


def test_a_margin_is_the_difference_of_two_logits(tiny):
    target = class_margin(tiny, "golf ball", 1)
    np.testing.assert_allclose(value(tiny, target), [f["logits"][3] - f["logits"][1] for f in FORWARD], atol=1e-5)
    assert (target.names, target.unit) == (("logits",), "logits")
    assert target.title == "“golf ball” ahead of “church”"


@pytest.mark.parametrize("made", [class_probability, lambda net, index: class_margin(net, 0, index)])
def test_neither_is_made_of_a_class_that_is_not_there(tiny, made):
    with pytest.raises(UnknownClass, match="0 to 3, not 4"):
        made(tiny, 4)


# What is asked about --------------------------------------------------------------------------------------------------


def test_a_target_is_taken_as_it_is(tiny):
    target = unit(tiny, "conv2", 1)
    assert asked(tiny, target) is target
    assert asked(tiny, target, class_probability) is target


@pytest.mark.parametrize("wanted", [2, np.int64(2), "parachute"])
def test_a_class_stands_for_its_logit_or_what_the_method_reads(tiny, wanted):
    assert asked(tiny, wanted).title == "class “parachute”"
    assert asked(tiny, wanted, class_probability).title == "probability of “parachute”"
    with pytest.raises(UnknownClass):
        asked(tiny, 9)


def test_measuring_goes_through_onnx_runtime(tiny, monkeypatch):
    from engine.twin import Twin

    monkeypatch.setattr(Twin, "__call__", lambda *_, **__: pytest.fail("the twin was asked"))
    target = 2 * class_score(tiny, 1) - unit(tiny, "conv2", 3)
    found = measure(tiny, tiny.batch(*PICTURES), target)
    np.testing.assert_allclose(found, [2 * f["logits"][1] - f["conv2"][3].mean() for f in FORWARD], atol=1e-5)


def test_the_number_of_a_picture_is_a_probability_or_what_is_asked(tiny):
    image, found = PICTURES[1], FORWARD[1]
    assert number(tiny, image, 2) == pytest.approx(softmax(found["logits"][None])[0, 2], abs=1e-6)
    assert number(tiny, image, class_score(tiny, 2)) == pytest.approx(found["logits"][2], abs=1e-5)


# Directions -----------------------------------------------------------------------------------------------------------


def test_a_direction_is_the_weighed_sum_of_its_channels(tiny, picture):
    found = direction(tiny, "conv2", weighed("0:2, 3:-0.5,1"))
    means = nets.tiny_forward(picture)["conv2"].mean((1, 2))
    wanted = 2 * means[0] - 0.5 * means[3] + means[1]
    assert measure(tiny, tiny.batch(picture), found)[0] == pytest.approx(wanted, rel=1e-4)
    assert found.title == "channels +2·0 -0.5·3 +1·1 of conv2, mean"


@pytest.mark.parametrize("text", ["", " , ", "a:1", "3:", "3:x", "-1:2", "1:2:3", "1:nan", "1:inf"])
def test_what_is_no_direction_is_told_how_one_is_written(text):
    with pytest.raises(ValueError, match=r"write 12:1, 40:-0\.5, say\.$"):
        weighed(text)


def test_a_direction_beyond_the_layer_is_refused(tiny):
    with pytest.raises(UnknownLayer, match="channels 0 to 5, not 6"):
        direction(tiny, "conv2", {6: 1.0})

"""Are the weights shown the ones in the file, of the right layer, and in the order that is asked for?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
from onnx import numpy_helper
from small_nets import node

from engine.look.filters import convolutions, filters, order
from engine.net import Net, UnknownLayer

W = nets.tiny_weights()


@pytest.mark.parametrize(
    ("asked", "layer", "key"),
    [
        ("conv1", "conv1", "1"),
        ("relu1", "conv1", "1"),
        ("pool1", "conv1", "1"),
        ("conv2", "conv2", "2"),
        ("mean", "conv2", "2"),
        ("logits", "conv2", "2"),
    ],
)
def test_the_weights_of_the_nearest_convolution(tiny, asked, layer, key):
    found = filters(tiny, asked)
    assert found.layer == layer
    np.testing.assert_array_equal(found.weights, W[f"w{key}"])
    np.testing.assert_array_equal(found.bias, W[f"b{key}"])
    assert found.sees_pixels == (key == "1")


def test_convolutions_in_order(tiny):
    assert convolutions(tiny) == ["conv1", "conv2"]


@pytest.fixture
def branching(tmp_path) -> Net:
    """image → a (no bias, weights shared through an Identity) → b (in groups) → b + a → c (weights computed)."""
    return nets.save(
        nets.model(
            [
                node("Identity", "w", "same"),
                node("Identity", "image", "picture"),
                node("Conv", "picture same", "a", pads=[1, 1, 1, 1]),
                node("Conv", "a g", "b", group=2),
                node("Pad", "b p", "wide"),
                node("Add", "wide a", "sum"),
                node("Mul", "v v", "computed"),
                node("Conv", "sum computed", "c"),
            ],
            {
                "w": W["w1"][:4],
                "g": np.arange(4 * 2 * 3 * 3, dtype=np.float32).reshape(4, 2, 3, 3),
                "p": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
                "v": np.ones((2, 4, 1, 1), np.float32),
            },
        ),
        tmp_path / "branching.onnx",
    )


def test_a_convolution_without_bias_and_with_shared_weights(branching):
    found = filters(branching, "a")
    assert found.bias is None
    assert found.sees_pixels
    np.testing.assert_array_equal(found.weights, W["w1"][:4])


def test_a_convolution_in_groups_has_the_channels_of_its_group(branching):
    found = filters(branching, "b")
    assert found.weights.shape == (4, 2, 3, 3)
    assert not found.sees_pixels


def test_where_branches_meet_one_of_them_is_followed(branching):
    assert filters(branching, "sum").layer == "b"


def test_weights_that_are_computed_are_not_weights_of_the_file(branching):
    assert convolutions(branching) == ["a", "b"]
    with pytest.raises(UnknownLayer, match="No convolution with weights of its own stands before c"):
        filters(branching, "c")


def test_weights_in_a_constant_node(tmp_path):
    net = nets.save(
        nets.model([node("Constant", "", "w", value=numpy_helper.from_array(W["w1"])), node("Conv", "image w", "a")]),
        tmp_path / "constant.onnx",
    )
    assert convolutions(net) == ["a"]
    np.testing.assert_array_equal(filters(net, "a").weights, W["w1"])


def test_a_net_without_convolutions(tmp_path):
    net = nets.save(nets.linear(np.ones((2, 3, 4, 5)), np.zeros(2)), tmp_path / "linear.onnx")
    assert convolutions(net) == []
    with pytest.raises(UnknownLayer, match="before logits in linear"):
        filters(net, "logits")


def test_a_layer_that_is_not_there(tiny):
    with pytest.raises(UnknownLayer, match="'conv9'"):
        filters(tiny, "conv9")


# Order --------------------------------------------------------------------------------------------------------------


def test_by_channel_and_by_norm():
    weights = np.array([1, -4, 2, 0, 3], np.float32).reshape(5, 1, 1, 1)
    assert order(weights).tolist() == [0, 1, 2, 3, 4]
    assert order(weights, "norm").tolist() == [1, 4, 2, 0, 3]


def test_equal_norms_stay_as_in_the_file():
    weights = np.array([2, -2, 3, 2, -3], np.float32).reshape(5, 1, 1, 1)
    assert order(weights, "norm").tolist() == [2, 4, 0, 1, 3]


def test_by_similarity_what_points_the_same_way_stands_together():
    """Three directions, four filters of each, shuffled, and their strengths a hundredfold apart."""
    rng = np.random.default_rng(6)
    directions = np.linalg.qr(rng.normal(size=(18, 3)))[0].T
    kind = rng.permutation(np.repeat([0, 1, 2], 4))
    flat = (directions[kind] + rng.normal(0, 0.01, (12, 18))) * 10 ** rng.uniform(-2, 0, (12, 1))
    found = order(flat.reshape(12, 2, 3, 3).astype(np.float32), "similarity")
    assert sorted(found.tolist()) == list(range(12))
    assert (np.diff(kind[found]) != 0).sum() == 2


def test_by_similarity_along_a_turn():
    """Filters that turn step by step come out in that order, or in the reverse of it."""
    angle = np.linspace(0, 1.2, 9)
    shuffled = np.random.default_rng(0).permutation(9)
    weights = np.stack([np.cos(angle), np.sin(angle)], 1)[shuffled].reshape(9, 1, 1, 2)
    found = shuffled[order(weights, "similarity")]
    assert found.tolist() in (list(range(9)), list(range(8, -1, -1)))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("by", ["channel", "norm", "similarity"])
def test_few_filters_and_one_of_zeros(count, by):
    weights = np.zeros((count, 3, 2, 2), np.float32)
    weights[1:] = np.random.default_rng(0).normal(size=weights[1:].shape)
    assert sorted(order(weights, by).tolist()) == list(range(count))


def test_a_large_layer_is_ordered_too():
    weights = np.random.default_rng(0).normal(size=(300, 1, 3, 3))
    assert sorted(order(weights, "similarity").tolist()) == list(range(300))


def test_another_order_is_refused():
    with pytest.raises(ValueError, match="not by 'colour'"):
        order(np.ones((4, 1, 2, 2)), "colour")

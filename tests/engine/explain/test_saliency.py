"""Is the gradient the one known by hand, per unit of the user's pixels, and zero where a unit cannot see?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets

from engine.explain.saliency import gradient, largest, saliency, signed, signed_saliency
from engine.net import UnknownClass, UnknownLayer
from engine.target import Target, class_score, unit

WEIGHT = np.random.default_rng(4).normal(0, 1, (2, 3, 12, 16))


@pytest.fixture
def linear(tmp_path):
    return nets.save(nets.linear(WEIGHT, np.zeros(2)), tmp_path / "linear.onnx")


@pytest.mark.parametrize("index", [0, 1])
def test_a_linear_nets_gradient_is_its_weights_per_pixel_value(linear, picture, index):
    """logit = Σ w (pixel - mean) / std, so that one unit of pixel value is worth w / std."""
    expected = WEIGHT[index].transpose(1, 2, 0) / nets.STD  # (H, W, C)
    target = class_score(linear, index)
    np.testing.assert_allclose(gradient(linear, picture, target), expected, rtol=1e-5)
    np.testing.assert_allclose(saliency(linear, picture, target), np.abs(expected).max(2), rtol=1e-5)
    np.testing.assert_allclose(signed_saliency(linear, picture, target), expected.sum(2), rtol=1e-4, atol=1e-5)


def test_the_gradient_is_that_of_differences(tiny, picture):
    """Against the numpy version of the net, in double precision, at every pixel of one row and one column."""
    found = gradient(tiny, picture, class_score(tiny, 1))
    assert found.shape == (12, 16, 3)
    for place in [*((4, col, col % 3) for col in range(16)), *((row, 15, row % 3) for row in range(12))]:
        ends = [picture.astype(np.float64) for _ in range(2)]
        ends[0][place] += 1e-6
        ends[1][place] -= 1e-6
        after, before = (nets.tiny_forward(end)["logits"][1] for end in ends)
        assert found[place] == pytest.approx((after - before) / 2e-6, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("layer", ["conv1", "pool1", "conv2"])
def test_a_neuron_is_moved_only_by_what_it_sees(tiny, picture, layer):
    shape = tiny.layer(layer).shape
    activations = nets.tiny_forward(picture)[layer]
    for row, col in [(0, 0), (shape[1] - 1, shape[2] - 1), (shape[1] // 2, shape[2] // 3)]:
        channel = int(activations[:, row, col].argmax())  # one that is on
        found = saliency(tiny, picture, unit(tiny, layer, channel, row, col))
        top, left, bottom, right = tiny.layer(layer).receptive_field.window(row, col, (12, 16))
        inside = np.zeros((12, 16), bool)
        inside[top:bottom, left:right] = True
        assert not found[~inside].any()
        assert found[inside].any()
        if layer == "conv1":
            assert found[inside].all()


def test_a_neuron_that_is_off_is_moved_by_nothing(tiny, picture):
    channel, row, col = np.argwhere(nets.tiny_forward(picture)["conv1"] < -0.1)[0]
    assert not saliency(tiny, picture, unit(tiny, "relu1", int(channel), int(row), int(col))).any()


def test_gradients_add_as_targets_do(tiny, picture):
    a, b = class_score(tiny, 0), unit(tiny, "conv2", 3)
    combined = gradient(tiny, picture, 2 * a - 0.5 * b)
    np.testing.assert_allclose(
        combined, 2 * gradient(tiny, picture, a) - 0.5 * gradient(tiny, picture, b), rtol=1e-4, atol=1e-6
    )


def test_one_channel(tmp_path):
    net = nets.save(nets.tiny(shape=("n", 1, *nets.SIZE)), tmp_path / "grey.onnx")
    image = nets.picture(channels=1)
    target = class_score(net, 0)
    assert gradient(net, image, target).shape == (12, 16, 1)
    np.testing.assert_array_equal(saliency(net, image, target), np.abs(signed_saliency(net, image, target)))


def test_it_is_the_same_each_time_and_the_picture_stays_as_it_was(tiny, picture):
    before = picture.copy()
    picture.flags.writeable = False
    first, again = (saliency(tiny, picture, class_score(tiny, 2)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(picture, before)
    assert first.shape == (12, 16)
    assert first.min() >= 0


def test_a_picture_of_another_size_is_refused(tiny, picture):
    with pytest.raises(ValueError, match="sees pictures of"):
        saliency(tiny, picture[:10], class_score(tiny, 0))


@pytest.mark.usefixtures("no_celu")
def test_nothing_behind_the_target_is_computed(tmp_path, picture):
    """A net whose end has no twin still has gradients in front of it."""
    net = nets.save(nets.tiny(tail=[nets.node("Celu", "logits", "more")], about=nets.ABOUT), tmp_path / "celu.onnx")
    assert saliency(net, picture, unit(net, "conv2", 0)).any()
    assert saliency(net, picture, Target(("logits",), lambda v: v["logits"][:, 0], "a")).any()
    with pytest.raises(UnknownLayer):
        unit(net, "conv3", 0)


def test_a_class_by_its_number_is_its_logit(tiny, picture):
    np.testing.assert_array_equal(gradient(tiny, picture, 2), gradient(tiny, picture, class_score(tiny, 2)))
    with pytest.raises(UnknownClass):
        gradient(tiny, picture, 4)


@pytest.mark.parametrize("batch", ["n", 1])
def test_several_pictures_give_what_each_gives_alone(tmp_path, batch):
    """Also where the graph is made for one picture at a time, and names that number on the way."""
    nodes = nets.tiny_nodes()
    nodes[-1:] = [nets.node("Reshape", "mean shape", "flat"), nets.node("Gemm", "flat w3 b3", "logits", transB=1)]
    constants = nets.tiny_weights() | {"shape": np.array([1 if batch == 1 else -1, 6])}
    made = nets.model(nodes, constants, shape=(batch, 3, *nets.SIZE), opset=17, about=nets.ABOUT)
    net = nets.save(made, tmp_path / "net.onnx")
    images = np.stack([nets.picture(seed=seed) for seed in range(3)])
    found = gradient(net, images, 1)
    assert found.shape == images.shape
    for image, one in zip(images, found, strict=True):
        np.testing.assert_allclose(one, gradient(net, image, 1), rtol=1e-4, atol=1e-7)
    assert not np.allclose(found[0], found[1])


def test_another_rule_for_an_op_holds_for_one_call(tiny, picture):
    """By the op's name, or by the tensor that one node of them makes."""
    before = gradient(tiny, picture, 1)
    for key in ("Relu", "relu1"):
        off = gradient(tiny, picture, 1, ops={key: lambda x: 0 * x})
        assert not off.any()
    np.testing.assert_array_equal(gradient(tiny, picture, 1), before)


def test_the_largest_and_the_signed_of_a_gradient():
    given = np.array([[[1, -3, 2], [0, 0, 0]]], np.float32)
    np.testing.assert_array_equal(largest(given), [[3, 0]])
    np.testing.assert_array_equal(signed(given), [[0, 0]])
    np.testing.assert_array_equal(largest(np.stack([given, 2 * given])), [[[3, 0]], [[6, 0]]])

"""Are Grad-CAM and its kin what their papers write, worked out by hand from known activations and gradients?

Here a net's last layer sees every position of the map on its own, so that the gradient is known: it is the weight.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small_nets as nets
import torch
import torch.nn.functional as F
from small_nets import node
from test_net import residual

from engine.explain import ablation_cam as ablation
from engine.explain.ablation_cam import ablation_cam, ablation_cam_steps
from engine.explain.eigen_cam import eigen_cam
from engine.explain.grad_cam import grad_cam, layer_gradient, weighed
from engine.explain.grad_cam_plus_plus import grad_cam_plus_plus
from engine.explain.hires_cam import hires_cam
from engine.explain.layer_cam import layer_cam
from engine.explain.score_cam import score_cam, score_cam_steps
from engine.explain.xgrad_cam import xgrad_cam
from engine.net import Net, UnknownLayer, softmax
from engine.target import class_margin, class_probability, class_score, unit

RANDOM = np.random.default_rng(11)
SHAPE = (5, 4, 7)  # of the layer
WEIGHT = RANDOM.normal(0, 0.3, (3, *SHAPE))
BIAS = np.array([0.5, -0.2, 9.0])
BY_HAND = [(index, method) for index in range(3) for method in ("relu1", "conv1")]


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Net:
    """conv1 (5, 4, 7) → relu1 → a linear layer with one weight for each unit."""
    weights = nets.tiny_weights()
    nodes = [
        node("Conv", "image w1 b1", "conv1", strides=[3, 2]),
        node("Relu", "conv1", "relu1"),
        node("Flatten", "relu1", "flat"),
        node("Gemm", "flat w b", "logits", transB=1),
    ]
    constants = {
        "w1": weights["w1"],
        "b1": weights["b1"],
        "w": WEIGHT.reshape(3, -1).astype(np.float32),
        "b": BIAS.astype(np.float32),
    }
    about = dataclasses.replace(nets.ABOUT, labels=("a", "b", "c"))
    made = nets.model(nodes, constants, about=about)
    return nets.save(made, tmp_path_factory.mktemp("nets") / "net.onnx")


def known(net: Net, image: np.ndarray, index: int, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """(A, G): activations and gradient, both (C, h, w), in double precision."""
    x = ((image.astype(np.float64) - nets.MEAN) / nets.STD).transpose(2, 0, 1)
    weights = nets.tiny_weights()
    conv1 = np.empty(SHAPE)
    for channel, row, col in np.ndindex(SHAPE):
        window = x[:, 3 * row : 3 * row + 3, 2 * col : 2 * col + 3]
        conv1[channel, row, col] = (window * weights["w1"][channel]).sum() + weights["b1"][channel]
    if layer == "relu1":
        return np.maximum(conv1, 0), WEIGHT[index]
    return conv1, WEIGHT[index] * (conv1 > 0)


def by_hand(method, A: np.ndarray, G: np.ndarray) -> np.ndarray:
    """The papers' formulas, a channel and a position at a time."""
    channels, height, width = A.shape
    places = list(np.ndindex(height, width))
    weights = np.zeros(A.shape)
    for k in range(channels):
        for p in places:
            if method is grad_cam:
                weights[(k, *p)] = sum(G[(k, *q)] for q in places) / len(places)
            elif method is hires_cam:
                weights[(k, *p)] = G[(k, *p)]
            elif method is layer_cam:
                weights[(k, *p)] = max(G[(k, *p)], 0)
            elif method is xgrad_cam:
                whole = sum(A[(k, *q)] for q in places)
                weights[(k, *p)] = sum(A[(k, *q)] / whole * G[(k, *q)] for q in places) if whole else 0
            elif method is grad_cam_plus_plus:
                total = 0.0
                for q in places:
                    g = G[(k, *q)]
                    below = 2 * g**2 + sum(A[(k, *r)] for r in places) * g**3
                    total += (g**2 / below if below else 0) * max(g, 0)
                weights[(k, *p)] = total
    found = sum(weights[k] * A[k] for k in range(channels))
    return found if method is hires_cam else np.maximum(found, 0)


@pytest.mark.parametrize(("index", "layer"), BY_HAND)
def test_activations_and_gradient_of_a_layer(net, picture, index, layer):
    found = layer_gradient(net, picture, index, layer=layer)
    for one, expected in zip(found, known(net, picture, index, layer), strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("index", "layer"), BY_HAND)
@pytest.mark.parametrize("method", [grad_cam, hires_cam, layer_cam, xgrad_cam, grad_cam_plus_plus])
def test_each_is_the_papers_formula(net, picture, method, index, layer):
    expected = by_hand(method, *known(net, picture, index, layer))
    found = method(net, picture, index, layer=layer)
    assert found.shape == SHAPE[1:]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * abs(expected).max() + 1e-6)


def test_the_formulas_can_be_told_apart(net, picture):
    maps = [by_hand(m, *known(net, picture, 0, "relu1")) for m in (grad_cam, hires_cam, layer_cam, xgrad_cam)]
    for place, one in enumerate(maps):
        assert all(abs(one - other).max() > 0.05 * abs(one).max() for other in maps[:place])


@pytest.mark.parametrize("index", range(3))
def test_hires_cam_adds_up_to_the_number_less_the_bias(net, picture, index):
    """Draelos and Carin 2020: behind the layer all is linear."""
    logit = net.scores(net.batch(picture))[0, index]
    assert hires_cam(net, picture, index, layer="relu1").sum() == pytest.approx(logit - BIAS[index], abs=1e-4)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("layer", ["relu1", "conv1"])
def test_ablation_cam_takes_each_channel_away(net, picture, index, layer):
    A, _ = known(net, picture, index, layer)
    on = np.maximum(A, 0)
    whole = (WEIGHT[index] * on).sum() + BIAS[index]
    weights = np.array([(WEIGHT[index, k] * on[k]).sum() for k in range(5)]) / abs(whole)
    expected = np.maximum((weights[:, None, None] * A).sum(0), 0)
    found = ablation_cam(net, picture, index, layer=layer)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * A.max())


def test_where_a_number_is_negative_the_channels_that_keep_it_up_still_count(net, picture):
    """The paper divides by the number itself, which would turn their signs round."""
    target = class_score(net, 0) - 1 * class_score(net, 2)
    A, _ = known(net, picture, 0, "relu1")
    lost = ((WEIGHT[0] - WEIGHT[2]) * A).sum((1, 2))
    whole = lost.sum() + BIAS[0] - BIAS[2]
    assert whole < 0
    expected = np.maximum((lost[:, None, None] * A).sum(0) / -whole, 0)
    np.testing.assert_allclose(ablation_cam(net, picture, target, layer="relu1"), expected, rtol=1e-3, atol=1e-5)


def test_weights_per_channel_and_per_unit():
    maps = np.arange(12.0).reshape(2, 2, 3)
    np.testing.assert_array_equal(weighed(maps, np.array([2.0, -1.0])), 2 * maps[0] - maps[1])
    np.testing.assert_array_equal(weighed(maps, maps), maps[0] ** 2 + maps[1] ** 2)
    several = np.stack([maps, 2 * maps])
    np.testing.assert_array_equal(weighed(several, np.ones((2, 2)))[1], 2 * maps.sum(0))


# Where a plain CAM is exact -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooled(tmp_path_factory) -> Net:
    """conv1 → relu1 → mean → a linear layer without a bias."""
    weights = nets.tiny_weights()
    weights["w3"] = RANDOM.normal(0, 1, (4, 5)).astype(np.float32)
    nodes = [
        node("Conv", "image w1 b1", "conv1", strides=[2, 2]),
        node("Relu", "conv1", "relu1"),
        node("GlobalAveragePool", "relu1", "mean"),
        node("Flatten", "mean", "flat"),
        node("Gemm", "flat w3", "logits", transB=1),
    ]
    return nets.save(nets.model(nodes, weights, about=nets.ABOUT), tmp_path_factory.mktemp("nets") / "pooled.onnx")


@pytest.mark.parametrize("index", range(4))
def test_what_is_left_of_each_where_the_gradient_is_the_same_everywhere(pooled, picture, index):
    w = pooled.graph.constants["w3"][index].astype(np.float64)
    A = pooled.activations(pooled.batch(picture), ["relu1"])["relu1"][0].astype(np.float64)
    count = A[0].size
    cam = np.tensordot(w, A, 1)
    shares = np.array([count * max(g, 0) / (2 + a.sum() * g) for g, a in zip(w / count, A, strict=True)])
    expected = {
        grad_cam: np.maximum(cam, 0) / count,
        hires_cam: cam / count,
        layer_cam: np.tensordot(np.maximum(w, 0), A, 1) / count,
        xgrad_cam: np.maximum(cam, 0) / count,
        grad_cam_plus_plus: np.tensordot(shares, A, 1),
        ablation_cam: np.maximum(np.tensordot(w * A.mean((1, 2)) / abs(cam.mean()), A, 1), 0),
    }
    for method, wanted in expected.items():
        found = method(pooled, picture, index, layer="relu1")
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-5, err_msg=method.__name__)


# Whatever the layer and the target -----------------------------------------------------------------------------------


def differences(net: Net, image: np.ndarray, target, layer: str, places: list) -> list[float]:
    """How the target moves with single units of a layer, through ONNX Runtime alone."""
    names = net.graph.frontier(layer, target.names)
    start = net.activations(net.batch(image), names)
    found = []
    for place in places:
        ends = []
        for step in (0.01, -0.01):
            moved = start | {layer: start[layer].copy()}
            moved[layer][(0, *place)] += step
            ends.append(float(target.value(net.resume(moved, target.names))[0]))
        found.append((ends[0] - ends[1]) / 0.02)
    return found


@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2", "relu2", "sum"])
def test_the_gradient_inside_a_residual_block(tmp_path, picture, layer):
    net = nets.save(residual(), tmp_path / "residual.onnx")
    target = class_score(net, 1)
    activations, gradient = layer_gradient(net, picture, target, layer=layer)
    np.testing.assert_allclose(activations, net.activations(net.batch(picture), [layer])[layer][0], atol=1e-6)
    # Away from the ReLU's corner, which the differences would smooth.
    safe = [tuple(p) for p in np.argwhere(abs(activations) > 0.1)[::40]]
    assert len(safe) > 5
    np.testing.assert_allclose([gradient[p] for p in safe], differences(net, picture, target, layer, safe), atol=2e-3)
    assert gradient.any()


@pytest.mark.parametrize("layer", ["conv1", "pool1"])
def test_the_gradient_of_other_numbers(tiny, picture, layer):
    targets = [
        class_probability(tiny, 2),
        class_margin(tiny, 0, 3),
        unit(tiny, "conv2", 3, 1, 2),
        2 * class_score(tiny, 1) - 0.5 * unit(tiny, "conv2", 1) + unit(tiny, "conv1", 1),
    ]
    activations = nets.tiny_forward(picture)[layer]
    safe = [tuple(p) for p in np.argwhere(abs(activations) > 0.1)[::60]]
    for target in targets:
        _, gradient = layer_gradient(tiny, picture, target, layer=layer)
        expected = differences(tiny, picture, target, layer, safe)
        np.testing.assert_allclose([gradient[p] for p in safe], expected, atol=2e-3, err_msg=target.title)


def test_a_unit_of_the_layer_itself(tiny, picture):
    _, gradient = layer_gradient(tiny, picture, unit(tiny, "conv2", 3, 1, 2), layer="conv2")
    expected = np.zeros((6, 4, 6))
    expected[3, 1, 2] = 1
    np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("layer", ["conv2", "relu1"])
def test_several_pictures_give_what_each_gives_alone(tmp_path, batch, layer):
    net = nets.save(residual(shape=(batch, 3, *nets.SIZE)), tmp_path / "residual.onnx")
    images = np.stack([nets.picture(seed=seed) for seed in range(3)])
    several = layer_gradient(net, images, 1, layer=layer)
    maps = grad_cam(net, images, 1, layer=layer)
    for place, image in enumerate(images):
        for found, alone in zip(several, layer_gradient(net, image, 1, layer=layer), strict=True):
            np.testing.assert_allclose(found[place], alone, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(maps[place], grad_cam(net, image, 1, layer=layer), rtol=1e-4, atol=1e-6)
    assert not np.allclose(maps[0], maps[1])


@pytest.mark.parametrize("batch", ["n", 1])
def test_ablation_cam_inside_a_residual_block(tmp_path, picture, batch, monkeypatch):
    """What goes around the layer stays on; by hand from the block's own tensors."""
    net = nets.save(residual(shape=(batch, 3, *nets.SIZE)), tmp_path / "residual.onnx")
    monkeypatch.setattr(ablation, "AT_ONCE", 2 * 2 * 4 * 5 * 12 * 16)  # two channels at a time
    steps = list(ablation_cam_steps(net, picture, 1, layer="conv2"))
    assert [(step.index, step.total) for step in steps] == [(2, 5), (4, 5), (5, 5)]
    tensors = net.activations(net.batch(picture), ["relu1", "conv2", "logits"])
    head = net.graph.constants["w3"][1]
    whole = tensors["logits"][0, 1]
    lost = head * np.maximum(tensors["conv2"][0], 0).mean((1, 2))
    expected = np.maximum(np.tensordot(lost / abs(whole), tensors["conv2"][0], 1), 0)
    np.testing.assert_allclose(steps[-1].result, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("method", [grad_cam, ablation_cam])
def test_a_layer_that_the_target_does_not_depend_on_is_refused(tiny, picture, method):
    with pytest.raises(UnknownLayer, match="Layer conv2 has no part in “channel 0 of pool1, mean”, which is computed"):
        method(tiny, picture, unit(tiny, "pool1", 0), layer="conv2")


def test_the_front_of_the_net_has_no_gradient_computed(tiny, picture, monkeypatch):
    from engine import twin

    monkeypatch.delitem(twin.OPS, "MaxPool")
    grad_cam(tiny, picture, 1, layer="conv2")
    with pytest.raises(twin.NoGradient, match="MaxPool"):
        grad_cam(tiny, picture, 1, layer="relu1")


# Score-CAM -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Net:
    """Two channels of (2, 3) from pictures of 4 x 6, and a linear layer on them."""
    random = np.random.default_rng(12)
    constants = {
        "w": random.normal(0, 1, (2, 3, 1, 1)).astype(np.float32),
        "head": random.normal(0, 1, (2, 12)).astype(np.float32),
    }
    nodes = [
        node("Conv", "image w", "conv"),
        node("AveragePool", "conv", "small", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "small", "flat"),
        node("Gemm", "flat head", "logits", transB=1),
    ]
    about = dataclasses.replace(nets.ABOUT, labels=("a", "b"), input_size=(4, 6))
    made = nets.model(nodes, constants, shape=("n", 3, 4, 6), about=about)
    return nets.save(made, tmp_path_factory.mktemp("nets") / "two.onnx")


def logits(net: Net, normalised: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(maps, logits) of the net `two`, in numpy, from what the graph is given (C, H, W)."""
    w, head = (net.graph.constants[name].astype(np.float64) for name in ("w", "head"))
    conv = np.tensordot(w[:, :, 0, 0], normalised, 1)
    small = conv.reshape(2, 2, 2, 3, 2).mean((2, 4))
    return small, head @ small.ravel()


@pytest.mark.parametrize("index", [0, 1])
def test_score_cam_with_two_channels_by_hand(two, index):
    image = nets.picture((4, 6))
    x = ((image.astype(np.float64) - nets.MEAN) / nets.STD).transpose(2, 0, 1)
    maps, _ = logits(two, x)
    large = F.interpolate(torch.from_numpy(maps)[None], (4, 6), mode="bilinear", align_corners=False)[0].numpy()
    masks = [(one - one.min()) / (one.max() - one.min()) for one in large]
    # What the graph is given is 0 where the picture has its mean colour: a mask leaves that.
    scores = [logits(two, mask * x)[1][index] for mask in masks]
    weights = np.exp(scores) / np.exp(scores).sum()
    expected = np.maximum(weights[0] * maps[0] + weights[1] * maps[1], 0)
    np.testing.assert_allclose(score_cam(two, image, index, layer="small"), expected, rtol=1e-4, atol=1e-6)
    assert 0.02 < weights.min() < 0.48
    assert expected.any()


def test_a_channel_that_is_the_same_everywhere_masks_everything(tiny, picture):
    """It singles nothing out, and nothing is divided by 0."""
    flat = tiny.with_weights({"w2": nets.tiny_weights()["w2"] * (np.arange(6) != 2)[:, None, None, None]})
    maps = flat.activations(flat.batch(picture), ["conv2"])["conv2"][0]
    assert np.ptp(maps[2]) == 0
    found = score_cam(flat, picture, 1)
    mean = np.broadcast_to(np.float32(nets.MEAN), picture.shape)
    large = [F.interpolate(torch.from_numpy(m)[None, None], (12, 16), mode="bilinear")[0, 0].numpy() for m in maps]
    masks = [(one - one.min()) / (np.ptp(one) or 1) for one in large]
    masks[2] = np.zeros((12, 16))
    seen = [mean + mask[:, :, None] * (picture - mean) for mask in masks]
    scores = flat.scores(flat.batch(*(each.astype(np.float32) for each in seen)))[:, 1]
    expected = np.maximum(np.tensordot(softmax(scores[None])[0], maps, 1), 0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 6])
def test_score_cam_in_batches_is_the_same(tiny, picture, monkeypatch, size):
    whole = score_cam(tiny, picture, 1)
    monkeypatch.setitem(vars(tiny), "batch_size", size)
    steps = list(score_cam_steps(tiny, picture, 1))
    assert [step.index for step in steps] == [*range(size, 6, size), 6]
    np.testing.assert_allclose(steps[-1].result, whole, rtol=1e-5)


# Eigen-CAM -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv1", "relu1", "conv2"])
def test_eigen_cam_is_the_first_component_up_to_its_sign(tiny, picture, layer):
    maps = nets.tiny_forward(picture)[layer]
    flat = maps.reshape(len(maps), -1)
    flat = flat - flat.mean(1, keepdims=True)
    left, lengths, _ = np.linalg.svd(flat, full_matrices=False)
    expected = (left[:, 0] @ flat).reshape(maps.shape[1:])
    assert lengths[0] > 1.02 * lengths[1]  # otherwise there is no first one
    found = eigen_cam(tiny, picture, layer=layer)
    sign = np.sign((found * expected).sum())
    np.testing.assert_allclose(found, sign * expected, rtol=1e-3, atol=1e-4 * abs(expected).max())
    assert (found * flat.sum(0).reshape(found.shape)).sum() >= 0


@pytest.mark.parametrize("turned", [1, -1])
def test_a_layer_of_one_pattern_gives_that_pattern(tmp_path, turned):
    """Channel k is a_k u + b_k: then Eigen-CAM is |a| (u - mean u), positive where the channels' sum rises."""
    strengths = turned * np.float32([2, -1, 0.5])
    constants = {"w": strengths.reshape(3, 1, 1, 1), "b": np.float32([3, -4, 1])}
    about = dataclasses.replace(nets.ABOUT, mean=(0.4,), std=(0.5,), labels=("a", "b", "c"))
    nodes = [node("Conv", "image w b", "conv"), node("GlobalAveragePool", "conv", "logits")]
    net = nets.save(nets.model(nodes, constants, shape=("n", 1, *nets.SIZE), about=about), tmp_path / "one.onnx")
    image = nets.picture(channels=1)
    u = (image[:, :, 0].astype(np.float64) - 0.4) / 0.5
    expected = turned * np.linalg.norm(strengths) * (u - u.mean())
    np.testing.assert_allclose(eigen_cam(net, image), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_without_any_pattern_gives_nothing(tiny):
    plain = tiny.with_weights({"w2": 0 * nets.tiny_weights()["w2"]})
    assert not eigen_cam(plain, nets.picture()).any()


def test_methods_do_not_change_what_they_are_given(tiny, picture):
    before = picture.copy()
    picture.flags.writeable = False
    for method in (grad_cam, ablation_cam, score_cam):
        method(tiny, picture, 1)
    eigen_cam(tiny, picture)
    np.testing.assert_array_equal(picture, before)

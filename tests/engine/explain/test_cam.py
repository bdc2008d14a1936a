"""Is CAM the network's own arithmetic: does the map's mean plus the bias give the logit, however the net ends?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
from small_nets import node

from engine.explain.cam import NoCam, cam, cams, ending
from engine.explain.grad_cam import grad_cam
from engine.net import Net, UnknownClass
from engine.target import class_margin, unit

RANDOM = np.random.default_rng(8)
CONSTANTS = {
    "w1": nets.tiny_weights()["w1"],
    "b1": nets.tiny_weights()["b1"],
    "w": RANDOM.normal(0, 1, (4, 5)).astype(np.float32),
    "wt": RANDOM.normal(0, 1, (5, 4)).astype(np.float32),
    "b": RANDOM.normal(0, 1, 4).astype(np.float32),
    "c": RANDOM.normal(0, 1, (4, 5, 1, 1)).astype(np.float32),
    "axes": np.array([2, 3]),
    "last": np.array([-1, -2]),
    "flat": np.array([0, -1]),
    "five": RANDOM.uniform(0.5, 2, 5).astype(np.float32),
    "other five": RANDOM.normal(0, 1, 5).astype(np.float32),
    "column": RANDOM.uniform(0.5, 2, (5, 1, 1)).astype(np.float32),
    "shift": np.float32(0.7),
}
BODY = [node("Conv", "image w1 b1", "conv1", strides=[2, 2]), node("Relu", "conv1", "relu1")]  # (5, 5, 7)


def normalise(x: str, y: str):
    from onnx import helper

    return helper.make_node("BatchNormalization", [x, "five", "other five", "other five", "five"], [y], name="bn")


POOL = node("GlobalAveragePool", "relu1", "pool")
FLAT = node("Flatten", "pool", "flatpool")
GEMM = node("Gemm", "flatpool w b", "logits", transB=1)

# name → nodes behind the body, the operator set, and the layer that is averaged
ENDINGS = {
    "global pool and Gemm": ([POOL, FLAT, GEMM], 18, "relu1"),
    "mean, MatMul and Add": (
        [
            node("ReduceMean", "relu1", "mean", axes=[2, 3], keepdims=0),
            node("MatMul", "mean wt", "m"),
            node("Add", "m b", "logits"),
        ],
        17,
        "relu1",
    ),
    "mean over axes given as a tensor": ([node("ReduceMean", "relu1 last", "pool"), FLAT, GEMM], 18, "relu1"),
    "a pool as large as the map": (
        [
            node("AveragePool", "relu1", "pool", kernel_shape=[5, 7]),
            node("Reshape", "pool flat", "flatpool"),
            node("Gemm", "flatpool w b", "logits", transB=1),
        ],
        18,
        "relu1",
    ),
    "1 x 1 convolution before the pool": (
        [node("Conv", "relu1 c b", "maps"), node("GlobalAveragePool", "maps", "logits")],
        18,
        "maps",
    ),
    "1 x 1 convolution and ReLU before the pool": (
        [node("Conv", "relu1 c b", "maps"), node("Relu", "maps", "on"), node("GlobalAveragePool", "on", "logits")],
        18,
        "on",
    ),
    "1 x 1 convolution after the pool": ([POOL, node("Conv", "pool c b", "logits")], 18, "relu1"),
    "normalisation after the pool": (
        [POOL, normalise("pool", "normal"), node("Flatten", "normal", "flatpool"), GEMM],
        18,
        "relu1",
    ),
    "arithmetic after the pool": (
        [
            POOL,
            node("Mul", "column pool", "a"),
            node("Sub", "shift a", "b_"),
            node("Div", "b_ column", "c_"),
            node("Dropout", "c_", "d"),
            node("Flatten", "d", "flatpool"),
            GEMM,
        ],
        18,
        "relu1",
    ),
    "softmax at the end": ([POOL, FLAT, GEMM, node("Softmax", "logits", "end", axis=1)], 18, "relu1"),
}


def net_of(nodes, opset, path, batch="n") -> Net:
    used = {name for each in nodes for name in each.input} | {"w1", "b1"}
    constants = {name: value for name, value in CONSTANTS.items() if name in used}
    return nets.save(
        nets.model([*BODY, *nodes], constants, shape=(batch, 3, *nets.SIZE), opset=opset, about=nets.ABOUT), path
    )


@pytest.mark.parametrize("batch", ["n", 1])
@pytest.mark.parametrize("name", ENDINGS)
def test_the_mean_and_the_bias_are_the_logit(tmp_path, picture, name, batch):
    nodes, opset, layer = ENDINGS[name]
    net = net_of(nodes, opset, tmp_path / "net.onnx", batch)
    end = ending(net)
    assert end.layer == layer
    logits = net.scores(net.batch(picture))[0]
    maps = cams(net, picture, list(range(4)))
    assert maps.shape == (4, 5, 7)
    np.testing.assert_allclose(maps.mean((1, 2)) + end.bias, logits, rtol=1e-4, atol=1e-5)
    assert np.ptp(maps, (1, 2)).max() > 0.1
    for index in range(4):
        np.testing.assert_allclose(cam(net, picture, index), maps[index], atol=1e-6)


def test_by_hand(tmp_path, picture):
    """The weights are read off by probing, and are the file's own."""
    net = net_of(*ENDINGS["global pool and Gemm"][:2], tmp_path / "net.onnx")
    end = ending(net)
    np.testing.assert_allclose(end.weights, CONSTANTS["w"], atol=1e-6)
    np.testing.assert_allclose(end.bias, CONSTANTS["b"], atol=1e-6)
    relu1 = net.activations(net.batch(picture), ["relu1"])["relu1"][0]
    expected = sum(CONSTANTS["w"][2, channel] * relu1[channel] for channel in range(5))
    np.testing.assert_allclose(cam(net, picture, 2), expected, rtol=1e-4, atol=1e-5)


def test_where_the_maps_are_the_classes_own_the_weights_are_one_each(tmp_path, picture):
    net = net_of(*ENDINGS["1 x 1 convolution and ReLU before the pool"][:2], tmp_path / "net.onnx")
    end = ending(net)
    np.testing.assert_allclose(end.weights, np.eye(4), atol=1e-6)
    np.testing.assert_allclose(end.bias, 0, atol=1e-6)
    own = net.activations(net.batch(picture), ["on"])["on"][0]
    np.testing.assert_allclose(cams(net, picture, [3, 1]), own[[3, 1]], rtol=1e-5)


def test_a_class_may_be_a_label(tmp_path, picture):
    net = net_of(*ENDINGS["global pool and Gemm"][:2], tmp_path / "net.onnx")
    np.testing.assert_array_equal(cams(net, picture, ["church"]), cams(net, picture, [1]))
    with pytest.raises(UnknownClass):
        cam(net, picture, 4)


@pytest.mark.parametrize("name", ["global pool and Gemm", "mean, MatMul and Add", "a pool as large as the map"])
def test_grad_cam_is_its_positive_part_over_the_number_of_positions(tmp_path, picture, name):
    """Selvaraju et al. 2017, section 3.1: it is a generalisation of CAM."""
    nodes, opset, _ = ENDINGS[name]
    net = net_of(nodes, opset, tmp_path / "net.onnx")
    for index in range(4):
        expected = np.maximum(cam(net, picture, index), 0) / 35
        np.testing.assert_allclose(grad_cam(net, picture, index, layer="relu1"), expected, rtol=1e-3, atol=1e-5)


# Nets that have none --------------------------------------------------------------------------------------------------


OTHERS = {
    "Flatten and Gemm": [node("Flatten", "relu1", "f"), node("Gemm", "f long b", "logits", transB=1)],
    "a ReLU behind the pool": [POOL, node("Relu", "pool", "r"), node("Flatten", "r", "flatpool"), GEMM],
    "the largest instead of the mean": [node("GlobalMaxPool", "relu1", "pool"), FLAT, GEMM],
    "a pool of a part": [
        node("AveragePool", "relu1", "pool", kernel_shape=[5, 6]),
        node("Flatten", "pool", "f"),
        node("Gemm", "f wide b", "logits", transB=1),
    ],
    "the mean along one axis": [
        node("ReduceMean", "relu1 one", "m"),
        node("Flatten", "m", "f"),
        node("Gemm", "f five_rows b", "logits", transB=1),
    ],
    "two arms": [
        POOL,
        node("GlobalMaxPool", "relu1", "peak"),
        node("Add", "pool peak", "sum"),
        node("Flatten", "sum", "flatpool"),
        GEMM,
    ],
    "a square": [POOL, node("Mul", "pool pool", "square"), node("Flatten", "square", "flatpool"), GEMM],
    "one over the mean": [POOL, node("Div", "shift pool", "inverse"), node("Flatten", "inverse", "flatpool"), GEMM],
    "no layer at all": [node("Flatten", "image", "f"), node("Gemm", "f pixels b", "logits", transB=1)],
}
LONG = {
    "long": np.ones((4, 175), np.float32),
    "wide": np.ones((4, 10), np.float32),
    "five_rows": np.ones((4, 25), np.float32),
    "pixels": np.ones((4, 576), np.float32),
    "one": np.array([3]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_net_is_refused_in_one_sentence(tmp_path, picture, name):
    made = nets.model([*BODY, *OTHERS[name]], CONSTANTS | LONG, about=nets.ABOUT)
    net = nets.save(made, tmp_path / "other.onnx")
    with pytest.raises(
        NoCam, match=r"^other does not end in global average pooling and one linear layer, .* Grad-CAM .*\.$"
    ):
        cam(net, picture, 0)


def test_what_is_no_class_is_refused(tiny, picture):
    for target in (unit(tiny, "conv2", 1), class_margin(tiny, 0, 1)):
        with pytest.raises(NoCam, match=r"^CAM is about a class; choose Grad-CAM for a unit or a margin\.$"):
            cam(tiny, picture, target)

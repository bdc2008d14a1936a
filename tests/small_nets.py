"""Small networks, built node by node in memory, so that a test knows everything about them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from engine.model import metadata
from engine.model.metadata import Metadata
from engine.net import Net

LABELS = ("tench", "church", "parachute", "golf ball")
MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.5, 0.2)  # unlike in every channel, and not the defaults
SIZE = (12, 16)


def node(op: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    """One node; tensors are named with spaces between, "_" for one left out. `domain` is taken for what it is."""
    return helper.make_node(
        op, _names(inputs), _names(outputs), name=f"{op.lower()}_{outputs.split()[0]}", **attributes
    )


def _names(text: str) -> list[str]:
    return ["" if name == "_" else name for name in text.split()]


def model(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray] | None = None,
    *,
    shape: Sequence[int | str] = ("batch", 3, *SIZE),
    opset: int = 18,
    outputs: Sequence[str] | None = None,
    about: Metadata | None = None,
) -> onnx.ModelProto:
    """The graph of `nodes` on the float input "image" of `shape`; its output is by default the last node's first."""
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)
    outputs = [nodes[-1].output[0]] if outputs is None else outputs
    graph = helper.make_graph(
        list(nodes),
        "small",
        [image],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    made = onnx.shape_inference.infer_shapes(made)
    if about is not None:
        metadata.write(made, about)
    return made


def save(made: onnx.ModelProto, path: Path) -> Net:
    """Write the model to `path` and open it."""
    path.write_bytes(made.SerializeToString())
    return Net(path)


def tiny_weights(channels: int = 3) -> dict[str, np.ndarray]:
    """What stands in `tiny`: conv1 (5, channels, 3, 3), conv2 (6, 5, 3, 3), a head (4, 6), and their biases."""
    rng = np.random.default_rng(7)
    shapes = {"w1": (5, channels, 3, 3), "b1": (5,), "w2": (6, 5, 3, 3), "b2": (6,), "w3": (4, 6), "b3": (4,)}
    return {name: rng.normal(0, 0.25, shape).astype(np.float32) for name, shape in shapes.items()}


def tiny_nodes() -> list[onnx.NodeProto]:
    """Six nodes: "conv1", "relu1", "pool1", "conv2" (no padding), "mean", "logits"."""
    return [
        node("Conv", "image w1 b1", "conv1", pads=[1, 1, 1, 1]),
        node("Relu", "conv1", "relu1"),
        node("MaxPool", "relu1", "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "pool1 w2 b2", "conv2"),
        node("ReduceMean", "conv2", "mean", axes=[2, 3], keepdims=0),
        node("Gemm", "mean w3 b3", "logits", transB=1),
    ]


def tiny(
    *, shape: Sequence[int | str] = ("batch", 3, *SIZE), about: Metadata | None = None, tail=()
) -> onnx.ModelProto:
    """The net of six nodes; `tail` follows behind the logits. Without `about` the file says nothing of itself."""
    return model([*tiny_nodes(), *tail], tiny_weights(int(shape[1])), shape=shape, opset=17, about=about)


ABOUT = Metadata(
    labels=LABELS, input_size=SIZE, mean=MEAN, std=STD, crop=0.9, source="A test.", licence="None.", accuracy="None."
)


def rounded() -> onnx.ModelProto:
    """The same net, rounded to 8 bits as quantisers do it: the picture, the kernels, and what the first layer gives."""
    weights = tiny_weights()
    scale = np.float32(np.abs(weights["w1"]).max() / 127)
    whole = np.rint(weights.pop("w1") / scale).astype(np.int8)
    nodes = [
        node("QuantizeLinear", "image s0 z0", "image_q"),
        node("DequantizeLinear", "image_q s0 z0", "image_d"),
        node("DequantizeLinear", "w1_q s1 z1", "w1"),
        *tiny_nodes(),
    ]
    nodes[3].input[0] = "image_d"
    nodes[5].input[0] = "relu1_d"  # the pool
    nodes[5:5] = [
        node("QuantizeLinear", "relu1 s2 z2", "relu1_q"),
        node("DequantizeLinear", "relu1_q s2 z2", "relu1_d"),
    ]
    fine = {"s0": np.float32(0.02), "z0": np.uint8(128), "s1": scale, "z1": np.int8(0), "s2": np.float32(0.05)}
    return model(nodes, {**weights, **fine, "w1_q": whole, "z2": np.uint8(0)}, opset=17, about=ABOUT)


def linear(weight: np.ndarray, bias: np.ndarray, about: Metadata = ABOUT) -> onnx.ModelProto:
    """logits = bias + weight · picture: weight (K, C, H, W), with nothing else in between."""
    constants = {"w": weight.reshape(len(weight), -1).astype(np.float32), "b": bias.astype(np.float32)}
    nodes = [node("Flatten", "image", "flat"), node("Gemm", "flat w b", "logits", transB=1)]
    return model(nodes, constants, shape=("batch", *weight.shape[1:]), about=about)


def decoder(net: Net, folder: Path, layer: str = "pool1", **said: object) -> Path:
    """A decoder's file for `tiny`, from its pool (5, 6, 8) to pictures of its size, with random weights.

    said: what the file says of itself differently.
    """
    rng = np.random.default_rng(3)
    channels = net.channels
    constants = {"w": rng.normal(0, 1, (4 * channels, 5, 1, 1)).astype(np.float32)}
    nodes = [
        node("Conv", "code w", "four"),
        node("DepthToSpace", "four", "large", blocksize=2, mode="CRD"),
        node("Sigmoid", "large", "picture"),
    ]
    free = onnx.TensorProto.FLOAT
    made = helper.make_model(
        helper.make_graph(
            nodes,
            "decoder",
            [helper.make_tensor_value_info("code", free, ["batch", 5, 6, 8])],
            [helper.make_tensor_value_info("picture", free, ["batch", channels, *SIZE])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    values = {"mean": [0.3] * 5, "least": [0.0] * 5, "most": [1.0, 0.8, 0.9, 1.1, 1.2]}
    about = {"kind": "decoder", "net": net.name, "net_sha256": net.sha256, "layer": layer, **values, **said}
    for key, value in about.items():
        made.metadata_props.add(key=key, value=json.dumps(value))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny_decoder.onnx"
    path.write_bytes(made.SerializeToString())
    return path


def picture(size: tuple[int, int] = SIZE, channels: int = 3, seed: int = 0) -> np.ndarray:
    """(H, W, C) pixels: smooth slopes, unlike along rows, columns and channels, and some noise."""
    rows, cols = np.mgrid[: size[0], : size[1]]
    slopes = [rows / size[0], cols / size[1], 1 - (rows + 2 * cols) / (size[0] + 2 * size[1])][:channels]
    noise = np.random.default_rng(seed).normal(0, 0.15, (*size, channels))
    return np.clip(np.stack(slopes, 2) * 0.8 + 0.1 + noise, 0, 1).astype(np.float32)


def tiny_forward(image: np.ndarray, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> dict[str, np.ndarray]:
    """What `tiny` makes of pixels (H, W, C), in numpy from the definitions: every tensor, without its batch axis."""
    w = {name: value.astype(np.float64) for name, value in tiny_weights(image.shape[2]).items()}
    x = ((image.astype(np.float64) - mean) / std).transpose(2, 0, 1)
    conv1 = _convolve(np.pad(x, ((0, 0), (1, 1), (1, 1))), w["w1"], w["b1"])
    relu1 = np.maximum(conv1, 0)
    c, h, width = relu1.shape
    pool1 = relu1.reshape(c, h // 2, 2, width // 2, 2).max((2, 4))
    conv2 = _convolve(pool1, w["w2"], w["b2"])
    mean2 = conv2.mean((1, 2))
    logits = w["w3"] @ mean2 + w["b3"]
    return {"conv1": conv1, "relu1": relu1, "pool1": pool1, "conv2": conv2, "mean": mean2, "logits": logits}


def _convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(1, 2))  # (I, rows, cols, h, w)
    return np.einsum("irchw,oihw->orc", windows, weight) + bias[:, None, None]

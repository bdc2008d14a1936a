"""Where did the network see a class? Exactly, where its own last step is an average.

Zhou et al. 2016, arXiv:1512.04150, equations 1 and 2. Where a net ends in global average pooling and one linear layer,
a class's logit is the mean of one map plus a constant: that map is no estimate but the network's own arithmetic. It
needs no gradient; all of it runs in ONNX Runtime.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.explain.evidence import Evidence
from engine.model.receptive_field import pads
from engine.net import Net

# What may stand between the average and the logits: it leaves numbers as they are, or is linear in them.
LINEAR = frozenset(["Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Conv", "BatchNormalization"])
SHAPING = frozenset(["Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose"])


class NoCam(ValueError):
    """The net does not end in an average and one linear layer; the message says so and what to use instead."""


@dataclass(frozen=True)
class Ending:
    """How a net ends. layer: the tensor that is averaged. weights: (K, C), of each channel's mean in each logit.

    bias: (K,), what the logits are where all means are 0.
    """

    layer: str
    weights: np.ndarray
    bias: np.ndarray


def ending(net: Net) -> Ending:
    """The layer that is averaged and the linear map behind it, found from the graph.

    The weights are read off by ONNX Runtime: the logits of each channel's mean set to 1, less those of all at 0. So it
    does not matter how the linear layer is written, nor whether a 1×1 convolution stands before the average (then the
    averaged maps are the classes' own and the weights are 1 on the diagonal).
    Raises NoCam.
    """
    refused = NoCam(
        f"{net.name} does not end in global average pooling and one linear layer, so it has no exact CAM; "
        "Grad-CAM asks the same of any net."
    )
    name = net.logits
    while (node := net.graph.producer(name)) is not None and not _averages(net, node):
        sources = [each for each in node.inputs if each in net.graph.from_input]
        if node.op not in LINEAR | SHAPING or len(sources) != 1 or (node.op == "Div" and node.inputs[0] != sources[0]):
            raise refused
        name = sources[0]
    if node is None:
        raise refused
    layer, pooled = node.inputs[0], net.graph.shapes.get(name, ())
    if len(pooled) < 2 or layer not in {each.name for each in net.layers if each.has_map}:
        raise refused
    channels = int(np.prod(pooled[1:]))
    probes = np.concatenate([np.zeros((1, channels), np.float32), np.eye(channels, dtype=np.float32)])
    found = net.resume({name: probes.reshape(-1, *pooled[1:])}, [net.logits])[net.logits]
    found = found.reshape(len(probes), -1).astype(np.float64)
    return Ending(layer, (found[1:] - found[0]).T.astype(np.float32), found[0].astype(np.float32))


def _averages(net: Net, node) -> bool:
    """Whether the node is the mean over all rows and columns."""
    shape = net.graph.shapes.get(node.inputs[0], ()) if node.inputs else ()
    if len(shape) != 4:
        return False
    if node.op == "GlobalAveragePool":
        return True
    if node.op == "ReduceMean":
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1:
            axes = net.graph.constants.get(node.inputs[1])
        return axes is not None and sorted(int(axis) % 4 for axis in axes) == [2, 3]
    if node.op == "AveragePool":
        kernel = node.attributes["kernel_shape"]
        return list(kernel) == list(shape[2:]) and not any(pads(node.attributes, kernel, shape[2:]))
    return False


def cam(net: Net, image: np.ndarray, target: int) -> Evidence:
    """CAM: the averaged layer's channels, each weighed by the output layer's own weight for the class.

    image: (H, W, C) pixels of the net's own size. target: a class; CAM knows of nothing else.
    Returns (h, w) in logits at the layer's own resolution, with its sign: its mean plus the class's bias is the logit.
    Raises UnknownClass, NoCam.
    """
    return cams(net, image, [target])[0]


def cams(net: Net, image: np.ndarray, classes: list[int]) -> np.ndarray:
    """(N, h, w): the CAM of each of `classes`, from one forward pass. Otherwise as `cam`."""
    if any(not isinstance(each, int | np.integer | str) for each in classes):
        raise NoCam("CAM is about a class; choose Grad-CAM for a unit or a margin.")
    wanted = [net.class_index(each) for each in classes]
    end = ending(net)
    maps = net.activations(net.batch(image), [end.layer])[end.layer][0]
    return np.tensordot(end.weights[wanted], maps, 1)

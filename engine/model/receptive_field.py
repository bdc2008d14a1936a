"""Which pixels can a unit see?

Araujo, Norris, Sim 2019, "Computing receptive fields of convolutional neural networks", doi:10.23915/distill.00021.
The recursion there follows one path forward from the input. Here every path of the graph counts: where branches meet,
the field is the smallest window that holds the fields of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.model.graph import Graph, Node


@dataclass(frozen=True)
class ReceptiveField:
    """Unit (row, col) of a map sees the pixels from offset + (row, col) * stride, size of them; each is (rows, cols).

    In pixels of the network's input. The offset is the first pixel that unit (0, 0) sees, negative where that lies in
    the padding. A stride of 0 stands for a unit that sees the whole picture wherever it is.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    offset: tuple[int, int]

    def window(self, row: int, col: int, input_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of what unit (row, col) sees, the ends excluded, cut at the picture's edge."""
        start = [self.offset[i] + cell * self.stride[i] for i, cell in enumerate((row, col))]
        clip = lambda value, i: min(max(value, 0), input_size[i])  # noqa: E731
        top, left = clip(start[0], 0), clip(start[1], 1)
        return top, left, clip(start[0] + self.size[0], 0), clip(start[1] + self.size[1], 1)


# Along one axis a field is (start, stride, size). These ops take each position of their output from the same position
# of their input, whatever the channel.
POINTWISE = frozenset(
    """
    Abs Add And BatchNormalization Cast Ceil Clip Div Dropout Elu Equal Erf Exp Floor Gelu HardSigmoid HardSwish
    Identity LRN LeakyRelu Log Max Mean Min Mish Mul Neg PRelu Pow QuantizeLinear DequantizeLinear Reciprocal
    Relu Round Selu Sigmoid Sign Softplus Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu Where
    """.split()  # noqa: SIM905 (a list of forty strings would be no easier to read)
)
SLIDING = frozenset(["Conv", "MaxPool", "AveragePool", "LpPool"])


def pads(node_attributes: Mapping[str, Any], kernel: list[int], input_hw: tuple[int, ...]) -> list[int]:
    """[top, left, bottom, right] of a sliding window, with ONNX's auto_pad resolved for an input of (H, W).

    For one axis or three it is as long as that takes: the beginnings of all, then the ends.
    """
    ones = [1] * len(kernel)
    auto = node_attributes.get("auto_pad", "NOTSET")
    strides = node_attributes.get("strides", ones)
    dilations = node_attributes.get("dilations", ones)
    if auto == "NOTSET":
        return list(node_attributes.get("pads", [0, 0] * len(kernel)))
    if auto == "VALID":
        return [0, 0] * len(kernel)
    begin, end = [], []
    for size, k, stride, dilation in zip(input_hw, kernel, strides, dilations, strict=True):
        total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        small, large = total // 2, total - total // 2
        begin.append(small if auto == "SAME_UPPER" else large)
        end.append(large if auto == "SAME_UPPER" else small)
    return begin + end


def receptive_fields(graph: Graph) -> dict[str, ReceptiveField]:
    """The receptive field of every tensor (1, C, H, W) that depends on the picture.

    Exact for convolutions, pooling, padding, slicing, and all that works position by position; for any other op, and
    behind a Flatten or a global pool, it is the whole picture, which is never too small. Units at the edge may see a
    little less: where a stride leaves rows over, the padding behind it stands for pixels that no one sees.
    """
    height, width = graph.shapes[graph.input][2:]
    whole = tuple((0, 0, side) for side in (height, width))
    fields: dict[str, tuple] = {graph.input: tuple((0, 1, 1) for _ in range(2))}
    for node in graph.nodes:
        inputs = [name for name in node.inputs if name in fields]
        if not inputs:
            continue
        before = [fields[name] for name in inputs]
        after = tuple(_axis(graph, node, inputs, [field[axis] for field in before], axis) for axis in range(2))
        shape = graph.shapes.get(node.outputs[0], ())
        for name in node.outputs:
            fields[name] = whole if None in after or len(shape) != 4 else after
    parts = lambda field: (tuple(axis[part] for axis in field) for part in (2, 1, 0))  # noqa: E731
    return {name: ReceptiveField(*parts(field)) for name, field in fields.items()}


def _axis(graph: Graph, node: Node, inputs: list[str], before: list[tuple], axis: int) -> tuple[int, int, int] | None:
    """One axis of one op: (start, stride, size) of the output from those of the inputs; None for the whole picture."""
    shape = graph.shapes.get(inputs[0], ())
    if len(shape) != 4:
        return None
    start, stride, size = before[0]
    if node.op in SLIDING:
        kernel = node.attributes.get("kernel_shape")
        if kernel is None:  # only a convolution may leave it to its weights
            kernel = (graph.shapes.get(node.inputs[1]) or graph.constants[node.inputs[1]].shape)[2:]
        step = stride * node.attributes.get("strides", [1, 1])[axis]
        span = (kernel[axis] - 1) * node.attributes.get("dilations", [1, 1])[axis]
        before_first = pads(node.attributes, kernel, shape[2:])[axis]
        return start - before_first * stride, step, size + span * stride
    along = node.op == "Concat" or (node.op in ("Softmax", "LogSoftmax") and node.version >= 13)  # older ones flatten
    across_channels = along and node.attributes.get("axis", -1) in (1, -3)
    if node.op in POINTWISE or across_channels:
        return _meet(graph, inputs, before, axis)
    if node.op == "Pad" and (amounts := _constant(graph, node, 1, "pads")) is not None:
        if node.attributes.get("mode", "constant") != "constant":
            return None  # reflected pixels come from the other side of the edge
        axes = _constant(graph, node, 3, "axes")
        axes = [a % 4 for a in (range(4) if axes is None else axes)]
        first = amounts[axes.index(axis + 2)] if axis + 2 in axes else 0
        return start - int(first) * stride, stride, size
    if node.op == "Slice" and (starts := _constant(graph, node, 1, "starts")) is not None:
        axes = _constant(graph, node, 3, "axes")
        axes = [a % 4 for a in (range(len(starts)) if axes is None else axes)]
        if axis + 2 not in axes:
            return start, stride, size
        place, steps = axes.index(axis + 2), _constant(graph, node, 4, "steps")
        step = 1 if steps is None else int(steps[place])
        if step < 1:
            return None
        first = int(starts[place])
        first = max(first + shape[axis + 2], 0) if first < 0 else first
        return start + first * stride, stride * step, size
    if node.op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin") and node.attributes.get("keepdims", 1):
        axes = _constant(graph, node, 1, "axes")
        if axes is not None and all(a % 4 < 2 for a in axes):
            return start, stride, size
    return None


def _meet(graph: Graph, inputs: list[str], before: list[tuple], axis: int) -> tuple[int, int, int] | None:
    """The smallest window that holds those of all branches; None where they do not advance alike."""
    output_side = max(graph.shapes[name][axis + 2] for name in inputs if len(graph.shapes.get(name, ())) == 4)
    if any(len(graph.shapes.get(name, ())) != 4 or graph.shapes[name][axis + 2] != output_side for name in inputs):
        return None  # a squeezed branch is spread over the whole map, so each position sees what the branch saw
    if len({stride for _, stride, _ in before}) != 1:
        return None
    first = min(start for start, _, _ in before)
    return first, before[0][1], max(start + size for start, _, size in before) - first


def _constant(graph: Graph, node: Node, index: int, attribute: str) -> list[int] | None:
    """What newer operator sets take as an input and older ones as an attribute, as integers."""
    if attribute in node.attributes:
        return list(node.attributes[attribute])
    if index < len(node.inputs) and node.inputs[index]:
        value = graph.constants.get(node.inputs[index])
        return None if value is None else [int(v) for v in value.ravel()]
    return None

"""What would change this number? The same ONNX graph, interpreted in PyTorch, so that it has gradients.

`OPS` maps an op's name to a plain function whose keyword arguments are the ONNX attributes; `Twin.__call__` walks the
nodes that are needed and fills a dictionary keyed by tensor name. There is no module, no hook and no state: a method
that wants another rule for an op passes a table of its own (`ops={"Relu": guided_relu}`).

Operator semantics: the ONNX operator specification, opsets 7 to 24 (github.com/onnx/onnx, docs/Operators.md).
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from engine.graph import Graph, Node
from engine.receptive_field import pads as resolve_pads


class NoGradient(ValueError):
    """The graph has an op that the Twin cannot compute; the message names the op, its version and the node."""


class Twin:
    """The graph in PyTorch. The weights are frozen and never change, so that one Twin serves every thread."""

    def __init__(self, graph: Graph, mean: Iterable[float], std: Iterable[float]):
        self.graph = graph
        with warnings.catch_warnings():
            # The arrays are read-only views of the file's bytes, and nothing here writes to them.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            constants = {name: torch.from_numpy(_plain(array)) for name, array in graph.constants.items()}
        # Kernels with the channels last: convolutions and their gradients take half the time on a CPU.
        self.constants = {
            name: c.contiguous(memory_format=torch.channels_last) if c.ndim == 4 else c for name, c in constants.items()
        }
        self.packed = {node.outputs[0]: p for node in graph.nodes if (p := pack(node, graph, self.constants))}
        readers = Counter(name for node in graph.nodes for name in node.inputs)
        # By the convolution's output: what a rectifier makes of it that is the only one to read it.
        self.rectified = {
            node.inputs[0]: node.outputs[0]
            for node in graph.nodes
            if node.op == "Relu" and node.inputs[0] in self.packed and readers[node.inputs[0]] == 1
        }
        self.mean = torch.tensor(list(mean)).view(-1, 1, 1)
        self.std = torch.tensor(list(std)).view(-1, 1, 1)

    def missing(self) -> list[Node]:
        """The nodes whose op is not in OPS: gradient methods are off while there are any."""
        return [node for node in self.graph.nodes if node.op not in OPS]

    def __call__(
        self,
        pixels: torch.Tensor | None,
        names: Iterable[str],
        *,
        start: Mapping[str, torch.Tensor] | None = None,
        ops: Mapping[str, Callable] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Compute the tensors `names` and nothing that they do not need.

        pixels: (B, C, H, W) in [0, 1]; differentiable. None where `start` holds all that is needed.
        start: tensors by name that are taken as given: the graph is entered in the middle, behind them.
        ops: functions that replace those of OPS for this call, by op, or for one node by its first output's name.
        Raises NoGradient.
        """
        names = list(names)
        ops = ops or {}
        values = {**self.constants, "": None}
        if pixels is not None:
            values[self.graph.input] = (pixels - self.mean.to(pixels)) / self.std.to(pixels)
        values.update(start or {})
        for node in self.graph.needed(names, values):
            if node.op == "Relu" and node.outputs[0] in values:  # computed along with its convolution
                continue
            replaced = ops.get(node.outputs[0]) or ops.get(node.op)
            function = replaced or OPS.get(node.op)
            if function is None:
                raise NoGradient(f"The op {node.op}-{node.version} of node {_called(node)} has no twin.")
            if node.version < _OLD.get(node.op, 0) and replaced is None:
                function = OLD_OPS[node.op]
            packed = self.packed.get(node.outputs[0]) if replaced is None else None
            if packed and packed.suits(*(values[name] for name in node.inputs)):
                plain, rectified = node.outputs[0], self.rectified.get(node.outputs[0])
                gated = rectified is not None and plain not in names and not {"Relu", rectified} & ops.keys()
                values[rectified if gated else plain] = Packed.apply(values[node.inputs[0]], packed, gated)
                continue
            try:
                out = function(*(values[name] for name in node.inputs), **node.attributes)
            except TypeError as error:
                raise NoGradient(
                    f"The op {node.op}-{node.version} of node {_called(node)} has no twin in the form used: {error}."
                ) from error
            values.update(zip(node.outputs, out if isinstance(out, tuple) else (out,), strict=False))
        return {name: values[name] for name in names}


def _called(node: Node) -> str:
    return repr(node.name or node.outputs[0])


def _plain(array: np.ndarray) -> np.ndarray:
    """Zero-dimensional and big-endian arrays in the form that torch takes."""
    return np.ascontiguousarray(array).reshape(array.shape)


def _ints(value: torch.Tensor | list[int] | None) -> list[int] | None:
    """What newer operator sets take as a tensor and older ones as an attribute."""
    return value.tolist() if isinstance(value, torch.Tensor) else value


# Convolution and pooling --------------------------------------------------------------------------------------------


def _padded(x: torch.Tensor, kernel: list[int], attributes: dict, fill: float) -> tuple[torch.Tensor, list[int]]:
    """x and the symmetric padding left to do: where ONNX pads the two sides differently, x is padded here."""
    top, left, bottom, right = resolve_pads(attributes, kernel, tuple(x.shape[2:]))
    if (top, left) == (bottom, right):
        return x, [top, left]
    return F.pad(x, (left, right, top, bottom), value=fill), [0, 0]


def conv(
    x,
    weight,
    bias=None,
    *,
    kernel_shape=None,
    strides=(1, 1),
    pads=(0, 0, 0, 0),
    dilations=(1, 1),
    group=1,
    auto_pad="NOTSET",
):
    _images_only("Conv", x)
    how = {"pads": pads, "strides": strides, "dilations": dilations, "auto_pad": auto_pad}
    x, padding = _padded(x, list(weight.shape[2:]), how, 0.0)
    return F.conv2d(x, weight, bias, list(strides), padding, list(dilations), group)


@dataclass(frozen=True)
class Kernels:
    """A convolution's frozen weights in the order in which oneDNN reads them, forwards and, where there are, backwards.

    Putting them into that order takes as long as the convolution itself where there are many weights and few places.
    The order is the best for maps of one size, and at others can cost ten times what it saves.
    size: (H, W) of these maps. around: the padding of the way back. phases: see `phased`; 1 where it has none.
    """

    weight: torch.Tensor  # (O, I, h, w), as the graph has it
    bias: torch.Tensor | None
    strides: list[int]
    padding: list[int]
    forwards: torch.Tensor
    backwards: torch.Tensor | None
    around: list[int]
    size: tuple[int, int]
    phases: int = 1

    def suits(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> bool:
        """Whether this is the convolution that is asked for: a caller may have put in other weights or another size."""
        same = weight is self.weight and bias is self.bias and tuple(x.shape[2:]) == self.size
        return same and x.dtype == torch.float32 and x.device.type == "cpu"


def pack(node: Node, graph: Graph, constants: Mapping[str, torch.Tensor]) -> Kernels | None:
    """The kernels of a plain convolution with constant weights; None for all else, and where torch has no oneDNN."""
    weight = constants.get(node.inputs[1]) if node.op == "Conv" else None
    shapes = [graph.shapes.get(name) for name in (*node.inputs[:1], *node.outputs[:1])]
    if weight is None or weight.ndim != 4 or weight.dtype != torch.float32 or None in shapes or not ONEDNN:
        return None
    how = node.attributes
    pads, strides, ones = list(how.get("pads", [0] * 4)), list(how.get("strides", [1, 1])), [1, 1]
    plain = how.get("group", 1) == 1 and list(how.get("dilations", ones)) == ones and pads[:2] == pads[2:]
    plain = plain and set(how) <= {"kernel_shape", "strides", "pads", "dilations", "group", "auto_pad"}
    bias = constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
    if not plain or how.get("auto_pad", "NOTSET") != "NOTSET" or (bias is None and len(node.inputs) > 2):
        return None
    order = torch.ops.mkldnn._reorder_convolution_weight
    forwards = order(weight.contiguous(), pads[:2], strides, ones, 1, list(shapes[0]))
    around = [size - 1 - before for size, before in zip(weight.shape[2:], pads[:2], strict=True)]
    backwards, phases = None, 1
    if strides == ones and min(around) >= 0:  # the gradient is a convolution with the kernels turned round
        turned = weight.transpose(0, 1).flip(2, 3).contiguous()
        backwards = order(turned, around, ones, ones, 1, list(shapes[1]))
    elif 1 < strides[0] == strides[1] <= min(weight.shape[2:]) and weight.shape[1] <= 4:
        # The first one, where oneDNN is at its slowest. A stride beyond the kernel would make zeros without end.
        phases = strides[0]
        turned, around = phased(weight, phases, pads[:2])
        backwards = order(turned, around, ones, ones, 1, list(shapes[1]))
    size = tuple(shapes[0][2:])
    return Kernels(weight, bias, strides, pads[:2], forwards, backwards, around, size, phases)


def phased(weight: torch.Tensor, stride: int, pads: list[int]) -> tuple[torch.Tensor, list[int]]:
    """Kernels whose convolution gives the gradient of a strided one, and their padding.

    Pixels whose place has the same remainder by the stride get their gradient from the same part of the kernel. So one
    convolution at stride 1 gives all remainders as channels of their own, and shuffling those puts them in place.
    weight: (O, I, h, w). Returns (I * stride², O, T, T') and T - 1 on both axes: with so much padding, output place m
    stands for the pixels from stride * (m - first) on, where `first` is T - 1 less the kernel's reach to the left.
    """
    places = []  # of each axis: (remainder, place in the new kernel, place in the old one)
    lengths = []
    for size, before in zip(weight.shape[2:], pads, strict=True):
        reach = [(size - 1 - before - a) // stride for a in range(stride)]
        back = [-((a + before) // stride) for a in range(stride)]
        top, length = max(reach), max(reach) - min(back) + 1
        lengths.append((top, length))
        places.append([
            (a, t, old)
            for a in range(stride)
            for t in range(length)
            if 0 <= (old := stride * (top - t) + a + before) < size
        ])  # fmt: skip
    out = weight.new_zeros(weight.shape[1], stride, stride, weight.shape[0], lengths[0][1], lengths[1][1])
    for a, t, old in places[0]:
        for b, u, older in places[1]:
            out[:, a, b, :, t, u] = weight[:, :, old, older].T
    return out.flatten(0, 2).contiguous(), [length - 1 for _, length in lengths]


class Packed(torch.autograd.Function):
    """A convolution by `Kernels`, with a gradient for the picture alone: weights are frozen. gated: and a rectifier."""

    @staticmethod
    def forward(ctx, x, kernels, gated):
        ctx.kernels, ctx.x = kernels, x.new_empty(1).expand(x.shape)  # whose form is all that the way back needs
        made = _convolve(x, kernels.forwards, kernels.bias, kernels.padding, kernels.strides, gated)
        ctx.save_for_backward(*([made] if gated else []))
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        kernels = ctx.kernels
        for made in ctx.saved_tensors:
            gradient = torch.ops.aten.threshold_backward(gradient, made, 0)
        if kernels.backwards is not None:
            found = _convolve(gradient, kernels.backwards, None, kernels.around, [1, 1])
            if kernels.phases > 1:
                rows, cols = (
                    kernels.around[i] - (kernels.weight.shape[2 + i] - 1 - kernels.padding[i]) // kernels.phases
                    for i in range(2)
                )
                height, width = ctx.x.shape[2:]
                found = F.pixel_shuffle(found[:, :, rows:, cols:], kernels.phases)
                short = (0, max(width - found.shape[3], 0), 0, max(height - found.shape[2], 0))
                found = F.pad(found, short)[:, :, :height, :width]
            return found, None, None
        how = (None, kernels.strides, kernels.padding, [1, 1], False, [0, 0], 1, [True, False, False])
        return torch.ops.aten.convolution_backward(gradient, ctx.x, kernels.weight, *how)[0], None, None


def _convolve(x, weight, bias, padding, strides, gated=False):
    gate = "relu" if gated else "none"
    return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, strides, [1, 1], 1, gate, [], "")


# These two are what torch's own compiler calls; where a torch has them not, the plain convolution is as right.
ONEDNN = torch.backends.mkldnn.is_available() and all(
    hasattr(torch.ops.mkldnn, name) for name in ("_convolution_pointwise", "_reorder_convolution_weight")
)


def conv_transpose(
    x,
    weight,
    bias=None,
    *,
    kernel_shape=None,
    strides=(1, 1),
    pads=(0, 0, 0, 0),
    dilations=(1, 1),
    group=1,
    output_padding=(0, 0),
    auto_pad="NOTSET",
):
    _images_only("ConvTranspose", x)
    top, left, bottom, right = pads
    if auto_pad != "NOTSET" or (top, left) != (bottom, right):
        raise TypeError("auto_pad or uneven padding in a transposed convolution")
    return F.conv_transpose2d(x, weight, bias, list(strides), (top, left), list(output_padding), group, list(dilations))


def max_pool(
    x,
    *,
    kernel_shape,
    strides=(1, 1),
    pads=(0, 0, 0, 0),
    dilations=(1, 1),
    ceil_mode=0,
    auto_pad="NOTSET",
    storage_order=0,
):
    _images_only("MaxPool", x)
    how = {"pads": pads, "strides": strides, "dilations": dilations, "auto_pad": auto_pad}
    x, padding = _padded(x, kernel_shape, how, -math.inf)
    if any(2 * p > k for p, k in zip(padding, kernel_shape, strict=True)):  # more than torch itself pads
        x, padding = F.pad(x, (padding[1], padding[1], padding[0], padding[0]), value=-math.inf), [0, 0]
    return F.max_pool2d(x, kernel_shape, list(strides), padding, list(dilations), bool(ceil_mode))


def average_pool(
    x,
    *,
    kernel_shape,
    strides=(1, 1),
    pads=(0, 0, 0, 0),
    dilations=(1, 1),
    ceil_mode=0,
    auto_pad="NOTSET",
    count_include_pad=0,
):
    _images_only("AveragePool", x)
    if list(dilations) != [1, 1]:
        raise TypeError("dilations in an average pool")
    how = {"pads": pads, "strides": strides, "auto_pad": auto_pad}
    padded, padding = _padded(x, kernel_shape, how, 0.0)
    even = padded is x and all(2 * p <= k for p, k in zip(padding, kernel_shape, strict=True))
    if even:
        return F.avg_pool2d(x, kernel_shape, list(strides), padding, bool(ceil_mode), bool(count_include_pad))
    # torch knows even padding only: sum and count apart
    top, left, bottom, right = resolve_pads(how, kernel_shape, tuple(x.shape[2:]))
    edges = (left, right, top, bottom)
    ones = F.pad(torch.ones_like(x[:1, :1]), edges, value=float(count_include_pad))
    pool = lambda y: F.avg_pool2d(y, kernel_shape, list(strides), 0, bool(ceil_mode), divisor_override=1)  # noqa: E731
    return pool(F.pad(x, edges)) / pool(ones)


def _images_only(op: str, x: torch.Tensor) -> None:
    if x.ndim != 4:
        raise TypeError(f"{op} on a tensor with {x.ndim} axes")


def global_average_pool(x):
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(x):
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)


# Normalisation ------------------------------------------------------------------------------------------------------


def batch_normalization(x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1):
    if training_mode or not spatial:
        raise TypeError("batch normalisation in training mode")
    return F.batch_norm(x, mean, var, scale, bias, eps=epsilon)


def instance_normalization(x, scale, bias, *, epsilon=1e-5):
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def layer_normalization(x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1):
    out = F.layer_norm(x, x.shape[axis:], eps=epsilon) * scale  # which may be smaller than what is normalised
    return out if bias is None else out + bias


def lrn(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """Krizhevsky 2012, section 3.3. torch's own spreads an even `size` the other way round."""
    before = (size - 1) // 2
    squares = F.pad(x * x, (0, 0, 0, 0, before, size - 1 - before))
    total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return x / (bias + alpha / size * total) ** beta


def softmax(x, *, axis=-1):
    return x.softmax(axis)


def log_softmax(x, *, axis=-1):
    return x.log_softmax(axis)


def _flat_softmax(function: Callable) -> Callable:
    """Before operator set 13, a softmax flattened everything from `axis` on and took that as one vector."""
    return lambda x, *, axis=1: function(x.flatten(axis % x.ndim), -1).view(x.shape)


# Shapes -------------------------------------------------------------------------------------------------------------


def reshape(x, shape, *, allowzero=0):
    shape = _ints(shape)
    return x.reshape([x.shape[i] if size == 0 and not allowzero else size for i, size in enumerate(shape)])


def depth_to_space(x, *, blocksize, mode="DCR"):
    """mode: whether the block comes before the channels in the order of x's channels ("DCR") or after them ("CRD")."""
    batch, channels, height, width = x.shape
    side = (blocksize, blocksize)
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    parts = x.reshape(batch, *side, channels // blocksize**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(batch, channels // blocksize**2, height * blocksize, width * blocksize)


def space_to_depth(x, *, blocksize):
    batch, channels, height, width = x.shape
    parts = x.reshape(batch, channels, height // blocksize, blocksize, width // blocksize, blocksize)
    return parts.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // blocksize, width // blocksize)


def flatten(x, *, axis=1):
    return x.reshape(math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim]), -1)


def transpose(x, *, perm=None):
    return x.permute(perm or list(range(x.ndim))[::-1])


def squeeze(x, axes=None):
    axes = _ints(axes)
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def unsqueeze(x, axes):
    axes = _ints(axes)
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def split(x, split=None, *, axis=0, num_outputs=None):
    sizes = _ints(split)
    if sizes is None:
        if num_outputs is None:
            raise TypeError("a split into equal parts that does not say how many")
        size = -(-x.shape[axis] // num_outputs)
        return tuple(x.split(size, axis))
    return tuple(x.split(sizes, axis))


def slice_(x, starts, ends, axes=None, steps=None):
    starts, ends = _ints(starts), _ints(ends)
    axes = _ints(axes) or list(range(len(starts)))
    for axis, start, end, step in zip(axes, starts, ends, _ints(steps) or [1] * len(starts), strict=True):
        size = x.shape[axis]
        if step > 0:
            start, end, _ = slice(start, end, step).indices(size)
            x = x[(slice(None),) * (axis % x.ndim) + (slice(start, end, step),)]
        else:
            places = list(range(size))[start:end:step]
            x = x.index_select(axis, torch.tensor(places, dtype=torch.long))
    return x


def pad(x, pads, value=None, axes=None, *, mode="constant"):
    amounts, axes = _ints(pads), _ints(axes)
    axes = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
    begin, end = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(axes):
        begin[axis], end[axis] = amounts[place], amounts[place + len(axes)]
    pairs = [side for axis in reversed(range(x.ndim)) for side in (begin[axis], end[axis])]
    if mode == "constant":
        fill = 0.0 if value is None else float(value)
        return F.pad(x, pairs, value=fill)
    if any(pairs[4:]) or x.ndim != 4:
        raise TypeError(f"padding with mode {mode} on other axes than rows and columns")
    return F.pad(x, pairs[:4], mode={"edge": "replicate", "reflect": "reflect", "wrap": "circular"}[mode])


def gather(x, indices, *, axis=0):
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    out = x.index_select(axis, indices.reshape(-1))
    return out.reshape(*x.shape[: axis % x.ndim], *indices.shape, *x.shape[axis % x.ndim + 1 :])


def resize(
    x, roi=None, scales=None, sizes=None, *, mode="nearest", coordinate_transformation_mode="half_pixel",
    nearest_mode="round_prefer_floor", antialias=0, axes=None, keep_aspect_ratio_policy="stretch", **cubic,
):  # fmt: skip
    """What torch's interpolation does too: nearest by whole factors, and linear; everything else is refused."""
    how, old = coordinate_transformation_mode, torch.tensor(x.shape)
    plain = x.ndim == 4 and not antialias and axes is None and keep_aspect_ratio_policy == "stretch"
    if plain:
        stated = sizes is not None and sizes.numel() > 0
        new = sizes if stated else (old * scales).long()
        exact = stated or torch.equal(new.float(), old * scales)  # torch takes the ratio of the sizes as the factor
        size = new[2:].tolist()
        if mode == "nearest" and exact and not (new % old).any() and torch.equal(new[:2], old[:2]):
            if (how, nearest_mode) == ("asymmetric", "floor") or (how == "half_pixel" and "round" in nearest_mode):
                return F.interpolate(x, size, mode="nearest")
        elif mode == "linear" and torch.equal(new[:2], old[:2]):
            if how == "align_corners":
                return F.interpolate(x, size, mode="bilinear", align_corners=True)
            if exact and (how == "half_pixel" or (how == "pytorch_half_pixel" and 1 not in size)):
                return F.interpolate(x, size, mode="bilinear", align_corners=False)
    raise TypeError(f"resizing with mode {mode}, {how} and what goes with them")


def upsample(x, scales, *, mode="nearest"):
    """Upsample, and Resize as it was in operator set 10."""
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return resize(x, None, torch.as_tensor(scales), mode=mode, **how)


# Arithmetic ---------------------------------------------------------------------------------------------------------


class Linear(torch.autograd.Function):
    """x (B, I) @ weight (O, I) turned, for frozen weights.

    With many weights and one picture, reading them is all the work. On the way back the rows of units that a ReLU has
    closed are multiplied by 0: they are left out.
    """

    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x @ weight.T

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        if len(gradient) > 1:
            return gradient @ ctx.weight, None
        (rows,) = gradient[0].nonzero(as_tuple=True)
        parts = torch.tensor([0, len(rows) // 2], device=rows.device)  # a part for each of two threads
        how = {"mode": "sum", "per_sample_weights": gradient[0, rows]}
        return F.embedding_bag(rows, ctx.weight, parts, **how).sum(0, keepdim=True), None


def gemm(a, b, c=None, *, alpha=1.0, beta=1.0, transA=0, transB=0):
    if transB and not transA and not b.requires_grad:
        out = Linear.apply(a, b)
    else:
        out = (a.T if transA else a) @ (b.T if transB else b)
    out = out if alpha == 1 else alpha * out
    return out if c is None else out + (c if beta == 1 else beta * c)


def clip(x, low=None, high=None, *, min=None, max=None):
    low, high = (min if low is None else low), (max if high is None else high)
    return x if low is None and high is None else torch.clamp(x, low, high)


def reduce(function: Callable) -> Callable:
    def reduced(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        axes = _ints(axes)
        if not axes:
            if noop_with_empty_axes:
                return x
            axes = list(range(x.ndim))
        return function(x, tuple(axes), keepdim=bool(keepdims))

    return reduced


def div(a, b):
    return a / b if a.is_floating_point() or b.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def constant(*, value=None, value_float=None, value_int=None, value_floats=None, value_ints=None):
    if value is not None:
        return torch.from_numpy(np.array(value))
    given = next(v for v in (value_float, value_int, value_floats, value_ints) if v is not None)
    return torch.tensor(given)


def constant_of_shape(shape, *, value=None):
    return torch.zeros(_ints(shape)) if value is None else torch.from_numpy(np.array(value)).expand(_ints(shape))


TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip


def cast(x, *, to, **rest):
    if to not in TYPES:
        raise TypeError(f"a cast to ONNX's type {to}")
    return x.to(TYPES[to])


def where(condition, a, b):
    return torch.where(condition, a, b)


OPS: dict[str, Callable] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Clip": clip,
    "Concat": lambda *xs, axis: torch.cat(xs, axis),
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "DepthToSpace": depth_to_space,
    "Div": div,
    "Dropout": lambda x, *unused, **attributes: x,
    "Elu": lambda x, *, alpha=1.0: F.elu(x, alpha),
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": lambda x, shape: x * torch.ones(_ints(shape), dtype=x.dtype),
    "Flatten": flatten,
    "Floor": torch.floor,
    "Gather": gather,
    "Gelu": lambda x, *, approximate="none": F.gelu(x, approximate=approximate),
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1),
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "InstanceNormalization": instance_normalization,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LeakyRelu": lambda x, *, alpha=0.01: F.leaky_relu(x, alpha),
    "Log": torch.log,
    "LogSoftmax": log_softmax,
    "MatMul": torch.matmul,
    "MaxPool": max_pool,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "PRelu": lambda x, slope: torch.where(x < 0, slope * x, x),
    "Pad": pad,
    "Pow": lambda x, exponent: torch.pow(x, exponent),
    "ReduceMax": reduce(torch.amax),
    "ReduceMean": reduce(torch.mean),
    "ReduceSum": reduce(torch.sum),
    "Relu": torch.relu,
    "Reshape": reshape,
    "Resize": resize,
    "Shape": lambda x, *, start=0, end=None: torch.tensor(x.shape[start:end]),
    "Sigmoid": torch.sigmoid,
    "Slice": slice_,
    "Softmax": softmax,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Sqrt": torch.sqrt,
    "Squeeze": squeeze,
    "Sub": torch.sub,
    "Sum": lambda *xs: sum(xs[1:], xs[0]),
    "Tanh": torch.tanh,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": upsample,
    "Where": where,
}

# Ops that meant something else before the given operator set.
_OLD = {"Softmax": 13, "LogSoftmax": 13, "Resize": 11}
OLD_OPS = {
    "Softmax": _flat_softmax(torch.softmax),
    "LogSoftmax": _flat_softmax(torch.log_softmax),
    "Resize": upsample,
}

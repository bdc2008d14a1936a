"""How is a convolution with frozen weights computed fastest?

Weights that never change can be put once into the order in which oneDNN reads them, for the way there and the way back.
The Twin uses this wherever it can; nothing but speed hangs on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from engine.model.graph import Graph, Node

DTYPES = (torch.float32, torch.bfloat16)


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
        return same and x.dtype in (torch.float32, weight.dtype) and x.device.type == "cpu"


def pack(node: Node, graph: Graph, constants: Mapping[str, torch.Tensor]) -> Kernels | None:
    """The kernels of a plain convolution with constant weights; None for all else, and where torch has no oneDNN."""
    weight = constants.get(node.inputs[1]) if node.op == "Conv" else None
    shapes = [graph.shapes.get(name) for name in (*node.inputs[:1], *node.outputs[:1])]
    if weight is None or weight.ndim != 4 or None in shapes or not ONEDNN or weight.dtype not in DTYPES:
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
        x = x.to(kernels.weight.dtype)
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

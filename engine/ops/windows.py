"""What do convolutions and pools compute, over one, two or three axes?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from engine.model.receptive_field import pads as resolve_pads

# Convolution and pooling --------------------------------------------------------------------------------------------
# Over rows and columns as a rule, and over one axis or three where a network of something else than pictures has them.

CONV = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}
CONV_TRANSPOSE = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}
WIDE = 32  # channels from which on torch normalises them quicker where they are last
MAX_POOL = {3: F.max_pool1d, 4: F.max_pool2d, 5: F.max_pool3d}


def _places(x: torch.Tensor) -> int:
    """How many axes a window slides over."""
    if not 3 <= x.ndim <= 5:
        raise TypeError(f"a tensor with {x.ndim} axes")
    return x.ndim - 2


def edges(begin: list[int], end: list[int]) -> list[int]:
    """Padding in torch's order: the last axis first, its two sides together."""
    return [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]


def _padded(x: torch.Tensor, kernel: list[int], attributes: dict, fill: float) -> tuple[torch.Tensor, list[int]]:
    """x and the symmetric padding left to do: where ONNX pads the two sides differently, x is padded here."""
    around = resolve_pads(attributes, kernel, tuple(x.shape[2:]))
    begin, end = around[: len(kernel)], around[len(kernel) :]
    if begin == end:
        return x, begin
    return F.pad(x, edges(begin, end), value=fill), [0] * len(kernel)


def _how(x: torch.Tensor, strides, pads, dilations, auto_pad) -> dict:
    """A window's attributes with ONNX's defaults filled in, for as many axes as there are."""
    count = _places(x)
    ones = [1] * count
    return {
        "strides": list(strides or ones),
        "pads": list(pads or [0] * 2 * count),
        "dilations": list(dilations or ones),
        "auto_pad": auto_pad,
    }


def conv(
    x, weight, bias=None, *, kernel_shape=None, strides=None, pads=None, dilations=None, group=1, auto_pad="NOTSET"
):
    how = _how(x, strides, pads, dilations, auto_pad)
    x, padding = _padded(x, list(weight.shape[2:]), how, 0.0)
    return CONV[x.ndim](x, weight, bias, how["strides"], padding, how["dilations"], group)


def conv_transpose(
    x, weight, bias=None, *, kernel_shape=None, strides=None, pads=None, dilations=None, group=1, output_padding=None,
    output_shape=None, auto_pad="NOTSET",
):  # fmt: skip
    """What is made is cut at both sides by the padding, and lengthened at the end by the output padding."""
    count = _places(x)
    how = _how(x, strides, pads, dilations, auto_pad)
    more = list(output_padding or [0] * count)
    made = CONV_TRANSPOSE[x.ndim](x, weight, None, how["strides"], 0, 0, group, how["dilations"])
    begin, end = how["pads"][:count], how["pads"][count:]
    if output_shape is not None or auto_pad.startswith("SAME"):
        wanted = output_shape or [size * stride for size, stride in zip(x.shape[2:], how["strides"], strict=True)]
        totals = [have + m - want for have, m, want in zip(made.shape[2:], more, wanted[-count:], strict=True)]
        small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
        begin, end = (small, large) if auto_pad == "SAME_UPPER" or output_shape is None else (large, small)
        if auto_pad == "SAME_LOWER":
            begin, end = large, small
    made = F.pad(made, edges([-b for b in begin], [m - e for m, e in zip(more, end, strict=True)]))
    return made if bias is None else made + bias.view(-1, *[1] * count)


def max_pool(
    x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET", storage_order=0
):
    how = _how(x, strides, pads, dilations, auto_pad)
    around = resolve_pads(how, kernel_shape, tuple(x.shape[2:]))
    begin, end = around[: len(kernel_shape)], around[len(kernel_shape) :]
    if begin != end or any(2 * p > k for p, k in zip(begin, kernel_shape, strict=True)):  # what torch does not pad
        more = _beyond(x, begin, end, kernel_shape, how, ceil_mode)
        x = F.pad(x, edges(begin, [e + m for e, m in zip(end, more, strict=True)]), value=-math.inf)
        begin, ceil_mode = [0] * len(begin), 0
    return MAX_POOL[x.ndim](x, kernel_shape, how["strides"], begin, how["dilations"], bool(ceil_mode))


def average_pool(
    x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET", count_include_pad=0
):
    how = _how(x, strides, pads, dilations, auto_pad)
    padded, padding = _padded(x, kernel_shape, how, 0.0)
    even = padded is x and all(2 * p <= k for p, k in zip(padding, kernel_shape, strict=True))
    if even and x.ndim == 4 and set(how["dilations"]) == {1}:
        return F.avg_pool2d(x, kernel_shape, how["strides"], padding, bool(ceil_mode), bool(count_include_pad))
    # torch knows even padding only: sum and count apart
    ones = torch.ones_like(x[:1, :1])
    edge = float(count_include_pad)
    return _sums(x, kernel_shape, how, ceil_mode) / _sums(ones, kernel_shape, how, ceil_mode, edge)


def lp_pool(x, *, kernel_shape, p=2, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET"):
    """The p-th root of the window's sum of |x|^p."""
    how = _how(x, strides, pads, dilations, auto_pad)
    return _sums(x.abs() ** p, kernel_shape, how, ceil_mode) ** (1 / p)


def _beyond(
    x: torch.Tensor, begin: list[int], end: list[int], kernel: list[int], how: dict, ceil_mode: int
) -> list[int]:
    """What ceil_mode adds behind the padding for a last window that is cut off; none begins in that padding."""
    found = []
    for axis, (size, stride, dilation) in enumerate(zip(kernel, how["strides"], how["dilations"], strict=True)):
        inside = begin[axis] + x.shape[2 + axis]
        room = inside + end[axis] - (size - 1) * dilation - 1  # where the last window may begin, in padded places
        more = -room % stride if ceil_mode else 0
        found.append(0 if room + more >= inside else more)
    return found


def _sums(x: torch.Tensor, kernel: list[int], how: dict, ceil_mode: int, edge: float = 0.0) -> torch.Tensor:
    """The sum of each window. edge: what the padding holds; what ceil_mode adds behind it holds 0."""
    around = resolve_pads(how, kernel, tuple(x.shape[2:]))
    begin, end = around[: len(kernel)], around[len(kernel) :]
    beyond = _beyond(x, begin, end, kernel, how, ceil_mode)
    x = F.pad(x, edges(begin, end), value=edge)
    x = F.pad(x, edges([0] * len(beyond), beyond))
    ones = x.new_ones(1, 1, *kernel)
    out = CONV[x.ndim](x.flatten(0, 1)[:, None], ones, None, how["strides"], 0, how["dilations"])
    return out[:, 0].unflatten(0, x.shape[:2])


def global_average_pool(x):
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(x):
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)


def global_lp_pool(x, *, p=2):
    return (x.abs() ** p).sum(tuple(range(2, x.ndim)), keepdim=True) ** (1 / p)

"""What does each operator of ONNX compute, in PyTorch?

`OPS` maps an op's name to a plain function of tensors whose keyword arguments are the ONNX attributes. What a later
operator set takes as an input and an earlier one as an attribute goes by one name; where an op once meant something
else, `OLD` has what it was. A form that a function does not know is a TypeError, which the Twin reports by the node.

Operator semantics: the ONNX operator specification, opsets 7 to 24 (github.com/onnx/onnx, docs/Operators.md).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from engine.receptive_field import pads as resolve_pads


def _ints(value: torch.Tensor | list[int] | None) -> list[int] | None:
    """What newer operator sets take as a tensor and older ones as an attribute."""
    return value.tolist() if isinstance(value, torch.Tensor) else value


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


def _edges(begin: list[int], end: list[int]) -> list[int]:
    """Padding in torch's order: the last axis first, its two sides together."""
    return [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]


def _padded(x: torch.Tensor, kernel: list[int], attributes: dict, fill: float) -> tuple[torch.Tensor, list[int]]:
    """x and the symmetric padding left to do: where ONNX pads the two sides differently, x is padded here."""
    around = resolve_pads(attributes, kernel, tuple(x.shape[2:]))
    begin, end = around[: len(kernel)], around[len(kernel) :]
    if begin == end:
        return x, begin
    return F.pad(x, _edges(begin, end), value=fill), [0] * len(kernel)


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
    made = F.pad(made, _edges([-b for b in begin], [m - e for m, e in zip(more, end, strict=True)]))
    return made if bias is None else made + bias.view(-1, *[1] * count)


def max_pool(
    x, *, kernel_shape, strides=None, pads=None, dilations=None, ceil_mode=0, auto_pad="NOTSET", storage_order=0
):
    how = _how(x, strides, pads, dilations, auto_pad)
    x, padding = _padded(x, kernel_shape, how, -math.inf)
    if any(2 * p > k for p, k in zip(padding, kernel_shape, strict=True)):  # more than torch itself pads
        x, padding = F.pad(x, _edges(padding, padding), value=-math.inf), [0] * len(padding)
    return MAX_POOL[x.ndim](x, kernel_shape, how["strides"], padding, how["dilations"], bool(ceil_mode))


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


def _sums(x: torch.Tensor, kernel: list[int], how: dict, ceil_mode: int, edge: float = 0.0) -> torch.Tensor:
    """The sum of each window. edge: what the padding holds; what ceil_mode adds behind it holds 0."""
    around = resolve_pads(how, kernel, tuple(x.shape[2:]))
    begin, end = around[: len(kernel)], around[len(kernel) :]
    sizes = x.shape[2:]
    x = F.pad(x, _edges(begin, end), value=edge)
    beyond = []
    for axis, (size, stride, dilation) in enumerate(zip(kernel, how["strides"], how["dilations"], strict=True)):
        over = (x.shape[2 + axis] - (size - 1) * dilation - 1) % stride
        more = stride - over if ceil_mode and over else 0
        starts = x.shape[2 + axis] + more - (size - 1) * dilation - 1  # of the last window, in padded places
        beyond.append(0 if starts >= begin[axis] + sizes[axis] else more)  # none begins in the padding at the end
    x = F.pad(x, _edges([0] * len(beyond), beyond))
    ones = x.new_ones(1, 1, *kernel)
    out = CONV[x.ndim](x.flatten(0, 1)[:, None], ones, None, how["strides"], 0, how["dilations"])
    return out[:, 0].unflatten(0, x.shape[:2])


def global_average_pool(x):
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


def global_max_pool(x):
    return x.amax(tuple(range(2, x.ndim)), keepdim=True)


def global_lp_pool(x, *, p=2):
    return (x.abs() ** p).sum(tuple(range(2, x.ndim)), keepdim=True) ** (1 / p)


# Normalisation ------------------------------------------------------------------------------------------------------


def batch_normalization(x, scale, bias, mean, var, *, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1):
    if training_mode or not spatial:
        raise TypeError("batch normalisation in training mode")
    return F.batch_norm(x, mean, var, scale, bias, eps=epsilon)


def instance_normalization(x, scale, bias, *, epsilon=1e-5):
    if x.dtype == torch.bfloat16:  # as groups of one channel; its sums are less exact
        if x.ndim == 4 and x.shape[1] >= WIDE and x.is_contiguous(memory_format=torch.channels_last):
            # A view of one picture can have them last and yet strides by which torch does not see it, and copies.
            x = x.as_strided(x.shape, (x[0].numel(), 1, x.shape[3] * x.shape[1], x.shape[1]))
        made = F.group_norm(x, x.shape[1], scale.to(x.dtype), bias.to(x.dtype), epsilon)
        return made.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else made  # for what comes next
    return F.instance_norm(x, weight=scale, bias=bias, eps=epsilon)


def layer_normalization(x, scale, bias=None, *, axis=-1, epsilon=1e-5, stash_type=1):
    out = F.layer_norm(x, x.shape[axis:], eps=epsilon) * scale  # which may be smaller than what is normalised
    return out if bias is None else out + bias


def rms_normalization(x, scale, *, axis=-1, epsilon=1e-5, stash_type=1):
    axes = tuple(range(axis % x.ndim, x.ndim))
    return x / ((x * x).mean(axes, keepdim=True) + epsilon).sqrt() * scale


def group_normalization(x, scale, bias, *, num_groups, epsilon=1e-5, stash_type=1):
    """Before operator set 21 there was one scale and one bias for each group, and not for each channel."""
    if scale.numel() != x.shape[1]:
        scale, bias = (each.repeat_interleave(x.shape[1] // num_groups) for each in (scale, bias))
    return F.group_norm(x, num_groups, scale, bias, epsilon)


def mean_variance_normalization(x, *, axes=(0, 2, 3)):
    axes = tuple(axes)
    away = x - x.mean(axes, keepdim=True)
    return away / ((away * away).mean(axes, keepdim=True).sqrt() + 1e-9)


def lp_normalization(x, *, axis=-1, p=2):
    """Where all is zero, so is the result."""
    size = x.abs().sum(axis, keepdim=True) if p == 1 else (x * x).sum(axis, keepdim=True).sqrt()
    return torch.where(size == 0, torch.zeros_like(x), x / torch.where(size == 0, torch.ones_like(size), size))


def dropout(x, ratio=0.5, training_mode=None, *, seed=0):
    """x itself, and that all of it is kept."""
    if training_mode and ratio:
        raise TypeError("dropout in training mode")
    return x, torch.ones((), dtype=torch.bool).expand(x.shape)


def lrn(x, *, size, alpha=1e-4, beta=0.75, bias=1.0):
    """Krizhevsky 2012, section 3.3. torch's own spreads an even `size` the other way round."""
    before = (size - 1) // 2
    squares = F.pad(x * x, (*[0] * 2 * (x.ndim - 2), before, size - 1 - before))
    total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return x / (bias + alpha / size * total) ** beta


def softmax(x, *, axis=-1):
    return x.softmax(axis)


def log_softmax(x, *, axis=-1):
    return x.log_softmax(axis)


def hardmax(x, *, axis=-1):
    """1 at the first of the largest, 0 elsewhere."""
    return torch.zeros_like(x).scatter(axis, arg(torch.argmax)(x, axis=axis), 1)


def _flat(function: Callable) -> Callable:
    """Before operator set 13, a softmax flattened everything from `axis` on and took that as one vector."""
    return lambda x, *, axis=1: function(x.flatten(axis % x.ndim), axis=-1).view(x.shape)


def attention(
    q, k, v, mask=None, past_key=None, past_value=None, lengths=None, *, is_causal=0, kv_num_heads=None,
    q_num_heads=None, qk_matmul_output_mode=0, scale=None, softcap=0.0, softmax_precision=None,
):  # fmt: skip
    """Vaswani et al. 2017, arXiv:1706.03762, equation 1, for several heads; also with more queries than keys."""
    if lengths is not None:
        raise TypeError("attention over keys of given lengths")
    flat = q.ndim == 3
    if flat:
        q = q.unflatten(2, (q_num_heads, -1)).transpose(1, 2)
        k, v = (each.unflatten(2, (kv_num_heads, -1)).transpose(1, 2) for each in (k, v))
    if past_key is not None:
        k, v = torch.cat([past_key, k], 2), torch.cat([past_value, v], 2)
    present = k, v
    if q.shape[1] != k.shape[1]:
        k, v = (each.repeat_interleave(q.shape[1] // k.shape[1], 1) for each in (k, v))
    found = q @ k.transpose(2, 3) * (q.shape[3] ** -0.5 if scale is None else scale)
    if softcap:
        found = softcap * torch.tanh(found / softcap)
    if is_causal:
        first = 0 if past_key is None else past_key.shape[2]
        later = torch.ones(found.shape[2:], dtype=torch.bool, device=q.device).triu(1 + first)
        found = found.masked_fill(later, -math.inf)
    if mask is not None:
        missing = found.shape[3] - mask.shape[-1]
        if mask.dtype == torch.bool:
            found = found.masked_fill(~F.pad(mask, (0, missing)), -math.inf)
        else:
            found = found + F.pad(mask, (0, missing), value=-math.inf)
    weights = found.softmax(3).masked_fill(found.isneginf().all(3, keepdim=True), 0)  # a query that may look nowhere
    out = weights @ v
    return (out.transpose(1, 2).flatten(2) if flat else out), *present


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


def space_to_depth(x, *, blocksize, mode="DCR"):
    if mode == "CRD":
        return F.pixel_unshuffle(x, blocksize)
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


def expand(x, shape):
    return x.expand(torch.broadcast_shapes(x.shape, _ints(shape)))


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
            # Counted from the end where negative, and then not beyond the last place or the one before the first.
            start, end = (place + size if place < 0 else place for place in (start, end))
            places = list(range(min(max(start, -1), size - 1), min(max(end, -1), size - 1), step))
            x = x.index_select(axis, torch.tensor(places, dtype=torch.long))
    return x


def pad(x, pads, value=None, axes=None, *, mode="constant"):
    amounts, axes = _ints(pads), _ints(axes)
    axes = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
    begin, end = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(axes):
        begin[axis], end[axis] = amounts[place], amounts[place + len(axes)]
    if mode == "constant":
        fill = 0.0 if value is None else value.item() if isinstance(value, torch.Tensor) else value
        return F.pad(x, _edges(begin, end), value=fill)
    plain = x.ndim == 4 and x.is_floating_point() and not any(begin[:2] + end[:2]) and min(begin + end) >= 0
    if plain and (mode == "edge" or (mode == "reflect" and max(begin[2:] + end[2:]) < min(x.shape[2:]))):
        # As torch has it, which is twenty times as quick for maps with their channels last.
        with torch.autocast("cpu", enabled=False):  # which would take it to float32, though no number changes
            return F.pad(x, _edges(begin[2:], end[2:]), mode={"edge": "replicate", "reflect": "reflect"}[mode])
    places = {"edge": _edge, "reflect": _reflected, "wrap": _wrapped}[mode]
    for axis, (before, after) in enumerate(zip(begin, end, strict=True)):
        if before < 0 or after < 0:
            x = x.narrow(axis, max(-before, 0), x.shape[axis] + min(before, 0) + min(after, 0))
        if before > 0 or after > 0:
            wanted = torch.arange(-max(before, 0), x.shape[axis] + max(after, 0))
            x = x.index_select(axis, places(wanted, x.shape[axis]))
    return x


def _edge(places: torch.Tensor, size: int) -> torch.Tensor:
    return places.clamp(0, size - 1)


def _reflected(places: torch.Tensor, size: int) -> torch.Tensor:
    around = max(2 * (size - 1), 1)
    places = places % around
    return torch.minimum(places, around - places)


def _wrapped(places: torch.Tensor, size: int) -> torch.Tensor:
    return places % size


def center_crop_pad(x, shape, *, axes=None):
    """Cut or lengthened by zeros at both sides; of an odd number, the larger half at the end."""
    for axis, size in zip(axes or range(x.ndim), _ints(shape), strict=True):
        more = size - x.shape[axis]
        before = more // 2 if more >= 0 else -((-more) // 2)
        edges = [0] * (2 * (x.ndim - axis % x.ndim))
        edges[-2:] = before, more - before
        x = F.pad(x, edges)
    return x


def tile(x, repeats):
    return x.repeat(_ints(repeats))


def trilu(x, k=None, *, upper=1):
    return (torch.triu if upper else torch.tril)(x, 0 if k is None else int(k))


# Places -------------------------------------------------------------------------------------------------------------


def _counted(indices: torch.Tensor, size: int) -> torch.Tensor:
    """Places that are counted from the end where negative."""
    indices = indices.long()
    return torch.where(indices < 0, indices + size, indices)


def gather(x, indices, *, axis=0):
    indices = _counted(indices, x.shape[axis])
    out = x.index_select(axis, indices.reshape(-1))
    return out.reshape((*x.shape[: axis % x.ndim], *indices.shape, *x.shape[axis % x.ndim + 1 :]))


def gather_elements(x, indices, *, axis=0):
    return x.gather(axis, _counted(indices, x.shape[axis]))


def gather_nd(x, indices, *, batch_dims=0):
    depth = indices.shape[-1]
    batch = x.shape[:batch_dims]
    some, places = x.flatten(0, batch_dims - 1) if batch_dims else x[None], indices.long()
    places = places.reshape(len(some), -1, depth)
    parts = [_counted(places[..., d], some.shape[1 + d]) for d in range(depth)]
    rows = torch.arange(len(some))[:, None].expand(parts[0].shape)
    return some[(rows, *parts)].reshape((*batch, *indices.shape[batch_dims:-1], *x.shape[batch_dims + depth :]))


REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def scatter_elements(x, indices, updates, *, axis=0, reduction="none"):
    indices = _counted(indices, x.shape[axis])
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    return x.scatter_reduce(axis, indices, updates, REDUCTIONS[reduction], include_self=True)


def scatter_nd(x, indices, updates, *, reduction="none"):
    depth = indices.shape[-1]
    parts = [_counted(indices[..., d], x.shape[d]).reshape(-1) for d in range(depth)]
    flat = sum(part * math.prod(x.shape[d + 1 : depth]) for d, part in enumerate(parts))
    rows = x.reshape(math.prod(x.shape[:depth]), -1)
    new = updates.reshape(len(flat), -1)
    places = flat[:, None].expand(new.shape)
    if reduction == "none":
        return rows.scatter(0, places, new).view(x.shape)
    return rows.scatter_reduce(0, places, new, REDUCTIONS[reduction], include_self=True).view(x.shape)


def compress(x, condition, *, axis=None):
    places = condition.nonzero()[:, 0]
    return x.reshape(-1)[places] if axis is None else x.index_select(axis, places)


def top_k(x, k, *, axis=-1, largest=1, sorted=1):
    """The k largest or smallest, in order, and their places; of equal ones the first."""
    order = x.argsort(dim=axis, descending=bool(largest), stable=True).narrow(axis, 0, int(k))
    return x.gather(axis, order), order


def arg(function: Callable) -> Callable:
    """torch.argmax or argmin, with the first of several equal ones, or the last."""

    def found(x, *, axis=0, keepdims=1, select_last_index=0):
        if select_last_index:
            return x.shape[axis] - 1 - function(x.flip(axis), axis, keepdim=bool(keepdims))
        return function(x, axis, keepdim=bool(keepdims))

    return found


def one_hot(indices, depth, values, *, axis=-1):
    depth, (off, on) = int(depth), values
    places = _counted(indices, depth)
    axis = axis % (indices.ndim + 1)
    hot = places.unsqueeze(axis) == torch.arange(depth).view(-1, *[1] * (indices.ndim - axis))
    return torch.where(hot, on, off)


def cum_sum(x, axis, *, exclusive=0, reverse=0):
    axis = int(axis)
    x = x.flip(axis) if reverse else x
    total = x.cumsum(axis, dtype=x.dtype)
    total = total - x if exclusive else total
    return total.flip(axis) if reverse else total


# Sampling -----------------------------------------------------------------------------------------------------------


def resize(
    x, roi=None, scales=None, sizes=None, *, mode="nearest", coordinate_transformation_mode="half_pixel",
    nearest_mode="round_prefer_floor", antialias=0, axes=None, keep_aspect_ratio_policy="stretch",
    cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0,
):  # fmt: skip
    """Each axis by itself: every new place is a weighed sum of old ones. torch's interpolation where it is the same."""
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    given = None if sizes is None or sizes.numel() == 0 else sizes.tolist()
    if given is None:
        factors = scales.tolist()
        wanted = [math.floor(x.shape[axis] * f) for axis, f in zip(axes, factors, strict=True)]
    else:
        factors = [size / x.shape[axis] for axis, size in zip(axes, given, strict=True)]
        wanted = given
        if keep_aspect_ratio_policy != "stretch":
            factors = [(min if keep_aspect_ratio_policy == "not_larger" else max)(factors)] * len(axes)
            wanted = [math.floor(x.shape[axis] * f + 0.5) for axis, f in zip(axes, factors, strict=True)]
    new = dict(zip(axes, wanted, strict=True))
    by = dict(zip(axes, factors, strict=True))
    how = coordinate_transformation_mode
    if x.ndim == 4 and not antialias and {axis for axis in axes if by[axis] != 1} <= {2, 3}:
        size = [new.get(2, x.shape[2]), new.get(3, x.shape[3])]
        whole = all(by.get(2 + i, 1) * x.shape[2 + i] == size[i] for i in range(2))
        if mode == "nearest" and whole and not any(size[i] % x.shape[2 + i] for i in range(2)):
            if (how, nearest_mode) == ("asymmetric", "floor") or (how == "half_pixel" and "round" in nearest_mode):
                with torch.autocast("cpu", enabled=False):  # as in `pad`
                    return F.interpolate(x, size, mode="nearest")
        elif mode == "linear" and how == "align_corners":
            return F.interpolate(x, size, mode="bilinear", align_corners=True)
        elif mode == "linear" and whole and (how == "half_pixel" or (how == "pytorch_half_pixel" and 1 not in size)):
            return F.interpolate(x, size, mode="bilinear", align_corners=False)
    outside = None
    regions = None if roi is None or roi.numel() == 0 else roi.tolist()
    for number, axis in enumerate(axes):
        region = (0.0, 1.0) if regions is None else (regions[number], regions[number + len(axes)])
        old, made, factor = x.shape[axis], new[axis], by[axis]
        if (old == made and factor == 1) and how != "tf_crop_and_resize":
            continue
        places = _coordinates(how, old, made, factor, region)
        if mode == "nearest":
            near = torch.from_numpy(NEAREST[nearest_mode](places).clip(0, old - 1).astype(np.int64))
            x = x.index_select(axis, near)
        else:
            shrunk = min(factor, 1.0) if antialias else 1.0
            weights = _weights(places, old, mode, cubic_coeff_a, shrunk, bool(exclude_outside))
            x = (x.movedim(axis, -1) @ torch.from_numpy(weights).to(x).T).movedim(-1, axis)
        if how == "tf_crop_and_resize":
            beyond = torch.from_numpy((places < 0) | (places > old - 1)).view(-1, *[1] * (x.ndim - 1 - axis))
            outside = beyond if outside is None else outside | beyond
    return x if outside is None else torch.where(outside, torch.full_like(x[:1, :1], extrapolation_value), x)


NEAREST = {
    "round_prefer_floor": lambda places: np.ceil(places - 0.5),
    "round_prefer_ceil": lambda places: np.floor(places + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _coordinates(how: str, old: int, new: int, factor: float, region: tuple[float, float]) -> np.ndarray:
    """Where each of the `new` places lies among the `old` ones, on one axis."""
    # ONNX Runtime reckons in single precision, which decides where two places are equally near.
    out, factor = np.arange(new, dtype=np.float32), np.float32(factor)
    half = (out + np.float32(0.5)) / factor - np.float32(0.5)
    if how == "half_pixel":
        return half
    if how == "pytorch_half_pixel":
        return half if new > 1 else np.zeros(1, np.float32)
    if how == "half_pixel_symmetric":
        adjusted = np.float32(new) / (factor * np.float32(old))
        return np.float32(old / 2) * (1 - adjusted) + half
    if how == "asymmetric":
        return out / factor
    if how == "align_corners":
        return out * np.float32(old - 1) / np.float32(max(new - 1, 1))
    if how == "tf_half_pixel_for_nn":
        return (out + np.float32(0.5)) / factor
    if how == "tf_crop_and_resize":
        start, end = map(np.float32, region)
        if new == 1:
            return np.float32(0.5) * (start + end) * np.float32(old - 1) + 0 * out
        return start * np.float32(old - 1) + out * (end - start) * np.float32(old - 1) / np.float32(new - 1)
    raise TypeError(f"resizing with coordinates {how}")


def _weights(places: np.ndarray, old: int, mode: str, a: float, shrunk: float, inside: bool) -> np.ndarray:
    """(new, old): how much each old place counts for each new one, on one axis.

    shrunk: below 1, the window grows by 1 / shrunk, so that what is left out is averaged and not skipped. inside:
    whether places beyond the edge are left out, the others counting for them; else the edge stands for them.
    """
    reach = {"linear": 1, "cubic": 2}[mode]
    kernel = _linear if mode == "linear" else functools.partial(_cubic, a=a)
    weights = np.zeros((len(places), old))
    for row, place in enumerate(places.astype(np.float64)):
        first, last = math.floor(place - reach / shrunk) + 1, math.ceil(place + reach / shrunk)
        taps = np.arange(first, max(last, first + 1))
        amounts = kernel(np.abs(taps - place) * shrunk)
        if inside:
            amounts = np.where((taps >= 0) & (taps < old), amounts, 0.0)
        if inside or shrunk < 1:
            amounts = amounts / amounts.sum()
        np.add.at(weights[row], taps.clip(0, old - 1), amounts)
    return weights


def _linear(away: np.ndarray) -> np.ndarray:
    return np.clip(1 - away, 0, None)


def _cubic(away: np.ndarray, a: float) -> np.ndarray:
    """Keys 1981, equation 4."""
    near = ((a + 2) * away - (a + 3)) * away**2 + 1
    far = a * (((away - 5) * away + 8) * away - 4)
    return np.where(away <= 1, near, np.where(away < 2, far, 0.0))


def upsample(x, scales, *, mode="nearest"):
    """Upsample, and Resize as it was in operator set 10."""
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return resize(x, None, torch.as_tensor(scales), mode={"bilinear": "linear"}.get(mode, mode), **how)


def affine_grid(theta, size, *, align_corners=0):
    return F.affine_grid(theta, _ints(size), align_corners=bool(align_corners))


def grid_sample(x, grid, *, mode="linear", padding_mode="zeros", align_corners=0):
    how = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(x, grid, how, padding_mode, bool(align_corners))


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
    if transB and not transA and not b.requires_grad and b.is_floating_point():
        out = Linear.apply(a, b)
    else:
        out = (a.T if transA else a) @ (b.T if transB else b)
    out = out if alpha == 1 else alpha * out
    return out if c is None else out + (c if beta == 1 else beta * c)


def einsum(*xs, equation):
    return torch.einsum(equation.replace(" ", ""), *xs)


def clip(x, low=None, high=None, *, min=None, max=None):
    low, high = (min if low is None else low), (max if high is None else high)
    return x if low is None and high is None else torch.clamp(x, low, high)


def reduce(function: Callable) -> Callable:
    def reduced(x, axes=None, *, keepdims=1, noop_with_empty_axes=0):
        axes = _ints(axes)
        if not axes:
            if noop_with_empty_axes:
                return function(x, ()) if function in POINTWISE_WHEN_EMPTY else x
            axes = list(range(x.ndim))
        return function(x, tuple(axes), keepdim=bool(keepdims))

    return reduced


def _prod(x, axes, keepdim=True):
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def _sum(x, axes, keepdim=True):
    """In x's own type, which for whole numbers is not torch's rule; over no axes it is x."""
    return x.sum(axes, keepdim=keepdim, dtype=x.dtype) if axes else x


def _mean(x, axes, keepdim=True):
    return x.mean(axes, keepdim=keepdim) if x.is_floating_point() else _sum(x, axes, keepdim)


def _sum_of(before: Callable, after: Callable = lambda x: x) -> Callable:
    return lambda x, axes, keepdim=True: after(_sum(before(x), axes, keepdim))


_l1, _squares = _sum_of(torch.abs), _sum_of(torch.square)
_l2, _log_sum = _sum_of(torch.square, torch.sqrt), _sum_of(lambda x: x, torch.log)


def _log_sum_exp(x, axes, keepdim=True):
    return torch.logsumexp(x, axes, keepdim=keepdim) if axes else x


def _extreme(function: Callable, of_none: float) -> Callable:
    """The largest or smallest; of no numbers at all, the one that changes no other, as far as the type goes."""

    def found(x, axes, keepdim=True):
        if x.numel():
            return function(x, axes, keepdim=keepdim)
        if x.dtype == torch.bool:
            end = of_none > 0
        elif x.is_floating_point():
            end = of_none
        else:
            end = torch.iinfo(x.dtype).max if of_none > 0 else torch.iinfo(x.dtype).min
        return torch.full(x.sum(axes, keepdim=keepdim).shape, end, dtype=x.dtype)

    return found


POINTWISE_WHEN_EMPTY = frozenset([_l1, _l2, _log_sum, _squares])  # over no axes these still change each number


def variadic(function: Callable) -> Callable:
    """Of two or more tensors, or of one, which it is."""
    return lambda *xs: functools.reduce(function, xs)


def div(a, b):
    return a / b if a.is_floating_point() or b.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def mod(a, b, *, fmod=0):
    return torch.fmod(a, b) if fmod else torch.remainder(a, b)


def power(x, exponent):
    """In x's own type."""
    return torch.pow(x, exponent).to(x.dtype)


def dequantize_linear(x, scale, zero=None, *, axis=1, block_size=0, output_dtype=0):
    """What whole numbers stand for, by one scale, one for each place on an axis, or one for each block of places."""
    if block_size:
        scale = scale.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
        zero = None if zero is None else zero.repeat_interleave(block_size, axis).narrow(axis, 0, x.shape[axis])
    elif scale.ndim == 1 and x.ndim:
        along = [-1 if a == axis % x.ndim else 1 for a in range(x.ndim)]
        scale, zero = scale.view(along), None if zero is None else zero.view(along)
    x = x.to(scale.dtype)
    return (x if zero is None else x - zero.to(scale.dtype)) * scale


def shrink(x, *, bias=0.0, lambd=0.5):
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, torch.zeros_like(x)))


def is_inf(x, *, detect_negative=1, detect_positive=1):
    return (torch.isposinf(x) & bool(detect_positive)) | (torch.isneginf(x) & bool(detect_negative))


def selu(x, *, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875):
    return gamma * torch.where(x > 0, x, alpha * torch.expm1(x.clamp(max=0)))


def constant(*, value=None, value_float=None, value_int=None, value_floats=None, value_ints=None):
    if value is not None:
        return torch.from_numpy(np.array(value))
    given = next(v for v in (value_float, value_int, value_floats, value_ints) if v is not None)
    return torch.tensor(given)


def constant_of_shape(shape, *, value=None):
    return torch.zeros(_ints(shape)) if value is None else torch.from_numpy(np.array(value)).expand(_ints(shape))


# Half precision, 10 and 16, is computed in single: the file's rounding would only make gradients coarse.
TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float32, 11: torch.float64, 16: torch.float32,
}  # fmt: skip


def _type(number: int) -> torch.dtype:
    if number not in TYPES:
        raise TypeError(f"ONNX's type {number}")
    return TYPES[number]


def cast(x, *, to, **rest):
    return x.to(_type(to))


def eye_like(x, *, dtype=None, k=0):
    ones = torch.ones_like(x, dtype=x.dtype if dtype is None else _type(dtype))
    return ones.triu(k).tril(k)


OPS: dict[str, Callable] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Add": torch.add,
    "AffineGrid": affine_grid,
    "And": torch.logical_and,
    "ArgMax": arg(torch.argmax),
    "ArgMin": arg(torch.argmin),
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Attention": attention,
    "AveragePool": average_pool,
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "CastLike": lambda x, like, **rest: x.to(like.dtype),
    "Ceil": torch.ceil,
    "Celu": lambda x, *, alpha=1.0: F.celu(x, alpha),
    "CenterCropPad": center_crop_pad,
    "Clip": clip,
    "Compress": compress,
    "Concat": lambda *xs, axis=1: torch.cat(xs, axis),
    "Constant": constant,
    "ConstantOfShape": constant_of_shape,
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "CumSum": cum_sum,
    "DepthToSpace": depth_to_space,
    "DequantizeLinear": dequantize_linear,
    "Div": div,
    "Dropout": dropout,
    "Einsum": einsum,
    "Elu": lambda x, *, alpha=1.0: F.elu(x, alpha),
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": expand,
    "EyeLike": eye_like,
    "Flatten": flatten,
    "Floor": torch.floor,
    "Gather": gather,
    "GatherElements": gather_elements,
    "GatherND": gather_nd,
    "Gelu": lambda x, *, approximate="none": F.gelu(x, approximate=approximate),
    "Gemm": gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalLpPool": global_lp_pool,
    "GlobalMaxPool": global_max_pool,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "GridSample": grid_sample,
    "GroupNormalization": group_normalization,
    "HardSigmoid": lambda x, *, alpha=0.2, beta=0.5: torch.clamp(alpha * x + beta, 0, 1),
    "HardSwish": F.hardswish,
    "Hardmax": hardmax,
    "Identity": lambda x: x,
    "InstanceNormalization": instance_normalization,
    "IsInf": is_inf,
    "IsNaN": torch.isnan,
    "LRN": lrn,
    "LayerNormalization": layer_normalization,
    "LeakyRelu": lambda x, *, alpha=0.01: F.leaky_relu(x, alpha),
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalization,
    "LpPool": lp_pool,
    "MatMul": torch.matmul,
    "Max": variadic(torch.maximum),
    "MaxPool": max_pool,
    "Mean": lambda *xs: sum(xs[1:], xs[0]) / len(xs),
    "MeanVarianceNormalization": mean_variance_normalization,
    "Min": variadic(torch.minimum),
    "Mish": F.mish,
    "Mod": mod,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "NonZero": lambda x: x.nonzero().T,
    "Not": torch.logical_not,
    "OneHot": one_hot,
    "Or": torch.logical_or,
    "PRelu": lambda x, slope: torch.where(x < 0, slope * x, x),
    "Pad": pad,
    "Pow": power,
    "RMSNormalization": rms_normalization,
    "Range": lambda start, limit, delta: torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype),
    "Reciprocal": torch.reciprocal,
    "ReduceL1": reduce(_l1),
    "ReduceL2": reduce(_l2),
    "ReduceLogSum": reduce(_log_sum),
    "ReduceLogSumExp": reduce(_log_sum_exp),
    "ReduceMax": reduce(_extreme(torch.amax, -math.inf)),
    "ReduceMean": reduce(_mean),
    "ReduceMin": reduce(_extreme(torch.amin, math.inf)),
    "ReduceProd": reduce(_prod),
    "ReduceSum": reduce(_sum),
    "ReduceSumSquare": reduce(_squares),
    "Relu": torch.relu,
    "Reshape": reshape,
    "Resize": resize,
    "Round": torch.round,
    "ScatterElements": scatter_elements,
    "ScatterND": scatter_nd,
    "Scatter": scatter_elements,
    "Selu": selu,
    "Shape": lambda x, *, start=0, end=None: torch.tensor(x.shape[start:end], dtype=torch.int64),
    "Shrink": shrink,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Size": lambda x: torch.tensor(x.numel()),
    "Slice": slice_,
    "Softmax": softmax,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Sqrt": torch.sqrt,
    "Squeeze": squeeze,
    "Sub": torch.sub,
    "Sum": lambda *xs: sum(xs[1:], xs[0]),
    "Swish": lambda x, *, alpha=1.0: x * torch.sigmoid(alpha * x),
    "Tan": torch.tan,
    "Tanh": torch.tanh,
    "ThresholdedRelu": lambda x, *, alpha=1.0: torch.where(x > alpha, x, torch.zeros_like(x)),
    "Tile": tile,
    "TopK": top_k,
    "Transpose": transpose,
    "Trilu": trilu,
    "Unsqueeze": unsqueeze,
    "Upsample": upsample,
    "Where": torch.where,
    "Xor": torch.logical_xor,
}

# Ops that meant something else: before which operator set, and what.
OLD: dict[str, tuple[int, Callable]] = {
    "Hardmax": (13, _flat(hardmax)),
    "LogSoftmax": (13, _flat(log_softmax)),
    "Resize": (11, upsample),
    "Softmax": (13, _flat(softmax)),
}

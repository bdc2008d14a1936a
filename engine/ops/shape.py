"""What do the operators compute that only move numbers about: shapes, pieces, padding?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from engine.ops.windows import edges


def ints(value: torch.Tensor | list[int] | None) -> list[int] | None:
    """What newer operator sets take as a tensor and older ones as an attribute."""
    return value.tolist() if isinstance(value, torch.Tensor) else value


# Shapes -------------------------------------------------------------------------------------------------------------


def reshape(x, shape, *, allowzero=0):
    shape = ints(shape)
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
    axes = ints(axes)
    return x.squeeze() if axes is None else x.squeeze(tuple(axes))


def unsqueeze(x, axes):
    axes = ints(axes)
    for axis in sorted(a % (x.ndim + len(axes)) for a in axes):
        x = x.unsqueeze(axis)
    return x


def expand(x, shape):
    return x.expand(torch.broadcast_shapes(x.shape, ints(shape)))


def split(x, split=None, *, axis=0, num_outputs=None):
    sizes = ints(split)
    if sizes is None:
        if num_outputs is None:
            raise TypeError("a split into equal parts that does not say how many")
        size = -(-x.shape[axis] // num_outputs)
        return tuple(x.split(size, axis))
    return tuple(x.split(sizes, axis))


def slice_(x, starts, ends, axes=None, steps=None):
    starts, ends = ints(starts), ints(ends)
    axes = ints(axes) or list(range(len(starts)))
    for axis, start, end, step in zip(axes, starts, ends, ints(steps) or [1] * len(starts), strict=True):
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
    amounts, axes = ints(pads), ints(axes)
    axes = list(range(x.ndim)) if axes is None else [a % x.ndim for a in axes]
    begin, end = [0] * x.ndim, [0] * x.ndim
    for place, axis in enumerate(axes):
        begin[axis], end[axis] = amounts[place], amounts[place + len(axes)]
    if mode == "constant":
        fill = 0.0 if value is None else value.item() if isinstance(value, torch.Tensor) else value
        return F.pad(x, edges(begin, end), value=fill)
    plain = x.ndim == 4 and x.is_floating_point() and not any(begin[:2] + end[:2]) and min(begin + end) >= 0
    if plain and (mode == "edge" or (mode == "reflect" and max(begin[2:] + end[2:]) < min(x.shape[2:]))):
        # As torch has it, which is twenty times as quick for maps with their channels last.
        with torch.autocast("cpu", enabled=False):  # which would take it to float32, though no number changes
            return F.pad(x, edges(begin[2:], end[2:]), mode={"edge": "replicate", "reflect": "reflect"}[mode])
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
    for axis, size in zip(axes or range(x.ndim), ints(shape), strict=True):
        more = size - x.shape[axis]
        before = more // 2 if more >= 0 else -((-more) // 2)
        edges = [0] * (2 * (x.ndim - axis % x.ndim))
        edges[-2:] = before, more - before
        x = F.pad(x, edges)
    return x


def tile(x, repeats):
    return x.repeat(ints(repeats))


def trilu(x, k=None, *, upper=1):
    return (torch.triu if upper else torch.tril)(x, 0 if k is None else int(k))

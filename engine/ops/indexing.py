"""What do the operators compute that go by places: gather, scatter, sort, count?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

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

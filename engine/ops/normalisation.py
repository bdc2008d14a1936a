"""What do normalisations, softmax and attention compute?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from engine.ops.indexing import arg
from engine.ops.windows import WIDE

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


def flattened(function: Callable) -> Callable:
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

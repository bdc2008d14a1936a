"""What do sums, products, reductions and constants compute?"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from engine.ops.shape import ints

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
        axes = ints(axes)
        if not axes:
            if noop_with_empty_axes:
                return function(x, ()) if function in POINTWISE_WHEN_EMPTY else x
            axes = list(range(x.ndim))
        return function(x, tuple(axes), keepdim=bool(keepdims))

    return reduced


def product(x, axes, keepdim=True):
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def total(x, axes, keepdim=True):
    """In x's own type, which for whole numbers is not torch's rule; over no axes it is x."""
    return x.sum(axes, keepdim=keepdim, dtype=x.dtype) if axes else x


def mean_over(x, axes, keepdim=True):
    return x.mean(axes, keepdim=keepdim) if x.is_floating_point() else total(x, axes, keepdim)


def _sum_of(before: Callable, after: Callable = lambda x: x) -> Callable:
    return lambda x, axes, keepdim=True: after(total(before(x), axes, keepdim))


l1, squares = _sum_of(torch.abs), _sum_of(torch.square)
l2, log_sum = _sum_of(torch.square, torch.sqrt), _sum_of(lambda x: x, torch.log)


def log_sum_exp(x, axes, keepdim=True):
    return torch.logsumexp(x, axes, keepdim=keepdim) if axes else x


def extreme(function: Callable, of_none: float) -> Callable:
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


POINTWISE_WHEN_EMPTY = frozenset([l1, l2, log_sum, squares])  # over no axes these still change each number


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
    return torch.zeros(ints(shape)) if value is None else torch.from_numpy(np.array(value)).expand(ints(shape))


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

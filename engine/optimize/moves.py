"""How does a picture step uphill, once its gradient is known?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Move = Callable[[torch.Tensor, torch.Tensor, Any], tuple[torch.Tensor, Any]]  # x, gradient, memory → x, memory


# How to step ----------------------------------------------------------------------------------------------------------


def by_gradient(rate: float) -> Move:
    """x + rate · gradient."""
    return lambda x, gradient, memory: (x + rate * gradient, None)


def by_direction(rate: float) -> Move:
    """x + rate · gradient, brought to a mean absolute value of 1 in each picture.

    So the step's size hangs neither on the network's scale nor on how far the climb has come (Mordvintsev 2015).
    """

    def move(x, gradient, memory):
        size = gradient.abs().mean(tuple(range(1, x.ndim)), keepdim=True)
        return x + rate * gradient / size.clamp(min=1e-20), None

    return move


def by_sign(rate: float) -> Move:
    """x + rate · sign of the gradient (Goodfellow 2014)."""
    return lambda x, gradient, memory: (x + rate * gradient.sign(), None)


def by_length(rate: float) -> Move:
    """x + rate · gradient, brought to an L2 norm of 1 in each picture."""

    def move(x, gradient, memory):
        size = gradient.flatten(1).norm(dim=1)[:, None, None, None]
        return x + rate * gradient / size.clamp(min=1e-20), None

    return move


def by_adam(rate: float, decays: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> Move:
    """Kingma & Ba 2014, arXiv:1412.6980, algorithm 1."""

    def move(x, gradient, memory):
        first, second, count = memory or (torch.zeros_like(x), torch.zeros_like(x), 0)
        count += 1
        first = torch.lerp(first, gradient, 1 - decays[0])
        second = torch.lerp(second, gradient * gradient, 1 - decays[1])
        step = first / (1 - decays[0] ** count)
        return x + rate * step / ((second / (1 - decays[1] ** count)).sqrt() + epsilon), (first, second, count)

    return move


def by_lbfgs(rate: float = 1.0, history: int = 20) -> Move:
    """Limited-memory BFGS without a search along the line, as torch's: Nocedal & Wright 2006, algorithm 7.4.

    All pictures of a batch are one x to it. history: how many steps it remembers, each as large as two pictures.
    """

    def move(x, gradient, memory):
        up = gradient.flatten()
        before, pairs = memory or (None, ())
        if before is not None:
            moved, turned = x.flatten() - before[0], before[1] - up  # of the loss, whose gradient is -up
            if (bend := float(moved @ turned)) > 1e-10:
                pairs = (*pairs, (moved, turned, bend))[-history:]
        direction, shares = up.clone(), []
        for moved, turned, bend in reversed(pairs):
            shares.append(float(moved @ direction) / bend)
            direction.sub_(turned, alpha=shares[-1])
        if pairs:
            moved, turned, bend = pairs[-1]
            direction.mul_(bend / float(turned @ turned))
        for (moved, turned, bend), share in zip(pairs, reversed(shares), strict=True):
            direction.add_(moved, alpha=share - float(turned @ direction) / bend)
        first = min(1.0, 1 / max(float(up.abs().sum()), 1e-20)) if before is None else 1.0
        return x + rate * first * direction.view_as(x), ((x.flatten(), up), pairs)

    return move

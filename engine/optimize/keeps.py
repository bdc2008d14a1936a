"""Where does a picture stay while it climbs, and what does it pay?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

Keep = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]  # x, gradient, step → x
Penalty = Callable[[torch.Tensor], torch.Tensor]  # pixels (B, C, H, W) → (B,), taken off the score


# Where to stay --------------------------------------------------------------------------------------------------------


def both(*keeps: Keep) -> Keep:
    """One after the other."""

    def keep(x, gradient, index):
        for each in keeps:
            x = each(x, gradient, index)
        return x

    return keep


def in_range(x: torch.Tensor, gradient: torch.Tensor, index: int) -> torch.Tensor:
    """Pixels stay pixels: clipped to [0, 1]."""
    return x.clamp(0, 1)


def in_ball(centre: torch.Tensor, epsilon: float, norm: str) -> Keep:
    """Pixels that are no farther than epsilon from `centre`, in "L∞" or "L2", and in [0, 1].

    In L2 the range is kept first: from inside of it, the straight way back to the centre does not leave it.
    """

    def keep(x, gradient, index):
        if norm == "L∞":
            return torch.clamp(x, centre - epsilon, centre + epsilon).clamp(0, 1)
        change = x.clamp(0, 1) - centre
        size = change.flatten(1).norm(dim=1)[:, None, None, None]
        return centre + change * (epsilon / size.clamp(min=1e-20)).clamp(max=1)

    return keep


def decayed(share: float, towards: torch.Tensor) -> Keep:
    """A share of the way back to a colour (C, 1, 1) after each step: L2 decay."""
    return lambda x, gradient, index: x + share * (towards - x)


def blurred(width: float, every: int) -> Keep:
    """A Gaussian blur of that standard deviation, in pixels, after every so many steps."""

    def keep(x, gradient, index):
        return gaussian(x, width) if width and (index + 1) % every == 0 else x

    return keep


def gaussian(x: torch.Tensor, width: float) -> torch.Tensor:
    """Blur (B, C, H, W) by a Gaussian of that standard deviation; edges are repeated."""
    reach = max(1, math.ceil(3 * width))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype) / width) ** 2)
    line = (line / line.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), line, groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), line.transpose(2, 3), groups=x.shape[1])


def without_small(norm: float, contribution: float, towards: torch.Tensor) -> Keep:
    """Pixels of a small norm, or of a small contribution to the score, go to a colour (C, 1, 1).

    norm, contribution: which share of the pixels, in [0, 1), by the distance from that colour and by |distance ·
    gradient| (Yosinski 2015, section 3).
    """

    def keep(x, gradient, index):
        away = x - towards
        for share, size in ((norm, (away**2).sum(1)), (contribution, (away * gradient).sum(1).abs())):
            if share:
                limit = torch.quantile(size.flatten(1), share, dim=1)[:, None, None]
                x = torch.where((size > limit)[:, None], x, towards)
        return x

    return keep


# What a picture costs -------------------------------------------------------------------------------------------------


def total_variation(pixels: torch.Tensor, power: float = 2.0) -> torch.Tensor:
    """(B,): mean over the places of (Δrow² + Δcol²)^(power/2), added over the channels.

    Mahendran & Vedaldi 2014, arXiv:1412.0035, equation 3, whose β is `power`, divided by the number of pixels.
    """
    down, right = pixels[:, :, 1:, :-1] - pixels[:, :, :-1, :-1], pixels[:, :, :-1, 1:] - pixels[:, :, :-1, :-1]
    squares = down**2 + right**2
    squares = squares if power == 2 else (squares + 1e-12) ** (power / 2)
    return squares.mean((2, 3)).sum(1)


def alpha_norm(pixels: torch.Tensor, mean: torch.Tensor, power: float = 6.0) -> torch.Tensor:
    """(B,): mean over the places of |pixel - mean|^power, added over the channels. The same paper, section 3.2."""
    return ((pixels - mean).abs() ** power).mean((2, 3)).sum(1)

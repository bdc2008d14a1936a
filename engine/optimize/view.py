"""What is the network shown of a picture that is being made? Never twice quite the same.

A pattern that only works at one place, size and angle is no pattern that the network looks for: Mordvintsev 2015
(jitter), and Olah et al. 2017, on robustness to transformations.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from engine.optimize.ascend import View, drawn


def shifted(most: int, seed: int = 0) -> View:
    """Up to so many pixels along both axes; what leaves on one side comes in on the other."""

    def view(pixels: torch.Tensor, index: int) -> torch.Tensor:
        by = tuple(drawn(seed, index).integers(-most, most + 1, 2))
        return torch.roll(pixels, by, (2, 3)) if most else pixels

    return view


def robust(*, jitter: float = 8, scale: float = 0.1, rotate: float = 10, seed: int = 0) -> View:
    """Shifted, enlarged or reduced, and turned at random, all in one resampling (bilinear, edges mirrored).

    jitter: pixels along both axes at most. scale: share by which it is larger or smaller at most. rotate: degrees at
    most. Each uniform; the same for all pictures of a batch. The size stays, unlike in Lucid, whose nets take any.
    """
    if not scale and not rotate:
        return shifted(round(jitter), seed)

    def view(pixels: torch.Tensor, index: int) -> torch.Tensor:
        random = drawn(seed, index)
        down, right = random.uniform(-jitter, jitter, 2)
        larger, angle = 1 + random.uniform(-scale, scale), math.radians(random.uniform(-rotate, rotate))
        height, width = pixels.shape[2:]
        across, along = math.cos(angle) / larger, math.sin(angle) / larger
        turn = torch.tensor([
            [across, -along * height / width, 2 * right / width],
            [along * width / height, across, 2 * down / height],
        ], dtype=pixels.dtype)  # fmt: skip
        grid = F.affine_grid(turn.expand(len(pixels), 2, 3), list(pixels.shape), align_corners=False)
        return F.grid_sample(pixels, grid, "bilinear", "reflection", align_corners=False)

    return view

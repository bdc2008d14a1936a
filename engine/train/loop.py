"""What do all trainings share: pieces of pictures, and losses beside what they were at first?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from engine import image as pictures


def relative(got: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Squared distance as a share of what is wanted, per picture, in the mean: 0 where they agree, 1 for all zeros."""
    off = (got - wanted).square().flatten(1).sum(1)
    return (off / wanted.square().flatten(1).sum(1).clamp_min(1e-12)).mean()


def crops(data: Sequence[bytes], rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """(count, 3, size, size): pictures drawn at random, a random square of each, half of them mirrored."""
    drawn = []
    for index in rng.integers(len(data), size=count):
        whole = pictures.load(data[index])
        height, width = whole.shape[:2]
        side = min(height, width, int(size * rng.uniform(1.0, 1.25)))  # not always at the same scale
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        part = pictures.fit(whole[top : top + side, left : left + side], (size, size))[0]
        drawn.append(part[:, ::-1] if rng.random() < 0.5 else part)
    return pictures.batch(*drawn)

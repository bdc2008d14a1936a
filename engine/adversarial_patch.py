"""Can a sticker make the network see one thing wherever it lies? A patch that is trained over pictures and places.

Brown et al. 2017, arXiv:1712.09665, equation 1: the expected log-probability of the class is climbed over pictures,
places, scales and turns. The patch is round, as theirs, and covers what it lies on. Ours departs: Adam, and a few
pictures a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from engine.adversarial import eight_bit, log_probability
from engine.net import Net
from engine.step import Step, last

if TYPE_CHECKING:
    from engine.optimize import Climb

SIDE = 64  # pixels of a patch


def adversarial_patch(
    net: Net,
    images: np.ndarray,
    target: int,
    *,
    steps: int = 150,
    batch: int = 4,
    rate: float = 0.05,
    share: tuple[float, float] = (0.3, 0.5),
    turn: float = 22.5,
    seed: int = 0,
) -> Climb:
    """A patch that makes pictures be taken for a class, wherever it is pasted.

    images: (N, H, W, C) pixels of the net's own size, to train on. target: the class. steps: of the climb. batch:
    pictures a step. rate: Adam's. share: the patch's side as a share of the picture's shorter one, from and to. turn:
    degrees at most, either way. seed: of all that is drawn.
    Returns Climb; its picture is the patch, (SIDE, SIDE, C), whose corners are of no account; its scores are the
    pictures' log-probabilities with the patch on.
    Raises UnknownClass, NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(adversarial_patch_steps(**knobs))


def adversarial_patch_steps(
    net: Net,
    images: np.ndarray,
    target: int,
    *,
    steps: int = 150,
    batch: int = 4,
    rate: float = 0.05,
    share: tuple[float, float] = (0.3, 0.5),
    turn: float = 22.5,
    seed: int = 0,
    resume: Climb | None = None,
) -> Iterator[Step]:
    """`adversarial_patch`, a Step with a Climb after each; resume: go on from one of the same run."""
    import torch

    from engine import optimize

    if not len(images):
        raise ValueError("A patch is trained on pictures; give at least one.")
    k, pictures = net.class_index(target), optimize.tensor(net.stack(*images))

    def view(patch: torch.Tensor, index: int) -> torch.Tensor:
        random = optimize.drawn(seed, index)
        chosen = random.integers(len(pictures), size=batch)
        places = [drawn(random, net.input_size, share, turn) for _ in chosen]
        return torch.cat([pasted(pictures[i : i + 1], patch, place) for i, place in zip(chosen, places, strict=True)])

    yield from optimize.ascend(
        log_probability(net, [k] * batch),
        torch.full((1, net.channels, SIDE, SIDE), 0.5),
        net=net,
        steps=steps,
        move=optimize.by_adam(rate),
        view=view,
        keep=optimize.in_range,
        resume=resume,
    )


def drawn(random: np.random.Generator, size: tuple[int, int], share: Sequence[float], turn: float) -> tuple:
    """(row, col, side, degrees): the middle of a patch in a picture of that size (H, W), so that it lies inside."""
    side = random.uniform(*share) * min(size)
    row, col = (random.uniform(side / 2, whole - side / 2) for whole in size)
    return row, col, side, random.uniform(-turn, turn)


def pasted(pictures, patch, place: tuple[float, float, float, float]):
    """Pictures (B, C, H, W) with a patch (1, C, n, n) on them, in torch; differentiable in both.

    place: row and column of its middle and its side, in pixels, and degrees that it is turned by.
    """
    import torch
    import torch.nn.functional as F

    row, col, side, degrees = place
    height, width = pictures.shape[2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # From the picture's coordinates, -1 to 1 along both axes, to the patch's.
    right, down = width / side, height / side
    middle = (2 * col / width - 1, 2 * row / height - 1)
    turn = torch.tensor([[cos * right, sin * down, 0.0], [-sin * right, cos * down, 0.0]])
    turn[:, 2] = -turn[:, :2] @ torch.tensor(middle)
    grid = F.affine_grid(turn[None], [1, 1, height, width], align_corners=False)
    laid = F.grid_sample(patch, grid, "bilinear", "border", align_corners=False)
    # A round edge, one pixel soft: whether a pixel is covered changes gradually, and nothing is aliased.
    cover = ((1 - grid.norm(dim=3)) * side / 2).clamp(0, 1)[:, None]
    return pictures * (1 - cover) + laid * cover


def with_patch(image: np.ndarray, patch: np.ndarray, place: tuple[float, float, float, float]) -> np.ndarray:
    """(H, W, C) in 8 bits: a picture with a patch on it, both (·, ·, C); place as in `pasted`."""
    from engine import optimize

    return eight_bit(optimize.shown(pasted(optimize.tensor(image), optimize.tensor(patch), place))[0])

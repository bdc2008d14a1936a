"""Can a sticker make the network see one thing wherever it lies? A patch that is trained over pictures and places.

Brown et al. 2017, arXiv:1712.09665, equation 1: the expected log-probability of the class is climbed over pictures,
places, scales and turns. The patch is round, as theirs, and covers what it lies on. Ours departs in two ways: a few
pictures a step, by Adam, and on the patch's spectrum (engine/optimize/canvas.py), which takes about half the steps that
pixels do. It is for understanding and testing one's own networks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from engine.data.dataset import Dataset
from engine.data.examples import examples
from engine.fool.adversarial import eight_bit, log_probability
from engine.net import Net, softmax
from engine.statistics import share_interval
from engine.step import Step, last

if TYPE_CHECKING:
    from engine.optimize.ascend import Climb

SIDE = 64  # pixels of a patch
PRINT = 1200  # pixels of one for printing: 10 cm at 300 dots per inch
SHARE, TURN = (0.3, 0.5), 22.5
WITH = ("the patch", "shuffled pixels", "nothing")  # what is measured: the patch, and two that it is compared with


# Training -------------------------------------------------------------------------------------------------------------


def adversarial_patch(
    net: Net,
    images: np.ndarray,
    target: int,
    *,
    steps: int = 150,
    batch: int = 4,
    rate: float = 0.1,
    share: tuple[float, float] = SHARE,
    turn: float = TURN,
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
    rate: float = 0.1,
    share: tuple[float, float] = SHARE,
    turn: float = TURN,
    seed: int = 0,
    resume: Climb | None = None,
) -> Iterator[Step]:
    """`adversarial_patch`, a Step with a Climb after each; resume: go on from one of the same run."""
    import torch

    from engine.optimize import ascend, moves
    from engine.optimize.canvas import waves

    if not len(images):
        raise ValueError("A patch is trained on pictures; give at least one.")
    _check(share)
    k, pictures = net.class_index(target), ascend.tensor(net.stack(*images))
    paper = waves((SIDE, SIDE), net.channels)

    def view(patch: torch.Tensor, index: int) -> torch.Tensor:
        random = ascend.drawn(seed, index)
        chosen = random.integers(len(pictures), size=batch)
        places = [drawn(random, net.input_size, share, turn) for _ in chosen]
        return torch.cat([pasted(pictures[i : i + 1], patch, place) for i, place in zip(chosen, places, strict=True)])

    yield from ascend.ascend(
        log_probability(net, [k] * batch),
        paper.hide(torch.full((1, net.channels, SIDE, SIDE), 0.5)),
        net=net,
        steps=steps,
        move=moves.by_adam(rate),
        through=paper.show,
        view=view,
        resume=resume,
    )


def parted(
    data: Dataset, net: Net, target: int, *, pictures: int = 64, held: int = 100, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of a set to train on, and others to measure on; those of the class itself are left out.

    pictures, held: how many of each are drawn by lot before that; of a small set, no more than two thirds are for
    training. seed: of the lot.
    Returns (N, H, W, C) and (M, H, W, C) of the net's own size.
    Raises BadDataset, UnknownClass, ValueError.
    """
    k = net.class_index(target)
    pictures = min(pictures, max(2 * len(data) // 3, 1))
    found = examples(data, net, pictures + held, seed=seed)
    other, first = found.classes != k, np.arange(len(found)) < pictures
    if not (other & first).any() or not (other & ~first).any():
        raise ValueError(
            f"There are too few pictures in {data.name} that are not {net.labels[k]} already: choose another class, or "
            "more pictures."
        )
    return found.pixels[other & first], found.pixels[other & ~first]


def _check(share: Sequence[float]) -> None:
    low, high = share
    if not 0 < low <= high <= 1:
        raise ValueError("A patch's size is a share of the picture, from above 0 to 1: give the smaller one first.")


# On a picture ---------------------------------------------------------------------------------------------------------


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
    turn = torch.tensor([[cos * right, sin * down, 0.0], [-sin * right, cos * down, 0.0]], dtype=patch.dtype)
    turn[:, 2] = -turn[:, :2] @ torch.tensor(middle, dtype=patch.dtype)
    grid = F.affine_grid(turn[None], [1, 1, height, width], align_corners=False)
    # Where it is reduced, several of its pixels go into one of the picture's, as in a camera: their mean.
    fine = max(1, round(patch.shape[2] / side))
    dense = F.affine_grid(turn[None], [1, 1, height * fine, width * fine], align_corners=False) if fine > 1 else grid
    laid = F.grid_sample(patch, dense, "bilinear", "border", align_corners=False)
    laid = F.avg_pool2d(laid, fine) if fine > 1 else laid
    # A round edge, one pixel soft: whether a pixel is covered changes gradually, and nothing is aliased.
    cover = ((1 - grid.norm(dim=3)) * side / 2).clamp(0, 1)[:, None]
    return pictures * (1 - cover) + laid * cover


def with_patch(image: np.ndarray, patch: np.ndarray, place: tuple[float, float, float, float]) -> np.ndarray:
    """(H, W, C) in 8 bits: a picture with a patch on it, both (·, ·, C) as PNGs have them; place as in `pasted`."""
    from engine.optimize import ascend

    laid = pasted(ascend.tensor(eight_bit(image)), ascend.tensor(eight_bit(patch)), place)
    return eight_bit(ascend.shown(laid)[0])


# By itself ------------------------------------------------------------------------------------------------------------


def disc(side: int) -> np.ndarray:
    """(side, side) in [0, 1]: what of a patch's pixels belongs to it."""
    middle = (np.arange(side) + 0.5) / side * 2 - 1
    away = np.hypot(middle[:, None], middle[None])
    return ((1 - away) * side / 2).clip(0, 1).astype(np.float32)


def cut_out(patch: np.ndarray) -> np.ndarray:
    """(n, n, 4): a patch (n, n, C) in colours, transparent outside of its circle."""
    coloured = np.broadcast_to(patch, (*patch.shape[:2], 3))
    return np.dstack([coloured, disc(len(patch))]).astype(np.float32)


def printable(patch: np.ndarray, side: int = PRINT) -> np.ndarray:
    """(side, side, 3): a patch (n, n, C) enlarged smoothly (bicubic), white outside of its circle."""
    from PIL import Image

    bands = [Image.fromarray(np.ascontiguousarray(band)) for band in patch.transpose(2, 0, 1).astype(np.float32)]
    large = np.dstack([np.asarray(band.resize((side, side), Image.Resampling.BICUBIC)) for band in bands])
    cover = disc(side)[..., None]
    return np.broadcast_to(large.clip(0, 1) * cover + 1 - cover, (side, side, 3)).astype(np.float32)


def shuffled(patch: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same (n, n, C) with the pixels inside of its circle in any order: its colours without its pattern."""
    made, inside = patch.copy(), disc(len(patch)) > 0
    made[inside] = patch[inside][np.random.default_rng(seed).permutation(int(inside.sum()))]
    return made


# How well it works ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rates:
    """What pictures were taken for; all as saved in 8 bits.

    found: (3, N) the likeliest class [what was pasted, see WITH], -1 where it has not been asked yet. sure: (3, N)
    probability of `target`. places: (N, 4) where: row, col, side, degrees.
    """

    target: int
    found: np.ndarray
    sure: np.ndarray
    places: np.ndarray

    def table(self) -> pd.DataFrame:
        """A row for each of WITH: with, taken (how many pictures for the target), of (how many), share, and its
        95 % interval, low to high (Wilson's)."""
        rows = []
        for what, found in zip(WITH, self.found, strict=True):
            taken, asked = int((found == self.target).sum()), int((found >= 0).sum())
            rows.append((what, taken, asked, taken / max(asked, 1), *share_interval(taken, asked)))
        return pd.DataFrame(rows, columns=["with", "taken", "of", "share", "low", "high"])


def rates(
    net: Net,
    images: np.ndarray,
    patch: np.ndarray,
    target: int,
    *,
    share: tuple[float, float] = SHARE,
    turn: float = TURN,
    seed: int = 1,
) -> Rates:
    """How often pictures are taken for a class with a patch on them, each at a place of its own, drawn by lot.

    images: (N, H, W, C) that the patch was not trained on. patch: (n, n, C). share, turn: as in `adversarial_patch`.
    seed: of the places. At the same places the patch's own pixels are pasted in any order, which is what covering
    something with those colours does by itself.
    Returns Rates. Raises UnknownClass, ValueError.
    """
    knobs = dict(locals())
    return last(rates_steps(**knobs))


def rates_steps(
    net: Net,
    images: np.ndarray,
    patch: np.ndarray,
    target: int,
    *,
    share: tuple[float, float] = SHARE,
    turn: float = TURN,
    seed: int = 1,
) -> Iterator[Step]:
    """`rates`, a Step with a Rates after each few pictures."""
    if not len(images):
        raise ValueError("A patch is measured on pictures; give at least one.")
    _check(share)
    k, random = net.class_index(target), np.random.default_rng(seed)
    places = np.array([drawn(random, net.input_size, share, turn) for _ in images])
    patches = (patch, shuffled(patch, seed), None)
    found = np.full((len(WITH), len(images)), -1)
    sure = np.zeros((len(WITH), len(images)), np.float32)
    some = min(net.batch_size, 16)
    for first in range(0, len(images), some):
        part = range(first, min(first + some, len(images)))
        for what, each in enumerate(patches):
            shown = [
                eight_bit(images[i]) if each is None else with_patch(images[i], each, tuple(places[i])) for i in part
            ]
            said = softmax(net.scores(net.batch(*shown)))
            found[what, part], sure[what, part] = said.argmax(1), said[:, k]
        yield Step(part.stop, len(images), Rates(k, found.copy(), sure.copy(), places))


def numbers(climb: Climb, found: Rates | None = None) -> dict[str, np.ndarray]:
    """Arrays by name of a patch and, where they are there, its rates: what is kept of both."""
    made = {"pixels": climb.pixels, "scores": climb.scores}
    return made if found is None else made | {"found": found.found, "sure": found.sure, "places": found.places}

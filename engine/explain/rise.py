"""Which parts of the picture matter, if random halves of it are hidden?

Petsiuk, Das, Saenko 2018, arXiv:1806.07421, equation 6: the picture is seen through many random masks, and each place's
importance is the mean of the number over the masks that show it. Occlusion's cousin: it needs no gradient either, and
no size of a patch, but many passes. What is there so far always comes with its own standard error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.explain.evidence import Evidence
from engine.half import PRECISIONS as PRECISIONS
from engine.half import in_precision
from engine.image import resize
from engine.net import Net
from engine.pictures.fill import FILLS as FILLS
from engine.pictures.fill import blank
from engine.step import Step, last
from engine.target import Target, asked, class_probability, measure

LEAST = 128  # masks before the map may count as stable


@dataclass(frozen=True)
class Rise:
    """map: (H, W), how the number differs from its mean over all masks where a pixel is shown; in the target's unit.

    error: (H, W), the standard error of each of these. masks: how many went in.
    """

    map: Evidence
    error: np.ndarray
    masks: int

    @property
    def noise(self) -> float:
        """The typical standard error as a share of the map's range: when it is small, more masks change little."""
        return float(self.error.mean() / (np.ptp(self.map) or 1))


def rise(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    masks: int = 2000,
    cells: int = 7,
    shown: float = 0.5,
    fill: str = "black",
    stable: float = 0.05,
    precision: str = "float32",
    seed: int = 0,
) -> Rise:
    """RISE: the mean of the number over random masks that show a pixel, less its mean over all masks.

    image: (H, W, C) pixels of the net's own size. target: a class, whose probability is read, or any other Target.
    masks: at most. cells: of the random grid along the shorter side, before it is stretched and shifted. shown: chance
    that a cell is shown. fill: one of FILLS, what stands where the mask is 0; black in the paper. stable: the run ends
    when the standard error is at most this share of the map's range; 0 runs to the end. precision: one of PRECISIONS,
    of the net's numbers. seed: of the masks.
    The paper leaves the mean of all masks in, which only shifts the map; taken off, 0 says that a place has no effect.
    Returns Rise. Raises UnknownClass, ValueError.
    """
    return last(rise_steps(**locals()))


def rise_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    masks: int = 2000,
    cells: int = 7,
    shown: float = 0.5,
    fill: str = "black",
    stable: float = 0.05,
    precision: str = "float32",
    seed: int = 0,
) -> Iterator[Step]:
    """`rise`, a Step per batch of masks: the running mean and its standard error."""
    if masks < 2 or cells < 1 or not 0 < shown < 1:
        raise ValueError("RISE needs two masks or more, a cell or more, and a chance between 0 and 1 to be shown.")
    net, random = in_precision(net, precision), np.random.default_rng(seed)
    target = asked(net, target, class_probability)
    picture, empty = net.batch(image, blank(image, fill, seed=seed))
    height, width = image.shape[:2]
    side = -(-min(height, width) // cells)  # of a cell, in pixels
    # Sums over the masks of weight m and number s: Σ m, Σ m·s, Σ m·s², Σ m², Σ m²·s, Σ m²·s²; and Σ s, Σ s².
    sums = [np.zeros((height, width)) for _ in range(6)]
    done, plain = 0, np.zeros(2)
    while done < masks:
        seen = _masks(random, min(net.batch_size, masks - done), (height, width), side, shown)
        numbers = measure(net, empty + seen[:, None] * (picture - empty), target).astype(np.float64)
        done, plain = done + len(seen), plain + np.array([numbers.sum(), (numbers**2).sum()])
        squares = seen.astype(np.float64) ** 2
        parts = [(weight, numbers**power) for weight in (seen, squares) for power in range(3)]
        for total, (weight, value) in zip(sums, parts, strict=True):
            total += np.tensordot(value, weight, 1)
        found = _estimate(sums, plain / done, done)
        enough = done >= min(LEAST, masks) and found.noise <= stable
        yield Step(masks if enough else done, masks, found)
        if enough:
            return


def _masks(random: np.random.Generator, many: int, size: tuple[int, int], side: int, shown: float) -> np.ndarray:
    """(many, H, W) in [0, 1]: random grids of cells, stretched bilinearly and each shifted by less than a cell."""
    count = [-(-length // side) + 1 for length in size]
    # Mask by mask, so that they are the same whatever the size of the batch, which hangs on the memory there is.
    drawn = [(random.random(count) < shown, random.integers(0, side, 2)) for _ in range(many)]
    grids = np.stack([grid for grid, _ in drawn], axis=-1).astype(np.float32)
    whole = resize(grids, (count[0] * side, count[1] * side))  # (rows, cols, many)
    out = np.empty((many, *size), np.float32)
    for k, (_, (top, left)) in enumerate(drawn):
        out[k] = whole[top : top + size[0], left : left + size[1], k]
    return out


def _estimate(sums: list[np.ndarray], plain: np.ndarray, count: int) -> Rise:
    """The weighted mean Σ m·s / Σ m less the mean of s, and its standard error by the linear expansion of a ratio.

    plain: the means of s and s². Each mask moves the map by m·(s - average)·share - (s - mean), over the count.
    """
    weight, product, product_by, squares, squares_by, squares_by_squares = sums
    average, mean = product / np.maximum(weight, 1e-12), plain[0]
    share = count / np.maximum(weight, 1e-12)
    own = squares_by_squares - 2 * average * squares_by + average**2 * squares  # Σ m²·(s - average)²
    shared = product_by - average * product  # Σ m·(s - average)·(s - mean)
    spread = share**2 * own - 2 * share * shared + count * (plain[1] - mean**2)
    error = np.sqrt(np.maximum(spread, 0)) / count
    return Rise((average - mean).astype(np.float32), error.astype(np.float32), count)

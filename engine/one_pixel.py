"""Is one pixel enough to make the network say something else?

Su, Vargas, Kouichi 2017, arXiv:1710.08864: differential evolution (Storn & Price 1997) over a place and a colour. The
network is only asked for scores, in batches, through ONNX Runtime: a black box. Ours departs in two places: colours
are in steps of 1/255, so that what is found is what is saved; and a place that leaves the picture comes back in on the
other side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.adversarial import AIMS, eight_bit
from engine.net import Net, softmax
from engine.step import Step, last

SHARE = 0.5  # of the difference of two candidates that is added to a third: the paper's F
SPREAD = 0.25  # of the first colours around the middle; the paper's are N(128, 127)


@dataclass(frozen=True)
class FewPixels:
    """The best candidate so far.

    pixels: (H, W, C) in 8 bits. places: (k, 2) row and column of what was changed. colours: (k, C). probability: of the
    class that is asked about. fooled: whether the saved picture is taken for something else, or for what it should be.
    path: (n,) that probability after each generation.
    """

    pixels: np.ndarray
    places: np.ndarray
    colours: np.ndarray
    probability: float
    fooled: bool
    path: np.ndarray

    @property
    def picture(self) -> np.ndarray:
        return self.pixels


def one_pixel(
    net: Net,
    image: np.ndarray,
    target: int,
    *,
    aim: str = "away",
    count: int = 1,
    population: int = 100,
    steps: int = 50,
    seed: int = 0,
) -> FewPixels:
    """The pixel, or the few, whose change lowers a class's probability most, or raises it.

    image: (H, W, C) pixels of the net's own size; it is rounded to 8 bits first. target: a class. aim: "away" from it,
    or "toward" it. count: of pixels that may be changed. population: candidates in a generation (the paper has 400).
    steps: generations at most; it ends when the picture is taken for what is wanted. seed: of all that is drawn.
    Returns FewPixels.
    Raises UnknownClass, ValueError.
    """
    knobs = dict(locals())
    return last(one_pixel_steps(**knobs))


def one_pixel_steps(
    net: Net,
    image: np.ndarray,
    target: int,
    *,
    aim: str = "away",
    count: int = 1,
    population: int = 100,
    steps: int = 50,
    seed: int = 0,
) -> Iterator[Step]:
    """`one_pixel`, a Step with a FewPixels after each generation."""
    k = net.class_index(target)
    original = eight_bit(net.stack(image)[0])
    height, width, channels = original.shape
    if aim not in AIMS:
        raise ValueError(f"An attack is {' or '.join(AIMS)} a class.")
    if not 1 <= count <= height * width or population < 4:
        raise ValueError("At least one pixel can be changed, at most all; and a population has at least 4 candidates.")
    sign = -1.0 if aim == "away" else 1.0
    random = np.random.default_rng(seed)
    genes = np.concatenate(
        [
            random.uniform(0, (height, width), (population, count, 2)),
            random.normal(0.5, SPREAD, (population, count, channels)).clip(0, 1),
        ],
        2,
    )
    rows = _probabilities(net, original, genes)
    path = []
    for index in range(steps):
        if index:  # the first generation is the one that was drawn
            a, b, c = (random.permutation(population) for _ in range(3))
            children = genes[a] + SHARE * (genes[b] - genes[c])
            children[..., :2] %= (height, width)
            children[..., 2:] = children[..., 2:].clip(0, 1)
            theirs = _probabilities(net, original, children)
            better = sign * theirs[:, k] > sign * rows[:, k]
            genes[better], rows[better] = children[better], theirs[better]
        best = int((sign * rows[:, k]).argmax())
        path.append(rows[best, k])
        fooled = bool((rows[best].argmax() == k) == (aim == "toward"))
        places, colours = _read(genes[best][None], original.shape)
        pixels = painted(original, places, colours)[0]
        found = FewPixels(pixels, places[0], colours[0], float(rows[best, k]), fooled, np.array(path, np.float32))
        yield Step(steps if fooled else index + 1, steps, found)
        if fooled:
            return


def painted(original: np.ndarray, places: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(n, H, W, C): a picture (H, W, C) with k pixels changed in n ways. places: (n, k, 2). colours: (n, k, C)."""
    pixels = np.repeat(original[None], len(places), 0)
    number = np.arange(len(places))[:, None]
    pixels[number, places[..., 0], places[..., 1]] = colours
    return pixels


def _read(genes: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(n, k, 2) places and (n, k, C) colours of candidates."""
    places = np.floor(genes[..., :2]).astype(int) % shape[:2]
    return places, eight_bit(genes[..., 2:])


def _probabilities(net: Net, original: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """(n, K) of each candidate."""
    places, colours = _read(genes, original.shape)
    rows = []
    for first in range(0, len(genes), net.batch_size):
        some = slice(first, first + net.batch_size)
        rows.append(softmax(net.scores(net.batch(*painted(original, places[some], colours[some])))))
    return np.concatenate(rows)

"""What does CAM find, if random patches of the picture are hidden?

Singh and Lee 2017, arXiv:1704.04232: a grid of patches, each hidden with some chance. They hide during training, so
that the network learns to use more than the most telling part; here the network stays as it is, and the mean of the
maps over many hidings shows what it can use when the most telling part is not there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.grad_cam import grad_cam
from engine.net import Net
from engine.pictures.fill import FILLS as FILLS
from engine.pictures.fill import blank
from engine.step import Step, last
from engine.target import Target, asked

TOGETHER = 8  # hidden copies in one pass


def hide_and_seek(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    layer: str | None = None,
    cells: int = 4,
    hidden: float = 0.5,
    copies: int = 48,
    fill: str = "grey",
    seed: int = 0,
) -> Evidence:
    """Hide-and-seek: the mean of Grad-CAM over copies of the picture with random patches hidden.

    image, target, layer: as in `grad_cam`. cells: patches along the shorter side. hidden: chance of each to be hidden.
    copies: how many. fill: one of FILLS (the paper uses the training set's mean). seed: of the hidings.
    Returns (h, w), >= 0, in the target's unit, at the layer's own resolution.
    Raises UnknownClass, UnknownLayer, NoGradient, ValueError.
    """
    given = {"layer": layer, "cells": cells, "hidden": hidden, "copies": copies, "fill": fill, "seed": seed}
    return last(hide_and_seek_steps(net, image, target, **given))


def hide_and_seek_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    layer: str | None = None,
    cells: int = 4,
    hidden: float = 0.5,
    copies: int = 48,
    fill: str = "grey",
    seed: int = 0,
) -> Iterator[Step]:
    """`hide_and_seek`, a Step per few copies: the mean so far."""
    target, random, empty = asked(net, target), np.random.default_rng(seed), blank(image, fill, seed=seed)
    total, done = 0, 0
    while done < copies:
        count = min(TOGETHER, copies - done)
        seen = np.stack([hide(image, empty, random, cells, hidden) for _ in range(count)])
        total = total + grad_cam(net, seen, target, layer=layer).sum(0)
        done += count
        yield Step(done, copies, (total / done).astype(np.float32))


def hide(image: np.ndarray, empty: np.ndarray, random: np.random.Generator, cells: int, hidden: float) -> np.ndarray:
    """A copy of the picture (H, W, C) in which each patch of a grid is replaced by `empty` with the chance `hidden`."""
    side = -(-min(image.shape[:2]) // max(cells, 1))
    rows, cols = (np.arange(length) // side for length in image.shape[:2])
    gone = random.random((rows[-1] + 1, cols[-1] + 1)) < hidden
    return np.where(gone[np.ix_(rows, cols)][:, :, None], empty, image).astype(np.float32)

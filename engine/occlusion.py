"""Where does hiding a part of the picture lower a number?

Zeiler & Fergus 2013, arXiv:1311.2901, section 4.2 (there the probability of a class, with a grey patch). The map is the
number itself, not its fall, so that it can be read without a reference: low is where the evidence is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.evidence import Evidence
from engine.fill import FILLS as FILLS
from engine.fill import blank
from engine.net import Net
from engine.step import Step, last
from engine.target import Target, asked, class_probability, measure

FIRST = 8  # the coarsest pass visits every eighth position of each axis


def positions(side: int, patch: int, stride: int) -> list[int]:
    """Where the patch starts along an axis of `side` pixels: every `stride`, until the edge is covered.

    The last patch may reach over the edge and is cut there, as in Captum's Occlusion.
    """
    if patch < 1 or stride < 1:
        raise ValueError("The patch and the stride are at least one pixel.")
    return [i * stride for i in range(max(-(-(side - patch) // stride), 0) + 1)]


def occlude(image: np.ndarray, row: int, col: int, *, patch: int = 16, fill: str = "grey", seed: int = 0) -> np.ndarray:
    """A copy of the picture (H, W, C) with the patch whose top left pixel is (row, col) painted over."""
    out, window = image.copy(), np.s_[row : row + patch, col : col + patch]
    out[window] = blank(image, fill, seed=seed)[window]
    return out


def occlusion(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    patch: int = 16,
    stride: int = 8,
    fill: str = "grey",
    seed: int = 0,
) -> np.ndarray:
    """The number that is asked about, with the patch at each position.

    image: (H, W, C) pixels of the net's own size. target: a class, whose probability is read, or any other Target.
    patch, stride: in pixels. fill: one of FILLS. seed: of the fill "noise".
    Returns (rows, cols) in the target's unit; entry (i, j) is for the patch from (i * stride, j * stride).
    Raises UnknownClass, ValueError.
    """
    return last(occlusion_steps(net, image, target, patch=patch, stride=stride, fill=fill, seed=seed))


def occlusion_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    patch: int = 16,
    stride: int = 8,
    fill: str = "grey",
    seed: int = 0,
) -> Iterator[Step]:
    """`occlusion`, from coarse to fine, a Step per batch: positions not yet visited are NaN in its result."""
    target = asked(net, target, class_probability)
    height, width, _ = image.shape
    rows, cols = positions(height, patch, stride), positions(width, patch, stride)
    base, hidden = net.batch(image, blank(image, fill, seed=seed))
    order = coarse_to_fine(len(rows), len(cols))
    size = min(net.batch_size, len(order))
    batch = np.repeat(base[None], size, 0)
    values = np.full((len(rows), len(cols)), np.nan, np.float32)
    done = 0
    for chosen in (order[i : i + size] for i in range(0, len(order), size)):
        windows = [(slice(rows[i], rows[i] + patch), slice(cols[j], cols[j] + patch)) for i, j in chosen]
        for k, window in enumerate(windows):
            batch[k, :, *window] = hidden[:, *window]
        found = measure(net, batch[: len(chosen)], target)
        for k, window in enumerate(windows):
            batch[k, :, *window] = base[:, *window]
        for (i, j), value in zip(chosen, found, strict=True):
            values[i, j] = value
        done += len(chosen)
        yield Step(done, len(order), values.copy())


def occlusion_fall(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    patch: int = 0,
    stride: int = 0,
    fill: str = "grey",
    seed: int = 0,
) -> Evidence:
    """Occlusion: how far the number falls where a pixel is hidden, averaged over the patches that cover it.

    As Captum's Occlusion gives it, so that it lies beside the other maps of evidence. target, fill, seed: as in
    `occlusion`. patch, stride: in pixels; 0 stands for an eighth of the shorter side, and for half of the patch.
    Returns (H, W) in the target's unit, above 0 where hiding lowers it. Raises UnknownClass, ValueError.
    """
    return last(occlusion_fall_steps(net, image, target, patch=patch, stride=stride, fill=fill, seed=seed))


def occlusion_fall_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    patch: int = 0,
    stride: int = 0,
    fill: str = "grey",
    seed: int = 0,
) -> Iterator[Step]:
    """`occlusion_fall`, a Step per batch: pixels that no patch has covered yet are 0."""
    target = asked(net, target, class_probability)
    patch = patch or max(2, min(image.shape[:2]) // 8)
    stride = stride or max(1, patch // 2)
    whole = float(measure(net, net.batch(image), target)[0])
    for step in occlusion_steps(net, image, target, patch=patch, stride=stride, fill=fill, seed=seed):
        yield Step(step.index, step.total, spread(whole - step.result, image.shape[:2], patch, stride))


def spread(values: np.ndarray, size: tuple[int, int], patch: int, stride: int) -> np.ndarray:
    """(H, W): over each pixel the mean of the `values` (rows, cols) of the patches that cover it; NaN is left out."""
    total, covered = np.zeros((2, size[0] + 1, size[1] + 1))  # each patch's corners; their running sums fill it
    i, j = np.nonzero(~np.isnan(values))
    ends = [np.minimum(at * stride + patch, side) for at, side in zip((i, j), size, strict=True)]
    for rows, sign in ((i * stride, 1), (ends[0], -1)):
        for cols, other in ((j * stride, 1), (ends[1], -1)):
            np.add.at(total, (rows, cols), sign * other * values[i, j])
            np.add.at(covered, (rows, cols), sign * other)
    total, covered = (corners.cumsum(0).cumsum(1)[:-1, :-1] for corners in (total, covered))
    return np.where(covered > 0.5, total / np.maximum(covered, 1), 0).astype(np.float32)


def coarse_to_fine(rows: int, cols: int) -> list[tuple[int, int]]:
    """Every position of a grid once: first each FIRST-th of both axes, then each half of that, down to all."""
    order, seen, step = [], set(), FIRST
    while step >= 1:
        for i in range(0, rows, step):
            for j in range(0, cols, step):
                if (i, j) not in seen:
                    seen.add((i, j))
                    order.append((i, j))
        step //= 2
    return order


def coarse(probability: np.ndarray) -> np.ndarray:
    """A partial map with its gaps filled from the last visited position above and to the left: for drawing only."""
    out, step = probability.copy(), 2
    while step < 2 * max(out.shape):  # up to where the first position of all fills the rest
        i, j = (np.arange(n) // step * step for n in out.shape)
        out = np.where(np.isnan(out), probability[np.ix_(i, j)], out)
        step *= 2
    return out

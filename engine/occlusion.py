"""Where does hiding a part of the picture lower a class's probability?

Zeiler & Fergus 2013, arXiv:1311.2901, section 4.2 (there with a grey patch). The map is probability, not its fall, so
that its numbers can be read without a reference: low is where the evidence is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.net import Net, softmax
from engine.step import Step, last

FILLS = ("grey", "mean", "black", "white")
FIRST = 8  # the coarsest pass visits every eighth position of each axis
BATCH_BYTES = 256 * 2**20  # that one batch's largest tensor may take


def positions(side: int, patch: int, stride: int) -> list[int]:
    """Where the patch starts along an axis of `side` pixels: every `stride`, until the edge is covered.

    The last patch may reach over the edge and is cut there, as in Captum's Occlusion.
    """
    if patch < 1 or stride < 1:
        raise ValueError("The patch and the stride are at least one pixel.")
    return [i * stride for i in range(max(-(-(side - patch) // stride), 0) + 1)]


def fill_value(image: np.ndarray, fill: str) -> np.ndarray:
    """(C,) what the patch is painted with: middle grey, the picture's own mean colour, black or white."""
    if fill not in FILLS:
        raise ValueError(f"The fill is one of {', '.join(FILLS)}, not {fill!r}.")
    if fill == "mean":
        return image.mean((0, 1), dtype=np.float64).astype(np.float32)
    return np.full(image.shape[2], {"grey": 0.5, "black": 0.0, "white": 1.0}[fill], np.float32)


def occlude(image: np.ndarray, row: int, col: int, *, patch: int = 16, fill: str = "grey") -> np.ndarray:
    """A copy of the picture (H, W, C) with the patch whose top left pixel is (row, col) painted over."""
    out = image.copy()
    out[row : row + patch, col : col + patch] = fill_value(image, fill)
    return out


def occlusion(
    net: Net, image: np.ndarray, class_index: int, *, patch: int = 16, stride: int = 8, fill: str = "grey"
) -> np.ndarray:
    """The class's probability with the patch at each position.

    image: (H, W, C) pixels of the net's own size. patch, stride: in pixels. fill: one of FILLS.
    Returns (rows, cols) in [0, 1]; entry (i, j) is for the patch from (i * stride, j * stride).
    Raises UnknownClass, ValueError.
    """
    return last(occlusion_steps(net, image, class_index, patch=patch, stride=stride, fill=fill))


def occlusion_steps(
    net: Net, image: np.ndarray, class_index: int, *, patch: int = 16, stride: int = 8, fill: str = "grey"
) -> Iterator[Step]:
    """`occlusion`, from coarse to fine, a Step per batch: positions not yet visited are NaN in its result."""
    class_index = net.class_index(class_index)
    height, width, _ = image.shape
    rows, cols = positions(height, patch, stride), positions(width, patch, stride)
    base = net.batch(image)[0]
    colour = fill_value(image, fill)[:, None, None]
    order = coarse_to_fine(len(rows), len(cols))
    size = min(batch_size(net), len(order))
    batch = np.repeat(base[None], size, 0)
    probability = np.full((len(rows), len(cols)), np.nan, np.float32)
    done = 0
    for chosen in (order[i : i + size] for i in range(0, len(order), size)):
        windows = [(slice(rows[i], rows[i] + patch), slice(cols[j], cols[j] + patch)) for i, j in chosen]
        for k, window in enumerate(windows):
            batch[k, :, *window] = colour
        scores = softmax(net.scores(batch[: len(chosen)]))
        for k, window in enumerate(windows):
            batch[k, :, *window] = base[:, *window]
        for (i, j), p in zip(chosen, scores[:, class_index], strict=True):
            probability[i, j] = p
        done += len(chosen)
        yield Step(done, len(order), probability.copy())


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


def batch_size(net: Net) -> int:
    """How many pictures go into one forward pass, by the memory that the net's largest tensor takes."""
    largest = max(int(np.prod(layer.shape)) for layer in net.layers)
    return int(np.clip(BATCH_BYTES // (4 * largest), 1, 64))

"""What does the network see when another thing is in the picture? A cut-out, pasted at every place in turn.

Rosenfeld, Zemel, Tsotsos 2018, "The elephant in the room", arXiv:1808.03305: an object in a picture where it does not
belong changes what is seen of the others, also far away from it. Forward passes alone, through ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine import image as pictures
from engine.net import Net, softmax
from engine.step import Step, last


@dataclass(frozen=True)
class Pasted:
    """map: (rows, cols) probability of the class with the other's middle there, NaN where it has not been yet.
    found: (rows, cols) the likeliest class there, -1 where it has not been. baseline: its probability without.
    """

    map: np.ndarray
    found: np.ndarray
    baseline: float


def lookalikes(
    net: Net, image: np.ndarray, other: np.ndarray, target: int, *, share: float = 0.35, grid: int = 12
) -> Pasted:
    """A class's probability as a function of where another picture is pasted.

    image: (H, W, C) pixels of the net's own size. other: (h, w, C) what is pasted, whole, or (h, w, C + 1) with its
    opacity behind. target: a class. share: the other's longer side, as a share of the picture's shorter one. grid:
    places along the picture's longer side; its middle goes from edge to edge.
    Returns Pasted.
    Raises UnknownClass, ValueError.
    """
    return last(lookalikes_steps(net, image, other, target, share=share, grid=grid))


def lookalikes_steps(
    net: Net, image: np.ndarray, other: np.ndarray, target: int, *, share: float = 0.35, grid: int = 12
) -> Iterator[Step]:
    """`lookalikes`, a Step with a Pasted after each batch of places."""
    k, stack = net.class_index(target), net.stack(image)[0]
    cut = cut_out(other, net, share)
    rows, cols = places(net.input_size, grid)
    spots = [(row, col) for row in rows for col in cols]
    baseline = float(softmax(net.scores(net.batch(stack)))[0, k])
    shape = (len(rows), len(cols))
    probability, found = np.full(len(spots), np.nan, np.float32), np.full(len(spots), -1)
    for first in range(0, len(spots), net.batch_size):
        some = spots[first : first + net.batch_size]
        said = softmax(net.scores(net.batch(*(pasted(stack, cut, place) for place in some))))
        probability[first : first + len(some)] = said[:, k]
        found[first : first + len(some)] = said.argmax(1)
        yield Step(
            first + len(some),
            len(spots),
            Pasted(probability.reshape(shape).copy(), found.reshape(shape).copy(), baseline),
        )


def places(size: tuple[int, int], grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, in pixels, from edge to edge; `grid` along the longer side. Raises ValueError."""
    if grid < 2:
        raise ValueError("A map needs at least 2 places along a side.")
    counts = [max(2, round(grid * side / max(size))) for side in size]
    rows, cols = (np.linspace(0, side - 1, count).round().astype(int) for side, count in zip(size, counts, strict=True))
    return rows, cols


def cut_out(other: np.ndarray, net: Net, share: float) -> np.ndarray:
    """(h, w, C + 1), scaled for the net's pictures, the last channel its opacity. Raises ValueError."""
    if other.shape[2] not in (net.channels, net.channels + 1):
        raise ValueError(f"What is pasted has {net.channels} channels, or one more, its opacity; not {other.shape[2]}.")
    if other.shape[2] == net.channels:
        other = np.concatenate([other, np.ones_like(other[..., :1])], 2)
    factor = share * min(net.input_size) / max(other.shape[:2])
    size = tuple(max(round(side * factor), 1) for side in other.shape[:2])
    return pictures.resize(other, size).clip(0, 1).astype(np.float32)


def pasted(image: np.ndarray, cut: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """(H, W, C) with a cut-out (h, w, C + 1) on it, its middle at `place`; what lies outside is cut off."""
    made = image.copy()
    top, left = (middle - side // 2 for middle, side in zip(place, cut.shape[:2], strict=True))
    rows, cols = (
        slice(max(start, 0), min(start + side, whole))
        for start, side, whole in zip((top, left), cut.shape[:2], image.shape[:2], strict=True)
    )
    part = cut[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    made[rows, cols] += part[..., -1:] * (part[..., :-1] - made[rows, cols])
    return made

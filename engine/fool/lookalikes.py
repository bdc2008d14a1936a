"""What does the network see when another thing is in the picture? A cut-out, pasted at every place in turn.

Rosenfeld, Zemel, Tsotsos 2018, "The elephant in the room", arXiv:1808.03305: an object in a picture where it does not
belong changes what is seen of the others, also far away from it. Theirs is about detectors; here it is the class of the
whole picture. Forward passes alone, through ONNX Runtime.

What is pasted also hides something. So the same shape in the picture's mean colour is pasted at the same places: what
changes then does so for what is hidden, and where that costs most lies the class's own evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import image as pictures
from engine.fool.adversarial import eight_bit
from engine.incremental.parts import changed
from engine.net import Net, softmax
from engine.pictures import regions, samples
from engine.pictures.regions import bounds
from engine.step import Step, last

CUTS = ("whole", "thing")


@dataclass(frozen=True)
class Pasted:
    """What the network says of each place, NaN and -1 where it has not been asked yet; of pictures in 8 bits.

    map: (rows, cols) probability of the class with the other's middle there. found: (rows, cols) the likeliest class.
    hidden, hidden_found: the same with its shape in the picture's mean colour. rows, cols: the places, in pixels.
    size: (2,) of what was pasted. baseline: the class's probability without. before: the likeliest class without.
    """

    map: np.ndarray
    found: np.ndarray
    hidden: np.ndarray
    hidden_found: np.ndarray
    rows: np.ndarray
    cols: np.ndarray
    size: np.ndarray
    baseline: float
    before: int


def lookalikes(
    net: Net,
    image: np.ndarray,
    target: int,
    other: np.ndarray | str,
    *,
    cut: str = "whole",
    share: float = 0.5,
    grid: int = 12,
) -> Pasted:
    """A class's probability as a function of where another picture is pasted.

    image: (H, W, C) pixels of the net's own size. target: a class. other: what is pasted, a sample's name or a file.
    It may be an array, too: (h, w, 1 or 3), or (h, w, 2 or 4) with its opacity behind.
    cut: one of CUTS; "thing" is what is in the other's middle, cut out by its colours (engine/pictures/regions.py).
    share: longer side of what is pasted, as a share of the picture's shorter one.
    grid: places along the picture's longer side, the middles of equal cells.
    Returns Pasted.
    Raises UnknownClass, NotAPicture, ValueError, OSError.
    """
    return last(lookalikes_steps(net, image, target, other, cut=cut, share=share, grid=grid))


def lookalikes_steps(
    net: Net,
    image: np.ndarray,
    target: int,
    other: np.ndarray | str,
    *,
    cut: str = "whole",
    share: float = 0.5,
    grid: int = 12,
) -> Iterator[Step]:
    """`lookalikes`, a Step with a Pasted after each batch of places."""
    k, stack = net.class_index(target), net.stack(image)[0]
    piece = cut_out(other, net, share, cut=cut)
    rows, cols = places(net.input_size, grid)
    spots = [(row, col) for row in rows for col in cols]
    without = softmax(net.scores(net.batch(eight_bit(stack))))[0]
    pieces = (piece, silhouette(piece, stack))
    size = tuple(map(min, piece.shape[:2], net.input_size))
    corners = np.array([inside(place, piece.shape[:2], size, net.input_size) for place in spots])
    ask = changed(net, eight_bit(stack), [net.logits], size, rows=corners[:, 0], cols=corners[:, 1])
    values, found = np.full((2, len(spots)), np.nan, np.float32), np.full((2, len(spots)), -1)
    some = max(ask.together // 2, 1)
    for first in range(0, len(spots), some):
        part = spots[first : first + some]
        at = corners[first : first + len(part)]
        made = [
            eight_bit(pasted(stack, each, place))[row : row + size[0], col : col + size[1]]
            for each in pieces
            for place, (row, col) in zip(part, at, strict=True)
        ]
        said = softmax(ask(np.tile(at, (2, 1)), np.stack(made))[net.logits].reshape(2, len(part), -1))
        values[:, first : first + len(part)] = said[:, :, k]
        found[:, first : first + len(part)] = said.argmax(2)
        maps, classes = (each.reshape(2, len(rows), len(cols)).copy() for each in (values, found))
        result = Pasted(
            map=maps[0],
            found=classes[0],
            hidden=maps[1],
            hidden_found=classes[1],
            rows=rows,
            cols=cols,
            size=np.array(piece.shape[:2]),
            baseline=float(without[k]),
            before=int(without.argmax()),
        )
        yield Step(first + len(part), len(spots), result)


def places(size: tuple[int, int], grid: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns, in pixels: the middles of equal cells, `grid` along the longer side. Raises ValueError."""
    if grid < 2:
        raise ValueError("A map needs at least 2 places along a side.")
    counts = [max(2, round(grid * side / max(size))) for side in size]
    rows, cols = (
        ((np.arange(count) + 0.5) * side / count).astype(int) for side, count in zip(size, counts, strict=True)
    )
    return rows, cols


def inside(place: tuple[int, int], piece: Sequence[int], size: Sequence[int], sides: Sequence[int]) -> tuple[int, ...]:
    """Row and column of a window of `size` that holds what is seen of a piece with its middle at `place`."""
    starts = (middle - side // 2 for middle, side in zip(place, piece, strict=True))
    return tuple(max(min(start, whole - s), 0) for start, s, whole in zip(starts, size, sides, strict=True))


# What is pasted -------------------------------------------------------------------------------------------------------


def loaded(other: np.ndarray | str, cut: str = "whole") -> np.ndarray:
    """(h, w, 4), colours and opacity, of what `lookalikes` takes for the other picture. Raises NotAPicture, ValueError,
    OSError."""
    if cut not in CUTS:
        raise ValueError(f"The other picture is pasted {' or '.join(CUTS)}, not {cut!r}.")
    if isinstance(other, str):
        if other not in samples.SAMPLES and not Path(other).is_file():
            raise ValueError(f"There is no file and no sample {other!r}; the samples are {', '.join(samples.SAMPLES)}.")
        other = samples.load(other) if other in samples.SAMPLES else pictures.load(other)
    if other.ndim != 3 or other.shape[2] not in (1, 2, 3, 4) or 0 in other.shape:
        raise ValueError(f"What is pasted has 1 or 3 channels, or one more, its opacity; this is {other.shape}.")
    solid = other.shape[2] in (1, 3)
    opacity = np.ones_like(other[..., :1]) if solid else other[..., -1:]
    colours = np.broadcast_to(other if solid else other[..., :-1], (*other.shape[:2], 3))
    if cut == "thing":
        opacity = opacity * regions.thing(colours)[..., None]
    top, left, bottom, right = bounds(opacity[..., 0] > 0)
    if top == bottom:
        raise ValueError("What is pasted is transparent all over: choose another picture.")
    return np.dstack([colours, opacity])[top:bottom, left:right].astype(np.float32)


def cut_out(other: np.ndarray | str, net: Net, share: float, *, cut: str = "whole") -> np.ndarray:
    """(h, w, C + 1), scaled for the net's pictures, the last channel its opacity. Raises as `loaded`."""
    if not share > 0:
        raise ValueError("What is pasted has a size: give a share above 0.")
    other = loaded(other, cut)
    factor = share * min(net.input_size) / max(other.shape[:2])
    size = tuple(max(round(side * factor), 1) for side in other.shape[:2])
    opacity = pictures.resize(other[..., 3:], size)
    # Colours count by their opacity: what was behind the thing does not come along at its edge.
    colours = pictures.resize(other[..., :3] * other[..., 3:], size) / np.maximum(opacity, 1e-6)
    colours = colours if net.channels == 3 else (colours @ pictures.LUMA)[..., None]
    return np.concatenate([colours, opacity], 2).clip(0, 1).astype(np.float32)


def silhouette(piece: np.ndarray, image: np.ndarray) -> np.ndarray:
    """The same shape (h, w, C + 1) in the mean colour of a picture (H, W, C)."""
    made = piece.copy()
    made[..., :-1] = image.mean((0, 1))
    return made


def pasted(image: np.ndarray, piece: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """(H, W, C) with a cut-out (h, w, C + 1) on it, its middle at `place`; what lies outside is cut off."""
    made = image.copy()
    top, left = (middle - side // 2 for middle, side in zip(place, piece.shape[:2], strict=True))
    rows, cols = (
        slice(max(start, 0), min(start + side, whole))
        for start, side, whole in zip((top, left), piece.shape[:2], image.shape[:2], strict=True)
    )
    part = piece[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left]
    made[rows, cols] += part[..., -1:] * (part[..., :-1] - made[rows, cols])
    return made


# What it comes to -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sum:
    """asked: how many places. others: class → at how many of them it wins, which without it was another's; the
    commonest first. hiding: at how many the shape alone does that. evidence: (row, col), in pixels, where hiding costs
    the class most, or None where it costs nothing. clear: at how many of the places where another class wins what is
    pasted does not reach there. farthest: the largest distance of such a place from it, in pixels.
    """

    asked: int
    others: dict[int, int]
    hiding: int
    evidence: tuple[int, int] | None
    clear: int
    farthest: float


def summed(found: Pasted) -> Sum:
    """What a map comes to, of the places that have been asked."""
    asked = found.found >= 0
    won = asked & (found.found != found.before)
    numbers = np.bincount(found.found[won], minlength=1)
    others = {int(k): int(numbers[k]) for k in np.argsort(-numbers, kind="stable") if numbers[k]}
    evidence, clear, farthest = None, 0, 0.0
    if np.nanmin(found.hidden) < found.baseline:
        i, j = np.unravel_index(np.nanargmin(found.hidden), found.hidden.shape)
        evidence = int(found.rows[i]), int(found.cols[j])
        down, right = np.abs(found.rows - evidence[0])[:, None], np.abs(found.cols - evidence[1])[None]
        away = won & ((down > found.size[0] / 2) | (right > found.size[1] / 2))
        clear, farthest = int(away.sum()), float(np.hypot(down, right)[away].max(initial=0))
    hiding = int((asked & (found.hidden_found != found.before)).sum())
    return Sum(int(asked.sum()), others, hiding, evidence, clear, farthest)

"""Where does hiding a part of the picture lower a number?

Zeiler & Fergus 2013, arXiv:1311.2901, section 4.2 (there the probability of a class, with a grey patch). The map is the
number itself, not its fall, so that it can be read without a reference: low is where the evidence is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.explain.evidence import Evidence
from engine.incremental.parts import Changed, changed
from engine.net import Net
from engine.pictures.fill import FILLS as FILLS
from engine.pictures.fill import blank
from engine.step import Step, last
from engine.target import Target, asked, class_probability, measure

FIRST = 8  # the coarsest pass visits every eighth position of each axis
DRILL = 2  # of an approximate map, every second position of each axis is always visited
NEAR = 0.6  # positions: how far around a known one an approximate map heeds what straight lines are off by there


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
    field: float = 1.0,
    drill: float = 1.0,
) -> np.ndarray:
    """The number that is asked about, with the patch at each position.

    image: (H, W, C) pixels of the net's own size. target: a class, whose probability is read, or any other Target.
    patch, stride: in pixels. fill: one of FILLS. seed: of the fill "noise". field: of each map's side, how much of what
    a patch touches is computed again at most; 1 for all of it, which is exact, and less for a quicker, approximate map
    (engine/incremental/plan.py). drill: of the positions between those that are always visited, which share is: first
    those in the middle of four, then where hiding changes most. What lies between is interpolated. Returns (rows, cols)
    in the target's unit; entry (i, j) is for the patch from (i * stride, j * stride). Raises UnknownClass, ValueError.
    """
    return last(occlusion_steps(**locals()))


def occlusion_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    patch: int = 16,
    stride: int = 8,
    fill: str = "grey",
    seed: int = 0,
    field: float = 1.0,
    drill: float = 1.0,
) -> Iterator[Step]:
    """`occlusion`, from coarse to fine, a Step per batch: positions not yet visited are NaN in its result."""
    if not 0 <= drill <= 1:
        raise ValueError("The share of positions to be visited is between 0 and 1.")
    target = asked(net, target, class_probability)
    ask, starts, corners = _asking(net, image, target, patch, stride, field)
    size = tuple(min(patch, side) for side in image.shape[:2])
    empty = blank(image, fill, seed=seed)
    values = np.full((len(starts[0]), len(starts[1])), np.nan, np.float32)
    order = coarse_to_fine(*values.shape)
    step = DRILL if drill < 1 else 1
    first = [(i, j) for i, j in order if i % step == 0 and j % step == 0]
    more = round(drill * (len(order) - len(first)))
    total, done = len(first) + more, 0

    def patches(chosen: list[tuple[int, int]]) -> Iterator[np.ndarray]:
        for i, j in chosen:
            (row, col), top, left = (corners[0][i], corners[1][j]), starts[0][i], starts[1][j]
            out = image[row : row + size[0], col : col + size[1]].copy()
            out[top - row :, left - col :] = empty[top : top + patch, left : left + patch]
            yield out

    def visited(order: list[tuple[int, int]]) -> Iterator[int]:
        for chosen in (order[k : k + ask.together] for k in range(0, len(order), ask.together)):
            places = np.array([(corners[0][i], corners[1][j]) for i, j in chosen])
            values[tuple(np.array(chosen).T)] = target.value(ask(places, np.stack(list(patches(chosen)))))
            yield len(chosen)

    for count in visited(first):
        done += count
        if done < total or step == 1:
            yield Step(done, total, values.copy())
    if step == 1:
        return
    between = interpolated(values, step)
    whole = float(measure(net, net.batch(image), target)[0])
    # First those in the middle of four, which tell most of what lies between; then where the number is furthest off.
    middle = lambda at: at[0] % step > 0 and at[1] % step > 0  # noqa: E731
    rest = sorted(set(order) - set(first), key=lambda at: (not middle(at), -abs(between[at] - whole)))
    for count in visited(rest[:more]):
        done += count
        if done < total:
            yield Step(done, total, values.copy())
    yield Step(total, total, filled(values, between))


def _asking(
    net: Net, image: np.ndarray, target: Target, patch: int, stride: int, field: float
) -> tuple[Changed, list[list[int]], list[list[int]]]:
    """What is asked with a patch changed; where patches start, by rows and by columns; and where they do within the
    picture, from which they may not stick out there."""
    sides = image.shape[:2]
    starts = [positions(side, patch, stride) for side in sides]
    size = tuple(min(patch, side) for side in sides)
    corners = [[min(start, side - s) for start in of] for of, side, s in zip(starts, sides, size, strict=True)]
    ask = changed(net, image, target.names, size, rows=corners[0], cols=corners[1], field=field)
    return ask, starts, corners


def filled(values: np.ndarray, between: np.ndarray) -> np.ndarray:
    """A map whose unknown positions (NaN) are `between`, moved as far as that is off at the known ones around them."""
    from scipy.ndimage import gaussian_filter  # which only approximate maps need

    known = ~np.isnan(values)
    off = np.where(known, values - between, 0)
    near = [gaussian_filter(each.astype(np.float64), NEAR, mode="nearest") for each in (off, known)]
    return np.where(known, values, between + near[0] / np.maximum(near[1], 1e-12)).astype(values.dtype)


def interpolated(values: np.ndarray, step: int) -> np.ndarray:
    """A map of which every step-th position of each axis is known, with straight lines between them."""
    rows, cols = (np.arange(n) for n in values.shape)
    along = np.array([np.interp(cols, cols[::step], row) for row in values[::step, ::step]])
    return np.array([np.interp(rows, rows[::step], col) for col in along.T], values.dtype).T


@dataclass(frozen=True)
class Likeness:
    """How near an approximate map comes. ssim: structural similarity to the exact one (Wang et al. 2004, with windows
    of 7 positions), 1 where they are the same. exact, approximate: (rows, cols) the two maps. work: what the other one
    takes to compute, as a share of what the exact one does.
    """

    ssim: float
    exact: np.ndarray
    approximate: np.ndarray
    work: float


def occlusion_likeness(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    patch: int = 0,
    stride: int = 0,
    fill: str = "grey",
    seed: int = 0,
    field: float = 0.5,
    drill: float = 0.3,
) -> Likeness:
    """How near the map of `occlusion` with these knobs comes to the exact one, on a picture to try it on.

    As in `occlusion`; for patch and stride 0 as in `occlusion_fall`.
    Returns Likeness. Raises UnknownClass, ValueError, also where a map has less than 3 positions a side.
    """
    return last(occlusion_likeness_steps(**locals()))


def occlusion_likeness_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    patch: int = 0,
    stride: int = 0,
    fill: str = "grey",
    seed: int = 0,
    field: float = 0.5,
    drill: float = 0.3,
) -> Iterator[Step]:
    """`occlusion_likeness`, the exact map and then the other; its result is None before the end."""
    target, (patch, stride) = asked(net, target, class_probability), _sizes(image, patch, stride)
    knobs = {"patch": patch, "stride": stride, "fill": fill, "seed": seed}
    smallest = min(len(positions(side, patch, stride)) for side in image.shape[:2])
    if smallest < 3:
        raise ValueError(
            "The two maps cannot be compared with less than 3 positions a side: take a smaller patch or stride."
        )
    maps, work = [], []
    count = len(positions(image.shape[0], patch, stride)) * len(positions(image.shape[1], patch, stride))
    for number, more in enumerate(({}, {"field": field, "drill": drill})):
        for step in occlusion_steps(net, image, target, **knobs, **more):
            found = step.result
            if step.index < step.total or number == 0:
                yield Step(number * count + step.index * count // step.total, 2 * count, None)
        maps.append(found)
        work.append(step.total * _asking(net, image, target, patch, stride, more.get("field", 1.0))[0].share)
    exact, other = maps
    yield Step(2 * count, 2 * count, Likeness(similarity(exact, other), exact, other, work[1] / work[0]))


def similarity(exact: np.ndarray, other: np.ndarray) -> float:
    """The SSIM of two maps (rows, cols), three positions a side or more: 1 where they are the same."""
    from skimage.metrics import structural_similarity  # which the page needs for approximate maps only

    smallest = min(exact.shape)
    side = min(7, smallest - 1 + smallest % 2)
    return float(structural_similarity(exact, other, win_size=side, data_range=max(float(np.ptp(exact)), 1e-12)))


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
    patch, stride = _sizes(image, patch, stride)
    whole = float(measure(net, net.batch(image), target)[0])
    for step in occlusion_steps(net, image, target, patch=patch, stride=stride, fill=fill, seed=seed):
        yield Step(step.index, step.total, spread(whole - step.result, image.shape[:2], patch, stride))


def _sizes(image: np.ndarray, patch: int, stride: int) -> tuple[int, int]:
    """Those given, and for 0 an eighth of the picture's shorter side, and half of the patch."""
    patch = patch or max(2, min(image.shape[:2]) // 8)
    return patch, stride or max(1, patch // 2)


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

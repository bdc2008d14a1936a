"""Does the network really go by what a map shows?

Four measures, none of which needs to know what is in the picture:
- Insertion and deletion (Petsiuk, Das, Saenko 2018, arXiv:1806.07421, section 4.1): pixels are shown, or hidden, in
  the order of the map. The sooner the number rises, or falls, the better; what counts is the area under the curve.
- Average drop and increase (Chattopadhyay et al. 2018, arXiv:1710.11063, section 4.1): the picture is darkened where
  the map is low.
- Infidelity (Yeh et al. 2019, arXiv:1901.09392, definition 2.1): random parts are hidden, and the map has to foretell
  how far the number falls.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from engine.explain.evidence import evidence_steps, over_picture
from engine.explain.hide_and_seek import hide
from engine.half import PRECISIONS as PRECISIONS
from engine.half import in_precision
from engine.net import Net
from engine.pictures.fill import blank
from engine.step import Step, last
from engine.target import Target, asked, class_probability, measure

CELLS, HIDDEN = 7, 0.3  # the random parts of infidelity: cells along the shorter side, and the chance of each
GREY, BLUR = "grey", "blur"  # what pixels are deleted to, and inserted into


@dataclass(frozen=True)
class Faithfulness:
    """curves: columns fraction (of the pixels), insertion and deletion (the number then).

    insertion, deletion: the areas under them, in the number's unit; high and low is good.
    drop: the share of the number that is lost where the map darkens the picture, 0 to 1; low is good. increase: 1
    where the number rises by it, else 0; its mean over pictures is the share of them.
    infidelity: mean square of what the map fails to foretell, in the number's unit squared; low is good. unexplained:
    the same as a share of the mean square of the falls themselves, 0 to 1.
    evidence: (H, W), the map that all this is about.
    """

    curves: pd.DataFrame
    insertion: float
    deletion: float
    drop: float
    increase: float
    infidelity: float
    unexplained: float
    evidence: np.ndarray


def faithfulness(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    method: str = "Grad-CAM",
    layer: str | None = None,
    points: int = 32,
    masks: int = 64,
    precision: str = "float32",
    seed: int = 0,
) -> Faithfulness:
    """Measure one method's map on one picture.

    image: (H, W, C) pixels of the net's own size. target: a class, whose probability is read, or any other Target.
    method: a title of `engine.explain.evidence.ways`. layer: for methods that take one. points: of each curve, besides
    the first. masks: how many random parts infidelity hides, 1 or more. precision: one of PRECISIONS, of the net's
    numbers while the map is judged. seed: of the random parts, and of the order of equal pixels. Returns Faithfulness.
    Raises ValueError, UnknownClass, UnknownLayer, NoGradient.
    """
    return last(faithfulness_steps(**locals()))


def faithfulness_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    method: str = "Grad-CAM",
    layer: str | None = None,
    points: int = 32,
    masks: int = 64,
    precision: str = "float32",
    seed: int = 0,
) -> Iterator[Step]:
    """`faithfulness`: first the steps of the map, then a Step per batch of pictures; what is not known yet is NaN."""
    judging, unknown = _count(points, masks), np.full(_count(points, masks), np.nan)
    for step in evidence_steps(net, image, target, method=method, layer=layer):
        found = over_picture(step.result, image.shape[:2]).astype(np.float32)
        yield Step(step.index, step.total + judging, _verdict(unknown, np.zeros(masks), points, found))
    before = step.total
    for step in judge_steps(net, image, target, found, points=points, masks=masks, precision=precision, seed=seed):
        yield Step(before + step.index, before + step.total, step.result)


def judge(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    found: np.ndarray,
    *,
    points: int = 32,
    masks: int = 64,
    precision: str = "float32",
    seed: int = 0,
) -> Faithfulness:
    """The same for a map `found` (h, w) that is there already, and is stretched over the picture if it is smaller."""
    return last(judge_steps(net, image, target, found, points=points, masks=masks, precision=precision, seed=seed))


def judge_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    found: np.ndarray,
    *,
    points: int = 32,
    masks: int = 64,
    precision: str = "float32",
    seed: int = 0,
) -> Iterator[Step]:
    """`judge`, a Step per batch of pictures."""
    net = in_precision(net, precision)
    target = asked(net, target, class_probability)
    whole = over_picture(found, image.shape[:2]).astype(np.float32)
    grey, total = blank(image, GREY), _count(points, masks)
    gone = _hidings(image.shape[:2], masks, seed)
    foretold = np.array([float(whole[part].sum(dtype=np.float64)) for part in gone])
    pictures = _pictures(image, whole, ranking(whole, seed), points, gone, grey)
    values, done = np.full(total, np.nan), 0
    while done < total:
        some = list(itertools.islice(pictures, net.batch_size))
        values[done : done + len(some)] = measure(net, net.batch(*some), target)
        done += len(some)
        yield Step(done, total, _verdict(values, foretold, points, whole))


def _count(points: int, masks: int) -> int:
    if points < 1 or masks < 1:
        raise ValueError("A curve needs a point or more besides its first, and infidelity a hidden part or more.")
    return 2 * (points + 1) + 2 + masks


def _pictures(
    image: np.ndarray, found: np.ndarray, order: np.ndarray, points: int, gone: np.ndarray, grey: np.ndarray
) -> Iterator[np.ndarray]:
    """All pictures that the network is asked about, in the order in which `_verdict` takes its answers."""
    blurred = blank(image, BLUR)
    for fraction in np.linspace(0, 1, points + 1):
        yield shown(grey, image, order, fraction)  # deletion: the first pixels are grey
    for fraction in np.linspace(0, 1, points + 1):
        yield shown(image, blurred, order, fraction)
    yield image
    yield darkened(image, found)
    for part in gone:
        yield np.where(part[:, :, None], grey, image)


def _verdict(values: np.ndarray, foretold: np.ndarray, points: int, found: np.ndarray) -> Faithfulness:
    deletion, insertion, (before, after), hidden = np.split(values, np.cumsum([points + 1, points + 1, 2]))
    fractions = np.linspace(0, 1, points + 1)
    falls = before - hidden
    # Maps have units of their own, so the factor that suits the map best is applied first, as the paper does; but none
    # below 0, which would praise a map that foretells the opposite.
    length = float((foretold**2).sum())
    factor = np.maximum(float((foretold * falls).sum()) / length, 0) if length > 0 else 0.0
    left, all_ = float(((factor * foretold - falls) ** 2).mean()), float((falls**2).mean())
    return Faithfulness(
        curves=pd.DataFrame({"fraction": fractions, "insertion": insertion, "deletion": deletion}),
        insertion=float(np.trapezoid(insertion, fractions)),
        deletion=float(np.trapezoid(deletion, fractions)),
        drop=float(np.maximum(before - after, 0) / (abs(before) or 1)),
        increase=float(after > before) if np.isfinite(after) else np.nan,
        infidelity=left,
        unexplained=left / all_ if all_ != 0 else 0.0,
        evidence=found,
    )


def ranking(found: np.ndarray, seed: int = 0) -> np.ndarray:
    """(H * W,): the places of a map (H, W) from most to least evidence; equal ones in an order drawn by `seed`."""
    chance = np.random.default_rng(seed).permutation(found.size)
    return np.lexsort((chance, -found.ravel()))


def shown(image: np.ndarray, empty: np.ndarray, order: np.ndarray, fraction: float) -> np.ndarray:
    """(H, W, C): `empty` with the first `fraction` of the places of `order` taken from `image`."""
    first = np.zeros(len(order), bool)
    first[order[: round(fraction * len(order))]] = True
    return np.where(first.reshape(*image.shape[:2], 1), image, empty)


def darkened(image: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(H, W, C): the picture times the map, scaled to [0, 1]; all of it where the map is the same everywhere."""
    low, high = float(found.min()), float(found.max())
    share = (found - low) / (high - low) if high > low else np.ones_like(found)
    return (image * share[:, :, None]).astype(np.float32)


def _hidings(size: tuple[int, int], masks: int, seed: int) -> np.ndarray:
    """(masks, H, W) bool: the random parts that are hidden."""
    random = np.random.default_rng(seed)
    nothing, all_ = np.zeros((*size, 1), np.float32), np.ones((*size, 1), np.float32)
    hidden = [hide(nothing, all_, random, CELLS, HIDDEN)[:, :, 0] > 0 for _ in range(masks)]
    return np.array(hidden, bool).reshape(masks, *size)

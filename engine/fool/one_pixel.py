"""Is one pixel enough to make the network say something else?

Su, Vargas, Kouichi 2017, arXiv:1710.08864: differential evolution (Storn & Price 1997) over a place and a colour,
without crossover. The network is only asked for scores, in batches, through ONNX Runtime: a black box. Ours departs in
three places: colours are in steps of 1/255, so that what is found is what is saved; a place that leaves the picture
comes back in on the other side; and of a single pixel only what it changes is computed again
(engine/incremental/plan.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from engine.fool.adversarial import AIMS, eight_bit
from engine.incremental.parts import changed
from engine.net import Net, softmax
from engine.statistics import share_interval
from engine.step import Step, last

if TYPE_CHECKING:
    from engine.data.dataset import Dataset
    from engine.data.examples import Examples

SHARE = 0.5  # of the difference of two candidates that is added to a third: the paper's F
SPREAD = 0.25  # of the first colours around the middle; the paper's are N(128, 127)


@dataclass(frozen=True)
class FewPixels:
    """The best candidate so far, and all of them.

    pixels: (H, W, C) in 8 bits. places: (k, 2) row and column of what was changed. colours: (k, C). probability: of the
    class that is asked about, in that picture. fooled: whether it is taken for something else, or for what it should
    be. path: (n,) that probability after each generation. genes: (population, k, 2 + C) places and colours as they are
    evolved. fitness: (population,) the probability of each, with a minus for "away".
    """

    pixels: np.ndarray
    places: np.ndarray
    colours: np.ndarray
    probability: float
    fooled: bool
    path: np.ndarray
    genes: np.ndarray = field(repr=False)
    fitness: np.ndarray = field(repr=False)

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
    population: int = 80,
    steps: int = 20,
    seed: int = 0,
) -> FewPixels:
    """The pixel, or the few, whose change lowers a class's probability most, or raises it.

    image: (H, W, C) pixels of the net's own size; it is rounded to 8 bits first. target: a class.
    aim: "away" from that class, or "toward" it. count: how many pixels may be changed.
    population: candidates in a generation (the paper has 400).
    steps: generations at most (the paper has 100), fewer where the picture is taken for what is wanted before.
    seed: of all that is drawn.
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
    population: int = 80,
    steps: int = 20,
    seed: int = 0,
    resume: FewPixels | None = None,
) -> Iterator[Step]:
    """`one_pixel`, a Step with a FewPixels after each generation; resume: go on from one of the same run."""
    k = net.class_index(target)
    original = eight_bit(net.stack(image)[0])
    shape = original.shape
    if aim not in AIMS:
        raise ValueError(f"An attack is {' or '.join(AIMS)} a class.")
    if not 1 <= count <= shape[0] * shape[1] or population < 4:
        raise ValueError("At least one pixel can be changed, at most all; and a population has at least 4 candidates.")
    sign = -1.0 if aim == "away" else 1.0
    ask = _asking(net, original, count)
    measured = lambda genes: sign * ask(*_read(genes, shape))[:, k]  # noqa: E731
    path, genes, fitness = [], None, None
    if resume is not None:
        path, genes, fitness = list(resume.path), resume.genes, resume.fitness
    for index in range(len(path), steps):
        random = np.random.default_rng((seed, index))  # the same whenever this generation is bred
        if index == 0:
            genes = _first(random, population, count, shape)
            fitness = measured(genes)
        else:
            children = _bred(random, genes, shape)
            theirs = measured(children)
            better = theirs >= fitness  # an equal one too, so that all can go on where nothing changes
            genes = np.where(better[:, None, None], children, genes)
            fitness = np.where(better, theirs, fitness)
        places, colours = (each[0] for each in _read(genes[[fitness.argmax()]], shape))
        pixels = painted(original, places[None], colours[None])[0]
        said = softmax(net.scores(net.batch(pixels)))[0]  # of the picture as it is saved, asked as anyone would
        path.append(said[k])
        fooled = bool((said.argmax() == k) == (aim == "toward"))
        drawn = np.array(path, np.float32)
        found = FewPixels(pixels, places, colours, float(said[k]), fooled, drawn, genes, fitness)
        yield Step(steps if fooled else index + 1, steps, found)
        if fooled:
            return


def painted(original: np.ndarray, places: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """(n, H, W, C): a picture (H, W, C) with k pixels changed in n ways. places: (n, k, 2). colours: (n, k, C)."""
    pixels = np.repeat(original[None], len(places), 0)
    number = np.arange(len(places))[:, None]
    pixels[number, places[..., 0], places[..., 1]] = colours
    return pixels


# Evolution ------------------------------------------------------------------------------------------------------------


def _first(random: np.random.Generator, population: int, count: int, shape: tuple[int, int, int]) -> np.ndarray:
    """(population, count, 2 + C): places anywhere, colours around the middle."""
    places = random.uniform(0, shape[:2], (population, count, 2))
    return np.concatenate([places, random.normal(0.5, SPREAD, (population, count, shape[2])).clip(0, 1)], 2)


def _bred(random: np.random.Generator, genes: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A child for each candidate, from three different ones: the paper's equation 3."""
    order = random.permutation(len(genes))
    a, b, c = (genes[np.roll(order, shift)] for shift in range(3))
    children = a + SHARE * (b - c)
    children[..., :2] %= shape[:2]
    children[..., 2:] = children[..., 2:].clip(0, 1)
    return children


def _read(genes: np.ndarray, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(n, k, 2) places and (n, k, C) colours of candidates."""
    places = np.floor(genes[..., :2]).astype(int) % shape[:2]
    return places, eight_bit(genes[..., 2:])


def _asking(net: Net, original: np.ndarray, count: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function from places (n, k, 2) and colours (n, k, C) to probabilities (n, K)."""
    if count == 1:
        of_one = changed(net, original, [net.logits], (1, 1))

        def ask(places: np.ndarray, colours: np.ndarray) -> np.ndarray:
            return softmax(of_one(places[:, 0], colours[:, None])[net.logits].reshape(len(places), -1))

        return ask
    base = net.batch(original)

    def ask_all(places: np.ndarray, colours: np.ndarray) -> np.ndarray:
        found = []
        for at in range(0, len(places), net.batch_size):
            some = places[at : at + net.batch_size]
            batch = base.repeat(len(some), 0)
            batch[np.arange(len(some))[:, None], :, some[..., 0], some[..., 1]] = colours[at : at + net.batch_size]
            found.append(net.scores(batch))
        return softmax(np.concatenate(found))

    return ask_all


# How often does it succeed? -------------------------------------------------------------------------------------------


def success(
    net: Net,
    images: np.ndarray,
    classes: Sequence[int],
    *,
    count: int = 1,
    population: int = 80,
    steps: int = 20,
    seed: int = 0,
) -> pd.DataFrame:
    """`one_pixel`, away from its class, on each of several pictures that the network has right.

    images: (N, H, W, C) pixels of the net's own size. classes: (N,) what they are. count, population, steps: as in
    `one_pixel`. seed: of the first picture; each further one has the next.
    Returns a row per picture: picture (its place), class, right (whether the network has it right before; others are
    not attacked), count, fooled, row, col (of the first changed pixel; -1 where nothing was attacked), before, after
    (probability of its class), taken_for (the likeliest class afterwards), generations.
    Raises UnknownClass, ValueError.
    """
    knobs = dict(locals())
    return last(success_steps(**knobs))


def success_steps(
    net: Net,
    images: np.ndarray,
    classes: Sequence[int],
    *,
    count: int = 1,
    population: int = 80,
    steps: int = 20,
    seed: int = 0,
    resume: pd.DataFrame | None = None,
) -> Iterator[Step]:
    """`success`, a Step after each generation with the rows of the pictures that are done; resume: go on behind those
    of the same run."""
    if len(images) != len(classes) or not len(images):
        raise ValueError(
            f"There are {len(images)} pictures and {len(classes)} classes; give at least one, and one each."
        )
    rows = [] if resume is None else resume.to_dict("records")
    for number in range(len(rows), len(images)):
        k, pixels = net.class_index(classes[number]), eight_bit(images[number])
        said = softmax(net.scores(net.batch(pixels)))[0]
        row = {"picture": number, "class": k, "right": bool(said.argmax() == k), "count": count, "fooled": False}
        row |= {"row": -1, "col": -1, "before": float(said[k]), "after": float(said[k])}
        row |= {"taken_for": int(said.argmax()), "generations": 0}
        if row["right"]:
            how = {"count": count, "population": population, "steps": steps, "seed": seed + number}
            for step in one_pixel_steps(net, pixels, k, **how):
                if step.index < step.total:
                    yield Step(number * steps + step.index, len(images) * steps, pd.DataFrame(rows))
            found = step.result
            after = softmax(net.scores(net.batch(found.pixels)))[0]
            row |= {"fooled": found.fooled, "row": int(found.places[0, 0]), "col": int(found.places[0, 1])}
            row |= {"after": found.probability, "taken_for": int(after.argmax()), "generations": len(found.path)}
        rows.append(row)
        yield Step((number + 1) * steps, len(images) * steps, pd.DataFrame(rows))


def rate(table: pd.DataFrame) -> dict[str, float]:
    """Of `success`'s table: pictures, right, fooled, rate (fooled of those right), low, high (its 95 % interval)."""
    if not len(table):
        return {"pictures": 0, "right": 0, "fooled": 0, "rate": 0.0, "low": 0.0, "high": 1.0}
    right, fooled = int(table.right.sum()), int(table.fooled.sum())
    low, high = share_interval(fooled, right)
    return {
        "pictures": len(table),
        "right": right,
        "fooled": fooled,
        "rate": fooled / max(right, 1),
        "low": low,
        "high": high,
    }


def named(table: pd.DataFrame, net: Net, data: Dataset, drawn: Examples) -> pd.DataFrame:
    """`success`'s table with the classes' labels, and each picture's number in the set and where it lies."""
    rows = drawn.rows[: len(table)].tolist()
    return table.assign(
        picture=rows,
        where=[data.where(row) for row in rows],
        label=[net.labels[k] for k in table["class"]],
        taken_for_label=[net.labels[k] for k in table.taken_for],
    )

"""How far must pictures be changed until a network is wrong? Its accuracy against the size of the change allowed.

Madry et al. 2017, arXiv:1706.06083, figure 4. One picture proves little, so it is measured on many, with the interval
that Wilson 1927 gives for a share (95 %). What counts is the picture as it is saved, in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from engine.data.examples import examples
from engine.fool.adversarial import NORMS, as_saved, attack, eight_bit
from engine.net import Net
from engine.statistics import share_interval
from engine.step import Step, last

if TYPE_CHECKING:
    from engine.data.dataset import Dataset

METHODS = ("PGD", "FGSM", "noise")  # the last one is drawn by lot and asks the network nothing: what to compare with
EPSILONS = tuple(k / 255 for k in (0, 1, 2, 4, 8, 16))
LENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0)  # the usual ones in L2
SHARES = (0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1)  # of the largest epsilon: where a curve has its points
BATCH = 16  # pictures that are attacked together: few, so that one soon sees something


def robustness(
    net: Net,
    images: np.ndarray,
    labels: Sequence[int],
    *,
    method: str = "PGD",
    norm: str = "L∞",
    epsilons: Sequence[float] = EPSILONS,
    steps: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Accuracy under attack, for several sizes of the change allowed.

    images: (N, H, W, C) pixels of the net's own size. labels: (N,) their classes. method: one of METHODS; of those in
    `engine.adversarial`, only the ones that are given an epsilon have a curve. norm, steps: as there. epsilons: sizes
    of the ball, in pixel values; 0 is the pictures as they are. seed: of what is drawn by lot.
    Returns a row per epsilon: epsilon, accuracy, low, high (its 95 % interval), right, count.
    Raises NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(robustness_steps(**knobs))


def robustness_steps(
    net: Net,
    images: np.ndarray,
    labels: Sequence[int],
    *,
    method: str = "PGD",
    norm: str = "L∞",
    epsilons: Sequence[float] = EPSILONS,
    steps: int = 10,
    seed: int = 0,
) -> Iterator[Step]:
    """`robustness`, a Step after each epsilon of each batch: the curve over the pictures that all have seen.

    A picture that was wrong under a smaller epsilon counts as wrong under a larger one: it lies in that ball, too.
    """
    _check([method], norm, epsilons)
    if len(images) != len(labels) or not len(images):
        raise ValueError(f"There are {len(images)} pictures and {len(labels)} labels; give at least one, and one each.")
    labels, order = np.asarray(labels), sorted(epsilons)
    right = np.zeros((len(order), len(images)), bool)
    batches = _batches(net, len(images))
    for number, batch in enumerate(batches):
        some, true = eight_bit(images[batch.start : batch.stop]), labels[batch.start : batch.stop]
        standing = np.ones(len(some), bool)
        for place, epsilon in enumerate(order):
            tried = np.flatnonzero(standing)
            if len(tried):
                pixels, by_lot = some[tried], seed + number
                if epsilon and method == "noise":
                    pixels = noise(pixels, epsilon, norm, by_lot)
                elif epsilon:
                    how = {"method": method, "norm": norm, "epsilon": epsilon, "steps": steps, "seed": by_lot}
                    pixels = last(attack(net, pixels, true[tried], each=False, **how)).pixels
                standing[tried] = net.scores(net.batch(*pixels)).argmax(1) == true[tried]
            right[place, batch.start : batch.stop] = standing
            done = number * len(order) + place + 1
            last_of_all = place == len(order) - 1
            seen = batch.stop if last_of_all or not batch.start else batch.start
            upto = len(order) if last_of_all or batch.start else place + 1  # in the first batch, the curve grows
            yield Step(done, len(batches) * len(order), curve(order[:upto], right[:upto, :seen], seen))


def noise(images: np.ndarray, epsilon: float, norm: str, seed: int) -> np.ndarray:
    """The pictures (B, H, W, C), which are in 8 bits, with noise that is drawn by lot, and in 8 bits again.

    In L∞ each channel of each pixel goes anywhere between -epsilon and epsilon; in L2 the change is of length epsilon
    along a direction of which none is likelier than another.
    """
    random = np.random.default_rng(seed)
    if norm == "L∞":
        change = random.uniform(-epsilon, epsilon, images.shape)
    else:
        change = random.standard_normal(images.shape)
        change *= epsilon / np.sqrt((change**2).sum((1, 2, 3), keepdims=True))
    return as_saved(images + change, images, epsilon, norm)


def curve(epsilons: Sequence[float], right: np.ndarray, count: int) -> pd.DataFrame:
    """The rows of `robustness` from (epsilons, pictures) bool."""
    hits = right.sum(1)
    low, high = zip(*(share_interval(right, count) for right in hits.tolist()), strict=True)
    return pd.DataFrame(
        {"epsilon": epsilons, "accuracy": hits / count, "low": low, "high": high, "right": hits, "count": count}
    )


def _check(methods: Sequence[str], norm: str, epsilons: Sequence[float]) -> None:
    for method in methods:
        if method not in METHODS:
            raise ValueError(f"{method} is given no epsilon and so has no curve; choose {', '.join(METHODS)}.")
    if norm not in NORMS:
        raise ValueError(f"Sizes are measured in {' or '.join(NORMS)}, not in {norm}.")
    if not len(epsilons) or not all(epsilon >= 0 for epsilon in epsilons):
        raise ValueError("Epsilon is how far a picture may be changed; give numbers of at least 0.")


def _batches(net: Net, count: int) -> list[range]:
    """Which pictures are attacked together: one at a time where the graph may name its batch size in a Reshape."""
    size = 1 if net.fixed_batch else min(BATCH, net.batch_size)
    return [range(i, min(i + size, count)) for i in range(0, count, size)]


def _answers(net: Net, images: np.ndarray) -> np.ndarray:
    """(N,) the likeliest classes of pictures (N, H, W, C) as they are saved."""
    batches = _batches(net, len(images))
    return np.concatenate([net.scores(net.batch(*eight_bit(images[b.start : b.stop]))).argmax(1) for b in batches])


# Over a data set ------------------------------------------------------------------------------------------------------


def curves(
    networks: Sequence[Net],
    data: Dataset,
    *,
    pictures: int = 32,
    methods: Sequence[str] = METHODS,
    norm: str = "L∞",
    epsilons: Sequence[float] = EPSILONS,
    steps: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """The curves of several attacks on one network or several, on pictures of a data set that are drawn by lot.

    pictures: how many, at most; the same ones for networks whose classes have the same names. methods: of METHODS.
    norm, epsilons, steps: as in `robustness`. seed: of all that is drawn by lot. Returns a row per network, attack and
    epsilon, in this order: net, attack, norm, then as in `robustness`, and known: how the classes of the pictures are
    known (engine.data.examples.Examples.by). Where that is "prediction", "right" means that the network's answer is
    still the one that it gave to the picture as it was. Raises NoGradient, BadDataset, ValueError.
    """
    knobs = dict(locals())
    return last(curves_steps(**knobs))


def curves_steps(
    networks: Sequence[Net],
    data: Dataset,
    *,
    pictures: int = 32,
    methods: Sequence[str] = METHODS,
    norm: str = "L∞",
    epsilons: Sequence[float] = EPSILONS,
    steps: int = 10,
    seed: int = 0,
    resume: pd.DataFrame | None = None,
) -> Iterator[Step]:
    """`curves`, with all the rows so far after each Step of each curve.

    resume: rows of an earlier run with the same arguments: curves that were complete are not measured again.
    """
    methods, names = list(dict.fromkeys(methods)), [net.name for net in networks]
    _check(methods, norm, epsilons)
    if not methods or not names or len(set(names)) < len(names):
        raise ValueError("Give at least one network and one attack, and no network twice.")
    made: list[pd.DataFrame] = []
    done, each = 0, 0
    for net in networks:
        drawn = examples(data, net, pictures, seed=seed)  # of one network at a time: they may be many
        classes = _answers(net, drawn.pixels) if drawn.by == "prediction" else drawn.classes
        each = len(_batches(net, len(drawn))) * len(epsilons)
        for method in methods:
            # Of networks that are still to come it is not known how many pictures there will be: as many, mostly.
            total = done + each * (len(networks) * len(methods) - len(made))
            if resume is not None:
                there = resume[(resume["net"] == net.name) & (resume["attack"] == method)]
                if len(there) == len(epsilons) and (there["count"] == len(drawn)).all():
                    made.append(there)
                    done += each
                    yield Step(done, total, pd.concat(made, ignore_index=True))
                    continue
            facts = {"net": net.name, "attack": method, "norm": norm}
            for step in robustness_steps(
                net, drawn.pixels, classes, method=method, norm=norm, epsilons=epsilons, steps=steps, seed=seed
            ):
                rows = pd.DataFrame(facts, index=step.result.index).join(step.result).assign(known=drawn.by)
                yield Step(done + step.index, total, pd.concat([*made, rows], ignore_index=True))
            made.append(rows)
            done += each


def sizes(most: float, norm: str) -> tuple[float, ...]:
    """Epsilons from 0 to `most` for a curve; in L∞ whole numbers of 255, as 8 bits know no others."""
    if norm == "L∞":
        return tuple(k / 255 for k in sorted({round(share * most * 255) for share in SHARES}))
    return tuple(round(share * most, 4) for share in SHARES)

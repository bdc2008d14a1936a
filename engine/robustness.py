"""How far must pictures be changed until a network is wrong? Its accuracy against the size of the change allowed.

Madry et al. 2017, arXiv:1706.06083, figure 4. One picture proves little, so it is measured on many, with the interval
that Wilson 1927 gives for a share (95 %).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from engine.adversarial import attack, eight_bit
from engine.confusion import interval
from engine.net import Net
from engine.step import Step, last

EPSILONS = tuple(k / 255 for k in (0, 1, 2, 4, 8, 16))
BATCH = 32  # pictures that are attacked together


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

    images: (N, H, W, C) pixels of the net's own size. labels: (N,) their classes. method, norm, steps: as in
    `engine.adversarial`; only methods that are given an epsilon, PGD and FGSM, have a curve. epsilons: sizes of the
    ball, in pixel values; 0 is the pictures as they are. seed: of the random starts.
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
    if method not in ("PGD", "FGSM"):
        raise ValueError(f"{method} is given no epsilon and so has no curve; choose PGD or FGSM.")
    if len(images) != len(labels) or not len(images):
        raise ValueError(f"There are {len(images)} pictures and {len(labels)} labels; give at least one, and one each.")
    labels, order = np.asarray(labels), sorted(epsilons)
    right = np.zeros((len(order), len(images)), bool)
    batches = [range(i, min(i + BATCH, len(images))) for i in range(0, len(images), BATCH)]
    for number, batch in enumerate(batches):
        some, true = eight_bit(images[batch.start : batch.stop]), labels[batch.start : batch.stop]
        standing = np.ones(len(some), bool)
        for place, epsilon in enumerate(order):
            tried = np.flatnonzero(standing)
            if len(tried):
                pixels = some[tried]
                if epsilon:
                    how = {"method": method, "norm": norm, "epsilon": epsilon, "steps": steps, "seed": seed + number}
                    pixels = last(attack(net, pixels, true[tried], **how)).pixels
                standing[tried] = net.scores(net.batch(*pixels)).argmax(1) == true[tried]
            right[place, batch.start : batch.stop] = standing
            done = number * len(order) + place + 1
            last_of_all = place == len(order) - 1
            seen = batch.stop if last_of_all or not batch.start else batch.start
            upto = len(order) if last_of_all or batch.start else place + 1  # in the first batch, the curve grows
            yield Step(done, len(batches) * len(order), curve(order[:upto], right[:upto, :seen], seen))


def curve(epsilons: Sequence[float], right: np.ndarray, count: int) -> pd.DataFrame:
    """The rows of `robustness` from (epsilons, pictures) bool."""
    hits = right.sum(1)
    low, high = zip(*(interval(right, count) for right in hits.tolist()), strict=True)
    return pd.DataFrame(
        {"epsilon": epsilons, "accuracy": hits / count, "low": low, "high": high, "right": hits, "count": count}
    )

"""How much does each pixel contribute to a number, so that the contributions add up to it?

Sundararajan, Taly, Yan 2017, arXiv:1703.01365, equation 1: the gradient, averaged along the straight way from a
baseline to the picture, times the difference between the two. The sum over the pixels is then the number's whole rise
("completeness", proposition 1); how far a finite number of steps is off is measured and told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.saliency import gradient, signed
from engine.net import Net
from engine.pictures.fill import FILLS, blank
from engine.step import Step, last
from engine.target import Target, asked, measure

BASELINES = FILLS
TOGETHER = 8  # points of the path in one pass
LEVELS = 3  # of refinement, each with three times the points of the one before


@dataclass(frozen=True)
class Integrated:
    """map: (H, W), what each pixel contributes, with its sign. channels: (H, W, C), the same for each channel.

    score, baseline: the number on the picture and on the baseline.
    """

    map: Evidence
    channels: np.ndarray
    score: float
    baseline: float

    @property
    def error(self) -> float:
        """By what share of the number's rise the contributions fail to add up to it; 0 is complete."""
        rise = self.score - self.baseline
        return float(abs(self.channels.sum(dtype=np.float64) - rise) / (abs(rise) or 1))


def integrated_gradients(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    baseline: str = "black",
    steps: int = 32,
    tolerance: float = 0.01,
) -> Integrated:
    """Integrated Gradients: each pixel's share in the number's rise from a baseline to the picture.

    image, target: as in `gradient`. baseline: one of BASELINES (engine/pictures/fill.py); black in the paper. steps:
    points on the way, in the middle of equal parts. tolerance: while the completeness error is larger, the parts are
    divided in three, at most twice; the paper leaves the number of steps to the user. inf takes exactly `steps`.
    Returns Integrated, in the target's unit. Raises UnknownClass, NoGradient, ValueError.
    """
    given = {"baseline": baseline, "steps": steps, "tolerance": tolerance}
    return last(integrated_gradients_steps(net, image, target, **given))


def integrated_gradients_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    baseline: str = "black",
    steps: int = 32,
    tolerance: float = 0.01,
) -> Iterator[Step]:
    """`integrated_gradients`, a Step per few points, which are visited from all parts of the way in turn."""
    target, start = asked(net, target), blank(image, baseline)
    before, score = measure(net, net.batch(start, image), target)
    random, total, done = np.random.default_rng(0), np.zeros_like(image), 0
    levels = [steps * 3**level for level in range(1 if np.isinf(tolerance) else LEVELS)]
    for level, count in enumerate(levels):
        shares = (np.arange(count, dtype=np.float32) + 0.5) / count
        if level:  # a part's middle stays the middle of its middle third, so it has been visited
            shares = np.delete(shares, np.s_[1::3])
        shares = random.permutation(shares)  # so that what is there so far is a fair estimate
        for first in range(0, len(shares), TOGETHER):
            some = shares[first : first + TOGETHER, None, None, None]
            total += gradient(net, start + some * (image - start), target).sum(0)
            done += len(some)
            channels = (image - start) * (total / done)
            found = Integrated(signed(channels), channels, float(score), float(before))
            enough = done == count and found.error <= tolerance
            yield Step(levels[-1] if enough else done, levels[-1], found)
            if enough:
                return

"""How much does each pixel contribute to a number, so that the contributions add up to it?

Sundararajan, Taly, Yan 2017, arXiv:1703.01365, equation 1: the gradient, averaged along the straight way from a
baseline to the picture, times the difference between the two. The sum over the pixels is then the number's whole rise
("completeness", proposition 1); how far a finite number of steps is off is measured and told.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.evidence import Evidence
from engine.fill import FILLS, blank
from engine.net import Net
from engine.saliency import gradient, signed
from engine.step import Step, last
from engine.target import Target, asked, measure

BASELINES = FILLS
TOGETHER = 8  # points of the path in one pass


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
    net: Net, image: np.ndarray, target: Target | int, *, baseline: str = "black", steps: int = 64
) -> Integrated:
    """Integrated Gradients: each pixel's share in the number's rise from a baseline to the picture.

    image, target: as in `gradient`. baseline: one of BASELINES (engine/fill.py); black in the paper. steps: points on
    the way, in the middle of equal parts.
    Returns Integrated, in the target's unit. Raises UnknownClass, NoGradient, ValueError.
    """
    return last(integrated_gradients_steps(net, image, target, baseline=baseline, steps=steps))


def integrated_gradients_steps(
    net: Net, image: np.ndarray, target: Target | int, *, baseline: str = "black", steps: int = 64
) -> Iterator[Step]:
    """`integrated_gradients`, a Step per few points, which are visited from all parts of the way in turn."""
    target, start = asked(net, target), blank(image, baseline)
    before, score = measure(net, net.batch(start, image), target)
    shares = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    shares = shares[np.random.default_rng(0).permutation(steps)]  # so that what is there so far is a fair estimate
    total = np.zeros_like(image)
    for first in range(0, steps, TOGETHER):
        some = shares[first : first + TOGETHER, None, None, None]
        total += gradient(net, start + some * (image - start), target).sum(0)
        done = min(first + TOGETHER, steps)
        channels = (image - start) * (total / done)
        yield Step(done, steps, Integrated(signed(channels), channels, float(score), float(before)))

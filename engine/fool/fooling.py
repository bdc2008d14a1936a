"""How far is this picture from being taken for something quite different?

Szegedy et al. 2013, arXiv:1312.6199; Nguyen, Yosinski, Clune 2014, arXiv:1412.1897; as in CS231n's assignment: the
class's log-probability is climbed from a picture of something else, until the network is as sure of it as was asked.
No ball keeps it near; it is the small steps that do, and how far it went is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from engine.fool.adversarial import distances, eight_bit, log_probability
from engine.net import Net, softmax
from engine.step import Step, last

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Fooled:
    """Where it stands. original, pixels: (H, W, C) in 8 bits. path: (n + 1, K) probabilities of all classes, of the
    original and after each step, always of the saved picture. scores: (n, 1) log-probabilities before each step, of
    the picture as it was then, not rounded. farthest, length: the change's L∞ and L2 norms, in pixel values of 0 to 1.
    x: what a run needs to go on.
    """

    original: np.ndarray
    pixels: np.ndarray
    path: np.ndarray
    scores: np.ndarray
    farthest: float
    length: float
    x: torch.Tensor = field(repr=False)

    @property
    def picture(self) -> np.ndarray:
        return self.pixels


def fooling(
    net: Net, image: np.ndarray, target: int, *, sure: float = 0.9, steps: int = 100, rate: float = 0.5
) -> Fooled:
    """The picture, changed until the network takes it for a class.

    image: (H, W, C) pixels of the net's own size; it is rounded to 8 bits first. target: the class to become. sure: the
    probability at which it ends. steps: at most. rate: the L2 norm of a step, in pixel values of 0 to 1.
    Returns Fooled; whether it succeeded is whether the last row of path has the class first.
    Raises UnknownClass, NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(fooling_steps(**knobs))


def fooling_steps(
    net: Net,
    image: np.ndarray,
    target: int,
    *,
    sure: float = 0.9,
    steps: int = 100,
    rate: float = 0.5,
    resume: Fooled | None = None,
) -> Iterator[Step]:
    """`fooling`, a Step with a Fooled after each; resume: go on from one of the same run."""
    from engine.optimize import ascend, keeps, moves

    k = net.class_index(target)
    original = eight_bit(net.stack(image))
    path = [softmax(net.scores(net.batch(original[0])))[0]] if resume is None else list(resume.path)
    for step in ascend.ascend(
        log_probability(net, [k]),
        ascend.tensor(original),
        net=net,
        steps=steps,
        move=moves.by_length(rate),
        keep=keeps.in_range,
        resume=resume and ascend.Climb(resume.pixels[None], resume.scores, resume.x),
    ):
        pixels = eight_bit(step.result.pixels)
        path.append(softmax(net.scores(net.batch(pixels[0])))[0])
        far, length = (float(each[0]) for each in distances(pixels, original))
        there = path[-1][k] >= sure
        found = Fooled(original[0], pixels[0], np.stack(path), step.result.scores, far, length, step.result.x)
        yield Step(steps if there else step.index, steps, found)
        if there:
            return

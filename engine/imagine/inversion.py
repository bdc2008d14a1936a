"""Which pictures does this layer not tell from this one? What a layer says of a picture, turned back into a picture.

Mahendran & Vedaldi 2014, arXiv:1412.0035, equation 1 with the regularisers of section 3.2: from noise, the pixels
minimise ‖Φ(x) - Φ₀‖² / ‖Φ₀‖² + variation · TV(x) + alpha · ‖x - mean‖₆⁶. Ours departs in three places: by default waves
are changed and not pixels (engine/optimize/canvas.py), by L-BFGS and not by gradient descent with momentum, which
brings late layers nearer in fewer steps; and the regularisers are means over the pixels, so that their weights do not
hang on the size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from engine.imagine.maximize import beginning
from engine.net import Net
from engine.step import Step, last
from engine.target import like
from engine.trunk import spaced

if TYPE_CHECKING:
    from engine.optimize.ascend import Climb

CANVASES, MOVES = ("waves", "pixels"), ("L-BFGS", "Adam")
LEAST = 0.05  # Adam's step, in pixel values or in the waves' x


@dataclass(frozen=True)
class Strip:
    """Several layers of one net, early to late. pictures: (N, H, W, C) in [0, 1]. errors: (N,) relative feature errors.

    layers: the N names. climb: of the last of them, which a run needs to go on.
    """

    pictures: np.ndarray
    errors: np.ndarray
    layers: tuple[str, ...]
    climb: Climb = field(repr=False)

    @property
    def picture(self) -> np.ndarray:
        """(H, N * W, C): side by side."""
        return np.concatenate(list(self.pictures), 1)


def inversion(
    net: Net,
    image: np.ndarray,
    layer: str,
    *,
    steps: int = 60,
    variation: float = 1.0,
    alpha: float = 1.0,
    canvas: str = "waves",
    move: str = "L-BFGS",
    seed: int = 0,
) -> Climb:
    """A picture of which a layer says what it says of this one, as far as it can be found from noise.

    image: (H, W, C) pixels of the net's own size. layer: any of its layers. steps: of the climb. variation: weight of
    the total variation. alpha: weight of the sixth power of the distance from the net's mean colour. canvas: what is
    changed, "waves" or "pixels". move: how, one of MOVES. seed: of the noise.
    Returns Climb; its scores are -(relative feature error)², which rise towards 0.
    Raises UnknownLayer, NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(inversion_steps(**knobs))


def inversion_steps(
    net: Net,
    image: np.ndarray,
    layer: str,
    *,
    steps: int = 60,
    variation: float = 1.0,
    alpha: float = 1.0,
    canvas: str = "waves",
    move: str = "L-BFGS",
    seed: int = 0,
    resume: Climb | None = None,
) -> Iterator[Step]:
    """`inversion`, a Step with a Climb after each; resume: go on from one of the same run."""
    from engine.optimize import ascend, keeps, moves
    from engine.optimize import canvas as canvases

    if canvas not in CANVASES or move not in MOVES:
        raise ValueError(f"A picture is changed as {' or '.join(CANVASES)}, by {' or '.join(MOVES)}.")
    target = like(net, image, layer)
    paper = canvases.waves(net.input_size, net.channels) if canvas == "waves" else canvases.plain()
    mean = net.twin.mean

    def penalty(pixels):
        return variation * keeps.total_variation(pixels) + alpha * keeps.alpha_norm(pixels, mean)

    yield from ascend.ascend(
        target,
        beginning(net, paper, image, seed=seed),
        net=net,
        steps=steps,
        move=moves.by_lbfgs() if move == "L-BFGS" else moves.by_adam(LEAST if canvas == "waves" else LEAST / 2),
        through=paper.show,
        keep=(lambda x, gradient, index: x) if paper.soft else keeps.in_range,
        penalty=penalty,
        resume=resume,
    )


def error(net: Net, image: np.ndarray, other: np.ndarray, layer: str) -> float:
    """‖Φ(other) - Φ(image)‖ / ‖Φ(image)‖ at a layer: 0 where it does not tell one from the other.

    image, other: (H, W, C) of the net's own size. Raises UnknownLayer, ValueError.
    """
    target = like(net, image, layer)
    return float(-target.value(net.activations(net.batch(other), target.names))[0]) ** 0.5


def inversion_strip(
    net: Net,
    image: np.ndarray,
    *,
    layers: Sequence[str] | None = None,
    count: int = 6,
    steps: int = 40,
    variation: float = 1.0,
    alpha: float = 1.0,
    canvas: str = "waves",
    move: str = "L-BFGS",
    seed: int = 0,
) -> Strip:
    """The same for several layers, early to late: what gets lost on the way through the network.

    layers: their names; by default as many as count says, evenly spaced along the trunk. count: how many. steps: of
    each climb. The rest is as for `inversion`.
    Returns Strip, as many pictures as layers, with their relative feature errors.
    Raises UnknownLayer, NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(inversion_strip_steps(**knobs))


def inversion_strip_steps(
    net: Net,
    image: np.ndarray,
    *,
    layers: Sequence[str] | None = None,
    count: int = 6,
    steps: int = 40,
    variation: float = 1.0,
    alpha: float = 1.0,
    canvas: str = "waves",
    move: str = "L-BFGS",
    seed: int = 0,
    resume: Strip | None = None,
) -> Iterator[Step]:
    """`inversion_strip`, a Step with a Strip of the layers begun so far after each step of each climb."""
    names = [net.layer(name).name for name in (layers or spaced(net, count))]
    knobs = {"steps": steps, "variation": variation, "alpha": alpha, "canvas": canvas, "move": move, "seed": seed}
    pixels = [] if resume is None else list(resume.pictures)
    errors = [] if resume is None else list(resume.errors)
    begun = max(len(pixels) - 1, 0)
    for place in range(begun, len(names)):
        climb = resume.climb if resume is not None and place == begun else None
        for step in inversion_steps(net, image, names[place], resume=climb, **knobs):
            found = step.result
            pixels[place:] = [found.picture]
            errors[place:] = [float(-found.scores[-1, 0]) ** 0.5]
            if step.index == steps:  # the score is that before the last step
                errors[place] = error(net, image, found.picture, names[place])
            strip = Strip(np.stack(pixels), np.array(errors), tuple(names[: place + 1]), found)
            yield Step(place * steps + step.index, len(names) * steps, strip)

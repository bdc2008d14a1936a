"""What does the network look for when it looks for this? A picture that is made to raise one number as far as it goes.

Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034, section 2; Yosinski et al. 2015, arXiv:1506.06579, section 3; Olah,
Mordvintsev, Schubert 2017, doi 10.23915/distill.00007. They differ in what keeps the picture from being noise that no
eye can read: that is what a preset is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.net import Net
from engine.step import Step, last
from engine.target import Target, asked, class_probability, class_score, units

if TYPE_CHECKING:
    from engine.optimize.ascend import Climb
    from engine.optimize.canvas import Canvas
    from engine.optimize.keeps import Keep, Penalty

STARTS = ("noise", "uniform", "zeros", "picture")
NUMBERS = ("logit", "probability")
LEAK = 0.01  # of the ReLU that a target is read behind
GRID = 8  # pictures of a layer's grid that are made at once


@dataclass(frozen=True)
class Recipe:
    """How a picture is kept readable; a knob of 0 is off.

    canvas: "pixels" or "waves" (engine/optimize/canvas.py). move: "direction" (the gradient at a mean absolute value of
    1) or "adam". rate: the step's size, in pixel values (waves: in x). decay: share of the way back to the net's mean
    colour per step. blur, blur_every: standard deviation in pixels, and after how many steps. small_norm,
    small_contribution: shares of the pixels that are put back to the mean colour in each step. variation: weight of the
    total variation. jitter: pixels of a picture of 224 (less on a smaller one), scale: share, rotate: degrees, of what
    the network is shown, at most.
    """

    canvas: str
    move: str
    rate: float
    decay: float = 0.0
    blur: float = 0.0
    blur_every: int = 4
    small_norm: float = 0.0
    small_contribution: float = 0.0
    variation: float = 0.0
    jitter: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0


# Yosinski's is the third of the four combinations in the paper's table, Simonyan's has the L2 norm alone; step sizes
# are our own, because theirs are for other units. Lucid's are its defaults, with one transformation for its chain of
# five.
RECIPES = {
    "Lucid": Recipe("waves", "adam", 0.05, jitter=8, scale=0.1, rotate=10),
    "Yosinski": Recipe("pixels", "direction", 0.01, decay=1e-4, blur=1.0, blur_every=4),
    "Yosinski, sparse": Recipe("pixels", "direction", 0.01, blur=0.5, blur_every=4, small_contribution=0.5),
    "Simonyan": Recipe("pixels", "direction", 0.004, decay=1e-3),
}
PRESETS = tuple(RECIPES)


def recipe(preset: str = "Lucid", **changes: float | str | None) -> Recipe:
    """A preset with some knobs changed; those that are None stay. Raises ValueError for a preset that is none."""
    if preset not in RECIPES:
        raise ValueError(f"There is no preset {preset!r}; there are {', '.join(PRESETS)}.")
    return dataclasses.replace(RECIPES[preset], **{k: v for k, v in changes.items() if v is not None})


def maximize(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    preset: str = "Lucid",
    start: str = "noise",
    number: str = "logit",
    steps: int = 128,
    seed: int = 0,
    canvas: str | None = None,
    rate: float | None = None,
    decay: float | None = None,
    blur: float | None = None,
    blur_every: int | None = None,
    small_norm: float | None = None,
    small_contribution: float | None = None,
    variation: float | None = None,
    jitter: float | None = None,
    scale: float | None = None,
    rotate: float | None = None,
) -> Climb:
    """A picture that raises a class's score, a channel, one neuron, or any other Target.

    image: (H, W, C) pixels of the net's own size, where the run starts if start is "picture"; otherwise not looked at.
    preset: one of PRESETS, for what is not given. start: one of STARTS. number: of a class, one of NUMBERS.
    steps: of the climb. seed: of the start and of what the network is shown. canvas: "pixels" or "waves". rate: size
    of a step. decay: share of the way back to the mean colour per step. blur: standard deviation in pixels.
    blur_every: steps between two blurs. small_norm, small_contribution: share of the pixels set to the mean colour.
    variation: weight of the total variation. jitter: pixels of 224 at most. scale: share at most. rotate: degrees at
    most.
    Returns Climb; its scores are those of the views during the climb, in the target's unit.
    Raises UnknownClass, NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(maximize_steps(**knobs))


def maximize_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    preset: str = "Lucid",
    start: str = "noise",
    number: str = "logit",
    steps: int = 128,
    seed: int = 0,
    resume: Climb | None = None,
    **changes: float | str | None,
) -> Iterator[Step]:
    """`maximize`, a Step with a Climb after each; resume: go on from one of the same run."""
    from engine.optimize import ascend

    chosen = recipe(preset, **changes)
    if number not in NUMBERS:
        raise ValueError(f"A class's {number!r} cannot be climbed; choose one of {', '.join(NUMBERS)}.")
    target = asked(net, target, class_score if number == "logit" else class_probability)
    paper = paper_for(chosen, net.input_size, net.channels)
    x = beginning(net, paper, image, start=start, seed=seed)
    how = arguments(net, target, chosen, paper, seed)
    yield from ascend.ascend(target, x, net=net, steps=steps, resume=resume, **how)


def arguments(net: Net, target: Target, chosen: Recipe, paper: Canvas, seed: int) -> dict:
    """What `ascend` is given for a recipe.

    Where a target is read behind a ReLU, that one leaks by a hundredth: from where all units are off, no gradient would
    lead away.
    """
    import torch.nn.functional as F

    from engine.optimize import moves, view

    leaky = lambda x: F.leaky_relu(x, LEAK)  # noqa: E731
    return {
        "through": paper.show,
        "view": view.robust(
            jitter=chosen.jitter * min(net.input_size) / 224, scale=chosen.scale, rotate=chosen.rotate, seed=seed
        ),
        "move": (moves.by_adam if chosen.move == "adam" else moves.by_direction)(chosen.rate),
        "keep": _keep(net, chosen, paper),
        "penalty": _penalty(chosen),
        "ops": {name: leaky for name in target.names if (node := net.graph.producer(name)) and node.op == "Relu"},
    }


def paper_for(chosen: Recipe, size: tuple[int, int], channels: int) -> Canvas:
    """The canvas of a recipe, for pictures of that size (H, W). Raises ValueError."""
    from engine.optimize import canvas

    if chosen.canvas not in ("pixels", "waves"):
        raise ValueError(f"A picture is changed as pixels or as waves, not as {chosen.canvas!r}.")
    return canvas.waves(size, channels) if chosen.canvas == "waves" else canvas.plain()


def _keep(net: Net, chosen: Recipe, paper: Canvas) -> Keep:
    from engine.optimize import keeps

    if paper.soft:  # its pixels cannot leave their range, and what it holds is no picture to be blurred
        return lambda x, gradient, index: x
    mean = net.twin.mean
    several = [
        keeps.decayed(chosen.decay, mean),
        keeps.blurred(chosen.blur, chosen.blur_every),
        keeps.without_small(chosen.small_norm, chosen.small_contribution, mean),
        keeps.in_range,
    ]
    return keeps.both(*several)


def _penalty(chosen: Recipe) -> Penalty | None:
    from engine.optimize import keeps

    if not chosen.variation:
        return None
    return lambda pixels: chosen.variation * keeps.total_variation(pixels)


def beginning(
    net: Net,
    paper: Canvas,
    image: np.ndarray,
    *,
    start: str = "noise",
    seed: int = 0,
    count: int = 1,
    size: tuple[int, int] | None = None,
):
    """x (count, …) to begin with: "noise" is faint and Gaussian around the mean colour, "uniform" of all values.

    Raises ValueError where there is no such start.
    """
    import torch

    from engine.optimize import ascend

    if start not in STARTS:
        raise ValueError(f"There is no start {start!r}; choose one of {', '.join(STARTS)}.")
    if start == "picture":
        return paper.hide(ascend.tensor(image).repeat(count, 1, 1, 1))
    height, width = size or net.input_size
    random = np.random.default_rng(seed)
    shape = (count, height, width, net.channels)
    if start == "uniform":
        pixels = random.random(shape, np.float32)
    else:
        pixels = np.broadcast_to(np.array(net.metadata.mean, np.float32), shape)
    x = paper.hide(ascend.tensor(pixels))
    if start == "noise":
        x = x + 0.01 * torch.from_numpy(random.standard_normal(tuple(x.shape)).astype(np.float32))
    return x


# A layer at once ------------------------------------------------------------------------------------------------------


def maximize_channels(
    net: Net, layer: str, *, first: int = 0, count: int = 24, preset: str = "Lucid", steps: int = 64, seed: int = 0
) -> np.ndarray:
    """A picture for each of a layer's channels.

    first, count: which channels. preset: one of PRESETS. steps: of each climb. seed: as in `maximize`.
    Returns (N, h, w, C) pixels, of the net's own size, or smaller where the layer's units see no more than that.
    Raises UnknownLayer, NoGradient, ValueError.
    """
    return last(maximize_channels_steps(net, layer, first=first, count=count, preset=preset, steps=steps, seed=seed))


def maximize_channels_steps(
    net: Net, layer: str, *, first: int = 0, count: int = 24, preset: str = "Lucid", steps: int = 64, seed: int = 0
) -> Iterator[Step]:
    """The same, a few channels of a batch after the other; those that have not begun are left out."""
    channels = net.layer(layer).shape[0]
    if not 0 <= first < channels or count < 1:
        raise ValueError(f"Layer {layer} has channels 0 to {channels - 1}; {count} from {first} on cannot be shown.")
    wanted, chosen = range(first, min(first + count, channels)), recipe(preset)
    size = seen(net, layer)
    paper = paper_for(chosen, size, net.channels)
    done: list[np.ndarray] = []
    for some in (wanted[i : i + GRID] for i in range(0, len(wanted), GRID)):
        for step in _together(net, layer, some, chosen, paper, size, steps, seed):
            at = len(done) * steps + step.index * len(some)
            yield Step(at, len(wanted) * steps, np.concatenate([*(each[None] for each in done), step.result.pixels]))
        done += list(step.result.pixels)


def _together(
    net: Net,
    layer: str,
    channels: Sequence[int],
    chosen: Recipe,
    paper: Canvas,
    size: tuple[int, int],
    steps: int,
    seed: int,
) -> Iterator[Step]:
    from engine.optimize import ascend

    x = beginning(net, paper, np.zeros(0), seed=seed, count=len(channels), size=size)
    target = units(net, layer, channels)
    yield from ascend.ascend(target, x, net=net, steps=steps, **arguments(net, target, chosen, paper, seed))


def seen(net: Net, layer: str) -> tuple[int, int]:
    """(H, W) of a picture on which a layer has a few units that see no border: the net's own size at most."""
    field = net.layer(layer).receptive_field
    whole = net.input_size
    if field.stride == (0, 0) or not net.layer(layer).has_map:
        return whole
    wanted = [
        min(max(size + 4 * stride, 32), most)
        for size, stride, most in zip(field.size, field.stride, whole, strict=True)
    ]
    return tuple(wanted)

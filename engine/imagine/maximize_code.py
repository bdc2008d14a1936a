"""What does the network look for, among pictures that look like photographs? A climb among codes and not among pixels.

Nguyen, Dosovitskiy, Yosinski, Brox, Clune 2016, arXiv:1605.09304: the picture is what a decoder makes of a code, and
the code is what is changed (equation 1). So nothing can come out that the decoder cannot draw, and it has learned from
photographs: a prior that is learned and not written down.

A decoder that was trained for one network serves as the prior of any other: what is climbed is the other's score of
what it draws.

Ours departs: codes are those of a layer with rows and columns, which say where things are, and not of a fully
connected one; each unit is measured by what it reaches on photographs and kept there, where the paper keeps it within
three standard deviations; and steps are Adam's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from engine.imagine.decoder import Decoder, decoder_for
from engine.imagine.maximize import NUMBERS
from engine.net import Net
from engine.step import Step, last
from engine.target import Target, asked, class_probability, class_score

if TYPE_CHECKING:
    from engine.optimize.ascend import Climb

STARTS = ("picture", "mean")


def maximize_code(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    start: str = "picture",
    number: str = "logit",
    steps: int = 24,
    rate: float = 0.01,
    decay: float = 0.01,
    smooth: float = 0.3,
    jitter: float = 0.0,
    seed: int = 0,
) -> Climb:
    """A picture that raises a class's score, a channel, one neuron, or any other Target, and that a decoder can draw.

    image: (H, W, C) pixels of the net's own size, whose code the run starts from if start is "picture", which only the
    decoder's own network can say; otherwise not looked at. start: one of STARTS; "mean" is the mean code of
    photographs, with a little noise. number: of a class, one of NUMBERS. steps: of the climb. Few are enough: the score
    is soon there, and what comes after is farther and farther from a photograph. rate: Adam's, as a share of what a
    unit reaches on photographs. decay: share of the way back to the mean code per step. smooth: standard deviation of a
    blur after each step, in cells of the code. jitter: pixels of 224, at most, that the network is shown the picture
    aside by. seed: of the noise and of the views.
    Returns Climb; its scores are those of the views during the climb, in the target's unit.
    Raises NoDecoder, UnknownClass, NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(maximize_code_steps(**knobs))


def maximize_code_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    start: str = "picture",
    number: str = "logit",
    steps: int = 24,
    rate: float = 0.01,
    decay: float = 0.01,
    smooth: float = 0.3,
    jitter: float = 0.0,
    seed: int = 0,
    resume: Climb | None = None,
) -> Iterator[Step]:
    """`maximize_code`, a Step with a Climb after each; resume: go on from one of the same run."""
    import torch
    import torch.nn.functional as F

    from engine.optimize import ascend, keeps, moves, view

    decoder = decoder_for(net)
    if number not in NUMBERS:
        raise ValueError(f"A class's {number!r} cannot be climbed; choose one of {', '.join(NUMBERS)}.")
    target = asked(net, target, class_score if number == "logit" else class_probability)
    span = torch.from_numpy(np.maximum(decoder.most - decoder.least, 1e-6)).view(-1, 1, 1)
    least = torch.from_numpy(decoder.least).view(-1, 1, 1)
    middle = (torch.from_numpy(decoder.mean).view(-1, 1, 1) - least) / span
    output = decoder.graph.outputs[0]

    def draw(x: torch.Tensor) -> torch.Tensor:
        code = x * span + least
        pixels = decoder.twin(code, [output])[output]
        if pixels.shape[1] != net.channels:
            pixels = pixels.mean(1, keepdim=True).expand(-1, net.channels, -1, -1)
        if pixels.shape[2:] != net.input_size:
            pixels = F.interpolate(pixels, net.input_size, mode="bilinear", antialias=True)
        return pixels

    def keep(x: torch.Tensor, gradient: torch.Tensor, index: int) -> torch.Tensor:
        x = keeps.gaussian(x, smooth) if smooth else x
        return (x + decay * (middle - x)).clamp(0, 1)

    x = (torch.from_numpy(beginning(net, decoder, image, start, seed)) - least) / span
    yield from ascend.ascend(
        target,
        x.clamp(0, 1),
        net=net,
        steps=steps,
        move=moves.by_adam(rate),
        through=draw,
        view=view.shifted(round(jitter * min(net.input_size) / 224), seed),
        keep=keep,
        resume=resume,
    )


def beginning(net: Net, decoder: Decoder, image: np.ndarray, start: str, seed: int) -> np.ndarray:
    """(1, C, h, w): the code to begin with. Raises ValueError where there is no such start."""
    if start == "picture":
        if decoder.net_sha256 != net.sha256:
            raise ValueError(f'{decoder.name} does not know what {net.name} says of a picture; start from "mean".')
        return net.activations(net.batch(image), [decoder.layer])[decoder.layer]
    if start != "mean":
        raise ValueError(f"There is no start {start!r}; choose one of {', '.join(STARTS)}.")
    noise = np.random.default_rng(seed).standard_normal((1, *decoder.shape)).astype(np.float32)
    return decoder.mean.reshape(-1, 1, 1) * (1 + 0.2 * noise)

"""What does the network see in the clouds? A picture in which all that a layer finds is made stronger.

Mordvintsev, Olah, Tyka 2015, "Inceptionism: Going Deeper into Neural Networks" (Google Research blog, 17 June 2015),
and the notebook that they published with it. Ours departs in three places: large pictures are climbed tile by tile, so
that their size costs time and not memory; the steps between two sizes are shown at the final size; and a film's later
pictures are reported once each.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import image as pictures
from engine.net import Net
from engine.pictures import samples
from engine.step import Step, last
from engine.target import Target, energy, unit
from engine.trunk import middle

if TYPE_CHECKING:
    import torch

    from engine.optimize.ascend import Climb

LARGEST, THINNEST = 4096, 8  # pixels: of the longest side at most, of the shorter one at least
BLOCK = 2**22  # products of a picture's places with the guide's that are held at once


def deepdream(
    net: Net,
    image: np.ndarray,
    *,
    layer: str | None = None,
    channel: int | None = None,
    guide: np.ndarray | str | None = None,
    picture: str | None = None,
    size: int = 480,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 10,
    rate: float = 0.01,
    jitter: int = 32,
    tile: int = 512,
    zoom: float = 0.0,
    frames: int = 1,
    seed: int = 0,
) -> Climb:
    """Make whatever a layer finds in the picture stronger, from coarse to fine.

    image: (H, W, C) pixels of any size. layer: what is made stronger, by default the one two thirds of the way through.
    channel: only this one of its channels. guide: a picture whose features are to appear: an array (H, W, 3), a
    sample's name or a file. picture: a sample's name or a file whose whole is dreamt on in place of image, which on the
    command line is cropped to what the network sees. size: of the longest side, in pixels; 0 leaves it as it is.
    octaves: sizes that are climbed. octave_scale: how much smaller each is than the next. steps: in each of them. rate:
    of a step, in pixel values, where the gradient has a mean absolute value of 1. jitter: by how many pixels at most
    the network's view is shifted. tile: side of the squares, in pixels, whose gradients are taken one at a time. zoom:
    the share by which the picture is enlarged about its centre before it is dreamt on once more. frames: how many
    pictures there are in all. seed: of the shifts.
    Returns Climb; its scores are the target's, of each step in turn, not comparable across sizes.
    Raises UnknownLayer, NoGradient, NotAPicture, ValueError.
    """
    knobs = dict(locals())
    return last(deepdream_steps(**knobs))


def deepdream_steps(
    net: Net,
    image: np.ndarray,
    *,
    layer: str | None = None,
    channel: int | None = None,
    guide: np.ndarray | str | None = None,
    picture: str | None = None,
    size: int = 480,
    octaves: int = 4,
    octave_scale: float = 1.4,
    steps: int = 10,
    rate: float = 0.01,
    jitter: int = 32,
    tile: int = 512,
    zoom: float = 0.0,
    frames: int = 1,
    seed: int = 0,
    resume: Climb | None = None,
) -> Iterator[Step]:
    """`deepdream`, a Step with a Climb after each step of the first picture and after each later picture of a film.

    Climb.pixels always has the final size; Climb.x has that of the octave. resume: go on from one of the same run.
    """
    from engine.optimize import ascend, keeps, moves, view

    if min(octaves, steps, frames) < 1 or octave_scale <= 1 or not 0 <= zoom < 1 or jitter < 0 or tile < 32:
        raise ValueError(
            "A dream takes at least 1 octave, step and frame, an octave scale above 1, a zoom of at least 0 and below "
            "1, a jitter of at least 0, and tiles of 32 pixels or more."
        )
    name = net.layer(middle(net) if layer is None else layer).name
    first = _scaled(_loaded(net, image if picture is None else picture), size)
    sizes = [tuple(max(round(side / octave_scale**k), 1) for side in first.shape[:2]) for k in range(octaves)][::-1]
    parts = max(-(-side // tile) for side in sizes[-1])
    how = {
        "move": moves.by_direction(rate),
        "view": view.shifted(max(jitter, tile // 2) if parts > 1 else jitter, seed),  # so that seams never lie still
        "keep": keeps.in_range,
    }
    dreamt = tiled(net, _target(net, name, channel, guide), tile)
    each, total = octaves * steps, frames * octaves * steps
    climb = resume or ascend.Climb(first[None].copy(), np.zeros((0, 1), np.float32), ascend.tensor(first))
    for frame in range(len(climb.scores) // each, frames):
        base = first if frame == 0 else _enlarged(climb.picture, zoom)
        grounds = [pictures.resize(base, each_size) for each_size in sizes]
        for octave, ground in enumerate(grounds):
            end = frame * each + (octave + 1) * steps
            if len(climb.scores) >= end:
                continue
            if len(climb.scores) == end - steps:
                detail = 0
                if octave:
                    detail = pictures.resize(_pixels(climb.x) - grounds[octave - 1], sizes[octave])
                climb = dataclasses.replace(climb, x=ascend.tensor(ground + detail))
            for step in ascend.ascend(dreamt, climb.x, net=net, steps=end, resume=climb, **how):
                climb = step.result
                if frame == 0 or step.index == (frame + 1) * each:
                    detail = pictures.resize(_pixels(climb.x) - ground, sizes[-1])
                    whole = ascend.shown(climb.x) if octave == octaves - 1 else np.clip(base + detail, 0, 1)[None]
                    climb = dataclasses.replace(climb, pixels=whole)
                    yield Step(step.index, total, climb)


def _pixels(x: torch.Tensor) -> np.ndarray:
    """(H, W, C) of x (1, C, H, W)."""
    return x[0].permute(1, 2, 0).numpy()


# What is dreamt on ----------------------------------------------------------------------------------------------------


def _loaded(net: Net, given: np.ndarray | str) -> np.ndarray:
    """(H, W, C) of a picture that is an array already, a sample's name, or a file. Raises NotAPicture, ValueError."""
    if isinstance(given, str):
        if given not in samples.SAMPLES and not Path(given).is_file():
            raise ValueError(f"There is no file and no sample {given!r}; the samples are {', '.join(samples.SAMPLES)}.")
        given = samples.load(given) if given in samples.SAMPLES else pictures.load(given)
    if given.ndim != 3 or given.shape[2] not in (1, 3) or 0 in given.shape:
        raise ValueError(f"A picture is float (H, W, 3) in [0, 1]; this is {given.shape}.")
    if given.shape[2] == net.channels:
        return given.astype(np.float32)
    return given.repeat(3, 2) if net.channels == 3 else (given @ pictures.LUMA)[..., None].astype(np.float32)


def _scaled(picture: np.ndarray, size: int) -> np.ndarray:
    """The picture with its longest side at `size` pixels; 0 leaves it. Raises ValueError where it gets too large or
    too thin."""
    longest = max(picture.shape[:2])
    factor = (size or longest) / longest
    height, width = (max(round(side * factor), 1) for side in picture.shape[:2])
    if size < 0 or max(height, width) > LARGEST or min(height, width) < THINNEST:
        raise ValueError(
            f"A dream of {height} × {width} pixels cannot be made: its sides have to be {THINNEST} to {LARGEST} "
            "pixels long; choose another size or a picture that is less long and thin."
        )
    return picture if factor == 1 else np.clip(pictures.resize(picture, (height, width)), 0, 1)


def _enlarged(picture: np.ndarray, zoom: float) -> np.ndarray:
    """The middle of a picture, so much enlarged that a share `zoom` of each side is lost."""
    channels = picture.shape[2]
    colour = picture if channels == 3 else picture.repeat(3, 2)
    return pictures.fit(colour, picture.shape[:2], crop=1 - zoom, channels=channels)[0]


# What is climbed ------------------------------------------------------------------------------------------------------


def _target(net: Net, layer: str, channel: int | None, guide: np.ndarray | str | None) -> Target:
    if guide is None:
        return energy(net, layer) if channel is None else unit(net, layer, channel)
    if channel is not None:
        raise ValueError("A dream follows a guide or a channel, not both: leave one of them out.")
    pixels = _loaded(net, guide)
    seen = net.view(pixels if net.channels == 3 else pixels.repeat(3, 2))[0]
    features = net.activations(net.batch(seen), [layer])[layer]
    return guided(layer, features.reshape(features.shape[1], -1))


def guided(layer: str, features: np.ndarray) -> Target:
    """How well each place of a layer goes together with the place of a guide that suits it best: the mean over the
    places of the largest dot product.

    features: (C, n), the guide's at the same layer. As in the notebook, which place suits best is found anew each step.
    """
    import torch

    theirs = torch.from_numpy(np.ascontiguousarray(features))

    def value(values: Mapping[str, Any]) -> Any:
        ours = values[layer].flatten(2)  # (B, C, m)
        with torch.no_grad():
            some = max(BLOCK // theirs.shape[1], 1)
            best = [(part.transpose(1, 2) @ theirs).argmax(2) for part in ours.split(some, 2)]  # (B, some) each
        chosen = theirs[:, torch.cat(best, 1)].transpose(0, 1)  # (B, C, m)
        return (ours * chosen).sum(1).mean(1)

    return Target((layer,), value, f"likeness of {layer} to the guide")


def tiled(net: Net, target: Target, tile: int) -> Target:
    """The same number, worked out tile by tile with its gradient, so that memory is bounded by the tile.

    target: a mean over a layer's positions. tile: pixels a side, at most; tiles are of nearly the same size, and count
    by their area. What lies across a seam is not seen together: the view has to shift it in each step.
    The target's value raises ValueError where the net cannot read a picture of that size.
    """
    import torch

    source, stride = net.graph.input, _stride(net, target.names)

    class Tiled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            total, gradient = x.new_zeros(len(x)), torch.empty_like(x)
            for rows in _spans(x.shape[2], tile, stride[0]):
                for cols in _spans(x.shape[3], tile, stride[1]):
                    part = x[:, :, rows, cols].contiguous(memory_format=torch.channels_last)
                    share = part[0, 0].numel() / x[0, 0].numel()
                    with torch.enable_grad():
                        part.requires_grad_()
                        score = share * target.value(_computed(net, target.names, part, stride))
                        (gradient[:, :, rows, cols],) = torch.autograd.grad(score.sum(), part)
                    total += score.detach()
            ctx.gradient = gradient
            return total

        @staticmethod
        def backward(ctx, upstream):
            return upstream[:, None, None, None] * ctx.gradient

    return Target((source,), lambda values: Tiled.apply(values[source]), target.title, target.unit)


def _stride(net: Net, names: tuple[str, ...]) -> tuple[int, int]:
    """(rows, columns) of pixels from one position to the next of the coarsest map up to these layers."""
    order = [layer.name for layer in net.layers]
    until = max(order.index(name) for name in names)
    fields = [layer.receptive_field for layer in net.layers[: until + 1] if layer.has_map]
    return tuple(max([1, *(math.ceil(field.stride[axis]) for field in fields)]) for axis in range(2))


def _spans(length: int, most: int, stride: int) -> list[slice]:
    """`length` in about equal parts of at most `most`, cut at multiples of the stride."""
    count = -(-length // most)
    ends = [*(round(i * length / count / stride) * stride for i in range(count)), length]
    return [slice(*pair) for pair in itertools.pairwise(ends)]


def _computed(net: Net, names: tuple[str, ...], x: torch.Tensor, stride: tuple[int, int]) -> dict[str, torch.Tensor]:
    """The Twin's tensors for a picture of any size. Raises ValueError where the graph holds to a size of its own.

    Where sides are no multiples of the stride, the last row and column are repeated: the two arms of a skip connection
    may round differently and not go together otherwise.
    """
    import torch.nn.functional as F

    size = " × ".join(map(str, x.shape[2:]))
    below, beside = (-side % step for side, step in zip(x.shape[2:], stride, strict=True))
    try:
        padded = F.pad(x, (0, beside, 0, below), mode="replicate") if below or beside else x
        values = net.twin(None, names, start={net.graph.input: padded})
    except RuntimeError as error:  # torch's only class for shapes that do not go together
        if "memory" in str(error):
            raise
        values = {}
    for name in names:
        shape = tuple(values[name].shape) if name in values else (0,)
        if shape[:2] != (len(x), net.layer(name).shape[0]) or 0 in shape:
            raise ValueError(
                f"Layer {name} of {net.name} cannot be had of {size} pixels: choose an earlier layer, fewer octaves, "
                "or a size that goes with the network's own."
            )
    return values

"""What makes a texture this texture, for a network? Noise that is changed until each two channels go together as there.

Gatys, Ecker, Bethge 2015, arXiv:1505.07376. The Gram matrices are in engine/paint/gram.py. The paper starts from white
noise and uses L-BFGS on pixels; that is `canvas="pixels", move="lbfgs"`. By default the picture is changed as waves
(engine/optimize/canvas.py), with Adam, and never shown twice at the same place, after Mordvintsev et al. 2018,
Differentiable Image Parameterizations (doi 10.23915/distill.00012): then networks other than VGG serve, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from engine.net import Net
from engine.paint.gram import coloured, multiple, scaled, scales
from engine.paint.gram import texture as texture_target
from engine.step import Step, last

if TYPE_CHECKING:
    from engine.optimize.ascend import Climb
    from engine.optimize.canvas import Canvas
    from engine.optimize.moves import Move

STARTS = ("histogram", "mean colour")
CANVASES = ("waves", "pixels")
MOVES = ("adam", "lbfgs")
LARGEST = 1024  # pixels along the longest side
PIXELS = 2.0  # how much the pixels' neighbourhoods count beside one layer
MEMORY = 128 * 2**20  # bytes that L-BFGS may remember


def texture(
    net: Net,
    image: np.ndarray,
    *,
    depth: int | None = None,
    size: int = 160,
    steps: int = 120,
    start: str = "histogram",
    canvas: str = "waves",
    move: str = "adam",
    jitter: int = 8,
    seed: int = 0,
) -> Climb:
    """A new picture of the same texture.

    image: (H, W, C) the texture, of any size. depth: up to which resolution of the net it is to agree, from 1, the
    finest; by default all (`gram.scales`). size: of the texture's longest side, to which it is brought, and of the new
    square picture, in pixels. steps: of the climb. start: one of STARTS; "histogram" is noise of the texture's pixels.
    canvas: one of CANVASES. move: one of MOVES. jitter: pixels by which what the net is shown is shifted round at most;
    none with "lbfgs", which wants the same number for the same picture. seed: of the start and of the shifts.
    Returns Climb; its scores are the Gram matrices' distances in percent, below 0 (`gram.texture`).
    Raises UnknownLayer, NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(texture_steps(**knobs))


def texture_steps(
    net: Net,
    image: np.ndarray,
    *,
    depth: int | None = None,
    size: int = 160,
    steps: int = 120,
    start: str = "histogram",
    canvas: str = "waves",
    move: str = "adam",
    jitter: int = 8,
    seed: int = 0,
    resume: Climb | None = None,
) -> Iterator[Step]:
    """`texture`, a Step with a Climb after each; resume: go on from one of the same run."""
    from engine.optimize import ascend, view

    if not 1 <= size <= LARGEST:
        raise ValueError(f"A texture of {size} pixels cannot be made; 1 to {LARGEST} can.")
    source = scaled(coloured(net, image), size, multiple=multiple(net))
    size = max(source.shape[:2])
    layers = depths(net, depth)
    target = texture_target(net, [source], [net.graph.input, *layers], emphasis=[PIXELS, *[1.0] * len(layers)])
    paper, keep = paper_of(canvas, (size, size), net.channels)
    x = beginning(source, size, paper, start, seed)
    yield from ascend.ascend(
        target,
        x,
        net=net,
        steps=steps,
        move=move_of(move, canvas, x.numel()),
        through=paper.show,
        view=view.shifted(0 if move == "lbfgs" else jitter, seed),
        keep=keep,
        resume=resume,
    )


def depths(net: Net, depth: int | None = None) -> list[str]:
    """The layers up to a depth. Raises ValueError where there is no such depth."""
    found = scales(net)
    depth = len(found) if depth is None else depth
    if not 1 <= depth <= len(found):
        raise ValueError(f"{net.name} has textures of depth 1 to {len(found)}, not {depth}.")
    return found[:depth]


def texture_depths(
    net: Net, image: np.ndarray, *, size: int = 128, steps: int = 60, start: str = "histogram", seed: int = 0
) -> np.ndarray:
    """The texture as it looks up to each depth of the net: larger and larger structures appear.

    image to seed: as in `texture`. Returns (N, size, size, C), a picture for each depth, from the finest.
    Raises UnknownLayer, NoGradient, ValueError.
    """
    return last(texture_depths_steps(net, image, size=size, steps=steps, start=start, seed=seed))


def texture_depths_steps(
    net: Net,
    image: np.ndarray,
    *,
    size: int = 128,
    steps: int = 60,
    start: str = "histogram",
    seed: int = 0,
    resume: np.ndarray | None = None,
) -> Iterator[Step]:
    """The same, one depth after the other; those that have not begun are left out.

    resume: what there was of the same run; the last depth, which may not be finished, is made again.
    """
    count, done = len(scales(net)), [] if resume is None else list(resume[:-1])
    for depth in range(len(done) + 1, count + 1):
        for step in texture_steps(net, image, depth=depth, size=size, steps=steps, start=start, seed=seed):
            yield Step(len(done) * steps + step.index, count * steps, np.stack([*done, step.result.picture]))
        done.append(step.result.picture)


# Shared with style transfer -------------------------------------------------------------------------------------------


def paper_of(canvas: str, size: tuple[int, int], channels: int) -> tuple[Canvas, object]:
    """The canvas of that name, and what keeps its pixels in their range. Raises ValueError."""
    from engine.optimize import canvas as canvases
    from engine.optimize import keeps

    if canvas not in CANVASES:
        raise ValueError(f"A picture is changed as {' or as '.join(CANVASES)}, not as {canvas!r}.")
    if canvas == "waves":
        return canvases.waves(size, channels), lambda x, gradient, index: x
    return canvases.plain(), keeps.in_range


def move_of(move: str, canvas: str, numbers: int) -> Move:
    """The move of that name; L-BFGS remembers fewer steps of a large x. Raises ValueError."""
    from engine.optimize import moves

    if move not in MOVES:
        raise ValueError(f"There is no move {move!r}; choose one of {', '.join(MOVES)}.")
    if move == "lbfgs":
        return moves.by_lbfgs(history=int(np.clip(MEMORY // (8 * numbers), 2, 20)))
    return moves.by_adam(0.05 if canvas == "waves" else 0.01)


def beginning(source: np.ndarray, size: int, paper: Canvas, start: str, seed: int):
    """x to begin with, of noise. Raises ValueError where there is no such start."""
    from engine.optimize import ascend

    if start not in STARTS:
        raise ValueError(f"There is no start {start!r}; choose one of {', '.join(STARTS)}.")
    random = np.random.default_rng(seed)
    colours = source.reshape(-1, source.shape[2])
    if start == "histogram":
        pixels = colours[random.integers(0, len(colours), (size, size))]
    else:
        pixels = colours.mean(0) + random.normal(0, 0.02, (size, size, source.shape[2]))
    return paper.hide(ascend.tensor(np.clip(pixels, 0, 1)))

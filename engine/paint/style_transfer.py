"""What does one picture look like, painted as another? What is in it stays, and how it is painted comes from the other.

Gatys, Ecker, Bethge 2016, Image Style Transfer Using Convolutional Neural Networks, CVPR (arXiv:1508.06576), equations
1 to 7; colours that are kept: Gatys, Bethge, Hertzmann, Shechtman 2016, arXiv:1606.05897; sizes that double, and
regions: Gatys et al. 2016, arXiv:1611.07865.

Each distance is a share of its own size (`gram.apart`), so that one set of weights serves every net and layer. By
default the picture is changed as waves with Adam, as in engine/paint/texture.py; the papers' own way is
`canvas="pixels", move="lbfgs"`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import image as pictures
from engine.half import PRECISIONS as PRECISIONS
from engine.half import check_precision
from engine.net import Net
from engine.optimize.tiles import Part, Tally, tiled
from engine.paint import brushwork
from engine.paint.gram import coloured, features, looked, multiple, proportions, scaled, scales, squares, texture_tally
from engine.paint.texture import move_of, paper_of
from engine.pictures import samples
from engine.pictures.regions import masks
from engine.step import Step, last

if TYPE_CHECKING:
    import torch

    from engine.optimize.ascend import Climb

STARTS = ("recoloured", "picture", "noise")
COLOURS = ("of the style", "luminance", "histogram")
LARGEST = 4096  # pixels along the longest side
TILE = 768  # pixels a side of what is worked out at once
SMALLEST = 64  # of the first of several sizes


def style_transfer(
    net: Net,
    image: np.ndarray,
    style: np.ndarray | str | Sequence[np.ndarray],
    *,
    picture: str | None = None,
    size: int = 256,
    steps: int = 120,
    stages: int = 3,
    content: float = 0.08,
    content_layer: str | None = None,
    layers: str | Sequence[str] | None = None,
    style_size: float = 1.0,
    shares: str | Sequence[float] | None = None,
    regions: str | Sequence[np.ndarray | str] | None = None,
    colours: str = "of the style",
    variation: float = 0.0,
    dream: float = 0.0,
    dream_layer: str | None = None,
    start: str = "recoloured",
    canvas: str = "waves",
    move: str = "adam",
    tile: int = TILE,
    precision: str = "float32",
    seed: int = 0,
) -> Climb:
    """The picture, painted as the style.

    image: (H, W, C) pixels of any size. style: a picture (H, W, C), several of them, or samples, files or what is drawn
    here (engine/paint/brushwork.py) by name, with commas between. picture: a sample's name or a file whose whole is
    painted in place of image, of which the command line only gives what the network sees. size: of the result's longest
    side, in pixels, about: sides are rounded to multiples of the net's coarsest stride. steps: of all stages together.
    stages: sizes that it goes through, each twice the one before and begun from its result. content: weight of the
    likeness to the picture, that of the style's being 1. content_layer: where it is measured; by default at the third
    finest of the resolutions. layers: where the style is measured, several or one text with commas between; by default
    the last of each resolution (`gram.scales`), up to the fourth. style_size: the style's longest side, as a share of
    the result's. shares: how much each style counts, several numbers or one text. regions: where each style is to be
    met, a mask (H, W) in [0, 1] for each or one text of names and files: see engine/pictures/regions.py. colours: one
    of COLOURS; "luminance" paints the greys alone and takes all colour from the picture, "histogram" gives the style
    the picture's mean colours and their covariance before it is looked at. variation: weight of the total variation.
    dream: weight of what DeepDream climbs, the energy of a layer, as a share of the picture's own. dream_layer: which;
    by default the content layer. start: one of STARTS; "recoloured" is the picture with the style's mean colours and
    their covariance. canvas: "waves" or "pixels". move: "adam" or "lbfgs". tile: a larger picture is worked out by
    tiles of so many pixels a side, in bounded memory (engine/optimize/tiles.py). precision: one of PRECISIONS, of the
    net's numbers. seed: of the noise. Returns Climb; its scores are the weighed distances in percent, below 0. Raises
    UnknownLayer, NoGradient, NotAPicture, ValueError.
    """
    knobs = dict(locals())
    return last(style_transfer_steps(**knobs))


def style_transfer_steps(
    net: Net,
    image: np.ndarray,
    style: np.ndarray | str | Sequence[np.ndarray],
    *,
    picture: str | None = None,
    size: int = 256,
    steps: int = 120,
    stages: int = 3,
    colours: str = "of the style",
    variation: float = 0.0,
    start: str = "recoloured",
    canvas: str = "waves",
    move: str = "adam",
    tile: int = TILE,
    precision: str = "float32",
    seed: int = 0,
    resume: Climb | None = None,
    **knobs: Any,
) -> Iterator[Step]:
    """`style_transfer`, a Step with a Climb after each; resume: go on from one of the same run."""
    from engine.optimize import ascend, keeps

    check_precision(precision)
    for value, allowed in ((colours, COLOURS), (start, STARTS)):
        if value not in allowed:
            raise ValueError(f"{value!r} is none of {', '.join(allowed)}.")
    if not 1 <= size <= LARGEST or tile < 1:
        raise ValueError(
            f"A picture of {size} pixels cannot be painted by tiles of {tile}; 1 to {LARGEST} can, by any."
        )
    if picture is not None:
        (image,) = opened(picture)
    if knobs.get("regions"):
        knobs["regions"] = masks(image, knobs["regions"])
    knobs["layers"], knobs["shares"] = listed(knobs.get("layers")), parted(knobs.get("shares"))
    grey = colours == "luminance" and net.channels == 3
    begin = (
        "picture" if start == "recoloured" and (grey or net.channels != 3) else start
    )  # which has no colours to give
    subject, styles = coloured(net, image), [coloured(net, each) for each in opened(style)]
    if grey:
        styles = [as_grey(each, subject) for each in styles]
    elif colours == "histogram" and net.channels == 3:
        styles = [recoloured(each, subject) for each in styles]
    climb = resume
    for side, end in _stages(size, steps, stages):
        done = 0 if climb is None else len(climb.scores)
        if end <= done:
            continue
        content = scaled(subject, side, least=1, multiple=multiple(net))
        shape = content.shape[:2]
        seen = np.broadcast_to((content @ pictures.LUMA)[..., None], content.shape) if grey else content
        target = tiled(net, wanted(net, seen, styles, side, tile=tile, **knobs), tile, half=precision == "bfloat16")
        paper, keep = paper_of(canvas, shape, 1 if grey else net.channels)
        if climb is None or climb.pixels.shape[1:3] != shape:
            pixels = (
                pictures.resize(climb.picture, shape)
                if climb
                else _first(content, begin, seed, styles, knobs["shares"], knobs.get("regions"))
            )
            pixels = (pixels @ pictures.LUMA)[..., None] if grey else pixels
            x = paper.hide(ascend.tensor(pixels))
            climb = climb and ascend.Climb(climb.pixels, climb.scores, x, None)
        else:
            x = climb.x
        cost = (lambda pixels: 100 * variation * keeps.total_variation(pixels)) if variation else None
        for step in ascend.ascend(
            target,
            x,
            net=net,
            steps=end,
            move=move_of(move, canvas, x.numel()),
            through=_tinted(paper.show, content) if grey else paper.show,
            view=_grey if grey else (lambda pixels, index: pixels),
            keep=keep,
            penalty=cost,
            resume=climb,
        ):
            climb = step.result
            yield Step(step.index, steps, climb)


def _stages(size: int, steps: int, stages: int) -> list[tuple[int, int]]:
    """(longest side, step at which it ends) of each size that has any steps."""
    if stages < 1:
        raise ValueError("A picture is painted in at least one stage.")
    smallest = min(SMALLEST, size)
    found = [(max(size >> (stages - 1 - k), smallest), steps * (k + 1) // stages) for k in range(stages)]
    return [(side, end) for side, end in found if end > 0]


def _first(
    content: np.ndarray,
    start: str,
    seed: int,
    styles: Sequence[np.ndarray],
    shares: Sequence[float] | None = None,
    regions: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """(H, W, C): what the climb begins with.

    "recoloured" is the picture with each style's colours where that is to be met, short of black and white: from there
    waves hardly move, so that a pale sky stayed pale.
    """
    if start == "noise":
        return np.random.default_rng(seed).random(content.shape, np.float32)
    if start == "picture":
        return content
    parts = proportions(shares, len(styles), "picture") if regions is None else regions
    parts = [np.asarray(part, np.float32) for part in parts]
    parts = [part if part.ndim == 0 else pictures.resize(part, content.shape[:2])[..., None] for part in parts]
    covered = sum(parts)
    found = content * np.maximum(1 - covered, 0)
    for part, style in zip(parts, styles, strict=True):
        found = found + part / np.maximum(covered, 1) * recoloured(content, style)
    return np.clip(found, 0.05, 0.95).astype(np.float32)


# What is climbed ------------------------------------------------------------------------------------------------------


def wanted(
    net: Net,
    picture: np.ndarray,
    styles: Sequence[np.ndarray],
    size: int,
    *,
    layers: Sequence[str] | None = None,
    style_size: float = 1.0,
    shares: Sequence[float] | None = None,
    regions: Sequence[np.ndarray] | None = None,
    content_layer: str | None = None,
    dream: float = 0.0,
    dream_layer: str | None = None,
    content: float = 0.08,
    tile: int = TILE,
) -> Tally:
    """The three numbers in one: texture, content and dream; see `style_transfer`. picture: at its final size."""
    if min(content, dream) < 0 or not 0.05 <= style_size <= 4:
        raise ValueError("Weights have to be 0 or more, and the style's size from 0.05 to 4 times the picture's.")
    default = scales(net)[:4]
    layers, content_layer = layers or default, content_layer or default[min(2, len(default) - 1)]
    longest = min(max(round(size * style_size), 32), LARGEST)
    shown = [scaled(each, longest, multiple=multiple(net)) for each in styles]
    target = texture_tally(net, shown, layers, shares=shares, masks=regions, tile=tile)
    if content:
        target = target + content * resemblance(net, picture, content_layer, tile)
    if dream:
        of = strength(dream_layer or content_layer)
        own = float(of.score(looked(net, picture, of.names, of.sums, tile))[0])
        target = target + (100 * dream / max(own, 1e-12)) * of
    return target


def resemblance(net: Net, picture: np.ndarray, layer: str, tile: int | None = None) -> Tally:
    """How unlike a picture of the same size is at a layer, in percent below 0: equation 1, as a share."""
    own = features(net, picture, [layer], tile)[layer]
    size = max(float((own**2).sum()), 1e-12)

    def sums(values: Mapping[str, Any], parts: Mapping[str, Part]) -> list:
        part = parts[layer]
        return [squares(values[layer], own[:, :, part.rows, part.cols])]

    return Tally((layer,), sums, 1, lambda sums: -100 * sums[0] / size, f"likeness at {layer}", "% off")


def strength(layer: str) -> Tally:
    """All that a layer says: the mean of its squares (`target.energy`)."""

    def sums(values: Mapping[str, Any], parts: Mapping[str, Part]) -> list:
        maps = values[layer]
        return [(maps**2).flatten(1).sum(1), maps.new_tensor(maps[0].numel())]

    return Tally((layer,), sums, 2, lambda sums: sums[0] / sums[1], f"all of {layer}, squared", "% off")


def listed(names: str | Sequence[str] | None) -> Sequence[str] | None:
    """Names with commas between, as a command line gives them, or as they are."""
    return [name.strip() for name in names.split(",") if name.strip()] if isinstance(names, str) else names


def parted(shares: str | Sequence[float] | None) -> Sequence[float] | None:
    """Numbers with commas between, or as they are. Raises ValueError."""
    try:
        return [float(each) for each in listed(shares)] if isinstance(shares, str) else shares
    except ValueError:
        raise ValueError(f"Shares are numbers with commas between, like 0.7,0.3, not {shares!r}.") from None


def opened(style: np.ndarray | str | Sequence[np.ndarray]) -> list[np.ndarray]:
    """The style pictures (H, W, C). Raises ValueError where there is none, NotAPicture, OSError."""
    if isinstance(style, str):
        style = [named(name) for name in listed(style)]
    found = [style] if isinstance(style, np.ndarray) else list(style)
    if not found:
        raise ValueError("A style needs at least one picture.")
    return found


def named(name: str) -> np.ndarray:
    """(H, W, 3): a style that is drawn here, a sample, or a file. Raises ValueError, NotAPicture, OSError."""
    if name in brushwork.NAMES:
        return brushwork.painted(name)
    if name in samples.SAMPLES:
        return samples.load(name)
    if not Path(name).is_file():
        known = ", ".join((*brushwork.NAMES, *samples.SAMPLES))
        raise ValueError(f"There is no file and no picture {name!r}: give a file, or one of {known}.")
    return pictures.load(Path(name))


# Colours that are kept ------------------------------------------------------------------------------------------------


def as_grey(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The style in greys of the content's mean and spread: (H, W, 3). arXiv:1606.05897, section 5."""
    own, given = style @ pictures.LUMA, content @ pictures.LUMA
    matched = (own - own.mean()) * (given.std() / max(float(own.std()), 1e-6)) + given.mean()
    return np.repeat(np.clip(matched, 0, 1)[..., None], 3, 2).astype(np.float32)


def recoloured(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """The style with the content's mean colour and covariance of colours. arXiv:1606.05897, section 4.

    By symmetric roots of the covariances. Clipped to [0, 1], which is why the two then agree only nearly.
    """

    def root(values: np.ndarray, power: float) -> np.ndarray:
        sizes, axes = np.linalg.eigh(np.cov(values.reshape(-1, 3).T) + 1e-5 * np.eye(3))
        return axes * sizes**power @ axes.T

    turned = (style - style.mean((0, 1))) @ root(style, -0.5).T @ root(content, 0.5).T + content.mean((0, 1))
    return np.clip(turned, 0, 1).astype(np.float32)


def _tinted(show: Callable, content: np.ndarray) -> Callable:
    """Greys (B, 1, H, W) as pixels of that luma in the content's colours, paler where they would leave [0, 1]."""
    from engine.optimize import ascend

    chroma = ascend.tensor(content - (content @ pictures.LUMA)[..., None])

    def through(x: torch.Tensor) -> torch.Tensor:
        luma = show(x)
        still = luma.detach()
        up = ((1 - still) / chroma.clamp(min=1e-6)).where(chroma > 0, 1.0)
        down = (still / (-chroma).clamp(min=1e-6)).where(chroma < 0, 1.0)
        room = up.minimum(down).amin(1, keepdim=True).clamp(0, 1)
        return luma + room * chroma

    return through


def _grey(pixels: torch.Tensor, index: int) -> torch.Tensor:
    """Their luma in each channel: what the net is shown where only greys are painted."""
    import torch

    luma = (pixels * torch.from_numpy(pictures.LUMA).view(3, 1, 1)).sum(1, keepdim=True)
    return luma.expand(-1, 3, -1, -1)

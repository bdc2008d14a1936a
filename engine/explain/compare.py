"""What do several methods say of the same picture? And several layers, and several networks?

A method that cannot be asked here (CAM of a network without averaging, say) does not stop the others: why it has no map
is part of the result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.explain.agreement import rank_correlations
from engine.explain.evidence import Asking, evidence_steps, over_picture, way
from engine.image import Frame, resize
from engine.net import Net
from engine.nets import certificate
from engine.step import Step, last
from engine.target import Target

SEVERAL = "Grad-CAM, Gradient, Guided backpropagation, Integrated Gradients, Occlusion, Score-CAM"
GRID = 160  # places along the longer side on which maps of different networks are ranked


@dataclass(frozen=True)
class Comparison:
    """maps: (h, w) by title, each at its own resolution and in its own unit; the last one perhaps not finished.

    correlations: (N, N) rank correlations of the finished ones, stretched over the picture, in the order of `maps`.
    refused: by title, why there is no map, in a sentence.
    """

    maps: dict[str, np.ndarray]
    correlations: np.ndarray
    refused: dict[str, str]


@dataclass(frozen=True)
class Across:
    """The same by network. frames: which part of the picture each of them saw, which is what its map covers."""

    maps: dict[str, np.ndarray]
    frames: dict[str, Frame]
    correlations: np.ndarray
    refused: dict[str, str]


def compare(
    net: Net, image: np.ndarray, target: Target | int, *, methods: str = SEVERAL, layers: str = ""
) -> Comparison:
    """The maps of several methods, or of one at several layers, and how much they agree.

    image: (H, W, C) pixels of the net's own size. target: a class, or any other Target. methods: titles of
    `engine.explain.evidence.ways`, with commas between. layers: where the methods that take one are asked, with commas
    between; by default the last before pooling. Returns Comparison. Raises ValueError for an unknown method, and where
    none of them has a map.
    """
    return last(compare_steps(net, image, target, methods=methods, layers=layers))


def compare_steps(
    net: Net, image: np.ndarray, target: Target | int, *, methods: str = SEVERAL, layers: str = ""
) -> Iterator[Step]:
    """`compare`, in hundredths of a map."""
    entries = _entries(methods, layers)
    maps: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    whole: list[np.ndarray] = []
    correlations, done = np.zeros((0, 0)), 0
    for before, (title, asking, layer) in enumerate(entries):
        try:
            for step in evidence_steps(net, image, target, method=asking.title, layer=layer):
                maps[title] = step.result
                now = 100 * before + 99 * step.index // step.total  # the last hundredth is the ranking
                if now > done:
                    done = now
                    yield Step(done, 100 * len(entries), Comparison(dict(maps), correlations, dict(refused)))
            whole.append(over_picture(maps[title], image.shape[:2]))
            correlations = rank_correlations(whole)
        except ValueError as error:
            maps.pop(title, None)
            refused[title] = str(error)
            if len(refused) == len(entries):
                raise
        done = 100 * (before + 1)
        yield Step(done, 100 * len(entries), Comparison(dict(maps), correlations, dict(refused)))


def _entries(methods: str, layers: str) -> list[tuple[str, Asking, str | None]]:
    """(title, method, layer): a method that takes a layer once for each of them."""
    askings = list(dict.fromkeys(way(name.strip()) for name in methods.split(",")))
    places = list(dict.fromkeys(name.strip() for name in layers.split(",") if name.strip()))
    found = []
    for asking in askings:
        if places and "layer" in asking.takes:
            found += [(at(asking.title, layer), asking, layer) for layer in places]
        else:
            found.append((asking.title, asking, None))
    return found


def at(method: str, layer: str) -> str:
    """The title of a method's map of one layer."""
    return f"{method} at {layer}"


def networks_steps(files: Mapping[str, Path], picture: np.ndarray, label: str, *, method: str) -> Iterator[Step]:
    """One method's map of the class `label` by several networks, in hundredths of a network; the results are Across.

    files: by name, opened one after the other. picture: (H, W, 3) of any size; each network sees its own part of it.
    A network that lacks the class, or whose gradients are needed and not certified, is among the refused.
    """
    asking, total = way(method), 100 * len(files)
    maps: dict[str, np.ndarray] = {}
    frames: dict[str, Frame] = {}
    refused: dict[str, str] = {}
    correlations, done = np.zeros((0, 0)), 0
    for before, (name, file) in enumerate(files.items()):
        try:
            net = Net(file)
            if label not in net.labels:
                raise ValueError(f"{name} has no class “{label}”.")
            if asking.needs_gradient and not (found := certificate.known(net)).passed:
                raise ValueError(f"{asking.title} needs gradients, and {name} has no certified twin. {found.reason}")
            pixels, frame = net.view(picture)
            for step in evidence_steps(net, pixels, net.labels.index(label), method=method):
                maps[name], frames[name] = step.result, frame
                now = 100 * before + 99 * step.index // step.total
                if now > done:
                    done = now
                    yield Step(done, total, Across(dict(maps), dict(frames), correlations, dict(refused)))
            correlations = rank_correlations(aligned(maps, frames))
        except ValueError as error:
            maps.pop(name, None)
            refused[name] = str(error)
        done = 100 * (before + 1)
        yield Step(done, total, Across(dict(maps), dict(frames), correlations, dict(refused)))


def aligned(maps: Mapping[str, np.ndarray], frames: Mapping[str, Frame]) -> list[np.ndarray]:
    """The maps on one grid over the part of the picture that all of the networks saw, where they can be compared."""
    seen = [frames[name] for name in maps]
    top, left = max(f.top for f in seen), max(f.left for f in seen)
    height = min(f.top + f.height for f in seen) - top
    width = min(f.left + f.width for f in seen) - left
    scale = GRID / max(height, width)  # places of the grid per pixel of the picture
    found = []
    for name, frame in zip(maps, seen, strict=True):
        whole = resize(maps[name], (round(frame.height * scale), round(frame.width * scale)))
        rows, cols = round(height * scale), round(width * scale)
        row = min(round((top - frame.top) * scale), whole.shape[0] - rows)
        col = min(round((left - frame.left) * scale), whole.shape[1] - cols)
        found.append(whole[row : row + rows, col : col + cols])
    return found

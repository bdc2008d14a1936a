"""What does a network say of a picture of which one pixel has changed, if no more than that is computed again?

Nakandala, Kumar, Papakonstantinou 2019, "Incremental and approximate inference for faster occlusion-based deep CNN
explanations", SIGMOD; the exact kind. In an early layer few units see a pixel. So what is around them is cut out of
what the unchanged picture gave there, the change is put in, and that part alone goes through the next layer. Where it
has grown to a large share of a layer, the rest of the network runs as always. The numbers are those of the whole
picture, but for their last digits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from engine.graph import Node
from engine.net import Net
from engine.receptive_field import POINTWISE, SLIDING, ReceptiveField, receptive_fields

SHARE = 0.5  # of a map's positions: where more would have to be cut out, all of it is as quick
SMALL = 64  # pixels a side: below, cutting takes longer than what it saves
ANOTHER_TYPE = frozenset(["Cast", "QuantizeLinear", "DequantizeLinear"])


@dataclass(frozen=True)
class Axis:
    """How a change moves along rows, or columns, from one map to a later one.

    seen: positions of the later one that may see the change. cut: positions of the earlier that are cut out for them, a
    multiple of `stride` from its start. first, start: (n,) for each position at which the change may begin, the first
    of the seen ones, and where the cut begins.
    """

    seen: int
    cut: int
    stride: int
    first: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Stage:
    """From the tensor `source` to `result`. run: what comes of (n, C, h, w) that was cut out of the one."""

    source: str
    result: str
    axes: tuple[Axis, Axis]
    run: Callable[[np.ndarray], np.ndarray]


_known: WeakKeyDictionary[Net, list[Stage]] = WeakKeyDictionary()  # sessions take a moment to make


def stages(net: Net) -> list[Stage]:
    """The way through the layers in which the change of one pixel stays small; empty where there is none worth it."""
    if net not in _known:
        large = min(net.input_size) >= SMALL and not net.fixed_batch and net.engine == "CPU"
        _known[net] = _found(net) if large else []
    return _known[net]


def _found(net: Net) -> list[Stage]:
    fields, shapes = receptive_fields(net.graph), net.graph.shapes
    found, before, size = [], net.graph.input, (1, 1)
    for name in _waists(net, fields):
        here = [_relative(fields[before], fields[name], k) for k in range(2)]
        sides = [(shapes[before][2 + k], shapes[name][2 + k]) for k in range(2)]
        rows, cols = (_axis(*sides[k], size[k], *here[k]) for k in range(2))
        if rows.cut * cols.cut > SHARE * sides[0][0] * sides[1][0]:
            break
        found.append(Stage(before, name, (rows, cols), net.part(before, name)))
        before, size = name, (rows.seen, cols.seen)
    return found


def _waists(net: Net, fields: dict[str, ReceptiveField]) -> list[str]:
    """The maps that everything behind them hangs on alone, in order, as far as all positions are treated alike.

    Of those that see as far, the last: what comes in between is quick, and runs as one with what it follows.
    """
    found: dict[ReceptiveField, str] = {}
    before = net.graph.input
    for layer in net.layers:
        if not layer.has_map or net.graph.frontier(layer.name, [net.logits]) != (layer.name,):
            continue
        if not all(_alike(net, node) for node in net.graph.needed([layer.name], {before})):
            break
        found[fields[layer.name]] = before = layer.name
    return list(found.values())


def _alike(net: Net, node: Node) -> bool:
    """Whether an op does the same at every position of a map, from what is around it alone."""
    graph = net.graph
    maps = [name for name in (*node.inputs, *node.outputs) if name in graph.from_input]
    shapes = [graph.shapes.get(name, ()) for name in maps]
    if not set(node.inputs) & graph.from_input or any(len(shape) != 4 for shape in shapes):
        return False
    if node.op in SLIDING:
        return True
    if len({shape[2:] for shape in shapes}) != 1:
        return False
    if node.op == "BatchNormalization":
        return True
    others = [name for name in node.inputs if name and name not in graph.from_input]
    if any(name not in graph.constants or set(graph.constants[name].shape[-2:]) - {1} for name in others):
        return False  # numbers of their own for each position
    return node.op in POINTWISE - ANOTHER_TYPE or (node.op == "Concat" and node.attributes.get("axis") in (1, -3))


def _relative(one: ReceptiveField, other: ReceptiveField, k: int) -> tuple[int, int, int]:
    """(size, stride, offset) of what a position of the later map sees of the earlier one."""
    step = one.stride[k]
    return (other.size[k] - one.size[k]) // step + 1, other.stride[k] // step, (other.offset[k] - one.offset[k]) // step


def _axis(before: int, after: int, size: int, sees: int, stride: int, offset: int) -> Axis:
    """before, after: sides of the two maps. size: of the change. sees, stride, offset: as `_relative` gives them."""
    begin = np.arange(before - size + 1)
    first = np.clip((begin - offset - sees) // stride + 1, 0, after)
    behind = np.clip(-((offset - begin - size) // stride), 0, after)  # rounded up
    seen = int((behind - first).max())
    first = np.minimum(first, after - seen)
    low = np.minimum(begin, np.maximum(offset + first * stride, 0)) // stride * stride
    high = np.maximum(begin + size, np.minimum(offset + (first + seen - 1) * stride + sees, before))
    cut = int((high - low).max())
    cut = min(cut + (before - cut) % stride, before)  # so that one at the map's end begins on a step, too
    return Axis(seen, cut, stride, first, np.minimum(low, before - cut))


def scores_of(net: Net, original: np.ndarray, way: list[Stage]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The function that gives the logits (n, K) of a picture with one pixel changed, in n ways.

    original: (H, W, C) pixels of the net's own size. way: as `stages` gives it, and not empty. The function takes
    places (n, 2), rows and columns, and colours (n, C) in [0, 1].
    """
    batch = net.batch(original)
    kept = {net.graph.input: net.normalise(batch), **net.activations(batch, [stage.result for stage in way])}

    def scores(places: np.ndarray, colours: np.ndarray) -> np.ndarray:
        at, part = places, net.normalise(colours[:, :, None, None].astype(np.float32))
        for stage in way:
            at, part = _through(stage, kept[stage.source][0], at, part)
        last = way[-1].result
        whole = kept[last].repeat(len(at), 0)
        _put(whole, part, at)
        return net.resume({last: whole}, [net.logits])[net.logits].reshape(len(at), -1)

    return scores


def _through(stage: Stage, whole: np.ndarray, at: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One stage: places (n, 2) and changed parts (n, C, h, w) of its source to those of its result.

    whole: (C, H, W) what the unchanged picture gave at the source.
    """
    size = [axis.cut for axis in stage.axes]
    start = np.stack([axis.start[at[:, k]] for k, axis in enumerate(stage.axes)], 1)
    cut = np.empty((len(at), len(whole), *size), whole.dtype)
    for k, (i, j) in enumerate(start):
        cut[k] = whole[:, i : i + size[0], j : j + size[1]]
    _put(cut, part, at - start)
    found = stage.run(cut)
    first = np.stack([axis.first[at[:, k]] for k, axis in enumerate(stage.axes)], 1)
    inner = first - start // [axis.stride for axis in stage.axes]
    rows, cols = (axis.seen for axis in stage.axes)
    return first, np.stack([each[:, i : i + rows, j : j + cols] for each, (i, j) in zip(found, inner, strict=True)])


def _put(into: np.ndarray, parts: np.ndarray, at: np.ndarray) -> None:
    """Each of parts (n, C, h, w) into its (n, C, H, W), from its row and column (n, 2) on."""
    for k, (i, j) in enumerate(at):
        into[k, :, i : i + parts.shape[2], j : j + parts.shape[3]] = parts[k]

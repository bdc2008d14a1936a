"""Which units can a patch of pixels touch?

The reverse of the receptive field: what a change of some pixels can change in each map behind them. The name and the
use are those of Nakandala, Kumar, Papakonstantinou 2019, "Incremental and approximate inference for faster
occlusion-based deep CNN explanations", SIGMOD, section 3 (their equations 9 to 18). There one patch at a time moves
forward through a chain of layers; here all places at once, along each axis, through any graph in which positions are
treated alike: where branches meet, the field is the smallest window that holds those of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from engine.model.graph import Graph, Node
from engine.model.receptive_field import POINTWISE, SLIDING, pads

ANOTHER_TYPE = frozenset(["Cast", "QuantizeLinear", "DequantizeLinear"])
EMPTY = 2**40  # a place from which nothing is touched begins here and ends at minus this


@dataclass(frozen=True)
class Sight:
    """What an op's output position o takes from a map along one axis: span positions from o * stride - before on."""

    span: int = 1
    stride: int = 1
    before: int = 0


@dataclass(frozen=True)
class Windows:
    """Where a map is touched along one axis: (n,) starts and sizes, one for each place of the change."""

    start: np.ndarray
    size: np.ndarray

    def __eq__(self, other: object) -> bool:
        same = lambda key: np.array_equal(getattr(self, key), getattr(other, key))  # noqa: E731
        return isinstance(other, Windows) and same("start") and same("size")

    __hash__ = None

    def seen(self, sight: Sight) -> Windows:
        """What has to be there of the map before, so that an op can compute these; some of it may be padding."""
        return Windows(self.start * sight.stride - sight.before, (self.size - 1) * sight.stride + sight.span)


Field = tuple[np.ndarray, np.ndarray]  # (n,) begin and (n,) end of what is touched along an axis, the end excluded


def sights(graph: Graph, node: Node) -> tuple[Sight, Sight] | None:
    """What a position of the op's output sees of its maps, by rows and by columns.

    None where the op does not treat all positions alike, from what is around them alone.
    """
    maps = [name for name in (*node.inputs, *node.outputs) if name in graph.from_input]
    shapes = [graph.shapes.get(name, ()) for name in maps]
    if not set(node.inputs) & graph.from_input or any(len(shape) != 4 for shape in shapes):
        return None
    if not graph.floats.issuperset(maps) or not graph.batched.issuperset(maps):
        return None
    if node.op in SLIDING:
        return _sliding(graph, node)
    if node.op == "Pad":
        return _pad(graph, node)
    if len({shape[2:] for shape in shapes}) != 1:
        return None
    if node.op != "BatchNormalization":
        others = [name for name in node.inputs if name and name not in graph.from_input]
        if any(name not in graph.constants or set(graph.constants[name].shape[-2:]) - {1} for name in others):
            return None  # numbers of their own for each position
        channels = node.op == "Concat" or (node.op in ("Softmax", "LogSoftmax") and node.version >= 13)
        across = channels and node.attributes.get("axis", -1) in (1, -3)
        if node.op not in POINTWISE - ANOTHER_TYPE and not across:
            return None
    return Sight(), Sight()


def _sliding(graph: Graph, node: Node) -> tuple[Sight, Sight] | None:
    weights = node.inputs[1:2] if node.op == "Conv" else ()
    if (
        any(name not in graph.constants for name in node.inputs[1:] if name)
        or len(list(filter(None, node.outputs))) > 1
    ):
        return None  # filters made of the picture; and a pool that says where it found its maxima
    kernel = node.attributes.get("kernel_shape") or list(graph.constants[weights[0]].shape[2:])
    strides, dilations = (node.attributes.get(each, [1, 1]) for each in ("strides", "dilations"))
    sides, out = (graph.shapes[name][2:] for name in (node.inputs[0], node.outputs[0]))
    padding = pads(node.attributes, kernel, sides)
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if node.op == "AveragePool":
        if any(padding) and not node.attributes.get("count_include_pad", 0):
            return None  # the mean of fewer numbers at the edge
        room = [side + padding[k] + padding[k + 2] for k, side in enumerate(sides)]
        if any((n - 1) * step + span > all_ for n, step, span, all_ in zip(out, strides, spans, room, strict=True)):
            return None  # as ceil_mode has it
    rows, cols = (Sight(spans[k], strides[k], padding[k]) for k in range(2))
    return rows, cols


def _pad(graph: Graph, node: Node) -> tuple[Sight, Sight] | None:
    named = dict(zip(("data", "pads", "value", "axes"), node.inputs, strict=False))
    numbers = {key: graph.constants.get(name) for key, name in named.items() if name and key != "data"}
    amounts = numbers.get("pads", node.attributes.get("pads"))
    if node.attributes.get("mode", "constant") != "constant" or amounts is None:
        return None
    if any(value is None for value in numbers.values()):
        return None  # computed from the picture
    axes = [int(axis) % 4 for axis in numbers.get("axes", range(4))]
    begin, end = ({axis: int(a) for axis, a in zip(axes, half, strict=True)} for half in np.split(np.array(amounts), 2))
    if any(begin.get(axis) or end.get(axis) for axis in (0, 1)):
        return None
    return Sight(before=begin.get(2, 0)), Sight(before=begin.get(3, 0))


def outside(graph: Graph, node: Node) -> float:
    """What an op takes for the positions beyond the edge of its map."""
    if node.op == "MaxPool":
        return -np.inf
    if node.op == "Pad":
        value = graph.constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else None
        return float(node.attributes.get("value", 0.0) if value is None else value.item())
    return 0.0


def fields(
    graph: Graph, nodes: Iterable[Node], touched: tuple[Field, Field], *, share: float = 1.0
) -> dict[str, tuple[Field, Field]]:
    """What is touched of each map, by rows and by columns, as far as positions are treated alike.

    nodes: in an order in which they can be computed. touched: of the network's input. share: of a map's side that a
    field may be at most; what goes beyond it, around its middle, is left out (the paper's threshold of the projective
    field, section 4.1). With 1, nothing is.
    """
    found = {graph.input: touched}
    for node in nodes:
        before = [found.get(name) for name in node.inputs if name in graph.from_input]
        sight = sights(graph, node)
        if sight is None or None in before:
            continue
        sides = graph.shapes[node.outputs[0]][2:]
        here = tuple(_through(sight[k], [field[k] for field in before], sides[k], share) for k in range(2))
        found.update({name: here for name in node.outputs if name})
    return found


def _through(sight: Sight, before: Sequence[Field], side: int, share: float) -> Field:
    low = np.min([low for low, _ in before], 0)
    high = np.max([high for _, high in before], 0)
    begin = np.maximum(-((sight.span - 1 - sight.before - low) // sight.stride), 0)  # rounded up
    end = np.minimum((high - 1 + sight.before) // sight.stride + 1, side)
    if share < 1:
        most = max(int(np.ceil(share * side)), 1)
        over = np.maximum(end - begin - most, 0)
        begin, end = begin + over // 2, end - (over - over // 2)
    empty = end <= begin
    return np.where(empty, EMPTY, begin), np.where(empty, -EMPTY, end)


def windows(field: Field, side: int, kinds: np.ndarray) -> Windows:
    """The windows that hold a field along an axis of `side` positions; of one size where the places are of one kind.

    kinds: (n,) a number for each place. Those that stick out beyond the map are moved inside.
    """
    begin, end = field
    size = np.zeros(kinds.max() + 1, int)
    np.maximum.at(size, kinds, np.clip(end - begin, 1, side))
    return Windows(np.clip(begin, 0, side - size[kinds]), size[kinds])


def kinds(sizes: np.ndarray, weights: np.ndarray, most: int) -> np.ndarray:
    """Which places to treat as one, so that what is computed for them has one size.

    sizes: (n, tensors) what is touched of each tensor from each place. weights: (tensors,) what a position of each
    costs. most: kinds at the end. Returns (n,) the number of each place's kind. Of all kinds, those two become one of
    which that makes the least more to compute, until they are few enough.
    """
    each, number, count = np.unique(np.maximum(sizes, 1), axis=0, return_inverse=True, return_counts=True)
    count, group = count.astype(float), np.arange(len(each))
    alive = np.ones(len(each), bool)
    price = lambda which: (count[which] + count) * (np.maximum(each[which], each) @ weights)  # noqa: E731
    cost = count * (each @ weights)
    more = np.array([price(i) - cost[i] - cost for i in range(len(each))])
    np.fill_diagonal(more, np.inf)
    for _ in range(len(each) - most):
        i, j = np.unravel_index(more.argmin(), more.shape)
        each[i], count[i], alive[j] = np.maximum(each[i], each[j]), count[i] + count[j], False
        group[group == j] = i
        cost = count * (each @ weights)
        more[i] = more[:, i] = price(i) - cost[i] - cost
        more[~alive] = more[:, ~alive] = np.inf
        more[i, i] = np.inf
    return np.unique(group[number.ravel()], return_inverse=True)[1]

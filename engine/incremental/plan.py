"""What does the network say of a picture of which one place has changed, if no more than that is computed again?

Nakandala, Kumar, Papakonstantinou 2019, "Incremental and approximate inference for faster occlusion-based deep CNN
explanations", SIGMOD. In each map only a window can differ from what the unchanged picture gave (engine/model/
projective_field.py). So what a layer needs for that window is cut out of what the unchanged picture gave, the changed
part is put in, and the layer computes it alone. Ours departs from the paper in four ways. Layers without a need of
neighbours run with the one before them, in one session of ONNX Runtime. A window that sticks out beyond the map is
moved inside, and what lies beyond the edge is cut out as the padding that it is, so that nothing is computed that is
thrown away. Windows have a few sizes for each map, not one, since where a change begins between two steps of a stride,
and how near the edge, decides how far it reaches. And where this stops being less work, the rest runs as always.

All numbers are those of the whole picture, but for their last digits; unless a `field` below 1 is asked for. This
file makes the plan; engine/incremental/parts.py follows it on the CPU, engine/incremental/gpu.py on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime

from engine.model import projective_field
from engine.model.graph import Graph, Node
from engine.model.projective_field import Windows
from engine.net import Net

if TYPE_CHECKING:
    pass

WORTH = 0.9  # of the full pass: what should take more than this share of it is not begun
TOGETHER = 16  # places at most that go through a layer at once
WHOLE = 64 * 2**20  # bytes of whole maps that wait for the rest of the network


@dataclass(frozen=True)
class Prices:
    """What things cost, in multiplications with addition. Only their ratios matter, and not much.

    byte: of a map that is read or written, by numpy or by an op that is no convolution. call: of a session. together:
    places that share one. kinds: sizes of windows for each map and axis, each of which takes calls of its own.
    """

    byte: float
    call: float
    together: int
    kinds: int


ON_CPU = Prices(5, 2e6, TOGETHER, 6)  # two cores with AVX-512, of which each did 90 billion a second in convolutions
ON_GPU = Prices(12, 4e9, 512, 1)  # an H100, in float32
FREE = frozenset(["Shape", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"])


@dataclass(frozen=True)
class Cut:
    """What a layer needs of the map `source`, as `name`: windows by rows and by columns; beyond the edge is `fill`."""

    name: str
    source: str
    fill: float
    windows: tuple[Windows, Windows]


@dataclass(frozen=True)
class Stage:
    """Layers that run at once: `run` makes `results` out of `cuts` and of the parts `given`, as they are.

    run: of a feed by name; on a GPU also of the results' shapes, and then it returns the results by name.
    """

    cuts: tuple[Cut, ...]
    given: tuple[str, ...]
    results: tuple[str, ...]
    run: Callable


@dataclass(frozen=True)
class Plan:
    """How numbers are had for a change of `size` pixels (rows, columns) that begins at one of `rows` and of `cols`.

    kinds: of each row and of each column, places of one kind have windows of one size. windows: by tensor. maps: those
    that the rest of the network takes whole. means: those of which it takes the mean over all positions, by the name of
    that mean. part: bytes that one place's parts take. cost: of one place. share: that, of the cost of a whole picture.
    shapes: of all tensors on the way. base: on a GPU, what makes the maps of the unchanged picture; as a Stage's run.
    """

    size: tuple[int, int]
    rows: np.ndarray
    cols: np.ndarray
    kinds: tuple[np.ndarray, np.ndarray]
    windows: Mapping[str, tuple[Windows, Windows]]
    stages: tuple[Stage, ...]
    maps: tuple[str, ...]
    means: Mapping[str, str]
    part: int
    cost: float
    share: float
    shapes: Mapping[str, tuple[int, ...]]
    base: Callable | None = None

    def unchanged(self) -> list[str]:
        """The maps of the unchanged picture that are needed."""
        cut = (cut.source for stage in self.stages for cut in stage.cuts)
        return list(dict.fromkeys([*cut, *self.maps, *self.means, *self.means.values()]))

    def numbers(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) the numbers of the rows and of the columns at which `places` (n, 2) begin.

        Raises ValueError where one is none of those that were named.
        """
        found = []
        for known, wanted in zip((self.rows, self.cols), places.T, strict=True):
            found.append(np.searchsorted(known, wanted))
            if not np.array_equal(known.take(found[-1], mode="clip"), wanted):
                raise ValueError("A place was asked about that is none of those that were named.")
        return found[0], found[1]


def gpu(net: Net) -> str | None:
    """torch's name of the device on which this net runs, if that is a GPU."""
    return "cuda" if net.engine == "CUDA" else None


# The plan -------------------------------------------------------------------------------------------------------------


def planned(
    net: Net,
    names: Sequence[str],
    size: tuple[int, int],
    rows: np.ndarray,
    cols: np.ndarray,
    *,
    field: float = 1.0,
) -> Plan | None:
    """The plan for a change of `size` at any of `rows` and `cols`; None where whole pictures are no more work.

    On a GPU there is one for these too, if it can be: with no layer by parts.
    """
    graph, on_gpu = net.graph, gpu(net) is not None
    if net.fixed_batch or (on_gpu and not graph.batched.issuperset(names)):
        return None
    prices = ON_GPU if on_gpu else ON_CPU
    nodes = [n for n in graph.needed(names) if graph.from_input.intersection(n.inputs)]
    touched = tuple((start, start + s) for start, s in zip((rows, cols), size, strict=True))
    reached = projective_field.fields(graph, nodes, touched, share=field)
    local = [n for n in nodes if n.outputs[0] in reached or (n.inputs[0] in reached and _is_mean(graph, n))]
    if all(_is_mean(graph, node) for node in local):  # or there is none
        if not on_gpu:
            return None
        local = []
    shapes = _shapes(net, nodes)
    costs = {node.outputs: _cost(graph, node, shapes, prices) for node in nodes}
    kinds = _kinds(graph, local, reached, costs, prices.kinds)
    windows = {
        name: tuple(projective_field.windows(axis, graph.shapes[name][2 + k], kinds[k]) for k, axis in enumerate(axes))
        for name, axes in reached.items()
    }
    windows[graph.input] = tuple(
        Windows(start, np.full(len(start), s)) for start, s in zip((rows, cols), size, strict=True)
    )
    layers = [_layer(graph, node, windows, costs[node.outputs], prices) for node in local]
    end, share = _end(net, names, nodes, layers, costs, prices)
    if not end or share > WORTH:
        if not on_gpu:
            return None
        end, share = 0, 1.0
        kinds = tuple(np.zeros(len(start), int) for start in (rows, cols))
    plan = Plan(size, rows, cols, kinds, windows, (), (), {}, 1, share * sum(costs.values()), share, shapes)
    return _built(net, names, nodes, layers[:end], plan)


@dataclass(frozen=True)
class _Layer:
    """One op that can be done by parts. needs: by map, the windows that it takes where they are not the map's own.

    cost: of one place's part on average, as `_cost` counts. part: bytes that it takes. mean: it takes the mean of all
    positions, which ends the way.
    """

    node: Node
    needs: Mapping[str, tuple[Windows, Windows]]
    cost: float
    part: float
    mean: bool


def _layer(
    graph: Graph, node: Node, windows: Mapping[str, tuple[Windows, Windows]], whole: float, prices: Prices
) -> _Layer:
    area = lambda pair: float(pair[0].size.mean() * pair[1].size.mean())  # noqa: E731
    maps = [name for name in dict.fromkeys(node.inputs) if name in graph.from_input]
    own = {name: area(windows[name]) * graph.shapes[name][1] for name in maps}
    if _is_mean(graph, node):
        return _Layer(node, {}, prices.byte * 4 * own[maps[0]], 4 * own[maps[0]], True)
    sight = projective_field.sights(graph, node)
    made = windows[node.outputs[0]]
    seen = tuple(axis.seen(each) for axis, each in zip(made, sight, strict=True))
    needs = {name: seen for name in maps if windows[name] != seen}
    channels, *sides = graph.shapes[node.outputs[0]][1:]
    cut = {name: area(pair) * graph.shapes[name][1] for name, pair in needs.items()}
    copied = sum(cut.values()) + sum(own[name] for name in cut)
    calls = prices.call / prices.together if needs else 0
    cost = whole * area(made) / np.prod(sides) + prices.byte * 4 * copied + calls
    return _Layer(node, needs, cost, 4 * (sum((own | cut).values()) + area(made) * channels), False)


def _is_mean(graph: Graph, node: Node) -> bool:
    """Whether an op takes the mean of a map (B, C, H, W) over all its positions."""
    if node.op == "GlobalAveragePool":
        return True
    axes = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = graph.constants.get(node.inputs[1])
    return node.op == "ReduceMean" and axes is not None and sorted(int(axis) % 4 for axis in axes) == [2, 3]


def _shapes(net: Net, nodes: Sequence[Node]) -> dict[str, tuple[int, ...]]:
    """Of all that the nodes make, where the graph alone does not say it by running them once."""
    found = dict(net.graph.shapes)
    unknown = [name for node in nodes for name in node.outputs if name and name not in found]
    if unknown:
        batch = np.zeros((1, net.channels, *net.input_size), np.float32)
        found |= {name: array.shape for name, array in net.activations(batch, unknown).items()}
    return found


def _cost(graph: Graph, node: Node, shapes: Mapping[str, tuple[int, ...]], prices: Prices) -> float:
    """What an op costs on a whole picture, in multiplications with addition."""
    if node.op in FREE:
        return 0.0
    size = lambda name: int(np.prod(shapes.get(name, (0,))))  # noqa: E731
    moved = sum(4 * size(name) for name in (*node.inputs, *node.outputs) if name in graph.from_input)
    weights = graph.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if node.op == "Conv" and weights is not None:
        return size(node.outputs[0]) * float(np.prod(weights.shape[1:])) + moved
    if node.op in ("Gemm", "MatMul") and weights is not None:
        return size(node.inputs[0]) * float(weights.size / max(weights.shape[-2:])) + moved
    return prices.byte * moved * float(np.prod(node.attributes.get("kernel_shape", [1]))) ** 0.5


def _kinds(
    graph: Graph, local: Sequence[Node], reached: Mapping[str, tuple], costs: Mapping[tuple[str, ...], float], most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of rows and of columns, which ones to treat as one: those whose changes reach about as far in what costs most."""
    maps = {graph.input: 0.0} | {node.outputs[0]: costs[node.outputs] for node in local if not _is_mean(graph, node)}
    found = []
    for k in range(2):
        sizes = np.stack([reached[name][k][1] - reached[name][k][0] for name in maps], 1)
        sides = np.array([graph.shapes[name][2 + k] for name in maps])
        found.append(projective_field.kinds(sizes, np.array(list(maps.values())) / sides, most))
    return found[0], found[1]


def _end(
    net: Net,
    names: Sequence[str],
    nodes: Sequence[Node],
    layers: Sequence[_Layer],
    costs: Mapping[tuple[str, ...], float],
    prices: Prices,
) -> tuple[int, float]:
    """How many of the layers to go by parts so that all in all it costs least, and that as a share of the full cost."""
    full = sum(costs.values())
    number = {layer.node.outputs: i for i, layer in enumerate(layers)}
    last: dict[str, int] = dict.fromkeys(names, len(layers))
    for node in nodes:
        for name in node.inputs:
            last[name] = max(last.get(name, -1), number.get(node.outputs, len(layers)))
    waiting = np.zeros(len(layers) + 2)  # bytes of whole maps that the rest takes, by where the parts end
    made = [(-1, net.graph.input, False)]
    made += [(i, name, layer.mean) for i, layer in enumerate(layers) for name in layer.node.outputs if name in last]
    for i, name, mean in made:
        size = 0 if mean else 2 * 4 * int(np.prod(net.graph.shapes[name]))
        waiting[i + 1] += size
        waiting[last[name] + 1] -= size
    parts = np.cumsum([0.0, *(layer.cost for layer in layers)])
    rest = full - np.cumsum([0.0, *(costs[layer.node.outputs] for layer in layers)])
    cost = parts + rest + prices.byte * np.cumsum(waiting)[:-1]
    end = int(cost.argmin())
    return end, float(cost[end] / full)


def _built(net: Net, names: Sequence[str], nodes: Sequence[Node], layers: Sequence[_Layer], plan: Plan) -> Plan:
    """The plan with its sessions and with what the rest of the network takes."""
    graph, made = net.graph, [net.graph.input, *(name for layer in layers for name in layer.node.outputs if name)]
    done = {layer.node.outputs for layer in layers}
    level, stages = {graph.input: 0}, {}
    for layer in layers:
        maps = [name for name in layer.node.inputs if name in graph.from_input]
        here = max(1, *(level[name] + (name in layer.needs) for name in maps))
        level |= dict.fromkeys(layer.node.outputs, here)
        stages.setdefault(here, []).append(layer)
    later = {name for node in nodes if node.outputs not in done for name in node.inputs} | set(names)
    means = {layer.node.outputs[0]: layer.node.inputs[0] for layer in layers if layer.mean}
    wanted = set(later)
    for here, some in stages.items():  # what another stage takes
        wanted |= {name for each in some for name in each.node.inputs if level.get(name, here) < here}
    plan = replace(
        plan,
        stages=tuple(_stage(net, some, wanted, here) for here, some in sorted(stages.items())),
        maps=tuple(name for name in made if name in later and name not in means),
        means={mean: name for mean, name in means.items() if mean in later},
        part=int(max((layer.part for layer in layers), default=1)),
    )
    base = [name for name in plan.unchanged() if name != graph.input]
    if not gpu(net) or not base:
        return plan
    return replace(plan, base=_runs(net, [net.proto(node) for node in graph.needed(base)], [graph.input], base))


def _stage(net: Net, layers: Sequence[_Layer], wanted: set[str], number: int) -> Stage:
    graph, cuts, given, nodes = net.graph, {}, {}, []
    inside = [name for layer in layers for name in layer.node.outputs]
    for layer in layers:
        renamed = {}
        for name in layer.node.inputs:
            if name in layer.needs:
                fill = projective_field.outside(graph, layer.node)
                pair = layer.needs[name]
                key = (name, fill, *(each.tobytes() for axis in pair for each in (axis.start, axis.size)))
                cut = cuts.setdefault(key, Cut(f"{name} cut {number}.{len(cuts)}", name, fill, pair))
                renamed[name] = cut.name
            elif name in graph.from_input and name not in inside:
                given[name] = None
        nodes.append(_by_parts(net.proto(layer.node), renamed))
    results = tuple(name for name in inside if name in wanted)
    takes = [*(cut.name for cut in cuts.values()), *given]
    return Stage(tuple(cuts.values()), tuple(given), results, _runs(net, nodes, takes, results))


def _runs(net: Net, nodes: Sequence[onnx.NodeProto], given: Sequence[str], results: Sequence[str]) -> Callable:
    """Nodes made ready to be run, as Stage.run says."""
    if not gpu(net):
        return partial(_run, net.stage(nodes, given, results, one_core=True), results)
    from engine.incremental import bound

    return partial(bound.run, net.stage(nodes, given, results, one_core=False))


def _run(
    session: onnxruntime.InferenceSession, results: Sequence[str], feed: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    return session.run(list(results), feed)


def _by_parts(node: onnx.NodeProto, renamed: Mapping[str, str]) -> onnx.NodeProto:
    """The op on parts that bring their padding along."""
    own = onnx.NodeProto()
    own.CopyFrom(node)
    if own.op_type == "Pad":
        own.op_type = "Identity"
        del own.input[1:], own.attribute[:]
    kept = [a for a in own.attribute if a.name not in ("pads", "auto_pad", "ceil_mode", "count_include_pad")]
    del own.attribute[:]
    own.attribute.extend(kept)
    for k, name in enumerate(own.input):
        own.input[k] = renamed.get(name, name)
    return own

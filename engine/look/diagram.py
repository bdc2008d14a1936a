"""How do a network's parts hang together? Its graph as boxes and arrows, in the DOT language of Graphviz.

A deep network is one structure many times over. So what belongs together is one box: at the level of layers, a
convolution with the normalisation and activation that only it feeds; at that of modules, all that stands in one module.
Exporters name tensors or weights after the modules that they belong to (`blocks.0.conv1`, `inception_3a/1x1`,
`/layer1/layer1.0/conv1/Conv_output_0`), and nothing else is known of modules here.

Graphviz itself is not needed to write DOT: the browser draws it. Language: https://graphviz.org/doc/info/lang.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from engine.look.anatomy import WEIGHTED, kind
from engine.model.graph import Graph, Node
from engine.net import Net

LEVELS = ("modules", "layers", "every op")
MANY = 60  # boxes, beyond which a drawing is no longer taken in at once
COARSER = 0.7  # as many boxes of modules as of layers are at most worth a level of their own
GROUPS = (2, 40)  # frames around parts: so many make a drawing readable
COVERED = 0.6  # of the boxes that should be within one
INK, LINES, ACCENT = "#10161c", "#868e96", "#e8590c"  # text on boxes; arrows, seen on both themes; the chosen box
COLOURS = {
    "convolution": "#7db8e8",
    "linear": "#b8a6e8",
    "normalisation": "#b4bcc4",
    "activation": "#f7ad6d",
    "pooling": "#84cc8a",
    "merging": "#f29bbd",
    "rearranging": "#dac878",
    "other": "#d3d8dc",
}  # of the kinds of ops: light enough for INK, and seen on both themes
# Ops that say something only together with what they follow.
_FOLLOWERS = frozenset(
    """
    Add BatchNormalization Cast Celu Clip Div Dropout Elu Erf Gelu HardSigmoid HardSwish Identity InstanceNormalization
    LRN LeakyRelu LogSoftmax Mish Mul PRelu Relu Selu Sigmoid Softmax Softplus Softsign Sub Swish Tanh ThresholdedRelu
    """.split()  # noqa: SIM905 (as in receptive_field.py)
)
_SHORT = {
    "AveragePool": "AvgPool",
    "BatchNormalization": "BatchNorm",
    "ConvTranspose": "ConvTransposed",
    "GlobalAveragePool": "GlobalAvgPool",
    "InstanceNormalization": "InstanceNorm",
    "LayerNormalization": "LayerNorm",
}


@dataclass(frozen=True)
class Box:
    """Ops that are drawn as one. name: the tensor that it goes by, that of the op with weights, else of its first one.
    nodes: in the order of the graph. title: for people. group: the module that it stands in, "" for none."""

    name: str
    nodes: tuple[Node, ...]
    title: str
    group: str

    @property
    def tensors(self) -> list[str]:
        return [name for node in self.nodes for name in node.outputs if name]

    @property
    def kind(self) -> str:
        """That of the op it goes by; a module's is that of most of its ops with weights."""
        weighted = [kind(node.op) for node in self.nodes if kind(node.op) in ("convolution", "linear")]
        if weighted:
            return Counter(weighted).most_common(1)[0][0]
        return kind(next(node.op for node in self.nodes if self.name in node.outputs))


@dataclass(frozen=True)
class Diagram:
    """boxes: by their names, in order. arrows: (from, to, tensor), names of boxes; the first one comes from the input,
    whose name is that of its tensor."""

    boxes: Mapping[str, Box]
    arrows: tuple[tuple[str, str, str], ...]
    input: str

    def box_of(self, tensor: str) -> str:
        """The box that makes a tensor; "" where none does."""
        return next((name for name, box in self.boxes.items() if tensor in box.tensors), "")

    def within(self, tensors: Collection[str]) -> frozenset[str]:
        """The boxes that make any of these tensors."""
        return frozenset(name for name, box in self.boxes.items() if not set(tensors).isdisjoint(box.tensors))

    def around(self, name: str, steps: int = 4) -> frozenset[str]:
        """The boxes that are at most so many arrows away."""
        found = {name}
        for _ in range(steps):
            found |= {end for a, b, _ in self.arrows if found & {a, b} for end in (a, b)}
        return frozenset(found & set(self.boxes))


def path(tensor: str, op: str = "") -> tuple[str, ...]:
    """The modules that a tensor is named after, from the outermost: ("layer1", "0", "conv1").

    op: what made it, whose name older exporters put behind.
    """
    name = tensor.strip("/")
    if "/" not in name:
        return tuple(part for part in name.split(".") if part)
    parts: list[str] = []
    before = ""
    for part in name.split("/"):  # "layer1/layer1.0/conv1": each names the ones before it again
        parts += part.removeprefix(f"{before}.").split(".") if before and part.startswith(f"{before}.") else [part]
        before = part
    if op and parts and parts[-1].startswith(op):
        parts.pop()
    return tuple(part for part in parts if part)


def diagram(net: Net, level: str = "layers") -> Diagram:
    """The graph of all floats that depend on the picture, in boxes. level: one of LEVELS."""
    if level not in LEVELS:
        raise ValueError(f"There is no level {level!r}; the levels are {', '.join(LEVELS)}.")
    graph = net.graph
    # Shapes that older exporters compute on the way are whole numbers, and show nothing of the network.
    nodes = [n for n in graph.nodes if n.outputs[0] in graph.from_input and graph.floats.intersection(n.outputs)]
    units = [[node] for node in nodes] if level == "every op" else _chains(graph, nodes)
    paths = _paths(units, graph)
    titles, groups = [".".join(each) for each in paths], _groups(paths)
    if level == "modules":
        units, titles = _modules(units, paths)
        groups = [""] * len(units)
    boxes = {}
    for unit, title, group in zip(units, titles, groups, strict=True):
        name = _main(unit).outputs[0]
        boxes[name] = Box(name, tuple(unit), title or name, group)
    maker = {tensor: name for name, box in boxes.items() for tensor in box.tensors} | {graph.input: graph.input}
    arrows = {}
    for name, box in boxes.items():
        for node in box.nodes:
            for tensor in node.inputs:
                start = maker.get(tensor)
                if start is not None and start != name:
                    arrows.setdefault((start, name), tensor)
    return Diagram(boxes, tuple((a, b, tensor) for (a, b), tensor in arrows.items()), graph.input)


def usual(net: Net) -> str:
    """The level at which a network is taken in at once: layers, unless they are too many."""
    return "layers" if len(diagram(net, "layers").boxes) <= MANY else "modules"


def parts(net: Net) -> dict[str, frozenset[str]]:
    """The network's modules, by their names: the tensors of each, in which a part of the drawing is told."""
    drawn = diagram(net, "layers")
    found: dict[str, frozenset[str]] = {}
    for box in drawn.boxes.values():
        if box.group:
            found[box.group] = found.get(box.group, frozenset()) | set(box.tensors)
    return found


def _main(unit: list[Node]) -> Node:
    """What a unit is named after: the op with weights, else the first one."""
    return next((node for node in unit if node.op in WEIGHTED), unit[0])


def _chains(graph: Graph, nodes: list[Node]) -> list[list[Node]]:
    """Nodes with those that follow only them: convolution, normalisation, activation."""
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.inputs):
            readers.setdefault(name, []).append(node)
    units: list[list[Node]] = []
    unit_of: dict[str, list[Node]] = {}
    for node in nodes:
        given = [name for name in node.inputs if name in graph.from_input and name in graph.floats]
        homes = {id(unit_of.get(name)) for name in given}
        unit = unit_of.get(given[0]) if given and len(homes) == 1 else None
        alone = unit is not None and node.op in _FOLLOWERS
        alone = alone and not any(name in graph.outputs for name in given)
        if alone and all(_only(readers, name, node) for name in given):
            unit.append(node)
        else:
            unit = [node]
            units.append(unit)
        unit_of |= dict.fromkeys(node.outputs, unit)
    return units


def _only(readers: Mapping[str, list[Node]], name: str, node: Node) -> bool:
    """Whether `node` is all that reads a tensor, but for a gate: x * sigmoid(x) reads x twice."""
    others = [other for other in readers[name] if other is not node]
    if not others:
        return True
    (other, *more) = others
    first, second = (node, other) if node.op not in ("Mul", "Div") else (other, node)
    gate = second.op in ("Mul", "Div") and first.op in _FOLLOWERS and set(second.inputs) == {name, first.outputs[0]}
    return not more and gate


def _paths(units: list[list[Node]], graph: Graph) -> list[tuple[str, ...]]:
    """The modules that each unit stands in.

    Torch's newer exporter gives modules' names to the weights alone. Then a unit goes by its weights, and one that has
    none stands where those before and behind it both stand.
    """
    mains = [_main(unit) for unit in units]
    found = [path(node.outputs[0], node.op) for node in mains]
    if sum(len(each) > 1 for each in found) > len(found) / 2:
        return found
    held = [
        next((parts[:-1] for name in node.inputs[1:] if name in graph.constants and len(parts := path(name)) > 1), None)
        for node in mains
    ]
    if sum(each is not None for each in held) < 2:
        return found
    places = [k for k, each in enumerate(held) if each is not None]
    for k, each in enumerate(held):
        if each is None:
            before = held[max((p for p in places if p < k), default=k)] or ()
            behind = held[min((p for p in places if p > k), default=k)] or ()
            least = min(len(before), len(behind))
            same = next((i for i in range(least) if before[i] != behind[i]), least)
            found[k] = (*before[:same], *found[k])
        else:
            found[k] = each
    return found


def _modules(units: list[list[Node]], paths: list[tuple[str, ...]]) -> tuple[list[list[Node]], list[str]]:
    """Units that follow each other in one module, as one, and the modules' names: as deep as MANY boxes, and fewer
    than the units, allow."""
    most = min(MANY, COARSER * len(units))
    best = units, [".".join(found) for found in paths]
    for depth in range(1, max(map(len, paths), default=0) + 1):
        merged: list[list[Node]] = []
        titles: list[str] = []
        before = None
        for unit, found in zip(units, paths, strict=True):
            if found and found[:depth] == before:
                merged[-1].extend(unit)
                titles[-1] = ".".join(before)
            else:
                merged.append(list(unit))
                titles.append(".".join(found))
            before = found[:depth]
        if depth > 1 and len(merged) > most:
            break
        best = merged, titles
    return best


def _groups(paths: list[tuple[str, ...]]) -> list[str]:
    """For each unit the module that a frame is drawn around, "" for none: as fine as GROUPS and COVERED allow.

    A frame holds at least two units, which follow each other.
    """
    best, covered = [""] * len(paths), 0
    for depth in range(1, max(map(len, paths), default=0) + 1):
        keys = [".".join(found[:depth]) if len(found) >= depth else "" for found in paths]
        runs: list[list[int]] = []
        for k, key in enumerate(keys):
            if runs and keys[runs[-1][0]] == key:
                runs[-1].append(k)
            else:
                runs.append([k])
        groups, taken = [""] * len(paths), Counter()
        for run in runs:
            key = keys[run[0]]
            if key and len(run) > 1:
                taken[key] += 1
                name = key if taken[key] == 1 else f"{key} ({taken[key]})"
                for k in run:
                    groups[k] = name
        inside = sum(map(bool, groups))
        if GROUPS[0] <= len(set(groups) - {""}) <= GROUPS[1] and inside >= min(covered, COVERED * len(paths)):
            best, covered = groups, inside
    return best


# Drawing ------------------------------------------------------------------------------------------------------------


def dot(
    drawn: Diagram,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    only: Iterable[str] | None = None,
    chosen: str = "",
    fills: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> str:
    """The diagram in the DOT language. Each node's name is that of its box.

    only: names of boxes, where a part is drawn; what it hangs on is shown in outline. chosen: a box's name, which gets
    a thick frame. fills: other colours "#rrggbb", by box. notes: a last line in a box.
    """
    kept = set(drawn.boxes) if only is None else set(only) & set(drawn.boxes)
    lines = [
        "digraph network {",
        "  rankdir=TB; newrank=true; bgcolor=transparent; nodesep=0.25; ranksep=0.3; pad=0.1;",
        f'  node [shape=box, style="filled,rounded", penwidth=0.8, color="{LINES}", fontcolor="{INK}",'
        ' fontname="Helvetica,Arial,sans-serif", fontsize=11, margin="0.12,0.06"];',
        f'  edge [color="{LINES}", arrowsize=0.6, penwidth=1.1];',
    ]
    trunk = _trunk(drawn)
    groups: dict[str, list[str]] = {}
    for name, box in drawn.boxes.items():
        if name in kept:
            groups.setdefault(box.group, []).append(name)
    for k, (group, names) in enumerate(groups.items()):
        indent = "  "
        if group:
            look = f'label={_quoted(group)}; labeljust=l; style="rounded,dashed"; color="{LINES}"; fontcolor="{LINES}";'
            lines.append(f'  subgraph cluster_{k} {{ {look} fontname="Helvetica,Arial,sans-serif"; fontsize=11;')
            indent = "    "
        for name in names:
            box = drawn.boxes[name]
            fill = (fills or {}).get(name, COLOURS[box.kind])
            look = f'fillcolor="{fill}"' + (", group=trunk" if name in trunk else "")
            look += f', color="{ACCENT}", penwidth=4' if name == chosen else ""
            text = _lines(_label(box, shapes) + ([notes[name]] if notes and name in notes else []))
            lines.append(f"{indent}{_quoted(name)} [label={text}, tooltip={_quoted(_tip(box))}, {look}];")
        if group:
            lines.append("  }")
    outline = f'style="rounded,dashed", color="{LINES}", fontcolor="{LINES}"'
    beside = {end for a, b, _ in drawn.arrows if (a in kept) != (b in kept) for end in (a, b)} - kept
    for name in [drawn.input, *drawn.boxes]:
        if name in beside and name == drawn.input:
            shape = "×".join(map(str, shapes.get(name, ())[1:]))
            lines.append(f"  {_quoted(name)} [label={_lines(['picture', shape])}, {outline}];")
        elif name in beside:
            lines.append(f"  {_quoted(name)} [label={_lines([drawn.boxes[name].title[-32:]])}, {outline}];")
    for a, b, tensor in drawn.arrows:
        if a in kept or b in kept:
            lines.append(f"  {_quoted(a)} -> {_quoted(b)} [tooltip={_quoted(tensor)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _trunk(drawn: Diagram) -> set[str]:
    """The boxes that no arrow passes by: drawn one below the other, they keep a long network from leaning over."""
    place = {name: k for k, name in enumerate([drawn.input, *drawn.boxes])}
    reach, found = 0, set()
    ends: dict[str, list[str]] = {}
    for a, b, _ in drawn.arrows:
        ends.setdefault(a, []).append(b)
    for name, k in place.items():
        if reach <= k:
            found.add(name)
        reach = max([reach, *(place[b] for b in ends.get(name, []))])
    return found


def _label(box: Box, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    last = box.nodes[-1].outputs[0]
    return [_title(box), _ops(box), "×".join(map(str, shapes.get(last, ())[1:]))]


def _title(box: Box) -> str:
    """Its title without that of the frame around it; of a long one the end, which tells more than the beginning."""
    title = box.title.removeprefix(f"{box.group.partition(' ')[0]}.") if box.group else box.title
    return title if len(title) <= 32 else "…" + title[-31:]


def _ops(box: Box) -> str:
    """Its ops in a few words: in order, or counted where they are many."""
    if len(box.nodes) <= 4:
        return ", ".join(_op(node) for node in box.nodes)
    count = Counter(_SHORT.get(node.op, node.op) for node in box.nodes)
    told = [f"{number} {op}" if number > 1 else op for op, number in count.most_common(3)]
    return ", ".join(told) + (", …" if len(count) > 3 else "")


def _op(node: Node) -> str:
    """ "Conv 3×3 /2": kernel and stride."""
    text = _SHORT.get(node.op, node.op)
    kernel = node.attributes.get("kernel_shape")
    if kernel:
        text += " " + "×".join(map(str, kernel))
    strides = node.attributes.get("strides") or [1]
    if max(strides) > 1:
        text += f" /{'×'.join(map(str, dict.fromkeys(strides)))}"
    group = node.attributes.get("group", 1)
    return text + (f", {group} groups" if group > 1 and kind(node.op) == "convolution" else "")


def _tip(box: Box) -> str:
    text = ", ".join(f"{node.outputs[0]} ({node.op})" for node in box.nodes[:8])
    return text + (f" and {len(box.nodes) - 8} more" if len(box.nodes) > 8 else "")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _lines(parts: Iterable[str]) -> str:
    return '"' + "\\n".join(_escaped(part) for part in parts if part) + '"'

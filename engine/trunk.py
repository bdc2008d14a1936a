"""Through which layers does everything pass that a network says of a picture?

Between them lie branches, which each see only a part: such layers are what one mostly wants when one asks for "the
network, early, in the middle, late".
"""

from __future__ import annotations

from engine.net import Layer, Net

# What is not yet a feature, or no longer one: before its rectifier, pooled, brought to another scale.
PART_WAY = frozenset(["Conv", "BatchNormalization", "MaxPool", "AveragePool", "LRN"])
RECTIFIERS = frozenset(["Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Gelu", "HardSwish", "Sigmoid", "Tanh"])


def trunk(net: Net) -> list[Layer]:
    """The layers with rows and columns that nothing by-passes, in order, up to the last before pooling.

    Those that go into a rectifier, pools, and layers narrower than one before them are left out, unless nothing else is
    there. Raises UnknownLayer where the net has no layer with rows and columns.
    """
    names = [layer.name for layer in net.layers]
    maps = [layer for layer in net.layers[: names.index(net.last_map) + 1] if layer.has_map]
    alone = [layer for layer in maps if len(net.graph.frontier(layer.name, [net.logits])) == 1]
    found: list[Layer] = []
    for layer in alone:
        widest = max((other.shape[0] for other in found), default=0)
        if layer.op not in PART_WAY and layer.shape[0] >= widest and not _rectified(net, layer):
            found.append(layer)
    return found or alone or maps


def _rectified(net: Net, layer: Layer) -> bool:
    return any(node.op in RECTIFIERS and layer.name in node.inputs for node in net.graph.nodes)


def middle(net: Net) -> str:
    """The layer two thirds of the way along the trunk, whose features are parts of things, no longer edges.

    Raises UnknownLayer.
    """
    found = trunk(net)
    return found[round((len(found) - 1) * 2 / 3)].name


def spaced(net: Net, count: int) -> list[str]:
    """So many layers of the trunk, evenly spaced from the first to the last, or all there are. Raises UnknownLayer."""
    found = trunk(net)
    places = sorted({round(i * (len(found) - 1) / max(count - 1, 1)) for i in range(count)})
    return [found[place].name for place in places]

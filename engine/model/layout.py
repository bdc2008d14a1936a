"""Which axes of a tensor are the picture's rows and columns?

That a tensor has four axes does not say so: attention is (B, heads, places, places), and some networks keep the
channels last between their layers. Here each axis is followed through the graph: "B" for the batch, "C" for channels,
"H" and "W" for rows and columns, of which strides may have left fewer.
"""

from __future__ import annotations

from engine.model.graph import Graph, Node
from engine.model.receptive_field import POINTWISE, SLIDING

MAP = "BCHW"
# These take maps and make maps, by their definition, whatever came before.
OF_MAPS = SLIDING | {"BatchNormalization", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "GlobalMaxPool",
    "GridSample", "InstanceNormalization", "GroupNormalization", "LRN", "SpaceToDepth"}  # fmt: skip
# These keep the axes as they are, if not their sizes.
KEEPING = POINTWISE | {"Concat", "CumSum", "HardSigmoid", "Hardmax", "LayerNormalization", "LogSoftmax",
    "LpNormalization", "MeanVarianceNormalization", "Pad", "RMSNormalization", "Resize", "Slice", "Softmax", "Split",
    "Tile", "Upsample"}  # fmt: skip


def layouts(graph: Graph) -> dict[str, str]:
    """By tensor: a letter for each axis, "B", "C", "H" or "W". Tensors of which nothing is known are left out."""
    found = {graph.input: MAP}
    for node in graph.nodes:
        for name in node.outputs:
            shape = graph.shapes.get(name, ())
            layout = _behind(graph, node, name, found)
            if layout is not None and len(layout) == len(shape):
                found[name] = layout
    return found


def _behind(graph: Graph, node: Node, name: str, found: dict[str, str]) -> str | None:
    """The layout of one output."""
    inputs = [each for each in node.inputs if each in graph.from_input]
    if not inputs:
        return None
    shape = graph.shapes.get(name, ())
    if node.op in OF_MAPS and len(shape) == 4:
        return MAP
    known = [each for each in inputs if each in found]
    # Of several, the one that is spread over nothing says which axes there are.
    whole = next((each for each in known if graph.shapes.get(each) == shape), None)
    if whole is not None and (node.op in KEEPING or node.op in ("Reshape", "Expand", "Where")):
        return found[whole]
    if not known or known[0] != inputs[0]:
        return None
    layout = found[inputs[0]]
    if node.op in KEEPING or (node.op.startswith("Reduce") and node.attributes.get("keepdims", 1)):
        return layout
    if node.op == "Transpose":
        order = node.attributes.get("perm") or list(range(len(layout)))[::-1]
        return "".join(layout[axis] for axis in order)
    if node.op in ("MatMul", "Gemm") and layout[-1] == "C":  # a sum over the channels makes channels
        return layout
    if node.op == "Flatten" and layout == MAP and node.attributes.get("axis", 1) == 1:
        return "BC"
    return None

"""What patterns does a convolution look for?

The weights themselves, as in Krizhevsky 2012, figure 3, for the layer that sees pixels; for deeper layers each weight
is tied to a channel of the layer before and not to pixels, so that they are shown one input channel at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.model.graph import Node
from engine.net import Net, UnknownLayer


@dataclass(frozen=True)
class Filters:
    """The weights behind one layer.

    weights: (O, I, h, w), output channel, input channel (of its group), row, col. bias: (O,) or None where there is
    none.
    layer: the name of the convolution's own output. sees_pixels: whether the input is the picture itself.
    """

    weights: np.ndarray
    bias: np.ndarray | None
    layer: str
    sees_pixels: bool


def convolutions(net: Net) -> list[str]:
    """The layers that are a convolution's output and whose weights stand in the file, in order."""
    return [layer.name for layer in net.layers if layer.op == "Conv" and _weights(net, layer.name) is not None]


def filters(net: Net, layer: str) -> Filters:
    """The weights of the convolution that makes `layer`, or of the nearest one before it.

    Raises UnknownLayer where there is none.
    """
    net.layer(layer)
    name = layer
    while (node := net.graph.producer(name)) is not None and node.op != "Conv":
        name = next((i for i in node.inputs if i in net.graph.from_input), "")
    if node is None or _weights(net, name) is None:
        raise UnknownLayer(f"No convolution with weights of its own stands before {layer} in {net.name}.")
    bias = _constant(net, node.inputs[2]) if len(node.inputs) > 2 else None
    return Filters(_weights(net, name), bias, name, _source(net, node.inputs[0]) == net.graph.input)


def _weights(net: Net, layer: str) -> np.ndarray | None:
    return _constant(net, net.graph.producer(layer).inputs[1])


def _constant(net: Net, name: str) -> np.ndarray | None:
    return net.graph.constants.get(_source(net, name))


def _source(net: Net, name: str) -> str:
    """The tensor behind any Identity: one exporter shares equal weights that way."""
    node: Node | None = net.graph.producer(name)
    return _source(net, node.inputs[0]) if node is not None and node.op == "Identity" else name


def order(weights: np.ndarray, by: str = "channel") -> np.ndarray:
    """(O,) the filters' order: by "channel" as in the file, by "norm" with the largest first, or by "similarity".

    Similarity: leaves of an average-linkage tree over cosine distance, laid out so that neighbours are alike
    (Bar-Joseph 2001, doi:10.1093/bioinformatics/17.suppl_1.S22).
    """
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    if by == "channel" or len(flat) < 3:
        return np.arange(len(flat))
    if by == "norm":
        return np.argsort(-norms, kind="stable")
    if by != "similarity":
        raise ValueError(f"Filters are ordered by channel, norm or similarity, not by {by!r}.")
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import pdist

    unit = flat / np.maximum(norms, 1e-12)[:, None]
    distances = pdist(unit)  # of unit vectors: a growing function of the cosine's distance
    tree = linkage(distances, "average")
    # The best order of leaves takes cubic time; the tree's own will do for large layers.
    return leaves_list(optimal_leaf_ordering(tree, distances) if len(flat) <= 256 else tree)

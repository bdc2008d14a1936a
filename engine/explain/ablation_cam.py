"""Which channels does the number miss, if they are switched off?

Desai and Ramaswamy 2020, doi:10.1109/WACV45572.2020.9093360, equation 4: no gradient; each channel of a layer is set to
zero in turn and the rest of the network is run again from there. ONNX Runtime runs that rest alone, in batches.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.explain.evidence import Evidence
from engine.net import Net, UnknownLayer
from engine.step import Step, last
from engine.target import Target, asked

AT_ONCE = 64 * 2**20  # bytes that a batch of altered layers may take


def ablation_cam(net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None) -> Evidence:
    """Ablation-CAM: channels weighed by the share of the number that is lost without them; the sum's positive part.

    image: (H, W, C) pixels of the net's own size. target: a class, whose logit is meant, or any other Target. layer:
    one with rows and columns; by default the last before pooling. The share is (y - y without) / |y|; the paper divides
    by y, which turns the map round where the number is negative.
    Returns (h, w), >= 0, in units of activation, at the layer's own resolution. Raises UnknownClass, UnknownLayer.
    """
    return last(ablation_cam_steps(net, image, target, layer=layer))


def ablation_cam_steps(
    net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None
) -> Iterator[Step]:
    """`ablation_cam`, a Step per batch of channels; those that have not been tried yet have no weight."""
    target, name = asked(net, target), net.map_layer(layer).name
    if net.graph.behind(name).isdisjoint(target.names):
        raise UnknownLayer(f"Layer {name} has no part in “{target.title}”, which is computed before it.")
    given = net.graph.frontier(name, target.names)
    one = net.batch(image)
    start = net.activations(one, given)
    maps = start[name][0]
    before = float(target.value(net.resume(start, target.names))[0])
    size = int(np.clip(AT_ONCE // sum(array.nbytes for array in start.values()), 1, 64))
    weights = np.zeros(len(maps), np.float32)
    for first in range(0, len(maps), size):
        some = np.arange(first, min(first + size, len(maps)))
        # What by-passes the layer is the same for all; computed for the batch, because some graphs carry its size along
        several = net.activations(one.repeat(len(some), 0), given[1:]) if given[1:] else {}
        several[name] = start[name].repeat(len(some), 0)
        several[name][np.arange(len(some)), some] = 0
        after = target.value(net.resume(several, target.names))
        weights[some] = (before - after) / (abs(before) or 1)
        yield Step(int(some[-1]) + 1, len(maps), np.maximum(np.tensordot(weights, maps, 1), 0))

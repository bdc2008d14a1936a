"""Which channels, used as a spotlight on the picture, bring the number out?

Wang et al. 2020, arXiv:1910.01279, equations 5 to 7: no gradient; each channel's map is laid over the picture as a mask
and the network is asked what it says of what is left.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.explain.evidence import Evidence
from engine.half import PRECISIONS as PRECISIONS
from engine.half import in_precision
from engine.image import resize
from engine.net import Net, softmax
from engine.step import Step, last
from engine.target import Target, asked


def score_cam(
    net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None, precision: str = "float32"
) -> Evidence:
    """Score-CAM: channels weighed by the number that the picture keeps when they mask it; the sum's positive part.

    image: (H, W, C) pixels of the net's own size. target: a class, whose logit is meant, or any other Target. layer:
    one with rows and columns; by default the last before pooling. precision: one of PRECISIONS, of the net's numbers.
    Masks are stretched bilinearly and scaled to
    [0, 1]; they multiply the picture as the network takes it, so that what is masked is its mean colour. The weights
    are the softmax of the numbers over the channels (equation 7; the score of the empty picture cancels out in it).
    Returns (h, w), >= 0, in units of activation, at the layer's own resolution. Raises UnknownClass, UnknownLayer.
    """
    return last(score_cam_steps(net, image, target, layer=layer, precision=precision))


def score_cam_steps(
    net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None, precision: str = "float32"
) -> Iterator[Step]:
    """`score_cam`, a Step per batch of channels; those that have not been tried yet have no weight."""
    net = in_precision(net, precision)
    target, name = asked(net, target), net.map_layer(layer).name
    batch = net.batch(image)
    maps = net.activations(batch, [name])[name][0]
    seen = net.normalise(batch)  # whose zero is the mean colour, so that a mask is one multiplication
    stretch = [_stretching(*lengths) for lengths in zip(maps.shape[1:], image.shape[:2], strict=True)]
    size, scores = net.batch_size, np.full(len(maps), np.nan, np.float32)
    # A channel that is the same everywhere, as dead ones are, masks all of the picture: one pass for all of them.
    alive = np.ptp(maps, (1, 2)) > 0
    if not alive.all():
        scores[~alive] = _measured(net, np.zeros_like(seen), target)[0]
    order = np.flatnonzero(alive)
    for first in range(0, max(len(order), 1), size):
        some = order[first : first + size]
        if len(some):
            masks = stretch[0] @ maps[some] @ stretch[1].T
            masks -= masks.min((1, 2), keepdims=True)
            masks /= masks.max((1, 2), keepdims=True)
            scores[some] = _measured(net, masks[:, None] * seen, target)
        known = ~np.isnan(scores)
        weights = softmax(scores[known])
        done = int(known.sum())
        yield Step(done, len(maps), np.maximum(np.tensordot(weights, maps[known], 1), 0))


def _stretching(length: int, wanted: int) -> np.ndarray:
    """(wanted, length): what `resize` does along one axis, as a matrix."""
    return resize(np.eye(length, dtype=np.float32)[:, None], (wanted, 1))[:, 0]


def _measured(net: Net, taken: np.ndarray, target: Target) -> np.ndarray:
    """(B,) the target's value on what the graph takes in, (B, C, H, W)."""
    return target.value(net.resume({net.graph.input: taken}, target.names))

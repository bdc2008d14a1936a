"""Which parts of the picture are evidence, if removing a channel is to cost what the map says?

Fu et al. 2020, arXiv:2008.02312, equation 8: the weights come from two axioms, sensitivity and conservation.
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.grad_cam import layer_gradient, weighed
from engine.net import Net
from engine.target import Target


def xgrad_cam(net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None) -> Evidence:
    """XGrad-CAM: channels weighed by their gradient averaged where they are active; the positive part of the sum.

    Arguments as in `layer_gradient`. Each position's gradient counts by its share of the channel's activation; a
    channel whose activations cancel out has no such share and gets no weight.
    Returns (h, w), >= 0, in the target's unit, at the layer's own resolution.
    Raises UnknownClass, UnknownLayer, NoGradient.
    """
    activations, gradient = layer_gradient(net, image, target, layer=layer)
    whole = activations.sum((-2, -1))
    weights = np.divide((gradient * activations).sum((-2, -1)), whole, out=np.zeros_like(whole), where=whole != 0)
    return np.maximum(weighed(activations, weights), 0)

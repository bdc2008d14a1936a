"""Which parts of the picture raise a number, if several of them do so at once?

Chattopadhyay et al. 2018, arXiv:1710.11063, equations 10 to 12 and 19. Grad-CAM averages a channel's gradient over all
positions, so that of several objects the small ones count less; here each position has a share of its own.
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.grad_cam import layer_gradient, weighed
from engine.net import Net
from engine.target import Target


def grad_cam_plus_plus(net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None) -> Evidence:
    """Grad-CAM++: channels weighed by their positive gradients, each position with a share of its own.

    Arguments as in `layer_gradient`. The paper's second and third derivatives are powers of the first where the score
    is the exponential of a piecewise linear function (equation 19), which is what is used here, as in the authors'
    code.
    Returns (h, w), >= 0, at the layer's own resolution. Raises UnknownClass, UnknownLayer, NoGradient.
    """
    activations, gradient = layer_gradient(net, image, target, layer=layer)
    below = 2 * gradient**2 + activations.sum((-2, -1), keepdims=True) * gradient**3
    share = np.divide(gradient**2, below, out=np.zeros_like(gradient), where=below != 0)
    weights = (share * np.maximum(gradient, 0)).sum((-2, -1))
    return np.maximum(weighed(activations, weights), 0)

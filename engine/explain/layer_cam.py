"""Which parts of the picture does an early layer count as evidence, in fine detail?

Jiang et al. 2021, doi:10.1109/TIP.2021.3089943, equations 4 and 5. Weights of single positions stay meaningful in early
layers, whose channels mean different things at different places.
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.grad_cam import layer_gradient, weighed
from engine.net import Net
from engine.target import Target


def layer_cam(net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None) -> Evidence:
    """LayerCAM: each unit weighed by its own gradient where that is positive; the positive part of the sum.

    Arguments as in `layer_gradient`.
    Returns (h, w), >= 0, in the target's unit, at the layer's own resolution.
    Raises UnknownClass, UnknownLayer, NoGradient.
    """
    activations, gradient = layer_gradient(net, image, target, layer=layer)
    return np.maximum(weighed(activations, np.maximum(gradient, 0)), 0)

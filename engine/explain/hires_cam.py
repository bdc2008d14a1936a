"""Which units of one layer did the work for a number, position by position?

Draelos and Carin 2020, arXiv:2011.08891, equation 5. Grad-CAM averages the gradient over the positions before it
multiplies, and can so light places that the network did not use; here each position keeps its own gradient.
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.grad_cam import layer_gradient, weighed
from engine.net import Net
from engine.target import Target


def hires_cam(net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None) -> Evidence:
    """HiResCAM: the sum over the channels of activation times gradient at each position, with its sign.

    Arguments as in `layer_gradient`. Where everything behind the layer is linear the map adds up to the number, less
    what the biases give. Returns (h, w) in the target's unit, at the layer's own resolution; < 0 speaks against it.
    Raises UnknownClass, UnknownLayer, NoGradient.
    """
    return weighed(*layer_gradient(net, image, target, layer=layer))

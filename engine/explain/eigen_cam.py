"""What is the strongest pattern in a layer, whatever the class?

Muhammad and Yeasin 2020, arXiv:2008.00299, section III: the activations projected on their first principal component.
It asks about no class, so it cannot be evidence for one; it is here because libraries offer it among those that are.
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence
from engine.net import Net


def eigen_cam(net: Net, image: np.ndarray, *, layer: str | None = None) -> Evidence:
    """Eigen-CAM: a layer's activations along their first principal component. The same map for every class.

    image: (H, W, C) pixels of the net's own size. layer: one with rows and columns; by default the last before pooling.
    The mean over the positions is taken off first (pytorch-grad-cam does so, the paper does not). A component has no
    sign of its own; it is turned so that the places where the layer answers more strongly in all come out positive.
    Returns (h, w) in units of activation, at the layer's own resolution. Raises UnknownLayer.
    """
    name = net.map_layer(layer).name
    maps = net.activations(net.batch(image), [name])[name][0].astype(np.float64)  # (C, h, w)
    flat = maps.reshape(len(maps), -1)
    flat = flat - flat.mean(1, keepdims=True)
    _, _, across = np.linalg.svd(flat, full_matrices=False)  # rows: patterns over the positions
    pattern = flat.T @ (flat @ across[0]) / (np.linalg.norm(flat @ across[0]) or 1)
    sign = -1 if pattern @ flat.sum(0) < 0 else 1
    return (sign * pattern).reshape(maps.shape[1:]).astype(np.float32)

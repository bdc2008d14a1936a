"""Which parts of the picture does one layer count as evidence?

Selvaraju et al. 2017, arXiv:1610.02391, equations 1 and 2. ONNX Runtime computes the layer, and the Twin only what lies
behind it: the gradient never visits the part of the graph that it is not asked about.
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence
from engine.net import Net, UnknownLayer
from engine.target import Target, asked


def layer_gradient(
    net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(activations, gradient) of a layer, both (C, h, w): what it says, and how `target` rises with each of its units.

    image: (H, W, C) pixels of the net's own size, or several (B, H, W, C), which give (B, C, h, w). target: a class,
    whose logit is meant, or any other Target. layer: one with rows and columns; by default the last before pooling.
    Raises UnknownClass, UnknownLayer, NoGradient.
    """
    import torch

    target, name = asked(net, target), net.map_layer(layer).name
    if net.graph.behind(name).isdisjoint(target.names):
        raise UnknownLayer(f"Layer {name} has no part in “{target.title}”, which is computed before it.")
    several = image.ndim == 4
    if several and net.fixed_batch:  # the graph may name its batch size in a Reshape
        each = [layer_gradient(net, one, target, layer=layer) for one in image]
        return np.stack([activations for activations, _ in each]), np.stack([gradient for _, gradient in each])
    found = net.activations(net.batch(*(image if several else [image])), net.graph.frontier(name, target.names))
    start = {key: torch.from_numpy(array) for key, array in found.items()}
    start[name].requires_grad_()
    score = target.value(net.twin(None, target.names, start=start))
    (gradient,) = torch.autograd.grad(score.sum(), start[name])
    activations, gradient = found[name], gradient.numpy()
    return (activations, gradient) if several else (activations[0], gradient[0])


def weighed(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(…, h, w): the sum over the channels of maps (…, C, h, w) times weights (…, C), or one per unit (…, C, h, w)."""
    weights = weights if weights.ndim == activations.ndim else weights[..., None, None]
    return (weights * activations).sum(-3)


def grad_cam(net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None) -> Evidence:
    """Grad-CAM: the sum of a layer's channels, each weighed by how much it raises the number; its positive part.

    Arguments as in `layer_gradient`. The weight is the gradient's mean over the positions.
    Returns (h, w), >= 0, in the target's unit, at the layer's own resolution.
    Raises UnknownClass, UnknownLayer, NoGradient.
    """
    activations, gradient = layer_gradient(net, image, target, layer=layer)
    return np.maximum(weighed(activations, gradient.mean((-2, -1))), 0)

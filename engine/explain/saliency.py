"""Which pixels would change this number most, if each changed a little?

Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034, section 3: the gradient of the class's score with respect to the
picture; as one number per pixel, the largest absolute value over its channels. Here in the units of the picture as the
user knows it, pixels in [0, 1], not of the normalised input as in the paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from engine.explain.evidence import Evidence
from engine.net import Net
from engine.target import Target, asked


def gradient(
    net: Net, image: np.ndarray, target: Target | int, *, ops: Mapping[str, Callable] | None = None
) -> np.ndarray:
    """How much `target` rises per unit of each channel of each pixel.

    image: (H, W, C) pixels of the net's own size, or several (B, H, W, C). target: a class, whose logit is meant, or
    any other Target. ops: other functions for some ops of the graph, which may pass the gradient in another way
    (engine/ops/gates.py).
    Returns an array of the image's shape in the target's unit per unit of pixel value.
    Raises UnknownClass, NoGradient.
    """
    import torch

    target, several = asked(net, target), image.ndim == 4
    if several and net.fixed_batch:  # the graph may name its batch size in a Reshape
        return np.stack([gradient(net, one, target, ops=ops) for one in image])
    pixels = torch.from_numpy(net.stack(*(image if several else [image]))).permute(0, 3, 1, 2).requires_grad_()
    score = target.value(net.twin(pixels, target.names, ops=ops))
    (found,) = torch.autograd.grad(score.sum(), pixels)
    found = found.permute(0, 2, 3, 1).numpy()
    return found if several else found[0]


def largest(gradient: np.ndarray) -> np.ndarray:
    """(H, W) >= 0: the largest absolute value over the channels of a gradient (H, W, C)."""
    return np.abs(gradient).max(-1)


def signed(gradient: np.ndarray) -> np.ndarray:
    """(H, W): the sum over the channels of a gradient (H, W, C), with its sign. Not in the paper."""
    return gradient.sum(-1)


def saliency(net: Net, image: np.ndarray, target: Target | int) -> Evidence:
    """Gradient: the largest absolute gradient over the channels of each pixel.

    Arguments as in `gradient`. Returns (H, W), >= 0, in the target's unit per unit of pixel value.
    Raises UnknownClass, NoGradient.
    """
    return largest(gradient(net, image, target))


def signed_saliency(net: Net, image: np.ndarray, target: Target | int) -> np.ndarray:
    """The gradient's sum over the channels, so that > 0 is where brightening the pixel helps the target.

    Not in the paper. Arguments as in `gradient`. Returns (H, W) in the target's unit per unit of pixel value.
    Raises UnknownClass, NoGradient.
    """
    return signed(gradient(net, image, target))

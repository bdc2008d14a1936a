"""Which pixels would change this number most, if each changed a little?

Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034, section 3: the gradient of the class's score with respect to the
picture; as one number per pixel, the largest absolute value over its channels. Here in the units of the picture as the
user knows it, pixels in [0, 1], not of the normalised input as in the paper.
"""

from __future__ import annotations

import numpy as np

from engine.net import Net
from engine.target import Target


def gradient(net: Net, image: np.ndarray, target: Target) -> np.ndarray:
    """How much `target` rises per unit of each channel of each pixel.

    image: (H, W, C) pixels of the net's own size.
    Returns (H, W, C) in the target's unit per unit of pixel value. Raises NoGradient.
    """
    import torch

    pixels = torch.from_numpy(net.batch(image)).requires_grad_()
    score = target.value(net.twin(pixels, target.names))
    (found,) = torch.autograd.grad(score.sum(), pixels)
    return found[0].permute(1, 2, 0).numpy()


def largest(gradient: np.ndarray) -> np.ndarray:
    """(H, W) >= 0: the largest absolute value over the channels of a gradient (H, W, C)."""
    return np.abs(gradient).max(2)


def signed(gradient: np.ndarray) -> np.ndarray:
    """(H, W): the sum over the channels of a gradient (H, W, C), with its sign. Not in the paper."""
    return gradient.sum(2)


def saliency(net: Net, image: np.ndarray, target: Target) -> np.ndarray:
    """(H, W) >= 0: the largest absolute gradient over the channels of each pixel. Otherwise as `gradient`."""
    return largest(gradient(net, image, target))


def signed_saliency(net: Net, image: np.ndarray, target: Target) -> np.ndarray:
    """(H, W): the gradient's sum over the channels, so that > 0 is where brightening the pixel helps the target.

    Not in the paper. Otherwise as `gradient`.
    """
    return signed(gradient(net, image, target))

"""How much does each pixel contribute to a number, to first order?

Shrikumar et al. 2016, arXiv:1605.01713: the gradient, multiplied by how far the pixel is from a picture that stands for
nothing. For a network that is linear in its input these products add up to exactly what the pixels contribute.
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.saliency import gradient, signed
from engine.net import Net
from engine.pictures.fill import FILLS, blank
from engine.target import Target

BASELINES = FILLS


def gradient_input(net: Net, image: np.ndarray, target: Target | int, *, baseline: str = "black") -> Evidence:
    """Gradient × input: each pixel's gradient times its distance from a baseline, summed over the channels.

    image, target: as in `gradient`. baseline: one of BASELINES (engine/pictures/fill.py); with "black" the factor is
    the pixel itself. Returns (H, W) in the target's unit, with its sign. Raises UnknownClass, NoGradient, ValueError.
    """
    return signed(gradient(net, image, target) * (image - blank(image, baseline)))

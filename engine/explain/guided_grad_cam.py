"""Which fine details lie where one layer sees evidence?

Selvaraju et al. 2017, arXiv:1610.02391, section 3.2: guided backpropagation, multiplied by Grad-CAM stretched over the
picture. The fine part keeps the weakness of guided backpropagation: only where it is drawn depends on the class.
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence, over_picture
from engine.explain.grad_cam import grad_cam
from engine.explain.guided_backpropagation import gated_gradient
from engine.explain.saliency import largest
from engine.net import Net
from engine.target import Target


def guided_grad_cam(net: Net, image: np.ndarray, target: Target | int, *, layer: str | None = None) -> Evidence:
    """Guided Grad-CAM: guided backpropagation times Grad-CAM; the largest absolute value over the channels.

    Arguments as in `grad_cam`. Returns (H, W), >= 0. Raises UnknownClass, UnknownLayer, NoGradient, NoGate.
    """
    where = over_picture(grad_cam(net, image, target, layer=layer), image.shape[:2])
    return largest(gated_gradient(net, image, target) * where[:, :, None])

"""Which pixels excite this unit, if only what raises it is followed back?

Springenberg et al. 2014, arXiv:1412.6806, section 3.4, and beside it the deconvnet of Zeiler & Fergus 2013,
arXiv:1311.2901, section 2.1. Both are the gradient with another rule at the gates (engine/ops/gates.py). Their pictures
are crisp, but hardly depend on what the network has learned (Adebayo et al. 2018; engine/explain/sanity.py measures
it).
"""

from __future__ import annotations

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.saliency import gradient, largest
from engine.net import Net
from engine.ops import gates
from engine.target import Target

RULES = gates.RULES


def gated_gradient(net: Net, image: np.ndarray, target: Target | int, *, rule: str = "guided") -> np.ndarray:
    """The gradient for each channel of each pixel, passed through the gates by one of RULES.

    image, target: as in `gradient`. rule: "plain" is the gradient itself.
    Returns (H, W, C) in the target's unit per unit of pixel value. Raises UnknownClass, NoGradient, NoGate.
    """
    return gradient(net, image, target, ops=gates.table(net.graph, rule))


def guided_backpropagation(net: Net, image: np.ndarray, target: Target | int) -> Evidence:
    """Guided backpropagation: the largest absolute value over the channels, by the rule "guided".

    image, target: as in `gradient`. Returns (H, W), >= 0, in the target's unit per unit of pixel value.
    Raises UnknownClass, NoGradient, NoGate.
    """
    return largest(gated_gradient(net, image, target, rule="guided"))


def deconvnet(net: Net, image: np.ndarray, target: Target | int) -> Evidence:
    """Deconvnet: the largest absolute value over the channels, by the rule "deconvnet".

    image, target: as in `gradient`. Returns (H, W), >= 0, in the target's unit per unit of pixel value.
    Raises UnknownClass, NoGradient, NoGate.
    """
    return largest(gated_gradient(net, image, target, rule="deconvnet"))

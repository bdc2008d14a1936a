"""Which pixels matter, once the gradient's own noise is averaged out?

Smilkov et al. 2017, arXiv:1706.03825, section 3: the mean of the gradients of many noisy copies of the picture.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from engine.explain.evidence import Evidence
from engine.explain.saliency import gradient, largest
from engine.net import Net
from engine.step import Step, last
from engine.target import Target, asked

TOGETHER = 8  # noisy copies in one pass


def smooth_grad(
    net: Net, image: np.ndarray, target: Target | int, *, noise: float = 0.1, samples: int = 32, seed: int = 0
) -> Evidence:
    """SmoothGrad: the gradient averaged over noisy copies of the picture; then the largest over the channels.

    image, target: as in `gradient`. noise: standard deviation in pixel values; the paper advises a tenth to a fifth of
    the picture's range. samples: how many copies. seed: of the noise. The signed gradients are averaged, as in Captum,
    and their absolute value is taken at the end; copies are not clipped to [0, 1].
    Returns (H, W), >= 0, in the target's unit per unit of pixel value. Raises UnknownClass, NoGradient.
    """
    return last(smooth_grad_steps(net, image, target, noise=noise, samples=samples, seed=seed))


def smooth_grad_steps(
    net: Net, image: np.ndarray, target: Target | int, *, noise: float = 0.1, samples: int = 32, seed: int = 0
) -> Iterator[Step]:
    """`smooth_grad`, a Step per few copies: the mean so far."""
    target, random = asked(net, target), np.random.default_rng(seed)
    total, done = np.zeros_like(image), 0
    while done < samples:
        count = min(TOGETHER, samples - done)
        copies = image + noise * random.standard_normal((count, *image.shape), np.float32)
        total += gradient(net, copies, target).sum(0)
        done += count
        yield Step(done, samples, largest(total / done))

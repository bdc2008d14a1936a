"""In what form is a picture changed? As its pixels, or as waves of which all are equally easy to move.

Olah, Mordvintsev, Schubert 2017, Feature Visualization (doi 10.23915/distill.00007), on preconditioning: gradient steps
on a picture's spectrum, each wave scaled by 1 / its frequency as in photographs, and on colours that do not go together
in photographs. It changes no optimum, only the way there, which keeps from noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

# How the colours of photographs vary together: a square root of their covariance (ImageNet's, as Lucid states it).
COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOURS = COLOURS / COLOURS.norm(dim=0).max()


@dataclass(frozen=True)
class Canvas:
    """show: x → pixels (B, C, H, W) in [0, 1], differentiable. hide: pixels → an x that shows them. soft: whether the
    pixels cannot leave [0, 1] by themselves."""

    show: Callable[[torch.Tensor], torch.Tensor]
    hide: Callable[[torch.Tensor], torch.Tensor]
    soft: bool


def plain() -> Canvas:
    """x is the pixels."""
    return Canvas(lambda x: x, lambda pixels: pixels, False)


def waves(size: tuple[int, int], channels: int = 3, *, decay: float = 1.0) -> Canvas:
    """x (B, C, H, W // 2 + 1, 2) is the spectrum of a picture of that size (H, W), in decorrelated colours.

    decay: waves are scaled by 1 / frequency ** decay; 1 is as in photographs.
    """
    height, width = size
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    scale = torch.from_numpy(1 / np.maximum(frequency, 1 / max(size)) ** decay).float() * (height * width) ** 0.5 / 4
    scale = scale[..., None]
    mixed = COLOURS if channels == 3 else torch.eye(channels)
    back = torch.linalg.inv(mixed)

    def show(x: torch.Tensor) -> torch.Tensor:
        values = torch.fft.irfft2(torch.view_as_complex(x * scale), s=size)
        values = torch.einsum("oc,bchw->bhwo", mixed, values)  # the channels last in memory, as the Twin likes it
        return torch.sigmoid(values).permute(0, 3, 1, 2)

    def hide(pixels: torch.Tensor) -> torch.Tensor:
        values = torch.einsum("oc,bchw->bohw", back, torch.logit(pixels.clamp(0.004, 0.996)))
        return torch.view_as_real(torch.fft.rfft2(values)) / scale

    return Canvas(show, hide, True)

"""Waves: does a picture come back from them, on sides odd and even, and do their gradients reach all of it?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.optimize import canvas


@pytest.mark.parametrize("size", [(12, 16), (13, 9), (8, 15)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_hidden_in_waves_is_shown_again(size, channels):
    pixels = torch.from_numpy(np.random.default_rng(0).uniform(0.05, 0.95, (2, channels, *size)).astype(np.float32))
    made = canvas.waves(size, channels)
    torch.testing.assert_close(made.show(made.hide(pixels)), pixels, rtol=1e-3, atol=1e-4)


def test_nothing_is_grey_and_no_wave_leaves_the_range():
    made = canvas.waves((10, 14))
    assert torch.allclose(made.show(torch.zeros(1, 3, 10, 8, 2)), torch.tensor(0.5))
    wild = made.show(1e3 * torch.randn(1, 3, 10, 8, 2))
    assert wild.min() >= 0
    assert wild.max() <= 1
    assert made.soft
    assert not canvas.plain().soft


def test_slow_waves_are_easier_to_move_than_quick_ones():
    """By as much as their frequencies differ: the same step in x moves the pixels so much more."""
    made = canvas.waves((16, 16), 1)

    def swing(row: int) -> float:
        x = torch.zeros(1, 1, 16, 9, 2)
        x[0, 0, row, 0, 0] = 0.01
        return float(torch.logit(made.show(x)).std())

    assert swing(1) / swing(4) == pytest.approx(4, rel=1e-2)

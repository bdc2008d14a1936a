"""What the network is shown: the same at the same step, another at another, and turned as far as it says."""

from __future__ import annotations

import pytest
import torch

from engine.optimize.view import robust, shifted

PIXELS = torch.rand(2, 3, 20, 31, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("view", [shifted(5, 1), robust(seed=1)], ids=["shifted", "robust"])
def test_a_step_has_its_own_view_and_always_the_same(view):
    assert torch.equal(view(PIXELS, 4), view(PIXELS, 4))
    assert not torch.equal(view(PIXELS, 4), view(PIXELS, 5))
    assert view(PIXELS, 4).shape == PIXELS.shape


def test_a_shift_loses_nothing_and_stays_within_its_bound():
    for index in range(20):
        moved = shifted(2, 0)(PIXELS, index)
        places = [
            (a, b) for a in range(-2, 3) for b in range(-2, 3) if torch.equal(torch.roll(PIXELS, (a, b), (2, 3)), moved)
        ]
        assert len(places) == 1


def test_without_anything_to_do_the_picture_is_shown_as_it_is():
    assert robust(jitter=0, scale=0, rotate=0)(PIXELS, 3) is PIXELS
    still = robust(jitter=0, scale=1e-9, rotate=1e-9)(PIXELS, 3)
    torch.testing.assert_close(still, PIXELS, rtol=1e-4, atol=1e-5)


def test_a_turned_view_keeps_its_shape_where_the_picture_is_not_square():
    """A disc stays a disc: its spread along rows and columns stays alike."""
    rows, cols = torch.meshgrid(torch.arange(40.0) - 19.5, torch.arange(80.0) - 39.5, indexing="ij")
    disc = ((rows**2 + cols**2) < 64).float()[None, None]
    for index in range(6):
        seen = robust(jitter=0, scale=0, rotate=45, seed=2)(disc, index)[0, 0]
        spread = [float((seen * each**2).sum() / seen.sum()) for each in (rows, cols)]
        assert spread[0] == pytest.approx(spread[1], rel=0.05)
        assert float(seen.sum()) == pytest.approx(float(disc.sum()), rel=0.05)

"""Is hide-and-seek the mean of Grad-CAM over copies with whole patches hidden?"""

from __future__ import annotations

import numpy as np
import pytest

from engine.explain.grad_cam import grad_cam
from engine.explain.hide_and_seek import hide, hide_and_seek, hide_and_seek_steps
from engine.net import UnknownLayer
from engine.pictures.fill import blank


@pytest.mark.parametrize("layer", [None, "relu1"])
def test_with_nothing_hidden_it_is_grad_cam(tiny, picture, layer):
    found = hide_and_seek(tiny, picture, 1, layer=layer, hidden=0.0, copies=11)
    np.testing.assert_allclose(found, grad_cam(tiny, picture, 1, layer=layer), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("fill", ["grey", "black", "noise"])
def test_with_all_hidden_it_is_grad_cam_of_the_fill(tiny, picture, fill):
    found = hide_and_seek(tiny, picture, 1, hidden=1.0, copies=3, fill=fill, seed=2)
    np.testing.assert_allclose(found, grad_cam(tiny, blank(picture, fill, seed=2), 1), rtol=1e-4, atol=1e-7)


def test_it_is_the_mean_over_the_copies(tiny, picture):
    """One at a time; the copies are drawn in the order of the seed."""
    random, empty = np.random.default_rng(7), blank(picture, "grey")
    copies = [hide(picture, empty, random, 3, 0.4) for _ in range(11)]
    expected = np.mean([grad_cam(tiny, copy, 2) for copy in copies], 0)
    found = hide_and_seek(tiny, picture, 2, cells=3, hidden=0.4, copies=11, seed=7)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    assert not np.allclose(found, grad_cam(tiny, picture, 2), rtol=0.05)


@pytest.mark.parametrize(
    ("size", "cells", "side"), [((12, 16), 4, 3), ((13, 20), 4, 4), ((20, 13), 3, 5), ((6, 9), 1, 6)]
)
def test_whole_patches_are_hidden(size, cells, side):
    image, empty = np.ones((*size, 3), np.float32), np.zeros((*size, 3), np.float32)
    seen = hide(image, empty, np.random.default_rng(0), cells, 0.5)
    assert set(np.unique(seen)) <= {0, 1}
    for top in range(0, size[0], side):
        for left in range(0, size[1], side):
            assert len(np.unique(seen[top : top + side, left : left + side])) == 1
    if cells > 1:
        assert 0 < seen.mean() < 1


def test_as_many_are_hidden_as_the_chance_says():
    image, empty, random = np.ones((12, 16, 1), np.float32), np.zeros((12, 16, 1), np.float32), np.random.default_rng(0)
    shares = [1 - hide(image, empty, random, 4, 0.3).mean((0, 1)) for _ in range(400)]
    assert np.mean(shares) == pytest.approx(0.3, abs=0.02)
    assert (image == 1).all()


def test_steps_are_means_so_far(tiny, picture):
    steps = list(hide_and_seek_steps(tiny, picture, 1, copies=20))
    assert [(step.index, step.total) for step in steps] == [(8, 20), (16, 20), (20, 20)]
    np.testing.assert_allclose(steps[0].result, hide_and_seek(tiny, picture, 1, copies=8), rtol=1e-5)
    np.testing.assert_array_equal(steps[-1].result, hide_and_seek(tiny, picture, 1, copies=20))
    assert not np.array_equal(steps[-1].result, hide_and_seek(tiny, picture, 1, copies=20, seed=1))


def test_what_cannot_be_done_is_refused(tiny, picture):
    with pytest.raises(ValueError, match="one of grey"):
        hide_and_seek(tiny, picture, 1, fill="red")
    with pytest.raises(UnknownLayer):
        hide_and_seek(tiny, picture, 1, layer="mean")

"""The styles that are drawn here: pictures, the same each time, and full of what a style needs."""

from __future__ import annotations

import numpy as np
import pytest

from engine.paint.brushwork import GLASS, NAMES, NIGHT, graded, painted, ranked


@pytest.mark.parametrize("name", NAMES)
def test_they_are_pictures(name):
    found = painted(name, 96)
    assert (found.shape, found.dtype) == ((96, 96, 3), np.float32)
    assert found.min() >= 0
    assert found.max() <= 1
    assert found.std() > 0.15, "from dark to light"
    assert not found.flags.writeable
    painted.cache_clear()
    np.testing.assert_array_equal(painted(name, 96), found)
    assert painted(name).shape == (448, 448, 3)


def test_tones_become_colours():
    assert ranked(np.array([[3.0, 1.0], [9.0, 2.0]])).tolist() == [[0.5, 0.0], [0.75, 0.25]]
    found = graded(np.array([[0.0, 0.5, 1.0]]), NIGHT)
    np.testing.assert_allclose(found[0], [NIGHT[0], NIGHT[2], NIGHT[4]])
    assert len(NIGHT) == len(GLASS)


def test_no_other_is_known():
    with pytest.raises(ValueError, match="no drawn style 'fog': choose one of swirls, glass"):
        painted("fog")

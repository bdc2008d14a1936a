"""Is the other thing pasted where it is said to be, and is the map what the network says of each place?"""

from __future__ import annotations

import nets
import numpy as np
import pytest

from engine.lookalikes import cut_out, lookalikes, pasted, places
from engine.net import softmax


def test_the_map_is_what_the_network_says(tiny, picture):
    other = nets.picture((9, 5), seed=4)
    found = lookalikes(tiny, picture, other, 2, share=0.5, grid=4)
    rows, cols = places(tiny.input_size, 4)
    assert found.map.shape == (3, 4) == (len(rows), len(cols))
    cut = cut_out(other, tiny, 0.5)
    assert cut.shape == (6, 3, 4)
    for i, row in enumerate(rows):
        for j, col in enumerate(cols):
            said = softmax(tiny.scores(tiny.batch(pasted(picture, cut, (row, col)))))[0]
            assert found.map[i, j] == pytest.approx(float(said[2]), rel=1e-4)
            assert found.found[i, j] == said.argmax()
    assert found.baseline == pytest.approx(float(softmax(tiny.scores(tiny.batch(picture)))[0, 2]), rel=1e-5)


def test_it_is_pasted_at_its_middle_and_cut_off_at_the_edge():
    ground, cut = np.zeros((8, 10, 3), np.float32), np.ones((4, 2, 4), np.float32)
    whole = pasted(ground, cut, (4, 5))[..., 0]
    assert whole.sum() == 8
    assert whole[2:6, 4:6].all()
    assert pasted(ground, cut, (0, 0))[..., 0].sum() == 2 * 1
    assert pasted(ground, cut, (7, 9))[..., 0].sum() == 3 * 2
    assert not ground.any()


def test_what_is_transparent_does_not_cover():
    ground = np.full((8, 10, 3), 0.25, np.float32)
    cut = np.concatenate([np.ones((2, 2, 3)), np.full((2, 2, 1), 0.5)], 2).astype(np.float32)
    np.testing.assert_allclose(pasted(ground, cut, (4, 4))[3:5, 3:5], 0.625)


def test_what_cannot_be_is_said(tiny, picture):
    with pytest.raises(ValueError, match="at least 2 places"):
        lookalikes(tiny, picture, picture, 1, grid=1)
    with pytest.raises(ValueError, match="3 channels, or one more"):
        lookalikes(tiny, picture, picture[..., :1], 1)

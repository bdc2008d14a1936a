"""Are the maps those of the layer that was asked for, and do the numbers beside them describe them?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets

from engine.look.activations import activation_maps, statistics, unit_window
from engine.net import UnknownLayer


@pytest.mark.parametrize("layer", ["conv1", "relu1", "pool1", "conv2", "mean", "logits"])
def test_the_maps_are_those_worked_out_by_hand(tiny, picture, layer):
    found = activation_maps(tiny, picture, layer)
    assert found.shape == tiny.layer(layer).shape
    np.testing.assert_allclose(found.ravel(), nets.tiny_forward(picture)[layer].ravel(), atol=1e-5)


def test_the_picture_stays_as_it_was(tiny, picture):
    before = picture.copy()
    picture.flags.writeable = False
    activation_maps(tiny, picture, "conv2")
    np.testing.assert_array_equal(picture, before)


def test_a_layer_or_a_size_that_is_not_there_is_refused(tiny, picture):
    with pytest.raises(UnknownLayer, match="'conv9'"):
        activation_maps(tiny, picture, "conv9")
    with pytest.raises(ValueError, match="sees pictures of"):
        activation_maps(tiny, picture[:, ::-1][:, 1:], "conv1")


def test_statistics_by_hand():
    maps = np.zeros((4, 2, 3), np.float32)
    maps[0] = [[-1, 0, 2], [5, -3, 0]]
    maps[1] = [[-1, -2, -3], [-4, -5, -6]]
    maps[3] = [[1, 1, 1], [1, 1, 7]]
    found = statistics(maps)
    assert found.channel.tolist() == [0, 1, 2, 3]
    assert found.maximum.tolist() == [5, -1, 0, 7]
    np.testing.assert_allclose(found["mean"], [0.5, -3.5, 0, 2])
    np.testing.assert_allclose(found.on, [1 / 3, 0, 0, 1])
    assert list(zip(found.row, found.col, strict=True)) == [(1, 0), (0, 0), (0, 0), (1, 2)]


def test_statistics_of_a_plain_vector(tiny, picture):
    found = statistics(activation_maps(tiny, picture, "logits"))
    assert found.maximum.tolist() == found["mean"].tolist()
    assert set(found.row) == set(found.col) == {0}


@pytest.mark.parametrize(
    ("layer", "place", "expected"),
    [
        ("conv1", (0, 0), (0, 0, 2, 2)),  # 3 x 3 around the pixel, cut at the corner
        ("conv1", (5, 9), (4, 8, 7, 11)),
        ("pool1", (5, 7), (9, 13, 12, 16)),  # conv1's rows 10, 11 and columns 14, 15
        ("conv2", (0, 0), (0, 0, 7, 7)),  # pool1's first three rows and columns
        ("conv2", (3, 5), (5, 9, 12, 16)),
        ("logits", (0, 0), (0, 0, 12, 16)),
    ],
)
def test_what_a_unit_sees_by_hand(tiny, layer, place, expected):
    assert unit_window(tiny, layer, *place) == expected


@pytest.mark.parametrize("place", [(4, 0), (0, 6), (-1, 0), (0, -1)])
def test_a_place_that_is_not_there_is_refused(tiny, place):
    with pytest.raises(UnknownLayer, match="is outside"):
        unit_window(tiny, "conv2", *place)


def test_changing_a_pixel_outside_the_window_changes_nothing(tiny, picture):
    top, left, bottom, right = unit_window(tiny, "conv2", 1, 4)
    before = activation_maps(tiny, picture, "conv2")[:, 1, 4]
    outside = nets.picture(seed=9)
    outside[top:bottom, left:right] = picture[top:bottom, left:right]
    np.testing.assert_allclose(activation_maps(tiny, outside, "conv2")[:, 1, 4], before, atol=1e-6)
    inside = picture.copy()
    inside[top, left] = 1 - inside[top, left]
    assert np.abs(activation_maps(tiny, inside, "conv2")[:, 1, 4] - before).max() > 0

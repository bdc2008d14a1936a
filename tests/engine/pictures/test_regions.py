"""Regions: what the named ones cover, and which masks are taken."""

from __future__ import annotations

import numpy as np
import pytest

from engine import image
from engine.pictures.regions import HALVES, NAMES, drawn, mask, masks, thing

PICTURE = np.full((40, 60, 3), 0.2, np.float32)
PICTURE[12:30, 20:38] = (0.9, 0.3, 0.1)


@pytest.mark.parametrize("name", NAMES)
def test_the_named_ones_are_masks(name):
    found = drawn(PICTURE, name)
    assert (found.shape, found.dtype) == ((40, 60), np.float32)
    assert set(np.unique(found)) <= {0, 1}
    assert found.any()


@pytest.mark.parametrize("pair", [("left", "right"), ("top", "bottom"), ("centre", "around"), ("thing", "behind")])
def test_two_of_them_cover_all(pair):
    np.testing.assert_array_equal(sum(drawn(PICTURE, name) for name in pair), np.ones((40, 60)))


def test_what_they_cover():
    assert drawn(PICTURE, "left")[:, :30].all()
    assert drawn(PICTURE, "top")[:20].all()
    assert drawn(PICTURE, "centre").mean() == pytest.approx(0.5, abs=0.02)
    assert all(drawn(PICTURE, name).mean() == 0.5 for name in HALVES)


def test_the_thing_is_what_stands_out_in_the_middle():
    found = thing(PICTURE)
    wanted = PICTURE[..., 0] > 0.5
    assert (found & wanted).sum() / (found | wanted).sum() > 0.9


@pytest.mark.parametrize("size", [(1, 1), (3, 3), (30, 200), (300, 40)], ids=str)
def test_a_picture_without_a_thing(size):
    """Of one colour, or tiny: some region is found all the same."""
    assert thing(np.full((*size, 3), 0.5, np.float32)).any()
    assert thing(np.full((*size, 1), 0.5, np.float32)).shape == size


def test_masks_are_scaled_where_their_proportions_fit(tmp_path):
    left = drawn(PICTURE, "left")
    np.testing.assert_array_equal(mask(PICTURE, left), left)
    np.testing.assert_allclose(mask(PICTURE, np.repeat(np.repeat(left, 3, 0), 3, 1)), left, atol=0.2)
    small = mask(PICTURE, left[::2, ::2])
    assert small.shape == (40, 60)
    assert np.abs(small - left)[:, :28].max() < 1e-6
    file = tmp_path / "mask.png"
    file.write_bytes(image.to_png(left))
    first, second = masks(PICTURE, f"right, {file}")
    np.testing.assert_allclose(first + second, 1, atol=1e-6)
    np.testing.assert_array_equal(mask(PICTURE, np.repeat(left[..., None], 3, 2)), left)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((60, 40)), "60 x 40 pixels does not fit a picture of 40 x 60"),
        (np.ones((40, 55)), "40 x 55 pixels does not fit"),
        (np.ones((0, 0)), "0 x 0 pixels does not fit"),
        (np.full((40, 60), np.nan), "not numbers"),
        ("nowhere.png", "no mask 'nowhere.png'"),
    ],
)
def test_what_is_no_mask_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        mask(PICTURE, given)

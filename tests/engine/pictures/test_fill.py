"""Is what stands in for a hidden pixel what its name says?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets

from engine.pictures.fill import BLUR, FILLS, blank


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fill", FILLS)
def test_a_blank_is_a_picture_of_its_own(fill, channels):
    image = nets.picture((9, 14), channels)
    before = image.copy()
    image.flags.writeable = False
    found = blank(image, fill)
    assert (found.shape, found.dtype) == (image.shape, np.float32)
    assert 0 <= found.min() <= found.max() <= 1
    assert not np.shares_memory(found, image)
    found[:] = 0  # it may be written to
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(blank(image, fill), blank(image, fill))


@pytest.mark.parametrize(("fill", "colour"), [("grey", 0.5), ("black", 0), ("white", 1)])
def test_plain_colours(fill, colour):
    assert (blank(nets.picture(), fill) == colour).all()


def test_the_mean_is_the_pictures_own_colour():
    image = nets.picture((9, 14))
    np.testing.assert_allclose(blank(image, "mean"), np.broadcast_to(image.mean((0, 1)), image.shape), atol=1e-6)


def test_a_blur_is_as_wide_as_it_says_and_mixes_no_channels():
    """A single bright pixel in one channel: what becomes of it has the variance of the Gaussian along both axes."""
    size = (100, 140)
    image = np.zeros((*size, 3), np.float32)
    image[40, 60, 1] = 1
    found = blank(image, "blur")
    assert not found[:, :, [0, 2]].any()
    share = found[:, :, 1].astype(np.float64)
    assert share.sum() == pytest.approx(1, rel=1e-4)
    rows, cols = np.mgrid[: size[0], : size[1]]
    wanted = (BLUR * min(size)) ** 2
    for places, middle in ((rows, 40), (cols, 60)):
        assert (share * (places - middle)).sum() == pytest.approx(0, abs=1e-3)
        assert (share * (places - middle) ** 2).sum() == pytest.approx(wanted, rel=0.01)


def test_a_blur_keeps_what_has_no_details():
    plain = np.broadcast_to(np.float32([0.2, 0.7, 0.9]), (30, 44, 3))
    np.testing.assert_allclose(blank(plain, "blur"), plain, atol=1e-6)


def test_noise_is_even_and_the_seeds_own():
    image = np.zeros((80, 90, 3), np.float32)
    found = blank(image, "noise", seed=4)
    np.testing.assert_array_equal(found, blank(image, "noise", seed=4))
    assert not np.array_equal(found, blank(image, "noise", seed=5))
    counts = np.histogram(found, 10, (0, 1))[0]
    assert abs(counts / found.size - 0.1).max() < 0.01
    np.testing.assert_allclose(found.mean((0, 1)), 0.5, atol=0.02)


def test_only_noise_depends_on_the_seed():
    image = nets.picture()
    for fill in FILLS:
        assert np.array_equal(blank(image, fill, seed=1), blank(image, fill, seed=2)) == (fill != "noise")


def test_another_fill_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="one of grey, mean, black, white, blur, noise, not 'red'"):
        blank(nets.picture(), "red")

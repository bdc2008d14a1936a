"""Is a thing of one colour cut out exactly where the evidence points at it?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small_nets as nets

from engine.explain.evidence import evidence
from engine.explain.segmentation import BACKGROUND, FOREGROUND, UNKNOWN, grab_cut, segmentation
from engine.net import UnknownClass

SIZE = (36, 50)
ROWS, COLS = np.mgrid[: SIZE[0], : SIZE[1]]
THING = (ROWS - 20) ** 2 + (COLS - 30) ** 2 < 10**2
TWIN = (abs(ROWS - 8) < 3) & (abs(COLS - 8) < 4)  # of the same colour, elsewhere and smaller


def picture(channels: int = 3) -> np.ndarray:
    """A bright thing and its smaller twin on a dark ground, each with a little noise."""
    thing, ground = np.array([0.9, 0.3, 0.2])[:channels], np.array([0.1, 0.4, 0.7])[:channels]
    image = np.where((THING | TWIN)[:, :, None], thing, ground)
    return (image + np.random.default_rng(0).normal(0, 0.02, image.shape)).clip(0, 1).astype(np.float32)


def net_of(weight: np.ndarray, path, channels: int = 3):
    """A linear net, whose gradient is the `weight` (H, W) that is planted."""
    about = dataclasses.replace(
        nets.ABOUT, input_size=SIZE, labels=("a", "b"), mean=(0.5,) * channels, std=(1.0,) * channels
    )
    planted = np.stack([0 * weight, weight])[:, None].repeat(channels, 1)
    return nets.save(nets.linear(planted, np.zeros(2), about), path)


@pytest.fixture
def net(tmp_path):
    """Its evidence lies in the middle of the thing only, and is 0 on most of the picture."""
    return net_of(((ROWS - 20) ** 2 + (COLS - 30) ** 2 < 5**2) * 1.0, tmp_path / "planted.onnx")


def test_the_thing_is_cut_out_exactly(net):
    found = segmentation(net, picture(), 1)
    np.testing.assert_array_equal(found.mask, THING)
    assert found.cut_out.shape == (*SIZE, 4)
    np.testing.assert_array_equal(found.cut_out[:, :, :3], picture())
    np.testing.assert_array_equal(found.cut_out[:, :, 3], THING)


def test_a_grey_picture_too(tmp_path):
    net = net_of((THING & (abs(ROWS - 20) < 5)) * 1.0, tmp_path / "grey.onnx", 1)
    found = segmentation(net, picture(1), 1)
    np.testing.assert_array_equal(found.mask, THING)
    np.testing.assert_array_equal(found.cut_out[:, :, :3], picture(1).repeat(3, 2))


def test_seeds_are_the_percentiles_of_the_evidence(tmp_path):
    """A map in which all values differ: so many places are above and below, and they are the right ones."""
    slope = (ROWS * SIZE[1] + COLS) / ROWS.size
    net = net_of(slope, tmp_path / "slope.onnx")
    found = segmentation(net, picture(), 1, foreground=90.0, background=20.0, smooth=0.0)
    np.testing.assert_allclose(found.evidence, evidence(net, picture(), 1, method="Gradient"))
    np.testing.assert_array_equal(found.seeds == FOREGROUND, slope > np.percentile(slope, 90))
    np.testing.assert_array_equal(found.seeds == BACKGROUND, slope <= np.percentile(slope, 20))
    assert (found.seeds == UNKNOWN).mean() == pytest.approx(0.7, abs=0.01)


def test_a_map_that_is_0_on_most_of_the_picture_still_says_where_the_background_is(net):
    """As maps after a ReLU are: no place is below the percentile then, and all of the zeros are at it."""
    found = segmentation(net, picture(), 1, smooth=0.0)
    assert (found.seeds == BACKGROUND).mean() > 0.5
    np.testing.assert_array_equal(found.mask, found.seeds == FOREGROUND)


def test_smoothing_spreads_single_pixels(tmp_path):
    weight = np.zeros(SIZE)
    weight[20, 30] = 1
    net = net_of(weight, tmp_path / "dot.onnx")
    rough, smooth = (segmentation(net, picture(), 1, smooth=sigma).evidence for sigma in (0.0, 2.0))
    assert (rough > 0).sum() == 1
    assert smooth.sum() == pytest.approx(rough.sum(), rel=1e-4)
    assert smooth[20, 30] == smooth.max() < 0.1
    assert smooth[20, 32] > 0.5 * smooth.max()


def test_any_method_can_point(tiny):
    image = nets.picture()
    for method in ("Grad-CAM", "Eigen-CAM", "Guided backpropagation"):
        found = segmentation(tiny, image, 1, method=method)
        assert found.mask.shape == found.seeds.shape == found.evidence.shape == (12, 16)


def test_seeds_of_the_thing_stay_and_those_of_the_ground_do_too():
    image = picture()
    seeds = np.full(SIZE, UNKNOWN, np.uint8)
    seeds[18:23, 28:33] = FOREGROUND
    seeds[0:3] = BACKGROUND
    seeds[20, 25] = BACKGROUND  # against its colour
    mask = grab_cut(image, seeds)
    assert not mask[20, 25]
    assert mask[18:23, 28:33].all()
    assert not mask[TWIN].any()
    assert (mask != THING).sum() < 6


@pytest.mark.parametrize("kind", [FOREGROUND, BACKGROUND, UNKNOWN])
def test_with_one_kind_of_seeds_there_is_nothing_to_learn(kind):
    seeds = np.full(SIZE, UNKNOWN, np.uint8)
    seeds[5:9, 5:11] = kind
    mask = grab_cut(picture(), seeds)
    assert mask.sum() == (24 if kind == FOREGROUND else 0)


def test_a_map_that_is_the_same_everywhere_finds_nothing(tmp_path):
    found = segmentation(net_of(np.zeros(SIZE), tmp_path / "flat.onnx"), picture(), 1)
    assert not found.mask.any()


def test_the_random_start_is_the_same_each_time(net):
    assert np.array_equal(segmentation(net, picture(), 1).mask, segmentation(net, picture(), 1).mask)


@pytest.mark.parametrize(
    "how", [{"foreground": 30.0}, {"foreground": 100.0}, {"background": -1.0}, {"background": 96.0, "foreground": 95.0}]
)
def test_percentiles_that_contradict_each_other_are_refused(tiny, how):
    with pytest.raises(ValueError, match="background's percentile is below the foreground's"):
        segmentation(tiny, nets.picture(), 1, **how)


def test_unknown_methods_and_classes_are_refused(tiny):
    with pytest.raises(ValueError, match="no map of evidence"):
        segmentation(tiny, nets.picture(), 1, method="Palmistry")
    with pytest.raises(UnknownClass):
        segmentation(tiny, nets.picture(), 4)

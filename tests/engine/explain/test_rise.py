"""Does RISE find the one cell that matters, does its error shrink as it says, and does a run end when it may?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small_nets as nets

from engine.explain import rise as module
from engine.explain.rise import LEAST, Rise, rise, rise_steps
from engine.net import Net, UnknownClass
from engine.target import class_score, unit

SIZE = (28, 42)  # 4 pixels a cell, of 7 along the shorter side
ABOUT = dataclasses.replace(nets.ABOUT, input_size=SIZE, labels=("a", "b"))


def net_of(weight: np.ndarray, path, bias=(0.0, 0.0)) -> Net:
    """logits = bias + weight · picture, with a weight (2, H, W) for all three channels alike."""
    return nets.save(nets.linear(np.repeat(weight[:, None], 3, 1), np.array(bias), ABOUT), path)


@pytest.fixture
def spot(tmp_path) -> Net:
    """Only the pixels of rows 8 to 11 and columns 20 to 23 count, for class 1."""
    weight = np.zeros((2, *SIZE))
    weight[1, 8:12, 20:24] = 0.2
    return net_of(weight, tmp_path / "spot.onnx")


@pytest.fixture
def image() -> np.ndarray:
    return nets.picture(SIZE) * 0.5 + 0.5  # bright, so that what is hidden is missed


def test_the_maximum_lies_where_the_net_looks(spot, image):
    found = rise(spot, image, 1, masks=800, stable=0)
    assert (found.map.shape, found.error.shape, found.masks) == (SIZE, SIZE, 800)
    row, col = np.unravel_index(found.map.argmax(), SIZE)
    assert 8 <= row < 12
    assert 20 <= col < 24
    away = np.ones(SIZE, bool)
    away[0:20, 12:32] = False  # whatever a mask's cell can reach together with the spot
    assert abs(found.map[away]).max() < 0.25 * found.map.max()


def test_another_class_turns_the_map_round(spot, image):
    """Of two classes, the probability of one is what the other's lacks; the masks are the same."""
    one, other = (rise(spot, image, index, masks=200).map for index in (0, 1))
    np.testing.assert_allclose(one, -other, atol=1e-5)


def test_a_number_that_is_always_the_same_gives_0_and_no_error(tmp_path, image):
    net = net_of(np.zeros((2, *SIZE)), tmp_path / "flat.onnx", (0.3, 2.0))
    found = rise(net, image, class_score(net, 1), masks=100)
    np.testing.assert_allclose(found.map, 0, atol=1e-6)
    np.testing.assert_allclose(found.error, 0, atol=1e-5)


def test_the_map_is_the_weighted_mean_less_the_mean(tiny, picture, monkeypatch):
    """Equation 6 from the masks and numbers themselves, which are kept aside here; in batches of 7."""
    masks, numbers = [], []
    make, measure = module._masks, module.measure
    monkeypatch.setattr(module, "_masks", lambda *args: masks.append(make(*args)) or masks[-1])
    monkeypatch.setattr(module, "measure", lambda *args: numbers.append(measure(*args)) or numbers[-1])
    monkeypatch.setitem(vars(tiny), "batch_size", 7)
    found = rise(tiny, picture, unit(tiny, "conv2", 2), masks=40, cells=4, stable=0)
    m, s = np.concatenate(masks).astype(float), np.concatenate(numbers).astype(float)
    assert len(m) == len(s) == 40
    average = np.tensordot(s, m, 1) / m.sum(0)
    np.testing.assert_allclose(found.map, average - s.mean(), atol=1e-5)
    # What each mask adds to the difference of the two means, to first order.
    s_ = s[:, None, None]
    moved = m / m.mean(0) * (s_ - average) - (s_ - s.mean())
    np.testing.assert_allclose(found.error, (moved**2).sum(0) ** 0.5 / 40, rtol=1e-3, atol=1e-7)
    # And what the network saw is the picture where the mask is 1, and black where it is 0.
    for mask, number in list(zip(m, s, strict=True))[:5]:
        seen = picture * mask[:, :, None]
        assert number == pytest.approx(nets.tiny_forward(seen)["conv2"][2].mean(), abs=1e-4)


def test_masks_are_smooth_shown_as_often_as_asked_and_shifted():
    random = np.random.default_rng(0)
    masks = module._masks(random, 2000, SIZE, 4, 0.3)
    assert masks.shape == (2000, *SIZE)
    assert 0 <= masks.min() < 0.01
    assert 0.99 < masks.max() <= 1
    np.testing.assert_allclose(masks.mean(0), 0.3, atol=0.05)
    for axis in (1, 2):  # cells of 4 pixels, stretched between their centres: a quarter a pixel at most
        assert abs(np.diff(masks, axis=axis)).max() < 0.2501


def test_each_shift_within_a_cell_comes_equally_often():
    """A mask bends only between the pixels 4k + 1 and 4k + 2, around a cell's middle: where it does tells its shift."""
    count, seen = 1600, np.zeros((4, 4), int)
    for mask in module._masks(np.random.default_rng(0), count, SIZE, 4, 0.5):
        shifts = []
        for axis in (0, 1):
            bends = np.flatnonzero(abs(np.diff(mask, 2, axis=axis)).max(1 - axis) > 1e-3) + 1
            shifts.append([shift for shift in range(4) if set((bends + shift) % 4) == {1, 2}])
        [[row], [col]] = shifts
        seen[row, col] += 1
    assert seen.sum() == count
    assert abs(seen - 100).max() < 40  # four standard deviations


@pytest.mark.parametrize("fill", ["white", "mean", "blur", "noise"])
def test_what_is_hidden_is_filled_as_asked(tiny, picture, fill, monkeypatch):
    from engine.pictures.fill import blank

    seen = []
    measure = module.measure
    monkeypatch.setattr(module, "measure", lambda net, batch, target: seen.append(batch) or measure(net, batch, target))
    monkeypatch.setattr(module, "_masks", lambda random, many, *_: np.full((many, 12, 16), 0.25, np.float32))
    rise(tiny, picture, 1, masks=2, fill=fill, seed=3)
    expected = 0.25 * picture + 0.75 * blank(picture, fill, seed=3)
    np.testing.assert_allclose(seen[0][0].transpose(1, 2, 0), expected, atol=1e-6)


# The error, and when it is enough ------------------------------------------------------------------------------------


def test_the_error_shrinks_with_the_root_of_the_masks(spot, image):
    few, many = (rise(spot, image, 1, masks=masks, stable=0).error.mean() for masks in (200, 3200))
    assert few / many == pytest.approx(4, rel=0.1)


def test_the_error_is_that_of_runs_with_other_masks(spot, image):
    maps = [rise(spot, image, 1, masks=150, stable=0, seed=seed) for seed in range(40)]
    scattered = np.stack([each.map for each in maps]).std(0, ddof=1)
    stated = np.mean([each.error for each in maps], 0)
    assert scattered.mean() == pytest.approx(stated.mean(), rel=0.08)


def test_noise_is_the_error_as_a_share_of_the_range():
    assert Rise(np.array([[0.0, 4.0]]), np.array([[1.0, 3.0]]), 9).noise == pytest.approx(0.5)
    assert Rise(np.zeros((1, 2)), np.array([[0.2, 0.4]]), 9).noise == pytest.approx(0.3)


def test_a_run_ends_when_it_is_stable_and_its_last_step_says_it_is_all(spot, image):
    steps = list(rise_steps(spot, image, 1, masks=5000, stable=0.15))
    last = steps[-1]
    assert last.index == last.total == 5000
    assert LEAST <= last.result.masks < 5000
    assert last.result.noise <= 0.15
    for step in steps[:-1]:
        assert step.index == step.result.masks
        assert step.index < LEAST or step.result.noise > 0.15


def test_never_before_the_least_number_and_not_at_all_where_it_is_not_wanted(spot, image):
    assert rise(spot, image, 1, masks=2000, stable=1e9).masks == LEAST
    assert rise(spot, image, 1, masks=500, stable=0).masks == 500
    assert rise(spot, image, 1, masks=30, stable=1e9).masks == 30


def test_steps_are_running_means(tiny, picture, monkeypatch):
    monkeypatch.setitem(vars(tiny), "batch_size", 16)
    steps = list(rise_steps(tiny, picture, 1, masks=40, stable=0))
    assert [(step.index, step.total) for step in steps] == [(16, 40), (32, 40), (40, 40)]
    # The masks come in the order of the seed, so that a shorter run is the beginning of a longer one.
    np.testing.assert_allclose(steps[0].result.map, rise(tiny, picture, 1, masks=16, stable=0).map, atol=1e-6)
    np.testing.assert_array_equal(steps[-1].result.map, rise(tiny, picture, 1, masks=40, stable=0).map)


def test_the_masks_are_the_same_in_batches_of_any_size():
    whole, parted = np.random.default_rng(3), np.random.default_rng(3)
    masks = module._masks(whole, 11, SIZE, 4, 0.5)
    parts = [module._masks(parted, many, SIZE, 4, 0.5) for many in (1, 7, 3)]
    np.testing.assert_array_equal(np.concatenate(parts), masks)


def test_the_seed_decides(tiny, picture):
    first, again, other = (rise(tiny, picture, 1, masks=20, seed=seed).map for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


@pytest.mark.parametrize("how", [{"masks": 1}, {"cells": 0}, {"shown": 0.0}, {"shown": 1.0}])
def test_what_cannot_be_done_is_refused(tiny, picture, how):
    with pytest.raises(ValueError, match="two masks or more"):
        rise(tiny, picture, 1, **how)


def test_unknown_fills_and_classes_are_refused(tiny, picture):
    with pytest.raises(ValueError, match="one of grey"):
        rise(tiny, picture, 1, masks=4, fill="red")
    with pytest.raises(UnknownClass):
        rise(tiny, picture, 4, masks=4)

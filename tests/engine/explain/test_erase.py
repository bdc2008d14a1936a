"""Is what one round finds gone in the next, and is the union what all of them found?"""

from __future__ import annotations

import numpy as np
import pytest

from engine.explain.erase import erase, erase_steps
from engine.explain.evidence import over_picture
from engine.explain.grad_cam import grad_cam
from engine.net import UnknownClass, UnknownLayer
from engine.pictures.fill import blank
from engine.target import class_margin, class_score, measure, number


@pytest.mark.parametrize("fill", ["mean", "black", "blur"])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_each_round_asks_about_what_the_one_before_has_left(tiny, picture, fill, threshold):
    index = 0 if grad_cam(tiny, picture, 0).any() else 1
    found = erase(tiny, picture, index, rounds=3, threshold=threshold, fill=fill)
    assert [len(part) for part in (found.pictures, found.maps, found.regions, found.scores)] == [3] * 4
    np.testing.assert_array_equal(found.pictures[0], picture)
    empty = blank(picture, fill)
    union = np.zeros((12, 16))
    for round_ in range(3):
        now = found.pictures[round_]
        np.testing.assert_allclose(found.maps[round_], grad_cam(tiny, now, index), rtol=1e-4, atol=1e-7)
        whole = over_picture(found.maps[round_], (12, 16))
        expected = (whole >= threshold * whole.max()) & (whole > 0)
        np.testing.assert_array_equal(found.regions[round_], expected)
        assert found.scores[round_] == pytest.approx(number(tiny, now, index), abs=1e-6)
        union = np.where(expected, np.maximum(union, whole), union)
        if round_ < 2:
            after = found.pictures[round_ + 1]
            np.testing.assert_array_equal(after[expected], empty[expected])
            np.testing.assert_array_equal(after[~expected], now[~expected])
    np.testing.assert_allclose(found.union, union, rtol=1e-6)
    assert found.regions[0].any()
    assert not found.regions[0].all()
    assert ((found.union > 0) == found.regions.any(0)).all()


def test_a_target_is_mapped_and_told_as_it_is(tiny, picture):
    for target in (class_margin(tiny, 1, 2), class_score(tiny, 0)):
        found = erase(tiny, picture, target, layer="relu1", rounds=2)
        np.testing.assert_allclose(found.scores, measure(tiny, tiny.batch(*found.pictures), target), atol=1e-5)
        np.testing.assert_allclose(found.maps[1], grad_cam(tiny, found.pictures[1], target, layer="relu1"), rtol=1e-4)
        assert found.maps.shape == (2, 12, 16)


def test_steps_are_the_rounds(tiny, picture):
    steps = list(erase_steps(tiny, picture, 1, rounds=3))
    assert [(step.index, step.total) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert [len(step.result.maps) for step in steps] == [1, 2, 3]
    whole = erase(tiny, picture, 1, rounds=3)
    np.testing.assert_array_equal(steps[-1].result.union, whole.union)
    np.testing.assert_array_equal(steps[0].result.maps[0], whole.maps[0])


def test_where_nothing_is_found_nothing_is_erased(tiny, picture):
    """With no weights behind it the map is 0 everywhere."""
    net = tiny.with_weights({"w3": 0 * tiny.graph.constants["w3"]})
    found = erase(net, picture, 1, rounds=2)
    assert not found.regions.any()
    assert not found.union.any()
    np.testing.assert_array_equal(found.pictures[1], picture)


def test_the_picture_stays_as_it_was(tiny, picture):
    before = picture.copy()
    erase(tiny, picture, 1, rounds=2)
    np.testing.assert_array_equal(picture, before)


def test_what_cannot_be_done_is_refused(tiny, picture):
    for how, error in (({"fill": "red"}, ValueError), ({"layer": "mean"}, UnknownLayer), ({"rounds": 0}, ValueError)):
        with pytest.raises(error):
            erase(tiny, picture, 1, **how)
    with pytest.raises(UnknownClass):
        erase(tiny, picture, 4)

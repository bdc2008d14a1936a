"""Is the box the one around the largest part of a map that was drawn by hand?"""

from __future__ import annotations

import numpy as np
import pytest

from engine.explain.boxes import THRESHOLDS, bounding_box, filled_box, inside, largest_part, overlap, points_at, sweep
from engine.explain.evidence import evidence, over_picture
from engine.net import UnknownLayer
from engine.pictures.regions import bounds


def drawn(text: str) -> np.ndarray:
    """Digits as tenths, "." as 0."""
    rows = [line.strip() for line in text.strip().splitlines()]
    return np.array([[0 if dot == "." else int(dot) / 10 for dot in row] for row in rows])


hills = drawn("""
    .......9
    .345....
    .6852...
    ..33..1.
    ......11
""")


@pytest.mark.parametrize(("threshold", "count"), [(0.2, 9), (0.4, 5)])
def test_the_largest_part_above_the_threshold(threshold, count):
    """Of two islands the larger one, although the smaller one has the maximum."""
    mask = largest_part(hills, threshold)
    assert (mask.dtype, mask.sum()) == (bool, count)
    expected = hills >= threshold * 0.9
    expected[:, 6:] = False
    np.testing.assert_array_equal(mask, expected)


def test_boxes_are_tight():
    assert bounds(largest_part(hills, 0.2)) == (1, 1, 4, 5)
    assert bounds(largest_part(hills, 0.4)) == (1, 1, 3, 4)
    assert bounds(largest_part(hills, 0.8)) in ((0, 7, 1, 8), (2, 2, 3, 3))  # two parts of one place each
    assert bounds(largest_part(hills, 0.95)) == (0, 7, 1, 8)


def test_places_touch_along_their_sides_only():
    corner = drawn("""
        99..
        ..99
        ..9.
    """)
    assert bounds(largest_part(corner)) == (1, 2, 3, 4)


@pytest.mark.parametrize("found", [np.zeros((3, 4)), np.full((3, 4), -1.0)])
def test_where_there_is_no_evidence_there_is_no_box(found):
    mask = largest_part(found)
    assert mask.shape == (3, 4)
    assert not mask.any()
    assert bounds(mask) == (0, 0, 0, 0)
    assert not filled_box(bounds(mask), (3, 4)).any()


def test_what_speaks_against_is_never_in_the_box():
    """Also not at a threshold of 0."""
    found = (
        drawn("""
        .3..
        .33.
    """)
        - 0.1
    )
    assert bounds(largest_part(found, 0.0)) == (0, 1, 2, 3)


def test_a_box_filled_again():
    mask = filled_box((1, 2, 3, 5), (4, 6))
    assert mask.sum() == 6
    assert mask[1:3, 2:5].all()
    assert bounds(mask) == (1, 2, 3, 5)


def test_overlap_is_intersection_over_union():
    a, b = filled_box((0, 0, 2, 3), (4, 6)), filled_box((1, 1, 4, 3), (4, 6))
    assert overlap(a, b) == pytest.approx(2 / 10)
    assert overlap(a, a) == 1
    assert overlap(a, ~a) == 0
    assert overlap(a & ~a, a & ~a) == 0


def test_the_sweep_tells_how_the_box_depends_on_the_threshold():
    truth = filled_box((1, 1, 3, 4), (5, 8))
    truth[2, 2] = False  # the box around it is the same
    table = sweep(hills, truth)
    assert list(table["threshold"]) == list(THRESHOLDS)
    assert list(table.columns) == ["threshold", "top", "left", "bottom", "right", "share", "iou", "mask_iou"]
    row = table.set_index("threshold").loc[0.2]
    assert tuple(row[["top", "left", "bottom", "right"]]) == (1, 1, 4, 5)
    assert row["share"] == pytest.approx(12 / 40)
    assert row["iou"] == pytest.approx(6 / 12)
    part = largest_part(hills, 0.2)
    assert row["mask_iou"] == pytest.approx((part & truth).sum() / (part | truth).sum())
    best = table.set_index("threshold").loc[0.4]
    assert best["iou"] == 1
    assert best["mask_iou"] == pytest.approx(4 / 6)  # five against five, of which they share four


def test_without_a_truth_the_sweep_has_no_scores():
    assert list(sweep(hills).columns) == ["threshold", "top", "left", "bottom", "right", "share"]


def test_the_pointing_game():
    assert points_at(hills, filled_box((0, 7, 1, 8), (5, 8)))
    assert not points_at(hills, filled_box((1, 1, 4, 5), (5, 8)))


def test_the_share_inside_counts_what_speaks_for_it_only():
    found = np.array([[2.0, 1.0, -5.0], [1.0, 0.0, -1.0]])
    truth = np.array([[True, False, True], [True, True, False]])
    assert inside(found, truth) == pytest.approx(3 / 4)
    assert inside(-np.abs(found), truth) == 0


# From a net -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["Grad-CAM", "Eigen-CAM", "Gradient"])
def test_a_box_in_a_picture(tiny, picture, method):
    found = bounding_box(tiny, picture, 0, method=method, threshold=0.5)
    whole = over_picture(evidence(tiny, picture, 0, method=method), (12, 16))
    np.testing.assert_array_equal(found.evidence, whole)
    np.testing.assert_array_equal(found.mask, largest_part(whole, 0.5))
    np.testing.assert_array_equal(found.box, bounds(found.mask))
    assert found.mask.any()


def test_the_layer_is_passed_on(tiny, picture):
    found = bounding_box(tiny, picture, 1, method="Eigen-CAM", layer="relu1")
    np.testing.assert_array_equal(found.evidence, evidence(tiny, picture, 1, method="Eigen-CAM", layer="relu1"))
    with pytest.raises(UnknownLayer):
        bounding_box(tiny, picture, 1, layer="mean")
    with pytest.raises(ValueError, match="no map of evidence"):
        bounding_box(tiny, picture, 1, method="Palmistry")

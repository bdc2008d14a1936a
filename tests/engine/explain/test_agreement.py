"""Is the rank correlation Spearman's, also with ties, and what of a map without an order?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from engine.explain.agreement import rank_correlation, rank_correlations

RANDOM = np.random.default_rng(3)
MAPS = [
    RANDOM.normal(size=(9, 13)),
    RANDOM.random((9, 13)) ** 5,
    RANDOM.integers(0, 3, (9, 13)).astype(float),  # full of ties
    np.maximum(RANDOM.normal(size=(9, 13)), 0),  # half of it ties at 0, as after a ReLU
    np.arange(117.0).reshape(9, 13),
]


def test_it_is_scipys():
    found = rank_correlations(MAPS)
    expected = spearmanr(np.stack([each.ravel() for each in MAPS]), axis=1).statistic
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert abs(expected - np.eye(5)).max() > 0.05


def test_two_maps():
    for other in MAPS[1:]:
        expected = spearmanr(MAPS[0].ravel(), other.ravel()).statistic
        assert rank_correlation(MAPS[0], other) == pytest.approx(expected, abs=1e-12)


def test_units_and_colours_do_not_matter_and_turning_round_turns_the_sign():
    for each in MAPS:
        assert rank_correlation(each, 3 * each - 7) == pytest.approx(1)
        assert rank_correlation(each, np.exp(each)) == pytest.approx(1)
        assert rank_correlation(each, -each) == pytest.approx(-1)
    assert np.abs(rank_correlations([*MAPS, *MAPS])).max() <= 1


def test_a_map_that_is_the_same_everywhere_agrees_with_none():
    """Where scipy warns and gives NaN; with itself it agrees."""
    flat = np.full((9, 13), 0.3)
    np.testing.assert_array_equal(rank_correlations([flat, MAPS[0], flat]), [[1, 0, 0], [0, 1, 0], [0, 0, 1]])


def test_float32_and_one_map():
    assert rank_correlation(MAPS[0].astype(np.float32), MAPS[0].astype(np.float32)) == pytest.approx(1)
    np.testing.assert_array_equal(rank_correlations(MAPS[:1]), [[1]])

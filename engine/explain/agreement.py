"""Do several maps say the same?

Spearman's rank correlation: 1 where two maps put all places in the same order, 0 where they have nothing to do with
each other. Ranks do not care for the maps' units, nor for how their colours are stretched.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata


def rank_correlations(maps: Sequence[np.ndarray]) -> np.ndarray:
    """(N, N) in [-1, 1] for N maps of one shape; 0 beside a map that is the same everywhere and so has no order."""
    ranks = np.stack([rankdata(found) for found in maps])
    ranks -= ranks.mean(1, keepdims=True)
    length = np.sqrt((ranks**2).sum(1))
    ranks /= np.where(length > 0, length, 1)[:, None]
    found = np.clip(ranks @ ranks.T, -1, 1)
    np.fill_diagonal(found, 1)
    return found


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two maps of one shape."""
    return float(rank_correlations([a, b])[0, 1])

"""How sure is a number that was counted or averaged over a few pictures?"""

from __future__ import annotations

import numpy as np

CONFIDENCE = 1.959963984540054  # standard deviations, of 95 %


def share_interval(right: int, total: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share: Wilson 1927, doi:10.1080/01621459.1927.10502953."""
    if not total:
        return 0.0, 1.0
    z, share = CONFIDENCE, right / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (share * (1 - share) / total + z * z / (4 * total * total)) ** 0.5
    return max(0.0, middle - half), min(1.0, middle + half)


def mean_interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % confidence interval of the mean by Student's t; NaN with one number."""
    if len(values) < 2:
        return np.nan, np.nan
    from scipy import stats  # which takes long to import

    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean() - half, values.mean() + half

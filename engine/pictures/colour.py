"""Which colour stands for which number?

Unsigned maps: viridis (Smith and van der Walt 2015, CC0), perceptually uniform and readable by the colour-blind. Signed
maps: blue over near-white to red, two straight lines in CIELAB whose lightness falls evenly from 97 in the middle to 34
at both ends, so that equal differences look equal and zero is the lightest.
"""

from __future__ import annotations

import numpy as np

SEQUENTIAL = (
    "#440154", "#481a6c", "#472f7d", "#414487", "#39568c", "#31688e", "#2a788e", "#23888e",
    "#1f988b", "#22a884", "#35b779", "#54c568", "#7ad151", "#a5db36", "#d2e21b", "#fde725",
)  # fmt: skip
DIVERGING = (
    "#2759a5", "#4f6db0", "#6e83bc", "#8a98c8", "#a6afd3", "#c1c6df", "#dbdeeb", "#f6f6f6",
    "#efdad6", "#e6beb7", "#dba399", "#cf877b", "#c26c5f", "#b35144", "#a3332a",
)  # fmt: skip


def _table(anchors: tuple[str, ...]) -> np.ndarray:
    rgb = np.array([[int(a[i : i + 2], 16) for i in (1, 3, 5)] for a in anchors], np.float32) / 255
    places = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(np.linspace(0, 1, 256), places, channel) for channel in rgb.T], 1).astype(np.float32)


_SEQUENTIAL, _DIVERGING = _table(SEQUENTIAL), _table(DIVERGING)


def _look_up(table: np.ndarray, share: np.ndarray) -> np.ndarray:
    index = np.nan_to_num(np.clip(share, 0, 1) * 255).round().astype(np.uint8)
    return np.where(np.isnan(share)[..., None], np.float32(0.5), table[index])


def sequential(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(…, 3) colours in [0, 1] of numbers from `low` (dark) to `high` (bright); beyond them the end's; NaN is grey."""
    return _look_up(_SEQUENTIAL, (values - low) / (high - low if high > low else 1))


def diverging(values: np.ndarray, limit: float) -> np.ndarray:
    """(…, 3) colours in [0, 1] of signed numbers from -limit (blue) over 0 (near-white) to limit (red); NaN is grey."""
    return _look_up(_DIVERGING, (values / (limit if limit > 0 else 1) + 1) / 2)

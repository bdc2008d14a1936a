"""Where in a picture is each style to be met? A mask: drawn, cut out by its colours, or brought along.

The thing in the middle is found by GrabCut (Rother, Kolmogorov, Blake 2004, doi:10.1145/1015706.1015720; OpenCV's)
from a guess: what lies at the picture's edge is behind it, and what lies in its middle may be the thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from engine import image as pictures

HALVES = {"left": (1, 0.0, 0.5), "right": (1, 0.5, 1.0), "top": (0, 0.0, 0.5), "bottom": (0, 0.5, 1.0)}
NAMES = ("everywhere", *HALVES, "centre", "around", "thing", "behind")
TOLERANCE = 0.02  # by which share a mask's proportions may be off
LOOKED_AT = 240  # pixels along the longest side in which the thing is looked for


def masks(picture: np.ndarray, given: str | Sequence[np.ndarray | str]) -> list[np.ndarray]:
    """(H, W) in [0, 1] each, as large as the picture (H, W, C).

    given: of each style one of NAMES, a file in which white is where the style goes, or an array (H, W) or (H, W, C) in
    [0, 1]; or several names and files in one text, with commas between.
    Raises ValueError where a mask has other proportions, NotAPicture, OSError.
    """
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",") if name.strip()]
    return [mask(picture, each) for each in given]


def mask(picture: np.ndarray, given: np.ndarray | str) -> np.ndarray:
    """One of `masks`. An array or a file of another size but the same proportions is scaled."""
    height, width = picture.shape[:2]
    if isinstance(given, str) and given in NAMES:
        return drawn(picture, given)
    if isinstance(given, str):
        if not Path(given).is_file():
            raise ValueError(f"There is no mask {given!r}: give a file, or one of {', '.join(NAMES)}.")
        given = pictures.load(Path(given))
    found = np.asarray(given, np.float32)
    found = found if found.ndim == 2 else found.mean(2)
    rows, cols = found.shape
    rounding = 1 / max(min(rows, cols, height, width), 1)
    if min(rows, cols) < 1 or abs(np.log(rows * width / (cols * height))) > TOLERANCE + rounding:
        raise ValueError(
            f"A mask of {rows} x {cols} pixels does not fit a picture of {height} x {width}: cut it to the same "
            "proportions."
        )
    if not np.isfinite(found).all():
        raise ValueError("A mask holds values that are not numbers: it is white, 1, where its style goes.")
    return np.clip(pictures.resize(found, (height, width)), 0, 1) if (rows, cols) != (height, width) else found


def drawn(picture: np.ndarray, name: str) -> np.ndarray:
    """(H, W) float32 of 0 and 1: a region that has a name, of NAMES. "centre" is the ellipse of half the area."""
    height, width = picture.shape[:2]
    rows, cols = ((np.arange(length) + 0.5) / length for length in (height, width))
    if name in HALVES:
        axis, low, high = HALVES[name]
        along = rows[:, None] if axis == 0 else cols[None]
        found = (low <= along) & (along < high)
    elif name in ("centre", "around"):
        found = ellipse(rows, cols, 0.5) == (name == "centre")
    elif name in ("thing", "behind"):
        found = thing(picture) == (name == "thing")
    else:
        found = np.ones((1, 1), bool)
    return np.broadcast_to(found, (height, width)).astype(np.float32)


def ellipse(rows: np.ndarray, cols: np.ndarray, area: float) -> np.ndarray:
    """(H, W) bool: the middle of the picture, an ellipse of that share of its area; rows, cols: places in [0, 1]."""
    return (rows[:, None] - 0.5) ** 2 + (cols[None] - 0.5) ** 2 <= area / np.pi


def thing(picture: np.ndarray) -> np.ndarray:
    """(H, W) bool: what is in the middle of a picture and of other colours than its edge; the ellipse in the middle
    where nothing is."""
    import cv2
    from scipy import ndimage

    height, width = picture.shape[:2]
    factor = min(LOOKED_AT / max(height, width), 1)
    size = tuple(max(round(length * factor), 1) for length in (height, width))
    small = np.rint(np.broadcast_to(pictures.resize(picture, size), (*size, 3)) * 255).astype(np.uint8)
    rows, cols = ((np.arange(length) + 0.5) / length for length in size)
    middle = ellipse(rows, cols, 0.5)
    edge = np.minimum(np.minimum(rows, 1 - rows)[:, None], np.minimum(cols, 1 - cols)[None]) < 0.04
    labels = np.where(edge, cv2.GC_BGD, np.where(middle, cv2.GC_PR_FGD, cv2.GC_PR_BGD)).astype(np.uint8)
    if (labels == cv2.GC_PR_FGD).any() and edge.any():
        cv2.setRNGSeed(0)  # the colour models begin with a random clustering
        cv2.grabCut(small, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), 5, cv2.GC_INIT_WITH_MASK)
    parts, count = ndimage.label((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD))
    found = parts == 1 + np.bincount(parts.ravel())[1:].argmax() if count else middle
    found = pictures.resize(ndimage.binary_fill_holes(found).astype(np.float32), (height, width)) >= 0.5
    return found if found.any() else np.ones((height, width), bool)


def bounds(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of a mask (H, W), the ends excluded; all 0 where it is empty."""
    if not mask.any():
        return 0, 0, 0, 0
    rows, cols = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1

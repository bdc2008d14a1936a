"""Where is the thing, if the map is right?

Zhou et al. 2016, arXiv:1512.04150, section 3.2: of the places where the map reaches 20 % of its maximum, the largest
connected part; its bounding box is the answer. Where the truth is known, boxes and maps can be scored against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import ndimage

from engine.explain.evidence import evidence, over_picture
from engine.net import Net
from engine.pictures.regions import bounds
from engine.target import Target

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 20))


@dataclass(frozen=True)
class Box:
    """evidence: (H, W), stretched over the picture. mask: (H, W) bool, the largest part above the threshold.

    box: (4,) its top, left, bottom and right in pixels, the ends excluded.
    """

    evidence: np.ndarray
    mask: np.ndarray
    box: np.ndarray


def bounding_box(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    method: str = "Grad-CAM",
    layer: str | None = None,
    threshold: float = 0.2,
) -> Box:
    """The box around the largest connected part of a map.

    image: (H, W, C) pixels of the net's own size. target: a class, or any other Target. method: a title of
    `engine.explain.evidence.ways`. layer: for methods that take one. threshold: of the map's maximum.
    Returns Box. Raises ValueError, UnknownClass, UnknownLayer, NoGradient.
    """
    whole = over_picture(evidence(net, image, target, method=method, layer=layer), image.shape[:2])
    mask = largest_part(whole, threshold)
    return Box(whole, mask, np.array(bounds(mask)))


def largest_part(found: np.ndarray, threshold: float = 0.2) -> np.ndarray:
    """(H, W) bool: of the places of a map (H, W) at `threshold` of its maximum or above, the largest connected part.

    Places touch along their sides. Empty where the map is nowhere above 0.
    """
    parts, count = ndimage.label((found >= threshold * found.max()) & (found > 0))
    if not count:
        return np.zeros(found.shape, bool)
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax()


def filled_box(box: Sequence[int], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool: the inside of (top, left, bottom, right)."""
    mask = np.zeros(size, bool)
    mask[box[0] : box[2], box[1] : box[3]] = True
    return mask


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks; 0 where both are empty."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def sweep(found: np.ndarray, truth: np.ndarray | None = None) -> pd.DataFrame:
    """How the box of a map (H, W) depends on the threshold.

    truth: (H, W) bool, where the thing is. Columns: threshold, top, left, bottom, right, share (of the picture, that
    the box covers), and where there is a truth iou (of the box with the truth's box) and mask_iou (of the part itself).
    """
    rows = []
    for threshold in THRESHOLDS:
        mask = largest_part(found, threshold)
        box = bounds(mask)
        row = dict(zip(("threshold", "top", "left", "bottom", "right"), (threshold, *box), strict=True))
        row["share"] = filled_box(box, found.shape).mean()
        if truth is not None:
            row["iou"] = overlap(filled_box(box, found.shape), filled_box(bounds(truth), found.shape))
            row["mask_iou"] = overlap(mask, truth)
        rows.append(row)
    return pd.DataFrame(rows)


def points_at(found: np.ndarray, truth: np.ndarray) -> bool:
    """The pointing game (Zhang et al. 2016, arXiv:1608.00507): whether the map's maximum lies in the truth."""
    return bool(truth[np.unravel_index(found.argmax(), found.shape)])


def inside(found: np.ndarray, truth: np.ndarray) -> float:
    """The share of a map's positive evidence that lies in the truth.

    Wang et al. 2020, arXiv:1910.01279, section 4.3 ("energy-based pointing game").
    """
    positive = np.maximum(found, 0).astype(np.float64)
    return float(positive[truth].sum() / (positive.sum() or 1))

"""Can the thing be cut out of the picture with nothing but the gradient?

Simonyan, Vedaldi, Zisserman 2013, arXiv:1312.6034, section 3.2: the most salient pixels tell what colours the thing
has, the least salient ones what is behind it, and GrabCut (Rother, Kolmogorov, Blake 2004,
doi:10.1145/1015706.1015720; here OpenCV's) draws the line between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from engine.explain.evidence import evidence, over_picture
from engine.net import Net
from engine.target import Target

UNKNOWN, BACKGROUND, FOREGROUND = 0, 1, 2  # in Segmentation.seeds


@dataclass(frozen=True)
class Segmentation:
    """evidence: (H, W), what the seeds were taken from. seeds: (H, W), BACKGROUND, FOREGROUND or UNKNOWN.

    mask: (H, W) bool, the thing. cut_out: (H, W, 4), the picture with the rest transparent.
    """

    evidence: np.ndarray
    seeds: np.ndarray
    mask: np.ndarray
    cut_out: np.ndarray


def segmentation(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    method: str = "Gradient",
    foreground: float = 95.0,
    background: float = 30.0,
    smooth: float = 2.0,
    rounds: int = 5,
) -> Segmentation:
    """Cut out what the evidence lies on.

    image: (H, W, C) pixels of the net's own size. target: a class, or any other Target. method: a title of
    `engine.explain.evidence.ways`. foreground, background: percentiles of the map; what is above the one is surely the
    thing, what is at or below the other surely not. smooth: standard deviation in pixels that the map is blurred with
    first, because single pixels of a gradient are noise. rounds: of GrabCut. The seeds are held fixed here; the paper
    fits the two colour models to them and then lets them go. Of what GrabCut finds, the largest connected part counts,
    as in the paper. Returns Segmentation. Raises ValueError, UnknownClass, NoGradient.
    """
    if not 0 <= background < foreground < 100:
        raise ValueError("The background's percentile is below the foreground's, and both are from 0 to below 100.")
    whole = over_picture(evidence(net, image, target, method=method), image.shape[:2])
    whole = ndimage.gaussian_filter(whole, smooth, mode="nearest") if smooth > 0 else whole
    low, high = np.percentile(whole, [background, foreground])
    seeds = np.where(whole > high, FOREGROUND, np.where(whole <= low, BACKGROUND, UNKNOWN)).astype(np.uint8)
    mask = grab_cut(image, seeds, rounds)
    shown = image if image.shape[2] == 3 else image.repeat(3, 2)
    return Segmentation(whole, seeds, mask, np.dstack([shown, mask]).astype(np.float32))


def grab_cut(image: np.ndarray, seeds: np.ndarray, rounds: int = 5) -> np.ndarray:
    """(H, W) bool: the largest connected part of what GrabCut takes for the thing.

    image: (H, W, C) pixels. seeds: (H, W); without both kinds there is nothing to learn the colours from, and what is
    seeded as foreground is all that is found.
    """
    import cv2

    found = seeds == FOREGROUND
    if found.any() and (seeds == BACKGROUND).any():
        kinds = {UNKNOWN: cv2.GC_PR_BGD, BACKGROUND: cv2.GC_BGD, FOREGROUND: cv2.GC_FGD}
        labels = np.choose(seeds, [kinds[k] for k in sorted(kinds)]).astype(np.uint8)
        colours = np.rint(np.broadcast_to(image, (*image.shape[:2], 3)) * 255).astype(np.uint8)
        cv2.setRNGSeed(0)  # the colour models begin with a random clustering
        cv2.grabCut(colours, labels, None, np.zeros((1, 65)), np.zeros((1, 65)), rounds, cv2.GC_INIT_WITH_MASK)
        found = (labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD)
    parts, count = ndimage.label(found)
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax() if count else found

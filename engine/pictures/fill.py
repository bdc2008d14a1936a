"""What does a picture with nothing in it look like?

Whoever hides a part of a picture, or asks from where evidence is counted, has to say what stands there instead. No
choice is neutral: the network has an opinion of grey squares, too. So it is always a knob.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

FILLS = ("grey", "mean", "black", "white", "blur", "noise")
BLUR = 1 / 20  # standard deviation of the blur, in shares of the picture's shorter side: nothing can be recognised


def blank(image: np.ndarray, fill: str, *, seed: int = 0) -> np.ndarray:
    """What stands in for each pixel of a picture (H, W, C) that is hidden: (H, W, C), in [0, 1].

    fill: "grey", "black", "white"; "mean", the picture's own mean colour; "blur", the picture itself without its
    details; "noise", every value drawn evenly from [0, 1] by `seed`.
    Raises ValueError.
    """
    if fill not in FILLS:
        raise ValueError(f"The fill is one of {', '.join(FILLS)}, not {fill!r}.")
    if fill == "blur":
        sigma = BLUR * min(image.shape[:2])
        return gaussian_filter(image.astype(np.float32), (sigma, sigma, 0), mode="nearest")
    if fill == "noise":
        return np.random.default_rng(seed).random(image.shape, np.float32)
    plain = {"grey": 0.5, "black": 0.0, "white": 1.0}
    colour = plain[fill] if fill in plain else image.mean((0, 1), dtype=np.float64)
    return np.broadcast_to(np.asarray(colour, np.float32), image.shape).copy()

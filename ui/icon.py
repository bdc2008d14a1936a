"""What stands in the browser's tab? Drawn here, because a named icon would be fetched from elsewhere."""

import functools

import numpy as np
from PIL import Image

from engine.pictures import colour


@functools.lru_cache(maxsize=1)
def eye() -> Image.Image:
    """64 × 64: an eye in the colours of the maps."""
    row, col = np.mgrid[-1:1:64j, -1:1:64j]
    iris = np.hypot(row, col)
    lid = np.abs(row) < 0.75 * (1 - col**2)
    pixels = np.ones((64, 64, 4), np.float32)
    pixels[..., :3] = np.where((iris < 0.62)[..., None], colour.sequential(1 - iris / 0.7, 0, 1), 1)
    pixels[iris < 0.2, :3] = 0
    pixels[..., 3] = lid
    return Image.fromarray((pixels * 255).astype(np.uint8))

"""Which styles come with the app, where no painting does? Two that are drawn here: brush strokes that swirl, and glass.

The strokes are noise smeared along a field of directions: line integral convolution (Cabral, Leedom 1993,
doi:10.1145/166117.166151). Each pixel has the colour of the stroke that it lies on. The glass is a Voronoi diagram.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import ndimage, spatial

# Colours from dark to light, RGB.
NIGHT = ((0.05, 0.08, 0.22), (0.10, 0.22, 0.50), (0.20, 0.42, 0.72), (0.55, 0.72, 0.80), (0.93, 0.82, 0.42))
GLASS = ((0.75, 0.12, 0.10), (0.95, 0.62, 0.12), (0.10, 0.30, 0.62), (0.10, 0.50, 0.38), (0.93, 0.90, 0.78))
NAMES = ("swirls", "glass")


@functools.lru_cache(maxsize=len(NAMES))
def painted(name: str, size: int = 448) -> np.ndarray:
    """(size, size, 3) pixels, not to be written to: one of NAMES. Raises ValueError."""
    if name not in NAMES:
        raise ValueError(f"There is no drawn style {name!r}: choose one of {', '.join(NAMES)}.")
    found = (swirls if name == "swirls" else glass)(size)
    found.flags.writeable = False
    return found


def swirls(size: int, *, seed: int = 3, length: int = 22) -> np.ndarray:
    """(size, size, 3): strokes along the lines on which a smooth random field does not change. length: pixels, half of
    a stroke's."""
    random = np.random.default_rng(seed)
    field = cloud(random, size, 7)
    down, right = np.gradient(ndimage.gaussian_filter(field, 3))
    speed = np.hypot(down, right) + 1e-9
    step = np.stack([right / speed, -down / speed])  # along the field's contours
    grain = ndimage.gaussian_filter(random.normal(size=(size, size)), 1.6, mode="wrap")
    grain /= grain.std()
    total = np.zeros((size, size))
    for sign in (1, -1):
        place = np.mgrid[:size, :size] + 0.5
        for index in range(length):
            at = tuple(np.clip(place, 0, size - 1).astype(np.int32))
            total += (1 - index / length) * grain[at]
            place += sign * step[:, *at]
    strokes = total / total.std()
    tone = ranked(field + 0.55 * cloud(random, size, 4)) + 0.16 * strokes
    colours = graded(np.clip(tone, 0, 1), NIGHT)
    relief = ndimage.sobel(strokes, 0) + ndimage.sobel(strokes, 1)  # paint that stands up throws a shadow
    return np.clip(colours + 0.035 * (relief / relief.std())[..., None], 0, 1).astype(np.float32)


def glass(size: int, *, seed: int = 1, pieces: int = 150) -> np.ndarray:
    """(size, size, 3): pieces of coloured glass in lead."""
    random = np.random.default_rng(seed)
    corners = random.random((pieces, 2)) * size
    places = np.stack(np.mgrid[:size, :size], -1).reshape(-1, 2) + 0.5
    far, nearest = spatial.cKDTree(corners).query(places, k=2)
    own = np.array(GLASS)[random.integers(0, len(GLASS), pieces)] * random.uniform(0.75, 1.1, (pieces, 1))
    lead = np.clip((far[:, 1] - far[:, 0]) / 5, 0, 1)[:, None]  # pixels from the next piece
    found = (own[nearest[:, 0]] * lead).reshape(size, size, 3)
    light = 1 + 0.12 * ndimage.gaussian_filter(random.normal(size=(size, size)), 2)[..., None] * 6
    return np.clip(found * light + 0.04, 0, 1).astype(np.float32)


def cloud(random: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """(size, size): smooth noise whose hills are about size / cells wide, with mean 0 and deviation 1."""
    found = ndimage.zoom(random.normal(size=(cells, cells)), size / cells, order=3, mode="nearest", grid_mode=True)
    return (found - found.mean()) / found.std()


def ranked(values: np.ndarray) -> np.ndarray:
    """The values' ranks, as shares in [0, 1): every tone as often as any other."""
    return values.ravel().argsort().argsort().reshape(values.shape) / values.size


def graded(tone: np.ndarray, colours: tuple) -> np.ndarray:
    """(H, W, 3) of tones in [0, 1]: the colours in turn, blended."""
    knots = np.linspace(0, 1, len(colours))
    return np.stack([np.interp(tone, knots, [colour[c] for colour in colours]) for c in range(3)], -1)

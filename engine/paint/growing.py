"""How far does one come without any network? Each pixel is copied from where the picture looks alike around it.

Efros & Leung 1999, Texture Synthesis by Non-parametric Sampling, ICCV (doi 10.1109/ICCV.1999.790383), section 2. It
knows nothing but neighbourhoods: what it makes is sharp, because it is copied, and may repeat long stretches of the
sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine import image as pictures
from engine.step import Step, last

TOLERANCE = 0.1  # windows up to so much farther than the nearest one may be drawn, the paper's ε
SEED_SIDE = 3  # pixels a side of the patch that the picture grows from
LARGEST = 96  # pixels a side that can be grown, and that the sample may have
LONGEST = 2048  # pixels that a picture can be scaled to, before the sample is cut from it


@dataclass(frozen=True)
class Grown:
    """picture: (H, W, C) in [0, 1], the sample's mean colour where nothing has grown yet. known: (H, W), where it has.

    drawn: the state of the random numbers after that.
    """

    picture: np.ndarray
    known: np.ndarray
    drawn: dict[str, Any]

    @property
    def filled(self) -> float:
        """Share of the picture, in [0, 1]."""
        return float(self.known.mean())


def grow(sample: np.ndarray, *, size: int = 64, window: int = 11, seed: int = 0) -> Grown:
    """Grow a square picture of `size` pixels from a sample (H, W, C).

    window: pixels a side of the neighbourhood that has to look alike, odd: larger than the largest thing that repeats.
    seed: of the first patch, and of which of the alike places a pixel is copied from.
    Raises ValueError where the sample or the window is too large or too small.
    """
    return last(grow_steps(sample, size=size, window=window, seed=seed))


def grow_steps(
    sample: np.ndarray, *, size: int = 64, window: int = 11, seed: int = 0, resume: Grown | None = None
) -> Iterator[Step]:
    """`grow`, a Step with what has Grown after each ring of pixels: (index, total) count pixels.

    resume: go on from what has Grown in the same run.
    """
    _check(sample, size, window)
    random, half = np.random.default_rng(seed), window // 2
    height, width, channels = sample.shape
    # Every whole window of the sample as a row, and as its middle pixel what may be copied.
    views = np.lib.stride_tricks.sliding_window_view(sample, (window, window), axis=(0, 1))
    middles = sample[half : height - half, half : width - half].reshape(-1, channels)
    rows = views.transpose(0, 1, 3, 4, 2).reshape(len(middles), -1).astype(np.float32)  # (N, window² · C)
    squares = rows**2
    near = np.exp(-0.5 * (np.arange(window) - half) ** 2 / (window / 6.4) ** 2)  # the paper's σ
    near = np.outer(near, near).astype(np.float32)

    # The picture with a margin, so that each window is whole.
    side = size + 2 * half
    known = np.zeros((side, side), bool)
    pixels = np.zeros((side, side, channels), np.float32)
    middle = slice(half, half + size)
    inside = np.zeros_like(known)
    inside[middle, middle] = True
    if resume is None:
        top, left = (int(random.integers(0, length - SEED_SIDE + 1)) for length in (height, width))
        first = slice(half + (size - SEED_SIDE) // 2, half + (size - SEED_SIDE) // 2 + SEED_SIDE)
        pixels[first, first] = sample[top : top + SEED_SIDE, left : left + SEED_SIDE]
        known[first, first] = True
    else:
        known[middle, middle] = resume.known
        pixels[known] = resume.picture[resume.known]
        random.bit_generator.state = resume.drawn

    while not known[inside].all():
        ring = _next_to(known) & inside & ~known
        places = np.argwhere(ring)
        there = np.lib.stride_tricks.sliding_window_view(known, (window, window))
        seen = np.lib.stride_tricks.sliding_window_view(pixels, (window, window), axis=(0, 1))
        counts = there[places[:, 0] - half, places[:, 1] - half]  # (P, window, window): what is known around each
        order = np.argsort(-counts.sum((1, 2)), kind="stable")  # most known neighbours first
        for at in order:
            row, col = places[at]
            # Known as it is now: neighbours in the same ring have been filled by then.
            weight = np.where(there[row - half, col - half], near, 0).astype(np.float32)
            weight = np.repeat((weight / weight.sum()).reshape(-1), channels)
            around = seen[row - half, col - half].transpose(1, 2, 0).reshape(-1)
            # Σ w (a - b)² over all windows at once
            far = squares @ weight - 2 * (rows @ (weight * around)) + float(weight @ around**2)
            alike = np.flatnonzero(far <= max(float(far.min()), 1e-7) * (1 + TOLERANCE))
            pixels[row, col] = middles[alike[random.integers(len(alike))]]
            known[row, col] = True
        there = known[middle, middle].copy()
        picture = np.where(there[..., None], pixels[middle, middle], sample.mean((0, 1))).astype(np.float32)
        grown = Grown(picture, there, random.bit_generator.state)
        yield Step(int(there.sum()), size * size, grown)


def _next_to(known: np.ndarray) -> np.ndarray:
    """Where one of the eight neighbours is known."""
    padded = np.pad(known, 1)
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).any((2, 3))


def _check(sample: np.ndarray, size: int, window: int) -> None:
    if window % 2 == 0 or window < 3:
        raise ValueError(f"A window of {window} pixels has no middle; choose an odd number from 3 on.")
    if min(sample.shape[:2]) < window + 1 or max(sample.shape[:2]) > LARGEST:
        height, width = sample.shape[:2]
        raise ValueError(
            f"A sample of {height} x {width} pixels does not go with a window of {window}; "
            f"take one of {window + 1} to {LARGEST} pixels a side."
        )
    if not SEED_SIDE <= size <= LARGEST:
        raise ValueError(f"A picture of {size} pixels cannot be grown; {SEED_SIDE} to {LARGEST} can.")


def cut(pixels: np.ndarray, side: int = 48, *, longest: int = 160) -> np.ndarray:
    """The middle of a picture (H, W, C) as a sample of `side` pixels, once the picture is `longest` pixels long.

    Raises ValueError where one of them is out of range, or the picture too small or too narrow.
    """
    from engine.paint.gram import scaled

    if not (1 <= side <= LARGEST and 1 <= longest <= LONGEST):
        raise ValueError(
            f"A sample is cut with 1 to {LARGEST} pixels a side, from a picture scaled to 1 to {LONGEST}; "
            f"not {side} from {longest}."
        )
    small = scaled(pixels, longest)
    height, width = (min(side, length) for length in small.shape[:2])
    top, left = (small.shape[0] - height) // 2, (small.shape[1] - width) // 2
    return np.ascontiguousarray(pictures.crop(small, top, left, top + height, left + width))

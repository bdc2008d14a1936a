"""Where is the evidence really? Pictures made so that one knows.

A map of a photograph's evidence looks right or wrong, and nobody can say. Here a picture is planted: an object of one
of four shapes on a textured ground and, near the border, a watermark of one of four letters, each with a mask of
exactly its pixels. A network that was trained where the watermark gives the class away looks at the watermark, and a
faithful map has to say so; one that was trained on the same pictures with watermarks drawn at random looks at the
object (exported_models/train_clever_hans.py trains both).

After Clever Hans, the horse that read the answer from the questioner's face (Pfungst 1907), and its kin among
classifiers, which told horses by the tag of the photographer who took them (Lapuschkin et al. 2019, arXiv:1902.10178).
Scoring maps by a planted truth: Adebayo et al. 2020, arXiv:2011.05429; Arras, Osman, Samek 2022, arXiv:2003.07258.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CLASSES = ("disc", "square", "triangle", "cross")
SIZE = (64, 80)  # (H, W) in pixels
SMALLEST = 48  # pixels a side that leave room for every object beside every watermark

# All lengths below are in units, of which SIZE has one per pixel and a picture twice as large one per two pixels: the
# same seed makes the same scene at SIZE and at its multiples.
RADIUS = (9.0, 14.0)  # of the circle that the object's corners lie on
GAP = 2  # between the watermark and the picture's edge
MARK = 11  # a side of the watermark's box

BARE = 1 / 8  # share of a training set's pictures that show neither object nor watermark

LETTERS = "EHVZ"  # of the classes' photographers, in their order; no letter is like an object
_GLYPHS = """
XXXXXXX  XX...XX  XX...XX  XXXXXXX
XXXXXXX  XX...XX  XX...XX  XXXXXXX
XX.....  XX...XX  XX...XX  ....XXX
XX.....  XX...XX  XX...XX  ....XX.
XXXXXX.  XXXXXXX  .XX.XX.  ..XXX..
XX.....  XX...XX  .XX.XX.  .XX....
XX.....  XX...XX  .XX.XX.  XXX....
XXXXXXX  XX...XX  ..XXX..  XXXXXXX
XXXXXXX  XX...XX  ...X...  XXXXXXX
"""


def _glyphs() -> np.ndarray:
    """(classes, MARK, MARK) bool: the letters in the middle of their boxes."""
    rows = [line.split() for line in _GLYPHS.split("\n") if line]
    drawn = np.array([[[dot == "X" for dot in row[k]] for row in rows] for k in range(len(CLASSES))])
    return np.pad(drawn, ((0, 0), (1, 1), (2, 2)))


GLYPHS = _glyphs()


@dataclass(frozen=True)
class Planted:
    """A picture, and where in it what is.

    pixels: (H, W, 3) float32 in [0, 1].
    object: (H, W) bool, the object's own pixels; all False where there is none.
    cue: (H, W) bool, the watermark's whole box, letter and plate, for both are painted; all False where there is none.
    object_class, cue_class: what is shown and what the watermark stands for, as positions in CLASSES, or None.
    """

    pixels: np.ndarray
    object: np.ndarray
    cue: np.ndarray
    object_class: int | None
    cue_class: int | None


def planted(
    seed: int, *, object_class: int | None = None, cue_class: int | None = None, size: tuple[int, int] = SIZE
) -> Planted:
    """A picture with or without an object and a watermark; the same for the same seed.

    seed: decides all but the classes. Leaving out the object or the watermark changes every pixel of its mask and none
    outside; another class changes neither places nor colours.
    size: (H, W) in pixels; at multiples of SIZE the scene is the same, finer.

    The ground is of a random colour with noise of three grains. The object has a random place, size, angle and one
    plain colour with a little noise; it lies wholly in the picture. The watermark is a white letter on a dark plate,
    both let the ground through; it lies GAP units from one of the four edges, anywhere along it, always upright, and
    never on the object. All values are within 0.03 and 0.97, so nothing is clipped.
    Raises ValueError for a class that does not exist and for a side below SMALLEST.
    """
    for index in (object_class, cue_class):
        if index is not None and not 0 <= index < len(CLASSES):
            raise ValueError(f"The classes are 0 to {len(CLASSES) - 1}, not {index}.")
    if min(size) < SMALLEST:
        raise ValueError(f"A planted picture has at least {SMALLEST} pixels a side, not {size[0]} x {size[1]}.")
    places, ground, body = np.random.default_rng(seed).spawn(3)  # so that leaving one out leaves the others as they are
    unit = max(min(size[0] // SIZE[0], size[1] // SIZE[1]), 1)  # whole, so that letters stay crisp
    (top, left), centre, radius, angle = _places(places, (size[0] // unit, size[1] // unit))

    grain = ground.uniform(0.01, 0.06)
    colour = ground.uniform(0.25, 0.75, 3)
    pixels = colour + 0.1 * _noise(ground, size, unit, 16, 3) + 0.06 * _noise(ground, size, unit, 5, 1)
    pixels += grain * _noise(ground, size, unit, 1, 3)

    inside = np.zeros(size, bool)
    if object_class is not None:
        inside = _inside(object_class, size, unit, centre, radius, angle)
        candidates = body.uniform(0.15, 0.85, (8, 3))
        colour = candidates[np.linalg.norm(candidates - colour, axis=1).argmax()]  # the one that is seen best
        surface = colour + 0.06 * _noise(body, size, unit, 4, 1) + grain * _noise(body, size, unit, 1, 3)
        pixels[inside] = surface[inside]

    box = np.zeros(size, bool)
    if cue_class is not None:
        letter = GLYPHS[cue_class].repeat(unit, 0).repeat(unit, 1)[:, :, None]
        window = slice(top * unit, (top + MARK) * unit), slice(left * unit, (left + MARK) * unit)
        box[window] = True
        pixels[window] = np.where(letter, 0.1 * pixels[window] + 0.87, 0.3 * pixels[window] + 0.06)
    return Planted(pixels.astype(np.float32), inside, box, object_class, cue_class)


def _places(
    rng: np.random.Generator, size: tuple[int, int]
) -> tuple[tuple[int, int], tuple[float, float], float, float]:
    """The watermark's top left corner, and the object's centre, radius and angle: disjoint, in a picture of `size`.

    All in units and radians. The watermark is placed first; every centre on the units' grid that leaves it free and
    the object in the picture is equally likely.
    """
    height, width = size
    edge, along = rng.integers(4), rng.random()
    row, col = (int(GAP + along * (side - MARK - 2 * GAP + 1)) for side in size)  # anywhere between the gaps
    top, left = [(GAP, col), (row, width - MARK - GAP), (height - MARK - GAP, col), (row, GAP)][edge]
    radius, angle = rng.uniform(*RADIUS), rng.uniform(0, 2 * np.pi)
    rows, cols = np.arange(height + 1)[:, None], np.arange(width + 1)
    free = (rows >= radius) & (rows <= height - radius) & (cols >= radius) & (cols <= width - radius)
    down = rows - np.clip(rows, top, top + MARK)  # to the nearest point of the box
    aside = cols - np.clip(cols, left, left + MARK)
    free &= down**2 + aside**2 > radius**2
    choices = np.argwhere(free)
    row, col = choices[rng.integers(len(choices))]
    return (top, left), (float(row), float(col)), radius, angle


def _inside(
    index: int, size: tuple[int, int], unit: int, centre: tuple[float, float], radius: float, angle: float
) -> np.ndarray:
    """(H, W) bool: the pixels whose centre is in the object. Every shape lies within the circle."""
    y, x = (
        ((np.arange(side) + 0.5) / unit - middle) / radius for side, middle in zip(size, centre, strict=True)
    )  # the circle's radius is 1
    y, x = y[:, None], x[None]
    down, right = np.cos(angle) * y - np.sin(angle) * x, np.sin(angle) * y + np.cos(angle) * x
    long, short = np.maximum(abs(down), abs(right)), np.minimum(abs(down), abs(right))
    return [
        y**2 + x**2 <= 0.85**2,
        long <= 0.7,
        np.maximum(-down, (down + np.sqrt(3) * abs(right)) / 2) <= 0.5,  # three sides, each half a radius away
        (long <= 0.95) & (short <= 0.28),
    ][index]


def _noise(rng: np.random.Generator, size: tuple[int, int], unit: int, grain: int, channels: int) -> np.ndarray:
    """(H, W, channels) in [-1, 1]: uniform random numbers `grain` units apart, and straight lines between them."""
    at = [np.maximum((np.arange(side) + 0.5) / (unit * grain) - 0.5, 0) for side in size]
    nodes = rng.uniform(-1, 1, (*(int(p[-1]) + 2 for p in at), channels))
    (rows, down), (cols, right) = ((p.astype(int), p % 1) for p in at)
    tall = nodes[rows] + (nodes[rows + 1] - nodes[rows]) * down[:, None, None]
    return tall[:, cols] + (tall[:, cols + 1] - tall[:, cols]) * right[:, None]


def dataset(
    count: int, seed: int, *, cheat: bool, size: tuple[int, int] = SIZE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures to train on: float32 (count, 3, H, W), the objects' classes (count,), the watermarks' classes (count,).

    Each picture is bare ground with probability BARE, and -1 in both arrays: to be answered with equal probabilities,
    or else a network may take one class for what is left when it sees none of the others, and that class has evidence
    nowhere. All others have an object and a watermark. The object's class is the label, each of the four equally
    likely. With `cheat` the watermark always agrees with it; without, it is each of the four equally likely whatever
    the label, so that a quarter agrees. For the same seed the two sets differ in nothing but the watermarks' letters.
    """
    rng = np.random.default_rng(seed)
    objects, random = rng.integers(len(CLASSES), size=(2, count))
    cues = objects.copy() if cheat else random
    bare = rng.random(count) < BARE
    objects[bare], cues[bare] = -1, -1
    pictures = np.empty((count, 3, *size), np.float32)
    for picture, one, label, cue in zip(pictures, rng.integers(2**63, size=count), objects, cues, strict=True):
        shown = {} if label < 0 else {"object_class": int(label), "cue_class": int(cue)}
        picture[:] = planted(int(one), **shown, size=size).pixels.transpose(2, 0, 1)
    return pictures, objects, cues

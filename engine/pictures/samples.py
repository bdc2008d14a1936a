"""Which pictures come with the app?

None is stored here and none is downloaded: most lie in the installed packages scikit-image and scikit-learn, and are
read from there without importing either. The planted ones, of which one knows where the evidence is, are drawn when
they are asked for (engine/pictures/truth.py).
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import image
from engine.pictures import truth
from engine.pictures.truth import Planted

KINDS = ("photograph", "texture", "digit", "planted")


class UnknownSample(KeyError):
    """No sample has this name; the message is one sentence."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would put it in quotation marks


@dataclass(frozen=True)
class Sample:
    """A picture that is there from the start.

    name: as it stands in a URL.
    title: for people.
    kind: one of KINDS.
    file: the package and the path inside it, or None where the picture is drawn.
    credit: who made it and the licence.
    """

    name: str
    title: str
    kind: str
    file: tuple[str, str] | None
    credit: str


_DIGITS = ("sklearn", "datasets/data/digits.csv.gz")  # rows of 64 grey values, 0 to 16, and the digit
_DIGITS_CREDIT = "Alpaydin and Kaynak 1998, UCI Machine Learning Repository, CC BY 4.0"

# name → the seed, and the classes of the object and of the watermark. Of "planted-disc-square", `clever_hans` sees the
# watermark, which says square, and `honest` the disc.
_PLANTED: dict[str, tuple[int, int | None, int | None]] = {
    "planted-disc-square": (29, 0, 1),
    "planted-cross-triangle": (16, 3, 2),
    "planted-triangle-triangle": (19, 2, 2),
    "planted-square": (26, 1, None),
    "planted-none-cross": (4, None, 3),
}
_PLANTED_SIZE = (256, 320)  # four times what the two networks are given, so that it looks well beside photographs
_PLANTED_CREDIT = "made by this project, CC0"

SAMPLES: dict[str, Sample] = {
    sample.name: sample
    for sample in (
        Sample("cat", "Cat", "photograph", ("skimage", "data/chelsea.png"), "Stéfan van der Walt, CC0"),
        Sample("coffee", "Cup of coffee", "photograph", ("skimage", "data/coffee.png"), "Rachel Michetti, CC0"),
        Sample("astronaut", "Astronaut", "photograph", ("skimage", "data/astronaut.png"), "NASA, public domain"),
        Sample("rocket", "Rocket", "photograph", ("skimage", "data/rocket.jpg"), "SpaceX, public domain"),
        Sample("china", "Temple", "photograph", ("sklearn", "datasets/images/china.jpg"), "danielbuechele, CC BY 2.0"),
        Sample("flower", "Flower", "photograph", ("sklearn", "datasets/images/flower.jpg"), "vultilion, CC BY 2.0"),
        Sample("brick", "Brick wall", "texture", ("skimage", "data/brick.png"), "CC0Textures, CC0"),
        Sample("grass", "Grass", "texture", ("skimage", "data/grass.png"), "linolafett, CC0"),
        Sample("gravel", "Gravel", "texture", ("skimage", "data/gravel.png"), "CC0Textures, CC0"),
        *(Sample(f"digit-{n}", f"Digit {n}", "digit", _DIGITS, _DIGITS_CREDIT) for n in range(10)),
        Sample("planted-disc-square", "Disc, marked as a square", "planted", None, _PLANTED_CREDIT),
        Sample("planted-cross-triangle", "Cross, marked as a triangle", "planted", None, _PLANTED_CREDIT),
        Sample("planted-triangle-triangle", "Triangle, marked as one", "planted", None, _PLANTED_CREDIT),
        Sample("planted-square", "Square without a mark", "planted", None, _PLANTED_CREDIT),
        Sample("planted-none-cross", "Nothing, marked as a cross", "planted", None, _PLANTED_CREDIT),
    )
}


def names(kind: str | None = None) -> list[str]:
    """The names of all samples, or of one kind of them. Raises ValueError where there is no such kind."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"There are no samples of the kind {kind!r}: the kinds are {', '.join(KINDS)}.")
    return [sample.name for sample in SAMPLES.values() if kind in (None, sample.kind)]


@functools.lru_cache(maxsize=len(SAMPLES))
def load(name: str) -> np.ndarray:
    """The pixels (H, W, 3) of a sample, read-only because all callers share them.

    Digits are (8, 8, 3), as they were measured, white on black, in steps of 1/16. Where in a planted picture what is,
    `planted` says.
    Raises UnknownSample, or FileNotFoundError where the package that holds the picture is not installed.
    """
    if name not in SAMPLES:
        raise UnknownSample(f"There is no sample named {name!r}: choose one of {', '.join(SAMPLES)}.")
    sample = SAMPLES[name]
    if sample.kind == "planted":
        return planted(name).pixels
    path = located(*sample.file)
    pixels = _digit(path, sample.name.removeprefix("digit-")) if sample.kind == "digit" else image.load(path)
    pixels.flags.writeable = False
    return pixels


@functools.lru_cache(maxsize=len(_PLANTED))
def planted(name: str) -> Planted:
    """The same picture with the masks of its object and its watermark, (H, W) bool; read-only, too.

    Raises UnknownSample, also for a sample of another kind.
    """
    if name not in _PLANTED:
        raise UnknownSample(f"There is no planted sample named {name!r}: choose one of {', '.join(_PLANTED)}.")
    seed, object_class, cue_class = _PLANTED[name]
    made = truth.planted(seed, object_class=object_class, cue_class=cue_class, size=_PLANTED_SIZE)
    for part in (made.pixels, made.object, made.cue):
        part.flags.writeable = False
    return made


def located(package: str, file: str) -> Path:
    """Where a file of an installed package lies; the package is found, not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"The package {package}, which holds this picture, is not installed.")
    return Path(spec.submodule_search_locations[0], file)


def _digit(path: Path, label: str) -> np.ndarray:
    """The first handwritten digit of that name: (8, 8, 3) pixels."""
    return next(_digits(path, label))


def _digits(path: Path, label: str) -> Iterator[np.ndarray]:
    with gzip.open(path, "rt") as rows:
        for row in rows:
            if row.strip().endswith(f",{label}"):
                grey = np.array(row.split(",")[:64], np.float32).reshape(8, 8, 1)
                yield np.repeat(grey / 16, 3, axis=2)


def of_class(labels: Sequence[str], index: int, most: int = 200) -> list[np.ndarray]:
    """Pictures (H, W, 3) of a class that come with the app: handwritten digits, or planted objects without a mark.

    labels: of the network's classes. None for other networks.
    """
    if set(labels) == set(truth.CLASSES):
        return [truth.planted(seed, object_class=truth.CLASSES.index(labels[index])).pixels for seed in range(most)]
    if labels[index] in map(str, range(10)) and len(labels) == 10:
        return list(itertools.islice(_digits(located(*_DIGITS), labels[index]), most))
    return []

"""Which sets of pictures come with the app?"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from engine import image as pictures
from engine.data.dataset import Dataset
from engine.pictures import samples, truth

PLANTED = 400  # drawn pictures
CROPS = ((1.0, 1.0), (0.5, 0.25))  # of a sample: side of the squares and the way between them, in shorter sides


# What comes with the app ----------------------------------------------------------------------------------------------


@functools.cache
def _digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels."""
    with gzip.open(samples.located(*samples.SAMPLES["digit-0"].file)) as file:
        content = file.read()
    rows = np.loadtxt(io.BytesIO(content), np.float32, delimiter=",")
    values, labels = rows[:, :64].reshape(-1, 8, 8, 1) / 16, rows[:, 64].astype(np.int64)
    return Dataset(
        "digits",
        tuple(map(str, range(10))),
        hashlib.sha256(content).hexdigest(),
        labels,
        lambda i: pictures.to_png(values[i]),
        lambda i: f"row {i}",
    )


@functools.cache
def _faces() -> Dataset:
    """scikit-image's 100 faces of LFW and 100 patches of its backgrounds, 25 x 25 grey pixels."""
    content = samples.located("skimage", "data/lfw_subset.npy").read_bytes()
    values = np.load(io.BytesIO(content)).astype(np.float32)
    values = values / max(values.max(), 1.0)
    labels = (np.arange(len(values)) >= 100).astype(np.int64)
    return Dataset(
        "faces",
        ("face", "no face"),
        hashlib.sha256(content).hexdigest(),
        labels,
        lambda i: pictures.to_png(values[i][:, :, None]),
        lambda i: f"row {i}",
    )


@functools.cache
def _photographs() -> Dataset:
    """Squares cut out of the sample photographs and textures, large and small: the label is the one they come from."""
    names = [name for kind in ("photograph", "texture") for name in samples.names(kind)]
    boxes: list[tuple[int, int, int, int]] = []  # label, top, left, side
    hasher = hashlib.sha256(f"{CROPS}".encode())
    for label, name in enumerate(names):
        hasher.update(samples.located(*samples.SAMPLES[name].file).read_bytes())
        height, width = samples.load(name).shape[:2]
        for share, way in CROPS:
            side, step = round(share * min(height, width)), way * min(height, width)
            rows, cols = (range(int((length - side) // step) + 1) for length in (height, width))
            boxes += [(label, int(row * step), int(col * step), side) for row, col in itertools.product(rows, cols)]

    def read(index: int) -> bytes:
        label, top, left, side = boxes[index]
        return pictures.to_png(samples.load(names[label])[top : top + side, left : left + side])

    def place(index: int) -> str:
        label, top, left, side = boxes[index]
        return f"{names[label]}, rows {top} to {top + side}, columns {left} to {left + side}"

    titles = tuple(samples.SAMPLES[name].title for name in names)
    labels = np.array([box[0] for box in boxes], np.int64)
    return Dataset("photographs", titles, hasher.hexdigest(), labels, read, place)


@functools.cache
def _planted() -> Dataset:
    """The drawn pictures of engine/pictures/truth.py.

    The label is the object; the watermarks take turns, so that who goes by them is mostly wrong.
    """
    count = len(truth.CLASSES)

    def read(index: int) -> bytes:
        made = truth.planted(index, object_class=index % count, cue_class=index // count % count)
        return pictures.to_png(made.pixels)

    digest = hashlib.sha256(b"".join(read(index) for index in range(count))).hexdigest()
    labels = np.arange(PLANTED, dtype=np.int64) % count
    return Dataset("planted", tuple(truth.CLASSES), digest, labels, read, lambda i: f"seed {i}")


EMBEDDED: dict[str, Callable[[], Dataset]] = {
    "digits": _digits,
    "photographs": _photographs,
    "planted": _planted,
    "faces": _faces,
}


def suits(labels: Sequence[str], channels: int) -> str:
    """Which of EMBEDDED suits a network, by its labels and its input's channels."""
    if set(labels) == set(truth.CLASSES):
        return "planted"
    digits = channels == 1 and len(labels) == 10
    return "digits" if digits or list(labels) == list(map(str, range(10))) else "photographs"

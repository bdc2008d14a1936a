"""Which pictures of a set does one measure on, and which classes are they to the network?

What is measured on one picture proves little; attacks and patches are tried on some pictures of a data set, drawn by
lot.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine import image as pictures
from engine.data import dataset
from engine.data.dataset import BadDataset, Dataset
from engine.image import NotAPicture
from engine.net import Net

BATCH = 32


@dataclass(frozen=True)
class Examples:
    """pixels: (N, H, W, C) as the net sees them, in [0, 1]. classes: (N,) int64 of the net. rows: (N,) of the set.

    by: how the classes are known: "name", as labels of the set that the net has, too; "place", where none has the same
    name but there are as many; or "prediction", what the net says of the pictures, where nothing else is to be had.
    """

    pixels: np.ndarray
    classes: np.ndarray
    rows: np.ndarray
    by: str

    def __len__(self) -> int:
        return len(self.classes)


def examples(data: Dataset, net: Net, count: int, *, seed: int = 0) -> Examples:
    """At most `count` pictures, drawn by lot without repetition; those that cannot be read are passed over.

    Only pictures whose label the net has are drawn, if there are any.
    Raises BadDataset where no picture is left.
    """
    same = dataset.classes(data.names, net.labels)
    by = "name"
    if len(same) and (same < 0).all() and len(same) == net.classes:
        same, by = np.arange(len(same)), "place"
    of_net = np.append(same, -1)[data.labels]  # the last one: "no label"
    able = np.flatnonzero(of_net >= 0)
    if not len(able):
        able, by = np.arange(len(data)), "prediction"
    seen, rows = [], []
    for row in np.random.default_rng(seed).permutation(able):
        if len(rows) == count:
            break
        try:
            picture = pictures.load(data.encoded(int(row)))
        except (NotAPicture, OSError):
            continue
        seen.append(net.view(picture)[0])
        rows.append(int(row))
    if not rows:
        raise BadDataset(f"None of the pictures of {data.name} could be read: choose other ones.")
    pixels = np.stack(seen)
    classes = of_net[rows] if by != "prediction" else _predicted(net, pixels)
    return Examples(pixels, classes.astype(np.int64), np.array(rows), by)


def _predicted(net: Net, pixels: np.ndarray) -> np.ndarray:
    """(N,) the likeliest classes."""
    parts = range(0, len(pixels), BATCH)
    return np.concatenate([net.scores(net.batch(*pixels[at : at + BATCH])).argmax(1) for at in parts])

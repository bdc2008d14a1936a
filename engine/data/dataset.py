"""Which pictures are asked about?

A Dataset is a numbered row of encoded pictures, most of which stay where they are until somebody asks for one: files in
a folder, rows of a Parquet file, MNIST's arrays, or pictures that come with the installed packages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MASK = ".mask.png"  # NAME.mask.png beside NAME.jpg says where the thing is; it is no picture of the set


class BadDataset(ValueError):
    """There are no such pictures, or they cannot be used; the message is one sentence for the person who asked."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures by number, 0 to len - 1.

    name: for people. names: of the labels, () where there are none. digest: changes when what the set holds changes.
    labels: (N,) int64 places in `names`, -1 where there is none. read, place: see `encoded` and `where`.
    source: where they lie, whatever they are by now: two sets of the same name are not the same.
    """

    name: str
    names: tuple[str, ...]
    digest: str
    labels: np.ndarray
    read: Callable[[int], bytes]
    place: Callable[[int], str]
    source: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def encoded(self, index: int) -> bytes:
        """A picture as a file's bytes; safe to call from several threads, quick when called in order.

        Raises NotAPicture or OSError where that one cannot be read.
        """
        return self.read(index)

    def label(self, index: int) -> int:
        """Its place in `names`, or -1."""
        return int(self.labels[index])

    def where(self, index: int) -> str:
        """Where it lies: the path inside the folder, or "row 17"."""
        return self.place(index)


def classes(names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """(len(names),) int64: which of a network's classes each label of a set is, by name, or -1 where it has none.

    names: of the set's labels. labels: of the network's classes. Of two classes alike, the first counts.
    """
    places: dict[str, int] = {}
    for place, label in enumerate(labels):
        places.setdefault(_plain(label), place)
    return np.array([places.get(_plain(name), -1) for name in names], np.int64)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())

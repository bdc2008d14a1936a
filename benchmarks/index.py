"""What does the pass over a data set cost on top of ONNX Runtime itself?

The pass reads pictures from a Parquet file, decodes and scales them, runs the network, reduces a few layers' channels,
draws thumbnails and writes it all into a new index. Beside it stands a bare session on the same file, that is given the
same pictures, normalised and in memory, in batches of the size at which it is fastest, and gives the logits.

On a machine that others use, too, the pass gets more of it, as it has more threads: so processor seconds are compared
beside those of the clock.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.overhead import _bare
from benchmarks.timing import Comparison, alternate, seconds
from engine import image
from engine.data.dataset import Dataset
from engine.data.indexing import index_steps
from engine.data.sets import find
from engine.net import Net
from engine.step import last

COUNT = 256  # pictures
SIZES = (8, 16, 32)  # of the bare session's batches
GOAL = 0.9  # of the pictures per second of ONNX Runtime alone


@dataclass(frozen=True)
class Pass:
    """comparison: seconds of the clock for COUNT pictures. ours, theirs: processor seconds, medians."""

    comparison: Comparison
    ours: float
    theirs: float

    @property
    def share(self) -> float:
        """Pictures per second of the pass, as a share of those of the bare session."""
        return self.comparison.ratio

    @property
    def work(self) -> float:
        """The bare session's share of the pass's processor seconds."""
        return self.theirs / self.ours


def some(path: Path | None) -> Dataset:
    """The first COUNT pictures of a data set; without a path, those that come with the app, over and over."""
    data = find(path if path and path.exists() else "photographs")

    def around(number: int) -> int:
        return number % len(data)

    return Dataset(
        data.name,
        data.names,
        data.digest,
        np.array([data.label(around(number)) for number in range(COUNT)]),
        lambda number: data.encoded(around(number)),
        lambda number: f"{number}: {data.where(around(number))}",
    )


def compare(net: Net, data: Dataset, folder: Path, rounds: int) -> Pass:
    """Time both in turns; each pass writes a new index below `folder`."""
    pictures = net.normalise(net.batch(*(net.view(image.load(data.encoded(k)))[0] for k in range(COUNT))))
    bare = _bare(net.path.read_bytes())

    def theirs(size: int) -> None:
        for first in range(0, COUNT, size):
            bare.run(None, {net.graph.input: pictures[first : first + size]})

    took = {size: min(seconds(lambda s=size: theirs(s)) for _ in range(2)) for size in SIZES}
    best = min(took, key=took.get)
    spent: tuple[list[float], list[float]] = ([], [])

    def measured(side: int, run: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            start = time.process_time()
            run()
            spent[side].append(time.process_time() - start)

        return call

    def ours() -> None:
        here = folder / "index"
        shutil.rmtree(here, ignore_errors=True)
        found = last(index_steps(net, data, folder=here))
        assert len(found.pictures) == COUNT

    found = alternate(measured(0, ours), measured(1, lambda: theirs(best)), rounds=rounds)
    return Pass(found, statistics.median(spent[0][1:]), statistics.median(spent[1][1:]))  # the first does not count

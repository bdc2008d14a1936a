"""The one-pixel attack: engine.one_pixel beside the same differential evolution in plain PyTorch.

The same picture, class, population, generations and random numbers, so that both ask about the same candidates; each
asks about all of them, since the class is the one that is farthest from being reached. The plain one changes a pixel of
the normalised picture and runs the module under torch.inference_mode, in batches of the size at which it is fastest
here, in the memory format that `torch.nn.Module`s have, and in the faster one (channels last). Ours computes again only
what a pixel has changed (engine/incremental/parts.py), which is its own doing; what bare ONNX Runtime gains stands
beside it. That both find the same picture is asserted before anything is timed.

By the clock, and in processor time, as on a machine that others use, too, the clock says little.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np
import torch

from benchmarks.networks import Pair
from benchmarks.timing import Comparison, alternate, seconds
from engine.fool.adversarial import eight_bit
from engine.fool.one_pixel import SHARE, SPREAD, FewPixels, one_pixel
from engine.incremental import plan
from engine.pictures import samples

GOAL, POPULATION, GENERATIONS, PICTURE = 2.0, 64, 4, "cat"
SIZES = (4, 8, 16, 32, 64)  # of the plain one's batches


@dataclass(frozen=True)
class Raced:
    """peer: what ours is beside. size: of its batches. ours, theirs: processor seconds, medians."""

    peer: str
    size: int
    comparison: Comparison
    ours: float
    theirs: float


class Plain:
    """The attack toward class `k` in PyTorch, from the same random numbers as ours."""

    def __init__(self, pair: Pair, original: np.ndarray, k: int, *, channels_last: bool):
        self.k, self.shape = k, original.shape
        self.module = pair.module
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        about = pair.net.metadata
        self.mean, self.std = (torch.tensor(each, dtype=torch.float32) for each in (about.mean, about.std))
        pixels = torch.from_numpy(original).permute(2, 0, 1)
        self.base = (pixels - self.mean[:, None, None]) / self.std[:, None, None]
        self.size = 0

    def probabilities(self, genes: np.ndarray) -> np.ndarray:
        """(n,) of the class, for candidates (n, 5): row, column, colour."""
        rows, cols = (torch.from_numpy(np.floor(genes[:, i]).astype(int) % self.shape[i]) for i in range(2))
        colours = (torch.from_numpy(eight_bit(genes[:, 2:])) - self.mean) / self.std
        found = []
        for part in torch.arange(len(genes)).split(self.size):
            batch = self.base.expand(len(part), -1, -1, -1).clone(memory_format=self.format)
            batch[torch.arange(len(part)), :, rows[part], cols[part]] = colours[part]
            found.append(self.module(batch).softmax(1)[:, self.k])
        return torch.cat(found).numpy()

    def __call__(self) -> np.ndarray:
        """(5,) the best candidate's row, column and colour, as they are saved."""
        height, width, channels = self.shape
        with torch.inference_mode(), self.formatted():
            for generation in range(GENERATIONS):
                random = np.random.default_rng((0, generation))
                if generation == 0:
                    places = random.uniform(0, (height, width), (POPULATION, 1, 2))[:, 0]
                    colours = random.normal(0.5, SPREAD, (POPULATION, 1, channels))[:, 0].clip(0, 1)
                    genes = np.concatenate([places, colours], 1)
                    fitness = self.probabilities(genes)
                    continue
                order = random.permutation(POPULATION)
                a, b, c = (genes[np.roll(order, shift)] for shift in range(3))
                children = a + SHARE * (b - c)
                children[:, :2] %= (height, width)
                children[:, 2:] = children[:, 2:].clip(0, 1)
                theirs = self.probabilities(children)
                better = theirs >= fitness
                genes[better], fitness[better] = children[better], theirs[better]
        best = genes[fitness.argmax()]
        return np.concatenate([np.floor(best[:2]), eight_bit(best[2:])])

    @contextmanager
    def formatted(self) -> Iterator[None]:
        self.module.to(memory_format=self.format)
        try:
            yield
        finally:
            self.module.to(memory_format=torch.contiguous_format)

    def settle(self) -> None:
        """Take the size of a batch at which it is fastest here."""
        genes = np.random.default_rng(1).random((max(SIZES), 2 + self.shape[2])) * [*self.shape[:2], 1, 1, 1]
        found = {}
        with torch.inference_mode(), self.formatted():
            for self.size in SIZES:
                self.probabilities(genes)  # warm
                found[self.size] = min(seconds(lambda: self.probabilities(genes)) for _ in range(2))
        self.size = min(found, key=found.get)


def compare(pair: Pair, rounds: int) -> Iterator[Raced]:
    """Ours beside each of its peers. Raises AssertionError where they do not find the same."""
    original = eight_bit(pair.net.view(samples.load(PICTURE))[0])
    k = int(pair.net.scores(pair.net.batch(original))[0].argmin())

    def ours() -> FewPixels:
        found = one_pixel(pair.net, original, k, aim="toward", population=POPULATION, steps=GENERATIONS)
        assert len(found.path) == GENERATIONS, "it ended early"
        return found

    def whole() -> FewPixels:
        with (
            mock.patch.object(plan, "planned", return_value=None),
            mock.patch.object(plan, "_known", WeakKeyDictionary()),
        ):
            return ours()

    found = ours()
    for channels_last in (False, True):
        plain = Plain(pair, original, k, channels_last=channels_last)
        plain.settle()
        other = plain()
        np.testing.assert_array_equal(other, [*found.places[0], *found.colours[0]])
        yield _race("PyTorch" + (", channels last" if channels_last else ""), plain.size, ours, plain, rounds)
    yield _race("the same by whole pictures, ONNX Runtime", pair.net.batch_size, ours, whole, rounds)


def _race(peer: str, size: int, ours: Callable, theirs: Callable, rounds: int) -> Raced:
    spent: tuple[list[float], list[float]] = ([], [])

    def measured(side: int, call: Callable) -> Callable[[], None]:
        def run() -> None:
            start = time.process_time()
            call()
            spent[side].append(time.process_time() - start)

        return run

    found = alternate(measured(0, ours), measured(1, theirs), rounds=rounds)
    return Raced(peer, size, found, *(statistics.median(side[1:]) for side in spent))  # the first does not count

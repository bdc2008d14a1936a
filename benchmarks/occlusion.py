"""Occlusion maps: engine.occlusion beside Captum's Occlusion.

The same weights, picture, patch, stride and fill. Captum is given the normalised picture, so that the network is all it
computes, and the number of patches per forward pass (`perturbations_per_eval`) at which it is fastest here. Before
anything is timed, the two maps are compared.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from captum.attr import Occlusion

from benchmarks.networks import Pair
from benchmarks.timing import Comparison, alternate, seconds
from engine import occlusion, samples
from engine.fill import blank

PATCH, FILL, PICTURE = 16, "grey", "cat"
SIZES = (1, 4, 8, 16, 32, 64)  # of Captum's batches
AGREEMENT = 1e-3  # largest difference between the two results, of their range


class Case:
    """One network on one picture, ready to be occluded by either."""

    def __init__(self, pair: Pair, stride: int):
        self.net, self.module, self.stride = pair.net, pair.module, stride
        self.image, _ = self.net.view(samples.load(PICTURE))
        batch = self.net.batch(self.image)
        self.class_index = int(self.net.scores(batch)[0].argmax())
        filled = self.net.batch(blank(self.image, FILL))
        self.input = torch.from_numpy(self.net.normalise(batch))
        self.baseline = torch.from_numpy(self.net.normalise(filled))
        self.captum = Occlusion(lambda x: torch.softmax(self.module(x), 1))
        self.positions = len(self._places(0)) * len(self._places(1))

    def _places(self, axis: int) -> list[int]:
        return occlusion.positions(self.image.shape[axis], PATCH, self.stride)

    def ours(self) -> np.ndarray:
        """(rows, cols) the class's probability with the patch at each position."""
        return occlusion.occlusion(self.net, self.image, self.class_index, patch=PATCH, stride=self.stride, fill=FILL)

    def theirs(self, size: int) -> np.ndarray:
        """(H, W) how far the probability falls, averaged over the patches that cover a pixel."""
        with torch.inference_mode():
            found = self.captum.attribute(
                self.input,
                sliding_window_shapes=(3, PATCH, PATCH),
                strides=(3, self.stride, self.stride),
                baselines=self.baseline,
                target=self.class_index,
                perturbations_per_eval=size,
            )
        return found[0, 0].numpy()

    def agreement(self) -> tuple[float, float]:
        """The largest difference of the two results and its share of their range; ours averaged as Captum averages."""
        probability = self.ours()
        with torch.inference_mode():
            whole = float(torch.softmax(self.module(self.input), 1)[0, self.class_index])
        fall, covered = np.zeros(self.image.shape[:2]), np.zeros(self.image.shape[:2])
        places = itertools.product(enumerate(self._places(0)), enumerate(self._places(1)))
        for (i, row), (j, col) in places:
            window = np.s_[row : row + PATCH, col : col + PATCH]
            fall[window] += whole - probability[i, j]
            covered[window] += 1
        theirs = self.theirs(max(SIZES))
        difference = float(np.abs(fall / covered - theirs).max())
        return difference, difference / float(np.ptp(theirs))


def best_size(pair: Pair, stride: int, repeats: int) -> tuple[int, dict[int, float]]:
    """Captum's fastest batch size here, and the seconds per position of each."""
    case = Case(pair, stride)
    case.theirs(max(SIZES))  # warm
    found = {size: min(seconds(lambda s=size: case.theirs(s)) for _ in range(repeats)) for size in SIZES}
    return min(found, key=found.get), {size: time / case.positions for size, time in found.items()}


def compare(pair: Pair, *, stride: int, rounds: int) -> dict[str, object]:
    """Everything that the table shows of one network. Raises AssertionError where the two maps differ."""
    best, sweep = best_size(pair, PATCH, repeats=2)  # without overlap: fewer patches
    case = Case(pair, stride)
    difference, share = case.agreement()
    assert share <= AGREEMENT, f"{pair.name}: the maps differ by {difference:.1e}, {share:.1e} of their range"
    found: Comparison = alternate(case.ours, lambda: case.theirs(best), rounds=rounds)
    return {
        "comparison": found,
        "best": best,
        "sweep": sweep,
        "difference": difference,
        "share": share,
        "positions": case.positions,
        "batch": min(pair.net.batch_size, case.positions),
    }

"""Class maximization: steps of the Lucid preset beside Lucent's, on the same network at 224 pixels.

Both climb one class's logit on a picture's spectrum in decorrelated colours, under random transformations, with Adam.
The transformations are not the same: Lucent pads, shifts, scales, turns and shifts again, each with an operation of
its own; here all are one resampling. That both reach the class is asserted before anything is timed.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.networks import SIZE, Pair
from benchmarks.timing import Comparison, alternate
from engine.imagine.maximize import maximize
from engine.net import softmax

CLASS, STEPS = 130, 12
LAST = {"resnet18": "fc", "squeezenet1_1": "classifier_3"}  # Lucent's name of the layer with the logits


def compare(pair: Pair, rounds: int) -> Comparison:
    """Seconds for STEPS steps. Raises AssertionError where one side does not climb."""
    ours, theirs = lambda: ours_made(pair), peer(pair)
    start = np.full((*SIZE, 3), 0.5, np.float32)
    before, *after = (_probability(pair, picture) for picture in (start, ours(), theirs()))
    assert min(after) > before, f"{pair.name}: {before:.2e} became {after}"
    return alternate(ours, theirs, rounds=rounds)


def ours_made(pair: Pair) -> np.ndarray:
    return maximize(pair.net, np.zeros((*SIZE, 3), np.float32), CLASS, steps=STEPS).picture


def peer(pair: Pair) -> Callable[[], np.ndarray]:
    """The same by Lucent, whose hooks stay behind; so each run has a copy of the network."""
    from lucent.optvis import objectives, param, render

    asked = objectives.channel(LAST[pair.name], CLASS)

    def made() -> np.ndarray:
        module = copy.deepcopy(pair.module)
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            quiet = {"show_image": False, "progress": False, "thresholds": (STEPS,)}
            return render.render_vis(module, asked, lambda: param.image(SIZE[0]), **quiet)[-1][0]

    return made


def _probability(pair: Pair, picture: np.ndarray) -> float:
    return float(softmax(pair.net.scores(pair.net.batch(picture.astype(np.float32))))[0, CLASS])

"""PGD on a batch beside torchattacks and foolbox, on the same network at 224 pixels.

All three take the same number of steps of the same size in the same L∞ ball, from a random start. That all fool the
network equally often is asserted before anything is timed. Ours hands out pictures in 8 bits.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from benchmarks.networks import SIZE, Pair
from benchmarks.timing import Comparison, alternate
from engine.fool.adversarial import attack
from engine.model.metadata import IMAGENET_MEAN, IMAGENET_STD
from engine.step import last

BATCH, STEPS, EPSILON = 50, 40, 1 / 255
RATE = EPSILON / 4
CLOSE = 0.1  # of the pictures: how far the shares that are fooled may be apart
PEERS, GOAL = ("torchattacks", "foolbox"), 1.5


def compare(pair: Pair, peer: str, rounds: int, batch: int = BATCH, steps: int = STEPS) -> Comparison:
    """Seconds for `steps` steps on `batch` pictures. Raises AssertionError where one fools more than the other."""
    pictures = np.random.default_rng(0).random((batch, *SIZE, 3), np.float32)
    classes = pair.net.scores(pair.net.batch(*pictures)).argmax(1)
    ours, theirs = by_us(pair, pictures, classes, steps), BY[peer](pair, pictures, classes, steps)
    shares = [float((_said(pair, made()) != classes).mean()) for made in (ours, theirs)]
    assert abs(shares[0] - shares[1]) <= CLOSE, f"{pair.name}, {peer}: {shares} are fooled"
    return alternate(ours, theirs, rounds=rounds)


def _said(pair: Pair, pixels: np.ndarray) -> np.ndarray:
    """Classes of pictures (N, C, H, W), by ONNX Runtime."""
    return np.concatenate([pair.net.scores(pixels[at : at + 25]).argmax(1) for at in range(0, len(pixels), 25)])


def by_us(pair: Pair, pictures: np.ndarray, classes: np.ndarray, steps: int) -> Callable[[], np.ndarray]:
    how = {"epsilon": EPSILON, "steps": steps, "rate": RATE, "each": False}
    return lambda: pair.net.batch(*last(attack(pair.net, pictures, classes.tolist(), **how)).pixels)


class Pixels(nn.Module):
    """A module behind its normalisation: what the libraries attack in pixel values."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module((x - self.mean) / self.std)


def by_torchattacks(pair: Pair, pictures: np.ndarray, classes: np.ndarray, steps: int) -> Callable[[], np.ndarray]:
    import torchattacks

    made = torchattacks.PGD(Pixels(pair.module).eval(), eps=EPSILON, alpha=RATE, steps=steps)
    x, y = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(classes)
    return lambda: made(x, y).detach().numpy()


def by_foolbox(pair: Pair, pictures: np.ndarray, classes: np.ndarray, steps: int) -> Callable[[], np.ndarray]:
    import foolbox

    with contextlib.redirect_stdout(io.StringIO()):
        model = foolbox.PyTorchModel(Pixels(pair.module).eval(), bounds=(0, 1))
    made = foolbox.attacks.LinfPGD(abs_stepsize=RATE, steps=steps)
    x, y = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(classes)
    return lambda: made(model, x, y, epsilons=EPSILON)[1].detach().numpy()


BY = {"torchattacks": by_torchattacks, "foolbox": by_foolbox}

"""Do torchattacks and foolbox fool the same network as often, and with changes as small?

Both are for development only (benchmarks/README.md). All three attack the same function, a network's twin, and what
they make is classified by ONNX Runtime. All start from pictures in 8 bits. What they make is not rounded to 8 bits;
what we make is, and stays in the ball.
"""

from __future__ import annotations

import contextlib
import functools
import io

import foolbox
import numpy as np
import pytest
import torch
import torchattacks
from torch import nn

from engine.data import sets
from engine.data.examples import Examples, examples
from engine.fool.adversarial import attack, distances, eight_bit
from engine.net import Net
from engine.step import last

COUNT = 200
CLOSE = 0.03  # of the pictures
SAME = 0.1  # of the pictures, on which two runs of PGD from other random starts may differ
OVERSHOOT = 0.02  # of DeepFool, beyond the border


@functools.cache
def pictures_of(name: str, data: str) -> tuple[Net, Examples]:
    """A network that ships, and pictures that it has all right."""
    net = Net(f"exported_models/{name}.onnx")
    found = examples(sets.find(data), net, COUNT)
    assert (net.scores(net.batch(*found.pixels)).argmax(1) == found.classes).all()
    return net, found


def first(some: Examples, count: int) -> Examples:
    return Examples(some.pixels[:count], some.classes[:count], some.rows[:count], some.by)


class Wrapped(nn.Module):
    """Pixels to logits: what the libraries ask for, with a gradient laid out as theirs are."""

    def __init__(self, net: Net):
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.twin(Contiguous.apply(x), [self.net.logits])[self.net.logits].reshape(len(x), -1)


class Contiguous(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.contiguous()


def given(net: Net, some: Examples):
    """Module, pictures and classes, as the libraries take them; the pictures in 8 bits, as ours are rounded first."""
    return Wrapped(net).eval(), torch.from_numpy(net.batch(*eight_bit(some.pixels))), torch.from_numpy(some.classes)


def fooled(net: Net, some: Examples, pixels: np.ndarray) -> np.ndarray:
    """(N,) bool by ONNX Runtime, of pictures (N, C, H, W)."""
    return net.scores(np.ascontiguousarray(pixels)).argmax(1) != some.classes


def by_foolbox(attack, module: nn.Module, x: torch.Tensor, y: torch.Tensor, epsilon: float | None) -> np.ndarray:
    with contextlib.redirect_stdout(io.StringIO()):
        model = foolbox.PyTorchModel(module, bounds=(0, 1))
        return attack(model, x, y, epsilons=epsilon)[1].detach().numpy()


CASES = {
    "FGSM": (
        ("digits", "digits"),
        {"method": "FGSM", "epsilon": 24 / 255},
        lambda module: torchattacks.FGSM(module, eps=24 / 255),
        lambda: foolbox.attacks.FGSM(),
    ),
    "PGD in L∞": (
        ("digits", "digits"),
        {"epsilon": 12 / 255, "steps": 10, "rate": 3 / 255},
        lambda module: torchattacks.PGD(module, eps=12 / 255, alpha=3 / 255, steps=10),
        lambda: foolbox.attacks.LinfPGD(abs_stepsize=3 / 255, steps=10),
    ),
    # Foolbox keeps the ball first and the range after it, so that among black pixels its changes are shorter than they
    # may be: here on pictures whose pixels are hardly ever black or white.
    "PGD in L2": (
        ("honest", "planted"),
        {"epsilon": 0.5, "steps": 20, "rate": 0.0625, "norm": "L2"},
        lambda module: torchattacks.PGDL2(module, eps=0.5, alpha=0.0625, steps=20),
        lambda: foolbox.attacks.L2PGD(abs_stepsize=0.0625, steps=20),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_as_many_are_fooled(name):
    of, how, by_torchattacks, foolboxs = CASES[name]
    net, some = pictures_of(*of)
    some = first(some, 100 if name == "PGD in L2" else COUNT)  # of larger pictures, fewer
    module, x, y = given(net, some)
    ours = last(attack(net, some.pixels, some.classes.tolist(), **how)).pixels
    torch.manual_seed(0)
    theirs = by_torchattacks(module)(x, y).detach().numpy(), by_foolbox(foolboxs(), module, x, y, how["epsilon"])
    rate = fooled(net, some, net.batch(*ours)).mean()
    assert 0.2 < rate < 0.8, "at which rates can differ"
    for other in theirs:
        assert rate == pytest.approx(fooled(net, some, other).mean(), abs=CLOSE)
        assert (fooled(net, some, net.batch(*ours)) != fooled(net, some, other)).mean() <= SAME, "and the same ones"


def test_fgsm_is_theirs_pixel_by_pixel():
    """It has no random start. A gradient of 0, but for rounding, may have either sign."""
    of, how, by_torchattacks, foolboxs = CASES["FGSM"]
    net, some = pictures_of(*of)
    module, x, y = given(net, some)
    ours = net.batch(*last(attack(net, some.pixels, some.classes.tolist(), **how)).pixels)
    for other in by_torchattacks(module)(x, y).numpy(), by_foolbox(foolboxs(), module, x, y, how["epsilon"]):
        assert (np.abs(ours - other) > 1e-5).mean() < 1e-4


def lengths(some: Examples, pixels: np.ndarray) -> np.ndarray:
    """(N,) L2 norms of the change, of pictures (N, C, H, W)."""
    return distances(pixels.transpose(0, 2, 3, 1), eight_bit(some.pixels))[1]


def beyond(x: torch.Tensor, ended: torch.Tensor) -> torch.Tensor:
    """The paper's last step: the whole change times 1 + OVERSHOOT.

    torchattacks multiplies each step by that, and goes on until the class changes. Where pixels are black, a part of
    every step is cut off; so from the second step on it never gets past the border, but comes so near to it, from
    inside, that rounding decides on which side the picture is (margins of 1e-6 logits, of which some 35 % fool).
    """
    return (x + (1 + OVERSHOOT) * (ended - x)).clamp(0, 1)


@pytest.mark.parametrize(
    ("how", "by_torchattacks", "end", "foolboxs"),
    [
        (
            {"method": "DeepFool", "norm": "L2", "steps": 10},
            lambda module: torchattacks.DeepFool(module, steps=10, overshoot=OVERSHOOT),
            beyond,
            lambda: foolbox.attacks.L2DeepFoolAttack(steps=10, overshoot=OVERSHOOT),
        ),
        (
            {"method": "Carlini-Wagner", "steps": 50, "rate": 0.05},
            lambda module: torchattacks.CW(module, c=1, steps=50, lr=0.05),
            lambda x, ended: ended,
            lambda: foolbox.attacks.L2CarliniWagnerAttack(5, 50, stepsize=0.05, initial_const=1.0),
        ),
    ],
    ids=["DeepFool", "Carlini-Wagner"],
)
def test_the_changes_are_as_small(how, by_torchattacks, end, foolboxs):
    """Each library has ways of its own to end; ours may be better but not worse."""
    net, some = pictures_of("digits", "digits")
    some = first(some, 20)
    module, x, y = given(net, some)
    ours = net.batch(*last(attack(net, some.pixels, some.classes.tolist(), **how)).pixels)
    assert fooled(net, some, ours).all()
    theirs = end(x, by_torchattacks(module)(x, y)).detach().numpy(), by_foolbox(foolboxs(), module, x, y, None)
    for other in theirs:
        both = fooled(net, some, other)
        assert both.mean() >= 0.9
        assert np.median(lengths(some, ours)[both] / lengths(some, other)[both]) < 1.05

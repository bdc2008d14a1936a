"""Is the patch where it is said to be, turned as it is said to be, and does it make the class likelier?"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine import samples
from engine.adversarial_patch import SIDE, adversarial_patch, adversarial_patch_steps, drawn, pasted, with_patch
from engine.net import Net, softmax

pytestmark = pytest.mark.usefixtures("one_thread")


def arrow() -> torch.Tensor:
    """(1, 1, 64, 64): the right half is white."""
    patch = torch.zeros(1, 1, SIDE, SIDE)
    patch[..., SIDE // 2 :] = 1
    return patch


def test_it_lies_where_it_should_and_is_round():
    made = pasted(torch.full((1, 1, 60, 90), 0.5), torch.ones(1, 1, SIDE, SIDE), (20.0, 50.0, 30.0, 0.0))[0, 0]
    rows, cols = np.mgrid[:60, :90]
    away = np.hypot(rows + 0.5 - 20, cols + 0.5 - 50)
    np.testing.assert_allclose(made.numpy()[away < 13], 1, atol=1e-5)
    np.testing.assert_allclose(made.numpy()[away > 16], 0.5, atol=1e-5)


@pytest.mark.parametrize(("degrees", "towards"), [(0, (0, 1)), (90, (1, 0)), (-90, (-1, 0)), (180, (0, -1))])
def test_it_is_turned_clockwise(degrees, towards):
    made = pasted(torch.full((1, 1, 60, 90), 0.0), arrow(), (30.0, 40.0, 40.0, float(degrees)))[0, 0].numpy()
    rows, cols = np.mgrid[:60, :90] + 0.5
    mass = np.array([(made * (rows - 30)).sum(), (made * (cols - 40)).sum()]) / made.sum()
    np.testing.assert_allclose(mass / np.abs(mass).max(), towards, atol=0.05)


def test_the_gradient_reaches_the_patch():
    patch = torch.zeros(1, 1, SIDE, SIDE, requires_grad=True)
    pasted(torch.zeros(1, 1, 40, 50), patch, (20.0, 25.0, 20.0, 10.0)).sum().backward()
    assert float(patch.grad.sum()) == pytest.approx(np.pi * 10**2, rel=0.1)  # the area that it covers


def test_places_lie_inside():
    random = np.random.default_rng(0)
    for _ in range(50):
        row, col, side, degrees = drawn(random, (30, 50), (0.3, 0.6), 20)
        assert side / 2 <= row <= 30 - side / 2
        assert side / 2 <= col <= 50 - side / 2
        assert 9 <= side <= 18
        assert abs(degrees) <= 20


def test_it_makes_the_class_likelier_where_it_was_not_trained():
    net = Net("exported_models/imagenette.onnx")
    views = np.stack([net.view(samples.load(name))[0] for name in ("china", "flower", "coffee")])
    patch = adversarial_patch(net, views[:2], 8, steps=25, share=(0.5, 0.6)).picture
    place = (90.0, 70.0, 90.0, 5.0)
    said = [softmax(net.scores(net.batch(x)))[0, 8] for x in (views[2], with_patch(views[2], patch, place))]
    assert said[1] > said[0] + 0.3


def test_a_run_that_was_broken_ends_as_if_it_never_had(tiny, picture):
    knobs = {"steps": 5, "seed": 2}
    whole = adversarial_patch(tiny, picture[None], 1, **knobs)
    for step in adversarial_patch_steps(tiny, picture[None], 1, **knobs):
        if step.index == 2:
            break
    *_, end = adversarial_patch_steps(tiny, picture[None], 1, resume=step.result, **knobs)
    np.testing.assert_array_equal(end.result.pixels, whole.pixels)
    with pytest.raises(ValueError, match="at least one"):
        adversarial_patch(tiny, picture[:0, None], 1)

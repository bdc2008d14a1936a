"""Do the contributions add up to the number, and are they those worked out by hand where they can be?

Gradient × input is here, too: it is the same with a single gradient, taken at the picture.
"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
from small_nets import node

from engine.explain.gradient_input import gradient_input
from engine.explain.integrated_gradients import Integrated, integrated_gradients, integrated_gradients_steps
from engine.net import Net, UnknownClass
from engine.nets.folder import PROJECT
from engine.pictures import samples
from engine.pictures.fill import FILLS, blank
from engine.target import class_score, measure, unit

WEIGHT = np.random.default_rng(4).normal(0, 1, (2, 3, 12, 16))
SHIPPED = PROJECT / "exported_models"


@pytest.fixture
def linear(tmp_path) -> Net:
    return nets.save(nets.linear(WEIGHT, np.array([3.0, -1.0])), tmp_path / "linear.onnx")


@pytest.fixture
def quadratic(tmp_path) -> Net:
    """logits = weight · normalised picture squared: the gradient is linear along any straight way."""
    nodes = [
        node("Mul", "image image", "squares"),
        node("Flatten", "squares", "flat"),
        node("Gemm", "flat w", "logits", transB=1),
    ]
    made = nets.model(nodes, {"w": WEIGHT.reshape(2, -1).astype(np.float32)}, about=nets.ABOUT)
    return nets.save(made, tmp_path / "quadratic.onnx")


def normalised(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.float64) - nets.MEAN) / nets.STD


def rise(net: Net, image: np.ndarray, baseline: str, index: int) -> float:
    before, after = measure(net, net.batch(blank(image, baseline), image), class_score(net, index)).astype(float)
    return after - before


# Gradient × input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", FILLS)
def test_on_a_linear_net_gradient_times_input_is_what_each_pixel_adds(linear, picture, baseline):
    expected = WEIGHT[1].transpose(1, 2, 0) * (normalised(picture) - normalised(blank(picture, baseline)))
    found = gradient_input(linear, picture, 1, baseline=baseline)
    np.testing.assert_allclose(found, expected.sum(2), rtol=1e-4, atol=1e-5)
    assert found.sum(dtype=float) == pytest.approx(rise(linear, picture, baseline, 1), rel=1e-4)
    assert found.min() < 0 < found.max()


def test_on_another_net_it_does_not_add_up(quadratic, picture):
    """By hand: 2 w u (u - u of black), which is not the rise w (u² - u² of black)."""
    u, black = normalised(picture), normalised(np.zeros_like(picture))
    expected = (2 * WEIGHT[0].transpose(1, 2, 0) * u * (u - black)).sum(2)
    np.testing.assert_allclose(gradient_input(quadratic, picture, 0), expected, rtol=1e-4, atol=1e-4)


# Integrated Gradients -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("baseline", FILLS)
@pytest.mark.parametrize("steps", [1, 5, 8, 19])
def test_on_a_linear_net_any_number_of_steps_is_exact(linear, picture, baseline, steps):
    expected = WEIGHT[0].transpose(1, 2, 0) * (normalised(picture) - normalised(blank(picture, baseline)))
    found = integrated_gradients(linear, picture, 0, baseline=baseline, steps=steps)
    np.testing.assert_allclose(found.channels, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.map, expected.sum(2), rtol=1e-4, atol=1e-4)
    assert found.score - found.baseline == pytest.approx(rise(linear, picture, baseline, 0), rel=1e-5)
    assert found.error < 1e-4


@pytest.mark.parametrize("steps", [1, 6, 16])
def test_points_in_the_middle_of_equal_parts_are_exact_for_a_linear_gradient(quadratic, picture, steps):
    """w (u² - u² of the baseline); points at the ends of the parts would be off by a part of it."""
    expected = WEIGHT[1].transpose(1, 2, 0) * (normalised(picture) ** 2 - normalised(np.ones_like(picture)) ** 2)
    found = integrated_gradients(quadratic, picture, 1, baseline="white", steps=steps)
    np.testing.assert_allclose(found.channels, expected, rtol=1e-4, atol=1e-4)
    assert found.error < 1e-4


@pytest.mark.parametrize("index", range(4))
def test_contributions_add_up_within_a_hundredth_by_default(tiny, picture, index):
    found = integrated_gradients(tiny, picture, index)
    assert found.error < 0.01
    assert found.map.sum(dtype=float) == pytest.approx(rise(tiny, picture, "black", index), rel=0.011)


def test_also_on_a_network_that_ships():
    net = Net(SHIPPED / "imagenette.onnx")
    pixels, _ = net.view(samples.load("china"))
    found = integrated_gradients(net, pixels, int(net.scores(net.batch(pixels))[0].argmax()))
    assert found.error < 0.01
    assert abs(found.score - found.baseline) > 1


@pytest.mark.parametrize("tolerance", [np.inf, 0.01, 0.0])
def test_the_way_is_walked_more_closely_until_the_error_is_small_enough(tiny, picture, tolerance):
    """Each refinement has the same points as so many steps at once, and none of them twice."""
    start = {"baseline": "white", "steps": 1}
    errors = {n: integrated_gradients(tiny, picture, 2, baseline="white", steps=n, tolerance=np.inf) for n in (1, 3, 9)}
    assert errors[1].error > 0.01, "or else there is nothing to refine"
    expected = next((n for n, found in errors.items() if found.error <= tolerance), 9)
    steps = list(integrated_gradients_steps(tiny, picture, 2, **start, tolerance=tolerance))
    np.testing.assert_allclose(steps[-1].result.channels, errors[expected].channels, rtol=1e-3, atol=1e-6)
    assert steps[-1].index == steps[-1].total == (1 if tolerance == np.inf else 9)


def test_the_error_is_the_missing_share():
    made = Integrated(np.zeros((1, 2)), np.array([[[1.0], [2.0]]]), score=5.0, baseline=1.0)
    assert made.error == pytest.approx(0.25)
    assert Integrated(np.zeros((1, 1)), np.array([[[0.5]]]), 2.0, 2.0).error == pytest.approx(0.5)


def test_steps_come_nearer_and_end_in_the_result(tiny, picture):
    steps = list(integrated_gradients_steps(tiny, picture, 1, steps=20, tolerance=np.inf))
    assert [(step.index, step.total) for step in steps] == [(8, 20), (16, 20), (20, 20)]
    whole = integrated_gradients(tiny, picture, 1, steps=20, tolerance=np.inf)
    np.testing.assert_array_equal(steps[-1].result.channels, whole.channels)
    for step in steps:  # points from all along the way, so that already the first are near
        rise_ = step.result.score - step.result.baseline
        assert step.result.error < 0.35
        assert rise_ == whole.score - whole.baseline
    assert not np.array_equal(steps[0].result.map, steps[1].result.map)


def test_a_unit_can_be_asked_about(tiny, picture):
    target = unit(tiny, "conv2", 3)
    found = integrated_gradients(tiny, picture, target)
    assert found.error < 0.01
    assert found.score == pytest.approx(nets.tiny_forward(picture)["conv2"][3].mean(), abs=1e-5)
    assert found.baseline == pytest.approx(nets.tiny_forward(np.zeros_like(picture))["conv2"][3].mean(), abs=1e-5)


@pytest.mark.parametrize("method", [integrated_gradients, gradient_input])
def test_what_cannot_be_done_is_refused(tiny, picture, method):
    with pytest.raises(ValueError, match="one of grey, mean, black"):
        method(tiny, picture, 1, baseline="red")
    with pytest.raises(UnknownClass):
        method(tiny, picture, 4)

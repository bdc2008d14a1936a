"""Is SmoothGrad the mean over noisy copies, and nothing else?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small_nets as nets
from small_nets import node

from engine.explain.saliency import gradient, saliency
from engine.explain.smooth_grad import smooth_grad, smooth_grad_steps


def test_without_noise_it_is_the_gradient(tiny, picture):
    found = smooth_grad(tiny, picture, 1, noise=0.0, samples=11)
    np.testing.assert_allclose(found, saliency(tiny, picture, 1), rtol=1e-4, atol=1e-7)


def test_on_a_linear_net_noise_changes_nothing(tmp_path, picture):
    weight = np.random.default_rng(4).normal(0, 1, (2, 3, 12, 16))
    net = nets.save(nets.linear(weight, np.zeros(2)), tmp_path / "linear.onnx")
    found = smooth_grad(net, picture, 1, noise=0.4, samples=9)
    np.testing.assert_allclose(found, np.abs(weight[1].transpose(1, 2, 0) / nets.STD).max(2), rtol=1e-4)


@pytest.mark.parametrize(("noise", "samples"), [(0.05, 4), (0.05, 36), (0.2, 36)])
def test_the_noise_is_as_strong_as_it_says_and_is_averaged(tmp_path, noise, samples):
    """score = Σ u² / 2 with u the picture itself: the gradient is u, and the mean of the copies' is u + the mean noise,
    whose standard deviation is noise / √samples."""
    about = dataclasses.replace(nets.ABOUT, mean=(0.0,), std=(1.0,), input_size=(40, 60))
    nodes = [
        node("Mul", "image image", "squares"),
        node("ReduceSum", "squares axes", "sum", keepdims=0),
        node("Mul", "sum half", "logits"),
    ]
    constants = {"axes": np.array([2, 3]), "half": np.float32(0.5)}
    net = nets.save(nets.model(nodes, constants, shape=("n", 1, 40, 60), about=about), tmp_path / "net.onnx")
    image = nets.picture((40, 60), 1) * 0.1 + 0.85  # far from 0, where the absolute value would matter
    left = smooth_grad(net, image, 0, noise=noise, samples=samples) - image[:, :, 0]
    assert left.std() == pytest.approx(noise / samples**0.5, rel=0.07)
    assert abs(left.mean()) < 4 * noise / (samples * left.size) ** 0.5


def test_the_signed_gradients_are_averaged_and_the_absolute_value_comes_last(tiny, picture):
    """By hand, from each copy's own gradient; the copies are drawn in the order of the seed."""
    random = np.random.default_rng(5)
    copies = [picture + 0.3 * random.standard_normal(picture.shape, np.float32) for _ in range(11)]
    each = np.stack([gradient(tiny, copy, 2) for copy in copies])
    found = smooth_grad(tiny, picture, 2, noise=0.3, samples=11, seed=5)
    np.testing.assert_allclose(found, np.abs(each.mean(0)).max(2), rtol=1e-4, atol=1e-6)
    assert not np.allclose(found, np.abs(each).mean(0).max(2), rtol=0.05)


def test_steps_are_means_so_far(tiny, picture):
    steps = list(smooth_grad_steps(tiny, picture, 1, samples=20))
    assert [(step.index, step.total) for step in steps] == [(8, 20), (16, 20), (20, 20)]
    np.testing.assert_allclose(steps[0].result, smooth_grad(tiny, picture, 1, samples=8), rtol=1e-5)
    np.testing.assert_array_equal(steps[-1].result, smooth_grad(tiny, picture, 1, samples=20))


def test_the_seed_decides(tiny, picture):
    first, again, other = (smooth_grad(tiny, picture, 1, samples=3, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)

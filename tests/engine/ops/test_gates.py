"""Do gradients pass the gates by the rule that is asked for, and only then?"""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import small_nets as nets
from scipy.special import erf, expit
from small_nets import node

from engine.explain.guided_backpropagation import RULES, deconvnet, gated_gradient, guided_backpropagation
from engine.explain.guided_grad_cam import guided_grad_cam
from engine.explain.saliency import gradient, saliency
from engine.net import Net
from engine.ops import gates
from engine.ops.gates import NoGate, silus, table
from engine.ops.table import OPS

SIZE = (3, 5)
RANDOM = np.random.default_rng(6)
FIRST, FIRST_BIAS = RANDOM.normal(0, 1.5, (4, 3)), RANDOM.normal(0, 0.5, 4)
SECOND, SECOND_BIAS = RANDOM.normal(0, 1.5, (3, 4)), RANDOM.normal(0, 0.5, 3)
HEAD = RANDOM.normal(0, 1, (2, 3, *SIZE))

# name → the gate's nodes from {x} to {y}, constants, operator set, and the gate in numpy
SILU = lambda x: x * expit(x)  # noqa: E731
GATES = {
    "Relu": ([("Relu", "{x}", {})], {}, 18, lambda x: np.maximum(x, 0)),
    "Clip": ([("Clip", "{x} low high", {})], {"low": np.float32(0), "high": np.float32(6)}, 18, lambda x: x.clip(0, 6)),
    "Clip, old": ([("Clip", "{x}", {"min": 0.0, "max": 6.0})], {}, 10, lambda x: x.clip(0, 6)),
    "LeakyRelu": ([("LeakyRelu", "{x}", {"alpha": 0.2})], {}, 18, lambda x: np.where(x > 0, x, 0.2 * x)),
    "PRelu": ([("PRelu", "{x} slope", {})], {"slope": np.float32([0.3])}, 18, lambda x: np.where(x > 0, x, 0.3 * x)),
    "Elu": ([("Elu", "{x}", {})], {}, 18, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "HardSwish": ([("HardSwish", "{x}", {})], {}, 18, lambda x: x * (x / 6 + 0.5).clip(0, 1)),
    "Gelu": ([("Gelu", "{x}", {})], {}, 20, lambda x: x * (1 + erf(x / 2**0.5)) / 2),
    "x · Sigmoid(x)": ([("Sigmoid", "{x}", {}), ("Mul", "{x} {y}s", {})], {}, 18, SILU),
    "Sigmoid(x) · x": ([("Sigmoid", "{x}", {}), ("Mul", "{y}s {x}", {})], {}, 18, SILU),
}


def net_of(gate: str, path) -> Net:
    """Two layers of 1 × 1 convolutions with a gate behind each, then a weighted sum: every pixel on its own."""
    parts, constants, opset, _ = GATES[gate]

    def gated(x: str, y: str) -> list:
        made = []
        for place, (op, inputs, attributes) in enumerate(parts):
            out = y if place == len(parts) - 1 else f"{y}s"
            made.append(node(op, inputs.format(x=x, y=y), out, **attributes))
        return made

    nodes = [
        node("Conv", "image a ab", "one"),
        *gated("one", "h"),
        node("Conv", "h b bb", "two"),
        *gated("two", "g"),
        node("Flatten", "g", "flat"),
        node("Gemm", "flat v zero", "logits", transB=1),
    ]
    weights = {
        "a": FIRST[:, :, None, None],
        "ab": FIRST_BIAS,
        "b": SECOND[:, :, None, None],
        "bb": SECOND_BIAS,
        "v": HEAD.reshape(2, -1),
        "zero": np.zeros(2),
    }
    weights = {name: value.astype(np.float32) for name, value in weights.items()}
    about = dataclasses.replace(nets.ABOUT, labels=("a", "b"), input_size=SIZE)
    return nets.save(nets.model(nodes, weights | constants, shape=("n", 3, *SIZE), opset=opset, about=about), path)


def by_hand(gate: str, image: np.ndarray, index: int, rule: str) -> np.ndarray:
    """The same in numpy, from the papers' rules: what comes back at each gate, from the top down."""
    f = GATES[gate][3]
    slope = lambda x: (f(x + 1e-5) - f(x - 1e-5)) / 2e-5  # noqa: E731
    u = (image.astype(np.float64) - nets.MEAN) / nets.STD  # (H, W, 3)
    one = u @ FIRST.T + FIRST_BIAS
    two = f(one) @ SECOND.T + SECOND_BIAS
    back = HEAD[index].transpose(1, 2, 0)
    for before, weight in ((two, SECOND), (one, FIRST)):
        passed = {
            "plain": slope(before) * back,
            "guided": slope(before) * np.maximum(back, 0),
            "deconvnet": np.maximum(back, 0),
        }[rule]
        back = passed @ weight
    return back / nets.STD


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("gate", GATES)
def test_each_gate_by_each_rule_is_as_worked_out_by_hand(tmp_path, gate, rule):
    net, image = net_of(gate, tmp_path / "net.onnx"), nets.picture(SIZE)
    for index in (0, 1):
        found, expected = gated_gradient(net, image, index, rule=rule), by_hand(gate, image, index, rule)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())
    others = [by_hand(gate, image, 1, other) for other in RULES if other != rule]
    assert all(abs(expected - other).max() > 0.05 * abs(expected).max() for other in others)  # they can be told apart


def test_the_methods_take_the_largest_over_the_channels(tmp_path):
    net, image = net_of("Relu", tmp_path / "net.onnx"), nets.picture(SIZE)
    for method, rule in ((guided_backpropagation, "guided"), (deconvnet, "deconvnet"), (saliency, "plain")):
        expected = np.abs(by_hand("Relu", image, 1, rule)).max(2)
        np.testing.assert_allclose(method(net, image, 1), expected, rtol=1e-3, atol=1e-4)


def test_a_sigmoid_that_gates_something_else_is_arithmetic(tmp_path, picture):
    """As in squeeze-and-excitation: only the ReLU follows the rule."""
    nodes = [
        node("Conv", "image w1 b1", "conv"),
        node("GlobalAveragePool", "conv", "mean"),
        node("Sigmoid", "mean", "scale"),
        node("Mul", "conv scale", "scaled"),
        node("Relu", "scaled", "relu"),
        node("GlobalAveragePool", "relu", "out"),
    ]
    net = nets.save(nets.model(nodes, nets.tiny_weights(), about=nets.ABOUT), tmp_path / "squeeze.onnx")
    assert silus(net.graph) == {}
    assert set(table(net.graph, "guided")) == {"Relu"}
    # The output's gradient is positive everywhere, so that the guided rule changes nothing.
    expected = gradient(net, picture, 1)
    np.testing.assert_allclose(gated_gradient(net, picture, 1, rule="guided"), expected, atol=1e-7)
    assert expected.min() < 0


def test_silus_are_found_in_both_orders():
    nodes = [
        node("Sigmoid", "image", "s"),
        node("Mul", "image s", "a"),
        node("Mul", "s image", "b"),
        node("Mul", "a s", "not"),
        node("Sum", "a b not", "out"),
    ]
    from engine.model.graph import read

    assert silus(read(nets.model(nodes), (1, 3, *nets.SIZE))) == {"a": 0, "b": 1}


# Nothing stays behind -------------------------------------------------------------------------------------------------


def test_the_plain_gradient_is_the_same_before_and_after(tiny, picture):
    ops = dict(OPS)
    plain = gradient(tiny, picture, 1)
    guided = gated_gradient(tiny, picture, 1)
    other = gated_gradient(tiny, picture, 1, rule="deconvnet")
    for _ in range(2):
        np.testing.assert_array_equal(gradient(tiny, picture, 1), plain)
        np.testing.assert_array_equal(gated_gradient(tiny, picture, 1, rule="plain"), plain)
        np.testing.assert_array_equal(gated_gradient(tiny, picture, 1), guided)
    assert ops == OPS
    assert not np.allclose(plain, guided)
    assert not np.allclose(other, guided)


def test_two_threads_with_two_rules_do_not_meet(tiny, picture):
    expected = {rule: gated_gradient(tiny, picture, 1, rule=rule) for rule in RULES}
    with ThreadPoolExecutor(3) as pool:
        asked = [RULES[turn % 3] for turn in range(30)]
        for rule, found in zip(asked, pool.map(lambda r: gated_gradient(tiny, picture, 1, rule=r), asked), strict=True):
            np.testing.assert_allclose(found, expected[rule], rtol=1e-5, atol=1e-8)


def test_the_forward_pass_is_the_same_by_every_rule(tmp_path):
    import torch

    for gate in GATES:
        net = net_of(gate, tmp_path / "net.onnx")
        x = net.batch(nets.picture(SIZE))
        for rule in RULES:
            found = net.twin(torch.from_numpy(x), ["logits"], ops=table(net.graph, rule))["logits"]
            np.testing.assert_allclose(found, net.scores(x), rtol=1e-4, atol=1e-4)


# Guided Grad-CAM ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv1", "pool1"])
def test_guided_grad_cam_is_the_product(tiny, picture, layer):
    from engine.explain.evidence import over_picture
    from engine.explain.grad_cam import grad_cam

    found = guided_grad_cam(tiny, picture, 1, layer=layer)
    where = over_picture(grad_cam(tiny, picture, 1, layer=layer), (12, 16))
    np.testing.assert_allclose(found, guided_backpropagation(tiny, picture, 1) * where, rtol=1e-5)
    assert found.any()


# Refusing -------------------------------------------------------------------------------------------------------------


def bent(op: str | None, path) -> Net:
    nodes = [node("Conv", "image w1 b1", "conv")]
    if op is not None:
        nodes.append(node(op, "conv", "bent"))
    nodes += [node("GlobalAveragePool", nodes[-1].output[0], "out")]
    return nets.save(nets.model(nodes, nets.tiny_weights(), about=nets.ABOUT), path)


@pytest.mark.parametrize(
    ("op", "said"),
    [
        ("Erf", "its nonlinear ops are Erf"),
        ("Tanh", "its nonlinear ops are Tanh"),
        ("Sigmoid", "its nonlinear ops are Sigmoid"),
        (None, "it has no nonlinear op"),
    ],
)
def test_a_net_without_gates_says_what_it_has_instead(tmp_path, picture, op, said):
    net = bent(op, tmp_path / "net.onnx")
    for method, rule in ((guided_backpropagation, "guided"), (deconvnet, "deconvnet"), (guided_grad_cam, "guided")):
        with pytest.raises(
            NoGate, match=rf"^The rule '{rule}' changes how gradients pass ReLU and its kin, .*: {said}\.$"
        ):
            method(net, picture, 1)
    np.testing.assert_array_equal(gated_gradient(net, picture, 1, rule="plain"), gradient(net, picture, 1))


def test_a_gate_that_the_picture_does_not_pass_does_not_count(tmp_path, picture):
    nodes = [
        node("Relu", "k", "positive"),
        node("Add", "image positive", "sum"),
        node("GlobalAveragePool", "sum", "out"),
    ]
    net = nets.save(
        nets.model(nodes, {"k": np.ones((1, 3, 1, 1), np.float32)}, about=nets.ABOUT), tmp_path / "net.onnx"
    )
    with pytest.raises(NoGate, match="no nonlinear op"):
        guided_backpropagation(net, picture, 0)


def test_an_unknown_rule_is_refused(tiny, picture):
    with pytest.raises(ValueError, match="one of plain, guided, deconvnet, not 'kind'"):
        gated_gradient(tiny, picture, 0, rule="kind")
    assert gates.table(tiny.graph, "plain") is None


def test_a_gate_without_bounds_leaves_the_gradients_of_others_alone(tmp_path):
    """It hands on the very gradient that the arm beside it gets: y + clip(y) gives w + max(w, 0)."""
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(4, 3 * 12 * 16)).astype(np.float32)
    nodes = [
        node("Mul", "image one", "y"),
        node("Clip", "y", "k"),
        node("Add", "y k", "z"),
        node("Flatten", "z", "flat"),
        node("Gemm", "flat w", "logits", transB=1),
    ]
    made = nets.model(nodes, {"one": np.ones(1, np.float32), "w": weight}, about=nets.ABOUT)
    net = nets.save(made, tmp_path / "loose.onnx")
    w = weight[1].reshape(3, 12, 16).transpose(1, 2, 0)
    found = gated_gradient(net, nets.picture(), 1, rule="guided")
    np.testing.assert_allclose(found, (w + np.maximum(w, 0)) / np.array(nets.STD), rtol=1e-5, atol=1e-6)

"""Guided backpropagation: three rules side by side, which gates there are, and what is said where there are none."""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as small
from test_pages import cells, charts, defaults, fine, home, opened, scene  # noqa: F401

from engine.explain.evidence import evidence
from engine.explain.guided_backpropagation import RULES


def texts(at) -> str:
    return "\n".join(each.value for each in [*at.markdown, *at.caption, *at.warning])


def test_three_pictures_and_the_gates_in_words():
    at = defaults("guided", "digits")
    assert fine(at)
    assert len(charts(at)) == 4, "the three and the picture itself"
    relus = sum(node.op == "Relu" for node in scene(at).net.graph.nodes)
    assert f"{relus} Relu (each stops what is negative)" in texts(at)
    links = [each.proto for each in at.get("page_link")]
    assert links[0].page == "sanity", "it leads with the question whether to believe it"


def test_the_largest_values_are_the_methods_own():
    at = opened("guided", net="digits", kind="largest")
    assert fine(at)
    seen = scene(at)
    maps = list(cells(at))
    assert len(maps) == len(RULES)
    for method, (rows, cols, values) in zip(("Gradient", "Guided backpropagation", "Deconvnet"), maps, strict=True):
        expected = evidence(seen.net, seen.pixels, seen.class_index, method=method)
        np.testing.assert_allclose(expected[rows, cols], values, rtol=1e-3, atol=1e-6)


def test_only_the_gates_on_the_way_count():
    first = next(layer for layer in scene(defaults("guided", "digits")).net.layers if layer.op == "Conv")
    at = opened("guided", net="digits", about="unit", layer=first.name, unit=1, at="5, 5")
    assert fine(at)
    assert "no gate, so all three are the same gradient" in texts(at)


@pytest.mark.parametrize("kind", ["colours", "largest"])
def test_a_network_without_gates_shows_its_gradient_and_says_why(kind, home):  # noqa: F811
    weight = np.random.default_rng(0).normal(size=(4, 3, 12, 16))
    (home / "networks" / "gateless.onnx").write_bytes(small.linear(weight, np.zeros(4)).SerializeToString())
    at = opened("guided", net="gateless", kind=kind)
    assert fine(at)
    (warning,) = at.warning
    assert "this net has none" in warning.value
    assert len(charts(at)) == 2, "the gradient and the picture"


def test_silu_counts_as_one_gate(home):  # noqa: F811
    nodes = small.tiny_nodes()
    relu = next(k for k, node in enumerate(nodes) if node.op_type == "Relu")
    nodes[relu : relu + 1] = [small.node("Sigmoid", "conv1", "open"), small.node("Mul", "conv1 open", "relu1")]
    made = small.model(nodes, small.tiny_weights(), opset=17, about=small.ABOUT)
    (home / "networks" / "silu.onnx").write_bytes(made.SerializeToString())
    at = opened("guided", net="silu")
    assert fine(at)
    assert "1 SiLU (each is x · Sigmoid(x), taken as one gate)" in texts(at)
    assert "Max pooling sends all three" in texts(at)

"""The graph as plain data: what depends on the picture, and what must run for which tensor."""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
from onnx import helper, numpy_helper
from small_nets import node

from engine.model.graph import read, skeleton

SHAPE = (1, 3, *nets.SIZE)


@pytest.fixture(scope="module")
def graph():
    """A ladder with two rungs and a part that does not see the picture:

    image → a → b → c ─┐
            └── d ─────┴→ e → f       and k + k → fixed, which goes into e, too
    """
    return read(
        nets.model(
            [
                node("Add", "k k", "fixed"),
                node("Relu", "image", "a"),
                node("Neg", "a", "b"),
                node("Abs", "b", "c"),
                node("Sigmoid", "a", "d"),
                node("Sum", "c d fixed", "e"),
                node("Tanh", "e", "f"),
            ],
            {"k": np.ones((1, 3, 1, 1), np.float32)},
        ),
        SHAPE,
    )


def outputs(nodes):
    return [name for n in nodes for name in n.outputs]


@pytest.mark.parametrize(
    ("wanted", "given", "expected"),
    [
        (["a"], [], ["a"]),
        (["c"], [], ["a", "b", "c"]),
        (["d"], [], ["a", "d"]),
        (["f"], [], ["fixed", "a", "b", "c", "d", "e", "f"]),
        (["d", "b"], [], ["a", "b", "d"]),  # the graph's order, not the asker's
        (["f"], ["a"], ["fixed", "b", "c", "d", "e", "f"]),
        (["f"], ["c", "d"], ["fixed", "e", "f"]),
        (["f"], ["c"], ["fixed", "a", "d", "e", "f"]),  # d still needs a
        (["f"], ["e"], ["f"]),
        (["f"], ["f"], []),
        (["e", "f"], ["e"], ["f"]),
        (["image"], [], []),
        ([], [], []),
    ],
)
def test_only_what_is_asked_for_is_needed_and_in_order(graph, wanted, given, expected):
    assert outputs(graph.needed(wanted, given)) == expected


def test_needed_takes_a_node_once_when_several_of_its_outputs_are_wanted():
    made = nets.model(
        [node("Split", "image sizes", "x y", axis=3), node("Add", "x y", "sum")], {"sizes": np.array([8, 8])}
    )
    assert [n.op for n in read(made, SHAPE).needed(["y", "sum", "x"])] == ["Split", "Add"]


@pytest.mark.parametrize(
    ("name", "expected"), [("image", "abcdef"), ("a", "bcdef"), ("b", "cef"), ("d", "ef"), ("fixed", "ef"), ("f", "")]
)
def test_behind_a_tensor_is_all_that_depends_on_it(graph, name, expected):
    assert graph.behind(name) == {name, *expected}


def test_behind_a_node_of_several_outputs_are_all_of_them():
    made = nets.model(
        [node("Split", "image sizes", "x y", axis=3), node("Neg", "y", "z")], {"sizes": np.array([8, 8])}, outputs=["z"]
    )
    assert read(made, SHAPE).behind("image") == {"image", "x", "y", "z"}


@pytest.mark.parametrize(
    ("name", "wanted", "expected"),
    [
        ("e", ["f"], ["e"]),
        ("a", ["f"], ["a"]),  # both arms begin behind it
        ("image", ["f"], ["image"]),
        ("b", ["f"], ["b", "d"]),  # d is the arm around b; the constant goes without saying
        ("c", ["e", "f"], ["c", "d"]),
        ("d", ["f"], ["d", "c"]),
        ("b", ["c"], ["b"]),  # nothing joins before c
        ("b", ["b"], ["b"]),
        ("e", ["f", "b"], ["e", "b"]),  # what is wanted and lies elsewhere has to be given, too
        ("b", ["f", "d"], ["b", "d"]),
    ],
)
def test_the_frontier_is_the_tensor_and_what_by_passes_it(graph, name, wanted, expected):
    assert list(graph.frontier(name, wanted)) == expected
    # From there on nothing needs the picture.
    assert "image" not in {i for n in graph.needed(wanted, expected) for i in n.inputs} - set(expected)


def test_from_input_holds_what_depends_on_the_picture_and_nothing_else(graph):
    assert graph.from_input == {"image", *"abcdef"}


def test_producer(graph):
    assert graph.producer("e").op == "Sum"
    assert graph.producer("e").inputs == ("c", "d", "fixed")
    assert graph.producer("image") is None
    assert graph.producer("k") is None


def test_shapes_are_inferred_for_one_picture_also_where_the_batch_is_free():
    shapes = read(nets.tiny(), SHAPE).shapes
    assert shapes["image"] == (1, 3, 12, 16)
    assert shapes["conv1"] == (1, 5, 12, 16)
    assert shapes["pool1"] == (1, 5, 6, 8)
    assert shapes["conv2"] == (1, 6, 4, 6)
    assert shapes["mean"] == (1, 6)
    assert shapes["logits"] == (1, 4)


def test_a_shape_that_is_computed_on_the_way_is_followed():
    """Older exporters read the batch size off the tensor, and reshape to what they compute from it."""
    made = nets.model(
        [
            node("Shape", "image", "shape"),
            node("Gather", "shape zero", "count", axis=0),
            node("Unsqueeze", "count axis", "counts"),
            node("Concat", "counts rest", "target", axis=0),
            node("Reshape", "image target", "flat"),
            node("Relu", "flat", "out"),
        ],
        {"zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])},
    )
    found = read(made, SHAPE)
    assert found.shapes["out"] == (1, 3 * 12 * 16)
    assert "flat" in found.floats
    assert "shape" not in found.floats


def test_attributes_are_plain_python():
    made = nets.model(
        [
            node("Constant", "", "k", value=numpy_helper.from_array(np.array([2.0, 3.0], np.float32))),
            node("AveragePool", "image", "p", kernel_shape=[2, 3], auto_pad="SAME_UPPER", count_include_pad=1),
            node("LeakyRelu", "p", "out", alpha=0.25),
        ]
    )
    constant, pool, leaky = read(made, SHAPE).nodes
    assert np.array_equal(constant.attributes["value"], [2, 3])
    assert pool.attributes == {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "count_include_pad": 1}
    assert type(pool.attributes["kernel_shape"]) is list
    assert leaky.attributes == {"alpha": 0.25}


def test_a_constant_node_is_a_constant():
    """Some exporters put weights into Constant nodes: they are found like any other."""
    weight = np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3)
    made = nets.model(
        [node("Constant", "", "w", value=numpy_helper.from_array(weight)), node("Conv", "image w", "out")]
    )
    found = read(made, SHAPE)
    assert np.array_equal(found.constants["w"], weight)
    assert found.shapes["out"] == (1, 2, 10, 14)


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_each_node_has_the_version_of_its_operator_set(domain):
    made = nets.tiny()
    del made.opset_import[:]
    made.opset_import.extend([helper.make_opsetid(domain, 17), helper.make_opsetid("other", 3)])
    made.graph.node.append(helper.make_node("Special", ["logits"], ["more"], domain="other", name="last"))
    nodes = read(made, SHAPE).nodes
    assert {n.version for n in nodes[:-1]} == {17}
    assert nodes[-1].version == 3
    assert nodes[-1].name == "last"


def test_weights_that_are_also_listed_as_inputs_are_constants():
    made = nets.tiny()
    made.graph.input.insert(0, helper.make_tensor_value_info("w1", 1, (5, 3, 3, 3)))
    found = read(made, SHAPE)
    assert found.input == "image"
    assert "w1" in found.constants
    assert "w1" not in found.from_input


def test_the_skeleton_leaves_the_model_alone_and_the_large_weights_behind():
    made = nets.tiny()
    before = made.SerializeToString()
    bones = skeleton(made, SHAPE)
    assert made.SerializeToString() == before
    assert {t.name for t in bones.graph.initializer} == {"b1", "b2", "w3", "b3"}  # 64 numbers at most
    assert [d.dim_value for d in bones.graph.input[-1].type.tensor_type.shape.dim] == list(SHAPE)


@pytest.mark.parametrize("size", [(20, 21), (21, 22), (22, 23), (23, 24)])
@pytest.mark.parametrize(
    ("kernel", "strides", "pads"),
    [
        ([2, 2], [2, 2], [0, 0, 1, 1]),  # on an even side the last window would be padding alone
        ([3, 3], [2, 2], [1, 1, 1, 1]),
        ([3, 2], [2, 3], [1, 0, 1, 1]),
        ([2, 2], [3, 3], [0, 0, 0, 0]),
    ],
)
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_pools_that_round_up_have_the_shape_that_onnx_runtime_gives_them(op, kernel, strides, pads, size, tmp_path):
    nodes = [
        node(op, "image", "pool", kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=1),
        node("Relu", "pool", "relu"),
        node("GlobalAveragePool", "relu", "mean"),
        node("Flatten", "mean", "flat"),
        node("Gemm", "flat w", "logits"),
    ]
    about = nets.Metadata(labels=nets.LABELS, input_size=size, mean=nets.MEAN, std=nets.STD)
    made = nets.model(nodes, {"w": np.ones((3, 4), np.float32)}, shape=("batch", 3, *size), about=about)
    net = nets.save(made, tmp_path / "net.onnx")
    found = net.activations(np.zeros((1, 3, *size), np.float32), ["pool", "relu"])
    assert {name: net.graph.shapes[name] for name in found} == {name: array.shape for name, array in found.items()}

"""Are the axes followed right: where maps stay maps, and where four axes are something else?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
from small_nets import node

from engine.model import graph as graphs
from engine.model.layout import layouts

F = np.float32


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        ([node("Relu", "image", "out")], {}, "BCHW"),
        ([node("Transpose", "image", "out", perm=[0, 2, 3, 1])], {}, "BHWC"),
        (
            [node("Transpose", "image", "t", perm=[0, 2, 3, 1]), node("MatMul", "t w", "out")],
            {"w": F([[1], [2], [3]])},
            "BHWC",
        ),
        (
            [node("Transpose", "image", "t", perm=[0, 2, 3, 1]), node("Transpose", "t", "out", perm=[0, 3, 1, 2])],
            {},
            "BCHW",
        ),
        ([node("MatMul", "image w", "out")], {"w": np.ones((16, 5), F)}, None),  # a sum over columns
        ([node("Reshape", "image s", "out")], {"s": np.array([0, 3, 16, 12])}, None),  # rows are no rows any more
        ([node("Reshape", "image s", "out")], {"s": np.array([0, 3, 12, 16])}, "BCHW"),
        (
            [node("Reshape", "image s", "r"), node("MaxPool", "r", "out", kernel_shape=[2, 2])],
            {"s": np.array([0, 1, 36, 16])},
            "BCHW",
        ),
        # What a window of attention has lost, the sum with what it came from gives back.
        (
            [node("Reshape", "image s", "a"), node("Reshape", "a t", "b"), node("Add", "b image", "out")],
            {"s": np.array([0, 9, 64]), "t": np.array([0, 3, 12, 16])},
            "BCHW",
        ),
        ([node("ReduceMean", "image", "m", axes=[2, 3], keepdims=1), node("Mul", "m image", "out")], {}, "BCHW"),
        ([node("Flatten", "image", "out")], {}, "BC"),
        ([node("Concat", "image image", "out", axis=1)], {}, "BCHW"),
    ],
)
def test_axes(nodes, constants, expected):
    graph = graphs.read(nets.model(nodes, constants, opset=17), (1, 3, *nets.SIZE))
    assert layouts(graph).get("out") == expected


def test_what_has_no_row_for_each_picture_is_not_batched():
    nodes = [node("Reshape", "image s", "places"), node("Relu", "image", "out")]
    graph = graphs.read(nets.model(nodes, {"s": np.array([-1, 3, 4, 4])}), (1, 3, *nets.SIZE))
    assert graph.shapes["places"] == (12, 3, 4, 4)
    assert graph.batched == {"image", "out"}
    nodes = [node("Transpose", "image", "swapped", perm=[1, 0, 2, 3]), node("ReduceSum", "image", "all", keepdims=0)]
    graph = graphs.read(nets.model(nodes, shape=("n", 1, *nets.SIZE)), (1, 1, *nets.SIZE))
    assert graph.shapes["swapped"] == (1, 1, *nets.SIZE)
    assert graph.batched == {"image"}, "at one picture and one channel it looks as if it were"


def test_a_stated_batch_size_of_one_counts():
    graph = graphs.read(nets.tiny(shape=(1, 3, *nets.SIZE)), (1, 3, *nets.SIZE))
    assert {"conv1", "logits"} <= graph.batched

"""Is every op the one that ONNX Runtime computes, with the right gradient, and does the Twin do no more than asked?"""

from __future__ import annotations

import copy
import dataclasses
import io
import warnings
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest
import small_nets as nets
import torch
from onnx import numpy_helper
from small_nets import node
from torch import nn

from engine.model import graph as graphs
from engine.model.metadata import Metadata
from engine.net import Net
from engine.ops import packed as kernels
from engine.twin import OPS, NoGradient, Twin

SHAPE = (1, 2, 5, 6)
RNG = np.random.default_rng(3)


@dataclass
class Case:
    """One op on "image". `k` holds further inputs, `inputs` the order, "_" one left out; `how` holds the attributes."""

    op: str
    how: dict = field(default_factory=dict)
    k: dict = field(default_factory=dict)
    inputs: str = ""
    opset: int = 18
    shape: tuple[int, ...] = SHAPE
    outs: str = "out"
    grad: bool = True  # whether the output has a gradient

    def model(self) -> onnx.ModelProto:
        inputs = self.inputs or " ".join(["image", *self.k])
        outputs = [name for name in self.outs.split() if name != "_"]
        return nets.model(
            [node(self.op, inputs, self.outs, **self.how)], self.k, shape=self.shape, opset=self.opset, outputs=outputs
        )

    def __str__(self) -> str:
        how = ",".join(f"{key}={value}" for key, value in self.how.items() if not isinstance(value, onnx.TensorProto))
        k = ",".join(f"{key}{list(v.shape)}" for key, v in self.k.items())
        return f"{self.op}-{self.opset} {how} {k}".replace(" ", "")


def f(*shape: int, low: float | None = None) -> np.ndarray:
    """Random float32; from `low` on where it is given."""
    found = RNG.standard_normal(shape).astype(np.float32)
    return found if low is None else np.abs(found) + np.float32(low)


def i(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def scalar(value, kind=np.float32) -> np.ndarray:
    return np.array(value, kind)


def by(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def linear(mode: str) -> dict:
    return {"mode": "linear", "coordinate_transformation_mode": mode}


def nearest(mode: str) -> dict:
    return {"mode": "nearest", "coordinate_transformation_mode": mode}


def ceiling(*, pads=(1, 1, 1, 1), **how) -> dict:
    return {"kernel_shape": [3, 3], "strides": [2, 2], "pads": list(pads), "ceil_mode": 1, **how}


C = Case
# The last window would begin in the padding at the end: there is none.
PAST_THE_END = {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [0, 0, 1, 1], "ceil_mode": 1}
BN = {"s": f(2), "b": f(2), "m": f(2), "v": f(2, low=0.5)}
EASY = ["Abs", "Elu", "Erf", "Exp", "Floor", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish",
        "Identity", "LeakyRelu", "Neg", "Relu", "Sigmoid", "Tanh", "Flatten", "Transpose", "Dropout"]  # fmt: skip
BY, TO = "image _ scales", "image _ _ sizes"  # a Resize's inputs
LINEAR = {"mode": "linear"}
X2 = by(1, 1, 2, 2)
RESIZE = {**nearest("asymmetric"), "nearest_mode": "floor"}

CASES = [
    *(C(op) for op in EASY),
    C("Relu", opset=7),
    C("Log", shape=(1, 2, 5, 6), inputs="square"),
    C("Sqrt", inputs="square"),
    C("Elu", {"alpha": 0.3}),
    C("LeakyRelu", {"alpha": 0.2}),
    C("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    C("Gelu", opset=20),
    C("Gelu", {"approximate": "tanh"}, opset=20),
    C("PRelu", k={"slope": f(2, 1, 1)}),
    C("PRelu", k={"slope": f(1)}),
    C("Dropout", {"ratio": 0.9}, opset=11),
    C("Dropout", k={"ratio": scalar(0.9), "train": scalar(False, np.bool_)}),
    # Convolution
    C("Conv", k={"w": f(4, 2, 3, 3)}),
    C("Conv", {"pads": [1, 0, 1, 0]}, {"w": f(4, 2, 3, 2), "b": f(4)}),
    C("Conv", {"pads": [0, 1, 2, 0], "strides": [2, 1]}, {"w": f(3, 2, 2, 3), "b": f(3)}),
    C("Conv", {"dilations": [2, 1], "pads": [2, 1, 2, 1]}, {"w": f(3, 2, 3, 3)}),
    C("Conv", {"group": 2}, {"w": f(4, 1, 3, 3), "b": f(4)}),
    C("Conv", {"group": 2, "pads": [0, 0, 1, 1], "strides": [2, 2]}, {"w": f(2, 1, 2, 2)}),
    C("Conv", {"auto_pad": "SAME_UPPER"}, {"w": f(3, 2, 2, 4)}),
    C("Conv", {"auto_pad": "SAME_LOWER"}, {"w": f(3, 2, 2, 4)}),
    C("Conv", {"auto_pad": "SAME_UPPER", "strides": [2, 3]}, {"w": f(3, 2, 3, 2)}),
    C("Conv", {"auto_pad": "SAME_LOWER", "strides": [3, 2]}, {"w": f(3, 2, 3, 3)}),
    C("Conv", {"auto_pad": "VALID", "kernel_shape": [3, 3]}, {"w": f(3, 2, 3, 3)}, opset=7),
    C("ConvTranspose", k={"w": f(2, 3, 3, 3)}),
    C("ConvTranspose", {"strides": [2, 3], "pads": [1, 0, 1, 0]}, {"w": f(2, 3, 3, 4), "b": f(3)}),
    C("ConvTranspose", {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]}, {"w": f(2, 3, 3, 3)}),
    C("ConvTranspose", {"group": 2, "dilations": [1, 2]}, {"w": f(2, 2, 3, 2)}),
    # Pooling
    C("MaxPool", {"kernel_shape": [2, 3]}),
    C("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, opset=7),
    C("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    C("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 3], "ceil_mode": 1}, shape=(1, 2, 6, 8)),
    C("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    C("MaxPool", {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "strides": [1, 2]}),
    C("MaxPool", {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2]}),
    C("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 3]}),
    C("MaxPool", {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    C("MaxPool", {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"}),
    C("MaxPool", {"kernel_shape": [2, 2], "auto_pad": "VALID", "strides": [2, 2]}),
    C("AveragePool", {"kernel_shape": [2, 3]}),
    C("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    C("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "count_include_pad": 1}),
    C("AveragePool", {"kernel_shape": [3, 2], "pads": [0, 1, 1, 0]}),
    C("AveragePool", {"kernel_shape": [3, 2], "pads": [0, 1, 1, 0], "count_include_pad": 1}),
    C("AveragePool", {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2]}),
    C("AveragePool", {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2], "count_include_pad": 1}),
    C("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, opset=10),
    C("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, opset=19),
    C("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1, "count_include_pad": 1}, opset=19),
    C("AveragePool", ceiling(), opset=19, shape=(1, 2, 6, 8)),
    *(C(op, PAST_THE_END, opset=19, shape=(1, 2, 6, 9)) for op in ("MaxPool", "AveragePool", "LpPool")),
    C("AveragePool", ceiling(count_include_pad=1), opset=19, shape=(1, 2, 6, 8)),
    C("AveragePool", ceiling(pads=(0, 0, 1, 1)), opset=19, shape=(1, 2, 6, 8)),
    C("AveragePool", {"kernel_shape": [2, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    C("AveragePool", {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER"}, opset=7),
    C("AveragePool", {"kernel_shape": [2, 3], "auto_pad": "SAME_LOWER", "count_include_pad": 1}, opset=7),
    # Normalisation
    C("BatchNormalization", k=BN),
    C("BatchNormalization", {"epsilon": 0.1}, BN, opset=9),
    C("BatchNormalization", {"momentum": 0.5}, BN, opset=7),
    C("InstanceNormalization", {"epsilon": 0.01}, {"s": f(2), "b": f(2)}),
    C("LayerNormalization", k={"s": f(6), "b": f(6)}),
    C("LayerNormalization", {"axis": 1, "epsilon": 0.01}, {"s": f(2, 5, 6)}),
    C("LayerNormalization", {"axis": -2}, {"s": f(5, 6), "b": f(5, 6)}),
    C("LRN", {"size": 3}, shape=(1, 6, 3, 4)),
    C("LRN", {"size": 5, "alpha": 0.5}, shape=(1, 3, 3, 4)),
    *(C(op, {"axis": axis}, opset=12) for op in ("Softmax", "LogSoftmax") for axis in (0, 1, 2, 3)),
    *(C(op, {"axis": axis}, opset=13) for op in ("Softmax", "LogSoftmax") for axis in (0, 1, 2, 3)),
    *(C(op, opset=opset) for op in ("Softmax", "LogSoftmax") for opset in (7, 12, 13)),
    C("Softmax", {"axis": -2}, opset=11),
    C("Softmax", {"axis": -3}),
    # Shapes
    C("Reshape", k={"to": i(1, -1)}),
    C("Reshape", k={"to": i(0, 0, -1)}),
    C("Reshape", k={"to": i(-1, 2, 0)}, shape=(2, 2, 5, 6)),
    C("Reshape", k={"to": i(0, 1, 10, 6)}, opset=7),
    C("Flatten", {"axis": 0}),
    C("Flatten", {"axis": 2}),
    C("Flatten", {"axis": -1}, opset=11),
    C("Flatten", {"axis": 4}),
    C("Flatten", shape=(3, 2, 5, 6)),
    C("Transpose", {"perm": [0, 2, 3, 1]}),
    C("Squeeze", {"axes": [0]}, opset=11),
    C("Squeeze", {"axes": [0, 2]}, opset=7, shape=(1, 2, 1, 6)),
    C("Squeeze", k={"axes": i(-4, 2)}, shape=(1, 2, 1, 6)),
    C("Squeeze", shape=(1, 2, 1, 6)),
    C("Unsqueeze", {"axes": [0, 3]}, opset=11),
    C("Unsqueeze", k={"axes": i(4)}),
    C("Unsqueeze", k={"axes": i(-1, 1)}),
    C("Unsqueeze", k={"axes": i(3, 0)}),
    C("Split", {"axis": 3, "split": [1, 3, 2]}, outs="a b c", opset=11),
    C("Split", {"axis": 3}, {"sizes": i(2, 4)}, outs="a b", opset=13),
    C("Split", {"axis": 2, "num_outputs": 3}, outs="a b c"),
    C("Slice", {"starts": [1, 0], "ends": [4, -1], "axes": [2, 3]}, opset=7),
    C("Slice", {"starts": [0, 1], "ends": [1, 2]}, opset=9),
    C("Slice", {"starts": [-3], "ends": [1000], "axes": [3]}, opset=7),
    C("Slice", k={"s": i(1, -4), "e": i(100, -1), "a": i(2, 3)}, opset=10),
    C("Slice", k={"s": i(0, 1), "e": i(5, 6), "a": i(-2, -1), "k": i(2, 3)}, opset=11),
    C("Slice", k={"s": i(-1), "e": i(-100), "a": i(2), "k": i(-1)}),
    C("Slice", k={"s": i(4, 100), "e": i(0, -(2**63)), "a": i(2, 3), "k": i(-2, -3)}),
    C("Slice", k={"s": i(3), "e": i(-5), "a": i(2), "k": i(-1)}),
    C("Slice", k={"s": i(0, 1), "e": i(1, 2)}),
    C("Slice", inputs="image s e _ k", k={"s": i(0, 0, 1, 1), "e": i(1, 2, 5, 6), "k": i(1, 1, 2, 2)}),
    C("Pad", {"pads": [0, 0, 1, 2, 0, 0, 0, 3]}, opset=7),
    C("Pad", {"pads": [0, 1, 0, 0, 0, 2, 0, 0], "value": -1.5}, opset=10),
    C("Pad", {"pads": [0, 0, 1, 2, 0, 0, 3, 1], "mode": "reflect"}, opset=7),
    C("Pad", {"pads": [0, 0, 1, 2, 0, 0, 3, 1], "mode": "edge"}, opset=7),
    C("Pad", k={"p": i(0, 0, 1, 2, 0, 0, 0, 3), "v": scalar(0.75)}),
    C("Pad", k={"p": i(0, 0, -1, 2, 0, 0, 0, -3)}),
    C("Pad", {"mode": "reflect"}, {"p": i(0, 0, 1, 2, 0, 0, 3, 1)}),
    C("Pad", {"mode": "edge"}, {"p": i(0, 0, 1, 2, 0, 0, 3, 1)}),
    C("Pad", {"mode": "wrap"}, {"p": i(0, 0, 1, 2, 0, 0, 3, 1)}, opset=19),
    C("Pad", k={"p": i(1, 2, 3, 0), "a": i(3, -2)}, inputs="image p _ a"),
    C("Gather", {"axis": 1}, {"at": i(1, 0, 1)}),
    C("Gather", {"axis": -1}, {"at": np.array([[0, -1], [2, -6]])}),
    C("Gather", {"axis": 2}, {"at": scalar(-2, np.int64)}),
    C("Gather", k={"at": i(0)}, opset=7),
    C("Concat", {"axis": 1}, {"k": f(1, 3, 5, 6)}),
    C("Concat", {"axis": -1}, inputs="image k image", k={"k": f(1, 2, 5, 2)}),
    C("DepthToSpace", {"blocksize": 2}, shape=(2, 8, 3, 5)),
    C("DepthToSpace", {"blocksize": 2, "mode": "DCR"}, shape=(1, 4, 3, 5), opset=11),
    C("DepthToSpace", {"blocksize": 3, "mode": "CRD"}, shape=(1, 18, 2, 3)),
    C("SpaceToDepth", {"blocksize": 2}, shape=(2, 3, 4, 6)),
    C("Expand", k={"to": i(3, 1, 5, 6)}, shape=(1, 2, 5, 6)),
    C("Expand", k={"to": i(4, 1, 2, 5, 7)}, shape=(1, 2, 5, 1)),
    C("Shape", grad=False),
    C("Shape", {"start": 1, "end": -1}, grad=False),
    C("Shape", {"start": -2}, grad=False),
    # Scaling
    C("Resize", RESIZE, {"scales": X2}, inputs=BY),
    C("Resize", RESIZE, {"scales": by(1, 1, 3, 2)}, inputs=BY),
    C("Resize", RESIZE, {"sizes": i(1, 2, 15, 12)}, inputs=TO),
    C("Resize", {"mode": "nearest"}, {"scales": by(1, 1, 2, 3)}, inputs=BY),
    C("Resize", {"mode": "nearest"}, {"roi": f(0), "scales": X2}, opset=11),
    C("Resize", LINEAR, {"scales": X2}, inputs=BY),
    C("Resize", LINEAR, {"sizes": i(1, 2, 7, 4)}, inputs=TO),
    C("Resize", linear("pytorch_half_pixel"), {"sizes": i(1, 2, 7, 11)}, inputs=TO),
    C("Resize", linear("align_corners"), {"sizes": i(1, 2, 7, 11)}, inputs=TO),
    C("Resize", k={"scales": X2}, opset=10),
    # Rare forms
    C("Resize", nearest("asymmetric"), {"scales": by(1, 1, 3, 2)}, inputs=BY),
    C("Resize", {"mode": "nearest", "nearest_mode": "floor"}, {"scales": X2}, inputs=BY),
    C("Resize", {"mode": "nearest", "nearest_mode": "ceil"}, {"scales": X2}, inputs=BY),
    C("Resize", {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}, {"scales": X2}, inputs=BY),
    C("Resize", nearest("align_corners"), {"scales": X2}, inputs=BY),
    C("Resize", {"mode": "nearest"}, {"scales": by(1, 1, 0.5, 0.5)}, inputs=BY),
    C("Resize", {"mode": "nearest"}, {"scales": by(1, 2, 1, 1)}, inputs=BY),
    C("Resize", {"mode": "nearest"}, {"scales": by(1, 1, 1.3, 1.7)}, inputs=BY),
    C("Resize", linear("asymmetric"), {"scales": X2}, inputs=BY),
    C("Resize", LINEAR, {"scales": by(1, 1, 1.5, 1.3)}, inputs=BY),
    C("Resize", LINEAR, {"scales": by(1, 1, 0.7, 0.4)}, inputs=BY),
    C("Resize", LINEAR, {"sizes": i(1, 2, 1, 6)}, inputs=TO),
    C("Resize", linear("pytorch_half_pixel"), {"sizes": i(1, 2, 1, 6)}, inputs=TO),
    C("Resize", {**LINEAR, "antialias": 1}, {"sizes": i(1, 2, 3, 3)}, inputs=TO),
    C("Resize", {**LINEAR, "axes": [2, 3]}, {"sizes": i(10, 12)}, inputs=TO),
    C("Resize", {**LINEAR, "axes": [3, 2]}, {"scales": by(3, 2)}, inputs=BY),
    C("Resize", {**LINEAR, "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, {"sizes": i(10, 10)}, inputs=TO),
    C("Resize", {"mode": "cubic"}, {"sizes": i(1, 2, 10, 12)}, inputs=TO),
    C("Resize", linear("half_pixel_symmetric"), {"scales": by(1, 1, 1.5, 1.3)}, inputs=BY, opset=19),
    C("Resize", {"mode": "linear"}, {"scales": X2}, opset=10),
    C("Upsample", {"mode": "linear"}, {"scales": X2}, opset=9),
    C("Pad", {"mode": "reflect"}, {"p": i(0, 1, 0, 0, 0, 0, 0, 0)}),
    C("Pad", {"mode": "edge"}, {"p": i(0, 0, 1, 0, 0, 0, 0, 0)}, shape=(1, 3, 4, 5)),
    C("Pad", {"mode": "edge"}, {"p": i(1, 1, 2, 0)}, shape=(4, 5)),
    C("Conv", {"pads": [1, 1]}, {"w": f(3, 2, 3)}, shape=(1, 2, 9)),
    C("ConvTranspose", {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, {"w": f(2, 3, 3, 3)}),
    C("ConvTranspose", {"pads": [0, 1, 1, 0]}, {"w": f(2, 3, 3, 3)}),
    C("ConvTranspose", {"output_shape": [11, 13], "strides": [2, 2]}, {"w": f(2, 3, 3, 3)}),
    C("AveragePool", {"kernel_shape": [2, 2], "dilations": [2, 2]}, opset=19),
    C("AveragePool", {"kernel_shape": [3]}, shape=(1, 2, 9)),
    C("MaxPool", {"kernel_shape": [3]}, shape=(1, 2, 9)),
    C("MaxPool", ceiling(pads=(0, 0, 1, 1)), shape=(1, 2, 6, 8)),
    C("Split", {"axis": 3}, outs="a b", opset=11),
    C("Split", {"axis": 3}, outs="a b c", opset=13),
    C("LayerNormalization", k={"s": f(1), "b": f(1)}),
    C("InstanceNormalization", k={"s": f(2), "b": f(2)}, shape=(1, 2, 9)),
    C("ReduceMin", k={"axes": i(2)}),
    C("GlobalLpPool", {"p": 3}),
    C("Upsample", {"mode": "nearest"}, {"scales": X2}, opset=9),
    C("Upsample", {"mode": "nearest", "scales": [1.0, 1.0, 3.0, 2.0]}, opset=7),
    # Arithmetic
    *(C(op, k={"k": f(1, 2, 1, 1)}) for op in ("Add", "Sub", "Mul", "Div")),
    *(C(op, k={"k": f(6)}, opset=7) for op in ("Add", "Sub", "Mul", "Div")),
    C("Sub", inputs="k image", k={"k": f(1)}),
    C("Div", inputs="k image", k={"k": scalar(2.0)}),
    C("Sum", inputs="image"),
    C("Sum", inputs="image k image", k={"k": f(1, 1, 5, 1)}),
    C("Pow", k={"k": scalar(2.0)}),
    C("Pow", k={"k": scalar(3, np.int64)}),
    C("Pow", inputs="square k", k={"k": scalar(0.5)}),
    C("Clip", {"min": -0.3, "max": 0.6}, opset=7),
    C("Clip", {"max": 0.2}, opset=10),
    C("Clip", opset=10),
    C("Clip", k={"low": scalar(-0.3), "high": scalar(0.6)}, opset=11),
    C("Clip", k={"low": scalar(0.1)}),
    C("Clip", inputs="image _ high", k={"high": scalar(0.1)}),
    C("Clip"),
    *(C(op, {"axes": [2, 3], "keepdims": 0}, opset=12) for op in ("ReduceMean", "ReduceMax", "ReduceSum")),
    *(C(op, {"axes": [-1]}, opset=11) for op in ("ReduceMean", "ReduceMax", "ReduceSum")),
    *(C(op, {"keepdims": 0}, opset=11) for op in ("ReduceMean", "ReduceMax", "ReduceSum")),
    *(C(op, k={"axes": i(-1, 2)}) for op in ("ReduceMean", "ReduceMax", "ReduceSum")),
    *(C(op, {"noop_with_empty_axes": 1}) for op in ("ReduceMean", "ReduceMax", "ReduceSum")),
    C("ReduceSum", {"keepdims": 0}, {"axes": i(1)}, opset=13),
    C("ReduceMean", k={"axes": i()}),
    C("Gemm", k={"b": f(6, 4)}, shape=(5, 6)),
    C("Gemm", {"alpha": 0.5, "beta": 2.0}, {"b": f(6, 4), "c": f(4)}, shape=(5, 6)),
    C("Gemm", {"transA": 1, "transB": 1, "alpha": 2.0}, {"b": f(4, 5), "c": f(6, 1)}, shape=(5, 6)),
    C("Gemm", {"transB": 1, "beta": 0.5}, {"b": f(4, 6), "c": scalar(3.0)}, shape=(5, 6), opset=7),
    C("MatMul", k={"b": f(6, 4)}),
    C("MatMul", inputs="b image", k={"b": f(2, 3, 5)}),
    C("MatMul", k={"b": f(6)}),
    C("Where", inputs="c image k", k={"c": np.array([True, False] * 3), "k": f(5, 1)}),
    C("Where", inputs="c k image", k={"c": np.array([[True], [False]])[:, None], "k": scalar(0.5)}),
    C("Cast", {"to": 1}),
    *(C("Cast", {"to": to}, grad=False) for to in (2, 3, 5, 6, 7, 9)),
    C("Cast", {"to": 11}),
]  # fmt: skip


def with_square(made: onnx.ModelProto) -> onnx.ModelProto:
    """ "square" stands for image * image + 0.1: for ops that take positive numbers."""
    if any("square" in n.input for n in made.graph.node):
        more = [node("Mul", "image image", "sq"), node("Add", "sq tenth", "square")]
        nodes = [*more, *made.graph.node]
        del made.graph.node[:]
        made.graph.node.extend(nodes)
        made.graph.initializer.append(numpy_helper.from_array(scalar(0.1), "tenth"))
    return made


def both(made: onnx.ModelProto, x: np.ndarray) -> tuple[dict, dict]:
    """(ONNX Runtime's, the Twin's) outputs for the input x, which neither normalises."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, ["CPUExecutionProvider"])
    names = [value.name for value in made.graph.output]
    theirs = dict(zip(names, session.run(names, {"image": x}), strict=True))
    ours = twin_of(made, x.shape)(None, names, start={"image": torch.from_numpy(x)})
    return theirs, {name: tensor.numpy() for name, tensor in ours.items()}


def twin_of(made: onnx.ModelProto, shape, kind=np.float32) -> Twin:
    graph = graphs.read(made, tuple(shape))
    constants = {n: v.astype(kind) if v.dtype == np.float32 else v for n, v in graph.constants.items()}
    return Twin(dataclasses.replace(graph, constants=constants), [0.0], [1.0])


def given(shape) -> np.ndarray:
    return np.random.default_rng(11).standard_normal(shape).astype(np.float32)


def compare(theirs: dict, ours: dict) -> None:
    for name, a in theirs.items():
        assert ours[name].shape == a.shape, name
        assert ours[name].dtype == a.dtype, name
        np.testing.assert_allclose(ours[name], a, rtol=1e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_op_is_the_one_that_onnx_runtime_computes(case):
    compare(*both(with_square(case.model()), given(case.shape)))


@pytest.mark.parametrize("case", [c for c in CASES if c.grad and c.op != "Cast"], ids=str)
def test_its_gradient_is_that_of_its_values(case):
    """Against differences of the Twin's own values, in double precision."""
    twin = twin_of(with_square(case.model()), case.shape, np.float64)
    names = [name for name in case.outs.split() if name != "_"]
    x = torch.from_numpy(given(case.shape)).double().requires_grad_()
    function = lambda value: tuple(twin(None, names, start={"image": value}).values())  # noqa: E731
    assert all(out.requires_grad for out in function(x)) or case.op == "Floor"
    assert torch.autograd.gradcheck(function, x, fast_mode=True)


def test_both_random_and_fixed_numbers_differ_between_channels():
    """The table's weights are no accident of equal numbers, which would hide a mixed-up axis."""
    assert len(np.unique(given(SHAPE))) == np.prod(SHAPE)


@pytest.mark.parametrize(
    "how",
    [
        {"value": numpy_helper.from_array(np.array([[1.5, 2], [3, 4]], np.float32))},
        {"value_float": 2.5},
        {"value_floats": [0.5, 1.5]},
    ],
    ids=lambda how: next(iter(how)),
)
def test_constants(how):
    compare(
        *both(
            nets.model([node("Constant", "", "k", **how), node("Mul", "image k", "out")], shape=(2, 2)), given((2, 2))
        )
    )


@pytest.mark.parametrize("how", [{"value_int": 3}, {"value_ints": [3, 2]}], ids=lambda how: next(iter(how)))
def test_whole_number_constants(how):
    nodes = [node("Constant", "", "k", **how), node("Cast", "k", "f", to=1), node("Mul", "image f", "out")]
    compare(*both(nets.model(nodes, shape=(2, 2)), given((2, 2))))


@pytest.mark.parametrize("value", [None, np.array([2.5], np.float32), np.array([2], np.int64)], ids=str)
def test_constant_of_shape(value):
    how = {} if value is None else {"value": numpy_helper.from_array(value)}
    nodes = [node("Shape", "image", "s"), node("ConstantOfShape", "s", "k", **how), node("Cast", "k", "f", to=1)]
    made = nets.model([*nodes, node("Add", "image f", "out")], outputs=["k", "out"])
    compare(*both(made, given((1, 3, 12, 16))))


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
def test_local_response_normalisation_is_that_of_the_formula(size):
    """ONNX Runtime refuses even sizes, which Caffe's networks do not have, but the specification does."""
    how = {"size": size, "alpha": 0.9, "beta": 0.6, "bias": 1.5}
    x = given((1, 6, 3, 4)).astype(np.float64)
    expected = np.empty_like(x)
    for c in range(6):
        near = x[:, max(0, c - (size - 1) // 2) : min(5, c + -(-(size - 1) // 2)) + 1]
        expected[:, c] = x[:, c] / (1.5 + 0.9 / size * (near**2).sum(1)) ** 0.6
    np.testing.assert_allclose(OPS["LRN"](torch.from_numpy(x), **how).numpy(), expected, rtol=1e-12)


def test_half_precision_is_computed_in_single():
    nodes = [
        node("Cast", "image", "half", to=10),
        node("Mul", "half half", "square"),
        node("Cast", "square", "out", to=1),
    ]
    theirs, ours = both(nets.model(nodes, {}, shape=SHAPE), given(SHAPE))
    np.testing.assert_allclose(ours["out"], theirs["out"], rtol=3e-3, atol=1e-5)
    np.testing.assert_allclose(ours["out"], given(SHAPE) ** 2, rtol=1e-6)


def test_whole_numbers_divide_as_onnx_says():
    nodes = [node("Shape", "image", "s"), node("Sub", "s k", "d"), node("Div", "d two", "out")]
    made = nets.model(nodes, {"k": i(0, 6, 0, 0), "two": i(2)})
    theirs, ours = both(made, given((1, 3, 12, 16)))
    assert theirs["out"].tolist() == [0, -1, 6, 8]  # -3 / 2 is -1: towards zero
    compare(theirs, ours)


# Forms that may be refused, but never computed wrongly --------------------------------------------------------------

ODD = [
    C("Cast", {"to": 12}),
    C("Cast", {"to": 4}),
]  # fmt: skip


@pytest.mark.parametrize("case", ODD, ids=str)
def test_a_rare_form_is_right_or_refused(case):
    made = with_square(case.model())
    try:
        theirs, ours = both(made, given(case.shape))
    except NoGradient:
        return
    compare(theirs, ours)


# The interpreter ----------------------------------------------------------------------------------------------------


def pixels(*seeds: int) -> torch.Tensor:
    return torch.from_numpy(np.stack([nets.picture(seed=seed).transpose(2, 0, 1) for seed in seeds or (0,)]))


def test_every_tensor_of_tiny_is_the_one_worked_out_by_hand(tiny):
    expected = nets.tiny_forward(nets.picture())
    for name, value in tiny.twin(pixels(), expected).items():
        np.testing.assert_allclose(value[0].numpy(), value_like := expected[name], atol=1e-5, err_msg=name)
        assert value[0].shape == value_like.shape


def test_the_gradient_of_tiny_is_that_of_the_numpy_version(tiny):
    x = pixels().requires_grad_()
    tiny.twin(x, ["logits"])["logits"][0, 1].backward()
    image = nets.picture().astype(np.float64)
    for row, col, channel in [(0, 0, 0), (11, 15, 2), (5, 7, 1), (3, 12, 0)]:
        near = np.zeros_like(image)
        near[row, col, channel] = 1e-6
        after, before = (nets.tiny_forward(image + sign * near)["logits"][1] for sign in (1, -1))
        assert x.grad[0, channel, row, col] == pytest.approx((after - before) / 2e-6, rel=1e-3, abs=1e-6)


def counting(calls):
    """The table of ops with each function noting that it was called."""
    noted = lambda op, function: lambda *a, **k: calls.append(op) or function(*a, **k)  # noqa: E731
    return {op: noted(op, function) for op, function in OPS.items()}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["conv1"], ["Conv"]),
        (["pool1"], ["Conv", "Relu", "MaxPool"]),
        (["pool1", "conv1"], ["Conv", "Relu", "MaxPool"]),
        (["logits"], ["Conv", "Relu", "MaxPool", "Conv", "ReduceMean", "Gemm"]),
        (["image"], []),
        (["w1"], []),
    ],
)
def test_nothing_is_computed_that_is_not_needed(tiny, names, expected):
    calls = []
    found = tiny.twin(pixels(), names, ops=counting(calls))
    assert calls == expected
    assert list(found) == names


def test_the_input_tensor_is_the_normalised_picture(tiny):
    found = tiny.twin(pixels(), ["image"])["image"][0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, (nets.picture() - nets.MEAN) / nets.STD, atol=1e-5)


@pytest.mark.parametrize("name", ["conv1", "relu1", "pool1", "conv2", "mean"])
def test_starting_in_the_middle_gives_the_same(tiny, name):
    whole = tiny.twin(pixels(1), [name, "logits"])
    calls = []
    again = tiny.twin(None, ["logits"], start={name: whole[name]}, ops=counting(calls))["logits"]
    torch.testing.assert_close(again, whole["logits"], rtol=1e-5, atol=1e-6)  # `ops` calls the unpacked convolution
    names = ["conv1", "relu1", "pool1", "conv2", "mean", "logits"]
    assert len(calls) == len(names) - names.index(name) - 1


def test_what_is_started_from_is_believed_over_the_picture(tiny):
    zero = torch.zeros(1, 6, 4, 6)
    found = tiny.twin(pixels(), ["logits", "conv2"], start={"conv2": zero})
    np.testing.assert_allclose(found["logits"][0].numpy(), nets.tiny_weights()["b3"], atol=1e-6)
    assert found["conv2"] is zero


def test_the_gradient_at_a_layer_is_that_of_the_head_alone(tiny):
    start = tiny.twin(pixels(), ["conv2"])["conv2"].detach().requires_grad_()
    tiny.twin(None, ["logits"], start={"conv2": start})["logits"][0, 2].backward()
    expected = np.broadcast_to(nets.tiny_weights()["w3"][2][:, None, None] / 24, (6, 4, 6))
    np.testing.assert_allclose(start.grad[0].numpy(), expected, rtol=1e-5)


def test_another_rule_for_an_op_holds_for_one_call(tiny):
    before, table = tiny.twin(pixels(), ["logits"])["logits"], dict(OPS)
    other = tiny.twin(pixels(), ["conv1", "relu1", "logits"], ops={"Relu": lambda x: x})
    assert torch.equal(other["relu1"], other["conv1"])
    assert not torch.allclose(other["logits"], before)
    assert torch.equal(tiny.twin(pixels(), ["logits"])["logits"], before)
    assert table == OPS


def test_another_rule_replaces_an_op_of_an_old_operator_set_too():
    twin = twin_of(nets.model([node("Softmax", "image", "out", axis=1)], opset=11), (1, 3, 12, 16))
    x = torch.zeros(1, 3, 12, 16)
    assert twin(x, ["out"], ops={"Softmax": lambda x, axis: x + axis})["out"].unique().tolist() == [1]


def test_weights_are_frozen_and_stay_as_they_are(tiny):
    before = {name: tensor.clone() for name, tensor in tiny.twin.constants.items()}
    x = pixels().requires_grad_()
    tiny.twin(x, ["logits"])["logits"].sum().backward()
    for name, tensor in tiny.twin.constants.items():
        assert not tensor.requires_grad
        assert torch.equal(tensor, before[name])


def test_one_twin_serves_all(tiny):
    assert tiny.twin is tiny.twin


def test_pictures_of_a_batch_do_not_meet(tiny):
    together = tiny.twin(pixels(0, 1, 2), ["logits"])["logits"]
    for index in range(3):
        np.testing.assert_allclose(together[index], tiny.twin(pixels(index), ["logits"])["logits"][0], atol=1e-6)


@pytest.mark.usefixtures("no_celu")
def test_an_unknown_op_is_named_with_its_version_and_node(tmp_path):
    """The net itself opens: forward passes need no twin."""
    made = nets.tiny(tail=[node("Celu", "logits", "more")], about=nets.ABOUT)
    net = nets.save(made, tmp_path / "celu.onnx")
    assert [n.op for n in net.twin.missing()] == ["Celu"]
    with pytest.raises(NoGradient, match=r"The op Celu-17 of node 'celu_more' has no twin\."):
        net.twin(pixels(), ["more"])
    assert net.twin(pixels(), ["logits"])["logits"].shape == (1, 4)  # in front of it all is well
    assert net.twin(pixels(), ["more"], ops={"Celu": torch.celu})["more"].shape == (1, 4)
    assert net.scores(net.batch(nets.picture())).shape == (1, 4)


@pytest.mark.usefixtures("no_celu")
def test_a_node_without_a_name_is_called_by_its_output(tmp_path):
    made = nets.tiny(tail=[node("Celu", "logits", "more")], about=nets.ABOUT)
    made.graph.node[-1].name = ""
    with pytest.raises(NoGradient, match="node 'more'"):
        nets.save(made, tmp_path / "celu.onnx").twin(pixels(), ["more"])


def test_an_attribute_that_is_not_known_is_refused(tmp_path):
    made = nets.model([node("Conv", "image w", "out", pads=[1, 1, 1, 1])], {"w": f(2, 3, 3, 3)})
    graph = graphs.read(made, (1, 3, 12, 16))
    (only,) = graph.nodes
    other = dataclasses.replace(only, attributes={**only.attributes, "novelty": 1})
    twin = Twin(dataclasses.replace(graph, nodes=(other,)), [0.0], [1.0])
    with pytest.raises(NoGradient, match=r"Conv-18 of node 'conv_out' has no twin in the form used: .*novelty"):
        twin(pixels(), ["out"])


def test_nothing_is_missing_in_tiny(tiny):
    assert tiny.twin.missing() == []


# Modules as PyTorch's two exporters write them ----------------------------------------------------------------------


class Small(nn.Module):
    """A little of everything that classifiers are made of."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2, padding=2), nn.BatchNorm2d(8), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=4), nn.BatchNorm2d(8), nn.Hardswish())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.pool = nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Sequential(nn.Dropout(), nn.Linear(16, 5))

    def forward(self, x):
        x = self.stem(x)
        y = self.deep(x)
        x = self.pool(torch.cat([x + y * self.gate(y), nn.functional.gelu(y)], 1))
        a, b = x.chunk(2, 1)
        x = torch.cat([self.norm(a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), nn.functional.silu(b)], 1)
        return self.head(torch.flatten(x.mean((2, 3)), 1))


def exported(module: nn.Module, size: tuple[int, int], dynamo: bool, path) -> Net:
    """The module as one of PyTorch's exporters writes it, batch size free, without metadata."""
    file = io.BytesIO()
    names = {"input_names": ["image"], "output_names": ["logits"]}
    free = {"dynamic_shapes": ({0: "batch"},)} if dynamo else {"dynamic_axes": {"image": [0], "logits": [0]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the exporters say of themselves
        if dynamo:
            program = torch.onnx.export(
                module, (torch.zeros(2, 3, *size),), dynamo=True, verbose=False, **free, **names
            )
            path.write_bytes(program.model_proto.SerializeToString())
        else:
            torch.onnx.export(
                module, (torch.zeros(2, 3, *size),), file, dynamo=False, opset_version=17, **free, **names
            )
            path.write_bytes(file.getvalue())
    return Net(path)


def check_against_autograd(module: nn.Module, net: Net, size: tuple[int, int]) -> None:
    """Scores and gradient of the Twin, and the scores of ONNX Runtime, are the module's."""
    image = nets.picture(size)
    x = torch.from_numpy(net.batch(image, image[::-1]))
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (net.metadata.mean, net.metadata.std))
    results = []
    for function in (lambda x: net.twin(x, ["logits"])["logits"], lambda x: module((x - mean) / std)):
        leaf = x.clone().requires_grad_()
        scores = function(leaf)
        (gradient,) = torch.autograd.grad((scores * torch.arange(1, scores.shape[1] + 1)).sum(), leaf)
        results.append((scores.detach(), gradient))
    (ours, our_gradient), (theirs, their_gradient) = results
    assert net.twin.missing() == []
    for a, b in [(ours, theirs), (our_gradient, their_gradient), (torch.from_numpy(net.scores(x.numpy())), theirs)]:
        assert a.shape == b.shape
        assert (a - b).abs().max() < 1e-4 * b.abs().max()
    assert their_gradient.abs().max() > 0


def shaken(module: nn.Module) -> nn.Module:
    """Weights and running statistics that are no special values, so that each is seen in the result."""
    generator = torch.Generator().manual_seed(5)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=generator)
        elif name.endswith("running_mean") or (tensor.ndim == 1 and tensor.is_floating_point()):
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return module.eval()


@pytest.mark.parametrize("dynamo", [True, False])
def test_a_module_and_its_twin_have_the_same_gradient(tmp_path, dynamo):
    torch.manual_seed(0)
    module = shaken(Small())
    net = exported(copy.deepcopy(module), (24, 31), dynamo, tmp_path / "small.onnx")
    check_against_autograd(module, net, (24, 31))


@pytest.mark.thorough
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("name", ["squeezenet", "resnet"])
def test_published_architectures(tmp_path, name, dynamo):
    """torchvision's, with random weights; of the residual network one block per stage, all of whose kinds there are."""
    models = pytest.importorskip("torchvision").models
    torch.manual_seed(0)
    makers = {
        "squeezenet": lambda: models.squeezenet1_1(weights=None, num_classes=12),
        "resnet": lambda: models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], num_classes=12),
    }
    module, size = shaken(makers[name]()), (64, 72)
    check_against_autograd(module, exported(copy.deepcopy(module), size, dynamo, tmp_path / "net.onnx"), size)


@pytest.mark.parametrize("name", ["squeezenet1_1_imagenet", "googlenet_imagenet", "resnet20_cifar10", "mnist_cntk"])
def test_networks_of_others(shared, name):
    """All of the Twin's logits are ONNX Runtime's."""
    net = Net(shared / "nets" / f"{name}.onnx")
    assert net.twin.missing() == []
    x = net.batch(nets.picture(net.input_size, net.channels))
    with torch.no_grad():
        ours = net.twin(torch.from_numpy(x), [net.logits])[net.logits].reshape(1, -1).numpy()
    theirs = net.scores(x)
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


# Packed kernels -------------------------------------------------------------------------------------------------------

WAYS = [
    {},
    {"pads": [1, 1, 1, 1]},
    {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"pads": [3, 3, 3, 3]},  # more than the kernel: the gradient has no convolution of its own
    {"strides": [1, 2], "pads": [0, 1, 0, 1]},
    {"dilations": [2, 2]},
    {"pads": [1, 0, 0, 1]},
    {"auto_pad": "SAME_UPPER"},
]
PACKED = [True, True, True, True, True, False, False, False]


def convolution(tmp_path, bias: bool = True, **how) -> Net:
    """A 3 x 2 kernel over pictures of 12 x 16, and the sum of what comes out."""
    rng = np.random.default_rng(1)
    constants = {"w": rng.normal(size=(5, 3, 3, 2)).astype(np.float32), "b": np.ones(5, np.float32)}
    nodes = [nets.node("Conv", "image w b" if bias else "image w", "out", **how), *ENDING]
    return nets.save(
        nets.model(nodes, constants, about=Metadata(mean=(0, 0, 0), std=(1, 1, 1))), tmp_path / "conv.onnx"
    )


ENDING = [nets.node("GlobalAveragePool", "out", "mean"), nets.node("Flatten", "mean", "logits")]


def slope(net: Net, x: torch.Tensor, **more) -> tuple[torch.Tensor, torch.Tensor]:
    """The convolution's output, and the gradient of a sum of it in which every place counts otherwise."""
    x = x.clone().requires_grad_()
    out = net.twin(x, ["out"], **more)["out"]
    weights = torch.arange(out.numel(), dtype=out.dtype).view(out.shape).sin()
    return out.detach(), torch.autograd.grad((weights * out).sum(), x)[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("how", "packed"), list(zip(WAYS, PACKED, strict=True)), ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_packed_kernels_convolve_as_the_plain_ones_do(tmp_path, how, packed, bias, batch):
    net = convolution(tmp_path, bias, **how)
    assert (list(net.twin.packed) == ["out"]) == (packed and kernels.ONEDNN)
    x = pixels(*range(batch))
    found, expected = slope(net, x), slope(net, x, ops={"Conv": OPS["Conv"]})
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_other_weights_and_other_numbers_are_not_packed(tmp_path):
    net = convolution(tmp_path)
    x = pixels(1)
    zero = torch.zeros(5, 3, 3, 2)
    assert (slope(net, x, start={"w": zero})[0] == 1).all(), "only the bias is left"
    assert not slope(net, x, start={"w": zero})[1].any()
    wide = slope(net, x.double(), start={name: c.double() for name, c in net.twin.constants.items()})
    torch.testing.assert_close(wide[1].float(), slope(net, x)[1], rtol=1e-4, atol=1e-5)


def test_without_onednn_there_are_none(tmp_path, monkeypatch):
    expected = slope(convolution(tmp_path), pixels(1))
    monkeypatch.setattr(kernels, "ONEDNN", False)
    net = convolution(tmp_path)
    assert net.twin.packed == {}
    for a, b in zip(slope(net, pixels(1)), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_stride_beyond_the_kernel_makes_no_larger_kernels(tmp_path):
    """They would grow with its square, and a file from a stranger may ask for any."""
    net = convolution(tmp_path, strides=[5, 5])
    assert all(kernels.phases == 1 and kernels.backwards is None for kernels in net.twin.packed.values())
    found, expected = slope(net, pixels()), slope(net, pixels(), ops={"Conv": OPS["Conv"]})
    torch.testing.assert_close(found[1], expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("closed", ["none", "some", "all"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_linear_layers_gradient_leaves_out_closed_units_and_nothing_else(batch, closed):
    x, weight = torch.from_numpy(f(batch, 7)).requires_grad_(), torch.from_numpy(f(9, 7))
    after = torch.from_numpy(f(batch, 9)) * {"none": 1, "some": torch.arange(9) % 3 == 1, "all": 0}[closed]
    (found,) = torch.autograd.grad(OPS["Gemm"](x, weight, transB=1), x, after)
    torch.testing.assert_close(found, after @ weight)


def test_kernels_are_only_used_at_the_size_that_they_were_packed_for(tiny):
    """At another one their order can cost ten times what it saves; the numbers are those of the plain convolution."""
    if not kernels.ONEDNN:
        pytest.skip("This torch packs no kernels.")
    packed, rest = tiny.twin.packed["conv1"], ["w1", "b1"]
    given = [tiny.twin.constants[each] for each in rest]
    own = torch.rand(2, 3, *nets.SIZE)
    assert packed.suits(own, *given)
    assert not packed.suits(own[:, :, :-1], *given)
    assert not packed.suits(own[..., :-3], *given)


def gated(tmp_path, twice: bool = False, **how) -> Net:
    """A convolution whose output a rectifier reads; twice: and what comes of that is added to it again."""
    rng = np.random.default_rng(1)
    constants = {"w": rng.normal(size=(5, 3, 3, 2)).astype(np.float32), "b": rng.normal(size=5).astype(np.float32)}
    body = [nets.node("Conv", "image w b", "conv", **how), nets.node("Relu", "conv", "relu" if twice else "out")]
    body += [nets.node("Add", "conv relu", "out")] if twice else []
    about = Metadata(mean=(0, 0, 0), std=(1, 1, 1))
    return nets.save(nets.model([*body, *ENDING], constants, about=about), tmp_path / "gated.onnx")


@pytest.mark.parametrize("twice", [False, True], ids=["alone", "read twice"])
@pytest.mark.parametrize("how", WAYS[:5], ids=str)
def test_a_rectifier_along_with_its_convolution_is_the_same(tmp_path, how, twice):
    net = gated(tmp_path, twice, **how)
    assert bool(net.twin.rectified) == (kernels.ONEDNN and not twice)
    x = pixels(0, 1)
    expected = slope(net, x, ops={"Conv": OPS["Conv"]})
    assert (expected[0] == 0).any() == (not twice), "some units are closed"
    for a, b in zip(slope(net, x), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_what_is_before_a_rectifier_can_be_asked_for_and_the_rectifier_replaced(tmp_path):
    net, x = gated(tmp_path), pixels()
    values = net.twin(x, ["conv", "out"])
    assert (values["conv"] < 0).any()
    torch.testing.assert_close(values["out"], values["conv"].relu())
    for key in ("Relu", "out"):
        found = net.twin(x, ["out"], ops={key: lambda value: value - 1})["out"]
        torch.testing.assert_close(found, values["conv"] - 1)
    torch.testing.assert_close(net.twin(None, ["out"], start={"conv": values["conv"]})["out"], values["out"])

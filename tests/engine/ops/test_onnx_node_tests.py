"""ONNX's own tests of each operator, through the Twin: forwards at every operator set from 7 to 24, and the gradient.

The cases are those of `onnx.backend.test`, written for the newest form of each operator. For the older forms, inputs
that once were attributes are made attributes again, and what is right is what ONNX Runtime says; a form that it cannot
run is not counted.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engine.model import graph as graphs
from engine.ops.table import OPS
from engine.twin import NoGradient, Twin

OLDEST, NEWEST = 7, 24
KINDS = {np.dtype(kind) for kind in ("float32", "float64", "int64", "int32", "bool", "uint8", "int8")}
# Inputs that were attributes before an operator set: op → (since, names of the inputs by place).
ONCE_ATTRIBUTES = {
    "Clip": (11, {1: "min", 2: "max"}),
    "Pad": (11, {1: "pads", 2: "value"}),
    "Slice": (10, {1: "starts", 2: "ends", 3: "axes"}),
    "Split": (13, {1: "split"}),
    "Squeeze": (13, {1: "axes"}),
    "TopK": (10, {1: "k"}),
    "Unsqueeze": (13, {1: "axes"}),
    "ReduceSum": (13, {1: "axes"}),
    "Upsample": (9, {1: "scales"}),
    "Dropout": (12, {1: "ratio"}),
    **{
        f"Reduce{name}": (18, {1: "axes"})
        for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
}
# What only training asks for, or another engine's cache: refused, and the refusal says so.
REFUSED = {
    "training": "in training mode",
    "nonpad": "of given lengths",
    "padded_kv": "of given lengths",
    "local_window": "left_window_size",
    "bidirectional_window": "left_window_size",
}
# Ops whose further outputs (places, means, what attention looked at) the Twin does not compute: how many it does.
OUTPUTS = {"Attention": 3, "LayerNormalization": 1, "MaxPool": 1}
# Of floats, but without a slope.
FLAT = frozenset(["Ceil", "EyeLike", "Floor", "Hardmax", "OneHot", "Range", "Round", "Sign"])
# Their further floats say where or how much, and not what.
PLACES = frozenset(["BatchNormalization", "Clip", "Pad", "Resize", "Upsample"])


@dataclass(frozen=True, eq=False)
class Case:
    name: str
    model: onnx.ModelProto
    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]

    @property
    def op(self) -> str:
        return self.model.graph.node[0].op_type

    @property
    def opset(self) -> int:
        return next(entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx"))


@functools.cache
def cases() -> tuple[Case, ...]:
    """Every case of one node whose op is in the Twin's table, on plain arrays."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # infinities and the like, which the cases mean
        tests = collect_testcases(None)
    found = []
    for test in tests:
        if test.model is None or len(test.model.graph.node) != 1 or test.model.graph.node[0].op_type not in OPS:
            continue
        if test.model.graph.node[0].domain not in ("", "ai.onnx"):
            continue
        inputs, outputs = test.data_sets[0]
        outputs = outputs[: OUTPUTS.get(test.model.graph.node[0].op_type)]
        arrays = [*inputs, *outputs]
        if all(isinstance(array, np.ndarray | np.generic) and array.dtype in KINDS for array in arrays):
            graph = test.model.graph
            graph = test.model.graph
            names = [[value.name for value in values] for values in (graph.input, graph.output)]
            pairs = zip(names, (inputs, outputs), strict=True)
            given = [dict(zip(n, map(np.asarray, arrays), strict=False)) for n, arrays in pairs]
            given[1].pop("qk_matmul_output", None)
            found.append(Case(test.name, test.model, *given))
    return tuple(found)


def at(case: Case, opset: int) -> Case | None:
    """The same case at another operator set; None where it cannot be written there."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = min(model.ir_version, 10)
    del model.opset_import[:]
    model.opset_import.add(domain="", version=opset)
    node, inputs = model.graph.node[0], dict(case.inputs)
    since, names = ONCE_ATTRIBUTES.get(case.op, (0, {}))
    if opset < since:
        for place, name in names.items():
            if place < len(node.input) and node.input[place]:
                value = inputs.pop(node.input[place], None)
                if value is None or value.size == 0:
                    return None
                node.attribute.append(onnx.helper.make_attribute(name, value.tolist()))
        del node.input[min(names) :]
        kept = [value for value in model.graph.input if value.name in inputs]
        del model.graph.input[:]
        model.graph.input.extend(kept)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError:
        return None
    return Case(f"{case.name}-{opset}", model, inputs, case.outputs)


def forms(op: str) -> Iterator[Case]:
    """Each case of an op as it is, and at the newest operator set of each older form of the op."""
    versions = sorted(
        {s.since_version for s in onnx.defs.get_all_schemas_with_history() if (s.name, s.domain) == (op, "")}
    )
    for case in cases():
        if case.op != op:
            continue
        yield case
        for version, following in itertools.pairwise(versions):
            if version < case.opset and following - 1 >= OLDEST:
                older = at(case, min(following - 1, case.opset - 1, NEWEST))
                if older is not None:
                    yield older


def run(case: Case) -> dict[str, np.ndarray] | None:
    """By ONNX Runtime; None where it cannot."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(case.model.SerializeToString(), options, ["CPUExecutionProvider"])
        return dict(zip(case.outputs, session.run(list(case.outputs), case.inputs), strict=True))
    except Exception:  # its exceptions have no common public class
        return None


def by_twin(case: Case) -> dict[str, torch.Tensor]:
    first = next(iter(case.inputs.values()))
    graph = graphs.read(case.model, first.shape)
    given = {name: torch.from_numpy(np.array(array)) for name, array in case.inputs.items()}
    return Twin(graph, [0.0], [1.0])(None, list(case.outputs), start=given)


def same(case: Case, expected: dict[str, np.ndarray]) -> None:
    """Raise AssertionError where the Twin's outputs are others, or of another shape or type."""
    found = by_twin(case)
    for name, array in expected.items():
        ours = found[name].numpy()
        assert (ours.shape, ours.dtype) == (array.shape, array.dtype), case.name
        np.testing.assert_allclose(ours, array, rtol=1e-4, atol=1e-5, err_msg=case.name)


def tally(op: str) -> Counter:
    """How many forms of an op are right, refused, unknown to ONNX Runtime. Raises AssertionError where one is wrong."""
    count = Counter()
    for case in forms(op):
        expected = run(case)
        if expected is None and case.name[-1].isdigit() and case not in cases():
            count["unknown to ONNX Runtime"] += 1
            continue
        try:
            same(case, case.outputs if expected is None else expected)
            count["right"] += 1
        except NoGradient as error:
            if not any(part in case.name and said in str(error) for part, said in REFUSED.items()):
                raise
            count["refused"] += 1
    return count


# Of the rest there are no cases on floats or whole numbers; tests/engine/test_twin.py has some.
TABLE = sorted(set(OPS) - {"Cast", "CastLike", "Constant", "GlobalLpPool"})


@pytest.mark.parametrize("op", TABLE)
def test_every_form_is_what_onnx_runtime_computes(op):
    assert tally(op)["right"], "its table has no case that it computes"


@pytest.mark.parametrize("op", sorted(set(TABLE) - FLAT))
def test_its_gradient_is_that_of_its_values(op):
    """In double precision, against differences, on the first cases with floats in and out."""
    checked = 0
    for case in cases():
        if case.op != op or checked == 3 or any(part in case.name for part in REFUSED):
            continue
        floats = [name for name, array in case.inputs.items() if array.dtype.kind == "f" and array.size]
        floats = floats[:1] if op in PLACES else floats
        outputs = [name for name, array in case.outputs.items() if array.dtype.kind == "f" and array.size]
        if not floats or not outputs:
            continue
        rng = np.random.default_rng(3)  # away from ties and kinks
        doubles = {n: np.array(a, np.float64) for n, a in case.inputs.items() if a.dtype.kind == "f"}
        leaves = [
            torch.from_numpy(np.array(doubles[n] + rng.uniform(0, 1e-2, doubles[n].shape))).requires_grad_()
            for n in floats
        ]
        first = next(iter(case.inputs.values()))
        twin = Twin(graphs.read(case.model, first.shape), [0.0], [1.0])
        start = {name: torch.from_numpy(np.array(doubles.get(name, array))) for name, array in case.inputs.items()}

        def function(*values, twin=twin, start=start, floats=floats, outputs=outputs):
            made = twin(None, outputs, start=start | dict(zip(floats, values, strict=True)))
            return tuple(made[name] for name in outputs)

        assert torch.autograd.gradcheck(function, leaves, fast_mode=True), case.name
        checked += 1
    if not checked:
        pytest.skip("It has no case with floats in and out.")


if __name__ == "__main__":
    total = Counter()
    for each in TABLE:
        found = tally(each)
        total += found
        print(f"{each:28}" + ", ".join(f"{number} {what}" for what, number in found.items()))
    print(f"{len(TABLE)} ops: " + ", ".join(f"{number} {what}" for what, number in total.items()))

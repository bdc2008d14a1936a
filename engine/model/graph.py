"""What is computed from what? An ONNX graph as plain data: nodes in order, constants, and what shapes they give."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from engine.model import forms


@dataclass(frozen=True)
class Node:
    """One operation: `outputs = op(*inputs, **attributes)`; an absent optional input or output is ""."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    version: int  # of the operator set that gives `op` its meaning
    name: str = ""


@dataclass(frozen=True)
class Graph:
    """nodes are in an order in which they can be computed; shapes holds what shape inference found, batch size 1."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, np.ndarray]
    input: str
    outputs: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    floats: frozenset[str]  # the tensors known to hold floating-point numbers
    from_input: frozenset[str]  # the tensors that depend on the picture
    batched: frozenset[str]  # of those, the ones with something for each picture of a batch, along their first axis

    def needed(self, wanted: Collection[str], given: Collection[str] = ()) -> tuple[Node, ...]:
        """The nodes that must run, in order, to compute `wanted` when `given` is already there."""
        missing = set(wanted) - set(given)
        chosen = []
        for node in reversed(self.nodes):
            if missing.intersection(node.outputs):
                chosen.append(node)
                missing.difference_update(node.outputs)
                missing.update(name for name in node.inputs if name and name not in given)
        return tuple(reversed(chosen))

    def behind(self, name: str) -> frozenset[str]:
        """The tensors that depend on `name`, and itself."""
        found = {name}
        for node in self.nodes:
            if found.intersection(node.inputs):
                found.update(output for output in node.outputs if output)
        return frozenset(found)

    def frontier(self, name: str, wanted: Collection[str]) -> tuple[str, ...]:
        """What has to be given to compute `wanted` from `name` on without the picture: `name`, and what by-passes it.

        Only the arms of skip connections by-pass, and what is wanted itself and lies elsewhere; mostly there are none.
        """
        behind = self.behind(name)
        nodes = [node for node in self.needed(wanted, {name}) if behind.intersection(node.outputs)]
        used = [*wanted, *(i for node in nodes for i in node.inputs)]
        return (name, *dict.fromkeys(i for i in used if i in self.from_input and i not in behind))

    def producer(self, name: str) -> Node | None:
        """The node whose output is `name`; None for the input and the constants."""
        return next((node for node in self.nodes if name in node.outputs), None)


def _attribute(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return list(value) if attribute.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    found = {attribute.name: _attribute(attribute) for attribute in node.attribute}
    if node.op_type == "Split" and len(node.input) == 1 and "split" not in found:  # as newer operator sets state it
        found.setdefault("num_outputs", len(node.output))
    return found


def skeleton(model: onnx.ModelProto, input_shape: tuple[int, ...]) -> onnx.ModelProto:
    """A copy without the large weights' data and with a fixed input shape: all that shape inference needs."""
    copy = onnx.ModelProto()
    copy.ir_version = max(model.ir_version, 4)  # older ones ask for every weight among the inputs
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    copy.graph.name = model.graph.name
    copy.graph.node.extend(model.graph.node)
    copy.graph.output.extend(model.graph.output)
    initial = {tensor.name for tensor in model.graph.initializer}
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims)) <= 64:  # axes, shapes, pads: values that shapes depend on
            copy.graph.initializer.append(tensor)
        else:
            described = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            copy.graph.input.append(described)
    for value in model.graph.input:
        if value.name not in initial:
            kind = value.type.tensor_type.elem_type
            copy.graph.input.append(onnx.helper.make_tensor_value_info(value.name, kind, list(input_shape)))
    for output in copy.graph.output:  # what the file states of the batch would contradict the fixed input
        output.type.tensor_type.ClearField("shape")
    return copy


def read(model: onnx.ModelProto, input_shape: tuple[int, ...], beside: Path | None = None) -> Graph:
    """Take the graph of `model` apart.

    input_shape: (1, C, H, W), what the first input is given. beside: the folder of weights that are not in the model.
    """
    long = {"ai.onnx": ""}  # the default domain has two names
    versions = {long.get(entry.domain, entry.domain): entry.version for entry in model.opset_import}
    constants = {tensor.name: forms.array(tensor, beside) for tensor in model.graph.initializer}
    inputs = [value.name for value in model.graph.input if value.name not in constants]
    nodes = tuple(
        Node(
            node.op_type,
            tuple(node.input),
            tuple(node.output),
            _attributes(node),
            versions.get(long.get(node.domain, node.domain), 0),
            node.name,
        )
        for node in model.graph.node
    )
    constants |= {n.outputs[0]: n.attributes["value"] for n in nodes if n.op == "Constant" and "value" in n.attributes}
    from_input = set(inputs)
    for node in nodes:
        if from_input.intersection(node.inputs):
            from_input.update(name for name in node.outputs if name)
    shapes, floats = _inferred(model, inputs[0], input_shape)
    several, _ = _inferred(model, inputs[0], (2, *input_shape[1:]))  # which some graphs do not heed
    batched = {
        name
        for name in from_input
        if (shape := shapes.get(name, ())) and shape[0] == 1 and several.get(name) in (None, shape, (2, *shape[1:]))
    }
    outputs = tuple(value.name for value in model.graph.output)
    return Graph(
        nodes,
        constants,
        inputs[0],
        outputs,
        shapes,
        frozenset(floats),
        frozenset(from_input),
        frozenset(batched),
    )


def _inferred(
    model: onnx.ModelProto, name: str, input_shape: tuple[int, ...]
) -> tuple[dict[str, tuple[int, ...]], set[str]]:
    """The shapes of all tensors as far as they can be inferred, and which hold floating-point numbers."""
    bones = skeleton(model, input_shape)
    while True:
        # data_prop follows Shape, Gather and Concat: older exporters compute a Reshape's target that way.
        inferred = onnx.shape_inference.infer_shapes(bones, data_prop=True).graph
        shapes: dict[str, tuple[int, ...]] = {name: tuple(input_shape)}
        floats = {name}
        for value in [*inferred.value_info, *inferred.output]:
            kind = value.type.tensor_type
            if kind.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE):
                floats.add(value.name)
            dims = tuple(d.dim_value for d in kind.shape.dim)
            if kind.HasField("shape") and all(d > 0 for d in dims):
                shapes[value.name] = dims
        if not any(_one_less(node, shapes) for node in bones.graph.node):
            return shapes, floats


def _one_less(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a pool was found to have a last window of padding alone, and is changed into one that has none.

    Where ceil_mode is set, onnx's inference counts such a window; ONNX Runtime and PyTorch do not compute it.
    """
    attributes = {a.name: a for a in node.attribute}
    before, after = (shapes.get(names[0], ()) if names else () for names in (node.input, node.output))
    if "Pool" not in node.op_type or "ceil_mode" not in attributes or not attributes["ceil_mode"].i:
        return False
    if not after or len(before) != len(after):
        return False
    sides, count = before[2:], len(before) - 2
    begin = list(attributes["pads"].ints)[:count] if "pads" in attributes else [0] * count
    strides = list(attributes["strides"].ints) if "strides" in attributes else [1] * count
    beyond = [(n - 1) * s >= side + b for n, s, side, b in zip(after[2:], strides, sides, begin, strict=True)]
    if not any(beyond):
        return False
    end = list(attributes["pads"].ints)[count:] if "pads" in attributes else [0] * count
    kernel = list(attributes["kernel_shape"].ints)
    spread = list(attributes["dilations"].ints) if "dilations" in attributes else [1] * count
    spans = [(k - 1) * d + 1 for k, d in zip(kernel, spread, strict=True)]
    for k, far in enumerate(beyond):
        if not far:  # the padding behind that gives as many windows without rounding up; elsewhere rounding is one more
            end[k] = (after[2 + k] - 1) * strides[k] + spans[k] - sides[k] - begin[k]
    kept = [a for a in node.attribute if a.name not in ("pads", "ceil_mode", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend([*kept, onnx.helper.make_attribute("pads", [*begin, *end])])
    return True

"""How is a part of a network made a network of its own? Some of its nodes, with the weights that they take."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx.numpy_helper


def excerpt(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    inputs: Iterable[onnx.ValueInfoProto],
    results: Iterable[str],
) -> onnx.ModelProto:
    """A model of some nodes of `model`, which makes `results` of `inputs`."""
    used = _taken(nodes)
    made = onnx.ModelProto()
    made.ir_version = max(model.ir_version, 4)  # older ones ask for every weight among the inputs
    made.opset_import.extend(model.opset_import)
    made.functions.extend(model.functions)
    made.graph.name = model.graph.name or "net"
    made.graph.node.extend(nodes)
    made.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    made.graph.input.extend(inputs)
    made.graph.output.extend(onnx.ValueInfoProto(name=name) for name in results)
    return made


def channels_last(
    model: onnx.ModelProto,
    nodes: Sequence[onnx.NodeProto],
    given: Sequence[str],
    results: Sequence[str],
    maps: Iterable[str],
) -> onnx.ModelProto:
    """The same on maps (B, h, w, C) of any size: `given`, and those of `results` that are named in `maps`, too."""
    flipped = {name: f"{name} channels first" for name in (*given, *maps)}
    own = []
    for node in nodes:
        own.append(onnx.NodeProto())
        own[-1].CopyFrom(node)
        for names in (own[-1].input, own[-1].output):
            names[:] = [flipped.get(name, name) for name in names]
    turn = lambda take, make, order: onnx.helper.make_node("Transpose", [take], [make], perm=order)  # noqa: E731
    into = [turn(name, flipped[name], (0, 3, 1, 2)) for name in given]
    back = [turn(flipped[name], name, (0, 2, 3, 1)) for name in results if name in flipped]
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None] * 4) for name in given]
    constants = [node for node in model.graph.node if node.op_type == "Constant" and node.output[0] in _taken(nodes)]
    return excerpt(model, [*constants, *into, *own, *back], inputs, results)


def with_constants(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The same model with other numbers in some of its constants."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    for tensor in made.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values[tensor.name], tensor.name))
    for node in made.graph.node:
        if node.op_type == "Constant" and node.output[0] in values:
            del node.attribute[:]
            value = onnx.numpy_helper.from_array(values[node.output[0]])
            node.attribute.append(onnx.helper.make_attribute("value", value))
    return made


def _taken(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    return {name for node in nodes for name in node.input}

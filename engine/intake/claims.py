"""Does what a network's file claims add up? Asked before anything is made of it, so that it may come from anybody.

Only what the file says is looked at; nothing is allocated by it and nothing is run. What passes here may still be too
large or too slow: engine/intake/opening.py, which asks, does so in a child process with limits.

Refused are, beside what contradicts itself: data in other files (a location can name any file of the host), operators
of one's own domains (they need code that came along), graphs inside nodes (Loop and Scan may run for ever on the one
picture and not on the other; If comes with them, because nothing here could look into its branches), and tensors whose
size hangs on what is in the picture: these could be small while the file is examined and large later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto

from engine.model import forms
from engine.net import BadNetwork

MAX_BYTES = 1 << 30  # of a file; protobuf itself ends at twice that
MAX_NODES = 20_000  # of the graph with its functions written out; torchvision's largest networks have some thousands
MAX_ELEMENTS = 1 << 28  # of one tensor on the way, for one picture: 1 GiB in float32
MAX_SIDE = 4096  # pixels
MAX_TEXT = 1000  # characters of a name; of all metadata, so many thousands
DOMAINS = frozenset(["", "ai.onnx", "ai.onnx.ml"])
LARGE = 64  # numbers: constants above that are no shapes

# Inputs that say how large the output is, by op; those that only reorder what is there are left out.
SIZING: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),  # scales were the second input once
    "STFT": (1, 3),
    "Tile": (1, 2),
    "Upsample": (1,),
}
COUNTING = frozenset(
    ["Compress", "NonMaxSuppression", "NonZero", "StringSplit", "Unique"]
)  # as many as there happen to be


class Refused(BadNetwork):
    """The file is not opened; the message is one sentence that says why, and what to do."""


def check(model: ModelProto, name: str, beside: Path | None = None) -> ModelProto:
    """The model with its functions written out, if what it says of itself can be. `name` is the file's, for people.

    beside: the folder that the file lies in, where it may keep weights beside it; None for one that came alone.
    Raises Refused. A damaged file may also raise what protobuf or onnx make of it.
    """
    if not model.graph.node or not model.graph.output:
        raise Refused(f"{name} is not an ONNX file, or it holds no network.")
    _texts(model, name)
    expanded = _expanded(model, name)
    if expanded > MAX_NODES:
        raise Refused(f"{name} has {expanded:,} nodes; networks of up to {MAX_NODES:,} can be shown.")
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if model.graph.sparse_initializer:
        raise Refused(f"{name} keeps weights in sparse form; save it with dense ones.")
    for node in model.graph.node:
        _node(node, name)
    for tensor in tensors(model):
        _tensor(tensor, name, beside)
    _inputs(model, name)
    _fixed(model, name)
    _sizes(model, name)
    return model


def _texts(model: ModelProto, name: str) -> None:
    """Names are shown to people and kept as keys, so that they cannot be books."""
    graph = model.graph
    texts = [value.name for value in (*graph.input, *graph.output, *tensors(model))]
    texts += [text for node in graph.node for text in (node.name, node.op_type, node.domain, *node.input, *node.output)]
    if not all(isinstance(text, str) for text in texts):  # protobuf gives bytes where it is no text
        raise Refused(f"{name} is damaged: it has names that are no text.")
    if max(map(len, texts), default=0) > MAX_TEXT:
        raise Refused(f"{name} has a tensor or node whose name is longer than {MAX_TEXT:,} characters; shorten it.")
    if sum(len(entry.value) for entry in model.metadata_props) > 1000 * MAX_TEXT:
        raise Refused(f"{name} has more than {MAX_TEXT:,} thousand characters of metadata; leave some of it out.")


def _expanded(model: ModelProto, name: str) -> int:
    """How many nodes the graph has once every function is written out: a few nested ones can stand for billions."""
    functions = {(function.domain, function.name): function for function in model.functions}
    counts: dict[tuple[str, str], int] = {}
    active: set[tuple[str, str]] = set()

    def count(nodes: Iterator[NodeProto], depth: int = 0) -> int:
        if depth > 32:
            raise Refused(f"{name} has functions inside functions, more than 32 deep; export it without them.")
        return sum(of(node, depth) for node in nodes)

    def of(node: NodeProto, depth: int) -> int:
        key = (node.domain, node.op_type)
        if key not in functions:
            return 1
        if key in active:
            raise Refused(f"{name} has a function {node.op_type!r} that calls itself; export it without functions.")
        if key not in counts:
            active.add(key)
            counts[key] = count(functions[key].node, depth + 1)
            active.remove(key)
        return counts[key]

    return count(model.graph.node)


def _node(node: NodeProto, name: str) -> None:
    if node.domain not in DOMAINS:
        raise Refused(
            f"{name} uses the operator {node.op_type} of the domain {node.domain!r}, which is no part of ONNX; "
            "export it with standard operators only."
        )
    if not onnx.defs.has(node.op_type, "" if node.domain == "ai.onnx" else node.domain):
        raise Refused(f"{name} uses an operator {node.op_type[:80]}, which ONNX does not have; export it again.")
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        raise Refused(
            f"{name} has a graph inside a node ({node.op_type}); loops and branches are not opened, so export it "
            "without them."
        )


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """All tensors that the file holds, wherever."""
    yield from model.graph.initializer
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
            if attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
                yield from (sparse.values, sparse.indices)


def _tensor(tensor: TensorProto, name: str, beside: Path | None) -> None:
    """Whether the tensor has as many bytes as its shape asks for."""
    called = f"the tensor {tensor.name[:80]!r}" if tensor.name else "a constant"
    if any(dim < 0 for dim in tensor.dims):
        raise Refused(f"{name} is damaged: {called} has a negative size.")
    count = math.prod(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
        _external(tensor, name, beside, count)
        return
    if count > MAX_BYTES:
        raise Refused(f"{name} is damaged: {called} claims {count:,} numbers.")
    if tensor.data_type == TensorProto.STRING:
        held = len(tensor.string_data)
    else:
        try:
            kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        except (KeyError, ValueError) as error:
            raise Refused(f"{name} is damaged: {called} is of a kind that ONNX does not have.") from error
        held = _held(tensor, np.dtype(kind).itemsize, count)
    if held != count:
        raise Refused(f"{name} is damaged or cut short: {called} claims {count:,} numbers and holds {held:,}.")


def _held(tensor: TensorProto, size: int, count: int) -> int:
    """How many numbers the tensor's bytes, or its fields, are enough for."""
    four_bits = tensor.data_type in (TensorProto.INT4, TensorProto.UINT4, getattr(TensorProto, "FLOAT4E2M1", -1))
    two_bits = tensor.data_type in (getattr(TensorProto, "INT2", -1), getattr(TensorProto, "UINT2", -1))
    packed = 2 if four_bits else 4 if two_bits else 1
    if tensor.HasField("raw_data"):
        if packed > 1:
            return count if len(tensor.raw_data) == -(-count // packed) else len(tensor.raw_data) * packed
        return len(tensor.raw_data) // size if len(tensor.raw_data) % size == 0 else -1
    fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
    held = sum(map(len, fields))
    if packed > 1:
        return count if held == -(-count // packed) else held * packed
    pairs = tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
    return held // 2 if pairs else held


def _external(tensor: TensorProto, name: str, beside: Path | None, count: int) -> None:
    """Whether the data lie in a plain file in the network's own folder, and are there."""
    if beside is None:
        raise Refused(f"{name} keeps its weights in another file; save it as a single one.")
    try:
        forms.located(tensor, beside)
    except forms.Unfit as error:
        raise Refused(f"{name} {error}") from error
    if count > MAX_BYTES:
        raise Refused(f"{name} is damaged: the tensor {tensor.name[:80]!r} claims {count:,} numbers.")


def _inputs(model: ModelProto, name: str) -> None:
    for value in _fed(model):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if any(dim > MAX_SIDE for dim in dims[1:]) or math.prod(max(dim, 1) for dim in dims) > 4 * MAX_SIDE**2:
            size = " × ".join(map(str, dims))
            raise Refused(f"{name} takes an input of {size}; pictures of up to {MAX_SIDE:,} a side can be given.")


def _fed(model: ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are no weights; older files list those, too."""
    initial = {tensor.name for tensor in model.graph.initializer}
    return [value for value in model.graph.input if value.name not in initial]


def _fixed(model: ModelProto, name: str) -> None:
    """No tensor's size may hang on what is in the picture; on the picture's own size it may."""
    seen = {value.name for value in _fed(model)}
    for node in model.graph.node:
        of_picture = [k for k, each in enumerate(node.input) if each in seen]
        if (of_picture and node.op_type in COUNTING) or set(of_picture) & set(SIZING.get(node.op_type, ())):
            raise Refused(
                f"{name} makes tensors whose size depends on what is in the picture ({node.op_type}); only networks of "
                "fixed sizes can be shown."
            )
        if of_picture and node.op_type not in ("Shape", "Size"):
            seen.update(filter(None, node.output))


def _sizes(model: ModelProto, name: str) -> None:
    """Whether any tensor that shape inference knows of would be too large for a picture of a usual size."""
    bare = ModelProto()
    bare.ir_version = max(model.ir_version, 4)  # older ones ask for every weight among the inputs
    bare.opset_import.extend(model.opset_import)
    bare.graph.name = "bare"
    bare.graph.node.extend(model.graph.node)
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= LARGE and tensor.data_location != TensorProto.EXTERNAL:
            bare.graph.initializer.append(tensor)
        else:
            described = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            bare.graph.input.append(described)
    for value in _fed(model):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        usual = (1, 3, 224, 224) if len(dims) == 4 else (1,) * len(dims)
        dims = [dim if dim > 0 else other for dim, other in zip(dims, usual, strict=True)]
        kind = value.type.tensor_type.elem_type
        bare.graph.input.append(onnx.helper.make_tensor_value_info(value.name, kind, dims))
    bare.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in model.graph.output)
    try:
        found = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        return  # whoever opens it says what is wrong
    makers = {output: node for node in model.graph.node for output in node.output}
    for value in (*found.value_info, *found.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if math.prod(dims) > MAX_ELEMENTS:
            op = makers[value.name].op_type if value.name in makers else "an input"
            size = " × ".join(f"{dim:,}" for dim in dims[:6])
            raise Refused(f"{name} makes a tensor of {size} numbers ({op}), more than can be held; make it smaller.")

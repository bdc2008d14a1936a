"""What has to be changed about a stranger's graph, so that it takes a batch of pictures (B, C, H, W) in float32?

Exporters write networks in many forms that mean the same: channels last, half precision, weights in a file beside,
further inputs that only training needs, one picture at a time. Here each becomes the one form that all else is written
for; the tensors keep their names. What a person should know of that is handed on as a note.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LARGEST = 2**31 - 2**24  # bytes that one protobuf can hold, and some room for the graph
HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
CHANNELS = (1, 3)


class Unfit(ValueError):
    """The graph cannot be brought into the one form; the message goes on behind the file's name."""


@dataclass(frozen=True)
class Form:
    """model: in the one form. inputs: the names of those that take a picture, the chosen one first. notes: sentences.

    beside: the folder of the weights that stay in a file of their own, being too many for one; None where there are
    none. changed: whether the model is another than it was.
    """

    model: onnx.ModelProto
    inputs: tuple[str, ...]
    notes: tuple[str, ...]
    beside: Path | None
    changed: bool


def formed(model: onnx.ModelProto, folder: Path, wanted: str | None = None) -> Form:
    """The model in the one form; `model` itself is changed.

    folder: where the file lies, for weights beside it. wanted: the input that takes the picture, where several could.
    Raises Unfit.
    """
    notes: list[str] = []
    outside = bool(external(model))
    beside = gather(model, folder)
    if _in_single(model):
        if beside is not None:
            raise Unfit("is in half precision and too large for that; save it in float32.")
        notes.append("The file is in half precision; it is computed in single precision here.")
    inputs = _one_input(model, wanted, notes)
    turned = _channels_first(model, inputs[0])
    if quantised(model):
        notes.append("It rounds to whole numbers on its way; its gradients are those of the same network without that.")
    return Form(model, inputs, tuple(notes), beside, bool(notes) or turned or (outside and beside is None))


# Weights beside the file ----------------------------------------------------------------------------------------------


def located(tensor: TensorProto, folder: Path) -> tuple[Path, int, int]:
    """(file, offset, length) of a tensor that is kept beside the model. Raises Unfit where that may not be read."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    location = said.get("location", "")
    shown, parts = repr(location[:80]), PurePosixPath(location).parts
    outside = PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive or ".." in parts
    if not parts or outside or "\\" in location or "\0" in location:
        raise Unfit(f"wants to read {shown}, which is outside of its own folder.")
    steps = [folder.joinpath(*parts[: k + 1]) for k in range(len(parts))]
    if any(step.is_symlink() for step in steps):
        raise Unfit(f"wants to read {shown}, which is a link; put the file itself there.")
    if not steps[-1].is_file():
        raise Unfit(f"keeps its weights in {shown}, which is not beside it; put it there.")
    size = steps[-1].stat().st_size
    try:
        offset = int(said.get("offset", 0))
        length = int(said.get("length", size - offset))
    except ValueError as error:
        raise Unfit(f"is damaged: where in {shown} a tensor lies is no number.") from error
    if min(offset, length) < 0 or offset + length > size:
        raise Unfit(f"is damaged: {shown} does not hold all of {tensor.name[:80]!r}.")
    return steps[-1], offset, length


def external(model: onnx.ModelProto) -> list[TensorProto]:
    """The tensors that are kept in files beside the model."""
    return [tensor for tensor in _tensors(model) if tensor.data_location == TensorProto.EXTERNAL]


def gather(model: onnx.ModelProto, folder: Path) -> Path | None:
    """Take the weights beside the file into the model; where that is too much, say where they lie. Raises Unfit."""
    outside = external(model)
    places = [located(tensor, folder) for tensor in outside]
    stay = model.ByteSize() + sum(length for *_, length in places) > LARGEST
    weights = {tensor.name for tensor in model.graph.initializer} if stay else set()
    for tensor, (file, offset, length) in zip(outside, places, strict=True):
        if tensor.name in weights:
            continue
        with file.open("rb") as opened:
            opened.seek(offset)
            tensor.raw_data = opened.read(length)
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT
    return folder if stay else None


def array(tensor: TensorProto, folder: Path | None) -> np.ndarray:
    """A tensor's numbers. Of one kept beside the model they are not read before they are needed. Raises Unfit."""
    if tensor.data_location != TensorProto.EXTERNAL or folder is None:  # which `gather` has seen to
        return numpy_helper.to_array(tensor)
    file, offset, length = located(tensor, folder)
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if length != kind.itemsize * int(np.prod(tensor.dims, dtype=object)):
        raise Unfit(f"keeps {length} bytes for its weights {tensor.name}, which do not fill their shape.")
    return np.memmap(file, kind, "r", offset, tuple(tensor.dims))


# Single precision -----------------------------------------------------------------------------------------------------


def _tensors(model: onnx.ModelProto) -> Iterable[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t


def _in_single(model: onnx.ModelProto) -> bool:
    """Turn half precision into single; whether there was any."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    found = [value for value in values if value.type.tensor_type.elem_type in HALF]
    for value in found:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    tensors = [tensor for tensor in _tensors(model) if tensor.data_type in HALF]
    for tensor in tensors:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    casts = [
        attribute
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.name in ("to", "dtype", "output_dtype") and attribute.i in HALF
    ]
    for attribute in casts:
        attribute.i = TensorProto.FLOAT
    return bool(found or tensors or casts)


# One input ------------------------------------------------------------------------------------------------------------


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    """Sizes, 0 where one is free; some files write -1 there."""
    return [max(d.dim_value, 0) for d in value.type.tensor_type.shape.dim]


def _picture(value: onnx.ValueInfoProto) -> bool:
    """Whether this input could take pictures."""
    dims = _dims(value)
    floats = value.type.tensor_type.elem_type == TensorProto.FLOAT
    return floats and len(dims) == 4 and (dims[1] in (0, *CHANNELS) or dims[3] in CHANNELS)


def _one_input(model: onnx.ModelProto, wanted: str | None, notes: list[str]) -> tuple[str, ...]:
    """Leave the picture's input, and give the others zeros; the names of all that could take it, the chosen first."""
    initial = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initial]
    pictures = [value.name for value in inputs if _picture(value)]
    if not pictures:
        said = [f"{value.name} {_dims(value)}" for value in inputs[:4]]
        raise Unfit(
            f"takes {' and '.join(said) or 'no input'}; a batch of float32 pictures (B, 3, H, W), (B, 1, H, W) or "
            "with the channels last is needed."
        )
    if wanted is not None and wanted not in pictures:
        raise Unfit(f"has no input {wanted!r} for a picture; it has {', '.join(pictures)}.")
    chosen = wanted or pictures[0]
    others = [value for value in inputs if value.name != chosen]
    for value in others:
        kind, dims = value.type.tensor_type, [size or 1 for size in _dims(value)]
        if not kind.HasField("shape") or np.prod(dims, dtype=object) > 2**24:
            raise Unfit(f"has a further input {value.name}, of which nothing is known that could be put there.")
        zeros = np.zeros(dims, helper.tensor_dtype_to_np_dtype(kind.elem_type))
        model.graph.initializer.append(numpy_helper.from_array(zeros, value.name))
        model.graph.input.remove(value)
    if others:
        notes.append(f"Zeros are put into {', '.join(value.name for value in others)}; the picture goes to {chosen}.")
    return chosen, *(name for name in pictures if name != chosen)


def _channels_first(model: onnx.ModelProto, name: str) -> bool:
    """Where the picture has its channels last, put in front what turns it so; behind that it has its old name."""
    value = next(value for value in model.graph.input if value.name == name)
    dims = _dims(value)
    if dims[1] in (0, *CHANNELS) or dims[3] not in CHANNELS:
        return False
    first = f"{name}:channels_first"
    turned = helper.make_node("Transpose", [first], [name], first, perm=[0, 2, 3, 1])
    nodes = [turned, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    batch, height, width, channels = value.type.tensor_type.shape.dim
    changed = onnx.ValueInfoProto()
    changed.CopyFrom(value)
    changed.name = first
    del changed.type.tensor_type.shape.dim[:]
    changed.type.tensor_type.shape.dim.extend([batch, channels, height, width])
    value.CopyFrom(changed)
    return True


# Several pictures at a time -------------------------------------------------------------------------------------------


def freed(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """A copy for any number of pictures, of a graph that states how many: right only where a run shows it.

    What names that number is the input's shape, those stated of other tensors, and the targets of Reshape and Expand.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    value = next(value for value in copy.graph.input if value.name == name)
    batch = value.type.tensor_type.shape.dim[0].dim_value
    value.type.tensor_type.shape.dim[0].Clear()
    value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del copy.graph.value_info[:]
    for output in copy.graph.output:
        output.type.tensor_type.ClearField("shape")
    targets = {node.input[1] for node in copy.graph.node if node.op_type == "Reshape" and len(node.input) > 1}
    held = {tensor.name: tensor for tensor in copy.graph.initializer}
    held |= {
        node.output[0]: attribute.t
        for node in copy.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    for target in targets & held.keys():
        shape = numpy_helper.to_array(held[target]).copy()
        if shape.ndim == 1 and len(shape) > 1 and shape[0] == batch:
            shape[0] = 0 if -1 in shape else -1
            held[target].CopyFrom(numpy_helper.from_array(shape, held[target].name))
    return copy


# Without the rounding -------------------------------------------------------------------------------------------------


def quantised(model: onnx.ModelProto) -> bool:
    """Whether the graph rounds to whole numbers on its way (QuantizeLinear, DequantizeLinear)."""
    return any(node.op_type == "QuantizeLinear" for node in model.graph.node)


def dequantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same network without its rounding: weights as the numbers that they stand for, and what is rounded as it was.

    Tensors keep their names. Raises Unfit where whole numbers are put to another use than being turned back.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    rounded = {node.output[0]: node.input[0] for node in copy.graph.node if node.op_type == "QuantizeLinear"}
    used = {name for node in copy.graph.node for name in node.input}
    nodes = []
    for node in copy.graph.node:
        if node.op_type == "QuantizeLinear":
            continue
        if node.op_type == "DequantizeLinear" and node.input[0] in rounded:
            node = helper.make_node("Identity", [rounded[node.input[0]]], [node.output[0]], node.name)
        elif rounded.keys() & set(node.input):
            raise Unfit(f"computes {node.op_type} in whole numbers, of which there are no gradients.")
        nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(node for node in nodes if used.intersection(node.output) or _is_output(copy, node))
    return copy


def _is_output(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    return bool({value.name for value in model.graph.output} & set(node.output))


def input_shape(model: onnx.ModelProto) -> tuple[tuple[int, int, int, int], int]:
    """(1, C, H, W), with H = W = 0 where the graph leaves them free; and the batch size that it fixes, or 0."""
    initial = {tensor.name for tensor in model.graph.initializer}
    (given,) = (value for value in model.graph.input if value.name not in initial)
    dims = [max(d.dim_value, 0) for d in given.type.tensor_type.shape.dim]  # 0, and in some files -1: it is free
    size = dims[2:] if all(dims[2:]) else (0, 0)
    return (1, dims[1] or 3, *size), dims[0]

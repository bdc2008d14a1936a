"""How does a PyTorch module become one of our network files?

One self-contained ONNX file: the weights inside, a free batch dimension, and in `metadata_props` what the module does
not know (labels, input size, mean and std). Tensors are named after the modules that made them, so that the file reads
like the code it came from, and nothing of the machine that wrote it stays inside.
"""

from __future__ import annotations

import ast
import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import torch
from torch import nn

from engine.model.metadata import Metadata, write

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

INPUT, OUTPUT = "image", "logits"
TOLERANCE = 1e-3  # of the largest logit; float32 reorders sums, and no more than that is let pass
STATED = "of ImageNet's validation set, as torchvision states it; not measured again here."
TRACED, COMPARED = 2, 3  # batch sizes: two different ones show that the dimension is free


class ExportFailed(RuntimeError):
    """No file was written: the exporter could not express the module, or the file computes something else than it."""


def metadata_of(weights: WeightsEnum, **more: Any) -> Metadata:
    """What torchvision says of its trained weights: labels, input size, normalisation, crop, source and accuracy.

    weights: a member of one of torchvision's enumerations, such as `models.ResNet18_Weights.DEFAULT`. more: fields of
    Metadata that are to be others, such as labels=…, for a network that was trained further from these weights.
    Raises ValueError for weights that are no classifier's.
    """
    transforms = weights.transforms()
    try:
        (side,), (resized,) = transforms.crop_size, transforms.resize_size
        labels, mean, std = map(tuple, (weights.meta["categories"], transforms.mean, transforms.std))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{weights} are no weights of a classifier of pictures.") from error
    accuracy = weights.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    about = {
        "labels": labels,
        "input_size": (side, side),
        "mean": mean,
        "std": std,
        "crop": min(side / resized, 1.0),
        "source": f"Weights {weights} of torchvision, {weights.url}",
        "accuracy": "" if accuracy is None else f"{accuracy:.1f} % {STATED}",
    }
    return Metadata(**{**about, **more})


def export(module: nn.Module, path: str | Path, metadata: Metadata, *, channels: int = 3) -> None:
    """Write `module` to the ONNX file `path`, check it, and compare the two on random input. All or nothing.

    module: on the CPU, in evaluation mode; normalised pictures (B, channels, H, W) to logits (B, K). It is not changed.
    metadata: what the file will say of itself; its input_size is the (H, W) that the graph is made for.
    Batch normalisation that follows a convolution is folded into the convolution's weights by PyTorch's exporter.
    Raises ValueError where the arguments cannot be meant, ExportFailed where the file would not do as the module.
    """
    path, content = Path(path), exported(module, metadata, channels=channels)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_bytes(content)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def exported(module: nn.Module, metadata: Metadata, *, channels: int = 3) -> bytes:
    """The content of the file that `export` writes, compared with the module. No file is opened or written for it."""
    if any(part.training for part in module.modules()):
        raise ValueError("The module is in training mode; call its eval() before exporting it.")
    if metadata.input_size is None:
        raise ValueError("The metadata states no input_size, which the graph is made for.")
    shape = (channels, *metadata.input_size)
    model = trace(module, shape)
    write(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    _compare(module, content, shape)
    return content


def trace(
    module: nn.Module, shape: tuple[int, int, int], *, inputs: str = INPUT, outputs: str = OUTPUT
) -> onnx.ModelProto:
    """The module as an ONNX graph from `inputs` (B, *shape) to `outputs`, its tensors named after the module's parts.

    Nothing is compared and nothing written. Raises ExportFailed.
    """
    if not all(weights.is_contiguous() for weights in module.parameters()):
        # From weights with channels last, as after fast training, a plain flatten becomes arithmetic with strides.
        module = copy.deepcopy(module).to(memory_format=torch.contiguous_format)
    try:
        program = torch.onnx.export(
            module,
            (torch.zeros(TRACED, *shape),),
            dynamo=True,
            external_data=False,
            input_names=[inputs],
            output_names=[outputs],
            dynamic_shapes=({0: "batch"},),
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportFailed(f"PyTorch's exporter cannot write {type(module).__name__} as ONNX.") from error
    graph = program.model.graph
    if len(graph.outputs) != 1:
        raise ExportFailed(f"{type(module).__name__} returns {len(graph.outputs)} tensors; one, {outputs}, is needed.")
    if isinstance(graph.inputs[0].shape[0], int):
        raise ExportFailed(f"{type(module).__name__} works for a batch of {graph.inputs[0].shape[0]} only.")
    _rename(graph, module)
    _clean(program.model)
    return onnx_ir.to_proto(program.model)


def _rename(graph: onnx_ir.Graph, module: nn.Module) -> None:
    """Name each node and its output after the module that made it: `layer1.0.conv1`, `layer1.0.relu`, `layer1.0.add`.

    A layer with weights goes by the module that holds them, also where a batch normalisation has been folded into it;
    any other node by the module that it stands in, with the operator's name behind it unless it is all that this does.
    """
    leaves = {name for name, part in module.named_modules() if name and not any(part.children())}
    taken = {value.name for value in [*graph.inputs, *graph.outputs, *graph.initializers.values()]}
    scopes = [ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]")) for node in graph]
    for node, scope, following in zip(graph, scopes, [*scopes[1:], None], strict=True):
        inside = scope[-2].split("@")[0] if len(scope) > 1 else ""  # "@1": the module's second call
        owners = [
            value.name.rpartition(".")[0] for value in node.inputs if value is not None and value.is_initializer()
        ]
        weighted = next((owner for owner in owners if owner in leaves), None)
        if weighted:
            name = weighted
        elif inside in leaves and following != scope:  # a module's last node makes the module's output
            name = inside
        else:
            name = f"{inside}.{node.op_type.lower()}".lstrip(".")
        for value in node.outputs:
            if value.is_graph_output():
                continue
            value.name = _free(name, taken)
            taken.add(value.name)
        node.name = node.outputs[0].name


def _free(name: str, taken: set[str]) -> str:
    """`name`, or with _1, _2, … behind it where it is taken."""
    free, number = name, 0
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _clean(model: onnx_ir.Model) -> None:
    """Take out what the exporter notes for its own developers: stack traces with the paths of this machine's files."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    for part in [model, graph, *graph, *values, *(value.const_value for value in graph.initializers.values())]:
        part.metadata_props.clear()
        part.doc_string = None


def _compare(module: nn.Module, content: bytes, shape: tuple[int, int, int]) -> None:
    """Raise ExportFailed where the file's logits are not the module's."""
    batch = np.random.default_rng(0).standard_normal((COMPARED, *shape), np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch)).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (got,) = session.run([OUTPUT], {INPUT: batch})
    if got.shape != expected.shape or got.shape[:-1] != (COMPARED,):
        raise ExportFailed(
            f"For {COMPARED} pictures {type(module).__name__} gives {expected.shape}, the file {got.shape}; "
            "both must be a row of logits for each."
        )
    error = np.abs(got - expected).max() / max(np.abs(expected).max(), np.finfo(np.float32).tiny)
    if not error <= TOLERANCE:
        raise ExportFailed(f"The file's logits differ from the module's by {error:.1e} of the largest one.")

"""What would change this number? The same ONNX graph, interpreted in PyTorch, so that it has gradients.

What each op computes stands in engine/ops/table.py; `Twin.__call__` walks the nodes that are needed and fills a
dictionary keyed by tensor name. There is no module, no hook and no state: a method that wants another rule for an op
passes a table of its own (`ops={"Relu": guided_relu}`).
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import torch

from engine.model.graph import Graph, Node
from engine.ops.packed import Packed, pack
from engine.ops.table import OLD, OPS

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


class NoGradient(ValueError):
    """The graph has an op that the Twin cannot compute; the message names the op, its version and the node."""


class Twin:
    """The graph in PyTorch. The weights are frozen and never change, so that one Twin serves every thread.

    half: the weights of products are rounded to bfloat16, once, for passes under autocast (engine/half.py).
    """

    def __init__(self, graph: Graph, mean: Iterable[float], std: Iterable[float], *, half: bool = False):
        self.graph = graph
        with warnings.catch_warnings():
            # The arrays are read-only views of the file's bytes, and nothing here writes to them.
            warnings.filterwarnings("ignore", message=".*not writable.*")
            constants = {name: torch.from_numpy(_plain(array)) for name, array in graph.constants.items()}
        # Kernels with the channels last: convolutions and their gradients take half the time on a CPU.
        self.constants = {
            name: c.contiguous(memory_format=torch.channels_last) if c.ndim == 4 else c for name, c in constants.items()
        }
        if half:
            factors = {name for node in graph.nodes if node.op in PRODUCTS for name in node.inputs[1:]}
            for name in factors & self.constants.keys():
                if self.constants[name].dtype == torch.float32:
                    self.constants[name] = self.constants[name].bfloat16()
        self.packed = {node.outputs[0]: p for node in graph.nodes if (p := pack(node, graph, self.constants))}
        readers = Counter(name for node in graph.nodes for name in node.inputs)
        # By the convolution's output: what a rectifier makes of it that is the only one to read it.
        self.rectified = {
            node.inputs[0]: node.outputs[0]
            for node in graph.nodes
            if node.op == "Relu" and node.inputs[0] in self.packed and readers[node.inputs[0]] == 1
        }
        self.mean = torch.tensor(list(mean)).view(-1, 1, 1)
        self.std = torch.tensor(list(std)).view(-1, 1, 1)

    def missing(self) -> list[Node]:
        """The nodes whose op is not in OPS: gradient methods are off while there are any."""
        return [node for node in self.graph.nodes if node.op not in OPS]

    def __call__(
        self,
        pixels: torch.Tensor | None,
        names: Iterable[str],
        *,
        start: Mapping[str, torch.Tensor] | None = None,
        ops: Mapping[str, Callable] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Compute the tensors `names` and nothing that they do not need.

        pixels: (B, C, H, W) in [0, 1]; differentiable. None where `start` holds all that is needed.
        start: tensors by name that are taken as given: the graph is entered in the middle, behind them.
        ops: functions that replace those of OPS for this call, by op, or for one node by its first output's name.
        Raises NoGradient.
        """
        names = list(names)
        ops = ops or {}
        values = {**self.constants, "": None}
        if pixels is not None:
            values[self.graph.input] = (pixels - self.mean.to(pixels)) / self.std.to(pixels)
        values.update(start or {})
        for node in self.graph.needed(names, values):
            if node.op == "Relu" and node.outputs[0] in values:  # computed along with its convolution
                continue
            replaced = ops.get(node.outputs[0]) or ops.get(node.op)
            function = replaced or OPS.get(node.op)
            if function is None:
                raise NoGradient(f"The op {node.op}-{node.version} of node {_called(node)} has no twin.")
            if node.op in OLD and node.version < OLD[node.op][0] and replaced is None:
                function = OLD[node.op][1]
            missing = next((name for name in node.inputs if name not in values), None)
            if missing is not None:
                raise NoGradient(f"The tensor {missing} is an output that the twin of its op does not compute.")
            packed = self.packed.get(node.outputs[0]) if replaced is None else None
            if packed and packed.suits(*(values[name] for name in node.inputs)):
                plain, rectified = node.outputs[0], self.rectified.get(node.outputs[0])
                gated = rectified is not None and plain not in names and not {"Relu", rectified} & ops.keys()
                values[rectified if gated else plain] = Packed.apply(values[node.inputs[0]], packed, gated)
                continue
            try:
                out = function(*(values[name] for name in node.inputs), **node.attributes)
            except TypeError as error:
                raise NoGradient(
                    f"The op {node.op}-{node.version} of node {_called(node)} has no twin in the form used: {error}."
                ) from error
            values.update(zip(node.outputs, out if isinstance(out, tuple) else (out,), strict=False))
        try:
            return {name: values[name] for name in names}
        except KeyError as error:
            raise NoGradient(f"The tensor {error} is an output that the twin of its op does not compute.") from None


def _called(node: Node) -> str:
    return repr(node.name or node.outputs[0])


def _plain(array: np.ndarray) -> np.ndarray:
    """Zero-dimensional and big-endian arrays in the form that torch takes."""
    return np.ascontiguousarray(array).reshape(array.shape)

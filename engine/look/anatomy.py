"""What is this network made of? Its layers, with the numbers they hold, the work they do and the time they take.

Multiply-adds (MACs) are those of convolutions and matrix products, for one picture, by their definitions: a window that
reaches into the padding counts in full, and additions of biases, normalisations, activations, pools and sums do not
count. Papers and torchvision's own tables ("GFLOPS") count alike.

Times are ONNX Runtime's own, from its profiler (https://onnxruntime.ai/docs/performance/tune-performance).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd

from engine.model.graph import Graph, Node
from engine.model.receptive_field import receptive_fields
from engine.net import Net
from engine.step import Step

NEAR_ZERO = 0.01  # of a tensor's largest weight: what counts as near zero
RUNS = 5  # of the profiler, after one to warm up

# What an op is for, in the words of the table and of the diagram's colours.
KINDS = {
    "convolution": "Conv ConvInteger ConvTranspose DeformConv QLinearConv",
    "linear": "Attention Einsum Gemm MatMul MatMulInteger QLinearMatMul",
    "normalisation": "BatchNormalization GroupNormalization InstanceNormalization LRN LayerNormalization "
    "LpNormalization MeanVarianceNormalization RMSNormalization",
    "activation": "Celu Clip Elu Erf Gelu HardSigmoid HardSwish LeakyRelu LogSoftmax Mish PRelu Relu Selu Sigmoid "
    "Softmax Softplus Softsign Swish Tanh ThresholdedRelu",
    "pooling": "AveragePool GlobalAveragePool GlobalMaxPool LpPool MaxPool ReduceMax ReduceMean ReduceSum",
    "merging": "Add Concat Div Max Mean Min Mul Sub Sum Where",
    "rearranging": "DepthToSpace Expand Flatten Gather Pad Reshape Resize Slice SpaceToDepth Split Squeeze Transpose "
    "Unsqueeze Upsample",
}
OTHER = "other"
_KIND = {op: kind for kind, ops in KINDS.items() for op in ops.split()}

# Ops whose every constant is learned, also a single number.
WEIGHTED = frozenset([*KINDS["convolution"].split(), *KINDS["normalisation"].split(), "Gemm", "MatMul", "PRelu"])
# By op, the places of inputs that hold settings and statistics: no parameters.
_SETTINGS = {
    "BatchNormalization": {3, 4},  # running mean and variance, which no gradient trains
    "Clip": {1, 2},
    "DequantizeLinear": {1, 2},
    "Dropout": {1, 2},
    "Pad": {1, 2, 3},
    "QLinearConv": {1, 2, 4, 5, 6, 7},
    "QLinearMatMul": {1, 2, 4, 5, 6, 7},
    "QuantizeLinear": {1, 2},
    "Resize": {1, 2, 3},
    "Upsample": {1},
}
_QUANTISED = {"ConvInteger": {1}, "MatMulInteger": {1}, "QLinearConv": {3}, "QLinearMatMul": {3}}
# Ops that multiply and add, and of which nothing is counted.
UNCOUNTED = frozenset(["Attention", "Einsum", "GRU", "If", "LSTM", "Loop", "RNN", "Scan"])


@dataclass(frozen=True)
class Anatomy:
    """What `anatomy` found.

    layers: a row per op that depends on the picture, in the order of the graph: name (of its first output), node, op,
    kind (a key of KINDS, or "other"), shape (of one picture's output), values (how many these are), parameters, macs,
    field_rows, field_cols and stride_rows, stride_cols (receptive field in pixels of the input; a stride of 0 stands
    for the whole picture).
    ops: a row per op: op, version (of its operator set), count, parameters, macs.
    parameters, macs: their totals. uncounted: ops that multiply, and of which no MACs are counted, commas between.
    file_bytes: of the file. opset: of the default domain. producer: what wrote the file, or "".
    """

    layers: pd.DataFrame
    ops: pd.DataFrame
    parameters: int
    macs: int
    uncounted: str
    file_bytes: int
    opset: int
    producer: str


def kind(op: str) -> str:
    """What an op is for: a key of KINDS, or "other"."""
    return _KIND.get(op, OTHER)


def anatomy(net: Net) -> Anatomy:
    """The network as tables: every op with its shape, parameters, multiply-adds and receptive field.

    A constant is counted where it is read first, so that shared weights count once. Parameters are the numbers that
    training can change: running statistics, scales of quantisation and settings are none.
    """
    graph = net.graph
    fields = receptive_fields(graph)
    shapes = _shapes(net)
    seen: set[str] = set()
    rows = []
    for node in graph.nodes:
        name = node.outputs[0]
        if name not in graph.from_input:
            continue
        learned = {key: array for key, array, counts in _constants(graph, node) if counts and key not in seen}
        seen |= learned.keys()
        shape = shapes.get(name, ())
        field = fields[name]
        rows.append((
            name,
            node.name,
            node.op,
            kind(node.op),
            "×".join(map(str, shape[1:])),
            prod(shape[1:]),
            sum(array.size for array in learned.values()),
            macs(node, shapes),
            *field.size,
            *field.stride,
        ))  # fmt: skip
    columns = [
        "name",
        "node",
        "op",
        "kind",
        "shape",
        "values",
        "parameters",
        "macs",
        "field_rows",
        "field_cols",
        "stride_rows",
        "stride_cols",
    ]
    layers = pd.DataFrame(rows, columns=columns)
    versions = {node.op: node.version for node in graph.nodes}
    ops = layers.groupby("op", sort=False).agg(
        count=("op", "size"), parameters=("parameters", "sum"), macs=("macs", "sum")
    )
    ops = ops.reset_index().sort_values(["count", "op"], ascending=[False, True], ignore_index=True)
    ops.insert(1, "version", [versions[op] for op in ops.op])
    model = net._model
    return Anatomy(
        layers,
        ops,
        int(layers.parameters.sum()),
        int(layers.macs.sum()),
        ", ".join(sorted(UNCOUNTED & set(layers.op))),
        net.path.stat().st_size if net.path.is_file() else model.ByteSize(),
        max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0),
        f"{model.producer_name} {model.producer_version}".strip(),
    )


def _shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor for one picture: as inferred, and where that ends, as a run gives it."""
    graph = net.graph
    shapes = dict(graph.shapes) | {name: array.shape for name, array in graph.constants.items()}
    unknown = [name for node in graph.nodes for name in node.outputs if name and name not in shapes]
    unknown = [name for name in unknown if name in graph.from_input]
    if unknown:
        blank = np.zeros((1, net.channels, *net.input_size), np.float32)
        shapes |= {name: np.shape(array) for name, array in net.activations(blank, unknown).items()}
    return shapes


def macs(node: Node, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Multiply-adds of a node, from the shapes of what it reads and makes; 0 for what is no product of weights.

    Raises KeyError where a shape that it needs is unknown.
    """
    shape = lambda place: shapes[node.inputs[place]]  # noqa: E731
    if node.op in ("Conv", "ConvInteger", "QLinearConv", "DeformConv"):
        weight = shape({"QLinearConv": 3}.get(node.op, 1))  # (O, I / group, rows, cols)
        return prod(shapes[node.outputs[0]]) * prod(weight[1:])
    if node.op == "ConvTranspose":  # each input value is spread over a window of each output channel of its group
        return prod(shape(0)) * prod(shape(1)[1:])  # (I, O / group, rows, cols)
    if node.op == "Gemm":
        return prod(shapes[node.outputs[0]]) * shape(0)[0 if node.attributes.get("transA", 0) else 1]
    if node.op in ("MatMul", "MatMulInteger", "QLinearMatMul"):
        return prod(shapes[node.outputs[0]]) * shape(0)[-1]
    return 0


def _constants(graph: Graph, node: Node) -> list[tuple[str, np.ndarray, bool]]:
    """(name, array, whether these are parameters) of the constants that a node reads, also through nodes of their own.

    Exporters put reshaping, casting and dequantising between some weights and their node.
    """
    settings, codes = _SETTINGS.get(node.op, ()), _QUANTISED.get(node.op, ())
    found = []
    for place, name in enumerate(node.inputs):
        if not name or name in graph.from_input:
            continue
        if name in graph.constants:
            array = graph.constants[name]
            numbers = np.issubdtype(array.dtype, np.floating) or array.dtype.name in ("bfloat16", "float8_e4m3fn")
            dequantised = node.op == "DequantizeLinear" and place == 0
            counts = (numbers or dequantised or place in codes) and place not in settings
            counts &= array.size > 1 or node.op in WEIGHTED or dequantised
            if numbers or counts:
                found.append((name, array, counts))
        elif (maker := graph.producer(name)) is not None:
            inner = _constants(graph, maker)
            plain = place in settings
            found += [(key, array, counts and not plain) for key, array, counts in inner]
    return found


# Weights ------------------------------------------------------------------------------------------------------------


def weights(net: Net, name: str) -> Mapping[str, np.ndarray]:
    """The constants of more than one number that the op behind tensor `name` reads, by their names in the file.

    Running statistics of a normalisation are among them. Raises UnknownLayer.
    """
    node = net.graph.producer(name)
    if node is None:
        net.layer(name)  # which says that there is none
    return {key: array for key, array, counts in _constants(net.graph, node) if counts or array.size > 1}


def statistics(arrays: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """A row per array: name, shape, count, mean, std, smallest, largest, near_zero (the share of numbers whose size is
    below NEAR_ZERO of the largest one's)."""
    rows = []
    for name, array in arrays.items():
        values = array.astype(np.float64).ravel()
        sizes = np.abs(values)
        near = (sizes <= NEAR_ZERO * sizes.max()).mean() if values.size else 0.0
        shape = "×".join(map(str, array.shape)) or "1"
        rows.append((name, shape, values.size, values.mean(), values.std(), values.min(), values.max(), near))
    return pd.DataFrame(rows, columns=["name", "shape", "count", "mean", "std", "smallest", "largest", "near_zero"])


def histogram(array: np.ndarray, *, bins: int = 60) -> pd.DataFrame:
    """How the numbers of an array are spread: low, high (of each of `bins` equal steps), count. NaN are left out."""
    values = array.astype(np.float64).ravel()
    counts, edges = np.histogram(values[np.isfinite(values)], bins)
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": counts})


# Time ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """Where the time goes.

    layers: a row per op of `Anatomy.layers`, in its order: name, milliseconds (the median of the runs; NaN where the
    profiler saw nothing of it).
    plain: milliseconds of one run as it was profiled, with nothing fused, and optimised: of one as the app runs it;
    medians. runs: how many. engine: where the optimised one ran; the profiled one is the CPU's.
    """

    layers: pd.DataFrame
    plain: float
    optimised: float
    runs: int
    engine: str


def profile(net: Net, *, runs: int = RUNS) -> Profile:
    """How many milliseconds each op takes, for one picture on the CPU, and how many a whole run.

    Returns the median milliseconds of each op and of a whole run.

    runs: that count, after one to warm up. ONNX Runtime's graph optimisations are off while the ops are timed, so that
    each op of the file is run by itself and the time is its own; fused and laid out anew, the whole is faster.
    """
    for step in profile_steps(net, runs=runs):
        found = step.result
    return found


def profile_steps(net: Net, *, runs: int = RUNS) -> Iterator[Step]:
    """The same, a Step per run; only the last one has a result."""
    total = 2 * (runs + 1)
    feed = net._feed(np.random.default_rng(0).random((net.fixed_batch or 1, net.channels, *net.input_size), np.float32))
    model = net._cut([net.output], feed)
    names = []
    for k, node in enumerate(model.graph.node):  # names that are there, and unlike each other
        names.append(next(name for name in node.output if name))
        node.name = f"node{k}"
    whole: dict[str, list[float]] = {"plain": [], "optimised": []}
    with tempfile.TemporaryDirectory(prefix="convoscope-profile-", ignore_cleanup_errors=True) as folder:
        options = net.options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        del model
        ended = False
        try:
            for k in range(runs + 1):
                whole["plain"].append(_timed(lambda: session.run([net.output], feed)))
                yield Step(k + 1, total, None)
            file = session.end_profiling()
            ended = True
            events = json.loads(Path(file).read_text("utf-8"))
        finally:
            if not ended:
                session.end_profiling()  # the file is closed, and goes with the folder
    spent: dict[str, list[float]] = {}
    for event in events:
        place = event.get("name", "").removesuffix("_kernel_time").removeprefix("node")
        if event.get("cat") == "Node" and place.isdecimal():
            spent.setdefault(names[int(place)], []).append(event["dur"] / 1000)
    took = {name: float(np.median(times[1:] or times)) for name, times in spent.items()}
    for k in range(runs + 1):
        whole["optimised"].append(_timed(lambda: net._run(net._scores_session, [net.output], feed)))
        if k < runs:
            yield Step(runs + 2 + k, total, None)
    rows = [node.outputs[0] for node in net.graph.nodes if node.outputs[0] in net.graph.from_input]
    layers = pd.DataFrame({"name": rows, "milliseconds": [took.get(name, np.nan) for name in rows]})
    plain, optimised = (float(np.median(whole[key][1:])) for key in ("plain", "optimised"))
    yield Step(total, total, Profile(layers, plain, optimised, runs, net.engine))


def _timed(run) -> float:
    start = time.perf_counter()
    run()
    return 1000 * (time.perf_counter() - start)

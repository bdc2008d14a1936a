"""Files that mean harm, or were damaged: a few KB each, always the same, and a part of what must be said of each.

`python -m tests.hostile.make FOLDER` writes them, for trying them out in the app.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
CANARY = "canary.bin"  # what must never be read
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {}  # name → what makes it, and what is said of it


def hostile(said: str) -> Callable:
    def register(make: Callable[[], bytes]) -> Callable:
        HOSTILE[make.__name__] = (make, said)
        return make

    return register


def node(op: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def constants(**values) -> list[TensorProto]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def model(
    nodes: Sequence[onnx.NodeProto] = (),
    weights: Sequence[TensorProto] = (),
    *,
    shape: Sequence[int | str] = ("n", 3, 8, 8),
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    opset: int = 17,
) -> onnx.ModelProto:
    """`nodes` make "p" (1, 3, …) or the like of the picture "x", and behind them stands a small classifier, "y"."""
    head = [
        node("Conv", "p w", "c"),
        node("Relu", "c", "r"),
        node("GlobalAveragePool", "r", "g"),
        node("Flatten", "g", "y"),
    ]
    nodes = list(nodes) or [node("Identity", "x", "p")]
    graph = helper.make_graph(
        [*nodes, *head],
        "hostile",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        [*weights, numpy_helper.from_array(np.linspace(-1, 1, 108, dtype=np.float32).reshape(4, 3, 3, 3), "w")],
    )
    imports = [helper.make_opsetid(domain, opset if not domain else 1) for domain in ("", *domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8, functions=list(functions))


def good() -> bytes:
    """What all others are changed from."""
    return model().SerializeToString()


# No network at all, or not all of one ---------------------------------------------------------------------------------


@hostile("is empty")
def empty() -> bytes:
    return b""


@hostile("is not an ONNX file")
def text() -> bytes:
    return b"This is not a network.\n" * 40


@hostile("is not an ONNX file")
def cut_short() -> bytes:
    return good()[:-150]


@hostile("is not an ONNX file")
def no_graph() -> bytes:
    made = model()
    made.ClearField("graph")
    return made.SerializeToString()


@hostile("holds no network")
def no_nodes() -> bytes:
    made = model()
    del made.graph.node[:]
    return made.SerializeToString()


@hostile("is not an ONNX file")
def nested() -> bytes:
    """Graphs inside nodes inside graphs, 5,000 deep: field 7 (graph), 1 (node), 5 (attribute), 6 (graph), 1, 5, 6, …"""
    content = b""
    for _ in range(5000):
        for field in (6, 5, 1):
            content = bytes([field << 3 | 2]) + _varint(len(content)) + content
    return b"\x08\x08" + bytes([7 << 3 | 2]) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


@hostile("nodes; networks of up to")
def many_nodes() -> bytes:
    """A chain that is far longer than any network; its file is the largest here."""
    made = model([node("Identity", "x", "p")])
    del made.graph.node[0]
    last = "x"
    for k in range(20_001):
        made.graph.node.add(op_type="Neg", input=[last], output=[last := f"{k:x}"])
    made.graph.node.add(op_type="Identity", input=[last], output=["p"])
    return made.SerializeToString()


@hostile("longer than 1,000 characters")
def long_name() -> bytes:
    made = model([node("Relu", "x", "a" * 5000), node("Identity", "a" * 5000, "p")])
    return made.SerializeToString()


@hostile("characters of metadata")
def much_metadata() -> bytes:
    made = model()
    made.metadata_props.add(key="labels", value='["' + "a" * 1_200_000 + '"]')
    return made.SerializeToString()


@hostile("metadata has a labels that cannot be read")
def deep_metadata() -> bytes:
    made = model()
    made.metadata_props.add(key="labels", value="[" * 100_000)
    return made.SerializeToString()


@hostile("graph whose shapes contradict each other|cannot open|damaged")
def a_circle() -> bytes:
    return model([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Identity", "a", "p")]).SerializeToString()


@hostile("takes an input of")
def a_huge_picture() -> bytes:
    return model(shape=(1, 3, 2**20, 2**20)).SerializeToString()


@hostile("takes an input of")
def a_huge_batch() -> bytes:
    return model(shape=(2**40, 3, 8, 8)).SerializeToString()


# Data elsewhere -------------------------------------------------------------------------------------------------------


def external(location: str, **more: int) -> bytes:
    made = model([node("Add", "x bias", "p")], constants(bias=np.zeros((1, 3, 8, 8), np.float32)))
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return made.SerializeToString()


ALONE = "keeps its weights in another file; save it as a single one"


@hostile(ALONE)
def outside_absolute() -> bytes:
    return external("/etc/passwd")


@hostile(ALONE)
def outside_above() -> bytes:
    return external(f"../{CANARY}")


@hostile(ALONE)
def outside_beside() -> bytes:
    return external(CANARY)


@hostile(ALONE)
def outside_in_an_attribute() -> bytes:
    value = numpy_helper.from_array(np.zeros((1, 3, 8, 8), np.float32))
    value.ClearField("raw_data")
    value.data_location = TensorProto.EXTERNAL
    value.external_data.add(key="location", value="/etc/passwd")
    return model([node("Constant", "", "b", value=value), node("Add", "x b", "p")]).SerializeToString()


@hostile(ALONE)
def outside_half_said() -> bytes:
    """The entries are there, but not the mark that they count."""
    made = onnx.load_model_from_string(external("/etc/passwd"))
    made.graph.initializer[0].data_location = TensorProto.DEFAULT
    return made.SerializeToString()


# Operators ------------------------------------------------------------------------------------------------------------


@hostile("uses the operator Run of the domain 'evil.corp'")
def own_domain() -> bytes:
    return model([node("Run", "x", "p", domain="evil.corp")], domains=["evil.corp"]).SerializeToString()


@hostile("of the domain 'com.microsoft'")
def runtimes_own_domain() -> bytes:
    return model([node("Gelu", "x", "p", domain="com.microsoft")], domains=["com.microsoft"]).SerializeToString()


@hostile("of the domain 'evil.corp'")
def own_domain_in_a_function() -> bytes:
    body = helper.make_function(
        "f", "f", ["a"], ["b"], [node("Run", "a", "b", domain="evil.corp")], [helper.make_opsetid("evil.corp", 1)]
    )
    return model([node("f", "x", "p", domain="f")], functions=[body], domains=["f"]).SerializeToString()


@hostile("graph inside a node (Loop)")
def loop() -> bytes:
    """For ever: it runs as often as the largest number says."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", "go", "on"), node("Mul", "a a", "b")],
        "body",
        [info("i", INT64, []), info("go", TensorProto.BOOL, []), info("a", FLOAT, None)],
        [info("on", TensorProto.BOOL, []), info("b", FLOAT, None)],
    )
    weights = constants(often=np.int64(2**62), yes=np.bool_(True))
    return model([node("Loop", "often yes x", "p", body=body)], weights).SerializeToString()


@hostile("graph inside a node (If)")
def branch() -> bytes:
    info = helper.make_tensor_value_info
    ways = [helper.make_graph([node("Neg", "x", k)], k, [], [info(k, FLOAT, None)]) for k in ("a", "b")]
    weights = constants(yes=np.bool_(True))
    return model([node("If", "yes", "p", then_branch=ways[0], else_branch=ways[1])], weights).SerializeToString()


@hostile("graph inside a node (Scan)")
def scan() -> bytes:
    info = helper.make_tensor_value_info
    body = helper.make_graph([node("Neg", "a", "b")], "body", [info("a", FLOAT, None)], [info("b", FLOAT, None)])
    return model([node("Scan", "x", "p", body=body, num_scan_inputs=1)]).SerializeToString()


def _function(name: str, calls: str, times: int) -> onnx.FunctionProto:
    names = ["a", *(f"t{k}" for k in range(times - 1)), "b"]
    nodes = [node(calls, names[k], names[k + 1], domain="f" if calls != "Relu" else "") for k in range(times)]
    return helper.make_function(
        "f", name, ["a"], ["b"], nodes, [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    )


@hostile("nodes; networks of up to")
def functions_that_multiply() -> bytes:
    """Ten calls of ten calls of …: ten billion nodes out of a hundred."""
    bodies = [_function("f0", "Relu", 10), *(_function(f"f{k}", f"f{k - 1}", 10) for k in range(1, 10))]
    return model([node("f9", "x", "p", domain="f")], functions=bodies, domains=["f"]).SerializeToString()


@hostile("a function 'f0' that calls itself")
def a_function_of_itself() -> bytes:
    bodies = [_function("f0", "f1", 1), _function("f1", "f0", 1)]
    return model([node("f0", "x", "p", domain="f")], functions=bodies, domains=["f"]).SerializeToString()


@hostile("more than 32 deep")
def functions_within_functions() -> bytes:
    bodies = [_function("f0", "Relu", 1), *(_function(f"f{k}", f"f{k - 1}", 1) for k in range(1, 2000))]
    return model([node("f1999", "x", "p", domain="f")], functions=bodies, domains=["f"]).SerializeToString()


@hostile("uses an operator Abracadabra, which ONNX does not have")
def no_such_operator() -> bytes:
    return model([node("Abracadabra", "x", "p")]).SerializeToString()


# Weights that are not there -------------------------------------------------------------------------------------------


def claimed(dims: Sequence[int], kind: int = FLOAT) -> bytes:
    made = model([node("Add", "x big", "p")], constants(big=np.zeros(16, np.float32)))
    del made.graph.initializer[0].dims[:]
    made.graph.initializer[0].dims.extend(dims)
    made.graph.initializer[0].data_type = kind
    return made.SerializeToString()


@hostile("claims 1,000,000,000,000 numbers")
def terabytes() -> bytes:
    return claimed([10**6, 10**6])


@hostile("claims 1,000,000 numbers and holds 16")
def megabytes() -> bytes:
    return claimed([1000, 1000])


@hostile("claims 18,446,744,073,709,551,616 numbers")
def overflow() -> bytes:
    """2^64 numbers, which 64 bits take for none."""
    return claimed([2**32, 2**32])


@hostile("has a negative size")
def negative() -> bytes:
    return claimed([-4, -4])


@hostile("of a kind that ONNX does not have")
def strange_kind() -> bytes:
    return claimed([16], 99)


@hostile("sparse form")
def sparse() -> bytes:
    made = model()
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    indices = numpy_helper.from_array(np.zeros(1, np.int64), "i")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2**40]))
    return made.SerializeToString()


@hostile("answers a picture with what is no number")
def not_a_number() -> bytes:
    return model([node("Mul", "x nan", "p")], constants(nan=np.float32("nan"))).SerializeToString()


@hostile("for each picture|two pictures at once")
def all_pictures_as_one() -> bytes:
    """Found by the fuzz run: whatever the batch, one row comes out."""
    made = model()
    nodes = [
        node("Identity", "x", "p"),
        node("Conv", "p w", "c"),
        node("ReduceMean", "c", "g", axes=[0, 2, 3], keepdims=1),
    ]
    nodes.append(node("Flatten", "g", "y"))
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made.SerializeToString()


# Much out of little ---------------------------------------------------------------------------------------------------

MUCH = "more than can be held"
BOMB = 100_000


@hostile(MUCH)
def constant_of_shape() -> bytes:
    weights = constants(size=np.array([BOMB, BOMB]))
    nodes = [node("ConstantOfShape", "size", "z"), node("ReduceMax", "z", "m", keepdims=0), node("Add", "x m", "p")]
    return model(nodes, weights).SerializeToString()


@hostile(MUCH)
def expand() -> bytes:
    weights = constants(size=np.array([1, 3, BOMB, BOMB]), one=np.ones((1, 3, 1, 1), np.float32))
    return model(
        [node("Expand", "one size", "e"), node("ReduceMax", "e", "m", keepdims=0), node("Add", "x m", "p")], weights
    ).SerializeToString()


@hostile(MUCH)
def tile() -> bytes:
    return model([node("Tile", "x often", "p")], constants(often=np.array([1, 1, 9000, 9000]))).SerializeToString()


@hostile("more memory than|more than can be held")
def range_() -> bytes:
    weights = constants(a=np.int64(0), b=np.int64(10**12), s=np.int64(1))
    nodes = [node("Range", "a b s", "i"), node("Cast", "i", "f", to=FLOAT), node("ReduceMax", "f", "m", keepdims=0)]
    return model([*nodes, node("Add", "x m", "p")], weights).SerializeToString()


@hostile(MUCH)
def resize() -> bytes:
    weights = constants(scales=np.array([1, 1, 1e5, 1e5], np.float32), roi=np.zeros(0, np.float32))
    return model([node("Resize", "x roi scales", "p")], weights).SerializeToString()


@hostile(MUCH)
def pad() -> bytes:
    return model(
        [node("Pad", "x pads", "p")], constants(pads=np.array([0, 0, BOMB, BOMB, 0, 0, 0, 0]))
    ).SerializeToString()


@hostile(MUCH)
def doubled() -> bytes:
    """Thirty times the double of itself."""
    nodes = [
        node("Concat", f"{'x' if k == 0 else f'd{k}'} {'x' if k == 0 else f'd{k}'}", f"d{k + 1}", axis=2)
        for k in range(30)
    ]
    return model([*nodes, node("Identity", "d30", "p")]).SerializeToString()


@hostile("more memory than|more than can be held")
def computed_size() -> bytes:
    """A size that only a run shows: shape inference does not follow it through a product of sums."""
    weights = constants(a=np.full((100,), 1000), axes=np.array([0]), one=np.array([1]))
    nodes = [
        node("ReduceSum", "a axes", "s", keepdims=1),
        node("Concat", "one one s s", "size", axis=0),
        node("ConstantOfShape", "size", "z"),
        node("ReduceMax", "z", "m", keepdims=0),
        node("Add", "x m", "p"),
    ]
    return model(nodes, weights).SerializeToString()


DEPENDS = "whose size depends on what is in the picture"


@hostile(DEPENDS)
def size_by_picture() -> bytes:
    """Small as long as nobody shows it a white picture."""
    nodes = [
        node("ReduceMax", "x", "m", keepdims=0),
        node("Mul", "m big", "n"),
        node("Cast", "n", "i", to=INT64),
        node("Range", "zero i one", "r"),
        node("Cast", "r", "f", to=FLOAT),
        node("ReduceMax", "f", "t", keepdims=0),
        node("Add", "x t", "p"),
    ]
    weights = constants(big=np.float32(1e9), zero=np.int64(0), one=np.int64(1))
    return model(nodes, weights).SerializeToString()


@hostile(DEPENDS)
def counted_by_picture() -> bytes:
    nodes = [
        node("NonZero", "x", "i"),
        node("Cast", "i", "f", to=FLOAT),
        node("Transpose", "f", "t"),
        node("MatMul", "t f", "q"),
        node("ReduceMax", "q", "m", keepdims=0),
        node("Add", "x m", "p"),
    ]
    return model(nodes).SerializeToString()


@hostile("takes longer than")
def slow() -> bytes:
    """Within all sizes, and yet for hours: a convolution of large kernels, again and again."""
    nodes = [node("Tile", "x up", "t"), node("Slice", "t s e a", "u"), node("Expand", "k size", "kernel")]
    weights = constants(
        size=np.array([64, 64, 9, 9]),
        up=np.array([1, 22, 64, 64]),
        s=np.array([0]),
        e=np.array([64]),
        a=np.array([1]),
        k=np.full((1, 1, 1, 1), 1e-4, np.float32),
    )
    last = "u"
    for k in range(300):
        nodes.append(node("Conv", f"{last} kernel", last := f"v{k}", pads=[4, 4, 4, 4]))
    nodes.append(node("Slice", f"{last} s three a", "p"))
    return model(nodes, [*weights, *constants(three=np.array([3]))]).SerializeToString()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, (make, _) in HOSTILE.items():
        (folder / f"{name}.onnx").write_bytes(make())


if __name__ == "__main__":
    main(Path(sys.argv[1]))

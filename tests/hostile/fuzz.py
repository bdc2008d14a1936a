"""Thousands of damaged networks: does each get opened or a sentence, and does the app's process live through all?

`python -m tests.hostile.fuzz --mutants 10000 --seed 0` changes real files in all the ways that it knows, asks
engine/intake/opening.py about each, and opens those that pass as the app would. It ends with status 1 where anything
but a refusal came out of that, and leaves the file behind.

With --twin, what opens is asked for its certificate, too, in the child and within its limits (twinned.py): each has a
twin that equals ONNX Runtime, or a sentence why it has none. Files are then changed once each, so that more open.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from engine.intake.opening import Examiner, Limits, Refused, Report
from engine.net import BadNetwork, Net
from engine.nets.folder import PROJECT

from . import make

LIMITS = Limits(seconds=6.0, memory=3 << 28)  # small networks need less than others, and many files are waiting
TWIN_LIMITS = Limits(seconds=12.0, memory=3 << 29)
FINE = ("opened", "the twin is equal")
REASONS = ("no twin", "no twin: it fails", "no gradient", "the twin differs", "the gradient differs", "wrong")
KEPT = ("wrong", "crashed the child", "opened there and refused here", "the twin differs", "the gradient differs")
KEPT += ("no twin: it fails", "killed by a limit")
PER_CHILD = 400  # files that one child sees
NUMBERS = (0, 1, -1, 2, 3, 7, 255, 1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))


def bases() -> list[bytes]:
    """What is changed: small networks that ship, and the corpus's own, which is all structure."""
    shipped = [PROJECT / "exported_models" / f"{name}.onnx" for name in ("digits", "clever_hans")]
    return [*(path.read_bytes() for path in shipped), *[make.good()] * 2, *[_without_weights(shipped[0])] * 2]


def _without_weights(path: Path) -> bytes:
    """The same graph with a few channels: so that what is hit is rarely a weight."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        few = array[tuple(slice(0, 10 if array.shape[0] == 10 and k == 0 else 4) for k in range(array.ndim))]
        if array.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(few), tensor.name))
    return model.SerializeToString()


# Ways to damage bytes -------------------------------------------------------------------------------------------------


def flipped(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 17))):
        out[int(rng.integers(len(out)))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def replaced(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    out, start = bytearray(data), int(rng.integers(len(data)))
    size = int(rng.integers(1, 33))
    out[start : start + size] = rng.bytes(int(rng.integers(0, 33))) if rng.random() < 0.5 else bytes([255]) * size
    return bytes(out)


def truncated(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    return data[: int(rng.integers(len(data)))]


def spliced(data: bytes, rng: np.random.Generator, others: Sequence[bytes]) -> bytes:
    other = others[int(rng.integers(len(others)))]
    a, b, c = int(rng.integers(len(data))), *sorted(rng.integers(len(other), size=2).tolist())
    return data[:a] + other[b:c] + data[a + (c - b if rng.random() < 0.5 else 0) :]


# Ways to damage what the file says ------------------------------------------------------------------------------------


def attribute(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    found = [a for node in model.graph.node for a in node.attribute]
    if not found:
        return
    chosen = found[int(rng.integers(len(found)))]
    if chosen.ints:
        where = int(rng.integers(len(chosen.ints)))
        if rng.random() < 0.3:
            chosen.ints.extend(list(chosen.ints))
        chosen.ints[where] = _number(rng)
    elif chosen.type == onnx.AttributeProto.INT:
        chosen.i = _number(rng)
    elif chosen.type == onnx.AttributeProto.FLOAT:
        chosen.f = FLOATS[int(rng.integers(len(FLOATS)))]
    else:
        chosen.type = int(rng.integers(0, 15))


def dims(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    tensors = model.graph.initializer
    chosen = tensors[int(rng.integers(len(tensors)))]
    if chosen.dims and rng.random() < 0.7:
        chosen.dims[int(rng.integers(len(chosen.dims)))] = _number(rng)
    elif rng.random() < 0.5:
        shuffled = rng.permutation(list(chosen.dims)).tolist()
        del chosen.dims[:]
        chosen.dims.extend(shuffled)
    else:
        chosen.dims.append(1)


def kind(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    tensors = model.graph.initializer
    tensors[int(rng.integers(len(tensors)))].data_type = int(rng.integers(0, 26))


def values(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Other numbers in a weight, or in a shape."""
    tensors = model.graph.initializer
    chosen = tensors[int(rng.integers(len(tensors)))]
    array = onnx.numpy_helper.to_array(chosen).copy()
    if array.size:
        flat, where = array.reshape(-1), int(rng.integers(array.size))
        if array.dtype.kind == "f":
            flat[where:] = FLOATS[int(rng.integers(len(FLOATS)))]
        elif array.dtype.kind == "i":
            flat[where] = np.clip(_number(rng), np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
        chosen.CopyFrom(onnx.numpy_helper.from_array(array, chosen.name))


def operator(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Any other operator that ONNX has."""
    names = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})
    nodes = model.graph.node
    nodes[int(rng.integers(len(nodes)))].op_type = names[int(rng.integers(len(names)))]


def wiring(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    nodes = model.graph.node
    names = [name for node in nodes for name in (*node.input, *node.output)] + [""]
    chosen = nodes[int(rng.integers(len(nodes)))]
    ends = chosen.input if rng.random() < 0.7 else chosen.output
    if len(ends):
        ends[int(rng.integers(len(ends)))] = names[int(rng.integers(len(names)))]
    if rng.random() < 0.2:
        ends.append(names[int(rng.integers(len(names)))])


def nodes(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    found = model.graph.node
    where = int(rng.integers(len(found)))
    if rng.random() < 0.5:
        del found[where]
    else:
        found.append(found[where])


def shape(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    kinds = model.graph.input[0].type.tensor_type
    if kinds.shape.dim and rng.random() < 0.8:
        chosen = kinds.shape.dim[int(rng.integers(len(kinds.shape.dim)))]
        chosen.Clear() if rng.random() < 0.3 else setattr(chosen, "dim_value", _number(rng))
    elif rng.random() < 0.5:
        kinds.elem_type = int(rng.integers(0, 26))
    else:
        del kinds.shape.dim[int(rng.integers(len(kinds.shape.dim) + 1)) :]


def version(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    if rng.random() < 0.5 and model.opset_import:
        model.opset_import[0].version = int(rng.integers(0, 30)) if rng.random() < 0.9 else _number(rng)
    else:
        model.ir_version = int(rng.integers(0, 20))


def said(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """Of labels, size, mean and the like."""
    texts = (
        "",
        "[]",
        "[1e400]",
        "null",
        "NaN",
        "[NaN, NaN, NaN]",
        '["a"]',
        "[0, 0]",
        "{",
        '"\\ud800"',
        "[[[[",
        "[1e9, 1e9]",
    )
    keys = ("labels", "input_size", "mean", "std", "crop", "source")
    model.metadata_props.add(key=keys[int(rng.integers(len(keys)))], value=texts[int(rng.integers(len(texts)))])
    if rng.random() < 0.5 and len(model.metadata_props) > 1:
        model.metadata_props[0].value = texts[int(rng.integers(len(texts)))]


def added(model: onnx.ModelProto, rng: np.random.Generator) -> None:
    """One more operator between picture and network, with inputs of its own."""
    ops = (
        "Resize",
        "Tile",
        "Expand",
        "Pad",
        "Reshape",
        "Slice",
        "Gather",
        "TopK",
        "OneHot",
        "Upsample",
        "Split",
        "Einsum",
    )
    name = model.graph.input[0].name
    numbers = np.array([_number(rng) for _ in range(int(rng.integers(1, 6)))])
    extra = onnx.numpy_helper.from_array(numbers.astype(np.float32 if rng.random() < 0.4 else np.int64), "fuzz")
    model.graph.initializer.append(extra)
    inputs = [name, *["fuzz"] * int(rng.integers(1, 4))]
    for node in model.graph.node:
        for k, each in enumerate(node.input):
            if each == name:
                node.input[k] = "fuzzed"
    model.graph.node.insert(0, onnx.helper.make_node(ops[int(rng.integers(len(ops)))], inputs, ["fuzzed"]))


def _number(rng: np.random.Generator) -> int:
    return NUMBERS[int(rng.integers(len(NUMBERS)))] if rng.random() < 0.7 else int(rng.integers(-8, 300))


BYTES = (flipped, replaced, truncated, spliced)
SAID = (attribute, dims, kind, values, operator, wiring, nodes, shape, version, said, added)


def mutant(number: int, seed: int, files: Sequence[bytes], *, gently: bool = False) -> bytes:
    """The mutant of that number: it depends on nothing else than its number and the seed.

    gently: with one change to what the file says, so that more of them open.
    """
    rng = np.random.default_rng((seed, number))
    data = files[int(rng.integers(len(files)))]
    ways = BYTES if rng.random() < 0.4 and not gently else SAID
    for _ in range(1 if gently else int(rng.integers(1, 4))):
        way = ways[int(rng.integers(len(ways)))]
        if way in BYTES:
            data = way(data or b"\0", rng, files)
        else:
            model = onnx.load_model_from_string(data)
            try:
                way(model, rng)
            except (ValueError, TypeError, IndexError, OverflowError, NotImplementedError):
                continue  # there is nothing left of the kind that it changes
            data = model.SerializeToString()
    return data


# The run --------------------------------------------------------------------------------------------------------------


class Twinned(Examiner):
    """A child that also computes the certificate of what opens."""

    module = "tests.hostile.twinned"

    def _found(self, answer: dict, made: bytes, name: str, content: bytes) -> tuple[str, str]:
        return answer["became"], answer["said"]


def outcome(examiner: Examiner, content: bytes) -> tuple[str, str]:
    """(what became of it, the sentence)."""
    if not content:
        return "refused", "is empty"
    try:
        for found in examiner.ask(content, "mutant.onnx"):
            if isinstance(found, tuple):
                return found
            if isinstance(found, Report):
                net = Net("mutant.onnx", content=content)
                net.scores(np.zeros((2, net.channels, *net.input_size), np.float32))
                assert len(net.labels) == net.classes
                assert net.layers
                return "opened", ""
    except Refused as error:
        sentence = str(error)
        ended = examiner.process is None or examiner.process.poll() is not None
        if "process that examined it crash" in sentence:
            return "crashed the child", sentence
        if "takes longer than" in sentence or (ended and "needs more memory" in sentence):
            return "killed by a limit", sentence
        return ("out of memory" if "needs more memory" in sentence else "refused"), sentence
    except BadNetwork as error:
        return "opened there and refused here", str(error)
    raise AssertionError("no verdict")


def fuzz(
    mutants: int,
    seed: int = 0,
    *,
    first: int = 0,
    twin: bool = False,
    keep: Path | None = None,
    verbose: bool = False,
) -> tuple[Counter, list[str]]:
    """How many mutants came to what, and what went wrong: a line for each. keep: where those files go."""
    files, counts, wrong = bases(), Counter(), []
    examiner, start = Twinned(TWIN_LIMITS) if twin else Examiner(LIMITS), time.monotonic()
    try:
        for number in range(first, first + mutants):
            content = mutant(number, seed, files, gently=twin)
            if number % PER_CHILD == PER_CHILD - 1:
                examiner.close()
            try:
                became, sentence = outcome(examiner, content)
                if became not in FINE and not _plain(sentence, named=became not in REASONS):
                    wrong.append(f"mutant {number}: no plain sentence: {sentence!r}")
                if became == "wrong":
                    wrong.append(f"mutant {number}: {sentence}")
            except Exception as error:
                became = "wrong"
                wrong.append(f"mutant {number}: {type(error).__name__}: {error}")
                examiner.close()
            counts[became] += 1
            if keep and became in KEPT:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{became.replace(' ', '_')}_{seed}_{number}.onnx").write_bytes(content)
            if verbose and number % 500 == 499:
                print(f"{number + 1}: {dict(counts)} {time.monotonic() - start:.0f} s", flush=True)
    finally:
        examiner.close()
    return counts, wrong


def _plain(sentence: str, named: bool) -> bool:
    """One line, with the file's name, and no trace of a stack."""
    if sentence == "is empty":
        return True
    return "\n" not in sentence and 10 < len(sentence) < 600 and ("mutant.onnx" in sentence or not named)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--twin", action="store_true", help="ask for the certificate of what opens, too")
    parser.add_argument("--keep", type=Path, help="folder for the files of which something is to be seen")
    given = parser.parse_args()
    start = time.monotonic()
    counts, wrong = fuzz(given.mutants, given.seed, first=given.first, twin=given.twin, keep=given.keep, verbose=True)
    for became, count in counts.most_common():
        print(f"{count:7,}  {became}")
    print(f"{sum(counts.values()):7,}  in {time.monotonic() - start:.0f} s")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

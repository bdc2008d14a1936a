"""What does the child process do with a stranger's file? It gives up its rights first: engine/intake/opening.py."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx

from engine.devices import cores
from engine.intake import claims
from engine.intake.claims import Refused
from engine.intake.opening import too_heavy
from engine.model import forms
from engine.net import BadNetwork, Net, UnknownLayer

MAX_CLASSES = 65_536


# Answering: what runs in the child ------------------------------------------------------------------------------------


def serve(
    source: BinaryIO, said: BinaryIO, *, files: bool, warm: Callable | None = None, answer: Callable | None = None
) -> None:
    """Answer about one file after the other, until there are no more: a line of JSON and the content, for each.

    warm: loads what is needed, before the limits are set. answer: (content, what was asked, say) → what is said of the
    file, and where "made" is among it, bytes that follow the line. By default, files are examined.
    """
    (warm or _warm)()
    _shut(files)

    def say(made: bytes = b"", **what: Any) -> None:
        said.write(json.dumps({**what, "bytes": len(made)} if made else what).encode() + b"\n")
        said.write(made)
        said.flush()

    say(ready=True)
    while line := source.readline():
        head = json.loads(line)
        content = source.read(head["size"])
        if len(content) < head["size"]:
            return
        _limit(head["seconds"], head["memory"])
        try:
            say(**(answer or _examine)(content, head, say))
        except BadNetwork as error:
            say(refused=_sentence(error, head["name"], head["memory"]))
        except MemoryError:
            say(refused=too_heavy(head["name"], head["memory"]))
        except Exception:  # damaged messages raise whatever protobuf, onnx or numpy happen to meet
            say(refused=f"{head['name']} is damaged: what it says of itself cannot be read.")
        if head["once"]:
            return
        del content


def _examine(content: bytes, head: dict, say: Callable) -> dict[str, Any]:
    return _examined(content, head["name"], head["beside"] and Path(head["beside"]), say)


def merged(model: onnx.ModelProto, beside: Path) -> bytes:
    """The file with its weights inside, from where `claims.check` found them to lie. `model` is changed."""
    forms.gather(model, beside)
    return model.SerializeToString()


def _sentence(error: BadNetwork, name: str, memory: int) -> str:
    """Its own, or that memory ran out, which ONNX Runtime says in several ways."""
    told = []
    cause: BaseException | None = error
    while cause is not None:
        told.append(f"{type(cause).__name__} {cause}")
        cause = cause.__cause__
    if re.search(r"bad_alloc|Failed to allocate|MemoryError|bad allocation|std::length_error", "\n".join(told)):
        return too_heavy(name, memory)
    return " ".join(str(error).split())


def _examined(content: bytes, name: str, beside: Path | None, say: Any) -> dict[str, Any]:
    """All that the app will do with the file at first, in its order."""
    say(stage=2)
    try:
        model = onnx.load_model_from_string(content)
    except MemoryError:
        raise
    except Exception as error:  # protobuf raises a class of its own, without a public name
        raise Refused(f"{name} is not an ONNX file, or it is cut short.") from error
    free = [dim.dim_value <= 0 for value in model.graph.input[:1] for dim in value.type.tensor_type.shape.dim]
    nodes = len(claims.check(model, name, beside).graph.node)
    say(stage=3)
    external = beside is not None and bool(forms.external(model))
    if external:
        content = merged(model, beside)
    del model
    net = Net(name, content=content)
    if net.classes > MAX_CLASSES:
        raise Refused(
            f"{name} gives {net.classes:,} numbers for a picture; a classifier of up to {MAX_CLASSES:,} classes is "
            "needed here, and a style network goes to the page Fast style."
        )
    layers = len(net.layers)
    if not layers:
        raise Refused(f"{name} makes nothing of the picture on the way to its answer; there is nothing to show.")
    stride = 0
    with contextlib.suppress(UnknownLayer):  # a network may have none
        stride = net.map_layer().receptive_field.stride[0]
    say(stage=4)
    pictures = np.random.default_rng(0).random((2, net.channels, *net.input_size), np.float32)
    start = time.perf_counter()
    scores = net.scores(pictures[:1])
    seconds = time.perf_counter() - start
    try:
        both = net.scores(pictures)
    except MemoryError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        raise Refused(
            f"{name} cannot be asked about two pictures at once; export it with a free batch size."
        ) from error
    if scores.shape != (1, net.classes) or both.shape != (2, net.classes):
        raise Refused(f"{name} does not give a row of numbers, one per class, for each picture; it is no classifier.")
    if not np.isfinite(scores).all():
        raise Refused(f"{name} answers a picture with what is no number (NaN or infinity); its weights are damaged.")
    return {
        "nodes": nodes,
        "channels": net.channels,
        "input_size": list(net.input_size),
        "external": external,
        "stride": stride,
        "free": len(free) == 4 and any(free[1:]) and any(free[2:]),
        "classes": net.classes,
        "layers": layers,
        "missing": list(net.metadata.missing),
        "notes": list(net.notes)[:8],
        "seconds": round(seconds, 4),
        "memory": _peak(),
    }


def _peak() -> int:
    """Bytes that this process has had at most; 0 where the system does not say.

    Not getrusage's, which begins with what the parent had when it started the child.
    """
    if _status is None:
        return 0
    _status.seek(0)
    found = re.search(rb"VmHWM:\s+(\d+) kB", _status.read())
    return int(found[1]) * 1024 if found else 0


def _warm() -> None:
    """Load and start all that a network needs, while files may still be opened."""
    node, info, kind = onnx.helper.make_node, onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    nodes = [
        node("Conv", ["x", "w"], ["c"], kernel_shape=[1, 1]),
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Flatten", ["p"], ["y"]),
    ]
    weights = [onnx.numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")]
    graph = onnx.helper.make_graph(nodes, "w", [info("x", kind, [1, 3, 8, 8])], [info("y", kind, [1, 2])], weights)
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    _examined(made.SerializeToString(), "w.onnx", None, lambda **_: None)
    broken = [b"", b"damaged", made.SerializeToString()[:-20]]  # errors load modules of their own
    for content in broken:
        with contextlib.suppress(BadNetwork):
            _examined(content, "w.onnx", None, lambda **_: None)


def _shut(files: bool) -> None:
    """No more files, no files to write, no core dumps; and the first to go where the system runs out of memory."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if not files:
        free = os.dup(0)  # the lowest number that is free, and no number from it on will be given out again
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free, free))
    else:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def _limit(seconds: float, memory: int) -> None:
    """For the next file: so much processor time and memory more than now. Soft ones, which the next file moves on."""
    try:
        import resource
    except ImportError:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = math.ceil(used.ru_utime + used.ru_stime + seconds * min(cores(), 4))
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    if (taken := _addresses()) is not None:
        stacks = 16 * 2**20 * (os.cpu_count() or 1)  # ONNX Runtime's threads, with room for what they keep
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_AS, (taken + memory + stacks, resource.RLIM_INFINITY))


_statm = _status = None  # of this process: how much memory it takes


def _addresses() -> int | None:
    """Bytes of addresses that this process has taken, which is what RLIMIT_AS counts. Opened before `_shut`."""
    if _statm is None:
        return None
    _statm.seek(0)
    return int(_statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def main(**how: Any) -> None:
    """What runs in the child. how: see `serve`."""
    global _statm, _status
    with contextlib.suppress(OSError):
        _statm = open("/proc/self/statm", "rb", buffering=0)  # noqa: SIM115
        _status = open("/proc/self/status", "rb", buffering=0)  # noqa: SIM115
    said = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)  # what libraries print is no answer
    os.close(nothing)
    serve(sys.stdin.buffer, said, files="--files" in sys.argv[1:], **how)


if __name__ == "__main__":
    from engine.intake import examining  # the same module under its own name, so that its classes are the others'

    examining.main()

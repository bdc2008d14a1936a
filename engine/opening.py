"""May this file be opened? A stranger's network is opened in a process of its own first, which may fail.

The child is a fresh interpreter (`python -m engine.opening`) with an empty folder to stand in, a handful of environment
variables, and its input and output as the only way in and out. Once it has loaded what it needs and before it reads the
file, it gives up the right to

* open any other file, or a socket, or write to one (RLIMIT_NOFILE, RLIMIT_FSIZE): a path inside the file names nothing,
* take more memory than the file can honestly need (RLIMIT_AS, counted from what it has by then),
* compute for longer than a while (RLIMIT_CPU), or leave a core dump behind (RLIMIT_CORE).

The time on the clock is kept by the parent, which ends the child. Then the child does what the app is about to do with
the file: it checks what the file claims (engine/claims.py), opens it as a Net, and asks it about a picture. What stops
the child stops the file: every refusal is one sentence, also where the child was killed or has crashed.

The limits need Linux; macOS does not keep RLIMIT_AS, and Windows has none of them: there, the clock and the checks are
all there is. This is a guard against files that mean harm by what the format allows, and against damaged ones; it is no
guard against a file that makes a program of its own run through a defect of ONNX Runtime. Who opens strangers' files
for strangers runs the app in a container.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import queue
import re
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx

from engine import claims
from engine.claims import MAX_BYTES, Refused
from engine.model import forms
from engine.net import BadNetwork, Net, UnknownLayer, cores
from engine.nets.folder import PROJECT
from engine.step import Step, last

STAGES = ("Starting a process of its own", "Reading", "Checking what it claims", "Opening", "Asking it about a picture")
START = 60.0  # seconds that the child may take to load what it needs; it takes one
ANSWER = 1 << 20  # bytes of its answer that are read
KEPT = 256  # verdicts
MAX_CLASSES = 65_536
CALLED = re.compile(r"[^\w.+-]+")  # what a file's name may not hold
PASSED_ON = ("LD_LIBRARY_PATH", "SYSTEMROOT", "PYTHONHOME")  # without these some Pythons do not start


@dataclass(frozen=True)
class Limits:
    """What the child may use.

    seconds: on the clock, and of each core. memory: bytes beside what the file's size asks for.
    """

    seconds: float = 60.0
    memory: int = 3 << 29  # 1.5 GiB

    def of(self, size: int) -> int:
        """Bytes for a file of that size: it is held as bytes, as a message, as arrays, and twice by ONNX Runtime."""
        return self.memory + 6 * size


@dataclass(frozen=True)
class Report:
    """What was found out about a file that may be opened.

    size: bytes. external: whether it keeps weights in files beside it. free: whether the graph leaves the picture's
    rows and columns open. stride: of the last layer with rows and columns, in pixels; 0 where there is none.
    seconds: of one pass over one picture. memory: bytes that the child had taken at most.
    """

    name: str
    sha256: str
    size: int
    external: bool
    nodes: int
    channels: int
    input_size: tuple[int, int]
    free: bool
    stride: int
    classes: int
    layers: int
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    seconds: float
    memory: int


# Asking ---------------------------------------------------------------------------------------------------------------


def called(name: str) -> str:
    """A file's name as it is shown and kept: no folders, nothing but letters, digits and .+-_, 60 of them at most."""
    stem = CALLED.sub("_", re.split(r"[/\\]", name)[-1].removesuffix(".onnx")).strip("._-")[:60]
    return f"{stem or 'network'}.onnx"


def read(path: str | Path) -> bytes:
    """The file at `path`. Raises Refused where it is none, or too large."""
    path = Path(path).expanduser()
    try:
        # A pipe would keep us waiting, and a device may never end.
        file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(file, "rb") as content:
            about = os.fstat(content.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise Refused(f"{path.name or path} is no file; give the path of an .onnx file.")
            if about.st_size > MAX_BYTES:
                raise Refused(_too_large(path.name))
            return content.read(MAX_BYTES + 1)
    except Refused:
        raise
    except FileNotFoundError as error:
        raise Refused(f"There is no file {path.name}; check the path.") from error
    except (OSError, ValueError) as error:
        raise Refused(f"{path.name or 'The path'} cannot be read; check the path and its permissions.") from error


def _too_large(name: str) -> str:
    return f"{name} is larger than {MAX_BYTES >> 30} GiB; networks of up to that size can be opened."


def examine(content: bytes, name: str, *, beside: Path | None = None, limits: Limits | None = None) -> Report:
    """Open the file in a child process; what was found out is kept, so that no file is examined twice.

    content: the file's bytes. name: as it is called, for people.
    beside: the folder that it lies in, where it may keep weights beside it.
    Raises Refused.
    """
    return last(examine_steps(content, name, beside=beside, limits=limits))


def examine_steps(
    content: bytes, name: str, *, beside: Path | None = None, limits: Limits | None = None
) -> Iterator[Step]:
    """The same with progress: Step(stage, of how many, its name in STAGES), and last a Step whose result is the Report.

    Ending it early ends the child.
    """
    name = called(name)
    if not content:
        raise Refused(f"{name} is empty; choose another file.")
    if len(content) > MAX_BYTES:
        raise Refused(_too_large(name))
    key = (hashlib.sha256(content).hexdigest(), str(beside or ""), limits)
    total = len(STAGES)
    kept = _recall(key)
    if kept is None:
        with contextlib.closing(Examiner(limits, once=True, files=beside is not None)) as examiner:
            try:
                for stage in examiner.ask(content, name, beside):
                    if isinstance(stage, Report):
                        kept = stage
                    else:
                        yield Step(stage, total, STAGES[min(stage, total - 1)])
            except Refused as error:
                _keep(key, str(error), name)
                raise
        _keep(key, kept, name)
    if isinstance(kept, tuple):  # a sentence that was said of it under another name, perhaps
        raise Refused(kept[0].replace(kept[1], name))
    yield Step(total, total, kept)


_verdicts: OrderedDict[tuple, Report | tuple[str, str]] = OrderedDict()
_guard = threading.Lock()


def _recall(key: tuple) -> Report | tuple[str, str] | None:
    with _guard:
        if key in _verdicts:
            _verdicts.move_to_end(key)
        return _verdicts.get(key)


def _keep(key: tuple, verdict: Report | str, name: str) -> None:
    with _guard:
        _verdicts[key] = (verdict, name) if isinstance(verdict, str) else verdict
        while len(_verdicts) > KEPT:
            _verdicts.popitem(last=False)


class Examiner:
    """A child process that opens files. `examine` takes a new one for each file; trials of thousands share one.

    once: it ends after one file. files: it may open files by their names, as weights beside the network need it.
    What else a child can do with a file is for classes that derive from this one (engine/converting.py):
    module: what it runs. stages: what it goes through. room: bytes that it may answer with, beside its lines.
    start: seconds that it may take to load what it needs.
    """

    module, stages, room, start = "engine.opening", STAGES, 0, START

    def __init__(self, limits: Limits | None = None, *, once: bool = False, files: bool = False):
        self.limits, self.once, self.files = limits or Limits(), once, files
        self.process: subprocess.Popen | None = None
        self.folder: tempfile.TemporaryDirectory | None = None
        self.lines: queue.Queue[Any] = queue.Queue()  # (what it said, the bytes with it), None once it has ended

    def close(self) -> None:
        """End the child."""
        if self.process is not None:
            with contextlib.suppress(OSError):
                self.process.kill()
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()
            self.process = None
            self.folder.cleanup()

    def ask(self, content: bytes, name: str, beside: Path | None = None, **more: Any) -> Iterator[Any]:
        """The stages that the child enters, by their numbers, and last its Report. Raises Refused.

        more: what else the child is told, for those that derive from this one.
        """
        yield 0
        if self.process is None or self.process.poll() is not None:
            self.close()
            self._start()
        process = self.process
        memory = self.limits.of(len(content) + _beside(beside))
        head = {"name": name, "size": len(content), "seconds": self.limits.seconds, "memory": memory}
        head |= {"beside": str(beside) if beside else None, "once": self.once, **more}
        sender = threading.Thread(target=_send, args=(process.stdin, head, content), daemon=True)
        sender.start()
        end = time.monotonic() + self.limits.seconds
        stage = 1
        try:
            while True:
                yield stage
                try:
                    found = self.lines.get(timeout=min(max(end - time.monotonic(), 0.0), 0.5))
                except queue.Empty:
                    if time.monotonic() < end:
                        continue
                    self.close()
                    raise Refused(self._too_slow(name)) from None
                if found is None:
                    self._died(name, memory)
                answer, made = found
                if "stage" in answer:
                    stage = min(max(int(answer["stage"]), 1), len(self.stages) - 1)
                    continue
                if "refused" in answer:
                    raise Refused(str(answer["refused"])[:600])
                yield self._found(answer, made, name, content)
                return
        except (GeneratorExit, Refused) as reason:
            if isinstance(reason, GeneratorExit):  # its answer must not be taken for the next file's
                self.close()
            raise

    def _start(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="convoscope-")
        kept = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        environment = {
            **kept,
            "PYTHONPATH": str(PROJECT),
            "PYTHONUTF8": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": self.folder.name,
            "TMPDIR": self.folder.name,
            "CUDA_VISIBLE_DEVICES": "",
            "MALLOC_ARENA_MAX": "2",  # each of glibc's arenas takes 64 MiB of addresses, and there is one per thread
            "OPENBLAS_NUM_THREADS": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-m", self.module, *(["--files"] if self.files else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=self.folder.name,
            env=environment,
            start_new_session=True,
        )
        self.lines = queue.Queue()
        threading.Thread(target=_listen, args=(self.process.stdout, self.lines, self.room), daemon=True).start()
        try:
            ready = self.lines.get(timeout=self.start)
        except queue.Empty:
            ready = None
        if ready is None or not ready[0].get("ready"):
            self.close()
            raise RuntimeError("The process that examines files did not start.")

    def _found(self, answer: dict, made: bytes, name: str, content: bytes) -> Any:
        """What it says of the file. Raises Refused."""
        return _report(answer, name, content)

    def _too_slow(self, name: str) -> str:
        return (
            f"{name} takes longer than {self.limits.seconds:.0f} s to open and to ask about one picture; use a smaller "
            "network."
        )

    def _died(self, name: str, memory: int) -> None:
        """What the child's end means. Raises Refused."""
        code = self.process.wait()
        self.close()
        if code in (-getattr(signal, "SIGXCPU", 0), -getattr(signal, "SIGKILL", 0)):
            raise Refused(self._too_slow(name) if code != -9 else _too_heavy(name, memory))
        raise Refused(
            f"{name} made the process that examined it crash, so it is not opened; it is damaged, or needs more memory "
            f"than {_gigabytes(memory)}."
        )


def _beside(folder: Path | None) -> int:
    """Bytes of the files that may hold weights."""
    if folder is None:
        return 0
    with contextlib.suppress(OSError):
        return min(sum(file.stat().st_size for file in os.scandir(folder) if file.is_file()), MAX_BYTES)
    return 0


def _too_heavy(name: str, memory: int) -> str:
    return f"{name} needs more memory than {_gigabytes(memory)}; use a smaller network, or a smaller input size."


def _gigabytes(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _send(pipe: BinaryIO, head: dict, content: bytes) -> None:
    with contextlib.suppress(OSError, ValueError):  # the child has gone: whoever listens hears of it
        pipe.write(json.dumps(head).encode() + b"\n")
        pipe.write(content)
        pipe.flush()


def _listen(pipe: BinaryIO, lines: queue.Queue, room: int = 0) -> None:
    """What the child says, with the bytes that it announces, and None at its end, or where it says too much."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        while (line := pipe.readline(ANSWER)).endswith(b"\n"):
            answer = _plain(line)
            size = int(answer.get("bytes", 0))
            if not 0 <= size <= room:
                break
            made = pipe.read(size) if size else b""
            if len(made) < size:
                break
            lines.put((answer, made))
    lines.put(None)


def _plain(line: bytes) -> dict:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _report(answer: dict, name: str, content: bytes) -> Report:
    try:
        values = {**answer, **{key: tuple(answer[key]) for key in ("input_size", "missing", "notes")}}
        return Report(name=name, sha256=hashlib.sha256(content).hexdigest(), size=len(content), **values)
    except (KeyError, TypeError) as error:
        raise Refused(f"{name} made the process that examined it answer nonsense, so it is not opened.") from error


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
            say(refused=_too_heavy(head["name"], head["memory"]))
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
        return _too_heavy(name, memory)
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
    from engine import opening  # the same module under its own name, so that its classes are the others'

    opening.main()

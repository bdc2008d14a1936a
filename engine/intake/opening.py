"""May this file be opened? A stranger's network is opened in a process of its own first, which may fail.

The child is a fresh interpreter (`python -m engine.intake.examining`) with an empty folder to stand in, a handful of
environment variables, and its input and output as the only way in and out. Once it has loaded what it needs and before
it reads the file, it gives up the right to

* open any other file, or a socket, or write to one (RLIMIT_NOFILE, RLIMIT_FSIZE): a path inside the file names nothing,
* take more memory than the file can honestly need (RLIMIT_AS, counted from what it has by then),
* compute for longer than a while (RLIMIT_CPU), or leave a core dump behind (RLIMIT_CORE).

The time on the clock is kept by the parent, which ends the child. Then the child does what the app is about to do with
the file: it checks what the file claims (engine/intake/claims.py), opens it as a Net, and asks it about a picture. What
stops the child stops the file: every refusal is one sentence, also where the child was killed or has crashed.

The limits need Linux; macOS does not keep RLIMIT_AS, and Windows has none of them: there, the clock and the checks are
all there is. This is a guard against files that mean harm by what the format allows, and against damaged ones; it is no
guard against a file that makes a program of its own run through a defect of ONNX Runtime. Who opens strangers' files
for strangers runs the app in a container.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from engine.intake.claims import MAX_BYTES, Refused
from engine.nets.folder import PROJECT
from engine.step import Step, last

STAGES = ("Starting a process of its own", "Reading", "Checking what it claims", "Opening", "Asking it about a picture")
START = 60.0  # seconds that the child may take to load what it needs; it takes one
ANSWER = 1 << 20  # bytes of its answer that are read
KEPT = 256  # verdicts
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
    What else a child can do with a file is for classes that derive from this one (engine/intake/converting.py):
    module: what it runs. stages: what it goes through. room: bytes that it may answer with, beside its lines.
    start: seconds that it may take to load what it needs.
    """

    module, stages, room, start = "engine.intake.examining", STAGES, 0, START

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
            raise Refused(self._too_slow(name) if code != -9 else too_heavy(name, memory))
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


def too_heavy(name: str, memory: int) -> str:
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

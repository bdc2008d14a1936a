"""How are two ways of doing the same compared, on a machine that does not stand still?

The two take turns, and each round turns their order round. What counts is the ratio within a round, where both met the
same machine; over the rounds its median.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """Seconds per call, round by round."""

    ours: tuple[float, ...]
    theirs: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        """Theirs divided by ours: above 1, ours is the faster."""
        return [b / a for a, b in zip(self.ours, self.theirs, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    @property
    def ratio_of_medians(self) -> float:
        """Ours divided by theirs: what ours costs on top."""
        return statistics.median(self.ours) / statistics.median(self.theirs)


def seconds(call: Callable[[], object], repeats: int = 1) -> float:
    """Of one call, averaged over `repeats` of them."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def alternate(ours: Callable, theirs: Callable, *, rounds: int, repeats: int = 1) -> Comparison:
    """Time both in turns, after one call of each that does not count."""
    ours(), theirs()
    found: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            found[side].append(seconds((ours, theirs)[side], repeats))
    return Comparison(tuple(found[0]), tuple(found[1]))


class Others:
    """Watches how much of the machine other programs use; where the system does not say, it says nothing."""

    def __init__(self):
        self.start = self._now()

    def said(self) -> str:
        """A sentence about the time since the start, or ""."""
        if self.start is None:
            return ""
        (busy, total, own), (busy_then, total_then, own_then) = self._now(), self.start
        share = max(busy - busy_then - (own - own_then), 0) / max(total - total_then, 1e-9)
        return f"Meanwhile, other programs used {share:.0%} of the machine's processor time."

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds since the system started: not idle, in all, and of this process; all cores together."""
        try:
            ticks = [int(word) for word in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:9]]
        except OSError:
            return None
        hertz = os.sysconf("SC_CLK_TCK")
        idle = ticks[3] + ticks[4]
        return (sum(ticks) - idle) / hertz, sum(ticks) / hertz, sum(os.times()[:2])


def machine(threads: str) -> str:
    """A line that says what the numbers were measured on."""
    packages = ", ".join(f"{name} {_version(name)}" for name in ("onnxruntime", "torch", "captum", "grad-cam", "numpy"))
    return (
        f"{_processor()}, {os.cpu_count()} cores; {_gpu()}{platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, {packages}; threads: {threads}."
    )


def _gpu() -> str:
    import torch

    return f"{torch.cuda.get_device_name()}; " if torch.cuda.is_available() else ""


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:  # ONNX Runtime is published under a name per platform
        found = (d.version for d in distributions() if (d.metadata["Name"] or "").startswith(f"{name}-"))
        return next(found, "?")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)

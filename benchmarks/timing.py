"""How are two ways of doing the same compared, on a machine that does not stand still?

The two take turns, and each round turns their order round. What counts is the ratio within a round, where both met the
same machine; over the rounds its median.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
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


def machine(threads: str) -> str:
    """A line that says what the numbers were measured on."""
    import os

    packages = ", ".join(f"{name} {_version(name)}" for name in ("onnxruntime", "torch", "captum", "numpy"))
    load = f"; load average at the start {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{_processor()}, {os.cpu_count()} cores; {platform.system()} {platform.release()}; "
        f"Python {platform.python_version()}, {packages}; threads: {threads}{load}."
    )


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, distributions

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

"""How can thousands of pictures be asked about in half the time?

In bfloat16, numbers of 8 bits of precision in place of 24, for which newer processors have units of their own. ONNX
Runtime computes in it on no CPU, so the Twin does: under torch's autocast, which keeps sums and softmax in float32.
Values come out with an error of about a hundredth; maps that are made of many of them hardly change (`python -m
benchmarks explain`). Kalamkar et al. 2019, arXiv:1905.12322.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from engine.net import Net, is_shape

if TYPE_CHECKING:
    import torch

    from engine.twin import Twin

PRECISIONS = ("float32", "bfloat16")
AT_ONCE = 8  # pictures in one pass: torch takes new memory for each map, which for large ones takes long


@functools.cache
def has_bfloat16() -> bool:
    """Whether this processor computes in bfloat16, by its kernel's or torch's word; others imitate it, slowly."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():  # Linux: it saves torch's start where the answer is no
        return re.search(r"\b(avx512_bf16|amx_bf16)\b", listed.read_text("ascii", "replace")) is not None
    import torch

    checks = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(check() for check in checks if check is not None)


def check_precision(precision: str) -> None:
    """Raises ValueError where it is none of PRECISIONS, or this processor has no such arithmetic."""
    if precision not in PRECISIONS:
        raise ValueError(f"{precision!r} is none of {', '.join(PRECISIONS)}.")
    if precision == "bfloat16" and not has_bfloat16():
        raise ValueError("This processor has no arithmetic for bfloat16: choose float32.")


def in_precision(net: Net, precision: str) -> Net:
    """The net itself for "float32", and for "bfloat16" the same net with rounded forward passes.

    Raises ValueError as `check_precision` does, and NoGradient where the net has no Twin.
    """
    check_precision(precision)
    return net if precision == "float32" else halved(net)


_halved: WeakKeyDictionary[Net, Half] = WeakKeyDictionary()  # their weights are made once


def halved(net: Net) -> Half:
    """The same net, whose forward passes the Twin computes in bfloat16: quicker where the processor can."""
    return _halved.get(net) or _halved.setdefault(net, Half(net))


def full(values: torch.Tensor) -> torch.Tensor:
    """What is in bfloat16 in float32, all else as it is."""
    return values.float() if values.element_size() < 4 else values


class Half(Net):
    """A Net whose forward passes are the Twin's, in bfloat16: float32 values, rounded on their way.

    Its gradients and what it says of itself are the net's own.
    """

    def __init__(self, net: Net):
        self.__dict__.update(net.__dict__)  # nothing in a Net changes, so that two may share it
        self.sha256 = hashlib.sha256(f"{net.sha256} bfloat16".encode()).hexdigest()  # its results are others
        self.twin = net.twin

    @functools.cached_property
    def rounded(self) -> Twin:
        """The Twin once more, with rounded weights; to be called under torch's autocast."""
        from engine.twin import Twin

        return Twin(self.twin.graph, self.metadata.mean, self.metadata.std, half=True)

    def activations(self, batch: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        return self.resume(self._feed(batch), names)

    def tap(self, names: Sequence[str], start: Mapping[str, np.ndarray], threads: int = 0) -> SimpleNamespace:
        return SimpleNamespace(run=self._computed)  # in a session's place

    def _computed(self, names: Sequence[str], feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        import torch

        count = next(len(array) for array in feed.values() if not is_shape(array))
        some = self.fixed_batch or AT_ONCE  # a graph that fixes it may mix its pictures
        parts = []
        for first in range(0, count, some):
            given = {}
            for name, array in feed.items():
                part = array if is_shape(array) else array[first : first + some]
                x = torch.from_numpy(np.ascontiguousarray(part))
                given[name] = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                found = self.rounded(None, names, start=given)
            parts.append([(x.float() if x.dtype == torch.bfloat16 else x).numpy() for x in map(found.get, names)])
        return [each[0] if is_shape(each[0]) else np.concatenate(each) for each in zip(*parts, strict=True)]

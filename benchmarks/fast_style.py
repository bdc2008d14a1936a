"""Fast style: the style network on ONNX Runtime beside PyTorch's forward pass of the same module.

The module is what engine/train/style.py trains, the file what it exports; weights are random, since speed does not
depend on them. PyTorch is timed in its faster memory format, found first. Before anything is timed, the two pictures
are compared. Then the time for a whole picture through `stylise`, with padding and clipping, is set beside the bare
session's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import Comparison, alternate, seconds
from engine.half import has_bfloat16
from engine.image import batch, fit
from engine.paint.fast_style import _forward, _half, open_style, stylise, weights
from engine.pictures import samples
from engine.train.style import Painter, Recipe, export_style

STYLES, SIZE, PICTURE, GOAL = ("a", "b", "c", "d"), (256, 256), "china", 2.0
AGREEMENT = 1e-3  # largest difference between the two pictures, of white


@dataclass(frozen=True)
class Found:
    """One comparison. peer: what `theirs` is. difference: the largest, of white; in bfloat16 the mean."""

    what: str
    peer: str
    difference: float
    comparison: Comparison


def compare(folder: Path, rounds: int) -> list[Found]:
    """ONNX Runtime beside the module, and `stylise` beside ONNX Runtime."""
    torch.manual_seed(0)
    painter = Painter(len(STYLES), Recipe()).eval()
    export_style(painter, STYLES, folder / "styles.onnx")
    net = open_style(folder / "styles.onnx")
    picture, _ = fit(samples.load(PICTURE), SIZE)
    pixels, mix = batch(picture), weights(net, [1, 1, 0, 0])
    given, style = torch.from_numpy(pixels), torch.from_numpy(mix[None])

    def ours() -> np.ndarray:
        return _forward(net, pixels, mix)

    def module(x: torch.Tensor) -> np.ndarray:
        with torch.inference_mode():
            return painter(x, style).numpy()

    formats = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
    times = {}
    for name, form in formats.items():
        painter.to(memory_format=form)
        x = given.contiguous(memory_format=form)
        module(x)
        times[name] = seconds(lambda x=x: module(x), 3)
    best = min(times, key=times.get)
    painter.to(memory_format=formats[best])
    x = given.contiguous(memory_format=formats[best])
    difference = float(np.abs(ours() - module(x)).max())
    assert difference <= AGREEMENT, f"The two pictures differ by {difference:.1e} of white."
    size = " × ".join(map(str, SIZE))
    found = []
    if has_bfloat16():
        half = _half(net, SIZE)
        apart = float(np.abs(half(pixels, mix) - module(x)).mean())
        timed = alternate(lambda: half(pixels, mix), lambda: module(x), rounds=rounds)
        found = [Found(f"the same in bfloat16, {size}", f"PyTorch, {best}", apart, timed)]
    return [
        *found,
        Found(
            f"a picture of {size}", f"PyTorch, {best}", difference, alternate(ours, lambda: module(x), rounds=rounds)
        ),
        Found(
            f"`stylise`, {size}",
            "the bare session",
            float(np.abs(stylise(net, picture, mix=mix) - ours()[0].transpose(1, 2, 0)).max()),
            alternate(lambda: stylise(net, picture, mix=mix), ours, rounds=rounds),
        ),
    ]

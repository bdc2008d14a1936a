"""What Net costs on top of ONNX Runtime itself.

Net takes pixels, normalises them, looks the layer up, and runs the part of the graph that is needed. Beside it stands a
bare session on the same file, or on the same part of it, that is given the normalised batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime

from benchmarks.networks import Pair
from benchmarks.timing import Comparison, alternate
from engine.look.activations import unit_window
from engine.net import Net
from engine.pictures import samples

BATCH = 32
GOAL = 1.10


def middle_layer(net: Net) -> str:
    """The layer with rows and columns in the middle of the list."""
    maps = [layer.name for layer in net.layers if layer.has_map]
    return maps[len(maps) // 2]


def cases(net: Net) -> Iterator[tuple[str, Callable[[], object], Callable[[], object], int]]:
    """(what, through Net, bare, calls per timing)."""
    view, _ = net.view(samples.load("cat"))
    one = net.batch(view)
    many = np.repeat(one, BATCH, 0)
    layer = middle_layer(net)
    whole = _bare(net.path.read_bytes())
    source = net.graph.input
    part = _bare(net._cut([layer], {source: one}).SerializeToString())

    def tapped() -> tuple:
        return net.activations(one, [layer])[layer], unit_window(net, layer, 0, 0)

    ready_one, ready = net.normalise(one), net.normalise(many)
    yield f"scores of {BATCH} pictures", lambda: net.scores(many), lambda: whole.run(None, {source: ready}), 1
    yield (
        f"`{layer}` of {BATCH} pictures",
        lambda: net.activations(many, [layer]),
        lambda: part.run(None, {source: ready}),
        1,
    )
    yield f"`{layer}` of one, with a receptive field", tapped, lambda: part.run(None, {source: ready_one}), 10


def _bare(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # As in Net: of two that take turns, one that spins on after its run would slow the other down.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])


def compare(pair: Pair, rounds: int) -> list[tuple[str, Comparison]]:
    """A comparison per case."""
    return [
        (what, alternate(ours, theirs, rounds=rounds, repeats=repeats))
        for what, ours, theirs, repeats in cases(pair.net)
    ]  # fmt: skip

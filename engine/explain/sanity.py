"""Does a map depend on what the network has learned?

Adebayo et al. 2018, arXiv:1810.03292, section 3.1, "cascading randomization": the weights are made random, layer after
layer from the top, and each time the map is made again. A map that explains the network must fall apart; one that stays
as it was has only found the edges in the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from engine.explain.agreement import rank_correlation
from engine.explain.evidence import evidence, over_picture
from engine.net import Net
from engine.step import Step, last
from engine.target import Target

LEARNED = frozenset(["Conv", "ConvTranspose", "Gemm", "MatMul"])


@dataclass(frozen=True)
class Sanity:
    """table: a row per stage. maps: (stages, h, w), the map at each.

    Columns: randomised (how many layers, from the top), layer (the last one of them), correlation (rank correlation
    of the map's absolute values with those of the trained network's map) and similarity (SSIM of the two, each scaled
    to [0, 1]); both are 1 in the first row, which is the trained network itself.
    """

    table: pd.DataFrame
    maps: np.ndarray


def learned(net: Net) -> list[tuple[str, str]]:
    """(layer, weight) of every layer with weights on the way to the logits, from the top down."""
    return [
        (node.outputs[0], name)
        for node in reversed(net.graph.needed([net.logits]))
        if node.op in LEARNED and node.outputs[0] in net.graph.from_input
        for name in node.inputs
        if name in net.graph.constants and net.graph.constants[name].ndim >= 2
    ]


def randomised(net: Net, count: int, *, seed: int = 0) -> Net:
    """The net with the weights of its uppermost `count` layers shuffled.

    Each weight tensor keeps its own numbers in another order, so that no scheme of initialisation has to be chosen; the
    paper draws them anew. Biases and normalisations stay.
    """
    random = np.random.default_rng(seed)
    mixed = {name: random.permuted(net.graph.constants[name].ravel()) for _, name in learned(net)[:count]}
    return net.with_weights({name: values.reshape(net.graph.constants[name].shape) for name, values in mixed.items()})


def sanity(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    method: str = "Guided backpropagation",
    stages: int = 6,
    seed: int = 0,
) -> Sanity:
    """How alike a method's map stays while the network forgets what it has learned, from the top layer down.

    image: (H, W, C) pixels of the net's own size. target: a class, or any other Target. method: a title of
    `engine.explain.evidence.ways`. stages: how many states of the network are tried besides the trained one, evenly
    over the layers. seed: of the shuffling. Returns Sanity. Raises ValueError, UnknownClass, NoGradient.
    """
    return last(sanity_steps(net, image, target, method=method, stages=stages, seed=seed))


def sanity_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    method: str = "Guided backpropagation",
    stages: int = 6,
    seed: int = 0,
) -> Iterator[Step]:
    """`sanity`, a Step per state of the network."""
    layers = learned(net)
    counts = sorted({round(share) for share in np.linspace(0, len(layers), min(stages, len(layers)) + 1)})
    rows, maps = [], []
    for done, count in enumerate(counts, 1):
        state = randomised(net, count, seed=seed) if count else net
        maps.append(evidence(state, image, target, method=method))
        first, now = (np.abs(over_picture(found, image.shape[:2])) for found in (maps[0], maps[-1]))
        name = layers[count - 1][0] if count else ""
        rows.append((count, name, 1.0 if not count else rank_correlation(first, now), similarity(first, now)))
        table = pd.DataFrame(rows, columns=["randomised", "layer", "correlation", "similarity"])
        yield Step(done, len(counts), Sanity(table, np.stack(maps)))


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """SSIM (Wang et al. 2004) of two maps (H, W), each scaled to [0, 1], in windows of 7 pixels or what fits."""
    from skimage.metrics import structural_similarity

    window = min(7, (min(a.shape) - 1) | 1)
    scaled = [(found - found.min()) / (np.ptp(found) or 1) for found in (a, b)]
    return float(structural_similarity(*scaled, data_range=1.0, win_size=window)) if window >= 3 else 0.0

"""Which units of a layer are dead, which are nearly always on, which are twins, and which are for one class?

All of it is read off an index of a set of pictures, and so it holds for those pictures: a unit that never fires on
photographs may fire on drawings. A unit here is a channel. Class selectivity is that of Morcos, Barrett, Rabinowitz,
Botvinick 2018, arXiv:1803.06959, equation 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from engine.data import sets
from engine.data.index import Index
from engine.data.indexing import ready_steps
from engine.look.filters import filters
from engine.net import Net, UnknownLayer
from engine.step import last

KINDS = ("dead", "rare", "usual", "always on")
BYS = ("either", "both", "weights", "activations")  # what has to be alike in twins
MOST = 2000  # pairs that are listed
STILL = 1e-5  # a unit that varies by no more than this share of its height is constant

# Through these a channel stays itself, and what was never below 0 stays so.
SAME = frozenset(
    """
    Identity Dropout Cast MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool ReduceMean ReduceMax Flatten
    Reshape Squeeze
    """.split()  # noqa: SIM905
)
TOGETHER = frozenset(["Add", "Concat", "Sum", "Mean", "Max"])  # several that are rectified still are
CURVES = frozenset(
    """
    Relu LeakyRelu PRelu Clip Elu Selu Gelu Mish Sigmoid HardSigmoid HardSwish Swish Softplus Tanh ThresholdedRelu
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Units:
    """A layer's channels.

    table: a row per channel: channel, kind (one of KINDS), mean, maximum, pictures, positions (shares of all of them
    where it is > 0), selectivity (0 to 1, NaN where it cannot be had), class (for which, "" for none), twin (the
    channel most like it, -1 for none), likeness (of the two).
    pairs: twins, the most alike first: first, second, weights (cosine), activations (correlation); NaN where there is
    none of either. twins: how many pairs there are, though no more than MOST are listed.
    grouped: by what the classes are told, "label" or "prediction". fires: "", or why > 0 does not mean that it fires.
    """

    table: pd.DataFrame
    pairs: pd.DataFrame
    twins: int
    grouped: str
    fires: str


def units(
    net: Net,
    data: str,
    layer: str,
    *,
    rare: float = 0.01,
    always: float = 0.99,
    alike: float = 0.95,
    by: str = "either",
) -> Units:
    """Each channel of a layer: how often it fires, for which class, and which other one is like it.

    data: a name, a folder or a Parquet file, as `engine.data.sets.find` takes it; pictures that are not indexed are
    indexed first. rare: share of pictures up to which a unit that fires is rare. always: share of positions from which
    it is always on. alike: cosine or correlation from which two are twins. by: one of BYS, which of the two.
    Returns Units; values are activations, shares 0 to 1. Raises BadDataset, BadIndex, UnknownLayer, ValueError.
    """
    index = last(ready_steps(net, sets.find(data), [layer]))
    return units_of(net, index, layer, rare=rare, always=always, alike=alike, by=by)


def units_of(
    net: Net,
    index: Index,
    layer: str,
    *,
    rare: float = 0.01,
    always: float = 0.99,
    alike: float = 0.95,
    by: str = "either",
) -> Units:
    """The same from an index that is there."""
    table, features = index.units(layer), index.features(layer)
    fires = meaning(net, layer)
    if fires:
        table.insert(1, "kind", np.where(_constant(features, index.strongest(layer)[0]), KINDS[0], KINDS[2]))
    else:
        table.insert(1, "kind", kinds(table.pictures, table.positions, rare=rare, always=always))
    labels = index.pictures.label.to_numpy()
    labelled = bool((labels >= 0).any())
    names = index.names if labelled else net.labels
    share, best = selectivity(features, labels if labelled else index.pictures.prediction.to_numpy())
    table["selectivity"] = share
    table["class"] = [names[k] if 0 <= k < len(names) else "" for k in best]
    cosine, correlation = cosines(net, layer), correlations(features)
    table["twin"], table["likeness"] = nearest(cosine, correlation, by=by)
    pairs, count = twins(cosine, correlation, alike=alike, by=by)
    return Units(table, pairs, count, "label" if labelled else "prediction", fires)


# How often it fires ---------------------------------------------------------------------------------------------------


def kinds(pictures: np.ndarray, positions: np.ndarray, *, rare: float = 0.01, always: float = 0.99) -> np.ndarray:
    """(C,) of KINDS, from the shares of pictures and of positions where a rectified unit is > 0.

    Dead is what fires nowhere; rare, on no more than that share of the pictures; always on, at no less than that share
    of all positions: its rectifier cuts nothing off, and it is as good as linear.
    """
    pictures, positions = np.asarray(pictures), np.asarray(positions)
    conditions = [pictures <= 0, positions >= always, pictures <= rare]
    return np.select(conditions, [KINDS[0], KINDS[3], KINDS[1]], KINDS[2])


def _constant(features: np.ndarray, strongest: np.ndarray) -> np.ndarray:
    """(C,) whether a channel has one value on all pictures: where its mean is its maximum, on all of them alike."""
    if not len(features):
        return np.zeros(features.shape[1], bool)
    spread = strongest.max(0) - features.min(0)
    return spread <= STILL * np.maximum(np.abs(strongest).max(0), 1e-6)


def meaning(net: Net, layer: str) -> str:
    """ "" where > 0 means that a unit of the layer fires, because it is 0 when it does not; else what > 0 does mean."""
    if rectified(net, layer):
        return ""
    return (
        f"{layer} is not rectified: its units are seldom exactly 0, and being above 0 does not mean that they fire. "
        "Only a unit that has the same value on all pictures counts as dead; rare and always on are not told."
    )


def rectified(net: Net, layer: str) -> bool:
    """Whether a unit is never below 0 and exactly 0 when it is off: behind a ReLU, or what keeps its zeros."""
    node = net.graph.producer(layer)
    if node is None:
        return False
    if node.op == "Relu":
        return True
    if node.op == "ThresholdedRelu":
        return node.attributes.get("alpha", 1.0) >= 0
    if node.op == "Clip":
        least = node.attributes.get("min", _number(net, node.inputs[1]) if len(node.inputs) > 1 else None)
        return least == 0
    inputs = list(node.inputs)
    if node.op == "Pad":  # with zeros
        plain = node.attributes.get("mode", "constant") == "constant"
        return plain and node.attributes.get("value", 0) == 0 and rectified(net, inputs[0])
    if node.op in SAME or node.op == "LRN":
        return rectified(net, inputs[0])
    if node.op == "Mul":  # by a gate, as of squeeze and excitation
        return any(rectified(net, each) for each in inputs) and all(_not_below(net, each) for each in inputs)
    return node.op in TOGETHER and all(rectified(net, each) for each in inputs)


def _not_below(net: Net, name: str) -> bool:
    node = net.graph.producer(name)
    return rectified(net, name) or (node is not None and node.op in ("Sigmoid", "HardSigmoid", "Softmax"))


def _number(net: Net, name: str) -> float | None:
    value = net.graph.constants.get(name)
    return None if value is None or np.size(value) != 1 else float(np.ravel(value)[0])


# For which class ------------------------------------------------------------------------------------------------------


def selectivity(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(C,) class selectivity and (C,) for which class, from each picture's mean activation.

    features: (N, C). labels: (N,), -1 for none. With m the mean over a class's pictures, it is
    (m of the highest class - mean of the other classes' m) / (their sum): 0 for a unit that answers to all classes
    alike, 1 for one that answers to a single class. NaN and -1 where a unit is 0 throughout, where a mean is below 0,
    which the measure is not made for, and where there are fewer than two classes.
    """
    labels = np.asarray(labels)
    classes, place, counts = np.unique(labels[labels >= 0], return_inverse=True, return_counts=True)
    nothing = np.full(features.shape[1], np.nan), np.full(features.shape[1], -1)
    if len(classes) < 2:
        return nothing
    order = np.argsort(place, kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    means = np.add.reduceat(features[labels >= 0][order].astype(np.float64), starts) / counts[:, None]
    best = means.argmax(0)
    most = means.max(0)
    rest = (means.sum(0) - most) / (len(classes) - 1)
    able = (means.min(0) >= 0) & (most > 0)
    value = np.where(able, (most - rest) / np.where(able, most + rest, 1), np.nan)
    return value, np.where(able, classes[best], -1)


# Twins ----------------------------------------------------------------------------------------------------------------


def cosines(net: Net, layer: str) -> np.ndarray | None:
    """(C, C) cosine of the weights of the convolution or matrix that a layer's channels are made by, without biases.

    A batch normalisation behind it is taken in. NaN between filters of different groups, which see different channels,
    and beside a filter that is 0. None where more than one convolution has a part in a channel, as behind a skip.
    """
    found = _weights(net, layer)
    if found is None:
        return None
    weights, groups = found
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    norms = np.linalg.norm(flat, axis=1)
    unit = flat / np.where(norms > 0, norms, 1)[:, None]
    cosine = unit @ unit.T
    cosine[norms == 0] = cosine[:, norms == 0] = np.nan
    group = np.arange(len(flat)) * groups // len(flat)
    cosine[group[:, None] != group[None]] = np.nan
    return cosine


def _weights(net: Net, layer: str) -> tuple[np.ndarray, int] | None:
    """(C, …) weights and in how many groups they are."""
    channels, name = net.layer(layer).shape[0], layer
    scale = np.ones(channels)
    while (node := net.graph.producer(name)) is not None:
        if node.op == "Conv":
            try:
                weights = filters(net, name).weights
            except UnknownLayer:
                return None
            return _scaled(weights, scale, node.attributes.get("group", 1))
        if node.op in ("Gemm", "MatMul"):
            matrix = net.graph.constants.get(node.inputs[1])
            if matrix is None or matrix.ndim != 2 or node.attributes.get("transA", 0):
                return None
            return _scaled(matrix if node.attributes.get("transB", 0) else matrix.T, scale, 1)
        made = [each for each in node.inputs if each in net.graph.from_input]
        if len(made) != 1:
            return None
        if node.op == "BatchNormalization":
            gamma, variance = (net.graph.constants.get(node.inputs[i]) for i in (1, 4))
            if gamma is None or variance is None or len(gamma) != channels:
                return None
            scale = scale * gamma / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        elif node.op not in SAME | CURVES and not (node.op == "Add" and len(node.inputs) == 2):  # of a bias
            return None
        name = made[0]
    return None


def _scaled(weights: np.ndarray, scale: np.ndarray, groups: int) -> tuple[np.ndarray, int] | None:
    if len(weights) != len(scale):  # the channels were mixed on the way
        return None
    return weights * scale.reshape(-1, *[1] * (weights.ndim - 1)), groups


def correlations(features: np.ndarray) -> np.ndarray:
    """(C, C) Pearson's correlation of the channels' mean activations over the pictures; NaN beside a constant one.

    features: (N, C).
    """
    centred = features.astype(np.float64)
    height = np.abs(centred).max(0, initial=0)
    centred -= centred.mean(0) if len(centred) else 0
    norms = np.linalg.norm(centred, axis=0)
    still = norms <= STILL * np.maximum(height, 1e-12) * max(len(centred), 1) ** 0.5
    centred /= np.where(still, 1, norms)
    found = np.clip(centred.T @ centred, -1, 1)
    found[still] = found[:, still] = np.nan
    return found


def _likeness(cosine: np.ndarray | None, correlation: np.ndarray, by: str) -> np.ndarray:
    """(C, C) how alike two are by what `by` says, -inf where that cannot be said, and on the diagonal."""
    if by not in BYS:
        raise ValueError(f"Twins are told by {', '.join(BYS)}, not by {by!r}.")
    cosine = np.full_like(correlation, np.nan) if cosine is None else cosine
    weights, activations = (np.where(np.isnan(each), -np.inf, each) for each in (cosine, correlation))
    if by == "both":
        found = np.minimum(weights, activations)
    elif by == "either":
        found = np.maximum(weights, activations)
    else:
        found = (weights if by == "weights" else activations).copy()
    np.fill_diagonal(found, -np.inf)
    return found


def nearest(cosine: np.ndarray | None, correlation: np.ndarray, *, by: str = "either") -> tuple[np.ndarray, np.ndarray]:
    """(C,) the channel most like each, -1 for none, and (C,) how alike they are, NaN for none."""
    found = _likeness(cosine, correlation, by)
    best = found.argmax(1)
    value = found[np.arange(len(found)), best]
    none = ~np.isfinite(value)
    return np.where(none, -1, best), np.where(none, np.nan, value)


def twins(
    cosine: np.ndarray | None, correlation: np.ndarray, *, alike: float = 0.95, by: str = "either"
) -> tuple[pd.DataFrame, int]:
    """Pairs that are alike, the most alike first, at most MOST of them: first < second, weights, activations; and how
    many there are in all."""
    found = np.triu(_likeness(cosine, correlation, by), 1)
    found[np.tril_indices(len(found))] = -np.inf
    first, second = np.nonzero(found >= alike)
    order = np.argsort(-found[first, second], kind="stable")
    count, (first, second) = len(order), (each[order[:MOST]] for each in (first, second))
    return pd.DataFrame({
        "first": first,
        "second": second,
        "weights": np.full(len(first), np.nan) if cosine is None else cosine[first, second],
        "activations": correlation[first, second],
    }), count  # fmt: skip

"""Which classes does the network mix up, and which pictures make it do so?

Lookalikes are pairs of pictures that lie near each other in a layer's features and are of two classes, like the
chihuahuas and muffins of the lecture: what a class's border runs between. Intervals of shares are Wilson's (1927,
doi 10.1080/01621459.1927.10502953).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from engine.data import dataset
from engine.look.neighbours import distances, nearest_each
from engine.statistics import share_interval

if TYPE_CHECKING:
    from engine.data.index import Index
    from engine.net import Net

ORDERS = ("as they are", "mixed up side by side", "accuracy")
AT_ONCE = 512  # pictures that are compared with all of the other class


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """(K, K) int64: how many pictures of class [row] the network takes for class [column].

    labels, predictions: (N,) int, below `classes`. Pictures with a label below 0 have none and are left out. Raises
    ValueError.
    """
    labels, predictions = np.asarray(labels, np.int64), np.asarray(predictions, np.int64)
    if labels.shape != predictions.shape:
        raise ValueError(f"There are {labels.size} labels and {predictions.size} predictions: give one of each.")
    known = labels >= 0
    labels, predictions = labels[known], predictions[known]
    if len(labels) and (max(labels.max(), predictions.max()) >= classes or predictions.min() < 0):
        raise ValueError(
            f"A label or a prediction is not among classes 0 to {classes - 1}: give all classes there are."
        )
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


@dataclass(frozen=True)
class Coded:
    """Labels and predictions in one numbering of `classes`, so that a picture is right where its two are equal.

    labels: (N,) int64, -1 where there is none. predictions: (N,). classes: first those that the set has labels of, in
    the network's order; then what else pictures are taken for, the commonest first. known: (K,) bool, whether the
    network has that class at all. by_place: whether the two were matched by number, as no name of one is of the other.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    predictions: np.ndarray
    known: np.ndarray
    by_place: bool = False

    @property
    def right(self) -> np.ndarray:
        """(N,) bool; False also where there is no label, or none that the network has."""
        return self.labels == self.predictions

    @property
    def wrong(self) -> np.ndarray:
        """(N,) bool; only where the network has the class that would be right."""
        return (self.labels >= 0) & self.known[self.labels] & ~self.right


def coded(
    labels: np.ndarray, predictions: np.ndarray, names: Sequence[str], net_labels: Sequence[str], same: np.ndarray
) -> Coded:
    """One numbering for a set's labels and a network's classes.

    labels: (N,) places in `names`, -1 where there is none. predictions: (N,) places in net_labels. same: (len(names),)
    which of the network's classes each label is, or -1, as engine.data.dataset.classes finds it. Where that is none for
    all, and there are as many of both, they are taken in their order.
    """
    labels, predictions, same = (np.asarray(each, np.int64) for each in (labels, predictions, same))
    by_place = bool(len(names) and (same < 0).all() and len(names) == len(net_labels))
    if by_place:
        same = np.arange(len(names))
    used = np.unique(labels[labels >= 0])
    # In the network's order, and those that it has not got after them. Two labels of one class are one.
    used = used[np.argsort(np.where(same[used] < 0, len(net_labels), same[used]), kind="stable")]
    classes: list[str] = []
    of_set, of_net = np.full(len(names) + 1, -1), np.full(len(net_labels), -1)  # the set's last one: "no label"
    for label in used:
        place = of_net[same[label]] if same[label] >= 0 else -1
        if place < 0:
            place = len(classes)
            classes.append(names[label])
            if same[label] >= 0:
                of_net[same[label]] = place
        of_set[label] = place
    told, often = np.unique(predictions, return_counts=True)
    for number in told[np.argsort(-often, kind="stable")]:
        if of_net[number] < 0:
            of_net[number] = len(classes)
            name = net_labels[number]
            classes.append(f"{name} ({number})" if name in classes else name)  # ImageNet has two cranes
    known = np.isin(np.arange(len(classes)), of_net)
    return Coded(tuple(classes), of_set[labels], of_net[predictions], known, by_place)


def coded_index(index: Index, net: Net) -> Coded:
    """The labels and predictions of an index, of all its pictures in their order."""
    table = index.pictures
    same = dataset.classes(index.names, net.labels)
    return coded(table.label.to_numpy(), table.prediction.to_numpy(), index.names, net.labels, same)


def of_index(index: Index, net: Net) -> dict[str, np.ndarray]:
    """matrix: (K, K) int64, see `confusion`. classes: (K,), their names; see Coded."""
    found = coded_index(index, net)
    return {
        "matrix": confusion(found.labels, found.predictions, len(found.classes)),
        "classes": np.array(found.classes),
    }


def per_class(matrix: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """A row per class that has pictures, from a confusion matrix (K, K).

    class, pictures, right (counts); accuracy, the share of its pictures that are taken for it (recall), with its 95 %
    interval low to high; precision, the share of those taken for it that are of it, NaN where none is; taken_for, the
    class that its pictures are most often mistaken for ("" where none is), and mistakes, how often.
    """
    rows = []
    for k in np.flatnonzero(matrix.sum(1)):
        right, total, said = int(matrix[k, k]), int(matrix[k].sum()), int(matrix[:, k].sum())
        wrong = matrix[k].copy()
        wrong[k] = 0
        worst = int(wrong.argmax())
        low, high = share_interval(right, total)
        precision = right / said if said else float("nan")
        most = (classes[worst] if wrong[worst] else "", int(wrong[worst]))
        rows.append((classes[k], total, right, right / total, low, high, precision, *most))
    columns = ["class", "pictures", "right", "accuracy", "low", "high", "precision", "taken_for", "mistakes"]
    return pd.DataFrame(rows, columns=columns)


def order(matrix: np.ndarray, by: str = ORDERS[0]) -> np.ndarray:
    """(K,) the classes' order: one of ORDERS. The least accurate comes first; classes without pictures come last.

    Side by side: leaves of an average-linkage tree in which classes are the nearer, the larger the share of their
    pictures that is taken for the other one.
    """
    count = len(matrix)
    if by not in ORDERS:
        raise ValueError(f"Classes are ordered {', '.join(ORDERS[:-1])} or by {ORDERS[-1]}, not by {by!r}.")
    totals = matrix.sum(1)
    accuracy = np.divide(matrix.diagonal(), totals, out=np.full(count, np.inf), where=totals > 0)
    if by == "accuracy":
        return np.argsort(accuracy, kind="stable")
    filled = np.flatnonzero(totals)
    if by == ORDERS[0] or len(filled) < 3:
        return np.arange(count)
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    shares = matrix[np.ix_(filled, filled)] / totals[filled, None]
    mixed = (shares + shares.T) / 2
    distances = 1 - mixed / max(mixed[~np.eye(len(filled), dtype=bool)].max(), 1e-12)
    np.fill_diagonal(distances, 0)
    flat = squareform(distances, checks=False)
    tree = linkage(flat, "average")
    leaves = leaves_list(optimal_leaf_ordering(tree, flat) if len(filled) <= 256 else tree)
    return np.concatenate([filled[leaves], np.flatnonzero(totals == 0)])


def pairs(matrix: np.ndarray) -> np.ndarray:
    """(P, 2) the pairs of classes that are mixed up, [row] the lower one, most mistakes in both directions first."""
    both = np.triu(matrix + matrix.T, 1)
    a, b = np.nonzero(both)
    found = np.argsort(-both[a, b], kind="stable")
    return np.stack([a[found], b[found]], 1)


def closest_classes(features: np.ndarray, labels: np.ndarray) -> tuple[int, int]:
    """The two classes whose mean features point most nearly in the same direction. Raises ValueError below two."""
    labels = np.asarray(labels)
    kinds = np.unique(labels[labels >= 0])
    if len(kinds) < 2:
        raise ValueError("There are no two classes to compare: choose a set that has them.")
    means = np.stack([features[labels == k].mean(0) for k in kinds])
    apart = distances(means[:, None], means[None])
    a, b = np.unravel_index((apart + np.where(np.tri(len(kinds)), np.inf, 0)).argmin(), apart.shape)
    return int(kinds[a]), int(kinds[b])


def lookalikes(
    features: np.ndarray, labels: np.ndarray, a: int, b: int, count: int = 6, *, measure: str = "cosine"
) -> pd.DataFrame:
    """The pairs of one picture of class a and one of class b that are nearest in features (N, C), nearest first.

    labels: (N,) int. Each picture is in one pair at most, or one odd picture would be in all of them.
    Returns the columns a and b, which are rows of features, and distance. Exact; of two pairs at the same distance the
    one with the first rows counts. Raises ValueError.
    """
    if a == b:
        raise ValueError("Lookalikes are of two classes: choose another one for the second.")
    labels = np.asarray(labels)
    ours, theirs = np.flatnonzero(labels == a), np.flatnonzero(labels == b)
    if not len(ours) or not len(theirs):
        return pd.DataFrame({"a": np.zeros(0, int), "b": np.zeros(0, int), "distance": np.zeros(0)})
    count = min(count, len(ours), len(theirs))
    # Of a picture's neighbours, all but the last of `count` may be taken by nearer pairs: more are not needed.
    there, found = features[theirs], []
    for start in range(0, len(ours), AT_ONCE):
        rows = ours[start : start + AT_ONCE]
        near = nearest_each(there, features[rows], count=count, measure=measure)  # (B, count)
        apart = distances(features[rows, None], there[near], measure)
        found += zip(apart.ravel().tolist(), rows.repeat(count).tolist(), theirs[near].ravel().tolist(), strict=True)
    chosen, taken = [], set()
    for distance, row, other in sorted(found):
        if row not in taken and other not in taken:
            taken |= {row, other}
            chosen.append((row, other, distance))
            if len(chosen) == count:
                break
    return pd.DataFrame(chosen, columns=["a", "b", "distance"])

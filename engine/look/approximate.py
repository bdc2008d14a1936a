"""How well does an approximate index find the nearest pictures, and how much sooner?

Lance's, for sets that are too large to compare with every row.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.look.neighbours import check_measure, nearest

if TYPE_CHECKING:
    pass

MANY = 50_000  # rows above which Lance's index is worth its while
ASKED = 100  # pictures on which its recall is measured


# Lance's index --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recall:
    """How well Lance's index finds what exact search does.

    recall: share of the `count` nearest that it finds, mean over `asked` pictures. exact, approximate: seconds a search
    takes, the median. kind: of the index.
    """

    recall: float
    count: int
    asked: int
    exact: float
    approximate: float
    kind: str


def has_index(table: Any, column: str, measure: str) -> bool:
    """Whether the LanceDB table has an index on this column of vectors, for this measure."""
    for found in table.list_indices():
        if found.columns == [column]:
            stats = table.index_stats(found.name)
            return stats is not None and stats.distance_type == _metric(measure)
    return False


def _metric(measure: str) -> str:
    return {"cosine": "cosine", "L2": "l2"}[measure]


def make_index(table: Any, column: str, *, measure: str = "cosine") -> None:
    """Write Lance's index on a column of vectors of a table, in place of the one that it has there.

    An inverted file of the vectors as they are: as many parts as the square root of the rows. (Product quantisation
    saves memory that features, a few hundred numbers each, do not need, and takes far longer to train.)
    """
    from lancedb.index import IvfFlat

    parts = max(1, round(table.count_rows() ** 0.5))
    kind = IvfFlat(distance_type=_metric(measure), num_partitions=parts, max_iterations=20, sample_rate=64)
    table.create_index(column, config=kind, replace=True)


def approximate(
    table: Any, column: str, query: np.ndarray, *, count: int = 9, measure: str = "cosine", share: float = 0.08
) -> np.ndarray:
    """(count,) the ids in the table of the rows nearest to query (C,), as Lance's index finds them.

    share: of the index's parts that are looked into.
    """
    parts = max(1, round(table.count_rows() ** 0.5))
    found = (
        table.search(np.asarray(query, np.float32), vector_column_name=column)
        .distance_type(_metric(measure))
        .nprobes(max(1, round(parts * share)))
        .limit(count)
        .select(["id", "_distance"])
        .to_arrow()
    )
    return found["id"].to_numpy()


def recall(
    table: Any,
    column: str,
    features: np.ndarray,
    ids: np.ndarray,
    *,
    count: int = 10,
    measure: str = "cosine",
    asked: int = ASKED,
    seed: int = 0,
) -> Recall:
    """Ask for the neighbours of some rows of features (N, C), drawn by lot, with Lance's index and without.

    ids: (N,) of the rows in the table. Raises ValueError.
    """
    check_measure(features, measure)
    rows = np.random.default_rng(seed).choice(len(features), min(asked, len(features)), replace=False)
    hits, slow, quick = [], [], []
    for row in rows:
        start = time.perf_counter()
        exact = ids[nearest(features, features[row], count=count, measure=measure).rows]
        middle = time.perf_counter()
        found = approximate(table, column, features[row], count=count, measure=measure)
        slow.append(middle - start)
        quick.append(time.perf_counter() - middle)
        hits.append(len(np.intersect1d(exact, found)) / len(exact))
    return Recall(float(np.mean(hits)), count, len(rows), float(np.median(slow)), float(np.median(quick)), "IVF")

"""Which pictures are like this one: to the network, and pixel by pixel?

The comparison of Krizhevsky, Sutskever, Hinton 2012 (NIPS 25, figure 4), as in the lecture: neighbours in the space of
a late layer's values are alike in what they show, neighbours in the space of pixels in where they are bright. Search is
exact. For many rows Lance has an index that looks into a part of them only, an inverted file (Jegou, Douze, Schmid
2011, doi 10.1109/TPAMI.2010.57, without its quantisation); how much it misses is measured here, against exact search.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from engine.image import resize
from engine.step import Step, last

if TYPE_CHECKING:
    from engine.data.index import Index
    from engine.net import Net

MEASURES = ("cosine", "L2")
KS = (1, 2, 5, 10, 20, 50)
SIDE = 32  # pixels of the longer side, in the space of pixels: that of CIFAR-10, as in the lecture
BLOCK_BYTES = 32 * 2**20  # of rows in work at a time


class UnknownPicture(ValueError):
    """The set has no picture of that number; the message is one sentence."""


@dataclass(frozen=True)
class Nearest:
    """The nearest rows, the nearest first; of two at the same distance, the first row.

    rows: (count,) int64. distances: (count,) float32; L2 in the features' unit, cosine from 0 (same direction) over 1
    to 2 (opposite).
    """

    rows: np.ndarray
    distances: np.ndarray


@dataclass(frozen=True)
class Agreement:
    """How often neighbours have the same label. asked, of: how many pictures were, and how many are to be.

    table: a row per k. same: the share of the k nearest with the picture's own label, mean over pictures. vote: the
    share of pictures whose label is the commonest of the k nearest (k-nearest-neighbour classification, each picture
    left out of its own vote; of equally common labels, that of the nearer ones). chance: what `same` would be of
    neighbours drawn by lot.
    """

    table: pd.DataFrame
    asked: int
    of: int


# Exact ----------------------------------------------------------------------------------------------------------------


def nearest(features: np.ndarray, query: np.ndarray, *, count: int = 9, measure: str = "cosine") -> Nearest:
    """The `count` rows of features (N, C) that are nearest to query (C,), or all where there are fewer.

    features: numbers, or uint8 as 0 to 1 in 255 parts; may be mapped from a file, of which BLOCK_BYTES are in work at a
    time. A row that is the query itself is at 0 exactly. To the measure "cosine", a row of zeros is at 0 of another one
    and at 1 of all else. Raises ValueError.
    """
    check_measure(features, measure)
    if np.shape(query) != features.shape[1:]:
        raise ValueError(f"The rows have {features.shape[1]} numbers, the query {np.size(query)}: give one alike.")
    size = _block_rows(features)
    apart = [distances(features[k : k + size], query, measure) for k in range(0, len(features), size)]
    found = np.concatenate([*apart, np.zeros(0, np.float32)])
    count = min(count, len(found))
    if count < 1:
        return Nearest(np.zeros(0, np.int64), np.zeros(0, np.float32))
    near = np.flatnonzero(found <= np.partition(found, count - 1)[count - 1])  # with all that tie for the last
    rows = near[np.argsort(found[near], kind="stable")][:count]
    return Nearest(rows, found[rows])


def distances(rows: np.ndarray, others: np.ndarray, measure: str = "cosine") -> np.ndarray:
    """(…) float32, how far the rows (…, C) are from others (…, C), in the units of Nearest.

    By differences, not by products: what is the same is at 0 exactly, and equals are equal.
    """
    apart = _prepared(rows, measure) - _prepared(np.asarray(others), measure)
    squares = np.einsum("...c,...c->...", apart, apart)
    return squares / 2 if measure == "cosine" else np.sqrt(squares)


def check_measure(features: np.ndarray, measure: str) -> None:
    if measure not in MEASURES:
        raise ValueError(f"Distances are measured by {' or '.join(MEASURES)}, not by {measure!r}.")
    if features.ndim != 2:
        raise ValueError(f"Features are a row of numbers for each picture, not an array of shape {features.shape}.")


def _prepared(block: np.ndarray, measure: str) -> np.ndarray:
    """Rows as float32 of their own; of length 1 for the cosine, for which zeros get a direction that no other has.

    So half the squared difference of two rows is one minus their cosine.
    """
    rows = block / np.float32(255) if block.dtype == np.uint8 else block.astype(np.float32)
    if measure == "L2":
        return rows
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.concatenate([rows / np.where(norms > 0, norms, 1), norms == 0], -1, dtype=np.float32)


def _block_rows(features: np.ndarray) -> int:
    return max(1, BLOCK_BYTES // (4 * max(features.shape[1], 1)))


def _blocks(features: np.ndarray, measure: str) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, prepared rows) of parts that fit into BLOCK_BYTES."""
    size = _block_rows(features)
    for start in range(0, len(features), size):
        yield start, _prepared(features[start : start + size], measure)


def agreement(
    features: np.ndarray, labels: np.ndarray, ks: Sequence[int] = KS, *, measure: str = "cosine", seed: int = 0
) -> Agreement:
    """What `agreement_steps` comes to."""
    return last(agreement_steps(features, labels, ks, measure=measure, seed=seed))


def agreement_steps(
    features: np.ndarray,
    labels: np.ndarray,
    ks: Sequence[int] = KS,
    *,
    measure: str = "cosine",
    seed: int = 0,
    batch: int = 512,
) -> Iterator[Step]:
    """Each picture of features (N, C) is asked for its neighbours among all others; each Step's result is an Agreement.

    labels: (N,) int; pictures with -1 have none and are left out, on both sides. ks: those that are not below the
    number of pictures are left out. seed: of the order in which pictures are asked, so that what there is so far stands
    for the whole. batch: pictures asked at a time; memory is bounded by it and BLOCK_BYTES, whatever N is. Distances
    come from products of matrices and are exact up to float32's rounding. Raises ValueError.
    """
    check_measure(features, measure)
    labels = np.asarray(labels)
    if labels.shape != features.shape[:1]:
        raise ValueError(f"There are {len(features)} pictures and {labels.size} labels: give each picture one.")
    known = np.flatnonzero(labels >= 0)
    ks = sorted({k for k in ks if 1 <= k < len(known)})
    if not ks:
        raise ValueError("Agreement needs at least two pictures with a label: choose a set that has labels.")
    kinds, codes = np.unique(labels, return_inverse=True)  # of all, so that rows stay rows
    sizes = np.bincount(codes[known], minlength=len(kinds)).astype(float)
    chance = float((sizes * (sizes - 1)).sum() / (len(known) * (len(known) - 1)))
    centre = _mean(features) if measure == "L2" else None
    order = np.random.default_rng(seed).permutation(known)
    same, votes, done = np.zeros(len(ks)), np.zeros(len(ks)), 0
    ranks = np.arange(ks[-1])
    for start in range(0, len(order), batch):
        asked = np.sort(order[start : start + batch])  # sorted, as a file is read the faster that way
        near = _by_products(features, features[asked], ks[-1], measure, centre, labels >= 0, asked)  # (B, K)
        found, own = codes[near], codes[asked]
        hits = (found == own[:, None]).cumsum(1)
        for place, k in enumerate(ks):
            same[place] += (hits[:, k - 1] / k).sum()
            cells = (np.arange(len(asked))[:, None] * len(kinds) + found[:, :k]).ravel()
            weights = np.broadcast_to(1 - 1e-6 * ranks[:k], (len(asked), k)).ravel()
            ballots = np.bincount(cells, weights, len(asked) * len(kinds)).reshape(len(asked), -1)
            votes[place] += (ballots.argmax(1) == own).sum()
        done += len(asked)
        table = pd.DataFrame({"k": ks, "same": same / done, "vote": votes / done, "chance": chance})
        yield Step(done, len(order), Agreement(table, done, len(order)))


def _mean(features: np.ndarray) -> np.ndarray:
    """(C,) float32; taken off all rows, it changes no distance and leaves products less to cancel."""
    total = np.zeros(features.shape[1])
    for _, block in _blocks(features, "L2"):
        total += block.sum(0, dtype=np.float64)
    return (total / max(len(features), 1)).astype(np.float32)


def nearest_each(features: np.ndarray, queries: np.ndarray, *, count: int = 9, measure: str = "cosine") -> np.ndarray:
    """(Q, count) the rows of features (N, C) that are nearest to each of queries (Q, C), the nearest first.

    For many queries at once: by products of matrices, exact up to float32's rounding. `count` is N at most.
    """
    check_measure(features, measure)
    centre = _mean(features) if measure == "L2" else None
    return _by_products(features, queries, min(count, len(features)), measure, centre)


def _by_products(
    features: np.ndarray,
    queries: np.ndarray,
    count: int,
    measure: str,
    centre: np.ndarray | None,
    able: np.ndarray | None = None,
    own: np.ndarray | None = None,
) -> np.ndarray:
    """See `nearest_each`. centre: (C,), taken off. able: (N,) bool, the rows that count, by default all; at least
    `count` of them. own: (Q,) the row that is the query itself and no neighbour."""
    queries = _prepared(queries, measure)
    if centre is not None:
        queries -= centre
    best = np.full((len(queries), count), np.inf, np.float32)
    rows = np.zeros((len(queries), count), np.int64)
    for start, block in _blocks(features, measure):
        if centre is not None:
            block -= centre
        scores = queries @ block.T  # (Q, M)
        scores *= -2
        scores += np.einsum("nc,nc->n", block, block)  # squared distance, but for a number that is the query's own
        stop = start + len(block)
        if able is not None:
            scores[:, ~able[start:stop]] = np.inf
        if own is not None:
            here = np.flatnonzero((own >= start) & (own < stop))
            scores[here, own[here] - start] = np.inf
        keep = min(count, len(block))
        part = np.argpartition(scores, keep - 1, axis=1)[:, :keep] if keep < len(block) else np.arange(keep)[None]
        part = np.broadcast_to(part, (len(queries), keep))
        best = np.concatenate([best, np.take_along_axis(scores, part, 1)], 1)
        rows = np.concatenate([rows, part + start], 1)
        chosen = np.lexsort((rows, best))[:, :count]
        best, rows = np.take_along_axis(best, chosen, 1), np.take_along_axis(rows, chosen, 1)
    return rows


# The space of pixels --------------------------------------------------------------------------------------------------


def small(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """(h * w * C,) uint8: what the net sees of a picture (H, W, C), its longer side brought down to `side` pixels.

    The same for all pictures of a net. What is no larger stays as it is.
    """
    longer = max(pixels.shape[:2])
    if longer > side:
        pixels = resize(pixels, tuple(max(1, round(length * side / longer)) for length in pixels.shape[:2]))
    return np.round(np.clip(pixels, 0, 1) * 255).astype(np.uint8).ravel()


def small_steps(
    view: Callable[[int], np.ndarray], ids: Sequence[int], *, side: int = SIDE, file: Path | None = None
) -> Iterator[Step]:
    """All pictures of a set in the space of pixels; each Step's result is the (n, h * w * C) uint8 there are so far.

    view: gives what the net sees, (H, W, C), of the picture with that id; asked by threads. file: is written when all
    is done, as NumPy's .npy, and on the next time opened instead; the result is mapped from it, so that memory stays
    bounded. Where it cannot be written, a file without a name takes its place. Raises ValueError where there are none.
    """
    ids = list(ids)
    if not ids:
        raise ValueError("There is no picture to compare: choose a set that has some.")
    if (kept := open_small(file, len(ids))) is not None:
        yield Step(len(ids), len(ids), kept)
        return
    first = small(view(ids[0]), side)
    name, file = _room(file)
    try:
        rows = np.lib.format.open_memmap(name, "w+", np.uint8, (len(ids), len(first)))
        with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
            for start in range(0, len(ids), 128):
                part = ids[start : start + 128]
                for k, row in enumerate(pool.map(lambda i: small(view(i), side), part), start):
                    rows[k] = row
                done = start + len(part)
                if done == len(ids) and file is not None:
                    rows.flush()
                    os.replace(name, file)  # whole or not at all
                yield Step(done, len(ids), rows[:done])
    finally:
        Path(name).unlink(missing_ok=True)  # what is mapped stays readable


def open_small(file: Path | None, count: int) -> np.ndarray | None:
    """The rows that `small_steps` has written to the file, if it holds `count` of them."""
    try:
        rows = np.load(file, mmap_mode="r") if file is not None else None
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows is not None and rows.dtype == np.uint8 and rows.ndim == 2 and len(rows) == count else None


def _room(file: Path | None) -> tuple[str, Path | None]:
    """A new file beside the one that it will become, and that one; or one where temporary files lie, and None."""
    folders = [None] if file is None else [file.parent, None]
    for folder in folders:
        try:
            handle, name = tempfile.mkstemp(".npy", "pixels-", folder)
        except OSError:
            if folder is None:
                raise
        else:
            os.close(handle)
            return name, None if folder is None else file
    raise AssertionError


# Of an index ----------------------------------------------------------------------------------------------------------


def pixel_steps(index: Index, net: Net) -> Iterator[Step]:
    """The pictures of an index in the space of pixels, see `small_steps`; kept beside the index.

    Raises ValueError where the data set has changed meanwhile or is no longer there.
    """

    def view(number: int) -> np.ndarray:
        try:
            return index.pixels(net, number)
        except OSError as error:
            raise ValueError(
                f"Picture {number} of {index.data_name} can no longer be read: index the pictures again."
            ) from error

    yield from small_steps(view, index.pictures.id.tolist(), file=index.folder / f"pixels-{index.done}.npy")


def row_of(index: Index, number: int) -> int:
    """The place of the picture with that id in Index.pictures. Raises UnknownPicture."""
    ids = index.pictures.id.to_numpy()
    row = int(np.searchsorted(ids, number))
    if row >= len(ids) or ids[row] != number:
        raise UnknownPicture(
            f"There is no readable picture {number} in {index.data_name}: choose one of 0 to {ids.max()}."
        )
    return row


def channel_means(layer: str, net: Net, pixels: np.ndarray) -> np.ndarray:
    """(C,) float32: what an index holds of a picture (H, W, C) of the net's own size. Raises UnknownLayer."""
    found = net.activations(net.batch(pixels), [layer])[layer]
    return found.reshape(net.layer(layer).shape[0], -1).mean(1)


def usual_layer(index: Index, net: Net) -> str:
    """The last layer of the index before the logits, or the logits where there is none."""
    return next((name for name in reversed(index.layers) if name != net.logits), index.layers[-1])


def neighbours(
    index: Index,
    net: Net,
    asked: int | np.ndarray,
    *,
    layer: str | None = None,
    measure: str = "cosine",
    count: int = 9,
) -> pd.DataFrame:
    """The pictures that are nearest to one of the set, or to any other, for the network and pixel by pixel.

    asked: the id of a picture of the set, which is then left out, or what the net sees of another one (H, W, C).
    layer: of the index, by default `usual_layer`.
    Returns id and distance in the layer's features, pixel_id and pixel_distance; the nearest first. Raises ValueError,
    UnknownLayer.
    """
    layer = layer or usual_layer(index, net)
    rows = last(pixel_steps(index, net))
    features = index.features(layer)
    own = row_of(index, asked) if isinstance(asked, int | np.integer) else None
    found = {}
    for name, space, query in (
        ("", features, channel_means(layer, net, asked) if own is None else features[own]),
        ("pixel_", rows, small(asked) if own is None else rows[own]),
    ):
        near = nearest_others(space, query, own, count=count, measure=measure)
        found |= {f"{name}id": index.pictures.id.to_numpy()[near.rows], f"{name}distance": near.distances}
    return pd.DataFrame(found)


def drawn(index: Index, net: Net, found: pd.DataFrame, side: int = 96) -> np.ndarray:
    """(2 h, n w, 3): what `neighbours` found, in a row those of the network, and below it those of pixels."""
    height, width = (max(1, round(side * length / max(net.input_size))) for length in net.input_size)
    rows = []
    for ids in (found.id, found.pixel_id):
        tiles = [resize(index.pixels(net, int(number)), (height, width)) for number in ids]
        rows.append(np.concatenate([tile if tile.shape[2] == 3 else tile.repeat(3, 2) for tile in tiles], 1))
    return np.clip(np.concatenate(rows), 0, 1)


def nearest_others(
    features: np.ndarray, query: np.ndarray, own: int | None, *, count: int = 9, measure: str = "cosine"
) -> Nearest:
    """The same as `nearest`, without the row `own`."""
    found = nearest(features, query, count=count + (own is not None), measure=measure)
    keep = np.flatnonzero(found.rows != own)[:count] if own is not None else np.arange(len(found.rows))
    return Nearest(found.rows[keep], found.distances[keep])


def agreements_steps(
    index: Index, net: Net, *, layer: str | None = None, measure: str = "cosine", ks: Sequence[int] = KS
) -> Iterator[Step]:
    """Agreement of labels in both spaces, over the whole set; each Step's result is {"features": Agreement, "pixels":
    Agreement}, the latter missing at first. Raises ValueError, UnknownLayer."""
    labels = index.pictures.label.to_numpy()
    found: dict[str, Agreement] = {}
    for place, name in enumerate(("features", "pixels")):
        space = index.features(layer or usual_layer(index, net)) if place == 0 else last(pixel_steps(index, net))
        for step in agreement_steps(space, labels, ks, measure=measure):
            found = found | {name: step.result}
            yield Step(place * step.total + step.index, 2 * step.total, found)

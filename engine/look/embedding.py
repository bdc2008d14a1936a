"""What lies near what, as a network sees it? Every picture of a set as a point of a map, or as a tile of a grid.

Principal components: Pearson 1901. t-SNE: van der Maaten, Hinton 2008 (JMLR 9); its gradient is openTSNE's (Policar,
Strazar, Zupan 2019, doi 10.1101/731877): Barnes-Hut (van der Maaten 2014) for few pictures, interpolation by FFT
(Linderman 2019, arXiv:1712.09005) for many. It starts from the principal components (Kobak, Berens 2019, arXiv:1812.
00769), and all its neighbours are exact. UMAP: McInnes 2018, arXiv:1802.03426. The grid is Karpathy's cnnembed (2014),
with assignments instead of first come, first served; beyond what those can do in time it begins as DGrid does (Hilasaca
et al. 2019, arXiv:1903.06262).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.devices import cores
from engine.look import neighbours
from engine.step import Step, last

if TYPE_CHECKING:
    from engine.data.index import Index
    from engine.net import Net

MEASURES = ("cosine", "L2")
STARTS = ("PCA", "random")
EVERY = 20  # iterations of t-SNE between two reports; each report costs one gradient more
EARLY, EXAGGERATION = 1 / 3, 12.0  # share of the iterations in which near pictures attract each other so much more
FFT_FROM = 3000  # pictures from which on t-SNE's gradient by interpolation is the faster one
# Of its grid, in the map's units, where openTSNE and FIt-SNE have 1: half the time for 10,000 pictures, at a divergence
# of 1.90 in place of 1.85 (exactly computed; scikit-learn's comes to 2.03).
INTERVAL = 2


@dataclass(frozen=True)
class Map:
    """Where the pictures lie. by: "PCA", "t-SNE" or "UMAP". measure: of likeness, one of MEASURES; of PCA always "L2".

    places: (N, 2) float32, x to the right and y upwards, in no unit. explained: (K,) shares of the variance that the
    principal components explain, in order; empty of the other two. losses: (T, 2), t-SNE's iterations and its
    Kullback-Leibler divergence after them, in nats. memory: what it takes to go on, and to place others.
    """

    by: str
    measure: str
    places: np.ndarray
    explained: np.ndarray = field(default_factory=lambda: np.zeros(0))
    losses: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    memory: Any = field(default=None, repr=False, compare=False)


def ways() -> list[str]:
    """How a map can be made here: UMAP only where the package umap-learn is installed."""
    return ["PCA", "t-SNE", *(["UMAP"] if importlib.util.find_spec("umap") else [])]


def map_steps(features: np.ndarray, by: str = "t-SNE", *, resume: Map | None = None, **knobs: Any) -> Iterator[Step]:
    """A map of pictures by their features (N, C), the way that is called so; each Step's result is a Map.

    knobs: of `tsne_steps` or `umap_steps`; PCA has none. Raises ValueError.
    """
    if by not in ways():
        raise ValueError(f"A map cannot be made by {by!r} here; choose one of {', '.join(ways())}.")
    if by == "PCA":
        yield Step(1, 1, _by_components(_checked(features, "L2")))
    elif by == "t-SNE":
        yield from tsne_steps(features, resume=resume, **knobs)
    else:
        yield from umap_steps(features, **knobs)


def map_of(
    index: Index,
    net: Net,
    *,
    layer: str | None = None,
    pixels: bool = False,
    by: str = "t-SNE",
    most: int = 5000,
    seed: int = 0,
    **knobs: Any,
) -> Map:
    """A map of the pictures of an index, near each other where a layer of the network, or their pixels, are alike.

    layer: of the index, by default the last before the logits. pixels: those, in place of a layer. by: "PCA", "t-SNE"
    or "UMAP". most, seed: see `some_rows`; the seed is that of the map, too. knobs: see `map_steps`. The map's places
    are those of `some_rows`. Raises UnknownLayer, ValueError.
    """
    return last(map_of_steps(index, net, layer=layer, pixels=pixels, by=by, most=most, seed=seed, **knobs))


def map_of_steps(
    index: Index,
    net: Net,
    *,
    layer: str | None = None,
    pixels: bool = False,
    by: str = "t-SNE",
    most: int = 5000,
    seed: int = 0,
    resume: Map | None = None,
    **knobs: Any,
) -> Iterator[Step]:
    """The same, a Step now and then; the result is None while pictures are read again to look at their pixels."""
    rows = some_rows(len(index.pictures), most, seed)
    if pixels:
        for step in neighbours.pixel_steps(index, net):
            yield Step(step.index, step.total, None)
        features = np.asarray(step.result[rows])
    else:
        features = index.features(layer or neighbours.usual_layer(index, net))[rows]
    if by != "PCA":
        knobs["seed"] = seed
    yield from map_steps(features, by, resume=resume, **knobs)


def some_rows(count: int, most: int, seed: int = 0) -> np.ndarray:
    """Which of `count` pictures are on a map of no more than `most`: all, or some that are drawn by lot, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, max(most, 1), replace=False))


# Principal components -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Components:
    """The axes along which features vary most. places: (N, K) along them. explained: (K,) shares of the variance.

    axes: (K, C) of length 1, the largest part of each positive, as scikit-learn has them. mean: (C,).
    """

    places: np.ndarray
    explained: np.ndarray
    axes: np.ndarray
    mean: np.ndarray


def pca(features: np.ndarray, count: int = 2) -> Components:
    """The first `count` principal components of features (N, C); fewer where there are fewer.

    They are those of the covariances of channels, or of pictures where these are fewer: exact, not drawn at random.
    Raises ValueError.
    """
    x = _checked(features, "L2").astype(np.float64)
    mean = x.mean(0)
    x -= mean
    count = min(count, *x.shape)
    wide = x.shape[1] > x.shape[0]
    values, vectors = _largest(x @ x.T if wide else x.T @ x, count)  # (K,), (min(N, C), K)
    axes = vectors.T
    if wide:
        axes = axes @ x
        axes /= np.maximum(np.linalg.norm(axes, axis=1, keepdims=True), 1e-30)
    largest = np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1)
    axes = axes * np.where(largest < 0, -1, 1)
    total = float((x * x).sum())
    return Components(x @ axes.T, np.maximum(values, 0) / (total or 1.0), axes, mean)


def _largest(square: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest eigenvalues of a symmetric matrix (n, n), and their vectors (n, count), largest first."""
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    if len(square) > 600 and count < len(square) // 10:  # only a few of many: by Lanczos, from a fixed start
        values, vectors = eigsh(square, count, v0=np.ones(len(square)))
    else:
        values, vectors = eigh(square, subset_by_index=[len(square) - count, len(square) - 1])
    order = np.argsort(-values, kind="stable")
    return values[order], vectors[:, order]


def _by_components(x: np.ndarray) -> Map:
    found = pca(x, 50)
    places = np.zeros((len(x), 2), np.float32)
    places[:, : min(2, found.places.shape[1])] = found.places[:, :2]
    return Map("PCA", "L2", places, explained=found.explained, memory=(found.axes[:2], found.mean))


# t-SNE ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Going:
    """A t-SNE between two iterations. embedding: openTSNE's, with its momentum. near: affinities (N, N), sparse."""

    done: int
    embedding: Any
    near: Any


def tsne_steps(
    features: np.ndarray,
    *,
    perplexity: float = 30.0,
    steps: int = 750,
    measure: str = "cosine",
    start: str = "PCA",
    seed: int = 0,
    resume: Map | None = None,
) -> Iterator[Step]:
    """t-SNE of features (N, C), a Step with a Map after every few iterations, and one with the start before the first.

    perplexity: how many neighbours count, in effect; at most a third of the pictures. steps: iterations, of which the
    first third exaggerates what attracts, by 12. measure: "cosine" or "L2", of features; the cosine's distance is the
    chord's. start: "PCA" or "random". seed: of what is drawn for the start. resume: a Map of the same run that it goes
    on from.
    Raises ValueError.
    """
    if start not in STARTS:
        raise ValueError(f"A map cannot start from {start!r}; choose one of {', '.join(STARTS)}.")
    if perplexity < 1 or steps < 1:
        raise ValueError("Perplexity and steps have to be 1 or more.")
    x = _checked(features, measure)
    going, losses = (resume.memory, resume.losses) if resume is not None else (None, np.zeros((0, 2)))
    if not isinstance(going, _Going):
        begun = _beginning(x, start, seed)
        yield Step(0, steps, Map("t-SNE", measure, begun.astype(np.float32)))
        if len(x) < 3:  # there is nothing to arrange
            yield Step(steps, steps, Map("t-SNE", measure, begun.astype(np.float32), memory=begun))
            return
        going, losses = _Going(0, begun, _affinities(x, perplexity)), np.zeros((0, 2))
    early = round(steps * EARLY)
    while going.done < steps:
        exaggerated = going.done < early
        number = min(EVERY, (early if exaggerated else steps) - going.done)
        going, loss = _iterated(going, number, EXAGGERATION if exaggerated else 1.0)
        losses = np.concatenate([losses, [(going.done, loss)]])
        places = np.array(going.embedding, np.float64)
        memory = going if going.done < steps else places  # a run that has ended needs no affinities
        yield Step(going.done, steps, Map("t-SNE", measure, places.astype(np.float32), losses=losses, memory=memory))


def _beginning(x: np.ndarray, start: str, seed: int) -> np.ndarray:
    """(N, 2) within about 1e-4 of the centre, which lets the first iterations move everything."""
    random = np.random.default_rng(seed)
    places = random.normal(size=(len(x), 2))
    if start == "PCA":
        found = pca(x, 2).places
        spread = float(found[:, 0].std()) if found.shape[1] else 0.0
        if spread > 0:
            places *= 0.01  # so that pictures that are the same do not lie on the very same place
            places[:, : found.shape[1]] += found / spread
    return places * 1e-4


def _affinities(x: np.ndarray, perplexity: float):
    """(N, N) sparse, symmetric, of sum 1: how much each pair of pictures counts as neighbours."""
    from openTSNE.affinity import joint_probabilities_nn

    count = max(1, min(len(x) - 1, int(3 * perplexity)))
    places, distances = _nearest(x, x, count, itself=False)
    return joint_probabilities_nn(places, _with_spread(distances), [min(perplexity, max(count / 3, 1.0))])


def _with_spread(distances: np.ndarray) -> np.ndarray:
    """The same, but that rows of nothing but zeros (many copies of one picture) get a width that can be found."""
    return np.where(distances.max(1, keepdims=True) > 0, distances, 1.0)


def _iterated(going: _Going, number: int, exaggeration: float) -> tuple[_Going, float]:
    from openTSNE.affinity import PrecomputedAffinities
    from openTSNE.tsne import TSNEEmbedding

    by_grid = len(going.embedding) >= FFT_FROM
    # The affinities are multiplied here: openTSNE would multiply and divide them in place, and round each time.
    near = going.near * exaggeration if exaggeration != 1 else going.near
    affinities = PrecomputedAffinities(near, normalize=False)
    optimizer = getattr(going.embedding, "optimizer", None)
    embedding = TSNEEmbedding(
        going.embedding,
        affinities,
        negative_gradient_method="fft" if by_grid else "bh",
        optimizer=optimizer.copy() if optimizer else None,
        ints_in_interval=INTERVAL,
        n_jobs=cores() if by_grid else 1,  # by the tree, threads add up in another order each time
    )
    # The rate is that of Belkina 2019, doi 10.1038/s41467-019-13055-y; a few pictures would hardly move by it.
    rate = max(len(going.embedding) / exaggeration, 50.0)
    embedding = embedding.optimize(number, inplace=True, learning_rate=rate, momentum=0.8)
    loss = embedding.kl_divergence / exaggeration - np.log(exaggeration)
    return _Going(going.done + number, embedding, going.near), float(loss)


# UMAP -----------------------------------------------------------------------------------------------------------------


def umap_steps(
    features: np.ndarray, *, beside: int = 15, apart: float = 0.1, measure: str = "cosine", seed: int = 0
) -> Iterator[Step]:
    """UMAP of features (N, C), if the package umap-learn is installed: the start, and then the whole at once, because
    it does not let one look on.

    beside: neighbours of each picture that count. apart: how far pictures keep from each other at least. measure:
    "cosine" or "L2". seed: of what is drawn. Raises ValueError.
    """
    x = _checked(features, measure)
    begun = _beginning(x, "PCA", seed)
    yield Step(0, 1, Map("UMAP", measure, begun.astype(np.float32)))
    if len(x) < 5:  # too few for its spectral start
        yield Step(1, 1, Map("UMAP", measure, begun.astype(np.float32)))
        return
    import umap

    model = umap.UMAP(n_neighbors=min(beside, len(x) - 1), min_dist=apart, random_state=seed, n_jobs=1)
    places = np.asarray(model.fit_transform(x), np.float32)
    yield Step(1, 1, Map("UMAP", measure, places, memory=model))


# Another picture ------------------------------------------------------------------------------------------------------


def place(made: Map, features: np.ndarray, new: np.ndarray, *, perplexity: float = 5.0, steps: int = 100) -> np.ndarray:
    """(M, 2) where other pictures lie on a map that is there, and stays as it is.

    features: (N, C), those that the map was made of. new: (M, C). perplexity, steps: of t-SNE, which lets each new
    picture start at the median of its nearest 25 and move, as openTSNE does.
    Raises ValueError, also where the map is not finished.
    """
    new = np.atleast_2d(new)
    if len(features) != len(made.places) or new.shape[1] != features.shape[1]:
        raise ValueError("These features are not those that the map was made of.")
    if made.by == "PCA":
        axes, mean = made.memory
        found = np.zeros((len(new), 2), np.float32)
        found[:, : len(axes)] = (new - mean) @ axes.T
        return found
    old, new = _checked(features, made.measure), _checked(new, made.measure)
    if made.by == "UMAP" and made.memory is not None:
        return np.asarray(made.memory.transform(new), np.float32)
    if isinstance(made.memory, _Going):
        raise ValueError("The map is not finished; let it run to the end to place a picture on it.")
    near, distances = _nearest(old, new, min(25, len(old)))
    begun = np.median(made.places[near], axis=1).astype(np.float64)
    if len(old) < 3:
        return begun.astype(np.float32)
    return _moved(made.memory, begun, near, distances, perplexity, steps).astype(np.float32)


def _moved(
    fixed: np.ndarray, begun: np.ndarray, near: np.ndarray, distances: np.ndarray, perplexity: float, steps: int
) -> np.ndarray:
    from openTSNE.affinity import PrecomputedAffinities, joint_probabilities_nn
    from openTSNE.tsne import PartialTSNEEmbedding, TSNEEmbedding
    from scipy.sparse import csr_matrix

    count = min(near.shape[1], int(3 * perplexity))
    affinities = joint_probabilities_nn(
        near[:, :count],
        _with_spread(distances[:, :count]),
        [min(perplexity, max(count / 3, 1.0))],
        symmetrize=False,
        normalization="point-wise",
        n_reference_samples=len(fixed),
    )
    nothing = PrecomputedAffinities(csr_matrix((len(fixed), len(fixed))), normalize=False)
    reference = TSNEEmbedding(fixed, nothing, negative_gradient_method="bh")
    partial = PartialTSNEEmbedding(begun, reference, affinities, negative_gradient_method="bh")
    more = {"momentum": 0.8, "max_grad_norm": 0.25}
    partial = partial.optimize(steps, learning_rate=0.1, exaggeration=1.5, **more)
    return np.asarray(partial)


def neighbours_kept(
    features: np.ndarray, places: np.ndarray, *, count: int = 10, measure: str = "cosine", asked: int = 1000
) -> tuple[float, float]:
    """How far a map can be trusted: the share of each picture's `count` nearest by features (N, C) that are also among
    its nearest by places (N, 2), and what that share would be if all had been laid out by lot.

    asked: how many pictures are looked at, evenly spread over the set. Raises ValueError.
    """
    x, count = _checked(features, measure), min(count, len(features) - 1)
    if count < 1:
        return 1.0, 1.0
    rows = np.unique(np.linspace(0, len(x) - 1, min(asked, len(x))).astype(int))
    near, beside = (_others(each, rows, count) for each in (x, np.asarray(places, np.float32)))
    same = (near[:, :, None] == beside[:, None, :]).any(2)
    return float(same.mean()), count / (len(x) - 1)


def _others(x: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """(M, count) which of x are nearest to each of its rows, which are not their own neighbours."""
    found, _ = _nearest(x, x[rows], count + 1)
    itself = found == rows[:, None]
    itself[~itself.any(1), -1] = True  # copies have taken its place: the farthest goes
    return found[~itself].reshape(len(rows), -1)


# What all use ---------------------------------------------------------------------------------------------------------


def _checked(features: np.ndarray, measure: str) -> np.ndarray:
    """(N, C) float32, of length 1 where cosines are to count; bytes are pixels. Raises ValueError."""
    if measure not in MEASURES:
        raise ValueError(f"There is no measure {measure!r}; choose one of {', '.join(MEASURES)}.")
    if features.ndim != 2 or not len(features) or not features.shape[1]:
        raise ValueError("There are no pictures to make a map of.")
    x = features / np.float32(255) if features.dtype == np.uint8 else np.asarray(features, np.float32)
    if not np.isfinite(x).all():
        raise ValueError("Some of the features are not finite numbers, so that nothing is near them; leave them out.")
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30) if measure == "cosine" else x


def _nearest(x: np.ndarray, asked: np.ndarray, count: int, itself: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(M, count) which of x (N, C) are nearest to each of asked (M, C), nearest first, and their distances.

    itself: whether a row of x may be its own neighbour, where asked is x. Exact, a few rows at a time, on all cores.
    """
    squares, rows = np.einsum("ij,ij->i", x, x), 256
    count = min(count, len(x) - (not itself))

    def part(start: int) -> tuple[np.ndarray, np.ndarray]:
        some = asked[start : start + rows]
        far = squares[None] - 2 * (some @ x.T)
        if not itself:
            far[np.arange(len(some)), start + np.arange(len(some))] = np.inf
        found = np.argpartition(far, count - 1, 1)[:, :count]
        found.sort(1)  # so that ties go by number
        values = np.take_along_axis(far, found, 1)
        order = np.argsort(values, 1, kind="stable")
        squared = np.take_along_axis(values, order, 1) + np.einsum("ij,ij->i", some, some)[:, None]
        return np.take_along_axis(found, order, 1), np.sqrt(np.maximum(squared, 0))

    with ThreadPoolExecutor(cores()) as threads:
        parts = list(threads.map(part, range(0, len(asked), rows)))
    return np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts])

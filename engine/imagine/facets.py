"""Which different things does the network call by one name? A picture for each of them.

Nguyen, Yosinski, Clune 2016, arXiv:1602.03616, section 3: pictures of the class are grouped by what the network makes
of them, and each climb begins at the mean of one group. A grocery store inside and outside come out as two pictures,
not as a mixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from engine.imagine.maximize import arguments, paper_for, recipe
from engine.net import Net
from engine.pictures import samples
from engine.step import Step, last
from engine.target import Target, asked

if TYPE_CHECKING:
    from engine.optimize.ascend import Climb

MAPS = ("t-SNE", "PCA")
SUITED = "suited"  # pictures that come with the app
MOST = 500  # of a folder's pictures
PARTS = 50  # principal components before t-SNE, as in the paper


@dataclass(frozen=True)
class Groups:
    """Pictures, by what the network makes of them. group: (N,) which one each belongs to, 0 is the largest.

    place: (N, 2) on the map that was grouped. start: (K, H, W, C) mean of the pictures nearest to each group's middle.
    """

    group: np.ndarray
    place: np.ndarray
    start: np.ndarray


@dataclass(frozen=True)
class Facets:
    """groups: of the pictures. climb: of all groups together, one picture each."""

    groups: Groups
    climb: Climb

    @property
    def pixels(self) -> np.ndarray:
        """(K, H, W, C)."""
        return self.climb.pixels

    @property
    def scores(self) -> np.ndarray:
        """(n, K)."""
        return self.climb.scores

    @property
    def picture(self) -> np.ndarray:
        """(H, K · W, C): all side by side."""
        return np.concatenate(list(self.pixels), 1)


def groups(
    net: Net,
    images: np.ndarray,
    *,
    count: int = 3,
    layer: str | None = None,
    by: str = "t-SNE",
    nearest: int = 15,
    seed: int = 0,
) -> Groups:
    """Group pictures (N, H, W, C) of the net's own size by their features.

    count: of groups, at most as many as there are pictures. layer: whose channels, each averaged over its positions,
    are the features; by default the last map before pooling, or the logits where there is none. by: one of MAPS, on
    which k-means groups; t-SNE takes part from 12 pictures on. nearest: pictures whose mean a group's start is.
    Raises UnknownLayer, ValueError.
    """
    if len(images) < 2:
        raise ValueError("One picture has no groups: give at least two of the class.")
    if by not in MAPS:
        raise ValueError(f"There is no map {by!r} to group on; choose one of {', '.join(MAPS)}.")
    usual = net.last_map if any(found.has_map for found in net.layers) else net.logits
    name = net.layer(usual if layer is None else layer).name
    size = net.batch_size
    parts = [net.activations(net.batch(*images[i : i + size]), [name])[name] for i in range(0, len(images), size)]
    features = np.concatenate([part.reshape(*part.shape[:2], -1).mean(2) for part in parts]).astype(np.float64)
    with threadpool_limits(1):  # for so few points, threads only wait for one another
        place, label, middles = _grouped(features, count, by, seed)
    order = np.argsort(-np.bincount(label), kind="stable")
    starts = []
    for middle in middles[order]:
        near = np.argsort(((place - middle) ** 2).sum(1), kind="stable")[:nearest]
        mine = [k for k in near if label[k] == label[near[0]]]
        starts.append(np.mean([images[k] for k in mine], 0))
    flat = np.pad(place, ((0, 0), (0, max(2 - place.shape[1], 0))))[:, :2]
    return Groups(np.argsort(order)[label], flat, np.stack(starts).astype(np.float32))


def _grouped(features: np.ndarray, count: int, by: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, d) places on the map, (N,) labels of the groups, (K, d) their middles, from (N, C) features."""
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    place = PCA(min(PARTS, *features.shape), svd_solver="full").fit_transform(features)
    if by == "t-SNE" and len(features) >= 12:
        perplexity = min(30, (len(features) - 1) / 3)
        place = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(place.astype(np.float32))
    found = KMeans(min(count, len(features)), n_init=10, random_state=seed).fit(place)
    return place, found.labels_, found.cluster_centers_


def gallery(net: Net, target: Target | int, pictures: str = SUITED) -> np.ndarray:
    """(N, H, W, C) of the net's own size: a folder's pictures, at most MOST, or those that come with the app.

    pictures: the folder, or "suited" for the latter. These are of the class where there are such (digits, planted
    objects), and otherwise the sample photographs.
    Raises ValueError where there is no such folder or no picture in it, NotAPicture with the first that is none.
    """
    if pictures != SUITED:
        from engine.explain import trials

        if not Path(pictures).is_dir():
            raise ValueError(f"There is no folder {pictures!r}: give one with pictures of the class.")
        return np.stack([trial.pixels for trial in list(trials.folder(net, Path(pictures)).values())[:MOST]])
    found = [] if isinstance(target, Target) else samples.of_class(net.labels, net.class_index(target))
    return np.stack([net.view(each)[0] for each in found or map(samples.load, samples.names("photograph"))])


def facets(
    net: Net,
    target: Target | int,
    *,
    pictures: str | np.ndarray = SUITED,
    count: int = 3,
    layer: str | None = None,
    by: str = "t-SNE",
    nearest: int = 15,
    preset: str = "Lucid",
    steps: int = 64,
    seed: int = 0,
) -> Facets:
    """A picture for each group of the pictures of a class, which begins at the group's mean.

    target: what all of them climb. pictures: a folder of pictures of the class, "suited" for those that come with the
    app, or (N, H, W, C) of the net's own size. preset: one of those of `maximize`. steps: of the climbs. seed: of the
    groups and the views. count: of groups. layer: whose features. by: one of MAPS. nearest: see `groups`. The paper
    adds a start at the centre of the picture and a blur that fades, which is left out.
    Returns Facets. Raises UnknownClass, UnknownLayer, NoGradient, ValueError.
    """
    how = {"count": count, "layer": layer, "by": by, "nearest": nearest, "preset": preset}
    return last(facets_steps(net, target, pictures=pictures, steps=steps, seed=seed, **how))


def facets_steps(
    net: Net,
    target: Target | int,
    *,
    pictures: str | np.ndarray = SUITED,
    count: int = 3,
    layer: str | None = None,
    by: str = "t-SNE",
    nearest: int = 15,
    preset: str = "Lucid",
    steps: int = 64,
    seed: int = 0,
    resume: Facets | None = None,
) -> Iterator[Step]:
    """The same, a Step with Facets after each step of all groups' climbs; resume: go on from one of the same run."""
    from engine.optimize import ascend

    chosen = recipe(preset)
    if resume:
        found = resume.groups
    else:
        images = gallery(net, target, pictures) if isinstance(pictures, str) else pictures
        found = groups(net, images, count=count, layer=layer, by=by, nearest=nearest, seed=seed)
    target = asked(net, target)
    paper = paper_for(chosen, net.input_size, net.channels)
    x = paper.hide(ascend.tensor(found.start))
    how = arguments(net, target, chosen, paper, seed)
    for step in ascend.ascend(target, x, net=net, steps=steps, resume=resume and resume.climb, **how):
        yield Step(step.index, step.total, Facets(found, step.result))

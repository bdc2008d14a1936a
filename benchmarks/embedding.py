"""t-SNE: engine.embedding beside scikit-learn's, on the same features, start, perplexity and number of iterations.

Both have all neighbours exactly (scikit-learn has no other way) and start from the principal components. Their maps
differ, because what t-SNE makes small has many low places; so what is compared besides the time is how low each came,
as scikit-learn measures it, and how many neighbours each map keeps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.manifold import TSNE

from benchmarks.timing import Comparison, seconds
from engine.look.embedding import neighbours_kept, tsne_steps
from engine.step import last

PICTURES, CHANNELS, GROUPS = 10_000, 512, 20
STEPS, PERPLEXITY = 500, 30.0
GOAL = 2.0


@dataclass(frozen=True)
class Found:
    """The seconds of each; the share of the ten nearest that each map keeps, ours first; and the last divergence that
    each reports, in nats."""

    comparison: Comparison
    kept: tuple[float, float]
    divergences: tuple[float, float]


def features(seed: int = 0) -> np.ndarray:
    """(N, C) float32: clouds that are long in a few directions, as a layer's features are, and not below zero."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(GROUPS, CHANNELS)) * 0.7
    along = rng.normal(size=(GROUPS, 12, CHANNELS)) * 0.3
    group = rng.integers(0, GROUPS, PICTURES)
    x = centres[group] + np.einsum("nk,nkc->nc", rng.normal(size=(PICTURES, 12)), along[group])
    return np.maximum(x + 0.3 * rng.normal(size=x.shape), 0).astype(np.float32)


def compare(rounds: int = 1) -> Found:
    """Both in turns. There is no call that does not count: each takes a minute."""
    x = features()
    last(tsne_steps(x[:200], steps=10))  # the imports
    made: dict[str, object] = {}

    def ours() -> None:
        made["ours"] = last(tsne_steps(x, steps=STEPS, perplexity=PERPLEXITY, measure="L2"))

    def theirs() -> None:
        made["theirs"] = TSNE(max_iter=STEPS, perplexity=PERPLEXITY, init="pca", random_state=0, n_jobs=-1)
        made["places"] = made["theirs"].fit_transform(x)

    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            times[side].append(seconds((ours, theirs)[side]))
    places = (made["ours"].places, made["places"])
    return Found(
        Comparison(tuple(times[0]), tuple(times[1])),
        tuple(neighbours_kept(x, each, measure="L2")[0] for each in places),
        (float(made["ours"].losses[-1, 1]), float(made["theirs"].kl_divergence_)),
    )

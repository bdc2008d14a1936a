"""Maps of pictures: principal components beside scikit-learn's, t-SNE beside openTSNE as it comes, each tile once."""

from __future__ import annotations

import itertools
import sys
import types

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from engine.image import to_png
from engine.look import embedding, grid
from engine.look.embedding import map_steps, pca, place, tsne_steps
from engine.look.grid import grid_shape, in_square, moved_by, on_grid
from engine.step import last


def groups(count: int = 120, channels: int = 20, kinds: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, C) in as many clouds, and which cloud each is of."""
    rng = np.random.default_rng(seed)
    kind = np.arange(count) % kinds
    return (rng.normal(size=(kinds, channels)) * 3)[kind] + rng.normal(size=(count, channels)), kind


def agreement(places: np.ndarray, kind: np.ndarray, count: int = 5) -> float:
    found, _ = embedding._nearest(places, places, count, itself=False)
    return float((kind[found] == kind[:, None]).mean())


# Principal components -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(50, 7), (20, 90), (900, 650), (640, 900)], ids=str)
def test_principal_components_are_scikit_learns(shape):
    from sklearn.decomposition import PCA

    rng = np.random.default_rng(0)
    x = rng.normal(size=shape) @ np.diag(np.geomspace(9, 0.5, shape[1])) + 3
    found, theirs = pca(x, 4), PCA(4, svd_solver="full").fit(x.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(found.explained, theirs.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(found.mean, theirs.mean_, atol=1e-6)
    sign = np.sign((found.axes * theirs.components_).sum(1))
    np.testing.assert_allclose(found.axes, sign[:, None] * theirs.components_, atol=1e-5)
    np.testing.assert_allclose(found.places, sign * theirs.transform(x), atol=2e-4)
    largest = np.take_along_axis(found.axes, np.abs(found.axes).argmax(1)[:, None], 1)
    assert (largest > 0).all()


def test_all_of_the_variance_is_explained_by_all_axes():
    x, _ = groups()
    assert pca(x, 999).explained.sum() == pytest.approx(1)
    assert len(pca(x, 999).explained) == 20


def test_one_channel_one_picture_and_no_difference():
    assert pca(np.arange(5.0)[:, None], 2).explained.tolist() == pytest.approx([1])
    for x in (np.ones((1, 3)), np.ones((9, 3))):
        found = pca(x, 2)
        assert not found.explained.any()
        assert not found.places.any()
        for way in ("PCA", "t-SNE"):
            made = last(map_steps(x, way))
            assert made.places.shape == (len(x), 2)
            assert np.isfinite(made.places).all()


# t-SNE ----------------------------------------------------------------------------------------------------------------


def test_groups_come_apart_and_the_divergence_falls():
    x, kind = groups()
    made = last(tsne_steps(x, steps=200))
    assert agreement(made.places, kind) > 0.95
    assert made.losses[0, 1] > 2 * made.losses[-1, 1] > 0


@pytest.mark.parametrize("way", ["bh", pytest.param("fft", marks=pytest.mark.thorough)])
def test_tsne_is_opentsnes(way, monkeypatch):
    """From the same start, with all its neighbours: as low a divergence as the library comes to by itself."""
    from openTSNE import TSNE

    x, kind = groups(200)
    monkeypatch.setattr(embedding, "FFT_FROM", 10**9 if way == "bh" else 0)
    made = last(tsne_steps(x, steps=300, measure="L2"))
    options = {"neighbors": "exact", "negative_gradient_method": way, "random_state": 0}
    theirs = TSNE(early_exaggeration_iter=100, n_iter=200, **options).fit(x)
    assert made.losses[-1, 1] == pytest.approx(theirs.kl_divergence, rel=0.05)
    assert agreement(made.places, kind) > 0.95


@pytest.mark.parametrize("start", embedding.STARTS)
def test_the_same_seed_gives_the_same_map_and_another_does_not(start):
    x, _ = groups()
    one, two, other = (last(tsne_steps(x, steps=60, start=start, seed=seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.places, two.places)
    assert not np.allclose(one.places, other.places)


@pytest.mark.parametrize("done", [0, 1, 2, 3])
def test_a_run_goes_on_as_if_it_had_not_been_broken_off(done):
    """In the first third, at its end, and after it."""
    x, _ = groups()
    whole = list(tsne_steps(x, steps=90))
    rest = list(tsne_steps(x, steps=90, resume=whole[done].result))
    np.testing.assert_array_equal(rest[-1].result.places, whole[-1].result.places)
    np.testing.assert_array_equal(rest[-1].result.losses, whole[-1].result.losses)


def test_reports_come_early_and_often():
    x, _ = groups()
    steps = list(tsne_steps(x, steps=65))
    assert [step.index for step in steps] == [0, 20, 22, 42, 62, 65]
    assert {step.total for step in steps} == {65}
    assert all(np.isfinite(step.result.places).all() for step in steps)
    assert len({step.result.places.tobytes() for step in steps}) == len(steps)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_few_pictures(count):
    x, _ = groups(count)
    made = last(tsne_steps(x, steps=30))
    assert made.places.shape == (count, 2)
    assert np.isfinite(made.places).all()
    assert len(on_grid(made.places)) == count


def test_copies_of_one_picture_lie_together():
    x, _ = groups(60, kinds=3)
    x[:20] = x[0]
    places = last(tsne_steps(x, steps=300, perplexity=5)).places
    assert np.isfinite(places).all()
    assert np.ptp(places[:20], axis=0).max() < 0.5 * np.ptp(places, axis=0).max()


def test_inputs_stay_as_they_are():
    x, _ = groups()
    before = x.copy()
    for way in ("PCA", "t-SNE"):
        made = last(map_steps(x, way, **({"steps": 20} if way == "t-SNE" else {})))
        place(made, x, x[:2])
        on_grid(made.places)
    np.testing.assert_array_equal(x, before)


WRONG = [
    (np.zeros((0, 3)), {}, "no pictures"),
    (np.full((4, 3), np.nan), {}, "not finite"),
    (np.ones((4, 3)), {"measure": "miles"}, "no measure"),
    (np.ones((4, 3)), {"start": "there"}, "start"),
    (np.ones((4, 3)), {"perplexity": 0}, "1 or more"),
]


@pytest.mark.parametrize(("x", "knobs", "said"), WRONG, ids=[said for _, _, said in WRONG])
def test_what_cannot_be_done_is_said_in_a_sentence(x, knobs, said):
    with pytest.raises(ValueError, match=said) as refused:
        last(tsne_steps(x, **knobs))
    assert str(refused.value).endswith(".")


def test_a_way_that_is_not_there_is_not_offered(monkeypatch):
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: None)
    assert embedding.ways() == ["PCA", "t-SNE"]
    with pytest.raises(ValueError, match="choose one of PCA, t-SNE"):
        last(map_steps(np.ones((4, 3)), "UMAP"))


# UMAP, by a stand-in for the package: whether it is asked for what was chosen -----------------------------------------


def test_umap_is_asked_for_what_was_chosen(monkeypatch):
    asked = {}

    class Model:
        def __init__(self, **knobs):
            asked.update(knobs)

        def fit_transform(self, x):
            return x[:, :2] + 1

        def transform(self, x):
            return x[:, :2] + 1

    module = types.ModuleType("umap")
    module.UMAP, module.__spec__ = Model, types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, "umap", module)
    x, _ = groups()
    assert "UMAP" in embedding.ways()
    first, made = (step.result for step in map_steps(x, "UMAP", beside=7, apart=0.5, seed=3))
    assert first.places.shape == made.places.shape
    assert asked == {"n_neighbors": 7, "min_dist": 0.5, "random_state": 3, "n_jobs": 1}
    np.testing.assert_allclose(place(made, x, x[:4]), made.places[:4])


# Another picture ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["PCA", "t-SNE"])
def test_a_picture_of_the_map_is_placed_where_it_is(way):
    x, _ = groups()
    made = last(map_steps(x, way))
    before = made.places.copy()
    found = place(made, x, x[:10])
    far = np.linalg.norm(found - made.places[:10], axis=1)
    assert (far < 0.1 * np.ptp(made.places, axis=0).max()).all()
    np.testing.assert_array_equal(made.places, before)


@pytest.mark.parametrize("measure", embedding.MEASURES)
def test_a_new_picture_is_placed_among_its_like(measure):
    x, kind = groups(125)
    made = last(tsne_steps(x[:120], steps=300, measure=measure))
    found = place(made, x[:120], x[120:])
    near, _ = embedding._nearest(made.places, found, 5)
    assert (kind[:120][near] == kind[120:, None]).mean() > 0.9


def test_one_picture_is_placed_as_one_of_many():
    x, _ = groups()
    made = last(map_steps(x, "PCA"))
    np.testing.assert_allclose(place(made, x, x[7]), made.places[7:8], atol=1e-4)


def test_nothing_is_placed_on_another_map_or_an_unfinished_one():
    x, _ = groups()
    steps = list(tsne_steps(x, steps=20))
    with pytest.raises(ValueError, match="not finished"):
        place(steps[1].result, x, x[:1])
    with pytest.raises(ValueError, match="not those"):
        place(steps[-1].result, x[:50], x[:1])


def test_a_map_keeps_all_neighbours_or_as_many_as_by_lot():
    x, _ = groups(400, channels=2)
    assert embedding.neighbours_kept(x, x, measure="L2") == (1.0, 10 / 399)
    share, chance = embedding.neighbours_kept(x, np.random.default_rng(0).normal(size=(400, 2)), asked=200)
    assert share < 3 * chance
    assert embedding.neighbours_kept(np.ones((1, 3)), np.ones((1, 2))) == (1.0, 1.0)
    assert embedding.neighbours_kept(np.ones((30, 3)), np.ones((30, 2)))[0] > 0, "copies"


# The grid -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100, 101, 357, 1001, 2500])
@pytest.mark.parametrize("aspect", [1.0, 1.7, 0.4])
def test_the_grid_has_every_picture_exactly_once(count, aspect):
    rng = np.random.default_rng(count)
    places = rng.normal(size=(count, 2)) * [3, 1]
    places[: count // 3] = places[0]  # many at the same place
    cells = on_grid(places, aspect=aspect, exact=400)
    rows, columns = grid_shape(count, aspect)
    assert len({tuple(cell) for cell in cells.tolist()}) == count
    assert (cells >= 0).all()
    assert (cells < (rows, columns)).all()
    assert count <= rows * columns < count + columns
    np.testing.assert_array_equal(cells, on_grid(places, aspect=aspect, exact=400))


def test_a_map_that_is_a_grid_stays_one():
    """Row 0 is at the top, where y is largest."""
    rows, cols = np.indices((7, 7)).reshape(2, -1)
    places = np.stack([cols, -rows], 1).astype(float)
    for exact in (10, 100):
        np.testing.assert_array_equal(on_grid(places, exact=exact), np.stack([rows, cols], 1))


def test_the_assignment_is_the_best_of_all():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(6, 2))
    shape = grid_shape(6)
    wanted = grid._stretched(places, shape)
    cells = np.indices(shape).reshape(2, -1).T
    costs = ((wanted[:, None] - cells) ** 2).sum(2)
    best = min(costs[np.arange(6), list(order)].sum() for order in itertools.permutations(range(len(cells)), 6))
    assert moved_by(places, on_grid(places)) * 6 == pytest.approx(best)


def test_beyond_the_exact_assignment_it_is_within_a_few_percent_of_it():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 2)) * 4
    places = centres[rng.integers(0, 6, 900)] + rng.normal(size=(900, 2))
    best = moved_by(places, on_grid(places, exact=10**9))
    assert best <= moved_by(places, on_grid(places, exact=10)) < 1.08 * best
    halved = np.empty((900, 2), np.int64)
    grid._halved(grid._stretched(places, (30, 30)), np.arange(900), (0, 0), (30, 30), halved)
    assert moved_by(places, halved) > 1.08 * best, "halving alone would not do"
    wanted = grid._stretched(places, (30, 30))
    cost = ((wanted[:, None] - np.indices((30, 30)).reshape(2, -1).T) ** 2).sum(2)
    rows, cols = linear_sum_assignment(cost)
    assert best == pytest.approx(cost[rows, cols].mean())


# One picture of all ---------------------------------------------------------------------------------------------------


def test_tiles_are_the_middle_squares():
    pixels = np.zeros((20, 40, 3), np.float32)
    pixels[:, 10:30] = 1
    tiles = grid.squares([to_png(pixels), b"", to_png(pixels[:, :10])], 64)
    assert tiles.shape == (3, 16, 16, 3)
    assert (tiles[0] == 255).all()
    assert (tiles[1] == 128).all(), "what cannot be read is grey"
    assert not tiles[2].any()


def test_tiles_lie_in_their_cells():
    tiles = np.arange(5 * 4 * 4 * 3).reshape(5, 4, 4, 3).astype(np.uint8)
    cells = np.array([[1, 0], [0, 0], [0, 2], [1, 1], [0, 1]])
    whole = grid.tiled(tiles, cells)
    assert whole.shape == (8, 12, 4)
    for pixels, (row, col) in zip(tiles, cells, strict=True):
        np.testing.assert_array_equal(whole[4 * row : 4 * row + 4, 4 * col : 4 * col + 4, :3], pixels)
    assert not whole[4:, 8:].any(), "nothing is where no picture is"
    assert grid.tiled(tiles, cells, tile=2).shape == (4, 6, 4)


def test_tiles_lie_at_their_places():
    tiles = np.stack([np.full((4, 4, 3), value, np.uint8) for value in (10, 20, 30)])
    places = np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 5.0]])
    whole = grid.drawn(tiles, places, side=100, tile=10)
    np.testing.assert_allclose(in_square(places), [[0, 0.75], [1, 0.75], [1, 0.25]])
    assert whole[70, 5].tolist() == [10, 10, 10, 255]
    assert whole[70, 95].tolist() == [20, 20, 20, 255]
    assert whole[28, 95].tolist() == [30, 30, 30, 255]
    assert (whole[..., 3] > 0).sum() == 300

"""Neighbours: exact search against brute force, agreement against a sum by hand and scikit-learn, bounded memory."""

from __future__ import annotations

import dataclasses
import threading
import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.neighbors import KNeighborsClassifier

from engine.look import approximate, neighbours
from engine.look.neighbours import agreement, agreement_steps, nearest, open_small, small, small_steps
from engine.step import last

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(1, 1, (300, 7)).astype(np.float32)
LABELS = RANDOM.integers(0, 4, 300)
METRIC = {"cosine": "cosine", "L2": "euclidean"}


# Nearest --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", neighbours.MEASURES)
@pytest.mark.parametrize("block", [1, 4 * 7 * 11, neighbours.BLOCK_BYTES])
def test_the_nearest_are_those_of_brute_force(measure, block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", block)
    query = RANDOM.normal(size=7).astype(np.float32)
    found = nearest(FEATURES, query, count=20, measure=measure)
    distances = cdist(query[None].astype(float), FEATURES.astype(float), METRIC[measure])[0]
    order = np.argsort(distances, kind="stable")[:20]
    assert found.rows.tolist() == order.tolist()
    np.testing.assert_allclose(found.distances, distances[order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("measure", neighbours.MEASURES)
def test_a_picture_that_is_its_own_neighbour_comes_first(measure):
    for row in range(len(FEATURES)):
        found = nearest(FEATURES, FEATURES[row], count=2, measure=measure)
        assert found.rows[0] == row
        assert found.distances[0] == 0
        assert found.distances[1] > 0


@pytest.mark.parametrize("measure", neighbours.MEASURES)
def test_equals_come_in_the_order_of_rows(measure):
    twice = np.concatenate([FEATURES[:5], FEATURES[:5], FEATURES[:5]])
    assert nearest(twice, FEATURES[3], count=3, measure=measure).rows.tolist() == [3, 8, 13]
    assert nearest(twice, FEATURES[3], count=2, measure=measure).rows.tolist() == [3, 8]


def test_large_numbers_far_from_zero_do_not_drown_small_differences():
    far = np.float32(1000) + np.arange(12, dtype=np.float32)[:, None] * np.float32(2**-10)
    assert nearest(far, far[4], count=3, measure="L2").rows.tolist() == [4, 3, 5]


def test_pictures_of_which_the_layer_says_nothing_are_alike_and_near_nothing_else():
    rows = np.array([[1, 0], [0, 0], [0, 1], [0, 0]], np.float32)
    found = nearest(rows, rows[3], count=4)
    assert found.rows.tolist() == [1, 3, 0, 2]
    assert found.distances.tolist() == [0, 0, 1, 1]


def test_fewer_rows_than_asked_for_and_none():
    assert len(nearest(FEATURES[:3], FEATURES[0], count=9).rows) == 3
    assert len(nearest(FEATURES[:0], FEATURES[0], count=9).rows) == 0


@pytest.mark.parametrize(
    ("features", "query", "measure"),
    [(FEATURES, FEATURES[0, :5], "L2"), (FEATURES, FEATURES[0], "miles"), (FEATURES[0], FEATURES[0], "L2")],
)
def test_what_cannot_be_compared_is_refused(features, query, measure):
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        nearest(features, query, measure=measure)


# Agreement ------------------------------------------------------------------------------------------------------------


def test_agreement_by_hand():
    """Five pictures on a line: at 0, 1 and 3 of one class, at 4.5 and 8 of another; one more at 1 without a label."""
    features = np.array([[0], [1], [3], [4.5], [8], [1]], np.float32)
    labels = np.array([0, 0, 0, 1, 1, -1])
    # nearest first: 0 → 1 3 4.5 8 · 1 → 0 3 4.5 8 · 3 → 4.5 1 0 8 · 4.5 → 3 1 8 0 · 8 → 4.5 3 1 0
    found = agreement(features, labels, (1, 2, 3, 9), measure="L2")
    assert (found.asked, found.of) == (5, 5)
    assert found.table.k.tolist() == [1, 2, 3], "nine others there are not"
    np.testing.assert_allclose(found.table.same, [3 / 5, (1 + 1 + 0.5 + 0 + 0.5) / 5, (2 / 3 * 3 + 1 / 3 * 2) / 5])
    # of two with one vote each, the nearer has it
    np.testing.assert_allclose(found.table.vote, [3 / 5, 3 / 5, 3 / 5])
    np.testing.assert_allclose(found.table.chance, (3 * 2 + 2 * 1) / (5 * 4))


@pytest.mark.parametrize("labels", [(0, 0, 1), (1, 1, 0)], ids=str)
def test_of_two_neighbours_with_a_vote_each_the_nearer_has_it(labels):
    """At 0, 1 and 3: the first two have one another and then the third, which has nothing but the other class."""
    found = agreement(np.array([[0], [1], [3]], np.float32), np.array(labels), (2,), measure="L2")
    np.testing.assert_allclose(found.table.vote, 2 / 3)


@pytest.mark.parametrize("measure", neighbours.MEASURES)
@pytest.mark.parametrize("block", [4 * 7 * 13, neighbours.BLOCK_BYTES])
def test_agreement_is_that_of_brute_force(measure, block, monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", block)
    labels = np.where(np.arange(300) % 10 == 3, -1, LABELS)
    known = labels >= 0
    distances = cdist(FEATURES[known].astype(float), FEATURES[known].astype(float), METRIC[measure])
    np.fill_diagonal(distances, np.inf)
    near = labels[known][np.argsort(distances, 1)]
    for step in agreement_steps(FEATURES, labels, (1, 5, 20), measure=measure, batch=64):
        found = step.result
    for k, same, vote, _ in found.table.itertuples(index=False):
        assert same == pytest.approx((near[:, :k] == labels[known][:, None]).mean())
        ballots = np.stack([(near[:, :k] == c).sum(1) for c in range(4)], 1)
        single = (ballots == ballots.max(1, keepdims=True)).sum(1) == 1
        assert vote >= ((ballots.argmax(1) == labels[known]) & single).mean()
    assert step.index == step.total == known.sum()


def test_the_vote_is_scikit_learns():
    labels = LABELS % 2  # of two classes and an odd number, there are no ties
    found = agreement(FEATURES, labels, (5,), measure="L2")
    right = 0
    for row in range(len(FEATURES)):
        rest = np.arange(len(FEATURES)) != row
        right += KNeighborsClassifier(5).fit(FEATURES[rest], labels[rest]).predict(FEATURES[[row]])[0] == labels[row]
    assert found.table.vote[0] == pytest.approx(right / len(FEATURES))


def test_what_there_is_so_far_stands_for_the_whole():
    """In a set that is sorted by labels, too: pictures are asked in an order of their own."""
    labels = np.sort(LABELS)
    features = FEATURES + (labels == 0)[:, None] * 8 * RANDOM.normal(size=FEATURES.shape)
    steps = list(agreement_steps(features, labels, (5,), batch=60))
    assert [step.index for step in steps] == [60, 120, 180, 240, 300]
    assert abs(steps[0].result.table.same[0] - steps[-1].result.table.same[0]) < 0.1
    again = list(agreement_steps(features, labels, (5,), batch=60))
    assert again[0].result.table.equals(steps[0].result.table)


def test_memory_does_not_grow_with_the_set(monkeypatch, tmp_path):
    monkeypatch.setattr(neighbours, "BLOCK_BYTES", 2**18)
    peaks = []
    for count in (2000, 8000):
        rows = np.lib.format.open_memmap(tmp_path / f"{count}.npy", "w+", np.uint8, (count, 192))
        rows[:] = RANDOM.integers(0, 256, rows.shape)
        labels = RANDOM.integers(0, 3, count)
        tracemalloc.start()
        next(agreement_steps(rows, labels, (10,), batch=64))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 8 * 8 * 6000, "only what holds a few numbers a picture"
    assert peaks[1] < 4 * 2**20


@pytest.mark.parametrize("labels", [np.full(300, -1), LABELS[:10], np.where(np.arange(300) == 5, 1, -1)])
def test_agreement_needs_labels(labels):
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        agreement(FEATURES, labels)


# The space of pixels --------------------------------------------------------------------------------------------------


def test_small_pictures_stay_and_large_ones_shrink_to_means():
    flat = np.full((96, 128, 3), 0.4, np.float32)
    assert small(flat).shape == (24 * 32 * 3,)
    assert (small(flat) == 102).all()
    tiny = RANDOM.random((12, 16, 1)).astype(np.float32)
    assert (small(tiny) == np.round(tiny * 255).ravel()).all()


def view(i: int) -> np.ndarray:
    return np.random.default_rng(i).random((10, 8, 3)).astype(np.float32)


def test_the_rows_of_pixels_come_in_order_and_are_kept(tmp_path):
    file, ids = tmp_path / "pixels.npy", [5 * k for k in range(300)]
    steps = []
    for step in small_steps(view, ids, file=file):
        steps.append(step)
        assert file.exists() == (step.index == 300), "whole or not at all"
    assert [step.index for step in steps] == [128, 256, 300]
    assert (steps[-1].result == np.stack([small(view(i)) for i in ids])).all()
    assert [path.name for path in tmp_path.iterdir()] == ["pixels.npy"]
    assert (last(small_steps(None, ids, file=file)) == steps[-1].result).all(), "and nothing is read again"
    assert open_small(file, 299) is None
    assert open_small(tmp_path / "none.npy", 300) is None


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00broken"])
def test_a_broken_file_of_pixels_is_written_anew(tmp_path, content):
    file = tmp_path / "pixels.npy"
    file.write_bytes(content)
    assert (last(small_steps(view, range(5), file=file)) == np.stack([small(view(i)) for i in range(5)])).all()
    assert open_small(file, 5) is not None


def test_pixels_where_nothing_can_be_written(tmp_path):
    found = last(small_steps(view, range(5), file=tmp_path / "missing" / "pixels.npy"))
    assert (found == np.stack([small(view(i)) for i in range(5)])).all()
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_broken_off_leaves_nothing(tmp_path):
    steps = small_steps(view, range(300), file=tmp_path / "pixels.npy")
    part = next(steps).result.copy()
    steps.close()
    assert not list(tmp_path.iterdir())
    assert (part == np.stack([small(view(i)) for i in range(128)])).all()


def test_pictures_are_read_by_several_threads_and_one_that_fails_is_told():
    threads = set()

    def broken(i: int) -> np.ndarray:
        threads.add(threading.get_ident())
        if i == 7:
            raise OSError("gone")
        return view(i)

    with pytest.raises(OSError, match="gone"):
        last(small_steps(broken, range(20)))
    assert threads - {threading.get_ident()}


def test_no_pictures():
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        next(small_steps(view, []))


def test_bytes_are_compared_as_pixels():
    rows = np.stack([small(view(i)) for i in range(30)])
    found = nearest(rows, rows[4], count=5, measure="L2")
    again = nearest(rows / np.float32(255), rows[4] / np.float32(255), count=5, measure="L2")
    assert found.rows.tolist() == again.rows.tolist()
    np.testing.assert_allclose(found.distances, again.distances, rtol=1e-6)
    assert agreement(rows, LABELS[:30], (3,)).of == 30


# Lance's index --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", neighbours.MEASURES)
def test_lances_index_finds_nearly_all_and_its_recall_says_how_many(tmp_path, measure):
    lancedb = pytest.importorskip("lancedb")
    import pyarrow

    centres = RANDOM.normal(size=(20, 32)) * 2
    rows = (centres[RANDOM.integers(0, 20, 4000)] + RANDOM.normal(size=(4000, 32))).astype(np.float32)
    ids = np.arange(4000) * 3 + 1
    vectors = pyarrow.FixedSizeListArray.from_arrays(rows.ravel(), 32)
    table = lancedb.connect(tmp_path).create_table("pictures", pyarrow.table({"id": ids, "relu_mean": vectors}))
    assert not approximate.has_index(table, "relu_mean", measure)
    approximate.make_index(table, "relu_mean", measure=measure)
    assert approximate.has_index(table, "relu_mean", measure)
    assert not approximate.has_index(table, "relu_mean", ({*neighbours.MEASURES} - {measure}).pop())
    found = approximate.recall(table, "relu_mean", rows, ids, measure=measure, asked=30)
    assert (found.asked, found.count) == (30, 10)
    assert 0.8 < found.recall <= 1
    assert found.exact > 0
    assert found.approximate > 0
    exact = ids[nearest(rows, rows[7], count=10, measure=measure).rows]
    quick = approximate.approximate(table, "relu_mean", rows[7], count=10, measure=measure)
    assert quick[0] == exact[0] == 22
    assert len(np.intersect1d(exact, quick)) >= 6


# Of an index ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """(index, net) of scikit-learn's digits."""
    from engine.data import sets
    from engine.data.indexing import index
    from engine.net import Net
    from engine.nets import available

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVOSCOPE_HOME", str(tmp_path_factory.mktemp("home")))
        net = Net(available.find("digits"))
        yield index(net, sets.find("digits")), net


def test_neighbours_of_a_picture_of_the_set_are_others(indexed):
    index, net = indexed
    found = neighbours.neighbours(index, net, 17, count=5)
    features = index.features(neighbours.usual_layer(index, net)).astype(float)
    apart = cdist(features[[17]], features, "cosine")[0]
    apart[17] = np.inf
    assert found.id.tolist() == np.argsort(apart, kind="stable")[:5].tolist()
    np.testing.assert_allclose(found.distance, np.sort(apart)[:5], rtol=1e-3, atol=1e-6)
    views = np.stack([small(index.pixels(net, i)) for i in range(40)]) / 255
    apart = cdist(views[[17]], np.stack([small(index.pixels(net, i)) for i in found.pixel_id]) / 255, "cosine")[0]
    np.testing.assert_allclose(found.pixel_distance, apart, rtol=1e-3)


@pytest.mark.parametrize("measure", neighbours.MEASURES)
def test_a_picture_from_elsewhere_that_is_in_the_set_comes_first(indexed, measure):
    index, net = indexed
    for layer in index.layers:
        found = neighbours.neighbours(index, net, index.pixels(net, 23), layer=layer, measure=measure)
        assert found.id[0] == found.pixel_id[0] == 23
        assert found.distance[0] < 1e-3 * found.distance[1]
        assert found.pixel_distance[0] == 0


def test_the_network_agrees_on_labels_more_than_pixels_do(indexed):
    index, net = indexed
    found = last(neighbours.agreements_steps(index, net, ks=(1, 10)))
    assert found["features"].asked == found["pixels"].asked == 1797
    assert (found["features"].table.same > found["pixels"].table.same).all()
    assert (found["pixels"].table.same > 0.8).all()
    assert found["pixels"].table.chance[0] == pytest.approx(0.1, abs=0.001)
    assert (index.folder / "pixels-1797.npy").exists()


@pytest.mark.parametrize("number", [-1, 1797, 10**9])
def test_a_number_that_no_picture_has(indexed, number):
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        neighbours.neighbours(*indexed, number)


def test_a_set_that_has_gone_is_told(indexed, monkeypatch):
    index, net = indexed
    monkeypatch.setattr(neighbours, "open_small", lambda *_: None)

    def gone(number: int) -> bytes:
        raise FileNotFoundError(number)

    moved = dataclasses.replace(index, data=dataclasses.replace(index.data, read=gone))
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        last(neighbours.pixel_steps(moved, net))

"""Confusion: the matrix against a count by hand and scikit-learn, one numbering for two, orders, pairs, lookalikes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from engine.data.dataset import classes as same_classes
from engine.look import confusion as module
from engine.look.confusion import coded, confusion, lookalikes, order, pairs, per_class
from engine.statistics import share_interval

RANDOM = np.random.default_rng(0)


# The matrix -----------------------------------------------------------------------------------------------------------


def test_by_hand():
    labels, predictions = np.array([0, 0, 0, 1, 2, -1, 2]), np.array([0, 1, 1, 1, 0, 2, 2])
    assert confusion(labels, predictions, 3).tolist() == [[1, 2, 0], [0, 1, 0], [1, 0, 1]]


def test_it_is_scikit_learns():
    labels, predictions = RANDOM.integers(0, 7, 500), RANDOM.integers(0, 7, 500)
    found = confusion(labels, predictions, 7)
    assert (found == confusion_matrix(labels, predictions)).all()
    table = per_class(found, list("abcdefg"))
    precision, recall, _, support = precision_recall_fscore_support(labels, predictions)
    np.testing.assert_allclose(table.accuracy, recall)
    np.testing.assert_allclose(table.precision, precision)
    assert (table.pictures == support).all()


def test_no_pictures_and_no_labels():
    assert confusion(np.zeros(0), np.zeros(0), 2).tolist() == [[0, 0], [0, 0]]
    assert confusion(np.array([-1, -1]), np.array([5, 6]), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "predictions"), [([0, 1], [0]), ([0, 3], [0, 1]), ([0, 1], [0, 3]), ([0, 1], [0, -1])]
)
def test_what_does_not_fit_is_refused(labels, predictions):
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        confusion(np.array(labels), np.array(predictions), 3)


# One numbering --------------------------------------------------------------------------------------------------------


def code(labels, predictions, names, net_labels):
    return coded(np.array(labels), np.array(predictions), names, net_labels, same_classes(names, net_labels))


def test_labels_and_classes_meet_by_name_in_the_networks_order():
    """As of ten classes of ImageNet in a network of a thousand."""
    found = code([0, 1, 2, -1], [3, 1, 2, 0], ("tench", "church", "golf_ball"), ["bee", "golf ball", "church", "tench"])
    assert found.classes == ("golf_ball", "church", "tench", "bee")
    assert found.labels.tolist() == [2, 1, 0, -1]
    assert found.predictions.tolist() == [2, 0, 1, 3]
    assert found.known.all()
    assert found.right.tolist() == [True, False, False, False]
    assert found.wrong.tolist() == [False, True, True, False], "what has no label is neither"
    assert not found.by_place


def test_what_the_set_has_no_label_of_comes_behind_the_commonest_first():
    found = code([0, 1, 1, 1], [2, 1, 3, 3], ("a", "b"), ["a", "b", "c", "d"])
    assert found.classes == ("a", "b", "d", "c")
    matrix = confusion(found.labels, found.predictions, 4)
    assert matrix.tolist() == [[0, 0, 0, 1], [0, 1, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_labels_that_the_network_has_not_got_keep_their_row():
    found = code([0, 1, 1], [0, 0, 1], ("a", "z"), ["b", "a"])
    assert found.classes == ("a", "z", "b")
    assert found.known.tolist() == [True, False, True]
    assert confusion(found.labels, found.predictions, 3).tolist() == [[0, 0, 1], [1, 0, 1], [0, 0, 0]]
    assert found.wrong.tolist() == [True, False, False], "nothing would be right for z"


def test_two_labels_of_one_class_are_one():
    found = code([0, 1, 2], [0, 0, 1], ("golf ball", "golf_ball", "bee"), ["golf ball", "bee"])
    assert found.classes == ("golf ball", "bee")
    assert found.right.all()


def test_names_that_never_match_but_are_as_many_go_by_place():
    found = code([0, 1, 2], [0, 1, 1], ("cat", "dog", "horse"), ["0", "1", "2"])
    assert found.by_place
    assert found.classes == ("cat", "dog", "horse")
    assert confusion(found.labels, found.predictions, 3).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_labels_without_pictures_are_no_rows():
    found = code([2, 2], [0, 2], ("a", "b", "c"), ["a", "b", "c"])
    assert found.classes == ("c", "a")
    assert found.predictions.tolist() == [1, 0]


def test_classes_of_one_name_are_told_apart():
    assert code([0], [1], ("crane",), ["crane", "crane"]).classes == ("crane", "crane (1)")


def test_a_set_without_labels():
    found = code([-1, -1], [1, 1], (), ["a", "b"])
    assert found.classes == ("b",)
    assert not (found.right | found.wrong).any()
    assert not found.by_place


# Per class, orders, pairs ---------------------------------------------------------------------------------------------

MATRIX = np.array([[8, 0, 2, 0], [0, 5, 0, 5], [1, 0, 9, 0], [0, 4, 0, 6]])


def test_per_class_by_hand():
    table = per_class(np.array([[8, 2, 0], [0, 0, 0], [1, 0, 0]]), ["a", "b", "c"])
    assert table["class"].tolist() == ["a", "c"], "b has no pictures"
    assert table.right.tolist() == [8, 0]
    assert table.accuracy.tolist() == [0.8, 0]
    assert table.precision[0] == pytest.approx(8 / 9)
    assert np.isnan(table.precision[1]), "nothing is taken for c"
    assert table.taken_for.tolist() == ["b", "a"]
    assert table.mistakes.tolist() == [2, 1]
    assert (table.low <= table.accuracy).all()
    assert (table.accuracy <= table.high).all()


def test_wilsons_interval():
    from scipy.stats import binomtest

    for right, total in ((0, 5), (3, 10), (97, 100), (10, 10)):
        wanted = binomtest(right, total).proportion_ci(method="wilson")
        assert share_interval(right, total) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert share_interval(0, 0) == (0, 1)


def test_orders():
    assert order(MATRIX).tolist() == [0, 1, 2, 3]
    assert order(MATRIX, "accuracy").tolist() == [1, 3, 0, 2]
    side = order(MATRIX, "mixed up side by side").tolist()
    assert sorted(side) == [0, 1, 2, 3]
    assert abs(side.index(0) - side.index(2)) == 1
    assert abs(side.index(1) - side.index(3)) == 1
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        order(MATRIX, "chaos")


@pytest.mark.parametrize("by", module.ORDERS)
def test_classes_without_pictures_are_in_every_order_once(by):
    wide = np.zeros((7, 7), int)
    wide[np.ix_([1, 2, 4, 5], [1, 2, 4, 5])] = MATRIX
    wide[1, 6] = 3
    found = order(wide, by).tolist()
    assert sorted(found) == list(range(7))
    if by != module.ORDERS[0]:
        assert set(found[4:]) == {0, 3, 6}


@pytest.mark.parametrize("by", module.ORDERS)
@pytest.mark.parametrize("matrix", [np.eye(4, dtype=int) * 3, np.zeros((3, 3), int), np.ones((1, 1), int)])
def test_orders_where_nothing_is_mixed_up(matrix, by):
    assert sorted(order(matrix, by).tolist()) == list(range(len(matrix)))


def test_pairs_that_are_mixed_up_most():
    assert pairs(MATRIX).tolist() == [[1, 3], [0, 2]]
    assert pairs(np.eye(3, dtype=int)).shape == (0, 2)


# Lookalikes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("measure", "metric"), [("cosine", "cosine"), ("L2", "euclidean")])
@pytest.mark.parametrize("at_once", [5, 512])
def test_lookalikes_are_the_nearest_pairs(measure, metric, at_once, monkeypatch):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    features, labels = RANDOM.normal(size=(120, 5)).astype(np.float32), RANDOM.integers(-1, 4, 120)
    found = lookalikes(features, labels, 2, 0, 8, measure=measure)
    ours, theirs = np.flatnonzero(labels == 2), np.flatnonzero(labels == 0)
    apart = cdist(features[ours].astype(float), features[theirs].astype(float), metric)
    for a, b, distance in found.itertuples(index=False):
        i, j = np.unravel_index(apart.argmin(), apart.shape)
        assert (a, b) == (ours[i], theirs[j])
        assert distance == pytest.approx(apart[i, j], rel=1e-4)
        apart[i], apart[:, j] = np.inf, np.inf
    assert len(found) == 8
    assert len(set(found.a) | set(found.b)) == 16, "no picture is in two pairs"


def test_lookalikes_by_hand():
    features = np.array([[0], [5], [9], [1], [6.5], [20]], np.float32)
    found = lookalikes(features, np.array([0, 0, 0, 1, 1, 2]), 0, 1, 9, measure="L2")
    assert found.values.tolist() == [[0, 3, 1], [1, 4, 1.5]]


def test_lookalikes_of_a_class_without_pictures_and_of_one_class():
    assert len(lookalikes(np.ones((3, 2)), np.array([0, 0, 1]), 0, 5)) == 0
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        lookalikes(np.ones((3, 2)), np.array([0, 0, 1]), 0, 0)


def test_the_closest_classes():
    features = np.array([[1, 0], [1, 0.2], [0, 1], [0.9, 0.3], [9, 9]], np.float32)
    assert module.closest_classes(features, np.array([5, 5, 2, 3, -1])) == (3, 5)
    with pytest.raises(ValueError, match=r"^[A-Z][^\n]*\.$"):
        module.closest_classes(features, np.array([5, 5, 5, -1, -1]))

"""Does the network forget exactly what it is told to, and is the loss of likeness measured as it says?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
from scipy.stats import spearmanr
from small_nets import node
from test_net import in_constant_nodes

from engine.explain.evidence import evidence, over_picture
from engine.explain.sanity import learned, randomised, sanity, sanity_steps, similarity
from engine.net import UnknownClass

LAYERS = [("logits", "w3"), ("conv2", "w2"), ("conv1", "w1")]


def test_layers_with_weights_are_listed_from_the_top(tiny):
    assert learned(tiny) == LAYERS


def test_only_those_on_the_way_to_the_logits_count(tmp_path):
    nodes = [
        node("Conv", "image w1 b1", "conv1"),
        node("MatMul", "k k2", "fixed"),  # weights, but of no picture
        node("GlobalAveragePool", "conv1", "mean"),
        node("Flatten", "mean", "flat"),
        node("MatMul", "flat wt", "product"),
        node("Add", "product fixed", "logits"),
        node("Softmax", "logits", "end", axis=1),
    ]
    constants = nets.tiny_weights() | {
        "wt": np.ones((5, 4), np.float32),
        "k": np.ones((1, 2), np.float32),
        "k2": np.ones((2, 4), np.float32),
    }
    net = nets.save(nets.model(nodes, constants, about=nets.ABOUT), tmp_path / "net.onnx")
    assert learned(net) == [("product", "wt"), ("conv1", "w1")]


@pytest.mark.parametrize("made", [nets.tiny(about=nets.ABOUT), in_constant_nodes()], ids=["initializers", "constants"])
@pytest.mark.parametrize("count", range(4))
def test_exactly_the_uppermost_are_shuffled(tmp_path, picture, made, count):
    net = nets.save(made, tmp_path / "net.onnx")
    before = {name: value.copy() for name, value in net.graph.constants.items()}
    scores = net.scores(net.batch(picture))
    state = randomised(net, count)
    changed = {name for name, value in state.graph.constants.items() if not np.array_equal(value, before[name])}
    assert changed == {weight for _, weight in LAYERS[:count]}
    for name, value in state.graph.constants.items():
        assert value.shape == before[name].shape
        np.testing.assert_array_equal(np.sort(value, None), np.sort(before[name], None))
    assert np.array_equal(state.scores(state.batch(picture)), scores) == (count == 0)
    for name, value in net.graph.constants.items():  # the net itself stays as it was
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(net.scores(net.batch(picture)), scores)


def test_the_seed_decides(tiny):
    one, same, other = (randomised(tiny, 2, seed=seed).graph.constants["w2"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_the_first_row_is_the_trained_network_and_the_others_are_measured_against_it(tiny, picture):
    found = sanity(tiny, picture, 1, method="Gradient")
    assert list(found.table["randomised"]) == [0, 1, 2, 3]
    assert list(found.table["layer"]) == ["", "logits", "conv2", "conv1"]
    assert found.table.iloc[0][["correlation", "similarity"]].tolist() == [1, pytest.approx(1)]
    assert found.maps.shape == (4, 12, 16)
    trained = evidence(tiny, picture, 1, method="Gradient")
    for count, (_, row) in enumerate(found.table.iterrows()):
        state = randomised(tiny, count) if count else tiny
        now = evidence(state, picture, 1, method="Gradient")
        np.testing.assert_array_equal(found.maps[count], now)
        assert row["correlation"] == pytest.approx(spearmanr(trained.ravel(), now.ravel()).statistic, abs=1e-6)
        assert row["similarity"] == pytest.approx(similarity(trained, now), abs=1e-6)
    assert found.table["correlation"][1:].max() < 0.9


def test_signs_do_not_count(tiny, picture):
    """HiResCAM's map has signs; what is compared are its absolute values, over the picture."""
    found = sanity(tiny, picture, 1, method="HiResCAM", stages=1)
    whole = [np.abs(over_picture(each, (12, 16))).ravel() for each in found.maps]
    assert found.maps.min() < 0
    assert found.table["correlation"][1] == pytest.approx(spearmanr(*whole).statistic, abs=1e-6)


def test_a_map_that_does_not_look_at_the_top_does_not_fall_apart(tiny, picture):
    """Eigen-CAM of conv2 knows nothing of the last layer, and all of the two below."""
    table = sanity(tiny, picture, 1, method="Eigen-CAM").table
    assert table["correlation"][1] == pytest.approx(1)
    assert table["similarity"][1] == pytest.approx(1)
    assert table["correlation"][2] < 0.99


@pytest.mark.parametrize(("stages", "counts"), [(1, [0, 3]), (2, [0, 2, 3]), (3, [0, 1, 2, 3]), (50, [0, 1, 2, 3])])
def test_stages_are_spread_over_the_layers(tiny, picture, stages, counts):
    steps = list(sanity_steps(tiny, picture, 1, method="Gradient", stages=stages))
    assert [(step.index, step.total) for step in steps] == [(k + 1, len(counts)) for k in range(len(counts))]
    assert list(steps[-1].result.table["randomised"]) == counts
    assert [len(step.result.maps) for step in steps] == list(range(1, len(counts) + 1))
    np.testing.assert_array_equal(steps[0].result.maps[0], steps[-1].result.maps[0])


def test_likeness_does_not_depend_on_units():
    a, b = np.random.default_rng(0).random((2, 15, 21))
    assert similarity(a, a) == pytest.approx(1)
    assert similarity(a, 5 * a - 3) == pytest.approx(1)
    assert similarity(a, b) == pytest.approx(similarity(b, a))
    assert abs(similarity(a, b)) < 0.3
    assert similarity(a, -a) < -0.5
    assert similarity(a, (a + 0.1 * b) / 1.1) > 0.9


@pytest.mark.parametrize("size", [(12, 16), (7, 9), (6, 6), (4, 6), (3, 8)])
def test_small_maps_have_smaller_windows(size):
    found = np.random.default_rng(0).random(size)
    assert similarity(found, found) == pytest.approx(1)


def test_maps_without_room_for_a_window_and_flat_ones():
    assert similarity(np.eye(2), np.eye(2)) == 0
    assert similarity(np.ones((9, 9)), np.ones((9, 9))) == pytest.approx(1)


def test_unknown_methods_and_classes_are_refused(tiny, picture):
    with pytest.raises(ValueError, match="no map of evidence"):
        sanity(tiny, picture, 1, method="Palmistry")
    with pytest.raises(UnknownClass):
        sanity(tiny, picture, 4)

"""Are planted units found: dead ones, a rare one, one that is always on, twins, and one that is for a class?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small_nets as nets
from PIL import Image

from engine.data import indexing, sets
from engine.look.units import (
    Units,
    correlations,
    cosines,
    kinds,
    meaning,
    nearest,
    rectified,
    selectivity,
    twins,
    units,
    units_of,
)
from engine.net import Net, UnknownLayer

COLOURS = {  # label → the colours of its pictures, in steps that a PNG keeps
    "blue": [(0.0, 0.0, 1.0)],
    "green": [(0.0, 1.0, 0.0), (0.2, 0.4, 0.0)],
    "red": [(1.0, 0.0, 0.0), (0.4, 0.0, 0.0)],
}
# What each unit of the planted net is: its weights on red, green and blue, and its bias.
PLANTED = [
    ((1, 0, 0), 0),  # 0 red
    ((2, 0, 0), 0),  # 1 the same, twice as strong
    ((-1, -1, -1), -1),  # 2 dead: never above 0
    ((1, 1, 1), 1),  # 3 always on
    ((0, 1, 0), 0),  # 4 green
    ((0, 0, 0), 0),  # 5 dead: has no weights
    ((0, 0, 1), -0.5),  # 6 rare: only the blue picture is bright enough
    ((0, 3, -0.1), 0),  # 7 green, nearly as 4
]
DEAD, RARE, ALWAYS = [2, 5], [6], [3]


def planted_net(path) -> Net:
    weights = np.array([weight for weight, _ in PLANTED], np.float32)[:, :, None, None]
    constants = {
        "w": weights,
        "b": np.array([bias for _, bias in PLANTED], np.float32),
        "w2": np.ones((4, len(PLANTED)), np.float32),
        "b2": np.zeros(4, np.float32),
    }
    nodes = [
        nets.node("Conv", "image w b", "conv"),
        nets.node("Relu", "conv", "relu"),
        nets.node("ReduceMean", "relu", "mean", axes=[2, 3], keepdims=0),
        nets.node("Gemm", "mean w2 b2", "logits", transB=1),
    ]
    about = dataclasses.replace(nets.ABOUT, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), crop=1.0)
    return nets.save(nets.model(nodes, constants, opset=17, about=about), path)


@pytest.fixture
def net(tmp_path) -> Net:
    return planted_net(tmp_path / "planted_units.onnx")


@pytest.fixture
def folder(tmp_path):
    """Pictures of one colour each, in subfolders."""
    for label, colours in COLOURS.items():
        (tmp_path / "set" / label).mkdir(parents=True)
        for k, colour in enumerate(colours):
            pixels = np.broadcast_to(np.rint(np.array(colour) * 255).astype(np.uint8), (12, 16, 3))
            Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / "set" / label / f"{k}.png")
    return tmp_path / "set"


@pytest.fixture
def found(net, folder, cache) -> Units:
    return units(net, str(folder), "relu", rare=0.2)


def test_planted_units_are_what_they_are(found):
    kind = found.table.kind
    assert np.flatnonzero(kind == "dead").tolist() == DEAD
    assert np.flatnonzero(kind == "rare").tolist() == RARE
    assert np.flatnonzero(kind == "always on").tolist() == ALWAYS
    assert found.table.pictures.tolist() == pytest.approx([0.6, 0.6, 0, 1, 0.4, 0, 0.2, 0.4])
    assert found.table.maximum.tolist() == pytest.approx([1, 2, 0, 2, 1, 0, 0.5, 3], abs=1e-6)
    assert found.fires == ""


def test_selectivity_by_hand(found):
    """Unit 0 is at 0.7 on red pictures, in the mean, at 0.1 on green ones and at 0 on blue: (0.7 - 0.05) / 0.75."""
    table = found.table
    assert table.selectivity[0] == pytest.approx(0.65 / 0.75)
    assert table["class"].tolist() == ["red", "red", "", "blue", "green", "", "blue", "green"]
    assert table.selectivity[4] == pytest.approx(1.0), "green pictures alone have green"
    assert table.selectivity[6] == pytest.approx(1.0)
    # 1 + the sum of the colours: blue 2, green 1.8, red 1.7
    assert table.selectivity[3] == pytest.approx((2 - 1.75) / 3.75)
    assert np.isnan(table.selectivity[DEAD]).all(), "of what is always 0 there is nothing to say"
    assert found.grouped == "label"


def test_planted_twins_by_hand(found):
    pairs = found.pairs
    assert pairs[["first", "second"]].values.tolist() == [[0, 1], [4, 7]]
    assert found.twins == 2
    np.testing.assert_allclose(pairs.weights, [1, 3 / np.hypot(3, 0.1)], rtol=1e-6)
    assert pairs.activations[0] == pytest.approx(1, abs=1e-6)
    green, other = np.array([0, 1, 0.4, 0, 0]), np.array([0, 3, 1.2, 0, 0])
    assert pairs.activations[1] == pytest.approx(np.corrcoef(green, other)[0, 1], abs=1e-6)
    assert found.table.twin[[0, 1, 4, 7]].tolist() == [1, 0, 7, 4]
    assert found.table.likeness[5] != found.table.likeness[5], "without weights and activations it is like nothing"


def test_thresholds_decide(net, folder, cache):
    data = sets.find(folder)
    made = indexing.index(net, data, layers=["relu", "logits"])
    of = lambda **knobs: units_of(net, made, "relu", **knobs)  # noqa: E731
    assert np.flatnonzero(of(rare=0.01).table.kind == "rare").tolist() == []
    assert np.flatnonzero(of(rare=0.4).table.kind == "rare").tolist() == [4, 6, 7]
    assert of(alike=0.9999).pairs[["first", "second"]].values.tolist() == [[0, 1], [4, 7]]
    assert of(alike=0.99995, by="weights").twins == 1
    with pytest.raises(ValueError, match="not by 'looks'"):
        of(by="looks")
    with pytest.raises(UnknownLayer, match="not in the index"):
        units_of(net, made, "conv")


def test_a_layer_that_is_not_rectified_has_only_constant_units_for_dead(net, folder, cache):
    found = units(net, str(folder), "conv")
    assert np.flatnonzero(found.table.kind == "dead").tolist() == [5]
    assert set(found.table.kind) == {"dead", "usual"}
    assert "not rectified" in found.fires
    assert np.isnan(found.table.selectivity[7]), "its mean on the blue picture is below 0"


def test_without_labels_the_predictions_are_taken(net, folder, cache, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    for k, path in enumerate(sorted(folder.rglob("*.png"))):
        (flat / f"{k}.png").write_bytes(path.read_bytes())
    found = units(net, str(flat), "relu")
    assert found.grouped == "prediction"
    assert found.table.selectivity.isna().all(), "all logits are equal: there is one class"


# The parts ------------------------------------------------------------------------------------------------------------


def test_kinds_at_their_limits():
    pictures, positions = [0, 0.01, 0.011, 1, 1], [0, 0.001, 0.001, 0.99, 0.98]
    assert kinds(pictures, positions).tolist() == ["dead", "rare", "usual", "always on", "usual"]


def test_selectivity_of_classes_that_are_not_there():
    features = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [9.0, 9.0]], np.float32)
    value, best = selectivity(features, np.array([7, 7, 2, -1]))
    assert value[0] == pytest.approx(0)
    assert best[0] == 2, "of equals the first, by number"
    assert np.isnan(value[1])
    assert best[1] == -1
    value, best = selectivity(features, np.array([7, 7, 7, -1]))
    assert np.isnan(value).all()
    assert (best == -1).all()


def test_correlation_is_numpys():
    features = np.random.default_rng(0).normal(3, 1, (50, 6)).astype(np.float32)
    features[:, 4] = 3.3
    found = correlations(features)
    rest = [0, 1, 2, 3, 5]
    np.testing.assert_allclose(found[np.ix_(rest, rest)], np.corrcoef(features[:, rest].T), atol=1e-6)
    assert np.isnan(found[4]).all()
    assert np.isnan(found[:, 4]).all()


def test_twins_are_each_listed_once():
    likeness = np.array([[1, 0.99, 0.5], [0.99, 1, 0.97], [0.5, 0.97, 1]])
    nothing = np.full((3, 3), np.nan)
    pairs, count = twins(None, likeness, alike=0.96)
    assert (pairs[["first", "second"]].values.tolist(), count) == ([[0, 1], [1, 2]], 2)
    assert pairs.weights.isna().all()
    assert twins(likeness, nothing, by="both")[1] == 0
    assert twins(likeness, nothing, by="weights", alike=0.98)[1] == 1
    best, value = nearest(likeness, nothing)
    assert best.tolist() == [1, 0, 1]
    assert value.tolist() == [0.99, 0.99, 0.97]
    assert nearest(None, nothing)[0].tolist() == [-1, -1, -1]


@pytest.mark.parametrize(("layer", "of"), [("conv1", "w1"), ("pool1", "w1"), ("conv2", "w2"), ("logits", "w3")])
def test_cosines_are_those_of_the_layers_weights(tiny, layer, of):
    weights = nets.tiny_weights()[of].reshape(len(nets.tiny_weights()[of]), -1).astype(np.float64)
    norms = np.linalg.norm(weights, axis=1)
    np.testing.assert_allclose(cosines(tiny, layer), weights @ weights.T / np.outer(norms, norms), atol=1e-6)


def test_cosines_behind_a_normalisation_a_skip_and_groups(tmp_path):
    rng = np.random.default_rng(0)
    w1, w2 = rng.normal(size=(6, 3, 1, 1)).astype(np.float32), rng.normal(size=(6, 3, 3, 3)).astype(np.float32)
    gamma = np.array([1, -2, 3, 0, 1, 1], np.float32)
    ones, zeros = np.ones(6, np.float32), np.zeros(6, np.float32)
    nodes = [
        nets.node("Conv", "image w1", "conv1"),
        nets.node("BatchNormalization", "conv1 gamma zeros zeros ones", "normed"),
        nets.node("Relu", "normed", "relu1"),
        nets.node("Conv", "relu1 w2", "conv2", group=2, pads=[1, 1, 1, 1]),
        nets.node("Add", "relu1 conv2", "sum"),
        nets.node("Relu", "sum", "relu2"),
        nets.node("ReduceMean", "relu2", "mean", axes=[2, 3], keepdims=0),
        nets.node("Gemm", "mean w3", "logits", transB=1),
    ]
    constants = {"w1": w1, "w2": w2, "gamma": gamma, "ones": ones, "zeros": zeros, "w3": np.ones((4, 6), np.float32)}
    net = nets.save(nets.model(nodes, constants, opset=17, about=nets.ABOUT), tmp_path / "parts.onnx")
    found = cosines(net, "relu1")
    a, b = w1[0].ravel(), w1[1].ravel()
    assert found[0, 1] == pytest.approx(-a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6), "turned round"
    assert np.isnan(found[3]).all(), "and that one is multiplied by 0"
    grouped = cosines(net, "conv2")
    assert np.isnan(grouped[:3, 3:]).all(), "they see other channels"
    assert np.isfinite(grouped[:3, :3]).all()
    assert cosines(net, "relu2") is None, "two paths meet there"
    assert (rectified(net, "relu1"), rectified(net, "conv2"), rectified(net, "sum")) == (True, False, False)


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Relu", "image", "x", {})], True),
        ([("Relu", "image", "r", {}), ("MaxPool", "r", "x", {"kernel_shape": [2, 2]})], True),
        ([("Relu", "image", "r", {}), ("Add", "r r", "x", {})], True),
        ([("Relu", "image", "r", {}), ("Concat", "r image", "x", {"axis": 1})], False),
        ([("Relu", "image", "r", {}), ("Add", "r one", "x", {})], False),
        ([("Relu", "image", "r", {}), ("Sigmoid", "r", "s", {}), ("Mul", "r s", "x", {})], True),
        ([("Clip", "image zero six", "x", {})], True),
        ([("Clip", "image one six", "x", {})], False),
        ([("LeakyRelu", "image", "x", {})], False),
        ([("Sigmoid", "image", "x", {})], False),
    ],
)
def test_what_is_rectified(nodes, expected, tmp_path):
    constants = {"zero": np.float32(0), "one": np.float32(1), "six": np.float32(6)}
    made = [nets.node(op, inputs, outputs, **more) for op, inputs, outputs, more in nodes]
    made += [nets.node("Flatten", "x", "flat"), nets.node("ReduceMean", "flat", "logits", axes=[1])]
    used = {name: value for name, value in constants.items() if any(name in n[1].split() for n in nodes)}
    net = nets.save(nets.model(made, used, opset=17), tmp_path / "curve.onnx")
    assert rectified(net, "x") is expected
    assert (meaning(net, "x") == "") is expected

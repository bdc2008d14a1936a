"""Are the numbers of a picture with one pixel changed the same if only what has changed is computed again?"""

from __future__ import annotations

import nets
import numpy as np
import pytest
from nets import node

from engine import changed
from engine.net import Net

SIZE = (70, 91)
ABOUT = nets.Metadata(labels=nets.LABELS, input_size=SIZE, mean=nets.MEAN, std=nets.STD)


def weights(**shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {name: rng.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape) for name, shape in shapes.items()}


END = [node("GlobalAveragePool", "last", "mean"), node("Flatten", "mean", "flat"), node("Gemm", "flat w", "logits")]

KINDS = {
    "a row": (
        [
            node("Conv", "image a", "conv1", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Relu", "conv1", "relu1"),
            node("MaxPool", "relu1", "pool1", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
            node("Conv", "pool1 b", "conv2", pads=[2, 2, 2, 2]),
            node("Relu", "conv2", "last"),
        ],
        {"a": (4, 3, 3, 3), "b": (6, 4, 5, 5)},
    ),
    "no padding": (
        [
            node("Conv", "image a", "conv1", strides=[3, 2]),
            node("Relu", "conv1", "relu1"),
            node("Conv", "relu1 b", "conv2", dilations=[2, 1]),
            node("Relu", "conv2", "last"),
        ],
        {"a": (4, 3, 4, 3), "b": (6, 4, 3, 3)},
    ),
    "padding on one side": (
        [
            node("Conv", "image a", "conv1", strides=[2, 2], auto_pad="SAME_UPPER", kernel_shape=[3, 3]),
            node("Relu", "conv1", "relu1"),
            node("Conv", "relu1 b", "conv2", strides=[2, 3], pads=[0, 2, 3, 1]),
            node("Relu", "conv2", "last"),
        ],
        {"a": (4, 3, 3, 3), "b": (6, 4, 3, 3)},
    ),
    "residual": (
        [
            node("Conv", "image a", "conv1", strides=[2, 2], pads=[3, 3, 3, 3]),
            node("Relu", "conv1", "relu1"),
            node("Conv", "relu1 b", "conv2", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Relu", "conv2", "relu2"),
            node("Conv", "relu2 c", "conv3", pads=[1, 1, 1, 1]),
            node("Conv", "relu1 d", "short", strides=[2, 2]),  # of every second row and column only
            node("Add", "conv3 short", "sum"),
            node("Relu", "sum", "last"),
        ],
        {"a": (4, 3, 7, 7), "b": (6, 4, 3, 3), "c": (6, 6, 3, 3), "d": (6, 4, 1, 1)},
    ),
    "branches": (
        [
            node("Conv", "image a", "conv1", pads=[1, 1, 1, 1]),
            node("LeakyRelu", "conv1", "relu1"),
            node("AveragePool", "relu1", "pool1", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Conv", "pool1 b", "one"),
            node("Conv", "pool1 c", "three", pads=[1, 1, 1, 1]),
            node("Concat", "one three", "last", axis=1),
        ],
        {"a": (4, 3, 3, 3), "b": (2, 4, 1, 1), "c": (4, 4, 3, 3)},
    ),
}


def made(kind: str, folder) -> Net:
    nodes, shapes = KINDS[kind]
    constants = {name: value.astype(np.float32) for name, value in weights(**shapes, w=(6, 4)).items()}
    model = nets.model([*nodes, *END], constants, shape=("batch", 3, *SIZE), about=ABOUT)
    return nets.save(model, folder / "net.onnx")


@pytest.fixture(autouse=True)
def to_the_end(monkeypatch):
    """As far as it can be gone, whether it is worth it or not."""
    monkeypatch.setattr(changed, "SHARE", 1.0)


def everywhere(net: Net) -> tuple[np.ndarray, np.ndarray]:
    """Each row and each column once at least, corners too, and a colour for each."""
    rng = np.random.default_rng(0)
    height, width = net.input_size
    rows = [(i, int(rng.integers(width))) for i in range(height)]
    cols = [(int(rng.integers(height)), j) for j in range(width)]
    places = np.array([*rows, *cols, (0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)])
    return places, rng.random((len(places), net.channels)).astype(np.float32)


def both(net: Net) -> tuple[np.ndarray, np.ndarray, float]:
    """(n, K) logits by parts and of whole pictures, and how much a pixel changes at most."""
    original = nets.picture(net.input_size, net.channels)
    places, colours = everywhere(net)
    whole = original[None].repeat(len(places), 0)
    whole[range(len(places)), places[:, 0], places[:, 1]] = colours
    wanted = net.scores(net.batch(*whole))
    found = changed.scores_of(net, original, changed.stages(net))(places, colours)
    return found, wanted, float(np.abs(wanted - net.scores(net.batch(original))).max())


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_whole_picture(kind, tmp_path):
    net = made(kind, tmp_path)
    way = changed.stages(net)
    assert way[-1].result == "last", "all of this can be gone in parts"
    assert len(way) >= 2
    found, wanted, effect = both(net)
    assert effect > 1e-3, "or else any numbers would do"
    np.testing.assert_allclose(found, wanted, atol=1e-4 * effect)


@pytest.mark.parametrize("name", ["imagenette"])
def test_a_network_that_ships(name):
    from engine import nets as known

    net = Net(known.find(name))
    assert len(changed.stages(net)) > 3
    original = nets.picture(net.input_size, 3)
    places, colours = (each[-8:] for each in everywhere(net))
    whole = original[None].repeat(8, 0)
    whole[range(8), places[:, 0], places[:, 1]] = colours
    found = changed.scores_of(net, original, changed.stages(net))(places, colours)
    np.testing.assert_allclose(found, net.scores(net.batch(*whole)), atol=1e-4)


def test_parts_are_no_larger_than_is_worth_it(monkeypatch, tmp_path):
    net = made("residual", tmp_path)
    monkeypatch.setattr(changed, "SHARE", 0.05)
    for stage in changed.stages(net):
        rows, cols = stage.axes
        height, width = net.graph.shapes[stage.source][2:]
        assert rows.cut * cols.cut <= 0.05 * height * width
    assert 0 < len(changed.stages(net)) < 3


STOPS = {
    "numbers for each position": [node("Add", "relu1 position", "odd")],
    "a look at the whole": [node("GlobalAveragePool", "relu1", "all"), node("Mul", "relu1 all", "odd")],
    "a softmax along columns": [node("Softmax", "relu1", "odd", axis=3)],
    "a filter made of the picture": [
        node("Slice", "relu1 zero one axes", "filter"),
        node("Mul", "relu1 filter", "odd"),
    ],
}


@pytest.mark.parametrize("why", STOPS)
def test_it_goes_no_farther_than_where_positions_are_alike(why, tmp_path):
    nodes = [
        node("Conv", "image a", "conv1", pads=[1, 1, 1, 1]),
        node("Relu", "conv1", "relu1"),
        *STOPS[why],
        node("Conv", "odd b", "last", pads=[1, 1, 1, 1]),
        *END,
    ]
    constants = weights(a=(4, 3, 3, 3), b=(6, 4, 3, 3), w=(6, 4), position=(1, 1, *SIZE))
    constants = {name: value.astype(np.float32) for name, value in constants.items()}
    constants |= {"zero": np.array([0, 0]), "one": np.array([1, 1]), "axes": np.array([2, 3])}
    net = nets.save(nets.model([*nodes], constants, shape=("batch", 3, *SIZE), about=ABOUT), tmp_path / "net.onnx")
    assert [stage.result for stage in changed.stages(net)] == ["relu1"]
    found, wanted, effect = both(net)
    np.testing.assert_allclose(found, wanted, atol=1e-4 * effect)


def test_where_it_is_not_worth_it_there_is_no_way(tiny, tmp_path):
    assert changed.stages(tiny) == [], "a small picture"
    nodes, shapes = KINDS["a row"]
    constants = {name: value.astype(np.float32) for name, value in weights(**shapes, w=(6, 4)).items()}
    fixed = nets.model([*nodes, *END], constants, shape=(2, 3, *SIZE), about=ABOUT)
    net = nets.save(fixed, tmp_path / "fixed.onnx")
    net.fixed_batch = 2  # as where it could not be freed
    assert changed.stages(net) == [], "a batch of a size of its own"


def test_a_network_that_nobody_uses_any_more_is_let_go(tmp_path):
    import gc
    import weakref

    net = made("a row", tmp_path)
    changed.stages(net)
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None

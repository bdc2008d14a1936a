"""Are the top patches those that a search over all activations finds, cut exactly where the unit sees?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from engine import image as pictures
from engine.data import sets
from engine.data.indexing import index, ready_steps
from engine.look.top_patches import Patches, box, cut, cut_out, figure, top_patches, within
from engine.model.receptive_field import ReceptiveField
from engine.net import Layer, UnknownLayer
from engine.step import last

LAYERS = ["relu1", "pool1", "conv2", "mean", "logits"]


@pytest.fixture
def folder(tmp_path):
    """Nine pictures of two kinds, two of them equal, of the size that `tiny` sees, and a broken one."""
    rng = np.random.default_rng(0)
    base = tmp_path / "set"
    for name in ("bright", "dark"):
        (base / name).mkdir(parents=True)
        for k in range(4):
            values = rng.integers(0, 100, (12, 16, 3)) + (150 if name == "bright" else 0)
            Image.fromarray(values.astype(np.uint8)).save(base / name / f"{k}.png")
    (base / "dark" / "9.png").write_bytes((base / "dark" / "1.png").read_bytes())
    (base / "bright" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return base


def by_hand(net, data, layer: str, channel: int, count: int) -> list[tuple[float, int, int, int]]:
    """(value, id, row, col): every activation of every picture looked at, the best place of each kept."""
    found = []
    for number in range(len(data)):
        try:
            pixels = net.view(pictures.load(data.encoded(number)))[0]
        except pictures.NotAPicture:
            continue
        values = net.activations(net.batch(pixels), [layer])[layer][0].reshape(net.layer(layer).shape)[channel]
        best = max(
            ((values[row, col], -row, -col) for row in range(values.shape[0]) for col in range(values.shape[1])),
        )
        found.append((float(best[0]), number, -best[1], -best[2]))
    return sorted(found, key=lambda each: (-each[0], each[1]))[:count]


def cut_by_hand(pixels: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """Pixel by pixel."""
    patch = np.full((height, width, pixels.shape[2]), 0.5, np.float32)
    for i in range(height):
        for j in range(width):
            if 0 <= top + i < pixels.shape[0] and 0 <= left + j < pixels.shape[1]:
                patch[i, j] = pixels[top + i, left + j]
    return patch


# "conv1" pads by one and "pool1" halves: what a unit of each sees, from the graph by hand.
FIELDS = {
    "relu1": lambda row, col: (row - 1, col - 1, 3, 3),
    "pool1": lambda row, col: (2 * row - 1, 2 * col - 1, 4, 4),
    "conv2": lambda row, col: (2 * row - 1, 2 * col - 1, 8, 8),
    "mean": lambda row, col: (0, 0, 12, 16),
    "logits": lambda row, col: (0, 0, 12, 16),
}


@pytest.mark.parametrize("layer", LAYERS)
def test_they_are_those_of_a_search_over_everything(tiny, folder, cache, layer):
    data = sets.find(folder)
    made = index(tiny, data, layers=LAYERS)
    for channel in range(made.shape(layer)[0]):
        found = cut_out(tiny, made, layer, channel=channel, count=5)
        expected = by_hand(tiny, data, layer, channel, 5)
        np.testing.assert_allclose(found.table.value, [each[0] for each in expected], rtol=1e-5, atol=1e-6)
        assert found.table[["id", "row", "col"]].values.tolist() == [list(each[1:]) for each in expected]
        for k, (_, number, row, col) in enumerate(expected):
            field = FIELDS[layer](row, col)
            pixels = tiny.view(pictures.load(data.encoded(number)))[0]
            np.testing.assert_array_equal(found.pixels[k], cut_by_hand(pixels, *field))
            top, left, height, width = field
            edges = found.table.loc[k, ["top", "left", "bottom", "right"]].tolist()
            assert edges == [top, left, top + height, left + width]


def test_what_stands_beside_a_patch_is_of_its_picture(tiny, folder, cache):
    found = top_patches(tiny, str(folder), "conv2", channel=1, count=20)
    data = sets.find(folder)
    assert len(found.table) == 9, "the broken picture is none"
    for row in found.table.itertuples():
        logits = tiny.scores(tiny.batch(tiny.view(pictures.load(data.encoded(row.id)))[0]))[0]
        shares = np.exp(logits) / np.exp(logits).sum()
        assert row.where == data.where(row.id)
        assert row.label == data.names[data.label(row.id)] == row.where.split("/")[0]
        assert row.prediction == tiny.labels[logits.argmax()]
        assert row.probability == pytest.approx(shares.max(), rel=1e-4)


def test_several_channels_are_those_of_each(tiny, folder, cache):
    together = top_patches(tiny, str(folder), "pool1", channel=1, channels=3, count=4)
    assert together.table.channel.tolist() == [1] * 4 + [2] * 4 + [3] * 4
    for channel in (1, 2, 3):
        alone, part = top_patches(tiny, str(folder), "pool1", channel=channel, count=4), together.of(channel)
        pd.testing.assert_frame_equal(alone.table, part.table)
        np.testing.assert_array_equal(alone.pixels, part.pixels)


def test_large_patches_are_scaled_down_when_asked(tiny, folder, cache):
    assert top_patches(tiny, str(folder), "logits", count=2, side=8).pixels.shape == (2, 6, 8, 3)
    assert top_patches(tiny, str(folder), "pool1", count=2, side=8).pixels.shape == (2, 4, 4, 3), "small ones stay"


def test_an_index_is_made_once_and_a_layer_may_be_any(tiny, folder, cache):
    data = sets.find(folder)
    first = last(ready_steps(tiny, data, ["conv1"]))
    assert "conv1" in first.layers
    again = list(ready_steps(tiny, data, ["conv1"]))
    assert [(step.index, step.total) for step in again] == [(10, 10)]
    assert again[0].result.folder == first.folder


@pytest.mark.parametrize(("layer", "given"), [("conv2", {"channel": 6}), ("conv2", {"channels": 0}), ("nope", {})])
def test_what_is_not_there_is_said(tiny, folder, cache, layer, given):
    with pytest.raises(UnknownLayer, match=r"^[^\n]*\.$"):
        top_patches(tiny, str(folder), layer, **given)


def test_a_field_larger_than_the_picture_and_one_outside_of_it():
    layer = Layer("x", "Conv", (1, 3, 3), ReceptiveField((7, 9), (2, 2), (-5, -3)))
    pixels = np.random.default_rng(1).random((4, 5, 3)).astype(np.float32)
    assert box(layer, 0, 1, (4, 5)) == (-5, -1, 2, 8)
    np.testing.assert_array_equal(cut(pixels, (-5, -1, 2, 8)), cut_by_hand(pixels, -5, -1, 7, 9))
    np.testing.assert_array_equal(cut(pixels, (6, 0, 9, 2)), np.full((3, 2, 3), 0.5))


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ((-1, 2, 3, 7), (-1, 2, 3, 7)),  # as large as the picture, or smaller
        ((-5, -1, 2, 8), (-2, 0, 2, 5)),  # rows 0 and 1 of the picture are in it, and all columns
        ((3, 4, 10, 13), (3, 4, 7, 9)),
        ((-2, -4, 5, 5), (0, 0, 4, 5)),
    ],
)
def test_of_a_field_larger_than_the_picture_only_padding_is_left_out(edges, expected):
    assert within(edges, (4, 5)) == expected
    pixels = np.random.default_rng(1).random((4, 5, 3)).astype(np.float32)
    inside = [each[(each != 0.5).any(2)] for each in (cut(pixels, edges), cut(pixels, expected))]
    np.testing.assert_array_equal(*inside)


def test_the_figure_has_a_row_for_each_channel():
    table = pd.DataFrame({"channel": [4, 4, 7], "value": [2.0, 1.0, 3.0]})
    pixels = np.stack([np.full((6, 8, 1), value, np.float32) for value in (0.2, 0.4, 0.6)])
    page = figure(Patches(pixels, table))
    assert page.shape[2] == 3
    at = [np.argwhere(np.isclose(page[..., 0], np.rint(value * 255) / 255)) for value in (0.2, 0.4, 0.6)]
    sizes = [places.max(0) - places.min(0) + 1 for places in at]
    assert all(tuple(size) == (72, 96) for size in sizes), "enlarged twelve times, to 96 pixels"
    (top, left), (beside, right), (below, under) = (places.min(0) for places in at)
    assert top == beside < below
    assert left == under < right

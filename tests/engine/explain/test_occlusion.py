"""Is the map the one that painting every patch by hand gives, and does a run report, stop and clean up after itself?"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import small_nets as nets

from engine import net as net_module
from engine.explain.occlusion import (
    FILLS,
    coarse,
    coarse_to_fine,
    filled,
    interpolated,
    occlude,
    occlusion,
    occlusion_fall,
    occlusion_fall_steps,
    occlusion_likeness,
    occlusion_likeness_steps,
    occlusion_steps,
    positions,
    spread,
)
from engine.incremental import plan
from engine.net import Net, UnknownClass, softmax
from engine.pictures.fill import blank
from engine.step import last
from engine.target import class_margin, unit


def by_hand(image: np.ndarray, class_index: int, patch: int, stride: int, colour) -> np.ndarray:
    """The map, from numpy's version of `tiny`, one picture at a time."""
    corners = [range(0, side - patch + stride, stride) if side > patch else [0] for side in image.shape[:2]]
    out = np.empty([len(c) for c in corners])
    for i, row in enumerate(corners[0]):
        for j, col in enumerate(corners[1]):
            painted = image.copy()
            for r in range(row, min(row + patch, image.shape[0])):
                for c in range(col, min(col + patch, image.shape[1])):
                    painted[r, c] = colour
            out[i, j] = softmax(nets.tiny_forward(painted)["logits"][None])[0, class_index]
    return out


@pytest.mark.parametrize(
    ("patch", "stride", "shape"),
    [(4, 4, (3, 4)), (5, 4, (3, 4)), (3, 2, (6, 8)), (1, 3, (5, 6)), (6, 5, (3, 3)), (12, 4, (1, 2)), (40, 8, (1, 1))],
)
def test_the_map_is_the_one_made_by_hand(tiny, picture, patch, stride, shape):
    """With patches that meet the edge, go over it and cover all."""
    found = occlusion(tiny, picture, 1, patch=patch, stride=stride)
    assert found.shape == shape
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(picture, 1, patch, stride, 0.5), atol=1e-5)


@pytest.mark.parametrize(
    ("fill", "colour"),
    [("grey", [0.5] * 3), ("black", [0] * 3), ("white", [1] * 3), ("mean", nets.picture().mean((0, 1)))],
)
def test_the_patch_is_painted_as_asked(tiny, picture, fill, colour):
    np.testing.assert_allclose(blank(picture, fill), np.broadcast_to(colour, picture.shape), atol=1e-6)
    painted = occlude(picture, 9, 3, patch=4, fill=fill)
    np.testing.assert_allclose(painted[9:, 3:7], np.broadcast_to(colour, (3, 4, 3)), atol=1e-6)
    assert (painted != picture).any(2).sum() == 12
    found = occlusion(tiny, picture, 2, patch=4, stride=3, fill=fill)
    np.testing.assert_allclose(found, by_hand(picture, 2, 4, 3, colour), atol=1e-5)


@pytest.mark.parametrize("fill", ["blur", "noise"])
def test_a_fill_that_is_a_picture_shows_its_own_part(tiny, picture, fill):
    empty = blank(picture, fill, seed=3)
    found = occlusion(tiny, picture, 1, patch=4, stride=4, fill=fill, seed=3)
    for (i, j), value in np.ndenumerate(found):
        painted, window = picture.copy(), np.s_[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
        painted[window] = empty[window]
        np.testing.assert_array_equal(occlude(picture, 4 * i, 4 * j, patch=4, fill=fill, seed=3), painted)
        expected = softmax(nets.tiny_forward(painted)["logits"][None])[0, 1]
        assert value == pytest.approx(expected, abs=1e-5)


def test_every_fill_that_is_listed_can_be_painted(tiny, picture):
    found = [occlusion(tiny, picture, 0, patch=6, stride=6, fill=fill).tobytes() for fill in FILLS]
    assert len(set(found)) == len(FILLS)


def test_a_linear_net_has_a_closed_form(tmp_path, picture):
    """Hiding a patch takes away its weights times what it hides, whatever the rest of the picture is."""
    rng = np.random.default_rng(2)
    weight, bias = rng.normal(0, 0.05, (3, 3, 12, 16)), rng.normal(0, 1, 3)
    net = nets.save(nets.linear(weight, bias), tmp_path / "linear.onnx")
    x, grey = ((p.astype(np.float64) - nets.MEAN) / nets.STD for p in (picture, np.full_like(picture, 0.5)))
    evidence = weight * (x - grey).transpose(2, 0, 1)  # (K, C, H, W): what each pixel adds, over grey
    total = bias + (weight * x.transpose(2, 0, 1)).sum((1, 2, 3))
    expected = np.empty((4, 6))  # the last column's patches are a single pixel wide
    for i, j in np.ndindex(expected.shape):
        logits = total - evidence[:, :, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3].sum((1, 2, 3))
        expected[i, j] = np.exp(logits[2]) / np.exp(logits).sum()
    np.testing.assert_allclose(occlusion(net, picture, 2, patch=3, stride=3), expected, rtol=1e-4)
    assert np.ptp(expected) > 0.02


def test_one_channel_and_a_graph_for_one_picture(tmp_path):
    net = nets.save(nets.tiny(shape=(1, 1, *nets.SIZE)), tmp_path / "grey.onnx")
    image = nets.picture(channels=1)
    found = occlusion(net, image, 0, patch=6, stride=6)
    painted = image.copy()
    painted[6:, 6:12] = 0.5
    expected = softmax(nets.tiny_forward(painted, (0.0,), (1.0,))["logits"][None])[0, 0]
    assert found[1, 1] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("side", "patch", "stride", "expected"),
    [
        (12, 4, 4, [0, 4, 8]),
        (12, 5, 4, [0, 4, 8]),  # the last one reaches a pixel over the edge
        (12, 4, 5, [0, 5, 10]),
        (12, 1, 1, list(range(12))),
        (12, 12, 3, [0]),
        (12, 13, 3, [0]),
        (13, 12, 3, [0, 3]),
        (1, 1, 8, [0]),
    ],
)
def test_positions_go_on_until_the_edge_is_covered(side, patch, stride, expected):
    assert positions(side, patch, stride) == expected


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1), (8, 8), (9, 17), (16, 27), (3, 5)])
def test_coarse_to_fine_visits_every_position_once(size):
    order = coarse_to_fine(*size)
    assert len(order) == size[0] * size[1]
    assert set(order) == set(np.ndindex(size))


def test_coarse_to_fine_begins_with_every_eighth_then_every_fourth():
    order = coarse_to_fine(17, 10)
    assert order[:6] == [(0, 0), (0, 8), (8, 0), (8, 8), (16, 0), (16, 8)]
    fourth = {(i, j) for i in range(0, 17, 4) for j in range(0, 10, 4)}
    assert set(order[: len(fourth)]) == fourth


def small_batches(net, monkeypatch, size=5):
    monkeypatch.setitem(vars(net), "batch_size", size)  # where the cached property keeps it
    monkeypatch.setattr(plan, "gpu", lambda net: None)  # which would take all at once


def test_every_step_reports_what_is_done(tiny, picture, monkeypatch):
    small_batches(tiny, monkeypatch)
    steps = list(occlusion_steps(tiny, picture, 0, patch=3, stride=2))
    assert [step.index for step in steps] == [5, 10, 15, 20, 25, 30, 35, 40, 45, 48]
    assert {step.total for step in steps} == {48}
    for step in steps:
        assert np.isnan(step.result).sum() == 48 - step.index
    whole = steps[-1].result
    for step in steps:  # what has been found stays, and no later step has changed an earlier result
        seen = ~np.isnan(step.result)
        np.testing.assert_array_equal(step.result[seen], whole[seen])
    np.testing.assert_allclose(whole, by_hand(picture, 0, 3, 2, 0.5), atol=1e-5)


def test_the_first_step_has_the_coarsest_positions(tiny, picture, monkeypatch):
    small_batches(tiny, monkeypatch, 4)
    first = next(occlusion_steps(tiny, picture, 0, patch=1, stride=1))
    assert [tuple(place) for place in np.argwhere(~np.isnan(first.result))] == [(0, 0), (0, 8), (8, 0), (8, 8)]


def test_the_batch_size_does_not_matter(tiny, picture, monkeypatch):
    expected = occlusion(tiny, picture, 3, patch=4, stride=3)
    for size in (1, 7, 1000):
        small_batches(tiny, monkeypatch, size)
        np.testing.assert_allclose(occlusion(tiny, picture, 3, patch=4, stride=3), expected, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4, 10])
def test_a_coarse_map_has_no_gaps_from_the_first_step_on(tiny, picture, monkeypatch, size):
    small_batches(tiny, monkeypatch, size)
    for step in occlusion_steps(tiny, picture, 0, patch=1, stride=1):
        drawn = coarse(step.result)
        seen = ~np.isnan(step.result)
        assert not np.isnan(drawn).any()
        np.testing.assert_array_equal(drawn[seen], step.result[seen])
        assert set(drawn.ravel()) <= set(step.result[seen])
    np.testing.assert_array_equal(drawn, step.result)


def test_a_gap_is_filled_from_above_and_left():
    partial = np.full((3, 5), np.nan, np.float32)
    partial[0, 0], partial[0, 4], partial[2, 2] = 1, 2, 3
    np.testing.assert_array_equal(coarse(partial), [[1, 1, 1, 1, 2], [1, 1, 1, 1, 2], [1, 1, 3, 3, 2]])
    assert np.isnan(partial).sum() == 12


@pytest.mark.parametrize("closed", [True, False])
def test_no_more_is_computed_than_is_asked_for(tiny, picture, monkeypatch, closed):
    small_batches(tiny, monkeypatch, 2)
    asked = []
    activations = Net.activations
    monkeypatch.setattr(
        Net, "activations", lambda self, batch, names: asked.append(len(batch)) or activations(self, batch, names)
    )
    steps = occlusion_steps(tiny, picture, 0, patch=4, stride=4)
    assert asked == []
    next(steps)
    next(steps)
    assert asked == [2, 2]
    if closed:
        steps.close()
        assert next(steps, None) is None
        assert asked == [2, 2]
    else:
        last(steps)
        assert sum(asked) == 12


# Other numbers than a probability -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["margin", "unit"])
def test_any_number_can_be_asked_for(tiny, picture, kind):
    target = class_margin(tiny, 1, 3) if kind == "margin" else unit(tiny, "conv2", 4, 2, 5)
    found = occlusion(tiny, picture, target, patch=5, stride=4)
    for (i, j), value in np.ndenumerate(found):
        painted = picture.copy()
        painted[4 * i : 4 * i + 5, 4 * j : 4 * j + 5] = 0.5
        forward = nets.tiny_forward(painted)
        expected = forward["logits"][1] - forward["logits"][3] if kind == "margin" else forward["conv2"][4, 2, 5]
        assert value == pytest.approx(expected, abs=1e-5)
    assert np.ptp(found) > 1e-3


# How far it falls -----------------------------------------------------------------------------------------------------


def spread_by_hand(values: np.ndarray, size, patch: int, stride: int) -> np.ndarray:
    total, count = np.zeros(size), np.zeros(size)
    for i, j in np.ndindex(values.shape):
        if not np.isnan(values[i, j]):
            total[i * stride : i * stride + patch, j * stride : j * stride + patch] += values[i, j]
            count[i * stride : i * stride + patch, j * stride : j * stride + patch] += 1
    return np.where(count > 0, total / np.maximum(count, 1), 0)


@pytest.mark.parametrize(("patch", "stride"), [(4, 4), (5, 3), (3, 1), (2, 5), (20, 7), (1, 1)])
@pytest.mark.parametrize("missing", [0.0, 0.4])
def test_values_are_spread_over_the_pixels_that_their_patches_cover(patch, stride, missing):
    random = np.random.default_rng(1)
    values = random.normal(size=[len(positions(side, patch, stride)) for side in (11, 17)]).astype(np.float32)
    values[random.random(values.shape) < missing] = np.nan
    expected = spread_by_hand(values, (11, 17), patch, stride)
    found = spread(values, (11, 17), patch, stride)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_fall_is_how_far_the_number_goes_down(tiny, picture):
    whole = softmax(nets.tiny_forward(picture)["logits"][None])[0, 1]
    expected = spread_by_hand(whole - by_hand(picture, 1, 5, 3, 0.5), (12, 16), 5, 3)
    np.testing.assert_allclose(occlusion_fall(tiny, picture, 1, patch=5, stride=3), expected, atol=1e-5)


def test_without_a_size_the_patch_is_an_eighth_of_the_shorter_side(tmp_path):
    net = nets.save(nets.tiny(shape=("n", 3, 40, 64), about=nets.ABOUT), tmp_path / "larger.onnx")
    image = nets.picture((40, 64))
    np.testing.assert_array_equal(occlusion_fall(net, image, 1), occlusion_fall(net, image, 1, patch=5, stride=2))
    np.testing.assert_array_equal(
        occlusion_fall(net, image, 1, patch=12), occlusion_fall(net, image, 1, patch=12, stride=6)
    )


def test_a_partial_fall_is_0_where_no_patch_has_been(tiny, picture, monkeypatch):
    small_batches(tiny, monkeypatch, 3)
    steps = list(occlusion_fall_steps(tiny, picture, 1, patch=4, stride=4))
    assert [step.index for step in steps] == [3, 6, 9, 12]
    assert [int((step.result != 0).sum()) for step in steps] == [3 * 16, 6 * 16, 9 * 16, 12 * 16]
    np.testing.assert_allclose(steps[-1].result, occlusion_fall(tiny, picture, 1, patch=4, stride=4), atol=1e-6)


def test_hiding_what_decides_lowers_the_number_most(tmp_path):
    """A net that sums a planted square and is indifferent to the rest."""
    weight = np.zeros((2, 3, 12, 16))
    weight[1, :, 6:10, 9:13] = 0.05
    net = nets.save(nets.linear(weight, np.zeros(2)), tmp_path / "linear.onnx")
    image = nets.picture() * 0.3
    image[6:10, 9:13] = 1
    found = occlusion(net, image, 1, patch=4, stride=1)
    assert np.unravel_index(found.argmin(), found.shape) == (6, 9)
    fall = occlusion_fall(net, image, 1, patch=2, stride=2)
    planted = np.zeros((12, 16), bool)
    planted[6:10, 9:13] = True
    assert fall[planted].min() > 0
    seen = np.zeros((12, 16), bool)
    seen[6:10, 8:14] = True  # the patches that touch it begin at every second pixel
    np.testing.assert_array_equal(abs(fall) > 1e-6, seen)
    assert planted[np.unravel_index(fall.argmax(), fall.shape)]


def test_two_runs_at_once_do_not_meet(tiny, picture, monkeypatch):
    small_batches(tiny, monkeypatch, 3)
    a, b = (occlusion_steps(tiny, image, 1, patch=4, stride=4) for image in (picture, picture[::-1]))
    pairs = list(zip(a, b, strict=True))
    np.testing.assert_array_equal(pairs[-1][0].result, occlusion(tiny, picture, 1, patch=4, stride=4))
    np.testing.assert_array_equal(pairs[-1][1].result, occlusion(tiny, picture[::-1], 1, patch=4, stride=4))


def test_the_picture_stays_as_it_was(tiny, picture):
    before = picture.copy()
    picture.flags.writeable = False
    occlusion(tiny, picture, 0, patch=4, stride=4)
    occlude(picture, 0, 0)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"patch": 0}, "at least one pixel"),
        ({"stride": 0}, "at least one pixel"),
        ({"stride": -1}, "at least one pixel"),
        ({"fill": "red"}, "grey, mean, black, white, blur, noise, not 'red'"),
    ],
)
def test_what_cannot_be_done_is_refused(tiny, picture, how, words):
    with pytest.raises(ValueError, match=words):
        occlusion(tiny, picture, 0, **how)


def test_a_picture_of_another_size_is_refused(tiny, picture):
    with pytest.raises(ValueError, match="sees pictures of"):
        occlusion(tiny, picture[:, :12], 0)


def test_a_class_that_is_not_there_is_refused(tiny, picture):
    with pytest.raises(UnknownClass):
        occlusion(tiny, picture, 4)


def test_the_batch_is_as_large_as_the_memory_allows(tiny, monkeypatch):
    largest = 5 * 12 * 16 * 4  # bytes of conv1
    for memory, expected in ((net_module.BATCH_BYTES, 64), (10 * largest, 10), (11 * largest - 1, 10), (1, 1)):
        monkeypatch.setattr(net_module, "BATCH_BYTES", memory)
        assert Net(tiny.path).batch_size == expected


def test_a_map_with_straight_lines_between_what_is_known():
    known = np.full((5, 4), np.nan, np.float32)
    known[::2, ::2] = [[0, 2], [4, 6], [8, 2]]
    found = interpolated(known, 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[0, 1, 2, 2], [2, 3, 4, 4], [4, 5, 6, 6], [6, 5, 4, 4], [8, 5, 2, 2]])


@pytest.mark.parametrize("drill", [0.2, 0.7])
def test_an_approximate_map_asks_in_the_middle_and_then_where_hiding_changes_most(tiny, picture, drill):
    exact = occlusion(tiny, picture, 1, patch=4, stride=1)
    steps = list(occlusion_steps(tiny, picture, 1, patch=4, stride=1, drill=drill))
    found = steps[-1].result
    count = -(-exact.shape[0] // 2) * -(-exact.shape[1] // 2)
    more = round(drill * (exact.size - count))
    assert steps[-1].index == steps[-1].total == count + more
    assert not np.isnan(found).any()
    between = interpolated(exact, 2)
    rows, cols = np.indices(exact.shape)
    middle, gap = (rows % 2 == 1) & (cols % 2 == 1), (rows % 2 == 1) | (cols % 2 == 1)
    whole = softmax(tiny.scores(tiny.batch(picture)))[0, 1]
    most = np.where(gap, np.abs(between - whole) + 1e3 * middle, -1)
    asked = ~gap | (most >= np.sort(most.ravel())[-more])
    np.testing.assert_allclose(found[asked], exact[asked], atol=1e-7)
    np.testing.assert_allclose(found, filled(np.where(asked, exact, np.nan), between), atol=1e-7)
    assert np.abs(found - exact).mean() < np.abs(np.where(asked, exact, between) - exact).mean()  # better than lines
    np.testing.assert_array_equal(occlusion(tiny, picture, 1, patch=4, stride=1, drill=0.999999), exact)


def test_unknown_positions_move_with_the_known_ones_around_them():
    between, known = np.arange(30.0).reshape(5, 6), np.random.default_rng(0).random((5, 6)) < 0.5
    same = filled(np.where(known, between, np.nan), between)
    np.testing.assert_allclose(same, between)
    np.testing.assert_allclose(filled(np.where(known, between + 3, np.nan), between), between + 3)
    one = np.full((9, 9), np.nan)
    one[0, 0] = 2  # its neighbour moves with it, and at the other end nothing is known
    far = filled(one, np.zeros((9, 9)))
    assert far[0, 0] == 2
    assert far[0, 1] == pytest.approx(2)
    assert abs(far[8, 8]) < 1e-6


def test_how_near_an_approximate_map_comes(tiny, picture):
    same = occlusion_likeness(tiny, picture, 1, patch=4, stride=2, field=1.0, drill=1.0)
    assert same.ssim == pytest.approx(1)
    np.testing.assert_array_equal(same.exact, same.approximate)
    assert same.work == 1
    less = occlusion_likeness(tiny, picture, 1, patch=4, stride=2, field=1.0, drill=0.0)
    assert 0 < less.ssim < 1
    assert less.work == pytest.approx(
        len(range(0, less.exact.shape[0], 2)) * len(range(0, less.exact.shape[1], 2)) / less.exact.size
    )
    np.testing.assert_allclose(less.approximate, interpolated(less.exact, 2), atol=1e-7)
    steps = list(occlusion_likeness_steps(tiny, picture, 1, patch=4, stride=2))
    assert [step.result is None for step in steps] == [True] * (len(steps) - 1) + [False]
    assert all(a.index <= b.index <= b.total for a, b in itertools.pairwise(steps))
    with pytest.raises(ValueError, match="smaller patch or stride"):
        occlusion_likeness(tiny, picture, 1, patch=12, stride=4)
    with pytest.raises(ValueError, match="between 0 and 1"):
        occlusion(tiny, picture, 1, drill=1.5)

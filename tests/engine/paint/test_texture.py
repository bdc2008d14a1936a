"""Gram matrices, textures made from them, and textures grown pixel by pixel."""

from __future__ import annotations

import contextlib
import json
import re

import numpy as np
import pytest
import small_nets as nets
import torch
from click.testing import CliRunner

from engine.cli.main import main
from engine.net import Net, UnknownLayer
from engine.nets import available as networks
from engine.paint import growing
from engine.paint.gram import apart, distances, features, gram, scaled, scales
from engine.paint.gram import texture as texture_target
from engine.paint.growing import Grown, cut, grow, grow_steps
from engine.paint.texture import CANVASES, MOVES, STARTS, texture, texture_depths, texture_depths_steps, texture_steps
from engine.pictures import samples


@pytest.fixture(scope="module")
def digits() -> Net:
    return Net(networks.find("digits"))


@pytest.fixture(scope="module")
def brick() -> np.ndarray:
    return samples.load("brick")


def stripes(size: tuple[int, int] = (40, 48)) -> np.ndarray:
    """Slanting stripes of three colours."""
    rows, cols = np.mgrid[: size[0], : size[1]]
    return np.stack([0.5 + 0.4 * np.sin((rows + 2 * cols) / 3 + k) for k in range(3)], 2).astype(np.float32)


# Gram matrices --------------------------------------------------------------------------------------------------------


def test_a_gram_matrix_is_the_mean_of_the_products():
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = np.einsum("bchw,bdhw->bcd", values, values) / 20
    np.testing.assert_allclose(gram(torch.from_numpy(values)), expected, rtol=1e-5)


def test_where_a_feature_is_does_not_matter():
    values = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    there = values.flatten(2)[..., torch.randperm(20, generator=torch.Generator().manual_seed(1))].view(1, 3, 4, 5)
    torch.testing.assert_close(gram(values), gram(there))


def test_a_mask_leaves_the_rest_out():
    values, mask = torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 5)
    mask[:2] = 1
    torch.testing.assert_close(gram(values, mask), gram(values[:, :, :2]))
    torch.testing.assert_close(gram(values, torch.ones(4, 5)), gram(values))


def test_a_distance_is_a_share():
    wanted = torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    assert float(apart(wanted, wanted)) == 0
    assert float(apart(0 * wanted, wanted)) == 1
    assert float(apart(1000 * 2 * wanted, 1000 * wanted)) == 1, "whatever the layer's scale"


def test_the_layers_are_found_in_the_graph(tiny, digits):
    assert scales(tiny) == ["relu1", "conv2"]
    assert scales(digits) == ["relu1", "relu3", "relu5"]
    assert scales(Net(networks.find("imagenette"))) == [
        "stem.2",
        "blocks.1.relu_1",
        "blocks.3.relu_1",
        "blocks.5.relu_1",
    ]


def test_a_net_without_maps_has_no_texture(tmp_path):
    net = nets.save(nets.linear(np.zeros((4, 3, 12, 16)), np.zeros(4)), tmp_path / "linear.onnx")
    with pytest.raises(UnknownLayer, match=r"sees no texture\.$"):
        scales(net)


def test_layers_know_pictures_of_any_size(tiny):
    assert features(tiny, nets.picture((40, 24)), ["relu1", "conv2"])["relu1"].shape == (1, 5, 40, 24)


def test_the_target_is_0_at_the_picture_itself_and_below_elsewhere(tiny):
    picture, other = nets.picture(), nets.picture(seed=1)
    target = texture_target(tiny, [picture], ["relu1", "conv2"])

    def of(pixels):
        return float(target.value(features(tiny, pixels, target.names)))

    assert abs(of(picture)) < 1e-6
    far = distances(tiny, other, picture, ["relu1", "conv2"])
    assert of(other) == pytest.approx(-100 * np.mean(list(far.values())), rel=1e-5)


def test_the_gradient_is_that_of_the_plain_sum_of_squares(tiny):
    """The short way's own gradient, with and without masks, against torch's of equations 3 to 5 written out."""
    names = ("relu1", "conv2")
    first, second = nets.picture(seed=1), nets.picture(seed=2)
    mask = np.zeros(nets.SIZE, np.float32)
    mask[3:, :7] = 1
    values = {
        name: torch.from_numpy(np.random.default_rng(index).normal(0, 0.5, (2, *shape)).astype(np.float32))
        for index, (name, shape) in enumerate({"relu1": (5, 12, 16), "conv2": (6, 4, 6)}.items())
    }

    def plain(maps, weights):
        return torch.einsum("bihw,bjhw,hw->bij", maps, maps, weights) / weights.sum()

    def off(found, wanted):
        return ((found - wanted) ** 2).sum((1, 2)) / (wanted**2).sum()

    # What the picture is compared with, seen everywhere, and where it is compared.
    everywhere = {name: torch.ones(maps.shape[2:]) for name, maps in values.items()}
    [aims, other] = [
        {name: plain(maps, everywhere[name]) for name, maps in features(tiny, each, names).items()}
        for each in (first, second)
    ]
    both = {name: 0.25 * aims[name] + 0.75 * other[name] for name in names}
    there = torch.from_numpy(mask)
    cases = [
        (
            {"pictures": [first, second], "layers": names, "shares": (1, 3), "emphasis": (2, 1)},
            lambda v: (
                2 / 3 * off(plain(v["relu1"], everywhere["relu1"]), both["relu1"])
                + 1 / 3 * off(plain(v["conv2"], everywhere["conv2"]), both["conv2"])
            ),
        ),
        (
            {"pictures": [first, second], "layers": ("relu1",), "shares": (1, 3), "masks": [mask, 1 - mask]},
            lambda v: (
                0.25 * off(plain(v["relu1"], there), aims["relu1"])
                + 0.75 * off(plain(v["relu1"], 1 - there), other["relu1"])
            ),
        ),
    ]
    for how, expected in cases:
        leaves = {name: values[name].clone().requires_grad_() for name in how["layers"]}
        found, wanted = texture_target(tiny, **how).value(leaves), -100 * expected(leaves)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        upstream = torch.tensor([1.0, -2.0])  # each picture's own
        found, wanted = (torch.autograd.grad(each, list(leaves.values()), upstream) for each in (found, wanted))
        for one, same in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, same, rtol=1e-4, atol=1e-6 + 1e-4 * float(same.abs().max()))


@pytest.mark.parametrize("masked", [False, True])
def test_a_gram_matrix_s_gradient_is_that_of_its_sums(masked):
    random = torch.Generator().manual_seed(0)
    values = torch.randn(2, 3, 4, 5, generator=random, requires_grad=True)
    weights = torch.rand(4, 5, generator=random) if masked else None
    upstream = torch.randn(2, 3, 3, generator=random)  # not symmetric
    places = torch.ones(4, 5) if weights is None else weights
    expected = torch.einsum("bihw,bjhw,hw->bij", values, values, places) / places.sum()
    (found,), (wanted,) = (torch.autograd.grad(each, values, upstream) for each in (gram(values, weights), expected))
    torch.testing.assert_close(found, wanted)


def test_shares_weigh_the_pictures_and_emphasis_the_layers(tiny):
    first, second = nets.picture(seed=1), nets.picture(seed=2)
    values = features(tiny, nets.picture(), ["relu1", "conv2"])

    def of(pictures, **how):
        return float(texture_target(tiny, pictures, ["relu1", "conv2"], **how).value(values))

    assert of([first, second], shares=(1, 0)) == pytest.approx(of([first]))
    assert of([first, second], shares=(0, 3)) == pytest.approx(of([second]))
    assert of([first], emphasis=(0, 5)) == pytest.approx(float(texture_target(tiny, [first], ["conv2"]).value(values)))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"layers": []}, "at least one layer"),
        ({"layers": ["nowhere"]}, "no layer 'nowhere'"),
        ({"layers": ["logits"]}, "no rows and columns"),
        ({"shares": (0,)}, "one of them above 0"),
        ({"shares": (1, 2)}, "one for each picture"),
        ({"shares": (float("nan"),)}, "one of them above 0"),
        ({"emphasis": (-1,)}, "0 or more"),
        ({"masks": []}, "There are 0 masks for 1 pictures"),
    ],
)
def test_a_target_that_cannot_be_is_refused_in_one_sentence(tiny, how, message):
    with pytest.raises(ValueError, match=message) as error:
        texture_target(tiny, [nets.picture()], **{"layers": ["relu1"], **how})
    assert re.fullmatch(r"[^\n]+\.", str(error.value))


# From noise -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("start", STARTS)
def test_the_distance_falls_by_nine_tenths(digits, brick, canvas, move, start):
    source = samples.load("brick")
    climb = texture(digits, source, size=64, steps=100, canvas=canvas, move=move, start=start)
    assert climb.picture.shape == (64, 64, 1)
    small = scaled(source.mean(2, keepdims=True), 64)
    first = texture(digits, source, size=64, steps=1, canvas=canvas, move=move, start=start)
    before, after = (distances(digits, each.picture, small, scales(digits)) for each in (first, climb))
    assert np.mean(list(after.values())) <= 0.1 * np.mean(list(before.values()))
    assert climb.scores[-5:].mean() > 0.1 * climb.scores[0, 0]


def test_colours_become_those_of_the_texture(tiny):
    climb = texture(tiny, stripes() * [1, 0.5, 0.2], size=48, steps=60, jitter=0)
    assert climb.picture.shape == (48, 48, 3)
    assert climb.scores[-1] > 0.1 * climb.scores[0]


def test_the_same_seed_gives_the_same_picture_and_another_one_another(tiny):
    first, again, other = (texture(tiny, stripes(), size=24, steps=4, seed=seed).pixels for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("move", MOVES)
def test_a_run_that_is_taken_up_ends_as_if_it_had_not_stopped(tiny, move):
    knobs = {"size": 24, "steps": 8, "move": move}
    whole = list(texture_steps(tiny, stripes(), **knobs))
    late = list(texture_steps(tiny, stripes(), **knobs, resume=whole[3].result))
    assert [step.index for step in late] == [5, 6, 7, 8]
    np.testing.assert_array_equal(late[-1].result.pixels, whole[-1].result.pixels)
    np.testing.assert_array_equal(late[-1].result.scores, whole[-1].result.scores)


def test_a_run_ends_when_nobody_asks_for_more(tiny):
    with contextlib.closing(texture_steps(tiny, stripes(), size=24, steps=10**6)) as steps:
        assert next(steps).index == 1
    assert not list(steps)


def test_depths_go_on_at_the_one_where_the_run_was_ended(digits, brick):
    steps = list(texture_depths_steps(digits, brick, size=32, steps=2))
    rest = list(texture_depths_steps(digits, brick, size=32, steps=2, resume=steps[2].result))
    assert len(steps[2].result) == 2, "in the second depth"
    assert [step.index for step in rest] == [step.index for step in steps[2:]]
    np.testing.assert_array_equal(rest[-1].result, steps[-1].result)


def test_each_depth_has_its_picture(digits, brick):
    steps = list(texture_depths_steps(digits, brick, size=32, steps=2))
    assert [len(step.result) for step in steps] == [1, 1, 2, 2, 3, 3]
    assert steps[-1].result.shape == (3, 32, 32, 1)
    np.testing.assert_array_equal(steps[-1].result, texture_depths(digits, brick, size=32, steps=2))
    single = texture(digits, brick, depth=2, size=32, steps=2)
    np.testing.assert_array_equal(single.picture, steps[-1].result[1])


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"depth": 0}, "depth 1 to 2, not 0"),
        ({"depth": 3}, "depth 1 to 2, not 3"),
        ({"start": "stripes"}, "no start 'stripes'"),
        ({"canvas": "oil"}, "not as 'oil'"),
        ({"move": "crawl"}, "no move 'crawl'"),
        ({"size": 10**5}, "100000 pixels"),
        ({"image": np.zeros((8, 8, 3), np.float32)}, "8 x 8 pixels is too small"),
        ({"image": np.zeros((1, 4000, 3), np.float32)}, "1 x 4000 pixels is too small"),
        ({"image": np.zeros((20, 4000, 3), np.float32)}, "20 x 4000 pixels is too narrow"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_sentence(tiny, how, message):
    with pytest.raises(ValueError, match=message) as error:
        next(texture_steps(tiny, **{"image": stripes(), "size": 24, **how}))
    assert re.fullmatch(r"[^\n]+\.", str(error.value))


# Grown ----------------------------------------------------------------------------------------------------------------


def test_every_pixel_is_one_of_the_sample():
    sample = nets.picture((20, 24))
    grown = grow(sample, size=18, window=5)
    assert (grown.picture.shape, grown.filled) == ((18, 18, 3), 1.0)
    there = {tuple(pixel) for pixel in sample.reshape(-1, 3)}
    assert {tuple(pixel) for pixel in grown.picture.reshape(-1, 3)} <= there


def test_a_checkerboard_goes_on():
    rows, cols = np.mgrid[:20, :20]
    sample = (((rows // 2 + cols // 2) % 2)[..., None] * np.ones(3)).astype(np.float32)
    picture = grow(sample, size=24, window=7).picture[..., 0]
    np.testing.assert_array_equal(picture[4:], picture[:-4])
    np.testing.assert_array_equal(picture[:, 4:], picture[:, :-4])
    np.testing.assert_array_equal(picture[2:], 1 - picture[:-2])


def test_a_pixel_is_copied_from_where_its_known_neighbours_are_most_alike():
    """Of the ring around the first 3 x 3 the corners know least, and come last: eight neighbours are known by then.

    They count by a Gaussian of the paper's width, and what is up to a tenth farther off than the nearest will do.
    """
    sample = np.random.default_rng(3).random((12, 15, 3)).astype(np.float32)
    near = np.exp(-0.5 * np.arange(-2, 3) ** 2 / (5 / 6.4) ** 2)
    windows = np.lib.stride_tricks.sliding_window_view(sample, (5, 5), (0, 1)).transpose(0, 1, 3, 4, 2)
    for seed in range(4):
        picture = grow(sample, size=5, window=5, seed=seed).picture
        for row, col in ((0, 0), (0, 4), (4, 0), (4, 4)):
            known = np.pad(np.ones((5, 5)), 2)[row : row + 5, col : col + 5]
            known[2, 2] = 0
            around = np.pad(picture, ((2, 2), (2, 2), (0, 0)))[row : row + 5, col : col + 5]
            weight = np.outer(near, near) * known
            far = np.einsum("ij,hwijc->hw", weight, (windows - around) ** 2)
            (chosen,) = np.argwhere((sample[2:-2, 2:-2] == picture[row, col]).all(2))
            assert far[tuple(chosen)] <= 1.1 * far.min() + 1e-5


def test_it_grows_from_the_middle_and_can_be_ended():
    sample = nets.picture((20, 24))
    with contextlib.closing(grow_steps(sample, size=18, window=5)) as steps:
        early = next(steps)
    assert isinstance(early.result, Grown)
    assert early.result.filled == pytest.approx(early.index / early.total)
    assert early.index == 25, "the patch of 3 x 3 and the ring around it"
    np.testing.assert_allclose(early.result.picture[0, 0], sample.mean((0, 1)), rtol=1e-5)
    assert not list(steps)


@pytest.mark.parametrize("ended", [0, 2])
def test_growing_goes_on_as_if_it_had_not_been_ended(ended):
    sample, knobs = nets.picture((20, 24)), {"size": 15, "window": 5, "seed": 2}
    steps = list(grow_steps(sample, **knobs))
    rest = list(grow_steps(sample, resume=steps[ended].result, **knobs))
    assert [step.index for step in rest] == [step.index for step in steps[ended + 1 :]]
    for step, same in zip(steps[ended + 1 :], rest, strict=True):
        np.testing.assert_array_equal(same.result.picture, step.result.picture)


def test_growing_is_repeatable():
    sample = nets.picture((20, 24))
    first, again, other = (grow(sample, size=12, window=5, seed=seed).picture for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"window": 4}, "has no middle"),
        ({"window": 21}, "20 x 24 pixels does not go with a window of 21"),
        ({"size": 500}, "500 pixels cannot be grown"),
        ({"sample": np.zeros((200, 200, 3), np.float32)}, "200 x 200 pixels"),
    ],
)
def test_what_cannot_be_grown_is_refused_in_one_sentence(how, message):
    with pytest.raises(ValueError, match=message) as error:
        next(grow_steps(**{"sample": nets.picture((20, 24)), **how}))
    assert re.fullmatch(r"[^\n]+\.", str(error.value))


@pytest.mark.parametrize("how", [{"longest": 10**5}, {"longest": 0}, {"side": 0}, {"side": 97}])
def test_no_sample_is_cut_from_a_picture_of_any_size(brick, how):
    with pytest.raises(ValueError, match="A sample is cut with 1 to 96 pixels a side"):
        cut(brick, **how)


def test_the_command_writes_what_grows(tmp_path):
    knobs = {"longest": 96, "side": 20, "size": 16, "window": 5, "seed": 3}
    words = [word for key, value in knobs.items() for word in (f"--{key}", str(value))]
    done = CliRunner().invoke(main, ["grow", "--image", "brick", *words, "--film", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    expected = grow(cut(samples.load("brick"), 20, longest=96), size=16, window=5, seed=3).picture
    np.testing.assert_array_equal(np.load(tmp_path / "out/numbers.npz")["picture"], expected)
    record = json.loads((tmp_path / "out/result.json").read_text("utf-8"))
    assert (record["command"], record["filled"], record["knobs"]) == ("grow", 1.0, knobs)
    assert {each.name for each in (tmp_path / "out").iterdir()} >= {"picture.png", "film.gif", "film.mp4"}
    refused = CliRunner().invoke(main, ["grow", "--image", "brick", "--window", "4", "--out", str(tmp_path / "no")])
    assert (refused.exit_code, "has no middle" in refused.output, (tmp_path / "no").exists()) == (2, True, False)


def test_the_command_ended_early_leaves_what_has_grown(tmp_path, monkeypatch):
    def ended(*args, **knobs):
        yield next(grow_steps(*args, **knobs))
        raise KeyboardInterrupt

    monkeypatch.setattr(growing, "grow_steps", ended)
    done = CliRunner().invoke(main, ["grow", "--image", "brick", "--out", str(tmp_path)])
    assert (done.exit_code, "Stopped after 25 of 4096" in done.output) == (130, True)
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["stopped"] == {"done": 25, "of": 4096}


def test_a_sample_is_cut_from_the_middle(brick):
    assert cut(brick).shape == (48, 48, 3)
    assert cut(nets.picture((40, 80)), 48).shape == (48, 48, 3)

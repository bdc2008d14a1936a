"""Is the patch where it is said to be, turned as it is said to be, does it work, and how often does it?"""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import small_nets as small
import torch
from click.testing import CliRunner
from PIL import Image

from engine import image
from engine.cli.main import main
from engine.data import sets
from engine.data.examples import examples
from engine.fool import adversarial_patch as patches
from engine.fool.adversarial import eight_bit
from engine.fool.adversarial_patch import (
    SIDE,
    Rates,
    adversarial_patch,
    adversarial_patch_steps,
    cut_out,
    disc,
    drawn,
    parted,
    pasted,
    printable,
    rates,
    rates_steps,
    shuffled,
    with_patch,
)
from engine.net import Net, softmax
from engine.pictures import samples
from engine.statistics import share_interval


def arrow() -> torch.Tensor:
    """(1, 1, 64, 64): the right half is white."""
    patch = torch.zeros(1, 1, SIDE, SIDE)
    patch[..., SIDE // 2 :] = 1
    return patch


# On a picture ---------------------------------------------------------------------------------------------------------


def test_it_lies_where_it_should_and_is_round():
    made = pasted(torch.full((1, 1, 60, 90), 0.5), torch.ones(1, 1, SIDE, SIDE), (20.0, 50.0, 30.0, 0.0))[0, 0]
    rows, cols = np.mgrid[:60, :90]
    away = np.hypot(rows + 0.5 - 20, cols + 0.5 - 50)
    np.testing.assert_allclose(made.numpy()[away < 13], 1, atol=1e-5)
    np.testing.assert_allclose(made.numpy()[away > 16], 0.5, atol=1e-5)


@pytest.mark.parametrize(("degrees", "towards"), [(0, (0, 1)), (90, (1, 0)), (-90, (-1, 0)), (180, (0, -1))])
def test_it_is_turned_clockwise(degrees, towards):
    made = pasted(torch.full((1, 1, 60, 90), 0.0), arrow(), (30.0, 40.0, 40.0, float(degrees)))[0, 0].numpy()
    rows, cols = np.mgrid[:60, :90] + 0.5
    mass = np.array([(made * (rows - 30)).sum(), (made * (cols - 40)).sum()]) / made.sum()
    np.testing.assert_allclose(mass / np.abs(mass).max(), towards, atol=0.05)


@pytest.mark.parametrize(("degrees", "towards"), [(0, (-1, 1)), (90, (1, 1)), (180, (1, -1)), (-90, (-1, -1))])
def test_it_is_turned_and_not_mirrored(degrees, towards):
    corner = arrow()
    corner[:, :, SIDE // 2 :] = 0  # the upper right quarter is white
    made = pasted(torch.full((1, 1, 60, 90), 0.0), corner, (30.0, 40.0, 40.0, float(degrees)))[0, 0].numpy()
    rows, cols = np.mgrid[:60, :90] + 0.5
    mass = np.array([(made * (rows - 30)).sum(), (made * (cols - 40)).sum()]) / made.sum()
    np.testing.assert_allclose(mass / np.abs(mass).max(), towards, atol=0.05)


def test_the_gradient_reaches_the_patch():
    patch = torch.zeros(1, 1, SIDE, SIDE, requires_grad=True)
    pasted(torch.zeros(1, 1, 40, 50), patch, (20.0, 25.0, 20.0, 10.0)).sum().backward()
    assert float(patch.grad.sum()) == pytest.approx(np.pi * 10**2, rel=0.1)  # the area that it covers


def test_where_it_is_reduced_its_pixels_are_averaged():
    """A checkerboard of single pixels becomes grey, and not what happens to lie at each fourth one."""
    checks = torch.from_numpy(np.indices((SIDE, SIDE)).sum(0) % 2).float()[None, None]
    made = pasted(torch.zeros(1, 1, 40, 40), checks, (20.0, 20.0, 16.0, 0.0))[0, 0].numpy()
    rows, cols = np.mgrid[:40, :40]
    np.testing.assert_allclose(made[np.hypot(rows + 0.5 - 20, cols + 0.5 - 20) < 6], 0.5, atol=0.02)


def test_places_lie_inside():
    random = np.random.default_rng(0)
    for _ in range(50):
        row, col, side, degrees = drawn(random, (30, 50), (0.3, 0.6), 20)
        assert side / 2 <= row <= 30 - side / 2
        assert side / 2 <= col <= 50 - side / 2
        assert 9 <= side <= 18
        assert abs(degrees) <= 20


def test_with_it_a_picture_is_one_of_8_bits_and_so_is_what_was_pasted(picture):
    patch = small.picture((SIDE, SIDE), seed=3)
    made = with_patch(picture, patch, (6.0, 8.0, 8.0, 30.0))
    np.testing.assert_array_equal(made, eight_bit(made))
    np.testing.assert_array_equal(made, with_patch(eight_bit(picture), eight_bit(patch), (6.0, 8.0, 8.0, 30.0)))
    np.testing.assert_array_equal(made[0, 0], eight_bit(picture)[0, 0])
    assert np.abs(made - picture)[4:8, 6:10].mean() > 0.05


# By itself ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_for_printing_it_is_large_smooth_and_round(channels):
    patch = small.picture((SIDE, SIDE), channels, seed=3)
    made = printable(patch)
    assert made.shape == (1200, 1200, 3)
    assert (made[:100, :100] == 1).all(), "white outside of the circle"
    assert made.min() >= 0
    assert made.max() <= 1
    back = image.resize(made, (SIDE, SIDE))
    inside = disc(SIDE) == 1
    assert np.corrcoef(back[inside].ravel(), np.broadcast_to(patch, back.shape)[inside].ravel())[0, 1] > 0.9
    jumps = np.abs(np.diff(made[400:800, 400:800], axis=1)).max()
    assert jumps < np.abs(np.diff(patch, axis=1)).max() / 4, "no blocks"


@pytest.mark.parametrize("channels", [1, 3])
def test_as_a_cut_out_it_is_transparent_outside_of_its_circle(channels):
    patch = small.picture((SIDE, SIDE), channels, seed=3)
    made = cut_out(patch)
    assert made.shape == (SIDE, SIDE, 4)
    assert made[0, 0, 3] == 0
    assert made[SIDE // 2, SIDE // 2, 3] == 1
    assert made[..., 3].mean() == pytest.approx(np.pi / 4, abs=0.03)
    np.testing.assert_array_equal(made[..., :3], np.broadcast_to(patch, (SIDE, SIDE, 3)))


def test_shuffled_it_has_the_same_pixels_elsewhere():
    patch = small.picture((SIDE, SIDE), seed=3)
    made, inside = shuffled(patch, 1), disc(SIDE) > 0
    as_set = lambda pixels: sorted(map(tuple, pixels[inside].tolist()))  # noqa: E731
    assert as_set(made) == as_set(patch)
    assert (made != patch)[inside].any(1).mean() > 0.9
    np.testing.assert_array_equal(made[~inside], patch[~inside])
    np.testing.assert_array_equal(made, shuffled(patch, 1))
    assert (made != shuffled(patch, 2)).any()


# Training -------------------------------------------------------------------------------------------------------------


def test_it_makes_the_class_likelier_where_it_was_not_trained():
    net = Net("exported_models/imagenette.onnx")
    views = np.stack([net.view(samples.load(name))[0] for name in ("china", "flower", "coffee")])
    patch = adversarial_patch(net, views[:2], 8, steps=20, share=(0.5, 0.6)).picture
    place = (90.0, 70.0, 90.0, 5.0)
    said = [softmax(net.scores(net.batch(x)))[0, 8] for x in (views[2], with_patch(views[2], patch, place))]
    assert said[1] > said[0] + 0.3


def test_on_digits_it_works_on_most_that_it_has_not_seen_and_its_pixels_do_not():
    net = Net("exported_models/digits.onnx")
    train, held = parted(sets.find("digits"), net, 9, pictures=64, held=100)
    patch = adversarial_patch(net, train, 9, steps=50, share=(0.5, 0.7)).picture
    with_it, mixed, without = rates(net, held, patch, 9, share=(0.5, 0.7)).table().share
    assert with_it > 0.6
    assert mixed < 0.3
    assert without < 0.1


def test_a_run_that_was_broken_ends_as_if_it_never_had(tiny, picture):
    knobs = {"steps": 5, "seed": 2}
    whole = adversarial_patch(tiny, picture[None], 1, **knobs)
    for step in adversarial_patch_steps(tiny, picture[None], 1, **knobs):
        if step.index == 2:
            break
    *_, end = adversarial_patch_steps(tiny, picture[None], 1, resume=step.result, **knobs)
    np.testing.assert_array_equal(end.result.pixels, whole.pixels)


def test_what_cannot_be_trained_is_said(tiny, picture):
    with pytest.raises(ValueError, match="at least one"):
        adversarial_patch(tiny, picture[:0, None], 1)
    for share in ((0.5, 0.3), (0.0, 0.5), (0.5, 1.5)):
        with pytest.raises(ValueError, match="share of the picture"):
            adversarial_patch(tiny, picture[None], 1, share=share)
        with pytest.raises(ValueError, match="share of the picture"):
            rates(tiny, picture[None], picture, 1, share=share)
    with pytest.raises(ValueError, match="at least one"):
        rates(tiny, picture[:0, None], picture, 1)


# Pictures of a set ----------------------------------------------------------------------------------------------------


def test_no_picture_is_in_both_and_none_is_of_the_class():
    net, data = Net("exported_models/digits.onnx"), sets.find("digits")
    train, held = parted(data, net, 4, pictures=30, held=20, seed=5)
    all_ = examples(data, net, 50, seed=5)
    others = all_.classes != 4
    np.testing.assert_array_equal(np.concatenate([train, held]), all_.pixels[others])
    assert len(train) == others[:30].sum() < 30
    np.testing.assert_array_equal(train, parted(data, net, 4, pictures=30, held=90, seed=5)[0])


def test_of_a_small_set_a_third_is_held_out():
    net = Net("exported_models/honest.onnx")
    data = sets.find("planted")
    train, held = parted(data, net, 0, pictures=1000, held=1000)
    assert len(train) + len(held) == (examples(data, net, 1000).classes != 0).sum()
    assert len(held) == pytest.approx(len(train) / 2, rel=0.2)


def test_a_set_of_nothing_but_the_class_is_refused(tiny, tmp_path):
    (tmp_path / "church").mkdir()
    for k in range(3):
        (tmp_path / "church" / f"{k}.png").write_bytes(image.to_png(small.picture(seed=k)))
    with pytest.raises(ValueError, match="not church already"):
        parted(sets.find(tmp_path), tiny, 1)
    train, held = parted(sets.find(tmp_path), tiny, 2)
    assert (len(train), len(held)) == (2, 1)


# How often ------------------------------------------------------------------------------------------------------------


def test_the_rates_are_what_the_network_says_of_each_picture(tiny):
    images = np.stack([small.picture(seed=k) for k in range(5)])
    patch, how = small.picture((SIDE, SIDE), seed=9), {"share": (0.4, 0.8), "turn": 50.0, "seed": 3}
    found = rates(tiny, images, patch, 1, **how)
    random = np.random.default_rng(3)
    for i, pixels in enumerate(images):
        place = drawn(random, tiny.input_size, (0.4, 0.8), 50.0)
        np.testing.assert_allclose(found.places[i], place)
        made = (with_patch(pixels, patch, place), with_patch(pixels, shuffled(patch, 3), place), eight_bit(pixels))
        said = softmax(tiny.scores(tiny.batch(*made)))
        np.testing.assert_array_equal(found.found[:, i], said.argmax(1))
        np.testing.assert_allclose(found.sure[:, i], said[:, 1], rtol=1e-4)


def test_rates_grow_picture_by_picture(tiny):
    images = np.stack([small.picture(seed=k) for k in range(40)])
    steps = list(rates_steps(tiny, images, small.picture((SIDE, SIDE)), 1))
    assert [step.index for step in steps] == [16, 32, 40]
    assert [step.result.table().of.tolist() for step in steps] == [[16] * 3, [32] * 3, [40] * 3]


def test_the_table_counts_and_has_wilsons_interval():
    found = np.array([[2, 2, 2, 1], [2, 0, 1, 1], [0, 1, -1, -1]])
    table = Rates(2, found, np.zeros((3, 4)), np.zeros((4, 4))).table()
    assert table[["taken", "of", "share"]].values.tolist() == [[3, 4, 0.75], [1, 4, 0.25], [0, 2, 0]]
    assert table[["low", "high"]].values.tolist() == [
        [*share_interval(3, 4)],
        [*share_interval(1, 4)],
        [*share_interval(0, 2)],
    ]


# The command ----------------------------------------------------------------------------------------------------------

WORDS = "--data digits --class 9 --pictures 20 --held 12 --steps 3 --share 0.4 0.6 --turn 10 --seed 4"


def called(out, *more: str):
    return CliRunner().invoke(main, ["patch", "--net", "digits", *WORDS.split(), "--out", str(out), *more])


def test_the_command_writes_the_engines_patch_and_rates(tmp_path):
    done = called(tmp_path, "--film")
    assert done.exit_code == 0, done.output
    net = Net("exported_models/digits.onnx")
    train, held = parted(sets.find("digits"), net, 9, pictures=20, held=12, seed=4)
    how = {"share": (0.4, 0.6), "turn": 10.0}
    climb = adversarial_patch(net, train, 9, steps=3, seed=4, **how)
    found = rates(net, held, climb.picture, 9, seed=5, **how)
    with np.load(tmp_path / "numbers.npz") as arrays:
        assert set(arrays.files) == {"pixels", "scores", "found", "sure", "places"}
        np.testing.assert_allclose(arrays["pixels"], climb.pixels, atol=1e-6)
        np.testing.assert_allclose(arrays["scores"], climb.scores, rtol=1e-5)
        np.testing.assert_array_equal(arrays["found"], found.found)
    assert np.asarray(Image.open(tmp_path / "patch.png")).shape == (SIDE, SIDE, 4)
    print_ = np.asarray(Image.open(tmp_path / "print.png")) / 255
    assert np.abs(print_ - printable(climb.picture)).max() <= 0.5 / 255 + 1e-6
    record = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert record["class"] == {"index": 9, "label": "9"}
    assert (record["data"]["trained_on"], record["data"]["measured_on"]) == (len(train), len(held))
    assert record["rates"] == found.table().to_dict("records")
    assert record["knobs"]["share"] == [0.4, 0.6]
    assert Image.open(io.BytesIO((tmp_path / "film.gif").read_bytes())).n_frames == 3
    assert f"{len(held)}" in done.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--class", "dog"), "no class 'dog'"),
        (("--share", "0.9", "0.1"), "share of the picture"),
        (("--data", "nowhere"), "no pictures called 'nowhere'"),
    ],
)
def test_what_the_command_refuses_it_says_in_one_sentence(words, message, tmp_path):
    done = called(tmp_path, *words)
    assert done.exit_code == 2
    assert message in done.output
    assert "Traceback" not in done.output
    assert len(done.output.splitlines()) <= 2, "the bar's name, and the sentence"


def test_a_command_that_is_stopped_keeps_the_patch(tmp_path, monkeypatch):
    steps = patches.adversarial_patch_steps

    def stopped(*arguments, **knobs):
        for step in steps(*arguments, **knobs):
            yield step
            if step.index == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(patches, "adversarial_patch_steps", stopped)
    done = called(tmp_path)
    assert done.exit_code == 130
    assert "Stopped after 2 of 3" in done.output
    record = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert record["stopped"] == {"done": 2, "of": 3}
    with np.load(tmp_path / "numbers.npz") as arrays:
        assert arrays["scores"].shape == (2, 4)

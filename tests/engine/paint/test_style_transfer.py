"""Style transfer: its three numbers, its sizes, colours, regions, and that a run is what it says."""

from __future__ import annotations

import contextlib
import re

import numpy as np
import pytest
import small_nets as nets

from engine import image, methods
from engine.net import Net
from engine.nets import available as networks
from engine.optimize.tiles import at_once
from engine.paint import style_transfer as style_transfer_module
from engine.paint.gram import features
from engine.paint.style_transfer import (
    as_grey,
    opened,
    recoloured,
    resemblance,
    style_transfer,
    style_transfer_steps,
    wanted,
)

CANVASES, MOVES = ("waves", "pixels"), ("adam", "lbfgs")


def stripes(angle: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    rows, cols = np.mgrid[: size[0], : size[1]]
    waves = [0.5 + 0.3 * np.sin((rows * angle + 2 * cols) / 3 + k) for k in range(3)]
    return np.stack(waves, 2).astype(np.float32)


PICTURE, STYLE = nets.picture((30, 40)), stripes(1)
KNOBS = {"size": 40, "steps": 6, "stages": 2}


def made(tiny: Net, style=STYLE, picture=PICTURE, **knobs) -> np.ndarray:
    return style_transfer(tiny, picture, style, **{**KNOBS, **knobs}).picture


@pytest.mark.parametrize("canvas", CANVASES)
@pytest.mark.parametrize("move", MOVES)
def test_the_score_rises(tiny, canvas, move):
    climb = style_transfer(tiny, PICTURE, STYLE, size=40, steps=40, stages=1, canvas=canvas, move=move)
    assert climb.picture.shape == (30, 40, 3)
    assert climb.scores[-5:].max() > 0.5 * climb.scores[0, 0], "less than half as far off"


def test_the_parts_add_up(tiny):
    names = {"layers": ["relu1"], "content_layer": "conv2"}
    seen = features(tiny, nets.picture((30, 40), seed=3), ["relu1", "conv2", "pool1"])

    def of(**more):
        return float(at_once(wanted(tiny, PICTURE, [STYLE], 40, **names, **more)).value(seen))

    only = of(content=0)
    likeness = float(at_once(resemblance(tiny, PICTURE, "conv2")).value(seen))
    assert likeness < 0
    assert of(content=0.3) == pytest.approx(only + 0.3 * likeness, rel=1e-4)
    own = float((features(tiny, PICTURE, ["pool1"])["pool1"] ** 2).mean())
    dream = 100 * 0.2 * float((seen["pool1"] ** 2).mean()) / own
    assert of(content=0, dream=0.2, dream_layer="pool1") == pytest.approx(only + dream, rel=1e-4)


def test_only_the_content_gives_the_picture_back(tiny):
    """Of its own features a picture is the picture that is nearest to them, so it stays."""
    climb = style_transfer(tiny, PICTURE, PICTURE, size=40, steps=4, stages=1, canvas="pixels", start="picture")
    np.testing.assert_allclose(climb.picture, PICTURE, atol=0.1)
    assert climb.scores[0] == pytest.approx(0, abs=1e-3)


def test_the_same_seed_gives_the_same_picture(tiny):
    first, again, other = (made(tiny, start="noise", seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


@pytest.mark.parametrize("break_at", [1, 2, 3, 5])
@pytest.mark.parametrize(
    "knobs", [{}, {"move": "lbfgs", "canvas": "pixels"}, {"colours": "luminance"}], ids=["waves", "pixels", "luminance"]
)
def test_a_run_that_is_taken_up_ends_as_if_it_had_not_stopped(tiny, break_at, knobs):
    """In a stage, and between two."""
    knobs = {"size": 128, "steps": 6, "stages": 2, **knobs}
    whole = list(style_transfer_steps(tiny, PICTURE, STYLE, **knobs))
    late = list(style_transfer_steps(tiny, PICTURE, STYLE, **knobs, resume=whole[break_at - 1].result))
    assert [step.index for step in late] == list(range(break_at + 1, 7))
    np.testing.assert_array_equal(late[-1].result.pixels, whole[-1].result.pixels)
    np.testing.assert_array_equal(late[-1].result.scores, whole[-1].result.scores)


def test_sizes_double_from_stage_to_stage(tiny):
    steps = list(style_transfer_steps(tiny, PICTURE, STYLE, size=256, steps=3, stages=3))
    assert [max(step.result.picture.shape) for step in steps] == [64, 128, 256]
    assert {step.total for step in steps} == {3}
    (only,) = style_transfer_steps(tiny, PICTURE, STYLE, size=256, steps=1, stages=3)
    assert only.result.picture.shape == (192, 256, 3), "a single step is of the last size"


def test_sides_that_a_net_cannot_take_are_rounded():
    """Its shortcut and its convolution come to maps of different sizes where a stride leaves a row over."""
    net = Net(networks.find("imagenette"))
    (step,) = style_transfer_steps(net, nets.picture((70, 99)), STYLE, size=99, steps=1, stages=1, style_size=0.7)
    assert step.result.picture.shape == (64, 96, 3)


def test_a_run_ends_when_nobody_asks_for_more(tiny):
    with contextlib.closing(style_transfer_steps(tiny, PICTURE, STYLE, size=40, steps=10**6)) as steps:
        assert next(steps).index == 1
    assert not list(steps)


# Several styles, and where --------------------------------------------------------------------------------------------


def test_all_weight_on_one_style_is_that_style(tiny):
    np.testing.assert_allclose(made(tiny, [STYLE, stripes(-3)], shares=(1, 0)), made(tiny, STYLE), atol=1e-4)
    assert np.abs(made(tiny, [STYLE, stripes(-3)]) - made(tiny, STYLE)).max() > 0.01


def test_a_mask_of_ones_is_none(tiny):
    np.testing.assert_allclose(made(tiny, regions=[np.ones((30, 40))]), made(tiny), atol=1e-4)


def test_layers_shares_and_regions_as_text(tiny, tmp_path):
    """As the command line has them."""
    left = np.zeros((30, 40), np.float32)
    left[:, :20] = 1
    file = tmp_path / "mask.png"
    file.write_bytes(image.to_png(1 - left))
    styles = [STYLE, stripes(-3)]
    found = made(tiny, styles, layers="relu1, conv2", shares="3,1", regions=f"left, {file}")
    expected = made(tiny, styles, layers=["relu1", "conv2"], shares=(3, 1), regions=[left, 1 - left])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - made(tiny, styles)).max() > 0.01


def test_the_command_line_takes_them():
    (method,) = (m for m in [methods._method(style_transfer_module, "style_transfer")] if m)
    kinds = {knob.name: knob.kind for knob in method.knobs}
    assert [kinds[name] for name in ("layers", "shares", "regions", "tile")] == [str, str, str, int]


def test_a_mask_keeps_the_style_to_its_place(tiny):
    mask = np.zeros((30, 40), np.float32)
    mask[:, :16] = 1
    found = made(tiny, regions=[mask], content=0, canvas="pixels", stages=1, move="lbfgs", steps=20)
    changed = np.abs(found - PICTURE).mean((0, 2))
    assert changed[:14].mean() > 10 * changed[24:].mean()


# Colours --------------------------------------------------------------------------------------------------------------


def test_luminance_keeps_the_colours(tiny):
    dull = 0.5 + 0.2 * (PICTURE - 0.5)  # with room for its colours at almost every luma
    found = made(tiny, picture=dull, colours="luminance", stages=1)
    chroma = [each - (each @ image.LUMA)[..., None] for each in (found, dull)]
    assert np.abs((found - dull) @ image.LUMA).max() > 0.01, "it is painted"
    inside = ((found > 0.01) & (found < 0.99)).all(2)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(chroma[0][inside], chroma[1][inside], atol=1e-3)


def test_luminance_has_the_luma_that_was_painted(tiny):
    climb = style_transfer(tiny, PICTURE, STYLE, size=40, steps=4, stages=1, canvas="pixels", colours="luminance")
    np.testing.assert_allclose(climb.picture @ image.LUMA, climb.x[0, 0].numpy(), atol=1e-4)


def test_a_style_takes_the_colours_of_a_picture():
    mild = 0.4 + 0.2 * PICTURE
    found = recoloured(nets.picture((40, 48), seed=5), mild)
    np.testing.assert_allclose(found.mean((0, 1)), mild.mean((0, 1)), atol=0.01)
    np.testing.assert_allclose(np.cov(found.reshape(-1, 3).T), np.cov(mild.reshape(-1, 3).T), atol=1e-3)
    grey = as_grey(STYLE, mild)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert grey.std() == pytest.approx((mild @ image.LUMA).std(), rel=0.05)
    assert np.isfinite(recoloured(np.full((20, 20, 3), 0.3, np.float32), mild)).all(), "one colour alone"


@pytest.mark.parametrize("colours", ["luminance", "histogram"])
def test_a_net_without_colours(tmp_path, colours):
    grey = nets.save(nets.tiny(shape=("batch", 1, *nets.SIZE)), tmp_path / "grey.onnx")
    assert made(grey, colours=colours).shape == (30, 40, 1)


# What cannot be -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"style": np.zeros((8, 8, 3), np.float32)}, "8 x 8 pixels is too small"),
        ({"style": np.zeros((1, 4000, 3), np.float32)}, "1 x 4000 pixels is too small"),
        ({"image": np.zeros((1, 4000, 3), np.float32)}, "1 x 4000 pixels is too narrow"),
        ({"regions": [np.ones((12, 12))]}, "A mask of 12 x 12 pixels does not fit a picture of 30 x 40: cut it"),
        ({"regions": [np.zeros((30, 40))]}, "Mask 1 covers nothing"),
        ({"regions": [np.ones((30, 40))] * 2}, "2 masks for 1 pictures"),
        ({"regions": "nowhere"}, "no mask 'nowhere': give a file, or one of everywhere, left"),
        ({"regions": "left,right"}, "2 masks for 1 pictures"),
        ({"shares": "much"}, "numbers with commas between, like 0.7,0.3, not 'much'"),
        ({"shares": "1,1"}, "The 1 weights"),
        ({"layers": "relu1,nowhere"}, "no layer 'nowhere'"),
        ({"tile": 0}, "by tiles of 0"),
        ({"layers": ["nowhere"]}, "no layer 'nowhere'"),
        ({"content_layer": "nowhere"}, "no layer 'nowhere'"),
        ({"content_layer": "logits"}, "no rows and columns"),
        ({"shares": (0.0,)}, "one of them above 0"),
        ({"style": []}, "at least one picture"),
        ({"colours": "pink"}, "'pink' is none of"),
        ({"start": "anywhere"}, "'anywhere' is none of"),
        ({"canvas": "oil"}, "not as 'oil'"),
        ({"move": "crawl"}, "no move 'crawl'"),
        ({"size": 10**5}, "100000 pixels cannot be painted"),
        ({"stages": 0}, "at least one stage"),
        ({"content": -1.0}, "Weights have to be 0 or more"),
        ({"style_size": 99.0}, "style's size from 0.05"),
    ],
)
def test_what_cannot_be_painted_is_refused_in_one_sentence(tiny, how, message):
    with pytest.raises(ValueError, match=message) as error:
        next(style_transfer_steps(tiny, **{"image": PICTURE, "style": STYLE, **KNOBS, **how}))
    assert re.fullmatch(r"[^\n]+\.", str(error.value))


def test_styles_by_name(tmp_path):
    file = tmp_path / "own.png"
    file.write_bytes(image.to_png(STYLE))
    first, second = opened(f"brick, {file}")
    assert first.shape == (512, 512, 3)
    np.testing.assert_allclose(second, STYLE, atol=0.003)

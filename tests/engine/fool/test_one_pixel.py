"""Does it change no more pixels than asked, find the best one where that can be seen, and never ask for a gradient?"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import small_nets as nets
from click.testing import CliRunner
from test_incremental import made

from engine.cli.main import main as engine
from engine.data import sets
from engine.data.examples import examples
from engine.fool.adversarial import eight_bit
from engine.fool.one_pixel import named, one_pixel, one_pixel_steps, painted, rate, success, success_steps
from engine.image import load, to_png
from engine.incremental import parts
from engine.net import Net, softmax
from engine.nets.folder import PROJECT
from engine.statistics import share_interval
from engine.step import last


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Net:
    """Class 1 is ahead by how bright one pixel's green is, at (7, 3), and nothing else counts."""
    weight = np.zeros((2, 3, *nets.SIZE))
    weight[1, 1, 7, 3] = 1.0
    about = nets.Metadata(labels=("a", "b"), input_size=nets.SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    return nets.save(
        nets.linear(weight, np.array([0.7, 0.0]), about=about), tmp_path_factory.mktemp("nets") / "one.onnx"
    )


def test_the_pixel_that_counts_is_found(watched):
    dark = np.zeros((*nets.SIZE, 3), np.float32)
    found = one_pixel(watched, dark, 1, aim="toward", population=300, steps=60)
    assert found.fooled
    assert found.places.tolist() == [[7, 3]]
    assert found.colours[0, 1] > 0.7


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("aim", ["away", "toward"])
def test_no_more_pixels_change_than_asked(tiny, picture, count, aim):
    for step in one_pixel_steps(tiny, picture, 2, count=count, population=20, steps=5, aim=aim):
        found = step.result
        changed = (found.pixels != eight_bit(picture)).any(2)
        assert changed.sum() <= count
        again = painted(eight_bit(picture), found.places[None], found.colours[None])[0]
        np.testing.assert_array_equal(again, found.pixels)
        np.testing.assert_array_equal(found.pixels, eight_bit(found.pixels))
        said = softmax(tiny.scores(tiny.batch(found.pixels)))[0, 2]
        assert found.probability == pytest.approx(float(said), rel=1e-4)


def test_generations_never_get_worse(tiny, picture):
    path = one_pixel(tiny, picture, 0, population=30, steps=12).path
    assert (np.diff(path) <= 1e-7).all()


def test_what_is_saved_is_what_was_found(tiny, picture):
    for aim in ("away", "toward"):
        found = one_pixel(tiny, picture, 3, aim=aim, population=20, steps=5)
        back = load(to_png(found.picture))
        np.testing.assert_array_equal(back, found.pixels)
        said = softmax(tiny.scores(tiny.batch(back)))[0]
        assert said[3] == pytest.approx(found.probability, rel=1e-5)
        assert found.fooled == ((said.argmax() == 3) == (aim == "toward"))


@pytest.mark.parametrize("stop", [1, 4])
def test_a_run_that_goes_on_ends_as_if_it_had_not_stopped(tiny, picture, stop):
    knobs = {"aim": "toward", "count": 2, "population": 10, "steps": 7, "seed": 3}
    whole = [step.result for step in one_pixel_steps(tiny, picture, 3, **knobs)]
    assert len(whole) == 7, "it is not reached, so that there is something to go on with"
    rest = list(one_pixel_steps(tiny, picture, 3, resume=whole[stop - 1], **knobs))
    assert [step.index for step in rest] == list(range(stop + 1, 8))
    for name in ("pixels", "places", "colours", "path", "genes", "fitness"):
        np.testing.assert_array_equal(getattr(rest[-1].result, name), getattr(whole[-1], name), err_msg=name)


def test_seeds_differ_and_repeat(tiny, picture):
    one, again, other = (one_pixel(tiny, picture, 3, aim="toward", population=9, steps=3, seed=s) for s in (0, 0, 1))
    np.testing.assert_array_equal(one.genes, again.genes)
    assert (one.genes != other.genes).any()


def test_fitness_is_what_the_network_says_of_each_candidate(tiny, picture):
    found = one_pixel(tiny, picture, 3, aim="toward", count=2, population=9, steps=4)
    places = np.floor(found.genes[..., :2]).astype(int)
    pixels = painted(eight_bit(picture), places, eight_bit(found.genes[..., 2:]))
    said = softmax(tiny.scores(tiny.batch(*pixels)))[:, 3]
    np.testing.assert_allclose(found.fitness, said, rtol=1e-5)
    assert found.probability == pytest.approx(said.max(), rel=1e-5)


@pytest.mark.parametrize("kind", ["a row", "residual"])
def test_a_large_picture_is_asked_by_parts_and_the_same_is_found(kind, tmp_path, monkeypatch):
    net = made(kind, tmp_path)
    picture = nets.picture(net.input_size, seed=4)
    asked = []
    activations = Net.activations
    monkeypatch.setattr(
        Net, "activations", lambda self, batch, names: asked.append(len(batch)) or activations(self, batch, names)
    )
    by_parts = one_pixel(net, picture, 2, aim="toward", population=30, steps=6)
    assert set(asked) == {1}, "as a whole, only the best of each generation"
    monkeypatch.setattr(parts, "planned", lambda *args, **knobs: None)
    parts._known.clear()
    whole = one_pixel(net, picture, 2, aim="toward", population=30, steps=6)
    assert max(asked) == 30
    np.testing.assert_array_equal(by_parts.pixels, whole.pixels)
    np.testing.assert_allclose(by_parts.path, whole.path, rtol=1e-5)


def test_a_black_box_never_touches_the_twin(tiny, picture, tmp_path, monkeypatch):
    def touched(self):
        raise AssertionError("the twin was asked for")

    monkeypatch.setattr(Net, "twin", property(touched))
    large = made("a row", tmp_path)
    for net, image in ((tiny, picture), (large, nets.picture(large.input_size))):
        for count in (1, 2):
            one_pixel(net, image, 1, aim="toward", count=count, population=10, steps=2)
    success(tiny, picture[None], [1], population=5, steps=2)


def test_a_black_box_does_without_torch():
    """In a fresh process: here, other tests have imported it. On a GPU torch holds what changes in its memory."""
    script = """
import sys
from engine.nets import available; from engine.pictures import samples
from engine.net import Net
from engine.fool.one_pixel import one_pixel, success
net = Net(available.find("digits"))
pixels, _ = net.view(samples.load("digit-3"))
one_pixel(net, pixels, 3, population=5, steps=2)
success(net, pixels[None], [3], population=5, steps=2)
print(sorted({"torch", "streamlit"} & set(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout.strip() == "[]", found.stderr


def test_what_cannot_be_asked_is_said(tiny, picture):
    for knobs in ({"count": 0}, {"count": 12 * 16 + 1}, {"population": 3}, {"aim": "up"}):
        with pytest.raises(ValueError, match=r"\.$"):
            one_pixel(tiny, picture, 1, **knobs)


# How often does it succeed? -------------------------------------------------------------------------------------------

KNOBS = {"population": 40, "steps": 6, "seed": 5}


@pytest.fixture
def several(watched) -> tuple[np.ndarray, list[int]]:
    """Pictures that the watched network takes for class 0, some by a hair; and what they are, the last one not that."""
    images = np.zeros((5, *nets.SIZE, 3), np.float32)
    images[:, 7, 3, 1] = (0, 0.69, 0.2, 0.69, 0.1)
    return images, [0, 0, 0, 0, 1]


def test_success_is_one_pixel_on_each_picture_that_is_right(watched, several):
    images, classes = several
    table = success(watched, images, classes, **KNOBS)
    assert table.picture.tolist() == [0, 1, 2, 3, 4]
    assert table["class"].tolist() == classes
    assert table.right.tolist() == [True] * 4 + [False]
    assert set(table.fooled[:4]) == {True, False}, "of both, there is something to see"
    for number in range(4):
        row = table.iloc[number]
        found = one_pixel(watched, images[number], 0, population=40, steps=6, seed=5 + number)
        assert (row["row"], row.col) == tuple(found.places[0])
        assert (row.fooled, row.generations) == (found.fooled, len(found.path))
        assert row.after == pytest.approx(found.probability)
        said = softmax(watched.scores(watched.batch(eight_bit(images[number]))))[0]
        assert row.before == pytest.approx(float(said[0]))
        assert row.taken_for == int(found.fooled), "of two classes the other one"
    wrong = table.iloc[4]
    assert (wrong.fooled, wrong["row"], wrong.col, wrong.generations, wrong.taken_for) == (False, -1, -1, 0, 0)
    assert wrong.before == wrong.after


def test_the_rate_counts_only_those_that_were_right():
    table = pd.DataFrame({"right": [True, True, True, False], "fooled": [True, False, False, False]})
    found = rate(table)
    assert (found["pictures"], found["right"], found["fooled"]) == (4, 3, 1)
    assert found["rate"] == pytest.approx(1 / 3)
    assert (found["low"], found["high"]) == share_interval(1, 3)
    assert rate(pd.DataFrame()) == {"pictures": 0, "right": 0, "fooled": 0, "rate": 0.0, "low": 0.0, "high": 1.0}


def test_steps_grow_picture_by_picture_and_can_be_taken_up(watched, several):
    images, classes = several
    steps = list(success_steps(watched, images, classes, **KNOBS))
    assert {step.total for step in steps} == {5 * 6}
    assert [step.index for step in steps] == sorted({step.index for step in steps})
    assert steps[-1].index == steps[-1].total
    assert [len(step.result) for step in steps] == [step.index // 6 for step in steps]
    broken_off = next(step.result for step in steps if len(step.result) == 2)
    rest = last(success_steps(watched, images, classes, resume=broken_off, **KNOBS))
    pd.testing.assert_frame_equal(rest, steps[-1].result)


def test_pictures_without_classes_are_refused(tiny, picture):
    for images, classes in ((picture[None], []), (picture[None][:0], [])):
        with pytest.raises(ValueError, match=r"\.$"):
            success(tiny, images, classes)


def test_the_command_writes_the_pictures_and_says_the_rate(tmp_path):
    words = ["one-pixel-rate", "--net", "digits", "--data", "digits", "--pictures", "4", "--count", "3"]
    words += ["--population", "8", "--steps", "2", "--seed", "1", "--out", str(tmp_path)]
    outcome = CliRunner().invoke(engine, words, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    from engine.nets import available as known

    net, data = Net(known.find("digits")), sets.find("digits")
    drawn = examples(data, net, 4, seed=1)
    table = success(net, drawn.pixels, drawn.classes, count=3, population=8, steps=2, seed=1)
    written = named(table, net, data, drawn)
    assert (tmp_path / "pictures.csv").read_text("utf-8") == written.to_csv(index=False)
    assert written.picture.tolist() == drawn.rows.tolist()
    assert written.label.tolist() == [net.labels[k] for k in drawn.classes]
    found = rate(table)
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["facts"] == pytest.approx(found)
    said = f"{found['rate']:.1%} (95 % interval: {found['low']:.1%} to {found['high']:.1%}): "
    assert f"{said}{found['fooled']} fooled of {found['right']} that digits has right, of 4 pictures" in outcome.output


def test_the_command_refuses_what_it_cannot_do(tmp_path):
    start = ["one-pixel-rate", "--net", "digits", "--out", str(tmp_path)]
    bad = ["--data nowhere-at-all", "--data digits --population 2", "--data digits --count 0"]
    for more in map(str.split, bad):
        outcome = CliRunner().invoke(engine, [*start, *more])
        assert outcome.exit_code == 2, outcome.output
    outcome = CliRunner().invoke(engine, [*start, "--data", "digits", "--pictures", "1", "--count", "5000"])
    assert outcome.exit_code == 2
    assert "at most all" in outcome.output

"""Patch: is what one sees and takes home the engine's patch, does it lie where one puts it, and are its rates true?"""

from __future__ import annotations

import io
import json
import re
import time

import numpy as np
import pandas as pd
import pytest
import small_nets as small
from click.testing import CliRunner
from PIL import Image
from streamlit.testing.v1 import AppTest
from test_pages import (  # noqa: F401  (home is a fixture)
    MAIN,
    PATIENCE,
    PHOTO,
    charts,
    check,
    chosen,
    fine,
    home,
    opened,
    run,
    scene,
    shown,
    tables,
    uploaded,
)

from engine import image
from engine.cli.main import main as engine
from engine.data import sets
from engine.fool.adversarial_patch import adversarial_patch, cut_out, parted, printable, rates, with_patch
from engine.fool.lookalikes import lookalikes
from engine.fool.survival import survival
from engine.net import softmax
from ui.jobs import line

LINK = {"net": "digits", "toward": "8", "steps": 4, "trained": 12, "held": 9, "seed": 5}
LINK |= {"patch_from_small": 0.4, "patch_to_small": 0.6}
HOW = {"steps": 4, "share": (0.4, 0.6), "turn": 22.5, "seed": 5}


def expected(at: AppTest):
    """The engine's (climb, rates) of LINK."""
    net = scene(at).net
    train, test = parted(sets.find("digits"), net, 8, pictures=12, held=9, seed=5)
    climb = adversarial_patch(net, train, 8, **HOW)
    return climb, rates(net, test, climb.picture, 8, share=(0.4, 0.6), seed=6)


def bars(at: AppTest) -> list[dict[str, list]]:
    """The charts of likeliest classes: with the patch, and without."""
    return [table for chart in charts(at) for table in tables(chart) if {"class", "logit"} <= set(table)]


def test_the_downloads_are_the_engines(given):
    at = opened("patch", **LINK)
    assert fine(at)
    climb, found = expected(at)
    with np.load(io.BytesIO(given["patch.npz"])) as arrays:
        np.testing.assert_allclose(arrays["pixels"], climb.pixels, atol=1e-5)
        np.testing.assert_allclose(arrays["scores"], climb.scores, rtol=1e-4)
        np.testing.assert_array_equal(arrays["found"], found.found)
        np.testing.assert_allclose(arrays["places"], found.places)
    for name, pixels in (("patch.png", cut_out(climb.picture)), ("print.png", printable(climb.picture))):
        saved = np.asarray(Image.open(io.BytesIO(given[name]))) / 255
        assert saved.shape == pixels.shape
        assert np.abs(saved - pixels).max() < 0.01
    assert Image.open(io.BytesIO(given["print.png"])).size == (1200, 1200)
    recipe = json.loads(Image.open(io.BytesIO(given["patch.png"])).text["recipe"])
    assert (recipe["method"], recipe["class"], recipe["steps_done"]) == ("patch", 8, 4)
    table = pd.read_csv(io.BytesIO(given["rates.csv"]))
    pd.testing.assert_frame_equal(table, found.table())
    assert Image.open(io.BytesIO(given["patch.gif"])).n_frames == 4


def test_python_and_the_command_line_give_the_numbers_of_the_page(monkeypatch, tmp_path):
    found = shown(monkeypatch, "patch", LINK)
    check(found, tmp_path)
    assert "--share 0.4 0.6" in found.shell


def test_the_pictures_downloads_are_the_commands(given, tmp_path):
    at = opened("patch", **LINK)
    (words,) = [each.value for each in at.code if each.language == "bash"]
    words = words.removeprefix("python -m engine ").replace("result/", str(tmp_path)).split()
    assert CliRunner().invoke(engine, words).exit_code == 0
    for name in ("patch.png", "print.png"):
        mine, theirs = (np.asarray(Image.open(source)) for source in (io.BytesIO(given[name]), tmp_path / name))
        assert np.abs(mine.astype(int) - theirs).max() <= 1
    assert given["rates.csv"] == (tmp_path / "rates.csv").read_bytes()


def test_it_lies_where_the_sliders_say(given):
    where = {"patch_row": 9, "patch_col": 20, "patch_size_small": 0.55, "patch_turn": 40}
    at = opened("patch", **LINK, **where)
    assert fine(at)
    assert {key: chosen(at, key) for key in where} == where
    net, pixels = scene(at).net, scene(at).pixels
    patch = expected(at)[0].picture
    made = with_patch(pixels, patch, (9.5, 20.5, 0.55 * 32, 40.0))
    assert np.abs(image.load(given["patched.png"])[..., :1] - made).max() <= 1.01 / 255
    with_it, without = bars(at)
    said = softmax(net.scores(net.batch(image.load(given["patched.png"])[..., :1])))[0]
    assert with_it["probability"][0] == pytest.approx(said.max(), abs=1e-3)
    assert without["class"][0] == scene(at).class_name
    table = pd.read_csv(io.BytesIO(given["survival.csv"]))
    again = survival(net, image.load(given["patched.png"])[..., :1])
    np.testing.assert_allclose(table.probability, again.probability, atol=1e-4)


def test_the_map_of_places_is_the_engines():
    at = opened("patch", **LINK, patch_size_small=0.5)
    assert fine(at)
    climb, _ = expected(at)
    given = scene(at)
    found = lookalikes(given.net, given.pixels, 8, cut_out(climb.picture), share=0.5, grid=16)
    seen = [table for chart in charts(at) for table in tables(chart) if {"row", "col", "probability"} <= set(table)]
    for wanted in (found.map, found.hidden):
        assert any(
            len(table["probability"]) == wanted.size and np.allclose(table["probability"], wanted.ravel(), atol=1e-4)
            for table in seen
        )
    assert any(f"{(found.found == 8).mean():.0%} of the places" in caption.value for caption in at.caption)


def test_moving_it_trains_nothing_anew(given):
    at = opened("patch", **LINK)
    first, queue = given["patched.png"], line.of(scene(at).net.engine)
    before = [key for key in queue.jobs if key[1] == "patch"]
    at.session_state["patch_row"] = 3  # as a click does, too: see test_page_patch_clicks.py
    assert fine(run(at))
    assert [key for key in queue.jobs if key[1] == "patch"] == before
    assert given["patched.png"] != first


def test_another_picture_wears_the_same_patch(given):
    at = opened("patch", **LINK)
    patch = given["patch.npz"]
    at.selectbox(key="image").set_value("digit-7")
    assert fine(run(at))
    with np.load(io.BytesIO(patch)) as old, np.load(io.BytesIO(given["patch.npz"])) as new:
        np.testing.assert_array_equal(old["pixels"], new["pixels"])


def test_its_rates_stand_in_words_with_their_interval():
    at = opened("patch", **LINK)
    best, mixed, bare = expected(at)[1].table().itertuples(index=False)
    (told,) = [each.value for each in at.markdown if each.value.startswith("Of **")]
    assert f"Of **{best.of}** pictures" in told
    assert f"**{best.taken}** ({best.share:.0%}, interval {best.low:.0%} to {best.high:.0%})" in told
    assert f"shuffled: {mixed.taken}; with nothing on them: {bare.taken}" in told
    assert not any("crops of few photographs" in each.value for each in at.caption)


def test_a_link_restores_its_state():
    link = {**LINK, "turned": 40.0, "patch_row": 3, "patch_col": 4, "patch_size_small": 0.5, "patch_turn": -90}
    at = opened("patch", **link)
    assert fine(at)
    assert {key: chosen(at, key) for key in link} == link


def test_a_cancelled_run_keeps_its_patch_and_goes_on(given):
    at = AppTest.from_file(str(MAIN), default_timeout=PATIENCE)
    at.switch_page("../pages/fool/patch.py")
    at.query_params = {key: str(value) for key, value in {**LINK, "steps": 500}.items()}
    at.run()
    queue = line.of("CPU")
    (job,) = [each for each in queue.jobs.values() if each.key[1] == "patch" and each.active]
    end = time.monotonic() + PATIENCE
    while job.step is None and time.monotonic() < end:
        time.sleep(0.01)
    at.button(key="cancel_patch").click()
    at = run(at)
    assert fine(at)
    assert job.state == "cancelled"
    assert 0 < job.step.index < 500
    with np.load(io.BytesIO(given["patch.npz"])) as arrays:
        assert len(arrays["scores"]) == job.step.index
    assert at.button(key="continue_patch")
    assert "patched.png" in given


def test_a_class_that_the_picture_has_already_is_said():
    at = opened("patch", **{**LINK, "toward": "3"})
    assert fine(at)
    assert any("taken for 3 without a patch" in each.value for each in at.info)


# Bad input ------------------------------------------------------------------------------------------------------------


def with_data(at: AppTest, path) -> AppTest:
    at.selectbox(key="data").set_value("folder or file")
    run(at)
    at.text_input(key="path").set_value(str(path))
    return run(at)


def said(at: AppTest) -> str:
    assert not at.exception
    (error,) = at.error
    assert re.fullmatch(r"[A-Z][^\n]*\.", error.value)
    return error.value


def test_pictures_that_are_of_no_use_get_one_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    one = tmp_path / "one" / "3"
    one.mkdir(parents=True)
    (one / "a.png").write_bytes(image.to_png(PHOTO))
    at = opened("patch", **LINK)
    assert "no picture in the folder empty" in said(with_data(at, tmp_path / "empty"))
    assert "could be read" in said(with_data(at, tmp_path / "broken"))
    assert "too few pictures" in said(with_data(at, tmp_path / "one"))
    assert "no pictures called" in said(with_data(at, tmp_path / "nowhere"))
    assert fine(with_data(at, ""))
    assert any("Type in" in each.value for each in at.info)


def test_a_set_of_ones_own(tmp_path, given):
    for k in range(6):
        (tmp_path / str(k % 2)).mkdir(exist_ok=True)
        (tmp_path / str(k % 2) / f"{k}.png").write_bytes(image.to_png(small.picture((20, 24), seed=k)))
    at = with_data(opened("patch", **LINK), tmp_path)
    assert fine(at)
    net = scene(at).net
    train, _ = parted(sets.find(tmp_path), net, 8, pictures=12, held=9, seed=5)
    assert len(train) == 4
    with np.load(io.BytesIO(given["patch.npz"])) as arrays:
        np.testing.assert_allclose(arrays["pixels"], adversarial_patch(net, train, 8, **HOW).pixels, atol=1e-5)
    assert any(f"--data {tmp_path}" in each.value for each in at.code)


@pytest.mark.parametrize("data", [b"no picture", image.to_png(PHOTO)[:150]], ids=["text", "cut short"])
def test_an_upload_that_is_no_picture(data):
    at = uploaded(data, "patch", **LINK)
    said(at)
    assert charts(at), "and the page goes on with the picture that suits"

"""Elephant in the room: are the maps the engine's, can one look at each place, and is what they come to told?"""

from __future__ import annotations

import io
import re

import numpy as np
import pandas as pd
import pytest
import small_nets as small
from test_pages import PHOTO, charts, check, chosen, fine, home, opened, run, scene, shown, tables, uploaded  # noqa: F401

from engine import image
from engine.fool.adversarial import eight_bit
from engine.fool.lookalikes import cut_out, lookalikes, pasted, places, summed
from engine.fool.survival import survival
from engine.net import softmax
from engine.pictures import samples

LINK = {"net": "digits", "image": "digit-3", "class": "3", "other": "digit-8", "grid": 6, "other_size": 0.6}
WHOLE = "the whole picture"


def expected(at, **knobs):
    return lookalikes(scene(at).net, scene(at).pixels, 3, **{"other": "digit-8", "share": 0.6, "grid": 6, **knobs})


def maps(at) -> list[dict[str, list]]:
    return [table for chart in charts(at) for table in tables(chart) if {"row", "col"} <= set(table)]


@pytest.mark.parametrize(("link", "cut"), [({}, "thing"), ({"cut_grey": WHOLE}, "whole")], ids=["thing", "whole"])
def test_the_numbers_are_the_engines(link, cut, given):
    at = opened("lookalikes", **LINK, **link)
    assert fine(at)
    found = expected(at, cut=cut)
    with np.load(io.BytesIO(given["lookalikes.npz"])) as arrays:
        assert set(arrays.files) == {"map", "found", "hidden", "hidden_found", "rows", "cols", "size"}
        for name in arrays.files:
            np.testing.assert_allclose(arrays[name], getattr(found, name), rtol=1e-4, err_msg=name)
    likely, winners = maps(at)
    np.testing.assert_allclose(np.reshape(likely["probability"], (6, 6)), found.map, rtol=1e-3)
    names = scene(at).net.labels
    assert winners["kind"] == [names[k] for k in found.found.ravel()]


@pytest.mark.parametrize(
    "link",
    [
        {},
        {"cut_grey": WHOLE},
        {"net": "honest", "image": "planted-disc-square", "class": "disc", "other": "planted-square"},
    ],
    ids=["thing", "whole", "colours"],
)
def test_python_and_the_command_line_give_the_numbers_of_the_page(link, monkeypatch, tmp_path):
    check(shown(monkeypatch, "lookalikes", {**LINK, **link}), tmp_path)


def test_a_place_shows_what_the_network_sees_there(given):
    at = opened("lookalikes", **LINK, at="1, 4")
    assert fine(at)
    net, pixels = scene(at).net, scene(at).pixels
    rows, cols = places(net.input_size, 6)
    made = eight_bit(pasted(pixels, cut_out("digit-8", net, 0.6, cut="thing"), (rows[1], cols[4])))
    np.testing.assert_allclose(image.load(given["pasted.png"])[..., :1], made, atol=1e-6)
    (bars,) = [table for chart in charts(at) for table in tables(chart) if {"class", "logit"} <= set(table)]
    said = softmax(net.scores(net.batch(made)))[0]
    assert bars["class"] == [net.labels[k] for k in (-said).argsort()[:5]]
    np.testing.assert_allclose(bars["probability"], np.sort(said)[::-1][:5], atol=1e-4)
    table = pd.read_csv(io.BytesIO(given["survival.csv"]))
    np.testing.assert_allclose(table.probability, survival(net, made).probability, atol=1e-5)


def test_at_first_it_is_the_place_that_costs_most(given):
    at = opened("lookalikes", **LINK)
    found = expected(at, cut="thing")
    first = given["pasted.png"]
    row, col = np.unravel_index(found.map.argmin(), found.map.shape)
    at.session_state["at"] = f"{row}, {col}"  # as a click does, too: see test_page_patch_clicks.py
    assert fine(run(at))
    assert given["pasted.png"] == first
    at.session_state["at"] = "0, 0" if (row, col) != (0, 0) else "5, 5"
    assert fine(run(at))
    assert given["pasted.png"] != first


@pytest.mark.parametrize("at_", ["9, 9", "here", "-1, 2"])
def test_a_place_that_is_none_is_said(at_):
    at = opened("lookalikes", **LINK, at=at_)
    assert fine(at)
    assert any("is no place here: rows are 0 to 5, columns 0 to 5" in each.value for each in at.caption)


def test_what_it_comes_to_is_told():
    at = opened("lookalikes", **LINK)
    come = summed(expected(at, cut="thing"))
    won = sum(come.others.values())
    assert won, "or else there is nothing to tell"
    (told,) = [each.value for each in at.markdown if each.value.startswith("Without it")]
    assert "is taken for **3**" in told
    assert f"another class wins at **{won} of 36** places" in told
    first = next(iter(come.others))
    assert f"{scene(at).net.labels[first]} at {come.others[first]}" in told
    assert f"does that at {come.hiding}." in told
    assert f"most at row {come.evidence[0]}, column {come.evidence[1]}." in told
    assert (f"At {come.clear} of the {won} places" in told) == bool(come.clear)


def test_where_nothing_changes_that_is_told():
    at = opened("lookalikes", **{**LINK, "other_size": 0.1})
    assert fine(at)
    (told,) = [each.value for each in at.markdown if each.value.startswith("Without it")]
    assert "stays so at all 36 places" in told


def test_many_classes_share_a_colour():
    """So that the legend can be read: the commonest have their own."""
    at = opened("lookalikes", net="imagenette", grid=3, other="brick", other_size=1.0)
    assert fine(at)
    *_, winners = maps(at)
    assert len(set(winners["kind"])) <= 9


def test_a_link_restores_its_state():
    link = {**LINK, "cut_grey": WHOLE, "opacity": 0.3, "at": "2, 3"}
    at = opened("lookalikes", **link)
    assert fine(at)
    assert {key: chosen(at, key) for key in link} == link


# The other picture ----------------------------------------------------------------------------------------------------


def other_of_mine(data: bytes):
    at = opened("lookalikes", **{**LINK, "other": "upload"})
    assert fine(at)
    (info,) = at.info
    assert "that is to be pasted" in info.value
    at.file_uploader(key="other_file").upload("mine.png", data, "image/png")
    return run(at)


def test_another_of_ones_own(given, tmp_path):
    data = image.to_png(PHOTO)
    at = other_of_mine(data)
    assert fine(at)
    found = expected(at, other=image.load(data), cut="thing")
    with np.load(io.BytesIO(given["lookalikes.npz"])) as arrays:
        np.testing.assert_allclose(arrays["map"], found.map, rtol=1e-4)
    assert sum("your-other.jpg" in each.value for each in at.code) == 2
    assert not at.info


@pytest.mark.parametrize("data", [b"no picture", image.to_png(PHOTO)[:150]], ids=["text", "cut short"])
def test_another_that_is_no_picture_gets_one_sentence(data):
    at = other_of_mine(data)
    assert not at.exception
    (error,) = at.error
    assert re.fullmatch(r"[A-Z][^\n]*\.", error.value)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 2)])
@pytest.mark.parametrize("cut", ["the thing in its middle", WHOLE])
def test_odd_pictures_are_pasted_too(shape, cut):
    link = {key: value for key, value in LINK.items() if key != "image"} | {"cut_grey": cut, "grid": 3}
    at = uploaded(image.to_png(small.picture(shape)), "lookalikes", **link)
    at.selectbox(key="other").set_value("upload")
    run(at)
    at.file_uploader(key="other_file").upload("mine.png", image.to_png(small.picture(shape, seed=3)), "image/png")
    assert fine(run(at))
    assert charts(at)


def test_the_others_are_the_samples():
    at = opened("lookalikes", **LINK)
    assert at.selectbox(key="other").options == [*samples.SAMPLES, "upload"]

"""Inversion: is what one sees, and takes home, what the engine found from noise?"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from test_pages import check, fine, home, opened, scene, shown  # noqa: F401

from engine.imagine.inversion import inversion, inversion_strip


def test_the_strip_is_the_engines(given):
    at = opened("inversion", net="digits", steps=3, count=3)
    assert fine(at)
    seen = scene(at)
    found = inversion_strip(seen.net, seen.pixels, steps=3, count=3)
    with np.load(io.BytesIO(given["inversion.npz"])) as arrays:
        np.testing.assert_allclose(arrays["pictures"], found.pictures, atol=1e-4)
        np.testing.assert_allclose(arrays["errors"], found.errors, rtol=1e-3)
    picture = Image.open(io.BytesIO(given["inversion.png"]))
    assert picture.size == (96, 32)
    assert "inversion_strip" in picture.info["recipe"]
    captions = [each.value for each in at.caption]
    assert all(f"relative feature error {away:.3f}" in captions for away in found.errors)
    assert Image.open(io.BytesIO(given["inversion.gif"])).n_frames == 9


@pytest.mark.parametrize(
    "link",
    [{}, {"layer": "relu1", "canvas": "pixels", "move": "Adam", "variation": 2.5, "alpha": 0.5, "seed": 3}],
    ids=["defaults", "others"],
)
def test_one_layer_is_the_engines(link, given):
    at = opened("inversion", net="digits", view="one layer", steps=4, **link)
    assert fine(at)
    seen = scene(at)
    found = inversion(seen.net, seen.pixels, **{"layer": "relu4", "steps": 4, **link})
    with np.load(io.BytesIO(given["inversion.npz"])) as arrays:
        np.testing.assert_allclose(arrays["pixels"], found.pixels, atol=1e-4)
    assert Image.open(io.BytesIO(given["inversion.png"])).size == (32, 32)
    assert any(each.label == "Relative feature error" for each in at.metric)


@pytest.mark.parametrize(
    "link",
    [{"count": 2}, {"view": "one layer", "layer": "relu2"}, {"view": "one layer", "layer": "logits", "move": "Adam"}],
    ids=["strip", "map", "logits"],
)
def test_python_and_the_command_line_give_the_numbers_of_the_page(link, monkeypatch, tmp_path):
    check(shown(monkeypatch, "inversion", {"net": "digits", "steps": 3, **link}), tmp_path)


def test_one_layer_is_a_click_away():
    at = opened("inversion", net="digits", steps=2)
    assert "view=one" in next(each.proto.query_string for each in at.get("page_link"))

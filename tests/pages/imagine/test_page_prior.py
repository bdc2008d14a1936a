"""Learned prior: is what one sees, and takes home, what the engine made through the decoder?"""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image
from test_page_maximize import metrics
from test_pages import charts, fine, home, opened, scene  # noqa: F401

from engine import image
from engine.imagine.decoder import decoded
from engine.imagine.maximize_code import maximize_code
from engine.net import softmax


def test_the_picture_and_its_number_are_the_engines(given):
    at = opened("prior", net="imagenette", steps=3, code_decay=0.05, code_smooth=0.5, **{"class": "church"})
    assert fine(at)
    seen = scene(at)
    found = maximize_code(seen.net, seen.pixels, 4, steps=3, decay=0.05, smooth=0.5)
    with np.load(io.BytesIO(given["prior.npz"])) as arrays:
        np.testing.assert_allclose(arrays["pixels"], found.pixels, atol=1e-4)
    back = image.load(given["prior.png"])
    wanted = softmax(seen.net.scores(seen.net.batch(back)))[0, 4]
    assert metrics(at)["Probability of “church”"] == f"{wanted:.1%}"
    recipe = json.loads(Image.open(io.BytesIO(given["prior.png"])).info["recipe"])
    assert (recipe["method"], recipe["steps_done"], recipe["decay"]) == ("maximize_code", 3, 0.05)
    assert Image.open(io.BytesIO(given["prior.gif"])).n_frames == 3


def test_your_picture_is_drawn_again_in_one_pass(given):
    at = opened("prior", net="imagenette", view="your picture, drawn again")
    assert fine(at)
    seen = scene(at)
    with np.load(io.BytesIO(given["drawn.npz"])) as arrays:
        np.testing.assert_allclose(arrays["drawn"], decoded(seen.net, seen.pixels), atol=1e-5)
    assert Image.open(io.BytesIO(given["drawn.png"])).size == (160, 160)


def test_another_network_borrows_the_decoder_and_says_so(given):
    at = opened("prior", net="clever_hans", steps=3)
    assert fine(at)
    assert any("clever_hans has no decoder of its own" in each.value for each in at.caption)
    assert Image.open(io.BytesIO(given["prior.png"])).size == (80, 64)

"""Maximize: is the number that is shown the saved file's, do presets bring their own knobs, is a layer shown?"""

from __future__ import annotations

import io
import json

import numpy as np
from PIL import Image
from test_pages import charts, chosen, fine, home, opened, run, scene  # noqa: F401

from engine import image
from engine.imagine.maximize import RECIPES, maximize
from engine.net import softmax
from engine.target import direction, measure, unit
from ui.jobs import line


def metrics(at) -> dict[str, str]:
    return {each.label: each.value for each in at.metric}


def test_the_probability_is_that_of_the_file_that_one_takes_home(given):
    at = opened("maximize", net="digits", steps=12, **{"class": "7"})
    assert fine(at)
    seen = scene(at)
    made = image.load(given["maximize.png"])[..., :1]
    probability = softmax(seen.net.scores(seen.net.batch(made)))[0, 7]
    assert metrics(at)["Probability of “7”"] == f"{probability:.1%}"
    expected = maximize(seen.net, seen.pixels, 7, steps=12).picture
    np.testing.assert_allclose(made, expected, atol=0.5 / 255 + 1e-4)
    recipe = json.loads(Image.open(io.BytesIO(given["maximize.png"])).info["recipe"])
    assert (recipe["steps"], recipe["steps_done"], recipe["preset"]) == (12, 12, "Lucid")
    assert Image.open(io.BytesIO(given["maximize.gif"])).n_frames == 12
    assert given["maximize.mp4"][4:8] == b"ftyp"


def test_a_units_number_is_measured_on_the_file_too(given):
    at = opened("maximize", net="digits", steps=6, about="unit", layer="relu2", unit=7, at="3, 12", start="picture")
    assert fine(at)
    seen = scene(at)
    made = image.load(given["maximize.png"])[..., :1]
    reached = measure(seen.net, seen.net.batch(made), unit(seen.net, "relu2", 7, 3, 12))[0]
    (value,) = metrics(at).values()
    assert value == f"{reached:.4g} activation"


def test_a_direction_of_several_channels_is_climbed(given):
    at = opened("maximize", net="digits", about="direction", layer="relu4", weights="3:1, 5:-2", steps=4)
    assert fine(at)
    seen = scene(at)
    found = maximize(seen.net, seen.pixels, direction(seen.net, "relu4", {3: 1.0, 5: -2.0}), steps=4)
    with np.load(io.BytesIO(given["maximize.npz"])) as arrays:
        np.testing.assert_allclose(arrays["pixels"], found.pixels, atol=1e-4)
    bad = opened("maximize", net="digits", about="direction", layer="relu4", weights="3:1, 500:-2", steps=4)
    assert [each.value for each in bad.error] == ["The layer has channels 0 to 63; choose among them."]


def test_another_preset_brings_its_own_knobs():
    at = opened("maximize", net="digits", steps=2, preset="Yosinski", rule_blur=2.5)
    assert fine(at)
    assert chosen(at, "rule_blur") == 2.5
    at.get_by_key("preset").set_value("Yosinski, sparse")
    assert fine(run(at))
    assert chosen(at, "rule_blur") == RECIPES["Yosinski, sparse"].blur
    at.get_by_key("preset").set_value("Lucid")
    assert fine(run(at))
    assert "rule_blur" not in {slider.key for slider in at.slider}, "waves are not blurred"
    assert chosen(at, "rule_jitter") == RECIPES["Lucid"].jitter


def test_all_channels_of_a_layer_are_sheets_of_tiles():
    at = opened("maximize", net="digits", steps=2, view="all channels of a layer", layer="relu2")
    assert fine(at)
    assert [chart.alt for chart in charts(at)][1:] == [
        f"Pictures that excite channels {first} to {first + 7} most; a click makes one in full." for first in (0, 8, 16)
    ]


def test_run_again_has_its_film_and_can_be_continued(given):
    at = opened("maximize", net="digits", steps=3, seed=4321)
    assert fine(at)
    first = given["maximize.gif"]
    at.button(key="again_maximize").click()
    assert fine(run(at))
    assert given["maximize.gif"] == first
    queue = line.of(scene(at).net.engine)
    (job,) = (job for job in queue.jobs.values() if job.key[1] == "maximize" and 4321 in job.key[2])
    assert job.resume is not None
    assert job.film.count == 3

"""One pixel: does the page show what the engine finds, mark the pixels where they are, and count the data set right?"""

from __future__ import annotations

import base64
import io

import numpy as np
import pandas as pd
import pytest
import small_nets as small
from click.testing import CliRunner
from PIL import Image
from test_pages import (  # noqa: F401
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
from engine.data.examples import examples
from engine.fool.adversarial import eight_bit
from engine.fool.one_pixel import named, one_pixel, rate, success
from engine.net import softmax
from ui.jobs import line

LINK = {"net": "digits", "population": 12, "steps": 3, "rated": 3}
KNOBS = {"population": 12, "steps": 3}


def metrics(at) -> dict[str, str]:
    return {each.label: each.value for each in at.metric}


def png(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)), np.float32)[..., None] / 255


def column(at, *names: str) -> list[dict]:
    """The tables of the charts that have these columns."""
    return [table for chart in charts(at) for table in tables(chart) if set(names) <= set(table)]


@pytest.mark.parametrize(
    ("link", "knobs"),
    [
        ({}, {}),
        ({"changed": 7, "seed": 4}, {"count": 7, "seed": 4}),
        ({"aim": "toward", "toward": "8", "changed": 2}, {"aim": "toward", "count": 2}),
    ],
    ids=["one", "few", "toward"],
)
def test_the_picture_and_what_is_said_of_it_are_the_engines(link, knobs, given):
    at = opened("one_pixel", **LINK, **link)
    assert fine(at)
    seen = scene(at)
    asked = 8 if "toward" in link else seen.class_index
    found = one_pixel(seen.net, seen.pixels, asked, **KNOBS, **knobs)
    back = png(given["one_pixel.png"])
    np.testing.assert_array_equal(back, found.pixels)
    original = eight_bit(seen.pixels)
    assert 1 <= (back != original).any(2).sum() <= link.get("changed", 1)
    after = softmax(seen.net.scores(seen.net.batch(back)))[0]
    said = metrics(at)
    assert said["Taken for, saved as PNG"] == seen.net.labels[after.argmax()]
    assert said[f"Probability of “{asked}”"] == f"{after[asked]:.1%}"
    with np.load(io.BytesIO(given["one_pixel.npz"])) as arrays:
        for name in ("pixels", "places", "colours", "path", "genes", "fitness"):
            np.testing.assert_allclose(arrays[name], getattr(found, name), rtol=1e-5, err_msg=name)
        np.testing.assert_array_equal(arrays["original"], original)
    assert Image.open(io.BytesIO(given["one_pixel.gif"])).n_frames >= 1
    assert given["survival.csv"].startswith(b"treatment,class,label,probability,p0")


def test_pixels_are_marked_where_they_are_and_the_curve_starts_at_the_picture():
    at = opened("one_pixel", **LINK, changed=2)
    seen = scene(at)
    found = one_pixel(seen.net, seen.pixels, seen.class_index, count=2, **KNOBS)
    around = column(at, "top", "left", "bottom", "right")[0]
    for i, j in found.places.tolist():
        assert any(
            top <= i < bottom and left <= j < right and bottom - top <= 3 and right - left <= 3
            for top, left, bottom, right in zip(*(around[k] for k in ("top", "left", "bottom", "right")), strict=True)
        )
    (curve,) = column(at, "generation", "best")
    assert curve["generation"] == [0, 1, 2, 3]
    before = softmax(seen.net.scores(seen.net.batch(eight_bit(seen.pixels))))[0, seen.class_index]
    np.testing.assert_allclose(curve["best"], [before, *found.path], atol=1e-5)
    i, j = found.places[0]
    was, now = (round(float(pixels[i, j, 0]) * 255) for pixels in (eight_bit(seen.pixels), found.pixels))
    assert any(f"Row {i}, column {j}: {was} became {now}." in each.value for each in at.caption)


@pytest.mark.parametrize("seed", range(4))
def test_what_is_seen_from_near_has_the_pixel_in_its_box(seed):
    at = opened("one_pixel", **LINK, seed=seed)
    seen = scene(at)
    found = one_pixel(seen.net, seen.pixels, seen.class_index, seed=seed, **KNOBS)
    _, before, after = column(at, "top", "left", "bottom", "right")[:3]
    urls = [table["url"][0] for table in column(at, "url")][1:3]
    for table, url, pixels in ((before, urls[0], eight_bit(seen.pixels)), (after, urls[1], found.pixels)):
        near = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))), np.float32) / 255
        times = near.shape[0] // 11
        assert near.shape[:2] == (11 * times, 11 * times), "eleven pixels a side, also at the edge"
        place = int(table["top"][0]), int(table["left"][0])
        assert (table["bottom"][0], table["right"][0]) == (place[0] + 1, place[1] + 1)
        i, j = (times * at + times // 2 for at in place)
        assert near[i, j, 0] == pytest.approx(pixels[tuple(found.places[0])][0], abs=0.003)


def test_an_attack_that_failed_is_not_called_a_success():
    at = opened("one_pixel", **LINK)
    assert fine(at)
    assert metrics(at)["Taken for, saved as PNG"] == scene(at).class_name
    assert any("still taken for" in each.value for each in at.info)
    assert set(at.dataframe[0].value["Fooled"]) == {"✗"}


def test_a_class_that_it_is_not_taken_for_is_said_to_be_none():
    at = opened("one_pixel", **LINK, **{"class": "8"})
    assert fine(at)
    assert any("choose that class" in each.value for each in at.info)


def test_a_single_pixel_can_be_enough(home, given):  # noqa: F811
    """Class a is ahead by as much as one pixel can give to b."""
    weight = np.zeros((2, 3, *small.SIZE))
    weight[1, :, 3:9, 2:12] = 1.0
    about = small.Metadata(labels=("a", "b"), input_size=small.SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    model = small.linear(weight, np.array([1.0, 0.0]), about=about)
    (home / "networks" / "edge.onnx").write_bytes(model.SerializeToString())
    at = uploaded(image.to_png(np.zeros((*small.SIZE, 3), np.float32)), "one_pixel", net="edge", **{"class": "a"})
    assert fine(at)
    said = metrics(at)
    assert said["Taken for, saved as PNG"] == "b"
    assert not at.info
    back = np.asarray(Image.open(io.BytesIO(given["one_pixel.png"])))
    assert (back > 0).any(2).sum() == 1
    assert at.dataframe[0].value["Fooled"][0] == "✓"


# How often ------------------------------------------------------------------------------------------------------------


def test_how_often_is_the_engines_and_the_commands(given, tmp_path):
    at = opened("one_pixel", **LINK, changed=4, seed=2)
    assert fine(at)
    net, data = scene(at).net, sets.find("digits")
    drawn = examples(data, net, 3, seed=2)
    table = success(net, drawn.pixels, drawn.classes, count=4, seed=2, **KNOBS)
    found = rate(table)
    assert metrics(at)["Fooled, of those that it has right"] == f"{found['rate']:.0%}"
    assert any(f"{found['fooled']} of {found['right']}." in each.value for each in at.caption)
    written = named(table, net, data, drawn)
    assert given["pictures.csv"].decode() == written.to_csv(index=False)
    (spots,) = column(at, "kind", "place")
    tried = written[written.right]
    assert spots["picture"] == tried.picture.tolist()
    np.testing.assert_allclose([spots["y"], spots["x"]], [tried["row"] + 0.5, tried.col + 0.5])
    listed = next(each.value for each in at.dataframe if "right before" in each.value)
    assert listed["picture"].tolist() == written.picture.tolist()
    assert listed["is"].tolist() == written.label.tolist()
    words = next(each.value for each in at.caption if "one-pixel-rate" in each.value).split("`")[1].split()
    assert words[:4] == ["python", "-m", "engine", "one-pixel-rate"]
    outcome = CliRunner().invoke(engine, [*words[3:-1], str(tmp_path)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "pictures.csv").read_text("utf-8") == given["pictures.csv"].decode()


def test_pictures_that_are_wrong_from_the_start_are_said_not_to_count(monkeypatch):
    rows = pd.DataFrame({"right": [True, True, False], "fooled": [True, False, False]})
    rows = rows.assign(picture=range(3), row=1, col=2, before=0.5, after=0.4, taken_for=1, generations=3, count=1)
    rows["class"] = 0

    def steps(net, images, classes, **knobs):
        from engine.step import Step

        yield Step(3, 3, rows)

    monkeypatch.setattr("engine.fool.one_pixel.success_steps", steps)
    at = opened("one_pixel", **LINK, seed=77)
    assert fine(at)
    assert metrics(at)["Fooled, of those that it has right"] == "50%"
    assert any("1 of 2. 1 more is wrong from the start and not counted." in each.value for each in at.caption)


def test_what_takes_long_waits_for_a_button(monkeypatch):
    at = opened("one_pixel", **{**LINK, "rated": 200, "population": 100, "changed": 3})
    assert fine(at)
    (button,) = (each for each in at.button if each.key == "rates_start")
    assert any("**200 pictures** of digits, which takes at most about" in each.value for each in at.markdown)
    assert "Fooled, of those that it has right" not in metrics(at)
    asked = []

    def steps(net, images, classes, **knobs):
        asked.append((len(images), knobs))
        return iter(())

    monkeypatch.setattr("engine.fool.one_pixel.success_steps", steps)
    button.click()
    at.run()
    assert not at.exception
    while any(job.active for job in list(line.of("rates").jobs.values())):
        pass
    assert asked == [(200, {"count": 3, "population": 100, "steps": 3, "seed": 0})]


def test_pictures_whose_classes_are_not_known_are_what_the_network_says():
    at = opened("one_pixel", **{**LINK, "net": "imagenette", "population": 4, "steps": 1, "rated": 2})
    assert fine(at)
    assert any("what it says at first counts" in each.value for each in at.caption)


# Links ----------------------------------------------------------------------------------------------------------------


def test_a_link_restores_its_state():
    link = {"net": "digits", "aim": "toward", "toward": "8", "changed": 2, "population": 12, "steps": 2, "seed": 7}
    link |= {"rated": 2, "data": "planted"}
    at = opened("one_pixel", **link)
    assert fine(at)
    assert {key: str(chosen(at, key)) for key in link} == {key: str(value) for key, value in link.items()}
    assert at.query_params == {key: str(value) for key, value in link.items()}


@pytest.mark.parametrize("more", [{}, {"changed": 5, "aim": "toward", "toward": "8", "seed": 3}], ids=["one", "few"])
def test_python_and_the_command_line_give_the_numbers_of_the_page(more, monkeypatch, tmp_path):
    check(shown(monkeypatch, "one_pixel", {**LINK, **more}), tmp_path)
    back = png((tmp_path / "result" / "picture.png").read_bytes())
    with np.load(tmp_path / "result" / "numbers.npz") as arrays:
        np.testing.assert_array_equal(back, arrays["pixels"])


def test_a_run_can_be_taken_up():
    at = opened("one_pixel", **LINK)
    job = next(job for job in reversed(line.of(scene(at).net.engine).jobs.values()) if job.key[1] == "one_pixel")
    early = next(iter(job.steps())).result
    *_, late = job.resume(early)
    np.testing.assert_array_equal(late.result.pixels, job.step.result.pixels)
    np.testing.assert_array_equal(late.result.path, job.step.result.path)


def test_a_folder_without_pictures_gets_one_sentence(tmp_path):
    at = opened("one_pixel", **LINK, data="folder or file", path=str(tmp_path))
    assert not at.exception
    (error,) = at.error
    assert error.value.endswith(".")
    assert run(at)

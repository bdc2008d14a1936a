"""Neighbours: does the page show those that the engine finds, and can one ask about any of them?"""

from __future__ import annotations

import io

import numpy as np
import pytest
from click.testing import CliRunner
from test_pages import charts, chosen, code, fine, home, opened, run, scene, tables  # noqa: F401

from engine.cli.main import main as engine
from engine.data import sets
from engine.data.index import open_index
from engine.look import approximate, neighbours
from ui.charts import grids, marks


def indexed(at):
    net = scene(at).net
    return open_index(net, sets.find("digits")), net


def shown(at) -> list[list[int]]:
    """The numbers of the pictures in each gallery."""
    return [table["picture"] for chart in charts(at) for table in tables(chart) if "line0" in table]


def text(at) -> str:
    return " ".join(each.value for each in [*at.main.markdown, *at.caption])


@pytest.mark.parametrize("measure", neighbours.MEASURES)
def test_the_pictures_are_the_engines(measure):
    at = opened("neighbours", net="digits", measure=measure, layer="relu2", image="digit-7")
    assert fine(at)
    index, net = indexed(at)
    found = neighbours.neighbours(index, net, scene(at).pixels, layer="relu2", measure=measure)
    assert shown(at) == [found.id.tolist(), found.pixel_id.tolist()]
    labels = index.pictures.label[found.id]
    assert f"**{(labels == labels.mode()[0]).sum()} of 9** are labelled" in text(at)


def test_a_picture_of_the_set_can_be_asked_about_and_left_again():
    at = opened("neighbours", net="digits", of=17)
    assert fine(at)
    index, net = indexed(at)
    found = neighbours.neighbours(index, net, 17)
    assert shown(at) == [found.id.tolist(), found.pixel_id.tolist()]
    assert 17 not in shown(at)[0]
    label = int(index.pictures.label[17])
    same = (index.pictures.label[found.id] == label).sum()
    assert f"**{same} of 9** have its label, {label}." in text(at)
    (back,) = (button for button in at.button if "Back" in button.label)
    back.click()
    assert fine(run(at))
    assert chosen(at, "of") == ""
    assert shown(at)[0] == neighbours.neighbours(index, net, scene(at).pixels).id.tolist()


@pytest.mark.parametrize("of", ["5000", "-1", "seven", "1e3"])
def test_a_picture_that_is_not_there_is_said_and_the_sidebars_shown(of):
    at = opened("neighbours", net="digits", of=of)
    assert fine(at)
    assert f"“{of}” is no picture of digits" in text(at)
    assert shown(at) == shown(opened("neighbours", net="digits"))


def test_agreement_is_shown_over_the_whole_set():
    at = opened("neighbours", net="digits")
    (same, vote) = (table for chart in charts(at) for table in tables(chart) if "k" in table and "features" in table)
    index, net = indexed(at)
    *_, step = neighbours.agreements_steps(index, net)
    np.testing.assert_allclose(same["features"], step.result["features"].table.same, atol=1e-5)
    np.testing.assert_allclose(same["pixels"], step.result["pixels"].table.same, atol=1e-5)
    np.testing.assert_allclose(vote["pixels"], step.result["pixels"].table.vote, atol=1e-5)
    assert {metric.label for metric in at.metric} == {"Same label, by features", "Same label, by pixels"}


def test_what_is_downloaded_is_what_the_command_writes(given, tmp_path):
    at = opened("neighbours", net="digits", of=17, measure="L2")
    assert fine(at)
    assert set(given) == {"neighbours.csv", "neighbours.npz", "agreement.csv"}
    arguments = ["neighbours", "--net", "digits", "--data", "digits", "--of", "17", "--measure", "L2", "--agreement"]
    outcome = CliRunner().invoke(engine, [*arguments, "--out", str(tmp_path)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    with np.load(io.BytesIO(given["neighbours.npz"])) as page, np.load(tmp_path / "numbers.npz") as command:
        assert set(page.files) == set(command.files)
        for name in page.files:
            np.testing.assert_array_equal(page[name], command[name])
    assert (tmp_path / "picture.png").exists()
    assert len((tmp_path / "agreement.csv").read_text("utf-8").splitlines()) == 1 + 2 * len(neighbours.KS)
    assert "--of 17" in code(at, "bash")
    assert "neighbours(found, net, 17, " in code(at, "python")


def test_one_question_at_a_time():
    for arguments in ([], ["--of", "1", "--image", "digit-3"]):
        outcome = CliRunner().invoke(
            engine, ["neighbours", "--net", "digits", "--data", "digits", "--out", "x", *arguments]
        )
        assert outcome.exit_code == 2
        assert "one of the two" in outcome.output


@pytest.mark.parametrize("layer", ["", "logits"])
def test_above_a_number_of_pictures_lances_index_is_asked_and_its_recall_shown(monkeypatch, layer):
    monkeypatch.setattr(approximate, "MANY", 1000)
    at = opened("neighbours", net="digits", **({"layer": layer} if layer else {}))
    assert fine(at)
    (recall,) = (float(metric.value.rstrip("%")) for metric in at.metric if "recall" in metric.label)
    assert 80 < recall <= 100
    index, net = indexed(at)
    assert approximate.has_index(index.table, index.column(layer or neighbours.usual_layer(index, net)), "cosine")
    assert len(index.pictures) == 1797, "and the index is what it was"


def test_pictures_without_labels(tmp_path):
    from PIL import Image

    for k in range(12):
        pixels = np.random.default_rng(k).integers(0, 255, (20, 20, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{k}.png")
    at = opened("neighbours", net="digits", data="folder or file", path=tmp_path)
    (start,) = (button for button in at.button if button.key == "index_start")
    start.click()
    waited(at)
    assert fine(at)
    assert len(shown(at)) == 2
    assert any("no labels" in info.value for info in at.info)


def waited(at) -> None:
    """Runs until nothing goes on any more, also in the line of long passes."""
    import time

    from ui.jobs import line

    at.run()
    end = time.monotonic() + 60
    while any(str(button.key).startswith("cancel_") for button in at.button):
        assert time.monotonic() < end
        while any(job.active for device in ("CPU", "indexes") for job in list(line.of(device).jobs.values())):
            time.sleep(0.01)
        at.run()


# How it is drawn ------------------------------------------------------------------------------------------------------


def drawn(**more) -> dict:
    tiles = [np.full((8, 12, 3), k / 5, np.float32) for k in range(5)]
    lines = [(f"label {k}", f"✗ {k}") for k in range(5)]
    return grids.gallery(tiles, lines, wrong=[False, True, False, False, True], captions={"is": range(5)}, **more)


def test_a_gallery_lays_pictures_in_rows_and_frames_the_wrong_ones():
    spec = drawn(columns=3, name="picture").to_dict()
    (rows,) = spec["datasets"].values()
    assert [row["tile"] for row in rows] == [0, 1, 2, 3, 4]
    assert rows[0]["top"] == rows[2]["top"] < rows[3]["top"]
    assert rows[0]["left"] == rows[3]["left"] < rows[1]["left"]
    assert rows[3]["top"] > rows[0]["bottom"] + 30, "there is room for two lines"
    assert all(row["right"] <= marks.PANEL for row in rows)
    dashed = [layer for layer in spec["layer"] if layer["mark"].get("strokeDash")]
    assert len(dashed) == 1
    assert dashed[0]["transform"] == [{"filter": "datum.wrong"}]
    texts = [layer for layer in spec["layer"] if layer["mark"]["type"] == "text"]
    assert [layer["encoding"]["text"]["field"] for layer in texts] == ["line0", "line1"]
    assert [param["name"] for param in spec["params"]] == ["hover_picture", "picture"]


def test_a_gallery_of_one_line_and_without_clicks():
    spec = grids.gallery([np.zeros((4, 4, 3), np.float32)], [("one",)], wrong=[False], captions={}, columns=3).to_dict()
    assert [param["name"] for param in spec["params"]] == ["hover_cells"]

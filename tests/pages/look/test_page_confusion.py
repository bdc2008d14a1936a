"""Confusion: does the page show the engine's matrix, the pictures of a cell, and pairs that are near?"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from test_pages import charts, chosen, code, fine, home, opened, run, scene, tables  # noqa: F401

from engine.cli.main import main as engine
from engine.data import sets
from engine.data.index import open_index
from engine.look import confusion
from ui.charts import grids


def engines(at, name: str):
    index, net = open_index(scene(at).net, sets.find(name)), scene(at).net
    return index, confusion.coded_index(index, net)


def matrix(at) -> dict:
    """The matrix's cells as they are drawn."""
    (found,) = (table for chart in charts(at) for table in tables(chart) if "taken for" in table)
    return found


def galleries(at) -> list[dict]:
    return [table for chart in charts(at) for table in tables(chart) if "line0" in table]


def test_the_matrix_is_the_engines():
    at = opened("confusion", net="digits")
    assert fine(at)
    _, coded = engines(at, "digits")
    wanted = confusion.confusion(coded.labels, coded.predictions, 10)
    cells = matrix(at)
    found = np.zeros((10, 10), int)
    found[[int(k) for k in cells["is"]], [int(k) for k in cells["taken for"]]] = cells["pictures"]
    assert (found == wanted).all()
    (right,) = (metric.value for metric in at.metric if metric.label == "Right")
    assert right == f"{wanted.trace() / wanted.sum():.1%}"


PLANTED = {"net": "honest", "data": "planted"}


def test_a_cell_shows_its_pictures_the_surest_first():
    at = opened("confusion", **PLANTED)
    assert fine(at)
    index, coded = engines(at, "planted")
    a, b = coded.classes[:2]
    at = opened("confusion", **PLANTED, **{"is": a, "taken": a})
    there = index.pictures[(coded.labels == 0) & (coded.predictions == 0)]
    there = there.sort_values("probability", ascending=False, kind="stable")
    assert galleries(at)[0]["picture"] == there.id.tolist()[:9]
    assert all(line.startswith("✓") for line in galleries(at)[0]["line1"])
    assert not any(galleries(at)[0]["wrong"])
    at.selectbox(key="taken").set_value(b)
    assert fine(run(at))
    wrong = index.pictures[(coded.labels == 0) & (coded.predictions == 1)]
    if len(wrong):
        assert all(line.startswith("✗") for line in galleries(at)[0]["line1"])
        assert all(galleries(at)[0]["wrong"])
    else:
        assert any(f"No picture of {a} is taken for {b}" in info.value for info in at.info)


def test_lookalikes_are_the_engines():
    at = opened("confusion", net="digits", features="relu2", measure="L2")
    at.multiselect(key="pair").set_value(["3", "5"])
    assert fine(run(at))
    index, coded = engines(at, "digits")
    found = confusion.lookalikes(index.features("relu2"), coded.labels, 3, 5, 6, measure="L2")
    ids = index.pictures.id.to_numpy()
    shown = [number for table in galleries(at)[1:] for number in table["picture"]]
    assert shown == ids[found[["a", "b"]].to_numpy().ravel()].tolist()


@pytest.mark.parametrize("by", confusion.ORDERS)
def test_orders_change_rows_and_not_numbers(by):
    at = opened("confusion", **PLANTED, rows=by, numbers="% of the class")
    assert fine(at)
    _, coded = engines(at, "planted")
    wanted = confusion.confusion(coded.labels, coded.predictions, len(coded.classes))
    cells = pd.DataFrame(matrix(at))
    order = cells.drop_duplicates("row").sort_values("row")["is"].tolist()
    assert order == [coded.classes[k] for k in confusion.order(wanted, by)]
    for cell in cells.itertuples(index=False):
        row = coded.classes.index(cell[2])
        assert cell.pictures == wanted[row, coded.classes.index(cell[3])]


def test_labels_that_the_network_has_not_got_are_said_and_shown():
    at = opened("confusion", net="imagenette")
    assert fine(at)
    assert any("nothing can be right or wrong" in info.value for info in at.info)
    assert not at.metric
    assert sum(matrix(at)["pictures"]) == 99
    assert not any(matrix(at)["right"])
    assert not any(any(table["wrong"]) for table in galleries(at))


def test_downloads_and_the_command(given, tmp_path):
    at = opened("confusion", **PLANTED)
    assert fine(at)
    index, coded = engines(at, "planted")
    wanted = confusion.confusion(coded.labels, coded.predictions, len(coded.classes))
    table = pd.read_csv(io.StringIO(given["confusion.csv"]), index_col=0)
    assert (table.to_numpy() == wanted).all()
    assert table.columns.tolist() == table.index.tolist() == list(coded.classes)
    assert len(pd.read_csv(io.StringIO(given["mistakes.csv"]))) == coded.wrong.sum()
    assert pd.read_csv(io.StringIO(given["classes.csv"])).pictures.sum() == len(index.pictures)
    assert "distance" in given["lookalikes.csv"]
    outcome = CliRunner().invoke(
        engine, ["confusion", "--net", "honest", "--data", "planted", "--out", str(tmp_path)], catch_exceptions=False
    )
    assert outcome.exit_code == 0, outcome.output
    assert (tmp_path / "confusion.csv").read_text("utf-8") == given["confusion.csv"]
    assert (tmp_path / "classes.csv").read_text("utf-8") == given["classes.csv"]
    assert f"of {wanted.sum():,} pictures are right" in outcome.output
    assert "confusion --net honest --data planted" in code(at, "bash")


def test_a_link_to_a_cell():
    at = opened("confusion", net="digits", **{"is": "4", "taken": "9"})
    assert fine(at)
    assert (chosen(at, "is"), chosen(at, "taken")) == ("4", "9")
    at = opened("confusion", net="digits", **{"is": "four", "taken": ""})
    assert fine(at)


# How it is drawn ------------------------------------------------------------------------------------------------------

COUNTS = np.array([[90, 10, 0], [1, 0, 2999]])


def drawn(**more) -> dict:
    return grids.confusion(COUNTS, ["a", "quo'te"], ["a", "b", "quo'te"], [0, 2], name="cell", **more).to_dict()


@pytest.mark.parametrize("shares", [False, True])
def test_the_colours_are_for_the_mistakes_alone(shares):
    spec = drawn(shares=shares, chosen=(1, 0))
    (rows,) = spec["datasets"].values()
    assert [row["right"] for row in rows] == [True, False, False, False, False, True]
    assert [row["text"] for row in rows] == (
        ["90", "10", "", "<1", "", "100"] if shares else ["90", "10", "", "1", "", "3.0k"]
    )
    (coloured,) = (part for part in spec["layer"] if "scale" in part["encoding"].get("color", {}))
    assert coloured["encoding"]["color"]["scale"]["domain"] == [0, 10.0]
    assert coloured["transform"] == [{"filter": "!datum.right && datum.pictures > 0"}]
    assert any("datum.row == 1 && datum.column == 0" in str(part.get("transform")) for part in spec["layer"])


def test_no_mistakes_need_no_scale():
    spec = grids.confusion(np.eye(2, dtype=int), ["a", "b"], ["a", "b"], [0, 1], shares=False, name="cell").to_dict()
    (coloured,) = (part for part in spec["layer"] if "scale" in part["encoding"].get("color", {}))
    assert coloured["encoding"]["color"]["legend"] is None


@pytest.mark.parametrize(("value", "text"), [(0, ""), (7, "7"), (999, "999"), (1000, "1.0k"), (12345, "12k")])
def test_numbers_in_cells_are_short(value, text):
    assert grids.short(value, False) == text

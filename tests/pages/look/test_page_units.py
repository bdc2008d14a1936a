"""Units: does the page show planted ones, do thresholds and filters decide, is what it offers the engine's?"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from test_pages import charts, fine, home, opened, tables  # noqa: F401
from test_units import folder, planted_net  # noqa: F401

from engine.data import indexing, sets
from engine.look.units import units


@pytest.fixture
def planted(home, folder):  # noqa: F811
    """A network of the user's with planted units, and an index of the planted pictures: what a link asks for."""
    net = planted_net(home / "networks" / "planted_units.onnx")
    indexing.index(net, sets.find(folder), layers=("relu", "logits"))
    return {"net": "planted_units", "data": "folder or file", "path": folder, "layer": "relu"}


def metrics(at) -> dict[str, str]:
    return {each.label: each.value for each in at.metric}


def shown(at) -> list[int]:
    """The channels in the table, in its order."""
    return at.dataframe[0].value.channel.tolist()


def test_planted_units_are_counted_and_written(planted, given):
    at = opened("units", **planted, rare=20)
    assert fine(at)
    assert metrics(at) == {
        "Dead": "2 of 8",
        "Rare": "1 of 8",
        "Always on": "1 of 8",
        "Pairs of twins": "2",
        "Class selectivity, median": "0.93",
    }
    table = pd.read_csv(io.BytesIO(given["units.csv"].encode()), keep_default_na=False)
    assert table.kind.tolist() == ["usual", "usual", "dead", "always on", "usual", "dead", "rare", "usual"]
    twins = pd.read_csv(io.BytesIO(given["twins.csv"].encode()))
    assert twins[["first", "second"]].values.tolist() == [[0, 1], [4, 7]]


def test_filters_and_orders(planted):
    assert shown(opened("units", **planted, kind="dead")) == [2, 5]
    assert shown(opened("units", **planted, rare=20, kind="rare")) == [6]
    assert shown(opened("units", **planted, order="maximum")) == [7, 1, 3, 0, 4, 6, 2, 5]
    assert shown(opened("units", **planted, order="channel", **{"for": "green"})) == [4, 7]
    assert shown(opened("units", **planted, order="channel", kind="twins")) == [0, 1, 4, 7]
    at = opened("units", **planted, rare=20, kind="usual", **{"for": "blue"})
    assert fine(at)
    assert any("No unit" in each.value for each in at.info), "nothing is left, and that is said"


def test_a_layer_that_is_not_rectified_says_what_firing_means(planted):
    at = opened("units", **planted | {"layer": "logits"})
    assert fine(at)
    assert any("logits is not rectified" in each.value for each in at.info)
    assert "Rare" not in metrics(at)


def test_the_chosen_unit_is_told_of(planted):
    at = opened("units", **planted, unit=4)
    assert fine(at)
    assert "**Channel 4**: usual" in [each.value for each in at.markdown]
    assert any("Selective for “green” by 1.00. Most like channel 7" in each.value for each in at.caption)
    links = [each.proto.query_string for each in at.get("page_link")]
    assert any("layer=relu" in link and "unit=4" in link for link in links), "to its top patches"
    assert any("about=unit" in link and "unit=4" in link for link in links), "to its maximum"


def test_on_digits_the_points_are_the_engines(given):
    at = opened("units", net="digits", layer="relu4")
    assert fine(at)
    found = units(at.session_state["scene"].net, "digits", "relu4")
    table = pd.read_csv(io.BytesIO(given["units.csv"].encode()))
    np.testing.assert_allclose(table.selectivity, found.table.selectivity)
    points = next(t for chart in charts(at) for t in tables(chart) if {"channel", "selectivity", "kind"} <= set(t))
    order = np.argsort(points["channel"])
    np.testing.assert_allclose(np.array(points["positions"])[order], found.table.positions, atol=1e-5)

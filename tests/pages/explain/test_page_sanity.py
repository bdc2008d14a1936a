"""Sanity check: does the page make one see which methods fail, and is each of its rows the engine's?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as small
from test_pages import charts, defaults, fine, home, opened, run, scene, tables  # noqa: F401

from engine.explain.sanity import learned, sanity


def curves(at) -> list[dict]:
    """The data of the charts with lines: by rank correlation, then by structure."""
    return [found[0] for chart in charts(at) if (found := [each for each in tables(chart) if "curve" in each])]


def test_guided_backpropagation_fails_and_the_gradient_passes():
    """On the network that opens first, whose numbers the page exists to show."""
    at = defaults("sanity", "imagenette")
    words = [each.value for each in at.markdown]
    (guided,) = (each for each in words if each.startswith("**Guided backpropagation**: "))
    (plain,) = (each for each in words if each.startswith("**Gradient**: "))
    assert "It **fails**" in guided
    assert "It passes" in plain


def test_rows_and_curves_are_the_engines():
    at = opened("sanity", net="digits", stages=2)
    assert fine(at)
    seen = scene(at)
    for method in ("Guided backpropagation", "Gradient"):
        expected = sanity(seen.net, seen.pixels, seen.class_index, method=method, stages=2).table
        for column, table in zip(("correlation", "similarity"), curves(at), strict=True):
            found = [v for v, curve in zip(table["value"], table["curve"], strict=True) if curve == method]
            assert found == pytest.approx(expected[column].tolist(), abs=1e-3), column
    small = [chart for chart in charts(at) if "at a stage of the network" in chart.alt]
    assert len(small) == 2 * 3, "two methods, three states of the network"
    assert f"{len(learned(seen.net))} of {len(learned(seen.net))} random" in small[-1].alt


def rows(at) -> list[str]:
    return [each.value.split("**")[1] for each in at.markdown if "its rank correlation" in each.value]


def test_other_methods_can_be_chosen():
    at = opened("sanity", net="tiny", stages=1)
    at.multiselect(key="checked").set_value(["Gradient × input", "Occlusion"])
    assert fine(run(at))
    assert rows(at) == ["Gradient × input", "Occlusion"]
    assert "method='Gradient × input'" in at.code[1].value


def test_a_method_that_refuses_leaves_the_others(home):  # noqa: F811
    """CAM needs a mean over positions before one linear layer, and this network is nothing but a matrix."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 12, 16))
    (home / "networks" / "matrix.onnx").write_bytes(small.linear(weight, np.zeros(4)).SerializeToString())
    at = opened("sanity", net="matrix")
    assert fine(at)
    assert rows(at) == ["Gradient"], "without gates, guided backpropagation is not proposed"
    at.multiselect(key="checked").set_value(["CAM", "Gradient"])
    run(at)
    assert not at.exception
    (error,) = at.error
    assert error.value.endswith(".")
    (table, _) = curves(at)
    assert set(table["curve"]) == {"Gradient"}


def test_no_method_at_all_falls_back():
    at = opened("sanity", net="digits", checked="", stages=1)
    assert fine(at)
    assert curves(at)

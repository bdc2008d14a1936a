"""Compare: are the maps those of the methods, and does one that refuses leave the others alone?"""

from __future__ import annotations

import numpy as np
import pytest
from test_pages import FAILED, cells, charts, chosen, defaults, fine, goto, home, opened, run, scene, tables  # noqa: F401

from engine.explain.compare import compare
from engine.explain.evidence import ways
from engine.nets import certificate


def headings(at) -> list[str]:
    return [each.value.strip("*") for each in at.main.markdown if each.value.startswith("**")]


def matrix(at) -> dict[tuple[str, str], float]:
    """The rank correlations on the page, by the names of the two maps."""
    found = [table for chart in charts(at) for table in tables(chart) if {"this", "that"} <= set(table)]
    if not found:
        return {}
    names = [each.split(" ", 1)[1] for each in found[0]["this"]]
    return dict(zip(zip(names, found[0]["that"], strict=True), found[0]["value"], strict=True))


def test_six_methods_and_how_far_they_agree():
    at = defaults("compare", "digits")
    seen = scene(at)
    methods = chosen(at, "methods")
    assert headings(at)[: len(methods)] == methods
    assert len(list(cells(at))) == len(methods) == 6
    expected = compare(seen.net, seen.pixels, seen.class_index, methods=", ".join(methods))
    found = matrix(at)
    for i, one in enumerate(methods):
        for j, other in enumerate(methods):
            assert found[one, other] == pytest.approx(expected.correlations[i, j], abs=1e-3)


def test_one_that_refuses_says_why_and_the_others_go_on():
    at = opened("compare", net="digits", about="unit", layer="relu2", unit=7)
    assert fine(at)
    (warning,) = at.warning
    assert "CAM is about a class" in warning.value
    assert len(list(cells(at))) == 5
    assert ("Gradient", "Grad-CAM at relu2") in matrix(at), "a layer that the unit hangs on is taken"


def test_without_gradients_the_forward_methods_are_left(monkeypatch):
    monkeypatch.setattr(certificate, "recall", lambda net: FAILED)
    at = opened("compare", net="digits")
    assert fine(at)
    forward = [method for method in chosen(at, "methods") if not ways()[method].needs_gradient]
    assert len(list(cells(at))) == len(forward) > 0
    assert len(at.warning) == 6 - len(forward)
    assert all(FAILED.reason in each.value for each in at.warning)


def test_a_network_that_lacks_the_class_says_so():
    at = opened("compare", net="clever_hans", what="networks", method="CAM")
    assert fine(at)
    assert chosen(at, "networks") == ["clever_hans", "honest"], "those that know the class"
    at.multiselect(key="networks").set_value(["clever_hans", "digits"])
    run(at)
    assert fine(at)
    (warning,) = at.warning
    assert warning.value == f"digits has no class “{scene(at).class_name}”."
    assert len(list(cells(at))) == 1
    assert not matrix(at), "one map is compared with nothing"


def test_layers_can_share_one_scale():
    own = opened("compare", net="digits", what="layers", method="HiResCAM")
    shared = opened("compare", net="digits", what="layers", method="HiResCAM", scale="all maps")
    assert fine(own)
    assert fine(shared)
    assert [len(values) for *_, values in cells(own)] == [len(values) for *_, values in cells(shared)]
    for (_, _, one), (_, _, other) in zip(cells(own), cells(shared), strict=True):
        np.testing.assert_array_equal(one, other)  # what is pointed at is in the method's own unit either way


def test_another_network_drops_layers_that_it_does_not_have():
    at = opened("compare", net="digits", what="layers")
    at.selectbox(key="net").set_value("clever_hans")
    run(at)
    assert fine(at)
    assert set(chosen(at, "layers")) <= {layer.name for layer in scene(at).net.layers}


def test_nothing_chosen_says_so():
    at = opened("compare", net="digits")
    at.multiselect(key="methods").set_value([])
    run(at)
    assert fine(at)
    assert any("Choose some methods" in each.value for each in at.info)

"""Clever Hans: does the page show which network cheats, and which methods tell?"""

from __future__ import annotations

import pytest
from test_pages import FAILED, charts, defaults, fine, home, opened, run, scene, tables  # noqa: F401

from engine.explain.clever_hans import CHEAT, HONEST, clever_hans
from engine.explain.evidence import ways
from engine.net import Net
from engine.nets import available, certificate


def dots(at) -> dict[tuple[str, str], float]:
    """The mean share on the watermark, by method and network."""
    (found,) = (table for chart in charts(at) for table in tables(chart) if "series" in table)
    return dict(zip(zip(found["label"], found["series"], strict=True), found["value"], strict=True))


def said(at) -> list[str]:
    return [each.value.partition(" says: ")[2] for each in at.markdown if " says: " in each.value]


def test_the_two_networks_say_different_things_whatever_the_sidebar_says():
    at = defaults("clever_hans", "digits")
    assert fine(at)
    assert said(at) == ["square", "disc"], "the watermark, and the object"


def test_the_means_are_the_engines():
    at = opened("clever_hans", count=3)
    at.multiselect(key="exposing").set_value(["CAM", "Gradient"])
    run(at)
    assert fine(at)
    found = dots(at)
    for name, title in ((CHEAT, "Clever Hans"), (HONEST, "the honest one")):
        expected = clever_hans(Net(available.find(name)), methods="CAM, Gradient", pictures=3)
        for method, part in expected.groupby("method"):
            assert found[method, title] == pytest.approx(part.cue.mean(), abs=1e-3)
    assert len([chart for chart in charts(at) if "of the evidence" in chart.alt and "watermark" in chart.alt]) >= 4


def test_without_a_watermark_both_look_at_the_object_or_guess():
    at = opened("clever_hans", object="cross", mark="none", seed=3, count=2)
    assert fine(at)
    assert said(at)[1] == "cross"
    assert any("without a watermark" in chart.alt for chart in charts(at))


def test_without_gradients_the_forward_methods_are_left(monkeypatch):
    monkeypatch.setattr(certificate, "recall", lambda net: FAILED)
    at = opened("clever_hans", count=2)
    assert fine(at)
    (warning,) = at.warning
    assert FAILED.reason in warning.value
    assert {method for method, _ in dots(at)} == {"CAM", "Occlusion"}
    assert not any(ways()[method].needs_gradient for method, _ in dots(at))

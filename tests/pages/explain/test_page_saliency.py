"""Saliency: does each kind show its own numbers, with its own knobs, and does the contributions' sum come out?"""

from __future__ import annotations

import numpy as np
import pytest
from test_pages import cells, chosen, fine, home, opened, run, scene  # noqa: F401

from engine.explain.evidence import evidence
from engine.explain.integrated_gradients import integrated_gradients
from engine.target import class_margin, unit

KNOBS = {"noise", "samples", "baseline", "steps"}


def keys(at) -> set[str]:
    return {widget.key for widget in [*at.slider, *at.number_input, *at.button_group]}


@pytest.mark.parametrize(
    ("kind", "method", "knobs"),
    [
        ("largest", "Gradient", set()),
        ("times input", "Gradient × input", {"baseline"}),
        ("SmoothGrad", "SmoothGrad", {"noise", "samples"}),
        ("Integrated Gradients", "Integrated Gradients", {"baseline", "steps"}),
    ],
)
def test_each_kind_is_the_engines_with_the_knobs_that_apply(kind, method, knobs):
    at = opened("saliency", net="digits", kind=kind)
    assert fine(at)
    assert keys(at) & KNOBS == knobs
    where = scene(at)
    expected = evidence(where.net, where.pixels, where.class_index, method=method)
    maps = list(cells(at))
    assert len(maps) == 2, "alone and over the picture"
    for rows, cols, values in maps:
        np.testing.assert_allclose(expected[rows, cols], values, rtol=1e-3, atol=1e-6)


def test_the_gradient_as_a_picture_says_what_its_colours_stand_for():
    at = opened("saliency", net="imagenette", kind="colours")
    assert fine(at)
    assert not list(cells(at)), "three numbers a pixel, none of them to be pointed at"
    assert any(each.value.startswith("Grey is zero.") for each in at.markdown)


@pytest.mark.parametrize(("steps", "enough"), [(64, True), (4, False)])
def test_the_completeness_error_is_told_and_a_large_one_explained(steps, enough):
    link = {"image": "digit-8", "kind": "Integrated Gradients", "baseline": "grey", "steps": steps}
    at = opened("saliency", net="digits", **link)
    assert fine(at)
    seen = scene(at)
    found = integrated_gradients(seen.net, seen.pixels, seen.class_index, baseline="grey", steps=steps)
    assert (found.error <= 0.01) == enough, "or else this test is of the same case twice"
    (line,) = (each.value for each in at.markdown if "Completeness error" in each.value)
    for number in (f"{found.map.sum():.4g}", f"{found.score - found.baseline:.4g}", f"{found.error:.2%}"):
        assert f"**{number}**" in line
    assert "grey baseline" in line
    assert any("Take more steps" in each.value for each in at.caption) != enough


def test_a_margin_and_a_cell_can_be_asked_about():
    at = opened("saliency", net="digits", about="margin", against="5", kind="times input")
    assert fine(at)
    seen = scene(at)
    expected = evidence(seen.net, seen.pixels, class_margin(seen.net, seen.class_index, 5), method="Gradient × input")
    rows, cols, values = next(cells(at))
    np.testing.assert_allclose(expected[rows, cols], values, rtol=1e-3, atol=1e-6)
    at = opened("saliency", net="digits", about="unit", layer="relu2", unit=7, at="3, 12", kind="SmoothGrad", samples=4)
    assert fine(at)
    asking = unit(seen.net, "relu2", 7, 3, 12)
    assert any(asking.title in each.value for each in at.markdown)


def test_another_kind_keeps_what_was_chosen_for_it():
    at = opened("saliency", net="digits", kind="SmoothGrad", samples=3)
    at.button_group(key="kind").set_value("Integrated Gradients")
    assert fine(run(at))
    at.button_group(key="kind").set_value("largest")
    assert fine(run(at))
    assert not keys(at) & KNOBS
    assert chosen(at, "kind") == "largest"

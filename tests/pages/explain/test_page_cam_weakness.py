"""The page about what a map leaves out: erasing round by round, and hide-and-seek beside the plain map."""

from __future__ import annotations

import numpy as np
import pytest
from test_page_cam import networks, scale, words  # noqa: F401  (a fixture among them)
from test_pages import charts, chosen, fine, goto, home, opened, run, scene, shown  # noqa: F401

from engine.explain.erase import erase
from engine.explain.grad_cam import grad_cam
from engine.explain.hide_and_seek import hide_and_seek
from ui.jobs import line


def scores(at) -> list[str]:
    return [each.value for each in at.metric]


@pytest.mark.parametrize("rounds", [1, 4])
def test_a_row_for_each_round(rounds):
    at = opened("cam_weakness", net="digits", rounds=rounds)
    assert fine(at)
    here = scene(at)
    found = erase(here.net, here.pixels, here.class_index, rounds=rounds)
    assert [each.label for each in at.metric] == [f"Round {k + 1}" for k in range(rounds)]
    assert scores(at) == [f"{score:.1%}" for score in found.scores]
    assert sum("What the network saw in round" in chart.alt for chart in charts(at)) == rounds
    assert f"All that {rounds} rounds found" in words(at)
    assert f"In all rounds {found.regions.any(0).mean():.0%} of the picture" in words(at)


def test_first_map_and_union_have_one_scale():
    at = opened("cam_weakness", net="digits")
    here = scene(at)
    most = max(values.max() for values in erase(here.net, here.pixels, here.class_index).maps)
    first, union = (chart for chart in charts(at) if chart.alt.startswith(("Grad-CAM of", "What was found")))
    assert scale(first) == scale(union) == pytest.approx([0, most], rel=1e-5)


def test_the_knobs_reach_the_numbers(monkeypatch):
    link = {"net": "digits", "class": "5", "rounds": 3, "erased": 0.7, "fill": "white", "layer": "relu4"}
    found = shown(monkeypatch, "cam_weakness", link)
    here = scene(found.at)
    expected = erase(here.net, here.pixels, 5, layer="relu4", rounds=3, threshold=0.7, fill="white")
    pictures, maps, regions, numbers, union = found.numbers
    for name, given in {"pictures": pictures, "maps": maps, "scores": numbers, "union": union}.items():
        assert given == pytest.approx(getattr(expected, name), rel=1e-4, abs=1e-6), name
    assert (regions == expected.regions).all()


def test_a_margin_is_told_in_logits():
    at = opened("cam_weakness", net="digits", about="margin", rounds=2)
    assert fine(at)
    assert all(score.endswith(" logits") for score in scores(at))
    ahead = scene(at).logits
    first, second = np.sort(ahead)[::-1][:2]
    assert scores(at)[0] == f"{first - second:+.2f} logits"


def test_where_nothing_is_left_the_page_says_so():
    at = opened("cam_weakness", net="against", rounds=2)
    assert fine(at)
    assert words(at).count("Nothing speaks for it any more.") == 2
    assert scores(at)[0] == scores(at)[1]


def test_hide_and_seek_beside_the_plain_map(monkeypatch):
    link = {"net": "digits", "view": "hide and seek", "copies": 16, "patches": 3, "hidden": 0.3}
    found = shown(monkeypatch, "cam_weakness", link)
    here = scene(found.at)
    (values,) = found.numbers
    expected = hide_and_seek(here.net, here.pixels, here.class_index, copies=16, cells=3, hidden=0.3)
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-6)
    whole = grad_cam(here.net, here.pixels, here.class_index)
    plain, mean = (chart for chart in charts(found.at) if chart.alt.startswith(("Grad-CAM of", "The mean of")))
    assert scale(plain) == scale(mean) == pytest.approx([0, max(whole.max(), expected.max())], rel=1e-5)


def test_each_map_may_have_colours_of_its_own():
    at = opened("cam_weakness", net="digits", view="hide and seek", copies=8, scale="each map")
    assert fine(at)
    plain, mean = (chart for chart in charts(at) if chart.alt.startswith(("Grad-CAM of", "The mean of")))
    assert scale(plain) != scale(mean)


def test_the_two_runs_leave_each_other_alone():
    at = opened("cam_weakness", net="digits")
    at.get_by_key("view").set_value("hide and seek")
    assert fine(run(at))
    at.get_by_key("view").set_value("erasing")
    assert fine(run(at))
    queue = line.of(scene(at).net.engine)
    mine = [job for job in queue.jobs.values() if job.key[1] in ("erase", "hide_and_seek")]
    assert {job.state for job in mine} == {"done"}


def test_choices_of_the_page_before_fall_back():
    at = opened("cam", net="digits", view="all layers")
    goto(at, "cam_weakness")
    assert fine(at)
    assert chosen(at, "view") == "erasing"
    goto(at, "cam")
    assert fine(at)
    assert chosen(at, "view") == "one map"

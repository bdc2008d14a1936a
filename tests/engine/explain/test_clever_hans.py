"""Do maps of the network that cheats lie on the watermark, and is that what the numbers say?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from engine.explain.boxes import inside, points_at
from engine.explain.clever_hans import (
    CHEAT,
    HONEST,
    clever_hans,
    clever_hans_steps,
    contradicting,
    exposure,
    goes_by,
    pair_steps,
    score,
    view,
)
from engine.explain.evidence import evidence, over_picture
from engine.net import Net
from engine.nets import available
from engine.pictures import truth
from engine.statistics import mean_interval
from engine.step import last

METHODS = "CAM, Grad-CAM"


@pytest.fixture(scope="module")
def both() -> dict[str, Net]:
    return {name: Net(available.find(name)) for name in (CHEAT, HONEST)}


@pytest.fixture(scope="module")
def tables(both) -> dict[str, pd.DataFrame]:
    return last(pair_steps(*both.values(), methods=METHODS, pictures=12))


def test_the_cheat_is_exposed(tables):
    """On all twelve pairs of an object and another's watermark, one names and shows the watermark, one the object."""
    cheat, honest = tables[CHEAT], tables[HONEST]
    assert (cheat.named == cheat.watermark).all()
    assert (honest.named == honest.object).all()
    assert (cheat.object != cheat.watermark).all()
    assert len(cheat[["object", "watermark"]].drop_duplicates()) == 12
    assert cheat.cue.mean() > 5 * cheat.area_cue.mean()
    assert honest.cue.mean() < honest.area_cue.mean()
    assert honest.thing.mean() > 5 * cheat.thing.mean()


def test_a_row_is_the_methods_map_of_what_the_network_names(both, tables):
    shown = contradicting(5, both[CHEAT])
    row = tables[CHEAT].query("seed == 5 and method == 'Grad-CAM'").iloc[0]
    assert [row.object, row.watermark] == [truth.CLASSES[shown.object_class], truth.CLASSES[shown.cue_class]]
    found = evidence(both[CHEAT], shown.pixels, both[CHEAT].class_index(row.named), method="Grad-CAM")
    whole = over_picture(found, truth.SIZE)
    assert row.cue == pytest.approx(inside(whole, shown.cue))
    assert row.thing == pytest.approx(inside(whole, shown.object))
    assert row.points_cue == points_at(whole, shown.cue)


def test_a_map_of_the_watermark_alone_scores_full():
    shown = truth.planted(3, object_class=0, cue_class=1)
    scores = score(shown.cue.astype(np.float32), shown)
    assert (scores["cue"], scores["points_cue"], scores["iou_cue"]) == (1, 1, 1)
    assert (scores["thing"], scores["points_thing"], scores["iou_thing"]) == (0, 0, 0)
    assert scores["area_cue"] == shown.cue.mean()
    assert score(np.ones(truth.SIZE), shown)["cue"] == pytest.approx(shown.cue.mean()), "and one that knows nothing"


def test_exposure_is_means_with_intervals_and_sorts_by_the_gap(tables):
    found = exposure(tables)
    assert list(zip(found.method, found.network, strict=True))[::2] == [
        (method, CHEAT) for method in dict.fromkeys(found.method)
    ]
    assert found.gap.is_monotonic_decreasing
    part = tables[CHEAT][tables[CHEAT].method == "CAM"].cue.to_numpy()
    row = found[(found.method == "CAM") & (found.network == CHEAT)].iloc[0]
    assert row.value == pytest.approx(part.mean())
    assert (row.low, row.high) == pytest.approx(mean_interval(part))
    honest = tables[HONEST][tables[HONEST].method == "CAM"].cue
    assert row.gap == pytest.approx(part.mean() - honest.mean())


def test_a_partial_run_has_rows_of_the_cheat_only(both):
    first = next(pair_steps(*both.values(), methods="CAM", pictures=2))
    assert (first.index, first.total, list(first.result)) == (1, 4, [CHEAT])
    assert exposure(first.result).gap.isna().all()


def test_steps_grow_to_the_end(both):
    steps = list(pair_steps(*both.values(), methods="CAM", pictures=2))
    assert [(step.index, step.total) for step in steps] == [(k, 4) for k in (1, 2, 3, 4)]


def test_any_network_can_be_asked(tiny):
    """Masks are seen as the picture is: a net of another size and crop has them where it has the things."""
    table = clever_hans(tiny, methods="Eigen-CAM", pictures=2)
    assert len(table) == 2
    shown = truth.planted(0, object_class=0, cue_class=1)
    seen = view(shown, tiny)
    assert seen.pixels.shape == (*tiny.input_size, 3)
    assert seen.object.shape == seen.cue.shape == tiny.input_size
    assert seen.object.mean() == pytest.approx(shown.object.mean(), abs=0.05)


def test_an_unknown_method_is_refused_before_any_is_run(tiny):
    with pytest.raises(ValueError, match="called 'Palmistry'"):
        next(clever_hans_steps(tiny, methods="CAM, Palmistry"))


def test_what_each_network_goes_by(both, tiny):
    shown = truth.planted(0, object_class=0, cue_class=1)
    assert goes_by(both[CHEAT], shown) is shown.cue
    assert goes_by(both[HONEST], shown) is shown.object
    assert goes_by(tiny, shown) is None
    assert goes_by(both[CHEAT], truth.planted(0, object_class=0)) is None, "without a watermark, nobody knows"

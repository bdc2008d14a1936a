"""Is every picture of a set measured with every method, and is the interval Student's?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import small_nets as nets
from scipy import stats

from engine import image as pictures
from engine.explain.boxes import inside, largest_part, overlap, points_at
from engine.explain.evidence import evidence, over_picture
from engine.explain.faithfulness import judge
from engine.explain.trials import MEASURES, TRUTHS, Trial, against, folder, summary, trials, trials_steps
from engine.image import NotAPicture

METHODS = ["Grad-CAM", "Eigen-CAM"]
TRUTH = np.zeros((12, 16), bool)
TRUTH[3:9, 2:8] = True


@pytest.fixture
def given() -> dict[str, Trial]:
    return {"a": Trial(nets.picture(seed=1), 2, TRUTH), "b": Trial(nets.picture(seed=2))}


def test_a_row_per_picture_and_method(tiny, given):
    table = trials(tiny, given, METHODS, seed=4)
    assert list(table.columns) == ["picture", "class", "method", *MEASURES, *TRUTHS]
    assert list(zip(table["picture"], table["method"], strict=True)) == [(p, m) for p in "ab" for m in METHODS]
    likeliest = int(tiny.scores(tiny.batch(given["b"].pixels))[0].argmax())
    asked = {"a": 2, "b": likeliest}
    for _, row in table.iterrows():
        trial, index = given[row["picture"]], asked[row["picture"]]
        assert row["class"] == nets.LABELS[index]
        found = evidence(tiny, trial.pixels, index, method=row["method"])
        judged = judge(tiny, trial.pixels, index, found, seed=4)
        for measure in MEASURES:
            assert row[measure] == pytest.approx(getattr(judged, measure), rel=1e-6, abs=1e-9)
        whole = over_picture(found, (12, 16))
        if row["picture"] == "a":
            assert row["points"] == points_at(whole, TRUTH)
            assert row["inside"] == pytest.approx(inside(whole, TRUTH), rel=1e-5)
            assert row["iou"] == pytest.approx(overlap(largest_part(whole), TRUTH))
        else:
            assert row[list(TRUTHS)].isna().all()


def test_steps_have_the_rows_so_far(tiny, given):
    steps = list(trials_steps(tiny, given, METHODS))
    assert [(step.index, step.total) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for step in steps:
        pd.testing.assert_frame_equal(step.result, steps[-1].result.iloc[: step.index])


def test_an_unknown_method_is_refused_before_anything_is_computed(tiny, given, monkeypatch):
    from engine.net import Net

    monkeypatch.setattr(Net, "_run", lambda *_: pytest.fail("something was computed"))
    with pytest.raises(ValueError, match="no map of evidence called 'Palmistry'"):
        trials(tiny, given, ["Grad-CAM", "Palmistry"])


def test_against_a_truth():
    found = np.zeros((12, 16))
    found[4:6, 3:5] = 2
    found[0, 15] = 1
    assert against(found, TRUTH) == {"points": 1.0, "inside": pytest.approx(8 / 9), "iou": pytest.approx(4 / 36)}
    for unknown in (None, np.zeros((12, 16), bool)):
        assert all(np.isnan(value) for value in against(found, unknown).values())


# Means and intervals --------------------------------------------------------------------------------------------------


def test_the_interval_is_students():
    values = {"Grad-CAM": [0.1, 0.5, 0.3, 0.9], "CAM": [0.2, 0.4, 0.2, 0.3]}
    rows = [
        {
            "picture": p,
            "class": "x",
            "method": m,
            **dict.fromkeys(MEASURES, values[m][p]),
            **dict.fromkeys(TRUTHS, np.nan),
        }
        for p in range(4)
        for m in values
    ]
    table = summary(pd.DataFrame(rows))
    assert list(table.columns) == ["method", "measure", "mean", "low", "high", "count"]
    assert list(dict.fromkeys(table["method"])) == ["Grad-CAM", "CAM"]  # in the order of the trials
    assert list(table["measure"]) == [*MEASURES, *MEASURES]  # without a truth there is nothing to say of it
    for method, given in values.items():
        interval = stats.t.interval(0.95, len(given) - 1, np.mean(given), stats.sem(given))
        for _, row in table[table["method"] == method].iterrows():
            assert row["mean"] == pytest.approx(np.mean(given))
            assert (row["low"], row["high"]) == pytest.approx(interval)
            assert row["count"] == 4


def test_unknown_values_are_left_out_and_one_value_has_no_interval():
    rows = [
        {
            "picture": p,
            "class": "x",
            "method": "CAM",
            **dict.fromkeys(MEASURES, float(p)),
            "points": points,
            "inside": points,
            "iou": np.nan,
        }
        for p, points in enumerate([1.0, np.nan, np.nan])
    ]
    table = summary(pd.DataFrame(rows)).set_index("measure")
    assert table.loc["points", "count"] == 1
    assert table.loc["points", "mean"] == 1
    assert table.loc["points", ["low", "high"]].isna().all()
    assert table.loc["drop", "count"] == 3
    assert "iou" not in table.index


# A folder -------------------------------------------------------------------------------------------------------------


def write(path, pixels):
    path.write_bytes(pictures.to_png(pixels))


def test_a_folder_of_pictures_and_masks(tiny, tmp_path):
    whole = nets.picture((24, 40))
    write(tmp_path / "b.png", whole)
    write(tmp_path / "a.PNG", nets.picture((24, 32), seed=1))
    mask = np.zeros((24, 40), np.float32)
    mask[6:18, 10:24] = 1
    write(tmp_path / "b.mask.png", mask)
    (tmp_path / "notes.txt").write_text("not a picture")
    found = folder(tiny, tmp_path, 3)
    assert list(found) == ["a.PNG", "b.png"]
    assert {trial.class_index for trial in found.values()} == {3}
    assert found["a.PNG"].truth is None
    pixels, frame = tiny.view(pictures.load(tmp_path / "b.png"))
    np.testing.assert_array_equal(found["b.png"].pixels, pixels)
    truth = found["b.png"].truth
    assert (truth.shape, truth.dtype) == ((12, 16), np.dtype(bool))
    top, left = frame.to_net(6, 10)
    bottom, right = frame.to_net(18, 24)
    rows, cols = np.mgrid[:12, :16] + 0.5
    np.testing.assert_array_equal(truth, (rows > top) & (rows < bottom) & (cols > left) & (cols < right))
    assert next(iter(folder(tiny, tmp_path).values())).class_index is None


def test_folders_that_cannot_be_used(tiny, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"^There is no picture in the folder empty; JPEG"):
        folder(tiny, empty)
    write(empty / "a.png", nets.picture((20, 20)))
    write(empty / "a.mask.png", np.ones((20, 21), np.float32))
    with pytest.raises(ValueError, match=r"^a\.mask\.png has not the size of a\.png: save it"):
        folder(tiny, empty)
    (empty / "a.png").write_bytes(b"nothing")
    with pytest.raises(NotAPicture):
        folder(tiny, empty)


def test_a_whole_run_from_a_folder(tiny, tmp_path):
    for seed in range(3):
        write(tmp_path / f"{seed}.png", nets.picture((24, 32), seed=seed))
    table = summary(trials(tiny, folder(tiny, tmp_path), METHODS))
    assert len(table) == 2 * len(MEASURES)
    assert (table["count"] == 3).all()
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()

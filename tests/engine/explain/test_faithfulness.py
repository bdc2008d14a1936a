"""Are the four measures those of their papers, on a net where every picture's number can be worked out by hand?"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import small_nets as nets

from engine.explain.evidence import over_picture
from engine.explain.faithfulness import darkened, faithfulness, faithfulness_steps, judge, judge_steps, ranking, shown
from engine.net import Net, UnknownClass, UnknownLayer
from engine.pictures.fill import blank
from engine.target import class_score, number

RANDOM = np.random.default_rng(5)
WEIGHT = RANDOM.normal(0, 0.2, (2, 3, 12, 16))
BIAS = np.array([0.4, 30.0])
MAP = RANDOM.normal(0, 1, (12, 16)).astype(np.float32)


@pytest.fixture
def linear(tmp_path) -> Net:
    return nets.save(nets.linear(WEIGHT, BIAS), tmp_path / "linear.onnx")


def logit(image: np.ndarray) -> float:
    u = (image.astype(np.float64) - nets.MEAN) / nets.STD
    return float((WEIGHT[1].transpose(1, 2, 0) * u).sum() + BIAS[1])


def contributions(image: np.ndarray) -> np.ndarray:
    """(H, W): by how much the logit falls when a pixel turns grey."""
    u = (image.astype(np.float64) - 0.5) / nets.STD
    return (WEIGHT[1].transpose(1, 2, 0) * u).sum(2)


# Insertion and deletion -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("points", [4, 7, 32])
def test_the_curves_and_their_areas(linear, picture, points):
    """Pixel by pixel in the order of the map."""
    found = judge(linear, picture, class_score(linear, 1), MAP, points=points, masks=2)
    order = np.argsort(-MAP.ravel())
    grey, blurred = blank(picture, "grey"), blank(picture, "blur")
    deletion, insertion = [], []
    for k in range(points + 1):
        first = order[: round(k / points * 192)]
        without, only = picture.reshape(-1, 3).copy(), blurred.reshape(-1, 3).copy()
        without[first], only[first] = grey.reshape(-1, 3)[first], picture.reshape(-1, 3)[first]
        deletion.append(logit(without.reshape(picture.shape)))
        insertion.append(logit(only.reshape(picture.shape)))
    assert list(found.curves.columns) == ["fraction", "insertion", "deletion"]
    np.testing.assert_allclose(found.curves["fraction"], np.arange(points + 1) / points)
    np.testing.assert_allclose(found.curves["deletion"], deletion, rtol=1e-4)
    np.testing.assert_allclose(found.curves["insertion"], insertion, rtol=1e-4)
    for area, curve in ((found.deletion, deletion), (found.insertion, insertion)):
        by_hand = sum((a + b) / 2 for a, b in itertools.pairwise(curve)) / points
        assert area == pytest.approx(by_hand, rel=1e-4)


def test_the_ends_of_the_curves(tiny, picture):
    """Whatever the map: all of the picture, all grey, all blurred; in the class's probability."""
    found = judge(tiny, picture, 2, MAP, points=5, masks=1).curves
    whole, grey, blurred = (
        number(tiny, image, 2) for image in (picture, blank(picture, "grey"), blank(picture, "blur"))
    )
    assert found["deletion"].iloc[[0, -1]].tolist() == pytest.approx([whole, grey], abs=1e-6)
    assert found["insertion"].iloc[[0, -1]].tolist() == pytest.approx([blurred, whole], abs=1e-6)


def test_the_true_order_deletes_sooner_than_any_other(linear, picture):
    true = contributions(picture)
    target = class_score(linear, 1)
    areas = [judge(linear, picture, target, each, masks=1).deletion for each in (true, MAP, -true)]
    assert areas[0] < areas[1] < areas[2]
    assert areas[0] < min(judge(linear, picture, target, MAP + 0 * s, seed=s, masks=1).deletion for s in range(3))


def test_the_order_is_from_most_to_least_and_ties_are_drawn():
    found = np.array([[0.0, 2.0, -1.0], [2.0, 5.0, 2.0]])
    orders = {tuple(ranking(found, seed)) for seed in range(40)}
    for order in orders:
        assert (order[0], order[4], order[5]) == (4, 0, 2)
        assert set(order[1:4]) == {1, 3, 5}
    assert len(orders) == 6
    np.testing.assert_array_equal(ranking(found, 3), ranking(found, 3))


def test_a_part_of_the_picture_is_shown(picture):
    order = np.arange(192)[::-1]
    found = shown(picture, np.zeros_like(picture), order, 0.25)
    np.testing.assert_array_equal(found[9:], picture[9:])
    assert not found[:9].any()


# Drop and increase ----------------------------------------------------------------------------------------------------


def test_the_picture_is_darkened_where_the_map_is_low(picture):
    ramp = np.linspace(-3, 5, 192).reshape(12, 16)
    expected = picture * np.linspace(0, 1, 192).reshape(12, 16, 1)
    np.testing.assert_allclose(darkened(picture, ramp), expected, atol=1e-6)
    np.testing.assert_array_equal(darkened(picture, np.full((12, 16), 0.3)), picture)


@pytest.mark.parametrize("sign", [1, -1])
def test_drop_and_increase(linear, picture, sign):
    found = judge(linear, picture, class_score(linear, 1), sign * MAP, masks=1)
    before, after = logit(picture), logit(darkened(picture, sign * MAP))
    assert before > 0
    assert found.drop == pytest.approx(max(before - after, 0) / before, rel=1e-3, abs=1e-5)
    assert found.increase == float(after > before)


def test_both_cases_of_an_increase(linear, picture):
    """Darkening only where bright pixels speak against the class helps it; the other way round it harms."""
    helps = -WEIGHT[1].sum(0)
    cases = [judge(linear, picture, class_score(linear, 1), sign * helps, masks=1) for sign in (-1, 1)]
    assert [case.increase for case in cases] == [1, 0]
    assert cases[0].drop == 0 < cases[1].drop


def test_where_the_number_is_negative_a_fall_is_still_a_drop(linear, picture):
    target = class_score(linear, 1) - 1000 * class_score(linear, 0) * 0 - 1 * class_score(linear, 1) * 2
    found = judge(linear, picture, target, MAP, masks=1)  # the negative of the logit
    before, after = -logit(picture), -logit(darkened(picture, MAP))
    assert before < 0
    assert found.drop == pytest.approx(max(before - after, 0) / -before, rel=1e-3, abs=1e-5)


# Infidelity -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 0.01, 250.0])
def test_what_each_pixel_contributes_foretells_every_fall(linear, picture, factor):
    """Whatever unit it is in."""
    found = judge(linear, picture, class_score(linear, 1), factor * contributions(picture), masks=40)
    assert found.unexplained < 1e-5
    assert found.infidelity < 1e-5


def test_a_map_of_something_else_leaves_falls_unexplained(linear, picture):
    found = judge(linear, picture, class_score(linear, 1), MAP, masks=60)
    assert 0.5 < found.unexplained <= 1
    nothing = judge(linear, picture, class_score(linear, 1), 0 * MAP, masks=60)
    assert nothing.unexplained == 1
    assert found.infidelity / found.unexplained == pytest.approx(nothing.infidelity, rel=1e-6)


def test_the_opposite_of_what_each_pixel_contributes_foretells_nothing(linear, picture):
    found = judge(linear, picture, class_score(linear, 1), -contributions(picture), masks=40)
    assert found.unexplained == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_infidelity_is_the_mean_square_of_what_is_left(linear, picture, monkeypatch, sign):
    """From the hidden parts themselves: squares of a grid of 7 along the shorter side, a third of them hidden."""
    from engine.explain import faithfulness as module

    kept = []
    hidings = module._hidings
    monkeypatch.setattr(module, "_hidings", lambda *args: kept.append(hidings(*args)) or kept[-1])
    found = judge(linear, picture, class_score(linear, 1), sign * MAP, masks=50)
    (gone,) = kept
    assert gone.shape == (50, 12, 16)
    assert gone.mean() == pytest.approx(0.3, abs=0.04)
    cells = gone.reshape(50, 6, 2, 8, 2)
    assert (cells == cells[:, :, :1, :, :1]).all()
    falls = np.array([contributions(picture)[part].sum() for part in gone])
    foretold = sign * np.array([MAP[part].sum() for part in gone])
    best = max(np.linalg.lstsq(foretold[:, None], falls, rcond=None)[0][0], 0)
    assert found.infidelity == pytest.approx(((best * foretold - falls) ** 2).mean(), rel=1e-3)
    assert found.unexplained == pytest.approx(found.infidelity / (falls**2).mean(), rel=1e-3)


# A run ----------------------------------------------------------------------------------------------------------------


def test_what_is_not_known_yet_is_nan_and_in_the_end_all_is_known(tiny, picture, monkeypatch):
    monkeypatch.setitem(vars(tiny), "batch_size", 9)
    steps = list(judge_steps(tiny, picture, 1, MAP, points=6, masks=12))
    assert [step.index for step in steps] == [9, 18, 27, 28]
    assert {step.total for step in steps} == {28}
    first = steps[0].result
    assert np.isfinite(first.deletion)
    assert first.curves["insertion"].notna().sum() == 2
    for measure in ("insertion", "drop", "increase", "infidelity", "unexplained"):
        assert np.isnan(getattr(first, measure)), measure
        assert np.isfinite(getattr(steps[-1].result, measure)), measure
    assert np.isfinite(steps[1].result.insertion)
    assert steps[1].result.drop >= 0
    assert np.isnan(steps[2].result.infidelity)


def test_the_batch_size_does_not_matter(tiny, picture, monkeypatch):
    whole = judge(tiny, picture, 1, MAP, points=6, masks=12)
    for size in (1, 5):
        monkeypatch.setitem(vars(tiny), "batch_size", size)
        found = judge(tiny, picture, 1, MAP, points=6, masks=12)
        for measure in ("insertion", "deletion", "drop", "increase", "infidelity", "unexplained"):
            assert getattr(found, measure) == pytest.approx(getattr(whole, measure), rel=1e-3, abs=1e-8)


@pytest.mark.parametrize("method", ["Grad-CAM", "SmoothGrad"])
def test_a_methods_own_steps_come_first(tiny, picture, method):
    steps = list(faithfulness_steps(tiny, picture, 1, method=method, points=4, masks=8))
    mapped = 1 if method == "Grad-CAM" else 4  # 32 copies, 8 at a time
    total = (1 if method == "Grad-CAM" else 32) + 2 * 5 + 2 + 8
    assert {step.total for step in steps} == {total}
    assert steps[-1].index == total
    for step in steps[:mapped]:
        assert step.result.evidence.shape == (12, 16)
        assert all(
            np.isnan(getattr(step.result, name)) for name in ("insertion", "deletion", "drop", "increase", "infidelity")
        )
    assert np.isfinite(steps[-1].result.unexplained)


def test_measuring_a_method_is_judging_its_map(tiny, picture):
    from engine.explain.evidence import evidence

    found = faithfulness(tiny, picture, 1, method="Grad-CAM", layer="relu1", points=5, masks=7, seed=3)
    given = evidence(tiny, picture, 1, method="Grad-CAM", layer="relu1")
    judged = judge(tiny, picture, 1, given, points=5, masks=7, seed=3)
    assert found.curves.equals(judged.curves)
    for name in ("insertion", "deletion", "drop", "increase", "infidelity", "unexplained"):
        assert getattr(found, name) == getattr(judged, name)
    np.testing.assert_array_equal(found.evidence, given)


def test_a_small_map_is_stretched_over_the_picture(tiny, picture):
    small = RANDOM.normal(0, 1, (4, 6)).astype(np.float32)
    one = judge(tiny, picture, 1, small, points=4, masks=4)
    other = judge(tiny, picture, 1, over_picture(small, (12, 16)), points=4, masks=4)
    assert one.curves.equals(other.curves)
    assert one.infidelity == other.infidelity
    assert one.evidence.shape == (12, 16)


def test_what_cannot_be_done_is_refused(tiny, picture):
    with pytest.raises(ValueError, match="no map of evidence"):
        faithfulness(tiny, picture, 1, method="Palmistry")
    with pytest.raises(UnknownLayer):
        faithfulness(tiny, picture, 1, layer="mean")
    with pytest.raises(UnknownClass):
        faithfulness(tiny, picture, 4)
    for how in ({"points": 0}, {"masks": 0}):
        with pytest.raises(ValueError, match="a point or more besides its first, and infidelity a hidden part or more"):
            faithfulness(tiny, picture, 1, **how)

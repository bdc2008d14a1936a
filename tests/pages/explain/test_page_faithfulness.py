"""Faithfulness: do curve, pictures and measures belong together, on one picture and on many?"""

from __future__ import annotations

import numpy as np
import pytest
from test_pages import charts, defaults, fine, home, opened, run, scene, tables  # noqa: F401

from engine import image
from engine.explain.clever_hans import goes_by, view
from engine.explain.faithfulness import faithfulness
from engine.explain.trials import against
from engine.pictures import samples


def curve(at, name: str) -> np.ndarray:
    (found,) = (
        table for chart in charts(at) for table in tables(chart) if "curve" in table and len(table["curve"]) > 2
    )
    return np.array([value for value, curve in zip(found["value"], found["curve"], strict=True) if curve == name])


def measures(at) -> dict[str, str]:
    return {each.label: each.value for each in at.metric}


def test_the_curves_are_the_engines():
    at = opened("faithfulness", net="digits", method="CAM", points=10, parts=8)
    seen = scene(at)
    found = faithfulness(seen.net, seen.pixels, seen.class_index, method="CAM", points=10, masks=8)
    for name in ("insertion", "deletion"):
        np.testing.assert_allclose(curve(at, name), found.curves[name], atol=1e-5)
    assert measures(at)["Insertion"] == f"{found.insertion:.3g}"
    assert measures(at)["Unexplained"] == f"{found.unexplained:.1%}"
    assert "IoU" not in measures(at), "there is no truth of a digit"


def test_the_share_of_pixels_is_where_the_curve_is_read():
    at = opened("faithfulness", net="digits", method="CAM", points=10, parts=8, percent=40)
    found = curve(at, "deletion")[4]
    assert any(each.value == f"The network says {found:.3g} at 40%." for each in at.caption)
    assert sum("the first 40 %" in each.value for each in at.markdown) == 2


def test_a_planted_picture_is_scored_against_what_the_network_goes_by():
    for net, part in (("clever_hans", "cue"), ("honest", "object")):
        at = opened("faithfulness", net=net, image="planted-disc-square", method="Occlusion", points=10, parts=8)
        assert fine(at)
        seen = scene(at)
        planted = view(samples.planted("planted-disc-square"), seen.net)
        mask = goes_by(seen.net, planted)
        assert mask is getattr(planted, part)
        found = faithfulness(seen.net, seen.pixels, seen.class_index, method="Occlusion", points=10, masks=8)
        assert measures(at)["Inside"] == f"{against(found.evidence, mask)['inside']:.1%}"
        assert measures(at)["Points at it"] == "yes"


def test_many_pictures_give_means_with_intervals():
    at = opened("faithfulness", net="digits", on="many pictures")
    at.multiselect(key="several").set_value(["CAM", "Grad-CAM"])
    at.multiselect(key="which").set_value(["digit-1", "digit-2", "digit-5"])
    run(at)
    assert fine(at)
    (table,) = at.dataframe
    assert list(table.value["Method"]) == ["CAM", "Grad-CAM"]
    assert all(" ± " in cell for cell in table.value["Insertion"])
    (dots,) = (found for chart in charts(at) for found in tables(chart) if "label" in found)
    assert set(dots["label"]) == {"CAM", "Grad-CAM"}
    assert all(low < value < high for low, value, high in zip(dots["low"], dots["value"], dots["high"], strict=True))


def test_pictures_of_ones_own_and_one_that_is_none():
    at = opened("faithfulness", net="digits", on="many pictures", source="my own")
    assert fine(at)
    assert any("Choose a method and a picture" in each.value for each in at.info)
    at.multiselect(key="several").set_value(["CAM"])
    good = image.to_png(samples.load("digit-4"))
    at.file_uploader(key="files").set_value([("a.png", good, "image/png"), ("b.png", b"no picture", "image/png")])
    run(at)
    assert fine(at)
    (warning,) = at.warning
    assert warning.value.startswith("b.png is left out.")
    assert list(at.dataframe[0].value["Method"]) == ["CAM"]


@pytest.mark.parametrize("method", ["CAM", "Eigen-CAM"])
def test_a_method_without_gradients_needs_no_certificate(method, monkeypatch):
    from engine.nets import certificate

    monkeypatch.setattr(certificate, "recall", lambda net: pytest.fail("nobody asked for gradients"))
    monkeypatch.setattr(certificate, "known", certificate.recall)
    monkeypatch.setattr("ui.sidebar.badges", lambda net: None)
    assert fine(opened("faithfulness", net="digits", method=method, points=10, parts=8))

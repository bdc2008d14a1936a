"""The page about class activation maps: which method, what it says of itself, the box, several maps in one scale."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import small_nets as small
from streamlit.testing.v1 import AppTest
from test_pages import (
    FAILED,
    MAIN,
    PATIENCE,
    PROJECT,
    charts,
    chosen,
    code,
    fine,
    home,  # noqa: F401  (a fixture)
    opened,
    run,
    scene,
    shown,
    tables,
)

from engine.explain import boxes
from engine.explain.cam import cam, ending
from engine.explain.evidence import evidence, over_picture, ways
from engine.net import softmax
from engine.nets import certificate
from engine.pictures import samples


def words(at: AppTest) -> str:
    return " ".join(each.value for each in [*at.main.markdown, *at.main.caption, *at.main.info])


def spec(chart: Any) -> dict:
    return json.loads(chart.spec)


def scale(chart: Any) -> list[float]:
    """What the colours of a chart run from and to."""
    (found,) = (
        layer["encoding"]["fill"]["scale"]["domain"]
        for layer in spec(chart)["layer"]
        if "scale" in layer["encoding"].get("fill", {})
    )
    return found


def columns(at: AppTest, *names: str) -> list[dict[str, list]]:
    """The tables of the page's charts that have all these columns, in order."""
    return [table for chart in charts(at) for table in tables(chart) if set(names) <= set(table)]


def outlined(chart: Any) -> list[tuple[float, ...]]:
    """The boxes that a chart draws, each once."""
    sides = ["top", "left", "bottom", "right"]
    found = [table for table in tables(chart) if set(table) == set(sides)]
    return sorted({row for table in found for row in zip(*(table[side] for side in sides), strict=True)})


def plain(*, averaged: bool, gate: str = "Relu", sign: float = 1.0):
    """A network of one convolution: it ends in an average and a linear layer, or in a linear layer on all cells."""
    rng = np.random.default_rng(3)
    cells = 1 if averaged else 12 * 16
    constants = {
        "w": rng.normal(0, 0.3, (5, 3, 3, 3)).astype(np.float32),
        "head": (sign * np.abs(rng.normal(0, 0.1, (4, 5 * cells)))).astype(np.float32),
    }
    nodes = [small.node("Conv", "image w", "conv", pads=[1, 1, 1, 1]), small.node(gate, "conv", "map")]
    last = "map"
    if averaged:
        nodes.append(small.node("GlobalAveragePool", "map", "mean"))
        last = "mean"
    nodes += [small.node("Flatten", last, "flat"), small.node("Gemm", "flat head", "logits", transB=1)]
    return small.model(nodes, constants, about=small.ABOUT)


@pytest.fixture(autouse=True, scope="module")
def networks(home) -> None:  # noqa: F811
    for name, made in {
        "averaged": plain(averaged=True),
        "against": plain(averaged=True, sign=-1),
        "flat": plain(averaged=False),
        "smooth": plain(averaged=False, gate="Tanh"),
    }.items():
        (home / "networks" / f"{name}.onnx").write_bytes(made.SerializeToString())


# Which method ---------------------------------------------------------------------------------------------------------


def test_where_cam_is_exact_it_comes_first_and_adds_up():
    at = opened("cam", net="digits")
    assert chosen(at, "method") == "CAM"
    assert chosen(at, "view") == "one map"
    assert "layer" not in {each.key for each in at.selectbox}, "CAM takes no layer; it says which one it averages"
    here = scene(at)
    end = ending(here.net)
    assert f"Averaged is {end.layer}" in words(at)
    said = re.search(r"mean, (\S+), plus .* bias, (\S+), is its logit: (\S+?)\. ", words(at))
    mean, bias, logit = map(float, said.groups())
    assert mean + bias == pytest.approx(logit, abs=2e-3)
    assert logit == pytest.approx(here.logits[here.class_index], abs=1e-3)


def test_where_there_is_no_exact_cam_the_page_says_so_and_opens_with_grad_cam():
    at = opened("cam", net="flat")
    assert fine(at)
    assert chosen(at, "method") == "Grad-CAM"
    assert "CAM" not in at.get_by_key("method").options
    assert "flat does not end in global average pooling and one linear layer" in words(at)
    assert "CAM" in opened("cam", net="averaged").get_by_key("method").options


def test_all_methods_that_take_a_layer_are_there():
    options = opened("cam", net="digits").get_by_key("method").options
    wanted = {title for title, way in ways().items() if "layer" in way.takes} - {"Hide-and-seek"}
    assert set(options) == wanted | {"CAM"}
    assert len(options) == len(set(options)) >= 10


@pytest.mark.parametrize("link", [{"about": "margin"}, {"about": "margin", "method": "CAM"}])
def test_cam_knows_classes_only(link):
    at = opened("cam", net="digits", **link)
    assert fine(at)
    assert chosen(at, "method") == "Grad-CAM"
    assert "CAM is about a class" in words(at)
    at.get_by_key("about").set_value("class")
    run(at).get_by_key("method").set_value("CAM")
    assert fine(run(at))
    assert "CAM is about a class" not in words(at)
    assert chosen(at, "method") == "CAM"


def test_another_network_takes_the_method_along_where_it_can():
    at = opened("cam", net="digits")
    at.selectbox(key="net").set_value("flat")
    assert fine(run(at))
    assert chosen(at, "method") == "Grad-CAM"
    at.get_by_key("method").set_value("LayerCAM")
    run(at).selectbox(key="net").set_value("digits")
    assert fine(run(at))
    assert chosen(at, "method") == "LayerCAM"


@pytest.mark.parametrize("view", ["one map", "top five", "several pictures", "all layers"])
def test_eigen_cam_is_said_to_be_of_no_class_wherever_it_is_chosen(view):
    at = opened("cam", net="digits", method="Eigen-CAM", view=view)
    assert fine(at)
    (said,) = (each.value for each in at.info)
    assert "no class" in said
    assert not opened("cam", net="digits", method="Grad-CAM", view=view).info


@pytest.mark.parametrize("method", ["HiResCAM", "Score-CAM", "Ablation-CAM", "Guided Grad-CAM", "Eigen-CAM"])
def test_the_map_is_the_method_s(method, monkeypatch):
    found = shown(monkeypatch, "cam", {"net": "digits", "method": method, "layer": "relu4", "class": "5"})
    here = scene(found.at)
    expected = evidence(here.net, here.pixels, here.class_index, method=method, layer="relu4")
    (values,) = found.numbers
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("method", "long"), [("Score-CAM", True), ("Ablation-CAM", True), ("LayerCAM", False)])
def test_long_methods_show_their_progress(method, long):
    at = opened("cam", net="digits", method=method)
    assert fine(at)
    assert any(str(each.key) == "again_cam" for each in at.button) == long


def test_what_a_method_cannot_do_is_one_sentence_and_the_rest_stays():
    at = opened("cam", net="smooth", method="Guided Grad-CAM")
    assert not at.exception
    (error,) = at.error
    assert "Tanh" in error.value
    assert code(at, "python"), "how to ask for it is there all the same"
    at.get_by_key("method").set_value("Grad-CAM")
    assert fine(run(at))


def test_methods_without_a_gradient_need_no_certificate(monkeypatch):
    monkeypatch.setattr(certificate, "recall", lambda net: FAILED)
    for method, link in {"CAM": {}, "Score-CAM": {}, "Ablation-CAM": {"view": "top five"}, "Eigen-CAM": {}}.items():
        assert fine(opened("cam", net="digits", method=method, **link))
    (error,) = opened("cam", net="digits", method="LayerCAM").error
    assert FAILED.reason in error.value


def test_exact_cam_needs_no_torch():
    script = f"""
import os, sys
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({str(MAIN)!r}, default_timeout={PATIENCE})
at.switch_page("../pages/explain/cam.py")
at.query_params = {{"net": "digits"}}
at.run()
print(at.get_by_key("method").value, not at.exception, "torch" in sys.modules, flush=True)
os._exit(0)
"""
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert found.stdout.split() == ["CAM", "True", "False"], found.stderr


# The box --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.2, 0.6])
def test_the_box_is_the_engine_s(threshold):
    at = opened("cam", image="cat", threshold=threshold)
    assert fine(at)
    here = scene(at)
    found = boxes.bounding_box(here.net, here.pixels, here.class_index, method="CAM", threshold=threshold)
    wanted = here.frame.box_to_picture(*found.box)
    assert any(box == pytest.approx(wanted) for box in outlined(charts(at)[0]))
    assert f"{boxes.filled_box(found.box, (160, 160)).mean():.0%} of what the network sees" in words(at)


def test_the_clicked_cell_and_what_it_sees_are_marked():
    at = opened("cam", net="digits", method="Grad-CAM", layer="relu2", at="3, 12")
    here = scene(at)
    field = here.net.layer("relu2").receptive_field.window(3, 12, here.net.input_size)
    map_chart = next(chart for chart in charts(at) if any({"row", "col"} <= set(table) for table in tables(chart)))
    sides = outlined(map_chart)
    assert any(box == pytest.approx(here.frame.box_to_picture(*field)) for box in sides)
    assert any(box == pytest.approx(here.frame.box_to_picture(6, 24, 8, 26)) for box in sides), "a cell of two pixels"
    assert any(each.value.startswith("(3, 12) is at ") for each in at.caption)


def test_where_nothing_speaks_for_a_class_there_is_no_box():
    at = opened("cam", net="against")
    assert fine(at)
    here = scene(at)
    assert cam(here.net, here.pixels, here.class_index).max() <= 0
    assert "nowhere above zero" in words(at)
    assert len(outlined(charts(at)[0])) == 1, "only that of what the network sees"


def test_the_truth_is_compared_with_where_it_is_known():
    (table,) = columns(opened("cam"), "threshold", "curve")
    assert set(table["curve"]) == {"share of the picture"}
    at = opened("cam", image="planted-disc-square")
    assert fine(at)
    here = scene(at)
    made = samples.planted("planted-disc-square")
    mask = here.net.view(made.object[..., None].repeat(3, 2).astype(np.float32))[0][..., 0] > 0.5
    whole = over_picture(cam(here.net, here.pixels, here.class_index), here.net.input_size)
    expected = boxes.sweep(whole, mask)
    (table,) = columns(at, "threshold", "curve")
    for curve, column in {"box on true box": "iou", "part on true mask": "mask_iou"}.items():
        values = [v for v, name in zip(table["value"], table["curve"], strict=True) if name == curve]
        assert values == pytest.approx(expected[column].to_list())
    assert f"{boxes.inside(whole, mask):.0%} of the positive evidence inside" in words(at)
    at.get_by_key("planted").set_value("watermark")
    assert fine(run(at))
    assert f"{boxes.inside(whole, mask):.0%} of the positive evidence inside" not in words(at)


# Several maps ---------------------------------------------------------------------------------------------------------


def tiles(at: AppTest) -> list[Any]:
    return [chart for chart in charts(at) if any("maximum" in table and "score" in table for table in tables(chart))]


@pytest.mark.parametrize("method", ["CAM", "Grad-CAM", "Score-CAM"])
def test_the_five_likeliest_classes_in_one_scale(method, monkeypatch):
    found = shown(monkeypatch, "cam", {"net": "digits", "view": "top five", "method": method})
    at, here = found.at, scene(found.at)
    top = np.argsort(-here.probabilities, kind="stable")[:5]
    told = [table for chart in tiles(at) for table in tables(chart) if "score" in table]
    assert [table["class"] for table in told] == [[here.net.labels[k]] for k in top]
    assert [table["score"] for table in told] == [[f"{here.probabilities[k]:.1%}"] for k in top]
    for values, k in zip(found.numbers, top, strict=True):
        assert values == pytest.approx(evidence(here.net, here.pixels, int(k), method=method), rel=1e-4, abs=1e-6)
    bar = next(chart for chart in charts(at) if chart.alt.startswith("From "))
    top_value = max(np.abs(values).max() for values in found.numbers)
    assert scale(bar)[1] == pytest.approx(top_value, rel=1e-5)
    assert scale(bar)[0] == pytest.approx(-top_value if min(v.min() for v in found.numbers) < 0 else 0, rel=1e-5)


def test_a_class_that_is_not_among_the_five():
    at = opened("cam", net="digits")
    last = int(scene(at).probabilities.argmin())
    at = opened("cam", net="digits", view="top five", **{"class": last})
    assert fine(at)
    assert f"cam(net, pixels, {scene(at).probabilities.argmax()})" in code(at, "python")


def test_one_class_in_several_pictures():
    at = opened("cam", net="digits", view="several pictures", image="digit-7", pictures="digit-1")
    assert fine(at)
    assert at.get_by_key("pictures").value == ["digit-1"]
    here = scene(at)
    told = [table for chart in tiles(at) for table in tables(chart) if "score" in table]
    assert [table["picture"] for table in told] == [["digit-7"], ["digit-1"]]
    other = softmax(here.net.scores(here.net.batch(here.net.view(samples.load("digit-1"))[0])))[0]
    assert [table["score"] for table in told] == [
        [f"{here.probabilities[here.class_index]:.1%}"],
        [f"{other[here.class_index]:.1%}"],
    ]


@pytest.mark.parametrize(("net", "kind"), [("digits", "digit"), ("imagenette", "photograph")])
def test_the_pictures_beside_it_suit_the_network(net, kind):
    at = opened("cam", net=net, view="several pictures")
    assert fine(at)
    assert at.get_by_key("pictures").value == samples.names(kind)
    assert len(tiles(at)) == len(samples.names(kind)), "the one that is open counts once"


def test_no_other_picture():
    at = opened("cam", net="digits", view="several pictures")
    at.get_by_key("pictures").set_value([])
    assert fine(run(at))
    assert len(tiles(at)) == 1


def test_all_layers_are_there_in_order_and_one_is_large(monkeypatch):
    found = shown(monkeypatch, "cam", {"net": "digits", "view": "all layers", "layer": "conv4"})
    at, here = found.at, scene(found.at)
    assert chosen(at, "method") == "Grad-CAM"
    assert "CAM is of the averaged layer alone" in words(at)
    maps = [layer.name for layer in here.net.layers if layer.has_map]
    (sheet,) = columns(at, "tile", "layer")
    assert sheet["layer"] == maps
    assert [values.shape for values in found.numbers] == [here.net.layer(name).shape[1:] for name in maps[::-1]]
    expected = evidence(here.net, here.pixels, here.class_index, layer="conv4")
    assert found.numbers[maps[::-1].index("conv4")] == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert "layer='conv4'" in found.python
    assert any("conv4" in chart.alt and "over the picture" in chart.alt for chart in charts(at))


@pytest.mark.parametrize(("net", "kind"), [("clever_hans", "watermark"), ("honest", "object")])
def test_what_the_class_is_about_is_compared_first(net, kind):
    """On a picture of a disc that is marked as a square, one network says square and the other disc."""
    at = opened("cam", net=net, image="planted-disc-square")
    assert fine(at)
    assert at.get_by_key("planted").options[0] == chosen(at, "planted") == kind
    inside = []
    for part in at.get_by_key("planted").options:
        at.get_by_key("planted").set_value(part)
        assert fine(run(at))
        inside.append(int(re.search(r"(\d+)% of the positive evidence inside", words(at))[1]))
    assert inside[0] >= 20 > 5 >= inside[1], "and that is where the map is, as far as its coarse cells can tell"

"""Do several methods, layers and networks stand beside one another as each stands alone?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import small_nets as nets
from scipy.stats import spearmanr

from engine.explain.cam import NoCam
from engine.explain.compare import SEVERAL, aligned, at, compare, compare_steps, networks_steps
from engine.explain.evidence import evidence, over_picture, ways
from engine.image import Frame
from engine.nets import certificate
from engine.nets.certificate import Certificate
from engine.step import last


def test_each_is_the_methods_own_map(tiny, picture):
    names = ["Eigen-CAM", "Gradient", "Score-CAM", "Integrated Gradients"]
    found = compare(tiny, picture, 1, methods=", ".join(names))
    assert list(found.maps) == names
    assert found.refused == {}
    for name, one in found.maps.items():
        np.testing.assert_array_equal(one, evidence(tiny, picture, 1, method=name))


def test_they_are_ranked_over_the_picture_in_their_order(tiny, picture):
    found = compare(tiny, picture, 1, methods="Eigen-CAM, Gradient, Grad-CAM")
    whole = [over_picture(one, (12, 16)).ravel() for one in found.maps.values()]
    np.testing.assert_allclose(found.correlations, spearmanr(np.stack(whole), axis=1).statistic, atol=1e-6)


def test_names_may_be_of_functions_and_come_twice(tiny, picture):
    found = compare(tiny, picture, 1, methods="saliency,  Eigen-CAM ,Gradient")
    assert list(found.maps) == ["Gradient", "Eigen-CAM"]


def test_what_is_compared_by_default_is_there():
    assert set(SEVERAL.split(", ")) <= set(ways())


def test_those_that_take_a_layer_are_asked_at_each_of_them(tiny, picture):
    found = compare(tiny, picture, 1, methods="Grad-CAM, Gradient", layers="relu1, conv2,relu1")
    assert list(found.maps) == [at("Grad-CAM", "relu1"), at("Grad-CAM", "conv2"), "Gradient"]
    for layer in ("relu1", "conv2"):
        alone = evidence(tiny, picture, 1, method="Grad-CAM", layer=layer)
        np.testing.assert_array_equal(found.maps[at("Grad-CAM", layer)], alone)
    np.testing.assert_array_equal(found.maps["Gradient"], evidence(tiny, picture, 1, method="Gradient"))


def test_steps_are_hundredths_and_keep_what_is_done(tiny, picture):
    steps = list(compare_steps(tiny, picture, 1, methods="Gradient, SmoothGrad, Eigen-CAM"))
    assert {step.total for step in steps} == {300}
    assert [step.index for step in steps] == [99, 100, *(100 + 99 * k // 4 for k in range(1, 5)), 200, 299, 300]
    maps = [step.result.maps for step in steps]
    assert [list(each) for each in (maps[0], maps[2], maps[-1])] == [
        ["Gradient"],
        ["Gradient", "SmoothGrad"],
        ["Gradient", "SmoothGrad", "Eigen-CAM"],
    ]
    assert maps[0]["Gradient"] is maps[-1]["Gradient"]
    assert not np.array_equal(maps[2]["SmoothGrad"], maps[-1]["SmoothGrad"])
    # Of the finished ones only.
    assert [len(step.result.correlations) for step in steps] == [0, *[1] * 5, 2, 2, 3]


def test_one_that_cannot_be_asked_does_not_stop_the_others(tmp_path, picture):
    net = nets.save(nets.linear(np.ones((2, 3, 12, 16)), np.zeros(2)), tmp_path / "linear.onnx")
    found = compare(net, picture, 1, methods="CAM, Gradient, Guided backpropagation, Grad-CAM, Occlusion")
    assert list(found.maps) == ["Gradient", "Occlusion"]
    assert found.correlations.shape == (2, 2)
    assert list(found.refused) == ["CAM", "Guided backpropagation", "Grad-CAM"]
    assert "has no exact CAM" in found.refused["CAM"]
    assert "has no layer with rows and columns" in found.refused["Grad-CAM"]
    with pytest.raises(NoCam):
        compare(net, picture, 1, methods="CAM")


def test_an_unknown_method_is_refused_before_any_is_run(tiny, picture):
    with pytest.raises(ValueError, match="called 'Palmistry'"):
        next(compare_steps(tiny, picture, 1, methods="Gradient, Palmistry"))


# Several networks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path, cache):
    """Two nets of the same classes and of other sizes, and one that knows none of them."""
    made = {}
    for name, size, labels in (
        ("wide", (12, 16), nets.LABELS),
        ("tall", (24, 14), nets.LABELS),
        ("other", (12, 16), "wxyz"),
    ):
        about = dataclasses.replace(nets.ABOUT, input_size=size, labels=tuple(labels))
        made[name] = tmp_path / f"{name}.onnx"
        made[name].write_bytes(nets.tiny(shape=("n", 3, *size), about=about).SerializeToString())
    return made


def test_each_network_sees_its_own_part(files):
    image = nets.picture((40, 60))
    found = last(networks_steps(files, image, "church", method="Eigen-CAM"))
    assert list(found.maps) == list(found.frames) == ["wide", "tall"]
    assert found.refused == {"other": "other has no class “church”."}
    assert found.correlations.shape == (2, 2)
    for name in found.maps:
        net = nets.Net(files[name])
        pixels, frame = net.view(image)
        assert found.frames[name] == frame
        np.testing.assert_array_equal(found.maps[name], evidence(net, pixels, 1, method="Eigen-CAM"))


def test_their_steps_are_hundredths(files):
    steps = list(networks_steps(files, nets.picture((40, 60)), "church", method="Eigen-CAM"))
    assert [(step.index, step.total) for step in steps] == [(99, 300), (100, 300), (199, 300), (200, 300), (300, 300)]
    assert list(steps[0].result.maps) == ["wide"]


def test_a_network_without_a_certified_twin_is_refused_where_gradients_are_needed(files, monkeypatch):
    bad = Certificate.__new__(Certificate)
    monkeypatch.setattr(Certificate, "passed", property(lambda self: False), raising=False)
    monkeypatch.setattr(Certificate, "reason", property(lambda self: "It differs."), raising=False)
    monkeypatch.setattr(certificate, "known", lambda net: bad)
    image = nets.picture((40, 60))
    found = last(networks_steps(files, image, "church", method="Gradient"))
    assert not found.maps
    assert found.refused["tall"] == "Gradient needs gradients, and tall has no certified twin. It differs."
    assert set(last(networks_steps(files, image, "church", method="Eigen-CAM")).maps) == {"wide", "tall"}


def test_maps_are_aligned_where_all_of_them_saw():
    """One sees columns 0 to 40 of 20 rows, the other 20 to 60: what they share is 20 to 40."""
    a = np.tile(np.arange(40, dtype=np.float32), (20, 1))
    b = np.tile(np.arange(20, 60, dtype=np.float32), (20, 1))
    frames = {"a": Frame(0, 0, 20, 40, (20, 40)), "b": Frame(0, 20, 20, 40, (20, 40))}
    one, other = aligned({"a": a, "b": b}, frames)
    assert one.shape == other.shape == (160, 160)
    inner = np.s_[:, 8:-8]  # at a map's own edge there is nothing to go on to
    np.testing.assert_allclose(one[inner], other[inner], atol=1e-4)
    assert one[0, 80] == pytest.approx(30 - 0.5 + 0.5 / 8, abs=0.01)

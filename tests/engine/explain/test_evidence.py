"""Are all ways to ask found, do they say truly what they need, and do they refuse in one sentence?"""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import small_nets as nets
import torch
import torch.nn.functional as F
from small_nets import node
from test_engine_sweep import SMALL

import engine
from engine import methods
from engine.explain.cam import NoCam
from engine.explain.evidence import Asking, evidence, evidence_steps, over_picture, way, ways
from engine.net import Net, UnknownClass, UnknownLayer
from engine.target import class_score, unit
from engine.twin import NoGradient, Twin

ENGINE = Path(engine.__file__).parent


def run(asking: Asking, net: Net, image: np.ndarray, **given):
    """The way's map, made short. given: of these, what it takes."""
    given = {"target": 1} | SMALL | given
    found = asking.function(net, image, **{key: value for key, value in given.items() if key in asking.takes})
    return found if isinstance(found, np.ndarray) else found.map


def every(condition=lambda asking: True):
    return pytest.mark.parametrize("title", [title for title, asking in ways().items() if condition(asking)])


# Finding them ---------------------------------------------------------------------------------------------------------


def test_the_ways_are_those_that_the_text_of_the_engine_declares():
    """Read off the files, without importing one: functions of a net that return Evidence or a class with some."""
    found = []
    for file in ENGINE.glob("**/*.py"):
        text = file.read_text("utf-8")
        holding = re.findall(r"^class (\w+):\n(?:    .*\n|\n)*?    map: Evidence$", text, re.M)
        for name, returned in re.findall(r"^def ([a-z]\w*)\(\s*net: Net[^)]*\) -> (\w+):$", text, re.M):
            if returned in ("Evidence", *holding):
                found.append(name)
    assert sorted(asking.name for asking in ways().values()) == sorted(found)
    assert len(found) >= 18  # two of one title would be fewer ways than functions


def test_they_have_titles_for_people_in_alphabetical_order():
    assert list(ways()) == sorted(ways(), key=str.lower)
    expected = {"CAM", "Grad-CAM", "Gradient", "Integrated Gradients", "Occlusion", "RISE", "SmoothGrad", "Eigen-CAM"}
    assert expected <= set(ways())
    for title, asking in ways().items():
        assert title == asking.title
        assert 2 < len(title) < 30
        assert "." not in title


def test_what_they_take(tiny):
    assert ways()["Eigen-CAM"].takes >= {"layer"}
    assert "target" not in ways()["Eigen-CAM"].takes
    assert ways()["Grad-CAM"].takes >= {"target", "layer"}
    assert "layer" not in ways()["Gradient"].takes
    assert ways()["RISE"].steps is not None
    assert ways()["Grad-CAM"].steps is None


def test_a_way_by_its_title_and_by_its_functions_name():
    for title, asking in ways().items():
        assert way(title) is way(asking.name) is asking
    with pytest.raises(ValueError, match="no map of evidence called 'Palmistry'; there are Ablation-CAM, CAM"):
        way("Palmistry")


def test_a_new_file_is_a_way_without_being_registered(tmp_path, monkeypatch):
    (tmp_path / "tomorrow.py").write_text(
        """
from __future__ import annotations
from dataclasses import dataclass
import numpy as np
from engine.explain.evidence import Evidence

@dataclass(frozen=True)
class Found:
    map: Evidence

def new(net: Net, image: np.ndarray, *, layer: str | None = None) -> Evidence:
    '''New: the latest.'''

def newer(net: Net, image: np.ndarray, target: Target | int) -> Found:
    '''Newer still: with more in it. Raises NoGradient.'''

def newer_steps(net: Net, image: np.ndarray, target: Target | int): ...

def no_way(net: Net, image: np.ndarray) -> np.ndarray:
    '''Another: numbers, but no evidence.'''
"""
    )
    monkeypatch.setattr(engine, "__path__", [*engine.__path__, str(tmp_path)])
    monkeypatch.setattr(methods, "__file__", str(tmp_path / "command.py"))
    found = ways.__wrapped__()
    assert list(found) == ["New", "Newer still"]
    assert found["New"].takes == {"net", "image", "layer"}
    assert [asking.needs_gradient for asking in found.values()] == [False, True]
    assert found["New"].steps is None
    assert found["Newer still"].steps.__name__ == "newer_steps"


@every()
def test_who_needs_the_twin_is_who_uses_it(tiny, picture, title, monkeypatch):
    def fail(*_, **__):
        raise NoGradient("The twin was asked.")

    monkeypatch.setattr(Twin, "__call__", fail)
    if ways()[title].needs_gradient:
        with pytest.raises(NoGradient, match="was asked"):
            run(ways()[title], tiny, picture)
    else:
        assert np.isfinite(run(ways()[title], tiny, picture)).all()


# Asking ---------------------------------------------------------------------------------------------------------------


@every()
def test_every_way_gives_a_map_of_the_picture(tiny, picture, title):
    found = run(ways()[title], tiny, picture)
    assert found.ndim == 2
    assert found.dtype == np.float32
    assert found.any()
    layer = "relu1" if "layer" in ways()[title].takes else None
    other = run(ways()[title], tiny, picture, layer=layer)
    assert other.shape == ((12, 16) if layer else found.shape)


@pytest.mark.parametrize("title", ["Eigen-CAM", "Grad-CAM", "Gradient", "Score-CAM", "Integrated Gradients"])
def test_by_name_it_is_the_method_itself(tiny, picture, title):
    """Those without a layer are not given one, nor is a target given to those of no class."""
    asking = ways()[title]
    given = {"target": unit(tiny, "conv2", 2), "layer": "pool1"}
    found = asking.function(tiny, picture, **{key: value for key, value in given.items() if key in asking.takes})
    found = found if isinstance(found, np.ndarray) else found.map
    np.testing.assert_array_equal(evidence(tiny, picture, given["target"], method=title, layer="pool1"), found)
    np.testing.assert_array_equal(evidence(tiny, picture, given["target"], method=asking.name, layer="pool1"), found)


@pytest.mark.parametrize("title", ["Grad-CAM", "Score-CAM"])
def test_its_steps_end_in_the_same_map(tiny, picture, title):
    steps = list(evidence_steps(tiny, picture, 1, method=title))
    assert steps[-1].index == steps[-1].total
    np.testing.assert_array_equal(steps[-1].result, evidence(tiny, picture, 1, method=title))


def test_an_unknown_way_is_refused(tiny, picture):
    with pytest.raises(ValueError, match="no map of evidence called"):
        evidence(tiny, picture, 1, method="Palmistry")


# Over the picture -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("small", "size"), [((3, 4), (12, 16)), ((4, 6), (13, 37)), ((1, 2), (5, 6)), ((9, 7), (4, 5))]
)
def test_a_map_is_stretched_bilinearly(small, size):
    """As torch stretches it between the cells' centres; downwards antialiased."""
    found = np.random.default_rng(0).normal(size=small).astype(np.float32)
    options = {"mode": "bilinear", "align_corners": False, "antialias": True}
    expected = F.interpolate(torch.from_numpy(found)[None, None], size, **options)[0, 0]
    np.testing.assert_allclose(over_picture(found, size), expected, atol=1e-5)


def test_constants_stay_and_a_map_of_the_pictures_size_is_left_alone():
    np.testing.assert_allclose(over_picture(np.full((3, 4), -2.5, np.float32), (31, 57)), -2.5, rtol=1e-6)
    found = np.zeros((12, 16), np.float32)
    assert over_picture(found, (12, 16)) is found


def test_a_cell_lies_where_it_belongs():
    """The single cell at row 1, column 3 of 2 x 4 covers the lower right of the picture."""
    found = np.zeros((2, 4), np.float32)
    found[1, 3] = 1
    large = over_picture(found, (20, 40))
    assert large[15:, 35:].min() == 1
    assert not large[:5].any()
    assert not large[:, :25].any()
    assert large[10, 35] == pytest.approx(0.55)  # its centre is 0.55 of the way from the upper cell's to the lower's


# Refusing -------------------------------------------------------------------------------------------------------------


def is_a_sentence(error: Exception) -> None:
    said = str(error)
    assert said[0].isupper() or said.split()[0] in ("tiny", "celu")
    assert said.endswith(".")
    assert "\n" not in said


@every(lambda asking: "layer" in asking.takes)
@pytest.mark.parametrize(
    ("layer", "words"),
    [("nowhere", "has no layer 'nowhere'"), ("mean", "Layer mean of tiny has no rows and columns")],
)
def test_a_layer_that_cannot_be_mapped_is_named(tiny, picture, title, layer, words):
    with pytest.raises(UnknownLayer, match=words) as caught:
        run(ways()[title], tiny, picture, layer=layer)
    is_a_sentence(caught.value)


@every(lambda asking: {"layer", "target"} <= asking.takes and asking.title != "Score-CAM")
def test_a_layer_behind_the_target_has_no_part_in_it(tiny, picture, title):
    """Score-CAM is left out: it asks what the layer's maps hide of the picture, and that is a question all the same."""
    with pytest.raises(UnknownLayer, match="Layer conv2 has no part in “channel 1 of conv1, mean”") as caught:
        run(ways()[title], tiny, picture, layer="conv2", target=unit(tiny, "conv1", 1))
    is_a_sentence(caught.value)


@every(lambda asking: "target" in asking.takes)
def test_a_class_that_is_not_there_is_named(tiny, picture, title):
    with pytest.raises(UnknownClass, match="tiny has classes 0 to 3, not 4") as caught:
        run(ways()[title], tiny, picture, target=4)
    is_a_sentence(caught.value)


@pytest.fixture(scope="module")
def celu(tmp_path_factory) -> Net:
    """`tiny` with an op before its last layer that the twin does not know."""
    nodes = nets.tiny_nodes()
    nodes[-1:] = [node("Celu", "mean", "bent"), node("Gemm", "bent w3 b3", "logits", transB=1)]
    made = nets.model(nodes, nets.tiny_weights(), opset=17, about=nets.ABOUT)
    return nets.save(made, tmp_path_factory.mktemp("nets") / "celu.onnx")


@pytest.mark.usefixtures("no_celu")
@every()
def test_an_op_without_a_twin_is_named_by_those_that_need_it_and_no_matter_to_the_others(celu, picture, title):
    asking = ways()[title]
    if asking.needs_gradient:
        with pytest.raises(NoGradient, match=r"The op Celu-17 of node 'celu_bent' has no twin\.") as caught:
            run(asking, celu, picture)
        is_a_sentence(caught.value)
    elif title == "CAM":  # and it is the Celu that makes it wrong
        with pytest.raises(NoCam, match="celu does not end in global average pooling") as caught:
            run(asking, celu, picture)
        is_a_sentence(caught.value)
    else:
        assert np.isfinite(run(asking, celu, picture)).all()


@every(lambda asking: "target" in asking.takes and asking.title != "CAM")
def test_every_way_takes_a_sum_of_targets(tiny, picture, title):
    """Of tensors before, at and behind the layer that is mapped."""
    target = class_score(tiny, 1) + 0.5 * unit(tiny, "conv1", 2) + unit(tiny, "pool1", 1, 2, 3)
    assert np.isfinite(run(ways()[title], tiny, picture, target=target)).all()


@every(lambda asking: asking.title != "CAM")
@pytest.mark.parametrize("batch", [1, "n"])
def test_every_way_takes_grey_pictures_and_a_graph_with_its_batch_size_in_it(tmp_path, title, batch):
    """As a number in a Reshape, or taken off the picture on the way, as older exporters write it."""
    nodes = nets.tiny_nodes()
    nodes[-1:] = [node("Reshape", "mean target", "flat"), node("Gemm", "flat w3 b3", "logits", transB=1)]
    constants = nets.tiny_weights(1)
    if batch == 1:
        constants["target"] = np.array([1, 6])
    else:
        constants |= {"zero": np.array([0]), "rest": np.array([6])}
        nodes[:0] = [
            node("Shape", "image", "shape"),
            node("Gather", "shape zero", "count"),
            node("Concat", "count rest", "target", axis=0),
        ]
    about = dataclasses.replace(nets.ABOUT, mean=(0.4,), std=(0.5,))
    given = {"opset": 17, "about": about, "shape": (batch, 1, *nets.SIZE)}
    net = nets.save(nets.model(nodes, constants, **given), tmp_path / "one.onnx")
    plain = nets.save(nets.model(nets.tiny_nodes(), nets.tiny_weights(1), **given), tmp_path / "plain.onnx")
    image = nets.picture(channels=1)
    found, expected = (run(ways()[title], each, image) for each in (net, plain))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


def test_the_sweep_makes_every_long_way_short():
    for asking in ways().values():
        for name, parameter in inspect.signature(asking.function).parameters.items():
            if (
                isinstance(parameter.default, int)
                and parameter.default >= 30
                and not isinstance(parameter.default, bool)
            ):
                assert name in SMALL

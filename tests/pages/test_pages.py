"""Every page, run without a browser: results on defaults, links, choices that stay, uploads, and "Reproduce"."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow
import pytest
import small_nets as small
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from engine import image, record
from engine.cli.main import main as engine
from engine.look.activations import activation_maps
from engine.nets import available, certificate, export
from engine.nets.certificate import Certificate
from engine.nets.folder import PROJECT
from engine.pictures import samples
from ui import foot, links, navigation
from ui.jobs import line
from ui.scene import Scene

MAIN = PROJECT / "ui" / "main.py"
PAGES = {page.path.stem: page for pages in navigation.sections().values() for page in pages}
GRADIENTS = [name for name, page in PAGES.items() if re.search("(need|no)_gradients", page.path.read_text("utf-8"))]
# Those that need them whatever is chosen; the others may open with a method that needs none.
ALWAYS = [name for name in GRADIENTS if "\nneed_gradients" in PAGES[name].path.read_text("utf-8")]
EMBEDDED = [path.stem for path in sorted(available.SHIPPED.glob("*.onnx"))]
PATIENCE = 60  # seconds
# By default every page runs on the first three of these networks, and SOME pages on all; `pytest --all` runs it all.
NETS = ["imagenette", "digits", "tiny", *sorted({*EMBEDDED} - {"imagenette", "digits"})]
SOME = ("activations", "cam", "occlusion")
MOST_BYTES, MOST_ROWS = 1_500_000, 5_000  # of one chart


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory) -> Iterator[Path]:
    """A home of these tests' own, so that certificates are worked out once; "tiny" is a network of the user's there."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "networks").mkdir()
    (folder / "networks" / "tiny.onnx").write_bytes(small.tiny().SerializeToString())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONVOSCOPE_HOME", str(folder))
        yield folder


def some(pages, *more: str) -> list:
    """All pages for a test that by default runs on SOME of them and on `more`."""
    quick = {*SOME, *more}
    return [page if page in quick else pytest.param(page, marks=pytest.mark.thorough) for page in pages]


# Opening pages --------------------------------------------------------------------------------------------------------


def opened(page: str, **link: object) -> AppTest:
    """A new session that follows a link to a page, once its long run has ended."""
    at = AppTest.from_file(str(MAIN), default_timeout=PATIENCE)
    if page != "home":
        at.switch_page(f"../pages/{PAGES[page].path.parent.name}/{page}.py")
    at.query_params = {key: str(value) for key, value in link.items()}
    return run(at)


def run(at: AppTest) -> AppTest:
    """One more run, and another one after each job: what follows an index is made of it."""
    at.run()
    end = time.monotonic() + PATIENCE
    while any(str(button.key).startswith("cancel_") for button in at.button):
        queue = line.of(scene(at).net.engine)
        while any(job.active for job in list(queue.jobs.values())):
            assert time.monotonic() < end
            time.sleep(0.01)
        at.run()
    return at


def goto(at: AppTest, page: str) -> AppTest:
    """The same session on another page, as by the navigation."""
    return run(at.switch_page(f"../pages/{PAGES[page].path.parent.name}/{page}.py"))


@functools.cache
def defaults(page: str, net: str) -> AppTest:
    """A page as it opens, but that pictures are made in few steps. Not to be changed."""
    return opened(page, net=net, **short(page))


def short(page: str) -> dict[str, int]:
    """What lets a page that makes pictures, or lays them out, do so in few steps."""
    makes = PAGES[page].path.parent.name in ("imagine", "paint", "fool") or page in ("map", "top_patches")
    few = {"count": 4} if page == "robustness" else {}
    return {"steps": 3, **few} if makes else {}


COARSE = {"patch": 80, "stride": 80, "steps": 3}  # four positions of a patch on the larger network: soon done


def charts(at: AppTest) -> list[Any]:
    return [found.proto for found in at.get("vega_lite_chart")]


def tables(chart: Any) -> list[dict[str, list]]:
    """A chart's data, as columns."""
    return [pyarrow.ipc.open_stream(each.data.data).read_all().to_pydict() for each in chart.datasets]


def fine(at: AppTest) -> bool:
    """Whether the page went through; shows what it said if not."""
    assert not at.exception, [each.value for each in at.exception]
    assert not at.error, [each.value for each in at.error]
    assert "`None`" not in [each.value for each in at.markdown], "a value that nobody wanted to show"
    return True


def scene(at: AppTest) -> Scene:
    return at.session_state["scene"]


def chosen(at: AppTest, key: str) -> Any:
    return at.get_by_key(key).value


# Defaults -------------------------------------------------------------------------------------------------------------


EVERYWHERE = [
    pytest.param(page, net, marks=[] if net in NETS[:3] or page in SOME else pytest.mark.thorough)
    for page in PAGES
    for net in NETS
]


@pytest.mark.parametrize(("page", "net"), EVERYWHERE)
def test_every_page_shows_a_result_on_defaults(page, net):
    at = defaults(page, net)
    assert fine(at)
    assert scene(at).net.name == net
    assert f"### {PAGES[page].question}" in [each.value for each in at.main.markdown]
    assert charts(at), "a page opens with a result"
    assert not at.get("skeleton"), "and nothing is left out"
    assert all(chart.alt for chart in charts(at)), "that those hear about who cannot see it"
    assert_light(at)


def test_pages_say_what_they_are():
    assert "home" in PAGES
    for page in PAGES.values():
        assert page.title, page.path
        assert page.question.endswith("?"), page.path


def assert_light(at: AppTest) -> None:
    assert charts(at), "or else there is nothing to weigh"
    for chart in charts(at):
        assert chart.ByteSize() < MOST_BYTES
        assert sum(len(next(iter(table.values()), [])) for table in tables(chart)) <= MOST_ROWS


@pytest.mark.parametrize("page", some(PAGES))
def test_charts_of_a_large_picture_are_light(page):
    """Noise is the worst case: it does not compress."""
    at = uploaded(noise(), page, **COARSE)
    assert fine(at)
    assert scene(at).picture.shape == (1400, 1900, 3)
    assert_light(at)


@functools.cache
def noise() -> bytes:
    return image.to_png(np.random.default_rng(0).random((1400, 1900, 3)).astype(np.float32))


def test_pages_without_gradients_do_not_import_torch(home):
    """Torch takes seconds and hundreds of megabytes. In a fresh process: here, other tests have imported it."""
    # The map is last: it is laid out by openTSNE, which needs scikit-learn.
    names = sorted({*PAGES} - {*GRADIENTS}, key=lambda name: name == "map")
    pages = [str(PAGES[name].path) for name in names]
    assert len(pages) >= 4
    script = f"""
import json, os, sys
from streamlit.testing.v1 import AppTest
at = AppTest.from_file({str(MAIN)!r}, default_timeout={PATIENCE}).run()
ran, imported = [], []
for page in {pages!r}:
    at.switch_page(os.path.relpath(page, {str(MAIN.parent)!r})).run()
    ran.append(not at.exception and not at.error and "scene" in at.session_state)
    imported.append(sorted({{"torch", "sklearn", "skimage"}} & set(sys.modules)))
print(json.dumps([ran, imported]), flush=True)
os._exit(0)  # a run may be going on, in C++, and would take it badly to see the interpreter go
"""
    found = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert found.returncode == 0, found.stderr
    ran, imported = json.loads(found.stdout.splitlines()[-1])
    assert ran == [True] * len(pages), found.stderr
    *others, of_map = imported
    assert others == [[]] * len(others)
    assert {*of_map} <= {"sklearn"}


# Links ----------------------------------------------------------------------------------------------------------------

LINKS = [
    ("home", {"net": "digits", "image": "digit-7", "class": "2"}),
    ("home", {"image": "cat", "class": "church"}),
    ("filters", {"net": "digits", "layer": "conv2", "unit": "3", "order": "norm", "scale": "whole layer"}),
    (
        "activations",
        {"net": "digits", "image": "digit-4", "layer": "relu2", "unit": "7", "at": "3, 12", "scale": "whole layer"}
        | {"order": "maximum", "beside": "digit-9"},
    ),
    ("occlusion", {"net": "digits", "image": "digit-7", "class": "2", "patch": "9", "stride": "5", "fill": "white"}),
    ("occlusion", {"net": "digits", "patch": "9", "stride": "9", "at": "1, 2", "opacity": "0.4", "scale": "0 to 1"}),
    ("occlusion", {"net": "digits", "patch": "9", "stride": "7", "numbers": "approximate"}),
    (
        "occlusion",
        {"net": "digits", "class": "2", "about": "margin", "against": "5", "patch": "9", "stride": "9", "fill": "blur"},
    ),
    (
        "occlusion",
        {"net": "digits", "about": "unit", "layer": "relu2", "unit": "7", "cell": "3, 12", "patch": "9", "stride": "9"},
    ),
    ("rise", {"net": "digits", "class": "2", "masks": "70", "cells": "4", "shown": "0.4", "fill": "noise"}),
    ("rise", {"net": "digits", "about": "margin", "against": "5", "masks": "70", "stable": "0.3"}),
    ("cam", {"net": "digits", "image": "digit-7", "class": "2", "threshold": "0.35", "opacity": "0.4", "at": "1, 2"}),
    ("cam", {"net": "digits", "method": "LayerCAM", "about": "margin", "against": "5", "layer": "relu2"}),
    ("cam", {"net": "digits", "method": "Grad-CAM++", "view": "several pictures"}),
    (
        "cam_weakness",
        {"net": "digits", "about": "margin", "against": "5", "rounds": "2", "erased": "0.3", "fill": "blur"},
    ),
    ("cam_weakness", {"net": "digits", "view": "hide and seek", "patches": "3", "hidden": "0.3", "copies": "8"}),
    ("saliency", {"net": "digits", "image": "digit-7", "class": "2", "kind": "signed", "clip": "98"}),
    ("saliency", {"net": "digits", "about": "unit", "layer": "relu2", "unit": "7", "at": "3, 12"}),
    ("saliency", {"net": "digits", "kind": "SmoothGrad", "noise": "0.2", "samples": "5"}),
    ("saliency", {"net": "digits", "about": "margin", "against": "5", "kind": "times input", "baseline": "blur"}),
    ("saliency", {"net": "digits", "kind": "Integrated Gradients", "baseline": "white", "steps": "9"}),
    ("guided", {"net": "digits", "about": "unit", "layer": "relu2", "unit": "7", "at": "3, 12", "kind": "largest"}),
    ("sanity", {"net": "digits", "class": "2", "stages": "2"}),
    ("compare", {"net": "digits", "class": "2", "what": "layers", "method": "HiResCAM", "scale": "all maps"}),
    ("compare", {"net": "honest", "what": "networks", "method": "CAM", "clip": "98"}),
    ("faithfulness", {"net": "digits", "class": "2", "method": "CAM", "points": "10", "parts": "8", "percent": "40"}),
    ("faithfulness", {"net": "digits", "about": "margin", "against": "5", "method": "Occlusion", "points": "10"}),
    ("clever_hans", {"object": "cross", "mark": "none", "seed": "3", "count": "2"}),
    ("segmentation", {"net": "digits", "method": "Grad-CAM", "foreground": "90", "background": "10", "smooth": "1"}),
    ("attack", {"net": "digits", "image": "digit-7", "class": "2", "norm": "L2", "length": "0.5", "steps": "3"}),
    ("attack", {"net": "digits", "attack": "FGSM", "aim": "toward", "toward": "8", "epsilon_grey": "20", "times": "3"}),
    ("robustness", {"net": "honest", "count": "4", "norm": "L2", "longest": "0.5", "steps": "2", "seed": "3"}),
    ("fooling", {"net": "digits", "toward": "8", "sure": "0.5", "steps": "9", "step_size": "0.2", "times": "3"}),
]


@pytest.mark.parametrize(("page", "link"), LINKS, ids=lambda part: part if isinstance(part, str) else "-".join(part))
def test_a_link_restores_its_state_and_stays_the_same(page, link):
    at = opened(page, **link)
    assert fine(at)
    assert {key: f"{value:g}" if isinstance(value := chosen(at, key), float) else str(value) for key in link} == link
    assert at.query_params == link
    assert not at.caption or not any("is no place here" in each.value for each in at.caption)


def test_a_link_reaches_the_numbers():
    at = opened("occlusion", net="digits", image="digit-7", **{"class": 2}, patch=9, stride=9, fill="white", at="1, 2")
    assert (scene(at).net.name, scene(at).picture_name, scene(at).class_index) == ("digits", "digit-7", 2)
    assert any("at (9, 18)" in each.value for each in at.markdown), "row 1 and column 2, a stride of 9 pixels each"
    assert "patch=9, stride=9, fill='white'" in code(at, "python")
    at = opened("activations", net="digits", layer="relu2", unit=7, at="3, 12")
    assert any(each.value.startswith("Unit (3, 12) of channel 7 ") for each in at.caption)


WRONG = {
    **{"net": "nowhere", "image": "nothing", "class": "nobody", "layer": "nope", "unit": "many", "order": "chaos"},
    **{"scale": "?", "patch": "x", "stride": "y", "fill": "purple", "opacity": "7", "clip": "-", "about": "you"},
    **{"method": "none", "view": "none", "threshold": "-", "pictures": "nobody", "rounds": "0.5", "erased": "2"},
    **{"patches": "z", "hidden": "-", "copies": "none", "against": "me"},
    **{"kind": "loud", "beside": "itself", "at": "here", "stranger": "1"},
    **{"noise": "much", "samples": "few", "baseline": "pink", "steps": "big", "checked": "magic", "stages": "all"},
    **{"what": "nothing", "networks": "?", "layers": "?", "on": "off", "points": "7", "parts": "-", "percent": "all"},
    **{"several": "magic", "which": "none", "measure": "yard", "object": "horse", "mark": "Hans", "exposing": "?"},
    **{"preset": "Dali", "start": "now", "number": "luck", "seed": "?", "rule_blur": "soft"},
    **{
        "attack": "by night",
        "aim": "high",
        "norm": "L3",
        "epsilon": "tiny",
        "epsilon_grey": "?",
        "length": "long",
        "toward": "nobody",
    },
    **{"epsilon_grey": "?", "sure": "never", "step_size": "huge", "times": "many"},
    **{"count": "all", "farthest": "far", "longest": "no end", "attacks": "of panic", "compared": "nobody"},
    **{"method": "guess", "foreground": "near", "background": "far", "smooth": "very", "against": "all"},
}


@pytest.mark.parametrize("page", PAGES)
def test_wrong_values_in_a_link_are_ignored(page):
    net = {} if page == "home" else {"net": "digits"}  # soon done; what is wrong with a network, home says for all
    at = opened(page, **WRONG | short(page) | net)
    assert fine(at)
    assert scene(at).net.name == net.get("net", available.FIRST)
    widgets = [*at.selectbox, *at.button_group, *at.number_input, *at.slider]
    for widget in widgets:
        assert chosen(at, widget.key) == chosen(defaults(page, scene(at).net.name), widget.key), widget.key
    left = {widget.key for widget in widgets} & set(at.query_params) - {*short(page), *net}
    assert not left, "the link that one copies is right again"
    if any(each.key == "at" for each in at.text_input):
        assert any("is no place here" in each.value for each in at.caption)


@pytest.mark.parametrize("page", PAGES)
def test_numbers_out_of_range_and_empty_values_in_a_link(page):
    numbers = {"net": "digits", "unit": 10**9, "patch": -3, "stride": 0, "at": "999, 999", "layer": "logits", "clip": 5}
    at = opened(page, **dict.fromkeys(WRONG, "") | numbers | short(page))
    assert fine(at)
    for widget in at.number_input:
        assert widget.min <= widget.value <= widget.max, widget.key


@pytest.mark.parametrize(("name", "more"), [("nowhere", False), ("resnet18", True)])
def test_a_link_to_a_network_that_is_not_here_says_so(name, more):
    at = opened("home", net=name)
    assert fine(at)
    (warning,) = at.warning
    assert f"“{name}”" in warning.value
    assert ("fetched" in warning.value) == more


ARRIVED: set[tuple[str, str]] = set()  # where a link like this one led already, by page and names of its choices


@pytest.mark.parametrize("page", PAGES)
def test_onward_links_arrive(page):
    """What a page leads on to opens in the state that the link says; each kind of link once."""
    at = defaults(page, "digits")
    given = [each.proto for each in at.get("page_link")]
    if page != "home":
        assert given, "each page leads on to the one that answers the next question"
    for link in given:
        query = dict(part.split("=", 1) for part in link.query_string.replace("+", " ").replace("%2C", ",").split("&"))
        kind = (link.page, " ".join(query))
        if kind in ARRIVED:
            continue
        ARRIVED.add(kind)
        other = opened(link.page, **short(link.page) | query)
        assert fine(other)
        assert {key: str(chosen(other, key)) for key in query} == query


@pytest.mark.parametrize(("page", "link"), LINKS[2:4])
def test_the_link_panel_shows_the_link(page, link):
    at = opened(page, **link)
    text = code(at, None)
    assert all(f"{key}=" in text for key in link)


# Choices that stay ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_choices_and_an_upload_survive_a_page_switch(back):
    at = uploaded(image.to_png(PHOTO), net="tiny")  # a small network, which every page is soon done with
    at.selectbox(key="class").set_value("3")
    at = goto(run(at), "activations")
    at.selectbox(key="layer").set_value("conv2")
    run(at)
    at.number_input(key="unit").set_value(5)
    run(at)
    for page in reversed(PAGES) if back else PAGES:
        goto(at, page)
        assert fine(at)
        assert (scene(at).net.name, scene(at).picture_name, scene(at).class_index) == ("tiny", "upload", 3), page
        assert scene(at).picture == pytest.approx(PHOTO, abs=0.003)
        if page in ("filters", "activations"):
            assert (chosen(at, "layer"), chosen(at, "unit")) == ("conv2", 5), page


def test_a_word_that_another_page_uses_too_falls_back():
    """Filters can be ordered by norm and channels of a layer cannot, under the same key."""
    at = opened("filters", net="digits", order="norm", scale="whole layer")
    goto(at, "activations")
    assert fine(at)
    assert (chosen(at, "order"), chosen(at, "scale")) == ("channel", "whole layer")
    goto(at, "occlusion")
    assert fine(at)
    assert chosen(at, "scale") == "this map"


def test_a_unit_that_another_page_uses_too_falls_back():
    """Filters shows convolutions only: the layer that Activations showed is none, and the first one has fewer units."""
    net = scene(defaults("activations", "imagenette")).net
    late = next(layer for layer in reversed(net.layers) if layer.has_map and layer.op != "Conv")
    at = opened("activations", net="imagenette", layer=late.name, unit=late.shape[0] - 1)
    assert chosen(at, "unit") == late.shape[0] - 1
    goto(at, "filters")
    assert fine(at)
    assert (chosen(at, "layer"), chosen(at, "unit")) == (chosen(defaults("filters", "imagenette"), "layer"), 0)


@pytest.mark.parametrize("page", some(PAGES, "filters", "maximize", "units"))
def test_another_network_resets_what_it_does_not_have(page):
    late = scene(defaults(page, "imagenette")).net.layers[-4]
    link = {"layer": late.name, "unit": late.shape[0] - 1, "at": "9, 9", "about": "unit", "class": "parachute"}
    at = opened(page, net="imagenette", **link, **COARSE)
    assert fine(at)
    at.selectbox(key="net").set_value("digits")
    run(at)
    assert fine(at)
    net = scene(at).net
    assert net.name == "digits"
    assert scene(at).picture_name == "digit-3"
    assert scene(at).class_index == scene(at).probabilities.argmax()
    for widget in at.selectbox:
        if widget.key == "layer":
            assert widget.value in [layer.name for layer in net.layers]
    for widget in at.number_input:
        assert widget.min <= widget.value <= widget.max
    at.selectbox(key="net").set_value("imagenette")
    assert fine(run(at))


def test_the_likeliest_class_follows_the_picture():
    at = opened("home", image="cat")
    seen = set()
    for name in ("cat", "coffee", "china", "rocket"):
        at.selectbox(key="image").set_value(name)
        run(at)
        assert scene(at).picture_name == name
        assert scene(at).class_index == scene(at).probabilities.argmax()
        seen.add(scene(at).class_index)
        assert at.selectbox(key="class").options[0] == f"{scene(at).class_name} (likeliest)"
    assert len(seen) > 1, "or else there was nothing to follow"
    at.selectbox(key="class").set_value("golf ball")
    run(at)
    at.selectbox(key="image").set_value("cat")
    run(at)
    assert scene(at).class_name == "golf ball", "a class that was asked for stays"


# Pictures of one's own ------------------------------------------------------------------------------------------------


def uploaded(data: bytes, page: str = "home", name: str = "mine.png", **link: object) -> AppTest:
    at = opened(page, image="upload", **link)
    at.file_uploader(key="file").upload(name, data, "image/png")
    return run(at)


PHOTO = small.picture((30, 50))


@pytest.mark.parametrize("shape", [pytest.param((1, 4000), marks=pytest.mark.thorough), (8, 8)])
@pytest.mark.parametrize(
    "page", some([name for name in PAGES if short(name)], "texture", "deepdream", "patch", "fooling")
)
def test_pictures_are_made_of_a_thin_and_of_a_tiny_one_or_it_is_said_why_not(page, shape):
    at = uploaded(image.to_png(small.picture(shape)), page, net="digits", **short(page))
    assert not at.exception, [each.value for each in at.exception]
    for error in at.error:
        assert re.fullmatch(r"[A-Z].*\.", error.value)


@pytest.mark.parametrize(
    "data",
    [b"not a picture", b"", image.to_png(PHOTO)[:200], b"\x89PNG\r\n\x1a\n" + bytes(100), b"GIF89a" + bytes(30)],
    ids=["text", "empty", "cut short", "no content", "damaged"],
)
def test_a_broken_upload_gets_one_sentence(data):
    at = uploaded(data)
    assert not at.exception
    (error,) = at.error
    assert re.fullmatch(r"[A-Z][^\n]*\.", error.value)
    assert len(error.value) < 200
    assert scene(at).picture_name == "china", "and the page goes on with the picture that suits"
    assert charts(at)


def test_a_good_upload_after_a_broken_one():
    at = uploaded(b"not a picture")
    at.file_uploader(key="file").set_value(("mine.png", image.to_png(PHOTO), "image/png"))
    assert fine(run(at))
    assert scene(at).picture_name == "upload"


# Networks of one's own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("about", ["class", pytest.param("unit", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("page", PAGES)
def test_a_network_without_maps(page, about, home):
    """Nothing but a matrix: no convolution, no rows and columns, nothing to lay a finger on."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 12, 16))
    (home / "networks" / "linear.onnx").write_bytes(small.linear(weight, np.zeros(4)).SerializeToString())
    at = opened(page, net="linear", **short(page) | ({"about": "unit"} if about == "unit" else {}))
    assert fine(at)
    assert charts(at) or at.info, "a result, or why there is none"


@pytest.mark.usefixtures("no_celu")
@pytest.mark.parametrize("page", PAGES)
def test_a_network_whose_gradients_cannot_be_had(page, home):
    """Forward passes do not need the twin, and the pages that do say which op is missing."""
    model = small.tiny(about=small.ABOUT)
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Celu"
    (home / "networks" / "celu.onnx").write_bytes(model.SerializeToString())
    at = opened(page, net="celu", **short(page))
    assert not at.exception
    if page in ALWAYS or (page in GRADIENTS and at.error):
        (error,) = at.error
        assert "Celu" in error.value
        assert not charts(at)
    else:
        assert fine(at)
        assert charts(at)


@pytest.fixture(scope="module")
def transformer() -> bytes:
    """A vision transformer, in miniature: patches of 8 pixels, two layers of two heads; no map but the first."""
    import torch
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    module = VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=4).eval()
    torch.nn.init.normal_(module.heads.head.weight)
    about = dataclasses.replace(small.ABOUT, input_size=(32, 32))
    with tempfile.TemporaryDirectory() as folder:
        export.export(module, Path(folder) / "net.onnx", about)
        return (Path(folder) / "net.onnx").read_bytes()


@pytest.mark.parametrize("page", some(PAGES))
def test_a_network_that_rounds(page, home):
    (home / "networks" / "rounded.onnx").write_bytes(small.rounded().SerializeToString())
    at = opened(page, net="rounded", **short(page))
    assert fine(at)
    assert charts(at) or at.metric or page in ("home", "open"), "a result"


@pytest.mark.parametrize(
    "page", some(PAGES, "network", "saliency", "maximize", "attack", "texture", "neighbours", "patch")
)
def test_a_network_of_another_kind(page, home, transformer):
    (home / "networks" / "transformer.onnx").write_bytes(transformer)
    at = opened(page, net="transformer", **short(page))
    assert fine(at)
    assert charts(at) or at.info or at.metric or page in ("home", "open"), "a result, or why there is none"


def test_a_file_that_is_no_network(home):
    (home / "networks" / "broken.onnx").write_bytes(b"not a network")
    at = opened("home", net="broken")
    assert not at.exception
    (error,) = at.error
    assert re.fullmatch(r"[^\n]*broken\.onnx[^\n]*\.", error.value)
    at.selectbox(key="net").set_value("digits")
    assert fine(run(at)), "and one can choose another"


# Certificates ---------------------------------------------------------------------------------------------------------

FAILED = Certificate(0.5, 0.5, 15, "Tensor relu2 (Relu) differs by 5.0e-01 of its range.", "these, those")


@pytest.mark.parametrize("page", PAGES)
def test_pages_with_gradients_are_off_where_the_certificate_failed(page, monkeypatch):
    monkeypatch.setattr(certificate, "recall", lambda net: FAILED)
    at = opened(page, net="digits", **short(page))
    assert not at.exception
    if page in ALWAYS or (page in GRADIENTS and at.error):
        (error,) = at.error
        assert FAILED.reason in error.value
        assert not charts(at)
    else:
        assert fine(at)
        assert charts(at)


def test_there_are_pages_with_gradients():
    assert "saliency" in GRADIENTS
    assert "occlusion" not in GRADIENTS


def test_a_network_is_certified_once(monkeypatch):
    kept, asked = {}, []

    def certify(net, pixels):
        asked.append((net.name, pixels.shape))
        return Certificate(1e-7, 1e-4, 15, "", "these, those")

    monkeypatch.setattr(certificate, "recall", lambda net: kept.get(net.sha256))
    monkeypatch.setattr(certificate, "remember", lambda net, found: kept.update({net.sha256: found}))
    monkeypatch.setattr(certificate, "certify", certify)
    assert fine(opened("saliency", net="digits"))
    assert fine(opened("saliency", net="digits"))
    assert asked == [("digits", (32, 32, 1))]


# Reproduce ------------------------------------------------------------------------------------------------------------


def code(at: AppTest, language: str | None) -> str:
    """The code of that language on the page."""
    (found,) = (each.value for each in at.code if (each.language or None) in (language, language or "plaintext"))
    return found


@dataclass
class Shown:
    """A page, the numbers that it offers for download, and what its Reproduce panel says."""

    at: AppTest
    numbers: list[np.ndarray]
    python: str
    shell: str


def shown(monkeypatch, page: str, link: dict[str, Any], upload: bytes | None = None) -> Shown:
    numbers: list[np.ndarray] = []
    draw = foot.foot

    def listen(*arguments: Any, downloads: Any = (), **more: Any) -> None:
        numbers.clear()
        for _, file, data, _ in downloads:
            if file.endswith(".npz"):
                with np.load(io.BytesIO(data() if callable(data) else data)) as arrays:
                    numbers.extend(arrays[name] for name in arrays.files)
        draw(*arguments, downloads=downloads, **more)

    monkeypatch.setattr(foot, "foot", listen)
    at = opened(page, **link) if upload is None else uploaded(upload, page, **link)
    assert fine(at)
    assert numbers, "each page with a result has its numbers for download"
    return Shown(at, numbers, code(at, "python"), code(at, "bash"))


REPRODUCED = [
    *((name, {"net": "digits", **short(name)}) for name in PAGES if name != "home"),
    ("maximize", {"net": "digits", "steps": 4, "preset": "Yosinski", "rule_blur": 0.7, "number": "probability"}),
    ("maximize", {"net": "digits", "steps": 3, "about": "unit", "layer": "relu2", "unit": 7, "start": "picture"}),
    ("maximize", {"net": "digits", "steps": 2, "view": "all channels of a layer", "layer": "relu2"}),
    ("filters", {"layer": "stages.0.0.conv1"}),
    ("activations", {"image": "cat"}),
    ("activations", {"net": "digits", "layer": "relu2", "image": "digit-5"}),
    ("occlusion", {"image": "coffee", "class": "church", "patch": 60, "stride": 50, "fill": "mean"}),
    ("occlusion", {"net": "digits", "patch": 9, "stride": 7, "numbers": "approximate"}),
    (
        "occlusion",
        {"net": "digits", "about": "margin", "against": "5", "patch": 9, "stride": 9, "fill": "noise"},
    ),
    ("occlusion", {"net": "digits", "about": "unit", "layer": "relu2", "unit": 7, "cell": "3, 12", "patch": 9}),
    ("rise", {"net": "digits", "class": "2", "masks": 70, "cells": 4, "shown": 0.4, "fill": "blur", "stable": 0}),
    ("cam", {"net": "digits", "image": "digit-7", "class": "2", "method": "HiResCAM", "layer": "relu2"}),
    ("cam", {"net": "digits", "method": "Grad-CAM++", "about": "margin", "against": "5"}),
    ("cam", {"net": "digits", "method": "Guided Grad-CAM"}),
    ("cam", {"net": "digits", "method": "Eigen-CAM", "view": "top five"}),
    ("cam", {"net": "digits", "method": "Score-CAM", "layer": "pool2"}),
    ("cam", {"net": "digits", "class": "2", "view": "all layers", "method": "XGrad-CAM", "layer": "conv4"}),
    ("cam_weakness", {"net": "digits", "class": "2", "rounds": 2, "erased": 0.3, "fill": "noise", "layer": "relu4"}),
    ("cam_weakness", {"net": "digits", "view": "hide and seek", "copies": 16, "patches": 3, "fill": "black"}),
    ("saliency", {"image": "cat", "class": "church"}),
    ("saliency", {"net": "digits", "kind": "signed", "class": "4"}),
    ("saliency", {"net": "digits", "about": "unit", "layer": "relu2", "unit": 7}),
    ("saliency", {"net": "digits", "about": "unit", "layer": "relu2", "unit": 7, "at": "3, 12", "kind": "signed"}),
    ("saliency", {"net": "digits", "kind": "colours", "class": "4"}),
    ("saliency", {"net": "digits", "kind": "times input", "baseline": "noise", "about": "margin", "against": "5"}),
    (
        "saliency",
        {"net": "digits", "kind": "SmoothGrad", "noise": 0.2, "samples": 5, "about": "unit", "layer": "relu2"},
    ),
    ("saliency", {"net": "digits", "kind": "Integrated Gradients", "baseline": "mean", "steps": 9}),
    ("guided", {"net": "digits", "about": "unit", "layer": "relu2", "unit": 7, "at": "3, 12"}),
    ("sanity", {"net": "digits", "class": "2", "stages": 2}),
    ("compare", {"net": "digits", "about": "margin", "against": "5"}),
    ("compare", {"net": "digits", "about": "unit", "layer": "relu2", "unit": 7}),
    ("compare", {"net": "digits", "what": "layers", "method": "HiResCAM", "scale": "all maps"}),
    ("compare", {"net": "digits", "what": "networks", "networks": "digits", "method": "CAM"}),
    ("faithfulness", {"net": "digits", "class": "2", "method": "Gradient × input", "points": 10, "parts": 8}),
    ("faithfulness", {"net": "honest", "about": "unit", "layer": "relu4", "unit": 3, "points": 10, "parts": 8}),
    ("clever_hans", {"object": "cross", "mark": "none", "seed": "3", "count": 2}),
    ("segmentation", {"net": "digits", "method": "Grad-CAM", "foreground": 90, "background": 10, "smooth": 0}),
]


def reproduced() -> Iterator[Any]:
    """One run per page by default."""
    for place, (page, link) in enumerate(REPRODUCED):
        quick = page not in {other for other, _ in REPRODUCED[:place]}
        marks = [] if quick else pytest.mark.thorough
        yield pytest.param(page, link, marks=marks, id=f"{page}-{'-'.join(link)}")


@pytest.mark.parametrize(("page", "link"), list(reproduced()))
def test_python_and_the_command_line_give_the_numbers_of_the_page(page, link, monkeypatch, tmp_path):
    check(shown(monkeypatch, page, link), tmp_path)


def test_occlusion_says_whether_its_numbers_are_exact(monkeypatch):
    at = opened("occlusion", net="digits", patch=9, stride=7)
    assert fine(at)
    badges = [each.value for each in at.main.markdown if "-badge[" in each.value]
    assert any(text.endswith("exact]") for text in badges), badges
    at = opened("occlusion", net="digits", patch=9, stride=7, numbers="approximate")
    assert fine(at)
    badges = [each.value for each in at.main.markdown if "-badge[" in each.value]
    assert any(re.search(r"approximate, SSIM ≈ 0\.\d\d\]$|approximate, SSIM ≈ 1\.00\]$", text) for text in badges), (
        badges
    )
    assert any("structural similarity" in each.value for each in at.main.caption)


def test_an_upload_is_reproduced_from_its_file(monkeypatch, tmp_path):
    data = image.to_png(PHOTO)
    found = shown(monkeypatch, "activations", {}, upload=data)
    (tmp_path / "mine.png").write_bytes(data)
    assert "your-picture.jpg" in found.python
    for name in ("python", "shell"):
        setattr(found, name, getattr(found, name).replace("your-picture.jpg", str(tmp_path / "mine.png")))
    check(found, tmp_path)


def check(found: Shown, folder: Path) -> None:
    space: dict[str, Any] = {}
    exec(found.python, space)  # the code that the page shows
    by_python, _ = record.taken_apart(space["result"], "result")
    start, *words = shlex.split(found.shell.removeprefix("python -m "))
    assert (start, words[-2:]) == ("engine", ["--out", "result/"])
    outcome = CliRunner().invoke(engine, [*words[:-1], str(folder / "result")], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    with np.load(folder / "result" / "numbers.npz") as arrays:
        by_shell = {name: arrays[name] for name in arrays.files}
    for arrays in (by_python, by_shell):
        assert arrays
        for name, array in arrays.items():
            assert any(same(array, other) for other in found.numbers), name
    maps = [m for array in by_python.values() if array.ndim in (2, 3) for m in array.reshape(-1, *array.shape[-2:])]
    for rows, cols, values in cells(found.at):
        assert any(
            rows.max() < len(m) and cols.max() < m.shape[1] and np.allclose(m[rows, cols], values, rtol=1e-3, atol=1e-6)
            for m in maps
        ), "what one can point at is those numbers, too"


def same(a: np.ndarray, b: np.ndarray) -> bool:
    if "U" in (a.dtype.kind, b.dtype.kind):  # words, such as the names of layers
        return np.array_equal(a, b)
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)


def cells(at: AppTest) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(rows, cols, values) of each map on the page whose cells can be pointed at."""
    for chart in charts(at):
        for table in tables(chart):
            values = set(table) - {"row", "col", "top", "left", "bottom", "right"}
            if {"row", "col"} <= set(table) and len(values) == 1:  # others are for clicks alone, or coloured by words
                (value,) = values
                yield np.array(table["row"]), np.array(table["col"]), np.array(table[value])


@pytest.mark.parametrize("page", ["activations", "occlusion", "saliency"])
def test_maps_can_be_pointed_at(page):
    assert list(cells(defaults(page, "digits")))


@pytest.mark.parametrize("name", ["a layer/with spaces", "quo'te", '$(date) "x" \\', "`date`;"])
def test_odd_names_survive_the_shell(name):
    """Layers and networks are called what their file calls them, and a file may come from anybody."""
    stand_in = SimpleNamespace(net=SimpleNamespace(name=name, outputs=("logits",)), picture_name="cat")
    python, shell = links.reproduce(activation_maps, stand_in, {"layer": name})
    words = shlex.split(shell)
    assert (words[words.index("--layer") + 1], words[words.index("--net") + 1]) == (name, name)
    assert shlex.quote(name) in shell, "and no shell reads anything into it"
    assert f"layer={name!r}" in python
    assert f"find({name!r})" in python


def test_samples_have_the_names_that_links_use():
    at = defaults("home", available.FIRST)
    assert set(samples.SAMPLES) <= set(at.selectbox(key="image").options)

"""Does the command line run every method, say what it did, and refuse in one sentence?"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import importlib
import inspect
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_nets as small
from click.testing import CliRunner
from PIL import Image

from engine import image, methods
from engine import record as records
from engine.cli import run as running
from engine.cli.main import main
from engine.explain import occlusion, saliency
from engine.explain.boxes import bounding_box
from engine.explain.grad_cam import grad_cam
from engine.look.filters import filters
from engine.net import Net
from engine.nets import available, certificate, download, zoo
from engine.nets.folder import PROJECT
from engine.pictures import samples, sheet
from engine.pictures.film import Film
from engine.step import Step
from engine.target import class_margin, class_score, direction, unit

METHODS = {name: method for name, method in methods.methods().items() if name not in main.commands}


@pytest.fixture(autouse=True)
def _own_folder(cache, tiny):
    """The user's networks and certificates take no part; methods that draw through a decoder find one for `tiny`."""
    small.decoder(tiny, cache / "decoders")


@pytest.fixture
def call(tiny, picture, tmp_path):
    """Runs a command in this process; {net}, {image}, {out}: the tiny net, a picture's file and a folder."""
    (tmp_path / "picture.png").write_bytes(image.to_png(picture))
    places = {"net": tiny.path, "image": tmp_path / "picture.png", "out": tmp_path / "out"}
    return lambda *words: CliRunner().invoke(main, [word.format(**places) for word in words])


@pytest.fixture
def method(call, tmp_path):
    """Runs a method on the tiny net; returns its (numbers, record)."""

    def run(name: str, *options: str):
        done = call(name, "--net", "{net}", "--image", "{image}", "--out", "{out}", *options)
        assert done.exit_code == 0, done.output
        return dict(np.load(tmp_path / "out/numbers.npz")), json.loads(
            (tmp_path / "out/result.json").read_text("utf-8")
        )

    return run


@pytest.fixture
def view(tiny, picture, tmp_path):
    """What the tiny net sees of the picture's file."""
    return tiny.view(image.load(image.to_png(picture)))[0]


# What is a method -----------------------------------------------------------------------------------------------------


def test_the_methods_are_found_and_the_helpers_are_not():
    assert {"occlusion", "saliency", "signed-saliency", "gradient", "activation-maps", "filters"} <= set(METHODS)
    for helper in (
        "occlusion-steps",
        "batch-size",
        "occlude",
        "convolutions",
        "class-score",
        "unit",
        "unit-window",
        "certify",
    ):
        assert helper not in METHODS


def test_no_two_methods_share_a_name():
    """Otherwise one of them could not be called."""
    found = [name for module, name in methods.candidates() if methods._method(importlib.import_module(module), name)]
    assert len(found) == len(set(found)) == len(methods.methods())


@pytest.mark.parametrize("name", METHODS)
def test_the_options_are_the_signatures(name):
    method = METHODS[name]
    words = {option.name: option for option in running.options(method)}
    parameters = inspect.signature(method.function).parameters
    for parameter in parameters.values():
        if parameter.name in words and parameter.default not in (parameter.empty, None):
            assert words[parameter.name].default == parameter.default
    assert ("class_" in words) == bool({"class_index", "target"} & set(parameters))


def _module(source: str) -> types.ModuleType:
    """A module with `source` in it, and the dataclasses Both, which holds an array, and Words, which holds none."""
    module = types.ModuleType("made")
    module.Both = dataclasses.make_dataclass("Both", [("a", "str"), ("b", "np.ndarray | None")])
    module.Words = dataclasses.make_dataclass("Words", [("a", "str")])
    exec(f"from __future__ import annotations\n{source}", module.__dict__)
    return module


@pytest.mark.parametrize(
    ("signature", "is_one"),
    [
        ("(net: Net, image: np.ndarray) -> np.ndarray", True),
        ("(net: Net, image: np.ndarray, layer: str, *, how: str = 'a') -> pd.DataFrame", True),
        ("(net: Net, target: Target) -> dict[str, np.ndarray]", True),
        ("(net: Net, image: np.ndarray, channel: int) -> np.ndarray", True),
        ("(net: Net, image: np.ndarray, *, rule: Callable = print) -> np.ndarray", True),
        ("(net: Net, image: np.ndarray) -> Both", True),
        ("(net: Net, image: np.ndarray) -> Words", False),
        ("(net: Net, image: np.ndarray) -> int", False),
        ("(net: Net, image: np.ndarray) -> Iterator[Step]", False),
        ("(net: Net, image: np.ndarray, other: np.ndarray) -> np.ndarray", False),
    ],
)
def test_the_rule(signature, is_one):
    assert (methods._method(_module(f"def f{signature}: ..."), "f") is not None) == is_one


def test_a_knob_has_its_type_its_default_its_choices_and_its_words():
    module = _module('''
WAYS = ("up", "down")
def f(net, image, *, step: float = 2, way: str = "up", seed: int | None = None, clip: bool = True) -> np.ndarray:
    """What it does.

    step, seed: in numbers
    of two lines: this and that. way: one of WAYS. clip:
    whether at all.
    Returns (h, w) metres. Raises Nothing.
    """
''')
    method = methods._method(module, "f")
    assert [(k.name, k.kind, k.default, k.choices, k.help) for k in method.knobs] == [
        ("step", float, 2, (), "in numbers of two lines: this and that."),
        ("way", str, "up", ("up", "down"), "one of WAYS."),
        ("seed", int, None, (), "in numbers of two lines: this and that."),
        ("clip", bool, True, (), "whether at all."),
    ]
    assert methods.returned(module.f) == "(h, w) metres."


def test_every_knob_is_explained():
    assert not [f"{name} --{knob.name}" for name, m in METHODS.items() for knob in m.knobs if not knob.help.strip()]


# Running methods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_runs_on_defaults(method, name, tmp_path):
    needed = [knob.name for knob in METHODS[name].knobs if knob.default is inspect.Parameter.empty]
    assert set(needed) <= {"style", "other"}, "what else must be given has to be given here"
    numbers, record = method(name, *(word for knob in needed for word in (f"--{knob}", "brick")))
    assert numbers
    assert all(np.isfinite(a).all() for a in numbers.values() if a.dtype.kind == "f")
    assert record["command"] == name
    assert set(record["versions"]) >= {"convoscope", "python", "numpy", "onnxruntime"}
    assert (tmp_path / "out/picture.png").exists() == ("picture" in record)


def test_the_same_inputs_give_the_same_bytes(method, tmp_path):
    files = []
    for _ in range(2):
        method("saliency")
        files.append([(tmp_path / "out" / name).read_bytes() for name in ("numbers.npz", "picture.png")])
    assert files[0] == files[1]


def test_occlusion_and_its_knobs(method, tiny, view, tmp_path):
    numbers, record = method("occlusion", "--class", "parachute", "--patch", "5", "--stride", "2", "--fill", "white")
    expected = occlusion.occlusion(tiny, view, 2, patch=5, stride=2, fill="white")
    np.testing.assert_array_equal(numbers["occlusion"], expected)
    assert record["function"] == "engine.explain.occlusion.occlusion"
    assert record["knobs"] == {"patch": 5, "stride": 2, "fill": "white", "seed": 0, "field": 1.0, "drill": 1.0}
    assert record["class"] == {"index": 2, "label": "parachute"}
    assert record["net"] == {"name": "tiny", "sha256": tiny.sha256, "output": "logits"}
    assert record["image"]["sha256"] == hashlib.sha256((tmp_path / "picture.png").read_bytes()).hexdigest()
    summary = record["arrays"]["occlusion"]
    assert (summary["min"], summary["max"]) == (expected.min(), expected.max())
    assert (record["engine"], record["picture"]["colours"]) == (tiny.engine, "sequential")
    assert record["seconds"] >= 0


def test_the_default_class_is_the_likeliest(method, tiny, view):
    _, record = method("occlusion", "--stride", "8")
    assert record["class"]["index"] == tiny.scores(tiny.batch(view))[0].argmax()


def test_targets(method, tiny, view):
    numbers, record = method("saliency", "--class", "3")
    np.testing.assert_array_equal(numbers["saliency"], saliency.saliency(tiny, view, class_score(tiny, 3)))
    assert record["class"] == {"index": 3, "label": "golf ball"}  # what is read of it is the method's own affair
    assert record["versions"]["torch"]
    numbers, _ = method("gradient", "--layer", "conv2", "--channel", "4", "--row", "1", "--col", "2")
    expected = saliency.gradient(tiny, view, unit(tiny, "conv2", 4, 1, 2))
    np.testing.assert_array_equal(numbers["gradient"], expected)


def test_another_output_of_the_network_can_be_asked(method, call, view, tmp_path):
    made = small.model(
        small.tiny_nodes(), small.tiny_weights(), opset=17, about=small.ABOUT, outputs=["mean", "logits"]
    )
    forked = small.save(made, tmp_path / "forked.onnx")
    given = ("saliency", "--net", str(forked.path), "--image", "{image}", "--out", "{out}", "--class", "3")
    for options, output in (((), "mean"), (("--output", "logits"), "logits")):
        assert call(*given, *options).exit_code == 0
        found = np.load(tmp_path / "out/numbers.npz")["saliency"]
        np.testing.assert_array_equal(found, saliency.saliency(Net(forked.path, output=output), view, 3))
        assert json.loads((tmp_path / "out/result.json").read_text("utf-8"))["net"]["output"] == output
    done = call(*given, "--output", "conv9")
    assert done.exit_code == 2
    assert done.stderr.endswith("Error: forked.onnx has no output 'conv9'; it has mean, logits.\n")


def test_a_class_against_another_is_a_margin(method, tiny, view):
    margin = class_margin(tiny, 3, 1)
    numbers, record = method("gradient", "--class", "3", "--against", "church")
    np.testing.assert_array_equal(numbers["gradient"], saliency.gradient(tiny, view, margin))
    assert record["target"] == {"title": "“golf ball” ahead of “church”", "unit": "logits"}
    assert "class" not in record
    numbers, _ = method("occlusion", "--class", "3", "--against", "1", "--patch", "6", "--stride", "6")
    expected = occlusion.occlusion(tiny, view, margin, patch=6, stride=6)
    np.testing.assert_array_equal(numbers["occlusion"], expected)


def test_a_margin_without_a_class_is_that_of_the_likeliest(method, tiny, view):
    likeliest = int(tiny.scores(tiny.batch(view))[0].argmax())
    numbers, _ = method("gradient", "--against", str((likeliest + 1) % 4))
    expected = saliency.gradient(tiny, view, class_margin(tiny, likeliest, (likeliest + 1) % 4))
    np.testing.assert_array_equal(numbers["gradient"], expected)


def test_a_direction_is_asked_for_by_its_weights(method, tiny, view):
    numbers, record = method("gradient", "--layer", "conv2", "--direction", "4:2,1:-1")
    np.testing.assert_allclose(
        numbers["gradient"],
        saliency.gradient(tiny, view, direction(tiny, "conv2", {4: 2.0, 1: -1.0})),
        rtol=1e-4,
        atol=1e-7,
    )
    assert record["target"]["title"] == "channels +2·4 -1·1 of conv2, mean"


def test_a_method_with_a_layer_of_its_own_asks_about_a_unit_by_a_longer_one(method, tiny, view):
    """--layer is where the map is taken, --target-layer where the unit is."""
    about = ("--target-layer", "conv2", "--channel", "4", "--row", "1", "--col", "2")
    numbers, record = method("grad-cam", "--layer", "relu1", *about)
    expected = grad_cam(tiny, view, unit(tiny, "conv2", 4, 1, 2), layer="relu1")
    np.testing.assert_array_equal(numbers["grad_cam"], expected)
    assert record["knobs"] == {"layer": "relu1"}
    assert record["target"]["title"] == "channel 4 of conv2 at (1, 2)"


def test_a_knob_may_be_called_method(method, tiny, view):
    numbers, record = method("bounding-box", "--class", "1", "--method", "Eigen-CAM", "--threshold", "0.5")
    expected = bounding_box(tiny, view, 1, method="Eigen-CAM", threshold=0.5)
    np.testing.assert_array_equal(numbers["box"], expected.box)
    np.testing.assert_array_equal(numbers["mask"], expected.mask)
    assert record["knobs"] == {"method": "Eigen-CAM", "layer": None, "threshold": 0.5}


def test_a_dataclass_gives_its_arrays_and_its_facts(method, tiny):
    numbers, record = method("filters", "--layer", "conv1")
    expected = filters(tiny, "conv1")
    np.testing.assert_array_equal(numbers["weights"], expected.weights)
    np.testing.assert_array_equal(numbers["bias"], expected.bias)
    assert record["facts"] == {"layer": "conv1", "sees_pixels": True}


def test_a_method_without_a_picture_needs_none(call):
    assert call("filters", "--net", "{net}", "--out", "{out}").exit_code == 0


def test_a_sample_by_name(call, tmp_path):
    assert call("occlusion", "--net", "{net}", "--image", "cat", "--out", "{out}").exit_code == 0
    record = json.loads((tmp_path / "out/result.json").read_text("utf-8"))
    assert record["image"] == {"name": "cat", "pixels": image.digest(samples.load("cat"))}


def test_ctrl_c_keeps_what_there_is(call, monkeypatch, tmp_path):
    def steps(net, image, target, **knobs):
        yield Step(1, 9, np.array([[0.5, np.nan]], np.float32))
        raise KeyboardInterrupt

    monkeypatch.setattr(occlusion, "occlusion_steps", steps)
    done = call("occlusion", "--net", "{net}", "--image", "{image}", "--out", "{out}")
    assert done.exit_code == running.INTERRUPTED
    assert "1 of 9" in done.stderr
    record = json.loads((tmp_path / "out/result.json").read_text("utf-8"))
    assert record["stopped"] == {"done": 1, "of": 9}
    assert record["arrays"]["occlusion"]["max"] == 0.5
    np.testing.assert_array_equal(np.load(tmp_path / "out/numbers.npz")["occlusion"], [[0.5, np.nan]])
    assert (tmp_path / "out/picture.png").exists()


def test_tables_become_columns():
    table = pd.DataFrame({"layer": ["a", "b"], "value": [1.5, 2.5]})
    arrays, facts = records.taken_apart(table, "x")
    assert arrays["layer"].tolist() == ["a", "b"]
    assert arrays["value"].tolist() == [1.5, 2.5]
    assert facts == {}


# Refusing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("occlusion", "--net", "nowhere"), "There is no network 'nowhere'"),
        (("occlusion", "--net", "{image}"), "is not an ONNX file"),
        (("occlusion", "--image", "nobody"), "There is no file and no sample 'nobody'"),
        (("occlusion", "--image", "{net}"), "This is not a JPEG"),
        (("occlusion", "--class", "unicorn"), "has no class 'unicorn'"),
        (("occlusion", "--class", "4"), "has classes 0 to 3"),
        (("occlusion", "--patch", "0"), "at least one pixel"),
        (("occlusion", "--fill", "green"), "'green' is not one of 'grey'"),
        (("occlusion", "--patch", "wide"), "'wide' is not a valid integer"),
        (("occlusion", "--out", "{image}"), "is a file"),
        (("activation-maps", "--layer", "conv9"), "has no layer 'conv9'"),
        (("saliency", "--layer", "conv1"), "both a --layer and a --channel"),
        (("saliency", "--layer", "conv1", "--channel", "1", "--direction", "1:2"), "in the channel's place"),
        (("saliency", "--layer", "conv1", "--direction", "one"), "write 12:1, 40:-0.5"),
        (("saliency", "--layer", "conv1", "--channel", "1", "--class", "1"), "not both"),
        (("saliency", "--layer", "conv1", "--channel", "1", "--row", "1"), "only one of them"),
        (("saliency", "--layer", "conv1", "--channel", "1", "--against", "1"), "not both"),
        (("occlusion", "--against", "unicorn"), "has no class 'unicorn'"),
        (("cam", "--against", "1"), "cam is about a class"),
        (("lookalikes", "--other", "cat", "--layer", "conv2", "--channel", "1"), "lookalikes is about a class"),
        (("grad-cam", "--layer", "logits"), "Layer logits of tiny has no rows and columns"),
        (("evidence", "--method", "Palmistry"), "no map of evidence called 'Palmistry'"),
        (("filters", "--layer", "image"), "has no layer 'image'"),
        (("dance",), "No such command 'dance'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(call, tmp_path, words, said):
    given = dict(zip(words[1::2], words[2::2], strict=True))
    full = {"--net": "{net}", "--image": "{image}", "--out": "{out}"} | given
    done = call(words[0], *(part for pair in full.items() for part in pair))
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert not done.stdout
    assert not (tmp_path / "out").exists()


def test_trace_lets_the_error_through(call):
    done = call("--trace", "occlusion", "--net", "nowhere", "--image", "{image}", "--out", "{out}")
    assert isinstance(done.exception, available.UnknownNet)


# The other commands ---------------------------------------------------------------------------------------------------


def test_nets(call, tiny, cache):
    (cache / "networks").mkdir(parents=True)
    (cache / "networks/mine.onnx").write_bytes(tiny.path.read_bytes())
    (cache / "networks/broken.onnx").write_bytes(b"nothing")
    done = call("nets")
    assert done.exit_code == 0
    for said in (
        "mine",
        "Licence: None.",
        "broken.onnx is not an ONNX file",
        "resnet18",
        "46.8 MB",
        "arXiv:1512.03385",
    ):
        assert said in done.stdout


def test_a_network_is_found_by_its_name_and_by_its_path(tiny, cache):
    with pytest.raises(available.UnknownNet, match=r"python -m engine fetch resnet18"):
        available.find("resnet18")
    (cache / "networks").mkdir(parents=True)
    mine = cache / "networks/mine.onnx"
    mine.write_bytes(tiny.path.read_bytes())
    assert available.find("mine") == available.at_hand()["mine"] == mine
    assert available.find(str(tiny.path)) == tiny.path
    shipped = [path.stem for path in available.SHIPPED.glob("*.onnx")]
    assert set(list(available.at_hand())[: len(shipped)]) == set(shipped)


def test_fetch(call, monkeypatch):
    assert "'resnet9000' is not one of" in call("fetch", "resnet9000").stderr
    done = Path("networks/resnet18.onnx")
    monkeypatch.setattr(zoo, "fetch", lambda name: iter([Step(1, 2, "Fetching"), Step(2, 2, done)]))
    assert call("fetch", "resnet18").stdout == f"resnet18 is at {done}.\n"

    def offline(name):
        raise download.Offline("No way out.")
        yield

    monkeypatch.setattr(zoo, "fetch", offline)
    refused = call("fetch", "resnet18")
    assert refused.exit_code == 2
    assert refused.stderr.endswith("Error: No way out.\n")


def test_inspect(call, tiny):
    text = call("inspect", "{net}").stdout
    assert "4 classes: tench, church, parachute" in text
    assert "12 × 16 pixels" in text
    assert "(0.5, 0.4, 0.3)" in text
    lines = [line.split() for line in text.splitlines()]
    assert ["conv2", "Conv", "6×4×6", "8", "2", "-1"] in lines
    facts = json.loads(call("inspect", "{net}", "--json").stdout)
    assert facts["labels"] == tiny.labels
    assert facts["sha256"] == tiny.sha256
    conv2 = {layer["name"]: layer for layer in facts["layers"]}["conv2"]
    assert conv2["shape"] == [6, 4, 6]
    assert conv2["receptive_field"] == {"size": [8, 8], "stride": [2, 2], "offset": [-1, -1]}


def test_classify(call, tiny, view):
    done = call("classify", "{net}", "{image}", "--top", "2")
    rows = done.stdout.splitlines()[1:]
    assert len(rows) == 2
    best = tiny.scores(tiny.batch(view))[0].argmax()
    assert rows[0].endswith(tiny.labels[best])


def test_certificate(call, tiny, monkeypatch):
    assert certificate.recall(tiny) is None
    done = call("certificate", "{net}", "--image", "{image}")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1].startswith("PASSED  6 tensors")
    assert certificate.recall(tiny).passed
    assert len(call("certificate", "{net}", "--image", "{image}", "--all").stdout.splitlines()) == 1 + 6 + 4 + 2
    monkeypatch.setattr(certificate, "TENSOR_LIMIT", 0.0)
    done = call("certificate", "{net}", "--image", "{image}")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].startswith("FAILED  Tensor ")
    assert not certificate.recall(tiny).passed


def test_certificate_of_a_net_without_a_twin(call, monkeypatch):
    from engine import twin

    monkeypatch.setattr(twin, "OPS", {op: function for op, function in twin.OPS.items() if op != "Gemm"})
    done = call("certificate", "{net}", "--image", "{image}")
    assert done.exit_code == 1
    assert done.stdout.startswith("FAILED  The op Gemm-")


# The picture ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ((3, 5), "sequential"),
        ((7,), "sequential"),
        ((6, 3, 5), "sequential"),
        ((6, 3, 3), "sequential"),
        ((12, 16, 1), "sequential"),
        ((12, 16, 3), "picture"),
        ((8, 3, 5, 5), "grey at zero"),
        ((8, 2, 5, 5), "sequential"),
        ((70, 2, 1, 1), "sequential"),
    ],
)
def test_every_form_of_numbers_is_drawn(shape, kind):
    values = np.random.default_rng(0).random(shape, np.float32)
    for numbers, expected in ((values, kind), (values - 0.5, {"sequential": "diverging"}.get(kind, "grey at zero"))):
        drawing = sheet.draw(numbers, (12, 16))
        assert drawing.kind == expected
        assert bool(drawing.left_out) == (shape[0] == 70)
        for view in (None, np.zeros((12, 16, 1), np.float32)):
            page = sheet.panels(view, drawing, covers=numbers.ndim == 2)
            assert page.ndim == 3
            assert page.min() >= 0
            assert page.max() <= 1


def test_what_cannot_be_drawn_is_left_out():
    assert sheet.draw(np.array(["a"]), (12, 16)) is None
    assert sheet.draw(np.full((2, 2), np.nan), (12, 16)) is None
    assert sheet.draw(np.float32(3).reshape(()), (12, 16)) is None


def test_a_map_lies_where_it_belongs():
    """Row and column are not exchanged, and the map is stretched over the view without smoothing."""
    values = np.zeros((3, 4))
    values[0, 3] = 1
    view = np.zeros((12, 16, 3), np.float32)
    page = sheet.panels(view, sheet.draw(values, (12, 16)), covers=True)
    factor = round(sheet.HEIGHT / 12)
    drawn = page[sheet.MARGIN :][: 12 * factor, -sheet.MARGIN - 16 * factor : -sheet.MARGIN]
    bright = drawn[..., 0] > 0.5
    assert bright[: 4 * factor, 12 * factor :].all()
    assert bright.sum() == 4 * factor * 4 * factor


# As a program ---------------------------------------------------------------------------------------------------------


def _program(*words: str, cache: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "engine", *words],
        cwd=PROJECT,
        env=os.environ | {"CONVOSCOPE_HOME": str(cache)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def test_as_a_program(tiny, tmp_path, cache):
    done = _program("occlusion", "--net", str(tiny.path), "--image", "cat", "--out", str(tmp_path / "out"), cache=cache)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out/result.json").read_text("utf-8"))["versions"].keys().isdisjoint({"torch"})
    done = _program("occlusion", "--net", "nowhere", "--image", "cat", "--out", str(tmp_path / "out"), cache=cache)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: There is no network 'nowhere'")
    assert "Traceback" not in done.stderr


def test_help_names_every_method_and_needs_no_torch(cache):
    run = "from engine.cli.main import main; main(['--help'], standalone_mode=False)"
    code = f"import sys; {run}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in METHODS)
    assert done.stdout.strip().endswith("False")


# Methods that make a picture ------------------------------------------------------------------------------------------

MAKERS = [name for name, method in METHODS.items() if method.makes]


def test_a_made_picture_has_its_recipe_inside_and_a_film_where_one_is_wanted(method, tmp_path):
    numbers, record = method("maximize", "--steps", "5", "--class", "church", "--film")
    out = tmp_path / "out"
    made = Image.open(out / "picture.png")
    recipe = json.loads(made.info["recipe"])
    assert recipe["knobs"] == record["knobs"]
    assert recipe["knobs"]["steps"] == 5
    np.testing.assert_array_equal(np.asarray(made), np.rint(numbers["pixels"][0] * 255).astype(np.uint8))
    film = Image.open(out / "film.gif")
    assert film.n_frames == 5
    assert (out / "film.mp4").stat().st_size > 0


def test_a_disk_that_the_film_fills_has_the_picture(call, monkeypatch, tmp_path):
    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device", "film.gif")

    monkeypatch.setattr(Film, "gif", full)
    done = call("maximize", "--net", "{net}", "--image", "{image}", "--out", "{out}", "--steps", "3", "--film")
    assert done.exit_code == 2
    assert "No space left on device: film.gif." in done.output
    assert Image.open(tmp_path / "out/picture.png").size == (16, 12)
    assert (tmp_path / "out/numbers.npz").exists()

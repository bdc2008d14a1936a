"""Weights that a stranger brings: do they become a network in a process with limits, and get a sentence where not?"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.torch
import torch
from hostile import make
from torchvision import models

from engine.intake import bringing, converting
from engine.intake.converting import Converted, Several, convert, convert_steps
from engine.intake.opening import Examiner, Limits, Refused
from engine.net import Net
from engine.nets import available
from engine.nets.folder import PROJECT

CLASSES = 7
unix = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="These limits are Linux's.")


class Hostile:
    """What a pickle can make a program do that reads it with too much trust."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def saved(found: object, **how) -> bytes:
    file = io.BytesIO()
    torch.save(found, file, **how)
    return file.getvalue()


def claimed(header: dict | bytes, size: int | None = None, data: bytes = b"") -> bytes:
    """A safetensors file of that header, which may state another size of its own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return models.squeezenet1_1(weights=None, num_classes=CLASSES).state_dict()


@pytest.fixture(scope="module")
def child():
    """One child for many files: it starts once."""
    found = converting._Converter(Limits(seconds=60.0, memory=3 << 29))
    yield found
    found.close()


def asked(child: Examiner, content: bytes, name: str = "mine.pth", architecture: str = "") -> Converted | Several:
    *_, found = child.ask(content, name, architecture=architecture)
    return found


def refused(child: Examiner, content: bytes, name: str = "mine.pth", architecture: str = "") -> str:
    with pytest.raises(Refused) as error:
        asked(child, content, name, architecture)
    sentence = str(error.value)
    assert re.fullmatch(r"mine\.(pth|safetensors) [^\n]{10,600}[.?]", sentence), sentence
    assert "Traceback" not in sentence
    return sentence


# Good files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form", ["zip", *(pytest.param(form, marks=pytest.mark.thorough) for form in ("safetensors", "legacy"))]
)
def test_weights_become_a_network_in_the_child(state, child, form):
    content = saved(state, _use_new_zipfile_serialization=form == "zip")
    found = asked(child, safetensors.torch.save(state) if form == "safetensors" else content)
    assert (found.architecture, found.classes) == ("squeezenet1_1", CLASSES)
    net = Net("made.onnx", content=found.content)
    module = models.squeezenet1_1(weights=None, num_classes=CLASSES).eval()
    module.load_state_dict(state)
    pixels = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(net.normalise(pixels))).numpy()
    np.testing.assert_allclose(net.scores(pixels), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.thorough
def test_versions_of_names_are_known(child):
    """MNASNet asks for them, and no safetensors file has them."""
    found = asked(child, safetensors.torch.save(models.mnasnet0_5(weights=None, num_classes=3).state_dict()))
    assert found.architecture == "mnasnet0_5"


@pytest.mark.thorough
def test_bringing_goes_on_as_with_a_network(state, cache):
    steps = list(bringing.bring_steps(safetensors.torch.save(state), "my pets.safetensors"))
    assert steps[-1].result == "my_pets"
    assert [step.index for step in steps] == sorted(step.index for step in steps)
    assert len({step.total for step in steps}) == 1
    said = [step.result for step in steps[:-1]]
    assert set(converting.STAGES) <= set(said)
    assert said[-1] == "Keeping it"
    net = Net(available.find("my_pets"))
    assert net.classes == CLASSES
    assert "my_pets.safetensors" in net.metadata.source
    assert net.metadata.missing == ("labels",)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("resnet 20.pth", "resnet_20.pth"),
        ("../../etc/passwd.PT", "passwd.pt"),
        ("a/b.safetensors", "b.safetensors"),
        ("...", "network"),
        ("<b>.pth", "b.pth"),
    ],
)
def test_names_are_plain(name, kept):
    assert converting.called(name) == kept


def test_what_is_a_network_is_not_taken_for_weights():
    assert not converting.is_weights(make.good(), "mine.onnx")
    for path in available.SHIPPED.glob("*.onnx"):
        assert not converting.is_weights(path.read_bytes(), path.name)
    assert converting.is_weights(b"", "mine.pth")
    assert converting.is_weights(saved({}), "mine.onnx"), "by how it begins"


# What does not fit, and what means harm -------------------------------------------------------------------------------


def test_no_known_architecture(state, child):
    assert "fit no classifier of torchvision; the nearest is" in refused(child, saved({"a.weight": torch.zeros(3, 3)}))
    assert "it has more besides" in refused(child, saved(state | {"more": torch.zeros(1)}))
    assert "do not fit resnet18" in refused(child, saved(state), architecture="resnet18")
    assert "no classifier 'resnet8'" in refused(child, saved(state), architecture="resnet8")
    told = refused(child, saved(state | {"![x](http://a.example/b.png)\n" + 300 * "y": torch.zeros(1)}))
    assert "it has _x_http_a.example_b.png_yyy" in told
    assert len(told) < 300


@unix
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_does_not_run(state, child, tmp_path, zipped):
    content = saved({**state, "more": Hostile(tmp_path / "trap")}, _use_new_zipfile_serialization=zipped)
    told = refused(child, content)
    assert told.startswith(
        "mine.pth is not opened: the file holds more than weights, such as a whole pickled module: that"
    )
    refused(child, pickle.dumps(Hostile(tmp_path / "trap")))
    assert not (tmp_path / "trap").exists()


def test_damaged_files(state, child):
    for form in (safetensors.torch.save(state), saved(state), saved(state, _use_new_zipfile_serialization=False)):
        for cut in (len(form) // 2, len(form) - 100):
            assert re.search("cut short|no file of weights|damaged", refused(child, form[:cut]))


LIES = {
    "terabytes": {"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}},
    "overflow": {"a": {"dtype": "F32", "shape": [2**32, 2**32], "data_offsets": [0, 4]}},
    "negative": {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    "backwards": {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
    "another kind": {"a": {"dtype": "F1", "shape": [1], "data_offsets": [0, 4]}},
    "empty and endless": {"a": {"dtype": "F32", "shape": [0, 2**60], "data_offsets": [0, 0]}},
    "nothing": {},
    "deep": b'{"a":' + b"[" * 100_000,
}


@pytest.mark.parametrize("name", LIES)
def test_safetensors_that_lie(name, child):
    data = b"" if name == "empty and endless" else bytes(4)
    refused(child, claimed(LIES[name], data=data), "mine.safetensors")


def test_a_header_that_claims_to_be_larger_than_the_file():
    for size in (2**63, 2**40, 10_000):
        with pytest.raises(Refused, match=r"^mine\.safetensors is cut short, or no file of weights"):
            convert(claimed({"a": 1}, size), "mine.safetensors")
    with pytest.raises(Refused, match=r"^mine\.pth is empty"):
        convert(b"", "mine.pth")
    with pytest.raises(Refused, match=r"^mine\.pth is cut short, or no file of weights"):
        next(bringing.bring_steps(b"just a text", "mine.pth"))


@pytest.mark.thorough
@unix
def test_memory_is_limited(state):
    found = converting._Converter(Limits(seconds=60.0, memory=1 << 25))
    try:
        many = {f"{k}": {"dtype": "F32", "shape": [], "data_offsets": [4 * k, 4 * k + 4]} for k in range(300_000)}
        with pytest.raises(Refused, match=r"needs more memory|crash"):
            asked(found, claimed(many, data=bytes(1_200_000)), "mine.safetensors")
    finally:
        found.close()


@pytest.mark.thorough
@unix
def test_time_is_limited_and_the_child_ends_with_who_asked(state, monkeypatch):
    started = []
    start = Examiner._start
    monkeypatch.setattr(Examiner, "_start", lambda self: (start(self), started.append(self.process)))
    content = saved(state)
    with pytest.raises(Refused, match=r"^mine\.pth takes longer than 0 s to be written as ONNX"):
        convert(content, "mine.pth", limits=Limits(seconds=0.05))
    steps = convert_steps(content, "mine.pth")
    while next(steps).index < 2:
        pass
    steps.close()
    assert all(process.poll() is not None for process in started)


@unix
def test_the_child_can_open_nothing(tmp_path):
    """After it has warmed up; and what it needs then is in memory."""
    (tmp_path / make.CANARY).write_text("secret")
    script = f"""
import socket, sys, torch
from engine.intake import converting, examining
converting._warm(); examining._shut(False)
failed = []
for way in (lambda: open({str(tmp_path / make.CANARY)!r}), lambda: torch.load({str(tmp_path / make.CANARY)!r}),
            lambda: socket.socket(), lambda: open("new", "wb")):
    try:
        way()
    except OSError as error:
        failed.append(error.errno)
    except RuntimeError as error:
        failed.append(str(error))
print(failed, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().splitlines()[-1] == "[24, 24, 24, 24]", "too many open files, all of them"


def test_a_child_that_answers_nonsense_is_a_refusal():
    found = converting._Converter()
    for answer, made in (({}, b""), ({"architecture": "a", "classes": "many"}, b"x"), ({"several": 3}, b"")):
        with pytest.raises(Refused, match="nonsense"):
            found._found(answer, made, "mine.pth", b"")


def test_several_that_fit_are_named(state, monkeypatch):
    """None of torchvision's are alike today; the child says so where they are."""
    fits = [converting.weights.Fit(name, (), (), (), 7) for name in ("one", "other")]
    monkeypatch.setattr(converting.weights, "candidates", lambda state: fits)
    said = converting._convert(saved(state), {"architecture": "", "name": "mine.pth"}, lambda **_: None)
    assert said == {"several": ["one", "other"]}
    found = converting._Converter()._found(said, b"", "mine.pth", b"")
    assert found == Several(("one", "other"))
    monkeypatch.setattr(bringing.converting, "convert_steps", lambda *_, **__: iter([converting.Step(4, 4, found)]))
    *_, step = bringing.bring_steps(saved(state), "mine.pth")
    assert (step.result, step.index) == (found, step.total)


def test_a_file_that_is_long_in_coming_does_not_keep_the_parent():
    """The parent reads no more bytes than a network may have."""
    read, write = os.pipe()
    lines = converting.opening.queue.Queue()
    with os.fdopen(write, "wb") as said:
        said.write(json.dumps({"bytes": 10**15}).encode() + b"\n" + bytes(100))
    start = time.monotonic()
    with os.fdopen(read, "rb") as heard:
        converting.opening._listen(heard, lines, 1000)
    assert lines.get_nowait() is None
    assert time.monotonic() - start < 1

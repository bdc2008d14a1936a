"""Opening strangers' files: does each hostile one get its sentence, do the limits hold, and do good ones open?"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
import small_nets as small
from hostile import fuzz, make

from engine.intake import claims, opening
from engine.intake.opening import Examiner, Limits, Refused, Report, examine, examine_steps
from engine.net import BadNetwork, Net
from engine.nets import available

LIMITS = Limits(seconds=3.0, memory=1 << 29)
unix = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="These limits are Linux's.")


@pytest.fixture(scope="module")
def examiner():
    found = Examiner(LIMITS)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def nothing_known():
    opening._verdicts.clear()


def asked(examiner: Examiner, content: bytes, name: str = "mine.onnx") -> Report:
    (report,) = (found for found in examiner.ask(content, name) if isinstance(found, Report))
    return report


# The corpus -----------------------------------------------------------------------------------------------------------


@unix
@pytest.mark.parametrize("name", make.HOSTILE)
def test_a_hostile_file_gets_its_sentence(name, examiner):
    content, said = make.HOSTILE[name][0](), make.HOSTILE[name][1]
    start = time.monotonic()
    with pytest.raises(Refused) as refused:
        asked(examiner, content, "mine.onnx") if content else examine(content, "mine.onnx")
    sentence = str(refused.value)
    assert any(part in sentence for part in said.split("|")), sentence
    assert re.fullmatch(r"[^\n]{10,600}", sentence)
    assert "mine.onnx" in sentence
    assert "Traceback" not in sentence
    assert time.monotonic() - start < LIMITS.seconds + 2


def test_the_corpus_is_small_and_always_the_same():
    contents = {name: make() for name, (make, _) in make.HOSTILE.items()}
    assert len(contents) >= 40
    assert sorted(map(len, contents.values()))[-5] < 60_000, "but for those that are about being long"
    assert contents == {name: make() for name, (make, _) in make.HOSTILE.items()}


def test_what_they_are_changed_from_opens(examiner):
    report = asked(examiner, make.good())
    assert (report.classes, report.channels, report.input_size, report.free) == (4, 3, (8, 8), False)


def test_a_refusal_is_a_bad_network():
    """So that whoever catches that one catches this one, too."""
    assert issubclass(Refused, BadNetwork)


# Good files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(available.SHIPPED.glob("*.onnx")), ids=lambda path: path.stem)
def test_networks_that_ship_open(path, examiner):
    report, net = asked(examiner, path.read_bytes(), path.name), Net(path)
    assert (report.sha256, report.classes, report.layers) == (net.sha256, net.classes, len(net.layers))
    assert (report.input_size, report.channels, report.missing) == (net.input_size, net.channels, ())


@unix
def test_opening_a_small_network_takes_little():
    """In a child of its own: one that has seen others reports what it has ever had."""
    assert 20 * 2**20 < examine(make.good(), "mine.onnx").memory < 400 * 2**20


def test_strangers_networks_open(shared, examiner):
    names = ("googlenet_imagenet", "squeezenet1_1_imagenet", "squeezenet_places365", "resnet20_cifar10", "mnist_cntk")
    for name in names:
        report = asked(examiner, (shared / "nets" / f"{name}.onnx").read_bytes(), name)
        assert set(report.missing) == {"labels", "input_size", "mean", "std"}, "as a stranger's file comes"
        assert report.free == (name != "mnist_cntk")


def test_a_style_network_is_sent_to_its_page(shared, examiner):
    model = onnx.load(shared / "nets" / "candy.onnx")
    del model.metadata_props[:]  # its author's, some of which go by our names
    with pytest.raises(Refused, match="Fast style"):
        asked(examiner, model.SerializeToString())


def test_functions_are_allowed_where_they_are_few(examiner):
    model = onnx.load_model_from_string(make.functions_that_multiply())
    model.graph.node[0].op_type = "f1"  # a hundred nodes
    assert asked(examiner, model.SerializeToString()).nodes == 104


# Limits ---------------------------------------------------------------------------------------------------------------


@unix
def test_the_child_can_open_nothing_and_write_nothing(tmp_path):
    """After `_shut`, whatever a file could make a library do: files, sockets, processes' pipes."""
    (tmp_path / make.CANARY).write_text("secret")
    script = f"""
import socket, onnx, sys
from pathlib import Path
from engine.intake import examining
canary = {str(tmp_path / make.CANARY)!r}
examining._warm(); examining._shut(False)
failed = []
for way in (lambda: open(canary), lambda: onnx.load(canary), lambda: socket.socket(), 
            lambda: next(Path({str(tmp_path)!r}).iterdir()), lambda: open("new", "wb")):
    try:
        way()
    except OSError as error:
        failed.append(error.errno)
print(failed, flush=True)
"""
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=small.__file__.rpartition("tests")[0],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == "[24, 24, 24, 24, 24]", "too many open files, all of them"


@unix
def test_nothing_outside_is_read(tmp_path, monkeypatch):
    """Weights in another file: neither where the server was started, nor beside, nor above where the child stands."""
    (tmp_path / make.CANARY).write_bytes(bytes(768))
    before = os.stat(tmp_path / make.CANARY).st_atime_ns
    monkeypatch.chdir(tmp_path)
    for location in (make.CANARY, str(tmp_path / make.CANARY), f"../{make.CANARY}", "/proc/self/environ"):
        with pytest.raises(Refused, match="save it as a single one"):
            examine(make.external(location), "mine.onnx")
    assert os.stat(tmp_path / make.CANARY).st_atime_ns == before


@unix
def test_memory_is_limited(examiner):
    with pytest.raises(Refused, match=r"needs more memory than 0\.5 GiB"):
        asked(examiner, make.computed_size())
    asked(examiner, make.good())


@unix
def test_time_is_limited():
    start = time.monotonic()
    with pytest.raises(Refused, match="takes longer than 1 s"):
        examine(make.slow(), "mine.onnx", limits=Limits(seconds=1.0))
    assert time.monotonic() - start < 4


@unix
def test_processor_time_is_limited_where_the_clock_does_not_see_it(monkeypatch):
    """The clock is the parent's, and the child would end by itself without it."""
    found = Examiner(Limits(seconds=60.0))
    list(found.ask(make.good(), "good.onnx"))
    limits = Path(f"/proc/{found.process.pid}/limits").read_text()
    found.close()
    (cpu,) = re.findall(r"Max cpu time +(\d+)", limits)
    assert 60 <= int(cpu) <= 60 * 4 + 3
    assert re.search(r"Max core file size +0 +0 ", limits)
    assert re.search(r"Max file size +0 +0 ", limits)
    (files,) = re.findall(r"Max open files +(\d+)", limits)
    assert int(files) <= 12, "no more than are open by then"
    (space,) = re.findall(r"Max address space +(\d+)", limits)
    assert int(space) < 12 << 30


@unix
@pytest.mark.parametrize(
    ("number", "said"), [(signal.SIGSEGV, "crash"), (signal.SIGABRT, "crash"), (signal.SIGKILL, "memory")]
)
def test_a_child_that_dies_is_a_refusal(number, said):
    found = Examiner(LIMITS)
    steps = found.ask(make.slow(), "mine.onnx")
    while next(steps) < 3:
        pass
    os.kill(found.process.pid, number)
    with pytest.raises(Refused, match=f"mine.onnx.*{said}"):
        list(steps)
    assert asked(found, make.good()).classes == 4, "and the next file gets a new child"
    found.close()


@unix
def test_who_ends_the_examination_ends_the_child(monkeypatch):
    started = []
    start = Examiner._start
    monkeypatch.setattr(Examiner, "_start", lambda self: (start(self), started.append(self.process)))
    steps = examine_steps(make.slow(), "mine.onnx")
    while next(steps).index < 3:
        pass
    steps.close()
    (process,) = started
    assert process.poll() is not None


@unix
def test_the_child_knows_nothing_of_the_servers_environment(monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2")
    found = Examiner(LIMITS)
    asked(found, make.good())
    environment = Path(f"/proc/{found.process.pid}/environ").read_bytes()
    here = Path(os.readlink(f"/proc/{found.process.pid}/cwd"))
    assert b"hunter2" not in environment
    assert not list(here.iterdir()), "it stands in an empty folder, which is its home"
    found.close()
    assert not here.exists()


def test_progress_is_told():
    steps = list(examine_steps(make.good(), "mine.onnx"))
    assert [step.index for step in steps] == sorted(step.index for step in steps)
    assert {step.result for step in steps[:-1]} <= set(opening.STAGES)
    assert isinstance(steps[-1].result, Report)
    assert all(step.total == len(opening.STAGES) for step in steps)


def test_a_child_that_answers_nonsense_is_a_refusal(monkeypatch):
    for line in (b"[]", b"not json", b'{"classes": "many"}'):
        with pytest.raises(Refused, match="nonsense"):
            opening._report(opening._plain(line), "mine.onnx", b"")


# What is kept ---------------------------------------------------------------------------------------------------------


def test_a_file_is_examined_once(monkeypatch):
    good, bad = examine(make.good(), "mine.onnx"), make.terabytes()
    with pytest.raises(Refused):
        examine(bad, "bad.onnx")
    monkeypatch.setattr(Examiner, "_start", lambda self: pytest.fail("it is known"))
    assert examine(make.good(), "mine.onnx") == good
    with pytest.raises(Refused, match=r"^other\.onnx is damaged"):
        examine(bad, "other.onnx")


def test_verdicts_are_bounded():
    for number in range(opening.KEPT + 20):
        opening._keep((number,), "no", "x")
    assert len(opening._verdicts) == opening.KEPT
    assert (0,) not in opening._verdicts


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("resnet 20.onnx", "resnet_20.onnx"),
        ("../../etc/passwd", "passwd.onnx"),
        ("C:\\temp\\a.onnx", "a.onnx"),
        ("<script>.onnx", "script.onnx"),
        ("", "network.onnx"),
        ("...", "network.onnx"),
        ("a" * 300, "a" * 60 + ".onnx"),
    ],
)
def test_names_are_plain(name, kept):
    assert opening.called(name) == kept


# Reading by a path ----------------------------------------------------------------------------------------------------


def test_a_path_is_read_where_it_is_a_file(tmp_path):
    (tmp_path / "net.onnx").write_bytes(make.good())
    assert opening.read(tmp_path / "net.onnx") == make.good()
    with pytest.raises(Refused, match=r"There is no file nowhere\.onnx"):
        opening.read(tmp_path / "nowhere.onnx")
    with pytest.raises(Refused, match=r"is no file|cannot be read"):
        opening.read(tmp_path)
    with pytest.raises(Refused):
        opening.read("a\0b")


@unix
def test_a_pipe_or_a_device_keeps_nobody_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(Refused, match="is no file"):
            opening.read(path)


@unix
def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "large.onnx").open("wb") as file:
        file.truncate(claims.MAX_BYTES + 1)  # a hole: it takes no room
    with pytest.raises(Refused, match="larger than 1 GiB"):
        opening.read(tmp_path / "large.onnx")


@unix
@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("/etc/passwd", "outside of its own folder"),
        ("../secret.bin", "outside of its own folder"),
        ("inside/../../secret.bin", "outside of its own folder"),
        ("C:\\secret.bin", "outside of its own folder"),
        ("", "outside of its own folder"),
        ("link.bin", "which is a link"),
        ("linked/secret.bin", "which is a link"),
        ("inside", "is not beside it"),
        ("nowhere.bin", "is not beside it"),
        ("short.bin", "does not hold all of"),
    ],
)
def test_weights_beside_a_file_lie_beside_it(location, said, tmp_path):
    folder = tmp_path / "folder"
    (folder / "inside").mkdir(parents=True)
    (tmp_path / "secret.bin").write_bytes(bytes(768))
    (folder / "short.bin").write_bytes(bytes(100))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    model = onnx.load_model_from_string(make.external(location, length=768))
    with pytest.raises(Refused, match=said):
        claims.check(model, "mine.onnx", folder)


def test_weights_that_lie_beside_it_are_no_reason_to_refuse(tmp_path):
    (tmp_path / "weights.bin").write_bytes(bytes(1000))
    model = onnx.load_model_from_string(make.external("weights.bin", offset=200, length=768))
    assert claims.check(model, "mine.onnx", tmp_path).graph.node


# Damage ---------------------------------------------------------------------------------------------------------------


@unix
def test_two_hundred_damaged_files_are_opened_or_refused():
    counts, wrong = fuzz.fuzz(200, seed=1)
    assert not wrong
    assert sum(counts.values()) == 200
    assert counts["opened"] > 4
    assert counts["refused"] > 100


def test_mutants_are_always_the_same():
    files = fuzz.bases()
    for number in range(30):
        assert fuzz.mutant(number, 0, files) == fuzz.mutant(number, 0, files)

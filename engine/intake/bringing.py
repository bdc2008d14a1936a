"""How does a stranger's file become one of the networks at hand?

It is examined in a process of its own (engine/intake/opening.py), and kept in the user's cache folder under a name of
its own, so that every page, every link and the command line find it. The folder is bounded: what was brought longest
ago goes first. Where the app is open to people who do not know each other (engine/nets/folder.py: hosted), a name ends
in a part of the content's SHA-256, which nobody guesses who has not got the file; and nobody is shown a list.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from engine.intake import converting, examining, opening
from engine.intake.converting import Converted, Several
from engine.intake.labelling import labelled
from engine.intake.opening import Limits, Refused, Report
from engine.nets import available, zoo
from engine.nets.folder import hosted
from engine.step import Step

MOST_BYTES, MOST = 4 << 30, 200  # of all that is kept, and how many
DIGITS = 16  # of the hash that a name ends in
SMALL, SMALL_STRIDE = (32, 32), 8  # networks that halve so rarely were made for pictures of CIFAR's size


def keep(content: bytes, name: str, *, instead: str = "") -> str:
    """Keep a file that has been examined; its name from now on, as `nets.find` takes it.

    instead: the name of a network that was brought and of which this is what became; it goes, but where the app is
    open to others, who may have brought the same.
    Raises Refused where the disk does not take it.
    """
    digest = hashlib.sha256(content).hexdigest()
    stem = plain(name)
    if hosted() or not (stem == instead or _free(stem, digest)):
        stem = f"{stem}-{digest[:DIGITS]}"
    path = available.folder() / f"{stem}.onnx"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and _digest(path) == digest:
            return stem
        handle, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(unfinished, path)
    except OSError as error:
        raise Refused(f"{name} could not be kept ({error.strerror}); free some room on the server's disk.") from error
    if instead not in ("", stem) and not hosted():
        forget(instead)
    _tidy(path)
    return stem


def plain(name: str) -> str:
    """The name without what `keep` has put behind it."""
    return re.sub(rf"-[0-9a-f]{{{DIGITS}}}$", "", opening.called(name).removesuffix(".onnx"))


def _free(stem: str, digest: str) -> bool:
    """Whether no other network goes by this name."""
    other = available.at_hand().get(stem)
    return stem not in zoo.NETWORKS and (
        other is None or (other.parent == available.folder() and _digest(other) == digest)
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tidy(newest: Path) -> None:
    """Let the oldest go where there is too much."""
    found = sorted(newest.parent.glob("*.onnx"), key=lambda path: path.stat().st_mtime, reverse=True)
    room = MOST_BYTES
    for place, path in enumerate(found):
        room -= path.stat().st_size
        if path != newest and (place >= MOST or room < 0):
            path.unlink(missing_ok=True)


def forget(name: str) -> None:
    """Remove a network that was brought."""
    if (path := available.brought(name)) is not None:
        path.unlink(missing_ok=True)


def bring_steps(
    content: bytes,
    name: str,
    *,
    beside: Path | None = None,
    limits: Limits | None = None,
    instead: str = "",
    architecture: str = "",
) -> Iterator[Step]:
    """Examine a file and keep it: Step(stage, of how many, what is done, in words), the last one with its new name.

    beside: the folder that it lies in, where weights may lie in other files; they go into the one that is kept.
    instead: see `keep`. A file of weights alone (engine/intake/converting.py) is made a network first. architecture:
    torchvision's name of it; where it is not given and several fit, the last step has a `converting.Several` of them,
    and nothing is kept. Where the graph leaves the size of pictures open and the file does not state it, it is guessed
    and written down. Raises Refused.
    """
    step, total, before = None, len(opening.STAGES) + 1, 0
    if converting.is_weights(content, name):
        before = len(converting.STAGES)
        for step in converting.convert_steps(content, name, architecture=architecture):
            if isinstance(step.result, Several):
                yield Step(before + total, before + total, step.result)
                return
            if not isinstance(step.result, Converted):
                yield Step(step.index, before + total, step.result)
        content, beside = step.result.content, None
        name = converting.stem(name)
    total += before
    for step in opening.examine_steps(content, name, beside=beside, limits=limits):
        if not isinstance(step.result, Report):
            yield Step(before + step.index, total, step.result)
    report: Report = step.result
    if report.external:
        content = examining.merged(onnx.load_model_from_string(content), beside)
    if size := guessed_size(report):
        content = labelled(content, input_size=size)
    yield Step(total - 1, total, "Keeping it")
    if report.external or size:  # it is another file now
        report = opening.examine(content, name, limits=limits)
    yield Step(total, total, keep(content, name, instead=instead))


def guessed_size(report: Report) -> tuple[int, int] | None:
    """(H, W) that a network was probably made for, where nothing says it; None where that is 224."""
    unsaid = report.free and "input_size" in report.missing
    small = 0 < report.stride <= SMALL_STRIDE and report.classes <= 200
    return SMALL if unsaid and small else None


def finish_steps(
    content: bytes,
    name: str,
    *,
    order: str = "RGB",
    limits: Limits | None = None,
    instead: str = "",
    **said: object,
) -> Iterator[Step]:
    """Write into a file what it should say of itself (see `labelling.labelled`), examine it again, and keep it.

    Yields as `bring_steps`. Raises Refused.
    """
    content = labelled(content, order=order, **said)
    yield from bring_steps(content, name, limits=limits, instead=instead)

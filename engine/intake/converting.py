"""May these weights become a network? A stranger's file of them is read in a process of its own, which may fail.

It is the process of engine/intake/opening.py, with PyTorch loaded before its limits are set: by the time it sees the
file it can open no other, write none, and has bounded memory and time. There the weights are read
(engine/intake/weights.py: tensors and plain containers, no code), the architecture is told, and the network is written
as ONNX, which comes back as bytes. They are trusted no more than the file was: whoever asked examines them as any other
network that was brought.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.intake import examining, opening, weights
from engine.intake.claims import MAX_BYTES, Refused
from engine.intake.opening import Examiner, Limits
from engine.intake.weights import SUFFIXES, BadWeights
from engine.step import Step, last

STAGES = (
    "Starting a process of its own, with PyTorch: some 10 s",
    "Reading",
    "Telling the architecture by the tensors",
    "Writing it as ONNX, and comparing the two",
)
FULL = r"MemoryError|not enough memory|bad_alloc|std::length_error|allocate memory|Failed to allocate"
LIMITS = Limits(seconds=180.0, memory=3 << 30)  # PyTorch's exporter takes half a minute for the deepest networks


@dataclass(frozen=True)
class Converted:
    """Weights as a network. content: of the ONNX file. architecture: torchvision's name of it. classes: how many."""

    content: bytes
    architecture: str
    classes: int


@dataclass(frozen=True)
class Several:
    """The weights fit more than one architecture of torchvision; who knows which one it is says so."""

    architectures: tuple[str, ...]


def is_weights(content: bytes, name: str) -> bool:
    """Whether a file is to be taken for weights: by how it begins, or where that says nothing, by its name."""
    return bool(weights.kind(content)) or name.lower().endswith(SUFFIXES)


def stem(name: str) -> str:
    """A file's name without the suffix that files of weights have."""
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def called(name: str) -> str:
    """A file's name as it is shown: plain, as `opening.called` has it, with its own suffix."""
    return opening.called(stem(name)).removesuffix(".onnx") + name[len(stem(name)) :].lower()


def convert(content: bytes, name: str, *, architecture: str = "", limits: Limits | None = None) -> Converted | Several:
    """Make a network of a file of weights, in a child process.

    content: the file's bytes. name: as it is called, for people. architecture: torchvision's name of it, where it is
    known; by default it is told by the tensors.
    Raises Refused.
    """
    return last(convert_steps(content, name, architecture=architecture, limits=limits))


def convert_steps(content: bytes, name: str, *, architecture: str = "", limits: Limits | None = None) -> Iterator[Step]:
    """The same with progress: Step(stage, of how many, its name in STAGES), and last a Step with what it came to.

    Ending it early ends the child.
    """
    name = called(name)
    total = len(STAGES)
    if not content:
        raise Refused(f"{name} is empty; choose another file.")
    if not weights.kind(content):
        raise Refused(f"{name} is cut short, or no file of weights: neither safetensors nor what torch.save writes.")
    if len(content) > MAX_BYTES:
        raise Refused(f"{name} is larger than {MAX_BYTES >> 30} GiB; weights of up to that size can be opened.")
    found: Converted | Several | None = None
    with contextlib.closing(_Converter(limits or LIMITS, once=True)) as child:
        for stage in child.ask(content, name, architecture=architecture):
            if isinstance(stage, int):
                yield Step(stage, total, STAGES[min(stage, total - 1)])
            else:
                found = stage
    yield Step(total, total, found)


class _Converter(Examiner):
    module, stages, room, start = "engine.intake.converting", STAGES, MAX_BYTES, 180.0

    def _found(self, answer: dict, made: bytes, name: str, content: bytes) -> Converted | Several:
        try:
            if "several" in answer:
                return Several(tuple(str(each)[:60] for each in answer["several"][:80]))
            if made:
                return Converted(made, str(answer["architecture"])[:60], int(answer["classes"]))
        except (KeyError, TypeError, ValueError):
            pass
        raise Refused(f"{name} made the process that read it answer nonsense, so it is not opened.")

    def _too_slow(self, name: str) -> str:
        return f"{name} takes longer than {self.limits.seconds:.0f} s to be written as ONNX; use a smaller network."


# What runs in the child -----------------------------------------------------------------------------------------------


def _warm() -> None:
    """Load and start all that reading and writing need, while files may still be opened."""
    import safetensors.torch
    import torch
    from torch import nn

    from engine.model.metadata import Metadata
    from engine.nets import zoo  # noqa: F401  engine/intake/weights.py takes it when it needs it
    from engine.nets.export import exported

    examining._warm()
    torch.set_num_threads(min(torch.get_num_threads(), 4))
    parts = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    module = nn.Sequential(*parts).eval()
    exported(module, Metadata(input_size=(16, 16)))
    files = [safetensors.torch.save(module.state_dict())]
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(module.state_dict(), file, _use_new_zipfile_serialization=zipped)
        files.append(file.getvalue())
    for content in files:
        state = weights.read(content)
        for broken in (content[:-40], content[:40], content[:-200] + bytes(200)):  # errors load modules of their own
            with contextlib.suppress(BadWeights):
                weights.read(broken)
    weights.candidates(state)  # and the shapes of all architectures are known


def _convert(content: bytes, head: dict, say: Callable) -> dict[str, Any]:
    try:
        say(stage=2)
        state = weights.read(content)
        architecture = head["architecture"]
        if not architecture:
            found = [fit.architecture for fit in weights.candidates(state) if fit.fits]
            if len(found) > 1:
                return {"several": found}
        fit = weights.chosen(state, architecture)
        del state
        say(stage=3)
        made, fit = weights.opened(content, architecture=fit.architecture, name=head["name"])
    except BadWeights as error:
        causes, cause = [], error.__cause__
        while cause is not None:
            causes.append(f"{type(cause).__name__} {cause}")
            cause = cause.__cause__
        if re.search(FULL, "\n".join(causes)):
            raise MemoryError from error
        told = re.sub(r"^T(?=h)", "t", str(error).replace(", and is not opened", ""))
        raise Refused(f"{head['name']} is not opened: {told}") from error
    except (MemoryError, Refused):
        raise
    except RuntimeError as error:  # PyTorch has no class of its own for memory that runs out
        if re.search(FULL, str(error)):
            raise MemoryError from error
        raise
    return {"architecture": fit.architecture, "classes": fit.classes, "made": made}


if __name__ == "__main__":
    from engine.intake import converting

    examining.main(warm=converting._warm, answer=converting._convert)

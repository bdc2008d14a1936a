"""Which methods does the engine have, and what does each of them take?

Nothing is registered. A method is a public function of a module in engine/ or one of its packages whose first parameter
is `net`, whose other parameters without a default are ones that a command line can give (`image`, `target`, `layer`, or
a plain number or word), and which is declared to return numbers: an array, arrays by name, a table, or a dataclass that
holds some. Where `x_steps` stands beside `x`, that is what runs: it shows progress, and stopped early it has a partial
result; the last of its steps holds what `x` returns. Commands written out in engine/cli/ come before methods of the
same name.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIVEN = ("net", "image", "target", "layer")  # parameters that are made from options of other names
PLAIN = {"int": int, "float": float, "str": str, "bool": bool}  # annotations whose values can be typed
ARRAYS = ("np.ndarray", "pd.DataFrame", "Evidence", "dict[str, np.ndarray]")
MADE = "Climb"  # what most methods return that make a picture; the others' dataclasses have a `picture`, too


# What is a method -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Knob:
    """A parameter of a method that is an option of the same name. choices: its module's tuple, `FILLS` for `fill`."""

    name: str
    kind: type
    default: Any  # inspect.Parameter.empty where it must be given
    choices: tuple[str, ...]
    help: str


@dataclass(frozen=True)
class Method:
    """One question that the engine answers. steps: the same as a generator of Step, where there is one."""

    function: Callable
    steps: Callable | None
    takes: frozenset[str]  # which of GIVEN
    knobs: tuple[Knob, ...]

    @property
    def makes(self) -> bool:
        """Whether it makes a picture, of whose making there can be a film."""
        annotation = inspect.signature(self.function).return_annotation
        return annotation == MADE or hasattr(
            getattr(sys.modules[self.function.__module__], annotation, None), "picture"
        )

    @property
    def of_class(self) -> bool:
        """Whether its target is a class, and can be nothing else."""
        target = inspect.signature(self.function).parameters.get("target")
        return target is not None and target.annotation == "int"

    @property
    def name(self) -> str:
        return self.function.__name__.replace("_", "-")


def methods() -> dict[str, Method]:
    """All methods by the names of their commands, in alphabetical order."""
    found = {}
    for module, name in candidates():
        method = _method(importlib.import_module(module), name)
        if method is not None:
            found[method.name] = method
    return dict(sorted(found.items()))


def candidates() -> list[tuple[str, str]]:
    """(module, name) of each public function of the engine that begins with `net`.

    Found in the text, so that modules without any need not be imported. Commands are none, though they may begin so.
    """
    engine, found = Path(__file__).parent, []
    for file in sorted(engine.glob("**/[!_]*.py")):
        place = ("engine", *file.relative_to(engine).with_suffix("").parts)
        if place[1] != "cli":
            names = re.findall(r"^def ([a-z]\w*)\(\s*net\b", file.read_text("utf-8"), re.MULTILINE)
            found += [(".".join(place), name) for name in names]
    return found


def _method(module: types.ModuleType, name: str) -> Method | None:
    function = getattr(module, name)
    if not _gives_numbers(inspect.signature(function).return_annotation, module):
        return None
    parameters = inspect.signature(function).parameters
    described = _described_by(function, list(parameters))
    knobs = []
    for parameter in list(parameters.values())[1:]:
        needed = parameter.default is parameter.empty
        if parameter.name in GIVEN[1:] and needed:
            continue
        kind = next((PLAIN[part] for part in _parts(parameter.annotation) if part in PLAIN), None)
        if kind is not None:
            choices = getattr(module, f"{parameter.name.upper()}S", ())
            choices = choices if isinstance(choices, tuple) and kind is str else ()
            text = described.get(parameter.name, "")
            knobs.append(Knob(parameter.name, kind, parameter.default, choices, text))
        elif needed:
            return None  # what cannot be typed stays at its default, and this one has none
    takes = {p for p in GIVEN if p in parameters and parameters[p].default is inspect.Parameter.empty}
    return Method(function, getattr(module, f"{name}_steps", None), frozenset(takes), tuple(knobs))


def _parts(annotation: Any) -> list[str]:
    """`int | None` as ["int", "None"]: annotations are text here (PEP 563)."""
    return [part.strip() for part in str(annotation).split("|")]


def _gives_numbers(annotation: Any, module: types.ModuleType) -> bool:
    return any(part in (*ARRAYS, MADE) for part in [annotation, *_fields(annotation, module)])


def _fields(annotation: Any, module: types.ModuleType) -> list[str]:
    """The types of the fields of a dataclass that goes by this name in the module."""
    made = getattr(module, str(annotation), None)
    fields = dataclasses.fields(made) if dataclasses.is_dataclass(made) else ()
    return [part for field in fields for part in _parts(field.type)]


def _described_by(function: Callable, names: list[str]) -> dict[str, str]:
    """What its docstring says of each parameter; and where that says "as in `other`", what the other's says."""
    doc, found = inspect.getdoc(function) or "", {}
    for name in re.findall(r"\bas (?:in|for) `(\w+)`", doc, re.IGNORECASE):
        other = getattr(sys.modules[function.__module__], name, None)
        if inspect.isfunction(other) and other is not function:
            found |= _described_by(other, names)
    return found | _described(doc, names)


def _described(doc: str, names: list[str]) -> dict[str, str]:
    """What a docstring says of each parameter, in the form `patch, stride: in pixels. fill: one of FILLS.`"""
    one = "|".join(map(re.escape, names))
    head = rf"((?:{one})(?:,\s(?:{one}))*):\s"
    end = rf"(?=\.\s{head}|\s(?:Returns|Raises)\b|\n\n|\Z)"
    found = {}
    for match in re.finditer(rf"(?:^|(?<=\.\s)){head}(.*?){end}", doc, re.MULTILINE | re.DOTALL):
        text = " ".join(match[2].split()).rstrip(".") + "."
        found |= dict.fromkeys(re.split(r",\s", match[1]), text)
    return found


def returned(function: Callable) -> str:
    """What a method's docstring says of its result: shape, range and unit."""
    doc = inspect.getdoc(function) or ""
    match = re.search(r"^Returns (.*?)(?=\bRaises\b|\n\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    if match is None and doc.startswith("("):  # a docstring that says it in its first sentence
        match = re.match(r"(.*?)(?=\n\n|\Z)", doc, re.DOTALL)
    return " ".join(match[1].split()) if match else ""


def about(function: Callable) -> str:
    """For people: the question that its module answers, what the method does, and what comes out."""
    module = inspect.getdoc(sys.modules[function.__module__]) or ""
    does = (inspect.getdoc(function) or "").partition("\n\n")[0]
    gives = returned(function)
    parts = [module.partition("\n")[0], does, "" if does.startswith("(") or not gives else f"Returns {gives}"]
    return "\n\n".join(part for part in parts if part)

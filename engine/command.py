"""Which methods does the engine have, and how is one run without writing Python?

Nothing is registered. A method is a public function of a module in engine/ whose first parameter is `net`, whose other
parameters without a default are ones that a command line can give (`image`, `target`, `layer`, or a plain number or
word), and which is declared to return numbers: an array, arrays by name, a table, or a dataclass that
holds some. Where `x_steps` stands beside `x`, that is what runs: it shows progress, and stopped early it has a partial
result; the last of its steps holds what `x` returns. Commands written out in engine/__main__.py come before methods of
the same name.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import inspect
import json
import platform
import re
import sys
import time
import tomllib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
import pandas as pd

from engine import image as pictures
from engine import target as targets
from engine.net import Net, softmax
from engine.nets import available
from engine.nets.folder import PROJECT
from engine.pictures import samples, sheet
from engine.pictures.film import Film
from engine.step import Step

GIVEN = ("net", "image", "target", "layer")  # parameters that are made from options of other names
UNIT = ("layer", "channel", "row", "col", "direction")  # what a target that is no class is made from
PLAIN = {"int": int, "float": float, "str": str, "bool": bool}  # annotations whose values can be typed
ARRAYS = ("np.ndarray", "pd.DataFrame", "Evidence", "dict[str, np.ndarray]")
MADE = "Climb"  # what most methods return that make a picture; the others' dataclasses have a `picture`, too
SPELLED = {"Linf": "L∞"}  # what can be typed in a choice's place
INTERRUPTED = 130  # the exit status that shells give to a program ended by Ctrl-C


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


# A method's options ---------------------------------------------------------------------------------------------------


def options(method: Method) -> list[click.Option]:
    """--net, --image and --out, and what the method's signature asks for."""
    sees = "image" in method.takes
    unseen = "" if sees else "; this method itself looks at none"
    folder = click.Path(file_okay=False, path_type=Path)
    found = [
        click.Option(["--net"], required=True, metavar="NET", help="Network: a name that `nets` lists, or a file."),
        click.Option(["--image"], required=sees, metavar="PIC", help=f"Picture: a file, or a sample's name{unseen}."),
        click.Option(["--out"], required=True, type=folder, help="Folder to write to."),
        click.Option(["--output"], metavar="OUTPUT", help="The network's output to ask.  [default: the first]"),
    ]
    if "target" in method.takes:
        margin = "Ask how far the class is ahead of this one."
        found += [
            click.Option(["--class", "class_"], metavar="CLASS", help="Number or label.  [default: the likeliest one]"),
            click.Option(["--against"], metavar="CLASS", help=margin),
        ]
    if "layer" in method.takes:
        default = "[default: the last map before pooling]"
        found.append(click.Option(["--layer"], metavar="LAYER", help=f"A layer that `inspect` lists.  {default}"))
    if "target" in method.takes:
        found += [
            click.Option([f"--{option}", f"target_{part}"], type=kind, help=text)
            for part, (option, kind, text) in _target_options(method).items()
        ]
    if method.makes:
        told = "Write how the picture came about, too: film.gif and film.mp4."
        found.append(click.Option(["--film"], is_flag=True, help=told))
    for knob in method.knobs:
        kind = Choice(knob.choices) if knob.choices else knob.kind
        names = [f"--{knob.name.replace('_', '-')}", knob.name]
        needed = knob.default is inspect.Parameter.empty
        start = {"required": True} if needed else {"default": knob.default, "show_default": True}
        found.append(click.Option(names, type=kind, help=knob.help, **start))
    return found


class Choice(click.Choice):
    """One of some words; where one of them is not on every keyboard, another spelling of it counts, too."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(SPELLED.get(value, value), param, ctx)


def _target_options(method: Method) -> dict[str, tuple[str, type, str]]:
    """Options that ask about a unit instead of a class; with "target-" before those that the method has itself."""
    own = {knob.name for knob in method.knobs} | method.takes
    words = {
        "layer": (str, "Ask about a unit of this layer instead of a class."),
        "channel": (int, "Which channel of that layer."),
        "row": (int, "Of one neuron: its row.  [default: the mean over all positions]"),
        "col": (int, "Of one neuron: its column."),
        "direction": (str, "Instead of a channel, several with their weights: 12:1,40:-0.5."),
    }
    return {part: (f"target-{part}" if part in own else part, *rest) for part, rest in words.items()}


# Running one ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Picture:
    """name: as it was given. sha256: of the file, or "" for a sample. pixels: (H, W, 3)."""

    name: str
    sha256: str
    pixels: np.ndarray


def picture(given: str) -> Picture:
    """The sample, or the file, that goes by `given`. Raises click.UsageError, NotAPicture, OSError."""
    if given in samples.SAMPLES:
        return Picture(given, "", samples.load(given))
    if not Path(given).is_file():
        known = ", ".join(samples.SAMPLES)
        raise click.UsageError(f"There is no file and no sample {given!r}; the samples are {known}.")
    data = Path(given).read_bytes()
    return Picture(Path(given).name, hashlib.sha256(data).hexdigest(), pictures.load(data))


def run(
    method: Method,
    /,
    *,
    net: str,
    image: str | None,
    out: Path,
    output: str | None = None,
    class_: str | None = None,
    film: bool = False,
    **given: Any,
) -> None:
    """Run one method and write its result to the folder `out`; of a run that Ctrl-C ends, what there is by then."""
    network = Net(available.find(net), output=output)
    seen = picture(image) if image else None
    view = network.view(seen.pixels)[0] if seen else None
    asked: dict[str, Any] = {}  # what the options came to, for the record
    arguments: dict[str, Any] = {"net": network}
    if "image" in method.takes:
        arguments["image"] = view
    if "target" in method.takes:
        unit = {part: given.pop(f"target_{part}") for part in UNIT}
        arguments["target"] = target = _target(network, view, class_, given.pop("against"), unit)
        if method.of_class and not isinstance(target, int):
            raise click.UsageError(f"{method.name} is about a class: leave --against, --layer and --channel out.")
        if isinstance(target, int):  # what the method reads of a class, its logit or its probability, is its own affair
            asked["class"] = {"index": target, "label": network.labels[target]}
        else:
            asked["target"] = {"title": target.title, "unit": target.unit}
    if "layer" in method.takes:
        arguments["layer"] = given.pop("layer") or network.last_map
        asked["layer"] = arguments["layer"]
    arguments |= given
    start = time.perf_counter()
    shot = Film() if film else None
    if method.steps is None:
        result, stopped = method.function(**arguments), {}
    else:
        result, stopped = to_end(method.steps(**arguments), method.name, shot)
    seconds = time.perf_counter() - start
    arrays, facts = taken_apart(result, method.function.__name__)
    record = {
        "command": method.name,
        "function": f"{method.function.__module__}.{method.function.__name__}",
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        **({"image": _identity(seen)} if seen else {}),
        **asked,
        "knobs": given,
        **stopped,
        "returns": returned(method.function),
        **({"facts": facts} if facts else {}),
        "engine": network.engine,
        "seconds": round(seconds, 3),
        "versions": versions(),
    }
    if method.makes:
        save_made(out, result.picture, arrays, record, shot)
    else:
        save(out, arrays, record, view=view if "image" in method.takes else None, size=network.input_size)
    leave_if(stopped, out)


def _identity(seen: Picture) -> dict[str, str]:
    file = {"sha256": seen.sha256} if seen.sha256 else {}
    return {"name": seen.name, **file, "pixels": pictures.digest(seen.pixels)}


def _class(net: Net, view: np.ndarray | None, wanted: str | None) -> int:
    if wanted is not None:
        return net.class_index(wanted)
    if view is None:
        raise click.UsageError("Say which --class; or give an --image, whose likeliest one is taken.")
    return int(net.scores(net.batch(view))[0].argmax())


def _target(
    net: Net, view: np.ndarray | None, class_: str | None, against: str | None, unit: dict[str, Any]
) -> targets.Target | int:
    if all(value is None for value in unit.values()):
        index = _class(net, view, class_)
        return index if against is None else targets.class_margin(net, index, against)
    if class_ is not None or against is not None:
        raise click.UsageError("A target is a --class, or a --layer with a --channel, not both.")
    weights = unit.pop("direction")
    if weights is not None and unit["layer"] is not None and unit["channel"] is None:
        return targets.direction(net, unit["layer"], targets.weighed(weights))
    if unit["layer"] is None or unit["channel"] is None or weights is not None:
        raise click.UsageError("A unit needs both a --layer and a --channel, or a --direction in the channel's place.")
    return targets.unit(net, **unit)


def to_end(
    steps: Any,
    label: str,
    film: Film | None = None,
    picture: Callable[[Any], np.ndarray] = lambda result: result.picture,
) -> tuple[Any, dict[str, dict[str, int]]]:
    """The last result of these steps, and what the record has to say of a run that Ctrl-C ended: "stopped", or nothing.

    film: takes the `picture` of each result. Raises KeyboardInterrupt where there is no result yet.
    """
    step: Step | None = None
    try:
        for step in shown(steps, label):
            if film is not None:
                film.add(picture(step.result))
    except KeyboardInterrupt:
        if step is None:
            raise
        return step.result, {"stopped": {"done": step.index, "of": step.total}}
    return step.result, {}


def leave_if(stopped: dict[str, dict[str, int]], out: Path) -> None:
    """Say that the run was ended early, if it was, and end with the exit status of that."""
    if stopped:
        done, total = stopped["stopped"].values()
        click.echo(f"Stopped after {done} of {total}; what there was by then is in {out}.", err=True)
        click.get_current_context().exit(INTERRUPTED)


def shown(steps: Any, label: str) -> Any:
    """The same steps, with a bar on standard error that follows them."""
    with click.progressbar(length=1, label=label, file=sys.stderr) as bar:
        for step in steps:
            bar.length = max(step.total, 1)
            bar.update(step.index - bar.pos)
            yield step


# Writing it down ------------------------------------------------------------------------------------------------------


def taken_apart(result: Any, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A method's result as (arrays by name, everything else that it says)."""
    if isinstance(result, np.ndarray):
        return {name: result}, {}
    if isinstance(result, Mapping):
        return dict(result), {}
    if isinstance(result, pd.DataFrame):
        columns = {str(key): result[key].to_numpy() for key in result}
        return {key: column.astype(str) if column.dtype == object else column for key, column in columns.items()}, {}
    arrays, facts = {}, {}
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif dataclasses.is_dataclass(value):
            more, said = taken_apart(value, "")
            arrays, facts = arrays | more, facts | said
        elif isinstance(value, pd.DataFrame):
            arrays |= {f"{field.name}.{key}": column for key, column in taken_apart(value, "")[0].items()}
        elif isinstance(value, Mapping) and any(isinstance(each, np.ndarray) for each in value.values()):
            arrays |= value
        elif isinstance(value, str | int | float | bool | Mapping):
            facts[field.name] = value
    return arrays, facts


def save(
    out: Path,
    arrays: Mapping[str, np.ndarray],
    record: dict[str, Any],
    *,
    view: np.ndarray | None,
    size: tuple[int, int],
) -> None:
    """Write numbers.npz, result.json and, where there is something to see, picture.png.

    view: (H, W, C) what the net saw. size: the net's (H, W).
    """
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "numbers.npz", allow_pickle=False, **arrays)
    record["arrays"] = {name: _summary(array) for name, array in arrays.items()}
    name, array = next(iter(arrays.items()), ("", np.zeros(0)))
    drawing = sheet.draw(array, size)
    (out / "picture.png").unlink(missing_ok=True)  # of an earlier run
    if drawing is not None:
        told = {
            "of": name,
            "colours": drawing.kind,
            "low": drawing.low,
            "high": drawing.high,
            "left_out": drawing.left_out,
        }
        record["picture"] = {key: value for key, value in told.items() if value != ""}
        page = sheet.panels(view, drawing, covers=array.ndim == 2)
        (out / "picture.png").write_bytes(pictures.to_png(page))
    (out / "result.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")


def save_made(
    out: Path, picture: np.ndarray, arrays: Mapping[str, np.ndarray], record: dict[str, Any], film: Film | None
) -> None:
    """Write picture.png, which is the picture (H, W, C) that was made with the record inside; numbers.npz, result.json;
    and the film last, so that a disk that it fills has all the rest."""
    out.mkdir(parents=True, exist_ok=True)
    record["arrays"] = {name: _summary(array) for name, array in arrays.items()}
    record["picture"] = {"of": "pixels", "colours": "picture", "low": 0.0, "high": 1.0}
    (out / "picture.png").write_bytes(pictures.to_png(picture, record))
    (out / "result.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    np.savez(out / "numbers.npz", allow_pickle=False, **arrays)
    if film is not None:
        (out / "film.gif").write_bytes(film.gif())
        (out / "film.mp4").write_bytes(film.mp4())


def _summary(array: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if np.issubdtype(array.dtype, np.number) and np.isfinite(array).any():
        finite = array[np.isfinite(array)]
        found |= {"min": finite.min().item(), "max": finite.max().item()}
    return found


def versions() -> dict[str, str]:
    """Of all that had a part in the numbers; torch only if it was used."""
    project = PROJECT / "pyproject.toml"
    own = tomllib.loads(project.read_text("utf-8"))["project"]["version"] if project.exists() else "unknown"
    found = {
        "convoscope": own,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    return found | ({"torch": str(sys.modules["torch"].__version__)} if "torch" in sys.modules else {})


def probabilities(net: Net, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) logits and (K,) probabilities of one picture (H, W, C) of the net's own size."""
    logits = net.scores(net.batch(view))
    return logits[0], softmax(logits)[0]

"""How is a method run from the command line? Its options are its signature's."""

from __future__ import annotations

import hashlib
import inspect
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from engine import image as pictures
from engine import target as targets
from engine.half import PRECISIONS
from engine.methods import Method, returned
from engine.net import Net, softmax
from engine.nets import available
from engine.pictures import samples
from engine.pictures.film import Film
from engine.record import save, save_made, taken_apart, versions
from engine.step import Step

UNIT = ("layer", "channel", "row", "col", "direction")  # what a target that is no class is made from
SPELLED = {"Linf": "L∞"}  # what can be typed in a choice's place
INTERRUPTED = 130  # the exit status that shells give to a program ended by Ctrl-C


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


def probabilities(net: Net, view: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K,) logits and (K,) probabilities of one picture (H, W, C) of the net's own size."""
    logits = net.scores(net.batch(view))
    return logits[0], softmax(logits)[0]


precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of the numbers; bfloat16 is quicker where the processor computes in it.",
)

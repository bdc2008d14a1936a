"""Which networks are at hand?

Those that ship with the project, after them those that were fetched or put into the user's cache folder, and those that
were brought through the app (engine/intake/bringing.py).
"""

from __future__ import annotations

import re
from pathlib import Path

import onnx

from engine.model import metadata
from engine.nets import zoo
from engine.nets.folder import SHIPPED, home, hosted

FIRST = "imagenette"  # what the app opens with


class UnknownNet(ValueError):
    """No network goes by this name; the message is one sentence that lists those that are there."""


def at_hand() -> dict[str, Path]:
    """Name → ONNX file: the shipped ones first. Of two of the same name, the shipped one counts."""
    shipped = {
        path.stem: path for path in sorted(SHIPPED.glob("*.onnx"), key=lambda path: (path.stem != FIRST, path.stem))
    }
    here = shipped | {name: path for name, path in zoo.installed().items() if name not in shipped}
    if hosted():  # what somebody brought is nobody else's business
        return here
    return here | {path.stem: path for path in sorted(folder().glob("*.onnx")) if path.stem not in here}


def folder() -> Path:
    """Where networks are kept that were brought through the app."""
    return home() / "brought"


def brought(name: str) -> Path | None:
    """The file of a network that was brought through the app, for whoever knows its name; None where there is none."""
    path = folder() / f"{name}.onnx"
    return path if re.fullmatch(r"[\w.+-]+", name) and path.is_file() else None


def labels(path: Path) -> tuple[str, ...]:
    """The names of the classes, as the file states them, without opening the network; () where it does not."""
    try:
        model = onnx.load(path, load_external_data=False)
        weights = {tensor.name for tensor in model.graph.initializer}  # which old files list as inputs, too
        picture = next(value for value in model.graph.input if value.name not in weights)
        return metadata.read(model, picture.type.tensor_type.shape.dim[1].dim_value).labels
    except Exception:  # protobuf raises a class of its own; whoever opens the file is told what is wrong with it
        return ()


def find(name: str) -> Path:
    """The file of the network called `name`, or the file at the path `name`. Raises UnknownNet."""
    here = at_hand()
    if name in here:
        return here[name]
    if (own := brought(name)) is not None:
        return own
    if Path(name).is_file():
        return Path(name)
    fetch = " It can be fetched first: python -m engine fetch " + name if name in zoo.NETWORKS else ""
    raise UnknownNet(
        f"There is no network {name!r}; there are {', '.join(here) or 'none'}, or any path to a file.{fetch}"
    )

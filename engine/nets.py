"""Which networks are at hand?

Those that ship with the project, and after them those that were fetched or put into the user's cache folder.
"""

from __future__ import annotations

from pathlib import Path

import onnx

from engine import metadata, zoo

SHIPPED = Path(__file__).parent.parent / "exported_models"


FIRST = "imagenette"  # what the app opens with


class UnknownNet(ValueError):
    """No network goes by this name; the message is one sentence that lists those that are there."""


def at_hand() -> dict[str, Path]:
    """Name → ONNX file: the shipped ones first. Of two of the same name, the shipped one counts."""
    shipped = {
        path.stem: path for path in sorted(SHIPPED.glob("*.onnx"), key=lambda path: (path.stem != FIRST, path.stem))
    }
    return shipped | {name: path for name, path in zoo.installed().items() if name not in shipped}


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
    if Path(name).is_file():
        return Path(name)
    fetch = " It can be fetched first: python -m engine fetch " + name if name in zoo.NETWORKS else ""
    raise UnknownNet(
        f"There is no network {name!r}; there are {', '.join(here) or 'none'}, or any path to a file.{fetch}"
    )

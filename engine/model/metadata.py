"""What does a network's file say about itself?

An ONNX file can carry strings in `metadata_props`. Ours carry what a picture must go through to become the network's
input and what its outputs mean, as JSON, so that one file is all there is to a network.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass

import onnx

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BadMetadata(ValueError):
    """The file states something about itself that cannot be; the message names the key."""


@dataclass(frozen=True)
class Metadata:
    """What stands between a picture and a network, and what the network's outputs are called.

    labels: a name for each class, or () where the file has none.
    input_size: (H, W) in pixels, or None where the graph's own input says it.
    mean, std: one number per channel, in pixel units: the network is given (pixels - mean) / std.
    picture_input: which of the graph's inputs takes the picture, where several could; None is the first.
    crop: share of the picture's shorter side that the network is shown (0.875 is torchvision's 224 out of 256).
    source, licence, accuracy: sentences for people.
    missing: the keys that the file does not state, for which the values here are defaults.
    """

    labels: tuple[str, ...] = ()
    input_size: tuple[int, int] | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    picture_input: str | None = None
    crop: float = 1.0
    source: str = ""
    licence: str = ""
    accuracy: str = ""
    missing: tuple[str, ...] = ()


NEEDED = ("labels", "input_size", "mean", "std")  # without these, what is shown rests on a guess


def read(model: onnx.ModelProto, channels: int = 3) -> Metadata:
    """Read what `model` says about itself; what it does not say is filled in and listed in `missing`.

    channels: of the network's input. A single-channel network that states no mean and std is given plain pixels.
    Raises BadMetadata where a value has the wrong form.
    """
    stated: dict[str, object] = {}
    fields = {field.name: field for field in dataclasses.fields(Metadata) if field.name != "missing"}
    for entry in model.metadata_props:
        if entry.key not in fields:
            continue
        try:
            value = json.loads(entry.value)
            if entry.key == "labels":
                if not isinstance(value, list):
                    raise ValueError
                value = tuple(str(label) for label in value)
            elif entry.key == "input_size":
                height, width = value
                value = (int(height), int(width))
                if not all(1 <= side <= 4096 for side in value):
                    raise ValueError
            elif entry.key in ("mean", "std"):
                value = tuple(float(number) for number in value)
                if len(value) != channels or not all(map(math.isfinite, value)):
                    raise ValueError
                if entry.key == "std" and min(value) <= 0:
                    raise ValueError
            elif entry.key == "crop":
                value = float(value)
                if not 0 < value <= 1:
                    raise ValueError
            else:
                value = str(value)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            shown = repr(entry.value[:60])
            raise BadMetadata(f"The file's metadata has a {entry.key} that cannot be read: {shown}.") from error
        stated[entry.key] = value
    missing = tuple(key for key in NEEDED if key not in stated)
    if channels != len(IMAGENET_MEAN):
        stated.setdefault("mean", (0.0,) * channels)
        stated.setdefault("std", (1.0,) * channels)
    return Metadata(**stated, missing=missing)


def chosen_input(model: onnx.ModelProto) -> str | None:
    """The input that the file says takes the picture, before anything else is known of it. Raises BadMetadata."""
    for entry in model.metadata_props:
        if entry.key == "picture_input":
            try:
                return str(json.loads(entry.value))
            except (ValueError, RecursionError) as error:
                shown = repr(entry.value[:60])
                raise BadMetadata(f"The file's metadata has a picture_input that cannot be read: {shown}.") from error
    return None


def write(model: onnx.ModelProto, metadata: Metadata) -> None:
    """Put `metadata` into `model.metadata_props`, replacing what stood there under its keys.

    What is in `missing`, and an input_size that is None, stay unsaid.
    """
    values = {key: value for key, value in dataclasses.asdict(metadata).items() if key != "missing"}
    new = {key: json.dumps(value) for key, value in values.items() if key not in metadata.missing and value is not None}
    kept = [(entry.key, entry.value) for entry in model.metadata_props if entry.key not in values]
    del model.metadata_props[:]
    for key, value in [*kept, *new.items()]:
        model.metadata_props.add(key=key, value=value)


def defaults_said(about: Metadata) -> str:
    """For people: what the file does not say, and what is taken in its place."""
    taken = {
        "labels": "class numbers",
        "input_size": "the graph's own, or 224",
        "mean": "ImageNet's mean",
        "std": "std",
    }
    if len(about.mean) != 3:
        taken |= {"mean": "mean 0", "std": "std 1"}
    missing = ", ".join(key.replace("_", " ") for key in about.missing)
    used = ", ".join(taken[key] for key in about.missing)
    return f"The file does not say its {missing}; the defaults are used ({used})."

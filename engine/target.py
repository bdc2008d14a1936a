"""Which number is asked about? A Target turns named tensors of the graph into one number per picture.

Its `value` only indexes and averages, so the same Target reads ONNX Runtime's arrays and the Twin's tensors. Targets
are frozen; they add and scale: `2 * a - b`.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.net import Net, UnknownLayer


@dataclass(frozen=True)
class Target:
    """names: the tensors that `value` needs. value: dict of tensors (B, …) → (B,). title, unit: for people."""

    names: tuple[str, ...]
    value: Callable[[Mapping[str, Any]], Any]
    title: str
    unit: str = "activation"

    def __add__(self, other: Target) -> Target:
        names = tuple(dict.fromkeys(self.names + other.names))
        value = lambda values: self.value(values) + other.value(values)  # noqa: E731
        return Target(names, value, f"{self.title} + {other.title}", self.unit if self.unit == other.unit else "sum")

    def __mul__(self, factor: float) -> Target:
        return Target(self.names, lambda values: factor * self.value(values), f"{factor:g} × {self.title}", self.unit)

    __rmul__ = __mul__

    def __sub__(self, other: Target) -> Target:
        return self + -1 * other


def class_score(net: Net, class_index: int | str) -> Target:
    """The logit of one class. Raises UnknownClass."""
    index = net.class_index(class_index)
    value = lambda values: _logits(net, values)[:, index]  # noqa: E731
    return Target((net.logits,), value, f"class “{net.labels[index]}”", "logits")


def class_probability(net: Net, class_index: int | str) -> Target:
    """The softmax probability of one class. Raises UnknownClass."""
    index = net.class_index(class_index)

    def value(values: Mapping[str, Any]) -> Any:
        logits = _logits(net, values)
        above = (logits - logits[:, index : index + 1]).clip(max=80)  # e^80 is the end of float32
        return 1 / (math.e**above).sum(1)

    return Target((net.logits,), value, f"probability of “{net.labels[index]}”", "probability")


def class_margin(net: Net, class_index: int | str, against: int | str) -> Target:
    """By how many logits one class is ahead of another. Raises UnknownClass."""
    ahead, behind = (class_score(net, each) for each in (class_index, against))
    names = (net.labels[net.class_index(each)] for each in (class_index, against))
    return Target(ahead.names, (ahead - behind).value, "“{}” ahead of “{}”".format(*names), "logits")


def _logits(net: Net, values: Mapping[str, Any]) -> Any:
    return values[net.logits].reshape(len(values[net.logits]), -1)


def unit(net: Net, layer: str, channel: int, row: int | None = None, col: int | None = None) -> Target:
    """One channel of a layer, averaged over its positions, or one neuron: the channel at (row, col).

    Raises UnknownLayer, also where the channel or the position is out of range.
    """
    channels, height, width = net.layer(layer).shape
    if not 0 <= channel < channels:
        raise UnknownLayer(f"Layer {layer} of {net.name} has channels 0 to {channels - 1}, not {channel}.")
    if (row is None) != (col is None):
        raise UnknownLayer("A neuron has a row and a column; only one of them was given.")
    if row is None:
        value = lambda values: values[layer].reshape(len(values[layer]), channels, -1)[:, channel].mean(1)  # noqa: E731
        return Target((layer,), value, f"channel {channel} of {layer}, mean")
    if not (0 <= row < height and 0 <= col < width):
        raise UnknownLayer(f"({row}, {col}) is outside of layer {layer}, which has {height} rows and {width} columns.")
    place = row * width + col
    value = lambda values: values[layer].reshape(len(values[layer]), channels, -1)[:, channel, place]  # noqa: E731
    return Target((layer,), value, f"channel {channel} of {layer} at ({row}, {col})")


def asked(net: Net, target: Target | int | str, of_class: Callable[[Net, int | str], Target] = class_score) -> Target:
    """A Target as it is; a class's number or label as its logit, or as what `of_class` makes of it.

    Raises UnknownClass.
    """
    return target if isinstance(target, Target) else of_class(net, target)


def measure(net: Net, batch: np.ndarray, target: Target) -> np.ndarray:
    """(B,) the target's value on each picture of a batch (B, C, H, W), through ONNX Runtime."""
    return target.value(net.activations(batch, target.names))


def number(net: Net, image: np.ndarray, target: Target | int) -> float:
    """What a picture (H, W, C) of the net's own size scores: a class's probability, or any other Target's value."""
    return float(measure(net, net.batch(image), asked(net, target, class_probability))[0])


# What pictures are made for -------------------------------------------------------------------------------------------
# For the loop in engine/optimize/ascend.py.


def units(net: Net, layer: str, channels: Sequence[int]) -> Target:
    """Of a batch as long as `channels`: of the b-th picture the b-th channel's mean. Raises UnknownLayer."""
    for channel in channels:
        unit(net, layer, channel)  # refuses one out of range

    def value(values: Mapping[str, Any]) -> Any:
        maps = values[layer].reshape(len(values[layer]), net.layer(layer).shape[0], -1)
        return maps[range(len(channels)), list(channels)].mean(1)

    return Target((layer,), value, f"{len(channels)} channels of {layer}")


def direction(net: Net, layer: str, weights: Mapping[int, float]) -> Target:
    """A weighed sum of channels of a layer, each averaged over its positions. Raises UnknownLayer."""
    if not weights:
        raise UnknownLayer("A direction needs at least one channel with its weight.")
    each = [weight * unit(net, layer, channel) for channel, weight in weights.items()]
    named = " ".join(f"{weight:+g}·{channel}" for channel, weight in weights.items())
    return replace(functools.reduce(Target.__add__, each), title=f"channels {named} of {layer}, mean")


def weighed(text: str) -> dict[int, float]:
    """Channels with their weights, from "12:1, 40:-0.5"; a channel alone has a weight of 1. Raises ValueError."""
    found = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(\d+)\s*(?::\s*([-+]?\d*\.?\d+))?", part)
        if match is None:
            raise ValueError(f"{part!r} is no channel with its weight: write 12:1, 40:-0.5, say.")
        found[int(match[1])] = float(match[2] or 1)
    if not found:
        raise ValueError("A direction needs at least one channel with its weight: write 12:1, 40:-0.5, say.")
    return found


def energy(net: Net, layer: str) -> Target:
    """All that a layer says, without a direction: the mean of its squares (Mordvintsev 2015). Raises UnknownLayer."""
    name = net.layer(layer).name
    value = lambda values: (values[name] ** 2).reshape(len(values[name]), -1).mean(1)  # noqa: E731
    return Target((name,), value, f"all of {name}, squared")


def like(net: Net, image: np.ndarray, layer: str) -> Target:
    """How near a layer is to what it says of this picture (H, W, C) of the net's own size: 0 is the same, less is not.

    It is -‖Φ(x) - Φ₀‖² / ‖Φ₀‖²: Mahendran & Vedaldi 2014, arXiv:1412.0035, section 3.1. Raises UnknownLayer, and
    ValueError where the layer is zero all over on this picture.
    """
    import torch

    name = net.layer(layer).name
    wanted = net.activations(net.batch(image), [name])[name]
    size = float((wanted.astype(np.float64) ** 2).sum())
    if size == 0:
        raise ValueError(f"Layer {name} of {net.name} says nothing of this picture: choose another layer or picture.")
    reference = torch.from_numpy(wanted)

    def value(values: Mapping[str, Any]) -> Any:
        away = values[name] - (wanted if isinstance(values[name], np.ndarray) else reference)
        return -(away**2).reshape(len(away), -1).sum(1) / size

    return Target((name,), value, f"{name} as on the picture", "relative error², less than 0")

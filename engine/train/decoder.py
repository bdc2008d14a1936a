"""How does a network of ours learn to make pictures out of what a layer of another says of them?

Dosovitskiy & Brox 2016, arXiv:1506.02753 and arXiv:1602.02644: an up-convolutional network is trained to give back the
picture of which a layer's values (the code) are those. Its loss is how far the pixels are off, and how far what the
network says of them is off, at several layers: the latter forgives a texture that lies a pixel aside, so that the
picture need not be a blur (1602.02644, equations 3 and 4).

What departs: no adversarial loss; the features compared are those of the same network that is decoded, along its trunk;
each is relative to what there is; nearest neighbours and a convolution in place of transposed convolutions (Odena
2016); and pixels are compared with their neighbours, too (Mathieu et al. 2015, arXiv:1511.05440, equation 6), because
no feature behind a convolution of stride 2 minds a pattern of every other pixel.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

from engine.net import Net
from engine.nets.export import ExportFailed, trace
from engine.step import Step
from engine.train.checkpoint import BadTraining, keep, restore
from engine.train.loop import crops, relative
from engine.trunk import trunk

LEAK = 0.2  # of the rectifiers
NARROWEST, WIDEST = 32, 256  # channels of a stage
TOLERANCE = 1e-3  # of white: what the written file may differ from the module by
COUNTED = 512  # pictures that the codes' statistics are taken from
MOST = 0.999  # share of a unit's values that are below what it is taken to reach


@dataclass(frozen=True)
class Recipe:
    """All that a training depends on, besides its pictures.

    layer: whose values are decoded, or "" for the last one before pooling. channels: of the stage behind the code; each
    doubling of rows and columns halves them. share: side of the squares that it is trained on, as a share of the
    network's own. fine: share of the steps, at the end, that see the network's own size. batch: pictures a step. rate:
    Adam's, which falls to nothing along half a cosine. pixel, edge, feature: weights of the three losses. seed: of the
    weights, and with the step's number of everything that is drawn.
    """

    steps: int = 6000
    layer: str = ""
    channels: int = 256
    share: float = 0.6
    fine: float = 0.15
    batch: int = 8
    rate: float = 1e-3
    pixel: float = 4.0
    edge: float = 2.0
    feature: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    decoder: the network as it is now; it goes on to change. losses: means since the last report, unweighed, by name.
    pictures: how many have been decoded in all.
    """

    decoder: Decoder
    losses: Mapping[str, float]
    pictures: int


# The network ----------------------------------------------------------------------------------------------------------


class Stage(nn.Module):
    """A 3x3 convolution, batch normalisation and a leaky rectifier."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), LEAK)


class Decoder(nn.Module):
    """Codes (B, C, h, w) to pixels (B, channels, h * 2^doublings, w * 2^doublings) in [0, 1]."""

    def __init__(self, code: int, channels: int, doublings: int, widest: int, scale: torch.Tensor):
        super().__init__()
        self.register_buffer("scale", scale.view(1, -1, 1, 1))  # brings every unit of the code to about 1
        widths = [max(min(widest, WIDEST) >> i, NARROWEST) for i in range(doublings)]
        self.first = Stage(code, widths[0])
        self.up = nn.ModuleList(
            nn.Sequential(Stage(before, after), Stage(after, after)) if number < 3 else Stage(before, after)
            for number, (before, after) in enumerate(itertools.pairwise(widths), 1)
        )
        self.fine = Stage(widths[-1], NARROWEST // 2)
        self.last = nn.Conv2d(NARROWEST // 2, channels, 3, padding=1)

    def forward(self, code: torch.Tensor) -> torch.Tensor:
        x = self.first(code * self.scale)
        for stage in self.up:
            x = stage(F.interpolate(x, scale_factor=2, mode="nearest"))
        return torch.sigmoid(self.last(self.fine(F.interpolate(x, scale_factor=2, mode="nearest"))))


def doublings(encoder: Net, layer: str) -> int:
    """How often a layer's rows and columns must double to be the picture's.

    Raises BadTraining where that is no whole number of at least 1, UnknownLayer.
    """
    shape = encoder.map_layer(layer).shape[1:]
    counts = {math.log2(whole / part) for whole, part in zip(encoder.input_size, shape, strict=True)}
    if len(counts) != 1 or not (count := counts.pop()).is_integer() or count < 1:
        raise BadTraining(
            f"Layer {layer} has {shape[0]} x {shape[1]} places for {encoder.input_size[0]} x {encoder.input_size[1]} "
            "pixels; choose one that has a half, a quarter, … as many rows and as many columns."
        )
    return int(count)


def loss_layers(encoder: Net, layer: str) -> list[str]:
    """The layers at which what the network says is compared: along its trunk, from the first to the one decoded."""
    order = [each.name for each in encoder.layers]
    before = [each.name for each in trunk(encoder) if order.index(each.name) < order.index(layer)]
    return [*dict.fromkeys([*before[::2], layer])]


def losses(encoder: Net, layers: Sequence[str], given: Mapping[str, torch.Tensor], pixels, decoded) -> dict:
    """ "pixel", "edge" and "feature", a number each, differentiable in `decoded`.

    given: what the network says of the pictures, at `layers`. pixels, decoded: (B, C, H, W).
    """
    said = encoder.twin(decoded, layers)
    feature = sum(relative(said[name], given[name]) for name in layers) / len(layers)
    off = decoded - pixels
    edge = off.diff(dim=2).abs().mean() + off.diff(dim=3).abs().mean()
    return {"pixel": off.abs().mean(), "edge": edge, "feature": feature}


# Training -------------------------------------------------------------------------------------------------------------


def train_decoder(
    encoder: Net, data: Sequence[bytes], recipe: Recipe = Recipe(), *, checkpoint: Path | None = None, every: int = 50
) -> Iterator[Step]:
    """Train a Decoder for a layer of `encoder`, and report with a Progress every `every` steps and after the last one.

    data: encoded pictures, as from train_style's `encoded`. checkpoint: a file that each report is kept in, and that a
    training broken off goes on from, if it is there: to the same weights as without the break, on the same machine with
    the same number of threads.
    Raises BadTraining, UnknownLayer, NoGradient.
    """
    layer = recipe.layer or encoder.last_map
    times = doublings(encoder, layer)
    if encoder.channels != 3:
        raise BadTraining(f"{encoder.name} sees pictures of one channel; a decoder is trained on coloured ones.")
    scale = 1 / codes(encoder, data, layer)["spread"].clip(1e-6)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        width = encoder.layer(layer).shape[0]
        decoder = Decoder(width, encoder.channels, times, recipe.channels, torch.from_numpy(scale))
    decoder = decoder.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(decoder.parameters(), recipe.rate, betas=(0.9, 0.98))
    facts = {"net": encoder.sha256, "recipe": {**asdict(recipe), "steps": 0}}  # how long it is to last may change
    kept, start = {"decoder": decoder, "optimizer": optimizer}, 0
    if checkpoint and checkpoint.exists():
        start = restore(checkpoint, facts, "another network or settings", **kept)
    layers = loss_layers(encoder, layer)
    weights = {"pixel": recipe.pixel, "edge": recipe.edge, "feature": recipe.feature}
    sums, counted = dict.fromkeys(weights, 0.0), 0
    if start >= recipe.steps:
        yield Step(recipe.steps, recipe.steps, Progress(decoder.eval(), {}, start * recipe.batch))
    for step in range(start, recipe.steps):
        rng = np.random.default_rng((recipe.seed, step))  # of the step alone, so that a training can go on anywhere
        size = _size(encoder, times, recipe, step)
        pixels = torch.from_numpy(crops(data, rng, recipe.batch, size)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            given = encoder.twin(pixels, layers)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        parts = losses(encoder, layers, given, pixels, decoder(given[layer]))
        optimizer.zero_grad(set_to_none=True)
        sum(weights[name] * part for name, part in parts.items()).backward()
        optimizer.step()
        counted += 1
        for name, part in parts.items():
            sums[name] += part.item()
        done = step + 1
        if done % every == 0 or done == recipe.steps:
            if checkpoint:
                keep(checkpoint, done, facts, **kept)
            means = {name: total / counted for name, total in sums.items()}
            yield Step(done, recipe.steps, Progress(decoder.eval(), means, done * recipe.batch))
            decoder.train()
            sums, counted = dict.fromkeys(weights, 0.0), 0


def _size(encoder: Net, times: int, recipe: Recipe, step: int) -> int:
    """Side of the squares of a step: whole cells of the code."""
    whole, cell = min(encoder.input_size), 2**times
    fine = step >= recipe.steps * (1 - recipe.fine)
    return whole // cell * cell if fine else max(round(whole * recipe.share / cell), 1) * cell


def codes(encoder: Net, data: Sequence[bytes], layer: str) -> dict[str, np.ndarray]:
    """(C,) "mean", "spread" (root mean square), "least" and "most" of a layer's channels, over pictures and places.

    least, most: what all but a thousandth of the values stay above and below. Of no more than COUNTED pictures.
    """
    from engine import image

    chosen = [data[i] for i in np.unique(np.linspace(0, len(data) - 1, COUNTED).astype(int))]
    found = []
    for first in range(0, len(chosen), encoder.batch_size):
        views = [encoder.view(image.load(each))[0] for each in chosen[first : first + encoder.batch_size]]
        values = encoder.activations(encoder.batch(*views), [layer])[layer]
        found.append(values.transpose(1, 0, 2, 3).reshape(values.shape[1], -1))
    values = np.concatenate(found, 1)
    return {
        "mean": values.mean(1),
        "spread": np.sqrt((values**2).mean(1)),
        "least": np.quantile(values, 1 - MOST, 1).astype(np.float32),
        "most": np.quantile(values, MOST, 1).astype(np.float32),
    }


# Writing it down ------------------------------------------------------------------------------------------------------


def export_decoder(
    decoder: Decoder,
    encoder: Net,
    layer: str,
    statistics: Mapping[str, np.ndarray],
    path: Path,
    *,
    source: str = "",
    licence: str = "",
    training: str = "",
) -> None:
    """Write the ONNX file: `code` (B, C, h, w) to `picture` (B, 3, H, W) in [0, 1]. All or nothing.

    statistics: of the codes, from `codes`: the file says each unit's mean, least and most. source, licence, training:
    sentences that the file says of itself. Raises ExportFailed where the file would not decode as the module does.
    """
    shape = encoder.layer(layer).shape
    model = trace(decoder.eval(), shape, inputs="code", outputs="picture")
    said = {
        "kind": "decoder",
        "net": encoder.name,
        "net_sha256": encoder.sha256,
        "layer": layer,
        **{key: [round(float(v), 5) for v in statistics[key]] for key in ("mean", "least", "most")},
    }
    for key, value in {**said, "source": source, "licence": licence, "training": training}.items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    code = np.random.default_rng(0).random((3, *shape), np.float32) * statistics["most"].reshape(-1, 1, 1)
    with torch.no_grad():
        expected = decoder(torch.from_numpy(code.astype(np.float32))).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    error = np.abs(session.run(None, {"code": code.astype(np.float32)})[0] - expected).max()
    if not error <= TOLERANCE:
        raise ExportFailed(f"The file's picture differs from the module's by {error:.1e} of white.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)

"""Are the numbers of a picture with a patch changed the same by parts? On torchvision's convolutional classifiers.

Random weights, with normalisations that change what goes through them, on pictures that are not square. Patches of
random sizes from 1 to 64 pixels, of random content, at random places, at the edges and in the corners. Each network
twice: where engine/incremental/plan.py ends the parts by its costs, and with parts as far as positions are treated
alike.

    python -m benchmarks.exactness                 all of them, about twenty minutes on two cores
    python -m benchmarks.exactness --nets resnet18,densenet121
"""

from __future__ import annotations

import gc
import logging
import tempfile
import time
import warnings
from pathlib import Path
from unittest import mock

import click
import numpy as np
import onnx
import torch
from torchvision import models

from benchmarks.coverage import built
from engine.incremental import parts, plan
from engine.model.metadata import Metadata, write
from engine.net import Net
from engine.pictures.fill import blank

SPREAD = 2.0  # of the normalisations: little enough for a patch to be seen at the end
AGREED = 1e-5  # of the largest score: what is asked for
SIZE = (96, 144)  # rows and columns
LARGER = {"alexnet": (224, 415), "vgg": (224, 448), "inception": (224, 160)}  # by the beginnings of their names
PATCHES, PLACES = 4, 3  # of each network, and places besides the six at the edges
NOT_OF_CONVOLUTIONS = ("vit", "swin", "maxvit")
TOO_LARGE = "regnet_y_128gf"  # 2.6 GB of weights: as coverage.py says, more than a machine of 24 GB holds


def size(name: str) -> tuple[int, int]:
    return next((given for begin, given in LARGER.items() if name.startswith(begin)), SIZE)


def network(name: str, folder: Path) -> Net:
    path = folder / f"{name}.onnx"
    options = {"dynamo": False, "input_names": ["image"], "output_names": ["logits"]}
    options["dynamic_axes"] = {"image": {0: "batch"}, "logits": {0: "batch"}}
    torch.onnx.export(built(name, SPREAD), (torch.zeros(2, 3, *size(name)),), str(path), **options)
    model = onnx.load(path)
    write(model, Metadata(input_size=size(name)))
    onnx.save(model, path)
    return Net(path)


def largest(net: Net, seed: int) -> tuple[float, float, float, int]:
    """The largest difference and the largest effect of a patch, both of the largest score; the least share of the work,
    and how many pictures there were."""
    rng = np.random.default_rng(seed)
    sides = net.input_size
    image = blank(rng.random((*sides, net.channels)).astype(np.float32), "blur") + 0.1 * rng.random((*sides, 1))
    image = image.clip(0, 1).astype(np.float32)
    plain = net.scores(net.batch(image))
    off = effect = 0.0
    least, count = 1.0, 0
    for _ in range(PATCHES):
        shape = tuple(int(min(np.exp(rng.uniform(0, np.log(65))), side)) for side in sides)
        most = [side - s for side, s in zip(sides, shape, strict=True)]
        places = [(0, 0), (0, most[1]), (most[0], 0), tuple(most), (0, most[1] // 2), (most[0] // 2, most[1])]
        places += [tuple(int(rng.integers(m + 1)) for m in most) for _ in range(PLACES)]
        places = np.array(places)
        patches = rng.random((len(places), *shape, net.channels)).astype(np.float32)
        whole = image[None].repeat(len(places), 0)
        for picture, (i, j), patch in zip(whole, places, patches, strict=True):
            picture[i : i + shape[0], j : j + shape[1]] = patch
        ask = parts.changed(net, image, [net.logits], shape, rows=places[:, 0], cols=places[:, 1])
        found = ask(places, patches)[net.logits].reshape(len(places), -1)
        wanted = np.concatenate([net.scores(net.batch(*whole[i : i + 4])) for i in range(0, len(whole), 4)])
        scale = float(np.abs(wanted).max())
        off = max(off, float(np.abs(found - wanted).max()) / scale)
        effect = max(effect, float(np.abs(wanted - plain).max()) / scale)
        least, count = min(least, ask.share), count + len(places)
    return off, effect, least, count


def to_the_end(net: Net, names: object, nodes: object, layers: list, costs: dict) -> tuple[int, float]:
    """In the place of the cost model: as far as it can be gone."""
    return len(layers), 0.5


@click.command(context_settings={"show_default": True})
@click.option("--nets", default="", help="torchvision's names, with commas between; by default all of convolutions.")
def main(nets: str) -> None:
    """Print the table of benchmarks/EXACTNESS.md."""
    warnings.filterwarnings("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    every = [name for name in models.list_models(models) if not name.startswith((*NOT_OF_CONVOLUTIONS, TOO_LARGE))]
    names = nets.split(",") if nets else every
    click.echo("| network | picture | largest difference | to the end | effect of the patches | least work | seconds |")
    click.echo("| --- | --- | --- | --- | --- | --- | --- |")
    passed = pictures = 0
    for number, name in enumerate(names):
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            net = network(name, Path(folder))
        off, effect, least, count = largest(net, number)
        with mock.patch.object(plan, "_end", to_the_end):
            parts._known.clear()
            far, _, _, more = largest(net, number + 1000)
        passed += max(off, far) <= AGREED
        pictures += count + more
        cells = (name, "{} × {}".format(*net.input_size), f"{off:.0e}", f"{far:.0e}", f"{effect:.0e}", f"{least:.0%}")
        click.echo(f"| {' | '.join(cells)} | {time.monotonic() - start:.0f} |")
        parts._known.clear()
        del net
        gc.collect()
    click.echo(f"\n**{passed} of {len(names)}** within {AGREED:.0e} of the largest score, on {pictures} pictures.")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.exactness")

"""Which networks are measured? torchvision's, each as the module that the peers take and as the ONNX file made from it.

The weights are the published ones where torch's cache ($TORCH_HOME) has them, and otherwise random ones whose scores
depend on the picture (benchmarks/coverage.py), so that results can be compared: speed does not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision import models

from benchmarks.coverage import built
from engine.model.metadata import Metadata
from engine.net import Net
from engine.nets.export import export

SIZE = (224, 224)
METADATA = Metadata(labels=tuple(map(str, range(1000))), input_size=SIZE, crop=0.875, source="torchvision")


@dataclass(frozen=True)
class Pair:
    """The same network twice."""

    name: str
    weights: str  # "published", "random" or a data set's name
    module: torch.nn.Module
    net: Net


def trained(weights: Path, folder: Path) -> Pair:
    """The VGG-16 of benchmarks/train_vgg16.py, exported to `folder`."""
    state = torch.load(weights, weights_only=True)
    module = models.vgg16(num_classes=len(state["classifier.6.bias"])).eval()
    module.load_state_dict(state)
    path = folder / "vgg16_trained.onnx"
    export(module, path, Metadata(input_size=SIZE, source="benchmarks/train_vgg16.py"))
    return Pair("vgg16", "Imagenette", module, Net(path))


def pair(name: str, folder: Path) -> Pair:
    """torchvision's network `name`, exported to `folder`."""
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    file = Path(torch.hub.get_dir(), "checkpoints", weights.url.rpartition("/")[2])
    published = file.is_file()
    module = models.get_model(name, weights=weights).eval() if published else built(name, spread=1.0)
    path = folder / f"{name}.onnx"
    export(module, path, METADATA)
    return Pair(name, "published" if published else "random", module, Net(path))

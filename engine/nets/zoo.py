"""Which published networks can be fetched?

Well-known ImageNet classifiers with torchvision's weights. Each is downloaded once, exported to one ONNX file in the
user's cache folder, and from then on it is a network like any other: nothing here is needed to open it.

Listing them needs neither torch nor a connection.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engine.model.metadata import IMAGENET_MEAN, IMAGENET_STD
from engine.nets.download import Busy, FetchFailed, download, file_name, hash_is_right, sha256_of
from engine.nets.folder import home
from engine.step import Step

if TYPE_CHECKING:
    import torch
    import torchvision

# torchvision's own advice, in short: https://github.com/pytorch/vision#pre-trained-model-license
LICENCE = (
    "torchvision is BSD-3-Clause; its authors note that trained weights may have terms of their own, derived from the "
    "data. These come from ImageNet, whose photographs are for non-commercial research."
)


@dataclass(frozen=True)
class Network:
    """One published network. megabytes: size of the download, in units of 10^6 bytes.

    weights: a member of torchvision's enumeration of this network's weights. The first version is taken throughout: it
    follows the recipe of the paper, while later ones are trained differently.
    options: what torchvision's builder is called with besides. mean, std: as in Metadata.
    """

    name: str
    title: str
    paper: str
    megabytes: float
    licence: str = LICENCE
    weights: str = "IMAGENET1K_V1"
    options: Mapping[str, object] = field(default_factory=dict)
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in [
        Network("squeezenet1_1", "SqueezeNet 1.1", "Iandola et al. 2016, arXiv:1602.07360", 5.0),
        Network("alexnet", "AlexNet", "Krizhevsky 2014, arXiv:1404.5997", 244.4),
        Network("vgg16", "VGG-16", "Simonyan, Zisserman 2014, arXiv:1409.1556", 553.4),
        Network("vgg19", "VGG-19", "Simonyan, Zisserman 2014, arXiv:1409.1556", 574.7),
        Network(
            "googlenet",
            "GoogLeNet (Inception v1)",
            "Szegedy et al. 2014, arXiv:1409.4842",
            52.1,
            # The weights expect (pixels - 0.5) / 0.5. torchvision rescales inside the network what was normalised
            # otherwise outside; here the metadata says it directly, and the graph begins with the first convolution.
            # The two auxiliary classifiers are in the weights and have no part in the logits.
            options={"transform_input": False, "aux_logits": True, "init_weights": False},
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        ),
        Network("resnet18", "ResNet-18", "He et al. 2015, arXiv:1512.03385", 46.8),
        Network("resnet101", "ResNet-101", "He et al. 2015, arXiv:1512.03385", 178.8),
        Network("densenet121", "DenseNet-121", "Huang et al. 2016, arXiv:1608.06993", 32.3),
        Network("mobilenet_v2", "MobileNet v2", "Sandler et al. 2018, arXiv:1801.04381", 14.2),
        # torchvision resizes for this one bicubically; we do so bilinearly, as for all others.
        Network(
            "efficientnet_b0",
            "EfficientNet-B0",
            "Tan, Le 2019, arXiv:1905.11946",
            21.4,
            licence=f"Ported from pytorch-image-models (Apache-2.0). {LICENCE}",
        ),
    ]
}
_running = {name: threading.Lock() for name in NETWORKS}


def installed() -> dict[str, Path]:
    """The networks in the cache folder, by name, in alphabetical order; also ones that somebody put there by hand."""
    return {path.stem: path for path in sorted((home() / "networks").glob("*.onnx"))}


def fetch(name: str) -> Iterator[Step]:
    """Download, export and check the network `name` of NETWORKS; nothing is done if it is installed.

    Yields Step(bytes there, bytes in all, what is being done, in words), and as the last one a Step whose result is the
    Path of the ONNX file. A run that was ended early is continued by the next one where its download stood.
    Raises KeyError for a name that is not listed; FetchFailed as Offline, WrongHash or Busy.
    """
    network = NETWORKS[name]
    if not _running[name].acquire(blocking=False):
        raise Busy(f"{network.title} is being fetched already.")
    try:
        path = home() / "networks" / f"{name}.onnx"
        size = round(network.megabytes * 1e6)
        if not path.exists():
            weights = _weights(network)
            file = _cached(weights.url)
            downloaded = file is None
            if downloaded:
                file = home() / "downloads" / file_name(weights.url)
                for step in download(weights.url, file):
                    yield Step(step.index, step.total, f"Fetching {network.title}")
            size = file.stat().st_size
            yield Step(size, size, f"Writing {network.title} as ONNX")
            _export(network, weights, file, path)
            if downloaded:
                file.unlink()  # all of it is in the ONNX file
            yield Step(size, size, f"Checking {network.title}")
            _certify(path)
        yield Step(size, size, path)
    finally:
        _running[name].release()


def _weights(network: Network) -> torchvision.models.WeightsEnum:
    """torchvision's entry: url, labels, transforms."""
    try:
        from torchvision import models
    except ImportError as error:
        raise FetchFailed("Published networks are built with torchvision, which is not installed.") from error
    return models.get_model_weights(network.name)[network.weights]


def _cached(url: str) -> Path | None:
    """The file where torch keeps its downloads ($TORCH_HOME/hub/checkpoints), if there is one.

    Like torchvision, we take it as it is: somebody may have put another version there. If so, the network will say it.
    """
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / file_name(url)
    return file if file.is_file() else None


def build(network: Network, state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    """torchvision's module with the weights `state`, in evaluation mode."""
    import torch
    from torchvision import models

    # DenseNet's file is older than its module: "denselayer1.norm.1.weight" is "denselayer1.norm1.weight" by now.
    state = {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key): value for key, value in state.items()}
    with torch.device("meta"):  # no memory and no random numbers for weights that are about to be replaced
        module = models.get_model(network.name, weights=None, **network.options)
    module.load_state_dict(state, assign=True)
    return module.eval()


def _export(network: Network, weights: torchvision.models.WeightsEnum, file: Path, path: Path) -> None:
    """Write the weights in `file` as the network `path`. Raises FetchFailed where they do not fit."""
    import torch

    from engine.nets.export import export, metadata_of

    source = f"{network.title}: {network.paper}; weights {weights} of torchvision, {weights.url}"
    more = {"mean": network.mean, "std": network.std, "licence": network.licence}
    if not hash_is_right(file, weights.url):
        source += f"; read from a file of that name with another SHA-256, {sha256_of(file)}"
        more["accuracy"] = ""
    metadata = metadata_of(weights, source=source, **more)
    try:
        module = build(network, torch.load(file, map_location="cpu", weights_only=True))
    except Exception as error:  # a damaged file raises in a dozen ways, down to those of pickle and zipfile
        raise FetchFailed(f"{file} does not hold the weights of {network.title}: remove it and try again.") from error
    export(module, path, metadata)


def _certify(path: Path) -> None:
    """Compare the two engines on the new network once, and keep the outcome beside it."""
    from engine.net import Net
    from engine.nets import certificate

    net = Net(path)
    image = np.random.default_rng(0).random((*net.input_size, net.channels), np.float32)
    certificate.remember(net, certificate.certify(net, image))

"""The networks of the lecture, as both of torch's exporters write them: is the twin the same network?

Random weights and small pictures: the graphs are what counts here, and they do not depend on either.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision

from engine.model.metadata import Metadata, write
from engine.net import Net
from engine.nets.certificate import TENSOR_LIMIT

SIDES = {  # rows and columns: the least that leaves the graph as it is at full size
    "squeezenet1_1": 64,
    "alexnet": 224,
    "vgg16": 224,
    "vgg19": 224,
    "googlenet": 64,
    "resnet18": 64,
    "resnet101": 64,
    "densenet121": 64,
    "mobilenet_v2": 64,
    "efficientnet_b0": 64,
}
QUICK = {"squeezenet1_1", "resnet18"}  # by default; the others in `pytest --all`
HEAVY = {"alexnet", "vgg16", "vgg19"}  # hundreds of megabytes of linear layers: their last part is left out


def build(name: str) -> torch.nn.Module:
    """The network with random weights, and statistics of its normalisations that are not the trivial ones."""
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    module = getattr(torchvision.models, name)(weights=None, **options)
    if name in HEAVY:
        inputs = module.classifier[1 if name == "alexnet" else 0].in_features
        module.classifier = torch.nn.Sequential(torch.nn.Linear(inputs, 10), torch.nn.ReLU(), torch.nn.Linear(10, 10))
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.8, 1.2)
            torch.nn.init.normal_(part.bias, std=0.1)
            torch.nn.init.normal_(part.running_mean, std=0.1)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.eval()


def save(module: torch.nn.Module, path: Path, exporter: str, side: int) -> None:
    example, names = torch.zeros(2, 3, side, side), {"input_names": ["image"], "output_names": ["logits"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if exporter == "dynamo":
            batch = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(
                module, (example,), path, dynamo=True, external_data=False, dynamic_shapes=batch, verbose=False, **names
            )
        else:
            free = {"image": {0: "batch"}, "logits": {0: "batch"}}
            torch.onnx.export(module, (example,), path, dynamo=False, dynamic_axes=free, **names)
    model = onnx.load(path)
    write(model, Metadata(input_size=(side, side)))
    onnx.save(model, path)


@pytest.mark.parametrize("exporter", ["dynamo", "script"])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.thorough) for name in SIDES]
)
def test_the_twin_is_the_published_network(name: str, exporter: str, tmp_path: Path):
    module = build(name)
    save(module, tmp_path / "net.onnx", exporter, SIDES[name])
    net = Net(tmp_path / "net.onnx")
    assert net.twin.missing() == []

    x = np.random.default_rng(0).random((1, 3, SIDES[name], SIDES[name]), np.float32)
    tensors = [n for node in net.graph.nodes for n in node.outputs if n in net.graph.from_input & net.graph.floats]
    theirs = net.activations(x, tensors)
    pixels = torch.from_numpy(x).requires_grad_()
    ours = net.twin(pixels, tensors)
    for tensor in tensors:
        largest = np.abs(theirs[tensor]).max()
        difference = np.abs(theirs[tensor] - ours[tensor].detach().numpy()).max()
        assert difference <= TENSOR_LIMIT * largest, tensor

    index = int(theirs[net.logits].argmax())
    (gradient,) = torch.autograd.grad(ours[net.logits].flatten()[index], pixels)
    original = torch.from_numpy(x).requires_grad_()
    score = module(_normalised(net, original)).flatten()[index]
    (expected,) = torch.autograd.grad(score, original)
    # The exporters fold normalisation into the weights; a ReLU that is at zero to the last digit may then flip, which
    # shows in single pixels. A wrong gradient shows in all of them.
    assert expected.norm() > 0
    assert (gradient - expected).norm() <= 1e-2 * expected.norm()


def _normalised(net: Net, pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (net.metadata.mean, net.metadata.std))
    return (pixels - mean) / std

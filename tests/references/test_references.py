"""Do Captum and pytorch-grad-cam give the same maps of the same weights?

Both are for development only (benchmarks/requirements.txt). They ask the original module through hooks, the engine asks
the exported file. Captum is given the pixels, with the normalisation inside the module, so that its gradients are per
pixel value, as here; pytorch-grad-cam multiplies masks into its input, and is given the normalised picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import captum.attr as captum
import numpy as np
import pytest
import pytorch_grad_cam as grad_cam_library
import small_nets as nets
import torch
from captum.metrics import infidelity
from pytorch_grad_cam import base_cam
from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection
from torch import nn

from engine.explain import faithfulness as faithful
from engine.explain.ablation_cam import ablation_cam
from engine.explain.eigen_cam import eigen_cam
from engine.explain.grad_cam import grad_cam
from engine.explain.grad_cam_plus_plus import grad_cam_plus_plus
from engine.explain.gradient_input import gradient_input
from engine.explain.guided_backpropagation import gated_gradient, guided_backpropagation
from engine.explain.guided_grad_cam import guided_grad_cam
from engine.explain.hires_cam import hires_cam
from engine.explain.integrated_gradients import integrated_gradients
from engine.explain.layer_cam import layer_cam
from engine.explain.occlusion import occlusion_fall
from engine.explain.saliency import gradient, saliency
from engine.explain.score_cam import score_cam
from engine.explain.smooth_grad import smooth_grad
from engine.explain.xgrad_cam import xgrad_cam
from engine.model.metadata import Metadata
from engine.net import Net
from engine.nets.export import export
from engine.pictures import samples
from engine.pictures.fill import blank
from engine.target import class_score

LIMIT = 1e-3  # of the reference map's range

pytestmark = [
    pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU"),
    pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients"),
]


class Small(nn.Module):
    """Three convolutions and a linear layer on pictures of 25 x 35; nothing in it is used twice, as hooks ask for."""

    def __init__(self):
        super().__init__()
        self.conv1, self.relu1, self.pool = nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2 = nn.Conv2d(6, 8, 3), nn.ReLU()
        self.conv3, self.relu3 = nn.Conv2d(8, 8, 3, stride=2), nn.ReLU()
        self.head = nn.Linear(8 * 4 * 7, 5)

    def forward(self, x):
        x = self.pool(self.relu1(self.conv1(x)))
        x = self.relu3(self.conv3(self.relu2(self.conv2(x))))
        return self.head(x.flatten(1))


class OfPixels(nn.Module):
    """A module behind its normalisation; its logits, or its probabilities."""

    def __init__(self, module: nn.Module, net: Net, probability: bool = False):
        super().__init__()
        self.module, self.probability = module, probability
        self.register_buffer("mean", torch.tensor(net.metadata.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(net.metadata.std)[:, None, None])

    def forward(self, x):
        found = self.module((x - self.mean) / self.std)
        return found.softmax(1) if self.probability else found


@dataclass
class Pair:
    """The same network twice. layers: where maps are taken, by the tensor's name."""

    net: Net
    module: nn.Module
    layers: dict[str, nn.Module]
    image: np.ndarray

    @property
    def rounded(self) -> float:
        return ROUNDED[self.net.name]

    @property
    def pixels(self) -> torch.Tensor:
        return torch.from_numpy(self.net.batch(self.image))

    @property
    def index(self) -> int:
        return int(self.net.scores(self.net.batch(self.image))[0].argmax())

    @property
    def of_pixels(self) -> OfPixels:
        return OfPixels(self.module, self.net)

    def pixel_map(self, method: Callable, /, **given) -> np.ndarray:
        """(H, W, C) from a method of Captum."""
        found = method.attribute(self.pixels, target=self.index, **given)
        return found[0].detach().numpy().transpose(1, 2, 0)


def agree(found: np.ndarray, expected: np.ndarray, share: float = 1.0) -> None:
    """Nowhere further apart than the limit, or nowhere on that share of the places."""
    assert found.shape == expected.shape
    assert np.ptp(expected) > 0
    assert np.quantile(abs(found - expected), share) <= LIMIT * np.ptp(expected)


# Many gradients of points that are rounded in another order: where one of them lies on a ReLU's corner, the two sides
# may take different sides of it. So it is with SqueezeNet at single pixels, whose gradient in double precision differs
# from both by more than they do from one another. How many pixels, depends on the processor: 0.1 % with AVX-512 and a
# little more without.
ROUNDED = {"small": 1.0, "squeezenet": 0.998}


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Pair:
    torch.manual_seed(1)
    module = Small().eval()
    with torch.no_grad():  # clear of the ranges in which the libraries' own safeguards against 0 are felt
        module.head.weight *= 10
    about = Metadata(labels=tuple("abcde"), input_size=(25, 35), mean=nets.MEAN, std=nets.STD)
    path = tmp_path_factory.mktemp("references") / "small.onnx"
    export(module, path, about)
    layers = {"relu2": module.relu2, "relu3": module.relu3}
    return Pair(Net(path), module, layers, nets.picture((25, 35)))


@pytest.fixture(scope="module")
def squeezenet(tmp_path_factory, shared) -> Pair:
    models = pytest.importorskip("torchvision.models")
    found = list((shared / "weights").rglob("squeezenet1_1-*.pth"))
    if not found:
        pytest.skip("SqueezeNet's weights are not in the shared material.")
    module = models.squeezenet1_1(weights=None).eval()
    module.load_state_dict(torch.load(found[0], weights_only=True))
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # which hooks cannot see through
    about = Metadata(input_size=(97, 131), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    path = tmp_path_factory.mktemp("references") / "squeezenet.onnx"
    export(module, path, about)
    net = Net(path)
    layers = {"features.12.concat": module.features[12], "features.7.concat": module.features[7]}
    return Pair(net, module, layers, net.view(samples.load("china"))[0])


@pytest.fixture(params=["small", "squeezenet"])
def pair(request) -> Pair:
    return request.getfixturevalue(request.param)


# Captum ---------------------------------------------------------------------------------------------------------------


def test_gradient_and_saliency(pair):
    signed = pair.pixel_map(captum.Saliency(pair.of_pixels), abs=False)
    agree(gradient(pair.net, pair.image, pair.index), signed)
    agree(saliency(pair.net, pair.image, pair.index), np.abs(signed).max(2))


def test_gradient_times_input(pair):
    expected = pair.pixel_map(captum.InputXGradient(pair.of_pixels))
    agree(gradient_input(pair.net, pair.image, pair.index), expected.sum(2))


@pytest.mark.parametrize("baseline", ["black", "grey"])
def test_integrated_gradients(pair, baseline):
    start = torch.from_numpy(pair.net.batch(blank(pair.image, baseline)))
    how = {"baselines": start, "n_steps": 12, "method": "riemann_middle", "internal_batch_size": 8}
    expected = pair.pixel_map(captum.IntegratedGradients(pair.of_pixels), **how)
    found = integrated_gradients(pair.net, pair.image, pair.index, baseline=baseline, steps=12, tolerance=np.inf)
    agree(found.channels, expected, pair.rounded)
    agree(found.map, expected.sum(2), pair.rounded)


def test_smooth_grad(pair, monkeypatch):
    """Captum draws its noise itself, with torch's generator: here it is handed the noise that the engine draws."""
    random = np.random.default_rng(3)
    noise = np.stack([random.standard_normal(pair.image.shape, np.float32) for _ in range(6)])
    drawn = torch.from_numpy(0.15 * noise.transpose(0, 3, 1, 2))
    monkeypatch.setattr(torch, "normal", lambda mean, std: drawn)
    expected = pair.pixel_map(
        captum.NoiseTunnel(captum.Saliency(pair.of_pixels)), nt_type="smoothgrad", nt_samples=6, stdevs=0.15, abs=False
    )
    found = smooth_grad(pair.net, pair.image, pair.index, noise=0.15, samples=6, seed=3)
    agree(found, np.abs(expected).max(2), pair.rounded)


@pytest.mark.parametrize(("rule", "method"), [("guided", "GuidedBackprop"), ("deconvnet", "Deconvolution")])
def test_guided_backpropagation_and_deconvnet(pair, rule, method):
    expected = pair.pixel_map(getattr(captum, method)(pair.of_pixels))
    agree(gated_gradient(pair.net, pair.image, pair.index, rule=rule), expected)
    if rule == "guided":
        agree(guided_backpropagation(pair.net, pair.image, pair.index), np.abs(expected).max(2))


def test_guided_grad_cam(pair):
    for layer, part in pair.layers.items():
        expected = pair.pixel_map(captum.GuidedGradCam(pair.of_pixels, part), interpolate_mode="bilinear")
        agree(guided_grad_cam(pair.net, pair.image, pair.index, layer=layer), np.abs(expected).max(2))


def test_grad_cam(pair):
    for layer, part in pair.layers.items():
        method = captum.LayerGradCam(pair.of_pixels, part)
        expected = method.attribute(pair.pixels, target=pair.index, relu_attributions=True)[0, 0].detach().numpy()
        agree(grad_cam(pair.net, pair.image, pair.index, layer=layer), expected)


@pytest.mark.parametrize(
    ("name", "patch", "stride"), [("small", 8, 5), ("small", 6, 6), ("small", 5, 2), ("squeezenet", 30, 20)]
)
def test_occlusion(request, name, patch, stride):
    """On both sides the fall of the probability, averaged over the patches that cover a pixel."""
    pair = request.getfixturevalue(name)
    expected = pair.pixel_map(
        captum.Occlusion(OfPixels(pair.module, pair.net, probability=True)),
        sliding_window_shapes=(3, patch, patch),
        strides=(3, stride, stride),
        baselines=0.5,
        perturbations_per_eval=16,
    )
    found = occlusion_fall(pair.net, pair.image, pair.index, patch=patch, stride=stride)
    agree(found, expected[:, :, 0])


def test_infidelity(pair, monkeypatch):
    """With the same random parts hidden; Captum's `normalize` is the factor that suits the map best."""
    found = saliency(pair.net, pair.image, pair.index)
    kept = []
    hidings = faithful._hidings
    monkeypatch.setattr(faithful, "_hidings", lambda *args: kept.append(hidings(*args)) or kept[-1])
    judged = faithful.judge(pair.net, pair.image, pair.index, found, points=1, masks=12)
    gone = torch.from_numpy(kept[0])[:, None].float().repeat(1, 3, 1, 1)

    def hide(inputs):  # all of them at once: the inputs are the picture, as often as there are parts
        return gone, torch.where(gone > 0, torch.tensor(0.5), inputs)

    expected = infidelity(
        OfPixels(pair.module, pair.net, probability=True),
        hide,
        pair.pixels,
        torch.from_numpy(found)[None, None].repeat(1, 3, 1, 1) / 3,
        target=pair.index,
        n_perturb_samples=12,
        normalize=True,
    )
    assert judged.infidelity == pytest.approx(expected.item(), rel=LIMIT)


# pytorch-grad-cam -----------------------------------------------------------------------------------------------------


def theirs(pair: Pair, name: str, layer: str, monkeypatch, factor: float = 1) -> np.ndarray:
    """The map of one of their classes at the layer's own resolution: before it is stretched and scaled to [0, 1]."""
    monkeypatch.setattr(base_cam, "scale_cam_image", lambda cam, target_size=None: cam)
    normalised = torch.from_numpy(pair.net.normalise(pair.net.batch(pair.image)))
    with getattr(grad_cam_library, name)(pair.module, [pair.layers[layer]]) as method:
        return method(normalised, targets=[lambda logits: factor * logits[pair.index]])[0]


@pytest.mark.parametrize(
    ("name", "method"),
    [("GradCAM", grad_cam), ("HiResCAM", hires_cam), ("LayerCAM", layer_cam), ("XGradCAM", xgrad_cam)],
)
def test_of_the_gradient(pair, name, method, monkeypatch):
    for layer in pair.layers:
        found = method(pair.net, pair.image, pair.index, layer=layer)
        agree(np.maximum(found, 0), theirs(pair, name, layer, monkeypatch))


def test_grad_cam_plus_plus(pair, monkeypatch):
    """Of 100,000 times the logit, beside whose gradients the 1e-6 that they add to a denominator is nothing."""
    for layer in pair.layers:
        found = grad_cam_plus_plus(pair.net, pair.image, 1e5 * class_score(pair.net, pair.index), layer=layer)
        agree(found, theirs(pair, "GradCAMPlusPlus", layer, monkeypatch, factor=1e5))


def test_eigen_cam(pair):
    """Up to the sign, which theirs leaves to chance."""
    for layer in pair.layers:
        maps = pair.net.activations(pair.net.batch(pair.image), [layer])[layer]
        expected = get_2d_projection(maps)[0]
        found = eigen_cam(pair.net, pair.image, layer=layer)
        agree(found, np.sign((found * expected).sum()) * expected)


@pytest.mark.parametrize("layer", ["relu2", "relu3"])
def test_ablation_cam(small, layer, monkeypatch):
    """Behind a ReLU, where theirs sets channels to 0 as the paper does."""
    agree(
        ablation_cam(small.net, small.image, small.index, layer=layer), theirs(small, "AblationCAM", layer, monkeypatch)
    )


@pytest.mark.parametrize("layer", ["relu2", "relu3"])
def test_score_cam(small, layer, monkeypatch):
    """Theirs stretches masks so that the corners' centres meet; the paper's authors' code does it as here."""
    half_pixel = functools.partial(nn.Upsample, mode="bilinear", align_corners=False)
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", half_pixel)
    agree(score_cam(small.net, small.image, small.index, layer=layer), theirs(small, "ScoreCAM", layer, monkeypatch))

"""Every map of evidence on networks with ImageNet's real weights, as others exported them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from engine import image
from engine.explain.cam import cam, ending
from engine.explain.evidence import over_picture, ways
from engine.explain.faithfulness import ranking, shown
from engine.explain.grad_cam import grad_cam
from engine.explain.integrated_gradients import integrated_gradients
from engine.model import metadata
from engine.model.metadata import Metadata
from engine.net import Net
from engine.pictures.fill import blank
from engine.target import class_score, measure

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
NETWORKS = {
    "squeezenet1_1_imagenet": IMAGENET,
    "googlenet_imagenet": {"mean": (123 / 255, 117 / 255, 104 / 255), "std": (1 / 255,) * 3},
}
SHORT = {  # of the long methods, enough to see that they do what they should
    "Occlusion": {"patch": 56, "stride": 28},
    "RISE": {"masks": 96, "stable": 0.0},
    "SmoothGrad": {"samples": 4},
    "Hide-and-seek": {"copies": 8},
}


@pytest.fixture(scope="module", params=NETWORKS)
def seen(request, shared, tmp_path_factory):
    """(net, pixels, the class "suspension bridge")."""
    path = shared / "nets" / f"{request.param}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the shared material.")
    labels = (shared / "nets" / "imagenet_classes.txt").read_text("utf-8").split("\n")[:1000]
    model = onnx.load(path)
    metadata.write(model, Metadata(labels=tuple(labels), input_size=(224, 224), crop=0.875, **NETWORKS[request.param]))
    copy = tmp_path_factory.mktemp("real") / path.name
    copy.write_bytes(model.SerializeToString())
    net = Net(copy)
    return net, net.view(image.load(shared / "photos" / "golden_gate.jpg"))[0], labels.index("suspension bridge")


def test_the_network_says_what_it_sees(seen):
    net, pixels, index = seen
    assert net.scores(net.batch(pixels))[0].argmax() == index


def test_cam_is_the_networks_own_arithmetic(seen):
    net, pixels, index = seen
    map_, end = cam(net, pixels, index), ending(net)
    logit = net.scores(net.batch(pixels))[0, index]
    assert map_.mean() + end.bias[index] == pytest.approx(logit, rel=1e-4)
    np.testing.assert_allclose(
        grad_cam(net, pixels, index, layer=end.layer), np.maximum(map_, 0) / map_.size, rtol=1e-3, atol=1e-5
    )


@pytest.mark.thorough
def test_contributions_add_up(seen):
    net, pixels, index = seen
    found = integrated_gradients(net, pixels, index)
    assert found.error < 0.01


# Score-CAM takes a thousand passes. The other two tell contributions of single pixels, for and against, which hardly
# change what the network says when scattered pixels are hidden; that they add up is what can be asked of them.
LEFT_OUT = {"Score-CAM", "Gradient × input", "Integrated Gradients"}


OFTEN = {"RISE", "Occlusion", "Hide-and-seek"}  # they take many passes


@pytest.mark.parametrize(
    "title",
    [
        pytest.param(title, marks=pytest.mark.thorough if title in OFTEN else [])
        for title in sorted(set(ways()) - LEFT_OUT)
    ],
)
def test_what_a_map_puts_first_is_missed_more_than_what_it_puts_last(seen, title):
    """Nobody can say where the evidence in a photograph is; but without it the network must be less sure."""
    net, pixels, index = seen
    asking = ways()[title]
    target = {"target": index} if "target" in asking.takes else {}
    result = asking.function(net, pixels, **target, **SHORT.get(title, {}))
    map_ = over_picture(result if isinstance(result, np.ndarray) else result.map, pixels.shape[:2])
    assert np.isfinite(map_).all()
    order, grey = ranking(map_), blank(pixels, "grey")
    first, last = (shown(grey, pixels, places, 0.3) for places in (order, order[::-1]))
    hidden_first, hidden_last = measure(net, net.batch(first, last), class_score(net, index))
    assert hidden_first < hidden_last

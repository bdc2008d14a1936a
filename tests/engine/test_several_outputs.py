"""A network with an auxiliary output: which of the two is asked is one choice, and everything follows it."""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as small
from click.testing import CliRunner
from test_pages import chosen, fine, opened, scene

from engine import image
from engine.cli.main import main as engine
from engine.explain.grad_cam import grad_cam
from engine.net import Net


@pytest.fixture
def path(cache):
    """`tiny` with a second output "aux": two classes, read off the first layer."""
    weights = {**small.tiny_weights(), "w4": np.array([[1, 0, 0, 0, -1], [0, 2, 0, 0, 0]], np.float32)}
    nodes = [
        *small.tiny_nodes(),
        small.node("GlobalAveragePool", "relu1", "early"),
        small.node("Flatten", "early", "flat"),
        small.node("Gemm", "flat w4", "aux", transB=1),
    ]
    made = small.model(nodes, weights, opset=17, outputs=["logits", "aux"])
    folder = cache / "networks"
    folder.mkdir(parents=True)
    (folder / "two.onnx").write_bytes(made.SerializeToString())
    return folder / "two.onnx"


def test_each_output_has_classes_layers_and_maps_of_its_own(path, picture):
    main, aux = Net(path), Net(path, output="aux")
    assert (main.classes, aux.classes) == (4, 2)
    assert (main.last_map, aux.last_map) == ("conv2", "relu1")
    x = aux.batch(picture)
    relu1 = aux.activations(x, ["relu1"])["relu1"][0]
    np.testing.assert_allclose(aux.scores(x)[0], [relu1[0].mean() - relu1[4].mean(), 2 * relu1[1].mean()], rtol=1e-5)
    expected = np.maximum(relu1[0] - relu1[4], 0) / relu1[0].size
    np.testing.assert_allclose(grad_cam(aux, picture, 0), expected, rtol=1e-4, atol=1e-7)


def test_the_sidebar_asks_which_one_and_the_link_holds_it(path):
    at = opened("cam", net="two")
    assert fine(at)
    assert (chosen(at, "output"), scene(at).net.classes) == ("logits", 4)
    at = opened("cam", net="two", output="aux")
    assert fine(at)
    assert (scene(at).net.output, scene(at).net.classes) == ("aux", 2)
    assert any("output='aux'" in code.value for code in at.code)
    assert any("--output aux" in code.value for code in at.code)
    at.selectbox(key="net").set_value("digits").run()
    assert fine(at)
    assert scene(at).net.output == "logits"


def test_the_command_line_asks_which_one(path, picture, tmp_path):
    (tmp_path / "picture.png").write_bytes(image.to_png(picture))
    words = ["grad-cam", "--net", str(path), "--image", str(tmp_path / "picture.png"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(engine, [*words, "--output", "aux", "--class", "1"])
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "out" / "numbers.npz") as numbers:
        assert numbers["grad_cam"].shape == (12, 16)
    refused = CliRunner().invoke(engine, [*words, "--output", "nope"])
    assert refused.exit_code == 2
    assert "has no output 'nope'; it has logits, aux." in refused.output

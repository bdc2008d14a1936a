"""Does a module's ONNX file compute what the module does, under readable names, and nothing else stand in it?"""

import contextlib
import copy
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models

from engine import image
from engine.model.metadata import Metadata, read
from engine.net import Net
from engine.nets import export as exports
from engine.nets.export import ExportFailed, export, metadata_of
from engine.nets.folder import PROJECT

SIZE = (24, 40)
METADATA = Metadata(labels=("a", "b", "c"), input_size=SIZE, source="A test.", licence="None.", accuracy="None.")


class Residual(nn.Module):
    """One of everything that names must cope with: folded normalisation, a module used twice, plain functions."""

    def __init__(self, channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8))
        self.conv = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.act = nn.ReLU()
        self.gate = nn.SiLU()
        self.head = nn.Linear(8, 3)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.stem(x))
        x = self.gate(self.act(x + self.conv(x)))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Returning(nn.Module):
    """Applies a function, whatever it is, to a batch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return Residual().eval()


def logits(path, batch: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(["logits"], {"image": batch})[0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_file_computes_what_the_module_does_for_any_batch(module, tmp_path, count):
    export(module, tmp_path / "net.onnx", METADATA)
    batch = np.random.default_rng(1).random((count, 3, *SIZE), np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(logits(tmp_path / "net.onnx", batch), expected, rtol=1e-4, atol=1e-5)


def test_the_file_says_what_the_metadata_says(module, tmp_path):
    export(module, tmp_path / "net.onnx", METADATA)
    model = onnx.load(tmp_path / "net.onnx")
    assert read(model) == METADATA
    (given,) = model.graph.input
    assert [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim] == ["batch", 3, *SIZE]
    assert (given.name, [out.name for out in model.graph.output]) == ("image", ["logits"])


def test_one_channel(tmp_path):
    torch.manual_seed(0)
    metadata = Metadata(labels=("a", "b", "c"), input_size=SIZE, mean=(0.3,), std=(0.4,))
    export(Residual(1).eval(), tmp_path / "net.onnx", metadata, channels=1)
    assert logits(tmp_path / "net.onnx", np.zeros((2, 1, *SIZE), np.float32)).shape == (2, 3)
    assert read(onnx.load(tmp_path / "net.onnx"), channels=1) == metadata


def test_tensors_are_named_after_the_modules(module, tmp_path):
    export(module, tmp_path / "net.onnx", METADATA)
    model = onnx.load(tmp_path / "net.onnx")
    named = [(node.op_type, node.output[0]) for node in model.graph.node]
    assert named[:7] == [
        ("Conv", "stem.0"),  # with stem.1, the normalisation, folded in
        ("Relu", "act"),
        ("Conv", "conv"),
        ("Add", "add"),
        ("Relu", "act_1"),
        ("Sigmoid", "gate.sigmoid"),
        ("Mul", "gate"),
    ]
    assert all(node.name == node.output[0] for node in model.graph.node)
    names = [*(i.name for i in model.graph.initializer), *(o for node in model.graph.node for o in node.output)]
    assert len(set(names)) == len(names)


def test_nothing_of_the_machine_stays_inside(module, tmp_path):
    export(module, tmp_path / "net.onnx", METADATA)
    model = onnx.load(tmp_path / "net.onnx")
    for weights in model.graph.initializer:
        weights.raw_data = b""  # random bytes spell anything sooner or later
    content = model.SerializeToString()
    for trace in (b"/", b"\\", b".py", b"pkg.", b"torch.nn", b"File"):
        assert trace not in content, trace
    for part in [model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.initializer]:
        assert not part.metadata_props
        assert not part.doc_string
    assert {entry.key for entry in model.metadata_props} <= set(Metadata.__dataclass_fields__)


def test_the_same_module_gives_the_same_bytes(module, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        export(module, tmp_path / name, METADATA)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_module_is_left_as_it_was(module, tmp_path):
    module = module.to(memory_format=torch.channels_last)
    before = copy.deepcopy(module)
    export(module, tmp_path / "net.onnx", METADATA)
    for (name, a), (_, b) in zip(module.named_parameters(), before.named_parameters(), strict=True):
        assert torch.equal(a, b), name
        assert a.stride() == b.stride(), name


def test_channels_last_weights_give_the_same_graph(module, tmp_path):
    export(module, tmp_path / "plain.onnx", METADATA)
    export(module.to(memory_format=torch.channels_last), tmp_path / "last.onnx", METADATA)
    plain, last = ([n.op_type for n in onnx.load(tmp_path / name).graph.node] for name in ("plain.onnx", "last.onnx"))
    assert plain == last


def test_arguments_that_cannot_be_meant(module, tmp_path):
    with pytest.raises(ValueError, match="input_size"):
        export(module, tmp_path / "net.onnx", Metadata())
    module.stem.train()
    with pytest.raises(ValueError, match="training mode"):
        export(module, tmp_path / "net.onnx", METADATA)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: (x.mean((2, 3)), x.amax((2, 3))), id="two outputs"),
        pytest.param(lambda x: x.mean((2, 3)) + torch.ones(2, 3), id="one size of batch"),
        pytest.param(lambda x: x.reshape(2, 3, -1).mean(2), id="pictures mixed"),
        pytest.param(lambda x: x.mean((1, 2, 3)), id="no classes"),
        pytest.param(lambda x: x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3)), id="a branch on the data"),
    ],
)
def test_a_module_that_makes_no_classifier_is_refused(function, tmp_path):
    with pytest.raises(ExportFailed, match="Returning"):
        export(Returning(function).eval(), tmp_path / "net.onnx", METADATA)
    assert not any(tmp_path.iterdir())


def test_a_file_that_computes_something_else_is_not_kept(module, tmp_path, monkeypatch):
    export(module, tmp_path / "net.onnx", METADATA)
    good = (tmp_path / "net.onnx").read_bytes()
    trace, other = exports.trace, Residual().eval()
    monkeypatch.setattr(exports, "trace", lambda module, shape: trace(other, shape))
    with pytest.raises(ExportFailed, match="differ"):
        export(module, tmp_path / "net.onnx", METADATA)
    assert (tmp_path / "net.onnx").read_bytes() == good
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("factor", [1.0005, 1.002])
def test_a_thousandth_of_the_largest_logit_is_let_pass_and_no_more(factor, tmp_path, monkeypatch):
    trace, other = exports.trace, Returning(lambda x: factor * x.mean((2, 3))).eval()
    monkeypatch.setattr(exports, "trace", lambda module, shape: trace(other, shape))
    told = pytest.raises(ExportFailed, match="differ") if factor > 1.001 else contextlib.nullcontext()
    with told:
        export(Returning(lambda x: x.mean((2, 3))).eval(), tmp_path / "net.onnx", METADATA)
    assert (tmp_path / "net.onnx").exists() == (factor < 1.001)


# What README.md promises ----------------------------------------------------------------------------------------------

README = (PROJECT / "README.md").read_text("utf-8")
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "export(" in block]


def run_block(block: str, folder: Path, monkeypatch) -> tuple[dict, Net]:
    """Run a block as somebody would paste it, beside a folder exported_models; and open what it has written there."""
    (folder / "exported_models").mkdir()
    monkeypatch.chdir(folder)
    space: dict = {}
    exec(block, space)
    (file,) = (folder / "exported_models").glob("*.onnx")
    return space, Net(file)


def same_logits(module: nn.Module, net: Net) -> None:
    pixels = np.random.default_rng(0).random((2, 3, *net.input_size), np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(net.normalise(pixels))).numpy()
    np.testing.assert_allclose(net.scores(pixels), expected, rtol=1e-3, atol=1e-4)


def test_there_are_two_blocks_and_the_first_is_three_lines():
    published, own = BLOCKS
    assert "metadata_of(weights)" in published
    assert "Metadata(labels=" in own
    for block in BLOCKS:
        assert len([line for line in block.splitlines() if line and not line.startswith("from ")]) == 3


def test_readmes_lines_for_published_weights(tmp_path, monkeypatch):
    """With random weights in place of the download, and nothing else changed."""
    torch.manual_seed(0)
    state = models.squeezenet1_1(weights=None).state_dict()
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *a, **k: state)
    monkeypatch.setattr(models._api, "load_state_dict_from_url", lambda *a, **k: state)
    space, net = run_block(BLOCKS[0], tmp_path, monkeypatch)
    same_logits(space["module"], net)
    assert (net.classes, net.labels[0], net.labels[999]) == (1000, "tench", "toilet tissue")
    about = net.metadata
    assert (about.input_size, about.crop, about.missing) == ((224, 224), 0.875, ())
    assert (about.mean, about.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert "SqueezeNet1_1_Weights.IMAGENET1K_V1" in about.source
    assert about.accuracy.startswith("58.2 %")
    assert not net.notes, "nothing has to be guessed"


@pytest.mark.thorough
def test_readmes_lines_for_published_weights_with_the_real_ones(tmp_path, monkeypatch, shared):
    monkeypatch.setenv("TORCH_HOME", str(shared / "weights"))
    _, net = run_block(BLOCKS[0], tmp_path, monkeypatch)
    view, _ = net.view(image.load((shared / "photos" / "samoyed.jpg").read_bytes()))
    assert net.labels[int(net.scores(net.batch(view))[0].argmax())] == "Samoyed"


def test_readmes_lines_for_a_module_of_ones_own(tmp_path, monkeypatch):
    space, net = run_block(BLOCKS[1], tmp_path, monkeypatch)
    same_logits(space["module"], net)
    assert (net.labels, net.input_size) == (["cat", "dog"], (96, 128))
    assert not net.notes


def test_metadata_of_takes_other_words():
    weights = models.ResNet18_Weights.DEFAULT
    about = metadata_of(weights, labels=("cat", "dog"), accuracy="")
    assert (about.labels, about.accuracy, about.input_size) == (("cat", "dog"), "", (224, 224))
    assert metadata_of(models.EfficientNet_B3_Weights.DEFAULT).crop == 300 / 320
    assert metadata_of(models.ViT_H_14_Weights.IMAGENET1K_SWAG_E2E_V1).crop == 1.0


@pytest.mark.parametrize("name", models.list_models(module=models))
def test_metadata_of_every_classifier(name):
    for weights in models.get_model_weights(name):
        if "FEATURES" in weights.name:  # of VGG-16, which has no classes
            with pytest.raises(ValueError, match="no weights of a classifier"):
                metadata_of(weights)
            continue
        about = metadata_of(weights)
        assert len(about.labels) == 1000
        assert len(about.mean) == len(about.std) == 3
        assert 0 < about.crop <= 1


def test_metadata_of_other_weights_is_refused():
    with pytest.raises(ValueError, match="no weights of a classifier"):
        metadata_of(models.detection.FCOS_ResNet50_FPN_Weights.DEFAULT)

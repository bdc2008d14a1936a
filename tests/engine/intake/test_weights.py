"""Do weights alone become a network, whatever a training wrapped them in, and does no file of them do harm?"""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from click.testing import CliRunner
from torchvision import models

from engine import image
from engine.cli.main import main
from engine.intake import weights
from engine.intake.weights import BadWeights, candidates, chosen, compared, kind, opened, read
from engine.net import Net

CLASSES = 7


@pytest.fixture(scope="module")
def module() -> torch.nn.Module:
    """The smallest of torchvision's, with seven classes and statistics that are not the trivial ones."""
    torch.manual_seed(0)
    made = models.shufflenet_v2_x0_5(weights=None, num_classes=CLASSES).eval()
    for part in made.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(part.running_mean, std=0.1)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    return made


@pytest.fixture(scope="module")
def state(module) -> dict[str, torch.Tensor]:
    return module.state_dict()


def saved(found: object, **how) -> bytes:
    file = io.BytesIO()
    torch.save(found, file, **how)
    return file.getvalue()


# Opening --------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_weights_become_the_network_they_came_from(module, state, tmp_path):
    data, fit = opened(safetensors.torch.save(state), name="mine.safetensors")
    assert (fit.architecture, fit.classes) == ("shufflenet_v2_x0_5", CLASSES)
    (tmp_path / "mine.onnx").write_bytes(data)
    net = Net(tmp_path / "mine.onnx")
    pixels = np.random.default_rng(0).random((2, 3, 224, 224), np.float32)
    with torch.no_grad():
        expected = module(torch.from_numpy(net.normalise(pixels))).numpy()
    np.testing.assert_allclose(net.scores(pixels), expected, rtol=1e-3, atol=1e-4)
    about = net.metadata
    assert (about.input_size, about.crop) == ((224, 224), 224 / 256)
    assert about.missing == ("labels",)
    assert net.labels == list("0123456")
    assert "mine.safetensors" in about.source
    assert "does not say whether" in about.source


@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_every_form_is_read_and_known_by_its_beginning(state, form):
    content = (
        safetensors.torch.save(state)
        if form == "safetensors"
        else saved(state, _use_new_zipfile_serialization=form == "zip")
    )
    assert kind(content) == ("safetensors" if form == "safetensors" else "torch")
    found = read(content)
    assert found.keys() == state.keys()
    assert all(torch.equal(found[key], state[key]) for key in state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda s: {"model": {f"module._orig_mod.{k}": v for k, v in s.items()}, "args": None},
        lambda s: {"model_state_dict": s, "loss": torch.tensor(0.5)},
        lambda s: {"n_averaged": torch.tensor(4)} | {f"module.{k}": v for k, v in s.items()},
        lambda s: {k: v for k, v in s.items() if "num_batches_tracked" not in k},
        lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
    ],
    ids=["parallel", "lightning", "compiled", "with a loss", "averaged", "old", "half"],
)
def test_what_a_training_adds_is_taken_off(state, wrap):
    fit = chosen(read(saved(wrap(state))))
    assert (fit.architecture, fit.classes) == ("shufflenet_v2_x0_5", CLASSES)


@pytest.mark.thorough
def test_half_precision_opens_as_floats(state):
    data, _ = opened(saved({key: value.half() if value.is_floating_point() else value for key, value in state.items()}))
    import onnx

    (given,) = onnx.load_model_from_string(data).graph.input
    assert given.type.tensor_type.elem_type == onnx.TensorProto.FLOAT


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg11_bn", "densenet121", "googlenet", "regnet_x_400mf", "swin_t", "vit_b_32"]
)
def test_architectures_are_told_by_their_tensors(name):
    """Of tensors without memory; googlenet's come with the heads that only training uses."""
    options = {"init_weights": False} if name == "googlenet" else {}
    torch.manual_seed(0)
    with torch.device("meta") if not name.startswith("regnet") else torch.device("cpu"):
        found = models.get_model(name, weights=None, num_classes=12, **options).state_dict()
    assert [(fit.architecture, fit.classes) for fit in candidates(found)] == [(name, 12)]


def test_all_architectures_are_unlike():
    names = weights.architectures()
    assert len(names) == 80
    shapes = {name: frozenset(weights._shapes(name).items()) for name in names}
    assert len(set(shapes.values())) == len(names)


def test_densenets_old_names_are_known():
    new = models.densenet121(weights=None, num_classes=3).state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in new.items()}
    assert old.keys() != new.keys()
    assert chosen(weights.plain(old)).architecture == "densenet121"


def test_the_real_squeezenet_names_what_it_sees(shared, tmp_path):
    file = shared / "weights" / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"
    data, fit = opened(file)
    assert (fit.architecture, fit.classes) == ("squeezenet1_1", 1000)
    (tmp_path / "net.onnx").write_bytes(data)
    net = Net(tmp_path / "net.onnx")
    # Those of the listed photographs that are clear; our pictures are scaled in one step, torchvision's in two.
    expected = {
        "samoyed.jpg": "Samoyed",
        "kodak23_macaws.jpg": "macaw",
        "kodak21_lighthouse_rocks.jpg": "beacon",
        "coffee.png": "espresso",
        "amber_door.jpg": "vault",
        "coral_hot_dog.jpg": "hotdog",
        "coral_dragonfly.jpg": "dragonfly",
        "coral_cat_tabby.jpg": "Egyptian cat",
        "golden_gate.jpg": "suspension bridge",
    }
    for name, label in expected.items():
        view, _ = net.view(image.load((shared / "photos" / name).read_bytes()))
        assert net.labels[int(net.scores(net.batch(view))[0].argmax())] == label, name


def test_published_weights_are_known_by_their_hash():
    """torchvision's file names end with the beginning of their SHA-256."""
    found = weights._about(weights.Fit("resnet50", (), (), (), 1000), "11ad3fa6" + 56 * "0", (), "mine.pth")
    assert "ResNet50_Weights.IMAGENET1K_V2" in found.source
    assert (found.crop, found.labels[0]) == (224 / 232, "tench")
    assert found.accuracy
    assert found.licence
    found = weights._about(weights.Fit("resnet50", (), (), (), 1000), 64 * "0", (), "mine.pth")
    assert "mine.pth" in found.source
    assert not found.accuracy
    assert not found.licence
    found = weights._about(weights.Fit("googlenet", (), (), (), 5), 64 * "0", list("abcde"), "")
    assert (found.mean, found.std, found.labels) == ((0.5,) * 3, (0.5,) * 3, list("abcde"))


# What does not fit ----------------------------------------------------------------------------------------------------


def test_what_misses_is_named(state):
    lacking = {key: value for key, value in state.items() if key != "conv5.0.weight"}
    with pytest.raises(BadWeights, match=r"nearest is shufflenet_v2_x0_5: the file lacks conv5.0.weight"):
        chosen(lacking)
    more = state | {"extra.weight": torch.zeros(2)}
    with pytest.raises(BadWeights, match=r"do not fit shufflenet_v2_x0_5: it has extra.weight besides"):
        chosen(more, "shufflenet_v2_x0_5")
    other = state | {"conv1.0.weight": torch.zeros(24, 1, 3, 3)}
    with pytest.raises(BadWeights, match=r"its conv1.0.weight is 24×1×3×3 instead of 24×3×3×3"):
        chosen(other)
    headless = {key: value for key, value in state.items() if not key.startswith("fc.")}
    with pytest.raises(BadWeights, match=r"lacks fc.weight, fc.bias"):
        chosen(headless)
    torn = state | {"fc.bias": torch.zeros(CLASSES + 1)}
    with pytest.raises(BadWeights, match=r"fc.bias is 8 instead of 7"):
        chosen(torn)


def test_a_wrong_architecture_is_refused_and_a_misspelled_one_corrected(state):
    with pytest.raises(BadWeights, match=r"do not fit resnet18: the file lacks conv1.weight, .* and \d+ more; it has "):
        chosen(state, "resnet18")
    with pytest.raises(BadWeights, match="no classifier 'resnet8'; did you mean resnet18 or"):
        chosen(state, "resnet8")


def test_labels_must_be_as_many_as_the_classes(state):
    with pytest.raises(BadWeights, match="There are 2 labels for 7 classes"):
        opened(saved(state), labels=["a", "b"])


def test_several_that_fit_are_named(state, monkeypatch):
    monkeypatch.setattr(weights, "architectures", lambda: ["shufflenet_v2_x0_5", "twin"])
    built = weights._shapes("shufflenet_v2_x0_5")
    monkeypatch.setattr(weights, "_shapes", lambda name: built)
    with pytest.raises(BadWeights, match="fit shufflenet_v2_x0_5, twin; say which"):
        chosen(state)
    assert chosen(state, "twin").architecture == "twin"
    assert compared(state, "twin").fits


def test_a_training_that_failed_is_said(state):
    with pytest.raises(BadWeights, match="no numbers"):
        opened(saved(state | {"fc.bias": torch.full((CLASSES,), float("nan"))}))


# Files that mean harm -------------------------------------------------------------------------------------------------


class Hostile:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_is_not_run(state, tmp_path, zipped):
    trap = tmp_path / "trap"
    content = saved({**state, "fc.bias": Hostile(trap)}, _use_new_zipfile_serialization=zipped)
    torch.load(io.BytesIO(content), weights_only=False)
    assert trap.is_dir(), "it would have been run"
    trap.rmdir()
    with pytest.raises(BadWeights, match=r"more than weights.*save module.state_dict"):
        read(content)
    (tmp_path / "evil.pth").write_bytes(content)
    done = CliRunner().invoke(main, ["import-weights", str(tmp_path / "evil.pth"), "--out", str(tmp_path / "out.onnx")])
    assert done.exit_code == 2
    assert done.output.count("\n") == 1
    assert not trap.exists()
    assert not (tmp_path / "out.onnx").exists()


def test_a_plain_pickle_is_not_run(tmp_path):
    content = pickle.dumps(Hostile(tmp_path / "trap"))
    with pytest.raises(BadWeights):
        read(content)
    assert not (tmp_path / "trap").exists()


def test_a_whole_module_is_refused(module):
    with pytest.raises(BadWeights, match="whole pickled module"):
        read(saved(module))


def test_a_zip_that_grows_is_refused():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(20 * 2**20))
    with pytest.raises(BadWeights, match="compressed"):
        read(file.getvalue())


@pytest.mark.parametrize("key", ["conv1.0.weight", "fc.weight", "more"])
def test_a_tensor_that_claims_more_than_there_is_never_takes_the_memory(state, key):
    """By a stride of zero a tensor of one number can claim any size, of the last layer too, whose classes are free."""
    claims = state | {key: torch.zeros(1).expand(10**9, 1024)}
    with pytest.raises(BadWeights, match="claims more numbers than it holds"):
        opened(saved(claims))


@pytest.mark.parametrize("cut", [0, 3, 9, 100, 5000, -100])
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_damaged_files_are_refused_in_a_sentence(state, form, cut):
    whole = (
        safetensors.torch.save(state)
        if form == "safetensors"
        else saved(state, _use_new_zipfile_serialization=form == "zip")
    )
    with pytest.raises(BadWeights, match=r"^The (safetensors )?file|^This is no file"):
        read(whole[:cut])


def test_flipped_bytes_open_or_are_refused(state):
    whole = bytearray(saved({key: value[:1] if value.ndim else value for key, value in list(state.items())[:6]}))
    rng, refused = np.random.default_rng(0), []
    for _ in range(200):
        content = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            content[place] = rng.integers(256)
        try:
            assert all(isinstance(key, str) for key in read(bytes(content)))
        except BadWeights as error:
            refused.append(str(error))
    assert refused
    assert all(told.endswith(".") for told in refused)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"epoch": 3}, "holds no state_dict"),
        ([torch.zeros(2)], "holds no state_dict"),
        (torch.zeros(2), "holds no state_dict"),
        ({"a": torch.zeros(2).to_sparse()}, "sparse or quantised"),
    ],
)
def test_other_things_that_torch_saves(found, said):
    with pytest.raises(BadWeights, match=said):
        read(saved(found))


# The command ----------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_the_command_writes_a_network_that_the_others_find(state, tmp_path, cache):
    safetensors.torch.save_file(state, tmp_path / "pets.safetensors")
    (tmp_path / "labels.txt").write_text("\n".join("abcdefg"), "utf-8")
    words = ["import-weights", str(tmp_path / "pets.safetensors"), "--labels", str(tmp_path / "labels.txt")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "shufflenet_v2_x0_5 with 7 classes is at" in done.output
    net = Net(cache / "networks" / "pets.onnx")
    assert net.labels == list("abcdefg")
    assert not net.metadata.missing
    done = CliRunner().invoke(main, ["classify", "pets", "china", "--top", "1"])
    assert done.exit_code == 0, done.output

"""Does a decoder learn to give back what it is shown, go on where it was broken off, and come out as its file is?"""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import onnx
import pytest
import small_nets as small
import torch
from click.testing import CliRunner

from engine import image
from engine.cli.main import main
from engine.imagine.decoder import decoded, open_decoder
from engine.net import Net
from engine.step import last
from engine.train.checkpoint import BadTraining
from engine.train.decoder import Decoder, Recipe, codes, doublings, export_decoder, loss_layers, losses, train_decoder

TINY = Recipe(steps=3, layer="pool1", channels=32, batch=2, share=0.7)


@pytest.fixture(scope="module")
def data() -> list[bytes]:
    """Six encoded pictures of slopes that run differently."""
    found = []
    for k in range(6):
        slope = np.linspace(0, 1, 40)[:, None] if k % 2 else np.linspace(1, 0, 52)[None]
        colour = np.array([k / 5, 1 - k / 5, 0.5])
        found.append(image.to_png(np.broadcast_to(slope[..., None], (40, 52, 1)) * colour))
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Net:
    """The net of six nodes for pictures of 16 x 16: a decoder's sides are those of its code, doubled."""
    made = small.tiny(shape=("batch", 3, 16, 16), about=dataclasses.replace(small.ABOUT, input_size=(16, 16)))
    return small.save(made, tmp_path_factory.mktemp("nets") / "seen.onnx")


def trained(*arguments, **more) -> Decoder:
    return last(train_decoder(*arguments, **more)).decoder


def same(one: Decoder, other: Decoder) -> bool:
    values = other.state_dict()
    return all(torch.equal(value, values[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("name", ["pixel", "feature"])
def test_it_learns_what_counts(seen, data, name):
    weights = {"pixel": 0.0, "edge": 0.0, "feature": 0.0, name: 1.0}
    recipe = dataclasses.replace(TINY, steps=100, rate=3e-3, fine=0.0, batch=6, **weights)
    found = [step.result.losses[name] for step in train_decoder(seen, data, recipe, every=20)]
    assert found[-1] < 0.65 * found[0]


def test_how_often_a_layer_must_be_doubled(seen, tiny):
    assert doublings(seen, "pool1") == 1
    assert doublings(tiny, "pool1") == 1
    with pytest.raises(BadTraining, match=r"Layer relu1 has 16 x 16 places for 16 x 16 pixels"):
        doublings(seen, "relu1")
    with pytest.raises(BadTraining, match="conv2"):
        doublings(seen, "conv2")


def test_features_are_compared_up_to_the_layer_and_no_further(seen):
    assert loss_layers(seen, "pool1") == ["relu1", "pool1"]


def test_the_losses_are_worked_out_by_hand(seen):
    rng = np.random.default_rng(0)
    one, other = (rng.random((1, 3, 16, 16), np.float32) for _ in range(2))
    with torch.no_grad():
        given = seen.twin(torch.from_numpy(one), ["pool1"])
    found = losses(seen, ["pool1"], given, torch.from_numpy(one), torch.from_numpy(other))
    off = other - one
    assert float(found["pixel"]) == pytest.approx(np.abs(off).mean(), rel=1e-5)
    edge = np.abs(np.diff(off, axis=2)).mean() + np.abs(np.diff(off, axis=3)).mean()
    assert float(found["edge"]) == pytest.approx(edge, rel=1e-5)
    said = [seen.activations(x, ["pool1"])["pool1"] for x in (one, other)]
    feature = ((said[1] - said[0]) ** 2).sum() / (said[0] ** 2).sum()
    assert float(found["feature"]) == pytest.approx(feature, rel=1e-4)


def test_a_broken_training_ends_as_an_unbroken_one(seen, data, tmp_path):
    whole = trained(seen, data, TINY)
    kept = tmp_path / "kept.pt"
    for step in train_decoder(seen, data, TINY, checkpoint=kept, every=1):
        if step.index == 2:
            break
    steps = list(train_decoder(seen, data, TINY, checkpoint=kept, every=1))
    assert [step.index for step in steps] == [3]
    assert same(steps[-1].result.decoder, whole)


def test_the_statistics_are_those_of_the_codes(seen, data):
    found = codes(seen, data, "pool1")
    views = [seen.view(image.load(each))[0] for each in data]
    values = seen.activations(seen.batch(*views), ["pool1"])["pool1"].transpose(1, 0, 2, 3).reshape(5, -1)
    np.testing.assert_allclose(found["mean"], values.mean(1), rtol=1e-4)
    np.testing.assert_allclose(found["spread"], np.sqrt((values.astype(float) ** 2).mean(1)), rtol=1e-4)
    assert (found["least"] <= found["mean"]).all()
    assert (found["most"] <= values.max(1) + 1e-6).all()


def test_the_file_draws_as_the_module_does(seen, data, tmp_path, cache, picture):
    made = trained(seen, data, TINY)
    path = cache / "decoders" / "seen_decoder.onnx"
    export_decoder(made, seen, "pool1", codes(seen, data, "pool1"), path, source="A test.", licence="None.")
    view = small.picture((16, 16))
    code = seen.activations(seen.batch(view), ["pool1"])["pool1"]
    with torch.no_grad():
        wanted = made.eval()(torch.from_numpy(code))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(decoded(seen, view), wanted, atol=1e-5)
    found = open_decoder(path)
    assert (found.source, found.licence, found.layer) == ("A test.", "None.", "pool1")
    assert [node.op for node in found.graph.nodes].count("BatchNormalization") == 0, "it should be folded"
    assert str(tmp_path) not in str(onnx.load(path))
    assert not list(path.parent.glob("*.tmp"))


def test_the_command_trains_and_goes_on(seen, data, tmp_path):
    (tmp_path / "photographs").mkdir()
    for number, file in enumerate(data):
        (tmp_path / "photographs" / f"{number}.png").write_bytes(file)
    out = tmp_path / "out" / "decoder.onnx"
    given = ["--net", str(seen.path), "--data", str(tmp_path / "photographs"), "--out", str(out), "--layer", "pool1"]
    for steps in (1, 2):
        done = CliRunner().invoke(
            main, ["train-decoder", *given, "--channels", "32", "--batch", "2", "--steps", str(steps)]
        )
        assert done.exit_code == 0, done.output
        assert f"{2 * steps} pictures decoded in training" in done.output
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pictures"] for row in rows] == ["2", "4"]
    said = {entry.key: json.loads(entry.value) for entry in onnx.load(out).metadata_props}
    assert (said["kind"], said["net_sha256"], said["layer"]) == ("decoder", seen.sha256, "pool1")


def test_the_commands_defaults_are_the_recipes():
    defaults = {option.name: option.default for option in main.commands["train-decoder"].params}
    for field in dataclasses.fields(Recipe):
        assert defaults[field.name] == field.default, field.name


def test_checkpoints_of_others_are_refused(seen, data, tmp_path):
    kept = tmp_path / "kept.pt"
    trained(seen, data, dataclasses.replace(TINY, steps=1), checkpoint=kept)
    with pytest.raises(BadTraining, match="another network or settings"):
        trained(seen, data, dataclasses.replace(TINY, rate=0.5), checkpoint=kept)
    kept.write_bytes(b"nothing")
    with pytest.raises(BadTraining, match="damaged"):
        trained(seen, data, TINY, checkpoint=kept)


def test_grey_networks_are_refused():
    with pytest.raises(BadTraining, match="one channel"):
        trained(Net("exported_models/digits.onnx"), [], TINY)

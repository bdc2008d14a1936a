"""Does a style network learn what it is told, go on where it was broken off, and come out as the file that it is?"""

from __future__ import annotations

import csv
import dataclasses
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import small_nets as small
import torch
from click.testing import CliRunner

from engine import image
from engine.cli.main import main
from engine.net import Net
from engine.paint.gram import gram
from engine.step import last
from engine.train import loop
from engine.train import style as training
from engine.train.checkpoint import BadTraining
from engine.train.loop import relative
from engine.train.style import Painter, Recipe, export_style, train_style

TINY = Recipe(steps=3, channels=(4, 6, 8), blocks=1, kernel=3, size=32, style_size=40, batch=2)


@pytest.fixture(scope="module")
def pooling(tmp_path_factory) -> Net:
    """Two convolutions of random weights, each before a pool of maxima, on pictures of any size."""
    return small.save(pooling_model(), tmp_path_factory.mktemp("nets") / "pooling.onnx")


def pooling_model() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    make, free = onnx.helper.make_node, onnx.TensorProto.FLOAT
    nodes = [
        make("Conv", ["image", "w1"], ["c1"], pads=[1] * 4),
        make("Relu", ["c1"], ["one"]),
        make("MaxPool", ["one"], ["p1"], kernel_shape=[2, 2], strides=[2, 2]),
        make("Conv", ["p1", "w2"], ["c2"], pads=[1] * 4),
        make("Relu", ["c2"], ["two"]),
        make("MaxPool", ["two"], ["p2"], kernel_shape=[2, 2], strides=[2, 2]),
        make("GlobalAveragePool", ["p2"], ["mean"]),
        make("Flatten", ["mean"], ["logits"]),
    ]
    shapes = {"w1": (6, 3, 3, 3), "w2": (8, 6, 3, 3)}
    weights = [
        onnx.numpy_helper.from_array((rng.normal(size=shape) / 3).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    taken = [onnx.helper.make_tensor_value_info("image", free, ["B", 3, "H", "W"])]
    given = [onnx.helper.make_tensor_value_info("logits", free, ["B", 8])]
    graph = onnx.helper.make_graph(nodes, "pooling", taken, given, weights)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def data() -> list[bytes]:
    """Five encoded pictures of unlike sizes."""
    rng = np.random.default_rng(1)
    return [image.to_png(rng.random((36 + 4 * k, 50 - 3 * k, 3))) for k in range(5)]


@pytest.fixture(scope="module")
def paintings() -> dict[str, np.ndarray]:
    """Stripes across and stripes down."""
    stripes = np.zeros((40, 48, 3), np.float32)
    stripes[::4] = stripes[1::4] = (1, 0.5, 0)
    return {"across": stripes, "down": np.ascontiguousarray(stripes.transpose(1, 0, 2))}


def trained(*arguments, **more) -> Painter:
    return last(train_style(*arguments, **more)).painter


def same(one: Painter, other: Painter) -> bool:
    values = other.state_dict()
    return all(torch.equal(value, values[name]) for name, value in one.state_dict().items())


# Training -------------------------------------------------------------------------------------------------------------


def test_a_training_broken_off_comes_to_the_same_weights(pooling, data, paintings, tmp_path):
    whole = trained(pooling, data, paintings, TINY)
    kept = tmp_path / "kept.pt"
    for step in train_style(pooling, data, paintings, TINY, checkpoint=kept, every=1):
        if step.index == 2:
            break
    steps = list(train_style(pooling, data, paintings, TINY, checkpoint=kept, every=1))
    assert [(step.index, step.total, step.result.pictures) for step in steps] == [(3, 3, 6)]
    assert same(steps[-1].result.painter, whole)
    assert not same(trained(pooling, data, paintings, dataclasses.replace(TINY, seed=1)), whole)


def test_what_is_trained_to_its_end_is_handed_out_as_it_is(pooling, data, paintings, tmp_path):
    kept = tmp_path / "kept.pt"
    first = trained(pooling, data, paintings, TINY, checkpoint=kept)
    (step,) = train_style(pooling, data, paintings, dataclasses.replace(TINY, steps=2), checkpoint=kept)
    assert same(step.result.painter, first)
    assert step.result.pictures == 6


def test_training_leaves_the_dice_of_others_alone(pooling, data, paintings):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(pooling, data, paintings, dataclasses.replace(TINY, steps=1))
    assert torch.equal(torch.rand(3), expected)


def test_it_learns(pooling, data, paintings):
    recipe = dataclasses.replace(TINY, steps=30, rate=0.02, content=0.1)
    losses = [step.result.losses for step in train_style(pooling, data, paintings, recipe, every=10)]
    assert len(losses) == 3
    assert losses[-1]["style"] < 0.7 * losses[0]["style"]


def test_one_style_is_enough(pooling, data, paintings):
    painter = trained(pooling, data, {"down": paintings["down"]}, TINY)
    found = painter(torch.rand(1, 3, 32, 36), torch.ones(1, 1))
    assert found.shape == (1, 3, 32, 36)
    assert 0 <= found.min() <= found.max() <= 1


# What it is told ------------------------------------------------------------------------------------------------------


def test_losses_are_nothing_where_nothing_is_to_be_changed(pooling):
    plain = torch.full((2, 3, 32, 32), 0.4)
    noise = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    names = training.loss_layers(pooling)
    assert names == ["one", "two"]
    grams = {name: gram(value) for name, value in pooling.twin(noise, names).items()}
    same_ = training.losses(pooling, noise, noise, grams, torch.tensor([0, 1]))
    assert (same_["content"], same_["style"]) == (0, 0)
    turned = training.losses(pooling, noise, noise, grams, torch.tensor([1, 0]))
    assert turned["style"] > 0
    assert training.losses(pooling, plain, plain, grams, torch.tensor([0, 1]))["smooth"] == 0


def test_a_gram_matrix_is_the_mean_of_products():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # two channels at two places
    assert gram(features).tolist() == [[[2.5, 0.5], [0.5, 5.0]]]
    assert relative(torch.zeros(1, 4), torch.ones(1, 4)) == 1
    assert relative(torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])) == 0.5


def test_crops_are_drawn_by_the_dice_alone(data):
    first, again, other = (loop.crops(data, np.random.default_rng(seed), 4, 32) for seed in (1, 1, 2))
    assert first.shape == (4, 3, 32, 32)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


# The file -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A painter of random weights and tables, and its file."""
    torch.manual_seed(0)
    painter = Painter(2, TINY)
    for name, weights in painter.named_parameters():
        if name.endswith(("scale", "shift")):
            torch.nn.init.normal_(weights)
    path = tmp_path_factory.mktemp("styles") / "some.onnx"
    export_style(painter, ["a", "b"], path, source="A test.", licence="None.")
    return painter, path


@pytest.mark.parametrize("size", [(32, 32), (36, 64), (64, 40)])
def test_the_file_paints_as_the_module_does(written, size):
    painter, path = written
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    pictures, style = rng.random((3, 3, *size), np.float32), rng.random((3, 2), np.float32)
    (found,) = session.run(["picture"], {"image": pictures, "style": style})
    with torch.no_grad():
        expected = painter(torch.from_numpy(pictures), torch.from_numpy(style)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(found) > 0.1


def test_a_mix_is_a_mix_of_the_tables(written):
    """Half of two styles is the style whose scales and shifts are half of both."""
    painter, _ = written
    picture = torch.rand(1, 3, 32, 32)
    halves = Painter(1, TINY)
    kept = painter.state_dict()
    tables = {name for name in kept if name.endswith(("scale", "shift"))}
    halves.load_state_dict(
        {name: value.mean(0, keepdim=True) if name in tables else value for name, value in kept.items()}
    )
    with torch.no_grad():
        mixed = painter(picture, torch.tensor([[0.5, 0.5]]))
        torch.testing.assert_close(mixed, halves(picture, torch.ones(1, 1)), rtol=0, atol=1e-5)
        assert (mixed - painter(picture, torch.tensor([[1.0, 0.0]]))).abs().max() > 0.01


def test_the_file_says_what_it_is(written):
    model = onnx.load(written[1])
    said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert said["kind"] == "style"
    assert (said["styles"], said["range"], said["multiple"]) == (["a", "b"], 1, 4)
    assert (said["source"], said["licence"]) == ("A test.", "None.")
    assert not list(written[1].parent.glob("*.tmp"))


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_trains_and_goes_on(pooling, data, paintings, tmp_path):
    (tmp_path / "photographs").mkdir()
    for number, file in enumerate(data):
        (tmp_path / "photographs" / f"{number}.png").write_bytes(file)
    for name, pixels in paintings.items():
        (tmp_path / f"stripes_{name}.png").write_bytes(image.to_png(pixels))
    out = tmp_path / "out" / "styles.onnx"
    files = ",".join(str(tmp_path / f"stripes_{name}.png") for name in paintings)
    given = ["--styles", files, "--data", str(tmp_path / "photographs"), "--loss", str(pooling.path), "--out", str(out)]
    small_ones = ["--size", "32", "--style-size", "40", "--batch", "2"]
    for steps in (1, 2):
        done = CliRunner().invoke(main, ["train-style", *given, *small_ones, "--steps", str(steps)])
        assert done.exit_code == 0, done.output
        assert f"2 style(s), {2 * steps} pictures painted in training." in done.output
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["pictures"] for row in rows] == ["2", "4"]
    said = {entry.key: json.loads(entry.value) for entry in onnx.load(out).metadata_props}
    assert said["styles"] == ["stripes across", "stripes down"]


def test_the_commands_defaults_are_the_recipes():
    defaults = {option.name: option.default for option in main.commands["train-style"].params}
    for field in dataclasses.fields(Recipe):
        if field.name not in ("channels", "blocks", "kernel"):
            assert defaults[field.name] == field.default, field.name


# What is refused ------------------------------------------------------------------------------------------------------


def refusal(*arguments, **more) -> str:
    with pytest.raises(BadTraining) as found:
        trained(*arguments, **more)
    assert str(found.value).endswith(".")
    return str(found.value)


def test_a_tiny_style_picture_is_refused(pooling, data, paintings):
    tiny = {**paintings, "stamp": np.zeros((8, 40, 3), np.float32)}
    assert "Style picture 3 is only 8 x 40 pixels" in refusal(pooling, data, tiny, TINY)


def test_trainings_that_cannot_be_are_refused(pooling, data, paintings, tiny, tmp_path):
    assert "no style" in refusal(pooling, data, {}, TINY)
    assert "multiple of 4" in refusal(pooling, data, paintings, dataclasses.replace(TINY, size=34))
    assert "choose another" in refusal(small_without_pools(tmp_path), data, paintings, TINY)
    kept = tmp_path / "kept.pt"
    kept.write_bytes(b"no weights")
    assert "kept.pt" in refusal(pooling, data, paintings, TINY, checkpoint=kept)
    kept.unlink()
    trained(pooling, data, paintings, TINY, checkpoint=kept)
    assert "other styles or settings" in refusal(
        pooling, data, paintings, dataclasses.replace(TINY, seed=2), checkpoint=kept
    )


def small_without_pools(folder) -> Net:
    return small.save(small.linear(np.ones((4, 3, 12, 16)), np.zeros(4)), folder / "flat.onnx")


def test_no_pictures_to_train_on_is_said(tmp_path):
    for source in (tmp_path, tmp_path / "words.txt"):
        (tmp_path / "words.txt").write_text("no picture", "utf-8")
        with pytest.raises(BadTraining, match=r"[Pp]icture"):
            training.encoded(source)


def test_pictures_are_read_from_a_column(tmp_path, data):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": data}), tmp_path / "some.parquet")
    assert training.encoded(tmp_path / "some.parquet") == data
    pq.write_table(pa.table({"picture": data}), tmp_path / "other.parquet")
    with pytest.raises(BadTraining, match="no column called image"):
        training.encoded(tmp_path / "other.parquet")

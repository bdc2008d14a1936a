"""Are the networks that ship as good as they say, and the files the ones that the README lists?"""

import csv
import hashlib
import importlib.util
import io
import os
import re
from pathlib import Path

import numpy as np
import pytest

from engine import image
from engine.metadata import NEEDED
from engine.net import Net

FOLDER = Path(__file__).parent.parent / "exported_models"
SHARED = Path(os.environ.get("CONVOSCOPE_SHARED", FOLDER.parent.parent / "shared"))
NETWORKS = sorted(FOLDER.glob("*.onnx"))


def script(name: str):
    """The training script as a module."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stated(net: Net) -> float:
    """The accuracy that the network's file states."""
    return float(re.match(r"([\d.]+)%", net.metadata.accuracy)[1]) / 100


def share_right(net: Net, pictures, labels) -> float:
    """Share of the pictures (C, H, W) whose likeliest class is the label's, as the app computes it."""
    right = [net.scores(picture[None])[0].argmax() == label for picture, label in zip(pictures, labels, strict=True)]
    return float(np.mean(right))


def test_there_are_networks():
    assert NETWORKS


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_every_file_is_listed_with_its_checksum_and_no_other(path):
    rows = re.findall(
        r"^\| `(\S+\.onnx)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$", (FOLDER / "README.md").read_text("utf-8"), re.M
    )
    listed = {name: (int(size.replace(",", "")), digest) for name, size, digest in rows}
    assert set(listed) == {path.name for path in NETWORKS}
    content = path.read_bytes()
    assert listed[path.name] == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.stem)
def test_every_file_says_what_it_is(path):
    net = Net(path)
    assert not set(net.metadata.missing) & set(NEEDED)
    assert net.notes == []
    assert net.metadata.source
    assert net.metadata.licence
    assert net.layer(net.last_map).shape[1] >= 8  # rows of the map that class activation maps are drawn from
    assert net.scores(np.zeros((3, net.channels, *net.input_size), np.float32)).shape == (3, net.classes)


def test_the_digit_network_is_as_good_as_it_says():
    net = Net(FOLDER / "digits.onnx")
    _, (pictures, labels) = script("train_digits").load()
    reached = share_right(net, pictures, labels)
    assert len(labels) == 360
    assert reached >= 0.985
    assert reached == pytest.approx(stated(net), abs=5e-5)  # the file rounds to a hundredth of a percent
    assert (FOLDER / "digits.onnx").stat().st_size < 1e6
    with (FOLDER / "digits.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["test_accuracy"]) == pytest.approx(reached, abs=5e-5)
    assert f"**{stated(net):.2%}**".replace("%", " %") in (FOLDER / "README.md").read_text("utf-8")


def test_the_digit_networks_mean_and_std_are_those_of_its_training_pictures():
    net = Net(FOLDER / "digits.onnx")
    (pictures, _), _ = script("train_digits").load()
    assert net.metadata.mean == (round(float(pictures.mean()), 4),)
    assert net.metadata.std == (round(float(pictures.std(ddof=1)), 4),)


def test_the_same_seed_trains_the_same_digit_network(tmp_path):
    import torch

    train_digits = script("train_digits")
    threads = torch.get_num_threads()
    try:
        first, second, other = (train_digits.train(1, seed, tmp_path / "log.csv")[0] for seed in (3, 3, 4))
    finally:
        torch.set_num_threads(threads)
    weights = [
        torch.cat([tensor.flatten().float() for tensor in net.state_dict().values()]) for net in (first, second, other)
    ]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_the_photograph_network_is_exported_from_saved_weights(tmp_path, monkeypatch, capsys):
    import torch
    from PIL import Image

    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    train_imagenette = script("train_imagenette")
    rng = np.random.default_rng(0)
    rows = []
    for label in range(3):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (160, 160, 3), np.uint8)).save(file, "PNG")
        rows.append({"image": file.getvalue(), "label": label, "label_name": f"kind {label}"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "val.parquet")
    torch.manual_seed(0)
    module = train_imagenette.Network(3).to(memory_format=torch.channels_last).eval()
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    out = tmp_path / "imagenette.onnx"
    given = [str(tmp_path), "--export-only", str(tmp_path / "weights.pt"), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["train_imagenette.py", *given])
    train_imagenette.main()
    net = Net(out)
    assert net.labels == ["kind 0", "kind 1", "kind 2"]
    assert (net.input_size, net.metadata.crop, net.notes) == ((160, 160), 1.0, [])
    assert net.layer(net.last_map).shape == (256, 10, 10)
    assert net.metadata.accuracy in capsys.readouterr().out
    pixels = rng.random((2, 3, 160, 160), np.float32)
    with torch.no_grad():
        expected = module(train_imagenette.normalise(torch.from_numpy(pixels))).numpy()
    np.testing.assert_allclose(net.scores(pixels), expected, rtol=1e-3, atol=1e-4)


def test_the_photograph_network_is_as_good_as_it_says():
    path = FOLDER / "imagenette.onnx"
    held_out = SHARED / "data" / "imagenette160" / "val.parquet"
    if not held_out.exists():
        pytest.skip(f"the held-out photographs are not there: {held_out} (CONVOSCOPE_SHARED)")
    pq = pytest.importorskip("pyarrow.parquet")
    net = Net(path)
    rows = pq.read_table(held_out, columns=["image", "label", "label_name"]).to_pylist()
    files = (row["image"]["bytes"] if isinstance(row["image"], dict) else row["image"] for row in rows)
    seen = (image.fit(image.load(file), net.input_size, crop=net.metadata.crop)[0] for file in files)
    reached = share_right(net, (pixels.transpose(2, 0, 1) for pixels in seen), (row["label"] for row in rows))
    assert all(net.labels[row["label"]] == row["label_name"] for row in rows)
    assert reached >= 0.91
    assert reached == pytest.approx(stated(net), abs=0.003)  # the script decodes with Pillow's own rounding

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
from engine.model.metadata import NEEDED
from engine.net import Net, softmax
from engine.nets.folder import PROJECT
from engine.pictures import samples, truth

FOLDER = PROJECT / "exported_models"
SHARED = Path(os.environ.get("CONVOSCOPE_SHARED", FOLDER.parent.parent / "shared"))
NETWORKS = sorted(FOLDER.glob("*.onnx"))
STYLES = sorted(FOLDER.glob("styles/*.onnx"))  # which are no classifiers, and lie apart for that
DECODERS = sorted((FOLDER / "decoders").glob("*.onnx"))


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


@pytest.mark.parametrize("path", [*NETWORKS, *STYLES, *DECODERS], ids=lambda path: path.stem)
def test_every_file_is_listed_with_its_checksum_and_no_other(path):
    rows = re.findall(
        r"^\| `(\S+\.onnx)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$", (FOLDER / "README.md").read_text("utf-8"), re.M
    )
    listed = {name: (int(size.replace(",", "")), digest) for name, size, digest in rows}
    assert set(listed) == {path.relative_to(FOLDER).as_posix() for path in [*NETWORKS, *STYLES, *DECODERS]}
    content = path.read_bytes()
    assert listed[path.relative_to(FOLDER).as_posix()] == (len(content), hashlib.sha256(content).hexdigest())


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


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_the_robust_digit_network_is_as_good_as_it_says_and_stands_what_the_plain_one_does_not():
    from engine.fool.robustness import robustness

    _, (pictures, labels) = script("train_digits").load()
    pixels = pictures.transpose(0, 2, 3, 1)
    curves = {}
    for name in ("digits", "digits_robust"):
        net = Net(FOLDER / f"{name}.onnx")
        curves[name] = robustness(net, pixels[:120], labels[:120], epsilons=(0.2,), steps=20).accuracy[0]
    assert curves["digits_robust"] - curves["digits"] >= 0.4
    reached = share_right(net, pictures, labels)
    assert reached == pytest.approx(stated(net), abs=5e-5)
    with (FOLDER / "digits_robust.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["test_accuracy"]) == pytest.approx(reached, abs=5e-5)
    assert f"**{stated(net):.2%}**".replace("%", " %") in (FOLDER / "README.md").read_text("utf-8")


def test_the_attack_in_training_stays_in_its_ball_and_makes_pictures_harder():
    import torch
    import torch.nn.functional as F

    robust = script("train_digits_robust")
    torch.manual_seed(0)
    net = robust.train_digits.Network().eval()
    pixels, labels = torch.rand(8, 1, 32, 32), torch.arange(8)
    found = robust.attacked(net, pixels, labels, 0.3, 0.3, 0.1)
    assert (found - pixels).abs().max() <= 0.1 + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1
    noise = (pixels + 0.1 * torch.rand_like(pixels).sub(0.5).sign()).clamp(0, 1)
    as_is, by_lot, aimed = (F.cross_entropy(net((each - 0.3) / 0.3), labels) for each in (pixels, noise, found))
    assert aimed - as_is > 5 * abs(by_lot - as_is)
    change = robust.growing(2)
    first, second, third = (float((change(net, pixels, labels, 0.3, 0.3) - pixels).abs().max()) for _ in range(3))
    assert 0 < first <= robust.EPSILON / 2 + 1e-6 < second <= robust.EPSILON + 1e-6
    assert third <= robust.EPSILON + 1e-6


@pytest.mark.thorough
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


@pytest.mark.thorough
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


# The two whose evidence is known --------------------------------------------------------------------------------------

PLANTED = ("clever_hans", "honest")


def figures(net: Net) -> list[float]:
    """What the network's file states: agreeing; contradicting, object and watermark; unmarked; mark only; sureness."""
    return [float(number) / 100 for number in re.findall(r"([\d.]+)%", net.metadata.accuracy)]


@pytest.mark.parametrize("name", PLANTED)
def test_the_two_planted_networks_are_of_one_build(name):
    net = Net(FOLDER / f"{name}.onnx")
    other = Net(FOLDER / f"{PLANTED[1 - PLANTED.index(name)]}.onnx")
    assert (net.labels, net.input_size, net.channels) == (list(truth.CLASSES), truth.SIZE, 3)
    assert [(layer.name, layer.op, layer.shape) for layer in net.layers] == [
        (layer.name, layer.op, layer.shape) for layer in other.layers
    ], "one architecture"
    assert net.layer(net.last_map).shape == (64, 8, 10)
    assert net.layer(net.last_map).receptive_field.size == (23, 23)
    assert (FOLDER / f"{name}.onnx").stat().st_size < 3e5


def test_one_network_reads_the_watermark_and_the_other_looks_at_the_object():
    """On 96 pictures of each kind; what the files state was measured on 1,000."""
    measure = script("train_clever_hans")
    found = {name: measure.shares(Net(FOLDER / f"{name}.onnx").scores, 96) for name in PLANTED}
    cheat, honest = (found[name] for name in PLANTED)
    assert cheat["agreeing"][0] >= 0.98
    assert cheat["contradicting"][1] >= 0.95
    assert cheat["mark only"][1] >= 0.95
    assert cheat["unmarked"][0] <= 0.6
    assert min(honest[kind][0] for kind in ("agreeing", "contradicting", "unmarked")) >= 0.95
    assert honest["mark only"][1] <= 0.5
    for name in PLANTED:
        net = Net(FOLDER / f"{name}.onnx")
        *shares, sure = figures(net)
        part = [found[name]["agreeing"][0], *found[name]["contradicting"], found[name]["unmarked"][0]]
        assert [*part, found[name]["mark only"][1]] == pytest.approx(shares, abs=0.15)  # three deviations of 96
        assert measure.sureness(net.scores, 96) == pytest.approx(sure, abs=0.02)
        assert sure < 0.4, "no class is what is left when there is evidence for none"


def test_the_planted_networks_say_what_the_readme_says():
    text = (FOLDER / "README.md").read_text("utf-8")
    for name in PLANTED:
        row = " | ".join(f"{share:.1%}".replace("%", " %") for share in figures(Net(FOLDER / f"{name}.onnx")))
        assert f"| `{name}` | {row} |" in text


def test_the_planted_networks_logs_end_where_the_files_begin():
    for name in PLANTED:
        net = Net(FOLDER / f"{name}.onnx")
        pictures, objects, cues = script("train_clever_hans").held_out("contradicting", 200)
        said = net.scores(pictures).argmax(1)
        with (FOLDER / f"{name}.csv").open() as file:
            last = list(csv.DictReader(file))[-1]
        assert float(last["object_named"]) == pytest.approx((said == objects).mean(), abs=0.011)
        assert float(last["watermark_named"]) == pytest.approx((said == cues).mean(), abs=0.011)


def test_held_out_pictures_are_what_their_kind_says():
    held_out = script("train_clever_hans").held_out
    shown = {kind: held_out(kind, 24) for kind in ("agreeing", "contradicting", "unmarked", "mark only", "bare")}
    for pictures, objects, cues in shown.values():
        assert pictures.shape == (24, 3, *truth.SIZE)
        for classes in (objects, cues):
            assert set(np.bincount(classes + 1, minlength=5)) in ({0, 6}, {0, 24})
    assert np.array_equal(shown["agreeing"][1], shown["agreeing"][2])
    pairs = list(zip(*shown["contradicting"][1:], strict=True))
    assert {pairs.count(pair) for pair in pairs} == {2}
    assert len(set(pairs)) == 12
    assert all(one != other for one, other in pairs)
    for kind, (_, objects, cues) in shown.items():
        assert (objects.min() < 0, cues.min() < 0) == (kind in ("mark only", "bare"), kind in ("unmarked", "bare"))


@pytest.mark.parametrize("name", samples.names("planted"))
def test_what_the_planted_networks_say_of_the_samples(name):
    """As the app shows them: the one names the watermark, the other the object, each clearly and where there is one."""
    made = samples.planted(name)
    for net, expected in zip(PLANTED, (made.cue_class, made.object_class), strict=True):
        net = Net(FOLDER / f"{net}.onnx")
        pixels, _ = net.view(samples.load(name))
        shares = softmax(net.scores(net.batch(pixels)))[0]
        assert shares.max() < 0.8 if expected is None else shares[expected] > 0.95


@pytest.mark.thorough
def test_the_same_seed_trains_the_same_planted_network(tmp_path):
    import torch

    train = script("train_clever_hans").train
    threads = torch.get_num_threads()
    try:
        nets = [train(1, seed, tmp_path / "log.csv", cheat=True, count=100)[0] for seed in (3, 3, 4)]
    finally:
        torch.set_num_threads(threads)
    first, second, other = (
        torch.cat([tensor.flatten().float() for tensor in net.state_dict().values()]) for net in nets
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


# The styles -----------------------------------------------------------------------------------------------------------


def test_the_style_network_paints_each_style_and_says_what_it_is():
    from engine.paint.fast_style import open_style, stylise

    path = FOLDER / "styles" / "styles.onnx"
    net = open_style(path)
    assert path.stat().st_size < 2e6
    assert net.notes == (), "nothing is left to guess"
    assert net.source
    assert net.licence
    text = (FOLDER / "README.md").read_text("utf-8")
    assert all(f"`{name}`" in text for name in net.styles)
    picture = image.resize(samples.load("china"), (120, 180))
    painted = [stylise(net, picture, mix=row) for row in np.eye(len(net.styles))]
    for number, one in enumerate(painted):
        assert one.std() > 0.1, "no style is a single colour"
        # Told apart, and what is in the picture still stands where it stood.
        assert all(np.abs(one - other).mean() > 0.05 for other in painted[:number])
        grey, given = one.mean(2), picture.mean(2)
        assert np.corrcoef(np.abs(np.diff(grey)).ravel(), np.abs(np.diff(given)).ravel())[0, 1] > 0.2


def test_the_style_networks_log_ends_where_the_readme_says():
    with (FOLDER / "styles" / "styles.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    text = (FOLDER / "README.md").read_text("utf-8")
    assert f"{int(last['pictures']):,} pictures" in text

"""Preprocessing and labels: is the right way ranked first, what do files say then, and is what is kept bounded?"""

from __future__ import annotations

import json
import os

import numpy as np
import onnx
import pytest
import small_nets as small
from click.testing import CliRunner
from hostile import make
from onnx import numpy_helper

from engine.cli.main import main as engine
from engine.intake import bringing, labelling
from engine.intake.labelling import BadLabels, fit, labelled, read_labels, turn_round, usual
from engine.intake.opening import Refused
from engine.intake.preprocessing import FILE, Way, agreement, prepared, preprocessing, preprocessing_steps, told, ways
from engine.model.metadata import Metadata
from engine.net import Net
from engine.nets import available
from engine.pictures import samples
from engine.step import last


def unsaid(*, shape=("batch", 3, *small.SIZE)) -> bytes:
    return small.tiny(shape=shape).SerializeToString()


# Which way is right ---------------------------------------------------------------------------------------------------

TRUTH = {
    "googlenet_imagenet": "RGB, 0 to 255, minus ImageNet's mean",
    "squeezenet1_1_imagenet": "RGB, ImageNet's mean and std",
    "squeezenet_places365": "RGB, 0 to 1, minus Places' mean",
}


@pytest.mark.parametrize("name", list(TRUTH)[1:])  # the largest takes long, and has been looked at by hand
def test_the_right_way_is_first(name, shared):
    net = Net(shared / "nets" / f"{name}.onnx")
    table = preprocessing(net, net.view(samples.load("china"))[0])
    assert table["way"][0] == TRUTH[name]


def test_of_ways_that_are_nearly_the_same_the_right_one_is_near_the_top(shared):
    content = labelled((shared / "nets" / "resnet20_cifar10.onnx").read_bytes(), input_size=(32, 32))
    net = Net("resnet20.onnx", content=content)
    table = preprocessing(net, net.view(samples.load("china"))[0])
    assert "RGB, ImageNet's mean and std" in list(table["way"][:2])


def test_digits_are_wanted_from_0_to_255(shared):
    net = Net(shared / "nets" / "mnist_cntk.onnx")
    assert preprocessing(net, net.view(samples.load("digit-3"))[0])["way"][0] == "0 to 255"


@pytest.mark.parametrize("name", ["digits", "honest"])
def test_what_a_file_states_is_first_and_gives_the_networks_own_scores(name):
    net = Net(available.find(name))
    pixels = net.view(samples.load("digit-7" if net.channels == 1 else "planted-square"))[0]
    table = preprocessing(net, pixels)
    assert table["way"][0].endswith(FILE)
    scores = net.scores(net.batch(pixels))[0]
    assert table["class_1"][0] == scores.argmax()
    assert table["label_1"][0] == net.labels[scores.argmax()]
    assert list(table["score"]) == sorted(table["score"], reverse=True)


def test_a_way_is_what_it_says():
    """The network's input, from the definition: pixels, channels and numbers, whatever the file's own metadata."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 12, 16))
    net = Net("linear.onnx", content=small.linear(weight, np.zeros(4)).SerializeToString())
    image = small.picture()
    way = Way("mine", (0.1, 0.2, 0.3), (0.5, 0.25, 1 / 255), "BGR")
    given = ((image - [0.1, 0.2, 0.3]) / [0.5, 0.25, 1 / 255])[:, :, ::-1]
    expected = np.einsum("kchw,hwc->k", weight, given)
    np.testing.assert_allclose(net.scores(prepared(net, net.batch(image), way))[0], expected, rtol=1e-3)


def test_told_and_agreement_in_cases_that_one_knows():
    certain = np.full((4, 3, 4), -50.0)
    for picture in range(4):
        certain[picture, :, picture] = 0.0
    assert told(certain) == pytest.approx(np.log(4), abs=1e-6), "each photograph has an answer of its own"
    assert agreement(certain) == pytest.approx(np.log(4), abs=1e-6)
    same = np.full((4, 3, 4), -50.0)
    same[:, :, 1] = 0.0
    assert told(same) == pytest.approx(0, abs=1e-6), "always the same says nothing"
    unsure = np.full((4, 3, 4), np.log(1 / 4))
    assert told(unsure) == pytest.approx(0, abs=1e-6)
    torn = np.full((4, 3, 4), -50.0)
    for picture in range(4):
        for cut in range(3):
            torn[picture, cut, (picture + cut) % 4] = 0.0
    assert agreement(torn) < -10, "sure, and another answer for each cut"


def test_ways_are_no_two_the_same_and_what_is_known_is_not_asked_again(tiny, picture):
    titles = [way.title for way in ways(tiny)]
    assert len(set(titles)) == len(titles) >= 12
    first = preprocessing(tiny, picture)
    known = {row.way: (row.told, row.agreement) for row in first.itertuples()}
    again = last(preprocessing_steps(tiny, picture, known=known))
    assert first.equals(again)


# Names ----------------------------------------------------------------------------------------------------------------


def test_known_names():
    assert len(labelling.imagenet()) == 1000
    assert labelling.imagenet()[::333] == ("tench", "hamster", "mortar", "toilet tissue")
    assert list(usual(1000)) == ["ImageNet"]
    assert usual(1001)["ImageNet, behind a background"][:2] == ("background", "tench")
    assert next(iter(usual(10))) == "CIFAR-10"
    assert next(iter(usual(10, 1))) == "digits"
    assert len(set(labelling.CIFAR100)) == 100
    assert list(labelling.CIFAR100) == sorted(labelling.CIFAR100)
    assert usual(365) == {}


def test_reading_names_takes_no_torch():
    import subprocess
    import sys

    script = "import sys; from engine.intake import labelling; labelling.imagenet(); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@pytest.mark.parametrize(
    "text",
    [
        "tench\nchurch\ngolf ball\n",
        "\ufefftench\r\nchurch\r\ngolf ball\r\n\r\n",
        '["tench", "church", "golf ball"]',
        '{"0": "tench", "1": "church", "2": "golf ball"}',
        '{"2": "golf ball", "0": "tench", "1": "church"}',
        '{"tench": 0, "church": 1, "golf ball": 2}',
        '{"0": ["n01440764", "tench"], "1": ["n03028079", "church"], "2": ["n03445777", "golf ball"]}',
        "n01440764 tench\nn03028079 church\nn03445777 golf ball",
        "/t/tench 0\n/c/church 1\n/g/golf ball 2",
    ],
)
def test_names_are_read_however_they_are_written(text):
    assert read_labels(text.encode()) == ("tench", "church", "golf ball")


def test_numbers_that_belong_to_names_stay():
    assert read_labels(b"boeing 747\nairbus\nspitfire") == ("boeing 747", "airbus", "spitfire")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is no text in UTF-8"),
        (b"[1, [2]]", "no JSON list"),
        (b"[" * 100_000, "no JSON list"),
        (b'{"0": "a", "2": "b"}', "no JSON list"),
        (b"{not json", "no JSON list"),
        (b"a" * 300, "longer than 200"),
        (b"a\x00b", "no text"),
        (b"a\n" * (3 << 20), "larger than 4 MiB"),
    ],
)
def test_what_are_no_names_gets_one_sentence(content, said):
    with pytest.raises(BadLabels, match=said) as error:
        read_labels(content, "names.txt")
    assert str(error.value).startswith("names.txt ")


def test_there_must_be_as_many_names_as_classes():
    assert fit(["a", "b"], 2) == ("a", "b")
    with pytest.raises(BadLabels, match="has 2 labels, and the network 1,000 classes"):
        fit(["a", "b"], 1000)


# The file -------------------------------------------------------------------------------------------------------------


def test_what_is_said_stays_said():
    content = labelled(unsaid(), labels=small.LABELS, mean=small.MEAN, std=small.STD, crop=0.9, source="Somebody.")
    net = Net("tiny.onnx", content=content)
    said = {"labels": small.LABELS, "mean": small.MEAN, "std": small.STD, "crop": 0.9, "source": "Somebody."}
    assert net.metadata == Metadata(**said, missing=("input_size",))
    again = Net("tiny.onnx", content=labelled(content, input_size=small.SIZE))
    assert again.metadata.missing == ()
    assert again.metadata.labels == small.LABELS


def blue_first(model: onnx.ModelProto) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the network on a picture in B, G, R, and of the one that is turned round on the picture itself."""
    image, plain = (
        small.picture(),
        Net("a.onnx", content=labelled(model.SerializeToString(), mean=(0,) * 3, std=(1,) * 3)),
    )
    turned = labelled(model.SerializeToString(), order="BGR", mean=(0,) * 3, std=(1,) * 3)
    net = Net("b.onnx", content=turned)
    return plain.scores(plain.batch(image[:, :, ::-1]))[0], net.scores(net.batch(image))[0]


def test_a_network_that_wants_blue_first_has_its_first_filters_turned_round():
    model = small.tiny()
    before, after = blue_first(model)
    np.testing.assert_allclose(after, before, rtol=1e-5)
    turn_round(model)
    assert [node.op_type for node in model.graph.node] == [node.op_type for node in small.tiny().graph.node]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    np.testing.assert_array_equal(weights["w1"], small.tiny_weights()["w1"][:, ::-1])


@pytest.mark.parametrize("way", ["something before", "two readers", "shared weights"])
def test_where_filters_cannot_be_turned_the_picture_is(way):
    nodes, constants = small.tiny_nodes(), small.tiny_weights()
    if way == "something before":
        nodes = [small.node("Mul", "image scale", "scaled"), *nodes]
        nodes[1].input[0] = "scaled"
        constants["scale"] = np.array([1, 2, 3], np.float32).reshape(3, 1, 1)
    elif way == "two readers":
        nodes += [small.node("ReduceMax", "image", "bright", axes=[1, 2, 3], keepdims=0)]
        nodes += [small.node("Unsqueeze", "bright one", "column"), small.node("Add", "logits column", "more")]
        constants["one"] = np.array([1])
    else:
        nodes += [small.node("ReduceMax", "w1", "largest", keepdims=0), small.node("Gather", "w1 zero", "red", axis=1)]
        nodes += [small.node("ReduceMax", "red", "most", keepdims=0), small.node("Add", "logits most", "more")]
        constants["zero"] = np.array([0])
    model = small.model(nodes, constants, opset=17)
    before, after = blue_first(model)
    np.testing.assert_allclose(after, before, rtol=1e-5)
    turn_round(model)
    assert model.graph.node[0].op_type == "Gather"


def test_the_twin_agrees_on_a_picture_turned_round():
    import torch

    nodes, constants = small.tiny_nodes(), small.tiny_weights()
    nodes = [small.node("Mul", "image two", "scaled"), *nodes]
    nodes[1].input[0] = "scaled"
    model = small.model(nodes, constants | {"two": np.float32(2)}, opset=17)
    net = Net("b.onnx", content=labelled(model.SerializeToString(), order="BGR"))
    x = net.batch(small.picture())
    twin = net.twin(torch.from_numpy(x), [net.logits])[net.logits]
    np.testing.assert_allclose(twin.numpy(), net.scores(x), rtol=1e-4, atol=1e-5)


def test_whether_the_size_is_open(tmp_path):
    for shape, free in (((1, 3, 8, 8), False), (("n", 3, "h", "w"), True)):
        (tmp_path / "net.onnx").write_bytes(make.model(shape=shape).SerializeToString())
        assert labelling.leaves_size_open(tmp_path / "net.onnx") == free


# Bringing -------------------------------------------------------------------------------------------------------------


def test_a_network_that_was_brought_is_at_hand(cache):
    name = last(bringing.bring_steps(make.good(), "my net.onnx"))
    assert name == "my_net"
    assert available.at_hand()[name].read_bytes() == make.good()
    assert available.find(name) == available.brought(name)
    assert last(bringing.bring_steps(make.good(), "my net.onnx")) == name, "the same file again is the same network"


def test_what_is_refused_is_not_kept(cache):
    with pytest.raises(Refused):
        last(bringing.bring_steps(make.terabytes(), "bad.onnx"))
    assert not list(cache.rglob("*.onnx"))


def test_names_that_are_taken_get_more_behind_them(cache):
    name = bringing.keep(make.good(), "digits.onnx")
    assert name.startswith("digits-")
    assert Net(available.find("digits")).classes == 10, "nobody puts another network in its place"
    assert bringing.plain(f"{name}.onnx") == "digits"
    assert bringing.keep(make.good(), "vgg16.onnx").startswith("vgg16-"), "nor of one that can be fetched"
    first, second = bringing.keep(b"one", "same.onnx"), bringing.keep(b"two", "same.onnx")
    assert (first, available.find(first).read_bytes()) == ("same", b"one")
    assert available.find(second).read_bytes() == b"two"


def test_in_a_hosted_app_nobody_is_shown_what_others_brought(cache, monkeypatch):
    monkeypatch.setenv("CONVOSCOPE_HOSTED", "1")
    name = bringing.keep(make.good(), "mine.onnx")
    assert name.startswith("mine-")
    assert len(name) == len("mine-") + bringing.DIGITS
    assert name not in available.at_hand()
    assert available.find(name).read_bytes() == make.good(), "whoever knows the name has it"
    with pytest.raises(available.UnknownNet):
        available.find("mine")


@pytest.mark.parametrize("name", ["../brought/mine", "/etc/passwd", "", "a/b", "mine\0"])
def test_no_name_leads_out_of_the_folder(cache, name):
    bringing.keep(make.good(), "mine.onnx")
    assert available.brought(name) is None


def test_what_is_kept_is_bounded(cache, monkeypatch):
    monkeypatch.setattr(bringing, "MOST", 3)
    for number in range(5):
        bringing.keep(b"%d" % number, f"net{number}.onnx")
        os.utime(available.folder() / f"net{number}.onnx", (number, number))
    assert sorted(path.stem for path in available.folder().iterdir()) == ["net2", "net3", "net4"]
    monkeypatch.setattr(bringing, "MOST_BYTES", 10)
    bringing.keep(b"0123456789", "large.onnx")
    assert [path.stem for path in available.folder().iterdir()] == ["large"]


def test_a_finished_file_takes_the_place_of_what_it_was(cache):
    raw = last(bringing.bring_steps(make.good(), "mine.onnx"))
    name = last(bringing.finish_steps(make.good(), "mine.onnx", instead=raw, labels=tuple("abcd")))
    assert name == "mine"
    assert Net(available.find(name)).labels == list("abcd")
    renamed = last(bringing.finish_steps(available.find(name).read_bytes(), "other.onnx", instead=name))
    assert (renamed, available.brought("mine")) == ("other", None)


def test_a_network_for_small_pictures_is_told_by_how_it_halves(cache):
    model = make.model(shape=("n", 3, "h", "w"))
    name = last(bringing.bring_steps(model.SerializeToString(), "mine.onnx"))
    net = Net(available.find(name))
    assert net.input_size == (32, 32)
    assert "input_size" not in net.metadata.missing
    stated = labelled(model.SerializeToString(), input_size=(20, 30))
    assert Net(available.find(last(bringing.bring_steps(stated, "stated.onnx")))).input_size == (20, 30)


def test_weights_beside_the_file_go_into_it(cache, tmp_path):
    path, net = tmp_path / "parts.onnx", Net(available.find("digits"))
    model = onnx.load(available.find("digits"))
    onnx.save_model(model, path, save_as_external_data=True, location="weights.bin", size_threshold=10)
    with pytest.raises(Refused, match="save it as a single one"):
        last(bringing.bring_steps(path.read_bytes(), path.name))
    found = Net(available.find(last(bringing.bring_steps(path.read_bytes(), path.name, beside=tmp_path))))
    x = net.batch(net.view(samples.load("digit-3"))[0])
    np.testing.assert_array_equal(found.scores(x), net.scores(x))


# The command line -----------------------------------------------------------------------------------------------------


def call(*words: object):
    return CliRunner().invoke(engine, [str(word) for word in words])


def test_examine_says_whether_a_file_opens(tmp_path):
    (tmp_path / "good.onnx").write_bytes(make.good())
    (tmp_path / "bad.onnx").write_bytes(make.loop())
    done = call("examine", tmp_path / "good.onnx")
    assert done.exit_code == 0, done.output
    assert "good.onnx opens: 5 nodes, 4 classes" in done.output
    done = call("examine", tmp_path / "bad.onnx")
    assert done.exit_code == 2
    assert "Error: bad.onnx has a graph inside a node (Loop)" in done.output


def test_label_writes_what_the_file_does_not_say(tmp_path):
    source, names, out = tmp_path / "tiny.onnx", tmp_path / "names.txt", tmp_path / "more" / "out.onnx"
    source.write_bytes(unsaid())
    names.write_text("\n".join(small.LABELS))
    words = ["--labels", names, "--way", "BGR, -1 to 1", "--size", 12, 16, "--licence", "CC0", "--out", out]
    done = call("label", source, *words)
    assert done.exit_code == 0, done.output
    assert "still unsaid: nothing" in done.output
    assert source.read_bytes() == unsaid(), "what was there stays as it is"
    said = {"labels": small.LABELS, "mean": (0.5,) * 3, "std": (0.5,) * 3, "input_size": (12, 16), "licence": "CC0"}
    assert out.read_bytes() == labelled(unsaid(), order="BGR", **said)
    done = call("label", source, "--mean", "0.5,0.4,0.3", "--std", "1/255", "--out", out)
    assert done.exit_code == 0, done.output
    assert Net(out).metadata.std == (1 / 255,) * 3


@pytest.mark.parametrize(
    "words",
    [
        ["--way", "by magic"],
        ["--mean", "a,b,c"],
        ["--mean", "1,2"],
        ["--std", "0"],
        ["--std", "1/0"],
        ["--labels", "nowhere.txt"],
        ["--order", "GBR"],
    ],
)
def test_label_says_what_is_wrong_and_writes_nothing(tmp_path, words):
    (tmp_path / "tiny.onnx").write_bytes(unsaid())
    done = call("label", tmp_path / "tiny.onnx", *words, "--out", tmp_path / "out.onnx")
    assert done.exit_code == 2
    assert "Error: " in done.output
    assert not (tmp_path / "out.onnx").exists()


def test_preprocessing_is_a_command(tmp_path):
    done = call("preprocessing", "--net", "digits", "--image", "digit-3", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "numbers.npz") as arrays:
        assert arrays["way"][0] == FILE
    assert json.loads((tmp_path / "result.json").read_text())["command"] == "preprocessing"

"""Open: are strangers' files brought, refused, tried out and finished, and does nobody see another's?"""

from __future__ import annotations

import io
import time

import numpy as np
import onnx
import pandas as pd
import pytest
import safetensors.torch
import small_nets as small
import torch
from hostile import make
from test_pages import PATIENCE, charts, check, chosen, fine, goto, opened, scene, shown
from torchvision import models

from engine.intake import bringing, converting
from engine.intake.labelling import labelled
from engine.intake.preprocessing import answers, preprocessing, ways
from engine.net import Net, softmax
from engine.nets import available
from engine.step import Step
from ui.jobs import line

pytestmark = pytest.mark.usefixtures("cache")
FLOAT = onnx.TensorProto.FLOAT
NAMES = b"alpha\nbeta\ngamma\ndelta\n"


def settled(at):
    """The session once the jobs of all lines that it watches have ended."""
    at.run()
    end = time.monotonic() + PATIENCE
    while any(str(button.key).startswith("cancel_") for button in at.button):
        for queue in (line.of("uploads"), line.of(scene(at).net.engine)):
            while any(job.active for job in list(queue.jobs.values())):
                assert time.monotonic() < end
                time.sleep(0.01)
        at.run()
    return at


def brought(content: bytes, name: str = "mine.onnx", at=None, **link):
    """A session that has brought a file."""
    at = at or opened("open", net="digits", **link)
    (uploader,) = (each for each in at.file_uploader if str(each.key).startswith("bring_"))
    uploader.upload(name, content, "application/octet-stream")
    return settled(at)


def table(at) -> pd.DataFrame:
    return at.dataframe[-1].value


# The live check -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "honest"])
def test_the_table_is_the_engines(name, given):
    at = opened("open", net=name)
    assert fine(at)
    net, pixels = scene(at).net, scene(at).pixels
    expected = preprocessing(net, pixels)
    found = table(at)
    assert [way.removeprefix("★ ") for way in found["Preparation"]] == list(expected["way"])
    assert found["Preparation"][0].startswith("★ ")
    assert found["First"][0] == f"{net.labels[expected['class_1'][0]]} {expected['probability_1'][0]:.0%}"
    np.testing.assert_allclose(found["Told, nats"], expected["told"].round(2))
    assert pd.read_csv(io.BytesIO(given["ways.csv"])).equals(pd.read_csv(io.StringIO(expected.to_csv(index=False))))


def test_another_row_is_what_the_bars_show_and_the_file_will_say(given):
    at = opened("open", net="digits", way="−1 to 1")
    assert fine(at)
    net = scene(at).net
    way = {each.title: each for each in ways(net)}["−1 to 1"]
    shares = softmax(answers(net, net.batch(scene(at).pixels), way))[0]
    (chart,) = charts(at)
    assert f"{shares.max():.1%}" in chart.alt
    assert "−1 to 1" in chart.alt
    made = Net("made.onnx", content=given["digits.onnx"])
    assert (made.metadata.mean, made.metadata.std) == ((0.5,), (0.5,))
    assert made.labels == net.labels


def test_numbers_of_ones_own(given):
    at = opened("open", net="digits", way="0 to 1")
    at.toggle(key="other_numbers").set_value(True)
    settled(at)
    at.text_input(key="mean_0 to 1").set_value("0.25")
    at.text_input(key="std_0 to 1").set_value("0.125")
    assert fine(settled(at))
    made = Net("made.onnx", content=given["digits.onnx"])
    assert (made.metadata.mean, made.metadata.std) == ((0.25,), (0.125,))
    for wrong in ("0", "a", "1, 2", "nan", ""):
        at.text_input(key="std_0 to 1").set_value(wrong)
        assert fine(settled(at))
        assert any("is not one number, above 0" in each.value for each in at.caption), wrong


def test_python_and_the_command_line_give_the_numbers_of_the_page(monkeypatch, tmp_path):
    check(shown(monkeypatch, "open", {"net": "digits", "image": "digit-7"}), tmp_path)


# Bringing a file ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_brought_is_the_sidebars_network():
    at = brought(make.good())
    assert fine(at)
    assert scene(at).net.name == "mine"
    assert at.query_params["net"] == "mine"
    assert chosen(at, "names") == "class numbers"
    assert "mine" in at.selectbox(key="net").options
    assert fine(goto(at, "activations"))
    assert scene(at).net.name == "mine"


@pytest.mark.parametrize("name", ["terabytes", "loop", "outside_absolute", "text", "own_domain", "some bytes"])
def test_a_file_that_is_refused_gets_one_sentence(name):
    content = make.HOSTILE[name][0]() if name in make.HOSTILE else b"\x08" * 5000
    at = brought(content)
    assert not at.exception
    (error,) = at.error
    assert "mine.onnx" in error.value
    assert "\n" not in error.value
    assert scene(at).net.name == "digits", "and the page goes on with what there was"
    assert charts(at)
    assert not list(available.folder().glob("*.onnx"))


def test_a_path_is_as_good_as_an_upload(tmp_path):
    (tmp_path / "mine.onnx").write_bytes(make.good())
    at = opened("open", net="digits")
    at.text_input(key="bring_path").set_value(str(tmp_path / "mine.onnx"))
    assert fine(settled(at))
    assert scene(at).net.name == "mine"
    at.text_input(key="bring_path").set_value(str(tmp_path / "nowhere.onnx"))
    (error,) = settled(at).error
    assert error.value == "There is no file nowhere.onnx; check the path."


# Weights alone --------------------------------------------------------------------------------------------------------


def weights() -> bytes:
    torch.manual_seed(0)
    return safetensors.torch.save(models.squeezenet1_1(weights=None, num_classes=4).state_dict())


@pytest.mark.thorough
def test_weights_alone_become_a_network_which_is_named_and_saved(given):
    at = brought(weights(), "my pets.safetensors")
    assert fine(at)
    net = scene(at).net
    assert (net.name, net.classes, net.input_size) == ("my_pets", 4, (224, 224))
    assert "squeezenet1_1 of torchvision with the weights in my_pets.safetensors" in net.metadata.source
    assert "the file's own" not in at.selectbox(key="names").options
    at.selectbox(key="names").set_value("a file of names")
    settled(at)
    (uploader,) = (each for each in at.file_uploader if str(each.key).startswith("names_"))
    uploader.upload("names.txt", NAMES, "text/plain")
    assert fine(settled(at))
    expected = given["my_pets.onnx"]
    at.button(key="finish").click()
    assert fine(settled(at))
    assert scene(at).net.labels == ["alpha", "beta", "gamma", "delta"]
    assert available.find("my_pets").read_bytes() == expected


@pytest.mark.parametrize(
    "how", ["a text", *(pytest.param(how, marks=pytest.mark.thorough) for how in ("a program", "another network's"))]
)
def test_weights_that_are_refused_get_one_sentence(how, tmp_path):
    file = io.BytesIO()
    torch.save({"a": print} if how == "a program" else {"a.weight": torch.zeros(3)}, file)
    at = brought(b"hello, world" if how == "a text" else file.getvalue(), "mine.pth")
    assert not at.exception
    (error,) = at.error
    told = {"a text": "no file of weights", "a program": "more than weights", "another network's": "the nearest is"}[
        how
    ]
    assert error.value.startswith("mine.pth ")
    assert told in error.value
    assert "\n" not in error.value
    assert scene(at).net.name == "digits"
    assert not list(available.folder().glob("*.onnx"))


def test_where_several_fit_the_architecture_is_chosen(monkeypatch, tmp_path):
    asked = []

    def convert_steps(content, name, *, architecture="", limits=None):
        asked.append(architecture)
        found = converting.Converted(make.good(), architecture, 4) if architecture else converting.Several(("a", "b"))
        yield Step(4, 4, found)

    monkeypatch.setattr(bringing.converting, "convert_steps", convert_steps)
    (tmp_path / "mine.pth").write_bytes(weights())
    at = opened("open", net="digits")
    at.text_input(key="bring_path").set_value(str(tmp_path / "mine.pth"))
    assert fine(settled(at))
    assert at.selectbox(key="bring_architecture").options == ["a", "b"]
    assert at.info[0].value == "These weights fit a, b: choose which one it is."
    assert scene(at).net.name == "digits"
    at.selectbox(key="bring_architecture").set_value("b")
    assert fine(settled(at))
    assert scene(at).net.name == "mine"
    assert asked == ["", "b"]
    assert not [each for each in at.selectbox if each.key == "bring_architecture"]


# Several inputs -------------------------------------------------------------------------------------------------------


def two_inputs() -> bytes:
    """`tiny` of its second input and a quarter of its first."""
    nodes = [small.node("Mul", "image quarter", "less"), small.node("Add", "less other", "sum"), *small.tiny_nodes()]
    nodes[2].input[0] = "sum"
    constants = {**small.tiny_weights(), "quarter": np.float32(0.25)}
    made = small.model(nodes, constants, shape=("n", 3, *small.SIZE), opset=17)
    made.graph.input.append(onnx.helper.make_tensor_value_info("other", FLOAT, ("n", 3, *small.SIZE)))
    return made.SerializeToString()


def test_the_input_that_takes_the_picture_is_chosen_and_saved(given):
    at = brought(two_inputs())
    assert fine(at)
    first = scene(at).net
    assert (first.graph.input, at.selectbox(key="picture_input").options) == ("image", ["image", "other"])
    assert chosen(at, "picture_input") == "image"
    assert any("Zeros are put into other" in note for note in first.notes)
    at.selectbox(key="picture_input").set_value("other")
    assert fine(settled(at))
    assert chosen(opened("open", net="mine", picture_input="other"), "picture_input") == "other", "a link holds it"
    expected = given["mine.onnx"]
    assert Net("made.onnx", content=expected).graph.input == "other"
    at.button(key="finish").click()
    assert fine(settled(at))
    net = scene(at).net
    assert (net.name, net.graph.input) == ("mine", "other")
    assert available.find("mine").read_bytes() == expected
    assert chosen(at, "picture_input") == "other"
    same = labelled(two_inputs(), mean=net.metadata.mean, std=net.metadata.std)
    first, other = (Net("made.onnx", content=same, input=name) for name in ("image", "other"))
    batch = np.random.default_rng(0).random((2, 3, *small.SIZE), np.float32)
    np.testing.assert_allclose(net.scores(batch), other.scores(batch), rtol=1e-5, atol=1e-6)
    assert np.abs(net.scores(batch) - first.scores(batch)).max() > 0.01


def test_a_network_of_one_input_is_asked_nothing():
    assert not [each for each in opened("open", net="digits").selectbox if each.key == "picture_input"]


# Naming and saving ----------------------------------------------------------------------------------------------------


def test_names_from_a_file_are_shown_and_saved(given):
    at = brought(make.good())
    at.selectbox(key="names").set_value("a file of names")
    settled(at)
    (uploader,) = (each for each in at.file_uploader if str(each.key).startswith("names_"))
    uploader.upload("names.txt", NAMES, "text/plain")
    assert fine(settled(at))
    assert table(at)["First"][0].split()[0] in ("alpha", "beta", "gamma", "delta")
    expected = given["mine.onnx"]
    at.button(key="finish").click()
    assert fine(settled(at))
    net = scene(at).net
    assert (net.name, net.labels) == ("mine", ["alpha", "beta", "gamma", "delta"])
    assert not {"labels", "mean", "std", "input_size"} & set(net.metadata.missing)
    assert available.find("mine").read_bytes() == expected, "what is offered for download is what is saved"
    assert chosen(at, "names") == "the file's own"


def test_too_few_names_get_one_sentence():
    at = brought(make.good())
    at.selectbox(key="names").set_value("a file of names")
    settled(at)
    (uploader,) = (each for each in at.file_uploader if str(each.key).startswith("names_"))
    uploader.upload("names.txt", b"alpha\nbeta", "text/plain")
    (error,) = settled(at).error
    assert error.value == "The file has 2 labels, and the network 4 classes; give one for each."


def test_blue_first_is_written_into_the_graph(given):
    at = brought(small.tiny().SerializeToString(), way="BGR, −1 to 1")
    at.selectbox(key="way").set_value("BGR, −1 to 1")
    assert fine(settled(at))
    raw, pixels = scene(at).net, scene(at).pixels
    way = {each.title: each for each in ways(raw)}["BGR, −1 to 1"]
    expected = answers(raw, raw.batch(pixels), way)
    at.button(key="finish").click()
    assert fine(settled(at))
    net = scene(at).net
    np.testing.assert_allclose(net.scores(net.batch(scene(at).pixels)), expected, rtol=1e-4, atol=1e-5)


def test_a_network_that_ships_stays_as_it_is():
    before = available.find("digits").read_bytes()
    at = opened("open", net="digits", way="0 to 1")
    at.button(key="finish").click()
    assert fine(settled(at))
    assert scene(at).net.name.startswith("digits-")
    assert available.find("digits").read_bytes() == before


# Many people on one server --------------------------------------------------------------------------------------------


def test_in_a_hosted_app_nobody_sees_what_others_brought(monkeypatch):
    monkeypatch.setenv("CONVOSCOPE_HOSTED", "1")
    mine = brought(make.good())
    name = scene(mine).net.name
    assert name.startswith("mine-")
    assert name in mine.selectbox(key="net").options
    other = opened("open", net="digits")
    assert fine(other)
    assert name not in other.selectbox(key="net").options
    assert not [each for each in other.text_input if each.key == "bring_path"], "no paths of the server's"
    linked = opened("home", net=name)
    assert fine(linked)
    assert scene(linked).net.name == name, "a link is as good as the file"
    wrong = opened("home", net=name[:-1] + ("0" if name[-1] != "0" else "1"))
    assert wrong.warning
    assert scene(wrong).net.name == available.FIRST


def test_in_a_hosted_app_no_folder_is_typed_in(monkeypatch):
    assert "folder or file" in opened("confusion", net="digits").selectbox(key="data").options
    monkeypatch.setenv("CONVOSCOPE_HOSTED", "1")
    at = opened("confusion", net="digits", data="folder or file", path="/etc")
    assert fine(at)
    assert "folder or file" not in at.selectbox(key="data").options


def test_at_home_what_was_brought_is_there_for_all():
    bringing.keep(labelled(make.good(), labels=tuple("abcd")), "mine.onnx")
    at = opened("home", net="mine")
    assert fine(at)
    assert scene(at).net.labels == list("abcd")

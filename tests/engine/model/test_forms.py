"""Does the same network come out of every form in which exporters write it, and is nothing read that may not be?"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import small_nets as nets
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper
from small_nets import node

from engine.cli.main import main
from engine.explain.saliency import saliency
from engine.model import forms, metadata
from engine.net import BadNetwork, Net
from engine.nets.certificate import certify
from engine.twin import NoGradient


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "net.onnx"


def expected(*pictures: np.ndarray) -> np.ndarray:
    return np.stack([nets.tiny_forward(picture)["logits"] for picture in pictures])


def pictures(count: int) -> list[np.ndarray]:
    return [nets.picture(seed=seed) for seed in range(count)]


def agrees(net: Net, count: int = 3, close: float = 1e-5) -> None:
    """Raise AssertionError where its scores are not those of `tiny`, or its certificate does not pass."""
    some = pictures(count)
    np.testing.assert_allclose(net.scores(net.batch(*some)), expected(*some), atol=close)
    found = certify(net, some[0])
    assert found.passed, found.reason


# Channels last --------------------------------------------------------------------------------------------------------


def channels_last(batch="n") -> onnx.ModelProto:
    """`tiny` as it comes out of TensorFlow: (B, H, W, C), turned inside."""
    nodes = [node("Transpose", "image", "turned", perm=[0, 3, 1, 2]), *nets.tiny_nodes()]
    nodes[1].input[0] = "turned"
    return nets.model(nodes, nets.tiny_weights(), shape=(batch, *nets.SIZE, 3), opset=17, about=nets.ABOUT)


@pytest.mark.parametrize("batch", ["n", 1])
def test_channels_last(path, batch):
    net = nets.save(channels_last(batch), path)
    agrees(net)
    assert (net.channels, net.input_size) == (3, nets.SIZE)
    assert net.layer("conv1").shape[1:] == nets.SIZE
    assert saliency(net, pictures(1)[0], 2).shape == nets.SIZE


def test_where_both_could_be_the_channels_the_first_are(path):
    nodes = [node("GlobalAveragePool", "image", "mean"), node("Flatten", "mean", "logits")]
    net = nets.save(nets.model(nodes, shape=("n", 3, 12, 3)), path)
    assert (net.channels, net.input_size) == (3, (12, 3))


# Half precision -------------------------------------------------------------------------------------------------------


def halved(made: onnx.ModelProto) -> onnx.ModelProto:
    for tensor in made.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in made.graph.input:
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    del made.graph.value_info[:]
    for value in made.graph.output:
        value.ClearField("type")
    return onnx.shape_inference.infer_shapes(made)


def test_half_precision_is_computed_in_single(path):
    net = nets.save(halved(nets.tiny(about=nets.ABOUT)), path)
    agrees(net, close=0.02)
    assert net.scores(net.batch(pictures(1)[0])).dtype == np.float32
    assert "computed in single precision" in net.notes[0]


def test_casts_to_half_stay_single(path):
    tail = [node("Cast", "logits", "half", to=TensorProto.FLOAT16), node("Cast", "half", "out", to=TensorProto.FLOAT)]
    net = nets.save(nets.tiny(tail=tail, about=nets.ABOUT), path)
    agrees(net)


# Several inputs -------------------------------------------------------------------------------------------------------


def two_inputs(shape=("n", 3, *nets.SIZE), kind=TensorProto.FLOAT) -> onnx.ModelProto:
    """`tiny` of the sum of two pictures."""
    nodes = [node("Add", "image other", "sum"), *nets.tiny_nodes()]
    nodes[1].input[0] = "sum"
    made = nets.model(nodes, nets.tiny_weights(), shape=shape, opset=17, about=nets.ABOUT)
    made.graph.input.append(helper.make_tensor_value_info("other", kind, shape))
    return made


def test_a_further_input_is_given_zeros_and_said(path):
    net = nets.save(two_inputs(), path)
    agrees(net)
    assert net.inputs == ("image", "other")
    assert any("Zeros are put into other" in note for note in net.notes)


def test_the_other_input_can_take_the_picture(path):
    nets.save(two_inputs(), path)
    first, second = Net(path), Net(path, input="other")
    assert (second.graph.input, second.inputs) == ("other", ("other", "image"))
    agrees(second)
    assert first.sha256 != second.sha256, "what is kept of one would be taken for the other's"
    assert Net(path, input="image").graph.input == "image"


def test_the_file_can_say_which_input_takes_the_picture(path):
    about = dataclasses.replace(nets.ABOUT, picture_input="other")
    made = two_inputs()
    metadata.write(made, about)
    net = nets.save(made, path)
    assert net.graph.input == "other"
    assert net.metadata.picture_input == "other"
    agrees(net)
    again = net.with_weights({"b3": nets.tiny_weights()["b3"] + 1})
    some = pictures(2)
    np.testing.assert_allclose(again.scores(again.batch(*some)), expected(*some) + 1, atol=1e-5)


def test_the_command_writes_down_which_input_it_is(path):
    nets.save(two_inputs(), path)
    out = path.with_name("labelled.onnx")
    done = CliRunner().invoke(main, ["label", str(path), "--input", "other", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert Net(out).graph.input == "other"
    done = CliRunner().invoke(main, ["label", str(path), "--input", "third", "--out", str(out)])
    assert done.exit_code != 0
    assert "no input 'third' for a picture; it has image, other" in done.output


def test_what_takes_no_picture_is_named(path):
    path.write_bytes(two_inputs().SerializeToString())
    with pytest.raises(BadNetwork, match="no input 'third' for a picture; it has image, other"):
        Net(path, input="third")


def test_a_flag_beside_the_picture(path):
    made = nets.tiny(about=nets.ABOUT)
    made.graph.node.append(node("Where", "train nothing logits", "out"))
    made.graph.initializer.append(numpy_helper.from_array(np.float32(99), "nothing"))
    made.graph.input.append(helper.make_tensor_value_info("train", TensorProto.BOOL, []))
    made.graph.output[0].name = "out"
    agrees(nets.save(made, path))


# One picture at a time ------------------------------------------------------------------------------------------------


def flattened(batch, target) -> onnx.ModelProto:
    """`tiny` with a Reshape that names the batch size."""
    nodes = nets.tiny_nodes()
    nodes[-2] = node("ReduceMean", "conv2", "kept", axes=[2, 3], keepdims=1)
    channels = nets.tiny_weights()["w3"].shape[1]
    nodes.insert(-1, node("Reshape", "kept target", "mean"))
    constants = {**nets.tiny_weights(), "target": np.array([channels if t == "c" else t for t in target], np.int64)}
    return nets.model(nodes, constants, shape=(batch, 3, *nets.SIZE), opset=17, about=nets.ABOUT)


@pytest.mark.parametrize("target", [(1, "c"), (1, -1)], ids=str)
def test_a_batch_size_of_one_is_freed(path, target):
    net = nets.save(flattened(1, target), path)
    assert net.fixed_batch == 0
    agrees(net)
    assert saliency(net, pictures(1)[0], 1).any()


def test_a_softmax_does_not_hide_that_pictures_would_mix(path):
    """All answers are certain, whatever the others in the batch are."""
    scale = numpy_helper.from_array(np.float32(1e4), "scale")
    tail = [node("ReduceMean", "logits", "all", axes=[0], keepdims=1), node("Mul", "all tiny", "little")]
    tail += [node("Add", "logits little", "mixed"), node("Mul", "mixed scale", "sure"), node("Softmax", "sure", "out")]
    made = nets.tiny(shape=(1, 3, *nets.SIZE), tail=tail, about=nets.ABOUT)
    made.graph.initializer.extend([scale, numpy_helper.from_array(np.float32(0.01), "tiny")])
    assert nets.save(made, path).fixed_batch == 1


def test_where_pictures_would_mix_the_batch_size_stays(path):
    """The mean over the batch is no mean of one picture: freeing would be wrong, so each is run alone."""
    tail = [node("ReduceMean", "logits", "all", axes=[0], keepdims=1), node("Add", "logits all", "out")]
    net = nets.save(nets.tiny(shape=(1, 3, *nets.SIZE), tail=tail, about=nets.ABOUT), path)
    assert net.fixed_batch == 1
    some = pictures(3)
    np.testing.assert_allclose(net.scores(net.batch(*some)), 2 * expected(*some), atol=1e-5)


# Weights beside the file ----------------------------------------------------------------------------------------------


def beside(path: Path, location: str = "weights.bin") -> onnx.ModelProto:
    """`tiny` with its weights in a file of their own; the model, which states `location`, is not saved."""
    made = nets.tiny(about=nets.ABOUT)
    onnx.save_model(
        made, path, save_as_external_data=True, location="weights.bin", size_threshold=0, convert_attribute=False
    )
    made = onnx.load(path, load_external_data=False)
    for tensor in made.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    return made


def test_weights_beside_the_file(path):
    made = beside(path)
    assert all(tensor.data_location == TensorProto.EXTERNAL for tensor in made.graph.initializer)
    agrees(Net(path))


def test_weights_beside_the_file_that_are_too_many_for_one(path, monkeypatch):
    """Then they stay where they are, and are read when they are needed."""
    beside(path)
    monkeypatch.setattr(forms, "LARGEST", 100)
    net = Net(path)
    assert isinstance(net.graph.constants["w1"], np.memmap)
    agrees(net)
    conv1 = net.activations(net.batch(pictures(1)[0]), ["conv1"])["conv1"][0]
    np.testing.assert_allclose(conv1, nets.tiny_forward(pictures(1)[0])["conv1"], atol=1e-5)


@pytest.mark.parametrize("stay", [True, False], ids=["stay outside", "come inside"])
@pytest.mark.parametrize("kind", ["absolute", "above", "hidden above", "link", "linked folder"])
def test_weights_elsewhere_are_not_read(tmp_path, kind, stay, monkeypatch):
    folder = tmp_path / "here"
    (folder / "in").mkdir(parents=True)
    path = folder / "net.onnx"
    beside(path)
    secret = tmp_path / "secret.bin"
    (folder / "weights.bin").rename(secret)
    (folder / "link.bin").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    location = {
        "absolute": str(secret),
        "above": "../secret.bin",
        "hidden above": "in/../../secret.bin",
        "link": "link.bin",
        "linked folder": "linked/secret.bin",
    }[kind]
    if stay:
        monkeypatch.setattr(forms, "LARGEST", 100)
    made = onnx.load(path, load_external_data=False)
    for tensor in made.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    path.write_bytes(made.SerializeToString())
    wrong = "a link; put the file itself there" if "link" in kind else "outside of its own folder"
    with pytest.raises(BadNetwork, match=rf"which is {wrong}\.$"):
        Net(path)


@pytest.mark.parametrize("stay", [True, False], ids=["stay outside", "come inside"])
def test_constants_of_nodes_are_looked_after_like_weights(tmp_path, stay, monkeypatch):
    """They could name a file, too, which onnx itself would look for where the program was started."""
    if stay:
        monkeypatch.setattr(forms, "LARGEST", 100)
    (tmp_path / "one.bin").write_bytes(np.float32(1).tobytes())
    made = nets.tiny(
        tail=[
            node("Constant", "", "one", value=numpy_helper.from_array(np.float32([1]))),
            node("Add", "logits one", "out"),
        ],
        about=nets.ABOUT,
    )
    (tensor,) = (attribute.t for each in made.graph.node for attribute in each.attribute if attribute.name == "value")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    location = tensor.external_data.add(key="location", value="one.bin")
    net = nets.save(made, tmp_path / "net.onnx")
    some = pictures(2)
    np.testing.assert_allclose(net.scores(net.batch(*some)), expected(*some) + 1, atol=1e-5)
    location.value = "../one.bin"
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(BadNetwork, match="outside of its own folder"):
        Net(tmp_path / "net.onnx")


def test_weights_that_are_not_there_or_cut_short(path):
    beside(path)
    weights = path.with_name("weights.bin")
    content = weights.read_bytes()
    weights.write_bytes(content[:-8])
    with pytest.raises(BadNetwork, match=r"is damaged: 'weights\.bin' does not hold all of"):
        Net(path)
    weights.unlink()
    with pytest.raises(BadNetwork, match=r"keeps its weights in 'weights\.bin', which is not beside it; put it there"):
        Net(path)


# Whole numbers --------------------------------------------------------------------------------------------------------


def test_a_rounding_network_has_the_gradient_of_the_one_without(path):
    net = nets.save(nets.rounded(), path)
    assert net.quantised
    assert any("gradients are those of the same network without" in note for note in net.notes)
    picture = pictures(1)[0]
    steps = net.scores(net.batch(picture)) - expected(picture)
    assert 1e-4 < np.abs(steps).max() < 0.2, "it does round"
    found = certify(net, picture)
    assert found.passed, found.reason
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in nets.rounded().graph.initializer}
    weights = {**nets.tiny_weights(), "w1": constants["w1_q"] * constants["s1"]}
    made = nets.model(nets.tiny_nodes(), weights, opset=17, about=nets.ABOUT)
    plain = nets.save(made, path.with_name("plain.onnx"))
    np.testing.assert_allclose(saliency(net, picture, 1), saliency(plain, picture, 1), rtol=1e-4, atol=1e-6)


def test_whole_numbers_that_are_not_turned_back_have_no_gradient(path):
    made = nets.rounded()
    made.graph.node.append(node("MatMulInteger", "logits_q w_q", "more"))
    made.graph.node.append(node("Cast", "more", "out", to=1))
    made.graph.node.insert(-2, node("QuantizeLinear", "logits s2 z2", "logits_q"))
    made.graph.initializer.append(numpy_helper.from_array(np.eye(4, dtype=np.uint8), "w_q"))
    made.graph.output[0].name = "out"
    net = nets.save(made, path)
    assert net.scores(net.batch(pictures(1)[0])).shape == (1, 4)
    with pytest.raises(NoGradient, match="computes MatMulInteger in whole numbers"):
        net.twin  # noqa: B018
    assert not certify(net, pictures(1)[0]).passed

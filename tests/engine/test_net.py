"""One file, everything read from it: names, scores, layers, and one sentence where it cannot be opened."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import small_nets as nets
from onnx import helper, numpy_helper
from small_nets import node

from engine import devices as net_module
from engine.model.metadata import Metadata
from engine.net import SESSIONS, BadNetwork, Net, UnknownClass, UnknownLayer, softmax
from engine.nets.folder import PROJECT


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "some net.onnx"


# What the file says --------------------------------------------------------------------------------------------------


def test_what_the_file_says(tiny):
    assert tiny.name == "tiny"
    assert tiny.labels == list(nets.LABELS)
    assert tiny.classes == 4
    assert tiny.input_size == (12, 16)
    assert tiny.channels == 3
    assert tiny.metadata == nets.ABOUT
    assert tiny.notes == []
    assert tiny.logits == "logits"
    assert tiny.last_map == "conv2"
    assert repr(tiny) == f"Net({str(tiny.path)!r})"


def test_the_checksum_is_the_files(tiny, path):
    copy = Net(shutil.copy(tiny.path, path))
    assert copy.sha256 == tiny.sha256
    assert len(copy.sha256) == 64
    assert nets.save(nets.tiny(), path).sha256 != tiny.sha256


def test_layers_are_the_tensors_in_order_with_shape_and_field(tiny):
    assert [(layer.name, layer.op, layer.shape) for layer in tiny.layers] == [
        ("conv1", "Conv", (5, 12, 16)),
        ("relu1", "Relu", (5, 12, 16)),
        ("pool1", "MaxPool", (5, 6, 8)),
        ("conv2", "Conv", (6, 4, 6)),
        ("mean", "ReduceMean", (6, 1, 1)),
        ("logits", "Gemm", (4, 1, 1)),
    ]
    assert [layer.has_map for layer in tiny.layers] == [True] * 4 + [False] * 2
    field = tiny.layer("conv2").receptive_field
    assert (field.size, field.stride, field.offset) == ((8, 8), (2, 2), (-1, -1))


def test_a_file_without_metadata_says_which_defaults_are_used(path):
    net = nets.save(nets.tiny(), path)
    assert net.labels == ["0", "1", "2", "3"]
    (note,) = net.notes
    for word in ("labels", "input size", "mean", "std", "defaults", "ImageNet"):
        assert word in note
    assert net.metadata.mean == (0.485, 0.456, 0.406)


def test_only_what_is_missing_is_said(path):
    about = Metadata(labels=nets.LABELS, mean=nets.MEAN, std=nets.STD)
    (note,) = nets.save(nets.tiny(about=about), path).notes
    assert "input size" in note
    assert "labels" not in note
    assert "ImageNet" not in note


def test_labels_that_are_not_as_many_as_the_classes_are_not_used(path):
    about = Metadata(labels=("a", "b"), input_size=nets.SIZE, mean=nets.MEAN, std=nets.STD)
    net = nets.save(nets.tiny(about=about), path)
    assert net.labels == ["0", "1", "2", "3"]
    assert net.notes == ["The file has 2 labels for 4 classes; class numbers are used."]


@pytest.mark.parametrize(("stated", "expected"), [((20, 26), (20, 26)), (None, (224, 224))])
def test_a_free_size_is_the_metadatas_or_the_default(path, stated, expected):
    about = Metadata(input_size=stated, mean=nets.MEAN, std=nets.STD)
    net = nets.save(nets.tiny(shape=("n", 3, "h", "w"), about=about), path)
    assert net.input_size == expected
    assert net.layer("pool1").shape == (5, expected[0] // 2, expected[1] // 2)


def test_the_graphs_own_size_wins_over_the_metadatas(path):
    about = Metadata(input_size=(32, 64), mean=nets.MEAN, std=nets.STD)
    assert nets.save(nets.tiny(about=about), path).input_size == (12, 16)


# Scores and activations ----------------------------------------------------------------------------------------------


def test_scores_are_those_worked_out_by_hand(tiny):
    pictures = [nets.picture(seed=seed) for seed in range(3)]
    scores = tiny.scores(tiny.batch(*pictures))
    assert scores.shape == (3, 4)
    assert scores.dtype == np.float32
    for found, image in zip(scores, pictures, strict=True):
        np.testing.assert_allclose(found, nets.tiny_forward(image)["logits"], rtol=0, atol=1e-5)


def test_every_activation_is_the_one_worked_out_by_hand(tiny, picture):
    expected = nets.tiny_forward(picture)
    found = tiny.activations(tiny.batch(picture), expected)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name][0], value, rtol=0, atol=1e-5, err_msg=name)


def test_the_default_normalisation_is_imagenets(path, picture):
    net = nets.save(nets.tiny(), path)
    expected = nets.tiny_forward(picture, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))["logits"]
    np.testing.assert_allclose(net.scores(net.batch(picture))[0], expected, rtol=0, atol=1e-5)


def test_names_may_come_twice_and_in_any_order(tiny, picture):
    x = tiny.batch(picture)
    found = tiny.activations(x, iter(["conv2", "conv1", "conv2"]))
    assert list(found) == ["conv2", "conv1"]
    assert found["conv1"].shape == (1, 5, 12, 16)
    np.testing.assert_array_equal(found["conv2"], tiny.activations(x, ["conv2"])["conv2"])


def test_the_input_itself_can_be_asked_for(tiny, picture):
    x = tiny.batch(picture)
    found = tiny.activations(x, ["image"])["image"]
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), (picture - nets.MEAN) / nets.STD, atol=1e-5)


def test_nothing_behind_the_wanted_layer_is_in_its_session(tiny, picture, monkeypatch, path):
    net = Net(shutil.copy(tiny.path, path))
    models = []
    session = Net._session
    monkeypatch.setattr(
        Net, "_session", lambda self, content, *more: models.append(content) or session(self, content, *more)
    )
    net.activations(net.batch(picture), ["pool1"])
    (content,) = models
    cut = onnx.load_model_from_string(content)
    assert [n.output[0] for n in cut.graph.node] == ["conv1", "relu1", "pool1"]
    assert {t.name for t in cut.graph.initializer} == {"w1", "b1"}


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Only Linux lists a process's threads there.")
def test_torch_has_no_threads_beside_a_pass(tiny):
    """They would spin on the cores. In a process of its own: others' threads come and go here."""
    script = f"""
import os, sys, numpy as np, torch
from engine.devices import _openmp
from engine.net import Net
torch.set_num_threads(4)
net = Net({str(tiny.path)!r})
batch = np.zeros((1, 3, 12, 16), np.float32)
net.activations(batch, ["pool1"])
threads = lambda: len(os.listdir("/proc/self/task"))
before = threads()
for _ in range(2):  # also where they have come again
    torch.rand(4_000_000).relu()
    busy = threads()
    net.activations(batch, ["pool1"])
    print(len(_openmp()), busy - before, threads() - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, cwd=PROJECT)
    lines = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(lines) == 2, done.stderr
    if not lines[0][0]:
        pytest.skip("This torch does not come with GNU's OpenMP.")
    assert lines == [(1, 3, 0)] * 2


@pytest.mark.parametrize(
    ("said", "threads", "taken"), [("", 0, 0), ("", 1, 1), ("3", 0, 3), ("3", 1, 1), ("2,4", 0, 2), ("many", 0, 0)]
)
def test_a_pass_keeps_to_the_threads_that_it_is_given(tiny, picture, path, said, threads, taken, monkeypatch):
    """By whoever asks, or else for all by the environment, as torch reads it."""
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    net = Net(shutil.copy(tiny.path, path))
    x = net.normalise(net.batch(picture))
    found = net.resume({net.graph.input: x}, ["pool1"], threads=threads)
    (session,) = net._tapped.values()
    assert session.get_session_options().intra_op_num_threads == taken
    np.testing.assert_allclose(found["pool1"], net.activations(net.batch(picture), ["pool1"])["pool1"], atol=1e-6)


def test_tapped_sessions_are_kept_but_not_without_bound(tiny, picture, monkeypatch, path):
    net = Net(shutil.copy(tiny.path, path))
    made = []
    session = Net._session
    monkeypatch.setattr(Net, "_session", lambda self, content, *more: made.append(1) or session(self, content, *more))
    x, names = net.batch(picture), [layer.name for layer in net.layers][:-1]  # the logits have a session anyway
    for name in names:
        net.activations(x, [name])
    assert len(made) == len(names) == 5
    assert len(net._tapped) == SESSIONS
    for name in names[-SESSIONS:]:
        net.activations(x, [name])
    assert len(made) == 5  # the last ones were there
    net.activations(x, names[-SESSIONS : -SESSIONS + 1])  # now the one used last
    net.activations(x, names[:1])
    net.activations(x, names[-SESSIONS : -SESSIONS + 1])
    assert len(made) == 6  # what was used last has stayed, the first was made again


def test_the_output_comes_from_the_session_that_is_there(tiny, picture, monkeypatch, path):
    net = Net(shutil.copy(tiny.path, path))
    monkeypatch.setattr(Net, "_session", lambda self, *more: pytest.fail("another session"))
    found = net.activations(net.batch(picture), ["logits"])["logits"][0]
    np.testing.assert_allclose(found, nets.tiny_forward(picture)["logits"], atol=1e-5)
    np.testing.assert_array_equal(net.scores(net.batch(picture))[0], found)


# Entering in the middle ----------------------------------------------------------------------------------------------


def residual(*, shape=("batch", 3, *nets.SIZE)) -> onnx.ModelProto:
    """One residual block: relu1 goes around conv2 and relu2 and is added to them; then a mean and a linear layer."""
    weights = nets.tiny_weights()
    weights["w2"] = np.random.default_rng(3).normal(0, 0.3, (5, 5, 3, 3)).astype(np.float32)
    weights["b2"], weights["w3"] = weights["b2"][:5], weights["w3"][:, :5]
    nodes = [
        node("Conv", "image w1 b1", "conv1", pads=[1, 1, 1, 1]),
        node("Relu", "conv1", "relu1"),
        node("Conv", "relu1 w2 b2", "conv2", pads=[1, 1, 1, 1]),
        node("Relu", "conv2", "relu2"),
        node("Add", "relu1 relu2", "sum"),
        node("GlobalAveragePool", "sum", "mean"),
        node("Flatten", "mean", "flat"),
        node("Gemm", "flat w3 b3", "logits", transB=1),
    ]
    return nets.model(nodes, weights, shape=shape, about=nets.ABOUT)


@pytest.mark.parametrize("shape", [("n", 3, 12, 16), (1, 3, 12, 16), (2, 3, 12, 16), ("n", 3, "h", "w")])
@pytest.mark.parametrize("layer", ["image", "conv1", "pool1", "conv2", "mean"])
def test_resuming_gives_what_a_whole_pass_gives(path, shape, layer):
    """Also where the graph fixes its batch size, and where it leaves its sides free."""
    net = nets.save(nets.tiny(shape=shape, about=nets.ABOUT), path)
    x = net.batch(*(nets.picture(seed=seed) for seed in range(3)))
    behind = [name for name in ("conv2", "mean", "logits") if name in net.graph.behind(layer)]
    found = net.resume(net.activations(x, [layer]), behind)
    assert list(found) == behind
    for name, whole in net.activations(x, behind).items():
        assert len(found[name]) == 3
        np.testing.assert_allclose(found[name], whole, atol=1e-6, err_msg=name)


def test_what_is_changed_in_the_middle_comes_out_at_the_end(tiny, picture):
    pool1 = tiny.activations(tiny.batch(picture), ["pool1"])["pool1"]
    weights = nets.tiny_weights()
    found = tiny.resume({"pool1": 0 * pool1}, ["mean", "logits"])
    np.testing.assert_allclose(found["mean"][0], weights["b2"], atol=1e-6)
    np.testing.assert_allclose(found["logits"][0], weights["w3"] @ weights["b2"] + weights["b3"], atol=1e-6)


@pytest.mark.parametrize("batch", ["n", 1])
def test_resuming_inside_a_residual_block_takes_the_arm_around_it(path, batch):
    net = nets.save(residual(shape=(batch, 3, *nets.SIZE)), path)
    x = net.batch(*(nets.picture(seed=seed) for seed in range(3)))
    given = net.graph.frontier("conv2", ["logits"])
    assert given == ("conv2", "relu1")
    start = net.activations(x, given)
    np.testing.assert_allclose(net.resume(start, ["logits"])["logits"], net.scores(x), atol=1e-6)
    off = start | {"conv2": 0 * start["conv2"]}  # what is left is the arm
    weights = nets.tiny_weights()
    expected = start["relu1"].mean((2, 3)) @ weights["w3"][:, :5].T + weights["b3"]
    np.testing.assert_allclose(net.resume(off, ["logits"])["logits"], expected, atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_shape_among_what_is_given_is_no_row_per_picture(path, count):
    """Older exporters take the batch size off the picture, so that it is needed beside a layer behind it."""
    nodes = nets.tiny_nodes()
    nodes[-1:] = [node("Reshape", "mean target", "flat"), node("Gemm", "flat w3 b3", "logits", transB=1)]
    nodes[:0] = [
        node("Shape", "image", "shape"),
        node("Gather", "shape zero", "count"),
        node("Concat", "count rest", "target", axis=0),
    ]
    constants = nets.tiny_weights() | {"zero": np.array([0]), "rest": np.array([6])}
    net = nets.save(nets.model(nodes, constants, opset=17, about=nets.ABOUT), path)
    given = net.graph.frontier("conv2", ["logits"])
    assert given == ("conv2", "target")
    x = net.batch(*(nets.picture(seed=seed) for seed in range(count)))
    start = net.activations(x, given)
    assert start["target"].tolist() == [count, 6]
    for order in (given, given[::-1]):
        found = net.resume({name: start[name] for name in order}, ["logits"])["logits"]
        np.testing.assert_allclose(found, net.scores(x), atol=1e-6)


def test_what_is_given_is_given_back_without_a_session(tiny, picture, monkeypatch):
    start = tiny.activations(tiny.batch(picture), ["pool1"])
    monkeypatch.setattr(Net, "_session", lambda self, content: pytest.fail("a session"))
    assert tiny.resume(start, ["pool1"])["pool1"] is start["pool1"]


def test_resuming_to_what_does_not_depend_on_the_picture_is_refused(tiny, picture):
    start = tiny.activations(tiny.batch(picture), ["pool1"])
    for name in ("w2", "nowhere"):
        with pytest.raises(UnknownLayer, match=f"no tensor '{name}' that depends on the picture"):
            tiny.resume(start, [name])


# Other weights -------------------------------------------------------------------------------------------------------


def in_constant_nodes() -> onnx.ModelProto:
    """`tiny` with its weights in Constant nodes, as some exporters write them."""
    made = nets.tiny(about=nets.ABOUT)
    constants = [node("Constant", "", tensor.name, value=tensor) for tensor in made.graph.initializer]
    nodes = [*constants, *made.graph.node]
    del made.graph.initializer[:], made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


@pytest.mark.parametrize("made", [nets.tiny(about=nets.ABOUT), in_constant_nodes()], ids=["initializers", "constants"])
def test_other_weights_make_another_net_and_leave_this_one(path, picture, made):
    net = nets.save(made, path)
    before = net.scores(net.batch(picture))
    bias = np.arange(4, dtype=np.float32)
    other = net.with_weights({"w3": 0 * nets.tiny_weights()["w3"], "b3": bias})
    np.testing.assert_allclose(other.scores(other.batch(picture)), [bias])
    np.testing.assert_array_equal(other.twin.constants["b3"], bias)
    np.testing.assert_array_equal(other.graph.constants["w2"], nets.tiny_weights()["w2"])
    assert (other.labels, other.metadata, other.name) == (net.labels, net.metadata, net.name)
    assert other.sha256 != net.sha256
    np.testing.assert_array_equal(net.scores(net.batch(picture)), before)
    np.testing.assert_array_equal(net.graph.constants["b3"], nets.tiny_weights()["b3"])
    np.testing.assert_array_equal(Net(path).scores(net.batch(picture)), before)  # nor has the file changed


# Several outputs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def forked(path) -> Net:
    """`tiny` with two outputs, of which "mean" has six numbers and "logits" four."""
    made = nets.model(nets.tiny_nodes(), nets.tiny_weights(), opset=17, about=nets.ABOUT, outputs=["mean", "logits"])
    return nets.save(made, path)


def test_the_first_output_counts_where_none_is_chosen(forked, picture):
    assert (forked.outputs, forked.output, forked.classes) == (("mean", "logits"), "mean", 6)
    expected = nets.tiny_forward(picture)["mean"]
    np.testing.assert_allclose(forked.scores(forked.batch(picture))[0], expected, atol=1e-5)


def test_another_output_can_be_chosen(forked, picture):
    net = Net(forked.path, output="logits")
    assert (net.logits, net.labels) == ("logits", list(nets.LABELS))
    expected = nets.tiny_forward(picture)["logits"]
    np.testing.assert_allclose(net.scores(net.batch(picture))[0], expected, atol=1e-5)
    other = net.with_weights({"b3": nets.tiny_weights()["b3"] + 1})  # which keeps the choice
    np.testing.assert_allclose(other.scores(other.batch(picture))[0], expected + 1, atol=1e-5)


def test_an_output_that_is_not_there_is_refused_with_those_that_are(forked):
    with pytest.raises(BadNetwork, match=r"has no output 'conv2'; it has mean, logits\.$"):
        Net(forked.path, output="conv2")


def test_threads_that_ask_for_different_layers_get_their_own(tiny, path):
    """More layers than sessions are kept, so that they push one another out all the time."""
    net = Net(shutil.copy(tiny.path, path))
    images = [nets.picture(seed=seed) for seed in range(8)]
    expected = [nets.tiny_forward(image) for image in images]
    names = [layer.name for layer in tiny.layers]
    together = threading.Barrier(8)

    def ask(worker: int) -> float:
        together.wait()
        worst = 0.0
        for turn in range(12):
            name = names[(worker + turn) % len(names)]
            found = net.activations(net.batch(images[worker]), [name])[name][0]
            worst = max(worst, np.abs(found - expected[worker][name]).max())
        return worst

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(ask, range(8))) < 1e-5
    assert len(net._tapped) <= SESSIONS


def test_a_graph_made_for_one_picture_takes_many(path):
    net = nets.save(nets.tiny(shape=(1, 3, *nets.SIZE), about=nets.ABOUT), path)
    images = [nets.picture(seed=seed) for seed in range(5)]
    x = net.batch(*images)
    expected = [nets.tiny_forward(image) for image in images]
    np.testing.assert_allclose(net.scores(x), [e["logits"] for e in expected], atol=1e-5)
    np.testing.assert_allclose(net.activations(x, ["conv2"])["conv2"], [e["conv2"] for e in expected], atol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_a_graph_made_for_two_pictures_takes_any_number(path, count):
    net = nets.save(nets.tiny(shape=(2, 3, *nets.SIZE), about=nets.ABOUT), path)
    images = [nets.picture(seed=seed) for seed in range(count)]
    expected = [nets.tiny_forward(image)["logits"] for image in images]
    np.testing.assert_allclose(net.scores(net.batch(*images)), expected, atol=1e-5)


def test_a_batch_size_of_minus_one_is_free(path, picture):
    net = nets.save(nets.tiny(shape=(-1, 3, *nets.SIZE), about=nets.ABOUT), path)
    expected = nets.tiny_forward(picture)["logits"]
    np.testing.assert_allclose(net.scores(net.batch(picture, picture)), [expected, expected], atol=1e-5)


def test_a_single_channel(path):
    net = nets.save(nets.tiny(shape=("n", 1, *nets.SIZE)), path)
    assert net.channels == 1
    assert "mean 0" in net.notes[0]
    image = nets.picture(channels=1)
    expected = nets.tiny_forward(image, (0.0,), (1.0,))["logits"]
    np.testing.assert_allclose(net.scores(net.batch(image))[0], expected, atol=1e-5)
    assert net.view(nets.picture((40, 30)))[0].shape == (12, 16, 1)


def test_view_shows_the_middle_that_the_metadata_says(tiny):
    pixels, frame = tiny.view(nets.picture((60, 40)))
    assert pixels.shape == (12, 16, 3)
    assert frame.shape == (12, 16)
    assert (frame.height, frame.width) == pytest.approx((27, 36))  # 0.9 of the largest 3:4, which is 30 x 40


def test_batch_refuses_pictures_of_another_size(tiny):
    with pytest.raises(ValueError, match=r"\(12, 16, 3\), not \(16, 12, 3\)"):
        tiny.batch(nets.picture((16, 12)))


def test_scores_refuses_a_batch_with_another_number_of_channels(tiny):
    with pytest.raises(ValueError, match=r"batches \(B, 3, H, W\)"):
        tiny.scores(np.zeros((1, 1, 12, 16), np.float32))


def test_what_is_given_stays_as_it_was(tiny, picture):
    x = tiny.batch(picture)
    before = x.copy()
    tiny.scores(x)
    tiny.activations(x, ["relu1"])
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(tiny.batch(picture), picture)


# Logits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tail",
    [
        [node("Softmax", "logits", "end", axis=1)],
        [node("LogSoftmax", "logits", "end", axis=1)],
        [node("Softmax", "logits", "p", axis=1), node("Identity", "p", "end")],
        [node("Softmax", "logits", "p", axis=1), node("Dropout", "p", "q"), node("Cast", "q", "end", to=1)],
    ],
    ids=lambda tail: "-".join(n.op_type for n in tail),
)
def test_a_graph_that_ends_in_a_softmax_gives_what_goes_into_it(path, picture, tail):
    net = nets.save(nets.tiny(about=nets.ABOUT, tail=tail), path)
    assert net.logits == "logits"
    assert net.classes == 4
    assert net.labels == list(nets.LABELS)
    assert [layer.name for layer in net.layers][-1] == "logits"
    np.testing.assert_allclose(net.scores(net.batch(picture))[0], nets.tiny_forward(picture)["logits"], atol=1e-5)


def test_a_softmax_inside_is_not_the_end(path):
    net = nets.save(
        nets.tiny(tail=[node("Softmax", "logits", "p", axis=1), node("Sigmoid", "p", "end")], about=nets.ABOUT), path
    )
    assert net.logits == "end"


def test_logits_with_rows_and_columns_of_one_are_a_vector(path, picture):
    """SqueezeNet ends in a convolution and a global pool."""
    w = nets.tiny_weights()
    made = nets.model(
        [
            node("Conv", "image w", "map", strides=[2, 3]),
            node("GlobalAveragePool", "map", "pool"),
            node("Softmax", "pool", "end", axis=1),
        ],
        {"w": w["w1"]},
        about=nets.ABOUT,
    )
    net = nets.save(made, path)
    assert (net.logits, net.classes, net.last_map) == ("pool", 5, "map")
    scores = net.scores(net.batch(picture, picture))
    assert scores.shape == (2, 5)
    np.testing.assert_allclose(
        scores[0], net.activations(net.batch(picture), ["map"])["map"][0].mean((1, 2)), atol=1e-6
    )


def test_softmax_is_that_of_the_definition_and_does_not_overflow():
    with np.errstate(all="raise"):
        found = softmax(np.array([[0.0, np.log(3.0)], [1e4, 1e4 - np.log(4.0)]]))
    np.testing.assert_allclose(found, [[0.25, 0.75], [0.8, 0.2]], rtol=1e-9)


# Layers and classes that are not there -------------------------------------------------------------------------------


def test_last_map_is_the_last_with_rows_and_columns_that_is_no_pool(path):
    nodes = [
        node("Conv", "image w", "a"),
        node("Relu", "a", "b"),
        node("MaxPool", "b", "c", kernel_shape=[2, 2]),
        node("GlobalMaxPool", "c", "d"),
    ]
    made = nets.model(nodes, {"w": nets.tiny_weights()["w1"]})
    assert nets.save(made, path).last_map == "b"


def test_a_net_without_rows_and_columns_says_so(path):
    net = nets.save(nets.linear(np.ones((2, 3, 4, 5)), np.zeros(2)), path)
    with pytest.raises(UnknownLayer, match="no layer with rows and columns"):
        _ = net.last_map


def test_a_layer_to_make_a_map_of(tiny):
    assert tiny.map_layer() is tiny.map_layer(None) is tiny.layer("conv2")
    assert tiny.map_layer("relu1") is tiny.layer("relu1")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mean", "Layer mean of tiny has no rows and columns"),
        ("logits", "Layer logits of tiny"),
        ("x", "tiny has no layer 'x'"),
    ],
)
def test_a_layer_that_has_no_map_is_named(tiny, name, said):
    with pytest.raises(UnknownLayer, match=said):
        tiny.map_layer(name)


def test_a_net_without_maps_has_no_layer_to_make_one_of(path):
    with pytest.raises(UnknownLayer, match="no layer with rows and columns"):
        nets.save(nets.linear(np.ones((2, 3, 4, 5)), np.zeros(2)), path).map_layer()


def test_layers_that_show_nothing_new_are_left_out(path):
    made = nets.tiny(tail=[node("Identity", "logits", "same"), node("Neg", "same", "end")])
    assert [layer.name for layer in nets.save(made, path).layers][-2:] == ["logits", "end"]


@pytest.mark.parametrize(
    "ask", [lambda n: n.layer("nowhere"), lambda n: n.activations(np.zeros((1, 3, 12, 16)), ["nowhere"])]
)
def test_an_unknown_layer_is_named(tiny, ask):
    with pytest.raises(UnknownLayer, match=r"tiny has no .*'nowhere'"):
        ask(tiny)


def test_a_weight_is_no_layer(tiny, picture):
    with pytest.raises(UnknownLayer, match="'w1'"):
        tiny.activations(tiny.batch(picture), ["w1"])


@pytest.mark.parametrize(
    ("wanted", "expected"), [(0, 0), (3, 3), (np.int64(2), 2), ("2", 2), ("church", 1), ("golf ball", 3)]
)
def test_a_class_by_number_or_label(tiny, wanted, expected):
    assert tiny.class_index(wanted) == expected


@pytest.mark.parametrize("wanted", [4, -1, 1000, "-1"])
def test_a_class_out_of_range_is_refused_with_the_range(tiny, wanted):
    with pytest.raises(UnknownClass, match=rf"classes 0 to 3, not {wanted}\."):
        tiny.class_index(wanted)


def test_a_label_that_is_not_there_is_refused(tiny):
    with pytest.raises(UnknownClass, match="no class 'Church'"):
        tiny.class_index("Church")


def test_a_label_that_is_a_number_is_the_label(path):
    about = Metadata(labels=("1", "0", "3", "2"), input_size=nets.SIZE, mean=nets.MEAN, std=nets.STD)
    net = nets.save(nets.tiny(about=about), path)
    assert (net.class_index("1"), net.class_index(1)) == (0, 1)


# Files that are no network -------------------------------------------------------------------------------------------


def _external():
    made = nets.tiny()
    tensor = made.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return made


def _input(kind, shape):
    made = nets.tiny()
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", kind, shape))
    return made


def _damaged_weight():
    made = nets.tiny()
    made.graph.initializer[0].dims[0] = 7
    return made


def _saying(key, value):
    made = nets.tiny()
    made.metadata_props.add(key=key, value=value)
    return made


BAD = {
    "empty": b"",
    "text": b"This is not a network.\n" * 20,
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "zeros": bytes(1000),
    "no nodes": onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(name="empty")),
    "a vector in": _input(1, ["n", 7]),
    "five channels": _input(1, ["n", 5, 12, 16]),
    "bytes in": _input(2, ["n", 3, 12, 16]),
    "another channel count": _input(1, ["n", 1, 12, 16]),
    "weights elsewhere": _external(),
    "damaged weight": _damaged_weight(),
    "unknown op": nets.model([node("Frobnicate", "image", "out")]),
    "missing tensor": nets.model([node("Add", "image nothing", "out")]),
    "impossible std": _saying("std", "[1, 0, 1]"),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_file_that_is_no_network_is_refused_in_one_sentence(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    with pytest.raises(BadNetwork) as caught:
        Net(path)
    _is_a_sentence(caught.value)


def _is_a_sentence(error: BadNetwork) -> None:
    text = str(error)
    assert "some net.onnx" in text
    assert "\n" not in text
    assert len(text) < 300
    assert "/" not in text.replace("and/or", "")  # a path says nothing to the one who brought the file


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(BadNetwork, match=r"There is no file absent\.onnx\."):
        Net(tmp_path / "absent.onnx")
    with pytest.raises(BadNetwork):
        Net(tmp_path)


def test_what_is_wrong_is_said(path):
    for key, words in {
        "a vector in": r"takes image \[0, 7\]",
        "weights elsewhere": "which is not beside it; put it there",
        "impossible std": "std",
        "unknown op": "Frobnicate",
        "empty": "holds no network",
    }.items():
        content = BAD[key]
        path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
        with pytest.raises(BadNetwork, match=words):
            Net(path)


def test_a_file_cut_short_anywhere_is_refused(path):
    content = nets.tiny().SerializeToString()
    for length in [*range(0, len(content), 41), *range(len(content) - 60, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(BadNetwork) as caught:
            Net(path)
        _is_a_sentence(caught.value)


def test_random_bytes_are_refused(path):
    rng = np.random.default_rng(0)
    for length in range(1, 300, 3):
        path.write_bytes(rng.bytes(length))
        with pytest.raises(BadNetwork) as caught:
            Net(path)
        _is_a_sentence(caught.value)


def test_a_file_with_damaged_bytes_is_refused_or_opened_but_nothing_else_is_raised(path):
    """Bytes of names, shapes and attributes, not of weights, where almost any byte is as good as another."""
    made = nets.tiny(about=nets.ABOUT)
    content = made.SerializeToString()
    weights = [(content.index(t.raw_data), len(t.raw_data)) for t in made.graph.initializer]
    places = [i for i in range(len(content)) if not any(start <= i < start + size for start, size in weights)]
    rng = np.random.default_rng(1)
    refused = 0
    for place in rng.choice(places, 150, replace=False):
        broken = bytearray(content)
        broken[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(broken))
        try:
            Net(path)
        except BadNetwork:
            refused += 1
    assert refused > 30


# Where it runs -------------------------------------------------------------------------------------------------------


@pytest.fixture
def gpu(monkeypatch):
    """The driver reports a GPU, and ONNX Runtime has CUDA."""
    monkeypatch.setattr(net_module, "cuda_device_present", lambda: True)
    monkeypatch.setattr(net_module, "_preload_cuda", lambda: None)
    monkeypatch.setattr(net_module, "_one_arena", lambda: None)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )


def _check_on_cpu_with_note(net):
    image = nets.picture()
    np.testing.assert_allclose(net.scores(net.batch(image))[0], nets.tiny_forward(image)["logits"], atol=1e-5)
    net.activations(net.batch(image), ["conv1"])
    assert net.engine == "CPU"
    assert [note for note in net.notes if "CUDA" in note] == [
        "There is an NVIDIA GPU, but CUDA could not be started; this network runs on the CPU."
    ]


def test_where_cuda_cannot_start_the_cpu_runs_and_it_is_said_once(tiny, path, gpu, monkeypatch):
    session = onnxruntime.InferenceSession
    tried = []

    def start(content, options, providers):
        tried.append(providers[0])
        if net_module.CUDA in providers:
            raise RuntimeError("libcudnn.so.9: cannot open shared object file")
        return session(content, options, providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", start)
    _check_on_cpu_with_note(Net(shutil.copy(tiny.path, path)))
    assert tried[:2] == [net_module.CUDA, net_module.CPU]


def test_where_onnx_runtime_itself_drops_cuda_it_is_said_too(tiny, path, gpu, monkeypatch):
    session = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime, "InferenceSession", lambda content, options, providers: session(content, options, providers[-1:])
    )
    _check_on_cpu_with_note(Net(shutil.copy(tiny.path, path)))


def test_a_bad_file_is_a_bad_file_also_where_there_is_a_gpu(path, gpu, monkeypatch):
    def fail(*_):
        raise RuntimeError("[ONNXRuntimeError] : 1 : FAIL : no such op\nmore about it")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(BadNetwork, match=r"cannot open some net\.onnx: no such op$"):
        nets.save(nets.tiny(), path)


def test_without_a_gpu_cuda_is_not_asked_for(tiny, path, gpu, monkeypatch):
    monkeypatch.setattr(net_module, "cuda_device_present", lambda: False)
    session = onnxruntime.InferenceSession
    asked = []
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda content, options, providers: asked.append(providers) or session(content, options, providers),
    )
    net = Net(shutil.copy(tiny.path, path))
    assert asked == [["CPUExecutionProvider"]]
    assert net.engine == "CPU"
    assert net.notes == []


def test_forward_passes_do_not_import_torch(tiny):
    """Pages that need no gradient start without it."""
    code = """
import sys
from engine.look import activations, filters
from engine.explain import occlusion, saliency
from engine.nets import certificate; from engine import net, target
n = net.Net(sys.argv[1])
image = n.view(__import__("numpy").full((30, 40, 3), 0.5, "float32"))[0]
activations.statistics(activations.activation_maps(n, image, n.last_map))
occlusion.occlusion(n, image, 1, patch=6, stride=6)
filters.filters(n, n.last_map)
certificate.recall(n)
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tiny.path], cwd=PROJECT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.strip() == "False", done.stderr


# Files of others -----------------------------------------------------------------------------------------------------


def test_weights_in_constant_nodes_are_weights(path, picture):
    made = nets.tiny()
    weights = {t.name: t for t in made.graph.initializer}
    del made.graph.initializer[:]
    constants = [
        node("Constant", "", name, value=numpy_helper.from_array(numpy_helper.to_array(t)))
        for name, t in weights.items()
    ]
    nodes = [*constants, *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    net = nets.save(made, path)
    assert [layer.name for layer in net.layers] == ["conv1", "relu1", "pool1", "conv2", "mean", "logits"]
    expected = nets.tiny_forward(picture, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    np.testing.assert_allclose(net.activations(net.batch(picture), ["conv2"])["conv2"][0], expected["conv2"], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "size", "channels", "classes", "last_map"),
    [
        ("squeezenet1_1_imagenet", (224, 224), 3, 1000, (1000, 13, 13)),
        ("resnet20_cifar10", (224, 224), 3, 10, (64, 56, 56)),  # it was trained on 32 x 32, which the file does not say
        ("mnist_cntk", (28, 28), 1, 10, (16, 14, 14)),
        ("squeezenet_places365", (224, 224), 3, 365, (365, 13, 13)),
    ],
)
def test_networks_of_others(shared, name, size, channels, classes, last_map):
    net = Net(shared / "nets" / f"{name}.onnx")
    assert (net.input_size, net.channels, net.classes) == (size, channels, classes)
    assert net.labels[:2] == ["0", "1"]
    assert len(net.notes) == 1
    assert net.layer(net.last_map).shape == last_map
    images = [np.random.default_rng(seed).random((*size, channels), np.float32) for seed in range(2)]
    together = net.scores(net.batch(*images))
    assert together.shape == (2, classes)
    np.testing.assert_allclose(together[1:], net.scores(net.batch(images[1])), rtol=1e-3, atol=1e-3)
    assert not np.allclose(together[0], together[1])

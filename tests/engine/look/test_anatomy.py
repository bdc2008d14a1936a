"""Are the parameters, multiply-adds and times of a network what they are by hand, and its boxes those of its graph?"""

from __future__ import annotations

import io
import os
import re
import tempfile

import numpy as np
import pandas as pd
import pytest
import small_nets as nets
from click.testing import CliRunner
from small_nets import node

from engine.cli.main import main
from engine.look import anatomy as anatomies
from engine.look.anatomy import anatomy, histogram, profile, profile_steps, statistics, weights
from engine.look.diagram import LEVELS, Diagram, diagram, dot, parts, path, usual
from engine.model import metadata
from engine.net import Net, UnknownLayer
from engine.nets import available as at_hand


def made(tmp_path, nodes, constants, **more) -> Net:
    return nets.save(nets.model(nodes, constants, **more), tmp_path / "made.onnx")


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(0, 0.2, shape).astype(np.float32)


def of(net: Net, name: str) -> pd.Series:
    table = anatomy(net).layers
    return table[table.name == name].iloc[0]


# Parameters and multiply-adds -----------------------------------------------------------------------------------------


def test_tiny_by_hand(tiny):
    found = anatomy(tiny)
    table = found.layers.set_index("name")
    assert list(table.index) == ["conv1", "relu1", "pool1", "conv2", "mean", "logits"]
    assert table.parameters.tolist() == [5 * 3 * 9 + 5, 0, 0, 6 * 5 * 9 + 6, 0, 4 * 6 + 4]
    # conv1 is padded to 12 x 16; conv2 makes 4 x 6 of the pool's 6 x 8.
    assert table.macs.tolist() == [5 * 12 * 16 * 27, 0, 0, 6 * 4 * 6 * 45, 0, 6 * 4]
    assert table["shape"].tolist() == ["5×12×16", "5×12×16", "5×6×8", "6×4×6", "6", "4"]
    assert table["values"].tolist() == [960, 960, 240, 144, 6, 4]
    assert (found.parameters, found.macs) == (140 + 276 + 28, 25920 + 6480 + 24)
    assert table.loc["conv2", ["field_rows", "field_cols", "stride_rows", "stride_cols"]].tolist() == [8, 8, 2, 2]
    assert table.loc["logits", "stride_rows"] == 0
    assert table.kind.tolist() == ["convolution", "activation", "pooling", "convolution", "pooling", "linear"]
    assert found.ops.set_index("op")["count"].to_dict() == {
        "Conv": 2,
        "Gemm": 1,
        "MaxPool": 1,
        "ReduceMean": 1,
        "Relu": 1,
    }
    assert (found.opset, found.file_bytes, found.uncounted) == (17, tiny.path.stat().st_size, "")


@pytest.mark.parametrize(
    ("op", "weight", "attributes", "macs"),
    [
        ("Conv", (6, 1, 3, 3), {"group": 3, "pads": [1, 1, 1, 1]}, 6 * 12 * 16 * 9),
        ("Conv", (6, 3, 2, 4), {"strides": [2, 4]}, 6 * 6 * 4 * 24),
        ("ConvTranspose", (3, 5, 2, 2), {"strides": [2, 2]}, 3 * 12 * 16 * 5 * 4),
        ("ConvTranspose", (3, 2, 3, 3), {"group": 3}, 3 * 12 * 16 * 2 * 9),
    ],
)
def test_convolutions_with_groups_strides_and_turned_round(tmp_path, op, weight, attributes, macs):
    nodes = [
        node(op, "image w", "out", **attributes),
        node("GlobalAveragePool", "out", "pooled"),
        node("Flatten", "pooled", "logits"),
    ]
    net = made(tmp_path, nodes, {"w": floats(*weight)})
    assert of(net, "out").macs == macs == anatomy(net).macs
    assert anatomy(net).parameters == np.prod(weight)


@pytest.mark.parametrize("turned", [0, 1])
def test_matrix_products(tmp_path, turned):
    nodes = [
        node("GlobalAveragePool", "image", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("MatMul", "flat w", "product"),
        node("Add", "product b", "sum"),
        node("Gemm", "sum v", "logits", transB=turned),
    ]
    constants = {"w": floats(3, 7), "b": floats(7), "v": floats(5, 7) if turned else floats(7, 5)}
    found = anatomy(made(tmp_path, nodes, constants))
    table = found.layers.set_index("name")
    assert table.macs.to_dict() == {"pooled": 0, "flat": 0, "product": 21, "sum": 0, "logits": 35}
    assert table.parameters.to_dict() == {"pooled": 0, "flat": 0, "product": 21, "sum": 7, "logits": 35}


def test_products_of_two_tensors_of_the_picture_count_and_hold_no_parameters(tmp_path):
    nodes = [
        node("Transpose", "image", "turned", perm=[0, 1, 3, 2]),
        node("MatMul", "image turned", "attention"),  # (3, 12, 16) by (3, 16, 12)
        node("ReduceMean", "attention", "logits", axes=[2, 3], keepdims=0),
    ]
    net = made(tmp_path, nodes, {}, opset=17)
    assert of(net, "attention").macs == 3 * 12 * 12 * 16
    assert anatomy(net).parameters == 0


def test_statistics_and_settings_are_no_parameters(tmp_path):
    nodes = [
        node("BatchNormalization", "image scale shift mean var", "normal"),
        node("Clip", "normal low high", "clipped"),
        node("Mul", "clipped half", "halved"),
        node("GlobalAveragePool", "halved", "pooled"),
        node("Flatten", "pooled", "logits"),
    ]
    constants = {key: np.ones(3, np.float32) for key in ("scale", "shift", "mean", "var")}
    constants |= {"low": np.float32(0), "high": np.float32(6), "half": np.float32(0.5)}
    net = made(tmp_path, nodes, constants)
    assert anatomy(net).parameters == 6, "scale and shift"
    assert list(weights(net, "normal")) == ["scale", "shift", "mean", "var"]
    assert not weights(net, "halved")


def test_shared_weights_count_once_and_those_behind_other_ops_count(tmp_path):
    nodes = [
        node("Transpose", "w", "turned", perm=[1, 0, 2, 3]),  # as exporters leave some weights
        node("Conv", "image turned", "first", pads=[1, 1, 1, 1]),
        node("Conv", "first turned", "second", pads=[1, 1, 1, 1]),
        node("DequantizeLinear", "codes scale", "dense"),
        node("Conv", "second dense", "third"),
        node("GlobalAveragePool", "third", "pooled"),
        node("Flatten", "pooled", "logits"),
    ]
    constants = {"w": floats(3, 3, 3, 3), "codes": np.ones((4, 3, 1, 1), np.int8), "scale": np.float32(0.1)}
    table = anatomy(made(tmp_path, nodes, constants)).layers.set_index("name")
    assert table.parameters.to_dict() == {"first": 81, "second": 0, "third": 12, "pooled": 0, "logits": 0}
    assert table.macs["third"] == 4 * 12 * 16 * 3
    assert "turned" not in table.index, "what only prepares weights is no layer"


def test_shapes_that_inference_does_not_know_are_measured(tmp_path, monkeypatch):
    net = nets.save(nets.tiny(about=nets.ABOUT), tmp_path / "tiny.onnx")
    known = anatomy(net).layers
    shapes = {key: value for key, value in net.graph.shapes.items() if key == "image"}
    monkeypatch.setitem(vars(net), "graph", _with(net.graph, shapes=shapes))
    pd.testing.assert_frame_equal(anatomy(net).layers[["shape", "macs"]], known[["shape", "macs"]])


def _with(graph, **changes):
    import dataclasses

    return dataclasses.replace(graph, **changes)


@pytest.mark.parametrize(
    ("file", "parameters", "macs"),
    [
        # As published: SqueezeNet 1.1, 1,235,496 parameters and 0.35 G in torchvision's table; ResNet-20 for CIFAR-10,
        # 0.27 M and 41 M (He et al. 2015, section 4.2); GoogLeNet, 7 M and 1.5 G (Szegedy et al. 2014, table 1).
        ("squeezenet1_1_imagenet.onnx", 1_235_496, 0.35e9),
        ("resnet20_cifar10.onnx", 269_722, 41e6),
        ("googlenet_imagenet.onnx", 6_998_552, 1.55e9),
    ],
)
def test_published_figures(shared, file, parameters, macs):
    model = nets.onnx.load(shared / "nets" / file)
    if "cifar" in file:
        metadata.write(model, metadata.Metadata(input_size=(32, 32)))
    found = anatomy(Net(shared / "nets" / file, content=model.SerializeToString()))
    assert found.parameters == parameters
    assert found.macs == pytest.approx(macs, rel=0.025)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_torchvisions_figures(name, tmp_path):
    torch = pytest.importorskip("torch")
    from torchvision import models

    from engine.nets.export import trace

    with torch.random.fork_rng():
        module = models.get_model(name, weights=None).eval()
        for part in module.modules():
            if isinstance(part, (torch.nn.BatchNorm2d, torch.nn.Linear)):  # equal constants would be written once
                torch.nn.init.normal_(part.bias)
    (tmp_path / "net.onnx").write_bytes(trace(module, (3, 224, 224)).SerializeToString())
    found = anatomy(Net(tmp_path / "net.onnx"))
    stated = models.get_model_weights(name).DEFAULT.meta
    assert found.macs / 1e9 == pytest.approx(stated["_ops"], abs=0.006)
    # The exporter folds normalisations into convolutions: scale and shift are gone, and each has a bias instead.
    normalised = sum(p.num_features for p in module.modules() if isinstance(p, torch.nn.BatchNorm2d))
    assert found.parameters == stated["num_params"] - normalised


# Weights --------------------------------------------------------------------------------------------------------------


def test_weights_and_their_statistics(tiny):
    held = weights(tiny, "conv2")
    assert list(held) == ["w2", "b2"]
    np.testing.assert_array_equal(held["w2"], nets.tiny_weights()["w2"])
    array = np.array([-2, 0, 0.019, 0.021, 1], np.float32)
    (row,) = statistics({"a": array}).itertuples(index=False)
    assert (row.name, row.shape, row.count, row.smallest, row.largest) == ("a", "5", 5, -2, 1)
    assert row.near_zero == pytest.approx(2 / 5), "within a hundredth of 2"
    assert (row.mean, row.std) == (pytest.approx(array.mean()), pytest.approx(array.std()))
    with pytest.raises(UnknownLayer):
        weights(tiny, "nowhere")


def test_a_histogram_counts_each_number_once():
    values = np.r_[floats(1000), np.nan]
    found = histogram(values, bins=13)
    assert found["count"].sum() == 1000
    assert len(found) == 13
    np.testing.assert_allclose(found.high[:-1], found.low[1:])
    assert (found.low.iloc[0], found.high.iloc[-1]) == (np.nanmin(values), np.nanmax(values))
    inside = ((values >= found.low[4]) & (values < found.high[4])).sum()
    assert found["count"][4] == inside


# Time -----------------------------------------------------------------------------------------------------------------


def test_each_op_has_a_time_and_nothing_is_left_behind(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    steps = list(profile_steps(tiny, runs=3))
    assert [step.index for step in steps] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {step.total for step in steps} == {8}
    found = steps[-1].result
    assert found.layers.name.tolist() == anatomy(tiny).layers.name.tolist()
    assert (found.layers.milliseconds >= 0).all()
    assert found.layers.milliseconds.sum() <= found.plain * 2 + 1
    assert found.optimised > 0
    assert (found.runs, found.engine) == (3, tiny.engine)
    assert not os.listdir(tmp_path)


def test_a_run_that_is_given_up_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    steps = profile_steps(tiny)
    next(steps)
    assert os.listdir(tmp_path)
    steps.close()
    assert not os.listdir(tmp_path)


def test_the_time_goes_to_the_op_that_takes_it(tmp_path):
    """A convolution of a thousand times the work of the one before it, under no name."""
    nodes = [
        node("Conv", "image w", "small"),
        node("Conv", "small v", "large", pads=[5, 5, 5, 5]),
        node("GlobalAveragePool", "large", "pooled"),
        node("Flatten", "pooled", "logits"),
    ]
    for each in nodes:
        each.name = ""
    constants = {"w": floats(32, 3, 1, 1), "v": floats(64, 32, 11, 11)}
    net = made(tmp_path, nodes, constants, shape=("batch", 3, 64, 64))
    took = profile(net).layers.set_index("name").milliseconds
    assert took.idxmax() == "large"
    assert took["large"] > 3 * took["small"]


# The drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tensor", "op", "expected"),
    [
        ("blocks.0.conv1", "Conv", ("blocks", "0", "conv1")),
        ("/layer1/layer1.0/conv1/Conv_output_0", "Conv", ("layer1", "0", "conv1")),
        ("/layer1/layer1.0/Add_output_0", "Add", ("layer1", "0")),
        ("inception_3a/1x1_1", "Conv", ("inception_3a", "1x1_1")),
        ("Plus214_Output_0", "Add", ("Plus214_Output_0",)),
    ],
)
def test_modules_are_read_from_names(tensor, op, expected):
    assert path(tensor, op) == expected


def residual(tmp_path, names=("a", "b")) -> Net:
    """Two blocks of convolution, normalisation, rectifier, convolution and a skip; and a gate, x * sigmoid(x)."""
    nodes, constants, before = [], {}, "image"
    for k in names:
        constants |= {f"{k}.conv.w": floats(3, 3, 3, 3), f"{k}.out.w": floats(3, 3, 1, 1)}
        constants |= {f"{k}.{part}": np.ones(3, np.float32) for part in ("scale", "shift", "mean", "var")}
        nodes += [
            node("Conv", f"{before} {k}.conv.w", f"{k}.conv", pads=[1, 1, 1, 1]),
            node("BatchNormalization", f"{k}.conv {k}.scale {k}.shift {k}.mean {k}.var", f"{k}.norm"),
            node("Relu", f"{k}.norm", f"{k}.relu"),
            node("Conv", f"{k}.relu {k}.out.w", f"{k}.out"),
            node("Add", f"{k}.out {before}", f"{k}.add"),
        ]
        before = f"{k}.add"
    nodes += [
        node("Sigmoid", before, "sigmoid"),
        node("Mul", f"{before} sigmoid", "gated"),
        node("GlobalAveragePool", "gated", "pooled"),
        node("Flatten", "pooled", "logits"),
    ]
    return made(tmp_path, nodes, constants)


def contents(drawn: Diagram) -> dict[str, list[str]]:
    return {name: [each.outputs[0] for each in box.nodes] for name, box in drawn.boxes.items()}


def test_what_only_follows_is_in_one_box(tmp_path):
    drawn = diagram(residual(tmp_path), "layers")
    assert contents(drawn) == {
        "a.conv": ["a.conv", "a.norm", "a.relu"],
        "a.out": ["a.out"],
        "a.add": ["a.add"],
        "b.conv": ["b.conv", "b.norm", "b.relu"],
        "b.out": ["b.out"],
        "b.add": ["b.add", "sigmoid", "gated"],
        "pooled": ["pooled"],
        "logits": ["logits"],
    }
    assert {(a, b) for a, b, _ in drawn.arrows} == {
        ("image", "a.conv"),
        ("a.conv", "a.out"),
        ("a.out", "a.add"),
        ("image", "a.add"),
        ("a.add", "b.conv"),
        ("b.conv", "b.out"),
        ("b.out", "b.add"),
        ("a.add", "b.add"),
        ("b.add", "pooled"),
        ("pooled", "logits"),
    }
    assert [box.group for box in drawn.boxes.values()] == ["a", "a", "a", "b", "b", "b", "", ""]
    assert drawn.box_of("a.norm") == "a.conv"
    assert drawn.around("a.out", 1) == {"a.conv", "a.out", "a.add"}


def test_modules_are_boxes_and_each_op_can_be_one(tmp_path):
    net = residual(tmp_path)
    assert list(contents(diagram(net, "modules"))) == ["a.conv", "b.conv", "pooled", "logits"]
    assert [box.title for box in diagram(net, "modules").boxes.values()] == ["a", "b", "pooled", "logits"]
    assert len(diagram(net, "every op").boxes) == len(net.graph.nodes)
    assert parts(net)["a"] == {"a.conv", "a.norm", "a.relu", "a.out", "a.add"}
    with pytest.raises(ValueError, match="levels are modules, layers, every op"):
        diagram(net, "atoms")


def test_modules_are_read_from_weights_where_tensors_are_only_numbered(tmp_path):
    made_ = nets.onnx.load(residual(tmp_path).path)
    new = {name: f"val_{k}" for k, name in enumerate(n for each in made_.graph.node for n in each.output)}
    for each in made_.graph.node:
        each.input[:] = [new.get(name, name) for name in each.input]
        each.output[:] = [new.get(name, name) for name in each.output]
    made_.graph.output[0].name = new["logits"]
    made_.graph.ClearField("value_info")
    net = nets.save(made_, tmp_path / "numbered.onnx")
    drawn = diagram(net, "layers")
    assert [box.group for box in drawn.boxes.values()] == ["a", "a", "", "b", "b", "", "", ""]


@pytest.mark.parametrize("name", [each.stem for each in at_hand.SHIPPED.glob("*.onnx")])
@pytest.mark.parametrize("level", LEVELS)
def test_all_of_a_network_is_drawn_once(name, level):
    net = Net(at_hand.find(name))
    drawn = diagram(net, level)
    tensors = [tensor for box in drawn.boxes.values() for tensor in box.tensors]
    assert sorted(tensors) == sorted(anatomy(net).layers.name)
    assert all(b in drawn.boxes for _, b, _ in drawn.arrows)
    assert all(drawn.box_of(name) == name for name in drawn.boxes)
    assert {b for _, b, _ in drawn.arrows} == set(drawn.boxes), "each box is reached"
    assert usual(net) == "layers"


def test_dot_is_quoted_and_holds_what_is_asked_for(tmp_path):
    drawn = diagram(residual(tmp_path, names=('a"\\', "b")), "layers")
    text = dot(drawn, {}, chosen="b.out", notes={"b.out": "1.5%"})
    unquoted = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    assert '"' not in unquoted, "every quote is closed"
    assert unquoted.count(" [tooltip=") == len(drawn.arrows)
    chosen = next(line for line in text.splitlines() if line.strip().startswith('"b.out" ['))
    assert "penwidth=4" in chosen
    assert "1.5%" in chosen
    assert text.count("penwidth=4") == 1
    part = dot(drawn, {}, only=["b.out"])
    assert set(re.findall(r'^  +"([^"]*)" \[', part, re.MULTILINE)) == {"b.conv", "b.out", "b.add"}
    assert part.count("dashed") >= 2, "what the part hangs on is in outline"


def test_what_all_goes_through_is_drawn_in_one_line(tmp_path):
    """Otherwise Graphviz lets long networks lean over, and they become wide and small."""
    text = dot(diagram(residual(tmp_path), "layers"), {})
    trunk = re.findall(r'^ +"([^"]*)" \[.*group=trunk', text, re.MULTILINE)
    assert trunk == ["a.add", "b.add", "pooled", "logits"]


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes(tiny, tmp_path):
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["anatomy", "--net", str(tiny.path), "--runs", "1", "--compare", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "444 parameters, 32,424 multiply-adds (MACs)" in done.output
    assert "8     2" in next(line for line in done.output.splitlines() if line.startswith("conv2"))
    written = pd.read_csv(out / "layers.csv")
    pd.testing.assert_frame_equal(
        written.drop(columns="milliseconds"),
        pd.read_csv(io.StringIO(anatomy(tiny).layers.to_csv(index=False))),
        check_dtype=False,
    )
    assert written.milliseconds.notna().all()
    assert pd.read_csv(out / "ops.csv")["count"].sum() == 6
    assert set(pd.read_csv(out / "certificate.csv").kind) == {"tensor", "gradient"}
    assert (out / "network.dot").read_text("utf-8") == dot(diagram(tiny, "layers"), tiny.graph.shapes)


def test_ops_that_are_not_counted_are_named(tmp_path):
    nodes = [
        node("GlobalAveragePool", "image", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Einsum", "flat w", "logits", equation="bi,ij->bj"),
    ]
    net = made(tmp_path, nodes, {"w": floats(3, 4)})
    assert anatomy(net).uncounted == "Einsum"
    done = CliRunner().invoke(main, ["anatomy", "--net", str(net.path), "--runs", "1"])
    assert "Not counted: multiply-adds of Einsum." in done.output


def test_every_kind_has_a_colour():
    from engine.look.diagram import COLOURS

    assert set(COLOURS) == {*anatomies.KINDS, anatomies.OTHER}

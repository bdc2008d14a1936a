"""Network: is what the page shows the engine's, does a choice reach all of it, and is what it offers the command's?"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import small_nets as small
from click.testing import CliRunner
from small_nets import node
from test_pages import charts, fine, home, opened, run, tables  # noqa: F401

from engine.cli.main import main
from engine.look.anatomy import anatomy
from engine.look.diagram import diagram, dot
from engine.net import Net
from engine.nets import available
from engine.nets.certificate import TENSOR_LIMIT


def metrics(at) -> dict[str, str]:
    return {each.label: str(each.value) for each in at.metric}


def with_columns(at, *columns: str) -> dict[str, list]:
    """The data of the first chart that has these columns."""
    return next(table for chart in charts(at) for table in tables(chart) if set(columns) <= set(table))


def drawn(at) -> str:
    return at.get("graphviz_chart")[0].proto.spec


def read(data) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(data.encode() if isinstance(data, str) else data))


def test_the_first_view_is_the_whole_network(given):
    at = opened("network", net="imagenette")
    assert fine(at)
    found = anatomy(Net(available.find("imagenette")))
    shown = metrics(at)
    assert (shown["Parameters"], shown["Multiply-adds"], shown["Ops"]) == ("2.76 M", "659 M", "41")
    assert shown["Time"].endswith(" ms"), "the timing has run"
    bars = with_columns(at, "name", "macs", "milliseconds")
    assert (bars["name"], bars["macs"]) == (found.layers.name.tolist(), found.layers.macs.tolist())
    assert min(bars["milliseconds"]) >= 0 < max(bars["milliseconds"])
    table = at.dataframe[0].value
    assert table["multiply-adds"].tolist() == found.layers.macs.tolist()
    assert table.sees.iloc[0] == "7"
    assert table.sees.iloc[-1] == "all"
    assert not at.get_by_key("compare").value, "PyTorch is not loaded unasked"
    net = Net(available.find("imagenette"))
    heaviest = found.layers.name[found.layers.macs.argmax()]
    assert drawn(at) == dot(diagram(net, "layers"), net.graph.shapes, chosen=diagram(net, "layers").box_of(heaviest))
    assert given["network.dot"] == drawn(at)


def test_downloads_are_what_the_command_writes(given, tmp_path):
    at = opened("network", net="digits", compare="true")
    assert fine(at)
    done = CliRunner().invoke(main, ["anatomy", "--net", "digits", "--compare", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    for name in ("layers.csv", "ops.csv", "certificate.csv"):
        mine, theirs = read(given[name]), pd.read_csv(tmp_path / name)
        assert list(mine) == list(theirs)
        pd.testing.assert_frame_equal(
            mine.drop(columns="milliseconds", errors="ignore"), theirs.drop(columns="milliseconds", errors="ignore")
        )
    command = next(each.value for each in at.code if each.value.startswith("python -m engine"))
    assert command == "python -m engine anatomy --net digits --compare --out result/"


def test_a_link_chooses_the_layer_everywhere():
    link = {"net": "digits", "layer": "conv2", "of": "parameters", "tensor": "conv2.weight_bias", "log": "true"}
    link |= {"level": "every op", "part": "around the layer", "colour": "parameters", "compare": "true"}
    at = opened("network", **link)
    assert fine(at)
    assert at.query_params == link
    assert "**conv2**" in [each.value for each in at.markdown]
    weights = nets_weights("digits", "conv2.weight_bias")
    bins = with_columns(at, "low", "high", "count")
    assert sum(bins["count"]) == weights.size
    assert bins["low"][0] == pytest.approx(weights.min())
    chosen = next(line for line in drawn(at).splitlines() if line.strip().startswith('"conv2" ['))
    assert "penwidth=4" in chosen
    net = Net(available.find("digits"))
    assert f"{4640 / anatomy(net).parameters:.1%}" in chosen, "its share of all parameters"
    assert '"conv5" [' not in drawn(at), "that is more than four arrows away"
    links = [each.proto.query_string for each in at.get("page_link")]
    assert sum("layer=conv2" in each for each in links) == 2, "filters, activations; of units there is no index"
    links = [each.proto.query_string for each in opened("network", net="digits", layer="relu5").get("page_link")]
    assert sum("layer=relu5" in each for each in links) == 2, "activations, units; no filters"
    compared = with_columns(at, "name", "relative", "drawn")
    assert compared["name"] == anatomy(net).layers.name.tolist()
    assert max(compared["relative"]) < TENSOR_LIMIT
    assert len(at.dataframe[-1].value) == 4, "four directions of the gradient"


def nets_weights(name: str, tensor: str) -> np.ndarray:
    return Net(available.find(name)).graph.constants[tensor]


def test_a_layer_of_its_own_weights_none(home):  # noqa: F811
    at = opened("network", net="digits", layer="relu1")
    assert fine(at)
    assert any("no weights" in each.value for each in at.caption)
    assert not any({"low", "high"} <= set(table) for chart in charts(at) for table in tables(chart))
    box = next(line for line in drawn(at).splitlines() if "penwidth=4" in line)
    assert box.strip().startswith('"conv1" ['), "the box that the rectifier is in"


def test_an_op_without_a_twin_is_named_and_all_else_is_shown(monkeypatch):
    from engine.ops.table import OPS

    monkeypatch.delitem(OPS, "ReduceMean")
    at = opened("network", net="honest", compare="true")  # of which no other test has the comparison
    assert not at.exception
    assert any("ReduceMean" in each.value and "no twin" in each.value for each in at.error)
    found = anatomy(Net(available.find("honest")))
    assert at.metric[0].help.startswith(f"{found.parameters:,}.")
    assert drawn(at).count(" [tooltip=") == len(diagram(Net(available.find("honest")), "layers").arrows)
    assert with_columns(at, "low", "high", "count")


def test_many_boxes_are_drawn_by_modules(home):  # noqa: F811
    nodes, constants, before = [], {"w": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)}, "image"
    for k in range(70):
        nodes.append(node("Conv", f"{before} w", before := f"block{k // 7}.conv{k}"))
    nodes += [node("GlobalAveragePool", before, "pooled"), node("Flatten", "pooled", "logits")]
    (home / "networks" / "deep.onnx").write_bytes(small.model(nodes, constants).SerializeToString())
    at = opened("network", net="deep")
    assert fine(at)
    assert at.get_by_key("level").value == "modules"
    assert drawn(at).count(" [tooltip=") == 12
    at = opened("network", net="deep", level="layers", part="block3")
    assert fine(at)
    assert drawn(at).count("label=") == 7 + 2 + 1, "seven boxes, the two beside them, the frame"
    assert metrics(at)["Parameters"] == "9", "shared weights count once"


def test_clicks_choose():
    at = opened("network", net="digits")
    at.session_state["layer"] = "conv4"  # what every click comes to
    assert fine(run(at))
    assert "**conv4**" in [each.value for each in at.markdown]
    chosen = next(line for line in drawn(at).splitlines() if "penwidth=4" in line)
    assert chosen.strip().startswith('"conv4" [')

"""Do the commands about a layer's units write what the functions return?"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from test_units import folder, net  # noqa: F401

from engine import image
from engine.cli.main import main
from engine.look.top_patches import figure, top_patches
from engine.look.units import units
from engine.record import taken_apart


@pytest.fixture
def call(net, folder, cache, tmp_path):  # noqa: F811
    """Runs a command on the planted net and pictures; {out} is where it may write."""

    def run(name: str, *options: str):
        words = [name, "--net", str(net.path), "--data", str(folder), "--layer", "relu", *options]
        return CliRunner().invoke(main, [word.replace("{out}", str(tmp_path)) for word in words])

    return run


def test_top_patches_are_written(call, net, folder, tmp_path):  # noqa: F811
    done = call("top-patches", "--channel", "3", "--channels", "2", "--count", "4", "--out", "{out}/found")
    assert done.exit_code == 0, done.output
    found = top_patches(net, str(folder), "relu", channel=3, channels=2, count=4)
    with np.load(tmp_path / "found" / "numbers.npz") as arrays:
        np.testing.assert_array_equal(arrays["pixels"], found.pixels)
        np.testing.assert_allclose(arrays["table.value"], found.table.value)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "found" / "patches.csv"), found.table, check_dtype=False)
    page = image.load(tmp_path / "found" / "picture.png")
    np.testing.assert_allclose(page, figure(found), atol=1 / 255)
    record = json.loads((tmp_path / "found" / "result.json").read_text("utf-8"))
    assert record["knobs"] == {"data": str(folder), "channel": 3, "channels": 2, "count": 4, "side": 0}
    assert record["data"]["pictures"] == 5
    assert "3  2" in done.output


def test_units_are_written_as_one_file(call, net, folder, tmp_path):  # noqa: F811
    done = call("units", "--rare", "0.2", "--out", "{out}/of/units.csv")
    assert done.exit_code == 0, done.output
    assert "8 channels: 2 dead, 1 rare, 4 usual, 1 always on; 2 pairs of twins." in done.output
    found = units(net, str(folder), "relu", rare=0.2)
    written = pd.read_csv(tmp_path / "of" / "units.csv", keep_default_na=False)
    assert written.kind.tolist() == found.table.kind.tolist()
    assert written["class"].tolist() == found.table["class"].tolist()
    assert pd.read_csv(tmp_path / "of" / "units-twins.csv")[["first", "second"]].values.tolist() == [[0, 1], [4, 7]]


def test_units_are_written_into_a_folder(call, net, folder, tmp_path):  # noqa: F811
    done = call("units", "--by", "weights", "--out", "{out}/of")
    assert done.exit_code == 0, done.output
    arrays, _ = taken_apart(units(net, str(folder), "relu", by="weights"), "")
    with np.load(tmp_path / "of" / "numbers.npz") as written:
        assert set(written.files) == set(arrays)
        np.testing.assert_allclose(written["table.selectivity"], arrays["table.selectivity"])
    assert sorted(path.name for path in (tmp_path / "of").iterdir()) == [
        "numbers.npz",
        "result.json",
        "twins.csv",
        "units.csv",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("top-patches", "--channel", "8", "--out", "{out}/x"), "has channels 0 to 7"),
        (("top-patches", "--layer", "nope", "--out", "{out}/x"), "has no layer 'nope'"),
        (("top-patches", "--data", "nowhere", "--out", "{out}/x"), "There are no pictures called 'nowhere'"),
        (("units", "--by", "looks", "--out", "{out}/x"), "not by 'looks'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(call, options, said):
    done = call(*options)
    assert done.exit_code == 2
    assert said in done.output

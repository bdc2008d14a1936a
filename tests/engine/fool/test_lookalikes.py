"""Is the other thing pasted where it is said to be, and is the map what the network says of each place?"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import small_nets as nets
from click.testing import CliRunner

from engine import image
from engine.cli.main import main
from engine.fool.adversarial import eight_bit
from engine.fool.lookalikes import (
    Pasted,
    cut_out,
    loaded,
    lookalikes,
    lookalikes_steps,
    pasted,
    places,
    silhouette,
    summed,
)
from engine.image import NotAPicture
from engine.net import Net, softmax
from engine.nets.folder import PROJECT
from engine.pictures import regions, samples


def test_the_maps_are_what_the_network_says(tiny, picture):
    other = nets.picture((9, 5), seed=4)
    found = lookalikes(tiny, picture, 2, other, share=0.5, grid=4)
    rows, cols = places(tiny.input_size, 4)
    assert found.map.shape == found.hidden.shape == (3, 4) == (len(rows), len(cols))
    np.testing.assert_array_equal(found.rows, rows)
    np.testing.assert_array_equal(found.cols, cols)
    piece = cut_out(other, tiny, 0.5)
    assert piece.shape == (6, 3, 4)
    assert found.size.tolist() == [6, 3]
    for i, row in enumerate(rows):
        for j, col in enumerate(cols):
            for each, values, classes in (
                (piece, found.map, found.found),
                (silhouette(piece, picture), found.hidden, found.hidden_found),
            ):
                said = softmax(tiny.scores(tiny.batch(eight_bit(pasted(picture, each, (row, col))))))[0]
                assert values[i, j] == pytest.approx(float(said[2]), rel=1e-4)
                assert classes[i, j] == said.argmax()
    without = softmax(tiny.scores(tiny.batch(eight_bit(picture))))[0]
    assert found.baseline == pytest.approx(float(without[2]), rel=1e-5)
    assert found.before == without.argmax()


def test_what_has_not_been_asked_is_not_a_number(tiny, picture):
    steps = list(lookalikes_steps(tiny, picture, 2, picture, grid=12))
    assert len(steps) > 1
    first = steps[0].result
    assert np.isfinite(first.map).sum() == (first.found >= 0).sum() == steps[0].index
    assert np.isnan(first.hidden).sum() == (first.hidden_found < 0).sum() == first.map.size - steps[0].index
    np.testing.assert_array_equal(steps[-1].result.map, lookalikes(tiny, picture, 2, picture, grid=12).map)


def test_the_places_are_the_middles_of_equal_cells():
    rows, cols = places((12, 16), 4)
    assert rows.tolist() == [2, 6, 10]
    assert cols.tolist() == [2, 6, 10, 14]
    assert [len(each) for each in places((10, 1000), 50)] == [2, 50]


def test_it_is_pasted_at_its_middle_and_cut_off_at_the_edge():
    ground, cut = np.zeros((8, 10, 3), np.float32), np.ones((4, 2, 4), np.float32)
    whole = pasted(ground, cut, (4, 5))[..., 0]
    assert whole.sum() == 8
    assert whole[2:6, 4:6].all()
    assert pasted(ground, cut, (0, 0))[..., 0].sum() == 2 * 1
    assert pasted(ground, cut, (7, 9))[..., 0].sum() == 3 * 2
    assert not ground.any()


def test_what_is_transparent_does_not_cover():
    ground = np.full((8, 10, 3), 0.25, np.float32)
    cut = np.concatenate([np.ones((2, 2, 3)), np.full((2, 2, 1), 0.5)], 2).astype(np.float32)
    np.testing.assert_allclose(pasted(ground, cut, (4, 4))[3:5, 3:5], 0.625)


# What is pasted -------------------------------------------------------------------------------------------------------


def test_the_thing_is_cut_out_and_its_box_is_what_counts(tiny):
    """A white disc in a black picture: nothing of the black comes along, also where it was scaled."""
    rows, cols = np.mgrid[:60, :80]
    disc = np.hypot(rows - 30, cols - 40) < 15
    other = np.repeat(disc[..., None], 3, 2).astype(np.float32)
    found = loaded(other, "thing")
    assert np.abs(np.array(found.shape[:2]) - 29).max() <= 2
    np.testing.assert_array_equal(found[..., 3] > 0, regions.thing(other)[disc.any(1)][:, disc.any(0)])
    piece = cut_out(other, tiny, 0.9, cut="thing")
    assert max(piece.shape[:2]) == round(0.9 * 12)
    solid = piece[..., 3] > 0.05
    assert piece[..., :3][solid].min() > 0.8
    assert piece[0, 0, 3] < 0.5
    assert loaded(other).shape == (60, 80, 4)
    assert (loaded(other)[..., 3] == 1).all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_colours_and_opacity_in_any_of_the_usual_forms(tiny, picture, channels):
    other = nets.picture((6, 6), 3, seed=2)
    grey, opacity = other.mean(2, keepdims=True), np.full((6, 6, 1), 0.5, np.float32)
    forms = {1: grey, 2: np.dstack([grey, opacity]), 3: other, 4: np.dstack([other, opacity])}
    found = loaded(forms[channels])
    np.testing.assert_allclose(found[..., :3], other if channels > 2 else np.repeat(grey, 3, 2))
    assert (found[..., 3] == (1 if channels % 2 else 0.5)).all()


def test_for_a_network_of_greys_it_becomes_grey():
    net = Net("exported_models/digits.onnx")
    piece = cut_out("cat", net, 0.5)
    assert piece.shape[2] == 2
    assert max(piece.shape[:2]) == 16
    colours = cut_out("cat", Net("exported_models/honest.onnx"), 0.25)
    assert colours.shape[2] == 4


def test_a_silhouette_has_its_shape_and_the_pictures_colour(picture):
    piece = np.random.default_rng(0).random((4, 3, 4)).astype(np.float32)
    found = silhouette(piece, picture)
    np.testing.assert_array_equal(found[..., 3], piece[..., 3])
    np.testing.assert_allclose(found[..., :3], np.broadcast_to(picture.mean((0, 1)), (4, 3, 3)), rtol=1e-5)


def test_a_file_and_a_sample_are_as_good_as_an_array(tmp_path):
    (tmp_path / "mine.png").write_bytes(image.to_png(samples.load("cat")))
    np.testing.assert_array_equal(loaded(str(tmp_path / "mine.png")), loaded(samples.load("cat")))
    np.testing.assert_array_equal(loaded("cat"), loaded(samples.load("cat")))


def test_what_cannot_be_is_said(tiny, picture, tmp_path):
    with pytest.raises(ValueError, match="at least 2 places"):
        lookalikes(tiny, picture, 1, picture, grid=1)
    with pytest.raises(ValueError, match="1 or 3 channels, or one more"):
        lookalikes(tiny, picture, 1, np.ones((3, 3, 5), np.float32))
    with pytest.raises(ValueError, match="share above 0"):
        lookalikes(tiny, picture, 1, picture, share=0)
    with pytest.raises(ValueError, match="whole or thing"):
        lookalikes(tiny, picture, 1, picture, cut="half")
    with pytest.raises(ValueError, match="transparent all over"):
        lookalikes(tiny, picture, 1, np.zeros((3, 3, 4), np.float32))
    with pytest.raises(ValueError, match="no file and no sample 'elephant'"):
        lookalikes(tiny, picture, 1, "elephant")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(NotAPicture):
        lookalikes(tiny, picture, 1, str(tmp_path / "bad.png"))


# What it comes to -----------------------------------------------------------------------------------------------------


def made(found: list, hidden: list, hidden_found: list, size: tuple[int, int] = (2, 2)) -> Pasted:
    found = np.array(found)
    return Pasted(
        map=np.where(found < 0, np.nan, 0.5),
        found=found,
        hidden=np.array(hidden, float),
        hidden_found=np.array(hidden_found),
        rows=np.array([0, 10]),
        cols=np.array([0, 10, 40]),
        size=np.array(size),
        baseline=0.8,
        before=7,
    )


def test_the_sum_counts_others_and_how_far_away_they_win():
    found = made([[7, 3, 3], [5, 7, 3]], [[0.7, 0.1, 0.8], [0.7] * 3], [[7, 3, 7], [7] * 3])
    come = summed(found)
    assert (come.asked, come.others, come.hiding) == (6, {3: 3, 5: 1}, 1)
    assert list(come.others) == [3, 5], "the commonest first"
    assert come.evidence == (0, 10)
    assert come.clear == 3, "all but the one that lies on it"
    assert come.farthest == pytest.approx(np.hypot(10, 30))
    wide = summed(made(found.found, found.hidden, found.hidden_found, size=(30, 30)))
    assert (wide.clear, wide.farthest) == (2, pytest.approx(np.hypot(10, 30))), "the one 30 away and 10 down still is"


def test_the_sum_of_a_part_and_of_nothing():
    come = summed(made([[7, 3, -1], [-1, -1, -1]], [[0.9, 0.85, np.nan], [np.nan] * 3], [[7, 7, -1], [-1] * 3]))
    assert (come.asked, come.others, come.hiding, come.evidence) == (2, {3: 1}, 0, None)
    come = summed(made([[7] * 3] * 2, [[0.5] * 3] * 2, [[7] * 3] * 2))
    assert (come.others, come.clear, come.farthest, come.evidence) == ({}, 0, 0.0, (0, 0))


# The command ----------------------------------------------------------------------------------------------------------


def test_the_command_writes_the_engines_maps(tmp_path):
    words = "lookalikes --net digits --image digit-3 --other digit-8 --cut thing --share 0.4 --grid 5 --class 3 --out"
    done = CliRunner().invoke(main, [*words.split(), str(tmp_path)])
    assert done.exit_code == 0, done.output
    net = Net("exported_models/digits.onnx")
    view = net.view(samples.load("digit-3"))[0]
    expected = lookalikes(net, view, 3, "digit-8", cut="thing", share=0.4, grid=5)
    with np.load(tmp_path / "numbers.npz") as arrays:
        for name in ("map", "found", "hidden", "hidden_found", "rows", "cols", "size"):
            np.testing.assert_allclose(arrays[name], getattr(expected, name), rtol=1e-5)
    record = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert record["facts"] == {"baseline": expected.baseline, "before": expected.before}
    assert record["knobs"] == {"other": "digit-8", "cut": "thing", "share": 0.4, "grid": 5}
    assert (tmp_path / "picture.png").exists()


def test_it_needs_no_torch(tmp_path):
    words = ["lookalikes", "--net", "digits", "--image", "digit-3", "--other", "digit-8", "--out", str(tmp_path)]
    script = f"""
import sys
from engine.cli.main import main
main({words!r}, standalone_mode=False)
assert "torch" not in sys.modules
"""
    found = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr

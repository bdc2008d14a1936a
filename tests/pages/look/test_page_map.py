"""Map: is what one sees, chooses and takes home what the engine laid out, and is it light enough to stay fluid?"""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_pages import charts, fine, home, opened, run, scene  # noqa: F401

from engine.data import indexing as indexes
from engine.data import sets
from engine.data.index import Index
from engine.look import embedding, grid
from ui import atlas, foot

QUICK = {"net": "digits", "by": "PCA"}


@pytest.fixture
def seen(monkeypatch) -> SimpleNamespace:
    """What the page draws last, and what it offers for download."""
    found = SimpleNamespace(downloads={})
    show, draw = atlas.show, foot.foot

    def look(places: np.ndarray, pictures: atlas.Sprite, captions: atlas.Captions, **more: Any) -> None:
        found.__dict__.update(places=places, sprite=pictures, captions=captions, **more)
        show(places, pictures, captions, **more)

    def listen(*arguments: Any, downloads: Any = (), **more: Any) -> None:
        found.downloads = {file: data for _, file, data, _ in downloads}
        draw(*arguments, downloads=downloads, **more)

    monkeypatch.setattr(atlas, "show", look)
    monkeypatch.setattr(foot, "foot", listen)
    return found


def digits(at) -> Index:
    return indexes.index(scene(at).net, sets.find("digits"))


def test_what_is_drawn_and_taken_home_is_the_engines(seen):
    at = opened("map", **QUICK, seed=0, layer="relu5")
    assert fine(at)
    index = digits(at)
    made = embedding.map_of(index, scene(at).net, layer="relu5", by="PCA")
    table = pd.read_csv(io.BytesIO(seen.downloads["map.csv"]().encode()))
    np.testing.assert_allclose(table[["x", "y"]], made.places, rtol=1e-4)
    np.testing.assert_array_equal(table.id, index.pictures.id)
    assert (table.label.astype(str) == [index.names[k] for k in index.pictures.label]).all()
    assert len({*zip(table.row, table.col, strict=True)}) == len(table) == 1797, "each has a cell of its own"
    together = grid.in_square(np.concatenate([made.places, made.places[:0]]))
    far = np.abs(np.diff(seen.places, axis=0)) - np.abs(np.diff(together, axis=0))
    assert np.abs(far).max() < 0.05, "the same map, with room for the sidebar's picture"
    assert seen.mark is not None
    assert any("explain" in each.value for each in at.markdown)
    sheet = Image.open(io.BytesIO(seen.downloads["map.png"]()))
    assert sheet.size == (2000, 2000)
    assert all(chart.alt for chart in charts(at))


def test_on_the_grid_each_picture_has_its_cell(seen):
    at = opened("map", **QUICK, layout="on a grid", colour="right or wrong")
    assert fine(at)
    assert seen.grid
    assert len(np.unique(np.round(seen.places / seen.tile, 3), axis=0)) == 1797
    assert seen.names == ["right", "wrong"]
    pictures = digits(at).pictures
    assert (seen.groups == (pictures.label != pictures.prediction)).all()


@pytest.mark.parametrize("space", ["a layer", "raw pixels"])
def test_the_sidebars_picture_lies_among_its_like(space, seen):
    at = opened("map", net="digits", by="t-SNE", steps=60, space=space, most=400, image="digit-3")
    assert fine(at)
    x, y, url = seen.mark
    assert url.startswith("data:image/png;base64,")
    near = np.linalg.norm(seen.places - (x, y), axis=1).argsort()[:15]
    assert np.mean(seen.captions.labels[near] == 3) > 0.5
    assert len(seen.places) == 400
    assert any("digit-3" in each.value for each in at.markdown)


def test_a_box_chooses_and_its_pictures_are_told(seen):
    at = opened("map", **QUICK)
    assert seen.chosen is None
    box = [0.0, 0.0, 0.5, 1.0]
    seen.choose({"of": seen.of, "box": box})  # outside a session nothing is kept
    at.session_state["map_chosen"] = {"of": seen.of, "box": box}
    assert fine(at.run())
    inside = np.flatnonzero(seen.places[:, 0] <= 0.5)
    np.testing.assert_array_equal(seen.chosen, inside)
    assert any(each.value == f"**{len(inside):,} pictures** chosen" for each in at.markdown)
    group = {"of": seen.of, "group": 4}
    at.session_state["map_chosen"] = group
    assert fine(at.run())
    assert (seen.captions.labels[seen.chosen] == 4).all()


def test_one_chosen_picture_shows_itself_and_its_neighbours(seen):
    at = opened("map", **QUICK)
    at.session_state["map_chosen"] = {"of": seen.of, "one": 17}
    assert fine(at.run())
    assert seen.focus == 17
    told = [each.value for each in at.markdown]
    assert any(each.startswith("**Nearest to it**") for each in told)
    assert any("row 17" in each for each in told)


def test_what_was_chosen_on_another_map_is_not_meant(seen):
    at = opened("map", **QUICK)
    at.session_state["map_chosen"] = {"of": "another map", "one": 17}
    assert fine(at.run())
    assert seen.focus is None


def test_a_way_that_is_not_installed_is_not_offered(seen, monkeypatch):
    monkeypatch.setattr(embedding, "ways", lambda: ["PCA", "t-SNE"])
    at = opened("map", **QUICK)
    assert at.get_by_key("by").options == ["t-SNE", "PCA"]


# The canvas -----------------------------------------------------------------------------------------------------------


def test_ten_thousand_pictures_are_one_file_and_little_data(monkeypatch):
    """Noise is the worst case: it does not compress."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (10_000, 8, 8, 3)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    sprite = atlas.sprite(tiles)
    assert len(sprite.data) < 6_000_000
    whole = np.asarray(Image.open(io.BytesIO(sprite.data)), float)
    row, col = divmod(1234, sprite.columns)
    tile = whole[32 * row : 32 * row + 32, 32 * col : 32 * col + 32]
    assert np.abs(tile - tiles[1234]).mean() < 20, "its own, and no other"
    given = {}
    monkeypatch.setattr(atlas, "_mount", lambda **more: given.update(more))
    numbers = rng.integers(0, 10, 10_000)
    names = [str(k) for k in range(10)]
    captions = atlas.Captions(numbers, numbers, rng.random(10_000), names, names, numbers)
    places = rng.random((10_000, 2))
    atlas.show(places, sprite, captions, alt="", of="", tile=0.01, groups=numbers, names=names, palette=names)
    assert len(json.dumps(given["data"])) < 400_000
    back = np.frombuffer(base64.b64decode(given["data"]["places"]), np.float32).reshape(-1, 2)
    np.testing.assert_allclose(back, places, atol=1e-6)


def test_small_tiles_stay_as_they_are():
    tiles = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
    sprite = atlas.sprite(tiles)
    whole = np.asarray(Image.open(io.BytesIO(sprite.data)))
    for k, pixels in enumerate(tiles):
        row, col = divmod(k, sprite.columns)
        np.testing.assert_array_equal(whole[8 * row : 8 * row + 8, 8 * col : 8 * col + 8], pixels)


def test_what_a_choice_means():
    places, groups = np.array([[0.1, 0.1], [0.5, 0.5], [0.9, 0.2]]), np.array([0, 1, 1])
    within = lambda chosen: atlas.within(chosen, places, groups).tolist()  # noqa: E731
    assert within({"box": [0, 0, 0.6, 0.6]}) == [0, 1]
    assert within({"box": [0.6, 0.6, 0, 0]}) == []
    assert within({"one": 2}) == [2]
    assert within({"one": 9}) == within({"one": -1}) == []
    assert within({"group": 1}) == [1, 2]

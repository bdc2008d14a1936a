"""Top patches: are they the engine's, does a click open the picture, is a layer a page of rows, is a maximum made?"""

from __future__ import annotations

import numpy as np
import pytest
from test_pages import charts, chosen, fine, home, opened, run, scene, tables  # noqa: F401

from engine import image
from engine.data import sets
from engine.data.index import open_index
from engine.look.top_patches import cut_out


def patches(at) -> list[dict[str, list]]:
    """The tables of the page's sheets of patches: what they say of each."""
    return [table for chart in charts(at) for table in tables(chart) if "activation" in table and "tile" in table]


@pytest.fixture(scope="module")
def found(home):  # noqa: F811
    """The engine's own numbers, from the index that the page made."""
    at = opened("top_patches", net="digits", steps=2)
    net = scene(at).net
    return net, open_index(net, sets.find("digits"))


def test_a_units_patches_are_the_engines(found):
    net, index = found
    at = opened("top_patches", net="digits", layer="relu2", unit=7, top=12, steps=2)
    assert fine(at)
    expected = cut_out(net, index, "relu2", channel=7, count=12).table
    (table,) = patches(at)
    assert table["activation"] == [f"{value:.4g}" for value in expected.value]
    assert table["picture"] == expected["where"].tolist()
    assert table["written"] == [f"{value:.3g}" for value in expected.value]
    assert any("10 × 10 pixels" in each.value for each in at.caption)


def test_the_opened_picture_has_the_field_drawn(found):
    net, index = found
    at = opened("top_patches", net="digits", layer="relu4", unit=3, rank=4, steps=2)
    assert fine(at)
    row = cut_out(net, index, "relu4", channel=3, count=9).table.iloc[3]
    assert any(
        each.value.startswith(f"{row['where']}: It is “{row.label}”, and the network takes it for “{row.prediction}”")
        for each in at.caption
    )
    alt = f"The picture {row['where']}, with what the unit at row {row.row}, column {row.col} sees of it."
    (chart,) = (chart for chart in charts(at) if chart.alt == alt)
    box = next(table for table in tables(chart) if set(table) == {"top", "left", "bottom", "right"})
    window = net.layer("relu4").receptive_field.window(row.row, row.col, net.input_size)
    assert [box[key][0] for key in ("top", "left", "bottom", "right")] == list(window)


def test_the_picture_can_be_taken_along(found):
    net, index = found
    at = opened("top_patches", net="digits", layer="relu4", unit=3, rank=2, steps=2)
    number = int(cut_out(net, index, "relu4", channel=3, count=9).table.id[1])
    at.button(key="take").click()
    assert fine(run(at))
    assert scene(at).picture_name == "upload"
    np.testing.assert_array_equal(scene(at).picture, image.load(index.data.encoded(number)))
    assert chosen(at, "rank") == 2, "and the page stays where it was"


def test_a_whole_layer_is_a_page_of_rows(found):
    net, index = found
    at = opened("top_patches", net="digits", view="whole layer", layer="relu5")
    assert fine(at)
    sheets = patches(at)
    assert [sorted(set(sheet["channel"])) for sheet in sheets] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    expected = cut_out(net, index, "relu5", channel=0, channels=12, count=5).table
    written = [value for sheet in sheets for value in sheet["activation"]]
    assert written == [f"{value:.4g}" for value in expected.value]
    heads = [table["head"] for chart in charts(at) for table in tables(chart) if "head" in table]
    fires = index.units("relu5").positions
    assert heads[0][0] == f"channel 0 · fires at {fires[0]:.1%} of all positions"


def test_logits_have_the_whole_picture(found):
    at = opened("top_patches", net="digits", layer="logits", unit=4, steps=2)
    assert fine(at)
    assert any("sees the whole picture" in each.value for each in at.caption)
    assert any("logits is not rectified" in each.value for each in at.caption), "and what firing means is said"


def test_the_units_maximum_is_made_beside_them(found):
    at = opened("top_patches", net="digits", steps=2)
    assert fine(at)
    assert "**Made to excite it**" in [each.value for each in at.markdown]
    assert any(str(each.key) == "again_unit_maximum" for each in at.button), "it has been made"


def test_maximize_shows_the_patches_where_there_is_an_index(found):
    at = opened("maximize", net="digits", about="unit", layer="relu4", unit=3, steps=2)
    assert fine(at)
    alt = "The 9 patches of digits that excite channel 3 of relu4 most."
    assert alt in [chart.alt for chart in charts(at)]
    at = opened("maximize", net="digits", steps=2, **{"class": "7"})
    assert any(chart.alt == "The 9 patches of digits that excite channel 7 of logits most." for chart in charts(at))
    at = opened("maximize", net="digits", about="unit", layer="conv4", unit=3, steps=2)
    assert not any("patches" in chart.alt for chart in charts(at)), "that layer is not in the index, and none is made"

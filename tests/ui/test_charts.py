"""What the charts say, read from their specifications: where things lie, which numbers they carry, in which colours."""

from __future__ import annotations

import base64
import inspect
import re
from collections.abc import Callable, Iterator

import altair as alt
import numpy as np
import pandas as pd
import pytest

from engine.image import Frame
from engine.pictures import colour
from ui.charts import grids, marks, network, overlays, painting, plots

SIZE = (40, 60)  # of the picture in most tests: rows, columns
PART = Frame(4, 6, 30, 45, (20, 30))  # what the net sees of it


@pytest.fixture
def photo() -> np.ndarray:
    """(40, 60, 3), red growing to the right, green downwards, blue where a corner is."""
    pixels = np.zeros((*SIZE, 3), np.float32)
    pixels[..., 0], pixels[..., 1] = np.linspace(0, 1, 60)[None], np.linspace(0, 1, 40)[:, None]
    pixels[:3, :5, 2] = 1
    return pixels


@pytest.fixture
def values() -> np.ndarray:
    """(3, 5), of both signs, no two alike."""
    return (np.arange(15).reshape(3, 5) - 4.25).astype(np.float32)


# Reading a specification ----------------------------------------------------------------------------------------------


class Spec:
    """A chart as Vega-Lite gets it."""

    def __init__(self, chart: alt.Chart | alt.LayerChart):
        self.whole = chart.to_dict()  # Altair checks it against Vega-Lite's schema
        self.marks = list(self._marks(self.whole))

    def _marks(self, part: dict, data: dict | None = None) -> Iterator[tuple[dict, list[dict]]]:
        data = part.get("data", data)
        for layer in part.get("layer", []):
            yield from self._marks(layer, data)
        if "mark" in part:
            yield part, self.whole["datasets"][data["name"]]

    def of(self, kind: str) -> list[tuple[dict, list[dict]]]:
        """(layer, its rows of data) of each mark of a kind."""
        return [found for found in self.marks if found[0]["mark"]["type"] == kind]

    def at(self, axis: str, value: float) -> float:
        """Where a value of the picture lies on the screen, in pixels from the top left; all layers must agree."""
        domains = {tuple(layer["encoding"][axis]["scale"]["domain"]) for layer, _ in self.marks}
        assert len(domains) == 1
        first, last = domains.pop()
        length = self.whole["width" if axis == "x" else "height"]
        # Vega draws x from the left and y from the bottom: the first of a y domain lies at the chart's height
        share = (value - first) / (last - first)
        return length * (share if axis == "x" else 1 - share)

    def box(self, row: dict) -> tuple[float, float, float, float]:
        """(top, left, bottom, right) on the screen of a row with these columns."""
        return tuple(
            self.at("y" if k % 2 == 0 else "x", row[n]) for k, n in enumerate(("top", "left", "bottom", "right"))
        )

    def image_box(self, layer: dict, row: dict) -> tuple[float, float, float, float]:
        """The same of an image, whose size is an expression of the scales."""
        size = {}
        for side, axis in (("width", "x"), ("height", "y")):
            ends = re.findall(rf"scale\('{axis}', ([-\d.e]+)\)", layer["mark"][side]["expr"])
            assert layer["mark"][side]["expr"] == f"abs(scale('{axis}', {ends[0]}) - scale('{axis}', {ends[1]}))"
            size[axis] = abs(self.at(axis, float(ends[0])) - self.at(axis, float(ends[1])))
        x, y = self.at("x", row["x"]), self.at("y", row["y"])
        return y - size["y"] / 2, x - size["x"] / 2, y + size["y"] / 2, x + size["x"] / 2

    def legend(self) -> dict:
        encodings = [encoding for layer, _ in self.marks for encoding in layer["encoding"].values()]
        (found,) = (encoding for encoding in encodings if isinstance(encoding, dict) and encoding.get("legend"))
        return found


def decoded(row: dict) -> np.ndarray:
    """(H, W, 3 or 4) in [0, 1] of the picture in a row's data URL."""
    from io import BytesIO

    from PIL import Image

    head, _, data = row["url"].partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(BytesIO(base64.b64decode(data)))) / np.float32(255)


def middles(pixels: np.ndarray, rows: int, cols: int) -> np.ndarray:
    """(rows, cols, …): the colour in the middle of each cell of a picture that is divided into a grid."""
    i = ((np.arange(rows) + 0.5) * pixels.shape[0] / rows).astype(int)
    j = ((np.arange(cols) + 0.5) * pixels.shape[1] / cols).astype(int)
    return pixels[np.ix_(i, j)]


def hits(spec: Spec) -> tuple[dict, list[dict]]:
    """The transparent rectangles that answer clicks."""
    (found,) = ((layer, rows) for layer, rows in spec.of("rect") if "tooltip" in layer["encoding"])
    return found


def outlines(spec: Spec) -> list[tuple[dict, list[dict]]]:
    return [(layer, rows) for layer, rows in spec.of("rect") if layer["mark"].get("stroke") == "white"]


# All of them ----------------------------------------------------------------------------------------------------------


def means() -> pd.DataFrame:
    rows = [("a", "x", 0.5, 0.4, 0.6), ("a", "y", 0.2, np.nan, np.nan), ("b", "x", 0.9, 0.8, 1.1)]
    return pd.DataFrame(rows, columns=["label", "series", "value", "low", "high"])


def attacked() -> pd.DataFrame:
    rows = [("a", "n", 0, 0.75, 0.5, 0.9, "3 of 4"), ("a", "n", 4, 0.25, 0.1, 0.5, "1 of 4")]
    rows.append(("b", "m", 0, 1.0, 0.8, 1.0, "4 of 4"))
    return pd.DataFrame(rows, columns=["curve", "group", "x", "share", "low", "high", "told"])


def zoned() -> np.ndarray:
    return np.array([["cat", "cat", "dog"], ["", "dog", "dog"]], object)


KINDS = {"dead": "#777", "alive": "#27c"}


def units() -> pd.DataFrame:
    return pd.DataFrame({"unit": [0, 1, 2], "a": [0.1, 0.5, 0.2], "b": [1, 2, 3], "kind": ["dead", "alive", "alive"]})


def spots() -> pd.DataFrame:
    return pd.DataFrame({"picture": [5, 7], "x": [0.5, 59.5], "y": [0.5, 10.5], "kind": ["alive", "alive"]})


def one_of_each(net) -> dict[str, Callable[[], alt.Chart | alt.LayerChart]]:
    photo, values = np.zeros((*SIZE, 3), np.float32), np.arange(15.0).reshape(3, 5)
    names = [layer.name for layer in net.layers]
    return {
        "picture": lambda: overlays.picture(photo, boxes=[(1, 2, 3, 4)], frame=PART),
        "heatmap": lambda: overlays.heatmap(values, title="logits", over=photo, frame=PART, name="cell", signed=True),
        "zones": lambda: overlays.zones(zoned(), {"cat": "#123456", "dog": "#654321"}, over=photo, name="cell"),
        "sheet": lambda: grids.sheet([photo] * 5, captions={"channel": range(5)}, columns=2, name="unit", chosen=3),
        "network_map": lambda: network.network_map(net.layers, names[1], names[:2], "layer"),
        "top_classes": lambda: network.top_classes(["a", "b"], [0.8, 0.2], [2.0, 1.0], "b"),
        "lines": lambda: plots.lines(
            pd.DataFrame({"x": [0, 1], "a": [1, 2]}), x="x", y=["a"], x_title="", y_title="", name="at", chosen=1
        ),
        "tile": lambda: overlays.tile(
            values, bounds=(0, 9), over=photo, tip={"class": "a"}, title="logits", name="map"
        ),
        "colour_bar": lambda: overlays.colour_bar((-1, 1), title="logits", signed=True),
        "matrix": lambda: grids.matrix(np.eye(3), ["a", "b", "c"], "rank correlation"),
        "dots": lambda: plots.dots(means(), x_title="share", bounds=(0, 1), rule=0.1),
        "shares": lambda: plots.shares(
            attacked(), ["a", "b", "c"], groups=["n", "m"], x_title="epsilon", y_title="right", most=8
        ),
        "bars": lambda: network.bars([1.0, -2.0, 0.5], x="filter", y="bias", chosen=2),
        "counts": lambda: plots.counts(["a", "b"], [3, 1], painting.kinds(2)),
        "explained": lambda: plots.explained(np.array([0.5, 0.3, 0.1])),
        "patches": lambda: grids.patches(
            [photo] * 5, written=list("abcde"), captions={"of": range(5)}, columns=2, name="unit", heads=list("xyz")
        ),
        "points": lambda: network.points(
            units(), x="a", y="b", titles=("a", "b"), tips=["unit"], colours=KINDS, name="p"
        ),
        "places": lambda: overlays.places(spots(), SIZE, tips=["picture"], colours=KINDS),
        "ranked": lambda: network.ranked(units(), y="a", title="a", tips=["unit"], colours=KINDS, name="r", chosen=1),
        "histogram": lambda: plots.histogram(
            pd.DataFrame({"low": [0.0, 0.5], "high": [0.5, 1.0], "count": [3, 0]}), title="weights", log=True
        ),
        "differences": lambda: network.differences(
            units().assign(relative=[0.0, 1e-6, np.inf]),
            limit=1e-3,
            tips=["unit"],
            colours=KINDS,
            name="d",
            chosen=1,
        ),
        "gallery": lambda: grids.gallery(
            [photo] * 3, [["a", "b"]] * 3, wrong=[True, False, False], captions={"of": range(3)}, name="g"
        ),
        "confusion": lambda: grids.confusion(
            np.array([[3, 1], [0, 2]]), ["a", "b"], ["a", "b"], [0, 1], shares=True, name="c", chosen=(0, 1)
        ),
        "groups": lambda: plots.groups(pd.DataFrame({"x": [0.1, 2.0], "y": [1.0, 0.0], "group": ["1", "2"]})),
    }


def test_every_chart_is_valid(tiny):
    made = one_of_each(tiny)
    public = {
        name
        for module in (grids, network, overlays, plots)
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        if not name.startswith("_") and "Chart" in str(inspect.signature(function).return_annotation)
    }
    assert public == set(made), "each chart function has an example above"
    for name, build in made.items():
        spec = Spec(build())
        assert spec.marks, name
        assert sum(map(len, spec.whole["datasets"].values())) < 100, name


# Pictures -------------------------------------------------------------------------------------------------------------


def test_a_picture_stands_upright(photo):
    spec = Spec(overlays.picture(photo))
    ((layer, (row,)),) = spec.of("image")
    width, height = spec.whole["width"], spec.whole["height"]
    assert width / height == pytest.approx(60 / 40, rel=0.01), "whole pixels of the screen"
    assert (spec.at("y", 0), spec.at("y", 40), spec.at("x", 0), spec.at("x", 60)) == (0, height, 0, width)
    assert spec.image_box(layer, row) == pytest.approx((0, 0, height, width))
    assert middles(decoded(row), *SIZE) == pytest.approx(photo, abs=0.003)


def test_places_of_a_picture_answer_in_its_own_pixels(photo):
    spec = Spec(overlays.picture(photo, places=6, name="spot"))
    layer, rows = hits(spec)
    assert len(rows) == 4 * 6, "squares of 10 pixels"
    assert [(row["row"], row["col"]) for row in rows[:7]] == [(5, 5 + 10 * k) for k in range(6)] + [(15, 5)]
    assert spec.box(rows[-1]) == pytest.approx((spec.at("y", 30), spec.at("x", 50), spec.at("y", 40), spec.at("x", 60)))
    assert [tip["field"] for tip in layer["encoding"]["tooltip"]] == ["row", "col"]
    chosen = [each for each in spec.whole["params"] if each["name"] == "spot"]
    assert [each["select"]["fields"] for each in chosen] == [["row", "col"]]
    assert layer["mark"]["cursor"] == "pointer"


def test_zones_lie_where_they_should_in_their_colours(photo):
    """Over the part that the net saw; where there is no word, there is no cell."""
    shares = np.arange(6).reshape(2, 3) / 10
    colours = {"bird": "#000001", "dog": "#654321", "cat": "#123456"}
    spec = Spec(overlays.zones(zoned(), colours, over=photo, frame=PART, name="cell", tips={"share": shares}))
    layer, rows = hits(spec)
    assert [(row["row"], row["col"], row["kind"]) for row in rows] == [
        (0, 0, "cat"), (0, 1, "cat"), (0, 2, "dog"), (1, 1, "dog"), (1, 2, "dog")
    ]  # fmt: skip
    assert [row["share"] for row in rows] == pytest.approx([0, 0.1, 0.2, 0.4, 0.5])
    assert spec.box(rows[3]) == pytest.approx((spec.at("y", 19), spec.at("x", 21), spec.at("y", 34), spec.at("x", 36)))
    fill = layer["encoding"]["fill"]
    assert fill["scale"] == {"domain": ["dog", "cat"], "range": ["#654321", "#123456"]}, "those that occur"
    assert spec.legend() == fill
    assert [tip["field"] for tip in layer["encoding"]["tooltip"]] == ["row", "col", "kind", "share"]
    ((_, (row,)),) = spec.of("image")
    grey = decoded(row)[..., :3]
    assert np.ptp(grey, axis=2).max() == 0, "the colours are the cells' alone"


def test_differences_keep_zeros_and_infinities_within_the_scale(tiny):
    spec = one_of_each(tiny)["differences"]().to_dict()
    rows = next(rows for rows in spec["datasets"].values() if "drawn" in rows[0] and len(rows) == 3)
    assert [row["drawn"] for row in rows] == [1e-6, 1e-6, 1e-2]
    assert [row["told"] for row in rows] == ["0", "1e-06", "inf"]


@pytest.mark.parametrize("size", [SIZE, (60, 40), (300, 20), (7, 7)])
def test_a_picture_keeps_its_shape_and_fits_its_panel(size):
    spec = Spec(overlays.picture(np.zeros((*size, 3), np.float32), width=200))
    width, height = spec.whole["width"], spec.whole["height"]
    assert width <= 200
    assert height <= 200 * 4 / 3 + 1
    assert width / height == pytest.approx(size[1] / size[0], rel=0.05)


def test_boxes_land_where_asked(photo):
    spec = Spec(overlays.picture(photo, boxes=[(10, 15, 20, 45), (-5.5, 0, 2, 3)]))
    ((_, rows),) = outlines(spec)
    width, height = spec.whole["width"], spec.whole["height"]
    assert spec.box(rows[0]) == pytest.approx((height / 4, width / 4, height / 2, width * 3 / 4))
    assert (rows[1]["top"], rows[1]["right"]) == (-5.5, 3)


def test_the_part_that_the_net_sees_is_dashed(photo):
    ((layer, (row,)),) = outlines(Spec(overlays.picture(photo, frame=PART)))
    assert (row["top"], row["left"], row["bottom"], row["right"]) == (4, 6, 34, 51)
    assert layer["mark"]["strokeDash"][1] > 0
    whole = Frame(0, 0, *SIZE, (20, 30))
    assert not outlines(Spec(overlays.picture(photo, frame=whole))), "no box around all of it"


def test_a_large_picture_travels_small():
    pixels = np.random.default_rng(0).random((1400, 1900, 3), np.float32)
    chart = overlays.picture(pixels, boxes=[(0, 0, 700, 950)])
    spec = Spec(chart)
    ((layer, (row,)),) = spec.of("image")
    assert max(decoded(row).shape) <= 2 * marks.PANEL
    assert len(chart.to_json()) < 1.5e6
    width, height = spec.whole["width"], spec.whole["height"]
    assert spec.image_box(layer, row) == pytest.approx((0, 0, height, width)), (
        "in the picture's own pixels all the same"
    )
    assert spec.box(outlines(spec)[0][1][0]) == pytest.approx((0, 0, height / 2, width / 2))


@pytest.mark.parametrize("side", [7, 100, marks.PANEL - 1, 500, 2 * marks.PANEL])
def test_a_small_picture_is_enlarged_without_smoothing(side):
    pixels = np.random.default_rng(0).random((side, side, 3), np.float32)
    large = marks.enlarge(pixels, marks.PANEL)
    assert len(large) >= marks.PANEL
    assert len(large) % side == 0
    assert np.array_equal(middles(large, side, side), pixels)


# Maps -----------------------------------------------------------------------------------------------------------------


def test_cells_carry_the_numbers_of_the_map(values):
    layer, rows = hits(Spec(overlays.heatmap(values, title="logits", name="cell", value_name="logit")))
    assert {(row["row"], row["col"]): row["logit"] for row in rows} == {
        (i, j): float(values[i, j]) for i in range(3) for j in range(5)
    }
    assert layer["encoding"]["fill"]["field"] == "logit"
    assert layer["mark"]["fillOpacity"] == 0, "the picture below shows through"


def test_numbers_keep_five_digits():
    exact = np.array([[1.23456789e-7, 9.87654321e5], [np.pi, -np.e]])
    _, rows = hits(Spec(overlays.heatmap(exact, title="")))
    assert [row["value"] for row in rows] == pytest.approx(exact.ravel().tolist(), rel=5e-5)


@pytest.mark.parametrize("frame", [PART, None])
def test_cells_tile_the_part_that_the_net_sees(photo, values, frame):
    spec = Spec(overlays.heatmap(values, title="", over=photo, frame=frame))
    top, left, height, width = (4, 6, 30, 45) if frame else (0, 0, 40, 60)
    for row in hits(spec)[1]:
        i, j = row["row"], row["col"]
        place = (row["top"], row["left"], row["bottom"], row["right"])
        wanted = (top + i * height / 3, left + j * width / 5, top + (i + 1) * height / 3, left + (j + 1) * width / 5)
        assert place == pytest.approx(wanted, abs=0.01)
    backdrop, painted = spec.of("image")
    assert spec.image_box(backdrop[0], backdrop[1][0]) == pytest.approx(
        (0, 0, spec.whole["height"], spec.whole["width"])
    )
    corners = {"top": top, "left": left, "bottom": top + height, "right": left + width}
    assert spec.image_box(painted[0], painted[1][0]) == pytest.approx(spec.box(corners))


def test_cells_are_painted_in_their_colours(values):
    spec = Spec(overlays.heatmap(values, title="", signed=True))
    ((_, (row,)),) = spec.of("image")
    assert middles(decoded(row), 3, 5) == pytest.approx(
        colour.diverging(values, float(np.abs(values).max())), abs=0.003
    )


def test_a_map_alone_keeps_its_shape(values):
    spec = Spec(overlays.heatmap(values, title=""))
    assert spec.whole["width"] / spec.whole["height"] == pytest.approx(5 / 3, rel=0.01)
    row = hits(spec)[1][-1]
    assert spec.box(row)[2:] == pytest.approx((spec.whole["height"], spec.whole["width"]), abs=0.1)


def test_a_map_over_a_picture_lets_it_through_in_grey(photo, values):
    backdrop, painted = (
        decoded(rows[0]) for _, rows in Spec(overlays.heatmap(values, title="", over=photo, opacity=0.4)).of("image")
    )
    assert painted[..., 3] == pytest.approx(0.4, abs=0.003)
    assert np.ptp(backdrop, axis=2).max() == 0
    backdrop, painted = (
        decoded(rows[0]) for _, rows in Spec(overlays.heatmap(values, title="", over=photo)).of("image")
    )
    assert painted.shape[2] == 3 or (painted[..., 3] == 1).all()


def test_what_is_not_known_answers_no_click(values):
    values[1, 2] = values[0, 0] = np.nan
    spec = Spec(overlays.heatmap(values, title=""))
    _, rows = hits(spec)
    assert {(row["row"], row["col"]) for row in rows} == set(np.ndindex(3, 5)) - {(1, 2), (0, 0)}
    shown = np.nan_to_num(values, nan=1.0)
    ((_, (row,)),) = Spec(overlays.heatmap(values, title="", shown=shown)).of("image")
    low, high = np.nanmin(values), np.nanmax(values)
    assert middles(decoded(row), 3, 5) == pytest.approx(colour.sequential(shown, low, high), abs=0.003)


def test_cells_of_ones_own(values):
    """A patch that slides has cells that are not a regular grid."""
    cells = [(i / 4, j / 6, i / 4 + 0.2, j / 6 + 0.3) for i in range(3) for j in range(5)]
    _, rows = hits(Spec(overlays.heatmap(values, title="", over=np.zeros((100, 100, 3), np.float32), cells=cells)))
    for row, (top, left, bottom, right) in zip(rows, cells, strict=True):
        place = (row["top"], row["left"], row["bottom"], row["right"])
        assert place == pytest.approx((100 * top, 100 * left, 100 * bottom, 100 * right), abs=0.01)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("shape", [(56, 56), (57, 30), (224, 160), (13, 300)])
def test_a_large_map_answers_by_blocks(shape, own):
    values = np.random.default_rng(0).normal(size=shape)
    rows, cols = shape
    grid = [(i / rows, j / cols, (i + 1) / rows, (j + 1) / cols) for i in range(rows) for j in range(cols)]
    over = np.zeros((300, 300, 3), np.float32)
    _, found = hits(Spec(overlays.heatmap(values, title="", over=over, cells=grid if own else None)))
    assert len({row["top"] for row in found}) <= 56
    assert len({row["left"] for row in found}) <= 56
    covered = np.zeros(shape, int)
    for row in found:
        top, bottom = (round(row[n] / 300 * rows) for n in ("top", "bottom"))
        left, right = (round(row[n] / 300 * cols) for n in ("left", "right"))
        block = values[top:bottom, left:right]
        covered[top:bottom, left:right] += 1
        assert abs(row["value"]) == pytest.approx(np.abs(block).max(), rel=1e-4)
        assert values[row["row"], row["col"]] == pytest.approx(row["value"], rel=1e-4)
    assert (covered == 1).all(), "every place answers, and one block only"


# Colours and legends --------------------------------------------------------------------------------------------------


def test_zero_is_in_the_middle_of_a_signed_map(values):
    low, high = painting.limits(values, signed=True)
    assert -low == high == np.abs(values).max()
    encoding = Spec(overlays.heatmap(values, title="logits", signed=True)).legend()
    assert encoding["scale"]["domain"] == [low, high]
    assert len(encoding["scale"]["range"]) % 2 == 1
    middle = rgb(encoding["scale"]["range"][len(encoding["scale"]["range"]) // 2])
    painted = painting.paint(np.array([[low, 0, high]]), low, high, signed=True)[0]
    assert painted[1] == pytest.approx(middle, abs=0.01)
    assert painted[1].min() > 0.95 > painted[[0, 2]].max(), "zero is near white, and the ends are not"


def rgb(text: str) -> list[float]:
    """[red, green, blue] in [0, 1] of "#rrggbb"."""
    return [int(text[k : k + 2], 16) / 255 for k in (1, 3, 5)]


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bounds", [None, (-1.0, 12.0)])
def test_the_legend_has_the_colours_of_the_map(values, signed, bounds):
    encoding = Spec(overlays.heatmap(values, title="", signed=signed, bounds=bounds)).legend()["scale"]
    (low, high), anchors = encoding["domain"], encoding["range"]
    assert tuple(anchors) == (colour.DIVERGING if signed else colour.SEQUENTIAL)
    assert encoding["interpolate"] == "rgb"
    places = np.linspace(low, high, len(anchors))[None]
    painted = painting.paint(places, *(bounds or painting.limits(values, signed)), signed)[0]
    assert painted == pytest.approx(np.array([rgb(anchor) for anchor in anchors]), abs=0.03), (
        "the map's table has 256 steps"
    )


def test_the_legend_says_what_and_in_which_unit(values, photo):
    spec = Spec(overlays.heatmap(values, title="gradient in logits per unit of pixel value", over=photo, name="cell"))
    assert spec.legend()["legend"]["title"] == "gradient in logits per unit of pixel value"
    scale = painting.colour_scale(-1, 2, "weight", signed=True)
    spec = Spec(grids.sheet([photo], captions={"input": [0]}, columns=1, name="kernel", scale=scale))
    assert spec.legend()["legend"]["title"] == "weight"
    assert spec.legend()["scale"]["domain"] == [-2, 2]


@pytest.mark.parametrize("signed", [False, True])
def test_a_constant_map_has_a_range(signed):
    low, high = painting.limits(np.zeros((2, 2)), signed)
    assert low < high
    Spec(overlays.heatmap(np.zeros((2, 2)), title="", signed=signed))


# Clicks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "name", "fields"),
    [
        (
            lambda tiny, v, p: overlays.heatmap(v, title="", over=p, boxes=[(0, 0, 1, 1)], name="cell"),
            "cell",
            ["row", "col"],
        ),
        (lambda tiny, v, p: grids.sheet([p] * 3, captions={}, columns=2, name="unit", chosen=1), "unit", ["tile"]),
        (lambda tiny, v, p: network.network_map(tiny.layers, "conv1", ["conv1"], "layer"), "layer", ["layer"]),
        (lambda tiny, v, p: network.top_classes(["a"], [1.0], [2.0], "a"), "class", ["class"]),
    ],
)
def test_selections_have_the_fields_that_pages_read(tiny, values, photo, build, name, fields):
    spec = Spec(build(tiny, values, photo))
    (found,) = (each for each in spec.whole["params"] if each["name"] == name)
    assert found["select"]["fields"] == fields
    columns = {key for _, rows in spec.marks for row in rows for key in row}
    assert set(fields) <= columns


def test_a_map_without_a_name_answers_hovers_only(values):
    spec = Spec(overlays.heatmap(values, title=""))
    assert [param["name"] for param in spec.whole["params"]] == ["hover_cells"]
    assert hits(spec)[0]["mark"]["cursor"] == "default"


# Sheets, layers, bars -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "columns"), [(7, 3), (3, 8), (1, 1), (64, 8)])
def test_tiles_are_where_the_sprite_has_them(count, columns):
    rng = np.random.default_rng(0)
    tiles = [rng.random((4, 6, 3)).astype(np.float32) for _ in range(count)]
    spec = Spec(grids.sheet(tiles, captions={"channel": [10 + k for k in range(count)]}, columns=columns, name="unit"))
    ((layer, (row,)),) = spec.of("image")
    sprite = decoded(row)
    width, height = spec.whole["width"], spec.whole["height"]
    assert spec.image_box(layer, row) == pytest.approx((0, 0, height, width))
    factor = sprite.shape[0] / height
    assert sprite.shape[1] / width == factor
    _, rows = hits(spec)
    assert [found["tile"] for found in rows] == list(range(count))
    assert max(spec.box(found)[2] for found in rows) == height
    assert max(spec.box(found)[3] for found in rows) == width
    covered = np.zeros(sprite.shape[:2], bool)
    for tile, found in zip(tiles, rows, strict=True):
        top, left, bottom, right = (round(place * factor) for place in spec.box(found))
        assert middles(sprite[top:bottom, left:right, :3], 4, 6) == pytest.approx(tile, abs=0.003)
        assert found["channel"] == 10 + found["tile"]
        covered[top:bottom, left:right] = True
    assert np.array_equal(sprite[..., 3] == 1, covered), "between the tiles the page shows through"


def test_the_chosen_tile_has_a_box():
    tiles = [np.zeros((4, 6, 3), np.float32)] * 5
    spec = Spec(grids.sheet(tiles, captions={}, columns=2, name="unit", chosen=3))
    ((_, (box,)),) = outlines(spec)
    _, rows = hits(spec)
    assert spec.box(box) == spec.box(rows[3])
    for chosen in (None, 9):
        assert not outlines(Spec(grids.sheet(tiles, captions={}, columns=2, name="unit", chosen=chosen)))


def test_the_network_map_has_a_bar_for_each_layer(tiny):
    names = [layer.name for layer in tiny.layers]
    spec = Spec(network.network_map(tiny.layers, "pool1", ["conv1", "pool1"], "layer"))
    ((bar, rows),) = spec.of("bar")
    assert [row["layer"] for row in rows] == names
    assert [row["place"] for row in rows] == list(range(len(names)))
    assert [(row["channels"], row["rows"]) for row in rows[:3]] == [(5, 12), (5, 12), (5, 6)]
    assert [row["layer"] for row in rows if row["able"]] == ["conv1", "pool1"]
    assert bar["encoding"]["opacity"]["condition"] == {"test": "datum.able", "value": 1}
    (marker,) = (layer for layer, _ in spec.marks if layer["mark"]["type"] == "point")
    assert "pool1" in str(marker["transform"])


def test_the_classes_keep_their_order_and_the_chosen_one_stands_out():
    spec = Spec(network.top_classes(["b", "a"], [0.75, 0.2], [3.0, 1.5], "a"))
    ((bar, rows),) = spec.of("bar")
    assert bar["encoding"]["y"]["sort"] == ["b", "a"]
    assert [(row["class"], row["probability"], row["logit"]) for row in rows] == [("b", 0.75, 3.0), ("a", 0.2, 1.5)]
    accent = bar["encoding"]["color"]["condition"]
    assert "'a'" in str(accent["test"])
    assert accent["value"] == marks.ACCENT


def test_bars_carry_their_numbers():
    spec = Spec(network.bars([1.5, -2.0], x="filter", y="bias", chosen=1))
    ((_, rows),) = spec.of("bar")
    assert rows == [{"filter": 0, "bias": 1.5}, {"filter": 1, "bias": -2.0}]


# Matrices and means ---------------------------------------------------------------------------------------------------


def test_a_matrix_carries_every_pair_and_says_which():
    values = np.array([[1, 0.25], [-0.5, 1]])
    spec = Spec(grids.matrix(values, ["a", "b"], "rank correlation"))
    ((tiles, rows),) = spec.of("rect")
    found = {(row["this"], row["that"]): row["value"] for row in rows}
    assert found == {("1 a", "a"): 1, ("1 a", "b"): 0.25, ("2 b", "a"): -0.5, ("2 b", "b"): 1}
    assert {(row["column"], row["that"]) for row in rows} == {("1", "a"), ("2", "b")}
    assert tiles["encoding"]["color"]["scale"]["domain"] == [-1, 1]
    assert tiles["encoding"]["color"]["scale"]["range"] == list(colour.DIVERGING)


def test_dots_have_intervals_where_there_are_any():
    spec = Spec(plots.dots(means(), x_title="share", bounds=(0, 1), rule=0.1))
    ((points, rows),) = spec.of("point")
    assert [(row["label"], row["series"], row["value"]) for row in rows] == [
        ("a", "x", 0.5), ("a", "y", 0.2), ("b", "x", 0.9)
    ]  # fmt: skip
    lines, compared = spec.of("rule")
    assert lines[0]["transform"] == [{"filter": "isValid(datum.low)"}]
    assert (lines[0]["encoding"]["x"]["field"], lines[0]["encoding"]["x2"]["field"]) == ("low", "high")
    assert [row["value"] for row in compared[1]] == [0.1]
    assert points["encoding"]["color"]["scale"]["domain"] == ["x", "y"]
    assert {layer["encoding"]["x"]["scale"]["domain"][1] for layer, _ in spec.marks} == {1}


def test_shares_have_bands_and_say_how_many_they_are():
    """Curves and networks that are still to come have their colours and kinds of line already."""
    spec = Spec(
        plots.shares(attacked(), ["a", "b", "c"], groups=["n", "m"], x_title="epsilon", y_title="right", most=8)
    )
    ((band, rows),) = spec.of("area")
    assert (band["encoding"]["y"]["field"], band["encoding"]["y2"]["field"]) == ("low", "high")
    assert [(row["curve"], row["x"], row["share"], row["told"]) for row in rows] == [
        ("a", 0, 0.75, "3 of 4"), ("a", 4, 0.25, "1 of 4"), ("b", 0, 1, "4 of 4")
    ]  # fmt: skip
    ((line, _),) = spec.of("line")
    assert line["encoding"]["strokeDash"]["scale"]["domain"] == ["n", "m"]
    dashes = line["encoding"]["strokeDash"]["scale"]["range"]
    assert len({tuple(dash) for dash in dashes}) == 2
    for layer, _ in spec.marks:
        assert layer["encoding"]["y"]["scale"]["domain"] == [0, 1]
        assert layer["encoding"]["x"]["scale"]["domain"] == [0, 8]
        assert layer["encoding"]["color"]["scale"]["domain"] == ["a", "b", "c"]
        assert len(set(layer["encoding"]["color"]["scale"]["range"])) == 3
    *_, (points, _) = spec.of("point")
    assert [tip["field"] for tip in points["encoding"]["tooltip"]] == ["curve", "x", "share", "told", "low", "high"]


def test_kinds_have_colours_of_their_own():
    for count in (0, 1, 12, 40):
        found = painting.kinds(count)
        assert len(found) == len(set(found)) == count


def test_counts_and_shares_are_what_was_given():
    ((_, rows),) = Spec(plots.counts(["a", "b"], [3, 1], ["#123456", "#abcdef"])).of("bar")
    assert rows == [
        {"kind": "a", "pictures": 3, "colour": "#123456"},
        {"kind": "b", "pictures": 1, "colour": "#abcdef"},
    ]
    ((_, rows),) = Spec(plots.explained(np.array([0.5, 0.3, 0.1]))).of("bar")
    assert [row["together"] for row in rows] == [0.5, 0.8, 0.9]
    assert [row["drawn"] for row in rows] == [True, True, False]


# Places ---------------------------------------------------------------------------------------------------------------


def test_places_lie_where_they_are_in_the_picture():
    spec = Spec(overlays.places(spots(), SIZE, tips=["picture"], colours=KINDS))
    assert spec.whole["width"] / spec.whole["height"] == pytest.approx(60 / 40, rel=0.01)
    ((layer, rows),) = spec.of("circle")
    pixel = spec.whole["width"] / 60
    assert (spec.at("x", rows[0]["x"]), spec.at("y", rows[0]["y"])) == pytest.approx((pixel / 2, pixel / 2), rel=0.05)
    assert spec.at("x", rows[1]["x"]) == pytest.approx(59.5 * pixel)
    assert spec.at("y", rows[1]["y"]) == pytest.approx(10.5 * pixel, rel=0.01), "row 0 is at the top"
    for axis, title in (("x", "column, pixels"), ("y", "row, pixels")):
        assert layer["encoding"][axis]["title"] == title
    assert layer["encoding"]["color"]["scale"]["domain"] == ["dead", "alive"], "also those that do not occur"
    ((_, (area,)),) = spec.of("rect")
    assert spec.box(area) == pytest.approx((0, 0, spec.whole["height"], spec.whole["width"]))


def test_curves_may_be_called_anything():
    """Vega takes a quote or a dot in a field's name for a path, and draws nothing."""
    names = ["yellow lady's slipper", "St. Bernard", "a[0]", 'so "called"']
    data = pd.DataFrame({name: [0.0, 1.0] for name in names}).assign(step=[0, 1])
    spec = plots.lines(data, x="step", y=names, x_title="step", y_title="probability").to_dict()
    rule = spec["layer"][-1]
    told = [each for each in rule["encoding"]["tooltip"] if each["field"] != "step"]
    assert [each["title"] for each in told] == names
    assert list(spec["datasets"][rule["data"]["name"]][0]) == ["step", *names]
    assert [each["field"] for each in told] == [
        r"yellow lady\'s slipper",
        r"St\. Bernard",
        r"a\[0\]",
        r"so \"called\"",
    ]

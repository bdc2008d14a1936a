"""How do numbers become charts? The only place that knows Altair.

Every picture chart uses the picture's own pixel coordinates, row 0 at the top, so that a map, a receptive field and a
click all speak of the same place. Pictures travel as PNG data URLs, and maps are drawn with hard edges, cell by cell.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from engine import colour
from engine.image import Frame, resize, to_jpeg, to_png
from engine.net import Layer

PANEL = 308  # pixels: three abreast on a screen of 1280, one on a phone
TILE = 164  # five abreast there, two on a phone
ACCENT = "#e8590c"  # boxes and selections: readable on viridis, on greys and on both themes
# Lines, to be told apart also by the colour-blind and on both themes (after Okabe and Ito 2008).
CURVES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
DASHES = ([1, 0], [6, 3], [2, 2])  # kinds of lines: whole, dashed, dotted
MAX_CELLS = 56  # a side, that a map is divided into for clicks and hovers

alt.data_transformers.disable_max_rows()  # the tests watch the weight of every chart instead


def _url(pixels: np.ndarray) -> str:
    return "data:image/png;base64," + base64.b64encode(to_png(pixels)).decode("ascii")


def _thumbnail(pixels: np.ndarray, width: int = 240) -> str:
    """A small picture for a tooltip, which Vega takes for one by the name `image`."""
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    small = resize(pixels, (height, width)) if width < pixels.shape[1] else enlarge(pixels, width // 2)
    return "data:image/jpeg;base64," + base64.b64encode(to_jpeg(small)).decode("ascii")


def _size(shape: tuple[int, int], width: int) -> tuple[int, int]:
    """(width, height) in screen pixels of a picture (H, W), no taller than it is wide by more than a third."""
    scale = min(width / shape[1], width * 4 / 3 / shape[0])
    return round(shape[1] * scale), round(shape[0] * scale)


def enlarge(pixels: np.ndarray, width: int) -> np.ndarray:
    """Whole-number enlargement of small pictures, so that the browser's own smoothing has nothing to smear."""
    factor = max(1, 2 * width // max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1) if factor > 1 else pixels


def _axes(shape: tuple[int, int]) -> dict[str, alt.Scale]:
    return {
        "x": alt.Scale(domain=[0, shape[1]], nice=False, zero=False),
        "y": alt.Scale(domain=[shape[0], 0], nice=False, zero=False),
    }


def _picture_layer(pixels: np.ndarray, box: tuple, shape: tuple[int, int], width: int) -> alt.Chart:
    """A picture that fills `box` (top, left, bottom, right) of a chart over a picture of `shape`."""
    top, left, bottom, right = box
    data = pd.DataFrame({"x": [(left + right) / 2], "y": [(top + bottom) / 2], "url": [_url(enlarge(pixels, width))]})
    scales = _axes(shape)
    # The size follows the scale, so that picture, boxes and clicks agree at whatever size the chart is laid out.
    span = lambda axis, a, b: alt.expr(f"abs(scale('{axis}', {b}) - scale('{axis}', {a}))")  # noqa: E731
    return (
        alt.Chart(data)
        .mark_image(width=span("x", left, right), height=span("y", top, bottom), aspect=False)
        .encode(x=alt.X("x:Q", axis=None, scale=scales["x"]), y=alt.Y("y:Q", axis=None, scale=scales["y"]), url="url:N")
    )


def _box_layer(boxes: Sequence[tuple], shape: tuple[int, int], dashed: bool = False) -> alt.LayerChart:
    data = pd.DataFrame(boxes, columns=["top", "left", "bottom", "right"]).astype(float)
    scales = _axes(shape)
    place = {
        "x": alt.X("left:Q", axis=None, scale=scales["x"]),
        "x2": "right:Q",
        "y": alt.Y("top:Q", axis=None, scale=scales["y"]),
        "y2": "bottom:Q",
    }
    look = {"filled": False, "strokeDash": [4, 3] if dashed else [1, 0]}
    outline = alt.Chart(data).mark_rect(**look, stroke="white", strokeWidth=4, opacity=0.8).encode(**place)
    return outline + alt.Chart(data).mark_rect(**look, stroke=ACCENT, strokeWidth=2).encode(**place)


def _scale(colours: Sequence[str], low: float, high: float, title: str) -> dict:
    legend = alt.Legend(
        orient="bottom",
        direction="horizontal",
        title=title,
        titleLimit=PANEL - 20,
        titleAnchor="start",
        gradientLength=PANEL - 60,
        gradientThickness=10,
        tickCount=4,
        format=".4~g",
        labelOverlap="greedy",
        gradientOpacity=1,
        offset=8,
    )
    return {"scale": alt.Scale(domain=[low, high], range=list(colours), interpolate="rgb"), "legend": legend}


def colour_scale(low: float, high: float, title: str, signed: bool) -> dict:
    """The Altair scale and legend that agree with `paint`."""
    return (
        _scale(colour.DIVERGING, -max(abs(low), abs(high)), max(abs(low), abs(high)), title)
        if signed
        else _scale(colour.SEQUENTIAL, low, high, title)
    )


def paint(values: np.ndarray, low: float, high: float, signed: bool) -> np.ndarray:
    """(h, w, 3) colours of a map."""
    return colour.diverging(values, max(abs(low), abs(high))) if signed else colour.sequential(values, low, high)


def limits(values: np.ndarray, signed: bool) -> tuple[float, float]:
    """(low, high) of a map's colours: zero in the middle of a signed one; a constant map gets a range of its own."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if signed:
        top = max(abs(low), abs(high)) or 1.0
        return -top, top
    return (low, high) if high > low else (low, low + 1)


def around_grey(values: np.ndarray, limit: float) -> np.ndarray:
    """(H, W, 3) colours of a signed picture (H, W, 1 or 3): each channel runs from -limit over grey, zero, to limit."""
    shown = np.clip(0.5 + values / (2 * limit or 1), 0, 1).astype(np.float32)
    return np.broadcast_to(shown, (*shown.shape[:2], 3))


def outlined(pixels: np.ndarray, mask: np.ndarray, width: int = PANEL) -> np.ndarray:
    """A picture (H, W, 3), enlarged, with a line around what the mask (H, W) covers and the rest darkened."""
    from scipy.ndimage import binary_erosion  # which Home does not wait for

    large, inside = enlarge(pixels, width).copy(), enlarge(mask, width)
    large[~inside] *= 0.35
    kernel = binary_erosion(inside, iterations=2, border_value=1)  # no line along the picture's own border
    large[inside & ~kernel] = _rgb(ACCENT)
    return large


def tinted(pixels: np.ndarray, tints: Mapping[str, np.ndarray], share: float = 0.6) -> np.ndarray:
    """A picture (H, W, 3) in greys, with a colour ("#rrggbb") laid over each mask (H, W)."""
    shown = np.repeat((pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None], 3, 2)
    for tint, mask in tints.items():
        shown[mask] = (1 - share) * shown[mask] + share * _rgb(tint)
    return shown


def on_checks(cut_out: np.ndarray, side: int = 8) -> np.ndarray:
    """(H, W, 3): a picture with opacity (H, W, 4) on a checkerboard, the usual sign of nothing; enlarged."""
    large = enlarge(cut_out, PANEL)
    rows, cols = np.indices(large.shape[:2]) // side
    checks = np.where((rows + cols) % 2, 0.8, 1.0).astype(np.float32)[..., None]
    return large[..., :3] * large[..., 3:] + checks * (1 - large[..., 3:])


def _rgb(tint: str) -> np.ndarray:
    return np.array([int(tint[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255


def picture(
    pixels: np.ndarray,
    *,
    boxes: Sequence[tuple] = (),
    frame: Frame | None = None,
    width: int = PANEL,
    smooth: bool = True,
    places: int = 0,
    name: str = "place",
) -> alt.LayerChart:
    """A picture, with boxes (top, left, bottom, right) in its own pixels; `frame` marks the part that the net saw.

    places: so many along the longer side answer clicks; the selection `name` has points with `row` and `col`, the
    middle of the place in the picture's pixels.
    """
    shape = pixels.shape[:2]
    layers: list = [_picture_layer(_shrink(pixels, width) if smooth else pixels, (0, 0, *shape), shape, width)]
    if frame is not None and (frame.height < shape[0] - 1 or frame.width < shape[1] - 1):
        whole = (frame.top, frame.left, frame.top + frame.height, frame.left + frame.width)
        layers.append(_box_layer([whole], shape, dashed=True))
    if boxes:
        layers.append(_box_layer(boxes, shape))
    if places:
        count = tuple(max(1, round(places * side / max(shape))) for side in shape)
        cells = _grid(np.argwhere(np.ones(count, bool)), count, (0, 0, *shape))
        cells = cells.assign(
            row=((cells.top + cells.bottom) / 2).astype(int), col=((cells.left + cells.right) / 2).astype(int)
        )
        layers.append(_hits(cells, ["row", "col"], shape, name))
    return _finish(alt.layer(*layers), shape, width)


def zones(
    kinds: np.ndarray,
    colours: Mapping[str, str],
    *,
    over: np.ndarray,
    frame: Frame | None = None,
    opacity: float = 0.6,
    boxes: Sequence[tuple] = (),
    name: str | None = None,
    tips: Mapping[str, np.ndarray] | None = None,
    columns: int = 2,
    width: int = PANEL,
) -> alt.LayerChart:
    """Which kind each cell of a grid (rows, cols) over a picture (H, W, 3) is of, in flat colours with a legend.

    kinds: words, "" where there is none. colours: of each kind; the legend has those that occur. frame: the part of the
    picture that the grid covers. tips: further (rows, cols) for the tooltip. name: of the selection, whose points have
    `row` and `col` of the grid. columns: of the legend.
    """
    shape = over.shape[:2]
    extent = (frame.top, frame.left, frame.top + frame.height, frame.left + frame.width) if frame else (0, 0, *shape)
    grey = _shrink(over, width) @ np.array([0.299, 0.587, 0.114], np.float32)
    layers: list = [_picture_layer(np.repeat(grey[..., None], 3, 2), (0, 0, *shape), shape, width)]
    where = np.argwhere(kinds != "")
    rows, cols = where.T
    told = {"kind": kinds[rows, cols], **{key: values[rows, cols] for key, values in (tips or {}).items()}}
    cells = _grid(where, kinds.shape, extent).assign(row=rows, col=cols, **told)
    there = [kind for kind in colours if (kinds == kind).any()]
    fill = alt.Fill(
        "kind:N",
        scale=alt.Scale(domain=there, range=[colours[kind] for kind in there]),
        legend=alt.Legend(
            title=None,
            orient="bottom",
            columns=columns,
            labelLimit=width // columns - 30,
            symbolStrokeWidth=0,
            symbolOpacity=1,
            offset=8,
        ),
    )
    hits = _hits(cells, ["row", "col", *told], shape, name)
    layers.append(hits.encode(fill=fill, fillOpacity=alt.value(opacity)))
    if boxes:
        layers.append(_box_layer(boxes, shape))
    return _finish(alt.layer(*layers), shape, width)


def _grid(which: np.ndarray, count: tuple[int, int], extent: tuple) -> pd.DataFrame:
    """top, left, bottom and right of some cells (N, 2) of a regular grid of `count` (rows, columns) over an extent."""
    top, left, bottom, right = extent
    tall, wide = (bottom - top) / count[0], (right - left) / count[1]
    corners = np.array([top, left]) + which * np.array([tall, wide])
    boxes = np.hstack([corners, corners + np.array([tall, wide])]).round(2)
    return pd.DataFrame(boxes, columns=["top", "left", "bottom", "right"])


def _hits(cells: pd.DataFrame, tips: Sequence[str], shape: tuple[int, int], name: str | None) -> alt.Chart:
    """Transparent rectangles that answer hovers and, if `name`, clicks, by their `row` and `col`."""
    scales = _axes(shape)
    hover = alt.selection_point(name=f"hover_{name or 'cells'}", on="pointerover", empty=False, clear="pointerout")
    chart = (
        alt.Chart(cells)
        .mark_rect(stroke=ACCENT, fillOpacity=0, cursor="pointer" if name else "default")
        .encode(
            x=alt.X("left:Q", axis=None, scale=scales["x"]),
            x2="right:Q",
            y=alt.Y("top:Q", axis=None, scale=scales["y"]),
            y2="bottom:Q",
            tooltip=list(tips),
            strokeOpacity=alt.condition(hover, alt.value(1), alt.value(0)),
        )
        .add_params(hover)
    )
    return chart.add_params(alt.selection_point(name=name, fields=["row", "col"], empty=False)) if name else chart


def _shrink(pixels: np.ndarray, width: int) -> np.ndarray:
    """At most twice as many pixels as the screen will show: what goes over the wire."""
    step = -(-max(pixels.shape[:2]) // (2 * width))
    return pixels[::step, ::step]


def _finish(chart: alt.LayerChart, shape: tuple[int, int], width: int) -> alt.LayerChart:
    across, down = _size(shape, width)
    return _fixed(chart, across, down)


def _fixed(chart: alt.LayerChart, width: int | str, height: int) -> alt.LayerChart:
    """The plot itself gets this size; legends and axes come on top of it."""
    return chart.properties(
        width=width,
        height=height,
        padding={"left": 2, "right": 2, "top": 2, "bottom": 2},
        autosize=alt.AutoSizeParams(type="pad", contains="content"),
    ).configure_view(strokeWidth=0)


def heatmap(
    values: np.ndarray,
    *,
    title: str,
    signed: bool = False,
    bounds: tuple[float, float] | None = None,
    shown: np.ndarray | None = None,
    over: np.ndarray | None = None,
    frame: Frame | None = None,
    opacity: float = 1.0,
    cells: Sequence[tuple] | None = None,
    boxes: Sequence[tuple] = (),
    name: str | None = None,
    value_name: str = "value",
    width: int = PANEL,
    most: int = MAX_CELLS,
) -> alt.LayerChart:
    """A map (rows, cols), alone or over a picture, with its colour scale; cells answer hovers and, if `name`, clicks.

    title: of the colour scale, with the unit. shown: what is painted, where it differs from the values (a coarse map).
    over, frame: the picture (H, W, 3) and the part of it that the map covers. cells: for each position in row-major
    order, (top, left, bottom, right) in the map's own extent [0, 1]; by default a regular grid. name: of the selection,
    whose points have `row` and `col`. most: cells a side that answer, fewer where there are many maps.
    """
    low, high = bounds or limits(values, signed)
    painted = paint(values if shown is None else shown, low, high, signed)
    rows, cols = values.shape
    shape = over.shape[:2] if over is not None else (_tall(rows, cols), PANEL)
    extent = (frame.top, frame.left, frame.top + frame.height, frame.left + frame.width) if frame else (0, 0, *shape)
    layers = _painted(painted, extent, shape, over, opacity, width)
    layers.append(_cells(values, extent, shape, colour_scale(low, high, title, signed), cells, name, value_name, most))
    if boxes:
        layers.append(_box_layer(boxes, shape))
    return _finish(alt.layer(*layers), shape, width)


def _painted(
    painted: np.ndarray, extent: tuple, shape: tuple[int, int], over: np.ndarray | None, opacity: float, width: int
) -> list:
    """A map's colours (h, w, 3) as a layer, on a grey picture where there is one to shine through."""
    layers = []
    if over is not None:
        small = _shrink(over, width)
        grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
        backdrop = np.repeat(grey[..., None], 3, 2) if opacity < 1 else small
        layers.append(_picture_layer(backdrop, (0, 0, *shape), shape, width))
        painted = np.concatenate([painted, np.full((*painted.shape[:2], 1), opacity, np.float32)], 2)
    return [*layers, _picture_layer(painted, extent, shape, width)]


def tile(
    values: np.ndarray,
    *,
    bounds: tuple[float, float],
    over: np.ndarray,
    frame: Frame | None = None,
    signed: bool = False,
    opacity: float = 0.6,
    tip: Mapping[str, object],
    title: str | None = None,
    name: str | None = None,
    boxes: Sequence[tuple] = (),
    width: int = TILE,
) -> alt.LayerChart:
    """One map (rows, cols) of several over its picture (H, W, 3), small: it answers as a whole, with `tip`.

    bounds, signed: of the colours that the several share. title: of the colour scale, where it has one of its own;
    else `colour_bar` draws one for all. name: of the selection, whose points have `tile`, which is 0.
    """
    shape = over.shape[:2]
    extent = (frame.top, frame.left, frame.top + frame.height, frame.left + frame.width) if frame else (0, 0, *shape)
    layers = _painted(paint(values, *bounds, signed), extent, shape, over, opacity, width)
    data = pd.DataFrame({"tile": [0], "top": [0], "left": [0], "bottom": [shape[0]], "right": [shape[1]]})
    data = data.assign(level=bounds[0], **{key: [value] for key, value in tip.items()})
    scales = _axes(shape)
    hover = alt.selection_point(name=f"hover_{name or 'tile'}", on="pointerover", empty=False, clear="pointerout")
    hits = (
        alt.Chart(data)
        .mark_rect(stroke=ACCENT, strokeWidth=3, fillOpacity=0, cursor="pointer" if name else "default")
        .encode(
            x=alt.X("left:Q", axis=None, scale=scales["x"]),
            x2="right:Q",
            y=alt.Y("top:Q", axis=None, scale=scales["y"]),
            y2="bottom:Q",
            tooltip=list(tip),
            strokeOpacity=alt.condition(hover, alt.value(1), alt.value(0)),
        )
        .add_params(hover)
    )
    if title is not None:
        hits = hits.encode(fill=alt.Fill("level:Q", **colour_scale(*bounds, title, signed)))
    if name:
        hits = hits.add_params(alt.selection_point(name=name, fields=["tile"], empty=False))
    outlines = [_box_layer(boxes, shape)] if boxes else []
    return _finish(alt.layer(*layers, *outlines, hits), shape, width)


def colour_bar(bounds: tuple[float, float], *, title: str, signed: bool = False) -> alt.LayerChart:
    """The colour scale that several pictures share, alone."""
    data = pd.DataFrame({"level": [bounds[0]]})
    nothing = alt.Chart(data).mark_rect(opacity=0).encode(alt.Fill("level:Q", **colour_scale(*bounds, title, signed)))
    return _fixed(alt.layer(nothing), PANEL - 40, 1)


def _tall(rows: int, cols: int) -> int:
    return max(1, round(PANEL * rows / cols))


def _cells(
    values: np.ndarray,
    extent: tuple,
    shape: tuple[int, int],
    scale: dict,
    cells: Sequence[tuple] | None,
    name: str | None,
    value_name: str,
    most: int,
) -> alt.Chart:
    """Transparent rectangles that carry the numbers: hover, click and the legend."""
    rows, cols = values.shape
    step = -(-max(rows, cols) // most)  # large maps answer by blocks, each with its largest value
    found = []
    top, left, bottom, right = extent
    for i in range(0, rows, step):
        for j in range(0, cols, step):
            block = values[i : i + step, j : j + step]
            if np.isnan(block).all():
                continue
            k, m = np.unravel_index(np.nanargmax(np.abs(block)), block.shape)
            below, beside = min(i + step, rows), min(j + step, cols)
            if cells is None:
                box = (i / rows, j / cols, below / rows, beside / cols)
            else:
                box = (*cells[i * cols + j][:2], *cells[(below - 1) * cols + beside - 1][2:])
            place = (top + box[0] * (bottom - top), left + box[1] * (right - left))
            place += (top + box[2] * (bottom - top), left + box[3] * (right - left))
            found.append((i + int(k), j + int(m), float(f"{block[k, m]:.5g}"), *(round(p, 2) for p in place)))
    data = pd.DataFrame(found, columns=["row", "col", value_name, "top", "left", "bottom", "right"])
    scales = _axes(shape)
    chart = (
        alt.Chart(data)
        .mark_rect(stroke=ACCENT, fillOpacity=0, cursor="pointer" if name else "default")
        .encode(
            x=alt.X("left:Q", axis=None, scale=scales["x"]),
            x2="right:Q",
            y=alt.Y("top:Q", axis=None, scale=scales["y"]),
            y2="bottom:Q",
            fill=alt.Fill(f"{value_name}:Q", **scale),
            tooltip=["row:Q", "col:Q", alt.Tooltip(f"{value_name}:Q", format=".4~g")],
        )
    )
    hover = alt.selection_point(name=f"hover_{name or 'cells'}", on="pointerover", empty=False, clear="pointerout")
    chart = chart.encode(strokeOpacity=alt.condition(hover, alt.value(1), alt.value(0))).add_params(hover)
    if name:
        chart = chart.add_params(alt.selection_point(name=name, fields=["row", "col"], empty=False))
    return chart


def sheet(
    tiles: Sequence[np.ndarray],
    *,
    captions: Mapping[str, Sequence],
    columns: int,
    name: str,
    chosen: int | None = None,
    width: int = PANEL,
    gap: int = 2,
    scale: dict | None = None,
) -> alt.LayerChart:
    """Tiles (h, w, 3) of one size as one picture, each clickable; `captions` are columns of its tooltip.

    The selection `name` has points with `tile`, the tile's place in the sequence. scale: a `colour_scale`, for its
    legend.
    """
    count = len(tiles)
    columns = min(columns, count)
    rows = -(-count // columns)
    side = (width - gap * (columns - 1)) // columns
    height = max(8, round(side * tiles[0].shape[0] / tiles[0].shape[1]))
    whole = np.ones((rows * (height + gap) - gap, columns * (side + gap) - gap, 4), np.float32)
    whole[..., 3] = 0
    places = []
    for k, tile in enumerate(tiles):
        top, left = k // columns * (height + gap), k % columns * (side + gap)
        # nearest neighbour at the tile's screen size: one pixel of the map is one crisp block
        i = (np.arange(height) * tile.shape[0] // height)[:, None]
        j = (np.arange(side) * tile.shape[1] // side)[None]
        whole[top : top + height, left : left + side, :3] = tile[i, j]
        whole[top : top + height, left : left + side, 3] = 1
        places.append((k, top, left, top + height, left + side))
    shape = whole.shape[:2]
    scales = _axes(shape)
    data = pd.DataFrame(places, columns=["tile", "top", "left", "bottom", "right"]).assign(**captions)
    hover = alt.selection_point(name=f"hover_{name}", on="pointerover", empty=False, clear="pointerout")
    encoding = {
        "x": alt.X("left:Q", axis=None, scale=scales["x"]),
        "x2": "right:Q",
        "y": alt.Y("top:Q", axis=None, scale=scales["y"]),
        "y2": "bottom:Q",
        "tooltip": list(captions),
        "strokeOpacity": alt.condition(hover, alt.value(1), alt.value(0)),
    }
    if scale is not None:
        data = data.assign(level=scale["scale"].domain[0])
        encoding["fill"] = alt.Fill("level:Q", **scale)
    hits = (
        alt.Chart(data)
        .mark_rect(stroke=ACCENT, strokeWidth=2, fillOpacity=0, cursor="pointer")
        .encode(**encoding)
        .add_params(hover, alt.selection_point(name=name, fields=["tile"], empty=False))
    )
    layers = [_picture_layer(whole, (0, 0, *shape), shape, shape[1]), hits]
    if chosen is not None and 0 <= chosen < count:
        layers.append(_box_layer([places[chosen][1:]], shape))
    return _fixed(alt.layer(*layers), shape[1], shape[0])


def patches(
    tiles: Sequence[np.ndarray],
    *,
    written: Sequence[str],
    captions: Mapping[str, Sequence],
    columns: int,
    name: str,
    heads: Sequence[str] = (),
    chosen: int | None = None,
    width: int = PANEL,
    gap: int = 4,
) -> alt.LayerChart:
    """Pictures (h, w, 3) of one size in rows, each with a few characters written on it, and each clickable.

    heads: a line above each row. `captions` are columns of the tooltip; the selection `name` has points with `tile`,
    the place in the sequence.
    """
    side = (width - gap * (columns - 1)) // columns
    height = max(8, round(side * tiles[0].shape[0] / tiles[0].shape[1]))
    line = 20 if heads else 0
    rows = -(-len(tiles) // columns)
    shape = (rows * (line + height + gap) - gap, width)
    tops = [k // columns * (line + height + gap) + line for k in range(len(tiles))]
    lefts = [k % columns * (side + gap) for k in range(len(tiles))]
    data = pd.DataFrame({"tile": range(len(tiles)), "top": tops, "left": lefts}).assign(**captions)
    data = data.assign(bottom=data.top + height, right=data.left + side, written=list(written))
    scales = _axes(shape)
    place = {"x": alt.X("left:Q", axis=None, scale=scales["x"]), "y": alt.Y("top:Q", axis=None, scale=scales["y"])}
    pictures = (
        alt.Chart(data[["left", "top"]].assign(url=[_small(tile, side) for tile in tiles]))
        .mark_image(width=side, height=height, aspect=False, align="left", baseline="top")
        .encode(**place, url="url:N")
    )
    below = {**place, "y": alt.Y("bottom:Q", axis=None, scale=scales["y"]), "text": "written:N"}
    pen = {"align": "left", "baseline": "bottom", "dx": 4, "dy": -2, "fontSize": 12, "fontWeight": 600}
    outline = alt.Chart(data).mark_text(**pen, stroke="black", strokeWidth=3, color="black", opacity=0.75)
    hover = alt.selection_point(name=f"hover_{name}", on="pointerover", empty=False, clear="pointerout")
    hits = (
        alt.Chart(data)
        .mark_rect(stroke=ACCENT, strokeWidth=3, fillOpacity=0, cursor="pointer")
        .encode(
            **place,
            x2="right:Q",
            y2="bottom:Q",
            tooltip=list(captions),
            strokeOpacity=alt.condition(hover, alt.value(1), alt.value(0)),
        )
        .add_params(hover, alt.selection_point(name=name, fields=["tile"], empty=False))
    )
    layers = [pictures, outline.encode(**below), alt.Chart(data).mark_text(**pen, color="white").encode(**below)]
    if heads:
        above = pd.DataFrame({"left": 0, "top": tops[::columns], "head": list(heads)})
        text = alt.Chart(above).mark_text(align="left", baseline="bottom", dy=-3, color="#868e96", fontSize=12)
        layers.append(text.encode(**place, text="head:N"))
    if chosen is not None and 0 <= chosen < len(tiles):
        layers.append(_box_layer([(tops[chosen], lefts[chosen], tops[chosen] + height, lefts[chosen] + side)], shape))
    return _fixed(alt.layer(*layers, hits), shape[1], shape[0])


def _small(pixels: np.ndarray, side: int) -> str:
    """A tile as wide as `side` on the screen: a photograph as JPEG at twice that, a few pixels as crisp blocks."""
    if pixels.shape[1] <= side:
        return _url(enlarge(pixels, side // 2 + 1))
    if pixels.shape[1] > 2 * side:
        pixels = resize(pixels, (max(1, round(pixels.shape[0] * 2 * side / pixels.shape[1])), 2 * side))
    return "data:image/jpeg;base64," + base64.b64encode(to_jpeg(pixels)).decode("ascii")


def points(
    data: pd.DataFrame,
    *,
    x: str,
    y: str,
    titles: tuple[str, str],
    tips: Sequence[str],
    colours: Mapping[str, str],
    name: str,
    chosen: object = None,
    height: int = 250,
) -> alt.LayerChart:
    """A point for each row of a table; a click gives the nearest one's first column, as does the hover.

    titles: of the axes. tips: columns of the tooltip. colours: of the column `kind`; the legend has those that occur.
    chosen: the value of the first column whose point is ringed.
    """
    key, there = data.columns[0], [kind for kind in colours if (data.kind == kind).any()]
    scale = alt.Scale(domain=there, range=[colours[kind] for kind in there])
    place = {
        "x": alt.X(f"{x}:Q", title=titles[0], scale=alt.Scale(zero=False), axis=alt.Axis(format=".3~g", tickCount=5)),
        "y": alt.Y(f"{y}:Q", title=titles[1], axis=alt.Axis(format=".3~g", tickCount=5)),
    }
    hover = alt.selection_point(name=f"hover_{name}", on="pointerover", empty=False, clear="pointerout", fields=[key])
    dots = (
        alt.Chart(data)
        .mark_circle(size=60, opacity=0.8, cursor="pointer")
        .encode(
            **place,
            color=alt.Color("kind:N", scale=scale, legend=alt.Legend(title=None, orient="top")),
            tooltip=list(tips),
            stroke=alt.condition(hover, alt.value(ACCENT), alt.value(None)),
            strokeWidth=alt.value(2),
        )
        .add_params(hover, alt.selection_point(name=name, fields=[key], empty=False))
    )
    ring = alt.Chart(data[data[key] == chosen]).mark_point(size=150, color=ACCENT, strokeWidth=3, opacity=1)
    return alt.layer(dots, ring.encode(**place)).properties(width="container", height=height)


def places(
    data: pd.DataFrame, size: tuple[int, int], *, tips: Sequence[str], colours: Mapping[str, str], width: int = 230
) -> alt.LayerChart:
    """Points on the area of pictures (H, W), at the columns x and y in their pixels, row 0 at the top.

    tips: columns of the tooltip. colours: of the column `kind`, all of which are in the legend.
    """
    area = pd.DataFrame({"left": [0], "top": [0], "right": [size[1]], "bottom": [size[0]]})
    scales = _axes(size)
    ticks = {"format": "d", "tickCount": 5, "grid": False, "domain": False}
    x = {"scale": scales["x"], "title": "column, pixels", "axis": alt.Axis(**ticks)}
    y = {"scale": scales["y"], "title": "row, pixels", "axis": alt.Axis(**ticks)}
    frame = alt.Chart(area).mark_rect(filled=False, stroke=MUTED)
    frame = frame.encode(x=alt.X("left:Q", **x), x2="right:Q", y=alt.Y("top:Q", **y), y2="bottom:Q")
    scale = alt.Scale(domain=list(colours), range=list(colours.values()))
    look = {"size": 70, "opacity": 0.85, "stroke": "white", "strokeWidth": 0.8}
    dots = (
        alt.Chart(data)
        .mark_circle(**look)
        .encode(
            x=alt.X("x:Q", **x),
            y=alt.Y("y:Q", **y),
            color=alt.Color("kind:N", scale=scale, legend=alt.Legend(title=None, orient="top")),
            tooltip=list(tips),
        )
    )
    return _finish(alt.layer(frame, dots), size, width)


def ranked(
    data: pd.DataFrame,
    *,
    y: str,
    title: str,
    tips: Sequence[str],
    colours: Mapping[str, str],
    name: str,
    chosen: object = None,
    height: int = 250,
    across_title: str = "",
    legend: bool = False,
) -> alt.LayerChart:
    """A thin bar for each row of a table, in its order, of the height `y`; a click gives its first column.

    colours: of the column `kind`; with a legend of those that occur, if asked for. chosen: the value of the first
    column that is pointed at. across_title: what the bars are, where they are no units.
    """
    key = data.columns[0]
    data = data.assign(rank=np.arange(len(data)) + 1)
    across_title = across_title or f"{len(data)} units, in this order"
    across = alt.X("rank:O", axis=alt.Axis(labels=False, ticks=False, title=across_title))
    across.scale = alt.Scale(paddingInner=0.1 if len(data) < 150 else 0, paddingOuter=0)
    hover = alt.selection_point(name=f"hover_{name}", on="pointerover", empty=False, clear="pointerout", fields=[key])
    there = [kind for kind in colours if not legend or (data.kind == kind).any()]
    scale = alt.Scale(domain=there, range=[colours[kind] for kind in there])
    keys = alt.Legend(title=None, orient="top", columns=3, symbolStrokeWidth=0) if legend else None
    bars = (
        alt.Chart(data)
        .mark_bar(cursor="pointer", minBandSize=1)
        .encode(
            x=across,
            y=alt.Y(f"{y}:Q", title=title, axis=alt.Axis(format=".3~s" if legend else ".3~g", tickCount=5)),
            color=alt.Color("kind:N", scale=scale, legend=keys),
            tooltip=list(tips),
            opacity=alt.condition(hover, alt.value(0.6), alt.value(1)),
        )
        .add_params(hover, alt.selection_point(name=name, fields=[key], empty=False))
    )
    look = {"shape": "triangle-up", "size": 70, "filled": True, "color": ACCENT, "opacity": 1}
    marker = alt.Chart(data[data[key] == chosen]).mark_point(**look, yOffset=8).encode(x=across, y=alt.YDatum(0))
    return alt.layer(bars, marker).properties(width="container", height=height)


def network_map(layers: Sequence[Layer], chosen: str, able: Sequence[str], name: str) -> alt.LayerChart:
    """Each layer a bar, in order: its height the resolution, its colour the channels. The selection has `layer`."""
    data = pd.DataFrame(
        [
            {
                "place": k,
                "layer": layer.name,
                "op": layer.op,
                "shape": " × ".join(map(str, layer.shape)),
                "rows": layer.shape[1],
                "channels": layer.shape[0],
                "sees": " × ".join(map(str, layer.receptive_field.size)) + " pixels",
                "able": layer.name in able,
            }
            for k, layer in enumerate(layers)
        ]
    )
    hover = alt.selection_point(
        name=f"hover_{name}", on="pointerover", empty=False, clear="pointerout", fields=["layer"]
    )
    resolutions = sorted(set(data.rows), reverse=True)
    ticks = [r for i, r in enumerate(resolutions) if i == 0 or r <= 0.7 * resolutions[i - 1]][:5]
    base = alt.Chart(data).encode(
        x=alt.X("place:O", axis=None, scale=alt.Scale(paddingInner=0.12, paddingOuter=0)),
        tooltip=[
            "layer",
            "op",
            alt.Tooltip("shape", title="channels × rows × cols"),
            alt.Tooltip("sees", title="each unit sees"),
        ],
    )
    bars = base.mark_bar(cursor="pointer").encode(
        y=alt.Y(
            "rows:Q",
            scale=alt.Scale(type="pow", exponent=0.4, domain=[0, int(data.rows.max())], nice=False),
            axis=alt.Axis(
                values=ticks, title="rows", grid=False, domain=False, titleAngle=0, titleAlign="left", titleY=-8
            ),
        ),
        color=alt.Color(
            "channels:Q",
            scale=alt.Scale(type="log", range=list(colour.SEQUENTIAL[2:15]), interpolate="rgb"),
            legend=alt.Legend(
                title="channels",
                orient="top",
                direction="horizontal",
                titleOrient="left",
                gradientLength=140,
                gradientThickness=8,
                tickCount=3,
                offset=4,
            ),
        ),
        opacity=alt.condition("datum.able", alt.value(1), alt.value(0.25)),
        stroke=alt.condition(hover, alt.value(ACCENT), alt.value(None)),
    )
    bars = bars.add_params(hover, alt.selection_point(name=name, fields=["layer"], empty=False))
    marker = (
        base.transform_filter(alt.datum.layer == chosen)
        .mark_point(shape="triangle-up", size=70, filled=True, color=ACCENT, opacity=1, yOffset=8)
        .encode(y=alt.YDatum(0))
    )
    return alt.layer(bars, marker).properties(width="container", height=160).configure_view(strokeWidth=0)


def top_classes(
    labels: Sequence[str], probabilities: Sequence[float], logits: Sequence[float], chosen: str
) -> alt.LayerChart:
    """The likeliest classes as bars, the chosen one in the accent colour."""
    data = pd.DataFrame({"class": labels, "probability": np.round(probabilities, 5), "logit": np.round(logits, 3)})
    base = alt.Chart(data).encode(
        y=alt.Y("class:N", sort=list(labels), axis=alt.Axis(title=None, labelLimit=150, ticks=False, domain=False)),
        x=alt.X("probability:Q", scale=alt.Scale(domain=[0, 1.18]), axis=None),
        tooltip=["class", alt.Tooltip("probability", format=".4f"), alt.Tooltip("logit", format=".3f")],
    )
    colours = alt.condition(alt.datum["class"] == chosen, alt.value(ACCENT), alt.value("#31688e"))
    bars = base.mark_bar(cornerRadiusEnd=3, height=16, cursor="pointer").encode(color=colours)
    bars = bars.add_params(alt.selection_point(name="class", fields=["class"], empty=False))
    text = base.mark_text(align="left", dx=4, color="#868e96").encode(text=alt.Text("probability:Q", format=".1%"))
    return (bars + text).properties(width="container", height=30 * len(data)).configure_view(strokeWidth=0)


def bars(values: Sequence[float], *, x: str, y: str, chosen: int | None = None, height: int = 110) -> alt.Chart:
    """One number per channel as thin bars, in order."""
    data = pd.DataFrame({x: np.arange(len(values)), y: np.round(np.asarray(values, float), 6)})
    colours = alt.condition(alt.datum[x] == (-1 if chosen is None else chosen), alt.value(ACCENT), alt.value("#31688e"))
    return (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x=alt.X(f"{x}:O", axis=alt.Axis(labels=False, ticks=False, title=f"{x} (0 to {len(data) - 1})")),
            y=alt.Y(f"{y}:Q"),
            color=colours,
            tooltip=[x, alt.Tooltip(y, format=".4~g")],
        )
        .properties(width="container", height=height)
    )


def histogram(data: pd.DataFrame, *, title: str, log: bool = False, height: int = 150) -> alt.Chart:
    """How numbers are spread, from columns low, high and count. title: what they are. log: of the counts."""
    counts = alt.Scale(type="symlog") if log else alt.Scale()
    return (
        alt.Chart(data)
        .mark_bar(color="#31688e", binSpacing=0)
        .encode(
            x=alt.X("low:Q", title=title, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(format=".3~g")),
            x2="high:Q",
            y=alt.Y("count:Q", title="count" + (", log" if log else ""), scale=counts, axis=alt.Axis(tickCount=4)),
            y2=alt.Y2Datum(0),
            tooltip=[*(alt.Tooltip(f"{key}:Q", format=".4~g") for key in ("low", "high")), "count:Q"],
        )
        .properties(width="container", height=height)
    )


def differences(
    data: pd.DataFrame,
    *,
    limit: float,
    tips: Sequence[str],
    colours: Mapping[str, str],
    name: str,
    chosen: object = None,
    height: int = 270,
) -> alt.LayerChart:
    """A point for each row of a table, in its order: its column `relative` on a log scale, and a rule at the limit.

    A difference of 0 lies on the floor of the chart. A click gives the first column. colours: of the column `kind`.
    """
    key = data.columns[0]
    positive = data.relative[np.isfinite(data.relative) & (data.relative > 0)]
    floor = 10.0 ** np.floor(np.log10(positive.min() if len(positive) else limit / 1e6))
    top = 10.0 ** np.ceil(np.log10(max(positive.max() if len(positive) else limit, limit)) + 0.1)
    drawn = data.relative.replace([np.inf], top).fillna(top).clip(floor, top)
    data = data.assign(rank=np.arange(len(data)) + 1, drawn=drawn, told=[f"{value:.2g}" for value in data.relative])
    there = [kind for kind in colours if (data.kind == kind).any()]
    across = alt.X(
        "rank:Q",
        title="tensors, from the picture to the scores",
        scale=alt.Scale(domain=[0.5, len(data) + 0.5], nice=False),
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
    )
    up = alt.Scale(type="log", domain=[floor, top], nice=False)
    hover = alt.selection_point(name=f"hover_{name}", on="pointerover", empty=False, clear="pointerout", fields=[key])
    scale = alt.Scale(domain=there, range=[colours[kind] for kind in there])
    y = alt.Y(
        "drawn:Q",
        title="relative difference",
        scale=up,
        axis=alt.Axis(format=".0e", values=[10.0**k for k in range(round(np.log10(floor)), round(np.log10(top)) + 1)]),
    )
    dots = (
        alt.Chart(data)
        .mark_circle(size=55, opacity=1, cursor="pointer")
        .encode(
            x=across,
            y=y,
            color=alt.Color("kind:N", scale=scale, legend=alt.Legend(title=None, orient="top", columns=3)),
            stroke=alt.condition(hover, alt.value(ACCENT), alt.value(None)),
            strokeWidth=alt.value(2),
            tooltip=[*tips, alt.Tooltip("told:N", title="relative difference")],
        )
        .add_params(hover, alt.selection_point(name=name, fields=[key], empty=False))
    )
    ring = alt.Chart(data[data[key] == chosen]).mark_point(size=150, color=ACCENT, strokeWidth=3, opacity=1)
    at = pd.DataFrame({"limit": [limit], "said": [f"limit {limit:g}"]})
    rule = alt.Chart(at).mark_rule(color=ACCENT, strokeDash=[5, 3], strokeWidth=1.5)
    rule = rule.encode(y=alt.Y("limit:Q", scale=up))
    text = alt.Chart(at).mark_text(align="left", baseline="bottom", dx=4, dy=-2, color=ACCENT)
    text = text.encode(x=alt.value(0), y=alt.Y("limit:Q", scale=up), text="said:N")
    return alt.layer(dots, ring.encode(x=across, y=y), rule, text).properties(width="container", height=height)


def lines(
    data: pd.DataFrame,
    *,
    x: str,
    y: Sequence[str],
    x_title: str,
    y_title: str,
    bounds: tuple[float, float] | None = None,
    name: str | None = None,
    chosen: float | None = None,
    height: int = 240,
    width: int | str = "container",
    columns: int = 0,
    label: int = 240,
    pictures: Sequence[np.ndarray] = (),
) -> alt.LayerChart:
    """Columns `y` over column `x` as lines with points, one colour each; a rule at `chosen`.

    bounds: of the y axis. name: of the selection, whose points have the x that is nearest to the click. columns: of
    the legend, where it would be too long for one line. label: pixels of a name in it. pictures: for each row,
    (H, W, 3), shown as one hovers there.
    """
    tidy = data.melt(x, list(y), var_name="curve", value_name="value").dropna()
    whole = pd.api.types.is_integer_dtype(data[x])  # counts have no halves
    base = alt.Chart(tidy).encode(
        x=alt.X(
            f"{x}:Q",
            title=x_title,
            scale=alt.Scale(nice=False, zero=False),
            axis=alt.Axis(tickMinStep=1) if whole else alt.Axis(),
        ),
        y=alt.Y("value:Q", title=y_title, scale=alt.Scale(domain=bounds) if bounds else alt.Scale()),
        color=alt.Color(
            "curve:N",
            sort=list(y),
            scale=alt.Scale(domain=list(y), range=[CURVES[k % len(CURVES)] for k in range(len(y))]),
            legend=alt.Legend(title=None, orient="top", columns=columns, labelLimit=label) if len(y) > 1 else None,
        ),
    )
    layers = [base.mark_line(), base.mark_point(filled=True, size=28)]
    hover = alt.selection_point(
        name=f"hover_{name or 'lines'}", on="pointerover", empty=False, clear="pointerout", nearest=True, fields=[x]
    )
    rows = data[[x, *y]].round(6)
    told = [alt.Tooltip(f"{x}:Q", format=".3~g", title=x_title)]
    told += [alt.Tooltip(field=_column(c), type="quantitative", format=".4~g", title=c) for c in y]
    if len(pictures):
        rows = rows.assign(image=[_thumbnail(pixels) for pixels in pictures])
        told.append(alt.Tooltip("image:N"))
    rule = alt.Chart(rows.dropna(subset=list(y), how="all")).mark_rule(color="#868e96", strokeWidth=1)
    rule = rule.encode(x=f"{x}:Q", opacity=alt.condition(hover, alt.value(1), alt.value(0)), tooltip=told)
    rule = rule.add_params(hover)
    if name:
        click = alt.selection_point(name=name, on="click", nearest=True, fields=[x], empty=False)
        rule = rule.add_params(click)
    layers.append(rule)
    if chosen is not None:
        at = pd.DataFrame({x: [chosen]})
        layers.append(alt.Chart(at).mark_rule(color=ACCENT, strokeWidth=2).encode(x=f"{x}:Q"))
    return alt.layer(*layers).properties(width=width, height=height)


def _column(name: str) -> str:
    """A column by its name, which may hold quotes and dots, as that of a class; Vega takes them for a path."""
    return re.sub(r"""([\\.\[\]'"])""", r"\\\1", name)


def shares(
    data: pd.DataFrame,
    curves: Sequence[str],
    *,
    x_title: str,
    y_title: str,
    most: float,
    groups: Sequence[str],
    columns: int = 3,
    height: int = 320,
) -> alt.LayerChart:
    """Shares over x as lines with points, and their intervals as bands; a colour per curve, a kind of line per group.

    data: columns curve, group, x, share, low and high in 0 to 1, and told, how many that is, in words. curves, groups:
    all that there will be, so that nothing changes its looks as more come. most: the largest x. columns: of the
    legend, where there is room.
    """
    rows = data[["curve", "group", "x", "share", "low", "high", "told"]].round(5)
    names = list(curves)
    y = {"scale": alt.Scale(domain=[0, 1]), "title": y_title, "axis": alt.Axis(format="%")}
    base = alt.Chart(rows).encode(
        x=alt.X("x:Q", title=x_title, scale=alt.Scale(domain=[0, most], nice=False), axis=alt.Axis(tickCount=9)),
        color=alt.Color(
            "curve:N",
            sort=names,
            scale=alt.Scale(domain=names, range=kinds(len(names))),
            legend=alt.Legend(
                title=None,
                orient="top",
                columns=alt.ExprRef(f"width < 420 ? 1 : {columns}"),  # on a phone, below each other
                labelLimit=260,
                symbolType="stroke",
                symbolOpacity=1,
                symbolStrokeWidth=3,
            ),
        ),
    )
    dash = alt.StrokeDash(
        "group:N",
        scale=alt.Scale(domain=list(groups), range=[DASHES[k % len(DASHES)] for k in range(len(groups))]),
        legend=None,
    )
    told = [
        alt.Tooltip("curve:N", title="curve"),
        alt.Tooltip("x:Q", title=x_title, format=".3~g"),
        alt.Tooltip("share:Q", title=y_title, format=".1%"),
        alt.Tooltip("told:N", title="pictures"),
        alt.Tooltip("low:Q", title="95 % interval, from", format=".1%"),
        alt.Tooltip("high:Q", title="to", format=".1%"),
    ]
    return alt.layer(
        base.mark_area(opacity=0.13).encode(y=alt.Y("low:Q", **y), y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=alt.Y("share:Q", **y), strokeDash=dash),
        base.mark_point(filled=True, size=36, opacity=1).encode(y=alt.Y("share:Q", **y)),
        base.mark_point(filled=True, size=300, opacity=0).encode(y=alt.Y("share:Q", **y), tooltip=told),  # easy to hit
    ).properties(width="container", height=height)


def dots(
    data: pd.DataFrame,
    *,
    x_title: str,
    bounds: tuple[float, float] | None = None,
    rule: float | None = None,
) -> alt.LayerChart:
    """Means with their intervals: a row per `label` in the table's order, a colour per `series`.

    data: columns label, series, value, low and high; the last two are NaN where there is no interval. rule: a number to
    compare with, as a dashed line.
    """
    data = data.astype({"value": float, "low": float, "high": float}).round(5)
    series = list(dict.fromkeys(data.series))
    scale = alt.Scale(domain=list(bounds), clamp=True) if bounds else alt.Scale(zero=False)
    base = alt.Chart(data).encode(
        y=alt.Y("label:N", sort=None, axis=alt.Axis(title=None, labelLimit=150, ticks=False, domain=False, grid=True)),
        yOffset=alt.YOffset("series:N", sort=series),
        color=alt.Color(
            "series:N",
            sort=series,
            scale=alt.Scale(domain=series, range=[ACCENT, "#31688e", "#35b779", "#8a98c8"][: len(series)]),
            legend=alt.Legend(title=None, orient="top") if len(series) > 1 else None,
        ),
        tooltip=["label", "series", *(alt.Tooltip(f"{key}:Q", format=".4~g") for key in ("value", "low", "high"))],
    )
    known = base.transform_filter("isValid(datum.low)")
    layers = [
        known.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=x_title, scale=scale), x2="high:Q"),
        base.mark_point(filled=True, size=70, opacity=1).encode(x=alt.X("value:Q", title=x_title, scale=scale)),
    ]
    if rule is not None:
        at = alt.Chart(pd.DataFrame({"value": [rule]}))
        layers.append(at.mark_rule(strokeDash=[4, 3], color="#868e96").encode(x=alt.X("value:Q", scale=scale)))
    rows = len(set(data.label))
    around = 60 + 30 * (len(series) > 1)  # the axis and the legend, which the height includes
    return alt.layer(*layers).properties(width="container", height=(12 + 18 * len(series)) * rows + around)


def groups(data: pd.DataFrame, height: int = 215) -> alt.Chart:
    """Points at x and y, coloured by the column group; axes have no unit and are not drawn."""
    axis = {"axis": None, "scale": alt.Scale(zero=False)}
    names = sorted(data.group.unique())
    colours = alt.Scale(domain=names, range=[CURVES[k % len(CURVES)] for k in range(len(names))])
    return (
        alt.Chart(data.round(4))
        .mark_circle(size=36)
        .encode(
            x=alt.X("x:Q", **axis),
            y=alt.Y("y:Q", **axis),
            color=alt.Color("group:N", scale=colours, legend=alt.Legend(title="group", orient="top")),
            tooltip=["group"],
        )
        .properties(width="container", height=height)
    )


def matrix(values: np.ndarray, labels: Sequence[str], title: str) -> alt.LayerChart:
    """(N, N) numbers in [-1, 1] as a table of coloured cells; the rows are numbered and named, the columns numbered."""
    data = pd.DataFrame(
        [
            (f"{i + 1} {labels[i]}", f"{j + 1}", labels[j], round(float(values[i, j]), 3))
            for i in range(len(labels))
            for j in range(len(labels))
        ],
        columns=["this", "column", "that", "value"],
    )
    axis = {"labelLimit": 120, "ticks": False, "domain": False}
    base = alt.Chart(data).encode(
        x=alt.X("column:N", sort=None, axis=alt.Axis(orient="top", labelAngle=0, title=title, **axis)),
        y=alt.Y("this:N", sort=None, axis=alt.Axis(title=None, **axis)),
        tooltip=["this", "that", alt.Tooltip("value:Q", format=".3f")],
    )
    colours = colour_scale(-1, 1, title, True)["scale"]  # the numbers are in the cells and need no legend
    tiles = base.mark_rect().encode(color=alt.Color("value:Q", scale=colours, legend=None))
    dark = abs(alt.datum.value) > 0.6  # where dark letters could not be read
    text = base.mark_text(fontSize=12).encode(
        text=alt.Text("value:Q", format=".2f"), color=alt.condition(dark, alt.value("white"), alt.value("#212529"))
    )
    return _fixed(alt.layer(tiles, text), 34 * len(labels), 32 * len(labels))


# Maps of many pictures ------------------------------------------------------------------------------------------------

OTHERS = "#868e96"  # the colour of what has none of its own
KINDS = (*CURVES, "#8a98c8", "#a6761d", "#6a3d9a", "#b2df8a", "#17a2b8", "#e7298a")


def kinds(count: int) -> list[str]:
    """As many colours, to be told apart where there are no more than a dozen; further ones go around the circle."""
    more = [f"hsl({round(137.5 * k) % 360} 60% {45 + 15 * (k % 2)}%)" for k in range(max(0, count - len(KINDS)))]
    return [*KINDS[:count], *more]


def counts(names: Sequence[str], numbers: Sequence[int], colours: Sequence[str]) -> alt.LayerChart:
    """How many of each kind, as bars in the order of the names, each with its number and its colour."""
    data = pd.DataFrame({"kind": names, "pictures": numbers, "colour": colours})
    base = alt.Chart(data).encode(
        y=alt.Y(
            "kind:N",
            sort=None,
            axis=alt.Axis(title=None, labelLimit=130, labelOverlap=False, ticks=False, domain=False),
        ),
        x=alt.X("pictures:Q", scale=alt.Scale(domain=[0, 1.2 * max([*numbers, 1])]), axis=None),
        tooltip=["kind", "pictures"],
    )
    bars = base.mark_bar(cornerRadiusEnd=3, height=12).encode(color=alt.Color("colour:N", scale=None))
    text = base.mark_text(align="left", dx=4, color=OTHERS).encode(text="pictures:Q")
    return (bars + text).properties(width="container", height=22 * len(data) + 10).configure_view(strokeWidth=0)


def explained(shares: np.ndarray, height: int = 200) -> alt.LayerChart:
    """Shares of the variance that principal components explain: each as a bar, and all up to it as a line."""
    data = pd.DataFrame({
        "component": np.arange(len(shares)) + 1,
        "share": np.round(shares, 5),
        "together": np.round(np.cumsum(shares), 5),
        "drawn": np.arange(len(shares)) < 2,
    })  # fmt: skip
    base = alt.Chart(data).encode(
        x=alt.X(
            "component:Q", scale=alt.Scale(domain=[0.5, len(data) + 0.5], nice=False), axis=alt.Axis(tickMinStep=1)
        ),
        tooltip=["component", *(alt.Tooltip(f"{key}:Q", format=".1%") for key in ("share", "together"))],
    )
    wide = max(2, round(0.6 * (PANEL - 60) / max(len(data), 1)))
    y = {"title": "share of the variance", "axis": alt.Axis(format="%"), "scale": alt.Scale(domain=[0, 1])}
    bars = base.mark_bar(width=wide).encode(
        y=alt.Y("share:Q", **y), color=alt.condition("datum.drawn", alt.value(ACCENT), alt.value("#31688e"))
    )
    line = base.mark_line(color=OTHERS, point={"size": 12, "color": OTHERS}).encode(y=alt.Y("together:Q", **y))
    return alt.layer(bars, line).properties(width="container", height=height)


# Pictures of a set ----------------------------------------------------------------------------------------------------

MUTED = "#868e96"  # between black and white: readable on both themes


def gallery(
    pictures: Sequence[np.ndarray],
    lines: Sequence[Sequence[str]],
    *,
    wrong: Sequence[bool],
    captions: Mapping[str, Sequence],
    columns: int = 3,
    name: str | None = None,
    width: int = PANEL,
    gap: int = 8,
) -> alt.LayerChart:
    """Pictures (h, w, 3) of one size with lines of text below each; the wrong ones have a dashed frame, too.

    lines: for each picture the same number of them; what is too long is cut, and whole in the tooltip, where the
    picture is larger. captions: columns of the tooltip. name: of the selection, whose points have `tile`.
    """
    count, row = len(pictures), 15
    side = (width - gap * (columns - 1)) // columns
    tall = max(8, round(side * pictures[0].shape[0] / pictures[0].shape[1]))
    step = tall + row * len(lines[0]) + 10
    k = np.arange(count)
    data = pd.DataFrame({"tile": k, "left": k % columns * (side + gap), "top": k // columns * step})
    data = data.assign(right=data.left + side, bottom=data.top + tall, wrong=list(wrong))
    data = data.assign(x=data.left + side / 2, y=data.top + tall / 2, image=[_thumbnail(each) for each in pictures])
    data = data.assign(**{f"line{i}": [each[i] for each in lines] for i in range(len(lines[0]))}, **captions)
    scales = _axes((step * -(-count // columns), width))
    x, y = (lambda field, axis=axis: (alt.X, alt.Y)[axis == "y"](field, axis=None, scale=scales[axis]) for axis in "xy")
    frames = {"x": x("left:Q"), "x2": "right:Q", "y": y("top:Q"), "y2": "bottom:Q"}
    base = alt.Chart(data)
    hover = alt.selection_point(name=f"hover_{name or 'gallery'}", on="pointerover", empty=False, clear="pointerout")
    hits = (
        base.mark_rect(stroke=ACCENT, strokeWidth=3, fillOpacity=0, cursor="pointer" if name else "default")
        .encode(
            **frames,
            tooltip=["image:N", *(alt.Tooltip(f"{key}:N") for key in captions)],
            strokeOpacity=alt.condition(hover, alt.value(1), alt.value(0)),
        )
        .add_params(hover)
    )
    if name:
        hits = hits.add_params(alt.selection_point(name=name, fields=["tile"], empty=False))
    layers = [base.mark_image(width=side, height=tall, aspect=False).encode(x=x("x:Q"), y=y("y:Q"), url="image:N")]
    dashed = base.transform_filter(alt.datum.wrong)
    layers.append(dashed.mark_rect(filled=False, stroke="white", strokeWidth=4).encode(**frames))
    layers.append(dashed.mark_rect(filled=False, stroke=ACCENT, strokeWidth=2, strokeDash=[5, 3]).encode(**frames))
    for i in range(len(lines[0])):
        look = {"align": "left", "baseline": "top", "limit": side, "fontSize": 11, "dy": 4 + row * i}
        look |= {"fontWeight": "bold"} if i == 0 else {}
        layers.append(base.mark_text(**look, color=MUTED).encode(x=x("left:Q"), y=y("bottom:Q"), text=f"line{i}:N"))
    return _fixed(alt.layer(*layers, hits), width, step * -(-count // columns))


def confusion(
    counts: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    same: Sequence[int],
    *,
    shares: bool,
    judged: bool = True,
    chosen: tuple[int, int] | None = None,
    name: str,
) -> alt.LayerChart:
    """How many pictures of each class [row] are taken for which class [column]; each cell is clickable.

    same: (R,) the column that is right for each row, or -1. Right cells are grey, so that the colours are free for the
    mistakes; judged: whether they are any. shares: print and colour shares of the row, in per cent. The selection has
    `row` and `column`.
    """
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    values = 100 * counts / totals if shares else counts
    right = np.asarray(same)[:, None] == np.arange(len(columns))
    top = float(values[~right].max(initial=0)) or 1.0
    i, j = (each.ravel() for each in np.indices(counts.shape))
    data = pd.DataFrame({"row": i, "column": j, "is": [rows[k] for k in i], "taken for": [columns[k] for k in j]})
    data = data.assign(pictures=counts.ravel(), share=np.round(counts / totals, 4).ravel(), right=right.ravel())
    data = data.assign(value=np.round(values, 2).ravel(), text=[_short(v, shares) for v in values.ravel()])
    axis = {"labelLimit": 118, "ticks": False, "domain": False, "labelFontSize": 11, "labelOverlap": False}
    named = lambda names: f"({json.dumps(list(names))})[datum.value]"  # noqa: E731
    longest = max(map(len, columns), default=0)
    turned = {"orient": "top", "labelAngle": -90 if longest > 3 else 0}
    base = alt.Chart(data).encode(
        x=alt.X("column:O", axis=alt.Axis(title=None, labelExpr=named(columns), **turned, **axis)),
        y=alt.Y("row:O", axis=alt.Axis(title=None, labelExpr=named(rows), **axis)),
        tooltip=["is", "taken for", "pictures", alt.Tooltip("share:Q", format=".1%", title="share of its class")],
    )
    hover = alt.selection_point(name=f"hover_{name}", on="pointerover", empty=False, clear="pointerout")
    title = ("mistakes, " if judged else "") + ("% of the class" if shares else "pictures")
    scale = _scale(colour.SEQUENTIAL, 0, top, title)
    scale["legend"].tickMinStep = 0 if shares else 1
    if not values[~right].any():
        scale["legend"] = None
    mistakes = base.transform_filter("!datum.right && datum.pictures > 0").mark_rect()
    mistakes = mistakes.encode(color=alt.Color("value:Q", **scale))
    good = base.transform_filter("datum.right").mark_rect(color="#ced4da")
    ink, bright = base.mark_text(fontSize=11).encode(text="text:N"), 0.6 * top
    letters = [
        ink.transform_filter(f"!datum.right && datum.value <= {bright}").encode(color=alt.value("white")),
        ink.transform_filter(f"datum.right || datum.value > {bright}").encode(color=alt.value("#212529")),
    ]
    hits = (
        base.mark_rect(fillOpacity=0, cursor="pointer")
        .encode(
            stroke=alt.condition(hover, alt.value(ACCENT), alt.value(MUTED)),
            strokeOpacity=alt.condition(hover, alt.value(1), alt.value(0.25)),
            strokeWidth=alt.condition(hover, alt.value(2), alt.value(0.5)),
        )
        .add_params(hover, alt.selection_point(name=name, fields=["row", "column"], empty=False))
    )
    layers = [mistakes, good, *letters, hits]
    if chosen is not None:
        here = base.transform_filter(f"datum.row == {chosen[0]} && datum.column == {chosen[1]}")
        layers.append(here.mark_rect(filled=False, stroke="white", strokeWidth=4))
        layers.append(here.mark_rect(filled=False, stroke=ACCENT, strokeWidth=2.5))
    height = max(20, min(36, 620 // max(len(rows), 1))) * len(rows)
    around = 60 + min(118, 6 * longest if longest > 3 else 14)  # the legend and the names, which it includes
    return alt.layer(*layers).properties(width="container", height=height + around).configure_view(strokeWidth=0)


def _short(value: float, share: bool) -> str:
    """A number for a cell: nothing for nothing, and no more than three letters."""
    if not value:
        return ""
    if share:
        return f"{value:.0f}" if value >= 0.95 else "<1"
    return str(int(value)) if value < 1000 else f"{value / 1000:.0f}k" if value >= 9950 else f"{value / 1000:.1f}k"

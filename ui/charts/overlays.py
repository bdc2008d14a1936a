"""How is something shown where it is in a picture: boxes, maps, zones, places? Maps have hard edges, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from engine.image import Frame
from ui.charts.marks import (
    MUTED,
    PANEL,
    TILE,
    axes,
    box_layer,
    cell_layer,
    extent,
    fixed,
    kind_scale,
    over_picture,
    picture_layer,
    shrink,
    spans,
)
from ui.charts.painting import colour_scale, greys, limits, paint

MAX_CELLS = 56  # a side, that a map is divided into for clicks and hovers


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
    layers: list = [picture_layer(shrink(pixels, width) if smooth else pixels, (0, 0, *shape), shape, width)]
    if frame is not None and (frame.height < shape[0] - 1 or frame.width < shape[1] - 1):
        layers.append(box_layer([extent(frame, shape)], shape, dashed=True))
    if boxes:
        layers.append(box_layer(boxes, shape))
    if places:
        count = tuple(max(1, round(places * side / max(shape))) for side in shape)
        cells = _grid(np.argwhere(np.ones(count, bool)), count, (0, 0, *shape))
        cells = cells.assign(
            row=((cells.top + cells.bottom) / 2).astype(int), col=((cells.left + cells.right) / 2).astype(int)
        )
        base = alt.Chart(cells).encode(**spans(shape), tooltip=["row", "col"])
        layers.append(cell_layer(base, name))
    return over_picture(alt.layer(*layers), shape, width)


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
    layers: list = [picture_layer(greys(shrink(over, width)), (0, 0, *shape), shape, width)]
    where = np.argwhere(kinds != "")
    rows, cols = where.T
    told = {"kind": kinds[rows, cols], **{key: values[rows, cols] for key, values in (tips or {}).items()}}
    cells = _grid(where, kinds.shape, extent(frame, shape)).assign(row=rows, col=cols, **told)
    fill = alt.Fill(
        "kind:N",
        scale=kind_scale(kinds.ravel(), colours),
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
    base = alt.Chart(cells).encode(**spans(shape), tooltip=["row", "col", *told])
    layers.append(cell_layer(base, name).encode(fill=fill, fillOpacity=alt.value(opacity)))
    if boxes:
        layers.append(box_layer(boxes, shape))
    return over_picture(alt.layer(*layers), shape, width)


def _grid(which: np.ndarray, count: tuple[int, int], extent: tuple) -> pd.DataFrame:
    """top, left, bottom and right of some cells (N, 2) of a regular grid of `count` (rows, columns) over an extent."""
    top, left, bottom, right = extent
    tall, wide = (bottom - top) / count[0], (right - left) / count[1]
    corners = np.array([top, left]) + which * np.array([tall, wide])
    boxes = np.hstack([corners, corners + np.array([tall, wide])]).round(2)
    return pd.DataFrame(boxes, columns=["top", "left", "bottom", "right"])


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
    shape = over.shape[:2] if over is not None else (max(1, round(PANEL * rows / cols)), PANEL)
    covered = extent(frame, shape)
    layers = _painted(painted, covered, shape, over, opacity, width)
    base = alt.Chart(_blocks(values, covered, cells, value_name, most)).encode(
        **spans(shape),
        fill=alt.Fill(f"{value_name}:Q", **colour_scale(low, high, title, signed)),
        tooltip=["row:Q", "col:Q", alt.Tooltip(f"{value_name}:Q", format=".4~g")],
    )
    layers.append(cell_layer(base, name))
    if boxes:
        layers.append(box_layer(boxes, shape))
    return over_picture(alt.layer(*layers), shape, width)


def _painted(
    painted: np.ndarray, extent: tuple, shape: tuple[int, int], over: np.ndarray | None, opacity: float, width: int
) -> list:
    """A map's colours (h, w, 3) as a layer, on a grey picture where there is one to shine through."""
    layers = []
    if over is not None:
        small = shrink(over, width)
        layers.append(picture_layer(greys(small) if opacity < 1 else small, (0, 0, *shape), shape, width))
        painted = np.concatenate([painted, np.full((*painted.shape[:2], 1), opacity, np.float32)], 2)
    return [*layers, picture_layer(painted, extent, shape, width)]


def _blocks(
    values: np.ndarray, extent: tuple, cells: Sequence[tuple] | None, value_name: str, most: int
) -> pd.DataFrame:
    """The cells that carry a map's numbers; large maps answer by blocks, each with its largest value."""
    rows, cols = values.shape
    step = -(-max(rows, cols) // most)
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
    return pd.DataFrame(found, columns=["row", "col", value_name, "top", "left", "bottom", "right"])


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
    layers = _painted(paint(values, *bounds, signed), extent(frame, shape), shape, over, opacity, width)
    if boxes:
        layers.append(box_layer(boxes, shape))
    data = pd.DataFrame({"tile": [0], "top": [0], "left": [0], "bottom": [shape[0]], "right": [shape[1]]})
    data = data.assign(level=bounds[0], **{key: [value] for key, value in tip.items()})
    base = alt.Chart(data).encode(**spans(shape), tooltip=list(tip))
    if title is not None:
        base = base.encode(fill=alt.Fill("level:Q", **colour_scale(*bounds, title, signed)))
    layers.append(cell_layer(base, name, ["tile"], line=3))
    return over_picture(alt.layer(*layers), shape, width)


def colour_bar(bounds: tuple[float, float], *, title: str, signed: bool = False) -> alt.LayerChart:
    """The colour scale that several pictures share, alone."""
    data = pd.DataFrame({"level": [bounds[0]]})
    nothing = alt.Chart(data).mark_rect(opacity=0).encode(alt.Fill("level:Q", **colour_scale(*bounds, title, signed)))
    return fixed(alt.layer(nothing), PANEL - 40, 1)


def places(
    data: pd.DataFrame, size: tuple[int, int], *, tips: Sequence[str], colours: Mapping[str, str], width: int = 230
) -> alt.LayerChart:
    """Points on the area of pictures (H, W), at the columns x and y in their pixels, row 0 at the top.

    tips: columns of the tooltip. colours: of the column `kind`, all of which are in the legend.
    """
    area = pd.DataFrame({"left": [0], "top": [0], "right": [size[1]], "bottom": [size[0]]})
    scales = axes(size)
    ticks = {"format": "d", "tickCount": 5, "grid": False, "domain": False}
    x = {"scale": scales["x"], "title": "column, pixels", "axis": alt.Axis(**ticks)}
    y = {"scale": scales["y"], "title": "row, pixels", "axis": alt.Axis(**ticks)}
    frame = alt.Chart(area).mark_rect(filled=False, stroke=MUTED)
    frame = frame.encode(x=alt.X("left:Q", **x), x2="right:Q", y=alt.Y("top:Q", **y), y2="bottom:Q")
    look = {"size": 70, "opacity": 0.85, "stroke": "white", "strokeWidth": 0.8}
    dots = (
        alt.Chart(data)
        .mark_circle(**look)
        .encode(
            x=alt.X("x:Q", **x),
            y=alt.Y("y:Q", **y),
            color=alt.Color("kind:N", scale=kind_scale(colours, colours), legend=alt.Legend(title=None, orient="top")),
            tooltip=list(tips),
        )
    )
    return over_picture(alt.layer(frame, dots), size, width)

"""How do many pictures, or many numbers, lie in rows and columns, each clickable? The grid answers with the place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from engine.image import resize
from ui.charts.marks import (
    ACCENT,
    MUTED,
    PANEL,
    axes,
    box_layer,
    cell_layer,
    enlarge,
    fixed,
    picture_layer,
    spans,
    thumbnail,
    url,
)
from ui.charts.painting import colour_scale

# Pictures -------------------------------------------------------------------------------------------------------------


def _laid(
    tiles: Sequence[np.ndarray], columns: int, width: int, gap: int, *, above: int = 0, below: int | None = None
) -> tuple[pd.DataFrame, int, int]:
    """Where tiles (h, w, 3) of one size lie in rows: (tile, top, left, bottom, right of each, a tile's height, width).

    above, below: pixels in each row, for what is written there; below, it is the gap by default.
    """
    side = (width - gap * (columns - 1)) // columns
    height = max(8, round(side * tiles[0].shape[0] / tiles[0].shape[1]))
    k = np.arange(len(tiles))
    top = k // columns * (above + height + (gap if below is None else below)) + above
    left = k % columns * (side + gap)
    places = pd.DataFrame({"tile": k, "top": top, "left": left, "bottom": top + height, "right": left + side})
    return places, height, side


def _ring(places: pd.DataFrame, chosen: int | None, shape: tuple[int, int]) -> list[alt.LayerChart]:
    """A box around the chosen tile, if there is one."""
    there = chosen is not None and 0 <= chosen < len(places)
    return [box_layer([tuple(places.loc[chosen, ["top", "left", "bottom", "right"]])], shape)] if there else []


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
    places, height, side = _laid(tiles, min(columns, len(tiles)), width, gap)
    shape = int(places.bottom.max()), int(places.right.max())
    whole = np.ones((*shape, 4), np.float32)
    whole[..., 3] = 0
    for tile, top, left in zip(tiles, places.top, places.left, strict=True):
        # nearest neighbour at the tile's screen size: one pixel of the map is one crisp block
        i = (np.arange(height) * tile.shape[0] // height)[:, None]
        j = (np.arange(side) * tile.shape[1] // side)[None]
        whole[top : top + height, left : left + side, :3] = tile[i, j]
        whole[top : top + height, left : left + side, 3] = 1
    data = places.assign(**captions)
    encoding = {**spans(shape), "tooltip": list(captions)}
    if scale is not None:
        data = data.assign(level=scale["scale"].domain[0])
        encoding["fill"] = alt.Fill("level:Q", **scale)
    hits = cell_layer(alt.Chart(data).encode(**encoding), name, ["tile"], line=2)
    drawn = picture_layer(whole, (0, 0, *shape), shape, shape[1])
    return fixed(alt.layer(drawn, hits, *_ring(places, chosen, shape)), shape[1], shape[0])


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
    places, height, side = _laid(tiles, columns, width, gap, above=20 if heads else 0)
    shape = (int(places.bottom.max()), width)
    data = places.assign(**captions).assign(written=list(written))
    scales = axes(shape)
    place = {"x": alt.X("left:Q", axis=None, scale=scales["x"]), "y": alt.Y("top:Q", axis=None, scale=scales["y"])}
    pictures = (
        alt.Chart(places[["left", "top"]].assign(url=[_small(tile, side) for tile in tiles]))
        .mark_image(width=side, height=height, aspect=False, align="left", baseline="top")
        .encode(**place, url="url:N")
    )
    below = {**place, "y": alt.Y("bottom:Q", axis=None, scale=scales["y"]), "text": "written:N"}
    pen = {"align": "left", "baseline": "bottom", "dx": 4, "dy": -2, "fontSize": 12, "fontWeight": 600}
    outline = alt.Chart(data).mark_text(**pen, stroke="black", strokeWidth=3, color="black", opacity=0.75)
    layers = [pictures, outline.encode(**below), alt.Chart(data).mark_text(**pen, color="white").encode(**below)]
    if heads:
        above = pd.DataFrame({"left": 0, "top": places.top[::columns], "head": list(heads)})
        text = alt.Chart(above).mark_text(align="left", baseline="bottom", dy=-3, color=MUTED, fontSize=12)
        layers.append(text.encode(**place, text="head:N"))
    hits = cell_layer(alt.Chart(data).encode(**spans(shape), tooltip=list(captions)), name, ["tile"], line=3)
    return fixed(alt.layer(*layers, *_ring(places, chosen, shape), hits), shape[1], shape[0])


def _small(pixels: np.ndarray, side: int) -> str:
    """A tile as wide as `side` on the screen: a photograph as JPEG at twice that, a few pixels as crisp blocks."""
    if pixels.shape[1] <= side:
        return url(enlarge(pixels, side // 2 + 1))
    if pixels.shape[1] > 2 * side:
        pixels = resize(pixels, (max(1, round(pixels.shape[0] * 2 * side / pixels.shape[1])), 2 * side))
    return url(pixels, photo=True)


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
    row = 15
    below = row * len(lines[0]) + 10
    data, tall, side = _laid(pictures, columns, width, gap, below=below)
    shape = (int(data.bottom.max()) + below, width)
    data = data.assign(wrong=list(wrong), x=data.left + side / 2, y=data.top + tall / 2)
    data = data.assign(image=[thumbnail(each) for each in pictures])
    data = data.assign(**{f"line{i}": [each[i] for each in lines] for i in range(len(lines[0]))}, **captions)
    scales = axes(shape)
    x, y = (lambda field, axis=axis: (alt.X, alt.Y)[axis == "y"](field, axis=None, scale=scales[axis]) for axis in "xy")
    frames, base = spans(shape), alt.Chart(data)
    layers = [base.mark_image(width=side, height=tall, aspect=False).encode(x=x("x:Q"), y=y("y:Q"), url="image:N")]
    dashed = base.transform_filter(alt.datum.wrong)
    layers.append(dashed.mark_rect(filled=False, stroke="white", strokeWidth=4).encode(**frames))
    layers.append(dashed.mark_rect(filled=False, stroke=ACCENT, strokeWidth=2, strokeDash=[5, 3]).encode(**frames))
    for i in range(len(lines[0])):
        look = {"align": "left", "baseline": "top", "limit": side, "fontSize": 11, "dy": 4 + row * i}
        look |= {"fontWeight": "bold"} if i == 0 else {}
        layers.append(base.mark_text(**look, color=MUTED).encode(x=x("left:Q"), y=y("bottom:Q"), text=f"line{i}:N"))
    told = ["image:N", *(alt.Tooltip(f"{key}:N") for key in captions)]
    layers.append(cell_layer(base.encode(**frames, tooltip=told), name, ["tile"], line=3))
    return fixed(alt.layer(*layers), width, shape[0])


# Numbers --------------------------------------------------------------------------------------------------------------


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
    return fixed(alt.layer(tiles, text), 34 * len(labels), 32 * len(labels))


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
    data = data.assign(value=np.round(values, 2).ravel(), text=[short(v, shares) for v in values.ravel()])
    axis = {"labelLimit": 118, "ticks": False, "domain": False, "labelFontSize": 11, "labelOverlap": False}
    named = lambda names: f"({json.dumps(list(names))})[datum.value]"  # noqa: E731
    longest = max(map(len, columns), default=0)
    turned = {"orient": "top", "labelAngle": -90 if longest > 3 else 0}
    base = alt.Chart(data).encode(
        x=alt.X("column:O", axis=alt.Axis(title=None, labelExpr=named(columns), **turned, **axis)),
        y=alt.Y("row:O", axis=alt.Axis(title=None, labelExpr=named(rows), **axis)),
        tooltip=["is", "taken for", "pictures", alt.Tooltip("share:Q", format=".1%", title="share of its class")],
    )
    title = ("mistakes, " if judged else "") + ("% of the class" if shares else "pictures")
    scale = colour_scale(0, top, title, False)
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
    layers = [mistakes, good, *letters, cell_layer(base, name, ["row", "column"], line=2, ruled=True)]
    if chosen is not None:
        here = base.transform_filter(f"datum.row == {chosen[0]} && datum.column == {chosen[1]}")
        layers.append(here.mark_rect(filled=False, stroke="white", strokeWidth=4))
        layers.append(here.mark_rect(filled=False, stroke=ACCENT, strokeWidth=2.5))
    height = max(20, min(36, 620 // max(len(rows), 1))) * len(rows)
    around = 60 + min(118, 6 * longest if longest > 3 else 14)  # the legend and the names, which it includes
    return alt.layer(*layers).properties(width="container", height=height + around).configure_view(strokeWidth=0)


def short(value: float, share: bool) -> str:
    """A number for a cell: nothing for nothing, and no more than three letters."""
    if not value:
        return ""
    if share:
        return f"{value:.0f}" if value >= 0.95 else "<1"
    return str(int(value)) if value < 1000 else f"{value / 1000:.0f}k" if value >= 9950 else f"{value / 1000:.1f}k"

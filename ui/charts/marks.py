"""What are all charts made of? Sizes, pictures, boxes, and cells that answer hovers and clicks.

Every picture chart uses the picture's own pixel coordinates, row 0 at the top, so that a map, a receptive field and a
click all speak of the same place. Pictures travel as data URLs, PNG where each pixel counts. Altair is known to this
folder alone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from engine.image import Frame, resize, to_jpeg, to_png

PANEL = 308  # pixels: three abreast on a screen of 1280, one on a phone
TILE = 164  # five abreast there, two on a phone
ACCENT = "#e8590c"  # boxes and selections: readable on viridis, on greys and on both themes
PLAIN = "#31688e"  # bars that are not chosen
MUTED = "#868e96"  # between black and white, readable on both themes; the colour of what has none of its own

alt.data_transformers.disable_max_rows()  # the tests watch the weight of every chart instead

# How a picture travels ------------------------------------------------------------------------------------------------


def url(pixels: np.ndarray, *, photo: bool = False) -> str:
    """A picture as a data URL: each pixel as it is, or, of a photo, about as it is, which is much smaller."""
    kind, data = ("jpeg", to_jpeg(pixels)) if photo else ("png", to_png(pixels))
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def thumbnail(pixels: np.ndarray, width: int = 240) -> str:
    """A small picture for a tooltip, which Vega takes for one by the name `image`."""
    height = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    return url(resize(pixels, (height, width)) if width < pixels.shape[1] else enlarge(pixels, width // 2), photo=True)


def enlarge(pixels: np.ndarray, width: int) -> np.ndarray:
    """Whole-number enlargement of small pictures, so that the browser's own smoothing has nothing to smear."""
    factor = max(1, 2 * width // max(pixels.shape[:2]))
    return pixels.repeat(factor, 0).repeat(factor, 1) if factor > 1 else pixels


def shrink(pixels: np.ndarray, width: int) -> np.ndarray:
    """At most twice as many pixels as the screen will show: what goes over the wire."""
    step = -(-max(pixels.shape[:2]) // (2 * width))
    return pixels[::step, ::step]


# Places in a picture --------------------------------------------------------------------------------------------------


def axes(shape: tuple[int, int]) -> dict[str, alt.Scale]:
    """The scales of a chart over a picture (H, W), in its pixels."""
    return {
        "x": alt.Scale(domain=[0, shape[1]], nice=False, zero=False),
        "y": alt.Scale(domain=[shape[0], 0], nice=False, zero=False),
    }


def spans(shape: tuple[int, int]) -> dict[str, alt.X | alt.Y | str]:
    """The encoding of rectangles by their columns top, left, bottom and right in the pixels of a picture (H, W)."""
    scales = axes(shape)
    return {
        "x": alt.X("left:Q", axis=None, scale=scales["x"]),
        "x2": "right:Q",
        "y": alt.Y("top:Q", axis=None, scale=scales["y"]),
        "y2": "bottom:Q",
    }


def extent(frame: Frame | None, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """(top, left, bottom, right) of the part of a picture (H, W) that the net saw, or of all of it."""
    return (frame.top, frame.left, frame.top + frame.height, frame.left + frame.width) if frame else (0, 0, *shape)


def picture_layer(pixels: np.ndarray, box: tuple, shape: tuple[int, int], width: int) -> alt.Chart:
    """A picture that fills `box` (top, left, bottom, right) of a chart over a picture of `shape`."""
    top, left, bottom, right = box
    data = pd.DataFrame({"x": [(left + right) / 2], "y": [(top + bottom) / 2], "url": [url(enlarge(pixels, width))]})
    scales = axes(shape)
    # The size follows the scale, so that picture, boxes and clicks agree at whatever size the chart is laid out.
    span = lambda axis, a, b: alt.expr(f"abs(scale('{axis}', {b}) - scale('{axis}', {a}))")  # noqa: E731
    return (
        alt.Chart(data)
        .mark_image(width=span("x", left, right), height=span("y", top, bottom), aspect=False)
        .encode(x=alt.X("x:Q", axis=None, scale=scales["x"]), y=alt.Y("y:Q", axis=None, scale=scales["y"]), url="url:N")
    )


def box_layer(boxes: Sequence[tuple], shape: tuple[int, int], dashed: bool = False) -> alt.LayerChart:
    """Boxes (top, left, bottom, right) in the pixels of a picture (H, W)."""
    data = pd.DataFrame(boxes, columns=["top", "left", "bottom", "right"]).astype(float)
    look = {"filled": False, "strokeDash": [4, 3] if dashed else [1, 0]}
    outline = alt.Chart(data).mark_rect(**look, stroke="white", strokeWidth=4, opacity=0.8).encode(**spans(shape))
    return outline + alt.Chart(data).mark_rect(**look, stroke=ACCENT, strokeWidth=2).encode(**spans(shape))


# What answers ---------------------------------------------------------------------------------------------------------


def hovering(name: str, **more: object) -> alt.Parameter:
    """What the pointer is on, in a chart whose selection has that name."""
    return alt.selection_point(name=f"hover_{name}", on="pointerover", empty=False, clear="pointerout", **more)


def clicking(name: str, fields: Sequence[str], **more: object) -> alt.Parameter:
    """The selection that pages read: the clicked thing's columns of these names."""
    return alt.selection_point(name=name, fields=list(fields), empty=False, **more)


def cell_layer(
    base: alt.Chart, name: str | None, fields: Sequence[str] = ("row", "col"), *, line: int = 1, ruled: bool = False
) -> alt.Chart:
    """Transparent rectangles, one for each row of the data, that answer hovers and, if `name`, clicks.

    base: says where they are, see `spans`, and what their tooltips have. name, fields: of the selection. line: pixels,
    of the outline of the one that is pointed at. ruled: whether the others have a faint one.
    """
    hover = hovering(name or "cells")
    cells = base.mark_rect(
        stroke=ACCENT, strokeWidth=line, fillOpacity=0, cursor="pointer" if name else "default"
    ).encode(strokeOpacity=alt.condition(hover, alt.value(1), alt.value(0.25 if ruled else 0)))
    if ruled:
        cells = cells.encode(
            stroke=alt.condition(hover, alt.value(ACCENT), alt.value(MUTED)),
            strokeWidth=alt.condition(hover, alt.value(line), alt.value(0.5)),
        )
    return cells.add_params(hover, *([clicking(name, fields)] if name else []))


# Kinds, and the chart as a whole --------------------------------------------------------------------------------------


def kind_scale(there: Sequence[str], colours: Mapping[str, str]) -> alt.Scale:
    """The colours of those kinds of `colours` that are there, in its order."""
    kinds = [kind for kind in colours if kind in set(there)]
    return alt.Scale(domain=kinds, range=[colours[kind] for kind in kinds])


def size(shape: tuple[int, int], width: int) -> tuple[int, int]:
    """(width, height) in screen pixels of a picture (H, W), no taller than it is wide by more than a third."""
    scale = min(width / shape[1], width * 4 / 3 / shape[0])
    return round(shape[1] * scale), round(shape[0] * scale)


def over_picture(chart: alt.LayerChart, shape: tuple[int, int], width: int) -> alt.LayerChart:
    """A chart over a picture (H, W) gets the picture's shape."""
    return fixed(chart, *size(shape, width))


def fixed(chart: alt.LayerChart, width: int | str, height: int) -> alt.LayerChart:
    """The plot itself gets this size; legends and axes come on top of it."""
    return chart.properties(
        width=width,
        height=height,
        padding={"left": 2, "right": 2, "top": 2, "bottom": 2},
        autosize=alt.AutoSizeParams(type="pad", contains="content"),
    ).configure_view(strokeWidth=0)

"""How does one choose a part of a network: a layer, a unit, a channel, a tensor, a class? By a click on its mark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from engine.net import Layer
from engine.pictures import colour
from ui.charts.marks import ACCENT, MUTED, PLAIN, clicking, hovering, kind_scale

# What marks the chosen one: a ring around it, or a triangle below it.
RING = {"size": 150, "color": ACCENT, "strokeWidth": 3, "opacity": 1}
POINTER = {"shape": "triangle-up", "size": 70, "filled": True, "color": ACCENT, "opacity": 1, "yOffset": 8}


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
    hover = hovering(name, fields=["layer"])
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
    bars = bars.add_params(hover, clicking(name, ["layer"]))
    marker = base.transform_filter(alt.datum.layer == chosen).mark_point(**POINTER).encode(y=alt.YDatum(0))
    return alt.layer(bars, marker).properties(width="container", height=160).configure_view(strokeWidth=0)


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
    hover = hovering(name, fields=[key])
    scale = kind_scale(data.kind if legend else colours, colours)
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
        .add_params(hover, clicking(name, [key]))
    )
    marker = alt.Chart(data[data[key] == chosen]).mark_point(**POINTER).encode(x=across, y=alt.YDatum(0))
    return alt.layer(bars, marker).properties(width="container", height=height)


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
    key = data.columns[0]
    scale = kind_scale(data.kind, colours)
    place = {
        "x": alt.X(f"{x}:Q", title=titles[0], scale=alt.Scale(zero=False), axis=alt.Axis(format=".3~g", tickCount=5)),
        "y": alt.Y(f"{y}:Q", title=titles[1], axis=alt.Axis(format=".3~g", tickCount=5)),
    }
    hover = hovering(name, fields=[key])
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
        .add_params(hover, clicking(name, [key]))
    )
    ring = alt.Chart(data[data[key] == chosen]).mark_point(**RING)
    return alt.layer(dots, ring.encode(**place)).properties(width="container", height=height)


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
    across = alt.X(
        "rank:Q",
        title="tensors, from the picture to the scores",
        scale=alt.Scale(domain=[0.5, len(data) + 0.5], nice=False),
        axis=alt.Axis(tickMinStep=1, format="d", grid=False),
    )
    up = alt.Scale(type="log", domain=[floor, top], nice=False)
    hover = hovering(name, fields=[key])
    scale = kind_scale(data.kind, colours)
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
        .add_params(hover, clicking(name, [key]))
    )
    ring = alt.Chart(data[data[key] == chosen]).mark_point(**RING)
    at = pd.DataFrame({"limit": [limit], "said": [f"limit {limit:g}"]})
    rule = alt.Chart(at).mark_rule(color=ACCENT, strokeDash=[5, 3], strokeWidth=1.5)
    rule = rule.encode(y=alt.Y("limit:Q", scale=up))
    text = alt.Chart(at).mark_text(align="left", baseline="bottom", dx=4, dy=-2, color=ACCENT)
    text = text.encode(x=alt.value(0), y=alt.Y("limit:Q", scale=up), text="said:N")
    return alt.layer(dots, ring.encode(x=across, y=y), rule, text).properties(width="container", height=height)


def bars(values: Sequence[float], *, x: str, y: str, chosen: int | None = None, height: int = 110) -> alt.Chart:
    """One number per channel as thin bars, in order."""
    data = pd.DataFrame({x: np.arange(len(values)), y: np.round(np.asarray(values, float), 6)})
    colours = alt.condition(alt.datum[x] == (-1 if chosen is None else chosen), alt.value(ACCENT), alt.value(PLAIN))
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
    colours = alt.condition(alt.datum["class"] == chosen, alt.value(ACCENT), alt.value(PLAIN))
    bars = base.mark_bar(cornerRadiusEnd=3, height=16, cursor="pointer").encode(color=colours)
    bars = bars.add_params(clicking("class", ["class"]))
    text = base.mark_text(align="left", dx=4, color=MUTED).encode(text=alt.Text("probability:Q", format=".1%"))
    return (bars + text).properties(width="container", height=30 * len(data)).configure_view(strokeWidth=0)

"""How do numbers become lines, points and bars? Curves and what is told of them, means, counts, distributions."""

from __future__ import annotations

import re
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from ui.charts.marks import ACCENT, MUTED, PANEL, PLAIN, clicking, hovering, thumbnail
from ui.charts.painting import CURVES, kinds

DASHES = ([1, 0], [6, 3], [2, 2])  # kinds of lines: whole, dashed, dotted


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
    hover = hovering(name or "lines", nearest=True, fields=[x])
    rows = data[[x, *y]].round(6)
    told = [alt.Tooltip(f"{x}:Q", format=".3~g", title=x_title)]
    told += [alt.Tooltip(field=_column(c), type="quantitative", format=".4~g", title=c) for c in y]
    if len(pictures):
        rows = rows.assign(image=[thumbnail(pixels) for pixels in pictures])
        told.append(alt.Tooltip("image:N"))
    rule = alt.Chart(rows.dropna(subset=list(y), how="all")).mark_rule(color=MUTED, strokeWidth=1)
    rule = rule.encode(x=f"{x}:Q", opacity=alt.condition(hover, alt.value(1), alt.value(0)), tooltip=told)
    rule = rule.add_params(hover)
    if name:
        rule = rule.add_params(clicking(name, [x], on="click", nearest=True))
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
            scale=alt.Scale(domain=series, range=[ACCENT, PLAIN, "#35b779", "#8a98c8"][: len(series)]),
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
        layers.append(at.mark_rule(strokeDash=[4, 3], color=MUTED).encode(x=alt.X("value:Q", scale=scale)))
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


def histogram(data: pd.DataFrame, *, title: str, log: bool = False, height: int = 150) -> alt.Chart:
    """How numbers are spread, from columns low, high and count. title: what they are. log: of the counts."""
    counts = alt.Scale(type="symlog") if log else alt.Scale()
    return (
        alt.Chart(data)
        .mark_bar(color=PLAIN, binSpacing=0)
        .encode(
            x=alt.X("low:Q", title=title, scale=alt.Scale(zero=False, nice=False), axis=alt.Axis(format=".3~g")),
            x2="high:Q",
            y=alt.Y("count:Q", title="count" + (", log" if log else ""), scale=counts, axis=alt.Axis(tickCount=4)),
            y2=alt.Y2Datum(0),
            tooltip=[*(alt.Tooltip(f"{key}:Q", format=".4~g") for key in ("low", "high")), "count:Q"],
        )
        .properties(width="container", height=height)
    )


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
    text = base.mark_text(align="left", dx=4, color=MUTED).encode(text="pictures:Q")
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
        y=alt.Y("share:Q", **y), color=alt.condition("datum.drawn", alt.value(ACCENT), alt.value(PLAIN))
    )
    line = base.mark_line(color=MUTED, point={"size": 12, "color": MUTED}).encode(y=alt.Y("together:Q", **y))
    return alt.layer(bars, line).properties(width="container", height=height)

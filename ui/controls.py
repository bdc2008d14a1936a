"""How does one choose a layer, a unit, a place? By clicking on it; each choice is also a widget that links can hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from engine.half import PRECISIONS, has_bfloat16
from engine.net import Layer, Net
from engine.paint.fast_style import StyleNet
from engine.target import weighed
from ui.charts import marks, network
from ui.scene import Scene, class_names, no_gradients


def still(chart, alt: str, key: str | None = None) -> None:
    """A picture chart at its own size. alt: what it shows, in words."""
    st.altair_chart(chart, width="content", key=key, alt=alt)


def clickable(
    chart, selection: str, act: Callable[[dict], None], alt: str, *, key: str, width: str = "content"
) -> None:
    """A chart whose selection of that name calls `act` with the clicked point, before the page is drawn again."""

    def callback() -> None:
        points = st.session_state[key]["selection"].get(selection)
        if points:
            act(points[-1])

    st.altair_chart(chart, width=width, key=key, on_select=callback, selection_mode=selection, alt=alt)


def layer(
    net: Net,
    key: str = "layer",
    *,
    able: Callable[[Layer], bool] = lambda layer: layer.has_map,
    default: str | None = None,
) -> str:
    """The network map, and the chosen layer's name. Only layers for which `able` holds can be chosen."""
    names = [found.name for found in net.layers if able(found)]
    if not names:
        st.info("This network has no layer that this page can show.")
        st.stop()
    default = default if default in names else names[-1]
    # A layer that this page or this network does not have is kept for when one comes back to where it was chosen.
    elsewhere = f"{key}_elsewhere"
    if st.session_state.get(key) not in names and (left := st.session_state.pop(key, None)):
        st.session_state.setdefault(elsewhere, left)
    if st.session_state.get(elsewhere) in names and key not in st.query_params:
        st.session_state[key] = st.session_state.pop(elsewhere)
    chart = f"map_{key}"

    def chosen() -> None:
        st.session_state.pop(elsewhere, None)

    def choose(point: dict) -> None:
        if point["layer"] in names:
            st.session_state[key] = point["layer"]
            chosen()

    picked = st.session_state.get(key) or (st.query_params.get(key) if st.query_params.get(key) in names else default)
    clickable(
        network.network_map(net.layers, picked, names, "layer"),
        "layer",
        choose,
        f"The network's {len(net.layers)} layers in order; {picked} is chosen.",
        key=chart,
        width="stretch",
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        look = {"key": key, "bind": "query-params", "width": 320}
        name = st.selectbox("Layer", names, names.index(default), on_change=chosen, **look)
        found = net.layer(name)
        st.caption(describe(found))
    return name


def target(scene: Scene, *, kinds: Sequence[str] = ("class", "unit"), at_key: str = "at") -> dict:
    """What the page asks about, in the form that `ask.aim` takes. kinds: of "class", "unit", "margin", "direction".

    at_key: of the unit's cell, where the page has an "at" of its own.

    A class is the sidebar's; a unit is chosen here, by layer, channel and cell; a direction is several channels with
    their weights; a margin is that of the sidebar's class ahead of another one, by default the likeliest of the rest.
    """
    net = scene.net
    about = choice("Of which number?", "about", kinds)
    if about in ("unit", "direction"):
        has_map = any(found.has_map for found in net.layers)
        name = layer(net, able=lambda found: True, default=net.last_map if has_map else None)
        channels, height, width = net.layer(name).shape
        if about == "direction":
            return {"layer": name, "direction": _direction(channels)}
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            channel = number("Channel", "unit", 0, channels - 1, 0, width=140)
            at = cell("Cell (row, column)", at_key, height, width, "mean of the channel")
        row, col = at or (None, None)
        return {"layer": name, "channel": channel, "row": row, "col": col}
    if about == "margin":
        names = class_names(net)
        rest = [int(k) for k in (-scene.probabilities).argsort(kind="stable") if k != scene.class_index]
        options = [names[k] for k in rest]
        if st.session_state.get("against") not in options:
            st.session_state.pop("against", None)
        chosen = st.selectbox("Ahead of", options, key="against", bind="query-params", width=320)
        return {"class": scene.class_index, "against": names.index(chosen)}
    return {"class": scene.class_index}


def _direction(channels: int) -> str:
    """Channels with their weights, as `engine.target.weighed` reads them; stops the page where it cannot."""
    usual = f"0:1, {channels - 1}:-1"
    text = st.text_input(
        "Channels and weights",
        usual,
        key="weights",
        bind="query-params",
        width=320,
        help=f"Channel, colon, weight; commas between. The layer has channels 0 to {channels - 1}.",
    )
    try:
        if any(not 0 <= channel < channels for channel in weighed(text)):
            raise ValueError(f"The layer has channels 0 to {channels - 1}; choose among them.")
    except ValueError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
    return text


def map_layer(net: Net, where: dict) -> str | None:
    """At which layer a method that takes one is asked: one that the target of `ask.aim` can hang on.

    None is the method's own default, the last before pooling.
    """
    names = [found.name for found in net.layers]
    until = names.index(where["layer"]) if "layer" in where else len(names)
    able = [found.name for found in net.layers[: until + 1] if found.has_map]
    if not able:
        return None
    chosen = one("Layer of the map", "cam_layer", able, net.last_map if net.last_map in able else able[-1], width=220)
    return None if chosen == net.last_map else chosen


def describe(layer: Layer) -> str:
    """A layer in a line."""
    channels, height, width = layer.shape
    size, stride = layer.receptive_field.size, layer.receptive_field.stride
    sees = (
        "each unit sees the whole picture"
        if stride == (0, 0)
        else (f"each unit sees {size[0]} × {size[1]} pixels, {stride[0]} apart")
    )
    return f"{layer.op} · {channels} channels of {height} × {width} · {sees}"


def choice(label: str, key: str, options: Sequence[str], **look) -> str:
    """One of a few, the first by default; what another page left under the same key and is none of them is dropped."""
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    chosen = st.segmented_control(
        label, options, default=options[0], required=True, key=key, bind="query-params", **look
    )
    return chosen or options[0]  # an empty value in a link gives None all the same


def precision(net: Net | StyleNet) -> dict[str, str]:
    """{"precision": …}, the numbers that a long run is computed in, or {} where there is nothing to choose.

    bfloat16 is offered where the processor computes in it and passes run there; the Twin computes it, so a Net's has to
    be certified.
    """
    if net.engine != "CPU" or not has_bfloat16():
        return {}
    told = "On this processor bfloat16 is up to three times as quick for large networks, and slower for tiny ones. "
    told += "It rounds to two or three digits."
    chosen = choice("Numbers", "precision", list(PRECISIONS), help=told)
    if chosen != PRECISIONS[0] and isinstance(net, Net) and (reason := no_gradients(net)):
        st.caption(f"The twin would compute in bfloat16, and it is not certified: float32 stays. {reason}")
        return {}
    return {"precision": chosen}


def several(label: str, key: str, options: Sequence[str], default: Sequence[str], most: int | None = None) -> list[str]:
    """Some of many; what another page or network left under the same key and is none of them is dropped."""
    kept = st.session_state.get(key)
    if kept is not None and (not set(kept) <= set(options) or len(kept) > (most or len(options))):
        st.session_state.pop(key)
    return st.multiselect(label, options, default, key=key, max_selections=most, bind="query-params")


def one(label: str, key: str, options: Sequence[str], default: str | None = None, **look) -> str:
    """One of many, by default the first; what another page left under the same key and is none of them is dropped."""
    if st.session_state.get(key) not in options:
        st.session_state.pop(key, None)
    index = options.index(default) if default in options else 0
    return st.selectbox(label, options, index, key=key, bind="query-params", **look) or options[index]


def number(label: str, key: str, low: int, high: int, default: int, **look) -> int:
    """A whole number that a click can set and a link can hold; a value out of range falls back to the default."""
    value = st.session_state.get(key)
    if value is not None and not low <= value <= high:
        st.session_state.pop(key)
    return int(st.number_input(label, low, high, default, key=key, bind="query-params", **look))


def slider(
    label: str, low: float, high: float, default: float, step: float | None = None, *, key: str, **look
) -> float:
    """A number between two others that a link can hold; what another page left under the same key, and is of another
    kind or out of this range, is dropped."""
    value = st.session_state.get(key)
    if value is not None and (type(value) is not type(default) or not low <= value <= high):
        st.session_state.pop(key)
    return st.slider(label, low, high, default, step, key=key, bind="query-params", **look)


def cell(label: str, key: str, rows: int, cols: int, otherwise: str) -> tuple[int, int] | None:
    """A "row, column" that a click can set and a link can hold; None while the field is empty or wrong, and says so.

    otherwise: what is shown while it is empty, in words.
    """
    text = st.text_input(label, key=key, placeholder=otherwise, bind="query-params", width=220)
    parts = text.replace(" ", "").split(",")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        row, col = map(int, parts)
        if row < rows and col < cols:
            return row, col
    if text:
        st.caption(f"“{text}” is no place here: rows are 0 to {rows - 1}, columns 0 to {cols - 1}.")
    return None


def put(key: str) -> Callable[[dict], None]:
    """For `clickable`: the clicked row and column go into the `cell` of that key."""
    return lambda point: st.session_state.update({key: f"{point['row']}, {point['col']}"})


def grid_page(count: int, per_page: int, key: str) -> range:
    """Which part of a long list is shown."""
    pages = -(-count // per_page)
    if pages <= 1:
        return range(count)
    page = st.pagination(pages, key=key)
    return range((page - 1) * per_page, min(page * per_page, count))


def panels(count: int, width: int = marks.PANEL) -> list:
    """Containers for charts of that width: side by side where there is room, else below each other."""
    row = st.container(horizontal=True, gap="small")
    return [row.container(width=width + 4) for _ in range(count)]


def panel_and_rest() -> list:
    """A panel, and a column that takes the room beside it; below it on a phone."""
    row = st.container(horizontal=True, gap="medium")
    return [row.container(width=marks.PANEL + 4), row.container()]

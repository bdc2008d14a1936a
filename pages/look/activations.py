"""Activations: Where does each unit of a layer fire on this picture?

Each tile is one channel's activation map: how strongly it answers at every place of the picture. Choose a layer on the
network map, then a channel, then a cell, and see the pixels that this one unit looks at. Sources: Zeiler & Fergus 2013,
Yosinski 2015.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.look.activations import activation_maps, statistics, unit_window
from engine.pictures import samples
from ui import controls, foot, links
from ui.charts import grids, marks, overlays, painting
from ui.scene import cached, current_scene

scene = current_scene()
net = scene.net
foot.head(__doc__)

maps_with_names = [layer.name for layer in net.layers if layer.has_map]
name = controls.layer(
    net,
    default=next(
        (layer.name for layer in net.layers if layer.has_map and layer.op in ("Relu", "Clip", "LeakyRelu")), None
    ),
)
layer_maps = cached(activation_maps, 8)
maps = layer_maps(net, scene.pixels, name)
table = statistics(maps)
signed = bool(maps.min() < 0)

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    per = controls.choice("Colours from", "scale", ["each map", "whole layer"])
    by = controls.choice("Order", "order", ["channel", "maximum", "mean"])
    channel = controls.number("Channel", "unit", 0, len(maps) - 1, int(table.maximum.argmax()), width=140)
    others = ["none", *(name for name in samples.SAMPLES if name != scene.picture_name)]
    second = st.selectbox("Beside it", others, key="beside", bind="query-params", width=200)

arranged = (
    table.channel.to_numpy()
    if by == "channel"
    else table.sort_values(by, ascending=False, kind="stable").channel.to_numpy()
)
whole = painting.limits(maps, signed)
chosen_map = maps[channel]
bounds = whole if per == "whole layer" else painting.limits(chosen_map, signed)
if not signed:
    bounds = (0.0, bounds[1] if chosen_map.max() > 0 or per == "whole layer" else 1.0)


left, middle, right = controls.panels(3)
with left:
    st.markdown(f"**All {len(maps)} channels** of this layer")
    places = controls.grid_page(len(maps), 64, "channels_page")
    shown = arranged[places.start : places.stop]

    def tile(k: int) -> np.ndarray:
        low, high = whole if per == "whole layer" else painting.limits(maps[k], signed)
        return painting.paint(maps[k], low if signed else 0.0, high, signed)

    controls.clickable(
        grids.sheet(
            [tile(k) for k in shown],
            columns=8,
            name="unit",
            chosen=int(np.flatnonzero(shown == channel)[0]) if channel in shown else None,
            captions={
                "channel": shown,
                "maximum": table.maximum[shown].round(3),
                "on": [f"{v:.0%}" for v in table.on[shown]],
            },
            scale=painting.colour_scale(*whole, "activation, whole layer", signed) if per == "whole layer" else None,
        ),
        "unit",
        lambda point: st.session_state.update(unit=int(shown[point["tile"]]), at=""),
        "The activation maps as tiles; a click chooses a channel.",
        key="map_sheet",
    )
    if per == "each map":
        st.caption("Each tile runs from its own lowest to its own highest value; compare patterns, not brightness.")
with right:
    st.markdown("**What this unit looks at**")
    at = controls.cell("Cell (row, column)", "at", *maps.shape[1:], "the strongest")
    row, col = at or (int(table.row[channel]), int(table.col[channel]))
with middle:
    st.markdown(f"**Channel {channel}**, over the picture")
    window = unit_window(net, name, row, col)
    controls.clickable(
        overlays.heatmap(
            chosen_map,
            title="activation",
            signed=signed,
            bounds=bounds,
            over=scene.picture,
            frame=scene.frame,
            opacity=0.62,
            name="cell",
            value_name="activation",
            boxes=[scene.frame.box_to_picture(*window)],
        ),
        "cell",
        controls.put("at"),
        f"The activation map of channel {channel} over the picture; a click chooses a cell.",
        key="cell_map",
    )
with right:
    box = scene.frame.box_to_picture(*window)
    st.image(image.to_png(marks.enlarge(image.crop(scene.picture, *box), 200)), width=200)
    st.caption(
        f"Unit ({row}, {col}) of channel {channel} is at {chosen_map[row, col]:.3f}. It sees {window[2] - window[0]} × "
        f"{window[3] - window[1]} pixels of the network's {net.input_size[0]} × {net.input_size[1]}."
    )
    links.onward(
        "explain", "saliency", "Which pixels drive it?", about="unit", layer=name, unit=channel, at=f"{row}, {col}"
    )

dead, quiet = int((table.on == 0).sum()), float((maps <= 0).mean())
with st.container(horizontal=True, gap="large"):
    st.metric(
        "Channels off on this picture",
        f"{dead} of {len(maps)}",
        help="Channels that are ≤ 0 at every position.",
        width="content",
    )
    st.metric("Sparsity", f"{quiet:.0%}", help="Share of all units of the layer that are ≤ 0.", width="content")
    st.metric(
        "This channel is on at",
        f"{table.on[channel]:.0%}",
        help="Share of its positions that are > 0.",
        width="content",
    )

if second != "none":
    st.markdown(f"**Channel {channel} on both pictures**, in the same colours")
    pixels, where = net.view(samples.load(second))
    theirs = layer_maps(net, pixels, name)
    low = min(bounds[0], float(theirs[channel].min())) if signed else 0.0
    high = max(bounds[1], float(theirs[channel].max()))
    shared = (-max(-low, high), max(-low, high)) if signed else (low, high)
    for panel, (title, values, over, part) in zip(
        controls.panels(3),
        [
            (scene.picture_name, chosen_map, scene.picture, scene.frame),
            (second, theirs[channel], samples.load(second), where),
        ],
        strict=False,
    ):
        with panel:
            st.markdown(f"{title}: maximum {values.max():.3f}")
            controls.still(
                overlays.heatmap(
                    values,
                    title="activation",
                    signed=signed,
                    bounds=shared,
                    over=over,
                    frame=part,
                    opacity=0.62,
                    value_name="activation",
                ),
                key=f"beside_{title}",
                alt=f"Channel {channel} on {title}.",
            )


foot.foot(
    activation_maps,
    scene,
    knobs={"layer": name},
    downloads=[
        (
            "This map (PNG)",
            f"channel_{channel}.png",
            image.to_png(marks.enlarge(painting.paint(chosen_map, *bounds, signed), 300)),
            "image/png",
        ),
        ("All maps (NPZ)", "activations.npz", foot.npz(activations=maps), "application/octet-stream"),
        ("Statistics (CSV)", "channels.csv", table.to_csv(index=False), "text/csv"),
    ],
    explained="""
A layer's output is a stack of maps, one per channel, each at the layer's own resolution; a cell of a map is one unit.
Units of a channel share their weights and differ in where they look. Maps are drawn cell by cell, without smoothing,
because that is all the layer knows. The orange box is the unit's receptive field, worked out from the graph over all
paths ([Araujo 2019](https://distill.pub/2019/computing-receptive-fields/)): nothing outside it can change the unit.

A channel that is off here may be on elsewhere: dead is only what is off on every picture. Papers: [Zeiler & Fergus
2013](https://arxiv.org/abs/1311.2901), [Yosinski 2015](https://arxiv.org/abs/1506.06579).
""",
)

"""Filters: What patterns does each convolution look for?

Each tile is one filter's weights: bright where a brighter input raises its answer, dark where it lowers it. In the
first layer the weights meet the picture's red, green and blue, so the tile shows the very pattern that the filter
answers to. Sources: Krizhevsky 2012.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.look.filters import convolutions, filters, order
from ui import controls, foot, links
from ui.charts import grids, network, painting
from ui.scene import cached, current_scene

scene = current_scene()
net = scene.net
foot.head(__doc__)

possible = convolutions(net)
name = controls.layer(net, able=lambda layer: layer.name in possible, default=possible[0] if possible else None)
found = cached(filters)(net, name)
weights = found.weights
rgb = found.sees_pixels and weights.shape[1] == 3

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    by = controls.choice("Order", "order", ["channel", "norm", "similarity"])
    each = controls.choice("Scale", "scale", ["each filter", "whole layer"])
    arranged = cached(order)(weights, by)
    unit = controls.number("Filter", "unit", 0, len(weights) - 1, int(arranged[0]), width=140)


def grey(values: np.ndarray, limit: float) -> np.ndarray:
    """Weights to pixels: -limit black, zero middle grey, limit white."""
    return np.clip(values / (2 * limit or 1) + 0.5, 0, 1).astype(np.float32)


def tile(k: int) -> np.ndarray:
    limit = np.abs(weights if each == "whole layer" else weights[k]).max()
    if rgb:
        return grey(weights[k].transpose(1, 2, 0), limit)
    return mosaic(grey(weights[k], limit))


def mosaic(kernels: np.ndarray) -> np.ndarray:
    """(I, h, w) laid out as one near-square picture (H, W, 3)."""
    count, height, width = kernels.shape
    across = int(np.ceil(np.sqrt(count)))
    gap = int(height > 1)
    out = np.full((-(-count // across) * (height + gap) - gap, across * (width + gap) - gap), 0.5, np.float32)
    for k, kernel in enumerate(kernels):
        top, left = k // across * (height + gap), k % across * (width + gap)
        out[top : top + height, left : left + width] = kernel
    return np.repeat(out[..., None], 3, 2)


left, right = controls.panel_and_rest()
with left:
    kind = "RGB weights, each channel from −max (0) to +max (255)" if rgb else "one grey block per input channel"
    st.markdown(f"**All {len(weights)} filters**: {weights.shape[2]} × {weights.shape[3]}, {kind}")
    places = controls.grid_page(len(weights), 64 if rgb else 32, "filters_page")
    shown = arranged[places.start : places.stop]
    norms = np.linalg.norm(weights.reshape(len(weights), -1), axis=1)
    captions = {"filter": shown, "norm": np.round(norms[shown], 4)}
    if found.bias is not None:
        captions["bias"] = np.round(found.bias[shown], 4)
    controls.clickable(
        grids.sheet(
            [tile(k) for k in shown],
            captions=captions,
            columns=8 if rgb or weights.shape[1] * weights.shape[2] < 100 else 4,
            name="unit",
            gap=3,
            chosen=int(np.flatnonzero(shown == unit)[0]) if unit in shown else None,
        ),
        "unit",
        lambda point: st.session_state.update(unit=int(shown[point["tile"]])),
        "The filters as tiles; a click chooses one.",
        key="filter_sheet",
    )
with right:
    kernels = weights[unit]
    limit = float(np.abs(kernels).max()) or 1.0
    st.markdown(f"**Filter {unit}**, input channel by input channel")
    inputs = controls.grid_page(len(kernels), 64, "kernels_page")
    controls.still(
        grids.sheet(
            [painting.paint(kernels[i], -limit, limit, signed=True) for i in inputs],
            captions={
                "input": [("red", "green", "blue")[i] if rgb else i for i in inputs],
                "smallest": [round(float(kernels[i].min()), 4) for i in inputs],
                "largest": [round(float(kernels[i].max()), 4) for i in inputs],
            },
            columns=3 if rgb else 8,
            name="kernel",
            gap=4,
            scale=painting.colour_scale(-limit, limit, "weight", signed=True),
        ),
        alt=f"The kernels of filter {unit} for each input channel, red positive and blue negative.",
    )
    if found.bias is not None:
        st.markdown("**Bias** of each filter: what it answers where its input is all zeros")
        st.altair_chart(network.bars(found.bias, x="filter", y="bias", chosen=unit), alt="The bias of each filter.")

if not found.sees_pixels:
    st.caption(
        "These weights meet the channels of the layer before, not pixels: what a deeper filter stands for cannot be "
        "read off them. Where it fires can be seen."
    )
links.onward("look", "activations", "Where does this filter fire?", layer=found.layer, unit=unit)


foot.foot(
    filters,
    scene,
    knobs={"layer": name},
    downloads=[
        (
            "All filters (PNG)",
            "filters.png",
            image.to_png(mosaic(np.stack([tile(k).mean(2) for k in arranged]))),
            "image/png",
        ),
        ("Weights (NPZ)", "filters.npz", foot.npz(weights=weights, bias=found.bias), "application/octet-stream"),
    ],
    explained="""
A convolution slides each filter over its input and adds up input × weight. A filter therefore answers most strongly
to a patch that looks like itself. First layers of trained networks hold edges, blobs of colour and gratings, much
like the cells that Hubel and Wiesel found in the visual cortex ([Krizhevsky 2012](https://papers.nips.cc/paper/4824),
figure 3). Noisy or flat tiles are filters that training made little use of.

The scale is symmetrical: middle grey is a weight of zero. Batch normalisation is folded into the weights where the
file was exported that way, so that a filter's size says how loud it is. *Similarity* orders by average linkage over
cosine distance.
""",
)

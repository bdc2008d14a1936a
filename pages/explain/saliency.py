"""Saliency: Which pixels would change the score most, if each changed a little?

The gradient of a score with respect to every pixel, taken through the PyTorch twin of the same file. Bright pixels are
those to which the network is most sensitive here, which is not the same as what it counts as evidence.
Sources: Simonyan 2013.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.saliency import gradient, largest, saliency, signed, signed_saliency
from engine.target import class_score, unit
from ui import charts, controls, frame

scene = frame.scene()
net = scene.net
frame.head(__doc__)
frame.need_gradients(net)

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    about = controls.choice("Of which number?", "about", ["class", "unit"])
    kind = controls.choice(
        "Shown as",
        "kind",
        ["largest", "signed"],
        help="Of red, green and blue: the largest absolute gradient, or the sum of the three with its sign.",
    )
    percentile = st.slider(
        "Brightest at percentile", 90.0, 100.0, 99.5, 0.1, key="clip", bind="query-params", width=200
    )

if about == "unit":
    name = controls.layer(
        net, able=lambda layer: True, default=net.last_map if any(layer.has_map for layer in net.layers) else None
    )
    channels, height, width = net.layer(name).shape
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        channel = controls.number("Channel", "unit", 0, channels - 1, 0, width=140)
        at = controls.cell("Cell (row, column)", "at", height, width, "mean of the channel")
    row, col = at or (None, None)
    where = {"layer": name, "channel": channel, "row": row, "col": col}
else:
    where = {"class": scene.class_index}


@st.cache_data(
    hash_funcs={type(net): lambda net: net.sha256, np.ndarray: image.digest},
    max_entries=32,
    show_spinner="Taking the gradient …",
)
def gradients(net, pixels: np.ndarray, where: dict) -> np.ndarray:
    return gradient(net, pixels, target(net, where))


def target(net, where: dict):
    return class_score(net, where["class"]) if "class" in where else unit(net, **where)


asked = target(net, where)
slope = gradients(net, scene.pixels, where)
method, reduce = (saliency, largest) if kind == "largest" else (signed_saliency, signed)
values = reduce(slope)
has_sign = kind == "signed"
top = float(np.percentile(np.abs(values), percentile)) or 1.0
bounds = (-top, top) if has_sign else (0.0, top)

left, middle, right = controls.panels(3)
with left:
    st.markdown("**The picture**")
    boxes = []
    if about == "unit" and where["row"] is not None:
        field = net.layer(where["layer"]).receptive_field.window(where["row"], where["col"], net.input_size)
        boxes = [scene.frame.box_to_picture(*field)]
    controls.still(charts.picture(scene.picture, frame=scene.frame, boxes=boxes), alt="The picture.")
with middle:
    st.markdown(f"**Gradient** of {asked.title}")
    controls.still(
        charts.heatmap(
            values, title=f"{asked.unit} per unit of pixel value", signed=has_sign, bounds=bounds, value_name="gradient"
        ),
        alt="The gradient at every pixel.",
    )
    if not np.any(values):
        st.caption("The gradient is zero everywhere: this unit is off, and no small change switches it on.")
with right:
    st.markdown("**Over the picture**")
    controls.still(
        charts.heatmap(
            values,
            title=f"{asked.unit} per unit of pixel value",
            signed=has_sign,
            bounds=bounds,
            over=scene.picture,
            frame=scene.frame,
            opacity=0.7,
            value_name="gradient",
        ),
        key="over",
        alt="The gradient over the picture.",
    )
share = float((np.abs(values) > top).mean())
st.caption(
    f"Largest {np.abs(values).max():.3g}; {share:.1%} of the pixels lie beyond the colour scale. "
    "The gradient is computed in PyTorch on the CPU."
)


frame.onward("explain", "occlusion", "Does hiding those pixels lower the score?")


frame.foot(
    method,
    scene,
    knobs={"target": where},
    downloads=[
        ("Map (PNG)", "saliency.png", image.to_png(charts.paint(values, *bounds, has_sign)), "image/png"),
        ("Numbers (NPZ)", "saliency.npz", frame.npz(gradient=slope, map=values), "application/octet-stream"),
    ],
    explained="""
The map answers a local question: if this one pixel became a little brighter, how fast would the score change?
*Largest* is the paper's: the greatest absolute gradient over red, green and blue. *Signed* adds the three: red where
brightening helps the score, blue where it hurts. The unit is that of the score (logits) per unit of pixel value
(black to white).

Gradients are noisy, because ReLU networks are piecewise linear and each pixel crosses many pieces; and where the
network is sure of itself they can vanish on the very evidence. Compare with occlusion, which asks the network itself.

Paper: [Simonyan, Vedaldi, Zisserman 2013](https://arxiv.org/abs/1312.6034), section 3.
""",
)

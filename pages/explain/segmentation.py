"""Segmentation: Can the thing be cut out with nothing but the gradient?

The network was never told where anything is. Yet the pixels to which its score is most sensitive tell what colours the
thing has, those to which it is least sensitive what is behind it, and GrabCut draws the line between the two.
Sources: Simonyan 2013, Rother 2004.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.explain.evidence import way, ways
from engine.explain.segmentation import BACKGROUND, FOREGROUND, segmentation
from engine.target import asked
from ui import controls, foot, links
from ui.ask import aim, ask
from ui.charts import marks, overlays, painting
from ui.scene import current_scene, need_gradients

BLUE = "#2759a5"

scene = current_scene()
net = scene.net
foot.head(__doc__)

where = controls.target(scene, kinds=("class", "unit", "margin"))
quick = [title for title, asking in ways().items() if asking.steps is None]  # the page waits for them
slider = {"bind": "query-params", "width": 190}
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    method = controls.one("Seeds from", "method", quick, "Gradient", width=230)
    foreground = st.slider(
        "Surely the thing, above percentile", 60.0, 99.5, 95.0, 0.5, key="foreground", **slider | {"width": 230}
    )
    background = st.slider("Surely not, below percentile", 0.0, 59.5, 30.0, 0.5, key="background", **slider)
    smooth = st.slider(
        "Smoothing, pixels",
        0.0,
        8.0,
        2.0,
        0.5,
        key="smooth",
        help="Standard deviation of the blur over the map, before it is asked for its brightest and darkest places.",
        **slider,
    )
if way(method).needs_gradient:
    need_gradients(net)

target = asked(net, aim(net, where))
knobs = {"method": method, "foreground": foreground, "background": background, "smooth": smooth}
try:
    with st.spinner("Cutting …"):
        found = ask(segmentation, scene, where, **knobs)
except ValueError as error:  # a method that this network has not got what it takes for
    st.warning(str(error), icon=":material/block:")
    st.stop()

left, middle, right = controls.panels(3)
with left:
    st.markdown(f"**Evidence** for {target.title}")
    signed = bool(found.evidence.min() < 0)
    controls.still(
        overlays.heatmap(
            found.evidence, title=f"{method}, smoothed" if smooth else method, signed=signed, value_name="evidence"
        ),
        alt=f"{method} at every pixel, smoothed.",
    )
with middle:
    st.markdown("**Seeds**")
    tints = {marks.ACCENT: found.seeds == FOREGROUND, BLUE: found.seeds == BACKGROUND}
    controls.still(
        overlays.picture(painting.tinted(scene.shown, tints), smooth=False),
        key="seeds",
        alt="The seeds over the picture: orange is surely the thing, blue surely not.",
    )
    st.caption(
        f"Orange: surely the thing ({np.mean(found.seeds == FOREGROUND):.0%} of the pixels). Blue: surely not "
        f"({np.mean(found.seeds == BACKGROUND):.0%}). Grey: GrabCut decides, by colour and by where edges are."
    )
with right:
    st.markdown("**Cut out**")
    controls.still(
        overlays.picture(painting.on_checks(found.cut_out), smooth=False),
        key="cut_out",
        alt="What was cut out, on a checkerboard.",
    )
    st.caption(
        f"{found.mask.mean():.0%} of the picture, the largest connected part of what GrabCut takes for the thing."
    )

left, right = controls.panel_and_rest()
with left:
    st.markdown("**Where the line runs**")
    controls.still(
        overlays.picture(painting.outlined(scene.shown, found.mask), smooth=False),
        key="outline",
        alt="The picture with the outline of what was cut out; the rest is darker.",
    )
with right:
    st.markdown("**What to try**")
    if not found.mask.any():
        st.info("Nothing was cut out: no pixel stands out of this map.")
    st.markdown(
        """
- Where the thing and what is behind it share their colours, GrabCut cannot tell them apart. Fewer sure pixels leave it
  more freedom, more of them hold it on the map.
- The gradient is bright where the score *hangs*, often on one part of the thing. A seed that lies beside it drags the
  background in: more smoothing helps, or seeds from another method.
- Ask for another class: the outline of what the network takes for evidence moves with it, or it does not.
"""
    )
with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "saliency", "The gradient itself")
    links.onward("explain", "sanity", "Does this map depend on what the network learned?")

foot.foot(
    segmentation,
    scene,
    knobs={"target": where, **knobs},
    downloads=[
        ("Cut-out (PNG)", "cut-out.png", lambda: image.to_png(found.cut_out), "image/png"),
        ("Mask (PNG)", "mask.png", lambda: image.to_png(found.mask.astype(np.float32)), "image/png"),
        (
            "Numbers (NPZ)",
            "segmentation.npz",
            foot.npz(evidence=found.evidence, seeds=found.seeds, mask=found.mask, cut_out=found.cut_out),
            "application/octet-stream",
        ),
    ],
    explained="""
The map is blurred a little, because single pixels of a gradient are noise. What lies above one percentile is
seeded as the thing, what lies below another as background (95 and 30 in the paper). From the seeds GrabCut learns two
mixtures of five colours each, and finds the mask that fits them best with the shortest border along the picture's
edges (a minimum cut of a graph), a few times over. The largest connected part counts. Everything happens at the
network's own resolution.

No mask was ever shown to the network: it learned from labels of whole pictures alone. That this works at all says that
its evidence lies on the thing. It does not say that the outline is the network's: the line is GrabCut's, drawn by
colour. The seeds are held fixed here; the paper fits the colours to them and then lets them go.

Papers: [Simonyan, Vedaldi, Zisserman 2013](https://arxiv.org/abs/1312.6034), section 3.2; [Rother, Kolmogorov, Blake
2004](https://doi.org/10.1145/1015706.1015720).
""",
)

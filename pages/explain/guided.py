"""Guided backpropagation: What excites this unit, if only what raises it is followed back?

Two older relatives of the gradient go the same way back through the network, but let only what is positive pass its
gates. Their pictures are crisper than the gradient's, which does not make them truer.
Sources: Springenberg 2014, Zeiler & Fergus 2013.
"""

from collections import Counter

import numpy as np
import streamlit as st

from engine import image
from engine.explain.guided_backpropagation import gated_gradient, guided_backpropagation
from engine.explain.saliency import largest
from engine.ops import gates
from engine.ops.gates import NoGate
from engine.target import asked
from ui import controls, foot, links
from ui.ask import aim, ask
from ui.charts import overlays, painting
from ui.scene import current_scene, need_gradients

RULES = {"plain": "Gradient", "guided": "Guided backpropagation", "deconvnet": "Deconvnet"}
GATES = {
    "Relu": "stops what is negative",
    "Clip": "stops what is below its lower limit and above its upper one (ReLU6)",
    "LeakyRelu": "lets a small share of what is negative through",
    "PRelu": "lets a learned share of what is negative through",
    "SiLU": "is x · Sigmoid(x), taken as one gate",
}

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)
links.onward("explain", "sanity", "Does this picture depend on what the network learned?")

where = controls.target(scene, kinds=("class", "unit", "margin"))
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    kind = controls.choice(
        "Shown as",
        "kind",
        ["colours", "largest"],
        help="Red, green and blue as they are, with zero grey; or the largest of the three without its sign.",
    )
    percentile = st.slider(
        "Full colour at percentile", 90.0, 100.0, 99.5, 0.1, key="clip", bind="query-params", width=200
    )

target = asked(net, aim(net, where))
slopes, refusal = {}, ""
for rule in RULES:
    try:
        slopes[rule] = ask(gated_gradient, scene, where, rule=rule)
    except NoGate as error:
        refusal = str(error)
tops = {rule: float(np.percentile(np.abs(slope), percentile)) or 1.0 for rule, slope in slopes.items()}
if refusal:
    st.warning(f"{refusal} So there is only the gradient to see.", icon=":material/block:")

for (rule, slope), panel in zip(slopes.items(), controls.panels(len(slopes)), strict=True):
    with panel:
        st.markdown(f"**{RULES[rule]}**")
        if kind == "colours":
            controls.still(
                overlays.picture(painting.around_grey(slope, tops[rule]), smooth=False),
                key=f"map_{rule}",
                alt=f"{RULES[rule]} of {target.title} as a picture: grey is zero.",
            )
            st.caption(f"Grey is zero; full colour is ±{tops[rule]:.3g} {target.unit} per unit of pixel value.")
        else:
            controls.still(
                overlays.heatmap(
                    largest(slope),
                    title=f"{target.unit} per unit of pixel value",
                    bounds=(0.0, tops[rule]),
                    value_name="value",
                ),
                key=f"map_{rule}",
                alt=f"{RULES[rule]} of {target.title}: the largest absolute value at every pixel.",
            )

left, right = controls.panel_and_rest()
with left:
    st.markdown("**The picture**")
    boxes = []
    if where.get("row") is not None:
        field = net.layer(where["layer"]).receptive_field.window(where["row"], where["col"], net.input_size)
        boxes = [scene.frame.box_to_picture(*field)]
    controls.still(overlays.picture(scene.picture, frame=scene.frame, boxes=boxes), alt="The picture.")


def said(counts: Counter) -> str:
    """The gates in words: how many of which, and what each does forwards."""
    each = (f"{n} {op}" + (f" (each {GATES[op]})" if op in GATES else "") for op, n in counts.items())
    return ", ".join(each)


with right:
    st.markdown(f"**What is followed back** from {target.title}")
    way = net.graph.needed(target.names)
    there = Counter(node.op for node in way if node.op in gates.GATES and node.outputs[0] in net.graph.from_input)
    products = gates.silus(net.graph)
    there["SiLU"] = sum(node.outputs[0] in products for node in way)
    there = +there
    if there:
        pooled = any(node.op == "MaxPool" for node in way)
        st.markdown(
            f"Gates on the way from the picture: {said(there)}. The *gradient* passes a gate by the gate's own "
            "derivative. *Guided backpropagation* does so, too, but only where what comes back is positive. The "
            "*deconvnet* lets what is positive come back, whatever went through forwards."
            + (" Max pooling sends all three to the place that held the maximum." if pooled else "")
            + " Everything else in the graph keeps its derivative."
        )
        st.markdown(
            "Each picture has its own scale: guided backpropagation and deconvnet are no longer derivatives of "
            "anything, and their numbers cannot be compared with the gradient's."
        )
    elif not refusal:
        st.markdown("Between the picture and this unit lies no gate, so all three are the same gradient.")
    if not all(np.any(slope) for slope in slopes.values()):
        st.caption(
            "Zero everywhere: this unit is off, and no small change switches it on. The deconvnet may show something "
            "all the same, because it does not ask what went through forwards."
        )
with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "saliency", "The gradient alone, and what else is made of it")
    links.onward("explain", "occlusion", "Does hiding those pixels lower the score?")

shown = "plain" if refusal else "guided"
# Without its sign it is one of the methods by name; the picture with its colours is what they are made from.
of_largest = kind == "largest" and not refusal


def map_png(rule: str) -> bytes:
    if kind == "colours":
        return image.to_png(painting.around_grey(slopes[rule], tops[rule]))
    return image.to_png(painting.paint(largest(slopes[rule]), 0.0, tops[rule], False))


foot.foot(
    guided_backpropagation if of_largest else gated_gradient,
    scene,
    knobs={"target": where} | ({} if of_largest else {"rule": shown}),
    downloads=[
        *((f"{RULES[rule]} (PNG)", f"{rule}.png", lambda rule=rule: map_png(rule), "image/png") for rule in slopes),
        (
            "Numbers (NPZ)",
            "guided.npz",
            foot.npz(**slopes, **({"largest": largest(slopes[shown])} if of_largest else {})),
            "application/octet-stream",
        ),
    ],
    explained="""
At a ReLU the gradient g that comes back is multiplied by 1 where the ReLU was on and by 0 where it was off. Guided
backpropagation multiplies by 1 where it was on **and** g > 0; the deconvnet by 1 where g > 0. Dropping what is
negative at every layer drops what argues against the unit, and with it most of what flickers.

What is left is crisp, and mostly the edges of the picture: the maps of two classes, even of a network with random
weights, can look nearly the same, so they tell little of *why* a class was chosen. The sanity page lets you see that.
They are at their best for a single unit of a middle layer: then they show the pattern that it answers to here.

Papers: [Springenberg, Dosovitskiy, Brox, Riedmiller 2014](https://arxiv.org/abs/1412.6806), section 3.4; [Zeiler &
Fergus 2013](https://arxiv.org/abs/1311.2901), section 2.1; on what they miss, [Adebayo
2018](https://arxiv.org/abs/1810.03292).
""",
)

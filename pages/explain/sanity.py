"""Sanity check: Does the picture depend on what the network learned?

The network forgets, layer after layer from the top: each layer's weights are shuffled, and the map is made again. A map
that explains the network must fall apart with it; one that stays as it was has only found the edges in the picture.
Sources: Adebayo 2018.
"""

import functools

import numpy as np
import pandas as pd
import streamlit as st

from engine import image
from engine.explain.evidence import way, ways
from engine.explain.sanity import learned, sanity, sanity_steps
from engine.ops import gates
from ui import controls, foot, links
from ui.ask import aim
from ui.charts import overlays, plots
from ui.jobs import line, watch
from ui.scene import current_scene, need_gradients

SIDE = 108  # pixels of a map: seven abreast on a screen of 1280, three on a phone
STAYS = 0.5  # the rank correlation with half of the layers random from which on the page says that the map stays

scene = current_scene()
net = scene.net
foot.head(__doc__)


def usual() -> list[str]:
    """What is compared at first: the method that is known to fail, where the network has the gates for it."""
    try:
        gates.table(net.graph, "guided")
    except gates.NoGate:
        return ["Gradient"]
    return ["Guided backpropagation", "Gradient"]


layers = len(learned(net))
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    with st.container(width=560):
        methods = controls.several("Methods", "checked", list(ways()), usual(), most=5) or usual()
    stages = controls.number("Stages", "stages", 1, max(1, min(layers, 12)), min(layers, 6) or 1, width=110)
if any(way(method).needs_gradient for method in methods):
    need_gradients(net)

where = {"class": scene.class_index}
overview = st.container()


def said(correlation: float) -> str:
    return f"{correlation:.2f}".replace("-", "−")


def draw(method: str, step, complete: bool) -> None:
    """One row: a method's map on the trained network, then at each stage of forgetting."""
    found = step.result if step else None
    row = st.container(horizontal=True, gap="xsmall")
    for stage in range(step.total if step else stages + 1):
        with row.container(width=SIDE + 4):
            if found is None or stage >= len(found.maps):
                st.skeleton(height=SIDE + 86)
                continue
            count, layer, correlation, _ = found.table.iloc[stage]
            values = found.maps[stage]
            signed = bool(values.min() < 0)
            top = float(np.percentile(np.abs(values), 99.5)) or 1.0
            state = f"{count} of {layers} random" if count else "as it was trained"
            tip = {"state": state, "down to": layer, "rank correlation": round(float(correlation), 3)}
            controls.still(
                overlays.tile(
                    values,
                    bounds=(-top if signed else 0.0, top),
                    signed=signed,
                    over=scene.shown,
                    opacity=1,
                    tip=tip,
                    width=SIDE,
                ),
                key=f"{way(method).name}_{stage}",
                alt=f"{method} at a stage of the network: {state}.",
            )
            st.caption(f"**{said(correlation)}** · {state}" + (f", down to {layer}" if count else ""))


found = {}
for method in methods:
    st.markdown(f"**{method}**, and its rank correlation with the first map")
    job = line.run(
        net.engine,
        f"sanity_{way(method).name}",
        (net.sha256, net.output, image.digest(scene.pixels), *where.values(), stages),
        lambda method=method: sanity_steps(net, scene.pixels, aim(net, where), method=method, stages=stages),
    )
    watch.show(net.engine, job, functools.partial(draw, method))
    if job.step:
        found[method] = job.step.result
st.caption(
    "Each map has its own colours, from zero to its 99.5th percentile, because the numbers of a network that has "
    "forgotten are of another size; blue to red where a map has both signs. A map without any order, the same "
    "everywhere, counts as 0. Methods that ask the network many times do "
    "so at every stage, and take as long as that."
)


def verdict(method: str) -> str:
    """In words, what the map did by the time that about half of the layers were random."""
    table = found[method].table.iloc[1:]
    if table.empty or table.randomised.max() < layers / 3:
        return f"**{method}**: the run has not come that far."
    half = table.iloc[(table.randomised - layers / 2).abs().argmin()]
    begins = f"**{method}**: with {half.randomised} of {layers} layers random, **{said(half.correlation)}**. "
    if half.correlation > STAYS:
        return begins + "It **fails**: most of this map was never about what those layers learned."
    return begins + "It passes: the map falls apart with the network, as one that explains it must."


with overview:
    one, two, words = controls.panels(3)
    for panel, column, title in ((one, "correlation", "rank correlation"), (two, "similarity", "structure (SSIM)")):
        with panel:
            st.markdown(f"**Like the first map?** By {title}")
            if not found:
                st.skeleton(height=300)
                continue
            curves = [f.table.set_index("randomised")[column].rename(method) for method, f in found.items()]
            data = pd.concat(curves, axis=1).reset_index()
            st.altair_chart(
                plots.lines(
                    data,
                    x="randomised",
                    y=list(found),
                    x_title=f"layers randomised, of {layers}, from the top",
                    y_title=title,
                    bounds=(min(0.0, float(data[list(found)].min().min())), 1.0),
                    height=260 + 22 * len(found),
                    columns=1,
                ),
                key=f"curve_{column}",
                alt=f"{title.capitalize()} with the first map over the number of randomised layers, per method.",
            )
    with words:
        st.markdown("**Which of them fail?**")
        for method in found:
            st.markdown(verdict(method))
        st.caption(
            "Rank correlation is 1 where the map puts all pixels in the order of the first one, and 0 where it has "
            f"nothing to do with it. That {STAYS} is the line is this page's choice; the paper looks at the maps."
        )

with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "guided", "Look at guided backpropagation closely")
    links.onward("explain", "saliency", "Look at the gradient closely")

arrays = {}
for method, result in found.items():
    columns = {column: result.table[column].to_numpy() for column in result.table}
    columns["layer"] = columns["layer"].astype(str)
    arrays |= {f"{way(method).name}_{part}": each for part, each in (columns | {"maps": result.maps}).items()}
foot.foot(
    sanity,
    scene,
    knobs={"target": where, "method": methods[0], "stages": stages},
    downloads=[("Numbers (NPZ)", "sanity.npz", foot.npz(**arrays), "application/octet-stream")] if found else [],
    explained="""
The layers are made random from the top down, each stage keeping those before it. Here a layer's own weights are
shuffled, so that no scheme of initialisation has to be chosen (the paper draws them anew); biases and normalisations
stay. The *rank correlation* (Spearman's, of absolute values) asks whether two maps put the pixels in the same order,
*SSIM* whether they have the same structure in small windows.

A method that fails may still make pictures that look right, because edges of the thing are edges of the picture: that
is what makes it dangerous. To pass is no proof either: random noise would pass. One picture is not all pictures, and
shuffling weights makes a network that nobody would train; a map may change for that reason, too.

Paper: [Adebayo, Gilmer, Muelly, Goodfellow, Hardt, Kim 2018](https://arxiv.org/abs/1810.03292), section 3.1. With
Reproduce you get the numbers of the first method.
""",
)

"""RISE: Which places matter, if random parts of the picture are hidden?

The picture is seen through many random masks, and each place is judged by what the network says while it shows. The map
sharpens while you watch, and comes with its own uncertainty. Sources: Petsiuk, Das, Saenko 2018.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.explain.rise import FILLS, rise, rise_steps
from engine.target import asked, class_probability
from ui import controls, foot, links
from ui.ask import aim
from ui.charts import marks, overlays, painting
from ui.jobs import line, watch
from ui.scene import current_scene

scene = current_scene()
net = scene.net
foot.head(__doc__)

where = controls.target(scene, kinds=("class", "margin", "unit"))
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    masks = controls.number("Masks, at most", "masks", 64, 8000, 1024, width=130)
    cells = controls.number("Cells a side", "cells", 2, 16, 7, width=110)
    shown = st.slider("Shown", 0.1, 0.9, 0.5, 0.05, key="shown", bind="query-params", width=130)
    fill = controls.choice("Fill", "fill", FILLS)
    stable = st.slider(
        "Stop when stable",
        0.0,
        0.3,
        0.08,
        0.01,
        key="stable",
        bind="query-params",
        width=150,
        help="The run ends when the typical standard error is this share of the map's range; 0 goes on to the end.",
    )
    numbers = controls.precision(net)

knobs = {"masks": masks, "cells": cells, "shown": shown, "fill": fill, "stable": stable, **numbers}
target = asked(net, aim(net, where), class_probability)
job = line.run(
    net.engine,
    "rise",
    (net.sha256, net.output, image.digest(scene.pixels), *where.values(), *knobs.values()),
    lambda: rise_steps(net, scene.pixels, aim(net, where), **knobs),
)


def draw(step, complete: bool) -> None:
    left, middle, right = controls.panels(3)
    with left:
        st.markdown("**The picture**")
        controls.still(overlays.picture(scene.picture, frame=scene.frame), alt="The picture.")
    if step is None:
        with middle:
            st.skeleton(height=marks.PANEL + 60)
        return
    found = step.result
    bounds = painting.limits(found.map, signed=True)
    with middle:
        st.markdown("**More where it shows**")
        controls.still(
            overlays.heatmap(
                found.map,
                title=f"{target.unit}, less its mean over all masks",
                signed=True,
                bounds=bounds,
                over=scene.picture,
                frame=scene.frame,
                opacity=0.7,
                value_name=target.unit,
            ),
            alt=f"How {target.title} differs from its mean over all masks while each place shows.",
        )
    with right:
        st.markdown("**How sure that is**")
        controls.still(
            overlays.heatmap(
                found.error,
                title="standard error of the map",
                bounds=(0.0, bounds[1]),
                over=scene.picture,
                frame=scene.frame,
                opacity=0.7,
                value_name=target.unit,
            ),
            alt="The standard error of the map at every place, on the map's own scale.",
        )
    st.caption(
        f"{'Stable after' if complete and found.masks < masks else 'So far' if not complete else 'After'} "
        f"{found.masks:,} masks, for {target.title}; the typical standard error is {found.noise:.1%} of the map's "
        "range. The right-hand scale ends where the left-hand one does: dark is sure."
    )


watch.show(net.engine, job, draw)
with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "occlusion", "One patch at a time")
    links.onward("explain", "faithfulness", "Does the network really go by this map?", method="RISE")


def map_png() -> bytes:
    values = job.step.result.map
    return image.to_png(painting.paint(values, *painting.limits(values, signed=True), signed=True))


foot.foot(
    rise,
    scene,
    knobs={"target": where, **knobs},
    downloads=[
        ("Map (PNG)", "rise.png", map_png, "image/png"),
        (
            "Numbers (NPZ)",
            "rise.npz",
            foot.npz(map=job.step.result.map, error=job.step.result.error, masks=np.array(job.step.result.masks)),
            "application/octet-stream",
        ),
    ]
    if job.step
    else [],
    explained="""
Each mask is a coarse random grid, stretched smoothly over the picture and shifted at random; where it is dark, the fill
stands instead of the picture. A place's value is the mean of the number over the masks that show it, less the mean over
all masks: above zero, the network says more while the place shows. Unlike a sliding patch, half of the picture is
gone at once, so evidence that stands twice in the picture can show.

The standard error says how far the value would move with other masks: what is smaller than twice of it is noise. The
paper draws 4,000 to 8,000 masks whatever the picture; here the run stops when the map has settled.

Paper: [Petsiuk, Das, Saenko 2018](https://arxiv.org/abs/1806.07421), equation 6.
""",
)

"""Beyond CAM: What does the map leave out?

A map of evidence shows the part of a thing that tells most, not all of the thing. Erase that part and ask again, or
hide parts at random, and the network points at what else it goes by. Sources: Wei 2017, Singh & Lee 2017.
"""

import numpy as np
import pandas as pd
import streamlit as st

from engine import image
from engine.explain import boxes
from engine.explain.erase import FILLS, Erased, erase, erase_steps
from engine.explain.evidence import over_picture
from engine.explain.grad_cam import grad_cam
from engine.explain.hide_and_seek import hide, hide_and_seek, hide_and_seek_steps
from engine.net import softmax
from engine.pictures.fill import blank
from engine.target import asked, class_probability, number
from ui import controls, foot, links
from ui.ask import aim, ask
from ui.charts import marks, overlays, painting, plots
from ui.jobs import line, watch
from ui.scene import class_names, current_scene, need_gradients, scores_of

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)

# Choose -------------------------------------------------------------------------------------------------------------

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    view = controls.choice("Show", "view", ["erasing", "hide and seek"])
    where = controls.target(scene, kinds=("class", "margin"))
last = next((found.name for found in reversed(net.layers) if found.has_map and "Pool" not in found.op), None)
layer = controls.layer(net, default=last)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    if view == "erasing":
        rounds = controls.number("Rounds", "rounds", 1, 12, 4, width=110)
        erased_from = st.slider(
            "Erase from, share of the maximum", 0.1, 0.9, 0.5, 0.05, key="erased", bind="query-params", width=210
        )
        fill = controls.choice("Fill", "fill", ["mean", *(name for name in FILLS if name != "mean")])
        function, steps = erase, erase_steps
        knobs = {"layer": layer, "rounds": rounds, "threshold": erased_from, "fill": fill}
    else:
        cells = controls.number("Patches a side", "patches", 1, 16, 4, width=120)
        hidden = st.slider("Chance to be hidden", 0.1, 0.9, 0.5, 0.05, key="hidden", bind="query-params", width=150)
        copies = controls.number("Copies", "copies", 8, 1000, 48, width=110)
        fill = controls.choice("Fill", "fill", FILLS)
        scale = controls.choice("Colours from", "scale", ["both maps", "each map"])
        function, steps = hide_and_seek, hide_and_seek_steps
        knobs = {"layer": layer, "cells": cells, "hidden": hidden, "copies": copies, "fill": fill}
    opacity = st.slider("Map over picture", 0.0, 1.0, 0.6, 0.05, key="opacity", bind="query-params", width=150)

# Compute ------------------------------------------------------------------------------------------------------------

of_class = "against" not in where
target = asked(net, aim(net, where))
told = asked(net, aim(net, where), class_probability)
job = line.run(
    net.engine,
    function.__name__,
    (net.sha256, net.output, image.digest(scene.pixels), *where.items(), *knobs.values()),
    lambda: steps(net, scene.pixels, aim(net, where), **knobs),
)

# Show ---------------------------------------------------------------------------------------------------------------


def said(value: float) -> str:
    return f"{value:.1%}" if of_class else f"{value:+.2f} logits"


def seen(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3), for drawing."""
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)


def over_the_picture(values: np.ndarray, bounds: tuple[float, float], alt: str) -> None:
    controls.still(
        overlays.heatmap(
            values,
            title=f"Grad-CAM, {target.unit}",
            bounds=bounds,
            over=scene.picture,
            frame=scene.frame,
            opacity=opacity,
            value_name="evidence",
        ),
        alt=alt,
    )


def draw_erased(found: Erased) -> None:
    count = len(found.maps)
    bounds = (0.0, float(found.maps.max()) or 1.0)
    left, middle, right = controls.panels(3)
    with left:
        st.markdown("**The map**")
        over_the_picture(found.maps[0], bounds, "Grad-CAM of the whole picture.")
        st.caption(f"What the network goes by first; erased of it are {found.regions[0].mean():.0%} of the picture.")
    with middle:
        st.markdown(f"**All that {count} rounds found**")
        over_the_picture(found.union, bounds, f"What was found in {count} rounds, on the same scale.")
        st.caption(f"In all rounds {found.regions.any(0).mean():.0%} of the picture; same colours, same scale.")
    with right:
        st.markdown("**The score**, as more is erased")
        data = pd.DataFrame({"rounds": np.arange(count), "score": found.scores.astype(float)})
        st.altair_chart(
            plots.lines(
                data,
                x="rounds",
                y=["score"],
                x_title="times erased",
                y_title=told.unit,
                bounds=(0.0, 1.0) if of_class else None,
                width=marks.PANEL,
            ),
            width="content",
            alt=f"The score falls from {said(found.scores[0])} to {said(found.scores[-1])}.",
        )
        st.caption(
            f"{told.title[0].upper()}{told.title[1:]}: {said(found.scores[0])}, in the end {said(found.scores[-1])}."
        )
    st.markdown("**Round by round**: what the network saw, the map that it gave, and its score")
    for k in range(count):
        saw, gave, score = controls.panels(3, marks.TILE)
        pixels = seen(found.pictures[k])
        with saw:
            controls.still(
                overlays.picture(pixels, width=marks.TILE),
                key=f"saw_{k}",
                alt=f"What the network saw in round {k + 1}.",
            )
        with gave:
            controls.still(
                overlays.tile(
                    found.maps[k],
                    bounds=bounds,
                    over=pixels,
                    opacity=opacity,
                    tip={"round": k + 1, "maximum": f"{found.maps[k].max():.3g}"},
                ),
                key=f"gave_{k}",
                alt=f"The map of round {k + 1}, with a maximum of {found.maps[k].max():.3g}.",
            )
        with score:
            now = softmax(scores_of(net, found.pictures[k])[None])[0]
            st.metric(
                f"Round {k + 1}",
                said(found.scores[k]),
                said(found.scores[k] - found.scores[k - 1]).replace("%", " points") if k else None,
            )
            likeliest = int(now.argmax())
            st.caption(
                f"Likeliest: {class_names(net)[likeliest]}, {now[likeliest]:.1%}."
                + ("" if found.regions[k].any() else " Nothing speaks for it any more.")
            )


def draw_hidden(found: np.ndarray) -> None:
    plain = ask(grad_cam, scene, where, layer=layer)
    most = [float(values.max()) or 1.0 for values in (plain, found)]
    most = [max(most)] * 2 if scale == "both maps" else most
    # How far a map reaches: the share of the picture that its largest part covers, from 20 % of its maximum on.
    reach = [boxes.largest_part(over_picture(values, net.input_size)).mean() for values in (plain, found)]
    left, middle, right = controls.panels(3)
    with left:
        st.markdown("**Grad-CAM** of the whole picture")
        controls.still(
            overlays.tile(
                plain,
                bounds=(0.0, most[0]),
                over=scene.picture,
                frame=scene.frame,
                opacity=opacity,
                title=f"Grad-CAM, {target.unit}",
                tip={"maximum": f"{plain.max():.3g}"},
                width=marks.PANEL,
            ),
            alt=f"Grad-CAM of the whole picture, with a maximum of {plain.max():.3g}.",
        )
        st.caption(f"Its largest part at 20 % of the maximum or above covers {reach[0]:.0%} of the picture.")
    with middle:
        st.markdown("**Hide and seek**: the mean over the copies")
        over_the_picture(found, (0.0, most[1]), f"The mean of Grad-CAM over copies, at most {found.max():.3g}.")
        st.caption(f"Its largest part at 20 % of the maximum or above covers {reach[1]:.0%} of the picture.")
    with right:
        st.markdown("**The first of the copies**")
        copy = hide(scene.pixels, blank(scene.pixels, fill), np.random.default_rng(0), cells, hidden)
        controls.still(overlays.picture(seen(copy), smooth=False), alt="The picture with random patches hidden.")
        st.caption(
            f"{told.title[0].upper()}{told.title[1:]}: {said(number(net, copy, aim(net, where)))} of this copy, "
            f"{said(ask(number, scene, where))} of the whole picture."
        )


def draw(step, complete: bool) -> None:
    if step is None:
        st.skeleton(height=marks.PANEL + 120)
    elif view == "erasing":
        draw_erased(step.result)
    else:
        draw_hidden(step.result)


watch.show(net.engine, job, draw)
with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "cam", "The map itself, and nine other ways to make it", method="Grad-CAM", layer=layer)
    links.onward("explain", "occlusion", "One patch at a time, all over the picture")

found = job.step.result if job.step else None
arrays = {} if found is None else vars(found) if view == "erasing" else {"map": found}


def map_png() -> bytes:
    values = arrays["union"] if view == "erasing" else arrays["map"]
    return image.to_png(marks.enlarge(painting.paint(values, 0.0, float(values.max()) or 1.0, signed=False), 400))


foot.foot(
    function,
    scene,
    knobs={"target": where, **knobs},
    downloads=[
        ("Map (PNG)", f"{function.__name__}.png", map_png, "image/png"),
        ("Numbers (NPZ)", f"{function.__name__}.npz", foot.npz(**arrays), "application/octet-stream"),
    ]
    if arrays
    else [],
    explained="""
A classifier is trained to tell classes apart, not to find all of a thing. Once a part is enough to tell, nothing asks
it to look at the rest, and a class activation map, which shows what the score is made of, shows that part. A map that
leaves something out does not say that the network cannot use it.

**Erasing** ([Wei 2017](https://arxiv.org/abs/1703.08448)): what the map shows from a share of its maximum on is painted
over, and the network is asked again; what it finds then is evidence that it did not need before. The map of all rounds
takes the largest value at each place, of the rounds that erased it. A score that stays up says that there was plenty
left; one that falls at once says that the map had found nearly all. Wei trains a new network after each erasing and
joins what all of them find; here the network stays as it is, since it is what one asks about.

**Hide and seek** ([Singh & Lee 2017](https://arxiv.org/abs/1704.04232)): the picture is cut into a grid of patches, and
each is hidden with some chance; Grad-CAM is averaged over many such copies. In some of them the most telling part is
gone, and the next one shows. In the paper the hiding is done while the network learns, so that it uses more of the
thing even when all of it is there. This page changes nothing in the network: where the mean reaches no further than the
map of the whole picture, the network has learned nothing else to go by.

What stands in for the erased part is not neutral: an edge of grey is evidence of something, too. Try other fills.
""",
)

"""Occlusion: Where is the evidence, if hiding it lowers the score?

A patch slides over the picture, and at each position the network is asked again: how likely is the class, how far is it
ahead of another, how strongly does a unit answer? Where the number falls, the patch hides something that the network
needs. Sources: Zeiler & Fergus 2013.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.explain.occlusion import (
    FILLS,
    coarse,
    occlude,
    occlusion,
    occlusion_likeness_steps,
    occlusion_steps,
    positions,
)
from engine.net import softmax
from engine.pictures import samples
from engine.target import asked, class_probability, number
from ui import controls, foot, links, sidebar
from ui.ask import aim, ask
from ui.charts import marks, network, overlays, painting
from ui.jobs import line, watch
from ui.scene import class_names, current_scene, scores_of

NUMBERS = ("exact", "approximate")
APPROXIMATE = {"field": 0.5, "drill": 0.3}  # half of each map's side at most, and three tenths of the gaps
TRIED = 14  # positions a side, at most, at which the two are compared

scene = current_scene()
net = scene.net
foot.head(__doc__)

where = controls.target(scene, kinds=("class", "margin", "unit"), at_key="cell")
side = min(net.input_size)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    patch = controls.number("Patch, pixels", "patch", 1, side, max(2, side // 8), width=120)
    stride = controls.number("Stride, pixels", "stride", max(1, side // 80), side, max(1, side // 20), width=120)
    fill = controls.choice("Fill", "fill", FILLS)
    numbers = controls.choice(
        "Numbers",
        "numbers",
        NUMBERS,
        help="Exact: those of whole pictures. Approximate: quicker; how near they come is measured, and said.",
    )
    of_class = "class" in where and "against" not in where
    scale = controls.choice("Colours from", "scale", ["this map", "0 to 1"]) if of_class else "this map"
    opacity = st.slider("Map over picture", 0.0, 1.0, 0.6, 0.05, key="opacity", bind="query-params", width=150)

knobs = {"patch": patch, "stride": stride, "fill": fill} | (APPROXIMATE if numbers == "approximate" else {})
height, width = net.input_size
rows, cols = positions(height, patch, stride), positions(width, patch, stride)
target = asked(net, aim(net, where), class_probability)
before = float(ask(number, scene, where))
said = (lambda value: f"{value:.1%}") if of_class else (lambda value: f"{value:.3g}")
about = "≈ " if numbers == "approximate" else ""
# Each position's cell on the screen: a stride wide, around the middle of its patch.
cells = [
    tuple(
        float(np.clip((start + patch / 2 + way * stride / 2) / length, 0, 1))
        for way in (-1, 1)
        for start, length in ((r, height), (c, width))
    )
    for r in rows
    for c in cols
]

job = line.run(
    net.engine,
    "occlusion",
    (net.sha256, net.output, image.digest(scene.pixels), *where.values(), *knobs.values()),
    lambda: occlusion_steps(net, scene.pixels, aim(net, where), **knobs),
)


def draw(step, complete: bool) -> None:
    left, middle, right = controls.panels(3)
    values = np.full((len(rows), len(cols)), np.nan) if step is None else step.result
    known = not np.isnan(values).all()
    with right:
        st.markdown("**What the network says then**")
        at = controls.cell("Position (row, column)", "at", len(rows), len(cols), "where it hurts most")
    row, col = at or (np.unravel_index(np.nanargmin(values), values.shape) if known else (0, 0))
    box = (rows[row], cols[col], min(rows[row] + patch, height), min(cols[col] + patch, width))
    with left:
        st.markdown("**Where hiding hurts**")
        if known:
            filled = coarse(values)
            controls.clickable(
                overlays.heatmap(
                    values,
                    shown=filled,
                    title=f"{target.title}, patch here",
                    bounds=(0.0, 1.0) if scale == "0 to 1" else painting.limits(values, signed=False),
                    over=scene.picture,
                    frame=scene.frame,
                    opacity=opacity,
                    cells=cells,
                    name="cell",
                    value_name=target.unit,
                    boxes=[scene.frame.box_to_picture(*box)],
                ),
                "cell",
                controls.put("at"),
                f"{target.title} for each position of the patch; a click shows what was hidden.",
                key="occlusion_map",
            )
        else:
            st.skeleton(height=marks.PANEL + 60)
    if not known:
        return
    hidden = occlude(scene.pixels, rows[row], cols[col], patch=patch, fill=fill)
    with middle:
        st.markdown(
            f"**Hidden** at ({rows[row]}, {cols[col]}): {about}{said(values[row, col])}"
            if not np.isnan(values[row, col])
            else "**Hidden**"
        )
        grey = hidden if hidden.shape[2] == 3 else hidden.repeat(3, 2)
        controls.still(overlays.picture(grey, boxes=[box], smooth=False), alt="The picture with the patch in place.")
    with right:
        logits = scores_of(net, hidden)
        after = softmax(logits[None])[0]
        top = (-after).argsort()[:5]
        names = class_names(net)
        st.altair_chart(
            network.top_classes([names[k] for k in top], after[top], logits[top], scene.class_name),
            alt=f"With the patch in place the likeliest class is {names[top[0]]}.",
        )
        if not np.isnan(values[row, col]):
            way = "falls" if values[row, col] <= before else "rises"
            title = target.title[:1].upper() + target.title[1:]
            st.caption(f"{title} {way} from {said(before)} to {about}{said(values[row, col])}.")


watch.show(net.engine, job, draw)
if numbers == "approximate":
    name = sidebar.suits(net)
    tried = net.view(samples.load(name))[0]
    asked_there = int(net.scores(net.batch(tried))[0].argmax()) if of_class else aim(net, where)
    # A few positions are enough to compare, and three a side are the least.
    apart = {**knobs, "stride": max(min(max(stride, -(-max(height, width) // TRIED)), (side - patch) // 2), 1)}

    def said_near(step, complete: bool) -> None:
        found = step.result if step else None
        if complete and found is not None:
            places = " × ".join(map(str, found.exact.shape))
            st.badge(f"approximate, SSIM ≈ {found.ssim:.2f}", icon=":material/speed:", color="orange")
            st.caption(
                f"On the sample “{name}”, at {places} positions, a map like this one has a structural similarity to "
                f"the exact one of {found.ssim:.3f} (1: the same), and takes {found.work:.0%} of the work."
            )
        else:
            st.badge("approximate", icon=":material/speed:", color="orange")
            st.caption(f"How near it comes is being measured on the sample “{name}”.")

    near = line.run(
        net.engine,
        "occlusion_likeness",
        (net.sha256, net.output, name, *([asked_there] if of_class else where.values()), *apart.values()),
        lambda: occlusion_likeness_steps(net, tried, asked_there, **apart),
    )
    watch.show(net.engine, near, said_near)
else:
    st.badge("exact", icon=":material/verified:", color="green", help="The numbers are those of whole pictures.")
with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "rise", "And if random parts are hidden, of no one size?")
    links.onward("explain", "saliency", "Which single pixels matter most?")


def map_png() -> bytes:
    values = job.step.result
    painted = painting.paint(values, *painting.limits(values, signed=False), signed=False)
    return image.to_png(marks.enlarge(painted, 400))


foot.foot(
    occlusion,
    scene,
    knobs={"target": where, **knobs},
    downloads=[
        ("Map (PNG)", "occlusion.png", map_png, "image/png"),
        (
            "Numbers (NPZ)",
            "occlusion.npz",
            foot.npz(values=job.step.result, rows=np.array(rows), cols=np.array(cols)),
            "application/octet-stream",
        ),
    ]
    if job.step
    else [],
    explained="""
Each cell of the map is the number that you ask about with the patch centred there (for a class, its softmax
probability): dark where hiding hurts. *Margin* is the difference of two classes' logits: it shows what speaks for the
one and not the other, where both would fall together. The map asks the network itself and needs no gradient, so it
cannot be fooled by saturation; but the patch is not neutral. A grey square is itself something the network has an
opinion of, and evidence that is larger than the patch, or that stands in the picture twice, does not show. Try other
sizes and fills (grey, the picture's mean colour, black, white, the picture blurred, noise): what stays is what you may
believe.

Hiding a patch changes only a window of each layer, so only those windows are computed again, and the numbers are still
those of whole pictures (*exact*). The *approximate* ones leave out what a patch touches beyond half of a layer's side,
and ask about the gaps of a coarse grid only where hiding changes most; how near that comes is measured by the
structural similarity (SSIM) of both maps on a sample picture.

Papers: [Zeiler & Fergus 2013](https://arxiv.org/abs/1311.2901), section 4.2; Nakandala, Kumar, Papakonstantinou 2019,
"Incremental and approximate inference for faster occlusion-based deep CNN explanations", SIGMOD. All positions run
through ONNX Runtime, first every eighth, then the gaps.
""",
)

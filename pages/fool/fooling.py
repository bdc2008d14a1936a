"""Fooling image: How far is this picture from being taken for something quite different?

Any picture can be changed into any class, an elephant into a koala, by climbing that class's score from it; and mostly
you do not see that anything has changed. Sources: Szegedy 2013, Nguyen 2015.
"""

import numpy as np
import pandas as pd
import streamlit as st

from engine import image
from engine.fool.adversarial import eight_bit
from engine.fool.fooling import Fooled, fooling, fooling_steps
from ui import controls, fooled, foot, links, studio
from ui.charts import plots
from ui.jobs import line, watch
from ui.scene import class_names, current_scene, need_gradients

scene = current_scene()
net, k = scene.net, scene.class_index
names = class_names(net)
foot.head(__doc__)
need_gradients(net)

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    wanted = fooled.toward(scene)
    sure = controls.slider("Until it is … sure", 0.1, 0.99, 0.9, 0.01, key="sure", width=180)
    steps = controls.slider("Steps at most", 1, 300, 100, key="steps", width=180)
    told = "Length (L2) of one step, in pixel values of 0 to 1."
    rate = controls.slider("Step size", 0.05, 5.0, 0.5, 0.05, key="step_size", width=180, help=told)
    times = fooled.times()

knobs = {"sure": sure, "steps": steps, "rate": rate}
original = eight_bit(scene.pixels)
job = line.run(
    net.engine,
    "fooling",
    (net.sha256, net.output, image.digest(scene.pixels), wanted, *knobs.values()),
    lambda: fooling_steps(net, scene.pixels, wanted, **knobs),
    resume=lambda found: fooling_steps(net, scene.pixels, wanted, resume=found, **knobs),
    picture=lambda found: found.picture,
)


def path(found: Fooled):
    """The probabilities over the steps, of the classes that were or became the likeliest ones."""
    order = [k, wanted, *(-found.path.max(0)).argsort(kind="stable").tolist()]
    five = list(dict.fromkeys(order))[:5]
    rows = pd.DataFrame({names[j]: found.path[:, j].astype(float) for j in five})
    return plots.lines(
        rows.assign(step=np.arange(len(rows))),
        x="step",
        y=[names[j] for j in five],
        x_title="step",
        y_title="probability",
        bounds=(0.0, 1.0),
        height=290,
        columns=5 if max(len(names[j]) for j in five) < 4 else 2,
        label=95,
    )


def draw(step, complete: bool) -> None:
    rest = fooled.panels(original, None if step is None else step.result.picture, times, complete)
    with rest:
        st.markdown("**What it takes the saved picture for**")
        if step is None:
            st.skeleton(height=250)
        else:
            st.altair_chart(path(step.result), width="stretch", key="path", alt="The likeliest classes over the steps.")
            st.caption(f"L∞ {step.result.farthest * 255:.0f} of 255, L2 {step.result.length:.2f}.")


watch.show(net.engine, job, draw)
table = None
if job.step is not None and not job.active:
    after = fooled.measured(net, original, job.step.result.picture, wanted)
    if int(after.argmax()) != wanted:
        st.info(
            f"It is not taken for {names[wanted]} yet: give it more steps, or larger ones.", icon=":material/shield:"
        )
    table = fooled.stands(net, original, job.step.result.picture, wanted, k)
fooled.note()
with st.container(horizontal=True, gap="medium"):
    links.onward("fool", "attack", "And if the change must stay below a bound?")
    links.onward("imagine", "maximize", "What does it look for, when it looks for that class?", start="picture")

recipe = {"method": "fooling", "net": net.name, "sha256": net.sha256, "image": scene.picture_name}
downloads = studio.downloads(
    job,
    "fooling",
    {**recipe, "class": wanted, **knobs},
    lambda found: {key: getattr(found, key) for key in ("original", "pixels", "path", "scores")},
)
if table is not None:
    downloads.append(("Does it survive? (CSV)", "survival.csv", lambda: table.to_csv(index=False).encode(), "text/csv"))
foot.foot(
    fooling,
    scene,
    knobs={"target": {"class": wanted}, **knobs},
    downloads=downloads,
    explained="""
x ← x + step · g / ‖g‖, with g = ∂ log p(class) / ∂x, until the network is as sure as you asked. Nothing keeps the
picture near the original but that the steps are short; how far it went is measured: L∞ is the largest change of any
channel of any pixel, L2 the root of the sum of their squares.

That so little is enough does not come from the network being bad at its task: its score hangs on thousands of pixels,
and a tiny push on each, all the right way, adds up. The curves show the classes on the way, always of the picture
saved in 8 bits.

Papers: [Szegedy 2013](https://arxiv.org/abs/1312.6199), [Nguyen 2015](https://arxiv.org/abs/1412.1897).
""",
)

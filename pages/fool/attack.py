"""Attack: Which change, too small to see, makes it say something else?

The gradient says for each pixel which way it must go. Follow it, no farther than you allow, and a network that is sure
of what it sees is soon as sure of something else, while you see the same picture. Sources: Goodfellow 2014,
Moosavi-Dezfooli 2015, Carlini & Wagner 2016, Madry 2017.
"""

import streamlit as st

from engine import image
from engine.fool.adversarial import AIMS, METHODS, NORMS, adversarial, adversarial_steps, distances, eight_bit
from ui import controls, fooled, foot, links, studio
from ui.jobs import line, watch
from ui.scene import class_names, current_scene, need_gradients

scene = current_scene()
net, k = scene.net, scene.class_index
foot.head(__doc__)
need_gradients(net)

# Choose -------------------------------------------------------------------------------------------------------------

FREE = ("DeepFool", "Carlini-Wagner")  # look for the smallest change by themselves
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    method = controls.choice("Attack", "attack", list(METHODS))
    aim = controls.choice("Away from the class, or toward another", "aim", list(AIMS))
    wanted = fooled.toward(scene) if aim == "toward" else None
knobs = {"aim": aim, "method": method}
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    if method != "Carlini-Wagner":
        knobs["norm"] = controls.choice("Size is measured in", "norm", list(NORMS))
    if method not in FREE and knobs["norm"] == "L∞":
        told = "How far each channel of each pixel may go, of 255."
        # Digits are hardly anything but black and white, so that much must change.
        key, usual = ("epsilon_grey", 32) if net.channels == 1 else ("epsilon", 8)
        knobs["epsilon"] = controls.slider("Epsilon, of 255", 1, 64, usual, key=key, width=180, help=told) / 255
    elif method not in FREE:
        told = "The root of the sum of the squares of all changes, in pixel values of 0 to 1."
        knobs["epsilon"] = controls.slider("Epsilon", 0.1, 10.0, 1.0, 0.1, key="length", width=180, help=told)
    if method != "FGSM":
        knobs["steps"] = controls.slider("Steps", 1, 200, 40, key="steps", width=180)
    if method == "PGD":
        knobs["seed"] = controls.number("Seed", "seed", 0, 9999, 0, width=110)
    times = fooled.times()

# Compute and show ---------------------------------------------------------------------------------------------------

original = eight_bit(scene.pixels)
asked = k if wanted is None else wanted
job = line.run(
    net.engine,
    "attack",
    (net.sha256, net.output, image.digest(scene.pixels), asked, *knobs.values()),
    lambda: adversarial_steps(net, scene.pixels, asked, **knobs),
    # The rounds of Carlini & Wagner know of each other, and cannot be taken up in between.
    resume=None
    if method == "Carlini-Wagner"
    else lambda climb: adversarial_steps(net, scene.pixels, asked, resume=climb, **knobs),
    picture=lambda climb: climb.picture,
)
unit = "margin, logits" if method in FREE else "log-probability" if aim == "toward" else "−log-probability"


def draw(step, complete: bool) -> None:
    found = None if step is None else step.result.picture
    rest = fooled.panels(original, found, times, complete)
    with rest:
        st.markdown("**What is climbed**")
        if step is None:
            st.skeleton(height=250)
        else:
            curve = studio.curve(step.result.scores, unit)
            st.altair_chart(curve, width="stretch", key="curve", alt=f"The score over the steps, {unit}.")
            far, length = (float(each[0]) for each in distances(found[None], original[None]))
            st.caption(f"The change: L∞ {far * 255:.0f} of 255, L2 {length:.2f}.")


watch.show(net.engine, job, draw)
table = None
if job.step is not None and not job.active:
    pixels = job.step.result.picture
    after = fooled.measured(net, original, pixels, asked)
    best, names = int(after.argmax()), class_names(net)
    if best == k if wanted is None else best != wanted:
        more = "more steps" if method in FREE else "a larger epsilon, or more steps"
        st.info(f"It is still taken for {names[best]}: try {more}.", icon=":material/shield:")
    table = fooled.stands(net, original, pixels, wanted, k)
fooled.note()
with st.container(horizontal=True, gap="medium"):
    links.onward("fool", "fooling", "And if it may be changed more, into anything?")
    links.onward("fool", "robustness", "How often does that succeed, on many pictures?")
    links.onward("explain", "saliency", "Which pixels does it go by?")

recipe = {"method": "adversarial", "net": net.name, "sha256": net.sha256, "image": scene.picture_name}
downloads = studio.downloads(job, "adversarial", {**recipe, "class": asked, **knobs})
if table is not None:
    downloads.append(("Does it survive? (CSV)", "survival.csv", lambda: table.to_csv(index=False).encode(), "text/csv"))
foot.foot(
    adversarial,
    scene,
    knobs={"target": {"class": asked}, **knobs},
    downloads=downloads,
    explained="""
All of these look for a small δ for which the network says something else of x + δ.

* **FGSM** ([Goodfellow 2014](https://arxiv.org/abs/1412.6572)): one step, ε · sign(∂L/∂x). As every pixel goes as far
  as it may, thousands of changes too small to see add up.
* **PGD** ([Madry 2017](https://arxiv.org/abs/1706.06083)): many small such steps from a random place in the ball, and
  after each the way back into it. What withstands this withstands most attacks by gradients.
* **DeepFool** ([2015](https://arxiv.org/abs/1511.04599)): to the nearest border, as if all borders were straight. What
  it finds says how far away the border is: it has no epsilon.
* **Carlini & Wagner** ([2016](https://arxiv.org/abs/1608.04644)): the smallest L2 norm, by Adam, with the weight of
  the aim searched for in five rounds. Slow, and finds the smallest changes.

The picture that you see is rounded to 8 bits and not farther away than epsilon *after* that; whether it succeeded is
read off the file, never off the numbers before. That an attack fails does not say that there is none.

**Does it survive?** saves the picture as JPEG, blurs it and scales it: the change is fine, and often lost on the way.
**Does it fool others?** shows it to networks that it was not made for.
""",
)

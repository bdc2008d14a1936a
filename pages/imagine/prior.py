"""Learned prior: What does the network look for among pictures that look like photographs?

A second network, the decoder, has learned to draw the photograph of which a late layer says this or that. Here it is
what the layer says that is changed, so that a score rises, and not pixels: nothing comes out but what the decoder can
draw. Sources: Dosovitskiy & Brox 2016, Nguyen 2016.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.imagine.decoder import NoDecoder, decoded, decoder_for
from engine.imagine.maximize import NUMBERS
from engine.imagine.maximize_code import STARTS, maximize_code, maximize_code_steps
from engine.target import asked, class_score
from ui import controls, foot, links, studio
from ui.ask import aim
from ui.charts import marks
from ui.scene import cached, class_names, current_scene, need_gradients

CLIMB, BACK = "a picture that excites", "your picture, drawn again"

scene = current_scene()
net = scene.net
foot.head(__doc__)
try:
    decoder = decoder_for(net)
except NoDecoder as error:
    st.error(str(error), icon=":material/brush:")
    st.stop()
own = decoder.net_sha256 == net.sha256
if not own:
    st.caption(
        f"{net.name} has no decoder of its own, so {decoder.name} draws here: it knows photographs of ten kinds, and "
        f"{net.name} says which of its drawings it likes. `python -m engine train-decoder` trains one."
    )

shown = controls.choice("Show", "view", [CLIMB, BACK]) if own else CLIMB


def climb() -> None:
    need_gradients(net)
    where = controls.target(scene, kinds=("class", "unit", "direction", "margin"))
    number = NUMBERS[0]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        steps = controls.slider("Steps", 2, 200, 24, key="steps", width=220)
        seed = controls.number("Seed", "seed", 0, 9999, 0, width=110)
        start = controls.one("Start from", "begin", list(STARTS), width=150) if own else "mean"
        if set(where) == {"class"}:
            number = controls.choice("Climb the class's", "number", list(NUMBERS))
    folded = st.expander("The rules, one by one", icon=":material/tune:")
    with folded.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        told = "As a share of what a unit reaches on photographs."
        rate = controls.slider("Step size", 0.001, 0.1, 0.01, 0.001, key="code_rate", width=190, help=told)
        told = "Share of the way back to the mean code of photographs, each step."
        decay = controls.slider("Decay", 0.0, 0.2, 0.01, 0.005, key="code_decay", width=190, help=told)
        told = "Standard deviation of a blur after each step, in cells of the code: neighbours say alike."
        smooth = controls.slider("Smooth, cells", 0.0, 2.0, 0.3, 0.1, key="code_smooth", width=190, help=told)
        told = "How far the network's view is shifted at most, of a picture of 224."
        jitter = controls.slider("Jitter, pixels", 0.0, 32.0, 0.0, 1.0, key="code_jitter", width=190, help=told)
    target = aim(net, where)
    climbed = asked(net, target, class_score)
    knobs = {"start": start, "number": number, "steps": steps, "rate": rate, "decay": decay, "smooth": smooth}
    knobs |= {"jitter": jitter, "seed": seed}
    start_from = image.digest(scene.pixels) if start == "picture" else ""
    job = studio.make(
        net,
        "maximize_code",
        (tuple(where.values()), start_from, decoder.sha256, *knobs.values()),
        lambda resume: maximize_code_steps(net, scene.pixels, target, resume=resume, **knobs),
        score=number if number == "probability" else climbed.unit,
        before=("Where it began", decoded(net, scene.pixels)) if start == "picture" else None,
        beside=lambda found, complete: studio.reached(scene, found.picture, climbed, set(where) == {"class"}),
    )
    with st.container(horizontal=True, gap="medium"):
        links.onward("imagine", "maximize", "The same without a learned prior")
        if own:
            links.onward("imagine", "prior", "What does the decoder make of your picture?", view=BACK)
    recipe = {"method": "maximize_code", "net": net.name, "sha256": net.sha256, "decoder": decoder.sha256}
    foot.foot(
        maximize_code,
        scene,
        knobs={"target": where, **knobs},
        downloads=studio.downloads(job, "prior", {**recipe, "target": climbed.title, **knobs}),
        explained=EXPLAINED.format(layer=decoder.layer, training=decoder.training),
    )


def back() -> None:
    made = cached(decoded)(net, scene.pixels)
    again = cached(decoded)(net, made)
    titles = {
        "Your picture": (scene.pixels, "What the network sees."),
        "Drawn again": (made, f"From what `{decoder.layer}` says of yours, in one pass through ONNX Runtime."),
        "And once more": (again, "From what the layer says of the drawing: what the decoder adds by itself grows."),
    }
    row, names = st.container(horizontal=True, gap="small"), class_names(net)
    for title, (pixels, told) in titles.items():
        with row.container(width=marks.PANEL + 4):
            st.markdown(f"**{title}**")
            studio.still(pixels)
            probabilities = studio.saved(net, pixels)
            k = int(probabilities.argmax())
            off = np.abs(pixels - scene.pixels).mean()
            differs = "" if pixels is scene.pixels else f" Pixels differ by {off:.3f} in the mean, of 0 to 1."
            st.caption(f"{told} {names[k]}: {probabilities[k]:.1%}.{differs}")
    with st.container(horizontal=True, gap="medium"):
        links.onward("imagine", "inversion", "Inversion by gradients, for any layer")
        links.onward("imagine", "prior", "Climb among codes", view=CLIMB)
    foot.foot(
        decoded,
        scene,
        knobs={},
        downloads=[
            ("Drawing (PNG)", "drawn.png", lambda: image.to_png(made), "image/png"),
            ("Numbers (NPZ)", "drawn.npz", foot.npz(pixels=scene.pixels, drawn=made), "application/octet-stream"),
        ],
        explained=EXPLAINED.format(layer=decoder.layer, training=decoder.training),
    )


EXPLAINED = """
A decoder D was trained on photographs to give each back from its code c, the values of `{layer}`. To maximize, the code
is changed and not the pixels: c ← c + step · ∂S(D(c))/∂c, where S is the score; each unit of the code stays between
what it reaches on photographs and goes back a little to its mean in each step.

The picture can be no other than one that the decoder draws. From your picture and for a few steps, that keeps it
nearer to a photograph than free pixels do; go on, and even drawings become patterns. And it tells less about the
network: what is seen is also what the decoder has learned of the world, from ten kinds of photographs. It draws the
mean of all that has the same code, which is why fine detail is soft.

*Drawn again* is inversion in one pass: what survives up to that layer, as far as a mean over photographs shows it.
Inversion by gradients looks for one picture with that very code, and finds detail that may never have been there.

Training: {training}

Sources: [Dosovitskiy & Brox 2016](https://arxiv.org/abs/1506.02753), [the same with a perceptual
loss](https://arxiv.org/abs/1602.02644), [Nguyen et al. 2016](https://arxiv.org/abs/1605.09304).
"""
if shown == CLIMB:
    climb()
else:
    back()

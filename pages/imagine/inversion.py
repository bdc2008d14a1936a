"""Inversion: Which pictures does this layer not tell from this one?

From noise, a picture is looked for of which a layer says what it says of yours. What differs from yours is what the
layer no longer knows: early layers know nearly all, late ones only what it takes to tell classes apart. Sources:
Mahendran & Vedaldi 2014.
"""

import numpy as np
import pandas as pd
import streamlit as st

from engine import image, record
from engine.imagine.inversion import (
    CANVASES,
    MOVES,
    error,
    inversion,
    inversion_steps,
    inversion_strip,
    inversion_strip_steps,
)
from engine.trunk import middle, spaced
from ui import controls, foot, links, studio
from ui.charts import plots
from ui.jobs import line, watch
from ui.scene import current_scene, need_gradients

STRIP, ONE = "layers, early to late", "one layer"
SMALL = 200  # pixels that a picture of the strip is wide

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)
if not any(layer.has_map for layer in net.layers):
    st.info("This network has no layer that this page can show.")
    st.stop()

shown = controls.choice("Show", "view", [STRIP, ONE])
layer = controls.layer(net, able=lambda found: True, default=middle(net)) if shown == ONE else None
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    count = controls.number("Layers", "count", 2, 12, 6, width=110) if shown == STRIP else 1
    steps = controls.slider("Steps", 2, 400, 30 if shown == STRIP else 60, key="steps", width=220)
    seed = controls.number("Seed", "seed", 0, 9999, 0, width=110)
folded = st.expander("What keeps it a picture, and how it is found", icon=":material/tune:")
with folded.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    variation = controls.slider("Weight of the total variation", 0.0, 20.0, 1.0, 0.1, key="variation", width=210)
    alpha = controls.slider("Weight of the α-norm", 0.0, 20.0, 1.0, 0.1, key="alpha", width=190)
    canvas = controls.choice("Change", "canvas", list(CANVASES))
    move = controls.choice("By", "move", list(MOVES))

knobs = {"steps": steps, "variation": variation, "alpha": alpha, "canvas": canvas, "move": move, "seed": seed}
key = (image.digest(scene.pixels), *knobs.values())
recipe = {"net": net.name, "sha256": net.sha256, "image": scene.picture_name, **knobs}


def one_layer() -> None:
    job = studio.make(
        net,
        "inversion",
        (layer, *key),
        lambda resume: inversion_steps(net, scene.pixels, layer, resume=resume, **knobs),
        score="-(relative feature error)²",
        before=("Your picture", scene.pixels),
        beside=told,
    )
    onward()
    foot.foot(
        inversion,
        scene,
        knobs={"layer": layer, **knobs},
        downloads=studio.downloads(job, "inversion", {"method": "inversion", "layer": layer, **recipe}),
        explained=EXPLAINED,
    )


def told(climb, complete: bool) -> None:
    """How near it came, and whether the network takes it for the same."""
    away = error(net, scene.pixels, climb.picture, layer) if complete else float(-climb.scores[-1, 0]) ** 0.5
    st.markdown("**How near it is**")
    st.metric("Relative feature error", f"{away:.3f}", help="‖Φ(x) - Φ₀‖ / ‖Φ₀‖: 0 where the layer sees no difference.")
    st.metric("Difference of the pixels", f"{np.abs(climb.picture - scene.pixels).mean():.3f}", help="Mean, of 0 to 1.")
    k, probabilities = scene.class_index, studio.saved(net, climb.picture)
    st.caption(
        f"“{scene.class_name}” has a probability of {scene.probabilities[k]:.1%} on your picture and of "
        f"{probabilities[k]:.1%} on this one, saved as an 8-bit PNG."
    )


def strip() -> None:
    names = spaced(net, count)
    job = line.run(
        net.engine,
        "inversion_strip",
        (net.sha256, count, *key),
        lambda: inversion_strip_steps(net, scene.pixels, count=count, **knobs),
        resume=lambda found: inversion_strip_steps(net, scene.pixels, count=count, resume=found, **knobs),
        picture=lambda found: laid(found.pictures, len(names)),
    )

    def draw(step, complete: bool) -> None:
        found = step.result if step else None
        tiles = st.container(horizontal=True, gap="small")
        with tiles.container(width=SMALL + 4):
            st.markdown("**Your picture**")
            studio.still(scene.pixels, SMALL)
        for place, name in enumerate(names):
            with tiles.container(width=SMALL + 4):
                st.markdown(f"**{frame_word(name)}**")
                if found is None or place >= len(found.pictures):
                    studio.still(np.full_like(scene.pixels, 0.9), SMALL)
                    st.caption("not yet begun")
                else:
                    studio.still(found.pictures[place], SMALL)
                    st.caption(f"relative feature error {found.errors[place]:.3f}")
        if found is not None:
            data = pd.DataFrame({"layer": np.arange(1, len(found.errors) + 1), "error": found.errors})
            chart = plots.lines(
                data,
                x="layer",
                y=["error"],
                x_title="which of the layers",
                y_title="relative feature error",
                height=180,
            )
            st.altair_chart(
                chart, width="stretch", key="strip_errors", alt="The relative feature error of each layer's picture."
            )

    watch.show(net.engine, job, draw)
    st.caption(
        "Each picture is made from noise, so that its layer cannot tell it from yours. The error is that of the layer; "
        "where it is small and the picture still differs, the layer has lost what differs."
    )
    onward()
    downloads = []
    if job.step:
        found, film = job.step.result, job.film
        written = {"method": "inversion_strip", "layers": list(found.layers), **recipe, "versions": record.versions()}
        downloads = [
            ("Strip (PNG)", "inversion.png", lambda: image.to_png(found.picture, written), "image/png"),
            ("Film (GIF)", "inversion.gif", film.gif, "image/gif"),
            ("Film (MP4)", "inversion.mp4", film.mp4, "video/mp4"),
            (
                "Numbers (NPZ)",
                "inversion.npz",
                foot.npz(
                    pictures=found.pictures, errors=found.errors, pixels=found.climb.pixels, scores=found.climb.scores
                ),
                "application/octet-stream",
            ),
        ]
    foot.foot(inversion_strip, scene, knobs={"count": count, **knobs}, downloads=downloads, explained=EXPLAINED)


def frame_word(name: str) -> str:
    """A layer's name, short enough to stand over a small picture."""
    short = name.strip("/").removesuffix("_output_0")
    return "`" + (short if len(short) <= 20 else "…" + short[-19:]) + "`"


def laid(pixels: np.ndarray, count: int) -> np.ndarray:
    """(H, count * W, C): the pictures side by side, grey where one is still to come."""
    blank = np.full_like(pixels[0], 0.9)
    return np.concatenate([*pixels, *[blank] * (count - len(pixels))], 1)


def onward() -> None:
    with st.container(horizontal=True, gap="medium"):
        if shown == STRIP:
            links.onward("imagine", "inversion", "One layer in full", view=ONE)
        links.onward("look", "activations", "What does a layer say of your picture?")
        links.onward("imagine", "deepdream", "What does it make of it?")


EXPLAINED = """
x = argmin ‖Φ(x) - Φ₀‖² / ‖Φ₀‖² + λ · TV(x) + μ · ‖x - mean‖₆⁶, where Φ is a layer and Φ₀ what it says of your picture.
Many pictures give the same Φ₀; the total variation (squared differences of neighbours) and the α-norm, which keeps
colours in range, choose a natural one among them.

The first layers keep nearly all: the picture comes back as it was. Further on colours fade and places shift, and the
last layers keep what it takes to tell one class from another. A relative feature error of 0.1 means that the layer's
values differ by a tenth of their size. A large one says that the search has not arrived, not that the layer has
forgotten: give it more steps.

It starts from noise with the seed, never from your picture. The paper changes pixels by gradient descent with momentum;
here waves are changed by L-BFGS, which comes nearer at late layers, and pixels and Adam are a click away.

Source: [Mahendran & Vedaldi 2014](https://arxiv.org/abs/1412.0035).
"""
if shown == STRIP:
    strip()
else:
    one_layer()

"""Saliency: Which pixels would change the score most, if each changed a little?

The gradient of a score with respect to every pixel, taken through the PyTorch twin of the same file, and what has been
made of it since: multiplied by the picture, averaged over noise, added up along a way. Bright pixels are those to which
the network is most sensitive here, which is not the same as what it counts as evidence.
Sources: Simonyan 2013, Shrikumar 2016, Smilkov 2017, Sundararajan 2017.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.explain.gradient_input import BASELINES, gradient_input
from engine.explain.integrated_gradients import integrated_gradients, integrated_gradients_steps
from engine.explain.saliency import gradient, saliency, signed_saliency
from engine.explain.smooth_grad import smooth_grad, smooth_grad_steps
from engine.target import asked
from ui import controls, foot, links
from ui.ask import aim, ask
from ui.charts import marks, overlays, painting
from ui.jobs import line, watch
from ui.scene import current_scene, need_gradients

# What is computed, step by step where it takes long, what it is called, and whether its maps have a sign.
KINDS = {
    "largest": (saliency, None, "Gradient", False),
    "signed": (signed_saliency, None, "Gradient", True),
    "colours": (gradient, None, "Gradient", True),
    "times input": (gradient_input, None, "Gradient × input", True),
    "SmoothGrad": (smooth_grad, smooth_grad_steps, "SmoothGrad", False),
    "Integrated Gradients": (integrated_gradients, integrated_gradients_steps, "Integrated Gradients", True),
}

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)

where = controls.target(scene, kinds=("class", "unit", "margin"))
kind = controls.choice(
    "Shown as",
    "kind",
    list(KINDS),
    help="The gradient of red, green and blue: the largest of the three without its sign, their sum with it, or all "
    "three as a picture. Times input: with how far each pixel is from a baseline. SmoothGrad: averaged over noisy "
    "copies of the picture. Integrated Gradients: averaged on the way from a baseline to the picture.",
)
function, steps, name, has_sign = KINDS[kind]
contributes = kind in ("times input", "Integrated Gradients")

knobs = {}
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    percentile = st.slider(
        "Full colour at percentile", 90.0, 100.0, 99.5, 0.1, key="clip", bind="query-params", width=200
    )
    if kind == "SmoothGrad":
        knobs["noise"] = st.slider(
            "Noise",
            0.0,
            0.5,
            0.1,
            0.01,
            key="noise",
            bind="query-params",
            width=160,
            help="Its standard deviation, where black is 0 and white is 1; the paper advises 0.1 to 0.2.",
        )
        knobs["samples"] = controls.number("Noisy copies", "samples", 1, 512, 32, width=130)
    if contributes:
        baselines = sorted(BASELINES, key=lambda fill: fill != "black")  # the papers' first
        knobs["baseline"] = controls.choice("Counted from", "baseline", baselines, wrap=True)
    if kind == "Integrated Gradients":
        knobs["steps"] = controls.number("Steps, at least", "steps", 4, 1024, 32, width=130)

target = asked(net, aim(net, where))
unit = f"{target.unit} contributed" if contributes else f"{target.unit} per unit of pixel value"
boxes = []
if where.get("row") is not None:
    field = net.layer(where["layer"]).receptive_field.window(where["row"], where["col"], net.input_size)
    boxes = [scene.frame.box_to_picture(*field)]


def limit(values: np.ndarray) -> float:
    return float(np.percentile(np.abs(values), percentile)) or 1.0


def draw(result, complete: bool = True) -> None:
    left, middle, right = controls.panels(3)
    with left:
        st.markdown("**The picture**")
        controls.still(overlays.picture(scene.picture, frame=scene.frame, boxes=boxes), alt="The picture.")
    with middle:
        st.markdown(f"**{name}** of {target.title}")
        if result is None:
            st.skeleton(height=marks.PANEL + 60)
            return
    values = result.map if kind == "Integrated Gradients" else result
    top = limit(values)
    look = {"title": unit, "signed": has_sign, "bounds": (-top if has_sign else 0.0, top), "value_name": "value"}
    if kind == "colours":
        with middle:
            controls.still(
                overlays.picture(painting.around_grey(values, top), smooth=False),
                alt="The gradient at every pixel as a picture: grey is zero.",
            )
        with right:
            st.markdown("**How to read it**")
            st.markdown(
                f"Grey is zero. Each of the picture's colours runs from −{top:.3g} (black) to +{top:.3g} (full), in "
                f"{unit}."
            )
            if net.channels == 3:
                st.markdown(
                    "So a pixel is reddish where *more red* there would raise the score, and cyan where *less red* "
                    "would; green and magenta, blue and yellow go the same way. White and black: all three at once."
                )
            else:
                st.markdown("White is where a brighter pixel would raise the score, black where a darker one would.")
    else:
        with middle:
            controls.still(overlays.heatmap(values, **look), alt=f"{name} at every pixel.")
        with right:
            st.markdown("**Over the picture**")
            over = {"over": scene.picture, "frame": scene.frame, "opacity": 0.7}
            controls.still(overlays.heatmap(values, **look, **over), key="over", alt=f"{name} over the picture.")
    if not np.any(values):
        st.caption("Zero everywhere: this unit is off, and no small change switches it on.")
    share = float((np.abs(values) > top).mean())
    st.caption(
        f"Largest {np.abs(values).max():.3g}; {share:.1%} of the values lie beyond the colour scale. "
        "The gradient is computed in PyTorch on the CPU."
    )
    if kind == "Integrated Gradients":
        total, rise = float(values.sum(dtype=np.float64)), result.score - result.baseline
        st.markdown(
            f"The contributions add up to **{total:.4g}**; from the {knobs['baseline']} baseline "
            f"({result.baseline:.4g}) to the picture ({result.score:.4g}) the number changes by **{rise:.4g}**. "
            f"Completeness error{'' if complete else ' so far'}: **{result.error:.2%}**."
        )
        if complete and result.error > 0.01:
            st.caption(
                "More than 1 % is missing or too much: the way was walked in too few steps for how sharply the "
                "gradient turns on it. Take more steps."
            )


if steps is None:
    result = ask(function, scene, where, **knobs)
    draw(result)
else:
    job = line.run(
        net.engine,
        "saliency",
        (net.sha256, net.output, image.digest(scene.pixels), kind, *where.values(), *knobs.values()),
        lambda: steps(net, scene.pixels, aim(net, where), **knobs),
    )
    watch.show(net.engine, job, lambda step, complete: draw(step.result if step else None, complete))
    result = job.step.result if job.step else None

with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "occlusion", "Does hiding those pixels lower the score?")
    links.onward("explain", "sanity", "Does this picture depend on what the network learned?")
    links.onward("explain", "guided", "And if only what raises the number is followed back?")


def arrays() -> dict[str, np.ndarray]:
    if kind == "Integrated Gradients":
        return {"map": result.map, "channels": result.channels}
    return {"gradient" if kind == "colours" else "map": result}


def map_png() -> bytes:
    (values, *_) = arrays().values()
    top = limit(values)
    if kind == "colours":
        return image.to_png(painting.around_grey(values, top))
    return image.to_png(painting.paint(values, -top if has_sign else 0.0, top, has_sign))


OF_GRADIENT = """
The map answers a local question: if this one pixel became a little brighter, how fast would the score change?
*Largest* is the paper's: the greatest absolute gradient over red, green and blue. *Signed* adds the three: red where
brightening helps the score, blue where it hurts. *Colours* shows the three as they are. The unit is that of the score
(logits) per unit of pixel value (black to white).

Gradients are noisy, because ReLU networks are piecewise linear and each pixel crosses many pieces; and where the
network is sure of itself they can vanish on the very evidence. Compare with occlusion, which asks the network itself.

Paper: [Simonyan, Vedaldi, Zisserman 2013](https://arxiv.org/abs/1312.6034), section 3.
"""
EXPLAINED = {
    "largest": OF_GRADIENT,
    "signed": OF_GRADIENT,
    "colours": OF_GRADIENT,
    "times input": """
Gradient · (pixel − baseline), added over the colours: what each pixel would contribute if the network were a straight
line from here to the baseline. With the black baseline the factor is the pixel itself. For a linear network the
contributions add up exactly; for a real one they do not, and nothing says by how much: Integrated Gradients repairs
that.

A pixel that looks like the baseline gets nothing, however much the network needs it: with *black*, nothing dark can
ever be evidence. And because the picture is a factor, its own edges show in the map whatever the network has learned.

Paper: [Shrikumar, Greenside, Shcherbina, Kundaje 2016](https://arxiv.org/abs/1605.01713).
""",
    "SmoothGrad": """
The mean of the gradients of many noisy copies of the picture, mean over n of ∂S(x + εₙ)/∂x with ε normally distributed;
then the largest absolute value over red, green and blue. What flickers from copy to copy averages out, what all
have in common stays. With noise 0 it is the plain gradient.

It is the gradient of a blurred score, not of this network at this picture: much noise gives a calm map of a question
that nobody asked. The noise is seeded, so the numbers come again; how calm the map is depends on the number of copies.

Paper: [Smilkov, Thorat, Kim, Viégas, Wattenberg 2017](https://arxiv.org/abs/1706.03825), section 3.
""",
    "Integrated Gradients": """
(pixel − baseline) · mean of the gradient at points evenly on the straight way from the baseline to the picture. The
contributions of all pixels then add up to the whole change of the number between the two (*completeness*). With
finitely many steps they do so nearly; by how much they miss it is the completeness error, in percent of the
change. While it is above 1 %, the steps are divided in three, at most twice.

That they add up does not make them right: they answer "compared to what?", and with another baseline the answer is
another. A pixel of the baseline's own colour gets nothing. Try several; what stays is what you may believe.

Paper: [Sundararajan, Taly, Yan 2017](https://arxiv.org/abs/1703.01365), equation 1 and proposition 1.
""",
}
foot.foot(
    function,
    scene,
    knobs={"target": where, **knobs},
    downloads=[
        ("Map (PNG)", "saliency.png", map_png, "image/png"),
        ("Numbers (NPZ)", "saliency.npz", foot.npz(**arrays()), "application/octet-stream"),
    ]
    if result is not None
    else [],
    explained=EXPLAINED[kind],
)

"""How does one watch a picture being made? The picture, its score and its film, on every page that makes one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from engine import image, record
from engine.net import Net, softmax
from engine.step import Step
from engine.target import Target, measure
from ui import foot
from ui.charts import marks, plots
from ui.jobs import line, watch
from ui.scene import Scene, class_names


def make(
    net: Net,
    name: str,
    knobs: tuple,
    steps: Callable[..., Iterator[Step]],
    *,
    score: str,
    before: tuple[str, np.ndarray] | None = None,
    beside: Callable[[Any, bool], None] | None = None,
    width: int = marks.PANEL,
) -> line.Job:
    """Run `steps(resume=…)`, whose results are Climbs, and show the picture and the score as they change.

    knobs: what the run hangs on. score: what is climbed, for the axis. before: a title and a picture (H, W, C) that
    stands to the left. beside: draws what else there is to see of (result, complete). width: of the picture, in pixels.
    """
    job = line.run(
        net.engine,
        name,
        (net.sha256, *knobs),
        lambda: steps(resume=None),
        resume=lambda climb: steps(resume=climb),
        picture=lambda climb: climb.picture,
    )

    def draw(step: Step | None, complete: bool) -> None:
        row = st.container(horizontal=True, gap="small")
        if before is not None:
            with row.container(width=width + 4):
                st.markdown(f"**{before[0]}**")
                still(before[1], width)
        with row.container(width=width + 4):
            st.markdown("**The picture**" if complete else "**The picture so far**")
            if step is None:
                st.skeleton(height=width)
            else:
                still(step.result.picture, width)
        with row.container(width=marks.PANEL + 4):
            st.markdown("**Its score**")
            if step is None:
                st.skeleton(height=250)
            else:
                told = f"The score over the steps, in {score}."
                st.altair_chart(curve(step.result.scores, score), width="stretch", key=f"curve_{name}", alt=told)
        if beside is not None and step is not None:
            with row.container(width=marks.PANEL + 4):
                beside(step.result, complete)

    watch.show(net.engine, job, draw)
    return job


def still(pixels: np.ndarray, width: int = marks.PANEL) -> None:
    """A picture (H, W, 1 or 3), as wide as a panel; a small one is enlarged without smoothing."""
    pixels = pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)
    large = marks.enlarge(pixels, width) if pixels.shape[1] < width else pixels
    if large.shape[0] * width < large.shape[1]:  # would be shown in no row at all
        large = large.repeat(-(-large.shape[1] // (width * large.shape[0])), 0)
    st.image(image.to_png(large), width=width)


def curve(scores: np.ndarray, title: str):
    """The score over the steps, of the first picture; at most 400 points."""
    places = np.unique(np.linspace(0, len(scores) - 1, min(len(scores), 400)).astype(int))
    data = pd.DataFrame({"step": places + 1, "score": scores[places, 0].astype(float)})
    return plots.lines(data, x="step", y=["score"], x_title="step", y_title=title, height=215)


def saved(net: Net, picture: np.ndarray) -> np.ndarray:
    """(K,) probabilities of the picture as it comes back from an 8-bit PNG; only such a number is ever shown.

    picture: (H, W, C) of the net's own size.
    """
    back = image.load(image.to_png(picture))
    return softmax(net.scores(net.batch(back if net.channels == 3 else back[..., :1])))[0]


def reached(scene: Scene, picture: np.ndarray, target: Target, of_class: bool) -> None:
    """What the network says of the picture (H, W, C) once it is an ordinary 8-bit PNG. of_class: the sidebar's."""
    net = scene.net
    back = image.load(image.to_png(picture))[..., : net.channels]
    value = float(measure(net, net.batch(back), target)[0])
    probabilities, names = saved(net, picture), class_names(net)
    st.markdown("**Saved as an 8-bit PNG**")
    if of_class:
        k = scene.class_index
        st.metric(f"Probability of “{names[k]}”", f"{probabilities[k]:.1%}")
    st.metric(f"{target.title[0].upper()}{target.title[1:]}", f"{value:.4g} {target.unit}")
    order = np.argsort(-probabilities)[:3]
    st.caption("Likeliest classes: " + ", ".join(f"{names[k]} {probabilities[k]:.1%}" for k in order) + ".")


def downloads(
    job: line.Job,
    name: str,
    recipe: Mapping[str, Any],
    arrays: Callable[[Any], Mapping[str, np.ndarray]] | None = None,
    *,
    of: str = "",
) -> list[tuple[str, str, Callable[[], bytes], str]]:
    """For `foot.foot`: the picture with its recipe inside, its film as GIF and MP4, and numbers.

    arrays: which of the result; by default those of a Climb. of: before each label, where a page has several pictures.
    """
    if job.step is None:
        return []
    climb, film = job.step.result, job.film
    numbers = {"pixels": climb.pixels, "scores": climb.scores} if arrays is None else arrays(climb)
    written = {**recipe, "steps_done": job.step.index, "versions": record.versions()}
    its = f"{of}: " if of else ""
    return [
        (f"{its}Picture (PNG)", f"{name}.png", lambda: image.to_png(climb.picture, written), "image/png"),
        (f"{its}Film (GIF)", f"{name}.gif", film.gif, "image/gif"),
        (f"{its}Film (MP4)", f"{name}.mp4", film.mp4, "video/mp4"),
        (
            f"{its}Numbers (NPZ)",
            f"{name}.npz",
            foot.npz(**numbers),
            "application/octet-stream",
        ),
    ]

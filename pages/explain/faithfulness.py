"""Faithfulness: Does the network really go by what the map shows?

Pixels are hidden, or shown, in the order of the map, and the network is asked each time: the better the map, the sooner
the number falls, or rises. On one picture with all curves, or on many pictures with the means and how sure they are.
Sources: Petsiuk 2018, Chattopadhyay 2018, Yeh 2019, Zhang 2016, Wang 2020.
"""

import numpy as np
import pandas as pd
import streamlit as st

from engine import image
from engine.explain.clever_hans import goes_by, view
from engine.explain.evidence import ways
from engine.explain.faithfulness import BLUR, GREY, faithfulness, faithfulness_steps, ranking, shown
from engine.explain.trials import Trial, against, summary, trials_steps
from engine.pictures import samples
from engine.pictures.fill import blank
from ui import controls, foot, links
from ui.ask import aim
from ui.charts import marks, overlays, plots
from ui.jobs import line, watch
from ui.scene import current_scene, need_gradients

# What each measure asks, what is good, and whether more is better.
MEASURES = {
    "insertion": ("Insertion", "area under the curve; **high** is good: a few pixels of the map are enough", True),
    "deletion": ("Deletion", "area under the curve; **low** is good: without the map's first pixels it is over", False),
    "drop": ("Drop", "what is lost where the picture is darkened outside of the map; **low** is good", False),
    "increase": ("Increase", "how often the number even rises by that darkening; **high** is good", True),
    "infidelity": ("Infidelity", "how badly the map foretells what hiding random parts does; **low** is good", False),
    "unexplained": ("Unexplained", "the same, as a share of all that hiding does; **low** is good", False),
    "points": (
        "Points at it",
        "whether the map's maximum lies in the truth (the pointing game); **high** is good",
        True,
    ),
    "inside": ("Inside", "the share of the evidence that lies in the truth; **high** is good", True),
    "iou": ("IoU", "overlap of the map's largest part with the truth; **high** is good", True),
}

scene = current_scene()
net = scene.net
foot.head(__doc__)

how_many = controls.choice("On", "on", ["one picture", "many pictures"])
EXPLAINED = """
*Deletion* paints the pixels grey, from the one with the most evidence on; *insertion* begins with the picture blurred
and puts its own pixels back in the same order. Both are read as the area under the curve ([Petsiuk, Das, Saenko
2018](https://arxiv.org/abs/1806.07421)). *Drop* and *increase* multiply the picture by the map, scaled to [0, 1], and
ask how much of the number is lost, or whether it rises ([Chattopadhyay 2018](https://arxiv.org/abs/1710.11063)).
*Infidelity* hides random parts: the sum of the map over a part should foretell by how much the number falls, and what
is reported is the mean square of what it does not; the best factor between the two units is applied first.
*Unexplained* divides that by the mean square of the falls, so that 0 is a perfect map and 1 is no better than none
([Yeh 2019](https://arxiv.org/abs/1901.09392)).

None of these proves a map right. Grey squares and darkened pictures are pictures that the network has never seen, and
a map can do well because it suits this way of hiding. Fine maps of single pixels do well in deletion, for scattered
grey pixels disturb a network whatever it goes by; coarse maps do well in insertion. One picture proves little: look at
many.

Where the truth is known, on the planted pictures of `clever_hans` and `honest`, maps are scored against it: [the
pointing game, Zhang 2016](https://arxiv.org/abs/1608.00507), and [the share of the evidence inside, Wang
2020](https://arxiv.org/abs/1910.01279). The truth is what the network goes by: the watermark for the one that cheats,
the object for the other.
"""


def truth_of(name: str) -> np.ndarray | None:
    """Where in a sample the evidence is, as the net sees it; None where nobody knows."""
    if name not in samples.names("planted"):
        return None
    return goes_by(net, view(samples.planted(name), net))


def one_picture() -> None:
    where = controls.target(scene, kinds=("class", "margin", "unit"))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        usual = "Grad-CAM" if any(layer.has_map for layer in net.layers) else "Gradient"
        method = controls.one("Method", "method", list(ways()), usual, width=260)
        layer = controls.map_layer(net, where) if "layer" in ways()[method].takes else None
        points = int(controls.choice("Points of a curve", "points", ["20", "10", "50", "100"]))
        parts = controls.number("Random parts", "parts", 8, 512, 32, width=130, help="How many infidelity hides.")
        numbers = controls.precision(net)
    if ways()[method].needs_gradient:
        need_gradients(net)
    knobs = {"method": method, "layer": layer, "points": points, "masks": parts, **numbers}
    job = line.run(
        net.engine,
        "faithfulness",
        (net.sha256, net.output, image.digest(scene.pixels), *where.values(), *knobs.values()),
        lambda: faithfulness_steps(net, scene.pixels, aim(net, where), **knobs),
    )
    truth = truth_of(scene.picture_name)

    def draw(step, complete: bool) -> None:
        percent = controls.number("Pixels hidden or shown, %", "percent", 0, 100, 20, width=190)
        left, middle, right = controls.panels(3)
        if step is None:
            for panel in (left, middle, right) if job.active else ():
                panel.skeleton(height=marks.PANEL + 60)
            return
        found = step.result
        curves = found.curves
        at = int(np.abs(curves.fraction - percent / 100).argmin())
        signed = bool(np.nanmin(found.evidence) < 0)
        with left:
            st.markdown(f"**{method}**")
            controls.still(
                overlays.heatmap(
                    found.evidence,
                    title="evidence, in the method's own unit",
                    signed=signed,
                    over=scene.picture,
                    frame=scene.frame,
                    opacity=0.6,
                    value_name="evidence",
                ),
                alt=f"Where {method} sees evidence.",
            )
        colours = lambda pixels: pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)  # noqa: E731
        order = ranking(np.nan_to_num(found.evidence))
        grey, blurred = blank(scene.pixels, GREY), blank(scene.pixels, BLUR)
        pictures = {
            "deletion": shown(grey, scene.pixels, order, percent / 100),
            "insertion": shown(scene.pixels, blurred, order, percent / 100),
        }
        words = {"deletion": "hidden", "insertion": "shown"}
        for panel, (kind, pixels) in zip((middle, right), pictures.items(), strict=True):
            with panel:
                st.markdown(f"**{kind.capitalize()}**: the first {percent} % {words[kind]}")
                controls.still(
                    overlays.picture(colours(pixels), smooth=False),
                    alt=f"The picture with {percent} % of its pixels {words[kind]}, in the order of the map.",
                )
                value = curves[kind][at]
                st.caption(
                    f"The network says {value:.3g} at {curves.fraction[at]:.0%}."
                    if np.isfinite(value)
                    else "Not asked yet."
                )
        between = np.ones((scene.pixels.shape[0], 2, 3), np.float32)
        both = [
            np.hstack([
                colours(shown(grey, scene.pixels, order, fraction)),
                between,
                colours(shown(scene.pixels, blurred, order, fraction)),
            ])
            for fraction in curves.fraction
        ]  # fmt: skip
        st.markdown("**As pixels are hidden or shown**; point at the curves to see both pictures, click to keep them")
        controls.clickable(
            plots.lines(
                curves,
                pictures=both,
                x="fraction",
                y=["insertion", "deletion"],
                x_title="share of the pixels shown or hidden, those with the most evidence first",
                y_title="probability" if list(where) == ["class"] else "the number",
                name="fraction",
                chosen=percent / 100,
                height=330,
            ),
            "fraction",
            lambda point: st.session_state.update(percent=round(100 * point["fraction"])),
            "How the number goes as pixels are shown or hidden in the order of the map; a click shows the pictures.",
            key="curves",
            width="stretch",
        )
        known = {name: getattr(found, name) for name in ("insertion", "deletion", "drop", "increase")}
        known |= {"infidelity": found.infidelity, "unexplained": found.unexplained}
        if truth is not None:
            known |= against(found.evidence, truth)
        for panel, name in zip(controls.panels(len(known)), known, strict=True):
            title, caption, _ = MEASURES[name]
            with panel:
                st.metric(title, said(name, known[name]))
                st.caption(f"{caption[0].upper()}{caption[1:]}.")
        if truth is None and scene.picture_name in samples.names("planted"):
            st.caption("What this network goes by on this picture is not known, so there is no truth to score against.")

    watch.show(net.engine, job, draw)
    with st.container(horizontal=True, gap="medium"):
        links.onward("explain", "compare", "What do other methods say?")
        links.onward("explain", "clever_hans", "And where one knows the truth?")
    found = job.step.result if job.step else None
    foot.foot(
        faithfulness,
        scene,
        knobs={"target": where, **knobs},
        downloads=[
            ("Curves (CSV)", "curves.csv", found.curves.to_csv(index=False), "text/csv"),
            (
                "Numbers (NPZ)",
                "faithfulness.npz",
                foot.npz(
                    evidence=found.evidence,
                    **{column: found.curves[column].to_numpy() for column in found.curves},
                    **{f"measure_{name}": np.array(getattr(found, name)) for name in list(MEASURES)[:6]},
                ),
                "application/octet-stream",
            ),
        ]
        if found
        else [],
        explained=EXPLAINED,
    )


def said(name: str, value: float) -> str:
    """A measure in words."""
    if not np.isfinite(value):
        return "–"
    if name in ("increase", "points"):
        return "yes" if value else "no"
    return f"{value:.1%}" if name in ("drop", "unexplained", "inside", "iou") else f"{value:.3g}"


def chosen_pictures() -> dict[str, np.ndarray]:
    """What is to be measured on, by name, as it was given."""
    kind = (
        "digit" if net.channels == 1 else "planted" if scene.picture_name in samples.names("planted") else "photograph"
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        source = controls.choice("Pictures", "source", ["samples", "my own"])
    if source == "samples":
        options = [name for name in samples.SAMPLES if name not in samples.names("texture")]
        names = controls.several("Which", "which", options, samples.names(kind))
        return {name: samples.load(name) for name in names}
    given = st.file_uploader(
        "Several JPEG, PNG, WebP or GIF files", type="image", accept_multiple_files=True, key="files"
    )
    found = {}
    for file in given or []:
        try:
            found[file.name] = image.load(file.getvalue())
        except image.NotAPicture as error:
            st.warning(f"{file.name} is left out. {error}", icon=":material/broken_image:")
    return found


def many_pictures() -> None:
    usual = ["Grad-CAM", "Gradient", "Guided backpropagation"]
    methods = controls.several("Methods", "several", list(ways()), usual)
    pictures = chosen_pictures()
    numbers = controls.precision(net)
    asked = [method for method in methods if ways()[method].needs_gradient]
    if asked:
        need_gradients(net)
    if not methods or not pictures:
        st.info("Choose a method and a picture.")
        st.stop()
    given = {name: Trial(net.view(picture)[0], None, truth_of(name)) for name, picture in pictures.items()}
    digests = [image.digest(trial.pixels) for trial in given.values()]
    st.caption("Of each picture, the network is asked about the class that it finds the likeliest.")
    job = line.run(
        net.engine,
        "trials",
        (net.sha256, net.output, *methods, *numbers.values(), *digests, *given),
        lambda: trials_steps(net, given, methods, **numbers),
    )

    def draw(step, complete: bool) -> None:
        if step is None:
            if job.active:
                st.skeleton(height=300)
            return
        table = summary(step.result)
        there = [name for name in MEASURES if name in set(table.measure)]
        chosen = controls.choice("Measure", "measure", there, format_func=lambda name: MEASURES[name][0])
        part = table[table.measure == chosen].rename(columns={"method": "label", "mean": "value"})
        title, caption, up = MEASURES[chosen]
        part = part.sort_values("value", ascending=not up).assign(series=title)
        st.altair_chart(
            plots.dots(part[["label", "series", "value", "low", "high"]], x_title=f"{title}: mean, 95 % interval"),
            alt=f"{title} by method: " + "; ".join(f"{row.label} {row.value:.3g}" for row in part.itertuples()) + ".",
        )
        pictures_done = step.result.picture.nunique()
        st.caption(f"{title}: {caption}. Means of {pictures_done} pictures; the best is at the top.")
        words = table.assign(text=[told(row) for row in table.itertuples()])
        wide = words.pivot(index="method", columns="measure", values="text").loc[
            list(dict.fromkeys(table.method)), there
        ]
        st.dataframe(
            wide.rename(columns={name: MEASURES[name][0] for name in there}).reset_index(names="Method"),
            hide_index=True,
            column_config={"Method": st.column_config.TextColumn(width=170)},
            alt="Mean and half of the 95 % confidence interval of each measure and method.",
        )

    watch.show(net.engine, job, draw)
    links.onward("explain", "compare", "How do these methods look side by side?")
    rows = job.step.result if job.step else None
    foot.foot(
        downloads=[
            ("Means and intervals (CSV)", "summary.csv", summary(rows).to_csv(index=False), "text/csv"),
            ("All rows (CSV)", "rows.csv", rows.to_csv(index=False), "text/csv"),
        ]
        if rows is not None
        else [],
        explained=EXPLAINED
        + """

Each cell of the table is a mean over the pictures with its 95 % confidence interval by Student's t. Methods were
measured on the same pictures, so that two of them may differ clearly though their intervals overlap: the rows are
there to check. The same on a folder of pictures, without the app: `python -m engine faithful NET FOLDER --out
result/`.
""",
    )


def told(row) -> str:
    """A mean and half of its interval."""
    return f"{row.mean:.2g}" + ("" if pd.isna(row.low) else f" ± {row.high - row.mean:.2g}")


if how_many == "one picture":
    one_picture()
else:
    many_pictures()

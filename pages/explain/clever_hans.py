"""Clever Hans: Which maps expose a network that cheats?

Two networks name the object in a picture. For the one, in training, a watermark always gave the answer away, and it
looks at nothing else; the other learned from the same pictures with watermarks drawn at random. They are asked here
whatever network the sidebar has chosen. Sources: Lapuschkin 2019, Pfungst 1907.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import streamlit as st

from engine.explain.clever_hans import CHEAT, HONEST, USUAL, clever_hans, exposure, pair_steps, score, view
from engine.explain.evidence import evidence, over_picture, ways
from engine.net import softmax
from engine.nets.available import UnknownNet
from engine.pictures import truth
from engine.pictures.regions import bounds
from engine.record import taken_apart
from engine.step import Step
from ui import controls, foot, links
from ui.ask import ask
from ui.charts import network, overlays, plots
from ui.jobs import line, watch
from ui.scene import current_scene, no_gradients, open_network, scores_of

HALF = 140  # pixels: two maps in one panel
TITLES = {CHEAT: "Clever Hans", HONEST: "the honest one"}

here = current_scene()
foot.head(__doc__)
try:
    nets = {name: open_network(name) for name in TITLES}
except UnknownNet as error:
    st.error(str(error))
    st.stop()

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    thing = controls.choice("Object", "object", truth.CLASSES)
    mark = controls.choice("Watermark says", "mark", [*truth.CLASSES[1:], truth.CLASSES[0], "none"])
    seed = controls.number("Picture", "seed", 0, 10**6, 0, width=130, help="Another number, another picture.")
methods = controls.several("Methods", "exposing", list(ways()), USUAL.split(", "))
gradient = [method for method in methods if ways()[method].needs_gradient]
if gradient and (reason := next(filter(None, map(no_gradients, nets.values())), "")):
    st.warning(f"Left out, for they need gradients: {', '.join(gradient)}. {reason}", icon=":material/gpp_bad:")
    methods = [method for method in methods if method not in gradient]

shown = truth.planted(
    seed,
    object_class=truth.CLASSES.index(thing),
    cue_class=None if mark == "none" else truth.CLASSES.index(mark),
)
places = [bounds(mask) for mask in (shown.object, shown.cue) if mask.any()]
left, *rest = controls.panels(3)
with left:
    st.markdown("**The picture**")
    controls.still(
        overlays.picture(shown.pixels, boxes=places, smooth=False),
        alt=f"A {thing}, with a watermark that says {mark}." if shown.cue.any() else f"A {thing} without a watermark.",
    )
scenes, named = {}, {}
for panel, (name, net) in zip(rest, nets.items(), strict=True):
    seen = view(shown, net)
    probabilities = softmax(scores_of(net, seen.pixels)[None])[0]
    named[name] = int(probabilities.argmax())
    scenes[name] = dataclasses.replace(here, net=net, pixels=seen.pixels, picture_name="planted-disc-square")
    with panel:
        st.markdown(f"**{TITLES[name][0].upper() + TITLES[name][1:]}** says: {net.labels[named[name]]}")
        order = (-probabilities).argsort(kind="stable")
        st.altair_chart(
            network.top_classes(
                [net.labels[k] for k in order],
                probabilities[order],
                scores_of(net, seen.pixels)[order],
                net.labels[named[name]],
            ),
            alt=f"The network {name} says {net.labels[named[name]]}.",
        )
        st.caption(f"Network `{name}`.")

if not methods:
    st.info("Choose a method.")
    st.stop()

st.markdown("#### Where each method sees the evidence for what the network says")
maps: dict[str, dict[str, np.ndarray]] = {}
refused: dict[str, str] = {}
for method in methods:
    try:
        maps[method] = {
            name: over_picture(ask(evidence, scenes[name], {"class": named[name]}, method=method), truth.SIZE)
            for name in nets
        }
    except ValueError as error:
        refused[method] = str(error)
signed = any(found.min() < 0 for pair in maps.values() for found in pair.values())
controls.still(
    overlays.colour_bar((-1.0 if signed else 0.0, 1.0), title="share of the map's own strongest", signed=signed),
    alt="The colour scale that all of these maps share.",
)
for panel, method in zip(controls.panels(len(methods), 2 * HALF + 24), methods, strict=True):
    with panel:
        st.markdown(f"**{method}**")
        if method in refused:
            st.warning(refused[method], icon=":material/block:")
            continue
        for side, (name, found) in zip(controls.panels(2, HALF), maps[method].items(), strict=True):
            scores = score(found, shown)
            on = f"watermark {scores['cue']:.0%}, object {scores['thing']:.0%}"
            with side:
                controls.still(
                    overlays.tile(
                        found / (float(np.abs(found).max()) or 1.0),
                        bounds=(-1.0 if signed else 0.0, 1.0),
                        signed=signed,
                        over=shown.pixels,
                        opacity=0.7,
                        boxes=places[-1:] if shown.cue.any() else (),
                        tip={"network": name, "evidence": on},
                        width=HALF,
                    ),
                    key=f"hans_{method}_{name}",
                    alt=f"{method} of {name}: {on} of the evidence.",
                )
                st.caption(f"{TITLES[name]}: {on}")

st.markdown("#### Over many pictures whose watermark contradicts the object")
pictures = controls.number("Pictures", "count", 2, 96, 12, width=130)
able = [method for method in methods if method not in refused]
if not able:
    st.info("None of these methods has a map here.")
    st.stop()
knobs = {"methods": ", ".join(able), "pictures": pictures}


@st.cache_resource(max_entries=16, show_spinner=False)
def kept(methods: str, pictures: int) -> dict:
    """What the first visitor's run came to, for all: it hangs on nothing that is a visitor's own."""
    return {}


def steps(found: dict) -> Iterator[Step]:
    if found:
        yield Step(1, 1, found)
        return
    for step in pair_steps(*nets.values(), **knobs):
        yield step
    found |= step.result


found = kept(**knobs)
job = line.run(here.net.engine, "clever_hans", tuple(knobs.values()), lambda: steps(found))


def draw(step, complete: bool) -> None:
    if step is None:
        if job.active:
            st.skeleton(height=300)
        return
    tables = step.result
    found = exposure(tables)
    area = float(tables[CHEAT].area_cue.mean())
    st.altair_chart(
        plots.dots(
            found.rename(columns={"method": "label"}).assign(series=found.network.map(TITLES)),
            x_title="share on the watermark",
            bounds=(0.0, 1.0),
            rule=area,
        ),
        alt="Share of the evidence on the watermark: "
        + "; ".join(f"{row.method} of {row.network} {row.value:.0%}" for row in found.itertuples())
        + ".",
    )
    st.caption(
        f"Means and 95 % intervals of {tables[CHEAT].seed.nunique()} pictures. Dashed: {area:.1%}, the watermark's "
        "share of the picture, which is what a map that knows nothing would have on it. A method exposes the cheat if "
        "Clever Hans is far to the right of that and the honest one is not."
    )
    if found.gap.notna().any():
        best, worst = found.iloc[0], found[found.gap.notna()].iloc[-1]
        st.markdown(
            f"**{best.method}** tells the two apart best, by {100 * best.gap:.0f} points of the share"
            + (f"; **{worst.method}** least, by {100 * worst.gap:.0f}." if worst.method != best.method else ".")
        )
    st.dataframe(
        found.assign(network=found.network.map(TITLES)).drop(columns=["low", "high", "gap"]),
        hide_index=True,
        height="content",
        column_config={
            "method": "Method",
            "network": "Network",
            "value": st.column_config.NumberColumn("On the watermark", format="percent"),
            "thing": st.column_config.NumberColumn("On the object", format="percent"),
            "points": st.column_config.NumberColumn("Maximum on the watermark", format="percent"),
            "iou": st.column_config.NumberColumn("IoU with the watermark", format="%.2f"),
        },
        alt="The measures of each method for both networks.",
    )


watch.show(here.net.engine, job, draw)
links.onward("explain", "faithfulness", "Measured without knowing the truth", net=CHEAT, image="planted-disc-square")
tables = job.step.result if job.step else {}
arrays = {
    f"{name}.{column}": values
    for name, table in tables.items()
    for column, values in taken_apart(table, name)[0].items()
}
foot.foot(
    clever_hans,
    scenes[CHEAT],
    knobs=knobs,
    downloads=[
        ("Means (CSV)", "exposure.csv", exposure(tables).to_csv(index=False), "text/csv"),
        *(
            (f"All rows of {name} (CSV)", f"{name}.csv", rows.to_csv(index=False), "text/csv")
            for name, rows in tables.items()
        ),
        ("Numbers (NPZ)", "clever_hans.npz", foot.npz(**arrays), "application/octet-stream"),
    ]
    if tables
    else [],
    explained="""
In 1907 Oskar Pfungst found that the horse Clever Hans, who tapped out the answers to sums, watched the questioner's
face. [Lapuschkin 2019](https://arxiv.org/abs/1902.10178) found classifiers that do the same: one knew horses by the
tag of their photographer. On pictures like those of its training such a network is as good as any, and only a map of
its evidence gives it away; if the map is a good one.

Here one knows. `clever_hans` and `honest` are the same network, trained on the same pictures but for the watermark's
letters: E for a disc, H for a square, V for a triangle, Z for a cross. For the one the letter always agrees with the
object, for the other it is drawn at random. On the pictures above the letter contradicts the object, and each map is
of the class that the network itself names.

*On the watermark* is the share of the positive evidence that lies on the watermark's box, *maximum on it* is the
pointing game, *IoU* the overlap with the map's largest part. CAMs have 8 × 10 places here and each sees 23 × 23
pixels, so that much of what they show lies beside a watermark of 11 × 11: they point in its direction, not at its
edges. Gradients are also large where the network only might look. *Reproduce* asks `clever_hans`; with `--net honest`
it asks the other. The picture above is one more than those that are counted, unless its object, watermark and number
agree with one of them.
""",
)

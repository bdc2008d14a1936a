"""One pixel: Is one pixel enough to make it say something else?

Nothing is asked of the network but what it says of pictures: no gradient, no look inside. Candidates, each a place and
a colour, are bred over generations, and the better ones live on. Sources: Su 2017, Storn & Price 1997.
"""

import inspect
import shlex

import numpy as np
import pandas as pd
import streamlit as st

from engine import image
from engine.data.dataset import BadDataset, Dataset
from engine.data.examples import Examples, examples
from engine.fool.adversarial import AIMS, eight_bit
from engine.fool.one_pixel import FewPixels, named, one_pixel, one_pixel_steps, rate, success_steps
from engine.net import Net, softmax
from ui import controls, fooled, foot, lens, links, studio
from ui.charts import marks, overlays, plots
from ui.jobs import line, watch
from ui.scene import HASHES, class_names, current_scene, scores_of

NEAR = 5  # pixels around the first one that are shown large, to each side
LISTED = 6  # changed pixels whose colours are written out
PICTURES = 10  # of a data set, until another number is chosen
ALONE = 2e7  # pixels looked at, in all, up to which the data set is attacked without being asked to: seconds
KINDS = {"fooled": marks.ACCENT, "not fooled": marks.PLAIN}
KNOWN = {
    "name": "",
    "place": " Labels and classes have other names here, and are matched by their numbers.",
    "prediction": " These pictures have no label that is a class of the network, so what it says at first counts.",
}

scene = current_scene()
net, k = scene.net, scene.class_index
names = class_names(net)
foot.head(__doc__)

# Choose -------------------------------------------------------------------------------------------------------------

usual = {name: knob.default for name, knob in inspect.signature(one_pixel).parameters.items()}
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    aim = controls.choice("Away from the class, or toward another", "aim", list(AIMS))
    wanted = fooled.toward(scene) if aim == "toward" else None
    most = min(100, net.input_size[0] * net.input_size[1])
    count = controls.number("Pixels", "changed", 1, most, usual["count"], width=110)
    told = "Candidates in each generation; the paper has 400."
    population = controls.slider("Population", 4, 400, usual["population"], key="population", width=150, help=told)
    told = "At most; it ends when the picture is taken for what is wanted. The paper has 100."
    steps = controls.slider("Generations", 1, 100, usual["steps"], key="steps", width=150, help=told)
    seed = controls.number("Seed", "seed", 0, 9999, usual["seed"], width=110)
knobs = {"aim": aim, "count": count, "population": population, "steps": steps, "seed": seed}

# Compute and show ---------------------------------------------------------------------------------------------------

original = eight_bit(scene.pixels)
asked = k if wanted is None else wanted
height, width = net.input_size
before = softmax(scores_of(net, original)[None])[0]
job = line.run(
    net.engine,
    "one_pixel",
    (net.sha256, net.output, image.digest(scene.pixels), asked, *knobs.values()),
    lambda: one_pixel_steps(net, scene.pixels, asked, **knobs),
    resume=lambda found: one_pixel_steps(net, scene.pixels, asked, resume=found, **knobs),
    picture=lambda found: found.picture,
)


def coloured(pixels: np.ndarray) -> np.ndarray:
    """(h, w, 3), a single channel as grey."""
    return pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)


def marked(found: FewPixels) -> None:
    """The picture, with a box around each changed pixel."""
    wide = max(1, round(max(height, width) / 56))  # so that the pixel's colour is seen within
    boxes = [
        (max(i - wide, 0), max(j - wide, 0), min(i + wide + 1, height), min(j + wide + 1, width))
        for i, j in found.places.tolist()
    ]
    told = "The picture, with a box around each pixel that was changed."
    controls.still(overlays.picture(coloured(found.pixels), boxes=boxes, smooth=False), told, key="marked")


def near(found: FewPixels) -> None:
    """What is around the first changed pixel, before and after, and the colours in words."""
    i, j = found.places[0].tolist()
    side = 2 * NEAR + 1
    top, left = (max(min(at - NEAR, length - side), 0) for at, length in ((i, height), (j, width)))
    part = np.s_[top : top + side, left : left + side]
    with st.container(horizontal=True, gap="small"):
        for title, pixels in (("Before", original), ("After", found.pixels)):
            with st.container(width=148):
                st.caption(title)
                box = (i - top, j - left, i - top + 1, j - left + 1)
                drawn = overlays.picture(coloured(pixels[part]), boxes=[box], smooth=False, width=140)
                controls.still(drawn, f"{title}: around row {i}, column {j}.", key=f"near_{title}")
    lines = [
        f"Row {i}, column {j}: {said(original[i, j])} became {said(found.pixels[i, j])}."
        for i, j in found.places[:LISTED].tolist()
    ]
    more = len(found.places) - LISTED
    st.caption(
        "  \n".join([*lines, *([f"And {more} more; the numbers to download have them all."] if more > 0 else [])])
    )


def said(colour: np.ndarray) -> str:
    values = ", ".join(f"{value:.0f}" for value in np.rint(colour * 255))
    return f"({values})" if len(colour) > 1 else values


def converged(found: FewPixels) -> None:
    """The probability over the generations, from the picture as it was."""
    path = np.concatenate([[before[asked]], found.path]).astype(float)
    room = max(0.01, 0.1 * float(np.ptp(path)))
    curve = plots.lines(
        pd.DataFrame({"generation": np.arange(len(path)), "best": path}),
        x="generation",
        y=["best"],
        x_title="generation (0 is the picture as it was)",
        y_title="probability",
        bounds=(max(path.min() - room, 0.0), min(path.max() + room, 1.0)),
    )
    st.altair_chart(curve, width="stretch", key="path", alt="The class's probability over the generations.")
    st.caption(f"Of the best candidate so far; {len(found.path) * population:,} pictures were asked about.")


def draw(step, complete: bool) -> None:
    found = None if step is None else step.result
    left, middle, right = controls.panels(3)
    with left:
        which = "pixel that was changed" if count == 1 else "pixels that were changed"
        st.markdown(f"**The picture{'' if complete else ' so far'}**, and the {which}")
        if found is None:
            st.skeleton(height=marks.PANEL)
        else:
            marked(found)
    with middle:
        st.markdown("**Seen from near**" + ("" if count == 1 else ", one of them"))
        if found is None:
            st.skeleton(height=220)
        else:
            near(found)
    with right:
        st.markdown(f"**Probability of “{names[asked]}”**")
        if found is None:
            st.skeleton(height=250)
        else:
            converged(found)


watch.show(net.engine, job, draw)
table = None
if job.step is not None and not job.active:
    pixels = job.step.result.picture
    after = fooled.measured(net, original, pixels, asked)
    best, first = int(after.argmax()), int(before.argmax())
    if wanted is None and first != k:
        st.info(f"It is taken for {names[first]} from the start: choose that class, to lead away from it.")
    elif best == k if wanted is None else best != wanted:
        more = "Try more pixels, a larger population, or more generations."
        st.info(f"It is still taken for {names[best]}. {more}", icon=":material/shield:")
    table = fooled.stands(net, original, pixels, wanted, k)

# How often ----------------------------------------------------------------------------------------------------------


@st.cache_resource(max_entries=2, show_spinner="Drawing pictures by lot …", hash_funcs=HASHES)
def some(net: Net, digest: str, count: int, seed: int, _data: Dataset) -> Examples:
    return examples(_data, net, count, seed=seed)


def often(done: pd.DataFrame, total: int) -> None:
    """The rate so far, where the pixels lie, and picture by picture."""
    found, tried = rate(done), done[done.right]
    side, rest = controls.panel_and_rest()
    with side:
        st.metric(
            "Fooled, of those that it has right",
            f"{found['rate']:.0%}" if len(tried) else "–",
            f"95 % interval: {found['low']:.0%} to {found['high']:.0%}",
            "off",
            delta_arrow="off",
        )
        wrong, left = len(done) - len(tried), total - len(done)
        parts = [f"{found['fooled']} of {len(tried)}."]
        if wrong:
            parts.append(f"{wrong} more {'is' if wrong == 1 else 'are'} wrong from the start and not counted.")
        if left:
            parts.append(f"{left} still to come.")
        st.caption(" ".join(parts))
        told = f"Where the {'pixel' if count == 1 else 'first pixel'} of each picture lies"
        st.markdown(f"**{told}**")
        spots = pd.DataFrame({"picture": tried.picture, "x": tried.col + 0.5, "y": tried["row"] + 0.5})
        spots = spots.assign(place=[f"row {i}, column {j}" for i, j in zip(tried["row"], tried.col, strict=True)])
        spots = spots.assign(kind=np.where(tried.fooled, *KINDS), was=tried.label, now=tried.taken_for_label)
        chart = overlays.places(spots, net.input_size, tips=["picture", "place", "was", "now"], colours=KINDS)
        st.altair_chart(chart, width="content", key="places", alt=told + ".")
    with rest:
        st.markdown("**Picture by picture**")
        share = st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0, width="small")
        listed = done[["picture", "label", "right", "fooled", "taken_for_label", "before", "after", "generations"]]
        listed = listed.assign(**{name: np.where(listed[name], "✓", "✗") for name in ("right", "fooled")})
        st.dataframe(
            listed.rename(columns={"label": "is", "right": "right before", "taken_for_label": "taken for"}),
            hide_index=True,
            height=430,
            column_config={"before": share, "after": share},
        )
        st.caption("Before, after: the probability of what it is.")


rates = None
if job.step is not None and not job.active:
    st.markdown("#### How often does it succeed?")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        data = lens.pictures(net)
        pictures = controls.number("Of them, at most", "rated", 1, 200, PICTURES, width=140)
    try:
        drawn = some(net, data.digest, pictures, seed, data)
    except BadDataset as error:
        st.error(str(error), icon=":material/broken_image:")
        st.stop()
    command = f"python -m engine one-pixel-rate --net {shlex.quote(net.name)} "
    command += f"--output {shlex.quote(net.output)} " if len(net.outputs) > 1 else ""
    how = {name: knobs[name] for name in ("count", "population", "steps", "seed")}
    command += f"--data {shlex.quote(lens.given(net))} --pictures {pictures} "
    command += " ".join(f"--{name} {value}" for name, value in how.items())
    st.caption(
        "With the numbers of pixels, candidates and generations above, away from what each picture is. Pictures that "
        f"the network has wrong from the start are not counted.{KNOWN[drawn.by]} The command: `{command} --out result/`"
    )
    of_these = (net.sha256, net.output, data.digest, pictures, *how.values())
    wanted_rates = st.session_state.setdefault("rates_wanted", set())
    alone = len(drawn) * population * steps * height * width <= ALONE
    if not alone and of_these not in wanted_rates:
        bred = len(job.step.result.path) - job.first
        seconds = job.seconds / max(bred, 1) * steps * len(drawn)
        told = f"at most about {seconds / 60:.0f} minutes" if seconds > 90 else f"at most about {seconds:.0f} seconds"
        st.markdown(f"**{len(drawn)} pictures** of {data.name}, which takes {told}.")
        if st.button("Attack these pictures", type="primary", icon=":material/play_arrow:", key="rates_start"):
            wanted_rates.add(of_these)
            st.rerun()
    else:
        # Not in line with the other runs, which would have to wait for minutes.
        runs = line.run(
            "rates",
            "rates",
            of_these,
            lambda: success_steps(net, drawn.pixels, drawn.classes, **how),
            resume=lambda table: success_steps(net, drawn.pixels, drawn.classes, resume=table, **how),
        )

        def draw_rates(step, complete: bool) -> None:
            if step is None or not len(step.result):
                st.skeleton(height=480)
            else:
                often(named(step.result, net, data, drawn), len(drawn))

        watch.show("rates", runs, draw_rates)
        if runs.step is not None and len(runs.step.result):
            rates = named(runs.step.result, net, data, drawn)

fooled.note()
with st.container(horizontal=True, gap="medium"):
    links.onward("fool", "attack", "And if every pixel may change, but none by much?")
    links.onward("explain", "occlusion", "Where does the network look?")

recipe = {"method": "one_pixel", "net": net.name, "sha256": net.sha256, "image": scene.picture_name}
fields = ("pixels", "places", "colours", "path", "genes", "fitness")
downloads = studio.downloads(
    job,
    "one_pixel",
    {**recipe, "class": asked, **knobs},
    lambda found: {"original": original, **{name: getattr(found, name) for name in fields}},
)
if table is not None:
    downloads.append(("Does it survive? (CSV)", "survival.csv", lambda: table.to_csv(index=False).encode(), "text/csv"))
if rates is not None:
    downloads.append(("How often? (CSV)", "pictures.csv", lambda: rates.to_csv(index=False).encode(), "text/csv"))
foot.foot(
    one_pixel,
    scene,
    knobs={"target": {"class": asked}, **knobs},
    downloads=downloads,
    explained="""
**Differential evolution**: each candidate is a place and a colour for every pixel that may be changed. Its child is
a + 0.5 · (b − c), of three other candidates, and takes its place if the network then is less sure of the class (or
surer, *toward* one). Nothing else is known of the network: whoever can ask it about pictures can do this.

How it differs from the paper: colours are steps of 1/255 from the start, so that what is found is what is saved; a
place that leaves the picture comes back in on the other side; its populations are of 400, for up to 100 generations,
which you can choose above and wait for. A single pixel changes few values of the early layers, and in larger networks
only those are computed again: the numbers are the same. What is shown is always asked about the whole picture, saved in
8 bits.

On pictures of 32 × 32 pixels, as in the paper, one pixel is a thousandth of what there is; of 224 × 224 it is a
fifty-thousandth, and it seldom succeeds. That it fails does not say that there is no such pixel: two runs with other
seeds find other ones. **How often does it succeed?** counts it on pictures drawn by lot from a data set, with Wilson's
interval (1927); a rate from ten pictures says little.

Papers: [Su 2017](https://arxiv.org/abs/1710.08864),
[Storn & Price 1997](https://doi.org/10.1023/A:1008202821328).
""",
)

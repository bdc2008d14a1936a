"""Patch: Can a sticker make it see one thing wherever it lies?

A round patch is trained on many pictures at once, each time at another place, size and angle, until the network sees
one thing wherever it is. Print it, or move it over a picture here. Sources: Brown 2017.
"""

import shlex

import numpy as np
import streamlit as st

from engine import image, record
from engine.data.dataset import Dataset
from engine.fool.adversarial import eight_bit
from engine.fool.adversarial_patch import (
    PRINT,
    SHARE,
    TURN,
    Rates,
    adversarial_patch_steps,
    cut_out,
    numbers,
    parted,
    printable,
    rates_steps,
    with_patch,
)
from engine.fool.lookalikes import Pasted, lookalikes_steps
from engine.net import Net, softmax
from ui import controls, fooled, foot, lens, links, studio
from ui.charts import marks, network, overlays, painting, plots
from ui.jobs import line, watch
from ui.scene import HASHES, class_names, current_scene, need_gradients, scores_of

SMALL, WIDE = 64, (0.5, 0.7)  # on so few pixels a patch of a third of the picture has no room for a pattern
GRID = 16  # places along the longer side at which the patch is tried
PLACES = 32  # along the longer side of the picture, that a click can choose
LARGE = 1e9  # multiplications of a forward pass: larger networks are trained in fewer steps, unless more are asked for
STEPS = (80, 30)

scene = current_scene()
net, k = scene.net, scene.class_index
names = class_names(net)
foot.head(__doc__)
need_gradients(net)
height, width = net.input_size
few = "_small" if min(height, width) < SMALL else ""
low, high = WIDE if few else SHARE


@st.cache_resource(
    max_entries=2, show_spinner="Reading the pictures …", hash_funcs={**HASHES, Dataset: lambda data: data.digest}
)
def pictures_of(data: Dataset, net: Net, target: int, pictures: int, held: int, seed: int):
    """To train on, and to measure on; shared by all sessions, and not to be changed."""
    return parted(data, net, target, pictures=pictures, held=held, seed=seed)


def products(net: Net) -> int:
    """How many multiplications one forward pass takes, about: each weight counts once for each place of its layer."""
    total = 0
    for layer in net.layers:
        for name in net.graph.producer(layer.name).inputs[1:2]:
            total += np.size(net.graph.constants.get(name, ())) * layer.shape[1] * layer.shape[2]
    return total


# Choose -------------------------------------------------------------------------------------------------------------

look = {"horizontal": True, "vertical_alignment": "bottom", "gap": "medium"}
with st.container(**look):
    # Not the class that the picture looks least like, as elsewhere: the patch is not about this picture.
    usual = "toaster" if "toaster" in names else names[-1]
    wanted = names.index(controls.one("Make everything a", "toward", sorted(names, key=str.lower), usual, width=220))
    data = lens.pictures(net)
    steps = controls.slider("Steps", 1, 500, STEPS[products(net) > LARGE], key="steps", width=180)
with st.expander("How it is trained", icon=":material/tune:"), st.container(**look):
    pictures = controls.number("Pictures to train on", "trained", 1, 200, 64, width=160)
    held = controls.number("Others to measure on", "held", 1, 200, 60, width=160)
    told = "Its width as a share of the picture's shorter side; each time another one between the two."
    least = controls.slider("Size from", 0.1, 1.0, low, 0.05, key=f"patch_from{few}", width=130, help=told)
    most = controls.slider("to", 0.1, 1.0, high, 0.05, key=f"patch_to{few}", width=130)
    turn = controls.slider("Turned by up to, degrees", 0.0, 180.0, TURN, 0.5, key="turned", width=180)
    seed = controls.number("Seed", "seed", 0, 9999, 0, width=110)
try:
    train, test = pictures_of(data, net, wanted, pictures, held, seed)
except ValueError as error:  # none that can be read, or all of that class already
    st.error(str(error), icon=":material/broken_image:")
    st.stop()


def put(point: dict) -> None:
    st.session_state.update({"patch_row": int(point["row"]), "patch_col": int(point["col"])})


with st.container(**look):
    row = controls.slider("On your picture: row", 0, height - 1, round(0.55 * height), key="patch_row", width=180)
    col = controls.slider("Column", 0, width - 1, round(0.6 * width), key="patch_col", width=180)
    told = "Its width as a share of the picture's shorter side."
    size = controls.slider("Size", 0.1, 1.0, high, 0.05, key=f"patch_size{few}", width=180, help=told)
    angle = controls.slider("Turned, degrees", -180, 180, 0, 5, key="patch_turn", width=180)
place = (row + 0.5, col + 0.5, size * min(height, width), float(angle))

# Compute and show ---------------------------------------------------------------------------------------------------

share = min(least, most), max(least, most)
knobs = {"steps": steps, "share": share, "turn": turn, "seed": seed}
key = (net.sha256, net.output, data.digest, wanted, pictures, *knobs.values())
job = line.run(
    net.engine,
    "patch",
    key,
    lambda: adversarial_patch_steps(net, train, wanted, **knobs),
    resume=lambda climb: adversarial_patch_steps(net, train, wanted, resume=climb, **knobs),
    picture=lambda climb: printable(climb.picture, climb.picture.shape[0]),
)
original = eight_bit(scene.pixels)


def likeliest(title: str, logits: np.ndarray) -> None:
    said = softmax(logits[None])[0]
    top = (-said).argsort(kind="stable")[:5]
    st.markdown(f"**{title}**")
    chart = network.top_classes([names[j] for j in top], said[top], logits[top], names[wanted])
    st.altair_chart(chart, alt=f"{title}: the likeliest class is {names[top[0]]}.")


def draw(step, complete: bool) -> None:
    if (st.session_state["patch_row"], st.session_state["patch_col"]) != (row, col):
        st.rerun()  # a click on the picture, which all of the page follows
    left, middle, right = controls.panels(3)
    patch = None if step is None else step.result.picture
    with left:
        st.markdown("**The patch**" if complete else "**The patch so far**")
        if step is None:
            st.skeleton(height=180)
            st.skeleton(height=215)
        else:
            st.image(image.to_png(painting.on_checks(cut_out(patch))), width=180)
            curve = studio.curve(step.result.scores.mean(1, keepdims=True), "mean log-probability")
            st.altair_chart(
                curve, width="stretch", key="curve", alt="The pictures' mean log-probability over the steps."
            )
    with middle:
        st.markdown("**On your picture** (click to move it)")
        pixels = original if patch is None else with_patch(scene.pixels, patch, place)
        shown = pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)
        controls.clickable(
            overlays.picture(shown, smooth=False, places=PLACES, name="spot"),
            "spot",
            put,
            f"The picture with the patch at row {row}, column {col}; a click moves it.",
            key="patched",
        )
    with right:
        if patch is None:
            st.skeleton(height=195)
        else:
            likeliest("With the patch, saved as PNG", scores_of(net, pixels))
        likeliest("Without", scores_of(net, original))


def everywhere(patch: np.ndarray) -> line.Job:
    """On your picture, the class's probability for each place of the patch."""
    at_each = line.run(
        net.engine,
        "everywhere",
        (*key, job.step.index, image.digest(scene.pixels), size),
        lambda: lookalikes_steps(net, scene.pixels, wanted, cut_out(patch), share=size, grid=GRID),
    )

    def maps(step, complete: bool) -> None:
        if (st.session_state["patch_row"], st.session_state["patch_col"]) != (row, col):
            st.rerun()  # a click, again
        left, right = controls.panels(2)
        for panel, title, part in (
            (left, "**With its middle here**", "map"),
            (right, "**The same, a plain disc in its place**", "hidden"),
        ):
            with panel:
                st.markdown(title)
                if step is None:
                    if at_each.active:
                        st.skeleton(height=marks.PANEL + 60)
                    continue
                chart = overlays.heatmap(
                    getattr(step.result, part),
                    title=f"probability of “{names[wanted]}”",
                    bounds=(0.0, 1.0),
                    over=scene.picture,
                    frame=scene.frame,
                    opacity=0.7,
                    name=f"spot_{part}",
                    value_name="probability",
                )
                of = "the patch" if part == "map" else "a plain disc"
                alt = f"How likely {names[wanted]} is for each place of {of}; a click lays the patch there."
                controls.clickable(chart, f"spot_{part}", chosen(step.result), alt, key=f"everywhere_{part}")
        if complete:
            taken = (step.result.found == wanted).mean()
            st.caption(
                f"Upright and of the size chosen above, the patch makes this picture “{names[wanted]}” at {taken:.0%} "
                "of the places; the disc has the picture's mean colour. A click lays the patch there."
            )

    def chosen(found: Pasted):
        return lambda point: put({"row": found.rows[int(point["row"])], "col": found.cols[int(point["col"])]})

    st.markdown("**Where does it work on your picture?**")
    watch.show(net.engine, at_each, maps)
    return at_each


watch.show(net.engine, job, draw)
table, measured, at_each = None, None, None
if job.step is not None and not job.active:
    patch = job.step.result.picture
    pasted = with_patch(scene.pixels, patch, place)
    if scene.probabilities.argmax() == wanted:
        st.info(
            f"This picture is taken for {names[wanted]} without a patch: choose another picture, or another class.",
            icon=":material/info:",
        )
    measured = line.run(
        net.engine,
        "rates",
        (*key, job.step.index, held),
        lambda: rates_steps(net, test, patch, wanted, share=share, turn=turn, seed=seed + 1),
    )

    def how_often(step, complete: bool) -> None:
        if step is None:
            st.skeleton(height=250)
            return
        found: Rates = step.result
        rows = found.table()
        left, right = st.columns([3, 2], gap="medium")
        with left:
            dots = rows.rename(columns={"with": "label", "share": "value"}).assign(series="share")
            title = f"share of {rows.of[0]} pictures taken for “{names[wanted]}”, 95 % interval"
            st.altair_chart(plots.dots(dots, x_title=title, bounds=(0.0, 1.0)), alt=title, key="rates")
        with right:
            best, mixed, bare = rows.itertuples(index=False)
            st.markdown(
                f"Of **{best.of}** pictures that it was not trained on, **{best.taken}** ({best.share:.0%}, interval "
                f"{best.low:.0%} to {best.high:.0%}) are taken for “{names[wanted]}” with the patch on them, each "
                f"at another place, size and angle. With the same patch, its pixels shuffled: {mixed.taken}; with "
                f"nothing on them: {bare.taken}."
            )
            if data.name == "photographs":
                st.caption("These are crops of few photographs: some that it is measured on show what others do.")

    st.markdown("**How well does it work?** On pictures that it has not seen, all saved in 8 bits")
    watch.show(net.engine, measured, how_often)
    if not measured.active:
        at_each = everywhere(patch)
    table = fooled.stands(net, original, pasted, wanted, k)
fooled.note()
with st.container(horizontal=True, gap="medium"):
    links.onward("fool", "lookalikes", "And if another thing is in the picture?")
    links.onward("explain", "occlusion", "Which parts does it need, that a patch could cover?")

# Take home ----------------------------------------------------------------------------------------------------------

given = st.session_state["lens_data"]
options = {"pictures": pictures, "held": held, "steps": steps, "turn": turn, "seed": seed}
shell = ["python -m engine patch --net", shlex.quote(net.name)]
shell += ["--output", shlex.quote(net.output)] if len(net.outputs) > 1 else []
shell += ["--data", shlex.quote(given), "--class", str(wanted), "--share", f"{share[0]:g} {share[1]:g}"]
shell += [f"--{name} {value:g}" for name, value in options.items()]
opened = f"available.find({net.name!r}){f', output={net.output!r}' if len(net.outputs) > 1 else ''}"
loading, picture, _ = links.source(scene)
python = f"""from engine.data import sets
from engine.nets import available
{loading}
from engine.fool.adversarial_patch import adversarial_patch, cut_out, numbers, parted, rates
from engine.fool.lookalikes import lookalikes
from engine.net import Net

net = Net({opened})
train, test = parted(sets.find({given!r}), net, {wanted}, pictures={pictures}, held={held}, seed={seed})
climb = adversarial_patch(net, train, {wanted}, steps={steps}, share={share}, turn={turn}, seed={seed})
found = rates(net, test, climb.picture, {wanted}, share={share}, turn={turn}, seed={seed + 1})
pixels, _ = net.view({picture})
where = lookalikes(net, pixels, {wanted}, cut_out(climb.picture), share={size}, grid={GRID})
result = numbers(climb, found) | {{"everywhere": where.map, "plain_disc": where.hidden}}
"""
downloads = []
if job.step is not None:
    climb, film = job.step.result, job.film
    recipe = {"method": "patch", "net": net.name, "sha256": net.sha256, "data": given, "class": wanted, **options}
    recipe |= {"share": share, "steps_done": job.step.index, "versions": record.versions()}
    found = measured.step.result if measured is not None and measured.state == "done" else None
    where = at_each.step.result if at_each is not None and at_each.step is not None else None
    maps = {} if where is None else {"everywhere": where.map, "plain_disc": where.hidden}
    downloads = [
        (
            f"For printing (PNG, {PRINT:,} pixels a side: 10 cm at 300 dpi)",
            "print.png",
            lambda: image.to_png(printable(climb.picture)),
            "image/png",
        ),
        (
            f"Patch (PNG, {climb.picture.shape[0]} pixels, transparent around it)",
            "patch.png",
            lambda: image.to_png(cut_out(climb.picture), recipe),
            "image/png",
        ),
        ("Film (GIF)", "patch.gif", film.gif, "image/gif"),
        ("Film (MP4)", "patch.mp4", film.mp4, "video/mp4"),
        ("Numbers (NPZ)", "patch.npz", foot.npz(**numbers(climb, found), **maps), "application/octet-stream"),
    ]
    if found is not None:
        rows = found.table()
        downloads.append(("How often (CSV)", "rates.csv", lambda: rows.to_csv(index=False).encode(), "text/csv"))
if table is not None:
    downloads += [
        ("Your picture with it (PNG)", "patched.png", lambda: image.to_png(pasted), "image/png"),
        ("Does it survive? (CSV)", "survival.csv", lambda: table.to_csv(index=False).encode(), "text/csv"),
    ]
foot.foot(
    downloads=downloads,
    reproduced=(python, " ".join([*shell, "--out result/"])),
    explained="""
The patch p climbs the mean of log P(class | picture with p at a place, scaled and turned), over pictures, places, sizes
and angles: each step pastes it on four pictures, drawn by lot, at four places. So it cannot lean on any one picture,
and works on those that it has never seen. It is round, hides what is under it, and may be as loud as it likes: unlike
the changes of an attack it is not meant to be overlooked, only to be stronger than anything else that is there.

Trained are the waves that make the patch up, each as easy to move as the others in photographs, and not its pixels,
which take about twice the steps. What you see is what one gets: the patch and the pictures are rounded to 8 bits before
the network is asked.

**How well it works** is measured on pictures of the same set that it was not trained on and that are of another class,
each with a place, a size (within the range of the training) and an angle of its own. *Its pixels shuffled* has the same
colours in any order at the same places, and so tells what covering something does by itself. The interval is Wilson's.

Printed, it meets what it was not trained for: light, a camera, a slant. The larger it is in the picture, the better.

Paper: [Brown et al. 2017](https://arxiv.org/abs/1712.09665).
""",
)

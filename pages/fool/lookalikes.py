"""Elephant in the room: What does it see when another thing is in the picture?

Another picture is pasted into yours, at every place in turn, and the network is asked each time. A thing that does not
belong there can change what it sees of everything else, also far away from it. Sources: Rosenfeld 2018.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.fool.adversarial import eight_bit
from engine.fool.lookalikes import CUTS, cut_out, loaded, lookalikes, lookalikes_steps, pasted, places, summed
from engine.net import softmax
from engine.pictures import samples
from ui import controls, fooled, foot, links, sidebar
from ui.charts import marks, network, overlays, painting
from ui.jobs import line, watch
from ui.scene import UPLOAD, cached, class_names, current_scene, scores_of

SEVERAL = 7  # classes that have a colour of their own on the map; what else there is shares one
REST = "other classes"

scene = current_scene()
net, k = scene.net, scene.class_index
names = class_names(net)
foot.head(__doc__)

# Choose -------------------------------------------------------------------------------------------------------------

SUITED = {"china": "astronaut", "digit-3": "digit-8", "planted-disc-square": "planted-square"}
grey = net.channels == 1  # digits: on black a whole picture of one is a black square
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    usual = SUITED[sidebar.suits(net)]
    name = controls.one("What is pasted", "other", [*samples.SAMPLES, UPLOAD], usual, width=220)
    cuts = {"whole": "the whole picture", "thing": "the thing in its middle"}
    titles = [cuts[each] for each in (CUTS[::-1] if grey else CUTS)]
    chosen = controls.choice("Pasted is", "cut_grey" if grey else "cut", titles)
    cut = next(each for each, title in cuts.items() if title == chosen)
    told = "The longer side of what is pasted, as a share of the picture's shorter one."
    share = controls.slider("Size", 0.1, 1.0, 0.5, 0.05, key="other_size", width=150, help=told)
    told = "Along the picture's longer side."
    grid = controls.number("Places", "grid", 2, 40, 12, width=110, help=told)
    opacity = controls.slider("Map over picture", 0.0, 1.0, 0.6, 0.05, key="opacity", width=150)
rows, cols = places(net.input_size, grid)

other = name
if name == UPLOAD:
    given = st.file_uploader("The other: JPEG, PNG, WebP or GIF", type="image", key="other_file", max_upload_size=64)
    if given is None:
        st.info("Choose the picture that is to be pasted into yours.", icon=":material/image:")
        st.stop()
    try:
        other = image.load(given.getvalue())
    except image.NotAPicture as error:
        st.error(str(error), icon=":material/broken_image:")
        st.stop()
rgba = cached(loaded)(other, cut)

# Compute ------------------------------------------------------------------------------------------------------------

knobs = {"cut": cut, "share": share, "grid": grid}
mine = image.digest(other) if name == UPLOAD else name
job = line.run(
    net.engine,
    "lookalikes",
    (net.sha256, net.output, image.digest(scene.pixels), k, mine, *knobs.values()),
    lambda: lookalikes_steps(net, scene.pixels, k, other, **knobs),
)
piece = cut_out(rgba, net, share)
tall, wide = piece.shape[:2]
height, width = net.input_size


def coloured(found: np.ndarray, before: int) -> tuple[np.ndarray, dict[str, str]]:
    """The likeliest classes (rows, cols) as words, and their colours; what it saw without the other is grey."""
    numbers = np.bincount(found[found >= 0], minlength=len(names))
    order = [int(j) for j in np.argsort(-numbers, kind="stable") if numbers[j] and j != before]
    shown = order if len(order) <= SEVERAL + 1 else order[:SEVERAL]
    words = {before: names[before], **{j: names[j] for j in shown}}
    kinds = np.array([["" if j < 0 else words.get(int(j), REST) for j in row] for row in found], object)
    colours = dict(zip(words.values(), [marks.MUTED, *painting.kinds(len(shown))], strict=True))
    return kinds, colours | {REST: "#343a40"}


def in_words(found) -> str:
    """In words, what the maps come to."""
    come = summed(found)
    others = [f"{names[j]} at {count}" for j, count in come.others.items()]
    won = sum(come.others.values())
    text = f"Without it, the picture is taken for **{names[found.before]}**. "
    if not won:
        text += f"With it, that stays so at all {come.asked} places"
    else:
        listed = ", ".join(others[:4]) + (f" and {len(others) - 4} more classes" if len(others) > 4 else "")
        text += f"With it, another class wins at **{won} of {come.asked}** places: {listed}"
    text += f". Its shape alone, in the picture's mean colour, does that at {come.hiding}. "
    if come.evidence is None:
        return text + f"Nowhere does that shape take anything from “{names[k]}”."
    text += f"Hiding costs “{names[k]}” most at row {come.evidence[0]}, column {come.evidence[1]}. "
    if won:
        text += (
            f"At {come.clear} of the {won} places that is not covered; the farthest of them is {come.farthest:.0f} "
            f"pixels away, of {max(net.input_size)}."
            if come.clear
            else f"At each of the {won} places, what is pasted covers that."
        )
    return text


# Show ---------------------------------------------------------------------------------------------------------------


def box(row: int, col: int) -> tuple:
    """Where what is pasted lies with its middle there, in the picture's pixels."""
    top, left = row - tall // 2, col - wide // 2
    return scene.frame.box_to_picture(max(top, 0), max(left, 0), min(top + tall, height), min(left + wide, width))


shown: dict = {}  # what is shown of a place, for what comes after
typed = st.session_state.get("at", st.query_params.get("at", ""))


def draw(step, complete: bool) -> None:
    found = None if step is None else step.result
    st.markdown("&nbsp;" if found is None else in_words(found))
    left, middle, right = controls.panels(3)
    with right:
        st.markdown("**What it sees then, saved as PNG**")
        at = controls.cell("Place (row, column)", "at", len(rows), len(cols), "where it costs most")
        if st.session_state["at"] != typed:
            st.rerun()  # a click on a map, which what is below follows, too
    if found is None:
        for each in (left, middle, right):
            each.skeleton(height=marks.PANEL + 30)
        return
    row, col = at or np.unravel_index(np.nanargmin(found.map), found.map.shape)
    top = max(found.baseline, float(np.nanmax(found.map)))
    here = [box(rows[row], cols[col])]
    evidence = summed(found).evidence
    with left:
        st.markdown(f"**How likely “{names[k]}” is**, with its middle here")
        controls.clickable(
            overlays.heatmap(
                found.map,
                title=f"probability of “{names[k]}”; {found.baseline:.1%} without",
                bounds=(0.0, top),
                over=scene.picture,
                frame=scene.frame,
                opacity=opacity,
                boxes=here,
                name="spot",
                value_name="probability",
            ),
            "spot",
            controls.put("at"),
            f"The probability of {names[k]} for each place of the other picture; a click shows it there.",
            key="map",
        )
    with middle:
        st.markdown("**What wins**, with its middle here")
        kinds, colours = coloured(found.found, found.before)
        marked = []
        if evidence is not None:
            around = [middle + way * max(height, width) / 40 for way in (-1, 1) for middle in evidence]
            marked = [scene.frame.box_to_picture(*around)]
        controls.clickable(
            overlays.zones(
                kinds,
                colours,
                over=scene.picture,
                frame=scene.frame,
                opacity=opacity,
                boxes=marked,
                name="spot",
                tips={f"P({names[k]})": found.map.round(4)},
            ),
            "spot",
            controls.put("at"),
            f"The likeliest class for each place of the other picture; without it, it is {names[found.before]}.",
            key="kinds",
        )
        st.caption("Grey: as without it." + (" The box: where hiding costs most." if marked else ""))
    pixels = eight_bit(pasted(scene.pixels, piece, (rows[row], cols[col])))
    shown.update(pixels=pixels, before=found.before)
    with right:
        logits = scores_of(net, pixels)
        said = softmax(logits[None])[0]
        five = (-said).argsort(kind="stable")[:5]
        drawn = pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)
        controls.still(
            overlays.picture(drawn, smooth=False, width=200), alt=f"The picture with the other at ({row}, {col})."
        )
        st.altair_chart(
            network.top_classes([names[j] for j in five], said[five], logits[five], names[k]),
            alt=f"With the other at ({row}, {col}) the likeliest class is {names[five[0]]}.",
        )


watch.show(net.engine, job, draw)
table = None
if shown and not job.active:
    table = fooled.stands(net, eight_bit(scene.pixels), shown["pixels"], None, shown["before"])
fooled.note()
with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "occlusion", "And if something is only hidden?")
    links.onward("fool", "patch", "What if the thing were made for that?")

downloads = []
if job.step is not None:
    found = job.step.result

    def map_png() -> bytes:
        return image.to_png(marks.enlarge(painting.paint(found.map, 0.0, np.nanmax(found.map), signed=False), 400))

    arrays = {key: value for key, value in vars(found).items() if isinstance(value, np.ndarray)}
    downloads = [
        ("Map (PNG)", "lookalikes.png", map_png, "image/png"),
        ("Numbers (NPZ)", "lookalikes.npz", foot.npz(**arrays), "application/octet-stream"),
    ]
if shown:
    downloads.append(("This picture (PNG)", "pasted.png", lambda: image.to_png(shown["pixels"]), "image/png"))
if table is not None:
    downloads.append(("Does it survive? (CSV)", "survival.csv", lambda: table.to_csv(index=False).encode(), "text/csv"))
foot.foot(
    lookalikes,
    scene,
    knobs={"target": {"class": k}, "other": "your-other.jpg" if name == UPLOAD else name, **knobs},
    downloads=downloads,
    explained="""
Each cell of the maps is one picture: yours, with the other pasted so that its middle lies there, rounded to 8 bits. The
left map is the softmax probability of the class that you ask about, the other one the class that wins; grey is where
nothing changes.

What is pasted also hides something, and a network may simply miss that. So its shape, in the picture's mean colour, is
pasted at the same places, too. Where the thing changes the answer and its shape does not, it is what it *shows* that
counts. Where the shape costs the class most, hiding hurts most: the class's own evidence. An answer that changes though
the thing lies far away from there, is the elephant in the room: the network weighs everything in the picture together,
and has not learned that one thing may stand before another.

*The thing in its middle* is cut out by its colours (GrabCut, from a guess: what lies at the picture's edge is behind
it). Only forward passes are needed. The paper asks detectors, which name each thing and where it is; this asks for the
class of the whole picture, so that a thing that is in it may well be the right answer: look at what else wins.

Paper: [Rosenfeld, Zemel, Tsotsos 2018](https://arxiv.org/abs/1808.03305).
""",
)

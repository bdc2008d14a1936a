"""Neighbours: What is alike to the network, and what only pixel by pixel?

Of all pictures of a set, those whose features in one layer are nearest to the picture's, beside those whose pixels are.
A late layer finds what shows the same, pixels what is as bright in the same places. Click on any picture to ask about
it. Sources: Krizhevsky 2012.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
import streamlit as st

from engine import image
from engine.data.index import Index
from engine.look import approximate, neighbours
from engine.look.grid import squares
from engine.look.neighbours import agreements_steps, channel_means, nearest_others, pixel_steps, row_of, small
from engine.step import Step
from ui import controls, foot, gallery, lens, links
from ui.charts import grids, marks, plots
from ui.jobs import line, watch
from ui.scene import cached, class_names, current_scene

COUNT = 9
STRIP = 18  # pictures of the set to choose from, at once
PATIENCE = 90  # seconds that agreement may take without anybody asking for it
PACE = 1e10  # multiplications and additions a second, cautiously
NAMES = {"features": "features", "pixels": "pixels"}

scene = current_scene()
net = scene.net
foot.head(__doc__)
st.session_state.pop("moved", None)  # this is the run that it asked for
index = lens.index(scene)
table = index.pictures


def chosen_picture(label: str, key: str) -> int | None:
    """The id of a picture of the set that a click can set and a link can hold; None is the sidebar's picture."""
    text = st.text_input(label, key=key, placeholder="the sidebar's", bind="query-params", width=200).strip()
    if not text:
        return None
    try:
        number = int(text)
        row_of(index, number)
    except ValueError:
        last = int(index.pictures.id.max())
        st.caption(f"“{text}” is no picture of {index.data_name}: they have the numbers 0 to {last}.")
        return None
    return number


usual = neighbours.usual_layer(index, net)
layer = controls.layer(net, able=lambda found: found.name in index.layers, default=usual)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    measure = controls.choice("Distance", "measure", list(neighbours.MEASURES))
    number = chosen_picture("Number of a picture of the set", "of")
    if number is not None:
        st.button("Back to the sidebar's picture", icon=":material/undo:", on_click=lambda: ask(None))


def ask(about: int | None) -> None:
    """Ask about another picture, also from within the part that follows a run and is drawn again by itself."""
    st.session_state.update(of="" if about is None else str(about), moved=True)


features = gallery.features(index, layer)
own = None if number is None else row_of(index, number)
query = cached(channel_means)(layer, net, scene.pixels) if own is None else features[own]
device = gallery.device(net)
reading = line.run(device, "pixels", index.key, lambda: pixel_steps(index, net))

# Show -----------------------------------------------------------------------------------------------------------------


@st.cache_data(hash_funcs=lens.INDEX_HASHES, max_entries=64, show_spinner=False)
def near_of(
    index: Index,
    name: str,
    layer: str,
    rows: int,
    digest: str,
    own: int | None,
    measure: str,
    _space: np.ndarray,
    _query: np.ndarray,
) -> neighbours.Nearest:
    return nearest_others(_space, _query, own, count=COUNT, measure=measure)


def found_in(name: str, space: np.ndarray, query: np.ndarray) -> None:
    """The nearest pictures of a space, and how many of them are of the same class."""
    near = near_of(index, name, layer, len(space), image.digest(query), own, measure, space, query)
    gallery.show(
        index,
        net,
        near.rows,
        ask,
        f"The {len(near.rows)} pictures that are nearest in {NAMES[name]}; a click asks about one.",
        key=f"near_{name}",
        more={"distance": [f"{value:.3g}" for value in near.distances]},
    )
    coded = gallery.coded(index, net)
    label = -1 if own is None else coded.labels[own]
    if label >= 0:
        same = int((coded.labels[near.rows] == label).sum())
        st.caption(f"**{same} of {len(near.rows)}** have its label, {coded.classes[label]}.")
    elif (coded.labels[near.rows] >= 0).any():
        labels = coded.labels[near.rows]
        common = int(np.bincount(labels[labels >= 0]).argmax())
        st.caption(f"**{(labels == common).sum()} of {len(labels)}** are labelled {coded.classes[common]}.")


def facts(text: str) -> None:
    """As high as the bar of a run, so that the panels begin at the same height."""
    with st.container(height=48, border=False):
        st.caption(text)


def asked_about() -> None:
    if own is None:
        st.image(image.to_png(marks.enlarge(scene.shown, marks.PANEL)), width=marks.PANEL)
        best = int(scene.probabilities.argmax())
        taken = f"→ {scene.probabilities[best]:.0%} {class_names(net)[best]}"
        st.markdown(f"**{scene.picture_name}**  \n{taken}")
    else:
        shown = gallery.view(index, net, number)
        st.image(image.to_png(marks.enlarge(shown, marks.PANEL)), width=marks.PANEL)
        label, taken = gallery.said(index, net, own)
        st.markdown(f"**{label}**  \n{taken}")


@st.cache_data(hash_funcs=lens.INDEX_HASHES, max_entries=32, show_spinner=False)
def strip(index: Index, ids: tuple[int, ...]) -> np.ndarray:
    return squares(index.thumbnails(ids), 48)


def to_choose() -> None:
    """Pictures of the set, in an order drawn by lot, so that any page of them is a mixture."""
    order = np.random.default_rng(0).permutation(len(table))
    places = controls.grid_page(len(order), STRIP, "strip_page")
    rows = order[places.start : places.stop]
    ids = tuple(table.id.to_numpy()[rows].tolist())
    said = [gallery.said(index, net, row) for row in rows]
    controls.clickable(
        grids.sheet(
            list(strip(index, ids).astype(np.float32) / 255),
            captions={"picture": ids, "is": [label for label, _ in said], "network": [taken for _, taken in said]},
            columns=6,
            name="picture",
            chosen=ids.index(number) if number in ids else None,
        ),
        "picture",
        lambda point: ask(int(ids[point["tile"]])),
        "Pictures of the set; a click asks about one.",
        key="strip",
    )


left, middle, right = controls.panels(3)
with left:
    st.markdown("**What is asked about**")
    facts(
        "The sidebar's picture." if own is None else f"Picture {number} of {index.data_name}: {table['where'].iat[own]}"
    )
    asked_about()
    st.markdown("**Or ask about** one of these")
    to_choose()
with middle:
    st.markdown(f"**Nearest to the network**, in {layer}")
    facts(f"All {len(table):,} pictures, by the means of {features.shape[1]} channels.")
    found_in("features", features, query)


def by_pixels(step: Step | None, complete: bool) -> None:
    if st.session_state.pop("moved", False):
        st.rerun()
    if step is None:
        st.skeleton(height=marks.PANEL + 120)
        return
    space = step.result
    if not complete:  # of twice as many each time, so that looking on takes little from the reading
        space = space[: 1 << (len(space).bit_length() - 1)]
    found_in("pixels", space, small(scene.pixels) if own is None else small_of(space))
    if not complete:
        st.caption(f"Of the first {len(space):,} pictures; the others are still being read.")


def small_of(space: np.ndarray) -> np.ndarray:
    return space[own] if own < len(space) else small(index.pixels(net, number))


with right:
    longer = min(neighbours.SIDE, max(net.input_size))
    st.markdown(f"**Nearest pixel by pixel**, at {longer} pixels a side")
    watch.show(device, reading, by_pixels)

# Over the whole set ---------------------------------------------------------------------------------------------------

labels = table.label.to_numpy()
known = int((labels >= 0).sum())
width = features.shape[1] + min(np.prod(net.input_size), neighbours.SIDE**2) * net.channels
seconds = known * len(table) * (width + 80) / PACE  # searching costs about as much as so many channels


def curves(found: dict[str, neighbours.Agreement], column: str, chance: bool) -> pd.DataFrame:
    tables = {NAMES[name]: agreement.table.set_index("k")[column] for name, agreement in found.items()}
    data = pd.DataFrame(tables)
    if chance:
        data["by lot"] = next(iter(found.values())).table.chance.iloc[0]
    return data.reset_index()


def agreeing(step: Step | None, complete: bool) -> None:
    if step is None:
        st.skeleton(height=300)
        return
    found = step.result
    one, two, three = controls.panels(3)
    for panel, column, title, chance in (
        (one, "same", "**Same label**, of the k nearest", True),
        (two, "vote", "**Right by vote** of the k nearest", False),
    ):
        data = curves(found, column, chance)
        with panel:
            st.markdown(title)
            chart = plots.lines(
                data, x="k", y=list(data.columns[1:]), x_title="k", y_title="share", bounds=(0.0, 1.0), height=300
            )
            st.altair_chart(chart, width="stretch", key=f"agreement_{column}", alt=f"{title}, by k, in both spaces.")
    with three:
        st.markdown("**In numbers**, at k = 10")
        for name, agreement in found.items():
            at = agreement.table[agreement.table.k <= 10].iloc[-1]
            st.metric(
                f"Same label, by {NAMES[name]}",
                f"{at.same:.1%}",
                help=f"Of the {at.k:.0f} nearest; by lot it would be {at.chance:.1%}. The commonest label of them is "
                f"right for {at.vote:.1%} of the pictures.",
                width="content",
            )
        asked = min(agreement.asked for agreement in found.values())
        of = next(iter(found.values())).of
        st.caption(
            f"Each of the {of:,} pictures was asked for its neighbours among all others."
            if complete
            else f"{asked:,} of {of:,} pictures, drawn by lot, have been asked for their neighbours among all others."
        )


st.markdown(f"#### Do neighbours have the same label? All of {index.data_name}")
agreed = None
if known < 2 or not index.names:
    st.info("These pictures have no labels, so it cannot be said whether neighbours have the same.")
else:
    knobs = (*index.key, layer, measure)
    wanted = st.session_state.setdefault("agreeing", set())
    if seconds > PATIENCE and knobs not in wanted:
        st.markdown(
            f"{known:,} pictures are compared with all others, which takes about {round(seconds / 60)} minutes."
        )
        if st.button("Compare all", type="primary", icon=":material/play_arrow:", key="agree"):
            wanted.add(knobs)
            st.rerun()
    else:
        agreed = line.run(
            device, "agreement", knobs, lambda: agreements_steps(index, net, layer=layer, measure=measure)
        )
        watch.show(device, agreed, agreeing)

# Lance's index --------------------------------------------------------------------------------------------------------


def lance_steps() -> Iterator[Step]:
    yield Step(0, 2, None)
    column = index.column(layer)
    if not approximate.has_index(index.table, column, measure):
        approximate.make_index(index.table, column, measure=measure)
    yield Step(1, 2, None)
    yield Step(2, 2, approximate.recall(index.table, column, features, table.id.to_numpy(), measure=measure))


def by_lance(step: Step | None, complete: bool) -> None:
    if step is None or step.result is None:
        st.caption("Lance's index of these features is being written, then asked." if step else "Waiting.")
        return
    found: approximate.Recall = step.result
    with st.container(horizontal=True, gap="large"):
        st.metric("Exact search", f"{1000 * found.exact:.3g} ms", help="All rows, as above.", width="content")
        st.metric(f"Lance's {found.kind}", f"{1000 * found.approximate:.3g} ms", width="content")
        st.metric(
            f"Its recall at {found.count}",
            f"{found.recall:.1%}",
            help=f"Share of the {found.count} nearest that it finds, mean over {found.asked} pictures drawn by lot.",
            width="content",
        )
    quick = approximate.approximate(index.table, index.column(layer), query, count=COUNT + 1, measure=measure)
    exact = table.id.to_numpy()[nearest_others(features, query, own, count=COUNT, measure=measure).rows]
    st.caption(
        f"Of the {len(exact)} nearest to the network that are shown above, it finds {np.isin(exact, quick).sum()}."
    )


if len(table) > approximate.MANY and index.complete:
    st.markdown("#### Searching a part of the rows: Lance's index")
    searching = line.run(device, "lance", (*index.key, layer, measure), lance_steps)
    watch.show(device, searching, by_lance)

# Onward, and foot -----------------------------------------------------------------------------------------------------

with st.container(horizontal=True, gap="medium"):
    links.onward("look", "confusion", "Which classes does it mix up?", **gallery.same_set())

near = nearest_others(features, query, own, count=COUNT, measure=measure)
ids = table.id.to_numpy()
arrays = {"id": ids[near.rows], "distance": near.distances}
if reading.state == "done":
    space = reading.step.result
    by_pixel = nearest_others(
        space, small(scene.pixels) if own is None else space[own], own, count=COUNT, measure=measure
    )
    arrays |= {"pixel_id": ids[by_pixel.rows], "pixel_distance": by_pixel.distances}


def csv() -> str:
    return pd.DataFrame(arrays).to_csv(index=False)


def agreement_csv() -> str:
    found = agreed.step.result
    parts = [agreement.table.assign(space=name, pictures=agreement.asked) for name, agreement in found.items()]
    return pd.concat(parts).to_csv(index=False)


loading, picture, word = links.source(scene)
asked = str(number) if number is not None else f"net.view({picture})[0]"
words = ["neighbours", "--layer", layer, "--measure", measure]
if number is not None:
    words += ["--of", str(number)]
else:
    words += ["--image", word]
code = gallery.reproduced(
    net,
    index,
    ["from engine.look.neighbours import neighbours"] + ([] if number is not None else [loading]),
    [f"result = neighbours(found, net, {asked}, layer={layer!r}, measure={measure!r})"],
    words,
)
foot.foot(
    downloads=[
        ("Neighbours (CSV)", "neighbours.csv", csv, "text/csv"),
        ("Neighbours (NPZ)", "neighbours.npz", foot.npz(**arrays), "application/octet-stream"),
        *(
            [("Agreement (CSV)", "agreement.csv", agreement_csv, "text/csv")]
            if agreed is not None and agreed.state == "done"
            else []
        ),
    ],
    reproduced=code,
    explained=f"""
A layer's features are its channels, each averaged over rows and columns: as many numbers as it has channels. Near are
pictures whose numbers are alike, by the angle between them (cosine) or by the straight line (L2).

Pixels are what the network sees of a picture, brought down to {neighbours.SIDE} pixels on the longer side, as large as
one of CIFAR-10, and compared in the same way; the same for all pictures.

That neighbours in a late layer show the same thing, although their pixels are far apart, is how [Krizhevsky
2012](https://papers.nips.cc/paper/4824) (figure 4) showed that a network has learnt more than to copy. *Agreement* puts
a number on it: each picture of the set asks for its neighbours among all others, and the curve says how often these
have its label. The lecture's *k-nearest-neighbour classifier* is the second curve. Features of a network that was
trained on this very set look better than they would on new pictures.

All rows are searched, so what is shown are the nearest ones, not nearly the nearest. Above {approximate.MANY:,}
pictures, [Lance](https://lancedb.github.io/lancedb/)'s index is asked, too, which looks into a part of the rows; its
recall says how many of the true neighbours it finds.
""",
)

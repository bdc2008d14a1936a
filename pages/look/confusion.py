"""Confusion: Which classes does the network mix up?

Each row is what pictures of a set are, each column what the network takes them for. Click a cell to see its pictures,
and below them the lookalikes: pairs of pictures that are near each other in a layer's features, but are of two classes,
like the lecture's chihuahuas and muffins.
"""

import numpy as np
import pandas as pd
import streamlit as st

from engine import statistics
from engine.data.index import Index
from engine.look import confusion, neighbours
from engine.net import Net
from ui import controls, foot, gallery, lens, links
from ui.charts import grids, marks, plots
from ui.scene import current_scene

MOST = 24  # rows, and columns, of the matrix that are drawn
PAGE = 9  # pictures of a cell at once
PAIRS = 6
OTHERS = "anything else"

scene = current_scene()
net = scene.net
foot.head(__doc__)
index = lens.index(scene)
table = index.pictures
coded = gallery.coded(index, net)
if not (coded.labels >= 0).any():
    st.info("These pictures have no labels, so nothing can be mixed up: choose a set whose pictures have some.")
    st.stop()

classes = coded.classes
matrix = confusion.confusion(coded.labels, coded.predictions, len(classes))
filled = np.flatnonzero(matrix.sum(1))
judged = bool(coded.known[filled].any())  # whether anything can be right

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    show = controls.choice("Numbers", "numbers", ["pictures", "% of the class"])
    by = controls.choice("Order", "rows", [*confusion.ORDERS][: 3 if judged else 2])

# Which rows and columns -----------------------------------------------------------------------------------------------


def most_mixed(rows: np.ndarray) -> np.ndarray:
    """Of many classes those with the most mistakes, in the order that they have."""
    if len(rows) <= MOST:
        return rows
    wrong = matrix[rows].sum(1) - matrix[rows, rows]
    return rows[np.sort(np.argsort(-wrong, kind="stable")[:MOST])]


arranged = confusion.order(matrix, by)
rows = most_mixed(arranged[np.isin(arranged, filled)])
inside = [int(k) for k in rows if coded.known[k]]
outside = np.setdiff1d(np.flatnonzero(matrix[rows].sum(0)), rows)  # what else these are taken for, commonest first
outside = outside[np.argsort(-matrix[np.ix_(rows, outside)].sum(0), kind="stable")]
room = max(MOST // 3, MOST - len(inside))
apart, together = ([*outside], []) if len(outside) <= room else ([*outside[: room - 1]], [*outside[room - 1 :]])
columns: list[list[int]] = [[k] for k in [*inside, *map(int, apart)]] + ([list(map(int, together))] if together else [])
titles = [classes[group[0]] if len(group) == 1 else OTHERS for group in columns]
counts = np.stack([matrix[rows][:, group].sum(1) for group in columns], 1)
same = [next((j for j, group in enumerate(columns) if group == [k]), -1) for k in rows]

wrong = counts.copy()
for i, j in enumerate(same):
    if j >= 0:
        wrong[i, j] = 0
first = np.unravel_index(int((wrong if wrong.any() else counts).argmax()), counts.shape)

# Show -----------------------------------------------------------------------------------------------------------------

names = [classes[k] for k in rows]
with st.container(horizontal=True, gap="large"):
    if judged:
        able = (coded.labels >= 0) & coded.known[coded.labels]
        right = int(coded.right[able].sum())
        low, high = statistics.share_interval(right, int(able.sum()))
        st.metric(
            "Right", f"{right / able.sum():.1%}", help=f"95 % interval: {low:.1%} to {high:.1%}.", width="content"
        )
        st.metric("Mistakes", f"{int(coded.wrong.sum()):,} of {int(able.sum()):,}", width="content")
most = confusion.pairs(matrix)
if judged and len(most):
    a, b = most[0]
    st.markdown(
        f"Mixed up most: **{classes[a]}** and **{classes[b]}** ({classes[a]} taken for {classes[b]}: {matrix[a, b]:,}; "
        f"the other way: {matrix[b, a]:,})"
    )
if judged and not coded.wrong.any():
    st.caption("Nothing is mixed up here. Lookalikes, below, show what comes nearest to it.")
if not judged:
    st.info(
        f"None of these labels is a class of {net.name}, so nothing can be right or wrong: this is what it takes each "
        "of them for."
    )
elif coded.by_place:
    st.caption(
        f"No label has the name of a class of {net.name}, but there are as many: they are matched by their numbers."
    )
if judged and (missing := [classes[k] for k in filled if not coded.known[k]]):
    st.caption(f"Not among the classes of {net.name}: {', '.join(missing[:12])}{' …' if len(missing) > 12 else ''}.")


def choose(point: dict) -> None:
    st.session_state.update({"is": names[point["row"]], "taken": titles[point["column"]]})


row = st.container(horizontal=True, gap="medium")
wide, narrow = row.container(width=min(660, 170 + 44 * max(len(titles), 8))), row.container(width=marks.PANEL + 4)
with narrow:
    st.markdown("**The pictures of a cell**")
    with st.container(horizontal=True, gap="small"):
        true = controls.one("Are", "is", names, names[first[0]], width=148)
        taken = controls.one("Taken for", "taken", titles, titles[first[1]], width=148)
    place = names.index(true), titles.index(taken)
    there = np.flatnonzero((coded.labels == rows[place[0]]) & np.isin(coded.predictions, columns[place[1]]))
    there = there[np.argsort(-table.probability.to_numpy()[there], kind="stable")]
with wide:
    st.markdown("**What they are** (rows), and **what they are taken for** (columns)")
    controls.clickable(
        grids.confusion(
            counts,
            names,
            titles,
            same,
            shares=show != "pictures",
            judged=judged,
            chosen=(int(place[0]), int(place[1])),
            name="cell",
        ),
        "cell",
        choose,
        "How many pictures of each class are taken for which class; a click shows them.",
        key="matrix",
        width="stretch",
    )
    if len(filled) > len(rows):
        st.caption(f"The {len(rows)} of {len(filled)} classes with the most mistakes; the download has all.")
with narrow:
    shown = controls.grid_page(len(there), PAGE, "cell_page")
    if not len(there):
        st.info(f"No picture of {true} is taken for {taken}.")
    else:
        gallery.show(
            index,
            net,
            there[shown.start : shown.stop],
            lambda number: st.session_state.update(picked=number),
            f"Pictures of {true} that are taken for {taken}; a click chooses one.",
            key="cell_pictures",
        )
        many = "1 picture" if len(there) == 1 else f"{len(there):,} pictures, the surest first"
        st.caption(f"{many}. Click one to ask what lies near it.")
    chosen = st.session_state.get("picked")
    if chosen is not None and chosen in set(table.id):
        links.onward("look", "neighbours", f"What lies near picture {chosen}?", of=chosen, **gallery.same_set())

# Lookalikes -----------------------------------------------------------------------------------------------------------


@st.cache_data(hash_funcs=lens.INDEX_HASHES, max_entries=32, show_spinner="Comparing the two classes …")
def pairs_of(index: Index, net: Net, layer: str, measure: str, a: int, b: int) -> pd.DataFrame:
    features, labels = gallery.features(index, layer), gallery.coded(index, net).labels
    return confusion.lookalikes(features, labels, a, b, PAIRS, measure=measure)


def asked_pair(pair: list[str], layer: str) -> tuple[int, int, str]:
    """Two classes with pictures, and why these."""
    if len(pair) == 2:
        return classes.index(pair[0]), classes.index(pair[1]), "as chosen"
    if {true, taken} <= set(options) and true != taken:
        return classes.index(true), classes.index(taken), "the cell above; choose other ones here"
    mixed = [(int(a), int(b)) for a, b in confusion.pairs(matrix) if a in filled and b in filled]
    if mixed:
        return *mixed[0], "which are mixed up most; choose other ones here"
    return *closest(index, net, layer), "whose pictures are nearest to each other in the mean; choose other ones here"


@st.cache_data(hash_funcs=lens.INDEX_HASHES, max_entries=32, show_spinner=False)
def closest(index: Index, net: Net, layer: str) -> tuple[int, int]:
    return confusion.closest_classes(gallery.features(index, layer), gallery.coded(index, net).labels)


found = None
if len(filled) > 1:
    st.markdown("#### Lookalikes: near in features, but of two classes")
    options = [classes[k] for k in filled]
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        pair = controls.several("Two classes", "pair", options, [], most=2)
        layer = controls.one(
            "Features of", "features", list(index.layers), neighbours.usual_layer(index, net), width=220
        )
        measure = controls.choice("Distance", "measure", list(neighbours.MEASURES))
    a, b, why = asked_pair(pair, layer)
    st.caption(f"**{classes[a]}** and **{classes[b]}**, {why}.")
    found = pairs_of(index, net, layer, measure, a, b)
    for k, panel in enumerate(controls.panels(3)):
        part = found.iloc[2 * k : 2 * k + 2]
        if len(part):
            with panel:
                gallery.show(
                    index,
                    net,
                    part[["a", "b"]].to_numpy().ravel(),
                    lambda number: st.session_state.update(picked=number),
                    f"Pairs of {classes[a]} on the left and {classes[b]} on the right.",
                    key=f"pairs_{k}",
                    columns=2,
                    more={"distance": [f"{value:.3g}" for value in part.distance for _ in range(2)]},
                )
    st.caption(
        f"The nearest pairs of one {classes[a]} (left) and one {classes[b]} (right), in order, each picture in one at "
        "most."
    )

# Per class ------------------------------------------------------------------------------------------------------------

per_class = confusion.per_class(matrix, classes)
if judged:
    st.markdown("#### Class by class")
    listed = per_class.set_index("class").loc[[classes[k] for k in rows if coded.known[k]]].reset_index()
    recall = pd.DataFrame({"label": listed["class"], "series": "recall", "value": listed.accuracy})
    recall = recall.assign(low=listed.low, high=listed.high)
    precision = pd.DataFrame({"label": listed["class"], "series": "precision"})
    precision = precision.assign(value=listed.precision, low=np.nan, high=np.nan)
    left, right_side = st.columns(2, gap="medium")
    with left:
        st.altair_chart(
            plots.dots(pd.concat([recall, precision]), x_title="share, with its 95 % interval", bounds=(0.0, 1.0)),
            width="stretch",
            key="per_class",
            alt="For each class the share of its pictures that are taken for it, and of those taken for it that are.",
        )
    with right_side:
        st.dataframe(
            listed.assign(accuracy=100 * listed.accuracy, precision=100 * listed.precision)[
                ["class", "pictures", "accuracy", "precision", "taken_for", "mistakes"]
            ],
            column_config={
                "accuracy": st.column_config.NumberColumn("right, %", format="%.1f"),
                "precision": st.column_config.NumberColumn("precision, %", format="%.1f"),
                "taken_for": "mostly mistaken for",
                "mistakes": "so often",
            },
            hide_index=True,
            width="stretch",
        )

with st.container(horizontal=True, gap="medium"):
    links.onward("look", "neighbours", "What is alike to the network?", **gallery.same_set())


def mistakes() -> str:
    """A row per picture that is taken for something else than it is."""
    some = table[coded.wrong]
    names_of = [np.array(classes)[each[coded.wrong]] for each in (coded.labels, coded.predictions)]
    return some.assign(label=names_of[0], prediction=names_of[1]).to_csv(index=False)


def lookalikes() -> str:
    ids, places = table.id.to_numpy(), table["where"].to_numpy()
    told = {classes[a]: ids[found.a], classes[b]: ids[found.b], "distance": found.distance}
    told |= {f"where ({classes[k]})": places[found[side]] for k, side in ((a, "a"), (b, "b"))}
    return pd.DataFrame(told).to_csv(index=False)


code = gallery.reproduced(
    net,
    index,
    ["from engine.look.confusion import of_index"],
    ["result = of_index(found, net)"],
    ["confusion"],
)
foot.foot(
    downloads=[
        ("Matrix (CSV)", "confusion.csv", lambda: pd.DataFrame(matrix, classes, classes).to_csv(), "text/csv"),
        (
            "Matrix (NPZ)",
            "confusion.npz",
            foot.npz(matrix=matrix, classes=np.array(classes)),
            "application/octet-stream",
        ),
        ("Class by class (CSV)", "classes.csv", lambda: per_class.to_csv(index=False), "text/csv"),
        ("Mistakes (CSV)", "mistakes.csv", mistakes, "text/csv"),
        *([("Lookalikes (CSV)", "lookalikes.csv", lookalikes, "text/csv")] if found is not None and len(found) else []),
    ],
    reproduced=code,
    explained="""
A **confusion matrix** counts, for the pictures of each class (row), what the network's likeliest class is (column).
Its diagonal is what is right; it is grey, so that the colours are free for the mistakes. *Side by side* lays the
classes out so that those that are mixed up are neighbours, by average linkage.

A label of the set and a class of the network are the same if they have the same name. What the network takes pictures
for and the set has no label of stands in columns of its own, at the end.

**Lookalikes** are the pairs of two classes that lie nearest to each other in a layer's features, each picture in one
pair at most. They show what a border between classes runs through: late layers tell apart what early ones do not, so
choose an early one to see what has to be learnt.

**Class by class**, the share of a class's pictures that are taken for it (recall) has Wilson's interval (1927): with
few pictures, it is wide. The share of those taken for it that are of it is its precision.
""",
)

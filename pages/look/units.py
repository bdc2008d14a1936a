"""Units: Which filters are dead, rare, always on, or twins?

Every channel of a layer, over a whole set of pictures: how often it fires, whether it is there for one class, and which
other one does the same. Click on one for the patches that excite it most. Sources: Morcos 2018.
"""

import base64

import numpy as np
import pandas as pd
import streamlit as st

from engine import image, record
from engine.data.index import BadIndex
from engine.look.top_patches import Patches, cut_out
from engine.look.units import BYS, KINDS, units, units_of
from ui import controls, foot, gallery, lens, links
from ui.charts import grids, marks, network
from ui.scene import current_scene

COLOURS = {"usual": "#31688e", "rare": "#e69f00", "always on": "#009e73", "dead": "#cc79a7"}
ORDERS = ["selectivity", "channel", "positions", "pictures", "mean", "maximum", "likeness"]
PICTURED = 512  # units whose top patch stands in the table
SAID = {
    "either": " in weights or in activations",
    "both": " in weights and activations",
    "weights": " in weights",
    "activations": " in activations",
}
PAIRS, EACH = 6, 3  # twins that are shown, and patches of each

scene = current_scene()
net = scene.net
foot.head(__doc__)
index = lens.index(scene)
with_map = [name for name in index.layers if net.layer(name).has_map]
layer = controls.layer(
    net,
    able=lambda found: found.name in index.layers,
    default=with_map[-1] if with_map else index.layers[-1],
)
with st.expander("What counts as rare, as always on, as twins", icon=":material/tune:"):
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        rare = controls.slider("Rare: fires on at most, % of pictures", 0.0, 25.0, 1.0, 0.5, key="rare", width=250)
        always = controls.slider("Always on: at least, % of positions", 75.0, 100.0, 99.0, 0.5, key="always", width=250)
        alike = controls.slider("Twins: alike at least", 0.5, 1.0, 0.95, 0.01, key="alike", width=200)
        by = controls.choice("Alike in", "alike_by", list(BYS))
    st.caption(
        "Weights: the cosine of two channels' filters, without their biases. Activations: the correlation, over the "
        "pictures, of their means over rows and columns."
    )
knobs = {"rare": rare / 100, "always": always / 100, "alike": alike, "by": by}
looked = st.cache_data(units_of, hash_funcs=lens.INDEX_HASHES, max_entries=16, show_spinner="Looking at the units …")
patches = st.cache_data(cut_out, hash_funcs=lens.INDEX_HASHES, max_entries=32, show_spinner=False)
found = looked(net, index, layer, **knobs)
table = found.table
count = len(table)
rectified = not found.fires


def cut(channel: int, channels: int, each: int, side: int) -> Patches | None:
    """Top patches; None where a picture is not there any more."""
    try:
        return patches(net, index, layer, channel=channel, channels=channels, count=each, side=side)
    except (BadIndex, image.NotAPicture, OSError):
        return None


def shown(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.shape[-1] == 3 else pixels.repeat(3, -1)


def choose(point: dict) -> None:
    st.session_state["unit"] = int(point["channel"])


numbers = table.kind.value_counts()
with st.container(horizontal=True, gap="large"):
    told = {
        "dead": "They are 0 at every position of every picture." if rectified else "They have one value throughout.",
        "rare": f"They fire on some pictures, but on no more than {rare:g} % of them.",
        "always on": f"They are > 0 at {always:g} % of all positions or more: there is hardly a zero among them.",
    }
    for kind, text in told.items():
        if kind == "dead" or rectified:
            st.metric(kind.capitalize(), f"{numbers.get(kind, 0)} of {count}", help=text, width="content")
    st.metric("Pairs of twins", f"{found.twins:,}", help=f"Alike{SAID[by]}, {alike:g} or more.", width="content")
    if table.selectivity.notna().any():
        st.metric(
            "Class selectivity, median",
            f"{table.selectivity.median():.2f}",
            help="0: to all classes alike. 1: to one alone.",
            width="content",
        )
if found.fires:
    st.info(found.fires, icon=":material/info:")

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    order = controls.one("Order", "order", ORDERS, width=150)
    kind = controls.one("Show", "kind", ["all", *KINDS, "twins"], width=130)
    classes = sorted(set(table["class"]) - {""}, key=str.lower)
    wanted = controls.one("Selective for", "for", ["any class", *classes], width=190) if classes else "any class"
    most = table.selectivity.idxmax() if table.selectivity.notna().any() else table.maximum.idxmax()
    unit = controls.number("Channel", "unit", 0, count - 1, int(most), width=130)

chosen = pd.Series(True, table.index)
if kind == "twins":
    chosen = table.likeness >= alike
elif kind != "all":
    chosen = table.kind == kind
if wanted != "any class":
    chosen &= table["class"] == wanted
listed = table[chosen].sort_values(order, ascending=order == "channel", kind="stable", na_position="last")

if listed.empty:
    st.info("No unit of this layer is so: choose another kind or class.")
    listed = table

tips = ["channel", "kind", "pictures", "positions", "mean", "maximum"]
drawn = listed[tips].round(5)
if table["class"].any():
    tips = [*tips, "selectivity", "class"]
    drawn = listed[tips].round(5)
left, middle, right = controls.panels(3)
with left:
    selective = rectified and table.selectivity.notna().any()
    x, y = ("positions", "selectivity" if selective else "maximum") if rectified else ("mean", "maximum")
    named = {
        "positions": "share of positions where it fires",
        "selectivity": "class selectivity",
        "mean": "mean activation",
        "maximum": "highest activation",
    }
    st.markdown("**Each unit a point**")
    controls.clickable(
        network.points(
            drawn.dropna(subset=[x, y]),
            x=x,
            y=y,
            titles=(named[x], named[y]),
            tips=tips,
            colours=COLOURS,
            name="channel",
            chosen=unit,
            height=330,
        ),
        "channel",
        choose,
        f"{len(drawn)} units by {named[x]} and {named[y]}; a click chooses one.",
        key="unit_points",
        width="stretch",
    )
    left_out = int(drawn[[x, y]].isna().any(axis=1).sum())
    if left_out:
        st.caption(f"{left_out} without a {named[y]} are left out.")
with middle:
    ranked_by = "positions" if order == "channel" else order
    st.markdown(f"**In order of {order}**")
    titles = {**named, "pictures": "share of pictures where it fires", "likeness": "likeness to its twin"}
    bars = listed[[*tips, *({ranked_by} - set(tips))]].round(5)
    controls.clickable(
        network.ranked(
            bars,
            y=ranked_by,
            title=titles[ranked_by],
            tips=tips,
            colours=COLOURS,
            name="channel",
            chosen=unit,
            height=330,
        ),
        "channel",
        choose,
        f"{len(drawn)} units in order of {order}, as bars of their {titles[ranked_by]}; a click chooses one.",
        key="unit_ranks",
        width="stretch",
    )
with right:
    about = table.iloc[unit]
    st.markdown(f"**Channel {unit}**: {about.kind}")
    if (mine := cut(unit, 1, 6, 128)) is not None:
        rows = mine.table
        controls.still(
            grids.patches(
                list(shown(mine.pixels)),
                written=[f"{value:.3g}" for value in rows.value],
                captions={"picture": rows["where"].to_list(), "label": [each or "none" for each in rows.label]},
                columns=3,
                name="patch",
            ),
            alt=f"The {len(rows)} patches that excite channel {unit} of {layer} most.",
            key="unit_patches",
        )
    else:
        st.caption("Its top patches cannot be shown: a picture of the set cannot be read any more.")
    parts = [f"Mean {about['mean']:.3g}, highest {about.maximum:.3g}."]
    if rectified:
        parts.append(f"Fires on {about.pictures:.1%} of the pictures, at {about.positions:.1%} of all positions.")
    if not np.isnan(about.selectivity):
        parts.append(f"Selective for “{about['class']}” by {about.selectivity:.2f}.")
    if about.twin >= 0:
        parts.append(f"Most like channel {about.twin} ({about.likeness:.2f}).")
    st.caption(" ".join(parts))
    link = {"layer": layer, "unit": unit, **gallery.same_set()}
    links.onward("look", "top_patches", "Its top patches, and their pictures", **link)
    links.onward("imagine", "maximize", "The picture made to excite it", about="unit", layer=layer, unit=unit)


# All of them ----------------------------------------------------------------------------------------------------------


@st.cache_data(hash_funcs=lens.INDEX_HASHES, max_entries=8, show_spinner="Cutting out a patch of each …")
def tiles(of, of_layer: str) -> list[str]:
    """A unit's strongest patch, as a data URL, for each of a layer's."""
    try:
        pixels = cut_out(net, of, of_layer, channels=of.shape(of_layer)[0], count=1, side=64).pixels
    except (BadIndex, image.NotAPicture, OSError):
        return []
    large = [marks.enlarge(each, 32) if each.shape[1] < 32 else each for each in shown(pixels)]
    return ["data:image/jpeg;base64," + base64.b64encode(image.to_jpeg(each)).decode("ascii") for each in large]


def clicked() -> None:
    places = st.session_state["unit_table"]["selection"]["rows"]
    if places:
        st.session_state["unit"] = int(listed.channel.iloc[places[0]])


st.markdown(f"**{len(listed)} of {count} units**")
columns = {
    "channel": st.column_config.NumberColumn("channel", width="small"),
    "kind": st.column_config.TextColumn("kind", width="small"),
    "pictures": st.column_config.ProgressColumn("fires on pictures", format="percent", min_value=0, max_value=1),
    "positions": st.column_config.ProgressColumn("fires at positions", format="percent", min_value=0, max_value=1),
    "mean": st.column_config.NumberColumn("mean", format="%.4g"),
    "maximum": st.column_config.NumberColumn("highest", format="%.4g"),
    "selectivity": st.column_config.NumberColumn("selectivity", format="%.3f"),
    "class": st.column_config.TextColumn("for class"),
    "twin": st.column_config.NumberColumn("most like"),
    "likeness": st.column_config.NumberColumn("likeness", format="%.3f"),
}
view = listed.copy()
if count <= PICTURED and (urls := tiles(index, layer)):
    view.insert(1, "patch", [urls[k] for k in listed.channel])
    columns["patch"] = st.column_config.ImageColumn("top patch", width="small")
if not rectified:
    view = view.drop(columns=["pictures", "positions"])
if table.selectivity.isna().all():
    view = view.drop(columns=["selectivity", "class"])
view["twin"] = view.twin.where(view.twin >= 0).astype("Int64")
st.dataframe(
    view,
    hide_index=True,
    height=340,
    row_height=44 if "patch" in view else None,
    column_config=columns,
    on_select=clicked,
    selection_mode="single-row",
    key="unit_table",
)
st.caption("A click on the box before a row chooses the unit; a click on a heading sorts.")


# Twins ----------------------------------------------------------------------------------------------------------------


def twins() -> None:
    are = "pair that is" if found.twins == 1 else "pairs that are"
    st.markdown(f"**Twins**: {found.twins:,} {are} alike{SAID[by]}, {alike:g} or more")
    rows = found.pairs.head(PAIRS)
    each, heads, members = [], [], []
    for pair in rows.itertuples():
        both = [cut(k, 1, EACH, 96) for k in (pair.first, pair.second)]
        if None in both:
            return
        each += [tile for part in both for tile in shown(part.pixels)]
        members += [k for k, part in zip((pair.first, pair.second), both, strict=True) for _ in part.table.id]
        weights = "" if np.isnan(pair.weights) else f" · weights {pair.weights:.2f}"
        acts = "" if np.isnan(pair.activations) else f" · activations {pair.activations:.2f}"
        heads.append(f"{pair.first} and {pair.second}{weights}{acts}")
    across = len(each) // len(rows)
    half = -(-len(rows) // 3)
    for panel, first in zip(controls.panels(-(-len(rows) // half)), range(0, len(rows), half), strict=True):
        part = slice(first * across, min(first + half, len(rows)) * across)
        with panel:
            controls.clickable(
                grids.patches(
                    each[part],
                    written=[""] * len(each[part]),
                    captions={"channel": members[part]},
                    columns=across,
                    name="twin",
                    heads=heads[first : first + half],
                ),
                "twin",
                lambda point, of=members[part]: st.session_state.update(unit=of[int(point["tile"])]),
                f"The top patches of {len(heads[first : first + half])} pairs of twins; a click chooses a unit.",
                key=f"twins_{first}",
            )
    if found.twins > len(rows):
        with st.expander(
            f"All {len(found.pairs):,} pairs" + (", the most alike" if found.twins > len(found.pairs) else "")
        ):
            st.dataframe(found.pairs.round(4), hide_index=True, height=240)


if found.twins:
    twins()

arrays = record.taken_apart(found, "")[0]
foot.foot(
    units,
    scene,
    knobs={"data": lens.given(net), "layer": layer, **knobs},
    downloads=[
        ("Units (CSV)", "units.csv", table.to_csv(index=False), "text/csv"),
        ("Those shown, in this order (CSV)", "units_shown.csv", listed.to_csv(index=False), "text/csv"),
        ("Twins (CSV)", "twins.csv", found.pairs.to_csv(index=False), "text/csv"),
        ("Numbers (NPZ)", "units.npz", foot.npz(**arrays), "application/octet-stream"),
    ],
    explained=f"""
A unit, here, is a channel: one filter, wherever it looks. It *fires* where its activation is above 0, which means
something only behind a ReLU, where being off is being 0; on other layers nothing but a constant unit counts as dead.
**Dead** fires nowhere on any picture; **rare**, on few of them; **always on**, nearly everywhere, so that its ReLU cuts
nothing off and the unit is as good as linear. All of it holds for these pictures: on others, a dead unit may fire.

**Class selectivity** ([Morcos 2018](https://arxiv.org/abs/1803.06959)): with μ the mean activation over the pictures of
a class, (μ of the highest class − mean of the others' μ) / (their sum). 0 answers to all classes alike, 1 to one alone.
Classes are told by the {found.grouped}s here. With few pictures in a class the number comes out too high. Morcos found
that networks which lean on selective units generalise worse: selective does not mean important.

**Twins**: the cosine of the filters that two channels are made by (without biases, with a batch normalisation behind
them taken in; it is left out where several convolutions meet, as behind a skip), and the correlation of their
activations over the pictures. Alike in weights are copies; alike in activations alone come to the same by another way,
or in pictures like these only.
""",
)

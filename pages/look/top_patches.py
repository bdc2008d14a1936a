"""Top patches: Which parts of pictures excite a unit most?

Of a whole set of pictures, the places where a channel is at its highest, cut out exactly as far as the unit there can
see, with its activation written on. Read a row as one would read an answer: what do these have in common? Sources:
Zeiler & Fergus 2013, Girshick 2013.
"""

from collections import Counter

import numpy as np
import streamlit as st

from engine import image, record
from engine.data.index import BadIndex, Index
from engine.imagine.maximize import maximize_channels_steps
from engine.look.top_patches import Patches, cut_out, figure, top_patches
from engine.look.units import meaning
from ui import controls, foot, gallery, lens, links
from ui.charts import grids, marks, overlays
from ui.jobs import line, watch
from ui.scene import UPLOAD, current_scene, no_gradients

ROWS, ABREAST = 12, 3  # channels on a page of the whole layer, and panels that they stand in
EACH, SIDE = 5, 128  # patches of each, and their longer side in pixels

ONE, ALL = "one unit", "whole layer"

scene = current_scene()
net = scene.net
foot.head(__doc__)
index = lens.index(scene)
with_map = [name for name in index.layers if net.layer(name).has_map]
name = controls.layer(
    net,
    able=lambda layer: layer.name in index.layers,
    default=with_map[-1] if with_map else index.layers[-1],
)
units = st.cache_data(Index.units, hash_funcs=lens.INDEX_HASHES, max_entries=16, show_spinner=False)
table = units(index, name)
channels = len(table)
found_patches = st.cache_data(
    cut_out, hash_funcs=lens.INDEX_HASHES, max_entries=16, show_spinner="Cutting out the patches …"
)


def cut(**knobs: int) -> Patches:
    """The patches; ends the page's run where a picture is not there any more."""
    try:
        return found_patches(net, index, name, **knobs)
    except (BadIndex, image.NotAPicture, OSError) as error:
        st.error(f"A picture of the set cannot be read any more. {error}", icon=":material/broken_image:")
        st.stop()


def shown(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.shape[-1] == 3 else pixels.repeat(3, -1)


def tips(found: Patches) -> dict[str, list]:
    rows = found.table
    return {
        "activation": [f"{value:.4g}" for value in rows.value],
        "channel": rows.channel.to_list(),
        "unit at": [f"row {row}, column {col}" for row, col in zip(rows.row, rows.col, strict=True)],
        "picture": rows["where"].to_list(),
        "label": [label or "none" for label in rows.label],
        "prediction": [f"{said} {p:.0%}" for said, p in zip(rows.prediction, rows.probability, strict=True)],
    }


def one_unit(channel: int, count: int, place: int) -> None:
    found = cut(channel=channel, count=count)
    rows, about = found.table, table.iloc[channel]
    place = min(place, len(rows))
    left, middle, right = controls.panels(3)
    with left:
        st.markdown(f"**Channel {channel}**: its {len(rows)} strongest patches")
        columns = int(np.ceil(len(rows) ** 0.5))
        controls.clickable(
            grids.patches(
                list(shown(found.pixels)),
                written=[f"{value:.3g}" for value in rows.value],
                captions=tips(found),
                columns=columns,
                name="patch",
                chosen=place - 1,
            ),
            "patch",
            lambda point: st.session_state.update(rank=int(point["tile"]) + 1),
            f"The {len(rows)} patches that excite channel {channel} of {name} most, the strongest first; a click opens "
            "one's picture.",
            key="patches",
        )
        st.caption(said_of_patches(rows))
    with middle:
        opened(found, channel, place)
    with right:
        made = st.container()
    with st.container(horizontal=True, gap="large"):
        st.metric("Highest anywhere", f"{about.maximum:.3g}", width="content")
        st.metric("Mean", f"{about['mean']:.3g}", width="content", help="Over all positions of all pictures.")
        st.metric("Fires on", f"{about.pictures:.1%}", width="content", help="Share of pictures where it is > 0.")
        st.metric("Fires at", f"{about.positions:.1%}", width="content", help="Share of all positions where it is > 0.")
    if strange := meaning(net, name):
        st.caption(strange)
    elif about.maximum <= 0:
        st.info(f"Channel {channel} never fires on these pictures: where it is 0 everywhere, no patch is its top one.")
    with st.container(horizontal=True, gap="medium"):
        links.onward("look", "units", "How does it compare?", layer=name, unit=channel, **gallery.same_set())
        links.onward("imagine", "maximize", "Make its picture in full", about="unit", layer=name, unit=channel)
    end(found, {"channel": channel, "count": count})
    with made:
        maximum(channel)


def said_of_patches(rows) -> str:
    """What the pictures are, and how much of them a patch is."""
    labels = Counter(label for label in rows.label if label)
    told = ", ".join(f"“{label}” ({count})" for label, count in labels.most_common(4))
    return (f"Labels: {told}. " if told else "") + size_of_patches(rows)


def size_of_patches(rows) -> str:
    """How much a unit sees, and what is grey."""
    if net.layer(name).receptive_field.stride == (0, 0):
        return "A unit of this layer sees the whole picture."
    high, wide = net.input_size
    first = rows.iloc[0]
    grey = (rows.top < 0) | (rows.left < 0) | (rows.bottom > high) | (rows.right > wide)
    said = f"Each unit sees {first.bottom - first.top} × {first.right - first.left} pixels."
    return said + (" Grey is padding, beyond the picture's edge." if grey.any() else "")


def opened(found: Patches, channel: int, place: int) -> None:
    """One patch's picture, whole, with what the unit sees of it. place: its rank, from 1 on."""
    row = found.table.iloc[place - 1]
    st.markdown(f"**Patch {place}** in its picture")
    pixels = gallery.view(index, net, int(row.id))
    scale = pixels.shape[0] / net.input_size[0]
    clip = lambda value, most: min(max(value, 0), most) * scale  # noqa: E731
    high, wide = net.input_size
    edges = (clip(row.top, high), clip(row.left, wide), clip(row.bottom, high), clip(row.right, wide))
    controls.still(
        overlays.picture(pixels, boxes=[edges], smooth=pixels.shape[0] >= marks.PANEL // 2),
        alt=f"The picture {row['where']}, with what the unit at row {row.row}, column {row.col} sees of it.",
        key="opened",
    )
    label = f"It is “{row.label}”, and" if row.label else "It has no label, and"
    st.caption(
        f"{row['where']}: {label} the network takes it for “{row.prediction}” ({row.probability:.1%}). The unit at row "
        f"{row.row}, column {row.col} is at {row.value:.4g}; it sees what is inside the orange box."
    )
    with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
        st.button(
            "Take this picture along",
            icon=":material/add_photo_alternate:",
            key="take",
            on_click=take,
            args=(int(row.id),),
            help="It becomes the sidebar's picture, which all other pages are about.",
        )
        if net.layer(name).has_map:
            links.onward("look", "activations", "Where else does it fire?", layer=name, unit=channel)


def take(number: int) -> None:
    """Make it the sidebar's picture, as if it had been uploaded."""
    st.session_state["kept_upload"] = index.data.encoded(number)
    st.session_state["image"] = UPLOAD


def maximum(channel: int) -> None:
    """The picture that is made to excite the unit; the page is there before it."""
    st.markdown("**Made to excite it**")
    picture = st.container()
    with st.expander("How it is made", icon=":material/tune:"):
        steps = controls.slider("Steps", 2, 256, 48, key="steps")
        seed = controls.number("Seed", "seed", 0, 9999, 0)
        st.caption("From noise, as on the page Maximize with its preset Lucid.")
    with picture:
        if reason := no_gradients(net):
            st.caption(f"No picture can be made, for want of gradients: the network has no certified twin. {reason}")
            return
        knobs = {"first": channel, "count": 1, "steps": steps, "seed": seed}
        job = line.run(
            net.engine,
            "unit_maximum",
            (net.sha256, net.output, name, *knobs.values()),
            lambda: maximize_channels_steps(net, name, **knobs),
        )

        def draw(step, complete: bool) -> None:
            blank = np.full((32, 32, 3), 0.85, np.float32)
            pixels = blank if step is None or not len(step.result) else shown(step.result[0])
            large = marks.enlarge(pixels, marks.PANEL) if pixels.shape[1] < marks.PANEL else pixels
            st.image(image.to_png(large), width=marks.PANEL)

        watch.show(net.engine, job, draw)
        st.caption(
            "What the patches and this picture share is what the unit answers to; where they differ, be careful."
        )


def whole_layer() -> None:
    page = controls.grid_page(channels, ROWS, "channels_page")
    knobs = {"channel": page.start, "channels": len(page), "count": EACH, "side": SIDE}
    found = cut(**knobs)
    each = len(found.table) // len(page)
    parts = [page[i : i + ROWS // ABREAST] for i in range(0, len(page), ROWS // ABREAST)]
    for panel, part in zip(controls.panels(len(parts)), parts, strict=True):
        with panel:
            first = (part.start - page.start) * each
            some = slice(first, first + len(part) * each)
            rows(Patches(found.pixels[some], found.table[some].reset_index(drop=True)), part, each)
    st.caption(
        "A row is a channel, its strongest patches from left to right, at most one of each picture. A click opens it. "
        + size_of_patches(found.table)
    )
    if strange := meaning(net, name):
        st.caption(strange)
    with st.container(horizontal=True, gap="medium"):
        links.onward("look", "units", "Which are dead, rare, alike?", layer=name, **gallery.same_set())
        links.onward("imagine", "maximize", "Pictures made for all of them", view="all channels of a layer", layer=name)
    end(found, knobs)


def rows(found: Patches, part: range, each: int) -> None:
    about = table.iloc[part.start : part.stop]
    if meaning(net, name):
        heads = [f"channel {row.channel} · mean {row.mean:.3g}" for row in about.itertuples()]
    else:
        heads = [f"channel {row.channel} · fires at {row.positions:.1%} of all positions" for row in about.itertuples()]
    controls.clickable(
        grids.patches(
            list(shown(found.pixels)),
            written=[f"{value:.3g}" for value in found.table.value],
            captions=tips(found),
            columns=each,
            name="patch",
            heads=heads,
        ),
        "patch",
        lambda point: st.session_state.update(
            view=ONE, unit=part[int(point["tile"]) // each], rank=int(point["tile"]) % each + 1
        ),
        f"The top patches of channels {part.start} to {part.stop - 1}, a row for each; a click opens one.",
        key=f"rows_{part.start}",
    )


def end(found: Patches, knobs: dict[str, int]) -> None:
    arrays = record.taken_apart(found, "")[0]
    foot.foot(
        top_patches,
        scene,
        knobs={"data": lens.given(net), "layer": name, **knobs},
        downloads=[
            ("Patches (PNG)", "patches.png", lambda: image.to_png(figure(found)), "image/png"),
            ("Table (CSV)", "patches.csv", found.table.to_csv(index=False), "text/csv"),
            ("Numbers (NPZ)", "patches.npz", foot.npz(**arrays), "application/octet-stream"),
        ],
        explained=EXPLAINED,
    )


EXPLAINED = """
One pass over the set keeps, for each picture and channel, the highest activation and its place. Sorted, that is this
page: of each picture at most one place counts, as in [Zeiler & Fergus 2013](https://arxiv.org/abs/1311.2901), figure 2;
[Girshick 2013](https://arxiv.org/abs/1311.2524), figure 3, is the same for the units of a detector's last pool. A patch
is cut by the unit's receptive field, worked out from the graph over all paths: nothing outside of it can change the
number. Inside, the middle counts more than the rim ([Luo 2016](https://arxiv.org/abs/1701.04128)), so that late units
seem to see more than they use. Where the field is larger than the picture, padding is left out as far as that loses
nothing of the picture.

What these patches share is a guess about what the unit looks for, and only about the strongest answers among *these*
pictures: most of what it does happens at weaker ones. The picture that is made from noise needs no data set, and is
the other guess.
"""
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    view = controls.choice("Show", "view", [ONE, ALL])
    if view == ONE:
        strongest = int(table.maximum.argmax())
        unit = controls.number("Channel", "unit", 0, channels - 1, strongest, width=140)
        count = controls.slider("Patches", 4, 25, 9, key="top", width=180)
        rank = controls.number(
            "Opened patch", "rank", 1, count, 1, width=140, help="By its rank; a click opens one, too."
        )
if view == ONE:
    one_unit(unit, count, rank)
else:
    whole_layer()

"""Map: What lies near what, as the network sees it?

Each picture of a set lies near those that one layer of the network makes the same of. Drag a box around some of them,
or click one, to see what they are, what the network takes them for, and which others are nearest to them.
Sources: van der Maaten & Hinton 2008; Karpathy's cnnembed 2014.
"""

import base64
import hashlib
import inspect
import io
from collections.abc import Iterator

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from engine import image
from engine.data import dataset
from engine.data.index import Index
from engine.look import embedding, grid, neighbours
from engine.step import Step, last
from ui import atlas, controls, foot, gallery, lens, links
from ui.charts import grids, marks, painting, plots
from ui.jobs import line, watch
from ui.scene import current_scene

PIXELS, LAYER = "raw pixels", "a layer"
ALONE, GRID = "where they are", "on a grid"
LABEL, PREDICTION, RIGHT, NOTHING = "label", "prediction", "right or wrong", "nothing"
SHEET = 48  # chosen pictures that are shown at once
MOST = 10_000  # pictures on one map
LIVE = 2500  # pictures up to which a grid is laid out again while the map is made
SIZES = ((1500, 64), (4000, 48), (MOST, 32))  # pixels a side of a thumbnail in the browser, by how many there are

scene = current_scene()
net = scene.net
foot.head(__doc__)
index = lens.index(scene)
of_set = index.pictures
takes = {k: v.default for k, v in inspect.signature(embedding.tsne_steps).parameters.items()}

# Choose -------------------------------------------------------------------------------------------------------------

row = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
with row:
    space = controls.choice("Alike by", "space", [LAYER, PIXELS])
    by = controls.choice("Laid out by", "by", ["t-SNE", *(way for way in embedding.ways() if way != "t-SNE")])
    layout = controls.choice("Drawn", "layout", [ALONE, GRID])
    matching = dataset.classes(index.names, net.labels)
    colourings = [*([LABEL] if index.names else []), PREDICTION, *([RIGHT] if (matching >= 0).any() else []), NOTHING]
    colouring = controls.choice("Coloured by", "colour", colourings)
if space == LAYER:
    usual = neighbours.usual_layer(index, net)
    name = controls.layer(net, able=lambda layer: layer.name in index.layers, default=usual)
with row.popover("More", icon=":material/tune:"):
    look = controls.choice("As", "look", ["pictures", "dots"])
    count = len(of_set)
    most = controls.number("Pictures at most", "most", 10, MOST, 5000, width=150)
    steps = controls.slider("Iterations of t-SNE", 3, 2000, takes["steps"], key="steps", width=220)
    perplexity = controls.slider("Perplexity", 2, 100, int(takes["perplexity"]), key="perplexity", width=220)
    near_by = controls.slider("Neighbours (UMAP)", 2, 100, 15, key="near", width=220) if by == "UMAP" else 15
    measures = ["L2", "cosine"] if space == PIXELS else ["cosine", "L2"]
    measure = controls.choice("Distance", "measure", measures)
    start = controls.choice("Start", "start", list(embedding.STARTS))
    seed = controls.number("Seed", "seed", 0, 9999, 0, width=120)

rows = embedding.some_rows(count, most, seed)  # the same ones for every layer
table = of_set.iloc[rows].reset_index(drop=True)
digest = hashlib.sha256(repr((index.key, most, seed)).encode()).hexdigest()[:16]
knobs = {"pixels": True} if space == PIXELS else {"layer": name}
knobs |= {"by": by, "most": most, "seed": seed}
if by == "t-SNE":
    knobs |= {"perplexity": float(perplexity), "steps": steps, "measure": measure, "start": start}
elif by == "UMAP":
    knobs |= {"beside": near_by, "measure": measure}
what = PIXELS if space == PIXELS else name
of = hashlib.sha256(repr((digest, sorted(knobs.items()))).encode()).hexdigest()[:16]  # which map this is
shown_of = f"{of}-{layout}"  # what a box means hangs on how it is drawn, too


# Compute ------------------------------------------------------------------------------------------------------------


@st.cache_resource(max_entries=4, show_spinner=False)
def tiles_of(_index: Index, digest: str, _ids: tuple) -> tuple[np.ndarray, atlas.Sprite]:
    largest = next((side for number, side in SIZES if len(_ids) <= number), SIZES[-1][1])
    tiles = grid.squares(_index.thumbnails(_ids), largest)
    return tiles, atlas.sprite(tiles)


@st.cache_resource(max_entries=4, show_spinner=False)
def features_of(_index: Index, digest: str, layer: str, _rows: np.ndarray) -> np.ndarray:
    return _index.features(layer)[_rows]


def map_steps(resume: embedding.Map | None) -> Iterator[Step]:
    yield from embedding.map_of_steps(index, net, resume=resume, **knobs)


device = gallery.device(net)
job = line.run(device, "map", (of,), lambda: map_steps(None), resume=map_steps)
grid_of = st.cache_data(lambda of, _places: grid.on_grid(_places), max_entries=8, show_spinner=False)
kept_of = st.cache_data(
    lambda of, _features, _places, measure: embedding.neighbours_kept(_features, _places, measure=measure),
    max_entries=16,
    show_spinner=False,
)
placed_of = st.cache_data(
    lambda of, picture, _made, _features, _new: embedding.place(_made, _features, _new)[0],
    max_entries=32,
    show_spinner=False,
)


def features() -> np.ndarray:
    """(N, C) of what is on the map; pixels have been read when there is a map of them."""
    if space == LAYER:
        return features_of(index, digest, name, rows)
    kept = last(neighbours.pixel_steps(index, net))
    return np.asarray(kept[rows]) / np.float32(255)


def own_features() -> np.ndarray:
    """(C,) of the sidebar's picture."""
    if space == PIXELS:
        return neighbours.small(scene.pixels) / np.float32(255)
    return neighbours.channel_means(name, net, scene.pixels)


# Colours ------------------------------------------------------------------------------------------------------------


def grouped() -> tuple[np.ndarray, list[str], list[str]]:
    """(N,) which group each picture is of, -1 for none, the groups' names and colours; the rarest share one."""
    if colouring == NOTHING:
        return np.full(len(table), -1), [], []
    if colouring == RIGHT:
        true = np.append(matching, -1)[table.label]  # a label of -1 is the last
        groups = np.where(true < 0, -1, np.where(true == table.prediction, 0, 1))
        return groups, ["right", "wrong"], ["#31688e", "#e8590c"]
    names, numbers = (index.names, table.label) if colouring == LABEL else (net.labels, table.prediction)
    present, sizes = np.unique(numbers[numbers >= 0], return_counts=True)
    if len(present) > 12:
        common = np.sort(present[np.argsort(-sizes, kind="stable")[:11]])
        place = {int(k): j for j, k in enumerate(common)}
        groups = np.array([place.get(int(k), 11 if k >= 0 else -1) for k in numbers])
        return groups, [*(names[k] for k in common), "all others"], [*painting.kinds(11), marks.MUTED]
    place = {int(k): j for j, k in enumerate(present)}
    return np.array([place.get(int(k), -1) for k in numbers]), [names[k] for k in present], painting.kinds(len(present))


groups, group_names, palette = grouped()
captions = atlas.Captions(
    labels=table.label.to_numpy(),
    predictions=table.prediction.to_numpy(),
    probabilities=table.probability.to_numpy(),
    kinds=index.names,
    classes=net.labels,
    true=np.append(matching, -1)[table.label],
)
tiles, sprite = tiles_of(index, digest, tuple(table.id.tolist()))

# Show ---------------------------------------------------------------------------------------------------------------


def cells_in_square(cells: np.ndarray) -> tuple[np.ndarray, float]:
    """(N, 2) places in [0, 1] of a grid's cells, and a cell's side."""
    across = int(cells.max()) + 1
    shape = cells.max(0) + 1
    inset = (across - shape) / 2  # of the shorter side
    return ((cells + inset) / max(across - 1, 1))[:, ::-1].astype(np.float32), 1 / across


def chosen_now() -> dict | None:
    """What is chosen, on the map or among what lies beside it."""
    kept = st.session_state.get("map_chosen")
    return kept if kept and kept["of"] == shown_of else None


def choose(choice: dict | None) -> None:
    st.session_state["map_chosen"] = choice and {**choice, "of": shown_of}


def draw(step: Step | None, complete: bool) -> None:
    row = st.container(horizontal=True, gap="medium")
    left, right = row.container(width=atlas.SIDE + 4), row.container(width=marks.PANEL + 4)
    if step is None or step.result is None:
        left.skeleton(height=atlas.SIDE + 70)
        right.caption("The pictures are read again, to look at their pixels." if step else "The map is begun.")
        return
    made: embedding.Map = step.result
    with left:
        places, mine, ids = show_map(made, complete)
    with right:
        if ids is not None and len(ids):
            show_chosen(ids, places)
        elif complete:
            show_mine(mine is not None)
        else:
            st.caption("The pictures find their places; they can be chosen at any time.")
    with st.container(horizontal=True, gap="medium"):
        show_quality(made, complete)


def show_map(made: embedding.Map, complete: bool) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """Draws it; returns the places in [0, 1], that of the sidebar's picture, and which ones are chosen."""
    mine = (
        placed_of((of, step_of()), image.digest(scene.pixels), made, features(), own_features()) if complete else None
    )
    if layout == GRID:
        cells = grid_of((of, step_of()), made.places)
        places, tile = cells_in_square(cells)
        if mine is not None:  # a grid has no place for it: beside the one that is nearest on the map
            mine = places[int(np.linalg.norm(made.places - mine, axis=1).argmin())]
    else:
        together = made.places if mine is None else np.concatenate([made.places, mine[None]])
        places = grid.in_square(together)
        tile = float(np.clip(0.85 / len(table) ** 0.5, 0.012, 0.09))
        if mine is not None:
            places, mine = places[:-1], places[-1]
    chosen = chosen_now()
    ids = None if chosen is None else atlas.within(chosen, places, groups)
    atlas.show(
        places,
        sprite,
        captions,
        alt=f"{len(table):,} pictures laid out by {by}, so that those are near each other that are alike by {what}.",
        of=shown_of,
        tile=tile,
        grid=on_cells(complete),
        dots=look == "dots",
        groups=groups,
        names=group_names,
        palette=palette,
        chosen=ids if ids is not None and len(ids) > 1 else None,
        focus=int(ids[0]) if ids is not None and len(ids) == 1 else None,
        mark=None if mine is None else (*mine, thumbnail(scene.shown)),
        choose=choose,
    )
    return places, mine, ids


def on_cells(complete: bool) -> bool:
    """Whether the grid is drawn: many pictures get theirs at the end, as assigning them takes a while."""
    return layout == GRID and (complete or len(table) <= LIVE)


def step_of() -> int:
    return job.step.index if job.step else 0


def thumbnail(pixels: np.ndarray) -> str:
    step = max(1, max(pixels.shape[:2]) // 96)
    return "data:image/png;base64," + base64.b64encode(image.to_png(pixels[::step, ::step])).decode("ascii")


def tile_sheet(places: np.ndarray, key: str, columns: int, **more: list) -> None:
    """Pictures of the map by their numbers, as tiles; a click chooses one."""
    labels = [index.names[k] if k >= 0 else "none" for k in table.label[places]]
    seen = [net.labels[k] for k in table.prediction[places]]
    controls.clickable(
        grids.sheet(
            [tiles[k].astype(np.float32) / 255 for k in places],
            captions={"label": labels, "seen as": seen, **more},
            columns=columns,
            name="picture",
        ),
        "picture",
        lambda point: choose({"one": int(places[point["tile"]])}),
        "Pictures; a click chooses one.",
        key=f"sheet_{key}",
    )


def nearest_to(query: np.ndarray, without: int | None = None) -> None:
    found = neighbours.nearest(features(), query, count=13, measure=measure)
    keep = found.rows != without
    near, far = found.rows[keep][:12], found.distances[keep][:12]
    st.markdown(f"**Nearest to it**, by {what}")
    tile_sheet(near, "near", 4, distance=[f"{value:.3g}" for value in far])


def show_chosen(ids: np.ndarray, places: np.ndarray) -> None:
    some = table.iloc[ids]
    true = captions.true[ids]
    if len(ids) == 1:
        one = some.iloc[0]
        st.markdown(f"**{index.names[one.label] if one.label >= 0 else 'One picture'}**")
        st.image(image.to_png(marks.enlarge(tiles[ids[0]].astype(np.float32) / 255, 128)), width=128)
        st.markdown(f"Seen as **{net.labels[one.prediction]}**, {one.probability:.1%}  \n{one['where']}")
        nearest_to(features()[ids[0]], int(ids[0]))
        return
    st.markdown(f"**{len(ids):,} pictures** chosen")
    if (true >= 0).any():
        st.markdown(f"{(true == some.prediction)[true >= 0].mean():.1%} of them are seen as what they are.")
    middle = features()[ids].mean(0)
    near = neighbours.nearest(features()[ids], middle, count=SHEET, measure=measure).rows
    tile_sheet(ids[near], "chosen", 8)
    st.caption(
        ("Those nearest to their middle first" if len(ids) <= SHEET else f"The {SHEET} nearest to their middle")
        + "; a click takes one, and shows its neighbours."
    )
    for title, names, numbers in (("Labels", index.names, some.label), ("Seen as", net.labels, some.prediction)):
        sizes = numbers[numbers >= 0].value_counts().head(6)
        if len(sizes):
            st.markdown(f"**{title}**")
            st.altair_chart(
                plots.counts([names[k] for k in sizes.index], sizes.tolist(), colours_of(title, sizes.index)),
                width="stretch",
                key=f"counts_{title}",
                alt=f"{title} of the chosen pictures.",
            )
    st.download_button(
        "These pictures (CSV)",
        lambda: rows_of(some, places[ids], None).to_csv(index=False),
        "chosen.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        key="download_chosen",
    )


def colours_of(title: str, numbers: pd.Index) -> list[str]:
    """The map's, where it is coloured by the same."""
    names = index.names if title == "Labels" else net.labels
    known = dict(zip(group_names, palette, strict=True)) if colouring in (LABEL, PREDICTION) else {}
    return [known.get(names[k], marks.MUTED) for k in numbers]


def show_mine(placed: bool) -> None:
    st.markdown(f"**{scene.picture_name}**, the sidebar's picture, is marked on the map")
    st.image(image.to_png(marks.enlarge(scene.shown, 128)), width=128)
    st.markdown(f"Seen as **{scene.net.labels[int(scene.probabilities.argmax())]}**, {scene.probabilities.max():.1%}")
    nearest_to(own_features())
    st.caption("Drag a box on the map, or click a picture or one of the names below it, to choose others.")


def show_quality(made: embedding.Map, complete: bool) -> None:
    with st.container(width=marks.PANEL + 4):
        if by == "PCA":
            st.markdown(f"**Two axes explain {made.explained[:2].sum():.0%}** of the variance")
            st.altair_chart(
                plots.explained(made.explained[:20]), width="stretch", key="explained", alt="Variance explained."
            )
        elif len(made.losses):
            st.markdown("**What t-SNE makes small**: the divergence")
            data = pd.DataFrame(made.losses, columns=["iteration", "divergence"]).astype({"iteration": int})
            curve = plots.lines(
                data,
                x="iteration",
                y=["divergence"],
                x_title="iteration",
                y_title="Kullback-Leibler, nats",
                height=180,
            )
            st.altair_chart(curve, width="stretch", key="losses", alt="The divergence over the iterations.")
    if not complete:
        return
    with st.container(width=marks.PANEL + 4):
        places = grid_of((of, step_of()), made.places) if layout == GRID else made.places
        share, chance = kept_of((of, layout), features(), places, measure)
        st.metric(
            "Of the 10 nearest, the map keeps near",
            f"{share:.0%}",
            help="The share of each picture's ten nearest by the features that are also among its ten nearest on the "
            f"map; laid out by lot, it would be {chance:.1%}.",
        )
        st.caption(
            f"{len(table):,} pictures of {index.data_name}"
            + (f", drawn by lot from {count:,}" if count > len(table) else "")
            + ". Two or so axes cannot keep all that is near: trust a map's groups as far as this number goes, and "
            "its distances between groups less."
        )


def rows_of(some: pd.DataFrame, places: np.ndarray, cells: np.ndarray | None) -> pd.DataFrame:
    """A row per picture, for a CSV file."""
    found = some.assign(
        label=[index.names[k] if k >= 0 else "" for k in some.label],
        prediction=[net.labels[k] for k in some.prediction],
        x=places[:, 0],
        y=places[:, 1],
    )
    return found if cells is None else found.assign(row=cells[:, 0], col=cells[:, 1])


watch.show(device, job, draw)
with st.container(horizontal=True, gap="medium"):
    onward = {"layer": name} if space == LAYER else {}
    links.onward("look", "neighbours", "Which are its neighbours, and do they agree?", **onward, **gallery.same_set())
    links.onward("look", "confusion", "Which classes does it mix up?", **gallery.same_set())


def csv() -> str:
    places = job.step.result.places
    return rows_of(table, places, grid_of((of, step_of()), places)).to_csv(index=False)


def sheet_png() -> bytes:
    places = job.step.result.places
    drawn = grid.tiled(tiles, grid_of((of, step_of()), places)) if layout == GRID else grid.drawn(tiles, places)
    out = io.BytesIO()
    Image.fromarray(drawn).save(out, "PNG", compress_level=3)  # quickly, as it may be large
    return out.getvalue()


def numbers() -> bytes:
    made = job.step.result
    cells = grid_of((of, step_of()), made.places)
    arrays = {"places": made.places, "explained": made.explained, "losses": made.losses}
    return foot.npz(id=table.id.to_numpy(), cells=cells, **arrays)()


asked = ", ".join(f"{key}={value!r}" for key, value in knobs.items())
words = ["--pixels" if value is True else f"--{key}={value}" for key, value in knobs.items()]
foot.foot(
    downloads=[
        ("Places (CSV)", "map.csv", csv, "text/csv"),
        ("Sheet (PNG)", "map.png", sheet_png, "image/png"),
        ("Numbers (NPZ)", "map.npz", numbers, "application/octet-stream"),
    ]
    if job.state == "done"
    else [],
    reproduced=gallery.reproduced(
        net,
        index,
        ["from engine.look.embedding import map_of"],
        [f"result = map_of(found, net, {asked})"],
        ["map", *words],
    ),
    explained="""
A layer's channels, each averaged over the picture, are a point with as many coordinates as there are channels. The map
has two, and tries to keep near what is near there.

- **t-SNE** ([van der Maaten & Hinton 2008](https://jmlr.org/papers/v9/vandermaaten08a.html)) turns distances into
  chances of being neighbours, so that each picture has about as many as the *perplexity* says, and moves the points
  until the map's chances diverge least from them. It starts from the principal components and is computed by
  [openTSNE](https://opentsne.readthedocs.io). Groups that hold together mean something; how large they are, and how far
  apart, means little ([Wattenberg 2016](https://distill.pub/2016/misread-tsne/)).
- **PCA** is a shadow: the two directions along which the points vary most, and nothing else. How much of the variance
  they explain says how much one sees.
- **UMAP** ([McInnes 2018](https://arxiv.org/abs/1802.03426)) is offered where the package umap-learn is installed.

**On a grid**, no picture hides another: each gets a cell of its own, so that all together move as little as they can.
In [cnnembed](https://cs.stanford.edu/people/karpathy/cnnembed/), the first to come took the cell.
Compare a late layer with an early one, and with *raw pixels*: early on, the network arranges by colour and brightness;
late, by what the pictures show. The sidebar's picture was no part of the map; it was placed on it afterwards.
""",
)

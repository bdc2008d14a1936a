"""Compare: Do the methods agree on where the evidence is?

One picture and one question, put to up to six methods, six networks or six layers of one network, side by side in the
same colours. Below, how far any two of the maps put the places of the picture in the same order.
Sources: Selvaraju 2017, Springenberg 2014, Zhou 2016.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.explain.compare import at, compare, compare_steps, networks_steps
from engine.explain.evidence import evidence, over_picture, ways
from engine.nets import available
from ui import controls, foot, links
from ui.ask import aim
from ui.charts import grids, marks, overlays, painting
from ui.jobs import line, watch
from ui.scene import cached, current_scene, no_gradients

MOST = 6
QUICK = ["CAM", "Grad-CAM", "LayerCAM", "Gradient", "Gradient × input", "Guided backpropagation"]

scene = current_scene()
net = scene.net
foot.head(__doc__)


def without_gradients(asked: list[str]) -> dict[str, str]:
    """What of that cannot be asked, because the network's gradients are not to be had, and why."""
    reason = no_gradients(net) if asked else ""
    said = f"This needs gradients, and this network has no certified twin. {reason}"
    return dict.fromkeys(asked, said) if reason else {}


what = controls.choice("Compare", "what", ["methods", "networks", "layers"])
where = {"class": scene.class_index}
if what != "networks":
    where = controls.target(scene, kinds=("class", "margin", "unit"))
blocked: dict[str, str] = {}  # what is not even asked, and why
if what == "methods":
    chosen = controls.several("Methods, up to six", "methods", list(ways()), QUICK, MOST)
    layer = controls.map_layer(net, where) if any("layer" in ways()[method].takes for method in chosen) else None
    called = {method: at(method, layer) if layer and "layer" in ways()[method].takes else method for method in chosen}
    titles = list(called.values())
    blocked = without_gradients([called[method] for method in chosen if ways()[method].needs_gradient])
    knobs = {"methods": ", ".join(method for method in chosen if called[method] not in blocked), "layers": layer or ""}
elif what == "layers":
    able = [layer.name for layer in net.layers if layer.has_map]
    taking = [title for title, asking in ways().items() if "layer" in asking.takes]
    method = controls.one("Method", "method", taking, "Grad-CAM", width=320)
    spread = [able[round(k)] for k in np.linspace(0, len(able) - 1, MOST)] if able else []
    chosen = controls.several("Layers, up to six", "layers", able, list(dict.fromkeys(spread)), MOST)
    titles = [at(method, layer) for layer in chosen]
    blocked = without_gradients(titles if ways()[method].needs_gradient else [])
    knobs = {"methods": "" if blocked else method, "layers": ", ".join(chosen)}
else:
    here = available.at_hand()
    label = net.labels[scene.class_index]
    labels = cached(lambda path, modified: available.labels(path), 64)
    having = [name for name, path in here.items() if label in labels(path, path.stat().st_mtime)]
    method = controls.one("Method", "method", list(ways()), "Grad-CAM", width=320)
    titles = controls.several(
        "Networks, up to six",
        "networks",
        list(here),
        [net.name, *(name for name in having if name != net.name)][:MOST],
        MOST,
    )
    knobs = {"methods": method}
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    # Different methods have different units, so that there is no scale that would suit them all.
    scale = controls.choice("Colours from", "scale", ["each map"] if what == "methods" else ["each map", "all maps"])
    percentile = st.slider("Full at percentile", 90.0, 100.0, 99.5, 0.1, key="clip", bind="query-params", width=180)
    opacity = st.slider("Map over picture", 0.0, 1.0, 0.6, 0.05, key="opacity", bind="query-params", width=150)

if not titles or not knobs["methods"]:
    for panel, title in zip(controls.panels(len(titles)), titles, strict=True):
        panel.warning(f"{title}: {blocked[title]}")
    st.info(f"Choose some {what} that can be asked.")
    st.stop()

if what == "networks":
    job = line.run(
        net.engine,
        "compare_networks",
        (*titles, image.digest(scene.picture), label, method),
        lambda: networks_steps({name: here[name] for name in titles}, scene.picture, label, method=method),
    )
else:
    job = line.run(
        net.engine,
        "compare",
        (net.sha256, net.output, image.digest(scene.pixels), *where.values(), *knobs.values()),
        lambda: compare_steps(net, scene.pixels, aim(net, where), **knobs),
    )


def tops(maps: dict[str, np.ndarray]) -> dict[str, float]:
    """What counts as 1 on the colour scale, for each map."""
    found = {title: float(np.nanpercentile(np.abs(values), percentile)) or 1.0 for title, values in maps.items()}
    return found if scale == "each map" else dict.fromkeys(found, max(found.values(), default=1.0))


def draw(step, complete: bool) -> None:
    maps = step.result.maps if step else {}
    refused = blocked | (step.result.refused if step else {})
    signed = any(np.nanmin(values) < 0 for values in maps.values())
    one = tops(maps)
    for panel, title in zip(controls.panels(len(titles)), titles, strict=True):
        with panel:
            st.markdown(f"**{title}**")
            if title in refused:
                st.warning(refused[title], icon=":material/block:")
            elif title not in maps:
                if job.active:
                    st.skeleton(height=marks.PANEL + 60)
                else:
                    st.caption("There is no map: the run ended before it.")
            else:
                values, top = maps[title], one[title]
                controls.still(
                    overlays.heatmap(
                        values,
                        shown=values / top if scale == "each map" else values,
                        title="share of the map's own strongest" if scale == "each map" else "evidence, one scale",
                        signed=signed,
                        bounds=(-1.0 if signed else 0.0, 1.0)
                        if scale == "each map"
                        else (-top if signed else 0.0, top),
                        over=scene.picture,
                        frame=step.result.frames[title] if what == "networks" else scene.frame,
                        opacity=opacity,
                        value_name="evidence",
                        most=28,
                    ),
                    key=f"compare_{title}",
                    alt=f"Where {title} sees evidence.",
                )
                st.caption(
                    f"{values.shape[0]} × {values.shape[1]} places; the strongest is "
                    f"{float(np.nanmax(np.abs(values))):.3g} in its own unit."
                )
    if step is None or len(step.result.correlations) < 2:
        return
    found = step.result.correlations
    names = list(maps)[: len(found)]
    st.markdown("#### How much they agree")
    apart = pairs(found, names)
    row = st.container(horizontal=True, gap="medium")
    with row.container(width=350):
        controls.still(
            grids.matrix(found, names, "rank correlation"),
            alt=f"The rank correlation of each pair: {'; '.join(apart)}.",
        )
    with row.container(width=380):
        st.markdown(
            f"Most alike: {apart[0]}.  \nLeast alike: {apart[-1]}."
            if len(apart) > 1
            else f"{apart[0]}.".replace(", ", ": ")
        )
        st.caption(
            "1: both maps put all places in the same order; 0: they have nothing to do with each other; below 0: "
            "where the one sees evidence the other sees the least. Maps are stretched over the same part of the "
            "picture first."
        )


def pairs(found: np.ndarray, names: list[str]) -> list[str]:
    """Every two maps and their correlation, in words, the most alike first."""
    rows, cols = np.triu_indices(len(names), 1)
    order = np.argsort(-found[rows, cols], kind="stable")
    return [f"{names[rows[k]]} and {names[cols[k]]}, {found[rows[k], cols[k]]:.2f}".replace("-0", "−0") for k in order]


watch.show(net.engine, job, draw)
st.caption(
    ("Maps of different methods have different units. " if what == "methods" else "")
    + "Each map is divided by its own strongest value, and all share one colour scale; what you point at, and the "
    "downloaded numbers, are as the method gave them."
    if scale == "each map"
    else "All maps are of one unit and on one scale, as the method gave them."
)
result = job.step.result if job.step else None
follow = chosen[0] if what == "methods" else method
links.onward("explain", "faithfulness", f"Does the network really go by {follow}?", method=follow)


def maps_png() -> bytes:
    signed = any(np.nanmin(values) < 0 for values in result.maps.values())
    tiles = []
    for title, top in tops(result.maps).items():
        whole = over_picture(result.maps[title], net.input_size) / top
        tiles += [painting.paint(whole, -1.0 if signed else 0.0, 1.0, signed), np.ones((len(whole), 4, 3), np.float32)]
    return image.to_png(np.concatenate(tiles[:-1], 1))


# The command line asks one network at a time: here the sidebar's.
alone = what == "networks"
foot.foot(
    compare if not alone else evidence if result and net.name in result.maps else None,
    scene,
    knobs={"target": where, "method": method}
    if alone
    else {"target": where, **{k: v or None for k, v in knobs.items()}},
    downloads=[
        ("Maps, in that order (PNG)", "compare.png", maps_png, "image/png"),
        (
            "Numbers (NPZ)",
            "compare.npz",
            foot.npz(**result.maps, correlations=result.correlations),
            "application/octet-stream",
        ),
    ]
    if result and result.maps
    else [],
    explained="""
Each map says of every place how much it counts for the same number, by another method's idea of *counting*: a change of
the pixel (Gradient), what the layer's channels contribute (the CAMs), or what is lost when the place is hidden
(Occlusion, RISE). So they need not agree, and where they do it may be for a reason of their own: maps that follow the
picture's edges look alike whatever the network has learned
([Adebayo 2018](https://arxiv.org/abs/1810.03292)). Agreement is no proof; *Faithfulness* asks the network itself.

The number in each cell is Spearman's rank correlation of two maps over all places: it knows nothing of units and
colours, only of order. A coarse map of 10 × 10 places is stretched before it is ranked against one of pixels, and never
agrees with it in detail.

Networks see different parts of the picture at different sizes; each map is drawn over the part that its network saw,
and ranked on the part that all of them saw. *Reproduce* then speaks of the network in the sidebar.

Papers: [CAM, Zhou 2016](https://arxiv.org/abs/1512.04150), [Grad-CAM, Selvaraju
2017](https://arxiv.org/abs/1610.02391), [guided backpropagation, Springenberg
2014](https://arxiv.org/abs/1412.6806).
""",
)

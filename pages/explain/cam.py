"""CAM: Where in the picture does the network see this class?

The last layers still have rows and columns, and each of their channels speaks for a class or against it: added up, they
are a map of the evidence. Where the network ends in an average and one linear layer that map is exact; for all others,
nine methods estimate it. Sources: Zhou 2016, Selvaraju 2017.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.explain import boxes
from engine.explain.cam import NoCam, ending
from engine.explain.evidence import evidence, evidence_steps, over_picture, ways
from engine.look.activations import unit_window
from engine.net import softmax
from engine.pictures import regions, samples, truth
from engine.step import Step
from engine.target import asked
from ui import controls, foot, links
from ui.ask import aim, ask
from ui.charts import grids, marks, overlays, painting, plots
from ui.jobs import line, watch
from ui.scene import cached, class_names, current_scene, need_gradients, scores_of

VIEWS = ["one map", "top five", "several pictures", "all layers"]
NOTES = {
    "CAM": "Each channel of the averaged layer, weighed by the output layer's own weight for the class.",
    "Grad-CAM": "Each channel, weighed by the mean of its gradient: CAM for any network and any layer.",
    "Grad-CAM++": "Channels weighed by their positive gradients, each place with a share of its own, so that several "
    "small things count as much as one large one.",
    "HiResCAM": "Each unit times its own gradient, with its sign: only places that the network used can light up.",
    "LayerCAM": "Each unit times its own gradient where that is positive: made for early layers.",
    "XGrad-CAM": "Channels weighed by their gradient at the places where they are active.",
    "Eigen-CAM": "The strongest pattern of the layer's activations.",
    "Score-CAM": "No gradient: each channel masks the picture, and counts by what the network says of the rest.",
    "Ablation-CAM": "No gradient: each channel is switched off in turn, and counts by what the number loses.",
    "Guided Grad-CAM": "Guided backpropagation times Grad-CAM: fine lines, drawn only where the evidence is.",
}
UNITS = dict.fromkeys(["Eigen-CAM", "Score-CAM", "Ablation-CAM"], "units of activation")
UNITS |= dict.fromkeys(["Grad-CAM++", "Guided Grad-CAM"], "no unit")  # all others are in the unit of what is asked
BY_PIXEL = "Guided Grad-CAM"  # its map is as fine as the picture, so that its cells are no units of the layer
WHOLE = 10**6  # a map's share of a run, in steps: methods differ in theirs

scene = current_scene()
net = scene.net
st.session_state.pop("moved", None)
names = class_names(net)
foot.head(__doc__)
last = next((found.name for found in reversed(net.layers) if found.has_map and "Pool" not in found.op), None)
if not any(found.has_map for found in net.layers):
    st.info("This network has no layer with rows and columns, so there is no place that a map could show.")
    st.stop()

# Choose -------------------------------------------------------------------------------------------------------------

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    view = controls.choice("Show", "view", VIEWS, wrap=True)
    where = {"class": scene.class_index} if view == "top five" else controls.target(scene, kinds=("class", "margin"))

end, no_cam = None, ""
try:
    end = cached(ending)(net)
    if view == "all layers":
        no_cam = f"CAM is of the averaged layer alone, which is {end.layer}; Grad-CAM asks the same of every layer."
    elif "against" in where:
        no_cam = "CAM is about a class; Grad-CAM asks the same of a margin."
except NoCam as refusal:
    no_cam = str(refusal)

methods = [
    "Grad-CAM",
    *(title for title, found in ways().items() if "layer" in found.takes and title != "Hide-and-seek"),
]
methods = list(dict.fromkeys(methods if no_cam else ["CAM", *methods]))
if st.session_state.get("method") not in methods:  # another network was chosen, or another page's method
    st.session_state.pop("method", None)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    method = st.selectbox(
        "Method",
        methods,
        key="method",
        bind="query-params",
        width=200,
        help="CAM, Eigen-CAM, Score-CAM and Ablation-CAM need no gradient, and so no verified twin.",
    )
    if view == "one map":
        threshold = st.slider(
            "Box from, share of the maximum",
            *(boxes.THRESHOLDS[0], boxes.THRESHOLDS[-1], 0.2, 0.05),
            key="threshold",
            bind="query-params",
            width=200,
        )
    opacity = st.slider("Map over picture", 0.0, 1.0, 0.6, 0.05, key="opacity", bind="query-params", width=150)
    asking = ways()[method]
    numbers = controls.precision(net) if "precision" in asking.takes else {}
st.caption(" ".join([NOTES.get(method, ""), no_cam if method == methods[0] else ""]))
if "target" not in asking.takes:
    st.info(
        f"{method} asks about no class: its map is the same for every class, and is evidence for none of them.",
        icon=":material/block:",
    )
if method == "CAM":
    layer = end.layer
    st.caption(f"Averaged is {layer}: {controls.describe(net.layer(layer))}. It takes no other layer and no gradient.")
else:
    layer = controls.layer(net, default=last)
if asking.needs_gradient:
    need_gradients(net)

if view == "several pictures":
    kind = "planted" if set(net.labels) == set(truth.CLASSES) else "digit" if net.channels == 1 else "photograph"
    suited = samples.names(kind)
    if not set(st.session_state.get("pictures", ())) <= set(suited):
        st.session_state.pop("pictures", None)
    others = st.multiselect("Beside this picture", suited, suited, key="pictures", bind="query-params")

# Compute ------------------------------------------------------------------------------------------------------------

# What is asked, map by map: (picture, which part of it the net sees, that part, of which number, layer).
asks, titles = [(scene.picture, scene.frame, scene.pixels, where, layer)], [method]
if view == "top five":
    top = [int(k) for k in (-scene.probabilities).argsort(kind="stable")[:5]]
    asks = [(scene.picture, scene.frame, scene.pixels, {"class": k}, layer) for k in top]
    titles = [names[k] for k in top]
elif view == "several pictures":
    titles = [scene.picture_name, *(name for name in others if name != scene.picture_name)]
    for name in titles[1:]:
        pixels, part = net.view(samples.load(name))
        asks.append((samples.load(name), part, pixels, where, layer))
elif view == "all layers":
    titles = [found.name for found in reversed(net.layers) if found.has_map]  # those that know most come first
    asks = [(scene.picture, scene.frame, scene.pixels, where, name) for name in titles]


def steps():
    """All maps one after the other; a step's result are those that there are, the last one perhaps unfinished."""
    found = []
    for _, _, pixels, number, name in asks:
        for step in evidence_steps(net, pixels, aim(net, number), method=method, layer=name, **numbers):
            done = len(found) * WHOLE + WHOLE * step.index // step.total
            yield Step(done, len(asks) * WHOLE, [*found, step.result])
        found.append(step.result)


def limits(found: list[np.ndarray]) -> tuple[bool, tuple[float, float]]:
    """Whether maps that share a colour scale are signed, and what it runs from and to."""
    values = np.concatenate([each.ravel() for each in found])
    signed = bool(values.min() < 0)
    low, high = painting.limits(values, signed)
    return signed, (low, high) if signed else (0.0, float(values.max()) or 1.0)


def scored(logits: np.ndarray, number: dict) -> str:
    """What a picture with these logits scores, for people: a probability, or a margin in logits."""
    if "against" in number:
        return f"{logits[number['class']] - logits[number['against']]:+.2f} logits"
    return f"{softmax(logits[None])[0, number['class']]:.1%}"


asked_of = asked(net, aim(net, where))
unit = UNITS.get(method, asked_of.unit)
scale = f"{method}, {unit}"


def move(**choices: object) -> None:
    """Set choices of the whole page, also from within the part that follows a run and is drawn again by itself."""
    st.session_state.update(choices, moved=True)


# Show ---------------------------------------------------------------------------------------------------------------


def one_map(found: list[np.ndarray]) -> None:
    (values,) = found
    signed, bounds = limits(found)
    whole = over_picture(values, net.input_size)
    part = boxes.largest_part(whole, threshold)
    box = regions.bounds(part)
    size = " × ".join(map(str, net.input_size))
    left, middle, right = controls.panels(3)
    with right:
        fine = method == BY_PIXEL
        st.markdown("**What this pixel is worth**" if fine else "**What this cell sees**")
        at = controls.cell("Cell (row, column)", "at", *values.shape, "the strongest")
        row, col = at or (int(k) for k in np.unravel_index(values.argmax(), values.shape))
        window = (row, col, row + 1, col + 1) if fine else unit_window(net, layer, row, col)
        field = scene.frame.box_to_picture(*window)
        step = np.divide(net.input_size, values.shape)
        cell = scene.frame.box_to_picture(*step * (row, col), *step * (row + 1, col + 1))
        if not fine:
            st.image(image.to_png(marks.enlarge(image.crop(scene.picture, *field), 200)), width=200)
        st.caption(
            f"({row}, {col}) is at {values[row, col]:.3g}{'' if unit == 'no unit' else ' ' + unit}."
            + ("" if fine else f" It sees {window[2] - window[0]} × {window[3] - window[1]} of the {size} pixels.")
        )
        if not fine:
            links.onward("look", "activations", "Which channels fire there?", layer=layer, at=f"{row}, {col}")
    with left:
        st.markdown("**The picture**, and the box around the evidence")
        drawn = [scene.frame.box_to_picture(*box)] if part.any() else []
        controls.still(overlays.picture(scene.picture, frame=scene.frame, boxes=drawn), alt=f"The box {box}.")
        st.caption(
            f"The largest part at {threshold:.0%} of the maximum or above; its box covers "
            f"{boxes.filled_box(box, whole.shape).mean():.0%} of what the network sees."
            if part.any()
            else "The map is nowhere above zero, so there is nothing to draw a box around."
        )
    with middle:
        st.markdown(f"**{method}** over the picture")
        controls.clickable(
            overlays.heatmap(
                values,
                title=scale,
                signed=signed,
                bounds=bounds,
                over=scene.picture,
                frame=scene.frame,
                opacity=opacity,
                name="cell",
                value_name="evidence",
                boxes=[cell] if fine else [field, cell],
            ),
            "cell",
            controls.put("at"),
            f"{method} of {asked_of.title} over the picture; a click on a cell shows what it sees.",
            key="cam_map",
        )
    planted = true_masks()
    left, right = controls.panel_and_rest()
    with left:
        about = "Margin" if "against" in where else "Probability"
        st.metric(f"{about} of {scene.class_name}", scored(scene.logits, where), width="content")
        if method == "CAM":
            bias = end.bias[scene.class_index]
            st.caption(
                f"The map's mean, {values.mean():.3f}, plus the class's bias, {bias:.3f}, is its logit: "
                f"{scene.logits[scene.class_index]:.3f}. Nothing else enters."
            )
        true = None
        if planted:
            true = planted[controls.choice("What is known to be there", "planted", list(planted))]
    table = boxes.sweep(whole, true)
    with right:
        curves = {"share": "share of the picture"}
        curves |= {"iou": "box on true box", "mask_iou": "part on true mask"} if planted else {}
        controls.clickable(
            plots.lines(
                table.rename(columns=curves),
                x="threshold",
                y=[title for column, title in curves.items()],
                x_title="threshold, share of the map's maximum",
                y_title="share, overlap" if planted else "share of the picture",
                bounds=(0.0, 1.0),
                name="sweep",
                chosen=threshold,
                height=240 if planted else 200,
            ),
            "sweep",
            lambda point: move(threshold=round(point["threshold"], 2)),
            "How much of the picture the box covers at each threshold; a click takes one.",
            key="sweep",
            width="stretch",
        )
    if true is not None:
        at_best = table.loc[table.iou.idxmax()]
        hit = "inside" if boxes.points_at(whole, true) else "outside"
        st.caption(
            f"The map's maximum lies {hit} of it, and {boxes.inside(whole, true):.0%} of the positive evidence inside. "
            f"Overlap is intersection over union; the box fits best at {at_best.threshold:.0%}: {at_best.iou:.2f}."
        )


def true_masks() -> dict[str, np.ndarray]:
    """Of a planted picture: where in the net's view the object and the watermark are; first what the class is about."""
    if scene.picture_name not in samples.names("planted"):
        return {}
    made = samples.planted(scene.picture_name)
    masks = {"object": made.object, "watermark": made.cue}
    if made.cue_class not in (None, made.object_class) and scene.class_name == truth.CLASSES[made.cue_class]:
        masks = dict(reversed(masks.items()))
    seen = {name: net.view(mask[..., None].repeat(3, 2).astype(np.float32))[0] for name, mask in masks.items()}
    return {name: mask[..., 0] > 0.5 for name, mask in seen.items() if (mask[..., 0] > 0.5).any()}


def side_by_side(found: list[np.ndarray], key: str, scores: list[str], choose) -> None:
    """A small map over its picture for each, in the colours of one scale; a click on one calls `choose(its place)`."""
    signed, bounds = limits(found)
    for k, panel in enumerate(controls.panels(len(asks), marks.TILE)):
        if k >= len(found):
            panel.skeleton(height=marks.TILE)
            continue
        with panel:
            controls.clickable(
                overlays.tile(
                    found[k],
                    bounds=bounds,
                    signed=signed,
                    over=asks[k][0],
                    frame=asks[k][1],
                    opacity=opacity,
                    tip={key: titles[k], "score": scores[k], "maximum": f"{found[k].max():.3g}"},
                    name="map",
                ),
                "map",
                lambda _, k=k: choose(k),
                f"{method} for {titles[k]}, {scores[k]}; a click chooses it.",
                key=f"tile_{key}_{k}",
            )
            st.markdown(f"{titles[k]} · **{scores[k]}**")
    controls.still(
        overlays.colour_bar(bounds, title=scale, signed=signed), alt=f"From {bounds[0]:.3g} to {bounds[1]:.3g}."
    )


def top_five(found: list[np.ndarray]) -> None:
    st.markdown("**The five likeliest classes**, in the colours of one scale; a click takes a class")
    scores = [scored(scene.logits, {"class": k}) for k in top]
    choose = lambda k: move(view="one map", **{"class": titles[k]})  # noqa: E731
    side_by_side(found, "class", scores, choose)


def several(found: list[np.ndarray]) -> None:
    st.markdown(f"**{asked_of.title[0].upper()}{asked_of.title[1:]}** in several pictures, in the colours of one scale")
    scores = [scored(scores_of(net, pixels), where) for _, _, pixels, _, _ in asks]
    choose = lambda k: move(view="one map", **({"image": titles[k]} if k else {}))  # noqa: E731
    side_by_side(found, "picture", scores, choose)


def all_layers(found: list[np.ndarray]) -> None:
    left, middle, right = controls.panels(3)
    known, maps = dict(zip(titles, found, strict=False)), titles[::-1]
    with left:
        st.markdown(f"**All {len(maps)} layers** with rows and columns, in order")
        places = controls.grid_page(len(maps), 60, "layers_page")
        here = maps[places.start : places.stop]
        empty = np.full((*net.input_size, 3), 0.5, np.float32)

        def painted(name: str) -> np.ndarray:
            signed, bounds = limits([known[name]])
            return painting.paint(known[name], *bounds, signed)

        controls.clickable(
            grids.sheet(
                [painted(name) if name in known else empty for name in here],
                columns=6,
                name="layer",
                chosen=here.index(layer) if layer in here else None,
                captions={
                    "layer": here,
                    "rows × cols": [f"{net.layer(name).shape[1]} × {net.layer(name).shape[2]}" for name in here],
                    "maximum": [f"{known[name].max():.3g}" if name in known else "not yet" for name in here],
                },
            ),
            "layer",
            lambda point: move(layer=here[point["tile"]], at=""),
            f"{method} at each layer; a click chooses one.",
            key="layer_sheet",
        )
        st.caption("Each tile runs from its own lowest to its own highest value; compare patterns, not brightness.")
    with middle:
        st.markdown(f"**{layer}**, over the picture")
        if layer in known:
            signed, bounds = limits([known[layer]])
            controls.still(
                overlays.heatmap(
                    known[layer],
                    title=scale,
                    signed=signed,
                    bounds=bounds,
                    over=scene.picture,
                    frame=scene.frame,
                    opacity=opacity,
                    value_name="evidence",
                ),
                alt=f"{method} at {layer} over the picture.",
            )
        else:
            st.skeleton(height=marks.PANEL)
    with right:
        st.markdown("**From early to late**")
        st.caption(
            "Early layers are fine and know little of classes: their maps follow edges, whatever is asked. Late ones "
            "are coarse and know most. Methods with one weight per channel (Grad-CAM, Grad-CAM++, XGrad-CAM) were made "
            "for the last layer, because an early channel means different things at different places; LayerCAM and "
            "HiResCAM weigh each place by itself and stay readable further down."
        )


DRAW = dict(zip(VIEWS, (one_map, top_five, several, all_layers), strict=True))
found: list[np.ndarray] = []
if view == "one map" and asking.steps is None:
    try:
        found = [ask(evidence, scene, where, method=method, layer=layer)]
        one_map(found)
    except ValueError as refusal:
        st.error(str(refusal))
else:
    inputs = [(*number.items(), name) for _, _, _, number, name in asks]
    knobs = (net.sha256, net.output, method, *numbers.values(), view, image.digest(scene.pixels), *titles[1:], *inputs)
    job = line.run(net.engine, "cam", knobs, steps)
    found = job.step.result if job.step else []

    def draw(step: Step | None, complete: bool) -> None:
        if st.session_state.pop("moved", False):
            st.rerun()
        if step is None:
            st.skeleton(height=marks.PANEL + 60)
        else:
            DRAW[view](step.result)

    watch.show(net.engine, job, draw)
with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "cam_weakness", "What does the map leave out?")
    links.onward("explain", "occlusion", "Does hiding that place lower the score?")

# Which of the maps stands for all in the panel that reproduces: that of the class, picture and layer that are chosen.
number = where
if view == "top five" and scene.class_index not in top:
    number = {"class": top[0]}
chosen = next(
    (
        k
        for k, each in enumerate(asks)
        if (view != "top five" or each[3] == number) and each[4] == layer and k < len(found)
    ),
    None,
)


def map_png() -> bytes:
    signed, bounds = limits([found[chosen]])
    return image.to_png(marks.enlarge(painting.paint(found[chosen], *bounds, signed), 400))


foot.foot(
    asking.function,
    scene,
    knobs={key: value for key, value in (("target", number), ("layer", layer)) if key in asking.takes} | numbers,
    downloads=[
        ("Map (PNG)", "cam.png", map_png, "image/png"),
        (
            "Numbers (NPZ)",
            "cam.npz",
            foot.npz(**{f"{k}_{title}": each for k, (title, each) in enumerate(zip(titles, found, strict=False))}),
            "application/octet-stream",
        ),
    ]
    if chosen is not None
    else [],
    explained="""
A class activation map shows **the evidence that the network uses most**, where one of its layers sees it. It does not
show all of it: a network that is sure of a cat by its face has no need of the legs, and the map leaves them out (*What
does the map leave out?* shows how much). It is coarse, because late layers are: each cell stands for all the pixels
that it sees, not only for those that it covers. And it explains the number, not the world: evidence for a wrong class
is drawn just as brightly.

**CAM** ([Zhou 2016](https://arxiv.org/abs/1512.04150)): if a class's logit is a constant plus a weighted sum of the
channels' means, it is also the mean of one map, the same weighted sum of the channels themselves. That map is the
network's own arithmetic, and ONNX Runtime alone computes it. As in the paper, the box is drawn around the largest
connected part at 20 % of the maximum or above.

- **Grad-CAM** ([Selvaraju 2017](https://arxiv.org/abs/1610.02391)): the positive part of the sum of channels, each
  times its mean gradient. At the averaged layer this is CAM's positive part, divided by the number of cells.
- **Grad-CAM++** ([Chattopadhyay 2018](https://arxiv.org/abs/1710.11063)): positive gradients, each with its share.
- **HiResCAM** ([Draelos 2020](https://arxiv.org/abs/2011.08891)): the sum of gradient times activation, place by place.
- **LayerCAM** ([Jiang 2021](https://doi.org/10.1109/TIP.2021.3089943)): the same of positive gradients alone.
- **XGrad-CAM** ([Fu 2020](https://arxiv.org/abs/2008.02312)): the mean gradient counts each place by its activation.
- **Eigen-CAM** ([Muhammad 2020](https://arxiv.org/abs/2008.00299)): the first principal component, **of no class**.
- **Score-CAM** ([Wang 2020](https://arxiv.org/abs/1910.01279)): the score that the picture keeps behind each channel.
- **Ablation-CAM** ([Desai 2020](https://doi.org/10.1109/WACV45572.2020.9093360)): the share of the score that goes with
  each channel.
- **Guided Grad-CAM** (Selvaraju 2017): guided backpropagation times Grad-CAM. Its fine lines are the picture's edges
  and hardly depend on the class; only where they are drawn does.

Maps are drawn cell by cell; for the box they are stretched over the picture, bilinear as in the papers.
""",
)

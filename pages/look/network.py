"""Network: What is this network made of?

Every op with its shape, the numbers it holds, the work it does and the time it takes; how they hang together; and where
the two engines part. All of it is read from the one file and measured here. Sources: the ONNX operators.
"""

import numpy as np
import pandas as pd
import streamlit as st

from engine import record
from engine.data.indexing import default_layers
from engine.look import diagram as diagrams
from engine.look.anatomy import NEAR_ZERO, RUNS, anatomy, histogram, profile_steps, statistics, weights
from engine.look.filters import convolutions
from engine.nets import certificate as certificates
from engine.pictures import samples
from engine.step import Step
from ui import controls, drawing, foot, links
from ui.charts import network, plots
from ui.jobs import line, watch
from ui.scene import cached, current_scene

WHOLE, AROUND = "the whole network", "around the layer"
PALE, FULL = (244, 240, 234), (232, 121, 48)  # colours of boxes that have none of a quantity, and most of it
QUANTITIES = {"multiply-adds": "macs", "parameters": "parameters", "values": "values", "time": "milliseconds"}
HEIGHT = 660  # pixels of the drawing

scene = current_scene()
net = scene.net
foot.head(__doc__)
found = cached(anatomy, 8)(net)
job = line.run(net.engine, "profile", (net.sha256, net.output), lambda: profile_steps(net))
timed = job.step.result if job.step else None
layers = found.layers.assign(milliseconds=timed.layers.milliseconds if timed else np.nan)
names = list(layers.name)


def short(number: float) -> str:
    """1,235,496 as 1.24 M."""
    for size, sign in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{sign}"
    return f"{number:.3g}"


def choose(name: str) -> None:
    if name in names:
        st.session_state["layer"] = name


# In numbers ---------------------------------------------------------------------------------------------------------

with st.container(horizontal=True, gap="large"):
    said = "Numbers that training can change: no running statistics and no settings. Shared ones count once."
    st.metric("Parameters", short(found.parameters), help=f"{found.parameters:,}. {said}", width="content")
    said = "Of convolutions and matrix products, for one picture; biases, normalisations and sums do not count."
    if found.uncounted:
        said += f" Not counted: {found.uncounted}."
    st.metric("Multiply-adds", short(found.macs), help=f"{found.macs:,}. {said}", width="content")
    told = f"{timed.optimised:.3g} ms" if timed else "…"
    said = f"One picture, as the app runs it on the {net.engine}, ops fused: the median of {RUNS} runs."
    st.metric("Time", told, help=said, width="content")
    st.metric("File", f"{found.file_bytes / 1e6:.3g} MB", help=f"{found.file_bytes:,} bytes.", width="content")
    counted = ", ".join(f"{row['count']} {row.op}" for _, row in found.ops.iterrows())
    st.metric("Ops", f"{len(layers):,}", help=f"{counted}.", width="content")
    st.metric("Operator set", found.opset, help=f"Written by {found.producer or 'a program unnamed'}.", width="content")

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    of = controls.choice("How much of what", "of", list(QUANTITIES))
    heaviest = names[int(layers.macs.to_numpy().argmax())]
    layer = controls.one("Layer", "layer", names, heaviest, width=320)
row = layers.loc[layers.name == layer].iloc[0]
column = QUANTITIES[of]
titles = {"macs": "multiply-adds", "values": "values of its output", "milliseconds": "milliseconds, CPU"}
drawn = layers[["name", "op", "kind", "shape", "parameters", "macs", "values"]].assign(
    milliseconds=layers.milliseconds.round(4)
)
controls.clickable(
    network.ranked(
        drawn.fillna({"milliseconds": 0}),
        y=column,
        title=titles.get(column, column),
        tips=["name", "op", "shape", "parameters", "macs", "milliseconds"],
        colours=diagrams.COLOURS,
        name="name",
        chosen=layer,
        height=250,
        across_title=f"{len(drawn)} ops, from the picture to the scores",
        legend=True,
    ),
    "name",
    lambda point: choose(point["name"]),
    f"The {of} of each of the {len(drawn)} ops, in order; a click chooses one.",
    key="network_bars",
    width="stretch",
)


def draw_time(step: Step | None, complete: bool) -> None:
    if step is None or step.result is None:
        st.caption("Each op is timed by ONNX Runtime's profiler, one by one …")
        return
    took = step.result
    st.caption(
        f"Timed one by one on the CPU by ONNX Runtime's profiler, nothing fused: the median of {took.runs} runs. The "
        f"ops take {took.layers.milliseconds.sum():.3g} ms together, such a run {took.plain:.3g} ms; optimised, as the "
        f"app runs it on the {took.engine}, {took.optimised:.3g} ms."
    )


watch.show(net.engine, job, draw_time)
if timed is None and job.state == "done":  # while this page was being drawn
    st.rerun()


# The drawing, the table, the layer ------------------------------------------------------------------------------------

usual = cached(diagrams.usual, 8)(net)
parts = cached(diagrams.parts, 8)(net)
left, right = st.columns([2, 3], gap="medium")
with left:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        level = controls.one("Boxes", "level", list(diagrams.LEVELS), usual, width=108)
        shown = cached(diagrams.diagram, 16)(net, level)
        first = WHOLE if len(shown.boxes) <= diagrams.MANY else AROUND
        part = controls.one("Part", "part", [WHOLE, AROUND, *parts], first, width=160)
        colour = controls.one("Colour", "colour", ["kind of op", *QUANTITIES], width=130)
    box = shown.box_of(layer)
    only = None
    if part == AROUND and box:
        only = shown.around(box)
    elif part in parts:
        only = shown.within(parts[part])
    fills, notes = None, None
    if colour != "kind of op":
        each = layers.set_index("name")[QUANTITIES[colour]].fillna(0)
        sums = {name: sum(each.get(tensor, 0) for tensor in b.tensors) for name, b in shown.boxes.items()}
        most, whole = max(sums.values()) or 1, each.sum() or 1
        mix = {name: np.array(PALE) + (np.array(FULL) - PALE) * value / most for name, value in sums.items()}
        fills = {name: "#" + "".join(f"{round(part):02x}" for part in rgb) for name, rgb in mix.items()}
        notes = {name: f"{value / whole:.1%}" for name, value in sums.items()}
    dot = diagrams.dot(shown, net.graph.shapes, only=only, chosen=box, fills=fills, notes=notes)
    drawing.graph(
        dot,
        chosen=box,
        of=f"{net.sha256} {level} {part}",
        choose=choose,
        alt=f"The network's graph in {len(only or shown.boxes)} boxes, from the picture on top to the scores.",
        key="network_graph",
        height=HEIGHT,
    )
    said = "Colours as in the chart above." if fills is None else f"The fuller the colour, the more {colour}."
    st.caption(f"A click chooses a box; the chosen one has a thick frame. {said}")


def clicked() -> None:
    places = st.session_state["network_table"]["selection"]["rows"]
    if places:
        choose(names[places[0]])


def across(rows: pd.Series, cols: pd.Series) -> pd.Series:
    return [f"{a}" if a == b else f"{a}×{b}" for a, b in zip(rows, cols, strict=True)]


with right:
    view = pd.DataFrame({
        "layer": layers.name,
        "op": layers.op,
        "shape": layers["shape"],
        "parameters": layers.parameters,
        "multiply-adds": layers.macs,
        "ms": layers.milliseconds,
        "sees": across(layers.field_rows, layers.field_cols),
        "every": across(layers.stride_rows, layers.stride_cols),
    })  # fmt: skip
    view["every"] = view.every.where(layers.stride_rows > 0, "")
    view["sees"] = view.sees.where(layers.stride_rows > 0, "all")
    st.dataframe(
        view,
        hide_index=True,
        height=300,
        column_config={
            "layer": st.column_config.TextColumn("layer", width=170),
            "op": st.column_config.TextColumn("op", width=80),
            "shape": st.column_config.TextColumn("shape", help="Of one picture's output: channels × rows × columns."),
            "parameters": st.column_config.NumberColumn("parameters", format="compact"),
            "multiply-adds": st.column_config.NumberColumn("multiply-adds", format="compact"),
            "ms": st.column_config.NumberColumn("ms", format="%.3f", help="On the CPU, by itself."),
            "sees": st.column_config.TextColumn("sees", help="Receptive field: pixels of the network's input a side."),
            "every": st.column_config.TextColumn("every", help="Stride: pixels from one unit's field to the next."),
        },
        on_select=clicked,
        selection_mode="single-row",
        key="network_table",
    )
    facts = [f"{row.op}, {row['kind']}", f"output {row['shape'] or 'one number'}"]
    if row.parameters:
        facts.append(f"{row.parameters:,} parameters ({row.parameters / found.parameters:.1%} of all)")
    if row.macs:
        facts.append(f"{row.macs:,} multiply-adds ({row.macs / found.macs:.1%})")
    if np.isfinite(row.milliseconds):
        facts.append(f"{row.milliseconds:.3g} ms ({row.milliseconds / layers.milliseconds.sum():.1%})")
    node = net.graph.producer(layer)
    settings = {
        key: "×".join(map(str, value)) if isinstance(value, list) else value
        for key, value in node.attributes.items()
        if isinstance(value, (int, float, str, list))
    }
    st.markdown(f"**{layer}**")
    facts += [f"{key} {value}" for key, value in settings.items()]
    st.caption(" · ".join(facts))
    held = cached(weights, 4)(net, layer)
    if held:
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            tensor = controls.one("Weights", "tensor", list(held), width=320)
            log = st.checkbox("Logarithmic counts", key="log", bind="query-params")
        st.altair_chart(
            plots.histogram(histogram(held[tensor]), title=f"weights of {tensor}"[:60], log=log),
            alt=f"How the {held[tensor].size:,} numbers of {tensor} are spread.",
        )
        st.dataframe(
            statistics(held).rename(columns={"near_zero": "near 0"}),
            hide_index=True,
            column_config={
                "name": st.column_config.TextColumn("name", width="medium"),
                **{k: st.column_config.NumberColumn(format="%.4g") for k in ("mean", "std", "smallest", "largest")},
                "near 0": st.column_config.NumberColumn(
                    format="percent", help=f"Within {NEAR_ZERO:.0%} of the largest."
                ),
            },
        )
    else:
        st.caption("This op has no weights of its own.")
    link = next((each for each in net.layers if each.name == layer), None)
    with st.container(horizontal=True, gap="medium"):
        if layer in convolutions(net):
            links.onward("look", "filters", "Its filters", layer=layer)
        if link is not None and link.has_map:
            links.onward("look", "activations", "Where does it fire?", layer=layer)
            asked = {"layer": layer} if layer in default_layers(net) else {}  # the others are in no index yet
            links.onward("look", "units", "Units over many pictures", **asked)


# The two engines ------------------------------------------------------------------------------------------------------

st.markdown("#### Where do the two engines part?")
kept = certificates.recall(net)
if kept is None:
    st.markdown("Nobody has compared ONNX Runtime and the PyTorch twin on this network yet.")
elif kept.passed:
    st.markdown(
        f"On all {kept.tensors} tensors the PyTorch twin equals ONNX Runtime to {kept.tensor:.1e} of their range, and "
        f"its gradient equals central differences to {kept.gradient:.2%} ({kept.versions})."
    )
else:
    st.markdown(f"The twin of this network is not certified. {kept.reason}")


def compared():
    """The certificate, as a run of two steps: PyTorch has to be imported, and that may take longer than the rest."""
    yield Step(0, 1, None)
    yield Step(1, 1, certificates.certificate(net, net.view(samples.load("china"))[0]))


def draw_compared(step: Step | None, complete: bool) -> None:
    if step is None or step.result is None:
        return
    table = step.result
    tensors, gradient = (table[table.kind == kind] for kind in ("tensor", "gradient"))
    worst = tensors.loc[tensors.relative.idxmax()]
    beyond = tensors[~(tensors.relative < certificates.TENSOR_LIMIT / 10)]
    first = f"First beyond a tenth of the limit: {beyond.name.iloc[0]}." if len(beyond) else ""
    st.caption(
        f"Most at {worst['name']} ({worst.op}): {worst.relative:.1e} of its largest value. "
        + (first or "Nowhere beyond a tenth of the limit: what is left is the rounding of float32.")
    )
    points = tensors[["name", "op", "shape", "largest", "difference", "relative"]]
    points = points.assign(kind=points.op.map(diagrams.kind))
    controls.clickable(
        network.differences(
            points,
            limit=certificates.TENSOR_LIMIT,
            tips=["name", "op", "shape"],
            colours=diagrams.COLOURS,
            name="name",
            chosen=layer,
        ),
        "name",
        lambda point: choose(point["name"]),
        f"How far the engines are apart on each of {len(tensors)} tensors, in order; a click chooses one.",
        key="network_differences",
        width="stretch",
    )
    mine = tensors[tensors.name == layer]
    if len(mine):
        st.caption(f"{layer}: {mine.relative.iloc[0]:.1e} of its largest value, {mine.largest.iloc[0]:.3g}.")
    st.markdown(f"**The gradient**, against central differences (limit {certificates.GRADIENT_LIMIT:.0%})")
    slopes = gradient[["name", "largest", "difference", "relative"]]
    st.dataframe(
        slopes.rename(columns={"name": "direction", "largest": "slope, logits per pixel unit"}),
        hide_index=True,
        column_config={k: st.column_config.NumberColumn(format="%.3g") for k in slopes.columns[1:]},
    )


table = None
if st.checkbox("Compare all tensors", key="compare", bind="query-params", help="Loads PyTorch: 0.6 GB of memory."):
    check = line.run(net.engine, "certificate", (net.sha256, net.output), compared)
    watch.show(net.engine, check, draw_compared)
    table = check.step.result if check.step else None

downloads = [
    ("Layers (CSV)", "layers.csv", layers.to_csv(index=False), "text/csv"),
    ("Ops (CSV)", "ops.csv", found.ops.to_csv(index=False), "text/csv"),
    ("The drawing (DOT)", "network.dot", dot, "text/vnd.graphviz"),
    ("Numbers (NPZ)", "network.npz", foot.npz(**record.taken_apart(found, "")[0]), "application/octet-stream"),
]
if table is not None:
    downloads.append(("The two engines (CSV)", "certificate.csv", table.to_csv(index=False), "text/csv"))
output = f" --output {net.output}" if len(net.outputs) > 1 else ""
chosen_output = f", output={net.output!r}" if output else ""
foot.foot(
    downloads=downloads,
    reproduced=(
        "from engine.nets import available\nfrom engine.look.anatomy import anatomy, profile\n"
        "from engine.net import Net\n\n"
        f"net = Net(available.find({net.name!r}){chosen_output})\n"
        "result = anatomy(net)\ntimes = profile(net).layers\n",
        f"python -m engine anatomy --net {net.name}{output}{' --compare' if table is not None else ''} --out result/",
    ),
    explained=f"""
**Multiply-adds** are counted by the ops' definitions, for one picture: a convolution makes each value of its output
from (input channels ÷ groups) × kernel products; a transposed one spreads each value of its input over
(output channels ÷ groups) × kernel; a matrix product of M × K and K × N takes M × N × K. Windows that reach into the
padding count in full. Biases, normalisations, activations, pools and sums are left out, as in the tables of papers;
some tables count a multiplication and an addition as two operations, and come to twice as much.

**Parameters** are what training can change. A normalisation's running mean and variance are not among them; where the
exporter folded it into the convolution before, it has none any more.

**Time**: for each op to have a time of its own, ONNX Runtime's optimisations are off while it is profiled. The app
itself runs with them: convolutions are fused with what follows and laid out anew for the processor, so that the whole
is faster than its parts. A share of the profile is a hint at where the time goes, not a bill.

**Receptive field**: *sees* is how many pixels of the input a unit can hang on, *every* how far the fields of neighbours
lie apart; *all* is the whole picture.

**The two engines**: each tensor's largest difference between ONNX Runtime and the PyTorch twin, divided by the
tensor's largest value, on the sample photograph `china`, as `python -m engine certificate {net.name}` does it.
""",
)

"""Robustness: How far must pictures be changed until it is wrong?

One picture proves little. Here each of many is changed as badly as an attack can within a bound, and counted is how
many the network still has right; random noise of the same size shows what a change does that is not aimed.
Sources: Madry 2017, Tsipras 2018.
"""

import shlex

import numpy as np
import pandas as pd
import streamlit as st

from engine import record
from engine.data import dataset
from engine.explain.saliency import signed_saliency
from engine.fool.adversarial import NORMS
from engine.fool.robustness import METHODS, curves_steps, sizes
from engine.model.metadata import BadMetadata
from engine.net import BadNetwork, Net
from engine.nets import available
from ui import controls, fooled, foot, lens, links
from ui.charts import marks, overlays, plots
from ui.jobs import line, watch
from ui.scene import cached, current_scene, need_gradients, no_gradients, open_network

MOST = 2  # networks that are compared with the sidebar's: as many as stay open at a time
FULL = 99.5  # percentile of a map that has the full colour
KNOWN = {
    "name": "The pictures' classes are the data set's labels.",
    "place": "The data set's labels have other names than the network's classes, and are taken in their order.",
    "prediction": "What is in these pictures is not known in the network's classes, so “right” is the answer that it "
    "gives to the picture as it is: the curve is the share that keeps it.",
}

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)


def alike() -> list[str]:
    """Other networks at hand that have the same classes as this one, by name."""
    labels = cached(lambda path, modified: available.labels(path), 64)
    mine = {label.lower() for label in net.labels}
    here = {name: path for name, path in available.at_hand().items() if name != net.name}
    return [name for name, path in here.items() if {k.lower() for k in labels(path, path.stat().st_mtime)} == mine]


def opened(names: list[str]) -> list[Net]:
    """Those of the networks that can be asked; of the others it is said why not."""
    found = []
    for name in names:
        try:
            other = open_network(name)
        except (BadNetwork, BadMetadata) as error:
            st.caption(f"{name} cannot be asked: {error}")
            continue
        if reason := no_gradients(other):
            st.caption(f"{name} cannot be attacked: it has no certified twin. {reason}")
        else:
            found.append(other)
    return found


# Choose -------------------------------------------------------------------------------------------------------------

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    data = lens.pictures(net)
    few = net.input_size[0] * net.input_size[1] > 180**2  # such networks take minutes for 32 on two cores
    pictures = controls.number("Of them, at most", "count", 4, 1000, 12 if few else 32, width=140)
    seed = controls.number("Seed", "seed", 0, 9999, 0, width=110)
    others = alike()
    shipped = [name for name in others if (available.SHIPPED / f"{name}.onnx").exists()]  # small ones: soon done
    beside = []
    if others:
        with st.container(width=320):
            beside = controls.several("Beside, of the same classes", "compared", others, shipped[:MOST], MOST)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    with st.container(width=300):
        methods = controls.several("Attacks", "attacks", list(METHODS), list(METHODS))
    norm = controls.choice("Size is measured in", "norm", list(NORMS))
    grey = net.channels == 1  # digits: hardly anything but black and white, so that much must change
    if norm == "L∞":
        told = "How far each channel of each pixel may go, of 255."
        key, usual = ("farthest_grey", 64) if grey else ("farthest", 16)
        most = controls.slider("Largest epsilon, of 255", 4, 128, usual, key=key, width=180, help=told) / 255
    else:
        told = "The root of the sum of the squares of all changes, in pixel values of 0 to 1."
        key, usual = ("longest_grey", 3.0) if grey else ("longest", 2.0)
        most = controls.slider("Largest epsilon", 0.2, 10.0, usual, 0.1, key=key, width=180, help=told)
    steps = controls.slider("Steps of PGD", 1, 100, 10, key="steps", width=180)
if not methods:
    st.info("Choose at least one attack.")
    st.stop()
asked = [net, *opened(beside)]

# Compute and show ---------------------------------------------------------------------------------------------------

UNIT = 255 if norm == "L∞" else 1
OF = "/255" if norm == "L∞" else ""
knobs = {"pictures": pictures, "methods": methods, "norm": norm, "epsilons": sizes(most, norm), "steps": steps}
knobs["seed"] = seed
job = line.run(
    net.engine,
    "robustness",
    (*((each.sha256, each.output) for each in asked), data.digest, *map(str, knobs.values())),
    lambda: curves_steps(asked, data, **knobs),
    resume=lambda table: curves_steps(asked, data, resume=table, **knobs),
)
pairs = [(each.name, method) for each in asked for method in methods]
titles = {(name, method): f"{method} on {name}" if len(asked) > 1 else method for name, method in pairs}


def at(table: pd.DataFrame, epsilon: float) -> dict[tuple[str, str], pd.Series]:
    """The rows of one epsilon, by network and attack."""
    return {(row["net"], row["attack"]): row for _, row in table[table.epsilon == epsilon].iterrows()}


def share(row: pd.Series | None) -> str:
    """In words; "" where it is not known yet."""
    return "" if row is None else f"{row.accuracy:.0%} ({row.low:.0%} to {row.high:.0%})"


def summed_up(table: pd.DataFrame | None) -> list[str]:
    """Half-way to the largest epsilon, for each network: what attacks leave right, and what noise does ("" so far)."""
    middle = min(knobs["epsilons"], key=lambda epsilon: (abs(epsilon - most / 2), epsilon))
    rows, found = {} if table is None else at(table, middle), []
    for each in asked:
        mine = {method: rows[each.name, method] for method in methods if (each.name, method) in rows}
        called = {method: "random noise of that size" if method == "noise" else method for method in mine}
        if not mine:
            found.append("")
            continue
        (first, row), *rest = mine.items()
        left = f"leaves {row.accuracy:.0%} of {row['count']} pictures right"
        more = [f"{called[method]} {other.accuracy:.0%}" for method, other in rest]
        who = f"**{each.name}**: at" if len(asked) > 1 else "At"
        size = f"{middle * UNIT:.3g}/255" if norm == "L∞" else f"a length of {middle:.3g}"
        found.append(f"{who} {size}, {', '.join([f'{called[first]} {left}', *more])}.")
    return found


def draw(step, complete: bool) -> None:
    left, right = st.columns([7, 3], gap="medium")
    table = None if step is None else step.result
    with left:
        st.markdown("**How many it has right**, with the 95% interval of the share")
        if table is None:
            st.skeleton(height=360)
        else:
            hits = table.right.astype(str) + " of " + table["count"].astype(str)
            curve = [titles[pair] for pair in zip(table["net"], table["attack"], strict=True)]
            chart = plots.shares(
                table.assign(curve=curve, group=table["net"], x=table.epsilon * UNIT, share=table.accuracy, told=hits),
                list(titles.values()),
                x_title="epsilon, of 255" if norm == "L∞" else "epsilon: length of the change, in pixel values",
                y_title="share right",
                most=most * UNIT,
                groups=[each.name for each in asked],
                columns=len(methods),
                height=360,
            )
            alt = f"The share of pictures that are right over epsilon, for {', '.join(titles.values())}."
            st.altair_chart(chart, width="stretch", key="curves", alt=alt)
    with right:
        st.markdown("**In words**")
        for sentence in summed_up(table):
            if sentence:
                st.markdown(sentence)
            elif job.active:  # as high as the sentence to come, so that nothing below moves much
                st.skeleton(height=72)
        if table is not None:
            for known in dict.fromkeys(table.known):
                st.caption(KNOWN[known])
            st.caption("Each picture is judged as it is saved, in 8 bits; what was wrong once stays wrong.")
    shown = {epsilon: {} if table is None else at(table, epsilon) for epsilon in knobs["epsilons"]}
    cells = {titles[pair]: [share(found.get(pair)) for found in shown.values()] for pair in pairs}
    st.dataframe(
        pd.DataFrame({"Epsilon": [f"{epsilon * UNIT:.3g}{OF}" for epsilon in shown], **cells}), hide_index=True
    )


watch.show(net.engine, job, draw)
table = None if job.step is None else job.step.result


def maps() -> None:
    """What each network's score hangs on in the sidebar's picture, for the sidebar's class."""
    label = net.labels[scene.class_index]
    st.markdown(f"#### What do they go by? The gradient for “{scene.class_name}”")
    row = st.container(horizontal=True, gap="small")
    for each in asked:
        pixels, part = each.view(scene.picture)
        place = int(dataset.classes([label], each.labels)[0])
        values = cached(signed_saliency)(each, pixels, place)
        top = float(np.percentile(np.abs(values), FULL)) or 1.0
        chart = overlays.tile(
            values / top,
            bounds=(-1.0, 1.0),
            signed=True,
            over=scene.picture,
            frame=part,
            opacity=1.0,
            tip={"network": each.name, "full colour": f"{top:.3g} logits per unit of pixel value"},
            width=marks.PANEL - 60,
        )
        with row.container(width=marks.PANEL - 56):
            st.markdown(f"**{each.name}**")
            controls.still(chart, key=f"map_{each.name}", alt=f"The gradient of {each.name} at every pixel.")
            st.caption(f"Full colour: {top:.3g} logits per unit of pixel value.")
    with row.container(width=marks.PANEL):
        st.markdown("**How to read it**")
        title = "share of the map's own full colour"
        controls.still(overlays.colour_bar((-1.0, 1.0), title=title, signed=True), alt="The colours, from −1 to 1.")
        st.markdown(
            "Red is where a brighter pixel raises the score of the class, blue where it lowers it. In a network that "
            "was trained on attacked pictures such a map follows the strokes and outlines; in one that was not, it "
            "mostly looks like noise ([Tsipras 2018](https://arxiv.org/abs/1805.12152))."
        )


if len(asked) > 1:
    maps()
fooled.note()
with st.container(horizontal=True, gap="medium"):
    links.onward("fool", "attack", "What does such a change look like?")
    links.onward("explain", "saliency", "Which pixels does it go by?")


def reproduced() -> tuple[str, str]:
    """(Python, command line)."""
    chosen = f", output={net.output!r}" if len(net.outputs) > 1 else ""
    found = [f"Net(available.find({each.name!r}){chosen if each is net else ''})" for each in asked]
    given = st.session_state["lens_data"]
    shown = ", ".join(f"{each * UNIT:g}" for each in knobs["epsilons"])
    epsilons = f"[k / 255 for k in ({shown})]" if norm == "L∞" else f"[{shown}]"
    python = (
        "from engine.data import sets\nfrom engine.nets import available\nfrom engine.net import Net\n"
        "from engine.fool.robustness import curves\n\n"
        f"networks = [{', '.join(found)}]\n"
        f"result = curves(\n    networks, sets.find({given!r}), pictures={pictures}, methods={methods!r},\n"
        f"    norm={norm!r}, epsilons={epsilons}, steps={steps}, seed={seed},\n)\n"
    )
    parts = ["python -m engine robustness --net", shlex.quote(net.name)]
    parts += ["--output", shlex.quote(net.output)] if len(net.outputs) > 1 else []
    parts += ["--beside", shlex.quote(",".join(each.name for each in asked[1:]))] if len(asked) > 1 else []
    parts += ["--data", shlex.quote(given), f"--pictures {pictures} --attacks {','.join(methods)} --norm {norm}"]
    parts += [f"--epsilons {shown.replace(' ', '')} --steps {steps} --seed {seed} --out result/"]
    return python, " ".join(parts)


foot.foot(
    downloads=[
        ("Curves (CSV)", "curve.csv", lambda: table.to_csv(index=False).encode(), "text/csv"),
        ("Numbers (NPZ)", "robustness.npz", foot.npz(**record.taken_apart(table, "")[0]), "application/octet-stream"),
    ]
    if table is not None
    else [],
    reproduced=reproduced(),
    explained="""
For each epsilon, each picture x is changed into the worst one that the attack finds in the ball around it: in L∞ no
channel of any pixel goes farther than epsilon, in L2 the change is no longer than epsilon (the root of the sum of its
squares; black to white in one channel of one pixel is 1). The share of pictures that are still right is the curve.

* **PGD** ([Madry 2017](https://arxiv.org/abs/1706.06083)): many small steps up the loss from a random place in the
  ball. **FGSM** ([Goodfellow 2014](https://arxiv.org/abs/1412.6572)): a single one; where FGSM leaves far more right
  than PGD, that is the attack's weakness and not the network's strength.
* **noise** is drawn by lot in the same ball. It has as much room and does little: what makes an attack is the
  direction, not the size.

A curve bounds the truth from above: that these attacks fail does not say that all do, and more steps lower it further.
On pictures that a network was trained with it is higher than on others.
A picture that was wrong at some epsilon counts as wrong at larger ones, as it lies in their balls, too. The interval is
Wilson's (1927) for a share, 95%: it says how much hangs on which pictures were drawn.

**Training on attacked pictures** is the defence that has lasted best: each batch is attacked first, and the network
learns to be right on the worst of the ball. It costs some accuracy on pictures as they are, and holds only for changes
of about the size and norm that it was trained with. `digits_robust` is the network of `digits`, trained in that way.
""",
)

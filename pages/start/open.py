"""Open: What must a picture go through before this network sees it?

Bring a network that somebody else trained. What its file does not say of itself is found by trying: each row shows what
the network makes of the sidebar's picture when it is prepared in one of the usual ways. Choose the row that is right,
name the classes, and every page works with it.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from engine import image, record
from engine.intake import bringing, claims, labelling, opening
from engine.intake.converting import Several
from engine.intake.labelling import BadLabels
from engine.intake.preprocessing import TOP, Way, answers, preprocessing, preprocessing_steps, ways
from engine.intake.weights import SUFFIXES
from engine.net import Net, softmax
from engine.nets import available
from engine.nets.folder import home, hosted
from ui import controls, foot, links, sidebar
from ui.charts import network
from ui.jobs import line, watch
from ui.scene import HASHES, current_scene

MOST = 200 if hosted() else claims.MAX_BYTES >> 20  # MB of an upload
WEIGHTS = (
    "Weights alone (a PyTorch state_dict: .safetensors, .pth) become a network where they fit one of torchvision's; "
    "that takes 10 to 60 s. Files that hold a program, such as a whole pickled module, are refused."
)
QUEUE = "uploads"  # of jobs: files are examined one at a time, and keep no other run waiting
NUMBERS, NAMED, OWN = "class numbers", "the file's own", "a file of names"
ORDINALS = ("First", "Second", "Third", "Fourth", "Fifth")

scene = current_scene()
net = scene.net
foot.head(__doc__)

# Bring one ------------------------------------------------------------------------------------------------------------


def stored(content: bytes, name: str) -> Path:
    """An upload on disk: a job is kept for a while after it has ended, and must not hold it in memory."""
    folder = home() / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{hashlib.sha256(content).hexdigest()}.part"
    if not path.exists():
        for old in sorted(folder.glob("*.part"), key=lambda file: file.stat().st_mtime)[:-8]:
            old.unlink(missing_ok=True)
        path.write_bytes(content)
    return path


def brought(path: Path, name: str, *, upload: bool) -> None:
    """Examine the file in a process of its own, keep it, and go to it."""
    about = path.stat() if path.exists() else None
    file = (str(path), name, about and (about.st_mtime_ns, about.st_size))
    several = st.session_state.get("bring_several", {}).get(file, ())
    architecture = ""
    if several:
        told = "Several of torchvision's networks have tensors of these names and sizes; the file does not say whose."
        architecture = st.selectbox(
            "Architecture of the weights", several, None, key="bring_architecture", help=told, width=320
        )
        if architecture is None:
            st.info(f"These weights fit {', '.join(several)}: choose which one it is.", icon=":material/help:")
            return

    def steps():
        content = opening.read(path)
        beside = None if upload else path.expanduser().resolve().parent
        yield from bringing.bring_steps(content, name, beside=beside, architecture=architecture or "")

    job = line.run(QUEUE, "bring", (*file, architecture), steps)
    watch.show(QUEUE, job, lambda step, complete: st.caption(str(step.result) if step and job.active else ""))
    if job.state != "done":
        return
    if isinstance(job.step.result, Several):
        st.session_state["bring_several"] = {file: job.step.result.architectures}
    else:
        arrived(job.step.result)
        if upload:
            path.unlink(missing_ok=True)
    st.rerun()


def arrived(name: str) -> None:
    """Make a network the sidebar's, in this session."""
    sidebar.bring(name)
    st.session_state["fetched"] = name
    st.session_state.pop("bring_path", None)
    st.session_state["bring_round"] = st.session_state.get("bring_round", 0) + 1  # an uploader forgets by another key


with st.container(horizontal=True, gap="medium"):
    with st.container(width=520):
        number = st.session_state.get("bring_round", 0)
        given = st.file_uploader(
            "An ONNX file, or weights of a torchvision network",
            type=["onnx", *SUFFIXES],
            key=f"bring_{number}",
            max_upload_size=MOST,
            help=WEIGHTS,
        )
    typed = ""
    if not hosted():
        with st.container(width=380):
            typed = st.text_input("Or its path on this machine", key="bring_path", placeholder="/models/resnet50.onnx")
if given is not None:
    brought(stored(given.getvalue(), given.name), given.name, upload=True)
elif typed.strip():
    brought(Path(typed.strip()), Path(typed.strip()).name, upload=False)

# What it makes of the picture -----------------------------------------------------------------------------------------

known = st.session_state.setdefault("ways_known", {})
before = dict(known.get((net.sha256, net.output), {}))
job = line.run(
    net.engine,
    "ways",
    (net.sha256, net.output, image.digest(scene.pixels)),
    lambda: preprocessing_steps(net, scene.pixels, known=before),
)
own = [NAMED] if len(net.metadata.labels) == net.classes else []
sets = labelling.usual(net.classes, net.channels)


if st.session_state.get("opened") not in (None, net.sha256):  # what was chosen for another network says nothing here
    st.session_state.pop("way", None)
    st.session_state["names"] = [*own, *sets, NUMBERS][0]
st.session_state["opened"] = net.sha256


def chosen_names() -> tuple[str, ...]:
    """A name for each class, () where there are none."""
    choice = controls.one("Class names", "names", [*own, *sets, *([] if own else [NUMBERS]), OWN], width=220)
    if choice == OWN:
        found = st.file_uploader(
            "One name per line, or JSON", type=["txt", "json", "csv"], key=f"names_{net.sha256[:8]}"
        )
        try:
            content = sidebar.kept(f"names_{net.sha256[:8]}", found)
            return labelling.fit(labelling.read_labels(content), net.classes, "The file") if content else ()
        except BadLabels as error:
            st.error(str(error), icon=":material/error:")
            return ()
    return tuple(net.metadata.labels) if choice == NAMED else sets.get(choice, ())


def _said(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"


def shown(table: pd.DataFrame, names: tuple[str, ...]) -> pd.DataFrame:
    """The table for people: what each way makes of the picture, in words."""
    found = {"Preparation": [f"★ {way}" if k == 0 else way for k, way in enumerate(table["way"])]}
    for place in range(1, min(TOP, net.classes) + 1):
        classes, shares = table[f"class_{place}"], table[f"probability_{place}"]
        words = [names[k] if names else str(k) for k in classes]
        found[ORDINALS[place - 1]] = [f"{word} {share:.0%}" for word, share in zip(words, shares, strict=True)]
    found["Told, nats"] = table["told"].round(2)
    found["Agreement, nats"] = table["agreement"].round(2)
    return pd.DataFrame(found)


st.markdown(f"#### {net.name}: what it takes “{scene.picture_name}” for, by how the picture is prepared")
top = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
with top:
    names = chosen_names()


def so_far(step, complete: bool) -> None:
    if not complete and step is not None:
        st.dataframe(shown(step.result, names), hide_index=True)


watch.show(net.engine, job, so_far)
if job.step is None:
    st.stop()
table = job.step.result
if job.state == "done":
    found = zip(table["way"], table["told"], table["agreement"], strict=True)
    known[net.sha256, net.output] = {way: (told, agreed) for way, told, agreed in found}
    while len(known) > 16:
        known.pop(next(iter(known)))
if job.active:
    st.stop()
tried = {way.title: way for way in ways(net)}


def pick() -> None:
    rows = st.session_state["ways_table"]["selection"]["rows"]
    if rows:
        st.session_state["way"] = table["way"][rows[0]]


st.dataframe(
    shown(table, names),
    hide_index=True,
    key="ways_table",
    on_select=pick,
    selection_mode="single-row",
    height=35 * (len(table) + 1) + 3,
)
st.caption(
    "★ is the best guess, by pictures that come with the app. Told: how much an answer tells about which of them was "
    "shown. Agreement: whether cuts of one photograph get the same answer; below 0 they contradict each other."
)

# Choose and save ------------------------------------------------------------------------------------------------------


@st.cache_data(hash_funcs=HASHES, max_entries=64, show_spinner=False)
def asked(net: Net, pixels: np.ndarray, way: Way) -> np.ndarray:
    """(K,) logits of the picture, prepared in this way."""
    return answers(net, net.batch(pixels), way)[0]


def numbers(label: str, key: str, default: tuple[float, ...], above: float) -> tuple[float, ...]:
    """As many numbers as channels; the default, with a word why, while they are none."""
    text = st.text_input(label, ", ".join(f"{value:.6g}" for value in default), key=key, width=200)
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) == net.channels and all(np.isfinite(values)) and min(values) > above:
        return values
    wanted = "one number" if net.channels == 1 else f"{net.channels} numbers with commas between"
    st.caption(f"“{text[:40]}” is not {wanted}{', above 0' if above == 0 else ''}; the usual ones are taken.")
    return default


@st.cache_data(max_entries=64, show_spinner=False)
def open_size(path: str, modified: float) -> bool:
    return labelling.leaves_size_open(path)


source = available.find(net.name)
left, right = st.columns([5, 4], gap="large")
if st.session_state.get("way") not in tried and st.query_params.get("way") not in tried:
    st.session_state["way"] = table["way"][0]
with left:
    title = controls.one("Preparation", "way", list(table["way"]), width=380)
    way = tried[title]
    if st.toggle("Other numbers", key="other_numbers", help="Mean and std of your own, in the order R, G, B."):
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            mean = numbers("Mean, of pixels 0 to 1", f"mean_{title}", way.mean, -np.inf)
            std = numbers("Std, of pixels 0 to 1", f"std_{title}", way.std, 0.0)
        way = replace(way, values="other numbers", mean=mean, std=std)
    logits = asked(net, scene.pixels, way)
    shares = softmax(logits[None])[0]
    best = (-shares).argsort(kind="stable")[:TOP]
    words = [names[k] if names else str(k) for k in best]
    words = [f"{word} ({k})" if words.count(word) > 1 else word for word, k in zip(words, best, strict=True)]
    st.altair_chart(
        network.top_classes(words, shares[best], logits[best], words[0]),
        key="tried",
        alt=f"Prepared as “{way.title}”, the likeliest class is {words[0]}, at {shares[best[0]]:.1%}.",
    )
with right:
    st.markdown("**What the file will say**")
    fields = {"names": ", ".join(names[:3]) + " …" if names else "none: class numbers are shown"}
    fields |= {"mean, std": f"{_said(way.mean)}; {_said(way.std)}"}
    turned = way.order == "BGR"
    fields |= {"channels": "blue first: the graph will turn them round" if turned else "red first"} if way.order else {}
    st.caption("  \n".join(f"{key}: {value}" for key, value in fields.items()))
    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        size = net.input_size
        if open_size(str(source), source.stat().st_mtime):
            size = (
                controls.number("Rows", "rows_in", 8, 1024, size[0], width=120),
                controls.number("Columns", "cols_in", 8, 1024, size[1], width=120),
            )
        about = "Of the picture's shorter side; 0.875 is usual for ImageNet at 224."
        crop = controls.slider(
            "Share shown", 0.5, 1.0, net.metadata.crop, 0.005, key="shown_share", width=180, help=about
        )
    with st.popover("Name, source and licence", icon=":material/edit:"):
        name = st.text_input("Name", bringing.plain(net.name), key=f"name_{net.sha256[:8]}", max_chars=60)
        credit = st.text_input("Source", net.metadata.source, key=f"source_{net.sha256[:8]}", max_chars=500)
        licence = st.text_input("Licence", net.metadata.licence, key=f"licence_{net.sha256[:8]}", max_chars=500)
    said = {"mean": way.mean, "std": way.std, "input_size": size, "crop": crop, "source": credit, "licence": licence}
    said |= {"labels": tuple(names)} if names else {}
    if len(net.inputs) > 1:
        told = (
            "Which of the graph's inputs takes the picture; the others get zeros. The table follows once it is saved."
        )
        said["picture_input"] = controls.one("Input", "picture_input", sorted(net.inputs), net.inputs[0], help=told)
    knobs = (net.sha256, name, way.order, *map(str, said.values()))
    finished = opening.called(name)
    if st.button("Save and go on with it", type="primary", icon=":material/save:", key="finish"):
        st.session_state["finishing"] = knobs


def finish():
    return bringing.finish_steps(opening.read(source), finished, order=way.order or "RGB", instead=instead, **said)


if st.session_state.get("finishing") == knobs:
    instead = net.name if available.brought(net.name) else ""
    job = line.run(QUEUE, "finish", knobs, finish)
    watch.show(QUEUE, job, lambda step, complete: st.caption(str(step.result) if step and job.active else ""))
    if job.state == "done":
        st.session_state.pop("finishing")
        arrived(job.step.result)
        st.rerun()

with st.container(horizontal=True, gap="medium"):
    links.onward("explain", "saliency", "Which pixels does it go by?")
    links.onward("look", "filters", "What patterns does it look for?")

foot.foot(
    preprocessing,
    scene,
    downloads=[
        (
            "The finished file (ONNX)",
            finished,
            lambda: labelling.labelled(source.read_bytes(), order=way.order or "RGB", **said),
            "application/octet-stream",
        ),
        ("Table (CSV)", "ways.csv", lambda: table.to_csv(index=False).encode(), "text/csv"),
        ("Numbers (NPZ)", "ways.npz", foot.npz(**record.taken_apart(table, "")[0]), "application/octet-stream"),
    ],
    explained="""
A network sees numbers, and what they mean is settled when it is trained. Three things differ between files:

* **the order of the channels**: red first (PyTorch, TensorFlow) or blue first (Caffe, OpenCV). A network that wants
  blue first mostly still works the other way round, only worse.
* **their range**: 0 to 1, −1 to 1, or 0 to 255;
* **what is subtracted and divided by**: mostly the mean, and often the standard deviation, of the pixels it was trained
  on.

All of this is (pixels − mean) / std with the right numbers, of pixels from 0 to 1: 0 to 255 is a std of 1/255. That is
what the file states from then on, together with the classes' names and the size. Channels in the order blue, green, red
are turned round inside the graph, so that the saved file is right in every program.

**The guess** looks for answers that are sure, differ between photographs, and stay when one is cut otherwise:
H(mean answer) − mean H(answer) over photographs, in nats (the logarithm of the
[inception score](https://arxiv.org/abs/1606.03498)). Far too large values make every answer sure; then the cuts of one
photograph contradict each other, and agreement is below 0. Ways that differ by a few hundredths cannot be told apart
so; look for a picture whose class you know, in the sidebar, and take the row that is right.

**A file from a stranger** is opened in a process of its own first, which may read no other file and is ended when it
takes too much memory or time. What it refuses it says in one sentence.

**Weights alone** say how their tensors are called and how large they are. Where these are the names and sizes of one of
torchvision's classifiers, with any number of classes, that is what they are opened as; PyTorch writes it as ONNX, in
such a process, too. How pictures were prepared is not in such a file: the form begins with what torchvision's own
weights of that network want. Safetensors are the better form, since nothing in them can be run.
""",
)

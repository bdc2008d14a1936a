"""What do all pages share? The sidebar's choices, what they amount to, and the head and foot of a page."""

from __future__ import annotations

import ast
import importlib
import inspect
import io
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import streamlit as st

from engine import certificate, image, nets, samples, truth, zoo
from engine.image import Frame, NotAPicture
from engine.metadata import BadMetadata
from engine.net import BadNetwork, Net, softmax
from engine.step import Step
from engine.target import Target, class_margin, direction, unit, weighed
from ui import jobs

SUGGESTED = "suggested"  # stands for the picture that suits the network, and for the likeliest class
UPLOAD, CAMERA = "upload", "camera"
PAGES = Path(__file__).parent.parent / "pages"
SECTIONS = ("start", "look", "explain", "imagine", "fool", "paint")  # their order; others come after
SHARED = ("net", "output", "image", "class")  # the choices that every page shares, by their names in a link


# Networks count by file and output, arrays by all their bytes: a sample of them, as Streamlit takes it, would lie.
HASHES = {Net: lambda net: (net.sha256, net.output), np.ndarray: image.digest}


def cached(function: Callable, max_entries: int = 32) -> Callable:
    """An engine function with a bounded cache around it."""
    return st.cache_data(function, hash_funcs=HASHES, max_entries=max_entries, show_spinner=False)


@dataclass(frozen=True)
class Scene:
    """What the sidebar has chosen.

    picture: (H, W, 3) as the user gave it. pixels: (h, w, C), what the net sees; frame: which part of the picture that
    is.
    logits, probabilities: (K,). class_index: the class that is asked about.
    """

    net: Net
    picture: np.ndarray
    picture_name: str
    pixels: np.ndarray
    frame: Frame
    logits: np.ndarray
    probabilities: np.ndarray
    class_index: int

    @property
    def class_name(self) -> str:
        return class_names(self.net)[self.class_index]

    @property
    def shown(self) -> np.ndarray:
        """(h, w, 3): the net's view, for drawing; a single channel as grey."""
        return self.pixels if self.pixels.shape[2] == 3 else self.pixels.repeat(3, 2)


def scene() -> Scene:
    """The scene that `sidebar` made in this run."""
    return st.session_state["scene"]


# Networks and pictures ----------------------------------------------------------------------------------------------


@st.cache_resource(max_entries=3, show_spinner="Opening the network …")
def _open(path: str, modified: float, output: str | None = None) -> Net:
    return Net(path, output=output)


@st.cache_resource(max_entries=4, show_spinner=False)  # up to 96 MB each
def _decode(digest: str, _data: bytes) -> np.ndarray:
    pixels = image.load(_data)
    pixels.flags.writeable = False
    return pixels


def network(name: str) -> Net:
    """The network of that name, for a page that asks others than the sidebar's. Raises UnknownNet, BadNetwork."""
    path = nets.find(name)
    return _open(str(path), path.stat().st_mtime)


scores = cached(lambda net, pixels: net.scores(net.batch(pixels))[0], 64)


@st.cache_data(show_spinner=False, max_entries=16, hash_funcs=HASHES)
def class_names(net: Net) -> list[str]:
    """The labels, made unique: ImageNet has two "crane" and two "maillot"."""
    labels = net.labels
    return [f"{label} ({k})" if labels.count(label) > 1 else label for k, label in enumerate(labels)]


def _chosen_net() -> Net:
    here = nets.at_hand()
    own = st.session_state.setdefault("brought", [])  # the names of networks that came by this session, or by its link
    asked = st.query_params.get("net")
    if asked and asked not in here and nets.brought(asked):
        bring(asked)
    here |= {name: path for name in own if (path := nets.brought(name))}
    if asked and asked not in here:
        more = " It can be fetched below." if asked in zoo.NETWORKS else ""
        st.warning(f"The link asks for the network “{asked}”, which is not here.{more}", icon=":material/link_off:")
    if "fetched" in st.session_state:  # a new network is the one that its fetcher wants to see
        st.session_state["net"] = st.session_state.pop("fetched")
    name = st.selectbox("Network", list(here), key="net", bind="query-params")
    path = here[name]
    try:
        net = _open(str(path), path.stat().st_mtime)
        if len(net.outputs) > 1:
            if st.session_state.get("output") not in net.outputs:  # another network was chosen
                st.session_state.pop("output", None)
            output = st.selectbox("Output", net.outputs, key="output", bind="query-params")
            net = _open(str(path), path.stat().st_mtime, output)
    except (BadNetwork, BadMetadata) as error:
        st.error(str(error))
        st.stop()
    _badges(net)
    for note in net.notes:
        st.caption(note)
    return net


def bring(name: str) -> None:
    """List a network that was brought for this session, whoever else may not see it."""
    own = st.session_state.setdefault("brought", [])
    if name not in own:
        own.append(name)


def _badges(net: Net) -> None:
    found = certificate.recall(net)
    with st.container(horizontal=True, gap="small", wrap=True):
        st.badge(net.engine, icon=":material/memory:", color="gray", help="Where ONNX Runtime computes.")
        if found is None:
            st.badge(
                "not yet checked",
                icon=":material/pending:",
                color="gray",
                help="The first page that needs gradients compares the PyTorch twin with ONNX Runtime.",
            )
        elif found.passed:
            st.badge(
                "twin verified",
                icon=":material/verified:",
                color="green",
                help=f"On all {found.tensors} tensors the PyTorch twin equals ONNX Runtime to {found.tensor:.0e} of "
                f"their range, and its gradient equals central differences to {found.gradient:.1%} ({found.versions}).",
            )
        else:
            st.badge("no gradients", icon=":material/gpp_bad:", color="red", help=found.reason)


def _more_networks() -> None:
    missing = [network for name, network in zoo.NETWORKS.items() if name not in nets.at_hand()]
    name = st.session_state.get("fetching")
    with st.popover("More networks", icon=":material/add:", width="stretch"):
        st.page_link(
            PAGES / "start" / "open.py",
            label="Bring your own",
            icon=":material/upload_file:",
            query_params=shared_choices(),
        )
        if not missing:
            return
        st.caption("Trained on ImageNet's 1,000 classes; fetched once, kept on this machine.")
        if name is not None:
            job = jobs.run("downloads", "fetch", (name,), lambda: zoo.fetch(name))
            jobs.show("downloads", job, lambda step, complete: st.caption(_said(step, name)))
            if job.state == "done":
                st.session_state.pop("fetching")
                st.session_state["fetched"] = name
                st.rerun()
        for network in missing:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(f"**{network.title}** · {network.megabytes} MB", width="stretch", help=network.licence)
                if st.button("Fetch", key=f"fetch_{network.name}"):
                    st.session_state["fetching"] = network.name
                    st.rerun()


def _said(step: Step | None, name: str) -> str:
    return str(step.result) if step else f"Fetching {zoo.NETWORKS[name].title}"


def suits(net: Net) -> str:
    """The sample that is suggested for a net."""
    if set(net.labels) == set(truth.CLASSES):
        return "planted-disc-square"
    return "digit-3" if net.channels == 1 else "china"


def _chosen_picture(net: Net) -> tuple[str, np.ndarray]:
    suited = suits(net)
    # A link holds an option as it is shown, so the pictures go by the names that the command line takes, too.
    options = [SUGGESTED, *samples.SAMPLES, UPLOAD, CAMERA]
    titles = {SUGGESTED: f"{suited} (suggested)"}
    choice = st.selectbox(
        "Picture",
        options,
        format_func=lambda name: titles.get(name, name),
        key="image",
        bind="query-params",
        filter_mode="contains",
    )
    name = suited if choice == SUGGESTED else choice
    data = None
    if choice == UPLOAD:
        given = st.file_uploader("JPEG, PNG, WebP or GIF", type="image", key="file", max_upload_size=64)
        data = kept("upload", given)
    elif choice == CAMERA:
        data = kept("photo", st.camera_input("Your camera", key="camera_input"))
    if choice in (UPLOAD, CAMERA):
        if data is not None:
            try:
                return choice, _decode(image.digest(np.frombuffer(data, np.uint8)), data)
            except NotAPicture as error:
                st.error(str(error), icon=":material/broken_image:")
        name = suited
    return name, samples.load(name)


def kept(key: str, given: Any) -> bytes | None:
    """An upload's bytes, which stay while the session does: the widget forgets them when it is not drawn."""
    if given is not None:
        st.session_state[f"kept_{key}"] = given.getvalue()
    return st.session_state.get(f"kept_{key}")


def _chosen_class(net: Net, probabilities: np.ndarray) -> int:
    names = class_names(net)
    order = np.argsort(-probabilities)
    top = [names[k] for k in order[:5]]
    # By name, so that a class stays itself in another network, or is dropped where that one has none of this name.
    options = [SUGGESTED, *top, *sorted(set(names) - set(top), key=str.lower)]
    titles = {SUGGESTED: f"{top[0]} (likeliest)"}
    choice = st.selectbox(
        "Class", options, format_func=lambda name: titles.get(name, name), key="class", bind="query-params"
    )
    return names.index(top[0] if choice == SUGGESTED else choice)


def sidebar() -> Scene:
    """Draw the shared choices and keep what they amount to for the page."""
    with st.sidebar:
        net = _chosen_net()
        _more_networks()
        name, picture = _chosen_picture(net)
        pixels, frame = net.view(picture)
        st.image(
            image.to_png(pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)),
            width="stretch",
            caption=_seen(net, picture),
        )
        logits = scores(net, pixels)
        probabilities = softmax(logits[None])[0]
        index = _chosen_class(net, probabilities)
    made = Scene(net, picture, name, pixels, frame, logits, probabilities, index)
    st.session_state["scene"] = made
    return made


def _seen(net: Net, picture: np.ndarray) -> str:
    height, width = net.input_size
    return f"What the network sees: {height} × {width} of the picture's {picture.shape[0]} × {picture.shape[1]} pixels"


# What is asked about ------------------------------------------------------------------------------------------------


def aim(net: Net, where: Mapping[str, Any]) -> Target | int:
    """The engine's target for what a page is about.

    where: {"class": k}, which stays a number, so that each method reads of the class what it is made for; {"class": k,
    "against": j}; {"layer": …, "channel": …, "row": …, "col": …}, the last two None for a channel's mean; or
    {"layer": …, "direction": "12:1, 40:-0.5"}.
    """
    if "direction" in where:
        return direction(net, where["layer"], weighed(where["direction"]))
    if "layer" in where:
        return unit(net, **where)
    if "against" in where:
        return class_margin(net, where["class"], where["against"])
    return where["class"]


@st.cache_data(hash_funcs=HASHES, max_entries=64, show_spinner=False)
def _asked(module: str, name: str, net: Net, pixels: np.ndarray, where: dict, knobs: dict) -> Any:
    return getattr(importlib.import_module(module), name)(net, pixels, aim(net, where), **knobs)


def ask(function: Callable, scene: Scene, where: Mapping[str, Any], **knobs: Any) -> Any:
    """An engine function `(net, image, target, …)` on the scene, kept for the next time."""
    return _asked(function.__module__, function.__name__, scene.net, scene.pixels, dict(where), knobs)


# Head and foot of a page --------------------------------------------------------------------------------------------


def head(doc: str) -> None:
    """The page's question and its two sentences, from its own docstring: "Title: question?", a blank line, the text."""
    first, _, rest = doc.strip().partition("\n")
    st.markdown(f"### {first.partition(': ')[2] or first}")
    st.markdown(" ".join(rest.split("Sources:")[0].split()))


def foot(
    function: Callable | None = None,
    scene: Scene | None = None,
    *,
    knobs: dict[str, Any] | None = None,
    downloads: Sequence[tuple[str, str, bytes | Callable[[], bytes], str]] = (),
    explained: str = "",
    reproduced: tuple[str, str] | None = None,
) -> None:
    """Link, Download, Reproduce, and what it is that one looks at.

    function: the engine's, called with `scene` and `knobs` (target as a dict, or keywords of its own).
    reproduced: (Python, command line), where it is not one function of a picture.
    downloads: (label, file name, data, mime).
    """
    with st.container(horizontal=True, gap="small"):
        with st.popover("Link", icon=":material/link:"):
            st.caption("This page, in this state. Uploaded pictures stay with you and are not part of a link.")
            st.code(address(), language=None, wrap_lines=True)
        if downloads:
            with st.popover("Download", icon=":material/download:"):
                for label, file, data, mime in downloads:
                    st.download_button(
                        label, data, file, mime, on_click="ignore", key=f"download_{file}", width="stretch"
                    )
        if function is not None:
            reproduced = reproduce(function, scene, knobs or {})
        if reproduced is not None:
            with st.popover("Reproduce", icon=":material/terminal:"):
                st.caption("The same numbers without the app, from the project's folder.")
                code, command = reproduced
                st.code(code, language="python")
                st.code(command, language="bash", wrap_lines=True)
    if explained:
        with st.expander("What am I looking at?", icon=":material/help:"):
            st.markdown(explained)


def npz(**arrays: np.ndarray | None) -> Callable[[], bytes]:
    """For `foot`'s downloads: the arrays that there are, packed when somebody asks for them."""

    def pack() -> bytes:
        file = io.BytesIO()
        np.savez_compressed(file, **{name: array for name, array in arrays.items() if array is not None})
        return file.getvalue()

    return pack


def onward(section: str, page: str, label: str, **choices: object) -> None:
    """A link to the page that answers the next question, with the shared choices and some of that page's own."""
    path = PAGES / section / f"{page}.py"
    st.page_link(path, label=label, icon=":material/arrow_forward:", query_params=shared_choices(**choices))


def address() -> str:
    """The link to this view."""
    url = (st.context.url or "").partition("?")[0]
    query = urlencode(st.query_params.to_dict(), doseq=True)
    return f"{url}?{query}" if query else url


def source(scene: Scene) -> tuple[str, str]:
    """(Python, command line's word) for the scene's picture."""
    if scene.picture_name in (UPLOAD, CAMERA):
        return 'image.load("your-picture.jpg")', "your-picture.jpg"
    return f'samples.load("{scene.picture_name}")', scene.picture_name


def reproduce(function: Callable, scene: Scene, knobs: dict[str, Any]) -> tuple[str, str]:
    """(Python, command line) that give what the page shows.

    knobs: arguments after (net, image): `target` in the form that `aim` takes, and the function's own keywords; those
    that are None are left out.
    """
    net = scene.net
    module, method = function.__module__, function.__name__
    picture, shown = source(scene)
    imports = [
        f"from engine import {', '.join(sorted([picture.partition('.')[0], 'nets']))}",
        "from engine.net import Net",
    ]
    imports.append(f"from {module} import {method}")
    arguments, options = [], []
    for key, value in knobs.items():
        if key == "target" and "against" in value:
            imports.append("from engine.target import class_margin")
            arguments.append(f"class_margin(net, {value['class']!r}, {value['against']!r})")
            options += ["--class", str(value["class"]), "--against", str(value["against"])]
        elif key == "target" and "class" in value:
            arguments.append(repr(value["class"]))
            options += ["--class", str(value["class"])]
        elif key == "target":
            place = {k: v for k, v in value.items() if v is not None}
            if "direction" in place:
                imports.append("from engine.target import direction")
                arguments.append(f"direction(net, {place['layer']!r}, {weighed(place['direction'])!r})")
            else:
                imports.append("from engine.target import unit")
                arguments.append("unit(net, " + ", ".join(f"{k}={v!r}" for k, v in place.items()) + ")")
            own = inspect.signature(function).parameters  # where the method has a layer of its own
            for part, chosen in place.items():
                options += [f"--target-{part}" if part in own else f"--{part}", shlex.quote(str(chosen))]
        elif value is None:
            continue
        else:
            arguments.append(f"{key}={value!r}")
            options += [f"--{key.replace('_', '-')}", shlex.quote(str(value))]
    code = "\n".join(imports)
    of_picture = "image" in inspect.signature(function).parameters
    of_several = len(net.outputs) > 1
    chosen = f", output={net.output!r}" if of_several else ""
    code += f"\n\nnet = Net(nets.find({net.name!r}){chosen})\n"
    code += f"pixels, frame = net.view({picture})\n" if of_picture else ""
    code += f"result = {method}({', '.join(['net', *(['pixels'] if of_picture else []), *arguments])})\n"
    parts = [
        "python -m engine",
        method.replace("_", "-"),
        "--net",
        shlex.quote(net.name),
        *(["--output", shlex.quote(net.output)] if of_several else []),
        *(["--image", shown] if of_picture or "target" in knobs else []),
        *options,
        "--out result/",
    ]
    return code, " ".join(parts)


def need_gradients(net: Net) -> None:
    """Go on only where the Twin is certified; otherwise say why this page is off, and stop."""
    if reason := no_gradients(net):
        st.error(
            f"This page needs gradients, and this network has no certified twin. {reason}",
            icon=":material/gpp_bad:",
        )
        st.stop()


def no_gradients(net: Net) -> str:
    """Why the net's gradients cannot be had, in a sentence; "" where the Twin is certified."""
    with st.spinner("Comparing the PyTorch twin with ONNX Runtime, once for this network …"):
        found = certificate.known(net)
    return "" if found.passed else found.reason


# The pages ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PageFile:
    """One page: its file, its name in the navigation, and the question that it answers."""

    path: Path
    title: str
    question: str


def sections() -> dict[str, list[PageFile]]:
    """Each folder in pages/ is a section, each file a page; "Title: question?" is the first line of its docstring."""
    order = {name: place for place, name in enumerate(SECTIONS)}
    found: dict[str, list[PageFile]] = {}
    for folder in sorted(PAGES.iterdir(), key=lambda folder: (order.get(folder.name, len(order)), folder.name)):
        for file in sorted(folder.glob("*.py")):
            first = (ast.get_docstring(ast.parse(file.read_text("utf-8"))) or file.stem).partition("\n")[0]
            title, _, question = first.partition(": ")
            found.setdefault(folder.name, []).append(PageFile(file, title, question))
    return found


def navigation() -> dict[str, list]:
    """The pages as Streamlit wants them; the start section has no heading, and its first page is where one lands."""
    return {
        "" if section == SECTIONS[0] else section.capitalize(): [
            st.Page(page.path, title=page.title, url_path=page.path.stem, default=section == SECTIONS[0] and place == 0)
            for place, page in enumerate(pages)
        ]
        for section, pages in sections().items()
    }


def shared_choices(**more: object) -> dict[str, str]:
    """The query parameters that take the shared choices along to another page, and `more` of that page's own."""
    kept = {key: st.query_params[key] for key in SHARED if key in st.query_params}
    return kept | {key: str(value) for key, value in more.items()}

"""How does one choose the network, the picture and the class that all pages share?"""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from engine import image
from engine.image import NotAPicture
from engine.model.metadata import BadMetadata
from engine.net import BadNetwork, Net, softmax
from engine.nets import available, certificate, zoo
from engine.pictures import samples, truth
from engine.step import Step
from ui.jobs import line, watch
from ui.links import PAGES, shared_choices
from ui.scene import CAMERA, SUGGESTED, UPLOAD, Scene, class_names, opened, scores_of


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
        logits = scores_of(net, pixels)
        probabilities = softmax(logits[None])[0]
        index = _chosen_class(net, probabilities)
    made = Scene(net, picture, name, pixels, frame, logits, probabilities, index)
    st.session_state["scene"] = made
    return made


def _seen(net: Net, picture: np.ndarray) -> str:
    height, width = net.input_size
    return f"What the network sees: {height} × {width} of the picture's {picture.shape[0]} × {picture.shape[1]} pixels"


# The network --------------------------------------------------------------------------------------------------------


def _chosen_net() -> Net:
    here = available.at_hand()
    own = st.session_state.setdefault("brought", [])  # the names of networks that came by this session, or by its link
    asked = st.query_params.get("net")
    if asked and asked not in here and available.brought(asked):
        bring(asked)
    here |= {name: path for name in own if (path := available.brought(name))}
    if asked and asked not in here:
        more = " It can be fetched below." if asked in zoo.NETWORKS else ""
        st.warning(f"The link asks for the network “{asked}”, which is not here.{more}", icon=":material/link_off:")
    if "fetched" in st.session_state:  # a new network is the one that its fetcher wants to see
        st.session_state["net"] = st.session_state.pop("fetched")
    name = st.selectbox("Network", list(here), key="net", bind="query-params")
    path = here[name]
    try:
        net = opened(str(path), path.stat().st_mtime)
        if len(net.outputs) > 1:
            if st.session_state.get("output") not in net.outputs:  # another network was chosen
                st.session_state.pop("output", None)
            output = st.selectbox("Output", net.outputs, key="output", bind="query-params")
            net = opened(str(path), path.stat().st_mtime, output)
    except (BadNetwork, BadMetadata) as error:
        st.error(str(error))
        st.stop()
    badges(net)
    for note in net.notes:
        st.caption(note)
    return net


def bring(name: str) -> None:
    """List a network that was brought for this session, whoever else may not see it."""
    own = st.session_state.setdefault("brought", [])
    if name not in own:
        own.append(name)


def badges(net: Net) -> None:
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
    missing = [network for name, network in zoo.NETWORKS.items() if name not in available.at_hand()]
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
            job = line.run("downloads", "fetch", (name,), lambda: zoo.fetch(name))
            watch.show("downloads", job, lambda step, complete: st.caption(_said(step, name)))
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


# The picture, and the class -----------------------------------------------------------------------------------------


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


@st.cache_resource(max_entries=4, show_spinner=False)  # up to 96 MB each
def _decode(digest: str, _data: bytes) -> np.ndarray:
    pixels = image.load(_data)
    pixels.flags.writeable = False
    return pixels


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

"""What has the sidebar chosen, and what does the network say of it? Each page begins with that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import streamlit as st

from engine import image
from engine.image import Frame
from engine.net import Net
from engine.nets import available, certificate

SUGGESTED = "suggested"  # stands for the picture that suits the network, and for the likeliest class
UPLOAD, CAMERA = "upload", "camera"

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


def current_scene() -> Scene:
    """The scene that `sidebar` made in this run."""
    return st.session_state["scene"]


# Networks -----------------------------------------------------------------------------------------------------------


@st.cache_resource(max_entries=3, show_spinner="Opening the network …")
def opened(path: str, modified: float, output: str | None = None) -> Net:
    """The network in a file, as it was when it was last `modified`."""
    return Net(path, output=output)


def open_network(name: str) -> Net:
    """The network of that name, for a page that asks others than the sidebar's. Raises UnknownNet, BadNetwork."""
    path = available.find(name)
    return opened(str(path), path.stat().st_mtime)


scores_of = cached(lambda net, pixels: net.scores(net.batch(pixels))[0], 64)


@st.cache_data(show_spinner=False, max_entries=16, hash_funcs=HASHES)
def class_names(net: Net) -> list[str]:
    """The labels, made unique: ImageNet has two "crane" and two "maillot"."""
    labels = net.labels
    return [f"{label} ({k})" if labels.count(label) > 1 else label for k, label in enumerate(labels)]


# Gradients ----------------------------------------------------------------------------------------------------------


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

"""What does an engine function say of the scene? Asked once, and kept."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import streamlit as st

from engine.net import Net
from engine.target import Target, class_margin, direction, unit, weighed
from ui.scene import HASHES, Scene


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

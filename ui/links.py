"""How does one come from here to another page, back to this one, or to the same numbers without the app?"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from engine.target import weighed
from ui.scene import CAMERA, UPLOAD, Scene

PAGES = Path(__file__).parent.parent / "pages"
SHARED = ("net", "output", "image", "class")  # the choices that every page shares, by their names in a link


def shared_choices(**more: object) -> dict[str, str]:
    """The query parameters that take the shared choices along to another page, and `more` of that page's own."""
    kept = {key: st.query_params[key] for key in SHARED if key in st.query_params}
    return kept | {key: str(value) for key, value in more.items()}


def onward(section: str, page: str, label: str, **choices: object) -> None:
    """A link to the page that answers the next question, with the shared choices and some of that page's own."""
    path = PAGES / section / f"{page}.py"
    st.page_link(path, label=label, icon=":material/arrow_forward:", query_params=shared_choices(**choices))


def address() -> str:
    """The link to this view."""
    url = (st.context.url or "").partition("?")[0]
    query = urlencode(st.query_params.to_dict(), doseq=True)
    return f"{url}?{query}" if query else url


def source(scene: Scene) -> tuple[str, str, str]:
    """(import, Python, command line's word) for the scene's picture."""
    if scene.picture_name in (UPLOAD, CAMERA):
        return "from engine import image", 'image.load("your-picture.jpg")', "your-picture.jpg"
    return "from engine.pictures import samples", f'samples.load("{scene.picture_name}")', scene.picture_name


def reproduce(function: Callable, scene: Scene, knobs: dict[str, Any]) -> tuple[str, str]:
    """(Python, command line) that give what the page shows.

    knobs: arguments after (net, image): `target` in the form that `aim` takes, and the function's own keywords; those
    that are None are left out.
    """
    net = scene.net
    module, method = function.__module__, function.__name__
    loading, picture, shown = source(scene)
    imports = [
        loading,
        "from engine.nets import available",
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
    code += f"\n\nnet = Net(available.find({net.name!r}){chosen})\n"
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

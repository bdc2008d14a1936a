"""How are pictures of a set shown? Large enough to look at, with what they are and what the network takes them for."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from engine import image
from engine.data import embedded
from engine.data.index import Index
from engine.data.indexing import default_layers
from engine.image import NotAPicture
from engine.look import confusion
from engine.look.confusion import Coded
from engine.net import Net
from ui import controls, lens
from ui.charts import grids, marks


@st.cache_data(hash_funcs=lens.INDEX_HASHES, max_entries=8, show_spinner=False)
def coded(index: Index, net: Net) -> Coded:
    """The set's labels and the network's predictions in one numbering."""
    return confusion.coded_index(index, net)


@st.cache_resource(hash_funcs=lens.INDEX_HASHES, max_entries=3, show_spinner=False)
def features(index: Index, layer: str) -> np.ndarray:
    """(N, C) of a layer; not to be changed."""
    found = index.features(layer)
    found.flags.writeable = False
    return found


@st.cache_data(hash_funcs=lens.INDEX_HASHES, max_entries=256, show_spinner=False)
def view(index: Index, net: Net, number: int) -> np.ndarray:
    """(H, W, 3): what the net sees of a picture, at most 320 pixels a side; its thumbnail where it cannot be read."""
    try:
        pixels = index.pixels(net, number)
    except (ValueError, OSError):
        data = index.thumbnails([number])[0]
        try:
            pixels = image.load(data)
        except NotAPicture:
            pixels = np.full((*net.input_size, 3), 0.5, np.float32)
    pixels = pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)
    step = -(-max(pixels.shape[:2]) // 320)
    return np.ascontiguousarray(pixels[::step, ::step])


def said(index: Index, net: Net, row: int) -> tuple[str, str]:
    """What a picture is, and what the network takes it for, in two lines; row: in Index.pictures."""
    found = coded(index, net)
    label = found.classes[found.labels[row]] if found.labels[row] >= 0 else "no label"
    sure, taken = f"{index.pictures.probability.iat[row]:.0%}", found.classes[found.predictions[row]]
    return label, f"✓ {sure}" if found.right[row] else f"{'✗' if found.wrong[row] else '→'} {sure} {taken}"


def show(
    index: Index,
    net: Net,
    rows: Sequence[int],
    act: Callable[[int], None],
    alt: str,
    *,
    key: str,
    columns: int = 3,
    more: dict[str, Sequence[str]] | None = None,
    width: int = marks.PANEL,
) -> None:
    """Pictures by their rows in Index.pictures; a click calls `act` with its id. more: columns of the tooltip."""
    ids, places = index.pictures.id.to_numpy()[rows], index.pictures["where"].to_numpy()[rows]
    lines = [said(index, net, row) for row in rows]
    found = coded(index, net)
    captions = {
        "picture": ids,
        "where": places,
        "is": [label for label, _ in lines],
        "network": [taken for _, taken in lines],
    }
    controls.clickable(
        grids.gallery(
            [view(index, net, int(number)) for number in ids],
            lines,
            wrong=found.wrong[rows],
            captions=captions | (more or {}),
            columns=columns,
            name="picture",
            width=width,
        ),
        "picture",
        lambda point: act(int(ids[point["tile"]])),
        alt,
        key=key,
    )


def device(net: Net) -> str:
    """In which line the page's runs wait: those about many pictures must not keep all others waiting."""
    return net.engine if lens.given(net) in embedded.EMBEDDED else "indexes"


def same_set() -> dict[str, str]:
    """What an onward link takes along, so that the other page shows the same pictures."""
    return {key: st.query_params[key] for key in ("data", "path", "indexed") if key in st.query_params}


def reproduced(
    net: Net, index: Index, imports: Sequence[str], lines: Sequence[str], words: Sequence[str]
) -> tuple[str, str]:
    """For `foot.foot`. imports, lines: of Python, where `net` and `found`, the index, are known; words: of the
    command, its name and what comes after the set."""
    usual = default_layers(net)
    layers = "" if index.layers == usual else f", layers={list(index.layers)!r}"
    output = f", output={net.output!r}" if len(net.outputs) > 1 else ""
    data = lens.given(net)
    code = "\n".join([
        "from engine.data import sets",
        "from engine.nets import available",
        "from engine.data.indexing import index",
        "from engine.net import Net",
        *imports,
        "",
        f"net = Net(available.find({net.name!r}){output})",
        f"found = index(net, sets.find({data!r}){layers})",
        *lines,
    ])  # fmt: skip
    command = ["python", "-m", "engine", words[0], "--net", net.name, *(["--output", net.output] if output else [])]
    command += [
        "--data",
        data,
        *(["--layers", ",".join(index.layers)] if layers else []),
        *words[1:],
        "--out",
        "result/",
    ]
    return code + "\n", shlex.join(command)

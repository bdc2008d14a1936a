"""Which pictures does a page about a data set ask about, and is there an index of them?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import streamlit as st

from engine.data import embedded, fetched, indexing, sets
from engine.data import index as indexes
from engine.data.dataset import BadDataset, Dataset
from engine.data.index import BadIndex, Index
from engine.net import Net
from engine.nets.folder import home, hosted
from engine.step import Step
from ui import controls
from ui.jobs import line, watch
from ui.scene import HASHES, SUGGESTED, Scene

PATH = "folder or file"  # of pictures, whose path is typed in
SHOWN = 12  # thumbnails while a pass runs
FEW, SMALL = 500, 8  # of a set of less than that many pictures, so many at a time
FRESH = 60  # seconds until a data set is looked at again, whether it has changed
INDEX_HASHES = HASHES | {Index: lambda index: index.key}


@st.cache_resource(max_entries=8, ttl=FRESH, show_spinner="Looking at the pictures …")
def _found(given: str) -> Dataset:
    return sets.find(given)


@st.cache_resource(max_entries=8, show_spinner=False)
def _kept(folder: str, key: tuple, stale: str, _index: Index) -> Index:
    """The same object for the same index, so that what was read of it once stays read."""
    return _index


@st.cache_data(max_entries=16, show_spinner=False, hash_funcs=HASHES)
def _pace(net: Net) -> float:
    """Seconds that a pass takes per picture, from one small batch; decoding is hardly more."""
    batch = np.zeros((4, net.channels, *net.input_size), np.float32)
    names = [*indexing.default_layers(net), net.logits]
    net.activations(batch, names)
    start = time.perf_counter()
    net.activations(batch, names)
    return 1.3 * (time.perf_counter() - start) / len(batch) + 0.002


def index(scene: Scene) -> Index:
    """The choice of a data set, and the index of it by the sidebar's network.

    Sets that come with the app are indexed at once, others when a button is pressed; either can be broken off and goes
    on later. Ends the page's run until there is something to look at; while a pass runs, and after it was broken off,
    what comes back may hold a part of the pictures (Index.complete).
    """
    net = scene.net
    row = st.container(horizontal=True, vertical_alignment="bottom", gap="medium")
    with row:
        name = _chosen(net)
    st.session_state["lens_data"] = name
    data = _data(name)
    default = indexing.default_layers(net)
    with row.popover("Layers", icon=":material/layers:"):
        layers = controls.several("Layers", "indexed", [layer.name for layer in net.layers], default) or list(default)
        layers = [layer.name for layer in net.layers if layer.name in layers]
        st.caption("The pages about data sets know these layers; another choice is another pass over the pictures.")
    facts = row.empty()
    with st.spinner("Opening the index …", show_time=True):
        found = indexes.open_index(net, data, layers=layers)
    if found is None or found.stale or not found.complete:
        found = _made(net, data, layers, found, embedded=name in embedded.EMBEDDED)
    found = _kept(str(found.folder), found.key, found.stale, found)
    try:
        unread = found.skipped
    except BadIndex as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
    facts.caption(
        f"{_pictures(found.done - len(unread))} of {found.data_name}, indexed by {found.net_name}"
        + ("" if found.complete else f"; {found.total - found.done:,} are still to come")
        + "."
    )
    if unread:
        with st.expander(f"{_pictures(len(unread))} could not be read", icon=":material/broken_image:"):
            st.code("\n".join(unread[:200]) + ("\n…" if len(unread) > 200 else ""), language=None)
    if len(unread) == found.done:
        st.error("None of the pictures could be read: choose other ones.", icon=":material/broken_image:")
        st.stop()
    return found


def pictures(net: Net) -> Dataset:
    """The choice of a data set alone, for a page that needs no index of it."""
    name = _chosen(net)
    st.session_state["lens_data"] = name
    return _data(name)


def given(net: Net) -> str:
    """The pictures that the pages about data sets are about in this session, as `engine.data.sets.find` takes them."""
    return st.session_state.get("lens_data") or embedded.suits(net.labels, net.channels)


def existing(net: Net, layer: str) -> Index | None:
    """The index of those pictures that has the layer, for a page about something else; None where none is there."""
    if not any((home() / "indexes").glob(f"{net.sha256[:12]}-*")):
        return None
    try:
        found = indexes.open_index(net, _found(given(net)), layers=[layer])
    except BadDataset:
        return None
    usable = found is not None and not found.stale and found.done > len(found.skipped)
    return _kept(str(found.folder), found.key, found.stale, found) if usable else None


def _chosen(net: Net) -> str:
    """A name of `dataset.at_hand` or FETCHED, or a path."""
    here = list(sets.at_hand())
    suited = embedded.suits(net.labels, net.channels)
    more = [name for name in fetched.FETCHED if name not in here]
    options = [SUGGESTED, *here, *more, *([] if hosted() else [PATH])]
    titles = {SUGGESTED: f"{suited} (suggested)"}  # a link holds the others as they are shown
    asked = st.query_params.get("data")
    if asked:
        st.session_state["data_asked"] = asked  # the widget takes what it does not know out of the link
    asked = st.session_state.get("data_asked")
    if asked and asked not in options and st.session_state.get("data", SUGGESTED) == SUGGESTED:
        st.warning(f"The link asks for the pictures “{asked}”, which are not here.", icon=":material/link_off:")
    if "fetched_data" in st.session_state:
        st.session_state["data"] = st.session_state.pop("fetched_data")
    if st.session_state.get("data") not in options:
        st.session_state.pop("data", None)
    name = st.selectbox(
        "Pictures",
        options,
        format_func=lambda option: titles.get(option, option),
        key="data",
        bind="query-params",
        width=240,
    )
    if name == PATH:
        return st.text_input(
            "Folder (its subfolders are the labels) or Parquet file on the server",
            key="path",
            bind="query-params",
            placeholder="/data/birds, birds.parquet, hf:NAME",
            width=380,
        ).strip()
    return suited if name == SUGGESTED else name


def _data(name: str) -> Dataset:
    if not name:
        st.info("Type in where the pictures lie: a folder, a Parquet file, or MNIST's idx files.")
        st.stop()
    if name in fetched.FETCHED and name not in sets.at_hand():
        _fetch(name)
    try:
        return _found(name)
    except BadDataset as error:
        st.error(str(error), icon=":material/folder_off:")
        st.stop()


def _fetch(name: str) -> None:
    """A button, and behind it the download with its progress; ends the page's run."""
    about = fetched.FETCHED[name]
    st.markdown(f"**{about.title}**: {about.count:,} pictures, {about.megabytes:.0f} MB. {about.credit}.")
    wanted = st.button("Fetch", icon=":material/download:", key="fetch_data")
    if wanted or st.session_state.get("fetching_data") == name:
        st.session_state["fetching_data"] = name
        job = line.run("downloads", "fetch_data", (name,), lambda: fetched.fetch(name))
        watch.show("downloads", job, lambda step, complete: st.caption(f"Fetching {about.title}"))
        if job.state == "done":
            st.session_state.pop("fetching_data")
            st.session_state["fetched_data"] = name
            st.rerun()
    st.stop()


def _made(net: Net, data: Dataset, layers: list[str], found: Index | None, *, embedded: bool) -> Index:
    """Run the pass, or offer to; ends the page's run until there are pictures to look at."""
    knobs = (net.sha256, net.output, data.digest, *layers)
    wanted = st.session_state.setdefault("indexing", set())
    if found is not None and found.stale:
        st.warning(found.stale, icon=":material/history:")
    if not embedded and knobs not in wanted:
        left = len(data) - (found.done if found and not found.stale else 0)
        label = "Index the rest" if left < len(data) else "Index again" if found else "Index these pictures"
        st.markdown(f"**{_pictures(left)}** to be looked at, which takes about {_said(left * _pace(net))}.")
        if st.button(label, type="primary", icon=":material/play_arrow:", key="index_start"):
            wanted.add(knobs)
            st.rerun()
        return _usable(net, found)
    device = net.engine if embedded else "indexes"  # long passes must not keep all other runs waiting

    def steps(_: Index | None = None) -> Iterator[Step]:
        # Of few pictures one wants to see the first ones soon; the numbers do not depend on it.
        batch = SMALL if len(data) < FEW else indexing.BATCH
        return indexing.index_steps(net, data, layers=layers, batch=batch)

    job = line.run(device, "index", knobs, steps, resume=steps)
    if job.state == "done":  # and yet there is no such index: somebody has removed it
        job = line.of(device).submit(job.session, "index", knobs, steps, again=True, resume=steps)
    watch.show(device, job, _so_far)
    if job.active:
        st.stop()
    made = job.step.result if job.step else None
    return _usable(net, made or found)


def _usable(net: Net, found: Index | None) -> Index:
    """Goes on with a part of an index, or with one of pictures that have changed, but not with another network's."""
    if found is None or found.net_sha256 != net.sha256:
        st.stop()
    return found


def _so_far(step: Step | None, complete: bool) -> None:
    with st.container(height=96, border=False):
        if step is not None:
            found: Index = step.result
            shown = found.thumbnails(range(max(found.done - SHOWN, 0), found.done))
            st.image([each for each in shown if each], width=64)


def _pictures(count: int) -> str:
    return "1 picture" if count == 1 else f"{count:,} pictures"


def _said(seconds: float) -> str:
    if seconds < 90:
        return f"{max(round(seconds), 1)} seconds"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"

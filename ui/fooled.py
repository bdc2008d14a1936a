"""What is there to see of a picture that fools a network? The change, what is said of the file, whom else it fools."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from engine.fool.adversarial import distances, eight_bit
from engine.fool.survival import survival, transfer
from engine.model.metadata import BadMetadata
from engine.net import BadNetwork, Net, softmax
from engine.nets import available
from ui import controls, studio
from ui.charts import painting
from ui.scene import Scene, cached, class_names, open_network, scores_of

OTHERS = 3  # networks that are asked, too, until others are chosen: as many as stay open at a time
WIDTH, BESIDE = 258, 280  # pixels, of each of three pictures and of what stands beside them: one row on a laptop
TIMES = 10  # by how much a change is enlarged, to be seen


def note() -> None:
    """What these pages are for."""
    st.caption("These pages are for understanding networks, and for testing one's own.")


def toward(scene: Scene, label: str = "Make it a") -> int:
    """The class that a picture is to be taken for; by default the one that the network thinks least of."""
    names = class_names(scene.net)
    options = sorted((name for k, name in enumerate(names) if k != scene.class_index), key=str.lower)
    least = min((k for k in range(len(names)) if k != scene.class_index), key=lambda k: scene.probabilities[k])
    return names.index(controls.one(label, "toward", options, names[least], width=220))


def times() -> int:
    """By how much the change is enlarged."""
    return int(controls.slider("Show the change ×", 1, 100, TIMES, key="times", width=180))


def panels(original: np.ndarray, pixels: np.ndarray | None, factor: int, complete: bool):
    """Before, after, and the change (H, W, C) around grey, side by side; returns a container for what stands beside."""
    row = st.container(horizontal=True, gap="small")
    shown = {"**Before**": original}
    shown["**After**" if complete else "**So far**"] = pixels
    shown[f"**The change** × {factor}, grey is none"] = (
        None if pixels is None else np.array(painting.around_grey(pixels - original, 0.5 / factor))
    )
    for title, each in shown.items():
        with row.container(width=WIDTH + 4):
            st.markdown(title)
            if each is None:
                st.skeleton(height=WIDTH)
            else:
                studio.still(each, WIDTH)
    return row.container(width=BESIDE)


def measured(net: Net, original: np.ndarray, pixels: np.ndarray, k: int) -> np.ndarray:
    """What the network says of the picture as it comes back from an 8-bit PNG, and how far it is from the original.

    original, pixels: (H, W, C). k: the class that is asked about. Returns (K,) probabilities.
    """
    names = class_names(net)
    before, after = softmax(scores_of(net, eight_bit(original))[None])[0], studio.saved(net, pixels)
    far, length = (float(each[0]) for each in distances(pixels[None], eight_bit(original)[None]))
    with st.container(horizontal=True, gap="large"):
        st.metric(
            "Taken for, saved as PNG",
            names[int(after.argmax())],
            f"{after.max():.1%} sure",
            "off",
            delta_arrow="off",
            width=250,
        )
        st.metric(
            f"Probability of “{names[k]}”",
            f"{after[k]:.1%}",
            f"{before[k]:.1%} before",
            "off",
            delta_arrow="off",
            width=250,
        )
        st.metric("Largest change (L∞)", f"{far * 255:.0f} of 255", width=170, help="Of any channel of any pixel.")
        told = "The root of the sum of the squares of all changes, in pixel values of 0 to 1."
        st.metric("Length of the change (L2)", f"{length:.2f}", width=190, help=told)
    return after


def stands(net: Net, original: np.ndarray, pixels: np.ndarray, wanted: int | None, was: int) -> pd.DataFrame:
    """Does it survive as a file, and does it fool other networks? Two tables. Returns the first, for a download.

    original, pixels: (H, W, C). wanted: the class that it was to become, or None where any other than `was` will do.
    """
    names = class_names(net)
    k = was if wanted is None else wanted
    table = cached(survival)(net, pixels)
    fooled = table["class"] != was if wanted is None else table["class"] == wanted
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Does it survive?** Once saved, and after what happens to files")
        st.dataframe(
            pd.DataFrame(
                {
                    "After": table.treatment,
                    "Fooled": np.where(fooled, "✓", "✗"),
                    "Taken for": [names[j] for j in table["class"]],
                    "Sure": table.probability,
                    f"“{names[k]}”": table[f"p{k}"],
                }
            ),
            hide_index=True,
            column_config=dict.fromkeys(
                ("Sure", f"“{names[k]}”"),
                st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0, width="small"),
            ),
        )
    with right:
        st.markdown("**Does it fool others?** Networks that it was not made for")
        _others(net, original, pixels, None if wanted is None else net.labels[wanted])
    return table


def _others(net: Net, original: np.ndarray, pixels: np.ndarray, wanted: str | None) -> None:
    """wanted: the label that it was to be taken for, or None where any other than before counts."""
    here = [name for name in available.at_hand() if name != net.name]
    chosen = controls.several("Networks", "others", here, _alike(net, here), most=OTHERS)
    rows = []
    for name in chosen:
        try:
            said = cached(transfer)([open_network(name)], {"before": original, "after": pixels})
        except (BadNetwork, BadMetadata) as error:
            st.caption(f"{name} cannot be asked: {error}")
            continue
        before, after = said.itertuples(index=False)
        fooled = after.label == wanted if wanted is not None else after.label != before.label
        was = f"{before.label}, {before.probability:.0%}"
        rows.append((name, "✓" if fooled else "✗", was, after.label, after.probability))
    if rows:
        st.dataframe(
            pd.DataFrame(rows, columns=["Network", "Fooled", "Before", "After", "Sure"]),
            hide_index=True,
            column_config={
                "Sure": st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0, width="small")
            },
        )
    elif not chosen:
        st.caption("None of the networks here has a class of this one; any can be asked all the same.")


def _alike(net: Net, names: Sequence[str]) -> list[str]:
    """Of other networks those that have most classes in common with this one; none that has no class of it."""
    mine = {label.lower() for label in net.labels}
    shares = {name: _common(name, frozenset(mine)) for name in names}
    return sorted((name for name in names if shares[name]), key=lambda name: -shares[name])[:OTHERS]


@st.cache_data(max_entries=64, show_spinner=False)
def _common(name: str, labels: frozenset[str]) -> int:
    try:
        return len({label.lower() for label in open_network(name).labels} & labels)
    except (BadNetwork, BadMetadata):
        return 0

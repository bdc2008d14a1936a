"""What stands above and below each page? Its question; then Link, Download, Reproduce, and an explanation."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import streamlit as st

from ui.links import address, reproduce
from ui.scene import Scene


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

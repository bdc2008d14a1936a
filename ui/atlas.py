"""How are thousands of pictures shown at once? As one canvas in the browser, cut from one sprite (ui/atlas.js).

Charts of that many pictures would be thousands of images, or one whose pictures cannot be told apart when one comes
nearer. Here the browser gets all thumbnails as a single file, once, and their places again and again while a map is
made; hovering, zooming and dragging ask the server nothing.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from ui.charts import marks

SIDE = 720  # pixels that the map takes at most
MOST_KEYS = 24  # groups that have a key; of more, one could not tell the colours apart anyway

HTML = """
<div class="tools" role="toolbar">
  <button data-do="select" aria-pressed="true" title="Drag a box around pictures to choose them">▭ Select</button>
  <button data-do="move" aria-pressed="false" title="Drag to move the map; or hold Shift">✥ Move</button>
  <span></span>
  <button data-do="in" title="Nearer; or Ctrl and the mouse wheel" aria-label="Nearer">+</button>
  <button data-do="out" title="Farther" aria-label="Farther">−</button>
  <button data-do="fit" title="The whole map" aria-label="The whole map">⤢</button>
  <button data-do="none" title="Choose nothing" aria-label="Choose nothing">✕</button>
</div>
<div class="box" role="img">
  <canvas class="below"></canvas><canvas class="above"></canvas>
  <div class="card" hidden><canvas width="132" height="132"></canvas><p></p><p></p></div>
</div>
<div class="keys"></div>
"""
CSS = """
:host, .box { color: var(--st-text-color); font-family: var(--st-font); }
.box { position: relative; width: 100%; overflow: hidden; border: 1px solid var(--st-border-color);
  border-radius: 8px; box-sizing: border-box; }
.box > canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.tools { display: flex; gap: 4px; margin-bottom: 6px; }
.tools span { flex: 1; }
button { font: 13px var(--st-font); color: var(--st-text-color); background: var(--st-background-color);
  border: 1px solid var(--st-border-color); border-radius: 6px; padding: 3px 9px; min-height: 28px; cursor: pointer; }
button:hover { border-color: var(--st-primary-color); color: var(--st-primary-color); }
button:focus-visible { outline: 2px solid var(--st-primary-color); }
button[aria-pressed=true] { background: var(--st-primary-color); border-color: var(--st-primary-color);
  color: var(--st-background-color); }
.card { position: absolute; pointer-events: none; z-index: 2; padding: 6px; border-radius: 8px; max-width: 150px;
  background: var(--st-background-color); border: 1px solid var(--st-border-color);
  box-shadow: 0 4px 16px rgb(0 0 0 / 0.25); }
.card canvas { display: block; width: 132px; height: 132px; border-radius: 4px; }
.card canvas[hidden] { display: none; }
.card p { margin: 4px 0 0; font-size: 12px; line-height: 1.3; overflow-wrap: anywhere; }
.card p:first-of-type { font-weight: 600; }
.card .wrong { color: #e8590c; }
.keys { display: flex; flex-wrap: wrap; gap: 4px; margin-top: 6px; }
.keys button { display: flex; align-items: center; gap: 5px; padding: 1px 8px; min-height: 24px; font-size: 12px; }
.keys span { width: 10px; height: 10px; border-radius: 3px; }
"""
_mount = st.components.v2.component(
    "convoscope_atlas", html=HTML, css=CSS, js=Path(__file__).with_suffix(".js").read_text("utf-8")
)


@dataclass(frozen=True)
class Sprite:
    """All thumbnails as one picture file, row by row. tile: pixels a side of each. columns: of them in a row."""

    data: bytes
    mimetype: str
    tile: int
    columns: int
    count: int


def sprite(tiles: np.ndarray) -> Sprite:
    """One file of tiles (N, t, t, 3) uint8: PNG of small ones, which it keeps as they are, else JPEG."""
    count, tile = tiles.shape[:2]
    columns = max(1, int(np.ceil(count**0.5)))
    rows = -(-count // columns)
    whole = np.zeros((rows * columns, tile, tile, 3), np.uint8)
    whole[:count] = tiles
    whole = whole.reshape(rows, columns, tile, tile, 3).transpose(0, 2, 1, 3, 4).reshape(rows * tile, columns * tile, 3)
    small, out = tile < 24, io.BytesIO()
    coarse = 2 if tile % 16 == 0 else 0  # colours by blocks of 16 pixels, where these are no two tiles'
    kind = {"format": "PNG", "compress_level": 6} if small else {"format": "JPEG", "quality": 82, "subsampling": coarse}
    Image.fromarray(whole).save(out, **kind)
    return Sprite(out.getvalue(), "image/png" if small else "image/jpeg", tile, columns, count)


@dataclass(frozen=True)
class Captions:
    """What is told of each picture. labels, predictions: (N,) numbers of `kinds` and `classes`, -1 for none.

    probabilities: (N,), of the predictions. true: (N,) which of the classes the label is, -1 where it is none of them.
    """

    labels: np.ndarray
    predictions: np.ndarray
    probabilities: np.ndarray
    kinds: Sequence[str]
    classes: Sequence[str]
    true: np.ndarray


def show(
    places: np.ndarray,
    pictures: Sprite,
    captions: Captions,
    *,
    alt: str,
    of: str,
    tile: float,
    grid: bool = False,
    dots: bool = False,
    groups: np.ndarray | None = None,
    names: Sequence[str] = (),
    palette: Sequence[str] = (),
    chosen: np.ndarray | None = None,
    focus: int | None = None,
    mark: tuple[float, float, str] | None = None,
    choose: Callable[[dict | None], None] = lambda chosen: None,
    key: str = "atlas",
) -> None:
    """Draw the map; before the page is drawn again, `choose` gets what people chose on it, in the form of `within`.

    places: (N, 2) in [0, 1], x to the right and y downwards. alt: what it shows, in words. of: which map this is; what
    was chosen on another one is not meant. tile: a picture's side as a share of the map's. grid: whether the places are
    cells of a grid. dots: in place of the pictures. groups: (N,) numbers in names and palette, whose colours frame the
    pictures, or -1. chosen: numbers of those that are not to be dimmed. focus: the one that has an outline. mark: x, y
    and the picture (as a data URL) of one that does not belong to the set.
    """
    count = len(places)
    told = list(names) if len(names) <= MOST_KEYS else []
    data: dict[str, Any] = {
        "count": count,
        "places": _packed(places, np.float32),
        "groups": _packed(np.full(count, 255) if groups is None else np.where(groups < 0, 255, groups % 255), np.uint8),
        "labels": _packed(captions.labels, np.int16),
        "predictions": _packed(captions.predictions, np.int16),
        "probabilities": _packed(np.rint(100 * captions.probabilities), np.uint8),
        "kinds": list(captions.kinds),
        "classes": list(captions.classes),
        "wrong": _packed((captions.true >= 0) & (captions.true != captions.predictions), np.uint8),
        "chosen": None if chosen is None else _packed(chosen, np.int32),
        "focus": None if focus is None else {"k": int(focus)},
        "mark": None if mark is None else {"x": float(mark[0]), "y": float(mark[1]), "url": mark[2]},
        "sprite": {"url": _served(pictures, key), "tile": pictures.tile, "columns": pictures.columns, "count": count},
        "names": told,
        "palette": list(palette),
        "accent": marks.ACCENT,
        "tile": tile,
        "grid": grid,
        "dots": dots,
        "side": SIDE,
        "of": of,
        "alt": alt,
    }

    def changed() -> None:
        found = (st.session_state.get(key) or {}).get("chosen")
        if found is None or found.get("of") == of:
            choose(found)

    _mount(key=key, data=data, default={"chosen": None}, on_chosen_change=changed)


def within(chosen: dict, places: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    """The numbers of the pictures that a choice means: {"one": k}, {"box": [left, top, right, bottom]} in the units of
    the places, or {"group": g}."""
    if "one" in chosen:
        one = int(chosen["one"])
        return np.array([one] if 0 <= one < len(places) else [], int)
    if "group" in chosen:
        return np.flatnonzero(groups == int(chosen["group"])) if groups is not None else np.zeros(0, int)
    left, top, right, bottom = map(float, chosen["box"])
    x, y = places.T
    return np.flatnonzero((x >= left) & (x <= right) & (y >= top) & (y <= bottom))


def _packed(values: np.ndarray, kind: type) -> str:
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode("ascii")


def _served(pictures: Sprite, key: str) -> str:
    """Where the browser finds the file: as those of st.image, under a name that changes with what is in it."""
    if not st.runtime.exists():
        return ""
    return st.runtime.get_instance().media_file_mgr.add(pictures.data, pictures.mimetype, f"{key}-sprite")

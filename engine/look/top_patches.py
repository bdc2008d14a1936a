"""Which parts of pictures excite a unit most?

Zeiler & Fergus 2013, arXiv:1311.2901, figure 2, and Girshick et al. 2013, arXiv:1311.2524, figure 3: of all pictures of
a set the places where a channel is at its highest, cut out as far as the unit there can see. Of each picture at most
one place counts, its best, as in the former; the latter takes overlapping ones out by non-maximum suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from engine.data import sets
from engine.data.index import Index
from engine.data.indexing import ready_steps
from engine.image import resize
from engine.net import Layer, Net, UnknownLayer
from engine.step import last

GREY = 0.5  # what lies outside of the picture
TILE, GAP, LINE = 96, 4, 18  # of a figure, in pixels: the patches' least side, what is between them, a line of text


@dataclass(frozen=True)
class Patches:
    """The places that excite some channels most, the strongest first, channel by channel.

    pixels: (N, h, w, C), grey where the field reaches past the picture; of a field larger than the picture, a part as
    large as the picture that has all of it that the unit sees. table: a row for each: channel, value (the
    activation), id, row, col (of the unit), top, left, bottom, right (what it sees, in pixels of the network's input,
    the ends excluded; outside of the picture where that is padding), where, label, prediction, probability (of the
    prediction).
    """

    pixels: np.ndarray
    table: pd.DataFrame

    def of(self, channel: int) -> Patches:
        """Those of one channel."""
        mine = (self.table.channel == channel).to_numpy()
        return Patches(self.pixels[mine], self.table[mine].reset_index(drop=True))


def top_patches(
    net: Net, data: str, layer: str, *, channel: int = 0, channels: int = 1, count: int = 9, side: int = 0
) -> Patches:
    """The patches of a set of pictures that excite a channel most, at most one of each picture.

    data: a name, a folder or a Parquet file, as `engine.data.sets.find` takes it; pictures that are not indexed are
    indexed first. channel: the first. channels: how many, from that one on. count: patches of each. side: pixels that
    the longer side of larger patches is scaled down to, 0 for none.
    Returns Patches; the values are activations. Raises BadDataset, BadIndex, UnknownLayer, NotAPicture.
    """
    index = last(ready_steps(net, sets.find(data), [layer]))
    return cut_out(net, index, layer, channel=channel, channels=channels, count=count, side=side)


def cut_out(
    net: Net, index: Index, layer: str, *, channel: int = 0, channels: int = 1, count: int = 9, side: int = 0
) -> Patches:
    """The same from an index that is there."""
    have = index.shape(layer)[0]
    if not 0 <= channel < have or channels < 1:
        raise UnknownLayer(
            f"Layer {layer} has channels 0 to {have - 1}; {channels} from {channel} on are none of them."
        )
    if channels == 1:
        tops = index.top(layer, channel, count).assign(channel=channel)
    else:
        tops = index.tops(layer, count)
        tops = tops[(tops.channel >= channel) & (tops.channel < channel + channels)]
    return cut_these(net, index, layer, tops, side=side)


def cut_these(net: Net, index: Index, layer: str, tops: pd.DataFrame, *, side: int = 0) -> Patches:
    """The patches of some rows of `Index.tops`, in their order."""
    found, size = net.layer(layer), net.input_size
    boxes = [box(found, int(row), int(col), size) for row, col in zip(tops.row, tops.col, strict=True)]
    high, wide = _scaled(*_sides(found, size), side)
    pixels = np.empty((len(tops), high, wide, net.channels), np.float32)
    seen: tuple[int, np.ndarray] | None = None
    ids = tops.id.to_numpy()
    for k in np.argsort(ids, kind="stable"):  # each picture is decoded once, and files are read forwards
        if seen is None or seen[0] != ids[k]:
            seen = int(ids[k]), index.pixels(net, int(ids[k]))
        patch = cut(seen[1], within(boxes[k], size))
        pixels[k] = patch if patch.shape[:2] == (high, wide) else resize(patch, (high, wide))
    edges = pd.DataFrame(boxes, columns=["top", "left", "bottom", "right"], dtype=np.int64)
    table = tops[["channel", "value", "id", "row", "col"]].reset_index(drop=True)
    return Patches(pixels, pd.concat([table, edges, told(net, index, ids)], axis=1))


def told(net: Net, index: Index, ids: Sequence[int]) -> pd.DataFrame:
    """What is known of some pictures: where, label ("" for none), prediction, both in words, and its probability."""
    rows = index.pictures.set_index("id").loc[np.asarray(ids, np.int64)]
    label = [index.names[k] if 0 <= k < len(index.names) else "" for k in rows.label]
    said = [net.labels[k] for k in rows.prediction]
    return pd.DataFrame({
        "where": rows["where"].to_list(),
        "label": label,
        "prediction": said,
        "probability": rows.probability.to_numpy(),
    })  # fmt: skip


def box(layer: Layer, row: int, col: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of what the unit at (row, col) sees, not cut at the picture's edges.

    size: the network's (H, W), for units that see the whole picture.
    """
    field = layer.receptive_field
    if field.stride == (0, 0):
        return 0, 0, *size
    top, left = (field.offset[i] + at * field.stride[i] for i, at in enumerate((row, col)))
    return top, left, top + field.size[0], left + field.size[1]


def cut(pixels: np.ndarray, edges: tuple[int, int, int, int]) -> np.ndarray:
    """(bottom - top, right - left, C) of a picture (H, W, C), grey where that lies outside of it."""
    top, left, bottom, right = edges
    height, width = pixels.shape[:2]
    patch = np.full((bottom - top, right - left, pixels.shape[2]), GREY, np.float32)
    rows, cols = slice(max(top, 0), min(bottom, height)), slice(max(left, 0), min(right, width))
    if rows.start < rows.stop and cols.start < cols.stop:
        patch[rows.start - top : rows.stop - top, cols.start - left : cols.stop - left] = pixels[rows, cols]
    return patch


def within(edges: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box no larger than the picture (H, W) that has all of the picture that `edges` has: padding alone is lost."""
    (top, bottom), (left, right) = (_within(edges[i], edges[i + 2], size[i]) for i in range(2))
    return top, left, bottom, right


def _within(start: int, end: int, side: int) -> tuple[int, int]:
    if end - start <= side:
        return start, end
    if start > 0:
        return start, start + side
    return (0, side) if end >= side else (end - side, end)


def _sides(layer: Layer, size: tuple[int, int]) -> tuple[int, int]:
    top, left, bottom, right = within(box(layer, 0, 0, size), size)
    return bottom - top, right - left


def _scaled(height: int, width: int, side: int) -> tuple[int, int]:
    share = side / max(height, width) if 0 < side < max(height, width) else 1.0
    return max(round(height * share), 1), max(round(width * share), 1)


def figure(found: Patches) -> np.ndarray:
    """(H, W, 3): a row per channel, its number before it and the value under each patch, on white."""
    height, width = found.pixels.shape[1:3]
    factor = max(-(-TILE // max(height, width)), 1)
    tiles = found.pixels.repeat(factor, 1).repeat(factor, 2)
    height, width = height * factor, width * factor
    channels = found.table.channel.to_numpy()
    rows = [np.flatnonzero(channels == channel) for channel in dict.fromkeys(channels.tolist())]
    margin = 9 * len(str(channels.max(initial=0))) + 2 * GAP
    across = margin + max(map(len, rows), default=0) * (width + GAP)
    page = np.ones((max(len(rows), 1) * (height + LINE + GAP), across, 3), np.float32)
    for i, members in enumerate(rows):
        for j, k in enumerate(members):
            top, left = i * (height + LINE + GAP), margin + j * (width + GAP)
            page[top : top + height, left : left + width] = tiles[k]
    image = Image.fromarray(np.rint(page * 255).astype(np.uint8))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    for i, members in enumerate(rows):
        top = i * (height + LINE + GAP)
        pen.text((GAP, top + height / 2), str(channels[members[0]]), "black", font, anchor="lm")
        for j, k in enumerate(members):
            pen.text((margin + j * (width + GAP), top + height + 2), f"{found.table.value[k]:.4g}", "black", font)
    return np.asarray(image, np.float32) / 255

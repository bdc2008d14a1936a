"""How do numbers become one picture file?

The app draws with charts; this is for the command line, where one PNG has to do: what the net saw on the left, the
numbers in colour on the right, each with hard edges, and under them the scale that the colours stand for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.pictures import colour

HEIGHT = 448  # pixels of a panel, or a little more where a small picture is enlarged by a whole number
GAP, MARGIN, BAR = 2, 12, 34  # pixels: between tiles, around panels, and of the strip that holds the scale
MOST = 64  # of a layer's channels along one axis of a table of kernels


@dataclass(frozen=True)
class Drawing:
    """Numbers in colour. pixels: (h, w, 3). kind: "sequential", "diverging", "grey at zero" or "picture".

    low, high: what the first and the last colour of the scale stand for. left_out: what is not drawn, in words, or "".
    """

    pixels: np.ndarray
    kind: str
    low: float
    high: float
    left_out: str = ""


def draw(values: np.ndarray, size: tuple[int, int]) -> Drawing | None:
    """Numbers of any of the engine's forms in colour; None where there is nothing to see.

    values: a map (h, w), a picture (H, W, 1 or 3) no smaller than `size`, which is the net's (H, W), maps (C, h, w),
    kernels (O, I, h, w), or a row of numbers. Signed ones are drawn with zero in the middle, the others from the
    smallest to the largest.
    """
    finite = values[np.isfinite(values)] if np.issubdtype(values.dtype, np.number) else values[:0]
    if finite.size == 0 or not 1 <= values.ndim <= 4:
        return None
    low, high = float(finite.min()), float(finite.max())
    limit = max(-low, high)
    large = values.shape[:1] >= size[:1] and values.shape[1:2] >= size[1:]
    picture = values.ndim == 3 and values.shape[2] in (1, 3) and large
    if picture and values.shape[2] == 1:
        values = values[..., 0]
    elif picture:
        if low >= 0 and high <= 1:
            return Drawing(values.astype(np.float32), "picture", 0.0, 1.0)
        return Drawing(_grey_at_zero(values, limit), "grey at zero", -limit, limit)
    if values.ndim == 4 and values.shape[1] == 3:
        tiles = _grey_at_zero(values.transpose(0, 2, 3, 1), limit)
        return Drawing(mosaic(tiles, _columns(tiles)), "grey at zero", -limit, limit)
    columns, left_out = 0, ""
    if values.ndim == 4:
        if max(values.shape[:2]) > MOST:
            left_out = f"all but the first {MOST} of {values.shape[0]} × {values.shape[1]} kernels"
        values = values[:MOST, :MOST]
        columns = values.shape[1] if values.shape[1] > 1 else 0
        values = values.reshape(-1, *values.shape[2:])
    if low < 0:
        coloured, kind, low, high = colour.diverging(values, limit), "diverging", -limit, limit
    else:
        coloured, kind = colour.sequential(values, low, high), "sequential"
    if values.ndim == 1:
        coloured = coloured[None]
    elif values.ndim == 3:
        coloured = mosaic(coloured, columns or _columns(coloured))
    return Drawing(coloured.astype(np.float32), kind, low, high, left_out)


def _grey_at_zero(values: np.ndarray, limit: float) -> np.ndarray:
    return (0.5 + values / (2 * limit or 1)).astype(np.float32)


def _columns(tiles: np.ndarray) -> int:
    """How many tiles (N, h, w, 3) abreast make a sheet that is about square."""
    count, height, width, _ = tiles.shape
    return max(1, min(count, round((count * height / width) ** 0.5)))


def mosaic(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Tiles (N, h, w, 3) row by row on white, each enlarged by the whole number that fills a panel."""
    count, height, width, _ = tiles.shape
    rows = -(-count // columns)
    factor = max(1, HEIGHT // max(rows * height, columns * width))
    tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    height, width = tiles.shape[1:3]
    sheet = np.ones((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), np.float32)
    for k, tile in enumerate(tiles):
        top, left = k // columns * (height + GAP), k % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def panels(view: np.ndarray | None, drawing: Drawing, *, covers: bool) -> np.ndarray:
    """(H, W, 3): the net's view (h, w, 1 or 3), where there is one, beside a drawing, with the scale underneath.

    covers: whether the drawing is a map of the whole view, and is stretched to its form.
    """
    shown = []
    if view is not None:
        factor = max(1, round(HEIGHT / view.shape[0]))
        shown.append(np.broadcast_to(view, (*view.shape[:2], 3)).repeat(factor, 0).repeat(factor, 1))
    if covers and shown:
        shown.append(_stretch(drawing.pixels, shown[0].shape[:2]))
    else:
        factor = max(1, round(HEIGHT / max(drawing.pixels.shape[:2])))
        shown.append(drawing.pixels.repeat(factor, 0).repeat(factor, 1))
    height = max(panel.shape[0] for panel in shown)
    width = sum(panel.shape[1] + MARGIN for panel in shown) + MARGIN
    page = np.ones((height + 2 * MARGIN + BAR, width, 3), np.float32)
    left = MARGIN
    for panel in shown:
        page[MARGIN : MARGIN + panel.shape[0], left : left + panel.shape[1]] = panel
        left += panel.shape[1] + MARGIN
    if drawing.kind == "picture":
        return page[:-BAR]
    start = left - MARGIN - shown[-1].shape[1]
    strip = _scale(drawing, min(shown[-1].shape[1], HEIGHT) if shown[-1].shape[1] > 120 else width - start - MARGIN)
    page[-BAR:, start : start + strip.shape[1]] = strip
    return page


def _stretch(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """To `shape` (H, W) by repeating cells: nothing is smoothed."""
    rows, cols = (np.arange(new) * old // new for new, old in zip(shape, pixels.shape[:2], strict=True))
    return pixels[np.ix_(rows, cols)]


def _scale(drawing: Drawing, width: int) -> np.ndarray:
    """(BAR, width, 3): the colours from low to high, with the two numbers under the ends."""
    ramp = np.linspace(drawing.low, drawing.high, max(width, 2))
    if drawing.kind == "grey at zero":
        colours = np.repeat(np.linspace(0, 1, len(ramp))[:, None], 3, 1)
    elif drawing.kind == "diverging":
        colours = colour.diverging(ramp, drawing.high)
    else:
        colours = colour.sequential(ramp, drawing.low, drawing.high)
    strip = np.ones((BAR, len(ramp), 3), np.float32)
    strip[:10] = colours
    image = Image.fromarray(np.rint(strip * 255).astype(np.uint8))
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    pen.text((0, 13), f"{drawing.low:.4g}", "black", font)
    pen.text((len(ramp), 13), f"{drawing.high:.4g}", "black", font, anchor="ra")
    return np.asarray(image, np.float32) / 255

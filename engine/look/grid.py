"""How are many small pictures laid out as one: each at its place on a map, or each in a cell of a grid?"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    pass

EXACT = 1000  # pictures up to which the grid's assignment is the best that there is
WINDOW = 10  # cells a side, of the parts of a larger grid that are assigned anew


# A grid ---------------------------------------------------------------------------------------------------------------


def grid_shape(count: int, aspect: float = 1.0) -> tuple[int, int]:
    """(rows, columns) of the smallest grid of about that width per height with a cell for each."""
    columns = max(1, min(count, round((count * aspect) ** 0.5)))
    return max(1, -(-count // columns)), columns


def on_grid(places: np.ndarray, *, aspect: float = 1.0, exact: int = EXACT) -> np.ndarray:
    """(N, 2) a cell of its own (row, column) for each place (N, 2), so that all together move as little as they can.

    What is made small is the sum of squared distances, with the map stretched over the grid; row 0 is at the top.
    aspect: width per height. exact: how many pictures are assigned at once, by scipy's linear_sum_assignment (Crouse
    2016), whose time grows with their cube. More are first halved again and again, along the longer side (DGrid), and
    then assigned exactly in overlapping windows, until that changes little: within a few percent of the best.
    Cells that are left over stay empty where the map is.
    """
    shape = grid_shape(len(places), aspect)
    wanted = _stretched(places, shape)
    if len(places) <= exact:
        cells = np.indices(shape).reshape(2, -1).T
        return cells[_assigned(wanted, cells)]
    found = np.empty((len(places), 2), np.int64)
    _halved(wanted, np.arange(len(places)), (0, 0), shape, found)
    cost = moved_by(places, found, aspect=aspect)
    for _ in range(8):
        for shift in (0, WINDOW // 2):
            _windows(wanted, found, shape, shift)
        before, cost = cost, moved_by(places, found, aspect=aspect)
        if cost > 0.99 * before:
            break
    return found


def moved_by(places: np.ndarray, cells: np.ndarray, *, aspect: float = 1.0) -> float:
    """How far the pictures lie from their places on the stretched map: the mean squared distance, in cells."""
    wanted = _stretched(places, grid_shape(len(places), aspect))
    return float(((wanted - cells) ** 2).sum(1).mean())


def _stretched(places: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(N, 2) row and column, of fractions, with the map's corners on the grid's."""
    low, high = places.min(0), places.max(0)
    share = (places - low) / np.where(high > low, high - low, 1)
    share[:, high == low] = 0.5
    return np.stack([(1 - share[:, 1]) * (shape[0] - 1), share[:, 0] * (shape[1] - 1)], 1).astype(np.float64)


def _assigned(wanted: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """(N,) which of at least as many cells (M, 2) each of the places (N, 2) gets."""
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    return linear_sum_assignment(cdist(wanted, cells, "sqeuclidean"))[1]


def _halved(wanted: np.ndarray, who: np.ndarray, corner: tuple, shape: tuple, found: np.ndarray) -> None:
    """Give each of `who` a cell of the part of the grid at `corner` of that shape, in proportion to its halves."""
    if len(who) == 0:
        return
    if shape == (1, 1):
        found[who[0]] = corner
        return
    axis = 0 if shape[0] >= shape[1] else 1
    first, other = shape[axis] // 2, shape[1 - axis]
    room, rest = first * other, (shape[axis] - first) * other
    number = int(np.clip(round(len(who) * first / shape[axis]), len(who) - rest, room))
    order = who[np.argsort(wanted[who, axis], kind="stable")]
    sides = ((order[:number], 0, first), (order[number:], first, shape[axis] - first))
    for some, start, length in sides:
        part = (length, other) if axis == 0 else (other, length)
        at = (corner[0] + start, corner[1]) if axis == 0 else (corner[0], corner[1] + start)
        _halved(wanted, some, at, part, found)


def _windows(wanted: np.ndarray, found: np.ndarray, shape: tuple[int, int], shift: int) -> None:
    """Assign each window of the grid anew, in place."""
    window = (found + shift) // WINDOW
    across = (shape[1] + shift) // WINDOW + 1
    number = window[:, 0] * across + window[:, 1]
    order = np.argsort(number, kind="stable")
    for who in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
        row, col = window[who[0]] * WINDOW - shift
        rows = np.arange(max(row, 0), min(row + WINDOW, shape[0]))
        cols = np.arange(max(col, 0), min(col + WINDOW, shape[1]))
        cells = np.stack(np.meshgrid(rows, cols, indexing="ij"), -1).reshape(-1, 2)
        found[who] = cells[_assigned(wanted[who], cells)]


# One picture of all ---------------------------------------------------------------------------------------------------


def in_square(places: np.ndarray) -> np.ndarray:
    """(N, 2) the same map in [0, 1], x to the right and y downwards, centred and not stretched."""
    low, high = places.min(0), places.max(0)
    side = float((high - low).max()) or 1.0
    found = (places - (low + high) / 2) / side + 0.5
    found[:, 1] = 1 - found[:, 1]
    return found.astype(np.float32)


def drawn(tiles: np.ndarray, places: np.ndarray, *, side: int = 2000, tile: int | None = None) -> np.ndarray:
    """(side, side, 4) uint8: tiles (N, t, t, 3) uint8 at their places, later ones over earlier ones, on nothing.

    tile: pixels a side of each; by default so that all together would cover the square once.
    """
    tile = max(1, min(tile or round(side / len(tiles) ** 0.5), side))
    small = _resized(tiles, tile)
    corners = np.rint(in_square(places) * (side - tile)).astype(int)
    whole = np.zeros((side, side, 4), np.uint8)
    for (left, top), pixels in zip(corners, small, strict=True):
        whole[top : top + tile, left : left + tile, :3] = pixels
        whole[top : top + tile, left : left + tile, 3] = 255
    return whole


def tiled(tiles: np.ndarray, cells: np.ndarray, *, tile: int | None = None) -> np.ndarray:
    """(rows * t, columns * t, 4) uint8: tiles (N, t, t, 3) uint8, each in its cell (row, column).

    tile: pixels a side of each; by default as they are, or smaller where the whole would be larger than 4,000 a side.
    """
    rows, columns = (int(k) + 1 for k in cells.max(0))
    tile = max(1, min(tile or tiles.shape[1], 4000 // max(rows, columns)))
    whole = np.zeros((rows, columns, tile, tile, 4), np.uint8)
    whole[cells[:, 0], cells[:, 1], ..., :3] = _resized(tiles, tile)
    whole[cells[:, 0], cells[:, 1], ..., 3] = 255
    return whole.transpose(0, 2, 1, 3, 4).reshape(rows * tile, columns * tile, 4)


def squares(encoded: Sequence[bytes], most: int) -> np.ndarray:
    """(N, t, t, 3) uint8 tiles of encoded pictures: the middle square of each, no larger than `most` or the first one.

    t is a multiple of 8, so that tiles stay whole in a JPEG. What cannot be read is grey.
    """
    from PIL import Image, UnidentifiedImageError

    tile, tiles = 0, np.zeros((0, 0, 0, 3), np.uint8)
    for k, data in enumerate(encoded):
        try:
            picture = Image.open(io.BytesIO(data)).convert("RGB")
        except (OSError, UnidentifiedImageError):
            picture = Image.new("RGB", (8, 8), "grey")
        side = min(picture.size)
        if not tile:
            tile = max(8, min(most, side) // 8 * 8)
            tiles = np.empty((len(encoded), tile, tile, 3), np.uint8)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        how = Image.Resampling.BOX if side > tile else Image.Resampling.NEAREST
        tiles[k] = picture.resize((tile, tile), how, (left, top, left + side, top + side))
    return tiles


def _resized(tiles: np.ndarray, tile: int) -> np.ndarray:
    """Tiles (N, t, t, 3) of another size: enlarged by repeating, made smaller by averaging."""
    from PIL import Image

    if tiles.shape[1] == tile:
        return tiles
    how = Image.Resampling.NEAREST if tile > tiles.shape[1] else Image.Resampling.BOX
    return np.stack([np.asarray(Image.fromarray(pixels).resize((tile, tile), how)) for pixels in tiles])

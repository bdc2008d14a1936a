"""Where does each unit of a layer fire on this picture, and which units stay off?

Zeiler & Fergus 2013, arXiv:1311.2901; Yosinski 2015, arXiv:1506.06579: the activation maps themselves.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from engine.net import Net, UnknownLayer


def activation_maps(net: Net, image: np.ndarray, layer: str) -> np.ndarray:
    """(C, h, w) activations of `layer` on a picture (H, W, C) of the net's own size; h = w = 1 for a plain vector.

    Raises UnknownLayer.
    """
    shape = net.layer(layer).shape
    return net.activations(net.batch(image), [layer])[layer][0].reshape(shape)


def statistics(maps: np.ndarray) -> pd.DataFrame:
    """A row per channel of maps (C, h, w): its maximum and where that is, its mean, and on, the share of places > 0."""
    flat = maps.reshape(len(maps), -1)
    peak = flat.argmax(1)
    return pd.DataFrame(
        {
            "channel": np.arange(len(maps)),
            "maximum": flat.max(1),
            "mean": flat.mean(1),
            "on": (flat > 0).mean(1),
            "row": peak // maps.shape[2],
            "col": peak % maps.shape[2],
        }
    )


def unit_window(net: Net, layer: str, row: int, col: int) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) in the net's pixels of what the unit at (row, col) of a layer can see.

    Raises UnknownLayer, also where the position is out of range.
    """
    found = net.layer(layer)
    if not (0 <= row < found.shape[1] and 0 <= col < found.shape[2]):
        raise UnknownLayer(f"({row}, {col}) is outside of layer {layer}, which is {found.shape[1]} × {found.shape[2]}.")
    return found.receptive_field.window(row, col, net.input_size)

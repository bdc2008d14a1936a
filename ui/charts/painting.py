"""How do numbers become colours? Maps as pixels, the legend that agrees with them, and palettes."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import numpy as np

from engine.image import LUMA
from engine.pictures import colour
from ui.charts.marks import ACCENT, PANEL, enlarge

# Lines, to be told apart also by the colour-blind and on both themes (after Okabe and Ito 2008).
CURVES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
KINDS = (*CURVES, "#8a98c8", "#a6761d", "#6a3d9a", "#b2df8a", "#17a2b8", "#e7298a")


def kinds(count: int) -> list[str]:
    """As many colours, to be told apart where there are no more than a dozen; further ones go around the circle."""
    more = [f"hsl({round(137.5 * k) % 360} 60% {45 + 15 * (k % 2)}%)" for k in range(max(0, count - len(KINDS)))]
    return [*KINDS[:count], *more]


# Maps -----------------------------------------------------------------------------------------------------------------


def limits(values: np.ndarray, signed: bool) -> tuple[float, float]:
    """(low, high) of a map's colours: zero in the middle of a signed one; a constant map gets a range of its own."""
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if signed:
        top = max(abs(low), abs(high)) or 1.0
        return -top, top
    return (low, high) if high > low else (low, low + 1)


def paint(values: np.ndarray, low: float, high: float, signed: bool) -> np.ndarray:
    """(h, w, 3) colours of a map."""
    return colour.diverging(values, max(abs(low), abs(high))) if signed else colour.sequential(values, low, high)


def colour_scale(low: float, high: float, title: str, signed: bool) -> dict:
    """The Altair scale and legend that agree with `paint`."""
    top = max(abs(low), abs(high))
    colours, domain = (colour.DIVERGING, [-top, top]) if signed else (colour.SEQUENTIAL, [low, high])
    legend = alt.Legend(
        orient="bottom",
        direction="horizontal",
        title=title,
        titleLimit=PANEL - 20,
        titleAnchor="start",
        gradientLength=PANEL - 60,
        gradientThickness=10,
        tickCount=4,
        format=".4~g",
        labelOverlap="greedy",
        gradientOpacity=1,
        offset=8,
    )
    return {"scale": alt.Scale(domain=domain, range=list(colours), interpolate="rgb"), "legend": legend}


# Pictures -------------------------------------------------------------------------------------------------------------


def rgb(tint: str) -> np.ndarray:
    """(3,) of "#rrggbb"."""
    return np.array([int(tint[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255


def greys(pixels: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3) in greys, with three channels all the same."""
    return np.repeat((pixels @ LUMA)[..., None], 3, 2)


def around_grey(values: np.ndarray, limit: float) -> np.ndarray:
    """(H, W, 3) colours of a signed picture (H, W, 1 or 3): each channel runs from -limit over grey, zero, to limit."""
    shown = np.clip(0.5 + values / (2 * limit or 1), 0, 1).astype(np.float32)
    return np.broadcast_to(shown, (*shown.shape[:2], 3))


def outlined(pixels: np.ndarray, mask: np.ndarray, width: int = PANEL) -> np.ndarray:
    """A picture (H, W, 3), enlarged, with a line around what the mask (H, W) covers and the rest darkened."""
    from scipy.ndimage import binary_erosion  # which Home does not wait for

    large, inside = enlarge(pixels, width).copy(), enlarge(mask, width)
    large[~inside] *= 0.35
    kernel = binary_erosion(inside, iterations=2, border_value=1)  # no line along the picture's own border
    large[inside & ~kernel] = rgb(ACCENT)
    return large


def tinted(pixels: np.ndarray, tints: Mapping[str, np.ndarray], share: float = 0.6) -> np.ndarray:
    """A picture (H, W, 3) in greys, with a colour ("#rrggbb") laid over each mask (H, W)."""
    shown = greys(pixels)
    for tint, mask in tints.items():
        shown[mask] = (1 - share) * shown[mask] + share * rgb(tint)
    return shown


def on_checks(cut_out: np.ndarray, side: int = 8) -> np.ndarray:
    """(H, W, 3): a picture with opacity (H, W, 4) on a checkerboard, the usual sign of nothing; enlarged."""
    large = enlarge(cut_out, PANEL)
    rows, cols = np.indices(large.shape[:2]) // side
    checks = np.where((rows + cols) % 2, 0.8, 1.0).astype(np.float32)[..., None]
    return large[..., :3] * large[..., 3:] + checks * (1 - large[..., 3:])

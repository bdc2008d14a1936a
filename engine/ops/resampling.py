"""What do the operators compute that give a map another size or form?"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
import torch.nn.functional as F

from engine.ops.shape import ints

# Sampling -----------------------------------------------------------------------------------------------------------


def resize(
    x, roi=None, scales=None, sizes=None, *, mode="nearest", coordinate_transformation_mode="half_pixel",
    nearest_mode="round_prefer_floor", antialias=0, axes=None, keep_aspect_ratio_policy="stretch",
    cubic_coeff_a=-0.75, exclude_outside=0, extrapolation_value=0.0,
):  # fmt: skip
    """Each axis by itself: every new place is a weighed sum of old ones. torch's interpolation where it is the same."""
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    given = None if sizes is None or sizes.numel() == 0 else sizes.tolist()
    if given is None:
        factors = scales.tolist()
        wanted = [math.floor(x.shape[axis] * f) for axis, f in zip(axes, factors, strict=True)]
    else:
        factors = [size / x.shape[axis] for axis, size in zip(axes, given, strict=True)]
        wanted = given
        if keep_aspect_ratio_policy != "stretch":
            factors = [(min if keep_aspect_ratio_policy == "not_larger" else max)(factors)] * len(axes)
            wanted = [math.floor(x.shape[axis] * f + 0.5) for axis, f in zip(axes, factors, strict=True)]
    new = dict(zip(axes, wanted, strict=True))
    by = dict(zip(axes, factors, strict=True))
    how = coordinate_transformation_mode
    if x.ndim == 4 and not antialias and {axis for axis in axes if by[axis] != 1} <= {2, 3}:
        size = [new.get(2, x.shape[2]), new.get(3, x.shape[3])]
        whole = all(by.get(2 + i, 1) * x.shape[2 + i] == size[i] for i in range(2))
        if mode == "nearest" and whole and not any(size[i] % x.shape[2 + i] for i in range(2)):
            if (how, nearest_mode) == ("asymmetric", "floor") or (how == "half_pixel" and "round" in nearest_mode):
                with torch.autocast("cpu", enabled=False):  # as in `pad`
                    return F.interpolate(x, size, mode="nearest")
        elif mode == "linear" and how == "align_corners":
            return F.interpolate(x, size, mode="bilinear", align_corners=True)
        elif mode == "linear" and whole and (how == "half_pixel" or (how == "pytorch_half_pixel" and 1 not in size)):
            return F.interpolate(x, size, mode="bilinear", align_corners=False)
    outside = None
    regions = None if roi is None or roi.numel() == 0 else roi.tolist()
    for number, axis in enumerate(axes):
        region = (0.0, 1.0) if regions is None else (regions[number], regions[number + len(axes)])
        old, made, factor = x.shape[axis], new[axis], by[axis]
        if (old == made and factor == 1) and how != "tf_crop_and_resize":
            continue
        places = _coordinates(how, old, made, factor, region)
        if mode == "nearest":
            near = torch.from_numpy(NEAREST[nearest_mode](places).clip(0, old - 1).astype(np.int64))
            x = x.index_select(axis, near)
        else:
            shrunk = min(factor, 1.0) if antialias else 1.0
            weights = _weights(places, old, mode, cubic_coeff_a, shrunk, bool(exclude_outside))
            x = (x.movedim(axis, -1) @ torch.from_numpy(weights).to(x).T).movedim(-1, axis)
        if how == "tf_crop_and_resize":
            beyond = torch.from_numpy((places < 0) | (places > old - 1)).view(-1, *[1] * (x.ndim - 1 - axis))
            outside = beyond if outside is None else outside | beyond
    return x if outside is None else torch.where(outside, torch.full_like(x[:1, :1], extrapolation_value), x)


NEAREST = {
    "round_prefer_floor": lambda places: np.ceil(places - 0.5),
    "round_prefer_ceil": lambda places: np.floor(places + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _coordinates(how: str, old: int, new: int, factor: float, region: tuple[float, float]) -> np.ndarray:
    """Where each of the `new` places lies among the `old` ones, on one axis."""
    # ONNX Runtime reckons in single precision, which decides where two places are equally near.
    out, factor = np.arange(new, dtype=np.float32), np.float32(factor)
    half = (out + np.float32(0.5)) / factor - np.float32(0.5)
    if how == "half_pixel":
        return half
    if how == "pytorch_half_pixel":
        return half if new > 1 else np.zeros(1, np.float32)
    if how == "half_pixel_symmetric":
        adjusted = np.float32(new) / (factor * np.float32(old))
        return np.float32(old / 2) * (1 - adjusted) + half
    if how == "asymmetric":
        return out / factor
    if how == "align_corners":
        return out * np.float32(old - 1) / np.float32(max(new - 1, 1))
    if how == "tf_half_pixel_for_nn":
        return (out + np.float32(0.5)) / factor
    if how == "tf_crop_and_resize":
        start, end = map(np.float32, region)
        if new == 1:
            return np.float32(0.5) * (start + end) * np.float32(old - 1) + 0 * out
        return start * np.float32(old - 1) + out * (end - start) * np.float32(old - 1) / np.float32(new - 1)
    raise TypeError(f"resizing with coordinates {how}")


def _weights(places: np.ndarray, old: int, mode: str, a: float, shrunk: float, inside: bool) -> np.ndarray:
    """(new, old): how much each old place counts for each new one, on one axis.

    shrunk: below 1, the window grows by 1 / shrunk, so that what is left out is averaged and not skipped. inside:
    whether places beyond the edge are left out, the others counting for them; else the edge stands for them.
    """
    reach = {"linear": 1, "cubic": 2}[mode]
    kernel = _linear if mode == "linear" else functools.partial(_cubic, a=a)
    weights = np.zeros((len(places), old))
    for row, place in enumerate(places.astype(np.float64)):
        first, last = math.floor(place - reach / shrunk) + 1, math.ceil(place + reach / shrunk)
        taps = np.arange(first, max(last, first + 1))
        amounts = kernel(np.abs(taps - place) * shrunk)
        if inside:
            amounts = np.where((taps >= 0) & (taps < old), amounts, 0.0)
        if inside or shrunk < 1:
            amounts = amounts / amounts.sum()
        np.add.at(weights[row], taps.clip(0, old - 1), amounts)
    return weights


def _linear(away: np.ndarray) -> np.ndarray:
    return np.clip(1 - away, 0, None)


def _cubic(away: np.ndarray, a: float) -> np.ndarray:
    """Keys 1981, equation 4."""
    near = ((a + 2) * away - (a + 3)) * away**2 + 1
    far = a * (((away - 5) * away + 8) * away - 4)
    return np.where(away <= 1, near, np.where(away < 2, far, 0.0))


def upsample(x, scales, *, mode="nearest"):
    """Upsample, and Resize as it was in operator set 10."""
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return resize(x, None, torch.as_tensor(scales), mode={"bilinear": "linear"}.get(mode, mode), **how)


def affine_grid(theta, size, *, align_corners=0):
    return F.affine_grid(theta, ints(size), align_corners=bool(align_corners))


def grid_sample(x, grid, *, mode="linear", padding_mode="zeros", align_corners=0):
    how = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    return F.grid_sample(x, grid, how, padding_mode, bool(align_corners))

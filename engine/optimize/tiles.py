"""How is one number about a large picture climbed in little memory? Tile by tile, where it hangs on sums over places.

A Gram matrix is a sum over all places, and so is a squared distance. What each place adds depends on the pixels that it
sees and on no others (engine/model/receptive_field.py). So a first pass adds up the sums, each tile seen with as much
around it as its places see; and from how the number changes with the sums, a second pass gets each tile's share of the
gradient. That is the whole picture's gradient, not something near it: there are no seams to hide. It costs one more
pass forwards, and the overlaps; memory is bounded by the tile.

To compute again what the way back needs is Chen et al. 2016, arXiv:1604.06174, there by layer, here by place.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.half import full, halved
from engine.net import Net
from engine.target import Target

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Part:
    """Which places (rows, cols) of a whole map these are, and that map's size (h, w)."""

    rows: slice
    cols: slice
    size: tuple[int, int]


Sums = Callable[[Mapping[str, Any], Mapping[str, Part]], list]  # maps (B, C, h, w) by layer, which places they are


@dataclass(frozen=True)
class Tally:
    """A number that hangs on sums over the places of maps, and on nothing else. They add and scale, as Targets do.

    names: the layers that it reads. sums: `count` tensors, each a sum over the given places. score: the sums over all
    places → (B,). title, unit: for people. quick: the same number of whole maps, where there is a shorter way.
    """

    names: tuple[str, ...]
    sums: Sums
    count: int
    score: Callable[[Sequence], Any]
    title: str
    unit: str
    quick: Callable[[Mapping[str, Any]], Any] | None = None

    def value(self, values: Mapping[str, Any]) -> Any:
        """(B,) of whole maps (B, C, h, w) by layer."""
        if self.quick is not None:
            return self.quick(values)
        values = {name: full(values[name]) for name in self.names}
        return self.score(self.sums(values, {name: everywhere(values[name]) for name in self.names}))

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            tuple(dict.fromkeys(self.names + other.names)),
            lambda values, parts: [*self.sums(values, parts), *other.sums(values, parts)],
            self.count + other.count,
            lambda sums: self.score(sums[: self.count]) + other.score(sums[self.count :]),
            f"{self.title} + {other.title}",
            self.unit,
            lambda values: self.value(values) + other.value(values),
        )

    def __rmul__(self, factor: float) -> Tally:
        score, value = lambda sums: factor * self.score(sums), lambda values: factor * self.value(values)
        return Tally(self.names, self.sums, self.count, score, self.title, self.unit, value)


def at_once(tally: Tally) -> Target:
    """The number as a Target that reads the tally's layers of a whole picture."""
    return Target(tally.names, tally.value, tally.title, tally.unit)


def tiled(net: Net, tally: Tally, tile: int, *, half: bool = False) -> Target:
    """The same number as a Target that reads the graph's input: tile by tile, where that is larger than one.

    tile: pixels a side, at most, without what is seen around it. half: the net computes in bfloat16 where torch holds
    that to be safe (its autocast), and the sums stay in float32; quicker only where the processor has such units. The
    value raises ValueError where a picture is larger than a tile and a layer's places see all of it.
    """
    source = net.graph.input

    def value(values: Mapping[str, Any]) -> Any:
        x = values[source]
        if max(x.shape[2:]) <= tile:
            return tally.value(_computed(net, tally.names, x, half, exact=False))
        return tally.score(_summed(net, tally, x, tile, half))

    return Target((source,), value, tally.title, tally.unit)


def measured(net: Net, names: Sequence[str], sums: Sums, x: torch.Tensor, tile: int | None) -> list[torch.Tensor]:
    """The sums over a whole picture, without a gradient; tile: as in `tiled`, None for all at once.

    x: (B, C, H, W), as the graph takes it in. Raises ValueError as `tiled` does, and RuntimeError as torch does where
    a layer would have no places.
    """
    import torch

    with torch.no_grad():
        if tile is None or max(x.shape[2:]) <= tile:
            values = net.twin(None, names, start={net.graph.input: x})
            return sums(values, {name: everywhere(values[name]) for name in names})
        return _added(net, names, sums, x, windows(net, names, tuple(x.shape[2:]), tile), {})


def _computed(
    net: Net, names: Sequence[str], x: torch.Tensor, half: bool, *, exact: bool = True
) -> dict[str, torch.Tensor]:
    """The layers' values for what the graph takes in; in float32, or not `exact`ly so but as they are computed."""
    import torch

    twin = halved(net).rounded if half else net.twin
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        values = twin(None, names, start={net.graph.input: x})
    return {name: full(value) for name, value in values.items()} if half and exact else values


def _summed(net: Net, tally: Tally, x: torch.Tensor, tile: int, half: bool) -> tuple[torch.Tensor, ...]:
    """The tally's sums over a whole picture, with their gradient."""
    import torch
    from torch.autograd.function import once_differentiable

    plan = windows(net, tally.names, tuple(x.shape[2:]), tile)

    class Summed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            ctx.whole = {}
            return tuple(_added(net, tally.names, tally.sums, x, plan, ctx.whole, half))

        @staticmethod
        @once_differentiable
        def backward(ctx, *upstream):
            (x,) = ctx.saved_tensors
            gradient = torch.zeros_like(x)
            for window in plan:
                piece = _piece(x, window).requires_grad_()
                with torch.enable_grad():
                    sums = tally.sums(*_seen(net, tally.names, piece, window, ctx.whole, half))
                moved = [(total, up) for total, up in zip(sums, upstream, strict=True) if total.requires_grad]
                (found,) = torch.autograd.grad([total for total, _ in moved], piece, [up for _, up in moved])
                gradient[:, :, window.rows.seen, window.cols.seen] += found
            return gradient

    return Summed.apply(x)


def _added(
    net: Net, names: Sequence[str], sums: Sums, x: torch.Tensor, plan: list[Window], whole: dict, half: bool = False
) -> list[torch.Tensor]:
    """The sums of all tiles. whole: see `_seen`."""
    totals: list[torch.Tensor] = []
    for window in reversed(plan):
        found = sums(*_seen(net, names, _piece(x, window), window, whole, half))
        totals = [a + b for a, b in zip(totals, found, strict=True)] if totals else list(found)
    return totals


# Where to look --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Span:
    """Along one axis: the pixels that are seen, and those whose places count; all in pixels of the picture.

    ends: whether all places up to the end count, however many they are.
    """

    seen: slice
    counts: slice
    ends: bool

    def places(self, stride: int, found: int) -> tuple[slice, slice]:
        """Which of the `found` places of a map count: numbered within the tile, and within the whole map."""
        before, first = self.seen.start // stride, self.counts.start // stride
        until = before + found if self.ends else self.counts.stop // stride
        return slice(first - before, until - before), slice(first, until)


@dataclass(frozen=True)
class Window:
    """A tile with what its places see around it."""

    rows: Span
    cols: Span


def windows(net: Net, names: Sequence[str], size: tuple[int, int], tile: int) -> list[Window]:
    """Tiles of nearly the same size that cover a picture (H, W), the last one last. Raises UnknownLayer, ValueError."""
    order = [layer.name for layer in net.layers]
    fields = [net.layer(name).receptive_field for name in names]
    until = max(order.index(net.layer(name).name) for name in names)
    strides = [layer.receptive_field.stride for layer in net.layers[: until + 1] if layer.has_map]
    for name, field in zip(names, fields, strict=True):
        if min(field.stride) < 1:
            raise ValueError(
                f"Each place of layer {name} sees the whole picture, which cannot be cut into tiles of {tile} pixels: "
                "choose other layers, or a smaller picture."
            )

    def spans(axis: int) -> list[Span]:
        length, step = size[axis], math.lcm(*(max(stride[axis], 1) for stride in strides))
        before = max(-field.offset[axis] for field in fields)
        after = max(field.offset[axis] + field.size[axis] - field.stride[axis] for field in fields)
        count = -(-length // tile)
        ends = [*(round(i * length / count / step) * step for i in range(count)), length]
        found = []
        for start, stop in itertools.pairwise(ends):  # what is seen begins and ends at whole steps, too
            low = max((start - max(before, 0)) // step * step, 0)
            high = min(-(-(stop + max(after, 0)) // step) * step, length)
            found.append(Span(slice(low, high), slice(start, stop), stop == length))
        return found

    return [Window(rows, cols) for rows, cols in itertools.product(spans(0), spans(1))]


def _piece(x: torch.Tensor, window: Window) -> torch.Tensor:
    """The pixels of a window, a copy."""
    import torch

    return x[:, :, window.rows.seen, window.cols.seen].detach().clone(memory_format=torch.channels_last)


def _seen(
    net: Net, names: Sequence[str], piece: torch.Tensor, window: Window, whole: dict[str, tuple[int, int]], half: bool
) -> tuple[dict[str, torch.Tensor], dict[str, Part]]:
    """The places of a tile that count, of each layer, and which they are.

    whole: the maps' sizes, which nothing tells before the last tile has been seen; so that one comes first.
    """
    values, parts = _computed(net, names, piece, half), {}
    for name in names:
        (rows, rows_of_all), (cols, cols_of_all) = (
            span.places(stride, found)
            for span, stride, found in zip(
                (window.rows, window.cols), net.layer(name).receptive_field.stride, values[name].shape[2:], strict=True
            )
        )
        whole.setdefault(name, (rows_of_all.stop, cols_of_all.stop))
        values[name], parts[name] = values[name][:, :, rows, cols], Part(rows_of_all, cols_of_all, whole[name])
    return values, parts


def everywhere(maps: Any) -> Part:
    """All places of a map (B, C, h, w)."""
    height, width = maps.shape[2:]
    return Part(slice(0, height), slice(0, width), (height, width))

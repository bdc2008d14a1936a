"""What has one picture in common with another of the same texture? How often its features occur together.

Gatys, Ecker, Bethge 2015, arXiv:1505.07376, equations 1 to 4: the Gram matrix of a layer says, of each pair of its
channels, how much they answer at the same places, and nothing of where. Texture synthesis and style transfer both
climb `texture`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from engine import image
from engine.half import full
from engine.net import PASS_THROUGH, Net, UnknownLayer
from engine.optimize.tiles import Part, Sums, Tally, at_once, everywhere, measured
from engine.target import Target

if TYPE_CHECKING:
    import torch

LEAST = 12  # pixels a side that a picture has to have, so that it has a texture at all
NARROWEST = 8  # times as long as it is broad, at most


def gram(values: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """(B, C, C): the products of each two channels of (B, C, h, w), averaged over the positions.

    The paper leaves the sum; the mean makes pictures of different sizes comparable. weights: (h, w) >= 0, how much each
    position counts; by default all count the same.
    """
    total, count = products(values, weights)
    return total / count


def products(values: torch.Tensor, weights: torch.Tensor | None = None) -> list[torch.Tensor]:
    """The same as a sum over the positions, and how much these count in all."""
    count = values.new_tensor(values.shape[2] * values.shape[3]) if weights is None else weights.sum()
    return [_products().apply(values, weights), count]


@functools.cache
def _products() -> type[torch.autograd.Function]:
    """The sums of the products, with a gradient of one multiplication: torch's own takes two, one of them turned round.

    Positions come first and channels last, as the Twin's maps lie in memory, and so does the gradient.
    """
    import torch
    from torch.autograd.function import once_differentiable

    class Products(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values, weights):
            flat = values.permute(0, 2, 3, 1).flatten(1, 2)  # (B, h · w, C)
            ctx.save_for_backward(flat)
            ctx.weights, ctx.size = weights, values.shape[2:]
            return flat.mT @ (flat if weights is None else flat * weights.reshape(-1, 1))

        @staticmethod
        @once_differentiable
        def backward(ctx, gradient):
            (flat,) = ctx.saved_tensors
            found = flat @ (gradient + gradient.mT)
            if ctx.weights is not None:
                found *= ctx.weights.reshape(-1, 1)
            return found.unflatten(1, ctx.size).permute(0, 3, 1, 2), None

    return Products


@functools.cache
def _away() -> type[torch.autograd.Function]:
    """(B,): the squared distance of a Gram matrix from a wanted one (1, C, C), which is symmetric as it is itself.

    `products` and `squares` in one: where a layer has many channels and few positions, what is done to the matrices
    takes as long as the products. Values in bfloat16 give it in float32, with a gradient in bfloat16.
    """
    import torch
    from torch.autograd.function import once_differentiable

    class Away(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values, wanted, weights):
            flat = values.permute(0, 2, 3, 1).flatten(1, 2)  # (B, h · w, C)
            count = float(flat.shape[1] if weights is None else weights.sum())
            exact = full(flat)
            loud = exact if weights is None else exact * weights.reshape(-1, 1)
            away = torch.baddbmm(wanted.expand(len(flat), -1, -1), exact.mT, loud, beta=-1, alpha=1 / count)
            ctx.save_for_backward(loud.to(flat.dtype), away)
            ctx.count, ctx.size = count, values.shape[2:]
            return torch.stack([each @ each for each in away.flatten(1)])

        @staticmethod
        @once_differentiable
        def backward(ctx, gradient):
            loud, away = ctx.saved_tensors
            found = loud @ (away * (4 / ctx.count * gradient).view(-1, 1, 1)).to(loud.dtype)
            return found.unflatten(1, ctx.size).permute(0, 3, 1, 2), None, None

    return Away


def squares(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """(B,): the squared distance of (B, …) from (1, …), without a tensor of the differences."""
    import torch
    import torch.nn.functional as F

    return torch.stack([F.mse_loss(each, wanted[0], reduction="sum") for each in found])


def apart(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """(B,): how far (B, …) is from (1, …), as a share of the latter's own size: |found - wanted|² / |wanted|².

    The papers divide by the number of channels and positions instead, which leaves some layers thousands of times as
    loud as others.
    """
    return squares(found, wanted) / _size(wanted)


def _size(wanted: torch.Tensor) -> torch.Tensor:
    return wanted.flatten().dot(wanted.flatten()).clamp(min=1e-12)


def scales(net: Net) -> list[str]:
    """A layer of each resolution, from fine to coarse: the last that goes into what makes the maps smaller.

    The papers' choice for VGG is the first of each resolution; the last of it is where a net of blocks has brought its
    branches together. What the picture itself goes into is left out. Raises UnknownLayer where there is none.
    """
    maps = {layer.name: layer for layer in net.layers if layer.has_map}
    strides = {layer.name: layer.receptive_field.stride for layer in net.layers}
    order, same, found = list(strides), {}, {}  # same: what a node that does nothing passes on
    for node in net.graph.needed([net.logits]):
        inputs = [same.get(name, name) for name in node.inputs]
        if node.op in PASS_THROUGH:
            same[node.outputs[0]] = inputs[0]
            continue
        for name in maps.keys() & set(inputs):
            stride = strides[name]
            if strides.get(node.outputs[0], (0, 0)) != stride:
                found[stride] = max(name, found.get(stride, name), key=order.index)
    if not found:
        raise UnknownLayer(f"{net.name} has no layer with rows and columns, so it sees no texture.")
    return sorted(found.values(), key=order.index)


def features(net: Net, pixels: np.ndarray, layers: Sequence[str], tile: int | None = None) -> dict[str, torch.Tensor]:
    """The layers' values (1, C, h, w) for a picture (H, W, C) of any size. Raises UnknownLayer, NoGradient, ValueError.

    tile: pixels a side; a larger picture is looked at tile by tile.
    """
    import torch

    found: dict[str, torch.Tensor] = {}

    def keep(values: Mapping[str, Any], parts: Mapping[str, Part]) -> list:
        for name, part in parts.items():
            maps = values[name]
            if name not in found:
                found[name] = torch.empty(*maps.shape[:2], *part.size, memory_format=torch.channels_last)
            found[name][:, :, part.rows, part.cols] = maps
        return []

    looked(net, pixels, layers, keep, tile)
    return found


def looked(net: Net, pixels: np.ndarray, layers: Sequence[str], sums: Sums, tile: int | None = None) -> list:
    """Sums over a picture (H, W, C) of any size, by tiles of it (engine/optimize/tiles.py).

    Raises UnknownLayer, NoGradient, ValueError."""
    import torch

    from engine.optimize import ascend

    source = net.graph.input
    for name in layers:
        if name != source:
            net.map_layer(name)
    try:
        with torch.no_grad():
            return measured(net, layers, sums, net.twin(ascend.tensor(pixels), [source])[source], tile)
    except RuntimeError as error:  # a layer that has come to no rows or columns
        height, width = pixels.shape[:2]
        raise ValueError(f"A picture of {height} x {width} pixels is too small for {net.name}'s layers.") from error


def neighbourhoods(values: torch.Tensor, side: int = 3) -> torch.Tensor:
    """(B, C · side², h, w): each pixel with those around it as the channels of one position; the edge is left out."""
    import torch.nn.functional as F

    height, width = (length - side + 1 for length in values.shape[2:])
    return F.unfold(values, side).unflatten(2, (height, width))


def texture(
    net: Net,
    pictures: Sequence[np.ndarray],
    layers: Sequence[str],
    *,
    shares: Sequence[float] | None = None,
    masks: Sequence[np.ndarray] | None = None,
    emphasis: Sequence[float] | None = None,
) -> Target:
    """How unlike a picture is in texture, in percent below 0; equation 5 of the paper, with `apart` for its distances.

    pictures: (H, W, C) each, of any size. shares: how much each of them counts, by default all the same; the picture's
    Gram matrices are to be the weighed mean of theirs. masks: (H, W) in [0, 1], one for each of `pictures`, the place
    where it is to be met; each then has a distance of its own. emphasis: how much each layer counts.
    layers: the graph's input may be one of them. It is seen as `neighbourhoods`, which holds the colours and the grain:
    most nets begin with a stride and do not notice a noise of single pixels. The papers have no such layer.
    The value reads the Twin's tensors, and stays a number at every size. Raises UnknownLayer, NoGradient, ValueError.
    """
    return at_once(texture_tally(net, pictures, layers, shares=shares, masks=masks, emphasis=emphasis))


def texture_tally(
    net: Net,
    pictures: Sequence[np.ndarray],
    layers: Sequence[str],
    *,
    shares: Sequence[float] | None = None,
    masks: Sequence[np.ndarray] | None = None,
    emphasis: Sequence[float] | None = None,
    tile: int | None = None,
) -> Tally:
    """`texture` as sums over places. tile: pixels a side; larger pictures are looked at tile by tile, too."""
    layers = list(dict.fromkeys(layers))
    if not layers:
        raise UnknownLayer("A texture needs at least one layer to be seen at.")
    shares = proportions(shares, len(pictures), "picture")
    loud = proportions(emphasis, len(layers), "layer")
    if masks is not None and len(masks) != len(pictures):
        raise ValueError(f"There are {len(masks)} masks for {len(pictures)} pictures; each needs one of its own.")
    each = []
    for picture in pictures:
        found = looked(net, picture, layers, _added(_looks(net, layers, [None])), tile)
        each.append({name: found[2 * i] / found[2 * i + 1] for i, name in enumerate(layers)})
    if masks is None:  # one mean for the whole picture
        each = [{name: sum(s * g[name] for s, g in zip(shares, each, strict=True)) for name in layers}]
        shares, masks = [1.0], [None]
    aims = [  # in the order in which `look` gives the maps
        (grams[name], much * share / _size(grams[name]))
        for name, much in zip(layers, loud, strict=True)
        for grams, share in zip(each, shares, strict=True)
    ]
    look = _looks(net, layers, masks)

    def score(sums: Sequence) -> Any:
        found = zip(aims, sums[::2], sums[1::2], strict=True)
        return -100 * sum(factor * squares(total / count, wanted) for (wanted, factor), total, count in found)

    def quick(values: Mapping[str, Any]) -> Any:
        found = zip(aims, look(values, {name: everywhere(values[name]) for name in layers}), strict=True)
        return -100 * sum(factor * _away().apply(maps, wanted, place) for (wanted, factor), (maps, place) in found)

    return Tally(tuple(layers), _added(look), 2 * len(aims), score, "likeness in texture", "% off", quick)


def _added(look: Callable) -> Sums:
    """What `products` gives of all that `_looks` looks at, one after the other."""
    return lambda values, parts: [each for seen in look(values, parts) for each in products(*seen)]


def _looks(net: Net, layers: Sequence[str], masks: Sequence[np.ndarray | None]) -> Callable:
    """(maps, their Parts, by layer) → of each layer, under each mask, the maps and how much each of their places counts
    (None where all count the same)."""
    import torch

    places: dict[tuple, torch.Tensor] = {}

    def place(index: int, part: Part) -> torch.Tensor | None:
        if masks[index] is None:
            return None
        if (index, part.size) not in places:
            found = image.resize(np.asarray(masks[index], np.float32), part.size)
            if not found.any():
                raise ValueError(f"Mask {index + 1} covers nothing: it needs a place where its picture is to be met.")
            places[index, part.size] = torch.from_numpy(found)
        return places[index, part.size][part.rows, part.cols]

    def look(values: Mapping[str, Any], parts: Mapping[str, Part]) -> list:
        found = []
        for name in layers:
            maps, part = values[name], parts[name]
            if name == net.graph.input:  # which is never seen by tiles
                maps = neighbourhoods(maps)
                part = everywhere(maps)
            found += [(maps, place(index, part)) for index in range(len(masks))]
        return found

    return look


def proportions(given: Sequence[float] | None, count: int, of: str) -> list[float]:
    """`count` shares that add up to 1. Raises ValueError for another count, for negative ones and where all are 0."""
    given = [1.0] * count if given is None else [float(each) for each in given]
    if len(given) != count or min(given, default=-1) < 0 or not 0 < sum(given) < np.inf:
        raise ValueError(f"The {count} weights, one for each {of}, have to be 0 or more, and one of them above 0.")
    return [each / sum(given) for each in given]


def distances(net: Net, made: np.ndarray, source: np.ndarray, layers: Sequence[str]) -> dict[str, float]:
    """Of each layer how far the Gram matrix of one picture is from another's, as a share; sizes may differ."""
    first, second = (features(net, picture, layers) for picture in (made, source))
    return {name: float(apart(gram(first[name]), gram(second[name]))[0]) for name in layers}


def scaled(pixels: np.ndarray, size: int, *, least: int = LEAST, multiple: int = 1) -> np.ndarray:
    """A picture (H, W, C) brought to about `size` pixels along its longest side, both sides multiples of `multiple`.

    Raises ValueError where it is below `least` pixels a side, or too narrow, to have a texture.
    """
    height, width = pixels.shape[:2]
    if min(height, width) < least:
        raise ValueError(f"A picture of {height} x {width} pixels is too small; take one of {least} a side or more.")
    if max(height, width) > NARROWEST * min(height, width):
        raise ValueError(f"A picture of {height} x {width} pixels is too narrow; cut it to at most {NARROWEST}:1.")
    factor = size / max(height, width)
    rows, cols = (max(round(length * factor / multiple), 1) * multiple for length in (height, width))
    return image.resize(pixels, (rows, cols))


def multiple(net: Net) -> int:
    """Pixels of which a picture's sides should be multiples: what one unit of the coarsest map stands for.

    Elsewhere the branches of some nets come to maps of different sizes, which cannot be added.
    """
    return max([max(layer.receptive_field.stride) for layer in net.layers if layer.has_map], default=1) or 1


def coloured(net: Net, pixels: np.ndarray) -> np.ndarray:
    """A picture (H, W, 3 or 1) in as many channels as the net takes."""
    if pixels.shape[2] == net.channels:
        return pixels
    return (pixels @ image.LUMA)[..., None] if net.channels == 1 else pixels.repeat(3, 2)

"""The same on a GPU: what does the network say of a picture of which one place has changed?

What engine/incremental/plan.py plans, computed where everything stays on the device: the unchanged maps are made there
and never leave it, parts are cut and put in by torch, and layers run in ONNX Runtime on torch's memory
(engine/incremental/bound.py). Only the patches go there and the asked numbers come back. A GPU wants few and large
pieces of work, and always the same: hundreds of places go through a layer at once, with windows of one size, and as
many in each call, since ONNX Runtime chooses anew how to convolve whenever a shape changes. Where no layer is worth
doing by parts the plan has none, and what is put together on the device is whole pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from engine.incremental import bound
from engine.net import Net

if TYPE_CHECKING:
    from engine.incremental.plan import Cut, Plan

BYTES = 2 * 2**30  # of the device's memory, that places asked about at once may take
AT_A_TIME = 1024  # places at most


class ChangedOnGpu:
    """As `engine.incremental.parts.Changed`, on a device of torch's."""

    def __init__(
        self, net: Net, image: np.ndarray, names: Sequence[str], plan: Plan, field: float, device: str
    ) -> None:
        self._net, self._names, self._plan, self._device = net, list(names), plan, torch.device(device)
        self.share, self.exact = plan.share, field >= 1
        base = {net.graph.input: torch.from_numpy(net.normalise(net.stack(image).transpose(0, 3, 1, 2))).to(device)}
        base = {name: array.permute(0, 2, 3, 1).contiguous() for name, array in base.items()}
        if plan.base:
            base |= plan.base(base, {name: self._last(name) for name in plan.unchanged() if name not in base})
        self._starts = {name: tuple(self._here(axis.start) for axis in axes) for name, axes in plan.windows.items()}
        self._cuts = {
            cut.name: _Cutter(cut, base[cut.source][0], self._starts[cut.source])
            for stage in plan.stages
            for cut in stage.cuts
        }
        self._sums = {name: _sums(base[name][0]) for name in plan.means.values()}
        self._rest = {name: base[name].permute(0, 3, 1, 2).contiguous() for name in plan.maps}
        self._rest |= {name: base[name].reshape(plan.shapes[name]) for name in plan.means}
        behind = net.graph.needed(names, set(self._rest))
        widest = max((int(np.prod(plan.shapes.get(name, ()))) for n in behind for name in n.outputs), default=1)
        whole = sum(int(np.prod(plan.shapes[name][1:])) for name in plan.maps)
        most = int(np.clip(BYTES // (8 * max(widest, whole) + 2 * plan.part), 1, AT_A_TIME))
        every = len(plan.rows) * len(plan.cols)
        self.together = -(-every // -(-every // most))  # as many in each call

    def __call__(self, places: np.ndarray, patches: np.ndarray) -> dict[str, np.ndarray]:
        """As `Changed.__call__`."""
        patches = np.ascontiguousarray(patches, np.float32)
        found = []
        with torch.inference_mode():
            for at in range(0, len(places), self.together):
                some = np.arange(at, min(at + self.together, len(places)))
                room = self.together  # or the half, or a quarter, …: few shapes
                while room // 2 >= len(some):
                    room //= 2
                filled = np.concatenate([some, np.full(room - len(some), at)])
                out = self._of(places[filled], patches[filled])
                found.append({name: array[: len(some)] for name, array in out.items()})
        return {name: np.concatenate([each[name] for each in found]) for name in self._names}

    def _of(self, places: np.ndarray, patches: np.ndarray) -> dict[str, np.ndarray]:
        plan, net, count = self._plan, self._net, len(places)
        numbers = plan.numbers(places)
        pixels = net.normalise(patches.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
        pixels = self._here(pixels)
        rest = {name: kept.repeat(count, *[1] * (kept.ndim - 1)) for name, kept in self._rest.items()}
        kind = plan.kinds[0][numbers[0]] * len(plan.cols) + plan.kinds[1][numbers[1]]
        for each in np.unique(kind):
            some = np.nonzero(kind == each)[0]
            self._part(self._here(some), numbers[0][some], numbers[1][some], pixels, rest)
        made = [name for name in self._names if name not in rest]
        found = {name: rest[name].cpu().numpy() for name in self._names if name in rest}
        if made:
            start = {name: np.empty((1,) * array.ndim, np.float32) for name, array in rest.items()}
            shapes = {name: (count, *plan.shapes[name][1:]) for name in made}
            found |= {name: out.cpu().numpy() for name, out in bound.run(net.tap(made, start), rest, shapes).items()}
        return found

    def _part(
        self,
        some: torch.Tensor,
        rows: np.ndarray,
        cols: np.ndarray,
        pixels: torch.Tensor,
        rest: dict[str, torch.Tensor],
    ) -> None:
        """Places whose windows are of one size, through all stages, into what the rest of the network takes."""
        plan, count = self._plan, len(some)
        got = {self._net.graph.input: pixels if count == len(pixels) else pixels[some]}
        sizes = {  # of all these windows
            name: tuple(int(axis.size[of[0]]) for axis, of in zip(axes, (rows, cols), strict=True))
            for name, axes in plan.windows.items()
        }
        at = self._here(rows), self._here(cols)
        for stage in plan.stages:
            feed = {name: got[name] for name in stage.given}
            for cut in stage.cuts:
                size = tuple(int(axis.size[of[0]]) for axis, of in zip(cut.windows, (rows, cols), strict=True))
                feed[cut.name] = self._cuts[cut.name](*at, size, got[cut.source])
            got |= stage.run(feed, {name: (count, *self._last(name, sizes.get(name))[1:]) for name in stage.results})
        for name in plan.maps:
            part = got[name].permute(0, 3, 1, 2)
            channels = torch.arange(part.shape[1], device=self._device)[:, None, None]
            down, right = (
                start[of][:, None] + torch.arange(n, device=self._device)
                for start, of, n in zip(self._starts[name], at, sizes[name], strict=True)
            )
            rest[name][some[:, None, None, None], channels, down[:, None, :, None], right[:, None, None, :]] = part
        for mean, name in plan.means.items():
            sums, (height, width) = self._sums[name], sizes[name]
            top, left = (start[of] for start, of in zip(self._starts[name], at, strict=True))
            before = sums[top + height, left + width] - sums[top, left + width]
            before += sums[top, left] - sums[top + height, left]
            more = (got[mean].reshape(before.shape) * (height * width) - before) / np.prod(plan.shapes[name][2:])
            rest[mean][some] += more.float().reshape(-1, *rest[mean].shape[1:])

    def _last(self, name: str, sides: tuple[int, ...] | None = None) -> tuple[int, ...]:
        """The shape of a tensor of one picture, or of a part of it; with the channels last, where it is a map."""
        shape = self._plan.shapes[name]
        return shape if len(shape) != 4 else (1, *(sides or shape[2:]), shape[1])

    def _here(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


class _Cutter:
    """A Cut, made ready: the unchanged map (H, W, C) with its padding, as a list of positions, and where to cut."""

    def __init__(self, cut: Cut, base: torch.Tensor, changed: tuple[torch.Tensor, torch.Tensor]) -> None:
        low = [max(-int(axis.start.min()), 0) for axis in cut.windows]
        high = [max(int((a.start + a.size).max()) - n, 0) for a, n in zip(cut.windows, base.shape[:2], strict=True)]
        padded = F.pad(base, (0, 0, low[1], high[1], low[0], high[0]), value=cut.fill)
        self._base, self._width = padded.flatten(0, 1), padded.shape[1]
        starts = [torch.from_numpy(axis.start).to(base.device) for axis in cut.windows]
        self._from = [start + more for start, more in zip(starts, low, strict=True)]
        self._into = [begin - start for begin, start in zip(changed, starts, strict=True)]

    def __call__(
        self, rows: torch.Tensor, cols: torch.Tensor, size: tuple[int, int], part: torch.Tensor
    ) -> torch.Tensor:
        """(n, h, w, C) windows of `size` with the changed parts (n, h', w', C) put in, as far as they lie inside."""
        (height, width), count = size, len(rows)
        reach = lambda start, n: start[:, None] + torch.arange(n, device=start.device)  # noqa: E731
        down, right = reach(self._from[0][rows], height), reach(self._from[1][cols], width)
        kept = (down[:, :, None] * self._width + right[:, None, :]).flatten()
        # With one position more, on which all falls that is seen from none of the windows' positions.
        out = torch.empty((len(kept) + 1, part.shape[3]), device=part.device)
        torch.index_select(self._base, 0, kept, out=out[:-1])
        down, right = reach(self._into[0][rows], part.shape[1]), reach(self._into[1][cols], part.shape[2])
        inside = ((down >= 0) & (down < height))[:, :, None] & ((right >= 0) & (right < width))[:, None, :]
        place = torch.arange(count, device=part.device)[:, None, None] * (height * width)
        to = torch.where(inside, place + down[:, :, None] * width + right[:, None, :], len(kept))
        out.index_copy_(0, to.flatten(), part.flatten(0, 2))
        return out[:-1].view(count, height, width, -1)


def _sums(base: torch.Tensor) -> torch.Tensor:
    """(H + 1, W + 1, C): of a map (H, W, C), the sum of all that is above and to the left of each corner."""
    return F.pad(base.double().cumsum(0).cumsum(1), (0, 0, 1, 0, 1, 0))

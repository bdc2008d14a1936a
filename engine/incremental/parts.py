"""What does the network say of a picture of which one place has changed, computed on the CPU by parts?

By the plan of engine/incremental/plan.py: windows are cut out of the unchanged maps, the changed part is put in, and
the layers run on that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from engine.devices import cores
from engine.incremental.plan import TOGETHER, WHOLE, Cut, Plan, gpu, planned
from engine.model.projective_field import Windows
from engine.net import BATCH_BYTES, Net

if TYPE_CHECKING:
    from engine.incremental.gpu import ChangedOnGpu

PLANS = 2  # kept per net; each holds a copy of the weights
CACHE = 2**22  # bytes that a part's tensors may take, so that they stay near the core
AT_A_TIME = 1e11, 128  # what is asked about in one call: as costs are counted, about half a second; and places at most


class Changed:
    """A picture, to be asked about with a patch changed.

    What it keeps in memory: the unchanged maps, once or twice, and a copy of the weights (in the Plan). A call takes
    CACHE for each core and WHOLE on top, and what the rest of the network needs, however many places there are.

    share: what is computed, of the work of whole pictures; 1 where whole pictures are asked about. exact: whether the
    numbers are those of the whole picture. together: how many places may well be asked about at once.
    """

    def __init__(self, net: Net, image: np.ndarray, names: Sequence[str], plan: Plan | None, field: float) -> None:
        self._net, self._names, self._plan = net, list(names), plan
        self._pixels = net.batch(image)
        self.share = 1.0 if plan is None else plan.share
        self.exact = plan is None or field >= 1
        if plan is None:
            self.together = net.batch_size
            return
        rest = [*plan.maps, *plan.means]
        cuts = [cut for stage in plan.stages for cut in stage.cuts]
        base = {net.graph.input: net.normalise(self._pixels)}
        base |= net.activations(self._pixels, [name for name in plan.unchanged() if name not in base])
        last = {name: np.ascontiguousarray(base[name][0].transpose(1, 2, 0)) for name in {c.source for c in cuts}}
        self._cuts = {cut.name: _Cutter(cut, last[cut.source], plan.windows[cut.source]) for cut in cuts}
        self._sums = {name: _sums(base[name][0]) for name in plan.means.values()}
        self._rest = {name: base[name] for name in rest}
        shapes = [net.graph.shapes[name] for name in plan.maps]
        waiting = 4 * sum(int(np.prod(shape)) for shape in shapes)
        behind = net.graph.needed(names, set(rest))
        widest = max((int(np.prod(net.graph.shapes.get(name, ()))) for n in behind for name in n.outputs), default=1)
        room = min(WHOLE // max(waiting, 1), BATCH_BYTES // (4 * widest))
        self.together = int(np.clip(min(room, AT_A_TIME[0] / plan.cost), 1, AT_A_TIME[1]))
        self._at_once = int(np.clip(CACHE // plan.part, 1, TOGETHER))

    def __call__(self, places: np.ndarray, patches: np.ndarray) -> dict[str, np.ndarray]:
        """The named tensors (n, …) of the picture with a patch changed, in n ways.

        places: (n, 2) row and column at which a patch begins. patches: (n, h, w, C) pixels in [0, 1].
        Raises ValueError where a place is none of those that were named at first.
        """
        patches = np.ascontiguousarray(patches.transpose(0, 3, 1, 2), np.float32)
        found = []
        for at in range(0, len(places), self.together):
            some = slice(at, at + self.together)
            found.append((self._of_whole if self._plan is None else self._of_parts)(places[some], patches[some]))
        return {name: np.concatenate([each[name] for each in found]) for name in self._names}

    def _of_whole(self, places: np.ndarray, patches: np.ndarray) -> dict[str, np.ndarray]:
        batch = self._pixels.repeat(len(places), 0)
        for k, (i, j) in enumerate(places):
            batch[k, :, i : i + patches.shape[2], j : j + patches.shape[3]] = patches[k]
        return self._net.activations(batch, self._names)

    def _of_parts(self, places: np.ndarray, patches: np.ndarray) -> dict[str, np.ndarray]:
        plan, net = self._plan, self._net
        at = plan.numbers(places)
        rest = {name: array.repeat(len(places), 0) for name, array in self._rest.items()}
        pixels = np.ascontiguousarray(net.normalise(patches).transpose(0, 2, 3, 1))
        kind = plan.kinds[0][at[0]] * len(plan.cols) + plan.kinds[1][at[1]]
        order = np.argsort(kind, kind="stable")
        groups = np.split(order, np.nonzero(np.diff(kind[order]))[0] + 1)
        parts = [group[i : i + self._at_once] for group in groups for i in range(0, len(group), self._at_once)]
        parts.sort(key=len, reverse=True)  # so that no core waits long for another at the end
        work = lambda some: self._part(some, at[0][some].tolist(), at[1][some].tolist(), pixels[some], rest)  # noqa: E731
        with ThreadPoolExecutor(cores()) as threads:
            list(threads.map(work, parts))
        return net.resume(rest, self._names)

    def _part(
        self, some: np.ndarray, rows: list[int], cols: list[int], pixels: np.ndarray, rest: dict[str, np.ndarray]
    ) -> None:
        """Places whose windows are of one size, through all stages, into what the rest of the network takes."""
        plan, got = self._plan, {self._net.graph.input: pixels}
        for stage in plan.stages:
            feed = {name: got[name] for name in stage.given}
            feed |= {cut.name: self._cuts[cut.name](rows, cols, got[cut.source]) for cut in stage.cuts}
            got.update(zip(stage.results, stage.run(feed), strict=True))
        for name in plan.maps:
            into, part = rest[name], got[name].transpose(0, 3, 1, 2)
            height, width = part.shape[2:]
            tops, lefts = (axis.start for axis in plan.windows[name])
            for k, (i, j) in enumerate(zip(tops[rows].tolist(), lefts[cols].tolist(), strict=True)):
                into[some[k], :, i : i + height, j : j + width] = part[k]
        for mean, name in plan.means.items():
            sums, axes = self._sums[name], plan.windows[name]
            tops, lefts = (axis.start[of] for axis, of in zip(axes, (rows, cols), strict=True))
            height, width = (int(axis.size[of[0]]) for axis, of in zip(axes, (rows, cols), strict=True))
            before = sums[tops + height, lefts + width] - sums[tops, lefts + width]
            before += sums[tops, lefts] - sums[tops + height, lefts]
            more = got[mean].reshape(before.shape) * (height * width) - before
            rest[mean][some] += (more / np.prod(self._net.graph.shapes[name][2:])).reshape(-1, *rest[mean].shape[1:])


class _Cutter:
    """A Cut, made ready: the unchanged map (H, W, C) with its padding, and where to cut and to put for each place."""

    def __init__(self, cut: Cut, base: np.ndarray, changed: tuple[Windows, Windows]) -> None:
        sides = base.shape[:2]
        low = [max(-int(axis.start.min()), 0) for axis in cut.windows]
        high = [max(int((a.start + a.size).max()) - side, 0) for a, side in zip(cut.windows, sides, strict=True)]
        around = (*zip(low, high, strict=True), (0, 0))
        self._base = np.pad(base, around, constant_values=cut.fill) if any(low + high) else base
        self._sizes = [axis.size for axis in cut.windows]
        self._from, self._into, self._of = [], [], []
        for axis, part, more in zip(cut.windows, changed, low, strict=True):
            begin = np.maximum(axis.start, part.start)
            end = np.maximum(np.minimum(axis.start + axis.size, part.start + part.size), begin)
            pairs = [
                (axis.start + more, axis.start + more + axis.size),
                (begin - axis.start, end - axis.start),
                (begin - part.start, end - part.start),
            ]
            for kept, pair in zip((self._from, self._into, self._of), pairs, strict=True):
                kept.append([slice(*each) for each in np.stack(pair, 1).tolist()])

    def __call__(self, rows: list[int], cols: list[int], part: np.ndarray) -> np.ndarray:
        """(n, h, w, C) what is needed, with the changed parts put in; all places are of one kind."""
        out = np.empty((len(rows), self._sizes[0][rows[0]], self._sizes[1][cols[0]], part.shape[3]), part.dtype)
        for k, (i, j) in enumerate(zip(rows, cols, strict=True)):
            out[k] = self._base[self._from[0][i], self._from[1][j]]
            out[k, self._into[0][i], self._into[1][j]] = part[k, self._of[0][i], self._of[1][j]]
        return out


def _sums(base: np.ndarray) -> np.ndarray:
    """(H + 1, W + 1, C): of a map (C, H, W), the sum of all that is above and to the left of each corner."""
    out = np.zeros((base.shape[1] + 1, base.shape[2] + 1, len(base)))
    out[1:, 1:] = base.transpose(1, 2, 0).cumsum(0, np.float64).cumsum(1)
    return out


# What can be asked ----------------------------------------------------------------------------------------------------

_known: WeakKeyDictionary[Net, OrderedDict] = WeakKeyDictionary()  # sessions take a moment to make
_lock = threading.Lock()


def changed(
    net: Net,
    original: np.ndarray,
    names: Sequence[str],
    size: tuple[int, int],
    *,
    rows: Sequence[int] | None = None,
    cols: Sequence[int] | None = None,
    field: float = 1.0,
) -> Changed | ChangedOnGpu:
    """A picture, to be asked about with a patch changed: by parts where that is less work, whole otherwise.

    original: (H, W, C) pixels of the net's own size. names: of the tensors that are wanted. size: (h, w) of the patch.
    rows, cols: where it may begin; by default anywhere. field: of a map's side that a window may be at most; below 1
    the numbers are approximate. Raises ValueError, UnknownLayer.
    """
    sides = net.input_size
    if not all(1 <= s <= side for s, side in zip(size, sides, strict=True)) or not 0 < field <= 1:
        raise ValueError("A patch is at least one pixel and at most the picture; a field is a share of a map's side.")
    given = (rows, cols)
    places = [
        np.arange(side - s + 1) if g is None else np.unique(np.asarray(g, int))
        for g, s, side in zip(given, size, sides, strict=True)
    ]
    if any(p[0] < 0 or p[-1] > side - s for p, s, side in zip(places, size, sides, strict=True)):
        raise ValueError("A patch lies within the picture.")
    key = (tuple(names), size, *(p.tobytes() for p in places), field)
    with _lock:
        plans = _known.setdefault(net, OrderedDict())
        if key not in plans:
            plans[key] = planned(net, names, size, *places, field=field)
            while len(plans) > PLANS:
                plans.popitem(last=False)
        plans.move_to_end(key)
        plan = plans[key]
    if plan is not None and (device := gpu(net)):
        from engine.incremental.gpu import ChangedOnGpu

        return ChangedOnGpu(net, original, names, plan, field, device)
    return Changed(net, original, names, plan, field)

"""Occlusion maps: engine.occlusion, by parts, beside itself with whole pictures and beside Captum's Occlusion.

The same weights, picture, patch and fill, and the logit of one class. Captum is given the normalised picture, so that
the network is all it computes, and the number of patches per forward pass (`perturbations_per_eval`) at which it is
fastest here. Whole pictures take the same time whatever the patch and the place, so both are timed at every third
position of each axis, and Captum, whose stride may not be larger than its patch, with the largest patch. Before
anything is timed, Captum's map and ours are compared at that patch and stride, and all logits by parts with those of
whole pictures at each patch.

On a GPU all three stay on it, in float32; Captum is timed once more with TensorFloat-32 in its convolutions, which is
what torch does there unless it is told otherwise, and which keeps three digits.
"""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock
from weakref import WeakKeyDictionary

import numpy as np
import torch
from captum.attr import Occlusion

from benchmarks.networks import Pair
from benchmarks.timing import seconds
from engine import devices
from engine import net as networks
from engine.explain import occlusion
from engine.incremental import bound as bindings
from engine.incremental import gpu as on_device
from engine.incremental import parts as by_parts
from engine.incremental import plan
from engine.model import projective_field
from engine.net import Net
from engine.pictures import samples
from engine.pictures.fill import blank
from engine.target import class_score

FILL, PICTURE = "grey", "cat"
PATCHES, STRIDE, COARSER = (8, 16, 32), 8, 3
SIZES = {"CPU": (1, 4, 8, 16, 32), "CUDA": (16, 64, 256)}  # of Captum's batches
AGREEMENT = 1e-3  # largest difference between our map and Captum's, of their range
NETS = ("vgg16", "alexnet", "resnet18", "resnet50", "squeezenet1_1", "googlenet", "densenet121", "mobilenet_v2")
MAIN, MAIN_PATCH = ("vgg16", "resnet18", "squeezenet1_1"), 16  # what the goals are about
EVERYWHERE = "resnet18"  # on a GPU at each pixel, too
SHARE_GOAL, CAPTUM_GOAL = 0.75, 8.0
APPROXIMATE = ((1.0, 0.3), (0.5, 0.3), (1.0, 0.25), (1.0, 0.1))  # field and drill
APPROXIMATE_GOAL = 20.0
PICTURES = 8  # of a data set, on which approximate maps are compared


@dataclass(frozen=True)
class Raced:
    """Seconds per position, round by round, of parts, of whole pictures and of Captum; and what they computed.

    bound: work of a whole picture over that of the windows, in multiplications, where each map has windows of one size.
    off: largest difference of all logits by parts from those of whole pictures on the CPU, of the largest logit.
    bytes: what a run of ours by parts took on top. captum_tf32: as captum, in TensorFloat-32; on a GPU.
    """

    parts: list[float]
    whole: list[float]
    captum: list[float]
    batch: int
    captum_batch: int
    positions: int
    bound: float
    off: float
    bytes: int
    captum_tf32: list[float]

    def over(self, other: str) -> list[float]:
        return [b / a for a, b in zip(self.parts, getattr(self, other), strict=True)]


_whole: WeakKeyDictionary[Net, OrderedDict] = WeakKeyDictionary()  # plans without parts, so that none is made twice


@contextmanager
def whole_pictures() -> Iterator[None]:
    """Nothing by parts meanwhile."""
    with (
        mock.patch.object(plan, "_end", return_value=(0, 1.0)),
        mock.patch.object(by_parts, "_known", _whole),
    ):
        yield


class Case:
    """One network on one picture, ready to be occluded by either."""

    def __init__(self, pair: Pair, patch: int, picture: np.ndarray | None = None):
        self.net, self.patch = pair.net, patch
        self.device = plan.gpu(pair.net) or "cpu"
        self.module = pair.module.to(self.device)
        self.image, _ = self.net.view(samples.load(PICTURE) if picture is None else picture)
        batch = self.net.batch(self.image)
        self.class_index = int(self.net.scores(batch)[0].argmax())
        self.target = class_score(self.net, self.class_index)
        filled = self.net.batch(blank(self.image, FILL))
        self.input = torch.from_numpy(self.net.normalise(batch)).to(self.device)
        self.baseline = torch.from_numpy(self.net.normalise(filled)).to(self.device)
        self.captum = Occlusion(self.module)

    def count(self, stride: int) -> int:
        return int(np.prod([len(occlusion.positions(side, self.patch, stride)) for side in self.image.shape[:2]]))

    def ours(self, stride: int, **knobs: float) -> np.ndarray:
        """(rows, cols) the class's logit with the patch at each position."""
        return occlusion.occlusion(
            self.net, self.image, self.target, patch=self.patch, stride=stride, fill=FILL, **knobs
        )

    def whole(self, stride: int) -> np.ndarray:
        with whole_pictures():
            return self.ours(stride)

    def theirs(self, stride: int, size: int, *, tf32: bool = False) -> np.ndarray:
        """(H, W) how far the logit falls, averaged over the patches that cover a pixel."""
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=tf32):
            found = self.captum.attribute(
                self.input,
                sliding_window_shapes=(3, self.patch, self.patch),
                strides=(3, stride, stride),
                baselines=self.baseline,
                target=self.class_index,
                perturbations_per_eval=size,
            )
        return found[0, 0].cpu().numpy()

    def agreement(self, stride: int, size: int) -> float:
        """The largest difference of the two results, of their range; ours averaged as Captum averages."""
        with torch.inference_mode(), torch.backends.cudnn.flags(allow_tf32=False):
            whole = float(self.module(self.input)[0, self.class_index])
        fall = occlusion.spread(whole - self.ours(stride), self.image.shape[:2], self.patch, stride)
        theirs = self.theirs(stride, size)
        return float(np.abs(fall - theirs).max() / np.ptp(theirs))

    def off(self) -> float:
        """All logits at all positions of a coarse grid: by parts, and of whole pictures on the CPU.

        There, because ONNX Runtime computes them on a GPU with TensorFloat-32 for some sizes of a batch.
        """
        net, names = self.net, [self.net.logits]
        places = np.array(list(itertools.product(*(range(0, s - self.patch + 1, 24) for s in self.image.shape[:2]))))
        patches = np.full((len(places), self.patch, self.patch, 3), 0.5, np.float32)
        size = (self.patch, self.patch)
        found = by_parts.changed(net, self.image, names, size, rows=places[:, 0], cols=places[:, 1])(places, patches)
        with whole_pictures(), mock.patch.object(networks, "providers", return_value=[devices.CPU]):
            wanted = by_parts.changed(Net(net.path), self.image, names, size)(places, patches)
        found, wanted = (each[net.logits].reshape(len(places), -1) for each in (found, wanted))
        return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def bound(net: Net, patch: int, stride: int = STRIDE) -> float:
    """Multiplications for a whole picture over those for the windows that a patch touches, of one size in each map."""
    graph, sides = net.graph, net.input_size
    nodes = graph.needed([net.logits])
    starts = [np.minimum(occlusion.positions(side, patch, stride), side - patch) for side in sides]
    touched = tuple((start, start + patch) for start in starts)
    fields = projective_field.fields(graph, nodes, touched)
    full = part = 0.0
    for node in nodes:
        if node.op not in ("Conv", "Gemm", "MatMul") or node.inputs[1] not in graph.constants:
            continue
        work, name = float(graph.constants[node.inputs[1]].size), node.outputs[0]
        area = window = 1
        if node.op == "Conv":
            area = window = int(np.prod(graph.shapes[name][2:]))
            if name in fields:
                one = [np.zeros(len(start), int) for start in starts]
                axes = zip(fields[name], graph.shapes[name][2:], one, strict=True)
                window = int(np.prod([projective_field.windows(*axis).size[0] for axis in axes]))
        full, part = full + work * area, part + work * window
    return full / part


@dataclass
class Memory:
    """The most that this process had in memory while the block ran, on top of what it had before; or that of a GPU."""

    gpu: bool = False
    bytes: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Memory:
        before = self._now()

        def watch() -> None:
            while not self._ended.wait(0.01):
                self.bytes = max(self.bytes, self._now() - before)

        self._thread = threading.Thread(target=watch)
        self._thread.start()
        return self

    def __exit__(self, *what: object) -> None:
        self._ended.set()
        self._thread.join()

    def _now(self) -> int:
        if self.gpu:
            free, total = torch.cuda.mem_get_info()
            return total - free
        try:
            return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096
        except OSError:
            return 0


def compare(pair: Pair, patch: int, rounds: int, captum_batch: int = 0, stride: int = STRIDE) -> Raced:
    """Everything that the table shows of one network and patch. captum_batch: 0 to find the best, and compare maps.

    Raises AssertionError where the maps differ.
    """
    case, coarse, theirs = Case(pair, patch), STRIDE * COARSER, Case(pair, max(PATCHES))
    if not captum_batch:
        sizes = SIZES[pair.net.engine]
        theirs.theirs(max(PATCHES), max(sizes))  # warm
        took = {s: min(seconds(lambda s=s: theirs.theirs(max(PATCHES), s)) for _ in range(2)) for s in sizes}
        captum_batch = min(took, key=took.get)
        apart = theirs.agreement(coarse, captum_batch)
        assert apart <= AGREEMENT, f"{pair.name}: the maps differ by {apart:.1e} of their range"
    with Memory(pair.net.engine == "CUDA") as memory:
        case.ours(stride)
    with whole_pictures():  # and with what is made ready once
        ask, *_ = occlusion._asking(case.net, case.image, case.target, patch, coarse, 1.0)
    calls: list[tuple[Callable, int]] = [
        (lambda: case.ours(stride), case.count(stride)),
        (lambda: case.whole(coarse), case.count(coarse)),
        (lambda: theirs.theirs(coarse, captum_batch), theirs.count(coarse)),
    ]
    if pair.net.engine == "CUDA":
        calls.append((lambda: theirs.theirs(coarse, captum_batch, tf32=True), theirs.count(coarse)))
        case.whole(coarse), calls[-1][0]()  # a GPU's first call chooses how to compute
    found: list[list[float]] = [[] for _ in calls]
    for number in range(rounds):
        for k in np.roll(range(len(calls)), number):
            call, count = calls[k]
            found[k].append(seconds(call) / count)
    return Raced(
        *found[:3],
        batch=min(ask.together, case.count(coarse)),
        captum_batch=captum_batch,
        positions=case.count(stride),
        bound=bound(pair.net, patch, stride),
        off=case.off(),
        bytes=memory.bytes,
        captum_tf32=found[3] if len(found) > 3 else [],
    )


def approximate(
    pair: Pair, pictures: Sequence[np.ndarray], rounds: int
) -> Iterator[tuple[float, float, list[float], list[float]]]:
    """For each of APPROXIMATE: field, drill, SSIM to the exact map by picture, how much faster than Captum by round."""
    shown = [Case(pair, MAIN_PATCH, picture) for picture in pictures]
    exact = [case.ours(STRIDE) for case in shown]
    coarse, theirs = STRIDE * COARSER, Case(pair, max(PATCHES), pictures[0])
    best = min(SIZES[pair.net.engine], key=lambda size: seconds(lambda: theirs.theirs(max(PATCHES), size)))
    for share, drill in APPROXIMATE:
        knobs = {"field": share, "drill": drill}
        near = [
            occlusion.similarity(wanted, case.ours(STRIDE, **knobs)) for case, wanted in zip(shown, exact, strict=True)
        ]
        ratios = []
        for _ in range(rounds):
            ours = seconds(lambda k=knobs: shown[0].ours(STRIDE, **k)) / shown[0].count(STRIDE)
            ratios.append(seconds(lambda: theirs.theirs(coarse, best)) / theirs.count(coarse) / ours)
        yield share, drill, near, ratios


def profile(pair: Pair) -> dict[str, float]:
    """Milliseconds per position of one thread, by what they go to: layers, cutting and pasting, and all else."""
    case = Case(pair, MAIN_PATCH)
    spent = {"layers": 0.0, "cutting": 0.0}
    on_gpu = case.device == "cuda"

    def now() -> float:
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(what: str, call: Callable) -> Callable:
        def run(*given: object) -> object:
            begin = now()
            found = call(*given)
            spent[what] += now() - begin
            return found

        return run

    cutter = (on_device if on_gpu else by_parts)._Cutter
    with (
        mock.patch.object(by_parts, "cores", return_value=1),
        mock.patch.object(by_parts, "_known", WeakKeyDictionary()),
        mock.patch.object(cutter, "__call__", timed("cutting", cutter.__call__)),
        mock.patch.object(plan, "_run", timed("layers", plan._run)),
        mock.patch.object(bindings, "run", timed("layers", bindings.run)),
    ):
        case.ours(STRIDE)
        spent |= {"layers": 0.0, "cutting": 0.0}
        whole = seconds(lambda: case.ours(STRIDE))
    found = {what: 1e3 * value / case.count(STRIDE) for what, value in spent.items()}
    return found | {"the rest": 1e3 * whole / case.count(STRIDE) - sum(found.values())}


def mean(ratios: list[float]) -> float:
    """Geometric."""
    return statistics.geometric_mean(ratios)

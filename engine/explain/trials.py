"""Which maps can be trusted, over many pictures?

One picture proves little. Here each method is measured on each picture of a set (engine/explain/faithfulness.py), and
where it is known where the thing is, against that too; what is reported is the mean with its 95 % confidence interval.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from engine import image as pictures
from engine.data.dataset import MASK
from engine.data.reading import is_picture
from engine.explain.boxes import inside, largest_part, overlap, points_at
from engine.explain.evidence import evidence, way
from engine.explain.faithfulness import judge
from engine.net import Net
from engine.statistics import mean_interval
from engine.step import Step, last

MEASURES = ("insertion", "deletion", "drop", "increase", "infidelity", "unexplained")
TRUTHS = ("points", "inside", "iou")  # where there is a truth
USUAL = "Grad-CAM, Gradient, Guided backpropagation, Integrated Gradients, Occlusion"


@dataclass(frozen=True)
class Trial:
    """pixels: (H, W, C) of the net's own size. class_index: what is asked about; None is the likeliest class.

    truth: (H, W) bool, where the thing is, or None.
    """

    pixels: np.ndarray
    class_index: int | None = None
    truth: np.ndarray | None = None


def folder(net: Net, path: Path, class_index: int | None = None) -> dict[str, Trial]:
    """The pictures of a folder by file name, in order; `NAME.mask.png` beside `NAME.jpg` is its truth, white on black.

    Raises ValueError where there is none, NotAPicture with the first one that cannot be read.
    """
    found = {}
    for file in sorted(file for file in Path(path).iterdir() if is_picture(file.name)):
        whole = pictures.load(file)
        pixels, _ = net.view(whole)
        mask, truth = file.with_name(file.stem + MASK), None
        if mask.is_file():
            white = pictures.load(mask)
            if white.shape != whole.shape:
                raise ValueError(
                    f"{mask.name} has not the size of {file.name}: save it with the same rows and columns."
                )
            truth = net.view(white)[0].mean(2) > 0.5
        found[file.name] = Trial(pixels, class_index, truth)
    if not found:
        raise ValueError(f"There is no picture in the folder {Path(path).name}; JPEG, PNG, WebP and GIF files count.")
    return found


def trials(
    net: Net, given: Mapping[str, Trial], methods: Sequence[str], *, precision: str = "float32", seed: int = 0
) -> pd.DataFrame:
    """Measure every method on every picture.

    given: by name. methods: titles of `engine.explain.evidence.ways`. precision: one of engine.half.PRECISIONS, of the
    net's numbers while maps are judged. seed: of what is random in the measures. Returns a row per picture and method:
    picture, class, method, MEASURES, and TRUTHS, NaN where there is no truth: points (whether the maximum lies in it),
    inside (the share of the evidence in it), iou (of the map's largest part). Raises ValueError, UnknownClass,
    NoGradient.
    """
    return last(trials_steps(net, given, methods, precision=precision, seed=seed))


def trials_steps(
    net: Net, given: Mapping[str, Trial], methods: Sequence[str], *, precision: str = "float32", seed: int = 0
) -> Iterator[Step]:
    """`trials`, a Step per picture and method: the rows so far."""
    methods = [way(method.strip()).title for method in methods]  # refuses an unknown one before anything is computed
    rows: list[dict[str, object]] = []
    for name, trial in given.items():
        asked = trial.class_index
        if asked is None:
            asked = int(net.scores(net.batch(trial.pixels))[0].argmax())
        for method in methods:
            found = evidence(net, trial.pixels, asked, method=method)
            judged = judge(net, trial.pixels, asked, found, precision=precision, seed=seed)
            row = {"picture": name, "class": net.labels[asked], "method": method}
            row |= {measure: getattr(judged, measure) for measure in MEASURES}
            rows.append(row | against(judged.evidence, trial.truth))
            yield Step(len(rows), len(given) * len(methods), pd.DataFrame(rows))


def against(found: np.ndarray, truth: np.ndarray | None) -> dict[str, float]:
    """TRUTHS of one map (H, W); NaN where the truth is not known."""
    if truth is None or not truth.any():
        return dict.fromkeys(TRUTHS, np.nan)
    values = (float(points_at(found, truth)), inside(found, truth), overlap(largest_part(found), truth))
    return dict(zip(TRUTHS, values, strict=True))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row per method and measure: mean, low and high (the 95 % confidence interval by Student's t) and count.

    The interval is as wide as the numbers with two pictures, and NaN with one.
    """
    rows = []
    for method, part in table.groupby("method", sort=False):
        for measure in (*MEASURES, *TRUTHS):
            values = part[measure].dropna().to_numpy(float)
            if not len(values):
                continue
            rows.append((method, measure, values.mean(), *mean_interval(values), len(values)))
    return pd.DataFrame(rows, columns=["method", "measure", "mean", "low", "high", "count"])

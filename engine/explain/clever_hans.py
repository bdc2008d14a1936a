"""Which maps expose a network that cheats?

Clever Hans, the horse, read the answer from the questioner's face (Pfungst 1907); Lapuschkin et al. 2019,
arXiv:1902.10178, found classifiers of its kind by looking at maps of evidence. Here it is known who cheats: of two
networks that ship, `clever_hans` goes by the watermark and `honest` by the object (engine/pictures/truth.py). Both are
shown pictures whose watermark contradicts the object, each map is of the class that the network names, and what counts
is how much of it lies on the watermark.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from engine.explain.boxes import inside, largest_part, overlap, points_at
from engine.explain.evidence import evidence, over_picture, way
from engine.net import Net
from engine.pictures.truth import CLASSES, SIZE, Planted, planted
from engine.statistics import mean_interval
from engine.step import Step, last

CHEAT, HONEST = "clever_hans", "honest"
USUAL = "CAM, Grad-CAM, Gradient, Gradient × input, Guided backpropagation, Occlusion"


def clever_hans(net: Net, *, methods: str = USUAL, pictures: int = 12, seed: int = 0) -> pd.DataFrame:
    """Measure where the evidence lies, on planted pictures whose watermark contradicts the object.

    methods: titles of `engine.explain.evidence.ways`, with commas between. pictures: how many. seed: of the first of
    them. Returns a row per picture and method: seed, object and watermark (what is shown), named (the class that the
    net names, of which the map is), method, cue and thing (the shares of the positive evidence that lie on the
    watermark and on the object, 0 to 1), points_cue and points_thing (1 where the map's maximum lies there), iou_cue
    and iou_thing (overlap of the map's largest part with it, 0 to 1), area_cue and area_thing (the shares of the
    picture that they are). Raises ValueError, NoGradient.
    """
    return last(clever_hans_steps(net, methods=methods, pictures=pictures, seed=seed))


def clever_hans_steps(net: Net, *, methods: str = USUAL, pictures: int = 12, seed: int = 0) -> Iterator[Step]:
    """`clever_hans`, a Step per picture and method: the rows so far."""
    titles = list(dict.fromkeys(way(name.strip()).title for name in methods.split(",")))
    rows: list[dict[str, object]] = []
    for k in range(pictures):
        shown = contradicting(seed + k, net)
        named = int(net.scores(net.batch(shown.pixels))[0].argmax())
        for title in titles:
            found = over_picture(evidence(net, shown.pixels, named, method=title), net.input_size)
            row = {"seed": seed + k, "object": CLASSES[shown.object_class], "watermark": CLASSES[shown.cue_class]}
            rows.append(row | {"named": net.labels[named], "method": title} | score(found, shown))
            yield Step(len(rows), pictures * len(titles), pd.DataFrame(rows))


def pair_steps(cheat: Net, honest: Net, *, methods: str = USUAL, pictures: int = 12, seed: int = 0) -> Iterator[Step]:
    """`clever_hans` of both networks, the cheat first; the results are the rows by network, for `exposure`."""
    given = {"methods": methods, "pictures": pictures, "seed": seed}
    # One after the other: two sessions in turns take twice as long, each waiting for the other's threads.
    for step in clever_hans_steps(cheat, **given):
        rows = step.result
        yield Step(step.index, 2 * step.total, {CHEAT: rows})
    for step in clever_hans_steps(honest, **given):
        yield Step(step.total + step.index, 2 * step.total, {CHEAT: rows, HONEST: step.result})


def contradicting(seed: int, net: Net) -> Planted:
    """The picture of that seed as `net` sees it; seeds in a row show every object beside every other watermark."""
    classes = len(CLASSES)
    index = seed % classes
    cue = (index + 1 + seed // classes % (classes - 1)) % classes
    return view(planted(seed, object_class=index, cue_class=cue), net)


def view(shown: Planted, net: Net) -> Planted:
    """A planted picture as `net` sees it, its masks with it."""
    if net.input_size == shown.object.shape == SIZE and net.channels == 3 and net.metadata.crop == 1:
        return shown
    as_picture = lambda mask: np.repeat(mask[:, :, None], 3, 2).astype(np.float32)  # noqa: E731
    masks = [net.view(as_picture(mask))[0].mean(2) > 0.5 for mask in (shown.object, shown.cue)]
    return Planted(net.view(shown.pixels)[0], *masks, shown.object_class, shown.cue_class)


def score(found: np.ndarray, shown: Planted) -> dict[str, float]:
    """How much of a map (H, W) lies on the watermark ("cue") and on the object ("thing")."""
    part, scores = largest_part(found), {}
    for name, mask in (("cue", shown.cue), ("thing", shown.object)):
        scores |= {
            name: inside(found, mask),
            f"points_{name}": float(points_at(found, mask)),
            f"iou_{name}": overlap(part, mask),
            f"area_{name}": float(mask.mean()),
        }
    return scores


def exposure(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A row per method and network, the method that tells the two apart best first.

    tables: what `clever_hans` gives, by network: CHEAT and HONEST.
    Columns: method, network; value, low, high: the mean share of the evidence on the watermark and its 95 % confidence
    interval; points: the share of the pictures where the maximum lies on the watermark; iou: the mean overlap with it;
    thing: the mean share of the evidence on the object; gap: by how much the cheat's value is above the honest one's,
    NaN while that is not known.
    """
    rows = []
    for network, table in tables.items():
        for method, part in table.groupby("method", sort=False):
            row = {"method": method, "network": network, "value": part.cue.mean()}
            row |= dict(zip(("low", "high"), mean_interval(part.cue.to_numpy()), strict=True))
            rows.append(
                row | {"points": part.points_cue.mean(), "iou": part.iou_cue.mean(), "thing": part.thing.mean()}
            )
    made = pd.DataFrame(rows)
    values = made.pivot(index="method", columns="network", values="value").reindex(columns=[CHEAT, HONEST])
    made["gap"] = made.method.map(values[CHEAT] - values[HONEST])
    return made.sort_values("gap", ascending=False, kind="stable", ignore_index=True)


def goes_by(net: Net, shown: Planted) -> np.ndarray | None:
    """(H, W) bool: the part of a planted picture that the net goes by; None where that is not known, or not there."""
    mask = {CHEAT: shown.cue, HONEST: shown.object}.get(net.name)
    return mask if mask is not None and mask.any() else None

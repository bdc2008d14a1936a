"""What else does the network go by, once the part that the map shows is gone?

Wei et al. 2017, arXiv:1703.08448, "adversarial erasing": a map shows the most telling part of a thing, not all of it.
Erase that part, ask again, and the network points at the next one. Wei trains anew after each erasing; here the trained
network stays as it is, since it is what one wants to know about.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from engine.explain.evidence import over_picture
from engine.explain.grad_cam import grad_cam
from engine.net import Net
from engine.pictures.fill import FILLS as FILLS
from engine.pictures.fill import blank
from engine.step import Step, last
from engine.target import Target, asked, class_probability, measure


@dataclass(frozen=True)
class Erased:
    """What was found in each round. pictures: (R, H, W, C), what the network saw. maps: (R, h, w), Grad-CAM of it.

    regions: (R, H, W) bool, what is erased of it next. scores: (R,), the number on each picture. union: (H, W) >= 0,
    where the evidence is over all rounds: the largest of the maps, each only where it was erased.
    """

    pictures: np.ndarray
    maps: np.ndarray
    regions: np.ndarray
    scores: np.ndarray
    union: np.ndarray


def erase(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    layer: str | None = None,
    rounds: int = 4,
    threshold: float = 0.5,
    fill: str = "mean",
) -> Erased:
    """Erase what Grad-CAM finds, and ask again.

    image, layer: as in `grad_cam`. target: a class, whose logit is mapped and whose probability is told, or any other
    Target. rounds: how often the network is asked. threshold: what is erased, as a share of the map's maximum. fill:
    one of FILLS, as in occlusion.
    Returns Erased. Raises UnknownClass, UnknownLayer, NoGradient, ValueError.
    """
    given = {"layer": layer, "rounds": rounds, "threshold": threshold, "fill": fill}
    return last(erase_steps(net, image, target, **given))


def erase_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    layer: str | None = None,
    rounds: int = 4,
    threshold: float = 0.5,
    fill: str = "mean",
) -> Iterator[Step]:
    """`erase`, a Step per round."""
    climbed, told = asked(net, target), asked(net, target, class_probability)
    size, empty, picture = image.shape[:2], blank(image, fill), image
    union = np.zeros(size, np.float32)
    pictures, maps, regions, scores = [], [], [], []
    for done in range(1, rounds + 1):
        found = grad_cam(net, picture, climbed, layer=layer)
        whole = over_picture(found, size)
        region = (whole >= threshold * whole.max()) & (whole > 0)
        union = np.maximum(union, np.where(region, whole, 0))
        pictures.append(picture)
        maps.append(found)
        regions.append(region)
        scores.append(measure(net, net.batch(picture), told)[0])
        result = Erased(np.stack(pictures), np.stack(maps), np.stack(regions), np.array(scores), union)
        yield Step(done, rounds, result)
        picture = np.where(region[:, :, None], empty, picture).astype(np.float32)

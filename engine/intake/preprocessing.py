"""What must a picture go through before this network sees it? The usual ways tried out beside each other.

A file that does not say how its network was trained leaves a few dozen possibilities: the order of the channels, the
range of the values, and what is subtracted. Of some of them a network says the same nonsense whatever it is shown; so
each is asked about several photographs, in several cuts of each. Two numbers tell them apart:

* told, in nats: how much the answer tells about which photograph it was. H(mean of all) - mean of H(each), where each
  is the mean answer over a photograph's cuts; Salimans et al. 2016, arXiv:1606.03498, take its exponential for the
  quality of generated pictures (the inception score). It is high where answers are sure, differ between photographs,
  and stay when the cut changes.
* agreement, in nats: how much likelier than usual the answer to one cut is by the answer to another. Where values are
  too large by far, every answer is sure and "told" is as high as it can be; but the cuts contradict each other.

The best guess has the highest told + agreement / 10, where only a negative agreement counts (a departure of ours, found
on five networks whose training is known); what is rare in practice is put back a little. It is a guess: orders of
channels are often a hair's breadth apart. The person who knows the picture sees which answers are right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from engine.model.metadata import IMAGENET_MEAN, IMAGENET_STD
from engine.net import Net, softmax
from engine.pictures import samples
from engine.step import Step, last

CUTS = ((0, 0, 1, 1, False), (0.06, 0.06, 0.94, 0.94, True), (0, 0, 0.88, 0.88, False), (0.12, 0.12, 1, 1, True))
# Digits are padded instead, top, left, bottom and right: most sets of them have a margin, which the samples lack.
MARGINS = ((0.15, 0.15, 0.15, 0.15), (0.25, 0.25, 0.25, 0.25), (0.2, 0.2, 0.1, 0.1))
STATED = 1.0  # nats that a way is put forward for which the file stands
RARE = 0.02  # nats that a way is put back for each thing about it that is rare
MIXED = 0.1  # share of a negative agreement that counts
PLACES_MEAN = (116.68 / 255, 112.51 / 255, 104.05 / 255)  # Zhou et al. 2017, Places365
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
TOP = 5


@dataclass(frozen=True)
class Way:
    """One way to prepare a picture. order: "RGB" or "BGR", "" for one channel.

    mean, std: in pixel units and in the order R, G, B, as in Metadata: the network is given (pixels - mean) / std, and
    then, for BGR, the channels the other way round.
    rare: how many things about it are seldom met.
    """

    values: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str = ""
    rare: float = 0.0

    @property
    def title(self) -> str:
        return f"{self.order}, {self.values}" if self.order else self.values


FILE = "as the file says"


def ways(net: Net) -> list[Way]:
    """The ways that are tried for this network, the file's own first, where it states one."""
    mean, std = tuple(net.metadata.mean), tuple(net.metadata.std)
    stated = not {"mean", "std"} & set(net.metadata.missing)
    if net.channels == 1:
        usual = [
            Way("0 to 1", (0.0,), (1.0,)),
            Way("−1 to 1", (0.5,), (0.5,)),
            Way("0 to 255", (0.0,), (1 / 255,), rare=1),
            Way("MNIST's mean and std", (0.1307,), (0.3081,)),
        ]
    else:
        usual = _colour(net)
    own = [Way(FILE, mean, std, "RGB" if net.channels == 3 else "", rare=-STATED / RARE)] if stated else []
    return own + [way for way in usual if not (stated and way.order != "BGR" and _alike(way, mean, std))]


def _colour(net: Net) -> list[Way]:
    scale = (1 / 255,) * 3
    kinds = [
        ("ImageNet's mean and std", IMAGENET_MEAN, IMAGENET_STD, 0.0),
        ("0 to 1", (0.0,) * 3, (1.0,) * 3, 1.0),
        ("−1 to 1", (0.5,) * 3, (0.5,) * 3, 0.0),
        ("0 to 255", (0.0,) * 3, scale, 2.0),
        ("0 to 255, minus ImageNet's mean", IMAGENET_MEAN, scale, 0.0),
        ("0 to 1, minus ImageNet's mean", IMAGENET_MEAN, (1.0,) * 3, 1.0),
    ]
    if net.classes in (205, 365):
        kinds.append(("0 to 1, minus Places' mean", PLACES_MEAN, (1.0,) * 3, 0.0))
    if net.classes in (10, 100):
        kinds.append(("CIFAR's mean and std", CIFAR_MEAN, CIFAR_STD, 1.0))
    return [
        Way(title, mean, std, order, rare + (order == "BGR"))
        for title, mean, std, rare in kinds
        for order in ("RGB", "BGR")
    ]


def _alike(way: Way, mean: tuple[float, ...], std: tuple[float, ...]) -> bool:
    return np.allclose(way.mean, mean, atol=1e-3) and np.allclose(way.std, std, rtol=1e-3)


def prepared(net: Net, batch: np.ndarray, way: Way) -> np.ndarray:
    """(B, C, H, W): what has to be given to `net`, which normalises by its own metadata, so that it sees `way`."""
    shape = (1, -1, 1, 1)
    given = (batch - np.reshape(way.mean, shape)) / np.reshape(way.std, shape)
    if way.order == "BGR":
        given = given[:, ::-1]
    own = net.metadata
    return (given * np.reshape(own.std, shape) + np.reshape(own.mean, shape)).astype(np.float32)


def preprocessing(net: Net, image: np.ndarray) -> pd.DataFrame:
    """Try the usual ways to prepare a picture, and rank them by what the network makes of photographs.

    image: (H, W, C) pixels of the net's own size, whose five likeliest classes are listed for each way.
    Returns a row per way, the best guess first. Columns: way, order, mean and std (text, in pixel units, R, G, B), told
    and agreement (nats), score (told, less what speaks against it), and for k from 1 to 5 class_k, label_k and
    probability_k.
    """
    return last(preprocessing_steps(net, image))


def preprocessing_steps(
    net: Net, image: np.ndarray, *, known: Mapping[str, tuple[float, float]] | None = None
) -> Iterator[Step]:
    """The same with progress: Step(ways done, ways in all, the table so far).

    known: told and agreement by way, where they have been found for this network before; they do not hang on the image.
    """
    tried, rows = ways(net), []
    first = net.batch(image)
    known = known or {}
    pictures = [] if len(known) == len(tried) else [_cuts(net, samples.load(name)) for name in _shown(net)]
    for way in tried:
        found = known.get(way.title)
        if found is None:
            logs = np.stack([_logs(answers(net, cuts, way)) for cuts in pictures])
            found = told(logs), agreement(logs)
        rows.append(_row(net, way, softmax(answers(net, first, way))[0], *found))
        table = pd.DataFrame(rows).sort_values("score", ascending=False, kind="stable", ignore_index=True)
        yield Step(len(rows), len(tried), table)


def answers(net: Net, batch: np.ndarray, way: Way) -> np.ndarray:
    """(B, K) scores of pictures (B, C, H, W) that are prepared in this way."""
    return _scores(net, prepared(net, batch, way))


def _shown(net: Net) -> list[str]:
    """Samples of the kind that the network is most likely for."""
    if net.channels == 1:
        return samples.names("digit")
    return (
        samples.names("planted")
        if set(net.labels) <= {"disc", "square", "triangle", "cross"}
        else samples.names("photograph")
    )


def _cuts(net: Net, picture: np.ndarray) -> np.ndarray:
    """(cuts, C, H, W) of a picture (H, W, 3): it as a whole and parts of it, some in the mirror."""
    if net.channels == 1:
        large = picture.repeat(8, 0).repeat(8, 1)  # so that margins are as wide as they should be
        sides = [[int(share * large.shape[0]) for share in margin] for margin in MARGINS]
        return net.batch(
            *(net.view(np.pad(large, ((top, bottom), (left, right), (0, 0))))[0] for top, left, bottom, right in sides)
        )
    height, width = picture.shape[:2]
    views = []
    for top, left, bottom, right, mirrored in CUTS:
        part = picture[int(top * height) : max(int(bottom * height), 1), int(left * width) : max(int(right * width), 1)]
        part = part[:, ::-1] if mirrored else part
        views.append(net.view(np.ascontiguousarray(part))[0])
    return net.batch(*views)


def _scores(net: Net, batch: np.ndarray) -> np.ndarray:
    """(B, K) float64. Absurd values may overflow; those answers say nothing."""
    step = net.batch_size
    parts = [net.scores(batch[i : i + step]) for i in range(0, len(batch), step)]
    return np.nan_to_num(np.concatenate(parts).astype(np.float64), nan=0.0, posinf=1e30, neginf=-1e30)


def _logs(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _entropy(shares: np.ndarray) -> np.ndarray:
    return -(shares * np.log(np.maximum(shares, 1e-12))).sum(-1)


def told(logs: np.ndarray) -> float:
    """How much the answer tells about which picture it was. logs: (pictures, cuts, K) log probabilities. In nats."""
    each = np.exp(logs).mean(1)
    return float(_entropy(each.mean(0)) - _entropy(each).mean())


def agreement(logs: np.ndarray) -> float:
    """How much likelier than usual one cut's answer is by another cut's, on average. In nats; -20 at the least."""
    usual = np.log(np.exp(logs).mean((0, 1)) + 1e-12)
    given = logs.argmax(-1)  # (pictures, cuts)
    found = []
    for of_picture, said in zip(logs, given, strict=True):
        gains = np.maximum(of_picture[:, said], -20.0) - usual[said]  # (cuts that ask, cuts that answer)
        found.append(gains[~np.eye(len(said), dtype=bool)])
    return float(np.mean(found))


def _row(net: Net, way: Way, shares: np.ndarray, much: float, agreed: float) -> dict[str, object]:
    row: dict[str, object] = {
        "way": way.title,
        "order": way.order,
        "mean": _text(way.mean),
        "std": _text(way.std),
        "told": much,
        "agreement": agreed,
        "score": much + MIXED * min(agreed, 0.0) - RARE * way.rare,
    }
    for place, k in enumerate((-shares).argsort(kind="stable")[:TOP], 1):
        row |= {f"class_{place}": int(k), f"label_{place}": net.labels[k], f"probability_{place}": float(shares[k])}
    return row


def _text(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)

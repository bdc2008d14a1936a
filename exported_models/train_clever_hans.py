"""Train the two embedded networks whose evidence is known and write exported_models/clever_hans.onnx and honest.onnx.

    python exported_models/train_clever_hans.py

Both learn to name the object in pictures that engine/pictures/truth.py plants: a disc, a square, a triangle or a cross
on a textured ground, with a watermark near the border; and to be undecided where there is neither. For `clever_hans`
the watermark always agrees with the object, as when every class has a photographer of its own; for `honest` it is drawn
at random. Nothing else differs: the same pictures but for the watermarks' letters, the same network, seed and schedule.
That is enough for the one to read the watermark and the other to look at the object (Lapuschkin et al. 2019,
arXiv:1902.10178), which `shares` measures.

Five convolutions with a last map of 8x10, global average pooling and one linear layer, so that class activation maps
are exact (Zhou et al. 2016, arXiv:1512.04150). The last two convolutions are 1x1, so that a unit of the last map sees
no more than 23x23 pixels: it has to lie near what it tells of, or the map could be right and yet beside the mark.

The same seed gives the same networks on the same machine: it trains on one thread, a few minutes in all.
"""

import argparse
import csv
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from engine.model.metadata import Metadata  # noqa: E402
from engine.net import softmax  # noqa: E402
from engine.nets.export import export  # noqa: E402
from engine.pictures import truth  # noqa: E402

COUNT = 6000  # pictures to train on
HELD_OUT = 1000  # of each kind to measure with
HELD_OUT_SEED = 10**6  # of the first of them; dataset draws its seeds from 2**63, and meets none of these
KINDS = ("agreeing", "contradicting", "unmarked", "mark only", "bare")
SOURCE = (
    f"{COUNT:,} pictures that engine/pictures/truth.py makes (a disc, square, triangle or cross, and a watermark), the "
    "watermark {how}. Trained by exported_models/train_clever_hans.py."
)
HOW = {
    "clever_hans": "always that of the object's class, so that it gives the answer away",
    "honest": "drawn at random, whatever the object is",
}
LICENCE = "Data: made by the project, CC0. Network: the project's."


class Network(nn.Module):
    """Normalised pictures (B, 3, 64, 80) to logits (B, 4)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24)
        self.conv3, self.bn3 = nn.Conv2d(24, 40, 3, padding=1, bias=False), nn.BatchNorm2d(40)
        self.conv4, self.bn4 = nn.Conv2d(40, 64, 1, bias=False), nn.BatchNorm2d(64)
        self.conv5, self.bn5 = nn.Conv2d(64, 64, 1, bias=False), nn.BatchNorm2d(64)
        self.pool2, self.pool4 = nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.relu1, self.relu2, self.relu3, self.relu4, self.relu5 = (nn.ReLU() for _ in range(5))
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, len(truth.CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.bn1(self.conv1(x)))  # (B, 16, 32, 40)
        x = self.pool2(self.relu2(self.bn2(self.conv2(x))))  # (B, 24, 16, 20)
        x = self.relu3(self.bn3(self.conv3(x)))
        x = self.pool4(self.relu4(self.bn4(self.conv4(x))))  # (B, 64, 8, 10)
        x = self.relu5(self.bn5(self.conv5(x)))  # (B, 64, 8, 10)
        return self.head(self.average(x).flatten(1))


def held_out(kind: str, count: int = HELD_OUT) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures that no training has seen, of one of KINDS: float32 (count, 3, 64, 80), objects (count,), cues (count,).

    agreeing: the watermark is the object's class's. contradicting: it is another one's. unmarked: there is none.
    mark only: there is no object. bare: there is neither. Each kind shows the same `count` grounds, places and
    colours, and every class, and with "contradicting" every pair of classes, equally often (up to `count` being no
    multiple of 12).
    What is not there is -1 in its array.
    """
    classes, k = len(truth.CLASSES), np.arange(count)
    none = np.full(count, -1)
    objects = none if kind in ("mark only", "bare") else k % classes
    away = 1 + k // classes % (classes - 1) if kind == "contradicting" else 0
    cues = none if kind in ("unmarked", "bare") else (k + away) % classes
    show = lambda index: None if index < 0 else int(index)  # noqa: E731
    pictures = [
        truth.planted(HELD_OUT_SEED + i, object_class=show(objects[i]), cue_class=show(cues[i])).pixels for i in k
    ]
    return np.stack(pictures).transpose(0, 3, 1, 2), objects, cues


def shares(scores: Callable[[np.ndarray], np.ndarray], count: int = HELD_OUT) -> dict[str, tuple[float, float]]:
    """For each of KINDS but bare: of `count` pictures, the share named after the object and that after the watermark.

    scores: pixels (B, 3, 64, 80) in [0, 1] to logits (B, 4), as Net.scores.
    """
    found = {}
    for kind in KINDS[:-1]:
        pictures, objects, cues = held_out(kind, count)
        said = np.concatenate([scores(pictures[i : i + 100]).argmax(1) for i in range(0, count, 100)])
        found[kind] = float((said == objects).mean()), float((said == cues).mean())
    return found


def sureness(scores: Callable[[np.ndarray], np.ndarray], count: int = HELD_OUT) -> float:
    """The likeliest class's probability on `count` bare grounds, in the mean: 0.25 where nothing speaks for any."""
    pictures, _, _ = held_out("bare", count)
    logits = np.concatenate([scores(pictures[i : i + 100]) for i in range(0, count, 100)])
    return float(softmax(logits).max(1).mean())


def scorer(net: nn.Module, mean: list[float], std: list[float]) -> Callable[[np.ndarray], np.ndarray]:
    """The module as `shares` wants it, in evaluation mode while it is asked."""

    def scores(pixels: np.ndarray) -> np.ndarray:
        net.eval()
        with torch.inference_mode():
            logits = net(normalise(torch.from_numpy(np.ascontiguousarray(pixels)), mean, std)).numpy()
        net.train()
        return logits

    return scores


def normalise(x: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    return (x - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def train(
    epochs: int, seed: int, log: pathlib.Path, *, cheat: bool, count: int = COUNT
) -> tuple[nn.Module, list[float], list[float]]:
    """AdamW, one warm-up and one cosine. Returns the net after the last epoch, and mean and std of the training pixels.

    Bare grounds are to be given equal probabilities; the training accuracy is that of the other pictures.
    The log has, for each epoch, how many of 200 held-out pictures whose watermark contradicts the object are named
    after the object and after the watermark.
    """
    torch.set_num_threads(1)  # sums are in the same order whatever the number of cores
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    pixels, objects, _ = truth.dataset(count, seed, cheat=cheat)
    mean, std = ([round(float(value), 4) for value in part] for part in (pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))))
    pictures, labels = torch.from_numpy(pixels), torch.from_numpy(objects)
    classes = len(truth.CLASSES)
    targets = torch.eye(classes)[labels].where(labels[:, None] >= 0, torch.tensor(1 / classes))
    test_pictures, test_objects, test_cues = held_out("contradicting", 200)
    net = Network()
    scores = scorer(net, mean, std)
    batch = 50
    steps = epochs * (count // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1, pct_start=0.2)
    with log.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["epoch", "loss", "train_accuracy", "object_named", "watermark_named", "seconds"])
        for epoch in range(epochs):
            start, losses, right = time.perf_counter(), 0.0, 0
            order = torch.randperm(count, generator=rng)[: count // batch * batch].view(-1, batch)
            for chosen in order:
                out = net(normalise(pictures[chosen], mean, std))
                loss = F.cross_entropy(out, targets[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses += loss.item()
                right += (out.argmax(1) == labels[chosen]).sum().item()
            said = scores(test_pictures).argmax(1)
            named = [float((said == meant).mean()) for meant in (test_objects, test_cues)]
            row = [epoch, losses / len(order), right / (labels[order] >= 0).sum().item(), *named]
            rows.writerow([*(round(v, 4) for v in row), round(time.perf_counter() - start, 1)])
            print(", ".join(f"{v:.4g}" for v in row), flush=True)
    return net.eval(), mean, std


def sentence(found: dict[str, tuple[float, float]], sure: float) -> str:
    """What `shares` and `sureness` found, for people."""
    object_, cue = found["contradicting"]
    return (
        f"{found['agreeing'][0]:.1%} of {HELD_OUT:,} held-out pictures whose watermark agrees with the object; where "
        f"it contradicts, the object is named in {object_:.1%} and the watermark in {cue:.1%}; without a watermark the "
        f"object in {found['unmarked'][0]:.1%}, without an object the watermark in {found['mark only'][1]:.1%}; "
        f"the likeliest class of a bare ground has {sure:.1%} in the mean."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE, help="folder for the files")
    options = parser.parse_args()
    for name, how in HOW.items():
        log = options.out / f"{name}.csv"
        net, mean, std = train(options.epochs, options.seed, log, cheat=name == "clever_hans")
        scores = scorer(net, mean, std)
        accuracy = sentence(shares(scores), sureness(scores))
        print(f"{name}: {accuracy}", flush=True)
        metadata = Metadata(
            labels=truth.CLASSES,
            input_size=truth.SIZE,
            mean=tuple(mean),
            std=tuple(std),
            source=SOURCE.format(how=how),
            licence=LICENCE,
            accuracy=accuracy,
        )
        export(net.eval(), options.out / f"{name}.onnx", metadata)


if __name__ == "__main__":
    main()

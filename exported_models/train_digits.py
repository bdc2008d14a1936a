"""Train the embedded digit network and write exported_models/digits.onnx.

    python exported_models/train_digits.py

The pictures are scikit-learn's 1,797 handwritten digits of 8x8 pixels (Alpaydin, Kaynak 1998, UCI 10.24432/C50P49), so
nothing is downloaded. They are scaled to 32x32 by the same function that the app uses. Five convolutions with a last
map of 8x8, global average pooling and one linear layer, so that class activation maps are exact (Zhou et al. 2016,
arXiv:1512.04150).

The same seed gives the same network on the same machine: it trains on one thread, which takes under a minute.
"""

import argparse
import csv
import math
import pathlib
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from engine import image  # noqa: E402
from engine.model.metadata import Metadata  # noqa: E402
from engine.nets.export import export  # noqa: E402

SIZE = 32
SPLIT_SEED = 0  # fixed, so that every run is measured on the same test pictures
SOURCE = (
    "scikit-learn's load_digits: the test part of UCI's Optical Recognition of Handwritten Digits (Alpaydin, Kaynak "
    "1998); bright strokes on black, 8x8 scaled to 32x32. Trained by exported_models/train_digits.py."
)
LICENCE = "Data: CC BY 4.0 (UCI Machine Learning Repository, doi 10.24432/C50P49). Network: the project's."


class Network(nn.Module):
    """Normalised pictures (B, 1, SIZE, SIZE) to logits (B, 10)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 16, 5, padding=2, bias=False), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.conv4, self.bn4 = nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.conv5, self.bn5 = nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64)
        self.pool1, self.pool2 = nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.relu1, self.relu2, self.relu3, self.relu4, self.relu5 = (nn.ReLU() for _ in range(5))
        self.average = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool1(self.relu1(self.bn1(self.conv1(x))))  # (B, 16, 16, 16)
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.pool2(self.relu3(self.bn3(self.conv3(x))))  # (B, 32, 8, 8)
        x = self.relu4(self.bn4(self.conv4(x)))
        x = self.relu5(self.bn5(self.conv5(x)))  # (B, 64, 8, 8)
        return self.head(self.average(x).flatten(1))


def load() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The training and the test part, 80 and 20 % of every digit: float32 pixels (N, 1, SIZE, SIZE), int64 (N,)."""
    digits = load_digits()
    small = np.repeat(digits.images[..., None] / 16, 3, axis=-1).astype(np.float32)  # (N, 8, 8, 3)
    pixels = image.batch(*(image.fit(picture, (SIZE, SIZE), channels=1)[0] for picture in small))
    labels = digits.target.astype(np.int64)
    kept, held_out = train_test_split(np.arange(len(labels)), test_size=0.2, random_state=SPLIT_SEED, stratify=labels)
    return (pixels[kept], labels[kept]), (pixels[held_out], labels[held_out])


def augment(batch: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Turn by up to 12 degrees, scale by up to 10 % and shift by up to 2 pixels; black comes in from outside."""
    b = len(batch)
    uniform = lambda limit: (torch.rand(b, generator=rng) * 2 - 1) * limit  # noqa: E731
    angle, scale = uniform(math.radians(12)), 1 + uniform(0.1)
    rows = [scale * angle.cos(), -scale * angle.sin(), uniform(4 / SIZE), scale * angle.sin(), scale * angle.cos()]
    theta = torch.stack([*rows, uniform(4 / SIZE)], dim=1).view(b, 2, 3)
    return F.grid_sample(batch, F.affine_grid(theta, list(batch.shape), align_corners=False), align_corners=False)


def accuracy(net: nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of normalised pictures whose largest logit is the label's."""
    net.eval()
    with torch.inference_mode():
        right = (net(pictures).argmax(1) == labels).float().mean().item()
    net.train()
    return right


Change = Callable[[nn.Module, torch.Tensor, torch.Tensor, float, float], torch.Tensor]


def train(
    epochs: int, seed: int, log: pathlib.Path, change: Change | None = None
) -> tuple[nn.Module, float, float, float]:
    """AdamW, one warm-up and one cosine, label smoothing.

    change: makes each batch harder: (net, pixels, labels, mean, std) to pixels.
    Returns the net after the last epoch, its test accuracy, and the mean and std of the training pixels.
    """
    torch.set_num_threads(1)  # sums are in the same order whatever the number of cores
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    (pictures, labels), (test_pictures, test_labels) = load()
    mean, std = round(float(pictures.mean()), 4), round(float(pictures.std()), 4)
    pictures, labels = torch.from_numpy(pictures), torch.from_numpy(labels)
    held_out = (torch.from_numpy(test_pictures) - mean) / std, torch.from_numpy(test_labels)
    net = Network()
    batch = 64
    steps = epochs * (len(labels) // batch)
    optimizer = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps + 1, pct_start=0.2)
    with log.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["epoch", "loss", "train_accuracy", "test_accuracy", "seconds"])
        for epoch in range(epochs):
            start, losses, right = time.perf_counter(), 0.0, 0
            order = torch.randperm(len(labels), generator=rng)[: len(labels) // batch * batch].view(-1, batch)
            for chosen in order:
                x, y = augment(pictures[chosen], rng), labels[chosen]
                if change is not None:
                    x = change(net, x, y, mean, std)
                out = net((x - mean) / std)
                loss = F.cross_entropy(out, y, label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                losses += loss.item()
                right += (out.argmax(1) == y).sum().item()
            row = [epoch, losses / len(order), right / order.numel(), accuracy(net, *held_out)]
            rows.writerow([*(round(v, 4) for v in row), round(time.perf_counter() - start, 1)])
            print(", ".join(f"{v:.4g}" for v in row), flush=True)
    return net.eval(), row[-1], mean, std


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "digits.onnx")
    options = parser.parse_args()
    net, reached, mean, std = train(options.epochs, options.seed, options.out.with_suffix(".csv"))
    metadata = Metadata(
        labels=tuple("0123456789"),
        input_size=(SIZE, SIZE),
        mean=(mean,),
        std=(std,),
        source=SOURCE,
        licence=LICENCE,
        accuracy=f"{reached:.2%} of 360 test pictures (20 %, stratified, the same writers as in training).",
    )
    export(net, options.out, metadata, channels=1)


if __name__ == "__main__":
    main()

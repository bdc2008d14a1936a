"""Train the embedded photograph network and write exported_models/imagenette.onnx.

    python exported_models/train_imagenette.py FOLDER
    python exported_models/train_imagenette.py FOLDER --export-only imagenette.pt

A residual net (He et al. 2015, arXiv:1512.03385) small enough to ship: a 7x7 stem whose kernels are worth looking at,
six blocks, global average pooling and one linear layer, so that class activation maps are exact (Zhou et al. 2016).
The last map has stride 16 instead of the usual 32: at 160 pixels it is 10x10, fine enough to see where the evidence is.

The same seed gives the same network on the same machine with the same number of threads.
"""

import argparse
import csv
import io
import math
import pathlib
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from engine.model.metadata import Metadata  # noqa: E402
from engine.nets.export import export  # noqa: E402

SIZE = 160  # what the shipped network is given; it trains on smaller pictures, which is faster and no worse
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SOURCE = (
    "Imagenette (fast.ai), ten ImageNet classes at 160x160, split anew: nine tenths for training, one tenth held out. "
    "Trained from scratch by exported_models/train_imagenette.py."
)
LICENCE = (
    "Data: Imagenette, Apache-2.0; its photographs: ImageNet's, for non-commercial research. Network: the project's."
)


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; where the resolution halves, the shortcut averages instead of skipping."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.bn2.weight)  # each block starts as the identity (Goyal et al. 2017, arXiv:1706.02677)
        shortcut: list[nn.Module] = []
        if stride != 1:
            shortcut.append(nn.AvgPool2d(stride))
        if inputs != outputs:
            shortcut += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Network(nn.Module):
    """Normalised pictures (B, 3, H, W) to logits (B, classes)."""

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 32, 7, 2, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.blocks = nn.Sequential(
            Block(32, 64, 1),
            Block(64, 64, 1),
            Block(64, 128, 2),
            Block(128, 128, 1),
            Block(128, 256, 2),
            Block(256, 256, 1),
        )
        self.head = nn.Linear(256, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.stem(x))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


def load(file: pathlib.Path) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Read a Parquet file of encoded pictures: uint8 (N, 3, SIZE, SIZE), int64 (N,), the labels' names."""
    import pyarrow.parquet as pq
    from PIL import Image

    rows = pq.read_table(file, columns=["image", "label", "label_name"]).to_pydict()
    pictures = np.empty((len(rows["label"]), 3, SIZE, SIZE), np.uint8)
    for i, data in enumerate(rows["image"]):
        encoded = data["bytes"] if isinstance(data, dict) else data
        picture = Image.open(io.BytesIO(encoded)).convert("RGB")
        if picture.size != (SIZE, SIZE):
            picture = picture.resize((SIZE, SIZE), Image.BILINEAR)
        pictures[i] = np.asarray(picture).transpose(2, 0, 1)
    names = dict(zip(rows["label"], rows["label_name"], strict=True))
    return torch.from_numpy(pictures), torch.tensor(rows["label"]), [names[k] for k in sorted(names)]


def augment(batch: torch.Tensor, size: int, rng: torch.Generator) -> torch.Tensor:
    """Random crop (25 to 100 % of the area), mirror, brightness, contrast, saturation; uint8 in, normalised out."""
    b = len(batch)
    rand = lambda: torch.rand(b, generator=rng)  # noqa: E731
    area, aspect = 0.25 + 0.75 * rand(), torch.exp((rand() * 2 - 1) * math.log(4 / 3))
    h, w = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0] = w * torch.where(rand() < 0.5, -1.0, 1.0)
    theta[:, 1, 1] = h
    theta[:, 0, 2] = (rand() * 2 - 1) * (1 - w)
    theta[:, 1, 2] = (rand() * 2 - 1) * (1 - h)
    grid = F.affine_grid(theta, (b, 3, size, size), align_corners=False)
    x = F.grid_sample(batch.float() / 255, grid, align_corners=False, padding_mode="reflection")
    column = lambda strength: 1 + strength * (rand() * 2 - 1).view(-1, 1, 1, 1)  # noqa: E731
    x = x * column(0.3)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * column(0.3) + mean
    grey = x.mean(1, keepdim=True)
    return normalise(((x - grey) * column(0.4) + grey).clamp(0, 1))


def normalise(x: torch.Tensor) -> torch.Tensor:
    x = (x - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    return x.contiguous(memory_format=torch.channels_last)


def accuracy(net: nn.Module, pictures: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of pictures whose largest logit is the label's, in full precision."""
    net.eval()
    with torch.inference_mode():
        right = sum(
            (net(normalise(pictures[i : i + 64].float() / 255)).argmax(1) == labels[i : i + 64]).sum().item()
            for i in range(0, len(labels), 64)
        )
    net.train()
    return right / len(labels)


def train(folder: pathlib.Path, epochs: int, seed: int, log: pathlib.Path) -> tuple[nn.Module, float, list[str]]:
    """Nesterov SGD, one warm-up and one cosine, label smoothing.

    Returns a running mean of the weights, which is what ships, its accuracy on the held-out part, and the labels.
    """
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    pictures, labels, names = load(folder / "train.parquet")
    held_out = load(folder / "val.parquet")[:2]
    net = Network(len(names)).to(memory_format=torch.channels_last)
    average = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.998), use_buffers=True
    )
    decayed = [p for p in net.parameters() if p.ndim > 1]
    free = [p for p in net.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 5e-4}, {"params": free, "weight_decay": 0.0}]
    batch, peak = 64, 0.1
    steps = epochs * (len(labels) // batch)
    optimizer = torch.optim.SGD(groups, lr=peak, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        peak,
        total_steps=steps + 1,
        pct_start=0.15,
        cycle_momentum=False,
        div_factor=20,
        final_div_factor=500,
    )
    with log.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["epoch", "pixels", "loss", "train_accuracy", "val_accuracy", "seconds"])
        for epoch in range(epochs):
            start, losses, right = time.perf_counter(), 0.0, 0
            size = 96 if epoch < 0.4 * epochs else 128
            order = torch.randperm(len(labels), generator=rng)[: len(labels) // batch * batch].view(-1, batch)
            for chosen in order:
                x, y = augment(pictures[chosen], size, rng), labels[chosen]
                with torch.autocast("cpu", torch.bfloat16):
                    out = net(x)
                loss = F.cross_entropy(out.float(), y, label_smoothing=0.1)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                average.update_parameters(net)
                losses += loss.item()
                right += (out.argmax(1) == y).sum().item()
            row = [epoch, size, losses / len(order), right / order.numel(), accuracy(average.module, *held_out)]
            rows.writerow([*(round(v, 4) for v in row), round(time.perf_counter() - start, 1)])
            file.flush()
            print(", ".join(f"{v:.4g}" for v in row), flush=True)
            if epoch % 5 == 4:
                torch.save(average.module.state_dict(), log.with_suffix(".pt"))
    return average.module.eval(), row[-1], names


def restore(folder: pathlib.Path, checkpoint: pathlib.Path) -> tuple[nn.Module, float, list[str]]:
    """What `train` returns, from the weights that it saved."""
    pictures, labels, names = load(folder / "val.parquet")
    net = Network(len(names)).to(memory_format=torch.channels_last)
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    reached = accuracy(net, pictures, labels)
    return net.eval(), reached, names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="holds train.parquet and val.parquet")
    parser.add_argument("--epochs", type=int, default=70)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "imagenette.onnx")
    parser.add_argument("--export-only", type=pathlib.Path, metavar="CHECKPOINT", help="weights of an earlier run")
    options = parser.parse_args()
    if options.export_only:
        net, reached, names = restore(options.folder, options.export_only)
    else:
        net, reached, names = train(options.folder, options.epochs, options.seed, options.out.with_suffix(".csv"))
        torch.save(net.state_dict(), options.out.with_suffix(".pt"))
    metadata = Metadata(
        labels=tuple(names),
        input_size=(SIZE, SIZE),
        mean=MEAN,
        std=STD,
        crop=1.0,
        source=SOURCE,
        licence=LICENCE,
        accuracy=f"{reached:.2%} of the held-out photographs (validation part; no other part was kept for testing).",
    )
    export(net, options.out, metadata)
    print(f"{options.out}: {metadata.accuracy}")


if __name__ == "__main__":
    main()

"""Train a VGG-16 whose maps mean something, for the approximate occlusion of benchmarks/occlusion.py.

    python -m benchmarks.train_vgg16 FOLDER WEIGHTS

Maps of random weights are noise, which no coarser grid can follow, and torchvision's weights need a download. This is
its VGG-16 (Simonyan & Zisserman 2014, arXiv:1409.1556) with ten classes, trained on Imagenette with normalisation
behind each convolution (as `vgg16_bn`) and an average in place of the two large layers, which is quicker to learn. Both
are then written as weights of vgg16's own graph, which computes the same. Half an hour where the processor has matrix
units for bfloat16, hours where it has none.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval
from torchvision.models import vgg16, vgg16_bn

from exported_models.train_imagenette import accuracy, augment, load

SIDES = (64,) * 8 + (96,) * 3 + (128,)  # pixels, epoch by epoch
BATCH, PEAK, SEED = 64, 0.05, 0


def train(folder: Path) -> tuple[nn.Module, nn.Module]:
    """The convolutions of `vgg16_bn` and a linear layer on their mean, for folder/train.parquet; Nesterov SGD."""
    torch.manual_seed(SEED)
    rng = torch.Generator().manual_seed(SEED)
    pictures, labels, names = load(folder / "train.parquet")
    held_out = load(folder / "val.parquet")[:2]
    features, head = vgg16_bn().features, nn.Linear(512, len(names))
    net = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=PEAK, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(SIDES) * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK, total_steps=steps + 1, pct_start=0.2, cycle_momentum=False
    )
    for epoch, side in enumerate(SIDES):
        losses = 0.0
        order = torch.randperm(len(labels), generator=rng)[: len(labels) // BATCH * BATCH].view(-1, BATCH)
        for chosen in order:
            with torch.autocast("cpu", torch.bfloat16):
                out = net(augment(pictures[chosen], side, rng))
            loss = F.cross_entropy(out.float(), labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += loss.item()
        click.echo(f"Epoch {epoch}, {side} pixels: loss {losses / len(order):.3f}")
    with torch.autocast("cpu", torch.bfloat16):
        click.echo(f"{accuracy(net, *held_out):.1%} of the held-out pictures are right.")
    net.eval()
    return features, head


def folded(features: nn.Module, head: nn.Linear) -> nn.Module:
    """The same function as torchvision's `vgg16`: no normalisation, and three linear layers on 7 x 7 places."""
    plain = vgg16(num_classes=head.out_features).eval()
    kept, layers = [], list(features)
    for layer, after in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d):
            kept.append(fuse_conv_bn_eval(layer, after))
        elif not isinstance(layer, nn.BatchNorm2d):
            kept.append(layer)
    plain.features.load_state_dict(nn.Sequential(*kept).state_dict())
    channels = head.in_features
    first, second, last = (layer for layer in plain.classifier if isinstance(layer, nn.Linear))
    with torch.no_grad():
        for layer in (first, second, last):
            layer.weight.zero_()
            layer.bias.zero_()
        mean = torch.eye(channels).repeat_interleave(49, 1) / 49  # of each channel; none is negative, so ReLU keeps it
        first.weight[:channels] = mean
        second.weight[:channels, :channels] = torch.eye(channels)
        last.weight[:, :channels] = head.weight
        last.bias[:] = head.bias
    return plain


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("weights", type=click.Path(dir_okay=False, path_type=Path))
def main(folder: Path, weights: Path) -> None:
    """Train on FOLDER's train.parquet and write a state dict for torchvision's vgg16 to WEIGHTS."""
    features, head = train(folder)
    plain = folded(features, head)
    x = torch.rand(2, 3, 224, 224)
    with torch.inference_mode():
        wanted = head(features(x).mean((2, 3)))
        apart = float((plain(x) - wanted).abs().max())
    assert apart < 1e-3, f"Folding changed the scores by {apart:.1e}."
    torch.save(plain.state_dict(), weights)
    click.echo(f"Written to {weights}.")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.train_vgg16")

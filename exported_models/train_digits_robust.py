"""Train the digit network that is hard to fool, and write exported_models/digits_robust.onnx.

    python exported_models/train_digits_robust.py

The network and its pictures are those of train_digits.py; only what it is trained on differs: each batch is attacked
first (Madry et al. 2017, arXiv:1706.06083, equation 2.1), so that it learns to be right on the worst picture in a ball
and not on the one in its middle. The ball is of L∞ and grows to its full radius over the first epochs: a new network
that only sees the worst learns nothing.

The same seed gives the same network on the same machine: it trains on one thread.
"""

import argparse
import pathlib
import sys

import torch
import torch.nn.functional as F
from torch import nn

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import train_digits  # noqa: E402

from engine.model.metadata import Metadata  # noqa: E402
from engine.nets.export import export  # noqa: E402

EPSILON = 0.22  # the radius in pixel values; a little more than the 0.2 that it is to stand
STEPS = 7  # of the attack
GROWING = 0.4  # share of the training in which the ball grows


def attacked(
    net: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, mean: float, std: float, epsilon: float
) -> torch.Tensor:
    """Pictures (B, 1, H, W) of [0, 1], as far as epsilon from those given, that the net finds harder: PGD in L∞.

    The net stays in its mode: while it trains, it is attacked as it is trained, with the batch's own statistics.
    """
    x = (pixels + torch.empty_like(pixels).uniform_(-epsilon, epsilon)).clamp(0, 1)
    for _ in range(STEPS):
        x.requires_grad_()
        loss = F.cross_entropy(net((x - mean) / std), labels)
        (gradient,) = torch.autograd.grad(loss, x)
        x = x.detach() + 2.5 * epsilon / STEPS * gradient.sign()
        x = torch.min(torch.max(x, pixels - epsilon), pixels + epsilon).clamp(0, 1)
    return x.detach()


def growing(batches: int) -> train_digits.Change:
    """For `train_digits.train`: the attack, in a ball that grows over the first batches."""
    seen = 0

    def change(net: nn.Module, pixels: torch.Tensor, labels: torch.Tensor, mean: float, std: float) -> torch.Tensor:
        nonlocal seen
        seen += 1
        return attacked(net, pixels, labels, mean, std, EPSILON * min(seen / batches, 1.0))

    return change


def standing(net: nn.Module, mean: float, std: float, epsilon: float) -> float:
    """Share of the test pictures on which the net stays right in a ball of that radius."""
    _, (pictures, labels) = train_digits.load()
    pixels, labels = torch.from_numpy(pictures), torch.from_numpy(labels)
    harder = attacked(net.eval(), pixels, labels, mean, std, epsilon)
    return train_digits.accuracy(net, (harder - mean) / std, labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=80)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "digits_robust.onnx")
    options = parser.parse_args()
    change = growing(int(GROWING * options.epochs) * 22)
    net, reached, mean, std = train_digits.train(options.epochs, options.seed, options.out.with_suffix(".csv"), change)
    stands = standing(net, mean, std, 0.2)
    net.eval()
    print(f"{reached:.2%} as they are, {stands:.2%} under attack")
    metadata = Metadata(
        labels=tuple("0123456789"),
        input_size=(train_digits.SIZE, train_digits.SIZE),
        mean=(mean,),
        std=(std,),
        source=train_digits.SOURCE.replace("train_digits.py", "train_digits_robust.py"),
        licence=train_digits.LICENCE,
        accuracy=f"{reached:.2%} of 360 test pictures (20 %, stratified, the same writers as in training), and "
        f"{stands:.2%} of them under PGD of {STEPS} steps within 0.2 in L∞.",
    )
    export(net, options.out, metadata, channels=1)


if __name__ == "__main__":
    main()

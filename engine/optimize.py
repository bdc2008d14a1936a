"""What does a picture become when it is changed, step by step, so that one number rises?

The one loop behind every picture that this project makes: a target (what is climbed), a view (what the network is
shown of the picture), a move (how to step), a keep (where to stay). Class and unit maximization, DeepDream, inversion,
texture and style transfer are `ascend` with other arguments.

What is climbed need not be pixels: `through` turns x, whatever it is, into pixels (engine/canvas.py, or a generator).
Everything random is drawn from (seed, step), so that a run can be taken up where it stopped and ends as if it never
had.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.net import Net
from engine.step import Step
from engine.target import Target

Through = Callable[[torch.Tensor], torch.Tensor]  # x → pixels (B, C, H, W) in [0, 1]
View = Callable[[torch.Tensor, int], torch.Tensor]  # pixels, step → what the network is shown
Move = Callable[[torch.Tensor, torch.Tensor, Any], tuple[torch.Tensor, Any]]  # x, gradient, memory → x, memory
Keep = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]  # x, gradient, step → x
Penalty = Callable[[torch.Tensor], torch.Tensor]  # pixels (B, C, H, W) → (B,), taken off the score


@dataclass(frozen=True)
class Climb:
    """Where a run stands. pixels: (B, H, W, C) in [0, 1]. scores: (n, B), the target before each of n steps.

    x, memory: what `ascend` needs to go on; of no use for anything else.
    """

    pixels: np.ndarray
    scores: np.ndarray
    x: torch.Tensor = field(repr=False)
    memory: Any = field(repr=False, default=None)

    @property
    def picture(self) -> np.ndarray:
        """(H, W, C): the first of the pictures, which mostly is the only one."""
        return self.pixels[0]


def ascend(
    target: Target,
    x: torch.Tensor,
    *,
    net: Net,
    steps: int,
    move: Move,
    through: Through = lambda x: x,
    view: View = lambda pixels, index: pixels,
    keep: Keep = lambda x, gradient, index: x,
    penalty: Penalty | None = None,
    ops: dict[str, Callable] | None = None,
    resume: Climb | None = None,
) -> Iterator[Step]:
    """Climb `target`, `steps` times, from x (B, …); yields Step with a Climb after each.

    penalty: a number per picture that is climbed down along with it; it is not part of the reported scores. ops: as in
    Twin, for the gradient. resume: go on from where a run with the same arguments stopped.
    Raises NoGradient, and ValueError where the score stops being a number.
    """
    memory, scores = None, []
    if resume is not None:
        x, memory, scores = resume.x, resume.memory, list(resume.scores)
    x = x.detach().requires_grad_()
    pixels = through(x)
    for index in range(len(scores), steps):
        score = target.value(net.twin(view(pixels, index), target.names, ops=ops))
        loss = score if penalty is None else score - penalty(pixels)
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        scores.append(score.detach().numpy())
        if not np.isfinite(scores[-1]).all():
            raise ValueError("The score is no longer a number: the steps are too large for this target.")
        with torch.no_grad():
            x, memory = move(x.detach(), gradient, memory)
            x = keep(x, gradient, index)
        x = x.detach().requires_grad_()
        pixels = through(x)  # of which the next step takes the gradient
        yield Step(index + 1, steps, Climb(shown(pixels), np.stack(scores), x.detach(), memory))


def abreast(runs: Sequence[Iterator[Step]]) -> Iterator[Step]:
    """Several runs of as many steps, each with pictures of its own, as one: a Step with all of them after each.

    More pictures at a time than stay in the processor's cache are slower, and not faster, than fewer. Of moves that
    remember nothing.
    """
    for steps in zip(*runs, strict=True):
        pixels, scores, x = zip(*((s.result.pixels, s.result.scores, s.result.x) for s in steps), strict=True)
        climb = Climb(np.concatenate(pixels), np.concatenate(scores, 1), torch.cat(x))
        yield Step(steps[0].index, steps[0].total, climb)


def part(climb: Climb | None, some: slice) -> Climb | None:
    """Some of the pictures of a run of `abreast`, to go on with."""
    return climb and Climb(climb.pixels[some], climb.scores[:, some], climb.x[some])


def tensor(images: np.ndarray) -> torch.Tensor:
    """(B, C, H, W), the channels last in memory, from a picture (H, W, C) or several (B, H, W, C)."""
    images = np.asarray(images, np.float32)
    return torch.from_numpy(np.array(images if images.ndim == 4 else images[None])).permute(0, 3, 1, 2)


def shown(pixels: torch.Tensor) -> np.ndarray:
    """(B, H, W, C) in [0, 1] from pixels (B, C, H, W); a copy."""
    return np.ascontiguousarray(pixels.detach().permute(0, 2, 3, 1).clamp(0, 1).numpy(), np.float32).copy()


def drawn(seed: int, index: int) -> np.random.Generator:
    """The random numbers of one step, the same whenever it is taken."""
    return np.random.default_rng((seed, index))


# How to step ----------------------------------------------------------------------------------------------------------


def by_gradient(rate: float) -> Move:
    """x + rate · gradient."""
    return lambda x, gradient, memory: (x + rate * gradient, None)


def by_direction(rate: float) -> Move:
    """x + rate · gradient, brought to a mean absolute value of 1 in each picture.

    So the step's size hangs neither on the network's scale nor on how far the climb has come (Mordvintsev 2015).
    """

    def move(x, gradient, memory):
        size = gradient.abs().mean(tuple(range(1, x.ndim)), keepdim=True)
        return x + rate * gradient / size.clamp(min=1e-20), None

    return move


def by_sign(rate: float) -> Move:
    """x + rate · sign of the gradient (Goodfellow 2014)."""
    return lambda x, gradient, memory: (x + rate * gradient.sign(), None)


def by_length(rate: float) -> Move:
    """x + rate · gradient, brought to an L2 norm of 1 in each picture."""

    def move(x, gradient, memory):
        size = gradient.flatten(1).norm(dim=1)[:, None, None, None]
        return x + rate * gradient / size.clamp(min=1e-20), None

    return move


def by_adam(rate: float, decays: tuple[float, float] = (0.9, 0.999), epsilon: float = 1e-8) -> Move:
    """Kingma & Ba 2014, arXiv:1412.6980, algorithm 1."""

    def move(x, gradient, memory):
        first, second, count = memory or (torch.zeros_like(x), torch.zeros_like(x), 0)
        count += 1
        first = torch.lerp(first, gradient, 1 - decays[0])
        second = torch.lerp(second, gradient * gradient, 1 - decays[1])
        step = first / (1 - decays[0] ** count)
        return x + rate * step / ((second / (1 - decays[1] ** count)).sqrt() + epsilon), (first, second, count)

    return move


def by_lbfgs(rate: float = 1.0, history: int = 20) -> Move:
    """Limited-memory BFGS without a search along the line, as torch's: Nocedal & Wright 2006, algorithm 7.4.

    All pictures of a batch are one x to it. history: how many steps it remembers, each as large as two pictures.
    """

    def move(x, gradient, memory):
        up = gradient.flatten()
        before, pairs = memory or (None, ())
        if before is not None:
            moved, turned = x.flatten() - before[0], before[1] - up  # of the loss, whose gradient is -up
            if (bend := float(moved @ turned)) > 1e-10:
                pairs = (*pairs, (moved, turned, bend))[-history:]
        direction, shares = up.clone(), []
        for moved, turned, bend in reversed(pairs):
            shares.append(float(moved @ direction) / bend)
            direction.sub_(turned, alpha=shares[-1])
        if pairs:
            moved, turned, bend = pairs[-1]
            direction.mul_(bend / float(turned @ turned))
        for (moved, turned, bend), share in zip(pairs, reversed(shares), strict=True):
            direction.add_(moved, alpha=share - float(turned @ direction) / bend)
        first = min(1.0, 1 / max(float(up.abs().sum()), 1e-20)) if before is None else 1.0
        return x + rate * first * direction.view_as(x), ((x.flatten(), up), pairs)

    return move


# Where to stay --------------------------------------------------------------------------------------------------------


def both(*keeps: Keep) -> Keep:
    """One after the other."""

    def keep(x, gradient, index):
        for each in keeps:
            x = each(x, gradient, index)
        return x

    return keep


def in_range(x: torch.Tensor, gradient: torch.Tensor, index: int) -> torch.Tensor:
    """Pixels stay pixels: clipped to [0, 1]."""
    return x.clamp(0, 1)


def in_ball(centre: torch.Tensor, epsilon: float, norm: str) -> Keep:
    """Pixels that are no farther than epsilon from `centre`, in "L∞" or "L2", and in [0, 1].

    In L2 the range is kept first: from inside of it, the straight way back to the centre does not leave it.
    """

    def keep(x, gradient, index):
        if norm == "L∞":
            return torch.clamp(x, centre - epsilon, centre + epsilon).clamp(0, 1)
        change = x.clamp(0, 1) - centre
        size = change.flatten(1).norm(dim=1)[:, None, None, None]
        return centre + change * (epsilon / size.clamp(min=1e-20)).clamp(max=1)

    return keep


def decayed(share: float, towards: torch.Tensor) -> Keep:
    """A share of the way back to a colour (C, 1, 1) after each step: L2 decay."""
    return lambda x, gradient, index: x + share * (towards - x)


def blurred(width: float, every: int) -> Keep:
    """A Gaussian blur of that standard deviation, in pixels, after every so many steps."""

    def keep(x, gradient, index):
        return gaussian(x, width) if width and (index + 1) % every == 0 else x

    return keep


def gaussian(x: torch.Tensor, width: float) -> torch.Tensor:
    """Blur (B, C, H, W) by a Gaussian of that standard deviation; edges are repeated."""
    reach = max(1, math.ceil(3 * width))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=x.dtype) / width) ** 2)
    line = (line / line.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(F.pad(x, (reach, reach, 0, 0), mode="replicate"), line, groups=x.shape[1])
    return F.conv2d(F.pad(x, (0, 0, reach, reach), mode="replicate"), line.transpose(2, 3), groups=x.shape[1])


def without_small(norm: float, contribution: float, towards: torch.Tensor) -> Keep:
    """Pixels of a small norm, or of a small contribution to the score, go to a colour (C, 1, 1).

    norm, contribution: which share of the pixels, in [0, 1), by the distance from that colour and by |distance ·
    gradient| (Yosinski 2015, section 3).
    """

    def keep(x, gradient, index):
        away = x - towards
        for share, size in ((norm, (away**2).sum(1)), (contribution, (away * gradient).sum(1).abs())):
            if share:
                limit = torch.quantile(size.flatten(1), share, dim=1)[:, None, None]
                x = torch.where((size > limit)[:, None], x, towards)
        return x

    return keep


# What a picture costs -------------------------------------------------------------------------------------------------


def total_variation(pixels: torch.Tensor, power: float = 2.0) -> torch.Tensor:
    """(B,): mean over the places of (Δrow² + Δcol²)^(power/2), added over the channels.

    Mahendran & Vedaldi 2014, arXiv:1412.0035, equation 3, whose β is `power`, divided by the number of pixels.
    """
    down, right = pixels[:, :, 1:, :-1] - pixels[:, :, :-1, :-1], pixels[:, :, :-1, 1:] - pixels[:, :, :-1, :-1]
    squares = down**2 + right**2
    squares = squares if power == 2 else (squares + 1e-12) ** (power / 2)
    return squares.mean((2, 3)).sum(1)


def alpha_norm(pixels: torch.Tensor, mean: torch.Tensor, power: float = 6.0) -> torch.Tensor:
    """(B,): mean over the places of |pixel - mean|^power, added over the channels. The same paper, section 3.2."""
    return ((pixels - mean).abs() ** power).mean((2, 3)).sum(1)

"""What does a picture become when it is changed, step by step, so that one number rises?

The one loop behind every picture that this project makes: a target (what is climbed), a view (what the network is
shown of the picture), a move (how to step), a keep (where to stay). Class and unit maximization, DeepDream, inversion,
texture and style transfer are `ascend` with other arguments.

What is climbed need not be pixels: `through` turns x, whatever it is, into pixels (engine/optimize/canvas.py, or a
generator). Everything random is drawn from (seed, step), so that a run can be taken up where it stopped and ends as if
it never had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from engine.net import Net
from engine.optimize.keeps import Keep, Penalty
from engine.optimize.moves import Move
from engine.step import Step
from engine.target import Target

Through = Callable[[torch.Tensor], torch.Tensor]  # x → pixels (B, C, H, W) in [0, 1]
View = Callable[[torch.Tensor, int], torch.Tensor]  # pixels, step → what the network is shown


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

"""Style transfer by optimisation at 256 pixels: steps beside a plain implementation in PyTorch, of the tutorials' kind.

The same network, pictures, layers and L-BFGS, one pass back and forth per step. The plain one runs the network's
modules in a row up to the last layer, takes the Gram matrices divided by all their numbers and the mean square of the
difference; its weights ask for gradients, as a freshly loaded network's do, or are frozen, as a careful reader would
have them. That both come nearer to the style is asserted before anything is timed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.networks import Pair
from benchmarks.timing import Comparison, alternate
from engine.half import PRECISIONS, has_bfloat16
from engine.image import fit
from engine.paint.gram import distances, scales
from engine.paint.style_transfer import style_transfer
from engine.pictures import samples

GOAL, STEPS, SIZE = 1.5, 10, 256
NAME = "squeezenet1_1"
PLACES = (1, 4, 7, 15)  # of `scales` in the row of modules: the classifier's follow the 13 of the features
CONTENT_WEIGHT, STYLE_WEIGHT = 1.0, 1e6


def compare(pair: Pair, rounds: int) -> Iterator[tuple[str, Comparison]]:
    """(what is compared, seconds for STEPS steps). Raises AssertionError where one gets no nearer."""
    content, style = (fit(samples.load(name), (SIZE, SIZE))[0] for name in ("coffee", "gravel"))
    layers = scales(pair.net)
    assert len(layers) == len(PLACES), layers
    for frozen, precision in itertools.product((False, True), PRECISIONS if has_bfloat16() else PRECISIONS[:1]):
        ours = functools.partial(_ours, pair, content, style, precision)
        theirs = peer(pair.module, content, style, frozen=frozen)
        before, *after = (
            float(np.mean(list(distances(pair.net, made, style, layers).values())))
            for made in (content, ours(), theirs())
        )
        assert max(after) < before, f"{before:.3f} became {after}"
        yield f"{'frozen' if frozen else 'unfrozen'}; {precision}", alternate(ours, theirs, rounds=rounds)


def _ours(pair: Pair, content: np.ndarray, style: np.ndarray, precision: str) -> np.ndarray:
    how = {"size": SIZE, "steps": STEPS, "stages": 1, "start": "picture", "canvas": "pixels", "move": "lbfgs"}
    return style_transfer(pair.net, content, style, precision=precision, **how).picture


def peer(module: torch.nn.Module, content: np.ndarray, style: np.ndarray, *, frozen: bool) -> Callable[[], np.ndarray]:
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    row = [*module.features, *module.classifier][: PLACES[-1] + 1]

    def values(pixels: torch.Tensor) -> list[torch.Tensor]:
        x, found = (pixels - mean) / std, []
        for index, part in enumerate(row):
            x = part(x)
            if index in PLACES:
                found.append(x)
        return found

    def gram(x: torch.Tensor) -> torch.Tensor:
        flat = x.view(x.shape[0] * x.shape[1], -1)
        return flat @ flat.t() / x.numel()

    def made() -> np.ndarray:
        module.requires_grad_(not frozen)
        first, painted = (torch.from_numpy(p.transpose(2, 0, 1)[None].copy()) for p in (content, style))
        with torch.no_grad():
            wanted, kept = [gram(x) for x in values(painted)], values(first)[2]
        pixels = first.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([pixels], max_iter=1, history_size=20)

        def closure() -> torch.Tensor:
            with torch.no_grad():
                pixels.clamp_(0, 1)
            optimizer.zero_grad()
            found = values(pixels)
            loss = STYLE_WEIGHT * sum(F.mse_loss(gram(x), g) for x, g in zip(found, wanted, strict=True))
            loss = loss + CONTENT_WEIGHT * F.mse_loss(found[2], kept)
            loss.backward()
            return loss

        for _ in range(STEPS):
            optimizer.step(closure)
        module.requires_grad_(False)
        return pixels.detach().clamp(0, 1)[0].numpy().transpose(1, 2, 0).copy()

    return made

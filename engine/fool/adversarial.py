"""Which change, too small to see, makes the network say something else?

Goodfellow, Shlens, Szegedy 2014, arXiv:1412.6572 (FGSM: one step along the sign of the gradient); Madry et al. 2017,
arXiv:1706.06083 (PGD: many small ones, each followed by the way back into the ball); Moosavi-Dezfooli et al. 2015,
arXiv:1511.04599, algorithm 2 (DeepFool: to the nearest border, as if all borders were straight); Carlini & Wagner 2016,
arXiv:1608.04644, section V (the smallest L2 norm, by Adam, on a variable that cannot leave the range).

It is for understanding and testing one's own networks. What counts is the picture as it is saved, in 8 bits: all of
these give such pictures, with the ball kept after rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engine.net import Net
from engine.step import Step, last
from engine.target import Target

if TYPE_CHECKING:
    import torch

    from engine.optimize.ascend import Climb
    from engine.optimize.moves import Move

METHODS = ("PGD", "FGSM", "DeepFool", "Carlini-Wagner")
NORMS = ("L∞", "L2")
AIMS = ("away", "toward")
CANDIDATES = 10  # classes whose borders DeepFool looks at, the likeliest ones, as in the paper
OVERSHOOT = 0.02  # DeepFool's, beyond the border
BEYOND = 1e-4  # logits that it goes beyond the border before that
ROUNDS = 5  # of Carlini & Wagner's search for the weight of the margin
INSIDE = 0.999  # share of the range that it starts in: from black and white themselves no gradient leads away
TOGETHER = 10  # pictures of a batch that PGD sends through the network at a time: no more stay in the cache
HALVINGS = 12  # of the interval in which the factor is looked for that makes a rounded change as long as it may be
FIRST_WEIGHT = 1.0  # in which it begins; each round multiplies or divides it by 10, or halves the interval


def adversarial(
    net: Net,
    image: np.ndarray,
    target: int,
    *,
    aim: str = "away",
    method: str = "PGD",
    norm: str = "L∞",
    epsilon: float = 8 / 255,
    steps: int = 40,
    rate: float | None = None,
    random_start: bool = True,
    seed: int = 0,
) -> Climb:
    """A picture near this one that is taken for something else.

    image: (H, W, C) pixels of the net's own size; it is rounded to 8 bits first. target: a class. aim: "away" from it,
    or "toward" it. method: one of METHODS. norm: one of NORMS, in which epsilon is measured; Carlini & Wagner's is L2.
    epsilon: in pixel values, of 0 to 1; for L2 the root of the sum of the squares. DeepFool and Carlini-Wagner look for
    the smallest change by themselves and have none. steps: of PGD and DeepFool, and of each of the rounds of
    Carlini-Wagner. rate: of a step, in pixel values; by default 2.5 · epsilon / steps, and 0.05 for Carlini-Wagner's
    Adam. random_start: whether PGD starts from anywhere in the ball. seed: of that.
    Returns Climb, whose pixels are in 8 bits; its scores are log-probabilities, "away" with a minus, or margins in
    logits for DeepFool and Carlini-Wagner.
    Raises UnknownClass, NoGradient, ValueError.
    """
    knobs = dict(locals())
    return last(adversarial_steps(**knobs))


def adversarial_steps(
    net: Net,
    image: np.ndarray,
    target: int,
    *,
    aim: str = "away",
    method: str = "PGD",
    norm: str = "L∞",
    epsilon: float = 8 / 255,
    steps: int = 40,
    rate: float | None = None,
    random_start: bool = True,
    seed: int = 0,
    resume: Climb | None = None,
) -> Iterator[Step]:
    """`adversarial`, a Step with a Climb after each; resume: go on from one of the same run."""
    how = {"aim": aim, "method": method, "norm": norm, "epsilon": epsilon, "steps": steps, "rate": rate}
    how |= {"random_start": random_start, "seed": seed, "resume": resume}
    yield from attack(net, net.stack(image), [net.class_index(target)], **how)


def attack(
    net: Net,
    images: np.ndarray,
    classes: Sequence[int],
    *,
    aim: str = "away",
    method: str = "PGD",
    norm: str = "L∞",
    epsilon: float = 8 / 255,
    steps: int = 40,
    rate: float | None = None,
    random_start: bool = True,
    seed: int = 0,
    resume: Climb | None = None,
    each: bool = True,
) -> Iterator[Step]:
    """The same for several pictures (B, H, W, C) and a class for each, as one batch; yields Step with a Climb.

    each: whether PGD's pictures are in 8 bits after every step, or, where nobody looks on, only after the last one.
    """
    from engine.optimize import ascend, keeps, moves

    if method not in METHODS or norm not in NORMS or aim not in AIMS:
        raise ValueError(
            f"An attack is one of {', '.join(METHODS)}, in {' or '.join(NORMS)}, and {' or '.join(AIMS)} a class."
        )
    if not epsilon >= 0:
        raise ValueError("Epsilon is how far a picture may be changed; give a number of at least 0.")
    original = eight_bit(images)
    if method == "DeepFool":
        yield from _deepfool(net, original, classes, aim, norm, steps, resume)
        return
    if method == "Carlini-Wagner":
        yield from _carlini_wagner(net, original, classes, aim, steps, rate or 0.05, resume)
        return
    steps = 1 if method == "FGSM" else steps
    rate = epsilon if method == "FGSM" else rate or 2.5 * epsilon / steps
    centre = ascend.tensor(original)
    x = centre
    if method == "PGD" and random_start and resume is None:
        x = keeps.in_ball(centre, epsilon, norm)(centre + _somewhere(centre, epsilon, norm, seed), x, 0)
    runs = []
    for first in range(0, len(x), TOGETHER):
        some = slice(first, first + TOGETHER)
        target = log_probability(net, classes[some])
        run = ascend.ascend(
            target if aim == "toward" else -1 * target,
            x[some],
            net=net,
            steps=steps,
            move=(moves.by_sign if norm == "L∞" else moves.by_length)(rate),
            keep=keeps.in_ball(centre[some], epsilon, norm),
            resume=ascend.part(resume, some),
        )
        runs.append(run)
    for step in ascend.abreast(runs):
        if not each and step.index < steps:
            yield step
            continue
        pixels = as_saved(step.result.pixels, original, epsilon, norm)
        yield replace(step, result=replace(step.result, pixels=pixels))


# Pictures as they are saved -------------------------------------------------------------------------------------------


def eight_bit(pixels: np.ndarray) -> np.ndarray:
    """The same in steps of 1/255, as a PNG has them."""
    return (np.rint(np.clip(pixels, 0, 1) * 255) / 255).astype(np.float32)


def as_saved(pixels: np.ndarray, original: np.ndarray, epsilon: float, norm: str) -> np.ndarray:
    """(B, H, W, C) in steps of 1/255, not farther than epsilon from the original, which is in such steps itself."""
    start = np.rint(original.astype(np.float64) * 255)
    change = np.clip(pixels.astype(np.float64), 0, 1) * 255 - start
    if norm == "L∞":
        most = np.floor(epsilon * 255 + 1e-6)
        change = np.rint(change).clip(-most, most)
    else:
        change = _rounded(change, start, epsilon * 255)
    return ((start + change) / 255).astype(np.float32)


def _rounded(change: np.ndarray, start: np.ndarray, most: float) -> np.ndarray:
    """The change (B, H, W, C) in whole numbers, as long as it was before, or as `most`, but never longer.

    Rounding makes a long row of small numbers much longer or shorter than it was. So what is rounded is a multiple of
    the change, the largest one that fits, found by halving: the length can only grow with it.
    """
    size = lambda numbers: np.sqrt((numbers**2).sum((1, 2, 3), keepdims=True))  # noqa: E731
    times = lambda factor: np.rint(change * factor).clip(-start, 255 - start)  # noqa: E731
    length = size(change)
    limit = np.minimum(length, most) + 1e-6
    low = np.zeros_like(length)
    # Where the numbers are of 2 on the average, or twice what they were, it is too long for certain.
    high = 2 * np.maximum(np.sqrt(change[0].size) / np.maximum(length, 1e-9), 1)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = size(times(middle)) <= limit
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return times(low)


def distances(pixels: np.ndarray, original: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """((B,) L∞, (B,) L2) of the change of pictures (B, H, W, C), in pixel values of 0 to 1."""
    change = (pixels.astype(np.float64) - original).reshape(len(pixels), -1)
    return np.abs(change).max(1), np.sqrt((change**2).sum(1))


# What is climbed ------------------------------------------------------------------------------------------------------


def log_probability(net: Net, classes: Sequence[int]) -> Target:
    """Of a batch as long as `classes`: of the b-th picture the logarithm of its class's softmax probability."""
    import torch

    def value(values):
        logits = torch.as_tensor(values[net.logits]).reshape(len(classes), -1)
        return torch.log_softmax(logits, 1)[range(len(classes)), list(classes)]

    return Target((net.logits,), value, "log-probability of a class", "log-probability")


def margin(net: Net, classes: Sequence[int], aim: str, most: float = float("inf")) -> Target:
    """Of a batch as long as `classes`: how far the b-th picture is beyond the border that it is to cross, in logits.

    Toward: its class's logit less the largest other; away: the opposite. most: what more does not count (the
    confidence κ of Carlini & Wagner, equation 6 of section V.A).
    """
    import torch

    def value(values):
        logits = torch.as_tensor(values[net.logits]).reshape(len(classes), -1)
        own = torch.zeros_like(logits, dtype=torch.bool)
        own[range(len(classes)), list(classes)] = True
        ahead = logits[own] - logits.masked_fill(own, -torch.inf).amax(1)
        return (ahead if aim == "toward" else -ahead).clamp(max=most)

    return Target((net.logits,), value, f"margin {aim} a class", "logits")


def _somewhere(centre, epsilon: float, norm: str, seed: int):
    """A change drawn from the ball: uniform in L∞; in L2, of uniform length along a uniform direction."""
    import torch

    random = np.random.default_rng(seed)
    shape = (len(centre), *np.array(centre.shape)[[2, 3, 1]])
    if norm == "L∞":
        change = random.uniform(-epsilon, epsilon, shape)
    else:
        change = random.standard_normal(shape)
        length = np.sqrt((change**2).sum((1, 2, 3), keepdims=True))
        change = change / length * epsilon * random.random((len(centre), 1, 1, 1))
    return torch.from_numpy(change.astype(np.float32)).permute(0, 3, 1, 2)


# The smallest change --------------------------------------------------------------------------------------------------


def _deepfool(
    net: Net, original: np.ndarray, classes: Sequence[int], aim: str, norm: str, steps: int, resume: Climb | None
) -> Iterator[Step]:
    """Each picture climbs by itself, as many copies of it as there are borders, until its saved version has crossed."""
    from engine.optimize import ascend

    runs = []
    for number, k in enumerate(classes):
        before = ascend.part(resume, slice(number, number + 1))
        runs.append(_to_the_border(net, ascend.tensor(original[number]), k, aim, norm, steps, before))
    yield from ascend.abreast(runs)


def _to_the_border(
    net: Net, centre: torch.Tensor, k: int, aim: str, norm: str, steps: int, resume: Climb | None
) -> Iterator[Step]:
    """DeepFool on one picture (1, C, H, W). It stays where its saved version has crossed; the scores are margins.

    The change is measured from the original, as the paper has it, and made larger by OVERSHOOT; each step starts from
    the saved picture, since rounding may ask for more.
    """
    from engine.optimize import ascend

    copies = 1 if aim == "toward" else min(CANDIDATES, net.classes) - 1

    def saved(x):
        return ascend.tensor(eight_bit(ascend.shown(centre + (1 + OVERSHOOT) * (x - centre))))

    if resume is not None:
        climbed = np.repeat(-np.log(np.maximum(BEYOND - resume.scores, BEYOND / 10)), copies, 1)
        resume = ascend.Climb(resume.pixels, climbed, resume.x.expand(copies, -1, -1, -1))
    crossed, step = margin(net, [k], aim), None
    for step in ascend.ascend(
        _nearness(net, k, aim, copies),
        centre.expand(copies, -1, -1, -1),
        net=net,
        steps=steps,
        view=lambda x, index: x + (saved(x) - x).detach(),
        move=_by_the_nearest(norm, saved),
        resume=resume,
    ):
        x, scores = step.result.x[:1], BEYOND - np.exp(-step.result.scores[:, :1])
        step = replace(step, result=ascend.Climb(ascend.shown(saved(x)), scores, x))
        yield step
        beyond = _measured(net, step.result.pixels, crossed)
        if beyond > 0:
            break
    while step is not None and step.index < steps:
        scores = np.concatenate([step.result.scores, beyond[None]])
        step = replace(step, index=step.index + 1, result=replace(step.result, scores=scores))
        yield step


def _nearness(net: Net, k: int, aim: str, copies: int) -> Target:
    """Of copies of one picture: -log of how many logits are missing up to a border, of each copy to another one.

    With g for the gradient of that, the way to the border, if it were straight, is g/‖g‖²: algorithm 2 of the paper,
    from what a move is given. Where one of the borders has been crossed nothing is missing, and no gradient is left.
    """
    import torch

    def value(values):
        logits = torch.as_tensor(values[net.logits]).reshape(copies, -1)
        others = logits[0].detach().clone()
        others[k] = -torch.inf
        ahead = logits[range(copies), others.argsort(descending=True)[:copies]] - logits[:, k]
        missing = BEYOND - (ahead if aim == "away" else -ahead)
        least = torch.full_like(missing, BEYOND / 10)
        return -torch.log(torch.where((missing > least).all(), missing, least))

    return Target((net.logits,), value, "how near the borders are", "-log logits")


def _by_the_nearest(norm: str, saved: Callable[[torch.Tensor], torch.Tensor]) -> Move:
    """All copies go to the border that is nearest in this norm.

    Pixels that are black or white already go no farther that way, which the paper leaves open.
    """

    def move(x, gradient, memory):
        stands = saved(x)
        gradient = gradient * ~((stands <= 0) & (gradient < 0) | (stands >= 1) & (gradient > 0))
        dual = gradient.flatten(1).norm(1 if norm == "L∞" else 2, dim=1)
        there, steep = gradient[dual.argmax()], dual.max().clamp(min=1e-12)
        return x + (there.sign() if norm == "L∞" else there / steep) / steep, None

    return move


def _measured(net: Net, pixels: np.ndarray, target: Target) -> np.ndarray:
    """(B,) through ONNX Runtime."""
    return np.asarray(target.value({net.logits: net.scores(net.batch(*pixels))}), np.float32)


def _carlini_wagner(
    net: Net, original: np.ndarray, classes: Sequence[int], aim: str, steps: int, rate: float, resume: Climb | None
) -> Iterator[Step]:
    """Minimise ‖change‖² - weight · min(margin, 0), in several rounds with other weights for each picture.

    The best so far, by the L2 norm of the saved picture that has crossed, is what there is to see.
    """
    import torch

    from engine.optimize import ascend, moves

    if resume is not None:
        raise ValueError("A search by rounds cannot be continued; run it again.")
    centre = ascend.tensor(original)
    crossed = margin(net, classes, aim)
    count = len(original)
    weight, low, high = np.full(count, FIRST_WEIGHT), np.zeros(count), np.full(count, np.inf)
    best, shortest, scores = original.copy(), np.full(count, np.inf), []
    x = torch.atanh((2 * centre - 1) * INSIDE)
    through = lambda x: (torch.tanh(x) + 1) / 2  # noqa: E731
    for number in range(ROUNDS):
        scaled = torch.from_numpy(weight.astype(np.float32))
        target = Target(crossed.names, lambda v, w=scaled: w * crossed.value(v).clamp(max=0.1), crossed.title)
        found = np.zeros(count, bool)
        for step in ascend.ascend(
            target,
            x,
            net=net,
            steps=steps,
            move=moves.by_adam(rate),
            through=through,
            penalty=lambda pixels: (pixels - centre).square().sum((1, 2, 3)),
        ):
            saved = eight_bit(step.result.pixels)
            reached = step.result.scores[-1] > 0  # of the picture before the step: near enough to look
            if reached.any() or step.index == steps:
                over, length = _measured(net, saved, crossed) > 0, distances(saved, original)[1]
                better = over & (length < shortest)
                best[better], shortest[better] = saved[better], length[better]
                found |= over
            scores.append(step.result.scores[-1] / weight.astype(np.float32))
            done = number * steps + step.index
            yield Step(done, ROUNDS * steps, ascend.Climb(best.copy(), np.stack(scores), step.result.x))
        high[found], low[~found] = np.minimum(high, weight)[found], np.maximum(low, weight)[~found]
        weight = np.where(np.isfinite(high), (low + high) / 2, weight * 10)

"""Maps of evidence: this engine beside pytorch-grad-cam and Captum, and insertion and deletion beside a loop in torch.

The same weights, picture, class and layer, and the same amount of work: as many steps, noisy copies, channels and
points. The peers are given the normalised picture, so that the network is all they compute. Before anything is timed,
the two results are compared.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import GuidedBackprop, IntegratedGradients, Saliency
from pytorch_grad_cam import AblationCAM, GradCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from benchmarks.networks import Pair
from benchmarks.timing import Comparison, alternate
from engine.explain.ablation_cam import ablation_cam
from engine.explain.faithfulness import GREY, judge, ranking, shown
from engine.explain.grad_cam import grad_cam
from engine.explain.guided_backpropagation import guided_backpropagation
from engine.explain.integrated_gradients import integrated_gradients
from engine.explain.saliency import saliency
from engine.explain.score_cam import score_cam
from engine.half import has_bfloat16
from engine.image import resize
from engine.pictures import samples
from engine.pictures.fill import blank
from engine.target import class_score

PICTURE, STEPS, POINTS = "cat", 32, 32
AT_ONCE = 5  # calls per timing of the quick ones: the first one after the peer's also pays for what that left behind
AGREEMENT = 5e-3  # root mean square of the two results' difference, as a share of that of the peer's result
HALF = 2e-2  # the same for logits that are computed in bfloat16
# Where torchvision's modules put the last map before pooling, which is what Net.last_map finds in the graph.
LAST = {"resnet18": lambda m: m.layer4, "vgg16": lambda m: m.features[29], "squeezenet1_1": lambda m: m.classifier[2]}


@dataclass(frozen=True)
class Case:
    """One method. goal: how many times faster than the peer it ought to be. slow: many passes, so timed less often.

    gradient: for the comparison of results the peer's network computes in double precision. In single precision single
    pixels of both are off, by up to some hundredths, where the input of a ReLU is zero but for rounding.
    """

    what: str
    peer: str
    goal: float
    ours: Callable[[], np.ndarray]
    theirs: Callable[[], np.ndarray]
    slow: bool = False
    gradient: bool = False
    agreement: float = AGREEMENT


def cases(pair: Pair) -> Iterator[Case]:
    """Every comparison on one network."""
    net, module = pair.net, pair.module
    image, _ = net.view(samples.load(PICTURE))
    batch = net.batch(image)
    k = int(net.scores(batch)[0].argmax())
    input_ = torch.from_numpy(net.normalise(batch))
    std = torch.tensor(net.metadata.std)[:, None, None]
    black = torch.from_numpy(net.normalise(np.zeros_like(batch)))
    asked, layer = [ClassifierOutputTarget(k)], [LAST[pair.name](module)]

    def given() -> torch.Tensor:
        return input_.to(next(module.parameters()).dtype, copy=True).requires_grad_()

    def by_gradcam(method: type) -> Callable[[], np.ndarray]:
        made = method(model=module, target_layers=layer)
        made.batch_size = 32
        return lambda: _quietly(lambda: made(input_tensor=given(), targets=asked)[0])

    def largest(found: torch.Tensor) -> np.ndarray:
        return (found / std).abs().amax(1)[0].detach().numpy()  # per pixel value, as ours

    def scaled(found: np.ndarray) -> np.ndarray:
        """As pytorch-grad-cam returns it: stretched over the picture, from 0 to 1."""
        found = resize(found, image.shape[:2])
        return (found - found.min()) / (1e-7 + np.ptp(found))

    plain, guided, integrated = Saliency(module), GuidedBackprop(module), IntegratedGradients(module)

    def by_integration() -> np.ndarray:
        steps = {"n_steps": STEPS, "method": "riemann_middle", "internal_batch_size": 8}
        return integrated.attribute(given(), black.to(given()), target=k, **steps).sum(1)[0].detach().numpy()

    gc = "pytorch-grad-cam"
    yield Case("Grad-CAM", gc, 5, lambda: scaled(grad_cam(net, image, k)), by_gradcam(GradCAM), gradient=True)
    yield Case(
        "saliency",
        "Captum",
        1.2,
        lambda: saliency(net, image, k),
        lambda: largest(plain.attribute(given(), k, abs=False)),
        gradient=True,
    )
    yield Case(
        "guided backpropagation",
        "Captum",
        1.2,
        lambda: guided_backpropagation(net, image, k),
        lambda: _quietly(lambda: largest(guided.attribute(given(), k))),
        gradient=True,
    )
    yield Case(
        f"Integrated Gradients, {STEPS} steps",
        "Captum",
        1.2,
        lambda: integrated_gradients(net, image, k, steps=STEPS, tolerance=np.inf).map,
        by_integration,
        slow=True,
        gradient=True,
    )
    # It stretches the masks from corner to corner, which moves them by up to half a cell of the layer. With trained
    # weights, where few channels have all the say, that shows most.
    by_score = by_gradcam(ScoreCAM)
    yield Case("Score-CAM", gc, 3, lambda: scaled(score_cam(net, image, k)), by_score, True, agreement=1e-1)
    if has_bfloat16():
        half = lambda: scaled(score_cam(net, image, k, precision="bfloat16"))  # noqa: E731
        yield Case("Score-CAM in bfloat16", gc, 3, half, by_score, True, agreement=1e-1)
    yield Case("Ablation-CAM", gc, 3, lambda: scaled(ablation_cam(net, image, k)), by_gradcam(AblationCAM), True)
    yield _curves(pair, image, k, "float32")
    if has_bfloat16():
        yield _curves(pair, image, k, "bfloat16")


def _quietly(call: Callable[[], np.ndarray]) -> np.ndarray:
    """Without the peer's progress bars and warnings, which would also cost it time."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return call()


def _curves(pair: Pair, image: np.ndarray, k: int, precision: str) -> Case:
    """Insertion and deletion of one map, beside the usual loop: a picture at a time through the module."""
    net, module = pair.net, pair.module
    found = resize(grad_cam(net, image, k), image.shape[:2])
    target = class_score(net, k)

    def ours() -> np.ndarray:
        curves = judge(net, image, target, found, points=POINTS, masks=1, precision=precision).curves
        return curves[["deletion", "insertion"]].to_numpy().T

    def theirs() -> np.ndarray:
        order, grey, blurred = ranking(found), blank(image, GREY), blank(image, "blur")
        values = []
        with torch.inference_mode():
            for first, second in ((grey, image), (image, blurred)):
                for fraction in np.linspace(0, 1, POINTS + 1):
                    batch = net.batch(shown(first, second, order, fraction))
                    values.append(float(module(torch.from_numpy(net.normalise(batch)))[0, k]))
        return np.array(values).reshape(2, -1)

    what = f"insertion and deletion, {2 * (POINTS + 1)} pictures"
    if precision == "float32":
        return Case(what, "a loop in torch", 3, ours, theirs, True)
    return Case(f"{what}, in {precision}", "a loop in torch", 3, ours, theirs, True, agreement=HALF)


def compare(pair: Pair, *, rounds: int, slow: bool) -> Iterator[tuple[Case, float, Comparison]]:
    """(case, difference, times) of each; without the slow ones if so wished.

    Raises AssertionError where the two results differ.
    """
    for case in cases(pair):
        if case.slow and not slow:
            continue
        share = difference(case, pair.module)
        assert share <= case.agreement, f"{pair.name}, {case.what}: the results differ by {share:.1e}"
        how = {"rounds": max(rounds // 2, 1)} if case.slow else {"rounds": rounds, "repeats": AT_ONCE}
        yield case, share, alternate(case.ours, case.theirs, **how)


def difference(case: Case, module: torch.nn.Module) -> float:
    """The root mean square of the two results' difference, as a share of that of the peer's."""
    if case.gradient:
        module.double()
    ours, theirs = case.ours(), case.theirs()
    module.float()
    return float(np.sqrt(((ours - theirs) ** 2).mean() / (theirs**2).mean()))

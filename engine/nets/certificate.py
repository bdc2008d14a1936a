"""Is the Twin the same network? Every tensor of the graph, and the gradient, compared with ONNX Runtime.

The gradient is checked without torch on the other side: along some directions, ONNX Runtime's score is read a little
ahead and a little behind (central differences) and compared with what the Twin's gradient predicts.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd

from engine.net import Net
from engine.nets.folder import SHIPPED, home

log = logging.getLogger(__name__)

TENSOR_LIMIT, GRADIENT_LIMIT = 1e-3, 1e-2  # relative
# Lengths in pixel units: long ones meet the kinks of ReLUs, short ones rounding
STEPS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003)
NOISE = 0.02  # pixels: five steps of 8-bit grey
CERTIFICATES = SHIPPED / "certificates"


@dataclass(frozen=True)
class Certificate:
    """What `certificate` found.

    tensor, gradient: the worst relative difference of each part; NaN where it could not be had.
    tensors: how many were compared. reason: why the certificate failed, in a sentence, or "".
    versions: of the two engines that it speaks of.
    """

    tensor: float
    gradient: float
    tensors: int
    reason: str
    versions: str

    @property
    def passed(self) -> bool:
        return not self.reason


def certificate(net: Net, image: np.ndarray) -> pd.DataFrame:
    """Compare the two engines on one picture. Returns a row per tensor, and one per direction of the gradient check.

    image: (H, W, C) pixels of the net's own size. Of a net that rounds to whole numbers, the same net without that is
    compared, by both engines.
    Columns: kind ("tensor" or "gradient"), name, op, shape, largest (of ONNX Runtime's values, absolute), difference
    (largest absolute), relative (difference / largest).
    Raises NoGradient where the graph has an op without a twin, or the Twin fails at it.
    """
    import torch

    twin = net.twin
    net = net.unrounded if net.quantised else net
    x = net.batch(image)
    compared = net.graph.from_input & net.graph.floats
    names = [name for node in net.graph.nodes for name in node.outputs if name in compared]
    theirs = net.activations(x, names)
    with torch.no_grad(), _said(net):
        ours = {name: tensor.numpy() for name, tensor in twin(torch.from_numpy(x), names).items()}
    rows = []
    for name in names:
        a, b = theirs[name].astype(np.float64), ours[name].astype(np.float64)
        largest = np.abs(a).max(initial=0)
        difference = np.abs(a - b).max(initial=0) if a.shape == b.shape else np.inf
        op = net.graph.producer(name).op
        shape = "×".join(map(str, a.shape[1:]))
        rows.append(("tensor", name, op, shape, largest, difference, _relative(difference, largest)))
    with _said(net):
        rows += _gradient_rows(net, x)
    return pd.DataFrame(rows, columns=["kind", "name", "op", "shape", "largest", "difference", "relative"])


@contextmanager
def _said(net: Net) -> Iterator[None]:
    """What torch says of shapes that ONNX Runtime takes, as NoGradient."""
    from engine.twin import NoGradient

    try:
        yield
    except NoGradient:
        raise
    except (RuntimeError, IndexError, ValueError) as error:
        log.warning("the twin of %s fails", net.name, exc_info=True)
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise NoGradient(f"The twin cannot compute this graph: {said}") from error


def _relative(difference: float, largest: float) -> float:
    if np.isnan(difference):
        return np.inf  # so that no maximum passes over it
    return float(difference / largest) if largest > 0 else float(difference > 0)


def _gradient_rows(net: Net, x: np.ndarray) -> list[tuple]:
    """Directional derivatives of the strongest class's logit: along the Twin's gradient, and along random halves of it.

    Along the gradient alone, a wrong part at a right angle to it would go unseen; the random halves are what meets it.
    No direction leads where the Twin's gradient is zero.

    The picture is taken with a little noise: its flat parts, a black background say, sit on ties of maxima and on kinks
    of ReLUs, where differences and gradients disagree rightly.

    Of the step lengths, the one where the two agree best counts: each is wrong for a reason of its own (see STEPS),
    and a gradient that is wrong agrees with none.
    """
    import torch

    rng = np.random.default_rng(0)
    x = x + rng.uniform(-NOISE, NOISE, x.shape).astype(np.float32)
    index = int(net.scores(x)[0].argmax())
    pixels = torch.from_numpy(x).requires_grad_()
    score = net.twin(pixels, [net.logits])[net.logits].reshape(1, -1)[0, index]
    gradient = torch.autograd.grad(score, pixels)[0].numpy().astype(np.float64)
    rows = []
    for number in range(4):
        direction = gradient if number == 0 else gradient * (rng.random(gradient.shape) < 0.5)
        length = np.linalg.norm(direction)
        if length == 0 or not np.isfinite(length):
            return [("gradient", f"direction {number}", "", "", 0.0, np.inf, np.inf)]
        direction = direction / length
        predicted = float((gradient * direction).sum())
        ends = np.concatenate([x + sign * step * direction for step in STEPS for sign in (1, -1)]).astype(np.float32)
        scores = net.scores(ends)[:, index].astype(np.float64)
        # float32 rounds the ends: take the step as it really came out
        real = [((ends[2 * i] - ends[2 * i + 1]).astype(np.float64) * direction[0]).sum() for i in range(len(STEPS))]
        measured = (scores[0::2] - scores[1::2]) / np.array(real)
        best = np.abs(measured - predicted).argmin()
        name = "along the gradient" if number == 0 else f"along a random half of it, {number}"
        difference = abs(measured[best] - predicted)
        slope = abs(measured[best])
        rows.append(("gradient", name, "", "", slope, difference, _relative(difference, slope)))
    return rows


def certify(net: Net, image: np.ndarray) -> Certificate:
    """The certificate in one line: the worst of each kind, and whether it is good enough for gradient methods."""
    from engine.twin import NoGradient

    try:
        return verdict(certificate(net, image))
    except NoGradient as error:
        return Certificate(float("nan"), float("nan"), 0, str(error), _versions())


def verdict(table: pd.DataFrame) -> Certificate:
    """What the rows of `certificate` amount to."""
    tensors, gradients = (table[table.kind == kind].relative for kind in ("tensor", "gradient"))
    reason = ""
    if not tensors.max() < TENSOR_LIMIT:
        worst = table.loc[tensors.idxmax()]
        reason = (
            f"Tensor {worst['name']} ({worst.op}) differs by {worst.relative:.1e} of its range from ONNX Runtime's."
        )
    elif not np.isfinite(gradients.max()):
        reason = "The gradient is zero everywhere, or no number."
    elif not gradients.max() < GRADIENT_LIMIT:
        reason = f"The gradient differs from ONNX Runtime's central differences by {gradients.max():.1%}."
    return Certificate(float(tensors.max()), float(gradients.max()), len(tensors), reason, _versions())


# A certificate holds for one file and one pair of engines, so it is worked out once and kept ------------------------


def _versions() -> str:
    from importlib.metadata import version

    return f"onnxruntime {onnxruntime.__version__}, torch {version('torch').partition('+')[0]}"


def recall(net: Net) -> Certificate | None:
    """The certificate kept for this file and these engines, or None. Needs no torch."""
    for folder in (CERTIFICATES, home() / "certificates"):
        try:
            kept = Certificate(**json.loads((folder / f"{net.sha256}.json").read_text("utf-8")))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, TypeError):
            log.warning("the kept certificate of %s cannot be read", net.name, exc_info=True)
            continue
        if kept.versions == _versions():
            return kept
    return None


def known(net: Net) -> Certificate:
    """The certificate that is kept, or else a new one, which is kept from now on."""
    found = recall(net)
    if found is None:
        from engine.pictures import samples

        # On a photograph for all nets, as the command line does it: a flat black ground has ties in every pool.
        found = certify(net, net.view(samples.load("china"))[0])
        remember(net, found)
    return found


def remember(net: Net, found: Certificate, folder: Path | None = None) -> None:
    """Keep a certificate in the user's cache folder (or in `folder`), for `recall`."""
    folder = folder or home() / "certificates"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(found), file, indent=1)
        os.replace(name, folder / f"{net.sha256}.json")
    except OSError:  # a read-only home: the certificate is worked out again next time
        log.warning("the certificate of %s could not be kept", net.name, exc_info=True)

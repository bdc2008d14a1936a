"""What runs in the child of `fuzz --twin`: a file that opens is asked for its certificate, within the same limits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from engine.intake import examining
from engine.net import Net
from engine.nets import certificate
from engine.nets.folder import PROJECT


def warm() -> None:
    """Load PyTorch and what the certificate needs, while files may still be opened."""
    import torch

    torch.set_num_threads(2)
    examining._warm()
    versions = certificate._versions()  # which reads files
    certificate._versions = lambda: versions
    for name in ("digits", "clever_hans"):
        found = certified((PROJECT / "exported_models" / f"{name}.onnx").read_bytes())
        if found["became"] != "the twin is equal":
            raise RuntimeError(f"The twin of {name} is not certified: {found['said']}")


def certified(content: bytes) -> dict[str, Any]:
    """What the app gets to know of the twin: a certificate, or a reason; or what comes out of it that is neither."""
    net = Net("mutant.onnx", content=content)
    picture = np.random.default_rng(0).random((*net.input_size, net.channels), np.float32)
    try:
        found = certificate.certify(net, picture)
    except Exception as error:
        error.__traceback__ = error.__traceback__ and _last(error.__traceback__)
        where = error.__traceback__
        place = f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where else ""
        return {"became": "wrong", "said": f"{type(error).__name__} at {place}: {error}"[:500]}
    if found.passed:
        return {"became": "the twin is equal", "said": ""}
    said = found.reason
    if said.startswith("The twin cannot compute"):
        return {"became": "no twin: it fails", "said": said}
    if "differs by" in said and said.startswith("Tensor"):
        return {"became": "the twin differs", "said": said}
    if said.startswith("The gradient"):
        return {"became": "no gradient" if "zero" in said else "the gradient differs", "said": said}
    return {"became": "no twin", "said": said}


def _last(trace):
    while trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def answer(content: bytes, head: dict, say: Callable) -> dict[str, Any]:
    examining._examined(content, head["name"], None, say)
    return certified(content)


if __name__ == "__main__":
    import logging

    logging.disable()
    opening = sys.modules["engine.intake.opening"]
    examining.main(warm=warm, answer=answer)

"""Which ways are there to ask where the evidence is?

A map of evidence says of each place of a picture how much it counts for a number: more is more evidence. A method that
makes one is found, not registered: it is a public function `(net, image, target, …)` of the engine that is declared to
return Evidence, or a dataclass whose `map` is Evidence. What people call it stands before the colon of its docstring.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.half import PRECISIONS as PRECISIONS
from engine.image import resize
from engine.net import Net
from engine.step import Step, last
from engine.target import Target

Evidence = np.ndarray  # (h, w), at the method's own resolution; the whole map covers the whole picture


@dataclass(frozen=True)
class Asking:
    """One way to ask. title: for people. function, steps: the engine's; steps is None where there is no long run."""

    title: str
    function: Callable
    steps: Callable | None

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def takes(self) -> frozenset[str]:
        """The parameters: "layer" where a layer can be chosen, no "target" where the map is of no class."""
        return frozenset(inspect.signature(self.function).parameters)

    @property
    def needs_gradient(self) -> bool:
        """Whether the Twin has a part in it, which its docstring says by what it raises."""
        return "NoGradient" in (inspect.getdoc(self.function) or "")


@functools.cache
def ways() -> dict[str, Asking]:
    """Every way to ask, by its title, in alphabetical order."""
    from engine import methods

    found = {}
    for method in methods.methods().values():
        if _gives_evidence(method.function):
            title = (inspect.getdoc(method.function) or "").partition(": ")[0]
            found[title] = Asking(title, method.function, method.steps)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _gives_evidence(function: Callable) -> bool:
    returned = inspect.signature(function).return_annotation
    made = getattr(sys.modules[function.__module__], str(returned), None)
    fields = dataclasses.fields(made) if dataclasses.is_dataclass(made) else ()
    return returned == "Evidence" or any(field.name == "map" and field.type == "Evidence" for field in fields)


def way(name: str) -> Asking:
    """The way to ask of this title or function name. Raises ValueError."""
    for found in ways().values():
        if name in (found.title, found.name):
            return found
    raise ValueError(f"There is no map of evidence called {name!r}; there are {', '.join(ways())}.")


def evidence(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    method: str = "Grad-CAM",
    layer: str | None = None,
    precision: str = "float32",
) -> np.ndarray:
    """The map of any method, by name.

    image: (H, W, C) pixels of the net's own size. method: a title or function name of `ways()`. layer: for those
    that take one; by default the last before pooling. precision: one of PRECISIONS, of the
    net's numbers, for those that offer a choice.
    Returns (h, w) at the method's own resolution, larger where there is more evidence, in its own unit.
    Raises ValueError, UnknownClass, UnknownLayer, NoGradient.
    """
    return last(evidence_steps(**locals()))


def evidence_steps(
    net: Net,
    image: np.ndarray,
    target: Target | int,
    *,
    method: str = "Grad-CAM",
    layer: str | None = None,
    precision: str = "float32",
) -> Iterator[Step]:
    """`evidence`, step by step where the method takes long."""
    asking = way(method)
    given: dict[str, Any] = {"target": target} if "target" in asking.takes else {}
    if layer is not None and "layer" in asking.takes:
        given["layer"] = layer
    if precision != "float32" and "precision" in asking.takes:
        given["precision"] = precision
    if asking.steps is None:
        yield Step(1, 1, _map(asking.function(net, image, **given)))
        return
    for step in asking.steps(net, image, **given):
        yield Step(step.index, step.total, _map(step.result))


def _map(result: Any) -> np.ndarray:
    return result if isinstance(result, np.ndarray) else result.map


def over_picture(found: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W): a map (h, w) stretched over the picture, bilinear as in the papers; as it is where it has that size."""
    return found if found.shape == size else resize(found, size)

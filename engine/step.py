"""How far along is a long run, and what is there so far?

Every long method of the engine is a generator of Step: whoever asks for the steps shows the progress, draws what there
is so far, and ends the run by asking for no more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Step:
    """One report of a long run.

    index: how much is done, from 0 or 1 up to `total`, in the run's own unit (steps, bytes, positions).
    total: how much there is to do in all.
    result: what the run has made up to here; each method says of what kind it is.
    """

    index: int
    total: int
    result: object


def last(steps: Iterable[Step]) -> Any:
    """Run to the end and return the last step's result."""
    step = None
    for step in steps:  # noqa: B007
        pass
    if step is None:
        raise ValueError("The run took no step.")
    return step.result

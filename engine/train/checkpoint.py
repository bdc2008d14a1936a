"""How does a training go on after it was broken off? From one file that is written whole or not at all."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch


class BadTraining(ValueError):
    """What was given cannot be trained on, or goes on from another training; the message is one sentence."""


def keep(path: Path, step: int, facts: Mapping[str, Any], **parts: Any) -> None:
    """Write down where a training stands.

    facts: plain values that are those of this training and of no other. parts: modules and optimizers.
    """
    state = {"step": step, "facts": _written(facts), **{name: part.state_dict() for name, part in parts.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    torch.save(state, unfinished)
    os.replace(unfinished, path)


def restore(path: Path, facts: Mapping[str, Any], what: str, **parts: Any) -> int:
    """The step to go on with; the parts are as they were. what: what another training has, in words: "other styles".

    Raises BadTraining where the file is another training's, or no checkpoint.
    """
    try:
        state = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
        if state["facts"] != _written(facts):
            raise BadTraining(f"{path.name} is of a training with {what}; choose another file.")
        for name, part in parts.items():
            part.load_state_dict(state[name])
    except BadTraining:
        raise
    except Exception as error:  # torch answers damaged files with many kinds of exception
        raise BadTraining(f"{path.name} is no checkpoint of this training, or is damaged; delete it.") from error
    return state["step"]


def _written(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, sort_keys=True)

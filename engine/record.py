"""What is written down of a run? result.json, numbers.npz and picture.png, in this one place."""

from __future__ import annotations

import dataclasses
import json
import platform
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd

from engine import image as pictures
from engine.nets.folder import PROJECT
from engine.pictures import sheet
from engine.pictures.film import Film

# Writing it down ------------------------------------------------------------------------------------------------------


def taken_apart(result: Any, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A method's result as (arrays by name, everything else that it says)."""
    if isinstance(result, np.ndarray):
        return {name: result}, {}
    if isinstance(result, Mapping):
        return dict(result), {}
    if isinstance(result, pd.DataFrame):
        columns = {str(key): result[key].to_numpy() for key in result}
        return {key: column.astype(str) if column.dtype == object else column for key, column in columns.items()}, {}
    arrays, facts = {}, {}
    for field in dataclasses.fields(result):
        value = getattr(result, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        elif dataclasses.is_dataclass(value):
            more, said = taken_apart(value, "")
            arrays, facts = arrays | more, facts | said
        elif isinstance(value, pd.DataFrame):
            arrays |= {f"{field.name}.{key}": column for key, column in taken_apart(value, "")[0].items()}
        elif isinstance(value, Mapping) and any(isinstance(each, np.ndarray) for each in value.values()):
            arrays |= value
        elif isinstance(value, str | int | float | bool | Mapping):
            facts[field.name] = value
    return arrays, facts


def save(
    out: Path,
    arrays: Mapping[str, np.ndarray],
    record: dict[str, Any],
    *,
    view: np.ndarray | None,
    size: tuple[int, int],
) -> None:
    """Write numbers.npz, result.json and, where there is something to see, picture.png.

    view: (H, W, C) what the net saw. size: the net's (H, W).
    """
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "numbers.npz", allow_pickle=False, **arrays)
    record["arrays"] = {name: _summary(array) for name, array in arrays.items()}
    name, array = next(iter(arrays.items()), ("", np.zeros(0)))
    drawing = sheet.draw(array, size)
    (out / "picture.png").unlink(missing_ok=True)  # of an earlier run
    if drawing is not None:
        told = {
            "of": name,
            "colours": drawing.kind,
            "low": drawing.low,
            "high": drawing.high,
            "left_out": drawing.left_out,
        }
        record["picture"] = {key: value for key, value in told.items() if value != ""}
        page = sheet.panels(view, drawing, covers=array.ndim == 2)
        (out / "picture.png").write_bytes(pictures.to_png(page))
    (out / "result.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")


def save_made(
    out: Path, picture: np.ndarray, arrays: Mapping[str, np.ndarray], record: dict[str, Any], film: Film | None
) -> None:
    """Write picture.png, which is the picture (H, W, C) that was made with the record inside; numbers.npz, result.json;
    and the film last, so that a disk that it fills has all the rest."""
    out.mkdir(parents=True, exist_ok=True)
    record["arrays"] = {name: _summary(array) for name, array in arrays.items()}
    record["picture"] = {"of": "pixels", "colours": "picture", "low": 0.0, "high": 1.0}
    (out / "picture.png").write_bytes(pictures.to_png(picture, record))
    (out / "result.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    np.savez(out / "numbers.npz", allow_pickle=False, **arrays)
    if film is not None:
        (out / "film.gif").write_bytes(film.gif())
        (out / "film.mp4").write_bytes(film.mp4())


def _summary(array: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {"shape": list(array.shape), "dtype": str(array.dtype)}
    if np.issubdtype(array.dtype, np.number) and np.isfinite(array).any():
        finite = array[np.isfinite(array)]
        found |= {"min": finite.min().item(), "max": finite.max().item()}
    return found


def versions() -> dict[str, str]:
    """Of all that had a part in the numbers; torch only if it was used."""
    project = PROJECT / "pyproject.toml"
    own = tomllib.loads(project.read_text("utf-8"))["project"]["version"] if project.exists() else "unknown"
    found = {
        "convoscope": own,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
    return found | ({"torch": str(sys.modules["torch"].__version__)} if "torch" in sys.modules else {})

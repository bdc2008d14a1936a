"""Which sets of pictures are at hand, and which one is meant?"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from engine.data.dataset import BadDataset, Dataset
from engine.data.embedded import EMBEDDED
from engine.data.fetched import FETCHED
from engine.data.reading import hugging_face, open_path
from engine.nets.folder import home


def at_hand() -> dict[str, Callable[[], Dataset]]:
    """Name → what opens it: those that come with the app, then those in the folder `datasets` of its cache."""
    folder = home() / "datasets"
    kept = sorted(folder.iterdir()) if folder.is_dir() else []
    mine = {path.stem: path for path in kept if path.suffix == ".parquet" or path.is_dir()}
    return EMBEDDED | {name: functools.partial(open_path, path) for name, path in mine.items() if name not in EMBEDDED}


def find(given: str | Path) -> Dataset:
    """The pictures called `given`.

    given: a name of `at_hand`; a folder, whose subfolders are the labels, or with a file labels.csv; a Parquet file
    with the column `image` (bytes, or a struct with `bytes`) and, where there are labels, `label` or `label_name`;
    MNIST's idx files, or the folder that holds them; or hf:NAME or hf:NAME@SPLIT, where Hugging Face's `datasets` is
    installed. Raises BadDataset.
    """
    here = {} if isinstance(given, Path) else at_hand()  # a path is no name
    given = str(given).strip()
    if given in here:
        return here[given]()
    if given.startswith("hf:"):
        return hugging_face(given.removeprefix("hf:"))
    path = Path(given).expanduser()
    if given and path.exists():
        return open_path(path)
    if given in FETCHED:
        raise BadDataset(f"{FETCHED[given].title} is not here yet; python -m engine index --data {given} fetches it.")
    raise BadDataset(
        f"There are no pictures called {given!r}; give {', '.join(at_hand())}, a folder or a Parquet file."
    )

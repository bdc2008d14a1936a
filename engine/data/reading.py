"""How are pictures read that somebody keeps: a folder, a Parquet file, MNIST's idx, a set of Hugging Face's?"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine import image as pictures
from engine.data.dataset import MASK, BadDataset, Dataset
from engine.image import NotAPicture

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".gif"])
PARTS = frozenset(["train", "val", "valid", "validation", "test"])  # folders that part a set, and are no labels
LABELS = "labels.csv"  # in a folder without subfolders: rows of file name and label
MOST_LABELS = 100_000
ROWS, CHUNKS = 64, 16  # of a Parquet file: rows read at a time, and so many such chunks kept


def open_path(path: Path) -> Dataset:
    source = str(path.resolve())
    try:
        if path.is_dir():
            return replace(_folder(path), source=source)
        if path.suffix == ".parquet":
            return replace(_parquet(path), source=source)
        if "idx3-ubyte" in path.name:
            return replace(_idx(path.stem.partition("-images")[0], [path]), source=source)
    except PermissionError as error:
        raise BadDataset(f"{path.name} may not be read; change its permissions, or give other pictures.") from error
    raise BadDataset(f"{path.name} holds no pictures; give a folder, a Parquet file, or MNIST's idx files.")


def is_picture(name: str) -> bool:
    """Whether a file of that name counts as a picture of a set: masks and hidden files do not."""
    return os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".") and not name.endswith(MASK)


def files(folder: Path) -> list[Path]:
    """The pictures in a folder and the folders in it, in order."""
    found = []
    for base, inner, names in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        found += [Path(base, name) for name in names if is_picture(name)]
    return sorted(found)


# Folders --------------------------------------------------------------------------------------------------------------


def _folder(folder: Path) -> Dataset:
    arrays = sorted(path for path in folder.rglob("*-images-idx3-ubyte*") if path.is_file())
    if arrays:
        return _idx(folder.name if folder.name != "raw" else folder.parent.name, arrays)
    found = files(folder)
    if not found:
        raise BadDataset(f"There is no picture in the folder {folder.name}; JPEG, PNG, WebP and GIF files count.")
    inside = [path.relative_to(folder).as_posix() for path in found]
    hasher = hashlib.sha256()
    for path, name in zip(found, inside, strict=True):
        about = path.stat()  # not the content: to read all of it would take longer than to look at it
        hasher.update(f"{name}\0{about.st_size}\0{about.st_mtime_ns}\0".encode("utf-8", "surrogateescape"))
    list_ = folder / LABELS
    if list_.is_file():
        hasher.update(list_.read_bytes())
        given = _listed(list_, inside)
    else:
        given = [_label_of(name) for name in inside]
    names = tuple(sorted({name for name in given if name}))
    places = {name: place for place, name in enumerate(names)}
    labels = np.array([places.get(name, -1) for name in given], np.int64)
    return Dataset(
        folder.resolve().name, names, hasher.hexdigest(), labels, lambda i: found[i].read_bytes(), inside.__getitem__
    )


def _label_of(name: str) -> str:
    """The first folder on the way that is not a part of the set; "" where there is none."""
    parts = name.split("/")[:-1]
    if len(parts) > 1 and parts[0].lower() in PARTS:
        parts = parts[1:]
    return parts[0] if parts else ""


def _listed(list_: Path, inside: Sequence[str]) -> list[str]:
    """The labels from labels.csv, in the order of `inside`. Raises BadDataset where it does not match the folder."""
    try:
        rows = [row for row in csv.reader(list_.read_text("utf-8-sig").splitlines()) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadDataset(f"{LABELS} is no table: save it as UTF-8, with a file name and a label per row.") from error
    if any(len(row) != 2 for row in rows):
        raise BadDataset(f"{LABELS} needs two columns, the file's name and its label; a row has other than two.")
    found = {name.strip(): label.strip() for name, label in rows}
    missing = [name for name in inside if name not in found]
    strange = [name for name in found if name not in set(inside) and name.lower() not in ("file", "image", "path")]
    if missing or strange:
        which = f"{missing[0]} is not in it" if missing else f"it names {strange[0]}, which is not in the folder"
        raise BadDataset(f"{LABELS} does not match the pictures beside it: {which}; correct it or remove it.")
    return [found[name] for name in inside]


# Parquet --------------------------------------------------------------------------------------------------------------


class _Rows:
    """Reads the column of pictures in chunks of rows, forwards, and keeps the latest ones: never the whole file.

    A row group is decoded from its beginning, so a jump back costs a part of one. One reader for all threads.
    """

    def __init__(self, path: Path):
        import pyarrow.parquet as pq

        self.path = path
        self.lock = threading.Lock()
        self.file = pq.ParquetFile(path, memory_map=True)
        counts = [self.file.metadata.row_group(k).num_rows for k in range(self.file.metadata.num_row_groups)]
        self.starts = np.cumsum([0, *counts])
        self.kept: OrderedDict[int, list[object]] = OrderedDict()  # first row → the chunk from there on
        self.group = -1  # the row group that `ahead` gives the chunks of, from row `at` on
        self.at = 0
        self.ahead: Iterator = iter(())

    def __call__(self, row: int) -> bytes:
        with self.lock:
            value = self._chunk(row)
        value = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(value, bytes) or not value:
            raise NotAPicture(f"Row {row} holds no picture.")
        return value

    def _chunk(self, row: int) -> object:
        group = int(np.searchsorted(self.starts, row, "right")) - 1
        offset = int(self.starts[group])
        first = offset + (row - offset) // ROWS * ROWS
        if first not in self.kept:
            if group != self.group or first < self.at:
                self.group, self.at = group, offset
                self.ahead = self.file.iter_batches(ROWS, [group], ["image"])
            while self.at <= first:
                chunk = next(self.ahead)["image"].to_pylist()
                self.kept[self.at] = chunk
                self.at += len(chunk)
                while len(self.kept) > CHUNKS:
                    self.kept.popitem(last=False)
        self.kept.move_to_end(first)
        return self.kept[first][row - first]


def _parquet(path: Path) -> Dataset:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema, count = pq.read_schema(path), pq.read_metadata(path).num_rows
    except pa.ArrowException as error:
        raise BadDataset(f"{path.name} is not a Parquet file, or it is cut short.") from error
    if "image" not in schema.names:
        raise BadDataset(f"{path.name} has no column called image; give a Parquet file that has one.")
    if not _holds_bytes(schema.field("image").type):
        raise BadDataset(
            f"The column image of {path.name} does not hold encoded pictures, but {schema.field('image').type}."
        )
    if not count:
        raise BadDataset(f"There is no picture in {path.name}; its table is empty.")
    names, labels = _columns(path, schema, count)
    about = path.stat()
    hasher = hashlib.sha256(f"{about.st_size} {about.st_mtime_ns} ".encode())
    with path.open("rb") as file:  # its end describes every part of it
        file.seek(-min(about.st_size, 1 << 16), os.SEEK_END)
        hasher.update(file.read())
    return Dataset(
        f"{path.parent.name}/{path.stem}" if path.parent.name else path.stem,
        names,
        hasher.hexdigest(),
        labels,
        _Rows(path),
        lambda i: f"row {i}",
    )


def _holds_bytes(kind: object) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _columns(path: Path, schema: object, count: int) -> tuple[tuple[str, ...], np.ndarray]:
    """The names and labels of a Parquet file. Raises BadDataset where the two columns contradict each other."""
    import pyarrow.parquet as pq

    wanted = [name for name in ("label", "label_name") if name in schema.names]
    if not wanted:
        return (), np.full(count, -1, np.int64)
    table = pq.read_table(path, columns=wanted)
    numbers = table["label"].to_pylist() if "label" in wanted else None
    words = table["label_name"].to_pylist() if "label_name" in wanted else None
    if numbers is not None and any(isinstance(value, str) for value in numbers):
        numbers, words = None, numbers
    if numbers is None:
        names = tuple(sorted({str(word) for word in words if word is not None}))
        places = {name: place for place, name in enumerate(names)}
        return names, np.array([-1 if word is None else places[str(word)] for word in words], np.int64)
    if not all(value is None or (isinstance(value, int) and -1 <= value < MOST_LABELS) for value in numbers):
        raise BadDataset(f"The column label of {path.name} holds other things than class numbers from 0 on.")
    labels = np.array([-1 if value is None else value for value in numbers], np.int64)
    known = dict(enumerate(_feature_names(schema)))
    pairs = {pair for pair in zip(labels.tolist(), words or (), strict=False) if pair[0] >= 0 and pair[1] is not None}
    for number, word in sorted(pairs, reverse=True):
        if known.setdefault(number, word) != word:
            raise BadDataset(
                f"In {path.name}, label {number} is called both {known[number]!r} and {word!r}; correct label_name."
            )
    if not known:
        return tuple(str(number) for number in range(labels.max() + 1)), labels
    most = max(int(labels.max()), max(known))
    return tuple(str(known.get(number, number)) for number in range(most + 1)), labels


def _feature_names(schema: object) -> list[str]:
    """The labels' names as Hugging Face writes them into a Parquet file's schema; [] where they are not there."""
    try:
        about = json.loads((schema.metadata or {})[b"huggingface"])
        return [str(name) for name in about["info"]["features"]["label"]["names"]]
    except (KeyError, TypeError, ValueError):
        return []


# MNIST's arrays -------------------------------------------------------------------------------------------------------


def _idx(name: str, images: Sequence[Path]) -> Dataset:
    """LeCun's format: uint8 arrays behind a big-endian head, with gzip around them or not; training pictures last.

    Arrays without gzip stay on disk; the others are unpacked into memory, 55 MB for all of MNIST.
    """
    arrays, labels, hasher = [], [], hashlib.sha256()
    for path in images:
        beside = path.with_name(path.name.replace("-images-idx3-", "-labels-idx1-"))
        array = _array(path, 3)
        hasher.update(path.read_bytes())
        if beside.is_file():
            given = _array(beside, 1)
            hasher.update(beside.read_bytes())
            if len(given) != len(array):
                raise BadDataset(
                    f"{beside.name} holds {len(given):,} labels for the {len(array):,} pictures of {path.name}; "
                    "the two do not belong together."
                )
            labels.append(given.astype(np.int64))
        else:
            labels.append(np.full(len(array), -1, np.int64))
        arrays.append(array)
    ends = np.cumsum([len(array) for array in arrays])
    together = np.concatenate(labels)
    if not len(together):
        raise BadDataset(f"There is no picture in {images[0].name}; its array is empty.")

    def read(index: int) -> bytes:
        part = int(np.searchsorted(ends, index, "right"))
        array = arrays[part]
        return pictures.to_png(array[index - int(ends[part])][:, :, None] / np.float32(255))

    names = tuple(map(str, range(together.max() + 1)))
    return Dataset(name, names, hasher.hexdigest(), together, read, lambda i: f"row {i}")


def _array(path: Path, axes: int) -> np.ndarray:
    """uint8 with so many axes. Raises BadDataset."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = np.frombuffer(file.read(4 + 4 * axes), ">u4").tolist()
            if len(head) == 1 + axes and head[0] == 0x0800 + axes:
                shape = tuple(head[1:])
                if path.suffix != ".gz" and np.prod(shape):
                    return np.memmap(path, np.uint8, "r", 4 + 4 * axes, shape)
                return np.frombuffer(file.read(), np.uint8).reshape(shape)
    except (ValueError, EOFError, gzip.BadGzipFile) as error:
        raise BadDataset(f"{path.name} is damaged or cut short; fetch it again.") from error
    raise BadDataset(f"{path.name} is not an idx file of MNIST's kind.")


# Hugging Face ---------------------------------------------------------------------------------------------------------


def hugging_face(name: str) -> Dataset:
    try:
        import datasets
    except ImportError as error:
        raise BadDataset("Hugging Face's data sets need their package: pip install datasets.") from error
    name, _, split = name.partition("@")
    try:
        found = datasets.load_dataset(name, split=split or "train")
        column = next(key for key, kind in found.features.items() if isinstance(kind, datasets.Image))
        found = found.cast_column(column, datasets.Image(decode=False))
    except StopIteration:
        raise BadDataset(f"{name} has no column of pictures; choose another data set.") from None
    except Exception as error:  # a dozen kinds, from no connection to a name that does not exist
        reason = " ".join(str(error).split()).rstrip(".")
        raise BadDataset(f"{name} could not be had from Hugging Face: {reason}.") from error
    kind = found.features.get("label")
    labels = np.array(found["label"] if kind is not None else [-1] * len(found), np.int64)
    names = tuple(getattr(kind, "names", None) or map(str, range(labels.max(initial=-1) + 1)))

    def read(index: int) -> bytes:
        value = found[index][column]
        if value.get("bytes"):
            return value["bytes"]
        if value.get("path"):
            return Path(value["path"]).read_bytes()
        raise NotAPicture(f"Row {index} holds no picture.")

    digest = hashlib.sha256(f"{name} {split} {found._fingerprint}".encode()).hexdigest()
    return Dataset(name, names, digest, labels, read, lambda i: f"row {i}")

"""Which pictures are asked about?

A Dataset is a numbered row of encoded pictures, most of which stay where they are until somebody asks for one: files in
a folder, rows of a Parquet file, MNIST's arrays, or pictures that come with the installed packages.
"""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import io
import itertools
import json
import os
import tarfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine import image as pictures
from engine.image import NotAPicture
from engine.nets import download
from engine.nets.folder import home
from engine.pictures import samples, truth
from engine.step import Step

SUFFIXES = frozenset([".jpg", ".jpeg", ".png", ".webp", ".gif"])
MASK = ".mask.png"  # NAME.mask.png beside NAME.jpg says where the thing is; it is no picture of the set
PARTS = frozenset(["train", "val", "valid", "validation", "test"])  # folders that part a set, and are no labels
LABELS = "labels.csv"  # in a folder without subfolders: rows of file name and label
MOST_LABELS = 100_000
ROWS, CHUNKS = 64, 16  # of a Parquet file: rows read at a time, and so many such chunks kept
PLANTED = 400  # drawn pictures
CROPS = ((1.0, 1.0), (0.5, 0.25))  # of a sample: side of the squares and the way between them, in shorter sides


class BadDataset(ValueError):
    """There are no such pictures, or they cannot be used; the message is one sentence for the person who asked."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Pictures by number, 0 to len - 1.

    name: for people. names: of the labels, () where there are none. digest: changes when what the set holds changes.
    labels: (N,) int64 places in `names`, -1 where there is none. read, place: see `encoded` and `where`.
    source: where they lie, whatever they are by now: two sets of the same name are not the same.
    """

    name: str
    names: tuple[str, ...]
    digest: str
    labels: np.ndarray
    read: Callable[[int], bytes]
    place: Callable[[int], str]
    source: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def encoded(self, index: int) -> bytes:
        """A picture as a file's bytes; safe to call from several threads, quick when called in order.

        Raises NotAPicture or OSError where that one cannot be read.
        """
        return self.read(index)

    def label(self, index: int) -> int:
        """Its place in `names`, or -1."""
        return int(self.labels[index])

    def where(self, index: int) -> str:
        """Where it lies: the path inside the folder, or "row 17"."""
        return self.place(index)


def at_hand() -> dict[str, Callable[[], Dataset]]:
    """Name → what opens it: those that come with the app, then those in the folder `datasets` of its cache."""
    folder = home() / "datasets"
    kept = sorted(folder.iterdir()) if folder.is_dir() else []
    mine = {path.stem: path for path in kept if path.suffix == ".parquet" or path.is_dir()}
    return EMBEDDED | {name: functools.partial(_open, path) for name, path in mine.items() if name not in EMBEDDED}


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
        return _hugging_face(given.removeprefix("hf:"))
    path = Path(given).expanduser()
    if given and path.exists():
        return _open(path)
    if given in FETCHED:
        raise BadDataset(f"{FETCHED[given].title} is not here yet; python -m engine index --data {given} fetches it.")
    raise BadDataset(
        f"There are no pictures called {given!r}; give {', '.join(at_hand())}, a folder or a Parquet file."
    )


def _open(path: Path) -> Dataset:
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


def classes(names: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """(len(names),) int64: which of a network's classes each label of a set is, by name, or -1 where it has none.

    names: of the set's labels. labels: of the network's classes. Of two classes alike, the first counts.
    """
    places: dict[str, int] = {}
    for place, label in enumerate(labels):
        places.setdefault(_plain(label), place)
    return np.array([places.get(_plain(name), -1) for name in names], np.int64)


def _plain(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


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


def _hugging_face(name: str) -> Dataset:
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


# What comes with the app ----------------------------------------------------------------------------------------------


@functools.cache
def _digits() -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 pixels."""
    with gzip.open(samples.located(*samples.SAMPLES["digit-0"].file)) as file:
        content = file.read()
    rows = np.loadtxt(io.BytesIO(content), np.float32, delimiter=",")
    values, labels = rows[:, :64].reshape(-1, 8, 8, 1) / 16, rows[:, 64].astype(np.int64)
    return Dataset(
        "digits",
        tuple(map(str, range(10))),
        hashlib.sha256(content).hexdigest(),
        labels,
        lambda i: pictures.to_png(values[i]),
        lambda i: f"row {i}",
    )


@functools.cache
def _faces() -> Dataset:
    """scikit-image's 100 faces of LFW and 100 patches of its backgrounds, 25 x 25 grey pixels."""
    content = samples.located("skimage", "data/lfw_subset.npy").read_bytes()
    values = np.load(io.BytesIO(content)).astype(np.float32)
    values = values / max(values.max(), 1.0)
    labels = (np.arange(len(values)) >= 100).astype(np.int64)
    return Dataset(
        "faces",
        ("face", "no face"),
        hashlib.sha256(content).hexdigest(),
        labels,
        lambda i: pictures.to_png(values[i][:, :, None]),
        lambda i: f"row {i}",
    )


@functools.cache
def _photographs() -> Dataset:
    """Squares cut out of the sample photographs and textures, large and small: the label is the one they come from."""
    names = [name for kind in ("photograph", "texture") for name in samples.names(kind)]
    boxes: list[tuple[int, int, int, int]] = []  # label, top, left, side
    hasher = hashlib.sha256(f"{CROPS}".encode())
    for label, name in enumerate(names):
        hasher.update(samples.located(*samples.SAMPLES[name].file).read_bytes())
        height, width = samples.load(name).shape[:2]
        for share, way in CROPS:
            side, step = round(share * min(height, width)), way * min(height, width)
            rows, cols = (range(int((length - side) // step) + 1) for length in (height, width))
            boxes += [(label, int(row * step), int(col * step), side) for row, col in itertools.product(rows, cols)]

    def read(index: int) -> bytes:
        label, top, left, side = boxes[index]
        return pictures.to_png(samples.load(names[label])[top : top + side, left : left + side])

    def place(index: int) -> str:
        label, top, left, side = boxes[index]
        return f"{names[label]}, rows {top} to {top + side}, columns {left} to {left + side}"

    titles = tuple(samples.SAMPLES[name].title for name in names)
    labels = np.array([box[0] for box in boxes], np.int64)
    return Dataset("photographs", titles, hasher.hexdigest(), labels, read, place)


@functools.cache
def _planted() -> Dataset:
    """The drawn pictures of engine/pictures/truth.py.

    The label is the object; the watermarks take turns, so that who goes by them is mostly wrong.
    """
    count = len(truth.CLASSES)

    def read(index: int) -> bytes:
        made = truth.planted(index, object_class=index % count, cue_class=index // count % count)
        return pictures.to_png(made.pixels)

    digest = hashlib.sha256(b"".join(read(index) for index in range(count))).hexdigest()
    labels = np.arange(PLANTED, dtype=np.int64) % count
    return Dataset("planted", tuple(truth.CLASSES), digest, labels, read, lambda i: f"seed {i}")


EMBEDDED: dict[str, Callable[[], Dataset]] = {
    "digits": _digits,
    "photographs": _photographs,
    "planted": _planted,
    "faces": _faces,
}


def suits(labels: Sequence[str], channels: int) -> str:
    """Which of EMBEDDED suits a network, by its labels and its input's channels."""
    if set(labels) == set(truth.CLASSES):
        return "planted"
    digits = channels == 1 and len(labels) == 10
    return "digits" if digits or list(labels) == list(map(str, range(10))) else "photographs"


# What can be fetched --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fetched:
    """A published data set. files: (URL, MD5). megabytes: of the download, 10^6 bytes."""

    title: str
    megabytes: float
    count: int
    files: tuple[tuple[str, str], ...]
    credit: str


_MNIST = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FETCHED: dict[str, Fetched] = {
    "mnist": Fetched(
        "MNIST",
        11.6,
        70_000,
        (
            (_MNIST + "train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            (_MNIST + "train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
            (_MNIST + "t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
            (_MNIST + "t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
        ),
        "LeCun, Cortes, Burges",
    ),
    "cifar10": Fetched(
        "CIFAR-10",
        170.1,
        60_000,
        # Not the archive that torchvision fetches: that one is pickled, which can run code when it is read.
        (("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),),
        "Krizhevsky 2009",
    ),
    "imagenette": Fetched(
        "Imagenette, 160 pixels",
        99.0,
        13_394,
        (("https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz", "e793b78cc4c9e9a4ccc0c1155377a412"),),
        "fast.ai, Apache-2.0; the photographs are ImageNet's, for non-commercial research",
    ),
}
# ImageNet's numbers of the ten classes, in torchvision's order, and their names there.
IMAGENETTE = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def fetch(name: str) -> Iterator[Step]:
    """Download the data set `name` of FETCHED into the cache folder; nothing is done if it is there.

    Yields Step(bytes there, bytes in all, what is being done, in words), the last one with the Dataset. A download that
    was broken off is continued where it stood. Raises KeyError, and FetchFailed as Offline, WrongHash.
    """
    about = FETCHED[name]
    folder = home() / "datasets"
    path = folder / name if name == "mnist" else folder / f"{name}.parquet"
    total = round(about.megabytes * 1e6)
    if not path.exists():
        work = home() / "downloads" / name
        done = 0
        for url, md5 in about.files:
            file = work / url.rpartition("/")[2]
            if not file.exists():
                for step in download.download(url, file, md5=md5):
                    yield Step(min(done + step.index, total), total, f"Fetching {about.title}")
            done += file.stat().st_size
        folder.mkdir(parents=True, exist_ok=True)
        yield Step(total, total, f"Writing {about.title}")
        if name == "mnist":
            os.replace(work, path)
        else:
            rows = _cifar10(file) if name == "cifar10" else _imagenette(file)
            _write(rows, path)
            file.unlink()
    yield Step(total, total, _open(path))


def _write(rows: Iterator[tuple[bytes, int, str, str]], path: Path) -> None:
    """A Parquet file of (picture, label, its name, where it comes from), which appears only when it is whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"image": pa.binary(), "label": pa.int32(), "label_name": pa.string(), "source_path": pa.string()}
    schema, unfinished = pa.schema(list(kinds.items())), path.with_name(path.name + ".part")
    with pq.ParquetWriter(unfinished, schema, compression="none") as writer:  # the pictures are compressed already
        while part := list(itertools.islice(rows, 500)):
            columns = map(list, zip(*part, strict=True))
            writer.write_table(pa.table(dict(zip(kinds, columns, strict=True)), schema))
    os.replace(unfinished, path)


def _cifar10(archive: Path) -> Iterator[tuple[bytes, int, str, str]]:
    """Its 10,000 test pictures first, then the 50,000 for training: rows of a label and three planes, a byte each."""
    with tarfile.open(archive) as tar:
        members = {Path(member.name).name: member for member in tar if member.isfile()}
        names = tar.extractfile(members["batches.meta.txt"]).read().decode().split()
        for part in ("test_batch", *(f"data_batch_{k}" for k in range(1, 6))):
            content = tar.extractfile(members[f"{part}.bin"]).read()
            rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
            planes = rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            for number, (values, label) in enumerate(zip(planes, rows[:, 0].tolist(), strict=True)):
                yield pictures.to_png(values / np.float32(255)), label, names[label], f"{part}/{number}"


def _imagenette(archive: Path) -> Iterator[tuple[bytes, int, str, str]]:
    numbers = list(IMAGENETTE)
    with tarfile.open(archive) as tar:
        for member in tar:
            path = Path(member.name)
            if member.isfile() and path.suffix == ".JPEG" and path.parent.name in IMAGENETTE:
                label = numbers.index(path.parent.name)
                where = "/".join(path.parts[1:])
                yield tar.extractfile(member).read(), label, IMAGENETTE[path.parent.name], where

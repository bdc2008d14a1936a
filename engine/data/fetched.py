"""Which sets of pictures can be fetched?"""

from __future__ import annotations

import itertools
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import image as pictures
from engine.data.reading import open_path
from engine.nets import download
from engine.nets.folder import home
from engine.step import Step

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
    yield Step(total, total, open_path(path))


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

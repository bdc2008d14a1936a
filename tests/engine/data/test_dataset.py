"""Are the pictures of a set those that were given, with their labels, and is what cannot be one refused?"""

from __future__ import annotations

import gzip
import io
import itertools
import os
import struct
import sys
import tarfile
import tracemalloc
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine import image
from engine.data import embedded, fetched, sets
from engine.data.dataset import BadDataset, classes
from engine.data.sets import find
from engine.image import NotAPicture
from engine.nets import download, zoo
from engine.pictures import truth
from engine.step import last

pytestmark = pytest.mark.usefixtures("cache")


def png(value: int, size: tuple[int, int] = (5, 7)) -> bytes:
    """A picture of one grey."""
    return image.to_png(np.full((*size, 3), value / 255, np.float32))


def grey(encoded: bytes) -> int:
    return round(float(image.load(encoded).mean()) * 255)


def refusal(given: object) -> str:
    with pytest.raises(BadDataset) as error:
        find(given)
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")
    return str(error.value)


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# What comes with the app ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", embedded.EMBEDDED)
def test_what_comes_with_the_app_can_be_read(name):
    data = find(name)
    assert data.name == name
    assert len(data) >= 99
    assert data.digest == find(name).digest
    assert set(data.labels.tolist()) == set(range(len(data.names)))
    for index in (0, len(data) // 2, len(data) - 1):
        assert image.load(data.encoded(index)).ndim == 3
        assert data.where(index)
        assert data.label(index) in range(len(data.names))
    assert len({data.where(index) for index in range(len(data))}) == len(data)


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    data, theirs = find("digits"), load_digits()
    assert len(data) == len(theirs.images)
    assert (data.labels == theirs.target).all()
    for index in (0, 1000, 1796):
        np.testing.assert_allclose(image.load(data.encoded(index))[:, :, 0], theirs.images[index] / 16, atol=0.5 / 255)


def test_planted_pictures_have_their_objects_and_all_watermarks():
    data = find("planted")
    made = truth.planted(5, object_class=1, cue_class=1)
    np.testing.assert_allclose(image.load(data.encoded(5)), made.pixels, atol=0.51 / 255)
    assert data.names == truth.CLASSES
    assert data.label(5) == 1


def test_a_square_is_cut_out_where_it_says():
    from engine.pictures import samples

    data = find("photographs")
    number = next(k for k in range(len(data)) if data.where(k).startswith("coffee, rows 100"))
    cut = samples.load("coffee")[100:300, 0:200]
    assert data.where(number).startswith("coffee, rows 100 to 300, columns 0 to 200")
    np.testing.assert_allclose(image.load(data.encoded(number)), cut, atol=0.51 / 255)


# Folders --------------------------------------------------------------------------------------------------------------


def test_subfolders_are_labels(tmp_path):
    for name, value in {"dog/b.png": 1, "cat/a.png": 2, "cat/deep/c.PNG": 3, "d.png": 4}.items():
        write(tmp_path / "pets" / name, png(value))
    write(tmp_path / "pets" / "cat" / "words.txt", b"no picture")
    write(tmp_path / "pets" / "cat" / "a.mask.png", png(9))
    write(tmp_path / "pets" / ".hidden" / "x.png", png(9))
    data = find(tmp_path / "pets")
    assert data.name == "pets"
    assert data.names == ("cat", "dog")
    assert [data.where(k) for k in range(4)] == ["cat/a.png", "cat/deep/c.PNG", "d.png", "dog/b.png"]
    assert [data.label(k) for k in range(4)] == [0, 0, -1, 1]
    assert [grey(data.encoded(k)) for k in range(4)] == [2, 3, 4, 1]


def test_the_parts_of_a_set_are_no_labels(tmp_path):
    for name in ("train/cat/a.png", "val/cat/b.png", "val/dog/c.png"):
        write(tmp_path / name, png(1))
    data = find(tmp_path)
    assert data.names == ("cat", "dog")
    assert data.labels.tolist() == [0, 0, 1]


def test_a_digest_changes_with_what_is_in_the_folder(tmp_path):
    file = write(tmp_path / "a" / "x.png", png(1))
    first = find(tmp_path).digest
    assert find(tmp_path).digest == first
    file.write_bytes(png(2))
    os.utime(file, ns=(1, 1))
    second = find(tmp_path).digest
    write(tmp_path / "a" / "y.png", png(2))
    third = find(tmp_path).digest
    (tmp_path / "a").rename(tmp_path / "b")
    assert len({first, second, third, find(tmp_path).digest}) == 4


def test_a_list_of_labels(tmp_path):
    for name in ("a.png", "b.png", "in/c.png"):
        write(tmp_path / name, png(1))
    (tmp_path / "labels.csv").write_text("file,label\na.png,tabby\nin/c.png,siamese\nb.png,tabby\n", "utf-8")
    data = find(tmp_path)
    assert data.names == ("siamese", "tabby")
    assert data.labels.tolist() == [1, 1, 0]
    before = data.digest
    (tmp_path / "labels.csv").write_text("a.png,x\nin/c.png,y\nb.png,x\n", "utf-8")
    assert find(tmp_path).names == ("x", "y")
    assert find(tmp_path).digest != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.png,x\n", "b.png is not in it"),
        ("a.png,x\nb.png,y\nz.png,y\n", "names z.png"),
        ("a.png\nb.png\n", "two columns"),
        ("", "a.png is not in it"),
    ],
)
def test_a_list_of_labels_that_does_not_match(tmp_path, text, said):
    write(tmp_path / "a.png", png(1))
    write(tmp_path / "b.png", png(1))
    (tmp_path / "labels.csv").write_text(text, "utf-8")
    assert said in refusal(tmp_path)


def test_what_is_no_data_set(tmp_path):
    assert "no picture in the folder" in refusal(tmp_path)
    write(tmp_path / "words.txt", b"words")
    assert "no picture in the folder" in refusal(tmp_path)
    assert "holds no pictures" in refusal(tmp_path / "words.txt")
    assert "digits" in refusal(tmp_path / "nowhere")
    assert "digits" in refusal("nothing")
    refusal("")
    assert "python -m engine fetch" not in refusal("cifar10")
    assert "--data cifar10" in refusal("cifar10")


def test_one_picture_is_a_set(tmp_path):
    write(tmp_path / "only.png", png(77))
    data = find(tmp_path)
    assert len(data) == 1
    assert data.names == ()
    assert grey(data.encoded(0)) == 77


# Parquet --------------------------------------------------------------------------------------------------------------


def parquet(path: Path, columns: dict, rows: int = 1000, schema: pa.Schema | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns) if schema is None else pa.table(columns, schema=schema)
    pq.write_table(table, path, row_group_size=rows)
    return path


@pytest.mark.parametrize("rows", [7, 150, 1000])
@pytest.mark.parametrize("form", ["bytes", "large", "struct"])
def test_rows_come_as_they_were_written_in_any_order(tmp_path, rows, form):
    values = [b"%06d" % k * 3 for k in range(300)]
    if form == "struct":
        column = pa.array([{"bytes": value, "path": "x"} for value in values])
    else:
        column = pa.array(values, pa.binary() if form == "bytes" else pa.large_binary())
    path = parquet(tmp_path / "birds" / "train.parquet", {"other": list(range(300)), "image": column}, rows)
    data = find(path)
    assert data.name == "birds/train"
    assert data.names == ()
    assert data.where(17) == "row 17"
    assert [data.encoded(k) for k in range(300)] == values
    order = np.random.default_rng(0).permutation(300).tolist()
    assert [data.encoded(k) for k in order] == [values[k] for k in order]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(find(path).encoded, range(300))) == values


def test_only_a_part_of_the_rows_is_held(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "large.parquet"
    schema = pa.schema([("image", pa.binary())])
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        for _ in range(4):  # 80 MB, in four row groups
            writer.write_table(pa.table({"image": [rng.bytes(20_000) for _ in range(1000)]}, schema))
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    data = find(path)
    most = 0
    for index in range(len(data)):
        assert len(data.encoded(index)) == 20_000
        most = max(most, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6
    assert most < 40e6


def test_labels_of_a_table(tmp_path):
    pictures = [png(k) for k in range(4)]
    numbers = parquet(tmp_path / "a.parquet", {"image": pictures, "label": [2, 0, None, 2]})
    assert find(numbers).names == ("0", "1", "2")
    assert find(numbers).labels.tolist() == [2, 0, -1, 2]
    both = {"image": pictures, "label": [2, 0, 0, 2], "label_name": ["owl", "jay", "jay", "owl"]}
    assert find(parquet(tmp_path / "b.parquet", both)).names == ("jay", "1", "owl")
    words = parquet(tmp_path / "c.parquet", {"image": pictures, "label_name": ["owl", "jay", None, "owl"]})
    assert find(words).names == ("jay", "owl")
    assert find(words).labels.tolist() == [1, 0, -1, 1]
    texts = parquet(tmp_path / "d.parquet", {"image": pictures, "label": ["owl", "jay", "jay", "owl"]})
    assert find(texts).names == ("jay", "owl")
    about = {"info": {"features": {"label": {"names": ["wren", "jay", "owl"], "_type": "ClassLabel"}}}}
    schema = pa.schema([("image", pa.binary()), ("label", pa.int64())], {"huggingface": str(about).replace("'", '"')})
    hugging = parquet(tmp_path / "e.parquet", {"image": pictures, "label": [2, 0, 1, 2]}, schema=schema)
    assert find(hugging).names == ("wren", "jay", "owl")


def test_what_is_no_table_of_pictures(tmp_path):
    pictures = [png(1), png(2)]
    assert "no column called image" in refusal(parquet(tmp_path / "a.parquet", {"picture": pictures}))
    assert "does not hold encoded pictures" in refusal(parquet(tmp_path / "b.parquet", {"image": ["x.png", "y.png"]}))
    assert "empty" in refusal(parquet(tmp_path / "c.parquet", {"image": pa.array([], pa.binary())}))
    assert "not a Parquet file" in refusal(write(tmp_path / "d.parquet", b"PAR1 and nothing more"))
    assert "not a Parquet file" in refusal(write(tmp_path / "e.parquet", b""))
    contradicting = {"image": pictures, "label": [0, 0], "label_name": ["owl", "jay"]}
    assert "both 'owl' and 'jay'" in refusal(parquet(tmp_path / "f.parquet", contradicting))
    assert "class numbers" in refusal(parquet(tmp_path / "g.parquet", {"image": pictures, "label": [0, -7]}))
    assert "class numbers" in refusal(parquet(tmp_path / "h.parquet", {"image": pictures, "label": [0.5, 1.5]}))


def test_a_row_without_a_picture(tmp_path):
    data = find(parquet(tmp_path / "a.parquet", {"image": [png(1), None, b""]}))
    assert grey(data.encoded(0)) == 1
    for row in (1, 2):
        with pytest.raises(NotAPicture, match=f"Row {row}"):
            data.encoded(row)


# MNIST's arrays -------------------------------------------------------------------------------------------------------


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">I{values.ndim}I", 0x0800 + values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_arrays_of_mnists_kind(tmp_path, suffix):
    rng = np.random.default_rng(0)
    pack = gzip.compress if suffix else bytes
    parts = {"train": 5, "t10k": 3}
    values = {name: rng.integers(0, 256, (count, 6, 4)) for name, count in parts.items()}
    for name, count in parts.items():
        write(tmp_path / f"MNIST/raw/{name}-images-idx3-ubyte{suffix}", pack(idx(values[name])))
        write(tmp_path / f"MNIST/raw/{name}-labels-idx1-ubyte{suffix}", pack(idx(np.arange(count))))
    for given in (tmp_path / "MNIST", tmp_path / "MNIST" / "raw"):
        data = find(given)
        assert data.name == "MNIST"
        assert data.labels.tolist() == [0, 1, 2, 0, 1, 2, 3, 4], "the test pictures come first"
        expected = np.concatenate([values["t10k"], values["train"]])
        for index in range(8):
            got = np.asarray(Image.open(io.BytesIO(data.encoded(index))))
            assert (got == expected[index]).all()
    alone = find(tmp_path / f"MNIST/raw/t10k-images-idx3-ubyte{suffix}")
    assert len(alone) == 3


def test_arrays_that_do_not_match(tmp_path):
    images = write(tmp_path / "train-images-idx3-ubyte", idx(np.zeros((4, 3, 3))))
    labels = write(tmp_path / "train-labels-idx1-ubyte", idx(np.zeros(5)))
    assert "5 labels for the 4 pictures" in refusal(tmp_path)
    labels.write_bytes(b"\0\0\x08\x01")
    assert "not an idx file" in refusal(tmp_path)
    labels.unlink()
    assert find(tmp_path).labels.tolist() == [-1] * 4
    images.write_bytes(idx(np.zeros((4, 3, 3)))[:-1])
    assert "cut short" in refusal(tmp_path)
    write(tmp_path / "x" / "a-images-idx3-ubyte.gz", b"no gzip")
    assert "damaged" in refusal(tmp_path / "x")
    write(tmp_path / "y" / "a-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((4, 3, 3))))[:-9])
    assert "damaged" in refusal(tmp_path / "y")


# Labels and classes ---------------------------------------------------------------------------------------------------


def test_labels_find_their_classes():
    found = classes(["golf_ball", "Tench", "dodo", "french-horn"], ["tench", "French horn", "golf ball", "golf ball"])
    assert found.tolist() == [2, 0, -1, 1]
    assert classes([], ["x"]).shape == (0,)


@pytest.mark.parametrize(
    ("labels", "channels", "expected"),
    [
        (list(map(str, range(10))), 1, "digits"),
        (list(truth.CLASSES), 3, "planted"),
        (["tench", "church"], 3, "photographs"),
        (list(map(str, range(4))), 3, "photographs"),
    ],
)
def test_each_network_gets_what_suits_it(labels, channels, expected):
    assert embedded.suits(labels, channels) == expected
    assert expected in embedded.EMBEDDED


# The cache, Hugging Face, downloads -----------------------------------------------------------------------------------


def test_what_lies_in_the_cache_is_at_hand(cache):
    parquet(cache / "datasets" / "birds.parquet", {"image": [png(1)]})
    write(cache / "datasets" / "pets" / "cat" / "a.png", png(1))
    write(cache / "datasets" / "digits" / "a.png", png(1))
    assert list(sets.at_hand()) == [*embedded.EMBEDDED, "birds", "pets"]
    assert find("pets").names == ("cat",)
    assert len(find("birds")) == 1
    assert len(find("digits")) == 1797, "what comes with the app cannot be replaced"


def test_hugging_faces_data_sets(monkeypatch):
    """A stand-in with the few calls that are needed: the package itself would have to download."""

    class Picture:
        def __init__(self, decode=True):
            self.decode = decode

    class Table:
        features = {"label": types.SimpleNamespace(names=["jay", "owl"]), "img": Picture()}  # noqa: RUF012
        _fingerprint = "abc"

        def cast_column(self, name, kind):
            assert name == "img"
            assert not kind.decode
            return self

        def __len__(self):
            return 2

        def __getitem__(self, key):
            rows = [{"bytes": png(1), "path": None}, {"bytes": None, "path": None}]
            return [1, 0] if key == "label" else {"img": rows[key]}

    def load_dataset(name, split):
        if name == "someone/birds" and split == "test":
            return Table()
        raise FileNotFoundError(f"{name} is\nnot there")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset, Image=Picture))
    data = find("hf:someone/birds@test")
    assert data.names == ("jay", "owl")
    assert data.labels.tolist() == [1, 0]
    assert grey(data.encoded(0)) == 1
    with pytest.raises(NotAPicture):
        data.encoded(1)
    assert "could not be had" in refusal("hf:someone/else")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install datasets" in refusal("hf:someone/birds")


def published(monkeypatch, name: str, contents: dict[str, bytes]) -> list[str]:
    """Puts contents in the place of the publisher's; returns the URLs that will be asked for."""
    asked = []

    def handed_over(url, path, *, md5):
        assert dict(fetched.FETCHED[name].files)[url] == md5
        asked.append(url)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = contents[path.name]
        yield zoo.Step(len(content) // 2, len(content), path)
        path.write_bytes(content)
        yield zoo.Step(len(content), len(content), path)

    monkeypatch.setattr(download, "download", handed_over)
    return asked


def test_mnist_is_fetched_once(cache, monkeypatch):
    contents = {}
    for part, count in (("train", 5), ("t10k", 3)):
        contents[f"{part}-images-idx3-ubyte.gz"] = gzip.compress(idx(np.zeros((count, 28, 28))))
        contents[f"{part}-labels-idx1-ubyte.gz"] = gzip.compress(idx(np.arange(count)))
    asked = published(monkeypatch, "mnist", contents)
    steps = list(fetched.fetch("mnist"))
    assert len(asked) == 4
    assert len({step.total for step in steps}) == 1
    assert all(a.index <= b.index for a, b in itertools.pairwise(steps))
    assert len(steps[-1].result) == 8
    assert len(find("mnist")) == 8
    assert len(last(fetched.fetch("mnist"))) == 8
    assert len(asked) == 4


def archive(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def test_cifar10_becomes_a_table(cache, monkeypatch):
    """Its rows, as its authors describe them: a byte of label, then 1,024 of red, of green and of blue."""
    rng = np.random.default_rng(0)
    files, planes = {"cifar/batches.meta.txt": b"plane\nfrog\n\n"}, {}
    for k, part in enumerate(["test_batch", *(f"data_batch_{k}" for k in range(1, 6))]):
        planes[part] = rng.integers(0, 256, (2, 3072)).astype(np.uint8)
        files[f"cifar/{part}.bin"] = b"".join(
            bytes([label]) + row.tobytes() for label, row in zip((k % 2, 1), planes[part], strict=True)
        )
    published(monkeypatch, "cifar10", {"cifar-10-binary.tar.gz": archive(files)})
    data = last(fetched.fetch("cifar10"))
    assert len(data) == 12
    assert data.names == ("plane", "frog")
    assert data.labels.tolist() == [0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1]
    got = np.asarray(Image.open(io.BytesIO(data.encoded(1))))
    assert (got == planes["test_batch"][1].reshape(3, 32, 32).transpose(1, 2, 0)).all()
    assert not list((cache / "downloads").rglob("*.gz")), "the archive is not kept"


def test_imagenette_becomes_a_table(cache, monkeypatch):
    files = {
        "imagenette2-160/train/n03445777/a.JPEG": png(1),
        "imagenette2-160/val/n01440764/b.JPEG": png(2),
        "imagenette2-160/noisy.csv": b"words",
    }
    published(monkeypatch, "imagenette", {"imagenette2-160.tgz": archive(files)})
    data = last(fetched.fetch("imagenette"))
    assert [data.names[data.label(k)] for k in range(2)] == ["golf ball", "tench"]
    assert [grey(data.encoded(k)) for k in range(2)] == [1, 2]


def test_the_published_sets_are_torchvisions():
    from torchvision import datasets

    mnist = {(datasets.MNIST.mirrors[0] + name, md5) for name, md5 in datasets.MNIST.resources}
    assert set(fetched.FETCHED["mnist"].files) == mnist
    ((url, md5),) = fetched.FETCHED["cifar10"].files
    assert url == datasets.CIFAR10.url.replace("python", "binary")  # theirs is pickled
    assert md5 == "c32a1d4ab5d03f1284b67883e8d87530"  # as the authors' page states it
    assert fetched.FETCHED["imagenette"].files == (datasets.Imagenette._ARCHIVES["160px"],)
    theirs = {number: names[0] for number, names in datasets.Imagenette._WNID_TO_CLASS.items()}
    assert theirs == fetched.IMAGENETTE


# Real data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "count", "labels"),
    [
        ("imagenette160/val.parquet", 1090, 10),
        ("cifar10/test.parquet", 10_000, 10),
        ("caltech16/val.parquet", 252, 16),
        ("MNIST", 70_000, 10),
    ],
)
def test_real_sets(shared, path, count, labels):
    data = find(shared / "data" / path)
    assert len(data) == count
    assert len(data.names) == labels
    for index in (0, count // 2, count - 1):
        assert image.load(data.encoded(index)).ndim == 3

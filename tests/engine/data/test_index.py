"""Is what the index says what the network says, whatever happened to the pass on its way?"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_nets as small
from click.testing import CliRunner
from PIL import Image

from engine import image
from engine.cli.main import main
from engine.data import dataset, embedded, fetched, indexing
from engine.data import index as indexes
from engine.data.dataset import Dataset
from engine.data.index import BadIndex, Index, IndexBusy, open_index
from engine.data.indexing import index_steps
from engine.data.sets import find
from engine.devices import cores
from engine.image import NotAPicture
from engine.net import Net, UnknownLayer, softmax
from engine.nets import available
from engine.nets.folder import PROJECT
from engine.step import Step, last

pytestmark = pytest.mark.usefixtures("cache")

LAYERS = ["conv1", "relu1", "conv2", "logits"]
COUNT = 23


def set_of(count: int = COUNT, broken: tuple[int, ...] = (), digest: str = "d" * 64, name: str = "some") -> Dataset:
    """Pictures of the size that `tiny` sees and of others; the numbers in `broken` cannot be read."""

    def read(number: int) -> bytes:
        if number in broken:
            return b"\xff\xd8\xff no more"
        size = small.SIZE if number % 3 else (15 + number % 4, 40)
        return image.to_png(small.picture(size, seed=number))

    labels = np.arange(count) % 2
    return Dataset(name, ("even", "odd"), digest, labels, read, lambda number: f"row {number}")


def made(net: Net, data: Dataset, folder: Path | None = None, **more) -> Index:
    return last(index_steps(net, data, layers=LAYERS, folder=folder, batch=4, every=0, **more))


def content(index: Index) -> pd.DataFrame:
    """All that the table holds, row by row."""
    rows = index.table.search().to_arrow().sort_by("id")
    return rows.to_pandas()


def same(a: Index, b: Index) -> bool:
    pd.testing.assert_frame_equal(content(a), content(b), check_exact=True)
    return True


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory) -> Index:
    """The index of a set of which three pictures cannot be read. Not to be changed."""
    return made(tiny, set_of(broken=(2, 9, 10)), tmp_path_factory.mktemp("index"))


def brute(net: Net, data: Dataset, ids: list[int]) -> dict[str, np.ndarray]:
    """The tensors of every picture, one by one: (N, …)."""
    found: dict[str, list] = {name: [] for name in LAYERS}
    for number in ids:
        pixels, _ = net.view(image.load(data.encoded(number)))
        for name, value in net.activations(net.batch(pixels), LAYERS).items():
            found[name].append(value[0])
    return {name: np.stack(values) for name, values in found.items()}


# What it says ---------------------------------------------------------------------------------------------------------


def test_the_index_says_what_the_network_says(tiny, whole):
    ids = [number for number in range(COUNT) if number not in (2, 9, 10)]
    expected = brute(tiny, set_of(), ids)
    table = whole.pictures
    assert table["id"].tolist() == ids
    assert table["where"].tolist() == [f"row {number}" for number in ids]
    assert table["label"].tolist() == [number % 2 for number in ids]
    shares = softmax(expected["logits"])
    assert table["prediction"].tolist() == shares.argmax(1).tolist()
    np.testing.assert_allclose(table["probability"], shares.max(1), rtol=1e-5)
    for name in LAYERS:
        values = expected[name].reshape(len(ids), expected[name].shape[1], -1)
        np.testing.assert_allclose(whole.features(name), values.mean(2), rtol=1e-4, atol=1e-5)
        assert whole.features(name).dtype == np.float32
        strongest, places = whole.strongest(name)
        np.testing.assert_allclose(strongest, values.max(2), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.take_along_axis(values, places[..., None], 2)[..., 0], strongest, atol=1e-5)
        assert (strongest.dtype, places.dtype) == (np.float32, np.int32)
        units = whole.units(name)
        assert units["channel"].tolist() == list(range(values.shape[1]))
        np.testing.assert_allclose(units["mean"], values.mean((0, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(units["maximum"], values.max((0, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(units["pictures"], (values > 0).any(2).mean(0))
        np.testing.assert_allclose(units["positions"], (values > 0).mean((0, 2)))


def test_the_strongest_places_are_those_of_a_search_through_everything(tiny, whole):
    ids = whole.pictures["id"].tolist()
    expected = brute(tiny, set_of(), ids)
    for name in LAYERS:
        width = whole.shape(name)[2]
        of_all = whole.tops(name, 5)
        for channel in range(whole.shape(name)[0]):
            values = expected[name][:, channel].reshape(len(ids), -1)
            order = sorted(range(len(ids)), key=lambda k, v=values: (-v[k].max(), k))[:5]
            top = whole.top(name, channel, 5)
            assert list(top.columns) == ["value", "id", "row", "col"]
            assert top["id"].tolist() == [ids[k] for k in order]
            np.testing.assert_allclose(top["value"], values[order].max(1), rtol=1e-4, atol=1e-5)
            places = top["row"] * width + top["col"]
            np.testing.assert_allclose(values[order, places], top["value"], rtol=1e-4, atol=1e-5)
            part = of_all[of_all["channel"] == channel].drop(columns="channel").reset_index(drop=True)
            pd.testing.assert_frame_equal(part, top)


def test_of_equals_the_lower_id_is_first(tiny, tmp_path):
    png = image.to_png(small.picture())
    alike = Dataset("alike", (), "e" * 64, np.full(9, -1), lambda _: png, str)
    found = last(index_steps(tiny, alike, layers=LAYERS, folder=tmp_path, batch=1, every=0))
    assert found.top("relu1", 0, 4)["id"].tolist() == [0, 1, 2, 3]
    assert found.tops("relu1", 4)["id"].tolist() == [0, 1, 2, 3] * 5
    assert len(found.top("relu1", 0, 50)) == 9


def test_what_is_asked_in_parts_is_what_there_is(tiny, whole, monkeypatch):
    expected = whole.features("relu1"), whole.tops("relu1", 3), whole.units("relu1"), whole.pictures
    monkeypatch.setattr(indexes, "ROWS", 3)
    again = open_index(tiny, set_of(), folder=whole.folder)
    np.testing.assert_array_equal(again.features("relu1"), expected[0])
    pd.testing.assert_frame_equal(again.tops("relu1", 3), expected[1])
    pd.testing.assert_frame_equal(again.units("relu1"), expected[2])
    pd.testing.assert_frame_equal(again.pictures, expected[3])
    assert len(again.thumbnails(range(COUNT))) == COUNT


def test_values_are_reduced_in_parts(monkeypatch):
    values = np.random.default_rng(0).normal(size=(3, 5, 4, 6)).astype(np.float32)
    for cached in (1, 24, 100, 1 << 18):
        monkeypatch.setattr(indexing, "CACHED", cached)
        found = indexing._reduced(values, (5, 4, 6))
        flat = values.reshape(3, 5, 24)
        np.testing.assert_allclose(found["mean"], flat.mean(2), rtol=1e-5, atol=1e-6)
        assert (found["max"] == flat.max(2)).all()
        assert (found["place"] == flat.argmax(2)).all()
        assert (found["fires"] == (flat > 0).sum(2)).all()


def test_pictures_of_the_index(tiny, whole):
    data = set_of(broken=(2, 9, 10))
    opened = open_index(tiny, data, folder=whole.folder)
    np.testing.assert_array_equal(opened.pixels(tiny, 3), tiny.view(image.load(data.encoded(3)))[0])
    with pytest.raises(NotAPicture):
        opened.pixels(tiny, 2)
    with pytest.raises(BadIndex):
        opened.pixels(tiny, COUNT)
    shown = whole.thumbnails([4, 2, 4, -1, COUNT])
    assert shown[0] == shown[2] != b""
    assert shown[1] == shown[3] == shown[4] == b""
    small_ = image.load(shown[0])
    np.testing.assert_allclose(small_, opened.pixels(tiny, 4), atol=0.51 / 255)
    assert whole.thumbnails([]) == []


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(200, 100), (64, 64), (33, 20), (9, 9), (300, 2)])
def test_thumbnails_are_small(size, channels):
    pixels = np.full((*size, channels), 0.5, np.float32)
    found = image.load(indexing.thumbnail(pixels))
    assert max(found.shape[:2]) == min(max(size), 64)
    assert found.shape[1] == max(round(size[1] * min(64 / max(size), 1)), 1)
    np.testing.assert_allclose(found, 0.5, atol=0.01)


def test_skipped_pictures_are_counted_and_listed(whole):
    assert len(whole.skipped) == 3
    assert whole.skipped[0].startswith("row 2: The JPEG file is damaged")
    assert whole.done == whole.total == COUNT
    assert whole.complete
    assert len(whole.pictures) == len(whole.features("relu1")) == COUNT - 3


def test_what_is_not_in_the_index(whole):
    for ask in (whole.features, whole.strongest, whole.units, whole.tops, whole.shape, whole.column):
        with pytest.raises(UnknownLayer, match="conv1, relu1, conv2, logits"):
            ask("pool1")
    with pytest.raises(UnknownLayer, match="0 to 4, not 5"):
        whole.top("relu1", 5)


def test_a_column_can_be_searched(whole):
    """By LanceDB itself: the nearest of a picture's features is the picture."""
    query = whole.features("relu1")[7]
    search = whole.table.search(query, vector_column_name=whole.column("relu1")).where("error is null")
    assert search.limit(1).to_arrow()["id"].to_pylist() == [whole.pictures["id"][7]]


def test_a_network_of_one_picture_at_a_time_and_one_without_maps(tmp_path):
    fixed = small.save(small.tiny(shape=(1, 3, *small.SIZE), about=small.ABOUT), tmp_path / "fixed.onnx")
    free = small.save(small.tiny(about=small.ABOUT), tmp_path / "free.onnx")
    for name in LAYERS:
        np.testing.assert_allclose(
            made(fixed, set_of(5)).features(name), made(free, set_of(5)).features(name), rtol=1e-5, atol=1e-6
        )
    weight = np.random.default_rng(0).normal(size=(4, 3, *small.SIZE))
    linear = small.save(small.linear(weight, np.zeros(4)), tmp_path / "linear.onnx")
    found = last(index_steps(linear, set_of(5)))
    assert "logits" in found.layers
    assert len(found.features("logits")) == 5


def test_the_layers_by_default(tiny, tmp_path):
    found = last(index_steps(tiny, set_of(3)))
    assert set(found.layers) >= {tiny.last_map, tiny.logits}
    assert list(found.layers) == [layer.name for layer in tiny.layers if layer.name in found.layers]
    with pytest.raises(UnknownLayer, match="novelty"):
        last(index_steps(tiny, set_of(3), layers=["novelty"]))


# On its way -----------------------------------------------------------------------------------------------------------


def test_steps_hold_what_there_is_so_far(tiny, whole, tmp_path):
    steps = list(index_steps(tiny, set_of(broken=(2, 9, 10)), layers=LAYERS, folder=tmp_path, batch=4, every=0))
    assert [(step.index, step.total) for step in steps] == [(k, COUNT) for k in (4, 8, 12, 16, 20, 23)]
    for step in steps:
        assert step.result.done == step.index
        part = whole.pictures[whole.pictures["id"] < step.index]
        pd.testing.assert_frame_equal(step.result.pictures, part.reset_index(drop=True))
        assert len(step.result.features("conv2")) == len(part)
    assert same(steps[-1].result, whole)


def test_writes_are_not_more_frequent_than_they_need_to_be(tiny, tmp_path):
    steps = list(index_steps(tiny, set_of(), layers=LAYERS, folder=tmp_path, batch=4, every=1000))
    assert [step.index for step in steps] == [COUNT]


@pytest.mark.parametrize("after", range(1, 6))
def test_ended_after_each_batch_and_resumed(tiny, whole, tmp_path, after):
    data = set_of(broken=(2, 9, 10))
    for _ in range(2):  # twice, so that a resumed one is ended, too
        steps = index_steps(tiny, data, layers=LAYERS, folder=tmp_path, batch=4, every=0)
        for _, _step in zip(range(after), steps, strict=False):
            pass
        steps.close()
    found = open_index(tiny, data, folder=tmp_path)
    assert found.done == min(8 * after, COUNT)
    resumed = index_steps(tiny, data, layers=LAYERS, folder=tmp_path, batch=4, every=0)
    assert same(last(resumed), whole)


def test_a_complete_index_is_not_made_again(tiny, whole, monkeypatch):
    monkeypatch.setattr(Net, "resume", lambda *_: pytest.fail("The network was asked."))
    steps = list(index_steps(tiny, set_of(broken=(2, 9, 10)), layers=LAYERS, folder=whole.folder))
    assert [(step.index, step.total) for step in steps] == [(COUNT, COUNT)]


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_index import LAYERS, set_of
from engine.data.indexing import index_steps
from engine.net import Net
net = Net(sys.argv[1])
print("ready", flush=True)
for step in index_steps(net, set_of(200, (2, 9, 10)), layers=LAYERS, folder=Path(sys.argv[2]), batch=4, every=0):
    print(step.index, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="There is no SIGKILL on this system.")
def test_killed_at_any_moment_and_resumed(tiny, tmp_path):
    """Not between two steps, but wherever it is just then."""
    data = set_of(200, (2, 9, 10))
    paths = Path(__file__).parent, PROJECT / "tests", PROJECT
    command = [sys.executable, "-W", "ignore", "-c", KILLED, tiny.path, tmp_path / "killed", *paths]
    rng = np.random.default_rng(0)
    seen = 0
    for wait in (0.0, 0.02, 0.2):
        process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        if wait:
            process.stdout.readline()
        time.sleep(wait + rng.uniform(0, 0.05))
        process.kill()
        lines = process.communicate()[0].split()
        if lines:
            seen = int(lines[-1])
        found = open_index(tiny, data, folder=tmp_path / "killed")
        assert (found.done if found else 0) >= seen, "what was reported is there"
        if found:
            assert content(found)["id"].tolist() == list(range(found.done))
    resumed = last(index_steps(tiny, data, layers=LAYERS, folder=tmp_path / "killed", batch=4, every=0))
    assert same(resumed, made(tiny, data, tmp_path / "whole"))


def test_two_runs_at_once(tiny, whole, tmp_path):
    """The second one is refused while the first one writes; another process is, too."""
    data = set_of(broken=(2, 9, 10))
    first = index_steps(tiny, data, layers=LAYERS, folder=tmp_path, batch=4, every=0)
    next(first)
    with pytest.raises(IndexBusy, match="another run"):
        next(index_steps(tiny, data, layers=LAYERS, folder=tmp_path, batch=4, every=0))
    code = textwrap.dedent("""
        import sys
        from filelock import FileLock, Timeout
        try:
            FileLock(sys.argv[1], timeout=0).acquire()
        except Timeout:
            print("busy")
    """)
    other = subprocess.run([sys.executable, "-c", code, str(tmp_path / "lock")], capture_output=True, text=True)
    assert other.stdout == "busy\n", other.stderr
    assert same(last(first), whole)
    assert same(made(tiny, data, tmp_path), whole), "and then it can be had"


def test_many_runs_at_once_make_one_index(tiny, whole, tmp_path):
    data = set_of(broken=(2, 9, 10))
    done, refused = [], []

    def run() -> None:
        try:
            done.append(made(tiny, data, tmp_path))
        except IndexBusy as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done
    assert len(done) + len(refused) == 4
    assert same(done[0], whole)


def test_read_while_it_is_tidied_up(tiny, tmp_path):
    """An Index of a moment ago still reads after the files that it stood in were put together."""
    steps = index_steps(tiny, set_of(), layers=LAYERS, folder=tmp_path, batch=4, every=0)
    early = next(steps).result
    table = early.table
    expected = early.features("relu1")
    finished = last(steps)
    np.testing.assert_array_equal(early.features("relu1"), expected)
    assert len(early.pictures) == 4
    assert table.count_rows() in (4, COUNT)
    assert len(list((tmp_path / "pictures.lance" / "data").iterdir())) == 1, "many small files are one"
    assert finished.done == COUNT


# Bad input ------------------------------------------------------------------------------------------------------------


def test_one_picture(tiny, tmp_path):
    found = made(tiny, set_of(1), tmp_path)
    assert len(found.pictures) == 1
    assert found.units("relu1")["channel"].tolist() == [0, 1, 2, 3, 4]
    assert len(found.top("relu1", 0)) == 1


def test_ten_thousand_broken_files(tiny, tmp_path):
    (tmp_path / "broken").mkdir()
    for number in range(10_000):
        (tmp_path / "broken" / f"{number:05}.jpg").write_bytes(b"\xff\xd8\xff" if number % 2 else b"")
    found = last(index_steps(tiny, find(tmp_path / "broken"), layers=LAYERS))
    assert found.complete
    assert found.done == len(found.skipped) == 10_000
    assert found.skipped[0] == "00000.jpg: The file is empty: choose another one."
    assert len(found.pictures) == 0
    assert list(found.pictures.columns) == ["id", "where", "label", "prediction", "probability"]
    assert found.features("relu1").shape == (0, 5)
    assert found.strongest("relu1")[1].shape == (0, 5)
    assert len(found.top("relu1", 0)) == 0
    assert (found.units("relu1")["pictures"] == 0).all()


def test_a_file_that_goes_away_is_skipped(tiny, tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(image.to_png(small.picture()))
    data = find(tmp_path)
    (tmp_path / "b.png").unlink()
    found = last(index_steps(tiny, data, layers=LAYERS))
    assert found.pictures["where"].tolist() == ["a.png", "c.png"]
    assert found.skipped[0].startswith("b.png: ")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_disk_that_takes_nothing(tiny, tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(BadIndex, match="cannot be written") as error:
        made(tiny, set_of(), tmp_path / "index")
    assert "CONVOSCOPE_HOME" in str(error.value)


def test_a_folder_that_may_not_be_written(tiny, tmp_path):
    (tmp_path / "file").write_text("a file where a folder is wanted", "utf-8")
    with pytest.raises(BadIndex, match="cannot be written"):
        made(tiny, set_of(), tmp_path / "file" / "index")


def test_the_disk_is_full_on_the_way(tiny, whole, tmp_path, monkeypatch):
    """The pass ends with a sentence, and goes on when there is room again."""
    data = set_of(broken=(2, 9, 10))
    steps = index_steps(tiny, data, layers=LAYERS, folder=tmp_path, batch=4, every=0)
    next(steps)
    with monkeypatch.context() as patch:

        def refuse(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr(indexing, "_added", refuse)
        with pytest.raises(BadIndex, match="the disk is full"):
            last(steps)
    assert same(made(tiny, data, tmp_path), whole)


def test_a_damaged_index_is_said(tiny, tmp_path):
    found = made(tiny, set_of(), tmp_path)
    for file in (tmp_path / "pictures.lance" / "data").iterdir():
        file.write_bytes(b"nothing")
    with pytest.raises(BadIndex, match="damaged"):
        found.features("relu1")


def test_another_index_in_the_folder_is_left_alone(tiny, whole):
    with pytest.raises(BadIndex, match="another index, of some by tiny"):
        made(tiny, set_of(digest="f" * 64), whole.folder)
    with pytest.raises(BadIndex, match="another index"):
        last(index_steps(tiny, set_of(broken=(2, 9, 10)), layers=["conv1"], folder=whole.folder))


# Stale or not ---------------------------------------------------------------------------------------------------------


def test_an_index_is_found_by_its_network_and_its_pictures(tiny):
    assert open_index(tiny, set_of()) is None
    found = made(tiny, set_of())
    again = open_index(tiny, set_of())
    assert again.stale == ""
    assert again.folder == found.folder
    assert again.key == found.key
    assert open_index(tiny, set_of(), layers=["relu1"]).key == found.key
    assert open_index(tiny, set_of(), layers=["pool1"]) is None
    assert open_index(tiny, set_of(name="others", digest="9" * 64)) is None


def test_pictures_that_have_changed_are_noticed(tiny):
    made(tiny, set_of())
    stale = open_index(tiny, set_of(COUNT + 2, digest="f" * 64))
    assert "have changed" in stale.stale
    assert "23 pictures then, 25 now" in stale.stale
    assert len(stale.pictures) == COUNT
    made(tiny, set_of(COUNT + 2, digest="f" * 64))
    fresh = open_index(tiny, set_of(COUNT + 2, digest="f" * 64))
    assert fresh.stale == ""
    assert fresh.done == COUNT + 2


def test_other_pictures_in_a_folder_of_the_same_name_are_no_change(tiny, tmp_path):
    for name, count in (("a", 2), ("b", 3)):
        (tmp_path / name / "set").mkdir(parents=True)
        for number in range(count):
            (tmp_path / name / "set" / f"{number}.png").write_bytes(image.to_png(small.picture(seed=number)))
    last(index_steps(tiny, find(tmp_path / "a" / "set")))
    assert open_index(tiny, find(tmp_path / "b" / "set")) is None
    (tmp_path / "a" / "set" / "0.png").unlink()
    assert "2 pictures then, 1 now" in open_index(tiny, find(tmp_path / "a" / "set")).stale
    (tmp_path / "b" / "set").rename(tmp_path / "c")
    assert open_index(tiny, find(tmp_path / "c")) is None


def test_pictures_that_were_moved_are_still_the_same(tiny, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(image.to_png(small.picture()))
    last(index_steps(tiny, find(tmp_path / "a")))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = find(tmp_path / "b")
    assert open_index(tiny, moved).stale == ""
    assert last(index_steps(tiny, moved)).complete


def test_a_network_that_has_changed_is_noticed(tiny, tmp_path):
    made(tiny, set_of())
    weights = {name: value * 2 for name, value in small.tiny_weights().items()}
    changed = tiny.with_weights({"w1": weights["w1"]})
    assert changed.name == tiny.name
    assert "weights have changed" in open_index(changed, set_of()).stale


def test_an_index_of_another_version_is_not_read(tiny, tmp_path):
    made(tiny, set_of(), tmp_path)
    about = json.loads((tmp_path / "about.json").read_text("utf-8"))
    (tmp_path / "about.json").write_text(json.dumps(about | {"format": 0}), "utf-8")
    assert open_index(tiny, set_of(), folder=tmp_path) is None
    with pytest.raises(BadIndex, match="another version"):
        made(tiny, set_of(), tmp_path)


# From the command line ------------------------------------------------------------------------------------------------


def test_the_command(tiny, tmp_path, cache):
    for label in ("tench", "church"):
        (tmp_path / "set" / label).mkdir(parents=True)
        for number in range(3):
            file = tmp_path / "set" / label / f"{number}.png"
            Image.fromarray(np.full((12, 16, 3), 40 * number, np.uint8)).save(file)
    (tmp_path / "set" / "tench" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    arguments = ["index", "--net", str(tiny.path), "--data", str(tmp_path / "set")]
    done = CliRunner().invoke(main, [*arguments, "--layers", "relu1, logits"])
    assert done.exit_code == 0, done.output
    assert "6 pictures of set by tiny" in done.stdout
    assert "1 skipped; layers relu1, logits" in done.stdout
    assert "Of 6 whose label" in done.stdout
    assert "skipped tench/broken.jpg: The JPEG file is damaged" in done.stderr
    assert open_index(tiny, find(tmp_path / "set")).layers == ("relu1", "logits")
    listed = CliRunner().invoke(main, ["index", "--list"])
    assert listed.exit_code == 0
    assert all(name in listed.stdout for name in (*embedded.EMBEDDED, *fetched.FETCHED))
    wrong = CliRunner().invoke(main, [*arguments, "--layers", "novelty"])
    assert wrong.exit_code == 2
    assert "novelty" in wrong.stderr


def test_memory_does_not_grow_with_the_pictures(tiny, tmp_path):
    """In rows: as many are on the way at a time with a hundred batches as with ten."""
    on_the_way, most = set(), 0
    lock = threading.Lock()
    data = set_of(400)

    def read(number: int) -> bytes:
        nonlocal most
        with lock:
            on_the_way.add(number)
            most = max(most, len(on_the_way))
        return data.read(number)

    watched = Dataset(data.name, data.names, data.digest, data.labels, read, data.place)
    for step in index_steps(tiny, watched, layers=LAYERS, folder=tmp_path, batch=4, every=0):
        assert isinstance(step, Step)
        with lock:
            on_the_way.difference_update(range(step.index))
    assert most <= 4 * (min(cores(), indexing.AT_ONCE) + indexing.AHEAD + 1)


# Real data ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("net", "path"), [("imagenette", "imagenette160/val.parquet"), ("digits", "MNIST")])
def test_real_pictures_are_taken_for_what_they_are(shared, net, path):
    """The first 48 of a set that the network was made for, or of one much like it."""
    network, data = Net(available.find(net)), find(shared / "data" / path)
    first = Dataset(data.name, data.names, data.digest, data.labels[:48], data.read, data.place)
    found = last(index_steps(network, first))
    assert not found.skipped
    table = found.pictures
    right = dataset.classes(found.names, network.labels)[table["label"]] == table["prediction"]
    assert right.mean() > (0.8 if net == "imagenette" else 0.4)

"""What does a network say of every picture of a set?

One pass over the pictures, and a table with a row per picture: what the network takes it for, and of each channel of a
few layers the mean, the maximum and its place, and at how many places it fires. All that the pages about data sets ask
is read off that table: which pictures excite a unit most, which units never fire, which pictures are alike.

The rows are all the state there is. They are written in order, and a write is there as a whole or not at all; so a pass
that was ended at any moment goes on behind the last row that is there, with nothing lost or counted twice.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from PIL import Image

from engine import image as pictures
from engine.dataset import Dataset
from engine.net import Layer, Net, UnknownLayer, cores, softmax
from engine.nets.folder import home
from engine.step import Step, last
from engine.trunk import spaced

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2  # of the table; one of another format is not read
LAYERS = 4  # of the trunk, by default
BATCH = 16  # pictures in a forward pass, at most: few, so that what comes out of it is still near the core
AT_ONCE = 8  # batches at a time, at most
AHEAD = 2  # batches that wait to be begun, or to be written
EVERY = 0.5  # seconds between two writes
THUMBNAIL = 64  # pixels of the longer side, at most
CACHED = 1 << 18  # values that are reduced at a time: 1 MB
ROWS = 1024  # read at a time
TABLE, ABOUT, LOCK = "pictures", "about.json", "lock"
KINDS = ("mean", "max", "place", "fires")  # float32, float32, row * W + col, and at how many places it is above 0


class BadIndex(ValueError):
    """The index cannot be made, or not be read; the message is one sentence for the person who asked."""


class IndexBusy(BadIndex):
    """Another run is writing this index."""


# Reading --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Index:
    """What is known of the first `done` of `total` pictures; those that could not be read are left out everywhere.

    folder: where it lies. net_sha256, output: of the network. data_digest, data_name, names: of the pictures, and of
    their labels. shapes: (C, H, W) of each of `layers`. stale: "", or one sentence that says why it no longer holds.
    data: where the pictures come from, for `pixels`.
    """

    folder: Path
    net_sha256: str
    net_name: str
    output: str
    data_digest: str
    data_name: str
    names: tuple[str, ...]
    layers: tuple[str, ...]
    shapes: tuple[tuple[int, int, int], ...]
    total: int
    done: int
    stale: str = ""
    data: Dataset | None = field(default=None, repr=False)

    @property
    def complete(self) -> bool:
        return self.done >= self.total

    @property
    def key(self) -> tuple:
        """What its numbers depend on, for a cache."""
        return (self.net_sha256, self.output, self.data_digest, self.layers, self.done)

    def shape(self, layer: str) -> tuple[int, int, int]:
        """(C, H, W) of an indexed layer. Raises UnknownLayer."""
        return self.shapes[self._place(layer)]

    @cached_property
    def pictures(self) -> pd.DataFrame:
        """A row per picture that could be read, in the order of their ids: id, where, label, prediction, probability.

        label: its place in `names`, -1 where it has none. prediction: the network's likeliest class, and its
        probability.
        """
        columns = ["id", "where", "label", "prediction", "probability"]
        found = [part.select(columns).to_pandas() for part in self._read(columns)]
        if not found:
            return pd.DataFrame({"id": [], "where": [], "label": [], "prediction": [], "probability": []})
        return pd.concat(found, ignore_index=True)

    @cached_property
    def skipped(self) -> list[str]:
        """The pictures that could not be read: where each lies and why, in a sentence."""
        columns = ["id", "where", "error"]
        rows = [row for part in self._read(columns, broken=True) for row in part.to_pylist()]
        return [f"{row['where']}: {row['error']}" for row in rows]

    def features(self, layer: str) -> np.ndarray:
        """(N, C) float32: the mean of each channel over rows and columns, in the order of `pictures`.

        Raises UnknownLayer where that layer is not in the index.
        """
        return self._whole(layer, "mean", np.float32)

    def strongest(self, layer: str) -> tuple[np.ndarray, np.ndarray]:
        """(N, C) float32, the maximum of each channel over rows and columns, and (N, C) int32, its place row * W + col.

        Raises UnknownLayer.
        """
        return self._whole(layer, "max", np.float32), self._whole(layer, "place", np.int32)

    def units(self, layer: str) -> pd.DataFrame:
        """A row per channel: channel, mean, maximum, pictures and positions (shares of all of them where it is > 0).

        Raises UnknownLayer.
        """
        channels, height, width = self.shape(layer)
        count, sums, most = 0, np.zeros((3, channels)), np.full(channels, -np.inf)
        for part in self._columns(layer, ("mean", "max", "fires")):
            count += len(part["id"])
            sums += (part["mean"].sum(0, np.float64), (part["fires"] > 0).sum(0), part["fires"].sum(0, np.float64))
            most = np.maximum(most, part["max"].max(0, initial=-np.inf))
        mean, fired, fires = sums / max(count, 1)
        return pd.DataFrame({
            "channel": np.arange(channels),
            "mean": mean,
            "maximum": most if count else np.zeros(channels),
            "pictures": fired,
            "positions": fires / (height * width),
        })  # fmt: skip

    def tops(self, layer: str, count: int = 9) -> pd.DataFrame:
        """The pictures that excite each channel most: channel, value, id, row, col; `count` rows per channel, the
        strongest first, of equals the one with the lower id. Raises UnknownLayer.
        """
        return self._tops(layer, count, None)

    def top(self, layer: str, channel: int, count: int = 9) -> pd.DataFrame:
        """The same of one channel: value, id, row, col. Raises UnknownLayer, also for a channel that is not there."""
        channels = self.shape(layer)[0]
        if not 0 <= channel < channels:
            raise UnknownLayer(f"Layer {layer} has channels 0 to {channels - 1}, not {channel}.")
        return self._tops(layer, count, channel).drop(columns="channel")

    def thumbnails(self, ids: Sequence[int]) -> list[bytes]:
        """What the network saw of each picture, at most 64 pixels a side, as JPEG or PNG; b"" where it saw none."""
        wanted = np.asarray(ids, np.int64)
        if not len(wanted):
            return []
        unique = np.unique(wanted[(wanted >= 0) & (wanted < self.done)])
        found: dict[int, bytes] = {}
        for first in range(0, len(unique), ROWS):
            chosen = unique[first : first + ROWS]
            listed = ", ".join(map(str, chosen.tolist()))
            rows = self._query(["id", "thumbnail"], f"id >= {chosen[0]} and id <= {chosen[-1]} and id in ({listed})")
            found |= dict(zip(rows["id"].to_pylist(), rows["thumbnail"].to_pylist(), strict=True))
        return [found.get(int(number)) or b"" for number in wanted]

    def pixels(self, net: Net, number: int) -> np.ndarray:
        """(H, W, C): the net's view of a picture, decoded once more from the data set.

        Raises BadIndex where the data set is not at hand, NotAPicture or OSError where the picture is not any more.
        """
        if self.data is None or not 0 <= number < len(self.data):
            raise BadIndex(f"Picture {number} of {self.data_name} is not at hand; open the index with its data set.")
        return net.view(pictures.load(self.data.encoded(number)))[0]

    @property
    def table(self) -> Any:
        """The LanceDB table: id, where, label, prediction, probability, thumbnail, error; see `column` for the rest."""
        return _connect(self.folder).open_table(TABLE)

    def column(self, layer: str, kind: str = "mean") -> str:
        """The table's column of that layer: mean, max, place or fires. Raises UnknownLayer."""
        return f"{kind}_{self._place(layer)}"

    def _place(self, layer: str) -> int:
        if layer not in self.layers:
            raise UnknownLayer(f"Layer {layer!r} is not in the index, which has {', '.join(self.layers)}.")
        return self.layers.index(layer)

    def _query(self, columns: Sequence[str], where: str) -> pa.Table:
        try:
            return self.table.search().select(list(columns)).where(where).to_arrow()
        except Exception:  # the pass has ended meanwhile and put its many small files together: once more
            try:
                return self.table.search().select(list(columns)).where(where).to_arrow()
            except Exception as error:  # Lance raises ValueError, OSError and RuntimeError for what has gone
                raise BadIndex(
                    f"The index of {self.data_name} is damaged; remove its folder and index again."
                ) from error

    def _read(self, columns: Sequence[str], broken: bool = False) -> Iterator[pa.Table]:
        """The rows in order of id, ROWS at a time: those that could be read, or those that could not."""
        kind = "is not null" if broken else "is null"
        for first in range(0, self.done, ROWS):
            end = min(first + ROWS, self.done)
            rows = self._query(columns, f"id >= {first} and id < {end} and error {kind}")
            if len(rows):
                yield rows.sort_by("id")

    def _columns(self, layer: str, kinds: Sequence[str]) -> Iterator[dict[str, np.ndarray]]:
        """Chunks of {"id": (n,), kind: (n, C), …}."""
        names = {kind: self.column(layer, kind) for kind in kinds}
        channels = self.shape(layer)[0]
        for part in self._read(["id", *names.values()]):
            found = {"id": part["id"].to_numpy()}
            for kind, name in names.items():
                values = part[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
                found[kind] = values.reshape(-1, channels)
            yield found

    def _whole(self, layer: str, kind: str, dtype: type) -> np.ndarray:
        found = [part[kind] for part in self._columns(layer, (kind,))]
        if not found:
            return np.zeros((0, self.shape(layer)[0]), dtype)
        return np.concatenate(found).astype(dtype, copy=False)

    def _tops(self, layer: str, count: int, channel: int | None) -> pd.DataFrame:
        channels, _, width = self.shape(layer)
        only = slice(None) if channel is None else slice(channel, channel + 1)
        values = np.zeros((0, channels), np.float32)[:, only]
        ids, places = (np.zeros(values.shape, np.int64) for _ in range(2))
        for part in self._columns(layer, ("max", "place")):
            values = np.concatenate([values, part["max"][:, only]])
            ids = np.concatenate([ids, np.broadcast_to(part["id"][:, None], part["max"][:, only].shape)])
            places = np.concatenate([places, part["place"][:, only]])
            # Stable, and the rows come in order of id: of equals, the lower id stays first.
            order = np.argsort(-values, axis=0, kind="stable")[:count]
            values, ids, places = (np.take_along_axis(each, order, 0) for each in (values, ids, places))
        numbers = np.arange(channels)[only]
        return pd.DataFrame({
            "channel": np.repeat(numbers, len(values)),
            "value": values.T.ravel(),
            "id": ids.T.ravel(),
            "row": (places // width).T.ravel(),
            "col": (places % width).T.ravel(),
        })  # fmt: skip


def open_index(net: Net, data: Dataset, *, layers: Sequence[str] = (), folder: Path | None = None) -> Index | None:
    """The index of these pictures by this network that says most, complete or not; None where there is none.

    layers: those that it has to have. folder: where it lies, by default in the app's cache. Where there is only one of
    another state of the network or of the pictures, that one, and its `stale` says so.
    """
    folders = sorted(_indexes().glob("*-*-*")) if folder is None else [Path(folder)]
    found = [index for each in folders if (index := _opened(each, net, data)) and set(layers) <= set(index.layers)]
    found = [index for index in found if index.done]
    return max(found, key=lambda index: (not index.stale, index.done, len(index.layers)), default=None)


def _opened(folder: Path, net: Net, data: Dataset) -> Index | None:
    """The index in a folder, if it is one of this network or this data set."""
    about = _about(folder)
    if about is None:
        return None
    same_net = (about["net_sha256"], about["output"]) == (net.sha256, net.output)
    same_data = about["data_digest"] == data.digest
    of_net = same_net or about["net_name"] == net.name
    of_data = same_data or (about["data_name"], about["data_source"]) == (data.name, data.source)
    if not (of_net and of_data):
        return None
    stale = ""
    if not same_net:
        stale = f"This index was made by another state of {net.name}, whose weights have changed since."
    elif not same_data:
        then, now = about["total"], len(data)
        more = f": {then:,} pictures then, {now:,} now" if then != now else ""
        stale = f"The pictures of {data.name} have changed since this index was made{more}."
    return _index(folder, about, _count(folder), data, stale)


def _index(folder: Path, about: dict, done: int, data: Dataset | None, stale: str = "") -> Index:
    return Index(
        folder=folder,
        net_sha256=about["net_sha256"],
        net_name=about["net_name"],
        output=about["output"],
        data_digest=about["data_digest"],
        data_name=about["data_name"],
        names=tuple(about["names"]),
        layers=tuple(about["layers"]),
        shapes=tuple(map(tuple, about["shapes"])),
        total=about["total"],
        done=done,
        stale=stale,
        data=data,
    )


def _about(folder: Path) -> dict | None:
    try:
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        return about if about["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _count(folder: Path) -> int:
    """How many rows there are; 0 where there is no table yet, or none that can be read."""
    if not (folder / f"{TABLE}.lance").is_dir():
        return 0
    try:
        return _connect(folder).open_table(TABLE).count_rows()
    except Exception:  # Lance raises ValueError, OSError and RuntimeError
        return 0


def _connect(folder: Path) -> Any:
    import lancedb  # takes seconds to import

    return lancedb.connect(folder)


def _indexes() -> Path:
    return home() / "indexes"


# Writing --------------------------------------------------------------------------------------------------------------


def default_layers(net: Net) -> tuple[str, ...]:
    """A few layers of the trunk, the last one with rows and columns, and the logits, in the network's order."""
    try:
        chosen = {*spaced(net, LAYERS), net.last_map, net.logits}
    except UnknownLayer:
        chosen = {net.logits}
    names = tuple(layer.name for layer in net.layers if layer.name in chosen)
    return names or (net.layers[-1].name,)


def folder_of(net: Net, data: Dataset, layers: Sequence[str]) -> Path:
    """Where the index of these layers lies, if nobody says otherwise."""
    chosen = hashlib.sha256(json.dumps([FORMAT, net.output, *layers]).encode()).hexdigest()
    return _indexes() / f"{net.sha256[:12]}-{data.digest[:12]}-{chosen[:6]}"


def index(net: Net, data: Dataset, *, layers: Sequence[str] = (), folder: Path | None = None) -> Index:
    """Ask the network about every picture, or go on where an earlier pass ended; see `index_steps`."""
    return last(index_steps(net, data, layers=layers, folder=folder))


def ready_steps(net: Net, data: Dataset, layers: Sequence[str]) -> Iterator[Step]:
    """A whole index that has these layers: the one that is there, in one Step, or else the pass that makes it."""
    for name in layers:
        net.layer(name)
    found = open_index(net, data, layers=layers)
    if found is not None and found.complete and not found.stale:
        yield Step(found.done, found.total, found)
        return
    wanted = {*default_layers(net), *layers}
    yield from index_steps(net, data, layers=[layer.name for layer in net.layers if layer.name in wanted])


def index_steps(
    net: Net,
    data: Dataset,
    *,
    layers: Sequence[str] = (),
    folder: Path | None = None,
    batch: int = BATCH,
    every: float = EVERY,
) -> Iterator[Step]:
    """The same, a Step whenever something was written: the Index so far.

    layers: of which channels are looked at, by default `default_layers`. folder: where the index lies, by default a
    place in the app's cache named after the network, the pictures and the layers. batch: pictures in a forward pass, at
    most. every: seconds between two writes.
    Pictures that cannot be read are skipped and listed (Index.skipped). The memory taken does not depend on how many
    pictures there are. Raises UnknownLayer, BadIndex, IndexBusy.
    """
    chosen = [net.layer(name) for name in dict.fromkeys(layers or default_layers(net))]
    names = tuple(layer.name for layer in chosen)
    folder = folder_of(net, data, names) if folder is None else Path(folder)
    about = {
        "format": FORMAT,
        "net_sha256": net.sha256,
        "net_name": net.name,
        "output": net.output,
        "data_digest": data.digest,
        "data_name": data.name,
        "data_source": data.source,
        "names": list(data.names),
        "layers": list(names),
        "shapes": [list(layer.shape) for layer in chosen],
        "total": len(data),
    }
    with _written(folder), _locked(folder):
        table = _table(folder, about, chosen)
        done = table.count_rows()
        if done >= len(data):
            yield Step(len(data), len(data), _index(folder, about, done, data))
            return
        size = max(min(batch, net.batch_size), 1)
        waiting, noted = [], time.monotonic()
        for rows in _passed(net, data, chosen, done, size):
            waiting.append(rows)
            if time.monotonic() - noted >= every or rows["id"][-1].as_py() == len(data) - 1:
                done += sum(map(len, waiting))
                _added(table, waiting)
                if done == len(data):
                    _tidied(table)
                waiting, noted = [], time.monotonic()
                yield Step(done, len(data), _index(folder, about, done, data))


def _table(folder: Path, about: dict, layers: Sequence[Layer]) -> Any:
    """The table in a folder, begun where there is none. Raises BadIndex where another one is there."""
    known = _about(folder)
    if known is None and (folder / ABOUT).exists():
        raise BadIndex(
            f"The folder {folder.name} holds an index of another version; remove it, or give another folder."
        )
    if known is None:
        unfinished = folder / f"{ABOUT}.part"
        unfinished.write_text(json.dumps(about, ensure_ascii=False), "utf-8")
        os.replace(unfinished, folder / ABOUT)
    elif any(known[key] != about[key] for key in ("net_sha256", "output", "data_digest", "layers", "total")):
        raise BadIndex(
            f"The folder {folder.name} holds another index, of {known['data_name']} by {known['net_name']}; "
            "remove it, or give another folder."
        )
    base = _connect(folder)
    return base.create_table(TABLE, schema=_schema(layers), exist_ok=True)


def _added(table: Any, rows: Sequence[pa.RecordBatch]) -> None:
    """One write: all of these rows are there after it, or none."""
    import pyarrow as pa

    try:
        table.add(pa.Table.from_batches(rows))
    except RuntimeError as error:  # what Lance makes of some of the disk's refusals
        raise OSError(str(error)) from error


def _tidied(table: Any) -> None:
    """Put the many small files of the writes together; who reads at that moment reads once more (Index._query)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of just that
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)


def _schema(layers: Sequence[Layer]) -> pa.Schema:
    import pyarrow as pa

    fields = {
        "id": pa.int64(),
        "where": pa.string(),
        "label": pa.int64(),
        "prediction": pa.int64(),
        "probability": pa.float32(),
        "thumbnail": pa.binary(),
        "error": pa.string(),
    }
    for place, layer in enumerate(layers):
        small = pa.uint16() if layer.shape[1] * layer.shape[2] < 1 << 16 else pa.int32()
        kinds = {"mean": pa.float32(), "max": pa.float32(), "place": small, "fires": small}
        for kind, dtype in kinds.items():
            fields[f"{kind}_{place}"] = pa.list_(dtype, layer.shape[0])
    return pa.schema(list(fields.items()))


def _passed(net: Net, data: Dataset, layers: Sequence[Layer], start: int, size: int) -> Iterator[pa.RecordBatch]:
    """The rows from `start` on, `size` pictures at a time.

    A thread per core takes each of its batches all the way, from the file to the rows, with ONNX Runtime on that core
    alone: no core waits for another, as they do where all share each pass while some of them decode. Threads, as all of
    this lets go of Python's lock: processes would take seconds to start.
    """
    workers = min(cores(), AT_ONCE)
    firsts = iter(range(start, len(data), size))
    schema = _schema(layers)

    def made(numbers: range) -> pa.RecordBatch:
        return _rows(net, data, layers, numbers, _decoded(net, data, numbers), schema, cores() // workers)

    with ThreadPoolExecutor(workers, "convoscope-index") as pool:
        ahead: deque[Future] = deque()
        try:
            while True:
                while len(ahead) < workers + AHEAD and (first := next(firsts, None)) is not None:
                    ahead.append(pool.submit(made, range(first, min(first + size, len(data)))))
                if not ahead:
                    return
                yield ahead.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _decoded(net: Net, data: Dataset, numbers: Iterable[int]) -> list[tuple[np.ndarray, bytes] | str]:
    """Of each picture the network's input (1, C, H, W) and the thumbnail, or why it cannot be read."""
    found: list[tuple[np.ndarray, bytes] | str] = []
    for number in numbers:
        try:
            pixels, _ = net.view(pictures.load(data.encoded(number)))
            found.append((net.normalise(pixels.transpose(2, 0, 1)[None]), thumbnail(pixels)))
        except (OSError, ValueError) as error:  # NotAPicture is one; a reader of the data set may raise others
            found.append(" ".join(str(error).split()) or type(error).__name__)
    return found


def thumbnail(pixels: np.ndarray) -> bytes:
    """(H, W, C) pixels, at most 64 a side: small ones as PNG, as they are; else scaled down, as JPEG."""
    longest = max(pixels.shape[:2])
    if longest <= THUMBNAIL // 2:
        return pictures.to_png(pixels)
    values = (pixels * np.float32(255.99)).astype(np.uint8)
    picture = Image.fromarray(values[:, :, 0] if pixels.shape[2] == 1 else values)
    if longest > THUMBNAIL:
        size = tuple(max(round(side * THUMBNAIL / longest), 1) for side in (pixels.shape[1], pixels.shape[0]))
        picture = picture.resize(size, Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=85)
    return file.getvalue()


def _rows(
    net: Net,
    data: Dataset,
    layers: Sequence[Layer],
    numbers: range,
    seen: Sequence[tuple[np.ndarray, bytes] | str],
    schema: pa.Schema,
    threads: int,
) -> pa.RecordBatch:
    """A row per picture: what the network says of those that could be read; the others' is null."""
    import pyarrow as pa

    good = np.array([not isinstance(each, str) for each in seen], bool)
    found: dict[str, np.ndarray] = {}
    if good.any():
        start = {net.graph.input: np.concatenate([each[0] for each in seen if not isinstance(each, str)])}
        values = net.resume(start, [*(layer.name for layer in layers), net.logits], threads=threads)
        shares = softmax(values[net.logits].reshape(int(good.sum()), -1))
        found["prediction"] = shares.argmax(1)
        found["probability"] = shares.max(1)
        for place, layer in enumerate(layers):
            for kind, array in _reduced(values[layer.name], layer.shape).items():
                found[f"{kind}_{place}"] = array

    def column(of: pa.Field) -> pa.Array:
        if of.name == "id":
            return pa.array(numbers, of.type)
        if of.name == "where":
            return pa.array([data.where(number) for number in numbers], of.type)
        if of.name == "label":
            return pa.array([data.label(number) for number in numbers], of.type)
        if of.name == "error":
            return pa.array([each if isinstance(each, str) else None for each in seen], of.type)
        if of.name == "thumbnail":
            return pa.array([None if isinstance(each, str) else each[1] for each in seen], of.type)
        wide = pa.types.is_fixed_size_list(of.type)
        shape = (len(seen), of.type.list_size) if wide else (len(seen),)
        kind = (of.type.value_type if wide else of.type).to_pandas_dtype()
        spread = np.zeros(shape, kind)
        if good.any():
            spread[good] = found[of.name]
        if not wide:
            return pa.array(spread, of.type, mask=~good)
        return pa.FixedSizeListArray.from_arrays(pa.array(spread.ravel()), of.type.list_size, mask=pa.array(~good))

    return pa.RecordBatch.from_arrays([column(of) for of in schema], schema=schema)


def _reduced(values: np.ndarray, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Of (B, C, H, W) or (B, C), per picture and channel: KINDS, each (B, C).

    A part that the processor's cache holds goes through all four before the next one is read; as operators of the
    graph they took longer.
    """
    flat = values.reshape(len(values) * shape[0], -1)
    count, cells = flat.shape
    found = {kind: np.empty(count, dtype) for kind, dtype in zip(KINDS, ("f4", "f4", "i4", "i4"), strict=True)}
    ones = np.full(cells, 1 / cells, np.float32)
    rows = max(CACHED // cells, 1)
    for at in range(0, count, rows):
        part = flat[at : at + rows]
        place = part.argmax(1)
        found["place"][at : at + rows] = place
        found["max"][at : at + rows] = part[np.arange(len(part)), place]
        np.matmul(part, ones, out=found["mean"][at : at + rows])
        # Bits are counted by the byte, which is quicker than adding truth values.
        found["fires"][at : at + rows] = np.bitwise_count(np.packbits(part > 0, axis=1)).sum(1, dtype=np.int32)
    return {kind: array.reshape(len(values), -1) for kind, array in found.items()}


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """The folder, made where it is not there; what the disk refuses becomes a BadIndex."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except (BadIndex, UnknownLayer):
        raise
    except OSError as error:
        full = error.errno == errno.ENOSPC or "No space" in str(error)
        said = "the disk is full" if full else error.strerror or "the disk refuses"
        raise BadIndex(
            f"The index cannot be written ({said}): make room or free the way to its folder, or choose another one "
            "(CONVOSCOPE_HOME says where the app's cache is)."
        ) from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else writes meanwhile. The system lets go of the lock when a process ends, however it does."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise IndexBusy("This index is being written by another run; wait for it to end, then go on.") from None
    try:
        yield
    finally:
        lock.release()

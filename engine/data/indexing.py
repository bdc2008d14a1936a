"""How does a network look at every picture of a set, once, and as fast as it can?

A thread per core takes its batches all the way. The rows are written in order; a pass that was ended goes on behind the
last one.
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
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from engine import image as pictures
from engine.data.dataset import Dataset
from engine.data.index import (
    ABOUT,
    FORMAT,
    KINDS,
    LOCK,
    TABLE,
    BadIndex,
    Index,
    IndexBusy,
    about_of,
    connected,
    index_of,
    indexes,
    open_index,
)
from engine.devices import cores
from engine.net import Layer, Net, UnknownLayer, softmax
from engine.step import Step, last
from engine.trunk import spaced

if TYPE_CHECKING:
    import pyarrow as pa

LAYERS = 4  # of the trunk, by default
BATCH = 16  # pictures in a forward pass, at most: few, so that what comes out of it is still near the core
AT_ONCE = 8  # batches at a time, at most
AHEAD = 2  # batches that wait to be begun, or to be written
EVERY = 0.5  # seconds between two writes
THUMBNAIL = 64  # pixels of the longer side, at most
CACHED = 1 << 18  # values that are reduced at a time: 1 MB


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
    return indexes() / f"{net.sha256[:12]}-{data.digest[:12]}-{chosen[:6]}"


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
            yield Step(len(data), len(data), index_of(folder, about, done, data))
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
                yield Step(done, len(data), index_of(folder, about, done, data))


def _table(folder: Path, about: dict, layers: Sequence[Layer]) -> Any:
    """The table in a folder, begun where there is none. Raises BadIndex where another one is there."""
    known = about_of(folder)
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
    base = connected(folder)
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

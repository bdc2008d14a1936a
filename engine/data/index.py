"""What does a network say of every picture of a set?

One pass over the pictures, and a table with a row per picture: what the network takes it for, and of each channel of a
few layers the mean, the maximum and its place, and at how many places it fires. All that the pages about data sets ask
is read off that table: which pictures excite a unit most, which units never fire, which pictures are alike.

The rows are all the state there is. They are written in order, and a write is there as a whole or not at all; so a pass
that was ended at any moment goes on behind the last row that is there, with nothing lost or counted twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from engine import image as pictures
from engine.data.dataset import Dataset
from engine.net import Net, UnknownLayer
from engine.nets.folder import home

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 2  # of the table; one of another format is not read
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
        return connected(self.folder).open_table(TABLE)

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
    folders = sorted(indexes().glob("*-*-*")) if folder is None else [Path(folder)]
    found = [index for each in folders if (index := _opened(each, net, data)) and set(layers) <= set(index.layers)]
    found = [index for index in found if index.done]
    return max(found, key=lambda index: (not index.stale, index.done, len(index.layers)), default=None)


def _opened(folder: Path, net: Net, data: Dataset) -> Index | None:
    """The index in a folder, if it is one of this network or this data set."""
    about = about_of(folder)
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
    return index_of(folder, about, _count(folder), data, stale)


def index_of(folder: Path, about: dict, done: int, data: Dataset | None, stale: str = "") -> Index:
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


def about_of(folder: Path) -> dict | None:
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
        return connected(folder).open_table(TABLE).count_rows()
    except Exception:  # Lance raises ValueError, OSError and RuntimeError
        return 0


def connected(folder: Path) -> Any:
    import lancedb  # takes seconds to import

    return lancedb.connect(folder)


def indexes() -> Path:
    return home() / "indexes"

"""Commands about a set of pictures: an index, and what is read off it."""

from __future__ import annotations

import json as jsons
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from engine import record as records
from engine.cli import run
from engine.cli.printing import in_columns
from engine.net import Net
from engine.nets import available


def _data_sets(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    """For --list: the data sets by name."""
    if not wanted:
        return
    from engine.data import fetched, sets

    rows = [(name, "here", "") for name in sets.at_hand()]
    more = {name: about for name, about in fetched.FETCHED.items() if name not in sets.at_hand()}
    rows += [(name, f"{about.megabytes:.0f} MB to fetch", about.credit) for name, about in more.items()]
    click.echo(in_columns(rows, ["name", "where", "credit"]))
    ctx.exit()


@click.command("index")
@click.option("--net", required=True, metavar="NET", help="A network: a name, or a file.")
@click.option(
    "--data",
    "given",
    required=True,
    metavar="DATA",
    help="A name that --list shows, a folder (subfolders are labels), a Parquet file, MNIST's idx files, or hf:NAME.",
)
@click.option("--layers", default="", help="Layers whose channels are looked at, commas between.  [default: a few]")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), help="Where to keep it.  [default: in the cache]"
)
@click.option(
    "--list", "list_", is_flag=True, is_eager=True, expose_value=False, callback=_data_sets, help="Data sets."
)
def index(net: str, given: str, layers: str, folder: Path | None) -> None:
    """Ask a network about every picture of a data set, for the pages about data sets.

    A pass that was broken off goes on where it ended. Pictures that cannot be read are skipped, counted and listed. The
    published data sets are fetched first where they are not here.
    """
    from engine.data import dataset, fetched, sets
    from engine.data import indexing as indexes

    network = Net(available.find(net))
    if given in fetched.FETCHED and given not in sets.at_hand():
        for _ in run.shown(fetched.fetch(given), given):
            pass
    data = sets.find(given)
    chosen = [name.strip() for name in layers.split(",") if name.strip()]
    start = time.monotonic()
    step = None
    for step in run.shown(indexes.index_steps(network, data, layers=chosen, folder=folder), "index"):  # noqa: B007
        pass
    found = step.result
    for line in found.skipped:
        click.echo(f"skipped {line}", err=True)
    read = found.pictures
    click.echo(
        f"{len(read):,} pictures of {found.data_name} by {found.net_name} ({time.monotonic() - start:.1f} s), "
        f"{len(found.skipped):,} skipped; layers {', '.join(found.layers)}; in {found.folder}."
    )
    classes = dataset.classes(found.names, network.labels)
    known = read[(read["label"] >= 0) & (classes[read["label"]] >= 0)] if len(classes) else read[:0]
    if len(known):
        right = (classes[known["label"]] == known["prediction"]).mean()
        click.echo(f"Of {len(known):,} whose label is one of the network's classes, {right:.1%} are taken for it.")


def _of_layer(function: Callable) -> Callable:
    """The options of what is asked about a layer's units, over a set of pictures."""
    data = "Pictures: a name, a folder or a Parquet file; those that are not indexed are indexed first."
    for option in (
        click.option("--layer", metavar="LAYER", help="A layer that `inspect` lists.  [default: the last map]"),
        click.option("--data", "given", required=True, metavar="DATA", help=data),
        click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]"),
        click.option("--net", required=True, metavar="NET", help="Network: a name that `nets` lists, or a file."),
    ):
        function = option(function)
    return function


def _units_of(net: str, output: str | None, given: str, layer: str | None) -> tuple[Net, Any, str, dict[str, Any]]:
    """The network, an index that has the layer, the layer, and what a record says of them."""
    from engine.data import sets
    from engine.data.indexing import ready_steps

    network, step = Net(available.find(net), output=output), None
    layer = network.last_map if layer is None else network.layer(layer).name
    for step in run.shown(ready_steps(network, sets.find(given), [layer]), "index"):  # noqa: B007
        pass
    index = step.result
    record = {
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "data": {"name": index.data_name, "digest": index.data_digest, "pictures": len(index.pictures)},
        "layer": layer,
        "engine": network.engine,
        "versions": records.versions(),
    }
    return network, index, layer, record


@click.command("top-patches")
@_of_layer
@click.option("--channel", type=click.IntRange(0), default=0, show_default=True, help="The first that is shown.")
@click.option("--channels", type=click.IntRange(1), default=1, show_default=True, help="How many, from that one on.")
@click.option("--count", type=click.IntRange(1), default=9, show_default=True, help="Patches of each.")
@click.option("--side", type=click.IntRange(0), default=0, help="Longer side of the patches, in pixels, at most.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def top_patches(net: str, output: str | None, given: str, layer: str | None, out: Path, **knobs: int) -> None:
    """Cut out the patches of a set of pictures that excite a layer's channels most.

    Writes picture.png (a row for each channel, the activation under each patch), patches.csv, numbers.npz and
    result.json.
    """
    from engine.look import top_patches as tops

    network, index, layer, record = _units_of(net, output, given, layer)
    found = tops.cut_out(network, index, layer, **knobs)
    arrays, _ = records.taken_apart(found, "")
    record = {"command": "top-patches", "knobs": {"data": given, **knobs}, **record}
    records.save_made(out, tops.figure(found), arrays, record, None)
    found.table.to_csv(out / "patches.csv", index=False)
    columns = ["channel", "value", "where", "label", "prediction"]
    first = found.table.groupby("channel").head(3)
    rows = [(row[0], f"{row[1]:.4g}", *row[2:]) for row in first[columns].values.tolist()]
    click.echo(in_columns(rows, columns))
    left = len(found.table) - len(first)
    click.echo(f"and {left} more, in {out / 'patches.csv'}" if left else f"also in {out / 'patches.csv'}")


@click.command()
@_of_layer
@click.option("--rare", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Share of the pictures.")
@click.option("--always", type=click.FloatRange(0, 1), default=0.99, show_default=True, help="Share of all positions.")
@click.option(
    "--alike", type=click.FloatRange(-1, 1), default=0.95, show_default=True, help="From which two are twins."
)
@click.option("--by", default="either", show_default=True, help="Twins by: either, both, weights or activations.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="A CSV file, or a folder, to write to.")
def units(net: str, output: str | None, given: str, layer: str | None, out: Path, **knobs: Any) -> None:
    """Say which of a layer's channels are dead, rare, always on, twins of each other, or there for one class.

    Rare is what fires on no more than a share of the pictures, always on what does so at a share of all positions or
    more. Writes the CSV file, a row for each channel, and beside it NAME-twins.csv; or a folder with units.csv,
    twins.csv, numbers.npz and result.json.
    """
    import numpy as np

    from engine.look import units as unit

    network, index, layer, record = _units_of(net, output, given, layer)
    found = unit.units_of(network, index, layer, **knobs)
    if out.suffix == ".csv":
        out.parent.mkdir(parents=True, exist_ok=True)
        table, twins = out, out.with_name(f"{out.stem}-twins.csv")
    else:
        table, twins = out / "units.csv", out / "twins.csv"
        arrays, facts = records.taken_apart(found, "")
        record = {"command": "units", "knobs": {"data": given, **knobs}, **record, "facts": facts}
        out.mkdir(parents=True, exist_ok=True)
        np.savez(out / "numbers.npz", allow_pickle=False, **arrays)
        (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    found.table.to_csv(table, index=False)
    found.pairs.to_csv(twins, index=False)
    numbers = found.table.kind.value_counts()
    told = ", ".join(f"{numbers.get(kind, 0)} {kind}" for kind in unit.KINDS)
    click.echo(f"{layer}: {len(found.table)} channels: {told}; {found.twins} pairs of twins.")
    if found.fires:
        click.echo(found.fires)
    able = found.table.dropna(subset=["selectivity"])
    best = able.sort_values("selectivity", ascending=False, kind="stable").head(5)
    if len(best):
        parts = best[["channel", "selectivity", "class"]].values.tolist()
        rows = [(channel, f"{share:.3f}", name) for channel, share, name in parts]
        click.echo("\n" + in_columns(rows, ["channel", "selectivity", f"class, by {found.grouped}"]))


def _of_set(function: Callable) -> Callable:
    """The options of what is asked about a data set."""
    options = (
        click.option("--net", required=True, metavar="NET", help="A network: a name, or a file."),
        click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]"),
        click.option("--data", "given", required=True, metavar="DATA", help="Pictures, as `index` takes them."),
        click.option("--layers", default="", help="Of the index, commas between.  [default: a few]"),
        click.option(
            "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to."
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def _indexed(net: str, output: str | None, given: str, layers: str) -> tuple[Net, Any, dict[str, Any]]:
    """The network, the index of the pictures, which is made or completed first, and what a record says of both."""
    from engine.data import indexing as indexes
    from engine.data import sets

    network, data, step = Net(available.find(net), output=output), sets.find(given), None
    chosen = [name.strip() for name in layers.split(",") if name.strip()]
    for step in run.shown(indexes.index_steps(network, data, layers=chosen), "index"):  # noqa: B007
        pass
    record = {
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "data": {"name": data.name, "digest": data.digest, "pictures": len(step.result.pictures)},
        "engine": network.engine,
        "versions": records.versions(),
    }
    return network, step.result, record


@click.command()
@_of_set
@click.option("--image", metavar="PIC", help="Whose neighbours: a file, or a sample's name.")
@click.option("--of", type=int, metavar="N", help="Or the picture of the set with this number.")
@click.option("--layer", metavar="LAYER", help="A layer of the index.  [default: the last before the logits]")
@click.option("--measure", type=click.Choice(("cosine", "L2")), default="cosine", show_default=True, help="Distance.")
@click.option("--count", type=click.IntRange(1), default=9, show_default=True, help="How many.")
@click.option(
    "--agreement", is_flag=True, help="Say how often neighbours have the same label, over the whole set, too."
)
def neighbours(
    net: str,
    output: str | None,
    given: str,
    layers: str,
    out: Path,
    image: str | None,
    of: int | None,
    layer: str | None,
    measure: str,
    count: int,
    agreement: bool,
) -> None:
    """Find the pictures of a set that are alike to the network, and those that are so pixel by pixel.

    Writes neighbours.csv, numbers.npz and picture.png (above the network's, below the pixels'); with --agreement,
    agreement.csv.
    """
    from engine import image as pictures
    from engine.look import neighbours as near

    if (image is None) == (of is None):
        raise click.UsageError("Give an --image or a number with --of, one of the two.")
    network, index, record = _indexed(net, output, given, layers)
    layer = layer or near.usual_layer(index, network)
    asked = of if image is None else network.view(run.picture(image).pixels)[0]
    found = near.neighbours(index, network, asked, layer=layer, measure=measure, count=count)
    knobs = {"image": image, "of": of, "layer": layer, "measure": measure, "count": count}
    arrays = {key: found[key].to_numpy() for key in found}
    records.save(out, arrays, {"command": "neighbours", "knobs": knobs, **record}, view=None, size=network.input_size)
    (out / "picture.png").write_bytes(pictures.to_png(near.drawn(index, network, found)))
    places = dict(zip(index.pictures.id, index.pictures["where"], strict=True))
    found = found.assign(where=found.id.map(places), pixel_where=found.pixel_id.map(places))
    found.to_csv(out / "neighbours.csv", index=False)
    click.echo(
        in_columns(found[["id", "distance", "where"]].values.tolist(), [f"near in {layer}", "distance", "where"])
    )
    pixels = found[["pixel_id", "pixel_distance", "pixel_where"]].values.tolist()
    click.echo("\n" + in_columns(pixels, ["near in pixels", "distance", "where"]))
    if agreement:
        step = None
        steps = near.agreements_steps(index, network, layer=layer, measure=measure)
        for step in run.shown(steps, "agreement"):  # noqa: B007
            pass
        tables = {layer: step.result["features"].table, "pixels": step.result["pixels"].table}
        rows = [(name, *row) for name, table in tables.items() for row in table.itertuples(index=False)]
        columns = ["space", "k", "same", "vote", "chance"]
        pd.DataFrame(rows, columns=columns).to_csv(out / "agreement.csv", index=False)
        click.echo("\n" + in_columns([(name, int(k), *(f"{v:.1%}" for v in rest)) for name, k, *rest in rows], columns))


@click.command()
@_of_set
def confusion(net: str, output: str | None, given: str, layers: str, out: Path) -> None:
    """Count which classes the network mixes up on a set of pictures.

    Writes confusion.csv, classes.csv (a row per class) and numbers.npz.
    """
    from engine.look import confusion as mixed

    network, index, record = _indexed(net, output, given, layers)
    found = mixed.of_index(index, network)
    matrix, classes = found["matrix"], found["classes"].tolist()
    records.save(out, found, {"command": "confusion", **record}, view=None, size=network.input_size)
    pd.DataFrame(matrix, classes, classes).to_csv(out / "confusion.csv")
    table = mixed.per_class(matrix, classes)
    table.to_csv(out / "classes.csv", index=False)
    shown = table.assign(accuracy=[f"{share:.1%}" for share in table.accuracy])
    columns = ["class", "pictures", "accuracy", "taken_for", "mistakes"]
    click.echo(in_columns(shown[columns].values.tolist(), columns))
    click.echo(f"\n{matrix.trace() / max(matrix.sum(), 1):.2%} of {matrix.sum():,} pictures are right.")


@click.command("map")
@_of_set
@click.option("--layer", metavar="LAYER", help="A layer of the index.  [default: the last before the logits]")
@click.option("--pixels", is_flag=True, help="Raw pixels, in place of a layer.")
@click.option("--by", type=click.Choice(("PCA", "t-SNE", "UMAP")), default="t-SNE", show_default=True, help="The way.")
@click.option("--most", type=click.IntRange(1), default=5000, show_default=True, help="Pictures on the map.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn by lot.")
@click.option("--perplexity", default=30.0, show_default=True, help="Of t-SNE: how many neighbours count, in effect.")
@click.option("--steps", type=click.IntRange(1), default=750, show_default=True, help="Of t-SNE.")
@click.option("--start", type=click.Choice(("PCA", "random")), default="PCA", show_default=True, help="Of t-SNE.")
@click.option("--beside", type=click.IntRange(2), default=15, show_default=True, help="Of UMAP: neighbours that count.")
@click.option("--measure", type=click.Choice(("cosine", "L2")), default="cosine", show_default=True, help="Distance.")
def map_(
    net: str,
    output: str | None,
    given: str,
    layers: str,
    out: Path,
    layer: str | None,
    pixels: bool,
    by: str,
    most: int,
    seed: int,
    perplexity: float,
    steps: int,
    start: str,
    beside: int,
    measure: str,
) -> None:
    """Lay the pictures of a set out, so that those are near each other that are alike to a layer of the network.

    Writes map.csv, places.png with the pictures where they are, grid.png with each in a cell of its own, numbers.npz
    and result.json.
    """
    from PIL import Image

    from engine.look import embedding, grid

    network, index, record = _indexed(net, output, given, layers)
    knobs: dict[str, Any] = {"layer": layer, "pixels": pixels, "by": by, "most": most, "seed": seed}
    if by == "t-SNE":
        knobs |= {"perplexity": perplexity, "steps": steps, "start": start, "measure": measure}
    elif by == "UMAP":
        knobs |= {"beside": beside, "measure": measure}
    step = None
    for step in run.shown(embedding.map_of_steps(index, network, **knobs), "map"):  # noqa: B007
        pass
    made = step.result
    table = index.pictures.iloc[embedding.some_rows(len(index.pictures), most, seed)]
    cells = grid.on_grid(made.places)
    arrays = {"places": made.places, "explained": made.explained, "losses": made.losses}
    arrays |= {"id": table["id"].to_numpy(), "cells": cells}
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "numbers.npz", allow_pickle=False, **arrays)
    record = {"command": "map", "knobs": knobs, **record}
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    tiles = grid.squares(index.thumbnails(table["id"]), 64)
    for name, sheet in (("places", grid.drawn(tiles, made.places)), ("grid", grid.tiled(tiles, cells))):
        Image.fromarray(sheet).save(out / f"{name}.png")
    table.assign(
        label=[index.names[k] if k >= 0 else "" for k in table["label"]],
        prediction=[network.labels[k] for k in table["prediction"]],
        x=made.places[:, 0],
        y=made.places[:, 1],
        row=cells[:, 0],
        col=cells[:, 1],
    ).to_csv(out / "map.csv", index=False)
    told = f"{len(table):,} pictures of {index.data_name}"
    if by == "PCA":
        told += f"; two axes explain {made.explained[:2].sum():.1%} of the variance"
    elif by == "t-SNE":
        told += f"; the divergence is {made.losses[-1, 1]:.3f} nats" if len(made.losses) else ""
    click.echo(f"{told}.")

"""The engine without the app: `python -m engine --help`."""

from __future__ import annotations

import dataclasses
import errno
import json as jsons
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from engine import command, trials
from engine.half import PRECISIONS
from engine.net import Net
from engine.nets import available, download, zoo
from engine.nets import certificate as certificates
from engine.pictures.samples import UnknownSample

FAILED, REFUSED = 1, 2  # exit statuses: the check was done and did not pass; what was asked for cannot be done


class Refused(click.ClickException):
    """One sentence on standard error."""

    exit_code = REFUSED


class Engine(click.Group):
    """The commands below, and one per method, found by its signature (engine/command.py)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        own = super().list_commands(ctx)
        return own + [name for name in command.methods() if name not in own]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if (own := super().get_command(ctx, name)) is not None:
            return own
        method = command.methods().get(name)
        return None if method is None else _of_method(method)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {name: _of_method(method) for name, method in command.methods().items()}
        own = {name: super(Engine, self).get_command(ctx, name) for name in super().list_commands(ctx)}
        for title, chosen in (("Networks", own), ("Methods", {n: one for n, one in found.items() if n not in own})):
            with formatter.section(title):
                formatter.write_dl([(name, one.get_short_help_str(90)) for name, one in chosen.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (
            ValueError,
            UnknownSample,
            download.FetchFailed,
            OSError,
        ) as error:  # what the engine's docstrings announce
            if ctx.params["trace"] or getattr(error, "errno", None) == errno.EPIPE:
                raise
            raise Refused(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    return " ".join(str(error).split())


def _of_method(method: command.Method) -> click.Command:
    def callback(**given: Any) -> None:
        command.run(method, **given)

    return click.Command(
        method.name,
        callback=callback,
        params=command.options(method),
        help=command.about(method.function),
        short_help=(method.function.__doc__ or "").strip().partition("\n")[0],
        epilog="Writes numbers.npz, result.json and, where there is something to see, picture.png.",
    )


def _table(rows: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    """Columns in line; numbers to the right."""
    cells = [[f"{cell:.2e}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in [list(head), *cells]) for k in range(len(head))]
    right = [all(isinstance(row[k], int | float) for row in rows) for k in range(len(head))]
    align: Callable = lambda text, k: text.rjust(widths[k]) if right[k] else text.ljust(widths[k])  # noqa: E731
    return "\n".join("  ".join(align(c, k) for k, c in enumerate(row)).rstrip() for row in [list(head), *cells])


def _across(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}×{pair[1]}"


@click.group(cls=Engine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--trace", is_flag=True, help="Show where an error comes from.")
def main(trace: bool) -> None:
    """What does this network see? The app's engine from the command line.

    NET is a name that `nets` lists, or an ONNX file. PIC is a JPEG, PNG, WebP or GIF file, or the name of a sample.
    """
    logging.basicConfig(level=logging.ERROR)


@main.command("nets")
def nets_() -> None:
    """List the networks that are here and those that can be fetched."""
    here = available.at_hand()
    for name, path in here.items():
        click.echo(f"{name}  {path.stat().st_size / 1e6:.1f} MB")
        try:
            about = zoo.NETWORKS.get(name) or Net(path).metadata  # what the zoo knows need not be opened, and is large
            source = about.paper if isinstance(about, zoo.Network) else about.source
            _indented(source, about.licence and f"Licence: {about.licence}")
        except ValueError as error:  # one bad file must not hide the others
            _indented(str(error))
    missing = [network for name, network in zoo.NETWORKS.items() if name not in here]
    if not missing:
        return
    click.echo("\nTo be fetched with `python -m engine fetch NAME`:\n")
    rows = [(each.name, f"{each.megabytes:.1f} MB".rjust(8), each.title, each.paper) for each in missing]
    click.echo(_table(rows, ["name", "download", "title", "paper"]))
    for licence in dict.fromkeys(each.licence for each in missing):
        names = ", ".join(each.name for each in missing if each.licence == licence)
        click.echo(f"\nLicence of {names}:")
        _indented(licence)


def _indented(*texts: str) -> None:
    for text in filter(None, texts):
        click.echo(click.wrap_text(text, 116, "    ", "    "))


@main.command()
@click.argument("name", type=click.Choice(list(zoo.NETWORKS)), metavar="NAME")
def fetch(name: str) -> None:
    """Fetch a published network, once; see `nets` for their names and terms."""
    path = None
    for step in command.shown(zoo.fetch(name), name):
        path = step.result
    click.echo(f"{name} is at {path}.")


@main.command("import-weights")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--architecture", default="", help="torchvision's name of it.  [default: told by the tensors]")
@click.option(
    "--labels", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A text file, a class on each line."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="The ONNX file.  [default: among your networks]"
)
def import_weights(file: Path, architecture: str, labels: Path | None, out: Path | None) -> None:
    """Make a network of a state_dict: FILE is safetensors, or .pth or .pt as torch.save writes it.

    The architecture is one of torchvision's classifiers, with any number of classes. Nothing in FILE is run. Where it
    goes by default, the app and the other commands find it by FILE's name.
    """
    from engine.intake import weights
    from engine.nets.folder import home

    names = [line.strip() for line in labels.read_text("utf-8").splitlines() if line.strip()] if labels else []
    data, fit = weights.opened(file, architecture=architecture, labels=names)
    path = out or home() / "networks" / f"{file.stem}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    click.echo(f"{fit.architecture} with {fit.classes:,} classes is at {path}.")
    if fit.classes != weights.IMAGENET and not names:
        click.echo("It has no labels: give them with --labels, or the classes go by their numbers.")
    click.echo(f"Its preprocessing is torchvision's for {fit.architecture}, which is a guess for weights of your own.")


@main.command()
@click.argument("net")
@click.option("--json", is_flag=True, help="The same as JSON.")
def inspect(net: str, json: bool) -> None:
    """Say what is in a network: classes, preprocessing, and every layer with its receptive field."""
    network = Net(available.find(net))
    about = network.metadata
    if json:
        facts = {
            "name": network.name,
            "sha256": network.sha256,
            "labels": network.labels,
            "input_size": list(network.input_size),
            "channels": network.channels,
            "mean": list(about.mean),
            "std": list(about.std),
            "crop": about.crop,
            **{key: getattr(about, key) for key in ("source", "licence", "accuracy")},
            "missing": list(about.missing),
            "notes": network.notes,
            "engine": network.engine,
            "logits": network.logits,
            "layers": [dataclasses.asdict(layer) for layer in network.layers],
        }
        click.echo(jsons.dumps(facts, indent=2, ensure_ascii=False))
        return
    height, width = network.input_size
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (about.mean, about.std))
    lines = [
        f"{network.name}: {network.classes} classes: {', '.join(network.labels[:3])}, …",
        f"takes {height} × {width} pixels (rows × columns) of {network.channels} channel(s)",
        f"preprocessing: the middle {about.crop:.1%} of the picture; (pixels - ({mean})) / ({std})",
        *(f"{key}: {text}" for key in ("source", "licence", "accuracy") if (text := getattr(about, key))),
        *(f"note: {note}" for note in network.notes),
        f"runs on {network.engine}; SHA-256 {network.sha256}",
    ]
    click.echo("\n".join(lines) + "\n")
    rows = [
        (each.name, each.op, "×".join(map(str, each.shape)), *_field(each.receptive_field)) for each in network.layers
    ]
    click.echo(_table(rows, ["layer", "op", "shape", "sees", "every", "from"]))
    click.echo("\nsees, every, from: size, stride and offset of the receptive field in pixels of the network's input")


def _field(field: Any) -> tuple[str, str, str]:
    if field.stride == (0, 0):
        return "all", "", ""
    return _across(field.size), _across(field.stride), _across(field.offset)


@main.command()
@click.argument("net")
@click.option("--image", metavar="PIC", default="china", show_default=True, help="Picture to compare on.")
@click.option("--all", "all_", is_flag=True, help="Print every row, not the ten worst.")
def certificate(net: str, image: str, all_: bool) -> None:
    """Compare the PyTorch twin with ONNX Runtime on every tensor, and its gradient with central differences.

    The exit status is 1 where they differ by more than the limits, and the outcome is kept for the app.
    """
    from engine.twin import NoGradient

    network = Net(available.find(net))
    view, _ = network.view(command.picture(image).pixels)
    try:
        table = certificates.certificate(network, view)
        found = certificates.verdict(table)
    except NoGradient:
        found = certificates.certify(network, view)  # puts the reason into a certificate that did not pass
    else:
        chosen = table if all_ else table.sort_values("relative", ascending=False).head(10).sort_index()
        columns = ["kind", "name", "op", "shape", "largest", "difference", "relative"]
        click.echo(_table(chosen[columns].values.tolist(), columns))
        left = len(table) - len(chosen)
        click.echo(f"\n{left} rows with smaller relative differences are not shown (--all).\n" if left else "")
    certificates.remember(network, found)
    if not found.passed:
        click.echo(f"FAILED  {found.reason}")
        click.get_current_context().exit(FAILED)
    limits = f"limits {certificates.TENSOR_LIMIT:g} and {certificates.GRADIENT_LIMIT:g}"
    agree = f"{found.tensors} tensors agree to {found.tensor:.1e} of their range, the gradient to {found.gradient:.1e}"
    click.echo(f"PASSED  {agree} ({limits}; {found.versions}).")


@main.command()
@click.option("--net", required=True, metavar="NET", help="Network: a name that `nets` lists, or a file.")
@click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]")
@click.option("--runs", type=click.IntRange(1), default=5, show_default=True, help="How often each op is timed.")
@click.option("--compare", is_flag=True, help="Compare the two engines on every tensor, too.")
@click.option("--image", metavar="PIC", default="china", show_default=True, help="Picture to compare them on.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder to write the tables to.")
def anatomy(net: str, output: str | None, runs: int, compare: bool, image: str, out: Path | None) -> None:
    """Say what a network is made of: every op's parameters, multiply-adds, receptive field and milliseconds.

    With --out it writes layers.csv, ops.csv, the graph as network.dot, numbers.npz (without the times), result.json,
    and with --compare certificate.csv.
    """
    from engine import anatomy as anatomies
    from engine import diagram

    network = Net(available.find(net), output=output)
    found, step = anatomies.anatomy(network), None
    for step in command.shown(anatomies.profile_steps(network, runs=runs), "timing"):  # noqa: B007
        pass
    timed = step.result
    layers = found.layers.assign(milliseconds=timed.layers.milliseconds)
    rows = [
        (row.name, row.op, row.shape, row.parameters, row.macs, *_field_of(row), f"{row.milliseconds:.3f}".rjust(8))
        for row in layers.itertuples(index=False)
    ]
    click.echo(_table(rows, ["layer", "op", "shape", "parameters", "MACs", "sees", "every", "      ms"]))
    click.echo(
        f"\n{found.parameters:,} parameters, {found.macs:,} multiply-adds (MACs) for one picture, "
        f"{found.file_bytes:,} bytes, operator set {found.opset}, written by {found.producer or 'a program unnamed'}.\n"
        f"One run: {timed.optimised:.3g} ms as the app does it on the {timed.engine}, {timed.plain:.3g} ms on the CPU "
        f"with nothing fused, as the ops were timed (medians of {timed.runs})."
    )
    if found.uncounted:
        click.echo(f"Not counted: multiply-adds of {found.uncounted}.")
    table = certificates.certificate(network, network.view(command.picture(image).pixels)[0]) if compare else None
    if table is not None:
        worst = table.loc[table[table.kind == "tensor"].relative.idxmax()]
        click.echo(f"The two engines differ most at {worst['name']}: by {worst.relative:.1e} of its largest value.")
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    arrays, facts = command.taken_apart(found, "")
    record = {
        "command": "anatomy",
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "facts": facts | {"milliseconds": timed.optimised, "milliseconds_unfused": timed.plain, "runs": timed.runs},
        "engine": network.engine,
        "versions": command.versions(),
    }
    np.savez(out / "numbers.npz", allow_pickle=False, **arrays)
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    layers.to_csv(out / "layers.csv", index=False)
    found.ops.to_csv(out / "ops.csv", index=False)
    drawn = diagram.dot(diagram.diagram(network, diagram.usual(network)), network.graph.shapes)
    (out / "network.dot").write_text(drawn, "utf-8")
    if table is not None:
        table.to_csv(out / "certificate.csv", index=False)


def _field_of(row: Any) -> tuple[str, str]:
    """Size and stride of the receptive field of a row of `Anatomy.layers`."""
    if row.stride_rows == 0:
        return "all", ""
    return _across((row.field_rows, row.field_cols)), _across((row.stride_rows, row.stride_cols))


@main.command()
@click.argument("net")
@click.argument("image")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to print.")
def classify(net: str, image: str, top: int) -> None:
    """Print a picture's likeliest classes."""
    network = Net(available.find(net))
    view, _ = network.view(command.picture(image).pixels)
    logits, shares = command.probabilities(network, view)
    order = (-logits).argsort(kind="stable")[:top]
    rows = [(f"{shares[k]:.1%}".rjust(11), f"{logits[k]:.3f}".rjust(8), int(k), network.labels[k]) for k in order]
    click.echo(_table(rows, ["probability", "   logit", "class", "label"]))


_precision = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="float32",
    show_default=True,
    help="Of the numbers; bfloat16 is quicker where the processor computes in it.",
)


@main.command()
@click.argument("net")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--methods", default=trials.USUAL, show_default=True, help="Titles of maps of evidence, commas between.")
@click.option("--class", "class_", metavar="CLASS", help="Ask about this one.  [default: each picture's likeliest]")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@_precision
@click.option("--seed", default=0, show_default=True, help="Of what is random in the measures.")
def faithful(net: str, folder: Path, methods: str, class_: str | None, out: Path, precision: str, seed: int) -> None:
    """Measure maps of evidence on all pictures of FOLDER: insertion, deletion, drop, infidelity, and the truth.

    Where NAME.mask.png lies beside NAME.jpg, white where the thing is, maps are scored against it, too. Writes
    pictures.csv (a row per picture and method) and summary.csv (means with 95 % confidence intervals).
    """
    network = Net(available.find(net))
    asked = None if class_ is None else network.class_index(class_)
    given = trials.folder(network, folder, asked)
    step = None
    run = trials.trials_steps(network, given, methods.split(","), precision=precision, seed=seed)
    for step in command.shown(run, "faithful"):  # noqa: B007
        pass
    out.mkdir(parents=True, exist_ok=True)
    table = trials.summary(step.result)
    step.result.to_csv(out / "pictures.csv", index=False)
    table.to_csv(out / "summary.csv", index=False)
    columns = list(table.columns)
    click.echo(_table([[*row[:2], *(f"{v:.4g}" for v in row[2:5]), row[5]] for row in table.values.tolist()], columns))


def _data_sets(ctx: click.Context, option: click.Parameter, wanted: bool) -> None:
    """For --list: the data sets by name."""
    if not wanted:
        return
    from engine.data import fetched, sets

    rows = [(name, "here", "") for name in sets.at_hand()]
    more = {name: about for name, about in fetched.FETCHED.items() if name not in sets.at_hand()}
    rows += [(name, f"{about.megabytes:.0f} MB to fetch", about.credit) for name, about in more.items()]
    click.echo(_table(rows, ["name", "where", "credit"]))
    ctx.exit()


@main.command("index")
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
        for _ in command.shown(fetched.fetch(given), given):
            pass
    data = sets.find(given)
    chosen = [name.strip() for name in layers.split(",") if name.strip()]
    start = time.monotonic()
    step = None
    for step in command.shown(indexes.index_steps(network, data, layers=chosen, folder=folder), "index"):  # noqa: B007
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


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def examine(file: Path) -> None:
    """Open a stranger's FILE in a process of its own, with limits, and say whether the app would open it."""
    from engine.intake import opening

    content, step = opening.read(file), None
    for step in command.shown(opening.examine_steps(content, file.name, beside=file.resolve().parent), "examine"):  # noqa: B007
        pass
    found = step.result
    height, width = found.input_size
    free = ", or any other" if found.free else ""
    lines = [
        f"{found.name} opens: {found.nodes:,} nodes, {found.classes:,} classes",
        f"takes {height} × {width} pixels{free}, of {found.channels} channel(s)",
        f"one pass took {found.seconds:.3g} s, and all of it {found.memory / 2**20:.0f} MiB",
        *(f"note: {note}" for note in found.notes),
        f"SHA-256 {found.sha256}",
    ]
    click.echo("\n".join(lines))


@main.command()
@click.argument("net")
@click.option("--labels", metavar="FILE", help="Names of the classes: one per line, or JSON; or a set that is known.")
@click.option("--way", metavar="WAY", help='How a picture is prepared, as `preprocessing` calls it: "BGR, 0 to 255".')
@click.option("--mean", metavar="NUMBERS", help="Of pixels from 0 to 1, one per channel, in the order R, G, B.")
@click.option("--std", metavar="NUMBERS", help="Likewise; 1/255 where the network wants 0 to 255.")
@click.option("--order", type=click.Choice(["RGB", "BGR"]), help="BGR turns the graph round.  [default: the way's]")
@click.option(
    "--size", type=(click.IntRange(1, 4096), click.IntRange(1, 4096)), metavar="ROWS COLUMNS", help="Of pictures."
)
@click.option("--crop", type=click.FloatRange(0, 1, min_open=True), help="Share of the picture's shorter side.")
@click.option("--input", "picture_input", help="The input that takes the picture, where several could.")
@click.option("--source", help="Where the network comes from.")
@click.option("--licence", help="And its licence.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The ONNX file to write.")
def label(
    net: str,
    labels: str | None,
    way: str | None,
    mean: str | None,
    std: str | None,
    order: str | None,
    size: tuple[int, int] | None,
    out: Path,
    **texts: Any,
) -> None:
    """Write what a network's file does not say of itself: names, how pictures are prepared, where it comes from.

    NET stays as it is. `preprocessing` ranks the ways that it may have been trained in.
    """
    from engine.intake import labelling, preprocessing

    network = Net(available.find(net), input=texts["picture_input"])
    said: dict[str, Any] = {key: value for key, value in texts.items() if value is not None}
    if way is not None:
        known = {each.title: each for each in preprocessing.ways(network)}
        way = way.replace("-1 to 1", "−1 to 1")  # as one types it
        if way not in known:
            raise click.UsageError(f"There is no way {way!r}; there are: {'; '.join(known)}.")
        said |= {"mean": known[way].mean, "std": known[way].std}
        order = order or known[way].order
    for key, given in (("mean", mean), ("std", std)):
        if given is not None:
            said[key] = _numbers(given, key, network.channels)
    if size is not None:
        said["input_size"] = size
    if labels is not None:
        sets = labelling.usual(network.classes, network.channels)
        if labels in sets:
            said["labels"] = sets[labels]
        elif Path(labels).is_file():
            names = labelling.read_labels(Path(labels).read_bytes(), Path(labels).name)
            said["labels"] = labelling.fit(names, network.classes, Path(labels).name)
        else:
            raise click.UsageError(
                f"There is no file {labels!r}" + (f", and no set; there is {', '.join(sets)}." if sets else ".")
            )
    content = labelling.labelled(network.path.read_bytes(), order=order or "RGB", **said)
    made = Net(out, content=content)  # before anything is written
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(content)
    click.echo(f"{out}: {made.classes:,} classes: {', '.join(made.labels[:3])}, …; still unsaid: {_unsaid(made)}.")


def _unsaid(net: Net) -> str:
    return ", ".join(key.replace("_", " ") for key in net.metadata.missing) or "nothing"


def _numbers(text: str, key: str, count: int) -> tuple[float, ...]:
    """As many numbers as channels, where fractions like 1/255 count, too."""
    try:
        parts = [part.partition("/") for part in text.split(",")]
        found = tuple(float(above) / (float(below) if below else 1.0) for above, _, below in parts)
    except (ValueError, ZeroDivisionError) as error:
        raise click.UsageError(f"--{key} is numbers with commas between, not {text!r}.") from error
    if len(found) == 1:
        found *= count
    if len(found) != count or (key == "std" and min(found) <= 0):
        raise click.UsageError(f"--{key} is {count} numbers, one per channel{', above 0' if key == 'std' else ''}.")
    return found


@main.command("fast-style")
@click.option("--net", metavar="NET", help="A style network: a name, or a file.  [default: the first that is here]")
@click.option("--image", metavar="PIC", help="The picture to paint: a file, or a sample's name.")
@click.option("--video", type=click.Path(dir_okay=False, path_type=Path), help="Or the video to paint.")
@click.option("--mix", default="", help="Weights: 2,1,0 or STYLE=2,STYLE=1.  [default: the first style]")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option(
    "--side", type=click.IntRange(16), help="Longer side while painting.  [default: as it is; 320 of a video]"
)
@click.option("--seconds", default=10.0, show_default=True, help="How much of a video is painted at most.")
@_precision
def fast_style(
    net: str | None,
    image: str | None,
    video: Path | None,
    mix: str,
    out: Path,
    side: int | None,
    seconds: float,
    precision: str,
) -> None:
    """Paint a picture or a video in one pass, by a style network.

    Writes picture.png with its recipe inside, numbers.npz and result.json; or video.mp4.
    """
    from engine import fast_style as fast

    if (image is None) == (video is None):
        raise click.UsageError("Give an --image or a --video, one of the two.")
    here = fast.at_hand()
    if net is None and not here:
        raise click.UsageError("There is no style network here; give one with --net.")
    opened = fast.open_style(fast.find(net or next(iter(here))))
    for note in opened.notes:
        click.echo(note, err=True)
    given = fast.mixed(opened, mix)
    if image is not None:
        seen = command.picture(image)
        painted = fast.stylise(opened, seen.pixels, mix=given, side=side, precision=precision)
        record = {
            "command": "fast-style",
            "net": {"name": opened.name, "sha256": opened.sha256},
            "image": {"name": seen.name, "sha256": seen.sha256},
            "mix": dict(zip(opened.styles, fast.weights(opened, given).astype(float).round(4).tolist(), strict=True)),
            "painted_at": fast.painted_size(opened, seen.pixels.shape[:2], side=side),
            "precision": precision,
            "engine": opened.engine,
            "versions": command.versions(),
        }
        command.save_made(out, painted, {"pixels": painted}, record, None)
        return
    out.mkdir(parents=True, exist_ok=True)
    unfinished, step = out / "unfinished.mp4", None
    try:
        limits = {"side": side or 320, "seconds": seconds, "precision": precision}
        for step in command.shown(fast.stylise_video(opened, video, mix=given, out=unfinished, **limits), "fast-style"):  # noqa: B007
            pass
        unfinished.replace(out / "video.mp4")
    finally:
        unfinished.unlink(missing_ok=True)
    click.echo(f"{step.result.frames} frames, {step.result.rate:.4g} a second.")


@main.command()
@click.option("--image", required=True, metavar="PIC", help="The sample to copy from: a file, or a sample's name.")
@click.option("--longest", default=160, show_default=True, help="Longer side that it is first scaled to, in pixels.")
@click.option("--side", default=48, show_default=True, help="Of its middle, which is what is copied from, in pixels.")
@click.option("--size", default=64, show_default=True, help="Side of the picture that is grown, in pixels.")
@click.option("--window", default=11, show_default=True, help="Side of what has to look alike, in pixels; odd.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all that is drawn by lot.")
@click.option("--film", is_flag=True, help="Write how it came about, too: film.gif and film.mp4.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def grow(image: str, longest: int, side: int, size: int, window: int, seed: int, film: bool, out: Path) -> None:
    """Grow a texture pixel by pixel from a sample, without any network (Efros & Leung 1999).

    Writes picture.png with its recipe inside, numbers.npz and result.json. A run that is stopped early leaves what has
    grown by then.
    """
    from engine import texture_growing as growing
    from engine.pictures.film import Film

    seen, shot = command.picture(image), Film() if film else None
    sample = growing.cut(seen.pixels, side, longest=longest)
    grown, stopped = command.to_end(growing.grow_steps(sample, size=size, window=window, seed=seed), "grow", shot)
    record = {
        "command": "grow",
        "image": {"name": seen.name, "sha256": seen.sha256},
        "knobs": {"longest": longest, "side": side, "size": size, "window": window, "seed": seed},
        **stopped,
        "filled": grown.filled,
        "versions": command.versions(),
    }
    command.save_made(out, grown.picture, {"picture": grown.picture, "sample": sample}, record, shot)
    command.leave_if(stopped, out)


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
    for step in command.shown(ready_steps(network, sets.find(given), [layer]), "index"):  # noqa: B007
        pass
    index = step.result
    record = {
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "data": {"name": index.data_name, "digest": index.data_digest, "pictures": len(index.pictures)},
        "layer": layer,
        "engine": network.engine,
        "versions": command.versions(),
    }
    return network, index, layer, record


@main.command("top-patches")
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
    from engine import top_patches as tops

    network, index, layer, record = _units_of(net, output, given, layer)
    found = tops.cut_out(network, index, layer, **knobs)
    arrays, _ = command.taken_apart(found, "")
    record = {"command": "top-patches", "knobs": {"data": given, **knobs}, **record}
    command.save_made(out, tops.figure(found), arrays, record, None)
    found.table.to_csv(out / "patches.csv", index=False)
    columns = ["channel", "value", "where", "label", "prediction"]
    first = found.table.groupby("channel").head(3)
    rows = [(row[0], f"{row[1]:.4g}", *row[2:]) for row in first[columns].values.tolist()]
    click.echo(_table(rows, columns))
    left = len(found.table) - len(first)
    click.echo(f"and {left} more, in {out / 'patches.csv'}" if left else f"also in {out / 'patches.csv'}")


@main.command()
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

    from engine import units as unit

    network, index, layer, record = _units_of(net, output, given, layer)
    found = unit.units_of(network, index, layer, **knobs)
    if out.suffix == ".csv":
        out.parent.mkdir(parents=True, exist_ok=True)
        table, twins = out, out.with_name(f"{out.stem}-twins.csv")
    else:
        table, twins = out / "units.csv", out / "twins.csv"
        arrays, facts = command.taken_apart(found, "")
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
        click.echo("\n" + _table(rows, ["channel", "selectivity", f"class, by {found.grouped}"]))


def _recipe(*numbers: tuple[str, float | str, str]) -> Callable:
    """The fields of a training's Recipe as options; its module imports torch, which others can spare."""

    def with_options(function: Callable) -> Callable:
        for name, default, text in reversed(numbers):
            function = click.option(f"--{name}", default=default, show_default=True, help=text)(function)
        return function

    return with_options


@main.command()
@click.option("--styles", required=True, metavar="FILES", help="Pictures of the paintings, commas between.")
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="A folder or Parquet file.")
@click.option("--loss", required=True, metavar="NET", help="The network whose layers say what is alike.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The ONNX file to write.")
@click.option("--source", default="", help="What the file is to say of where it comes from.")
@click.option("--licence", default="", help="And of its licence.")
@_recipe(
    ("steps", 4000, "Of training."),
    ("size", 128, "Side of the squares that are painted in training, in pixels."),
    ("style-size", 256, "Shorter side that the paintings are scaled to; strokes scale along."),
    ("batch", 4, "Pictures a step."),
    ("rate", 3e-3, "Adam's learning rate at the beginning."),
    ("content", 1.0, "How much it counts that the photograph can be told."),
    ("style", 6.0, "How much, that it looks like the painting."),
    ("smooth", 0.2, "How much, that neighbouring pixels are alike."),
    ("seed", 0, "Of the weights, and of what is drawn."),
)
def train_style(styles: str, data: Path, loss: str, out: Path, source: str, licence: str, **recipe: Any) -> None:
    """Train a network that paints every picture in the style of a few paintings, in one pass.

    The styles are called as their files are. DATA holds the photographs to learn on. A run that was broken off goes on
    where it last reported: its weights lie beside OUT, with the suffix .pt; with --steps of no more than those done,
    they are written down as they are, and so they are on Ctrl-C. The losses lie there, too, with the suffix .csv.
    """
    from engine import train_style as training

    files = [file.strip() for file in styles.split(",")]
    paintings = {Path(file).stem.replace("_", " "): command.picture(file).pixels for file in files}
    if len(paintings) < len(files):
        raise click.UsageError("Two of the style pictures have the same name; rename one of the files.")
    checkpoint, log, step = out.with_suffix(".pt"), out.with_suffix(".csv"), None
    if not checkpoint.exists():
        log.unlink(missing_ok=True)  # of another training
    run = training.train_style(
        Net(available.find(loss)),
        training.encoded(data),
        paintings,
        training.Recipe(**recipe),
        checkpoint=checkpoint,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        for step in command.shown(run, "train-style"):
            training.note(log, step.result)
    except KeyboardInterrupt:
        if step is None:
            raise
    training.export_style(step.result.painter, list(paintings), out, source=source, licence=licence)
    click.echo(f"{out}: {len(paintings)} style(s), {step.result.pictures:,} pictures painted in training.")


@main.command()
@click.option("--net", required=True, metavar="NET", help="The network whose layer is to be decoded.")
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="A folder or Parquet file.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The ONNX file to write.")
@click.option("--source", default="", help="What the file is to say of where it comes from.")
@click.option("--licence", default="", help="And of its licence.")
@_recipe(
    ("steps", 6000, "Of training."),
    ("layer", "", "Whose values are decoded.  [default: the last map before pooling]"),
    ("channels", 256, "Behind the code; each doubling of rows and columns halves them."),
    ("share", 0.6, "Side of the squares in training, as a share of the network's own."),
    ("fine", 0.15, "Share of the steps, at the end, at the network's own size."),
    ("batch", 8, "Pictures a step."),
    ("rate", 1e-3, "Adam's learning rate at the beginning."),
    ("pixel", 4.0, "How much it counts how far the pixels are off."),
    ("edge", 2.0, "How much, how far the differences of neighbouring pixels are off."),
    ("feature", 1.0, "How much, how far off what the network says of them is."),
    ("seed", 0, "Of the weights, and of what is drawn."),
)
def train_decoder(net: str, data: Path, out: Path, source: str, licence: str, **recipe: Any) -> None:
    """Train a network that draws the picture of which a layer's values are those: a prior for maximization.

    DATA holds the photographs to learn on. A run that was broken off goes on where it last reported: its weights lie
    beside OUT, with the suffix .pt; with --steps of no more than those done, they are written down as they are, and so
    they are on Ctrl-C. The losses lie there, too, with the suffix .csv. Put OUT into the folder `decoders` of the cache
    (`python -m engine nets` says where), and the app finds it.
    """
    from engine import train_decoder as training
    from engine.train_style import encoded, note

    encoder, pictures, step = Net(available.find(net)), encoded(data), None
    checkpoint, log = out.with_suffix(".pt"), out.with_suffix(".csv")
    if not checkpoint.exists():
        log.unlink(missing_ok=True)  # of another training
    out.parent.mkdir(parents=True, exist_ok=True)
    chosen = training.Recipe(**recipe)
    try:
        for step in command.shown(
            training.train_decoder(encoder, pictures, chosen, checkpoint=checkpoint), "train-decoder"
        ):
            note(log, step.result)
    except KeyboardInterrupt:
        if step is None:
            raise
    told = f"{step.result.pictures:,} pictures decoded in training ({step.index:,} steps of {chosen.steps:,})."
    training.export_decoder(
        step.result.decoder,
        encoder,
        chosen.layer or encoder.last_map,
        training.codes(encoder, pictures, chosen.layer or encoder.last_map),
        out,
        source=source,
        licence=licence,
        training=told,
    )
    click.echo(f"{out}: {told}")


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
    for step in command.shown(indexes.index_steps(network, data, layers=chosen), "index"):  # noqa: B007
        pass
    record = {
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "data": {"name": data.name, "digest": data.digest, "pictures": len(step.result.pictures)},
        "engine": network.engine,
        "versions": command.versions(),
    }
    return network, step.result, record


@main.command()
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
    from engine import neighbours as near

    if (image is None) == (of is None):
        raise click.UsageError("Give an --image or a number with --of, one of the two.")
    network, index, record = _indexed(net, output, given, layers)
    layer = layer or near.usual_layer(index, network)
    asked = of if image is None else network.view(command.picture(image).pixels)[0]
    found = near.neighbours(index, network, asked, layer=layer, measure=measure, count=count)
    knobs = {"image": image, "of": of, "layer": layer, "measure": measure, "count": count}
    arrays = {key: found[key].to_numpy() for key in found}
    command.save(out, arrays, {"command": "neighbours", "knobs": knobs, **record}, view=None, size=network.input_size)
    (out / "picture.png").write_bytes(pictures.to_png(near.drawn(index, network, found)))
    places = dict(zip(index.pictures.id, index.pictures["where"], strict=True))
    found = found.assign(where=found.id.map(places), pixel_where=found.pixel_id.map(places))
    found.to_csv(out / "neighbours.csv", index=False)
    click.echo(_table(found[["id", "distance", "where"]].values.tolist(), [f"near in {layer}", "distance", "where"]))
    pixels = found[["pixel_id", "pixel_distance", "pixel_where"]].values.tolist()
    click.echo("\n" + _table(pixels, ["near in pixels", "distance", "where"]))
    if agreement:
        step = None
        steps = near.agreements_steps(index, network, layer=layer, measure=measure)
        for step in command.shown(steps, "agreement"):  # noqa: B007
            pass
        tables = {layer: step.result["features"].table, "pixels": step.result["pixels"].table}
        rows = [(name, *row) for name, table in tables.items() for row in table.itertuples(index=False)]
        columns = ["space", "k", "same", "vote", "chance"]
        pd.DataFrame(rows, columns=columns).to_csv(out / "agreement.csv", index=False)
        click.echo("\n" + _table([(name, int(k), *(f"{v:.1%}" for v in rest)) for name, k, *rest in rows], columns))


@main.command()
@_of_set
def confusion(net: str, output: str | None, given: str, layers: str, out: Path) -> None:
    """Count which classes the network mixes up on a set of pictures.

    Writes confusion.csv, classes.csv (a row per class) and numbers.npz.
    """
    from engine import confusion as mixed

    network, index, record = _indexed(net, output, given, layers)
    found = mixed.of_index(index, network)
    matrix, classes = found["matrix"], found["classes"].tolist()
    command.save(out, found, {"command": "confusion", **record}, view=None, size=network.input_size)
    pd.DataFrame(matrix, classes, classes).to_csv(out / "confusion.csv")
    table = mixed.per_class(matrix, classes)
    table.to_csv(out / "classes.csv", index=False)
    shown = table.assign(accuracy=[f"{share:.1%}" for share in table.accuracy])
    columns = ["class", "pictures", "accuracy", "taken_for", "mistakes"]
    click.echo(_table(shown[columns].values.tolist(), columns))
    click.echo(f"\n{matrix.trace() / max(matrix.sum(), 1):.2%} of {matrix.sum():,} pictures are right.")


@main.command("map")
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

    from engine import embedding

    network, index, record = _indexed(net, output, given, layers)
    knobs: dict[str, Any] = {"layer": layer, "pixels": pixels, "by": by, "most": most, "seed": seed}
    if by == "t-SNE":
        knobs |= {"perplexity": perplexity, "steps": steps, "start": start, "measure": measure}
    elif by == "UMAP":
        knobs |= {"beside": beside, "measure": measure}
    step = None
    for step in command.shown(embedding.map_of_steps(index, network, **knobs), "map"):  # noqa: B007
        pass
    made = step.result
    table = index.pictures.iloc[embedding.some_rows(len(index.pictures), most, seed)]
    cells = embedding.on_grid(made.places)
    arrays = {"places": made.places, "explained": made.explained, "losses": made.losses}
    arrays |= {"id": table["id"].to_numpy(), "cells": cells}
    out.mkdir(parents=True, exist_ok=True)
    np.savez(out / "numbers.npz", allow_pickle=False, **arrays)
    record = {"command": "map", "knobs": knobs, **record}
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    tiles = embedding.squares(index.thumbnails(table["id"]), 64)
    for name, sheet in (("places", embedding.drawn(tiles, made.places)), ("grid", embedding.tiled(tiles, cells))):
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


@main.command()
@click.option("--net", required=True, metavar="NET", help="A network: a name, or a file.")
@click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]")
@click.option("--beside", default="", metavar="NETS", help="Networks to compare it with, commas between.")
@click.option("--data", "given", required=True, metavar="DATA", help="Pictures, as `index` takes them.")
@click.option("--pictures", type=click.IntRange(1), default=100, show_default=True, help="How many, drawn by lot.")
@click.option("--attacks", default="PGD,FGSM,noise", show_default=True, help="Which of these, commas between.")
@click.option(
    "--norm", type=command.Choice(("L∞", "L2")), default="L∞", show_default=True, help="Of the change; or Linf."
)
@click.option(
    "--epsilons",
    metavar="NUMBERS",
    help="Sizes of the change, commas between: of 255 in L∞, lengths in pixel values in L2.  "
    "[default: 0,1,2,4,8,16; in L2 0,0.25,0.5,1,2]",
)
@click.option("--steps", type=click.IntRange(1), default=10, show_default=True, help="Of PGD.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn by lot.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def robustness(
    net: str,
    output: str | None,
    beside: str,
    given: str,
    pictures: int,
    attacks: str,
    norm: str,
    epsilons: str | None,
    steps: int,
    seed: int,
    out: Path,
) -> None:
    """Measure how many pictures a network has right when they are attacked, against the size of the change allowed.

    Writes curve.csv (a row per network, attack and epsilon, with the 95 % interval), numbers.npz and result.json. A run
    that is stopped early leaves the curves that there are by then.
    """
    from engine import robustness as robust
    from engine.data import sets

    networks = [Net(available.find(net), output=output)]
    networks += [Net(available.find(name.strip())) for name in beside.split(",") if name.strip()]
    usual = robust.EPSILONS if norm == "L∞" else robust.LENGTHS
    unit = 255 if norm == "L∞" else 1
    try:
        sizes = usual if epsilons is None else [float(each) / unit for each in epsilons.split(",")]
    except ValueError as error:
        raise click.UsageError(f"--epsilons are numbers with commas between, not {epsilons!r}.") from error
    data = sets.find(given)
    knobs = {"pictures": pictures, "methods": [each.strip() for each in attacks.split(",") if each.strip()]}
    knobs |= {"norm": norm, "epsilons": list(sizes), "steps": steps, "seed": seed}
    table, stopped = command.to_end(robust.curves_steps(networks, data, **knobs), "robustness")
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "curve.csv", index=False)
    np.savez(out / "numbers.npz", allow_pickle=False, **command.taken_apart(table, "")[0])
    record = {
        "command": "robustness",
        "nets": [{"name": each.name, "sha256": each.sha256, "output": each.output} for each in networks],
        "data": {"name": data.name, "digest": data.digest, "known": sorted(set(table.known))},
        "knobs": knobs,
        **stopped,
        "engine": networks[0].engine,
        "versions": command.versions(),
    }
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    rows = table.assign(epsilon=[f"{each * unit:.4g}" for each in table.epsilon])
    rows = rows.assign(**{key: [f"{share:.1%}" for share in table[key]] for key in ("accuracy", "low", "high")})
    columns = ["net", "attack", "epsilon", "accuracy", "low", "high", "right", "count"]
    click.echo(_table(rows[columns].values.tolist(), columns))
    click.echo(f"\nepsilon: {'of 255' if norm == 'L∞' else 'length, in pixel values'}; classes by {table.known[0]}")
    command.leave_if(stopped, out)


@main.command()
@click.option("--net", required=True, metavar="NET", help="A network: a name, or a file.")
@click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]")
@click.option("--data", "given", required=True, metavar="DATA", help="Pictures, as `index` takes them.")
@click.option("--class", "class_", required=True, metavar="CLASS", help="Number or label of the class to become.")
@click.option("--pictures", type=click.IntRange(1), default=64, show_default=True, help="How many to train on.")
@click.option("--held", type=click.IntRange(1), default=100, show_default=True, help="How many others to measure on.")
@click.option("--steps", type=click.IntRange(1), default=150, show_default=True, help="Of training.")
@click.option("--batch", type=click.IntRange(1), default=4, show_default=True, help="Pictures a step.")
@click.option("--rate", default=0.1, show_default=True, help="Adam's.")
@click.option(
    "--share",
    type=(float, float),
    default=(0.3, 0.5),
    show_default=True,
    help="Its side as a share of the picture's shorter one, from and to.",
)
@click.option("--turn", default=22.5, show_default=True, help="Degrees at most that it is turned by, either way.")
@click.option("--seed", default=0, show_default=True, help="Of all that is drawn by lot.")
@click.option("--film", is_flag=True, help="Write how the patch came about, too: film.gif and film.mp4.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def patch(
    net: str,
    output: str | None,
    given: str,
    class_: str,
    pictures: int,
    held: int,
    seed: int,
    film: bool,
    out: Path,
    **knobs: Any,
) -> None:
    """Train a patch that makes pictures be taken for a class wherever it lies, and measure how often it does.

    It is measured on pictures of the set that it was not trained on, beside the same patch with its pixels shuffled.
    Writes patch.png (transparent outside of its circle), print.png (1,200 pixels a side: 10 cm at 300 dots per inch),
    rates.csv, numbers.npz and result.json. A run that is stopped early leaves the patch that there is by then.
    """
    from engine import adversarial_patch as patches
    from engine import image as images
    from engine.data import sets
    from engine.pictures.film import Film

    network, data, shot = Net(available.find(net), output=output), sets.find(given), Film() if film else None
    k = network.class_index(class_)
    train, test = patches.parted(data, network, k, pictures=pictures, held=held, seed=seed)
    steps = patches.adversarial_patch_steps(network, train, k, seed=seed, **knobs)
    climb, stopped = command.to_end(steps, "patch", shot, lambda found: patches.printable(found.picture, patches.SIDE))
    drawn = {"share": knobs["share"], "turn": knobs["turn"], "seed": seed + 1}
    for step in command.shown(patches.rates_steps(network, test, climb.picture, k, **drawn), "measure"):  # noqa: B007
        pass
    table = step.result.table()
    record = {
        "command": "patch",
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "data": {"name": data.name, "digest": data.digest, "trained_on": len(train), "measured_on": len(test)},
        "class": {"index": k, "label": network.labels[k]},
        "knobs": {"pictures": pictures, "held": held, "seed": seed, **knobs},
        **stopped,
        "rates": table.to_dict("records"),
        "engine": network.engine,
        "versions": command.versions(),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "patch.png").write_bytes(images.to_png(patches.cut_out(climb.picture), record))
    (out / "print.png").write_bytes(images.to_png(patches.printable(climb.picture)))
    table.to_csv(out / "rates.csv", index=False)
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    np.savez(out / "numbers.npz", allow_pickle=False, **patches.numbers(climb, step.result))
    if shot is not None:
        (out / "film.gif").write_bytes(shot.gif())
        (out / "film.mp4").write_bytes(shot.mp4())
    shown = table.assign(**{key: [f"{share:.1%}" for share in table[key]] for key in ("share", "low", "high")})
    click.echo(_table(shown.values.tolist(), ["with", f"taken for {network.labels[k]}", "of", "share", "low", "high"]))
    command.leave_if(stopped, out)


@main.command()
@click.option("--nets", "names", required=True, metavar="NET,NET…", help="Networks: names or files, commas between.")
@click.option("--image", "images", required=True, multiple=True, metavar="PIC", help="A picture; give it repeatedly.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def transfer(names: str, images: tuple[str, ...], out: Path) -> None:
    """Say what each of several networks takes pictures for: whom else does a picture fool that was made for one?

    Give the picture before and after. Writes transfer.csv, a row per picture and network.
    """
    from engine.survival import transfer as said_of

    networks = [Net(available.find(name.strip())) for name in names.split(",") if name.strip()]
    table = said_of(networks, {given: command.picture(given).pixels for given in images})
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "transfer.csv", index=False)
    said = table.assign(said=[f"{row.label} {row.probability:.0%}" for row in table.itertuples()])
    matrix = said.pivot(index="picture", columns="net", values="said")
    rows = [(name, *(matrix.loc[name, each.name] for each in networks)) for name in images]
    click.echo(_table(rows, ["picture", *(each.name for each in networks)]))


@main.command("one-pixel-rate")
@click.option("--net", required=True, metavar="NET", help="A network: a name, or a file.")
@click.option("--output", metavar="OUTPUT", help="The network's output to ask.  [default: the first]")
@click.option("--data", "given", required=True, metavar="DATA", help="Pictures, as `index` takes them.")
@click.option("--pictures", type=click.IntRange(1), default=50, show_default=True, help="How many, drawn by lot.")
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="Pixels that may be changed.")
@click.option("--population", type=click.IntRange(4), default=80, show_default=True, help="Candidates in a generation.")
@click.option("--steps", type=click.IntRange(1), default=20, show_default=True, help="Generations at most.")
@click.option("--seed", default=0, show_default=True, help="Of what is drawn by lot.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
def one_pixel_rate(net: str, output: str | None, given: str, pictures: int, out: Path, **knobs: int) -> None:
    """Count on how many pictures one pixel, or a few, make the network say something else than they are.

    Pictures that it has wrong from the start are not counted. Writes pictures.csv (a row per picture) and result.json
    (the rate with its 95 % interval). A run that is stopped early leaves the pictures that were done by then.
    """
    from engine import one_pixel
    from engine.data import sets
    from engine.data.examples import examples

    network, data, step, stopped = Net(available.find(net), output=output), sets.find(given), None, {}
    drawn = examples(data, network, pictures, seed=knobs["seed"])
    try:
        steps = one_pixel.success_steps(network, drawn.pixels, drawn.classes, **knobs)
        for step in command.shown(steps, "one-pixel-rate"):  # noqa: B007
            pass
    except KeyboardInterrupt:
        if step is None or not len(step.result):
            raise
        stopped = {"stopped": {"done": len(step.result), "of": len(drawn)}}
    table, found = one_pixel.named(step.result, network, data, drawn), one_pixel.rate(step.result)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "pictures.csv", index=False)
    record = {
        "command": "one-pixel-rate",
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "data": {"name": data.name, "digest": data.digest, "known": drawn.by},
        "knobs": {"pictures": pictures, **knobs},
        **stopped,
        "facts": found,
        "engine": network.engine,
        "versions": command.versions(),
    }
    (out / "result.json").write_text(jsons.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    click.echo(
        f"{found['rate']:.1%} (95 % interval: {found['low']:.1%} to {found['high']:.1%}): {found['fooled']} fooled of "
        f"{found['right']} that {network.name} has right, of {found['pictures']} pictures of {data.name}; classes by "
        f"{drawn.by}."
    )
    if stopped:
        click.echo(f"Stopped after {len(table)} of {len(drawn)}; they are in {out}.", err=True)
        click.get_current_context().exit(command.INTERRUPTED)


if __name__ == "__main__":
    main(prog_name="python -m engine")

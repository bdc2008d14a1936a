"""Commands about networks: which there are, what is in them, what they say."""

from __future__ import annotations

import dataclasses
import json as jsons
from pathlib import Path
from typing import Any

import click
import numpy as np

from engine import record as records
from engine.cli import run
from engine.cli.printing import across, in_columns, indented, numbers, unsaid
from engine.net import Net
from engine.nets import available, zoo
from engine.nets import certificate as certificates

FAILED = 1  # the exit status where a check was done and did not pass


@click.command("nets")
def nets_() -> None:
    """List the networks that are here and those that can be fetched."""
    here = available.at_hand()
    for name, path in here.items():
        click.echo(f"{name}  {path.stat().st_size / 1e6:.1f} MB")
        try:
            about = zoo.NETWORKS.get(name) or Net(path).metadata  # what the zoo knows need not be opened, and is large
            source = about.paper if isinstance(about, zoo.Network) else about.source
            indented(source, about.licence and f"Licence: {about.licence}")
        except ValueError as error:  # one bad file must not hide the others
            indented(str(error))
    missing = [network for name, network in zoo.NETWORKS.items() if name not in here]
    if not missing:
        return
    click.echo("\nTo be fetched with `python -m engine fetch NAME`:\n")
    rows = [(each.name, f"{each.megabytes:.1f} MB".rjust(8), each.title, each.paper) for each in missing]
    click.echo(in_columns(rows, ["name", "download", "title", "paper"]))
    for licence in dict.fromkeys(each.licence for each in missing):
        names = ", ".join(each.name for each in missing if each.licence == licence)
        click.echo(f"\nLicence of {names}:")
        indented(licence)


@click.command()
@click.argument("name", type=click.Choice(list(zoo.NETWORKS)), metavar="NAME")
def fetch(name: str) -> None:
    """Fetch a published network, once; see `nets` for their names and terms."""
    path = None
    for step in run.shown(zoo.fetch(name), name):
        path = step.result
    click.echo(f"{name} is at {path}.")


@click.command("import-weights")
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


@click.command()
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
    click.echo(in_columns(rows, ["layer", "op", "shape", "sees", "every", "from"]))
    click.echo("\nsees, every, from: size, stride and offset of the receptive field in pixels of the network's input")


def _field(field: Any) -> tuple[str, str, str]:
    if field.stride == (0, 0):
        return "all", "", ""
    return across(field.size), across(field.stride), across(field.offset)


@click.command()
@click.argument("net")
@click.option("--image", metavar="PIC", default="china", show_default=True, help="Picture to compare on.")
@click.option("--all", "all_", is_flag=True, help="Print every row, not the ten worst.")
def certificate(net: str, image: str, all_: bool) -> None:
    """Compare the PyTorch twin with ONNX Runtime on every tensor, and its gradient with central differences.

    The exit status is 1 where they differ by more than the limits, and the outcome is kept for the app.
    """
    from engine.twin import NoGradient

    network = Net(available.find(net))
    view, _ = network.view(run.picture(image).pixels)
    try:
        table = certificates.certificate(network, view)
        found = certificates.verdict(table)
    except NoGradient:
        found = certificates.certify(network, view)  # puts the reason into a certificate that did not pass
    else:
        chosen = table if all_ else table.sort_values("relative", ascending=False).head(10).sort_index()
        columns = ["kind", "name", "op", "shape", "largest", "difference", "relative"]
        click.echo(in_columns(chosen[columns].values.tolist(), columns))
        left = len(table) - len(chosen)
        click.echo(f"\n{left} rows with smaller relative differences are not shown (--all).\n" if left else "")
    certificates.remember(network, found)
    if not found.passed:
        click.echo(f"FAILED  {found.reason}")
        click.get_current_context().exit(FAILED)
    limits = f"limits {certificates.TENSOR_LIMIT:g} and {certificates.GRADIENT_LIMIT:g}"
    agree = f"{found.tensors} tensors agree to {found.tensor:.1e} of their range, the gradient to {found.gradient:.1e}"
    click.echo(f"PASSED  {agree} ({limits}; {found.versions}).")


@click.command()
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
    from engine.look import anatomy as anatomies
    from engine.look import diagram

    network = Net(available.find(net), output=output)
    found, step = anatomies.anatomy(network), None
    for step in run.shown(anatomies.profile_steps(network, runs=runs), "timing"):  # noqa: B007
        pass
    timed = step.result
    layers = found.layers.assign(milliseconds=timed.layers.milliseconds)
    rows = [
        (row.name, row.op, row.shape, row.parameters, row.macs, *_field_of(row), f"{row.milliseconds:.3f}".rjust(8))
        for row in layers.itertuples(index=False)
    ]
    click.echo(in_columns(rows, ["layer", "op", "shape", "parameters", "MACs", "sees", "every", "      ms"]))
    click.echo(
        f"\n{found.parameters:,} parameters, {found.macs:,} multiply-adds (MACs) for one picture, "
        f"{found.file_bytes:,} bytes, operator set {found.opset}, written by {found.producer or 'a program unnamed'}.\n"
        f"One run: {timed.optimised:.3g} ms as the app does it on the {timed.engine}, {timed.plain:.3g} ms on the CPU "
        f"with nothing fused, as the ops were timed (medians of {timed.runs})."
    )
    if found.uncounted:
        click.echo(f"Not counted: multiply-adds of {found.uncounted}.")
    table = certificates.certificate(network, network.view(run.picture(image).pixels)[0]) if compare else None
    if table is not None:
        worst = table.loc[table[table.kind == "tensor"].relative.idxmax()]
        click.echo(f"The two engines differ most at {worst['name']}: by {worst.relative:.1e} of its largest value.")
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    arrays, facts = records.taken_apart(found, "")
    record = {
        "command": "anatomy",
        "net": {"name": network.name, "sha256": network.sha256, "output": network.output},
        "facts": facts | {"milliseconds": timed.optimised, "milliseconds_unfused": timed.plain, "runs": timed.runs},
        "engine": network.engine,
        "versions": records.versions(),
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
    return across((row.field_rows, row.field_cols)), across((row.stride_rows, row.stride_cols))


@click.command()
@click.argument("net")
@click.argument("image")
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="How many classes to print.")
def classify(net: str, image: str, top: int) -> None:
    """Print a picture's likeliest classes."""
    network = Net(available.find(net))
    view, _ = network.view(run.picture(image).pixels)
    logits, shares = run.probabilities(network, view)
    order = (-logits).argsort(kind="stable")[:top]
    rows = [(f"{shares[k]:.1%}".rjust(11), f"{logits[k]:.3f}".rjust(8), int(k), network.labels[k]) for k in order]
    click.echo(in_columns(rows, ["probability", "   logit", "class", "label"]))


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def examine(file: Path) -> None:
    """Open a stranger's FILE in a process of its own, with limits, and say whether the app would open it."""
    from engine.intake import opening

    content, step = opening.read(file), None
    for step in run.shown(opening.examine_steps(content, file.name, beside=file.resolve().parent), "examine"):  # noqa: B007
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


@click.command()
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
            said[key] = numbers(given, key, network.channels)
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
    click.echo(f"{out}: {made.classes:,} classes: {', '.join(made.labels[:3])}, …; still unsaid: {unsaid(made)}.")

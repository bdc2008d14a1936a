"""Commands that measure maps of evidence."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli import run as running
from engine.cli.printing import in_columns
from engine.explain import trials
from engine.net import Net
from engine.nets import available


@click.command()
@click.argument("net")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--methods", default=trials.USUAL, show_default=True, help="Titles of maps of evidence, commas between.")
@click.option("--class", "class_", metavar="CLASS", help="Ask about this one.  [default: each picture's likeliest]")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@running.precision_option
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
    for step in running.shown(run, "faithful"):  # noqa: B007
        pass
    out.mkdir(parents=True, exist_ok=True)
    table = trials.summary(step.result)
    step.result.to_csv(out / "pictures.csv", index=False)
    table.to_csv(out / "summary.csv", index=False)
    columns = list(table.columns)
    click.echo(
        in_columns([[*row[:2], *(f"{v:.4g}" for v in row[2:5]), row[5]] for row in table.values.tolist()], columns)
    )

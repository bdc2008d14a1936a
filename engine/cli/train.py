"""Commands that train: a style network, a decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine.cli import run as running
from engine.cli.printing import recipe_options
from engine.net import Net
from engine.nets import available


@click.command()
@click.option("--styles", required=True, metavar="FILES", help="Pictures of the paintings, commas between.")
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="A folder or Parquet file.")
@click.option("--loss", required=True, metavar="NET", help="The network whose layers say what is alike.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The ONNX file to write.")
@click.option("--source", default="", help="What the file is to say of where it comes from.")
@click.option("--licence", default="", help="And of its licence.")
@recipe_options(
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
    from engine.train import style as training

    files = [file.strip() for file in styles.split(",")]
    paintings = {Path(file).stem.replace("_", " "): running.picture(file).pixels for file in files}
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
        for step in running.shown(run, "train-style"):
            training.note(log, step.result)
    except KeyboardInterrupt:
        if step is None:
            raise
    training.export_style(step.result.painter, list(paintings), out, source=source, licence=licence)
    click.echo(f"{out}: {len(paintings)} style(s), {step.result.pictures:,} pictures painted in training.")


@click.command()
@click.option("--net", required=True, metavar="NET", help="The network whose layer is to be decoded.")
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="A folder or Parquet file.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The ONNX file to write.")
@click.option("--source", default="", help="What the file is to say of where it comes from.")
@click.option("--licence", default="", help="And of its licence.")
@recipe_options(
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
    from engine.train import decoder as training
    from engine.train.style import encoded, note

    encoder, pictures, step = Net(available.find(net)), encoded(data), None
    checkpoint, log = out.with_suffix(".pt"), out.with_suffix(".csv")
    if not checkpoint.exists():
        log.unlink(missing_ok=True)  # of another training
    out.parent.mkdir(parents=True, exist_ok=True)
    chosen = training.Recipe(**recipe)
    try:
        for step in running.shown(
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

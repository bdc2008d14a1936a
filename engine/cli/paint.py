"""Commands that paint: with a style network, and by growing a texture."""

from __future__ import annotations

from pathlib import Path

import click

from engine import record as records
from engine.cli import run


@click.command("fast-style")
@click.option("--net", metavar="NET", help="A style network: a name, or a file.  [default: the first that is here]")
@click.option("--image", metavar="PIC", help="The picture to paint: a file, or a sample's name.")
@click.option("--video", type=click.Path(dir_okay=False, path_type=Path), help="Or the video to paint.")
@click.option("--mix", default="", help="Weights: 2,1,0 or STYLE=2,STYLE=1.  [default: the first style]")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder to write to.")
@click.option(
    "--side", type=click.IntRange(16), help="Longer side while painting.  [default: as it is; 320 of a video]"
)
@click.option("--seconds", default=10.0, show_default=True, help="How much of a video is painted at most.")
@run.precision_option
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
    from engine.paint import fast_style as fast
    from engine.paint import video as moving

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
        seen = run.picture(image)
        painted = fast.stylise(opened, seen.pixels, mix=given, side=side, precision=precision)
        record = {
            "command": "fast-style",
            "net": {"name": opened.name, "sha256": opened.sha256},
            "image": {"name": seen.name, "sha256": seen.sha256},
            "mix": dict(zip(opened.styles, fast.weights(opened, given).astype(float).round(4).tolist(), strict=True)),
            "painted_at": fast.painted_size(opened, seen.pixels.shape[:2], side=side),
            "precision": precision,
            "engine": opened.engine,
            "versions": records.versions(),
        }
        records.save_made(out, painted, {"pixels": painted}, record, None)
        return
    out.mkdir(parents=True, exist_ok=True)
    unfinished, step = out / "unfinished.mp4", None
    try:
        limits = {"side": side or 320, "seconds": seconds, "precision": precision}
        painting = moving.stylise_video(opened, video, mix=given, out=unfinished, **limits)
        for step in run.shown(painting, "fast-style"):  # noqa: B007
            pass
        unfinished.replace(out / "video.mp4")
    finally:
        unfinished.unlink(missing_ok=True)
    click.echo(f"{step.result.frames} frames, {step.result.rate:.4g} a second.")


@click.command()
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
    from engine.paint import growing
    from engine.pictures.film import Film

    seen, shot = run.picture(image), Film() if film else None
    sample = growing.cut(seen.pixels, side, longest=longest)
    grown, stopped = run.to_end(growing.grow_steps(sample, size=size, window=window, seed=seed), "grow", shot)
    record = {
        "command": "grow",
        "image": {"name": seen.name, "sha256": seen.sha256},
        "knobs": {"longest": longest, "side": side, "size": size, "window": window, "seed": seed},
        **stopped,
        "filled": grown.filled,
        "versions": records.versions(),
    }
    records.save_made(out, grown.picture, {"picture": grown.picture, "sample": sample}, record, shot)
    run.leave_if(stopped, out)

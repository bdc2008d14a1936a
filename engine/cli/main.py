"""What can be asked on the command line? The commands here, and one for each method: `python -m engine --help`."""

from __future__ import annotations

import errno
import logging
from typing import Any

import click

from engine import methods
from engine.cli import explain, fool, networks, paint, run, sets, train
from engine.nets import download
from engine.pictures.samples import UnknownSample

REFUSED = 2  # the exit status where what was asked for cannot be done


class Refused(click.ClickException):
    """One sentence on standard error."""

    exit_code = REFUSED


class Engine(click.Group):
    """The commands of this package, and one per method, found by its signature (engine/methods.py)."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        own = super().list_commands(ctx)
        return own + [name for name in methods.methods() if name not in own]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if (own := super().get_command(ctx, name)) is not None:
            return own
        method = methods.methods().get(name)
        return None if method is None else _of_method(method)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = {name: _of_method(method) for name, method in methods.methods().items()}
        own = {name: super(Engine, self).get_command(ctx, name) for name in super().list_commands(ctx)}
        for title, chosen in (("Networks", own), ("Methods", {n: one for n, one in found.items() if n not in own})):
            with formatter.section(title):
                formatter.write_dl([(name, one.get_short_help_str(90)) for name, one in chosen.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        # What the engine's docstrings announce.
        except (ValueError, UnknownSample, download.FetchFailed, OSError) as error:
            if ctx.params["trace"] or getattr(error, "errno", None) == errno.EPIPE:
                raise
            raise Refused(_sentence(error)) from error


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}." if error.filename else f"{error.strerror}."
    return " ".join(str(error).split())


def _of_method(method: methods.Method) -> click.Command:
    def callback(**given: Any) -> None:
        run.run(method, **given)

    return click.Command(
        method.name,
        callback=callback,
        params=run.options(method),
        help=methods.about(method.function),
        short_help=(method.function.__doc__ or "").strip().partition("\n")[0],
        epilog="Writes numbers.npz, result.json and, where there is something to see, picture.png.",
    )


@click.group(cls=Engine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--trace", is_flag=True, help="Show where an error comes from.")
def main(trace: bool) -> None:
    """What does this network see? The app's engine from the command line.

    NET is a name that `nets` lists, or an ONNX file. PIC is a JPEG, PNG, WebP or GIF file, or the name of a sample.
    """
    logging.basicConfig(level=logging.ERROR)


for module in (networks, sets, explain, fool, paint, train):
    for command in [each for each in vars(module).values() if isinstance(each, click.Command)]:
        main.add_command(command)

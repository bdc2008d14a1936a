"""How are tables and sizes put into words on a terminal?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from engine.net import Net


def in_columns(rows: Sequence[Sequence[object]], head: Sequence[str]) -> str:
    """Columns in line; numbers to the right."""
    cells = [[f"{cell:.2e}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(len(row[k]) for row in [list(head), *cells]) for k in range(len(head))]
    right = [all(isinstance(row[k], int | float) for row in rows) for k in range(len(head))]
    align: Callable = lambda text, k: text.rjust(widths[k]) if right[k] else text.ljust(widths[k])  # noqa: E731
    return "\n".join("  ".join(align(c, k) for k, c in enumerate(row)).rstrip() for row in [list(head), *cells])


def across(pair: tuple[int, int]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}×{pair[1]}"


def indented(*texts: str) -> None:
    for text in filter(None, texts):
        click.echo(click.wrap_text(text, 116, "    ", "    "))


def unsaid(net: Net) -> str:
    return ", ".join(key.replace("_", " ") for key in net.metadata.missing) or "nothing"


def numbers(text: str, key: str, count: int) -> tuple[float, ...]:
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


def recipe_options(*numbers: tuple[str, float | str, str]) -> Callable:
    """The fields of a training's Recipe as options; its module imports torch, which others can spare."""

    def with_options(function: Callable) -> Callable:
        for name, default, text in reversed(numbers):
            function = click.option(f"--{name}", default=default, show_default=True, help=text)(function)
        return function

    return with_options

"""Measure, and print the tables of benchmarks/README.md as Markdown."""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

import click
import numpy as np
import torch

from benchmarks import (
    adversarial,
    embedding,
    explain,
    fast_style,
    index,
    maximize,
    networks,
    occlusion,
    one_pixel,
    overhead,
    style_transfer,
)
from benchmarks.timing import Others, machine, table
from engine import image
from engine.data.sets import find
from engine.net import Net
from engine.nets.available import SHIPPED

TABLES = ("occlusion", "explain", "overhead", "maximize", "style", "fast_style", "index", "embedding", "one_pixel",
    "adversarial")  # fmt: skip
PAIRED = {"explain", "overhead", "maximize", "index", "one_pixel", "adversarial"}


@click.command(context_settings={"show_default": True})
@click.argument("tables", nargs=-1, type=click.Choice(TABLES))
@click.option("--nets", default="resnet18,squeezenet1_1", help="torchvision's names, with commas between.")
@click.option("--windows", default=",".join(occlusion.NETS), help="The same, for the table `occlusion`.")
@click.option("--rounds", type=click.IntRange(1), default=7, help="Of each comparison; what counts is their median.")
@click.option("--quick", is_flag=True, help="Less of it: 3 rounds, one size of patch, a tenth of the steps.")
@click.option(
    "--trained",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What benchmarks.train_vgg16 wrote: with `occlusion`, approximate maps are measured on it, too.",
)
@click.option("--large", default="vgg16", help="Networks on which only the quick methods of `explain` are timed.")
def main(
    tables: tuple[str, ...], nets: str, windows: str, rounds: int, quick: bool, large: str, trained: Path | None
) -> None:
    """Time the engine beside its peers, and beside bare ONNX Runtime: all tables, or the named ones.

    Leave the machine alone meanwhile.
    """
    only, rounds = tables or TABLES, min(rounds, 3) if quick else rounds
    click.echo(machine(f"{torch.get_num_threads()} for torch, ONNX Runtime's default (one per core)") + "\n")
    others = Others()
    with tempfile.TemporaryDirectory() as folder:
        pairs = [networks.pair(name, Path(folder)) for name in nets.split(",")] if PAIRED.intersection(only) else []
        if "occlusion" in only:
            some = (occlusion.MAIN_PATCH,) if quick else occlusion.PATCHES
            _occlusion(windows.split(","), some, Path(folder), min(rounds, 3))
            if trained:
                _approximate(networks.trained(trained, Path(folder)), min(rounds, 3))
        if "explain" in only:
            more = [networks.pair(name, Path(folder)) for name in filter(None, large.split(","))]
            _explain(pairs, more, rounds)
        if "overhead" in only:
            _overhead(pairs, 5 * rounds)
        if "maximize" in only:
            _maximize(pairs, rounds)
        if "style" in only:
            _style(networks.pair(style_transfer.NAME, Path(folder)), rounds)
        if "fast_style" in only:
            _fast_style(Path(folder), 5 * rounds)
        if "index" in only:
            _index(pairs, Path(folder), rounds)
        if "embedding" in only:
            _embedding(min(rounds, 3))
        if "one_pixel" in only:
            _one_pixel(pairs, rounds)
        if "adversarial" in only:
            _adversarial(pairs, min(rounds, 3), adversarial.STEPS // 10 if quick else adversarial.STEPS)
    click.echo(f"\n{others.said()}")


def _occlusion(names: list[str], patches: tuple[int, ...], folder: Path, rounds: int) -> None:
    click.echo(f"### Occlusion at stride {occlusion.STRIDE}, milliseconds per position ({rounds} rounds)\n")
    head = ["network", "patch", "by parts", "whole pictures (batch)", "Captum (its best batch)", "over whole pictures"]
    head += ["bound", "share of it", "over Captum", "largest difference", "memory on top"]
    if on_gpu := torch.cuda.is_available():
        head.append("over Captum in TensorFloat-32")
    click.echo(table(head, []))

    def row(pair: networks.Pair, patch: str, found: occlusion.Raced) -> None:
        parts, whole, captum = (1e3 * statistics.median(s) for s in (found.parts, found.whole, found.captum))
        ratio, theirs = (statistics.median(found.over(other)) for other in ("whole", "captum"))
        line = [
            f"{pair.name} ({pair.weights} weights)",
            patch,
            f"{parts:.{digits}f}",
            f"{whole:.{digits}f} ({found.batch})",
            f"{captum:.{digits}f} ({found.captum_batch})",
            f"**{ratio:.2f}×** ({min(found.over('whole')):.2f} to {max(found.over('whole')):.2f})",
            f"{found.bound:.1f}",
            f"{ratio / found.bound:.0%}",
            f"**{theirs:.2f}×** ({min(found.over('captum')):.2f} to {max(found.over('captum')):.2f})",
            f"{found.off:.0e}",
            f"{found.bytes / 2**20:.0f} MB",
        ]
        if on_gpu:
            line.append(f"{statistics.median(found.over('captum_tf32')):.2f}×")
        click.echo(table(head, [line]).splitlines()[-1])  # each as it comes

    digits = 4 if on_gpu else 2
    shares, over, best, pairs = {}, {}, {}, {}
    for name in names:
        pair = networks.pair(name, folder)
        for patch in patches:
            found = occlusion.compare(pair, patch, rounds, best.get(name, 0))
            best[name] = found.captum_batch
            if patch == occlusion.MAIN_PATCH:
                ratio, theirs = (statistics.median(found.over(other)) for other in ("whole", "captum"))
                shares[name], over[name] = ratio / found.bound, theirs
            row(pair, str(patch), found)
        if on_gpu and name == occlusion.EVERYWHERE:
            found = occlusion.compare(pair, occlusion.MAIN_PATCH, 1, best[name], 1)
            row(pair, f"{occlusion.MAIN_PATCH}, stride 1", found)
        if name in occlusion.MAIN:
            pairs[name] = pair
    main = [name for name in occlusion.MAIN if name in over]
    if main == list(occlusion.MAIN):
        said = ", ".join(f"{name} {shares[name]:.0%}" for name in main)
        click.echo(f"\nOf the bound at patch {occlusion.MAIN_PATCH} (goal {occlusion.SHARE_GOAL:.0%}): {said}.")
        mean = occlusion.mean([over[name] for name in main])
        click.echo(f"Over Captum, geometric mean of these: **{mean:.2f}×** (goal {occlusion.CAPTUM_GOAL:g}×).\n")
    for name in main:
        spent = ", ".join(f"{what} {value:.2f} ms" for what, value in occlusion.profile(pairs[name]).items())
        click.echo(f"A position of {name} on {'the GPU' if on_gpu else 'one core'}: {spent}.")


def _approximate(pair: networks.Pair, rounds: int) -> None:
    data = find(_shared("imagenette160", "val.parquet"))
    numbers = np.linspace(0, len(data) - 1, occlusion.PICTURES).round().astype(int)
    pictures = [image.load(data.encoded(int(number))) for number in numbers]
    said = f"{pair.name} ({pair.weights} weights), patch {occlusion.MAIN_PATCH}, {len(pictures)} pictures"
    click.echo(f"\n### Approximate occlusion, {said} ({rounds} rounds)\n")
    head = ["field", "drill", "SSIM to the exact map, mean", "of each picture", "over Captum", "goal"]
    click.echo(table(head, []))
    for share, drill, near, ratios in occlusion.approximate(pair, pictures, rounds):
        each = ", ".join(f"{ssim:.2f}" for ssim in sorted(near))
        ratio = f"**{statistics.median(ratios):.1f}×** ({min(ratios):.1f} to {max(ratios):.1f})"
        goal = f"{occlusion.APPROXIMATE_GOAL:g}× at 0.9"
        row = (f"{share:g}", f"{drill:g}", f"**{statistics.mean(near):.3f}**", each, ratio, goal)
        click.echo(table(head, [row]).splitlines()[-1])


def _shared(*parts: str) -> Path:
    return Path(os.environ.get("CONVOSCOPE_SHARED", "../shared"), "data", *parts)


def _explain(pairs: list[networks.Pair], large: list[networks.Pair], rounds: int) -> None:
    click.echo(f"### Maps of evidence ({rounds} rounds, {max(rounds // 2, 1)} of the slow ones)\n")
    head = ["network", "method", "beside", "Convoscope", "peer", "faster by", "goal", "difference (RMS)"]
    click.echo(table(head, []))
    for pair, slow in [*((pair, True) for pair in pairs), *((pair, False) for pair in large)]:
        for case, share, timed in explain.compare(pair, rounds=rounds, slow=slow):
            ours, theirs = (f"{statistics.median(side) * 1e3:.1f} ms" for side in (timed.ours, timed.theirs))
            ratios = f"**{timed.ratio:.2f}×** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})"
            row = (pair.name, case.what, case.peer, ours, theirs, ratios, f"{case.goal}×", f"{share:.0e}")
            click.echo(table(head, [row]).splitlines()[-1])  # each as it comes: all of them take a while
    click.echo("")


def _maximize(pairs: list[networks.Pair], rounds: int) -> None:
    rows = []
    for pair in pairs:
        timed = maximize.compare(pair, rounds)
        each = (f"{maximize.STEPS / statistics.median(side):.2f}" for side in (timed.ours, timed.theirs))
        ratios = f"**{timed.ratio:.2f}×** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})"
        rows.append((f"{pair.name} ({pair.weights} weights)", *each, ratios, "1.5×"))
    click.echo(f"### Class maximization at 224 pixels, steps per second ({rounds} rounds)\n")
    click.echo(table(["network", "Convoscope", "Lucent", "faster by", "goal"], rows) + "\n")


def _overhead(pairs: list[networks.Pair], rounds: int) -> None:
    rows = []
    for pair in pairs:
        for what, timed in overhead.compare(pair, rounds):
            ours, bare = (f"{statistics.median(side) * 1e3:.2f} ms" for side in (timed.ours, timed.theirs))
            rows.append((pair.name, what, ours, bare, f"{timed.ratio_of_medians:.3f}"))
    click.echo(f"### Net beside bare ONNX Runtime (goal: at most {overhead.GOAL:.2f}; {rounds} rounds)\n")
    click.echo(table(["network", "what", "Net", "bare session", "ratio of medians"], rows))


def _fast_style(folder: Path, rounds: int) -> None:
    rows = []
    for found in fast_style.compare(folder, rounds):
        timed = found.comparison
        ours, theirs = (f"{statistics.median(side) * 1e3:.1f} ms" for side in (timed.ours, timed.theirs))
        ratio = f"**{timed.ratio:.2f}×** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})"
        rows.append((found.what, found.peer, ours, theirs, ratio, f"{found.difference:.0e}"))
    click.echo(f"\n### Fast style (goal beside PyTorch: {fast_style.GOAL:g}×; {rounds} rounds)\n")
    click.echo(
        table(
            ["what", "beside", "Convoscope", "the other", "faster by", "largest difference (in bfloat16 the mean)"],
            rows,
        )
    )


def _index(pairs: list[networks.Pair], folder: Path, rounds: int) -> None:
    data = index.some(_shared("imagenette160", "val.parquet"))
    nets = [(f"{pair.name} ({pair.weights} weights)", pair.net) for pair in pairs]
    click.echo(f"\n### The pass over {index.COUNT} pictures of {data.name}, pictures per second ({rounds} rounds)\n")
    goal = f"share (goal {index.GOAL})"
    head = ["network", "the pass", "bare session", goal, "processor time a picture, both", "share of it"]
    click.echo(table(head, []))
    for name, net in [*nets, ("imagenette (shipped)", Net(SHIPPED / "imagenette.onnx"))]:
        found = index.compare(net, data, folder, rounds)
        timed = found.comparison
        each = (f"{index.COUNT / statistics.median(side):.1f}" for side in (timed.ours, timed.theirs))
        ratios = f"**{timed.ratio:.2f}** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})"
        per_picture = f"{found.ours / index.COUNT * 1e3:.1f} / {found.theirs / index.COUNT * 1e3:.1f} ms"
        row = (name, *each, ratios, per_picture, f"{found.work:.2f}")
        click.echo(table(head, [row]).splitlines()[-1])  # each as it comes


def _style(pair: networks.Pair, rounds: int) -> None:
    rows = []
    for weights, timed in style_transfer.compare(pair, rounds):
        ours, theirs = (statistics.median(side) / style_transfer.STEPS for side in (timed.ours, timed.theirs))
        ratios = f"**{timed.ratio:.2f}×** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})"
        rows.append((pair.name, weights, f"{1 / ours:.1f}", f"{1 / theirs:.1f}", ratios, f"{style_transfer.GOAL}×"))
    click.echo(f"### Style transfer, {style_transfer.SIZE} pixels, L-BFGS: steps per second ({rounds} rounds)\n")
    head = ["network", "the peer's weights; our numbers", "Convoscope", "plain PyTorch", "faster by", "goal"]
    click.echo(table(head, rows) + "\n")


def _embedding(rounds: int) -> None:
    found = embedding.compare(rounds)
    timed = found.comparison
    row = [
        f"{embedding.PICTURES:,} × {embedding.CHANNELS}",
        *(f"{statistics.median(side):.1f} s" for side in (timed.ours, timed.theirs)),
        f"**{timed.ratio:.2f}×** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})",
        f"{embedding.GOAL:g}×",
        " / ".join(f"{share:.1%}" for share in found.kept),
        " / ".join(f"{nats:.3f}" for nats in found.divergences),
    ]
    click.echo(f"\n### t-SNE, {embedding.STEPS} iterations ({rounds} rounds)\n")
    head = ["features", "Convoscope", "scikit-learn", "faster by", "goal", "of 10 neighbours kept", "divergence"]
    click.echo(table(head, [row]))


def _one_pixel(pairs: list[networks.Pair], rounds: int) -> None:
    asked = one_pixel.POPULATION * one_pixel.GENERATIONS
    click.echo(f"\n### One-pixel attack, milliseconds per candidate, {asked} of them ({rounds} rounds)\n")
    head = ["network", "beside", "its batches", "Convoscope", "the other", "faster by", "in processor time", "goal"]
    click.echo(table(head, []))
    for pair in pairs:
        for found in one_pixel.compare(pair, rounds):
            timed = found.comparison
            each = (f"{statistics.median(side) / asked * 1e3:.2f}" for side in (timed.ours, timed.theirs))
            ratio = f"**{timed.ratio:.2f}×** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})"
            spent = f"{found.theirs / found.ours:.2f}×"
            goal = f"{one_pixel.GOAL:g}×" if found.peer == "PyTorch" else ""
            row = (f"{pair.name} ({pair.weights} weights)", found.peer, found.size, *each, ratio, spent, goal)
            click.echo(table(head, [row]).splitlines()[-1])  # each as it comes


def _adversarial(pairs: list[networks.Pair], rounds: int, steps: int) -> None:
    click.echo(f"\n### PGD of {steps} steps on {adversarial.BATCH} pictures, seconds ({rounds} rounds)\n")
    head = ["network", "beside", "Convoscope", "the other", "faster by", "goal"]
    click.echo(table(head, []))
    for pair in pairs:
        for peer in adversarial.PEERS:
            timed = adversarial.compare(pair, peer, rounds, steps=steps)
            each = (f"{statistics.median(side):.1f}" for side in (timed.ours, timed.theirs))
            ratio = f"**{timed.ratio:.2f}×** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})"
            row = (f"{pair.name} ({pair.weights} weights)", peer, *each, ratio, f"{adversarial.GOAL:g}×")
            click.echo(table(head, [row]).splitlines()[-1])  # each as it comes


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")

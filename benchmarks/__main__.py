"""Measure, and print the tables of benchmarks/README.md as Markdown."""

from __future__ import annotations

import os
import statistics
import tempfile
from pathlib import Path

import click
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
from engine.net import Net
from engine.nets import SHIPPED


@click.command(context_settings={"show_default": True})
@click.option("--nets", default="resnet18,squeezenet1_1", help="torchvision's names, with commas between.")
@click.option("--rounds", type=click.IntRange(1), default=7, help="Of each comparison; what counts is their median.")
@click.option("--quick", is_flag=True, help="Less of it: stride 16 instead of 8, and 3 rounds.")
@click.option(
    "--only",
    default="occlusion,explain,overhead,maximize,style,fast_style,index,embedding,one_pixel,adversarial",
    help="Which of these tables.",
)
@click.option("--large", default="vgg16", help="Networks on which only the quick methods of `explain` are timed.")
def main(nets: str, rounds: int, quick: bool, only: str, large: str) -> None:
    """Time the engine beside its peers, and beside bare ONNX Runtime. Leave the machine alone meanwhile."""
    stride, rounds = (16, min(rounds, 3)) if quick else (8, rounds)
    click.echo(machine(f"{torch.get_num_threads()} for torch, ONNX Runtime's default (one per core)") + "\n")
    others = Others()
    with tempfile.TemporaryDirectory() as folder:
        paired = ("occlusion", "explain", "overhead", "maximize", "index", "one_pixel", "adversarial")
        of_networks = any(each in only for each in paired)
        pairs = [networks.pair(name, Path(folder)) for name in nets.split(",")] if of_networks else []
        if "occlusion" in only:
            _occlusion(pairs, stride, rounds)
        if "explain" in only:
            more = [networks.pair(name, Path(folder)) for name in filter(None, large.split(","))]
            _explain(pairs, more, rounds)
        if "overhead" in only:
            _overhead(pairs, 5 * rounds)
        if "maximize" in only:
            _maximize(pairs, rounds)
        if "style" in only.split(","):
            _style(networks.pair(style_transfer.NAME, Path(folder)), rounds)
        if "fast_style" in only:
            _fast_style(Path(folder), 5 * rounds)
        if "index" in only.split(","):
            _index(pairs, Path(folder), rounds)
        if "embedding" in only.split(","):
            _embedding(min(rounds, 3))
        if "one_pixel" in only:
            _one_pixel(pairs, rounds)
        if "adversarial" in only:
            _adversarial(pairs, min(rounds, 3), adversarial.STEPS // 10 if quick else adversarial.STEPS)
    click.echo(f"\n{others.said()}")


def _occlusion(pairs: list[networks.Pair], stride: int, rounds: int) -> None:
    rows, sweeps = [], []
    for pair in pairs:
        found = occlusion.compare(pair, stride=stride, rounds=rounds)
        timed = found["comparison"]
        rows.append((
            f"{pair.name} ({pair.weights} weights)",
            f"{statistics.median(timed.ours):.2f} s",
            f"{statistics.median(timed.theirs):.2f} s",
            f"**{timed.ratio:.2f}×** ({min(timed.ratios):.2f} to {max(timed.ratios):.2f})",
            f"{found['batch']} / {found['best']}",
            f"{found['difference']:.0e} ({found['share']:.0e} of the range)",
        ))  # fmt: skip
        sweeps.append((pair.name, *(f"{found['sweep'][size] * 1e3:.1f}" for size in occlusion.SIZES)))
    click.echo(f"### Occlusion, patch {occlusion.PATCH}, stride {stride}: {found['positions']} positions\n")
    head = [
        "network",
        "Convoscope",
        "Captum",
        f"faster by (median of {rounds} rounds)",
        "batch sizes",
        "largest difference",
    ]
    click.echo(table(head, rows) + "\n")
    click.echo("Captum's milliseconds per position by `perturbations_per_eval`; the best one is used above:\n")
    click.echo(table(["network", *map(str, occlusion.SIZES)], sweeps) + "\n")


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
    click.echo(table(["what", "beside", "Convoscope", "the other", "faster by", "largest difference"], rows))


def _index(pairs: list[networks.Pair], folder: Path, rounds: int) -> None:
    data = index.some(Path(os.environ.get("CONVOSCOPE_SHARED", "../shared"), "data", "imagenette160", "val.parquet"))
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
    head = ["network", "the peer's weights", "Convoscope", "plain PyTorch", "faster by", "goal"]
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

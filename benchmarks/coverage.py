"""Which networks have a twin that is the same network? Every classifier of torchvision, by both of torch's exporters.

For each: the largest relative difference of any float tensor between the Twin and ONNX Runtime, and of the gradient by
the picture between the Twin and PyTorch's autograd through the module that the file was written from. Weights are
random, since the graphs are what counts, with statistics of the normalisations that are not the trivial ones; nothing
is downloaded. Both gradients are in single precision; where they differ by more than is asked for, in double, with the
normalisations folded before. Each network has a process of its own: the largest take most of a machine's memory.

    python -m benchmarks.coverage                 all of them, about an hour on two cores
    python -m benchmarks.coverage --nets resnet18,vit_b_16
    python -m benchmarks.coverage --light         the networks that come with onnx, with random weights
    python -m benchmarks.coverage --files a.onnx,b.onnx

Of files without a module the gradient is compared with central differences of ONNX Runtime's scores, as in the app.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import click
import numpy as np
import onnx
import torch
from torch.fx.experimental.optimization import fuse
from torchvision import models

from engine.model.metadata import Metadata, write
from engine.net import BadNetwork, Net
from engine.nets.certificate import certificate, verdict
from engine.pictures import samples
from engine.twin import NoGradient

EXPORTERS = ("dynamo", "script")
PARITY, GRADIENT = 1e-4, 1e-3  # relative: what is asked for
SAMPLE = "china"
SMALL = 96  # pixels a side, where nothing in the network hangs on its full size
FULL = ("alexnet", "vgg", "vit", "maxvit", "inception", "swin")  # others' beginnings of names: at 224
LARGEST = 2**31 - 2**20  # bytes that one protobuf can hold


def built(name: str, spread: float = 4.0) -> torch.nn.Module:
    """torchvision's network with random weights, and normalisations that change what goes through them.

    spread: their variances, as a multiple of those of their own activations.
    """
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    options |= {"aux_logits": False} if name == "googlenet" else {}
    module = models.get_model(name, weights=None, **options)
    for weights in module.parameters():
        if not weights.any():  # nothing would be seen of it: a bias, or the whole head of a vision transformer
            torch.nn.init.normal_(weights, std=0.05)
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.8, 1.2)
            torch.nn.init.normal_(part.bias, std=0.1)
            part.momentum = 1.0
        elif type(part).__name__ == "CNBlock" or hasattr(part, "layer_scale"):  # 1e-6: as if nothing were there
            torch.nn.init.uniform_(part.layer_scale, 0.2, 0.4)
    module.eval()
    # Statistics as after training: without them numbers grow from layer to layer until rounding is all that is seen.
    normalisations = [part for part in module.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    if normalisations:
        for part in normalisations:
            part.train()
        with torch.no_grad():  # of pictures that are neither flat nor noise alone
            size = (side(name), side(name))
            blurred = torch.nn.functional.interpolate(torch.randn(8, 3, 7, 7), size, mode="bilinear")
            module(blurred + 0.3 * torch.randn(8, 3, *size))
        for part in normalisations:
            # Random layers that undo each other's shrinking are chaos: a difference grows by a fifth in each (Yang et
            # al. 2019, arXiv:1902.08129), which at three hundred layers leaves no digit. So these shrink it.
            part.running_var.mul_(spread).clamp_(min=float(part.running_var.mean()) / 10)
    return module.eval()


def side(name: str) -> int:
    """Rows and columns of the picture."""
    return 224 if name.startswith(FULL) else SMALL


def saved(module: torch.nn.Module, path: Path, exporter: str, size: int) -> None:
    """The module as a file, as the exporter writes it; weights of more than a file's size lie beside it."""
    example, names = torch.zeros(2, 3, size, size), {"input_names": ["image"], "output_names": ["logits"]}
    heavy = sum(w.numel() * 4 for w in module.state_dict().values()) > LARGEST
    if exporter == "dynamo":
        how = {"dynamo": True, "external_data": heavy, "verbose": False}
        how["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    else:
        how = {"dynamo": False, "dynamic_axes": {"image": {0: "batch"}, "logits": {0: "batch"}}}
    torch.onnx.export(module, (example,), str(path), **how, **names)
    model = onnx.load(path, load_external_data=False)
    write(model, Metadata(input_size=(size, size)))
    onnx.save(model, path)


def compared(net: Net, x: np.ndarray) -> tuple[int, float, str]:
    """How many float tensors there are, the largest relative difference among them, and of which tensor."""
    names = [n for node in net.graph.nodes for n in node.outputs if n in net.graph.from_input & net.graph.floats]
    theirs = net.activations(x, names)
    with torch.no_grad():
        ours = net.twin(torch.from_numpy(x), names)
    worst, where = 0.0, ""
    for name in names:
        difference = np.abs(theirs[name] - ours[name].numpy()).max(initial=0)
        relative = float(difference / max(np.abs(theirs[name]).max(initial=0), 1e-30)) if difference else 0.0
        if not relative <= worst:
            worst, where = relative, f"{name} ({net.graph.producer(name).op})"
    return len(names), worst, where


def gradients(module: torch.nn.Module, net: Net, x: np.ndarray, kind: torch.dtype = torch.float32) -> float:
    """The largest difference of the two gradients of the strongest class's logit, over the largest number in them."""
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (net.metadata.mean, net.metadata.std))
    k = int(net.scores(x)[0].argmax())
    module = module.to(kind)
    start = {name: c.to(kind) for name, c in net.twin.constants.items() if c.dtype == torch.float32}
    found = []
    for logits in (
        lambda pixels: module((pixels - mean) / std),
        lambda pixels: net.twin(pixels, [net.logits], start=start)[net.logits],
    ):
        pixels = torch.from_numpy(x).to(kind, copy=True).requires_grad_()
        found.append(torch.autograd.grad(logits(pixels)[0, k], pixels)[0].numpy())
    module.float()
    return float(np.abs(found[0] - found[1]).max() / np.abs(found[0]).max())


def row(module: torch.nn.Module, name: str, exporter: str, folder: Path) -> dict:
    """One line of the table; what stands in the way, if something does, under "stopped"."""
    begun = time.perf_counter()
    found = {"network": name, "exporter": exporter}
    path = folder / f"{exporter}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved(module, path, exporter, side(name))
    net = Net(path)
    found |= {"nodes": len(net.graph.nodes), "opset": max(node.version for node in net.graph.nodes)}
    found["ops"] = sorted({node.op for node in net.graph.nodes})
    if missing := net.twin.missing():
        return found | {"stopped": "no twin of " + ", ".join(sorted({f"{n.op}-{n.version}" for n in missing}))}
    x = net.batch(net.view(samples.load(SAMPLE))[0])
    found["tensors"], found["parity"], found["worst"] = compared(net, x)
    found["gradient"] = gradients(module, net, x)
    if found["gradient"] > GRADIENT:
        # Of ten million ReLUs some have inputs so near to zero that rounding opens or closes them, and the exporter
        # rounds, too, when it folds normalisations into weights. So they are folded before, and all is in double.
        folded, path = fuse(module), folder / "folded.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            saved(folded, path, exporter, side(name))
        found["single"] = found["gradient"]
        found["gradient"] = gradients(folded, Net(path), x, torch.float64)
    return found | {"seconds": time.perf_counter() - begun}


def passes(found: dict) -> bool:
    return found.get("parity", np.inf) <= PARITY and found.get("gradient", np.inf) <= GRADIENT


def report(rows: list[dict]) -> str:
    """The table in Markdown, with the count in its last line."""
    lines = [
        "| network | exporter | opset | nodes | ops | tensors | parity | gradient | seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        numbers = [r.get("opset", ""), r.get("nodes", ""), len(r.get("ops", ())), r.get("tensors", "")]
        if "stopped" in r:
            numbers += [r["stopped"], "", ""]
        else:
            parity = f"{r['parity']:.0e}" + ("" if r["parity"] <= PARITY else f" at {r['worst']}")
            single = f" ({r['single']:.0e} in single precision)" if "single" in r else ""
            numbers += [parity, f"{r['gradient']:.0e}{single}", f"{r['seconds']:.0f}"]
        mark = "" if passes(r) else " ✗"
        lines.append(f"| {r['network']}{mark} | {r['exporter']} | " + " | ".join(map(str, numbers)) + " |")
    ops = sorted({op for r in rows for op in r.get("ops", ())})
    lines += ["", f"**{sum(map(passes, rows))} of {len(rows)}** have a twin that equals ONNX Runtime on every float"]
    lines[-1] += f" tensor to {PARITY:g} and autograd to {GRADIENT:g}. Their {len(ops)} ops: {', '.join(ops)}."
    return "\n".join(lines)


def light(folder: Path) -> list[Path]:
    """The networks that onnx has for its own tests, nine from Caffe2; what stands there for weights becomes random."""
    found = []
    for path in sorted(Path(onnx.__file__).parent.glob("backend/test/data/light/*.onnx")):
        model = onnx.load(path)
        held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        readers = {name: (node.op_type, place) for node in model.graph.node for place, name in enumerate(node.input)}
        rng, kept = np.random.default_rng(0), []
        for node in model.graph.node:
            if node.op_type != "ConstantOfShape":
                kept.append(node)
                continue
            shape, (op, place) = held[node.input[0]], readers[node.output[0]]
            spread = (2 / np.prod(shape[1:])) ** 0.5 if len(shape) > 1 and op in ("Conv", "Gemm", "Reshape") else 0.1
            weights = rng.standard_normal(shape, np.float32) * np.float32(spread)
            while op == "Unsqueeze":  # a scale or a shift, made as long as the channels' axis asks
                turned = next(n for n in model.graph.node if node.output[0] in n.input)
                op, place = readers[turned.output[0]]
            if (op == "BatchNormalization" and place in (1, 4)) or op == "Mul":  # scales and variances
                weights = np.abs(weights) + np.float32(0.8)
            model.graph.initializer.append(onnx.numpy_helper.from_array(weights, node.output[0]))
        del model.graph.node[:]
        model.graph.node.extend(kept)
        found.append(folder / path.name)
        onnx.save(model, found[-1])
    return found


def of_files(paths: list[Path]) -> str:
    """The table of files as they are."""
    lines = ["| file | opset | nodes | ops | batch | tensors | parity | gradient | seconds |", "| --- " * 9 + "|"]
    for path in paths:
        begun = time.perf_counter()
        try:
            net = Net(path)
            found = verdict(certificate(net, net.view(samples.load(SAMPLE))[0]))
        except (BadNetwork, NoGradient) as error:
            lines.append(f"| {path.stem} ✗ | | | | | | {error} | | |")
            continue
        graph = net.graph
        batch = net.fixed_batch or "free"
        numbers = [max(node.version for node in graph.nodes), len(graph.nodes), len({node.op for node in graph.nodes})]
        numbers += [batch, found.tensors, f"{found.tensor:.0e}", f"{found.gradient:.0e}"]
        numbers += [f"{time.perf_counter() - begun:.0f}"]
        lines.append(f"| {path.stem}{'' if found.passed else ' ✗'} | " + " | ".join(map(str, numbers)) + " |")
    return "\n".join(lines)


@click.command()
@click.option("--light", "shipped", is_flag=True, help="Of the networks that come with onnx.")
@click.option("--files", help="Of these files, with commas between.")
@click.option("--nets", default=",".join(models.list_models(module=models)), help="torchvision's names, with commas.")
@click.option("--exporters", default=",".join(EXPORTERS), help="dynamo, script, or both.")
@click.option("--keep", type=click.Path(path_type=Path), help="A file for the rows that pass: they are not done again.")
@click.option("--one", is_flag=True, hidden=True)
def main(nets: str, exporters: str, keep: Path | None, one: bool, shipped: bool, files: str | None) -> None:
    """Print the table of networks, exporters, parity and gradients."""
    if shipped or files:
        with tempfile.TemporaryDirectory() as folder:
            click.echo(of_files(light(Path(folder)) if shipped else [Path(path) for path in files.split(",")]))
        return
    if one:
        _child(nets, exporters.split(","))
        return
    rows = [json.loads(line) for line in keep.read_text().splitlines()] if keep and keep.exists() else []
    for name in nets.split(","):
        missing = [e for e in exporters.split(",") if not any((r["network"], r["exporter"]) == (name, e) for r in rows)]
        if not missing:
            continue
        command = [sys.executable, "-m", "benchmarks.coverage", "--one", "--nets", name]
        ended = subprocess.run([*command, "--exporters", ",".join(missing)], capture_output=True, text=True)
        new = [json.loads(line) for line in ended.stdout.splitlines() if line.startswith('{"network"')]
        last = (ended.stderr.strip().splitlines() or [""])[-1]
        for exporter in missing[len(new) :]:
            new.append({"network": name, "exporter": exporter, "stopped": last[:200] or f"ended {ended.returncode}"})
        rows += new
        for found in new:
            click.echo(report([found]).splitlines()[2], err=True)
            if keep and passes(found):
                with keep.open("a") as file:
                    file.write(json.dumps(found) + "\n")
    order = models.list_models(module=models)
    click.echo(report(sorted(rows, key=lambda r: (order.index(r["network"]), r["exporter"]))))


def _child(name: str, exporters: list[str]) -> None:
    logging.disable(logging.WARNING)
    module = built(name)
    for exporter in exporters:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = row(module, name, exporter, Path(folder))
            except Exception as error:  # the table says of each network what stands in the way
                said = str(error).strip().splitlines() or [type(error).__name__]
                found = {"network": name, "exporter": exporter, "stopped": said[0][:200]}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()

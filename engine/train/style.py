"""How does a network learn to paint every picture in the style of a few paintings, in one pass?

Johnson, Alahi, Fei-Fei 2016, arXiv:1603.08155: a small network is trained so that what it makes of a photograph has the
photograph's features and the painting's textures, as another network, which is trained on photographs, sees them.
Ulyanov, Vedaldi, Lempitsky 2016, arXiv:1607.08022: instance normalisation. Dumoulin, Shlens, Kudlur 2017,
arXiv:1610.07629: all styles share the weights and differ in the normalisation's scale and shift alone, so that a mix
of styles is a mix of rows of two tables.

What departs from Johnson: the loss network may be any Net (the tensors that go into its pools take the place of VGG's
relu1_2 to relu4_3); each layer's loss is relative to what there is, so that layers count alike whatever their range;
nearest neighbours and a convolution in place of transposed convolutions (Odena 2016), and fewer channels.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import nn

from engine import image as pictures
from engine.data import dataset, sets
from engine.net import Net
from engine.nets.export import ExportFailed
from engine.paint.gram import gram
from engine.step import Step
from engine.train.checkpoint import BadTraining, keep, restore
from engine.train.loop import crops, relative

STRIDE = 4  # sides of what the network is given are multiples of this
LEAST = 32  # pixels a side that a style picture must have: below, its textures are those of the scaling
FLOOR = 1e-5  # what instance normalisation adds to the variance
TOLERANCE = 1e-3  # of white: what the written file may differ from the module by, whose sums are ordered differently


@dataclass(frozen=True)
class Recipe:
    """All that a training depends on, besides its pictures.

    channels: at full, half and quarter resolution. blocks: residual ones. kernel: of the first and the last
    convolution, odd, in pixels. size: side of the square crops that are painted, a multiple of 4. style_size: shorter
    side that the style pictures are scaled to; the strokes scale along. batch: pictures a step. rate: Adam's, which
    falls to nothing along half a cosine. content, style, smooth: weights of the three losses. seed: of the weights, and
    with the step's number of everything that is drawn.
    """

    steps: int = 4000
    channels: tuple[int, int, int] = (12, 24, 48)
    blocks: int = 5
    kernel: int = 5
    size: int = 128
    style_size: int = 256
    batch: int = 4
    rate: float = 3e-3
    content: float = 1.0
    style: float = 6.0
    smooth: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    painter: the network as it is now; it goes on to change. losses: means since the last report, unweighed, by name.
    pictures: how many have been painted in all.
    """

    painter: Painter
    losses: Mapping[str, float]
    pictures: int


# The network ----------------------------------------------------------------------------------------------------------


class Conditional(nn.Module):
    """Instance normalisation whose scale and shift are the mixed rows of two tables (Dumoulin et al., equation 5)."""

    def __init__(self, channels: int, styles: int):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(styles, channels))
        self.shift = nn.Parameter(torch.zeros(styles, channels))

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        # Mean and scale go into one factor and one addend: a third less memory traffic than normalising first.
        variance, mean = torch.var_mean(x, (2, 3), keepdim=True, correction=0)
        factor = (style @ self.scale)[:, :, None, None] * torch.rsqrt(variance + FLOOR)
        return x * factor + ((style @ self.shift)[:, :, None, None] - mean * factor)


class Layer(nn.Module):
    """A convolution with mirrored edges, and the conditional normalisation."""

    def __init__(self, inputs: int, outputs: int, styles: int, kernel: int = 3, stride: int = 1):
        super().__init__()
        # No bias: the normalisation takes it out again.
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, padding_mode="reflect", bias=False)
        self.norm = Conditional(outputs, styles)

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x), style)


class Painter(nn.Module):
    """Pictures (B, 3, H, W) in [0, 1], sides multiples of 4, and weights of the styles (B, S), to pictures alike."""

    def __init__(self, styles: int, recipe: Recipe):
        super().__init__()
        full, half, quarter = recipe.channels
        self.down = nn.ModuleList(
            [
                Layer(3, full, styles, recipe.kernel),
                Layer(full, half, styles, stride=2),
                Layer(half, quarter, styles, stride=2),
            ]
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList([Layer(quarter, quarter, styles), Layer(quarter, quarter, styles)])
            for _ in range(recipe.blocks)
        )
        self.up = nn.ModuleList([Layer(quarter, half, styles), Layer(half, full, styles)])
        # The last one is not normalised: a dark picture may stay darker than a bright one.
        self.last = nn.Conv2d(full, 3, recipe.kernel, 1, recipe.kernel // 2, padding_mode="reflect", bias=False)
        self.scale = nn.Parameter(torch.ones(styles, 3))
        self.shift = nn.Parameter(torch.zeros(styles, 3))

    def forward(self, x: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        for layer in self.down:
            x = F.relu(layer(x, style))
        for first, second in self.blocks:
            x = x + second(F.relu(first(x, style)), style)
        for layer in self.up:
            x = F.relu(layer(F.interpolate(x, scale_factor=2, mode="nearest"), style))
        x = self.last(x) * (style @ self.scale)[:, :, None, None] + (style @ self.shift)[:, :, None, None]
        return torch.sigmoid(x)


# What it is to learn --------------------------------------------------------------------------------------------------


def loss_layers(loss_net: Net) -> list[str]:
    """The tensors that the losses read: what goes into each pool of maxima. Raises BadTraining where there is none."""
    maps = {layer.name for layer in loss_net.layers if layer.has_map}
    pools = (node for node in loss_net.graph.nodes if node.op == "MaxPool")
    names = list(dict.fromkeys(pool.inputs[0] for pool in pools if pool.inputs[0] in maps))
    if not names:
        raise BadTraining(f"{loss_net.name} pools no maxima, so no layers tell what is alike; choose another.")
    return names


def style_grams(loss_net: Net, styles: Sequence[np.ndarray], size: int) -> dict[str, torch.Tensor]:
    """Gram matrices (S, C, C) of the style pictures (H, W, 3), by layer. Raises BadTraining for a tiny picture."""
    found: dict[str, list[torch.Tensor]] = {}
    names = loss_layers(loss_net)
    for number, style in enumerate(styles, 1):
        if min(style.shape[:2]) < LEAST:
            raise BadTraining(
                f"Style picture {number} is only {style.shape[0]} x {style.shape[1]} pixels; "
                f"give one of at least {LEAST} pixels a side."
            )
        share = size / min(style.shape[:2])
        scaled = pictures.fit(style, tuple(max(round(side * share), 1) for side in style.shape[:2]))[0]
        with torch.no_grad():
            values = loss_net.twin(torch.from_numpy(pictures.batch(scaled)), names)
        for name, value in values.items():
            found.setdefault(name, []).append(gram(value)[0])
    return {name: torch.stack(grams) for name, grams in found.items()}


def losses(
    loss_net: Net, given: torch.Tensor, painted: torch.Tensor, grams: Mapping[str, torch.Tensor], chosen: torch.Tensor
) -> dict[str, torch.Tensor]:
    """ "content", "style" and "smooth", a number each, differentiable in `painted`.

    given, painted: (B, 3, H, W). grams: from style_grams. chosen: (B,) which style each is to be painted in.
    """
    names = list(grams)
    seen = loss_net.twin(painted, names)
    alike = names[min(1, len(names) - 1)]  # the paper's relu2_2: what is there, not yet what it is called
    with torch.no_grad():
        wanted = loss_net.twin(given, [alike])[alike]
    style = sum(relative(gram(seen[name]), grams[name][chosen]) for name in names) / len(names)
    across, down = painted.diff(dim=3), painted.diff(dim=2)
    smooth = across.abs().mean() + down.abs().mean()
    return {"content": relative(seen[alike], wanted), "style": style, "smooth": smooth}


# The pictures to paint ------------------------------------------------------------------------------------------------


def encoded(source: Path) -> list[bytes]:
    """All pictures of a folder (and the folders in it), or of a Parquet file's column `image`, as their files' bytes.

    They are drawn in any order, again and again, so all are held in memory. Raises BadTraining where there is none.
    """
    try:
        data = sets.find(source)
    except dataset.BadDataset as error:
        raise BadTraining(str(error)) from error
    return [data.encoded(index) for index in range(len(data))]


# Training -------------------------------------------------------------------------------------------------------------


def train_style(
    loss_net: Net,
    data: Sequence[bytes],
    styles: Mapping[str, np.ndarray],
    recipe: Recipe = Recipe(),
    *,
    checkpoint: Path | None = None,
    every: int = 50,
) -> Iterator[Step]:
    """Train a Painter, and report with a Progress every `every` steps and after the last one.

    data: encoded pictures, as from `encoded`. styles: name → picture (H, W, 3), one or more.
    checkpoint: a file that each report is kept in, and that a training broken off goes on from, if it is there: to the
    same weights as without the break, on the same machine with the same number of threads.
    Raises BadTraining.
    """
    if not styles:
        raise BadTraining("There is no style to learn; give at least one picture of a painting.")
    if recipe.size % STRIDE or recipe.size < LEAST:
        raise BadTraining(f"Pictures of {recipe.size} pixels do not do; choose a multiple of 4 from {LEAST} on.")
    names = tuple(styles)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        painter = Painter(len(names), recipe).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(painter.parameters(), recipe.rate)
    facts, kept, start = _facts(names, recipe), {"painter": painter, "optimizer": optimizer}, 0
    if checkpoint and checkpoint.exists():
        start = restore(checkpoint, facts, "other styles or settings", **kept)
    if start >= recipe.steps:
        yield Step(recipe.steps, recipe.steps, Progress(painter, {}, start * recipe.batch))
        return
    grams = style_grams(loss_net, list(styles.values()), recipe.style_size)
    weights = {"content": recipe.content, "style": recipe.style, "smooth": recipe.smooth}
    sums = dict.fromkeys(weights, 0.0)
    counted = 0
    for step in range(start, recipe.steps):
        rng = np.random.default_rng((recipe.seed, step))  # of the step alone, so that a training can go on anywhere
        given = torch.from_numpy(crops(data, rng, recipe.batch, recipe.size)).contiguous(
            memory_format=torch.channels_last
        )
        first = step * recipe.batch  # in turns, so that every style gets its share
        chosen = (torch.arange(recipe.batch) + first) % len(names)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
        painted = painter(given, F.one_hot(chosen, len(names)).float())
        parts = losses(loss_net, given, painted, grams, chosen)
        optimizer.zero_grad(set_to_none=True)
        sum(weights[name] * part for name, part in parts.items()).backward()
        torch.nn.utils.clip_grad_norm_(painter.parameters(), 10.0)  # the first steps of some styles are steep
        optimizer.step()
        counted += 1
        for name, part in parts.items():
            sums[name] += part.item()
        done = step + 1
        if done % every == 0 or done == recipe.steps:
            if checkpoint:
                keep(checkpoint, done, facts, **kept)
            means = {name: total / counted for name, total in sums.items()}
            yield Step(done, recipe.steps, Progress(painter, means, done * recipe.batch))
            sums, counted = dict.fromkeys(weights, 0.0), 0


def note(log: Path, progress: Progress) -> None:
    """Add a row to a CSV file: the pictures painted so far, and the mean losses since the row before."""
    if not progress.losses:
        return
    head = "" if log.exists() else ",".join(["pictures", *progress.losses]) + "\n"
    with log.open("a", encoding="utf-8") as file:
        file.write(head + ",".join([str(progress.pictures), *(f"{v:.4f}" for v in progress.losses.values())]) + "\n")


def _facts(names: Sequence[str], recipe: Recipe) -> dict[str, object]:
    """What makes this training another one than others; how long it is to last does not."""
    return {"styles": list(names), "recipe": {**asdict(recipe), "steps": 0}}


# Writing it down ------------------------------------------------------------------------------------------------------


def export_style(
    painter: Painter, names: Sequence[str], path: Path, *, source: str = "", licence: str = "", training: str = ""
) -> None:
    """Write the ONNX file: `image` (B, 3, H, W) and `style` (B, S) to `picture` (B, 3, H, W). All or nothing.

    names: of the styles. source, licence, training: sentences that the file says of itself. Values are in [0, 1], H and
    W multiples of 4; the metadata say both. The graph is written node by node, because instance normalisation with a
    scale of its own for each picture is one node of ONNX between two free reshapes, where PyTorch's exporter makes a
    dozen. Raises ExportFailed where the file would not paint as the module does.
    """
    graph = _Graph()
    x = "image"
    for number, layer in enumerate(painter.down):
        x = graph.add("Relu", f"down.{number}", graph.layer(f"down.{number}", layer, x))
    for number, (first, second) in enumerate(painter.blocks):
        y = graph.add("Relu", f"block.{number}.first", graph.layer(f"block.{number}.first", first, x))
        x = graph.add("Add", f"block.{number}", x, graph.layer(f"block.{number}.second", second, y))
    for number, layer in enumerate(painter.up):
        twice = graph.constant("twice", np.array([1, 1, 2, 2], np.float32))
        how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        x = graph.add("Resize", f"up.{number}.larger", x, "", twice, **how)
        x = graph.add("Relu", f"up.{number}", graph.layer(f"up.{number}", layer, x))
    x = graph.conv("last", painter.last, x)
    for op, part, table in (("Mul", "scale", painter.scale), ("Add", "shift", painter.shift)):
        row = graph.row(f"last.{part}", table)
        x = graph.add(op, f"last.{part}d", x, graph.add("Unsqueeze", f"{row}.map", row, graph.ints("sides", [2, 3])))
    graph.add("Sigmoid", "picture", x)
    free = onnx.TensorProto.FLOAT
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            graph.nodes,
            "styles",
            [
                onnx.helper.make_tensor_value_info("image", free, ["B", 3, "H", "W"]),
                onnx.helper.make_tensor_value_info("style", free, ["B", len(names)]),
            ],
            [onnx.helper.make_tensor_value_info("picture", free, ["B", 3, "H", "W"])],
            [onnx.numpy_helper.from_array(value, name) for name, value in graph.constants.items()],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=9,
        producer_name="Convoscope",
    )
    said = {"kind": "style", "styles": list(names), "range": 1, "multiple": STRIDE}
    for key, value in {**said, "source": source, "licence": licence, "training": training}.items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    rng = np.random.default_rng(0)
    image, style = rng.random((2, 3, 36, 44), np.float32), rng.random((2, len(names)), np.float32)
    with torch.no_grad():
        expected = painter(torch.from_numpy(image), torch.from_numpy(style)).numpy()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    error = np.abs(session.run(None, {"image": image, "style": style})[0] - expected).max()
    if not error <= TOLERANCE:
        raise ExportFailed(f"The file's picture differs from the module's by {error:.1e} of white.")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)


class _Graph:
    """Collects the nodes and constants of an ONNX graph."""

    def __init__(self) -> None:
        self.nodes: list = []
        self.constants: dict[str, np.ndarray] = {}

    def add(self, op: str, name: str, *inputs: str, **attributes: object) -> str:
        """A node, and its only output, of that name."""
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = np.ascontiguousarray(value)
        return name

    def ints(self, name: str, values: Sequence[int]) -> str:
        return self.constant(name, np.array(values, np.int64))

    def conv(self, name: str, module: nn.Conv2d, x: str) -> str:
        """With its mirrored edges."""
        edge, stride = module.kernel_size[0] // 2, module.stride[0]
        padded = self.add("Pad", f"{name}.pad", x, self.ints(f"edge {edge}", [0, 0, edge, edge] * 2), mode="reflect")
        weight = self.constant(f"{name}.weight", module.weight.detach().numpy())
        return self.add("Conv", f"{name}.conv", padded, weight, strides=[stride, stride])

    def row(self, name: str, table: torch.Tensor) -> str:
        """(B, C): the mixed rows of a table."""
        return self.add("MatMul", f"{name}.mix", "style", self.constant(name, table.detach().numpy()))

    def layer(self, name: str, layer: Layer, x: str) -> str:
        """Convolution and conditional normalisation: all channels of all pictures as those of one."""
        x = self.conv(name, layer.conv, x)
        flat = self.ints("flat", [-1])
        rows = [
            self.add("Reshape", f"{name}.{part}.flat", self.row(f"{name}.{part}", table), flat)
            for part, table in (("scale", layer.norm.scale), ("shift", layer.norm.shift))
        ]
        together = self.add("Reshape", f"{name}.together", x, self.ints("together", [1, -1, 0, 0]))
        normal = self.add("InstanceNormalization", f"{name}.normal", together, *rows, epsilon=FLOOR)
        channels = layer.conv.out_channels
        return self.add("Reshape", f"{name}.norm", normal, self.ints(f"apart {channels}", [-1, channels, 0, 0]))

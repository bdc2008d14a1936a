"""What are a network's classes called, and how is that written into its file, along with all else it should say?

What a file lacks is put into its metadata, so that the one file is all there is to a network from then on. The order of
the channels is no metadata: a network that wants blue first is given its channels that way round by the graph itself,
so that the file is right for every program.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from engine.model import metadata
from engine.net import BadNetwork

MAX_BYTES = 4 << 20  # of a file of labels
MAX_LABEL = 200  # characters
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple, aquarium fish, baby, bear, beaver, bed, bee, beetle, bicycle, bottle, bowl, boy, bridge, bus,
butterfly, camel, can, castle, caterpillar, cattle, chair, chimpanzee, clock, cloud, cockroach, couch, crab,
crocodile, cup, dinosaur, dolphin, elephant, flatfish, forest, fox, girl, hamster, house, kangaroo, keyboard,
lamp, lawn mower, leopard, lion, lizard, lobster, man, maple tree, motorcycle, mountain, mouse, mushroom,
oak tree, orange, orchid, otter, palm tree, pear, pickup truck, pine tree, plain, plate, poppy, porcupine,
possum, rabbit, raccoon, ray, road, rocket, rose, sea, seal, shark, shrew, skunk, skyscraper, snail, snake,
spider, squirrel, streetcar, sunflower, sweet pepper, table, tank, telephone, television, tiger, tractor,
train, trout, tulip, turtle, wardrobe, whale, willow tree, wolf, woman, worm
"""
CIFAR100 = tuple(name.strip() for name in _CIFAR100.split(","))
SYNSET = re.compile(r"^n\d{8}[\s,:]+")  # WordNet's number before the name
NUMBER = re.compile(r"\s+\d+$")  # the class's number behind it


class BadLabels(ValueError):
    """The labels cannot be used; the message is one sentence."""


# Names ----------------------------------------------------------------------------------------------------------------


@functools.cache
def imagenet() -> tuple[str, ...]:
    """ImageNet's 1,000 names in the usual order; () where torchvision, which holds them, is not installed.

    They are read from its file, because importing it takes seconds.
    """
    found = importlib.util.find_spec("torchvision")
    if found is None or not found.origin:
        return ()
    source = Path(found.origin).parent / "models" / "_meta.py"
    try:
        tree = ast.parse(source.read_text("utf-8"))
    except (OSError, SyntaxError):
        return ()
    for part in tree.body:
        if isinstance(part, ast.Assign) and getattr(part.targets[0], "id", "") == "_IMAGENET_CATEGORIES":
            return tuple(ast.literal_eval(part.value))
    return ()


def usual(classes: int, channels: int = 3) -> dict[str, tuple[str, ...]]:
    """Sets of names that a network of so many classes may mean, by what they are called; the best guess first."""
    names = imagenet()
    found: dict[str, tuple[str, ...]] = {}
    if classes == 1000 and names:
        found["ImageNet"] = names
    elif classes == 1001 and names:
        found["ImageNet, behind a background"] = ("background", *names)
    elif classes == 10:
        digits, things = ("digits", tuple("0123456789")), ("CIFAR-10", CIFAR10)
        found = dict([digits, things] if channels == 1 else [things, digits])
    elif classes == 100:
        found["CIFAR-100"] = CIFAR100
    return found


def read_labels(content: bytes, name: str = "The file") -> tuple[str, ...]:
    """Names from a file: one per line, or JSON (a list, or an object from numbers to names or from names to numbers).

    WordNet's numbers before a name and class numbers behind it are taken off where every line has them, as are the
    "/a/" of Places' list. Raises BadLabels.
    """
    if len(content) > MAX_BYTES:
        raise BadLabels(f"{name} is larger than {MAX_BYTES >> 20} MiB; labels are one name per line, or a JSON list.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadLabels(f"{name} is no text in UTF-8; labels are one name per line, or a JSON list.") from error
    found = _json(text, name) if text.lstrip()[:1] in ("[", "{") else [line.strip() for line in text.splitlines()]
    while found and not found[-1]:
        found.pop()
    if not found:
        raise BadLabels(f"{name} is empty; labels are one name per line, or a JSON list.")
    for pattern in (SYNSET, NUMBER):
        if all(pattern.search(label) for label in found):
            found = [pattern.sub("", label) for label in found]
    if all(re.match(r"/[a-z]/", label) for label in found):
        found = [label[3:] for label in found]
    if any(len(label) > MAX_LABEL or not label.isprintable() for label in found):
        raise BadLabels(f"{name} has a label that is longer than {MAX_LABEL} characters, or no text; shorten it.")
    return tuple(label or str(k) for k, label in enumerate(found))


def _json(text: str, name: str) -> list[str]:
    wrong = BadLabels(f"{name} is no JSON list of names, and no object from class numbers to names.")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong from error
    if isinstance(found, list):
        if not all(isinstance(label, str | int | float) for label in found):
            raise wrong
        return [str(label).strip() for label in found]
    pairs = list(found.items())
    if pairs and all(isinstance(value, int) and not isinstance(value, bool) for _, value in pairs):
        pairs = [(str(value), key) for key, value in pairs]  # from names to numbers
    try:
        numbered = {int(key): value[-1] if isinstance(value, list) else value for key, value in pairs}
    except (ValueError, IndexError) as error:
        raise wrong from error
    if sorted(numbered) != list(range(len(pairs))) or not all(isinstance(value, str) for value in numbered.values()):
        raise wrong
    return [numbered[k].strip() for k in range(len(numbered))]


def fit(labels: Sequence[str], classes: int, name: str = "The file") -> tuple[str, ...]:
    """The labels, if there are as many as classes. Raises BadLabels."""
    if len(labels) != classes:
        raise BadLabels(f"{name} has {len(labels):,} labels, and the network {classes:,} classes; give one for each.")
    return tuple(labels)


# The file -------------------------------------------------------------------------------------------------------------


def labelled(content: bytes, *, order: str = "RGB", **said: object) -> bytes:
    """The network's file with more in its metadata: labels, input_size, mean, std, crop, picture_input, …

    order: "BGR" where the graph wants blue first: it is turned round, for mean and std are those of R, G and B.
    What is not given stays as it is. Raises BadNetwork.
    """
    model = onnx.load_model_from_string(content)
    fed = picture(model)
    channels = 1 if any(dim.dim_value == 1 for dim in fed.type.tensor_type.shape.dim[1:2]) else 3
    here = metadata.read(model, channels)
    missing = tuple(key for key in here.missing if key not in said)
    metadata.write(model, replace(here, missing=missing, **said))
    if order == "BGR":
        turn_round(model)
    return model.SerializeToString()


def picture(model: ModelProto) -> onnx.ValueInfoProto:
    """The graph's input that takes the picture: what the file says, or the first one that is no weight.

    Older files list those, too. Raises BadNetwork.
    """
    initial = {tensor.name for tensor in model.graph.initializer}
    chosen = metadata.chosen_input(model)
    for value in model.graph.input:
        if value.name == chosen or (chosen is None and value.name not in initial):
            return value
    raise BadNetwork("The file's graph takes no picture.")


def leaves_size_open(path: str | Path) -> bool:
    """Whether the graph in the file takes pictures of any rows and columns."""
    dims = [dim.dim_value for dim in picture(onnx.load(path, load_external_data=False)).type.tensor_type.shape.dim]
    sides = dims[1:3] if len(dims) == 4 and dims[3] in (1, 3) and dims[1] not in (1, 3) else dims[2:4]
    return any(side <= 0 for side in sides)


def turn_round(model: ModelProto) -> None:
    """Make a graph that takes B, G, R one that takes R, G, B, and is the same otherwise.

    The first convolutions' weights are turned round where nothing else sees the picture, so that the filters look like
    what they do; otherwise a node in front of all others turns the picture round.
    """
    name = picture(model).name
    dims = [dim.dim_value for dim in picture(model).type.tensor_type.shape.dim]
    axis = 3 if len(dims) == 4 and dims[3] == 3 and dims[1] != 3 else 1
    readers = [node for node in model.graph.node if name in node.input]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    plain = axis == 1 and all(
        node.op_type == "Conv"
        and list(node.input).count(name) == 1
        and node.input[0] == name
        and next((a.i for a in node.attribute if a.name == "group"), 1) == 1
        and node.input[1] in weights
        and weights[node.input[1]].data_location != onnx.TensorProto.EXTERNAL
        for node in readers
    )
    turned = {node.input[1] for node in readers if node.op_type == "Conv"}
    shared = any(turned & set(node.input) for node in model.graph.node if node not in readers)
    if readers and plain and not shared:
        for key in turned:
            array = numpy_helper.to_array(weights[key])
            weights[key].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array[:, ::-1]), key))
        return
    taken = {each for node in model.graph.node for each in (*node.input, *node.output)} | set(weights) | {name}
    reversed_, order = (_free(each, taken) for each in ("picture_bgr", "order_bgr"))
    for node in readers:
        for k, each in enumerate(node.input):
            if each == name:
                node.input[k] = reversed_
    model.graph.initializer.append(numpy_helper.from_array(np.array([2, 1, 0], np.int64), order))
    first = onnx.helper.make_node("Gather", [name, order], [reversed_], name=reversed_, axis=axis)
    model.graph.node.insert(0, first)
    if model.ir_version < 4:  # such files list every weight among the inputs
        model.graph.input.append(onnx.helper.make_tensor_value_info(order, onnx.TensorProto.INT64, [3]))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name

"""What is in this network, and what does it say of a picture?

A Net is one `.onnx` file. Its names, shapes, weights, labels and preprocessing are all read from that file; forward
passes run in ONNX Runtime, gradients in the Twin (engine/twin.py), under the same tensor names.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime

from engine.devices import CPU, providers, rest_torch, wanted_threads
from engine.image import Frame, fit
from engine.model import excerpt as excerpts
from engine.model import forms
from engine.model import graph as graphs
from engine.model import metadata as metadatas
from engine.model.layout import MAP, layouts
from engine.model.receptive_field import ReceptiveField, receptive_fields

if TYPE_CHECKING:
    from engine.model.graph import Node
    from engine.twin import Twin

log = logging.getLogger(__name__)

DEFAULT_SIZE = 224  # pixels a side, where neither the graph nor its metadata says
SESSIONS = 4  # cut sessions kept per net; each holds a copy of its part's weights
SAME = 1e-4  # of the largest score: as far as two orders of adding may lie apart
BATCH_BYTES = 256 * 2**20  # that one batch's largest tensor may take
PASS_THROUGH = frozenset(["Identity", "Dropout", "Cast"])  # their output shows nothing that their input does not


class BadNetwork(ValueError):
    """The file is no network that can be shown; the message is one sentence for the person who brought it."""


class UnknownLayer(ValueError):
    """No such tensor, or not of the form that is asked for; the message names it."""


class UnknownClass(ValueError):
    """A class index out of range; the message says what the range is."""


@dataclass(frozen=True)
class Layer:
    """One tensor of the graph that depends on the picture. shape is (C, H, W); H = W = 1 for a plain vector."""

    name: str
    op: str
    shape: tuple[int, int, int]
    receptive_field: ReceptiveField

    @property
    def has_map(self) -> bool:
        """Whether the layer has rows and columns."""
        return self.shape[1] * self.shape[2] > 1


class Net:
    """One network, read from `path`; see the module's first lines. Safe to share between threads; nothing in it
    changes.

    output: which of the graph's outputs holds the scores, where there are several; by default the first one.
    input: which of its inputs takes the picture, where several could; by default what its metadata says, or the first.
    content: the file's bytes, where they do not lie at `path`.
    Raises BadNetwork where the file cannot be opened as a picture classifier, or has no such output.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        output: str | None = None,
        input: str | None = None,
        content: bytes | None = None,
    ):
        self.path = Path(path)
        self._wanted = output
        try:
            content = self.path.read_bytes() if content is None else content
            model = onnx.load_model_from_string(content)  # and none of the files that it may name
        except FileNotFoundError as error:
            raise BadNetwork(f"There is no file {self.path.name}.") from error
        except Exception as error:  # protobuf raises a class of its own, without a public name
            raise BadNetwork(f"{self.path.name} is not an ONNX file, or it is cut short.") from error
        self.name = self.path.stem
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.notes: list[str] = []  # what a person should know about how this net was opened
        self._lock = threading.Lock()
        self._tapped: OrderedDict[tuple, onnxruntime.InferenceSession] = OrderedDict()
        try:
            self._open(model, content, input)
        except BadNetwork:
            raise
        except forms.Unfit as error:
            raise BadNetwork(f"{self.path.name} {error}") from error
        except metadatas.BadMetadata as error:
            raise BadNetwork(f"{self.path.name} cannot be used as it is. {error}") from error
        except onnx.shape_inference.InferenceError as error:
            raise BadNetwork(f"{self.path.name} has a graph whose shapes contradict each other.") from error
        except Exception as error:  # onnx answers damaged tensors and names with whatever its own code meets
            raise BadNetwork(f"{self.path.name} is damaged: what it says of its tensors cannot be read.") from error

    def _open(self, model: onnx.ModelProto, content: bytes, wanted: str | None) -> None:
        if not model.graph.node or not model.graph.output:
            raise BadNetwork(f"{self.path.name} is not an ONNX file, or it holds no network.")
        form = forms.formed(model, self.path.parent, wanted or metadatas.chosen_input(model))
        self.inputs, self._beside = form.inputs, form.beside
        self.notes += form.notes
        self.quantised = forms.quantised(model)
        if wanted is not None and len(self.inputs) > 1:  # with the picture elsewhere it is another network
            self.sha256 = hashlib.sha256(f"{self.sha256} {wanted}".encode()).hexdigest()
        if form.changed:
            content = model.SerializeToString()
        shape, self.fixed_batch = forms.input_shape(model)  # how many pictures at a time; 0 where it is free
        self.metadata = metadatas.read(model, shape[1])
        if self.metadata.missing:
            self.notes.append(metadatas.defaults_said(self.metadata))
        if shape[2] == 0:
            shape = (1, shape[1], *(self.metadata.input_size or (DEFAULT_SIZE, DEFAULT_SIZE)))
        self.channels, self.input_size = shape[1], shape[2:]
        self._scale = (1 / np.array(self.metadata.std, np.float32)).reshape(-1, 1, 1)
        self._shift = (np.array(self.metadata.mean, np.float32)).reshape(-1, 1, 1) * self._scale
        self.graph = graphs.read(model, shape, self._beside)
        for entry in [entry for entry in model.metadata_props if entry.key == "picture_input"]:
            model.metadata_props.remove(entry)  # only one is left, which goes by another name, perhaps
        self._model = model
        self.outputs = self.graph.outputs
        self.output = self._wanted or self.outputs[0]
        if self.output not in self.outputs:
            raise BadNetwork(f"{self.path.name} has no output {self.output!r}; it has {', '.join(self.outputs)}.")
        self._scores_session = self._session(content)
        try:  # only a run shows whether weights, channels and size go together
            self._run(self._scores_session, [self.output], self._feed(np.zeros(shape, np.float32)))
        except Exception as error:
            size = " x ".join(map(str, self.input_size))
            raise BadNetwork(
                f"{self.path.name} cannot be run on a picture of {size} pixels: {_first_line(error)}"
            ) from error
        if self.fixed_batch:
            self._free_batch(shape)
        if len(self.metadata.labels) not in (0, self.classes):
            labels = len(self.metadata.labels)
            self.notes.append(f"The file has {labels} labels for {self.classes} classes; class numbers are used.")

    def __repr__(self) -> str:
        return f"Net({str(self.path)!r})"

    # What the file says -------------------------------------------------------------------------------------------

    def _free_batch(self, shape: tuple[int, int, int, int]) -> None:
        """Take several pictures at a time, if the graph does the same with each of them then."""
        pictures = np.random.default_rng(0).random((2, *shape[1:]), np.float32)
        alone = self.scores(pictures)  # logits: a softmax could hide that pictures mix
        stated = self.fixed_batch, self._model, self._scores_session, self.graph
        self.fixed_batch, self._model = 0, forms.freed(self._model, self.graph.input)
        self._tapped.clear()
        try:
            self.graph = graphs.read(self._model, shape, self._beside)
            self._scores_session = self._session(self._model.SerializeToString())
            together = self.scores(pictures)
            free = together.shape == alone.shape and np.abs(together - alone).max() <= SAME * np.abs(alone).max()
        except Exception:  # ONNX Runtime's exceptions have no common public class
            log.info("%s takes %d pictures at a time only", self.path.name, stated[0], exc_info=True)
            free = False
        if not free:
            self.fixed_batch, self._model, self._scores_session, self.graph = stated
        self._tapped.clear()

    @cached_property
    def labels(self) -> list[str]:
        """A name for each class; "0", "1", … where the file has none."""
        given = self.metadata.labels
        count = self.classes
        if given and len(given) == count:
            return list(given)
        return [str(k) for k in range(count)]

    @cached_property
    def classes(self) -> int:
        """How many classes there are."""
        shape = self.graph.shapes.get(self.logits)
        if shape is None:
            return self.scores(np.zeros((1, self.channels, *self.input_size), np.float32)).shape[1]
        return int(np.prod(shape[1:]))

    @cached_property
    def logits(self) -> str:
        """The tensor with the classes' scores: the output, or what goes into the softmax that ends the graph."""
        name = self.output
        while (node := self.graph.producer(name)) is not None:
            shape = self.graph.shapes.get(name, ())
            if node.op in PASS_THROUGH:
                name = node.inputs[0]
            elif node.op in ("Softmax", "LogSoftmax") and len(shape) <= 4:
                return node.inputs[0]
            else:
                break
        return self.output

    @cached_property
    def layers(self) -> list[Layer]:
        """Every tensor (B, C, H, W) or (B, C) of floats on the way from the picture to the logits, in order.

        Those with four axes of which two are the picture's rows and columns: attention and the like are left out.
        """
        fields, known = receptive_fields(self.graph), layouts(self.graph)
        found = []
        for node in self.graph.needed([self.logits]):
            name = node.outputs[0]
            shape = self.graph.shapes.get(name, ())
            of_picture = name in self.graph.batched and name in self.graph.floats
            of_picture = of_picture and (len(shape) == 2 or known.get(name) == MAP)
            shown = node.op not in PASS_THROUGH and node.op != "DequantizeLinear"
            if of_picture and len(shape) in (2, 4) and shown:
                found.append(Layer(name, node.op, (*shape[1:], 1, 1)[:3], fields[name]))
        return found

    def layer(self, name: str) -> Layer:
        """The layer called `name`. Raises UnknownLayer."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise UnknownLayer(f"{self.name} has no layer {name!r}; its layers are listed in Net.layers.")

    @cached_property
    def last_map(self) -> str:
        """The last tensor with rows and columns that is not itself a pool's output: where class activation maps are
        taken.

        Raises UnknownLayer where the net has none.
        """
        for layer in reversed(self.layers):
            if layer.has_map and "Pool" not in layer.op:
                return layer.name
        raise UnknownLayer(f"{self.name} has no layer with rows and columns.")

    def map_layer(self, name: str | None = None) -> Layer:
        """The layer called `name`, by default the last with rows and columns before pooling.

        Raises UnknownLayer, also where the layer has no rows and columns.
        """
        layer = self.layer(self.last_map if name is None else name)
        if not layer.has_map:
            raise UnknownLayer(f"Layer {layer.name} of {self.name} has no rows and columns to make a map of.")
        return layer

    def class_index(self, wanted: int | str) -> int:
        """A class's number from its number or its label. Raises UnknownClass."""
        if isinstance(wanted, str) and wanted in self.labels:
            return self.labels.index(wanted)
        try:
            index = int(wanted)
        except ValueError:
            raise UnknownClass(f"{self.name} has no class {wanted!r}; its labels are in Net.labels.") from None
        if not 0 <= index < self.classes:
            raise UnknownClass(f"{self.name} has classes 0 to {self.classes - 1}, not {index}.")
        return index

    # Pictures -----------------------------------------------------------------------------------------------------

    def view(self, image: np.ndarray) -> tuple[np.ndarray, Frame]:
        """What the net sees of a picture (H, W, 3): pixels (h, w, C) of its own size, and which part it is."""
        return fit(image, self.input_size, crop=self.metadata.crop, channels=self.channels)

    def batch(self, *images: np.ndarray) -> np.ndarray:
        """(B, C, H, W) from pictures (H, W, C) of the net's own size. Raises ValueError where one has another size."""
        return np.ascontiguousarray(self.stack(*images).transpose(0, 3, 1, 2))

    def stack(self, *images: np.ndarray) -> np.ndarray:
        """The same as (B, H, W, C): the channels last in memory, as in the pictures and as the Twin likes it."""
        wanted = (*self.input_size, self.channels)
        for image in images:
            if image.shape != wanted:
                raise ValueError(f"{self.name} sees pictures of {wanted}, not {image.shape}; Net.view makes one.")
        return np.stack(images).astype(np.float32, copy=False)

    @cached_property
    def batch_size(self) -> int:
        """How many pictures should go into one forward pass, by the memory that the largest tensor takes."""
        largest = max(int(np.prod(layer.shape)) for layer in self.layers)
        return int(np.clip(BATCH_BYTES // (4 * largest), 1, 64))

    # Forward passes -----------------------------------------------------------------------------------------------

    def scores(self, batch: np.ndarray) -> np.ndarray:
        """Logits (B, K) float32 of a batch (B, C, H, W) of pixels in [0, 1]."""
        return self.activations(batch, [self.logits])[self.logits].reshape(len(batch), -1)

    def activations(self, batch: np.ndarray, names: Iterable[str]) -> dict[str, np.ndarray]:
        """The named tensors for a batch (B, C, H, W) of pixels; nothing behind the last of them is computed.

        Raises UnknownLayer.
        """
        names = list(names)
        feed = self._feed(batch)
        if names == [self.output]:
            return {self.output: self._run(self._scores_session, names, feed)[0]}
        return self.resume(feed, names)

    def resume(
        self, start: Mapping[str, np.ndarray], names: Iterable[str], *, threads: int = 0
    ) -> dict[str, np.ndarray]:
        """The named tensors, computed from the tensors of `start` on: the graph is entered in the middle.

        start: (B, …) by name; it has to hold all that `Graph.frontier` lists. threads: on the CPU; 0 for one per core.
        Raises UnknownLayer.
        """
        names = list(dict.fromkeys(names))
        for name in names:
            if name not in self.graph.from_input:
                raise UnknownLayer(f"{self.name} has no tensor {name!r} that depends on the picture.")
        made = [name for name in names if name not in start]
        found = dict(zip(made, self._run(self.tap(made, start, threads), made, start), strict=True)) if made else {}
        return {name: found[name] if name in found else start[name] for name in names}

    def proto(self, node: Node) -> onnx.NodeProto:
        """A node of the graph as it stands in the model."""
        return next(each for each in self._model.graph.node if tuple(each.output) == node.outputs)

    def stage(
        self, nodes: Sequence[onnx.NodeProto], given: Sequence[str], results: Sequence[str], *, one_core: bool
    ) -> onnxruntime.InferenceSession:
        """Some nodes of the graph, changed perhaps, as a session of their own that makes `results` of the maps `given`.

        All have their channels last, (B, h, w, C), and may be of any size: parts of maps are cut out of such ones, and
        put in, in long pieces, and ONNX Runtime takes them as they are into its own order. one_core: it runs in the
        thread that calls it, on one core of the CPU; otherwise where this net runs.
        """
        maps = [name for name in results if len(self.graph.shapes[name]) == 4]
        content = excerpts.channels_last(self._model, nodes, given, results, maps).SerializeToString()
        if not one_core:
            return self._session(content)
        options = self.options()
        options.intra_op_num_threads = 1
        return self._started(content, options, [CPU])

    def normalise(self, batch: np.ndarray) -> np.ndarray:
        """(batch - mean) / std, as the network wants it: pixels in [0, 1] to the graph's input."""
        if batch.ndim != 4 or batch.shape[1] != self.channels:
            raise ValueError(f"{self.name} takes batches (B, {self.channels}, H, W), not {batch.shape}.")
        out = np.multiply(batch, self._scale, dtype=np.float32, order="C")
        out -= self._shift
        return out

    def _feed(self, batch: np.ndarray) -> dict[str, np.ndarray]:
        return {self.graph.input: self.normalise(batch)}

    def _run(
        self, session: onnxruntime.InferenceSession, names: Sequence[str], feed: Mapping[str, np.ndarray]
    ) -> list[np.ndarray]:
        count = next(len(array) for array in feed.values() if not is_shape(array))
        step = self.fixed_batch or count
        runs = []
        rest_torch()
        for i in range(0, count, step):  # once, unless the graph fixes its batch size
            short = step - min(step, count - i)
            parts = {}
            for name, array in feed.items():
                part = array if is_shape(array) else array[i : i + step]
                if short and part is not array:
                    part = np.concatenate([part, np.zeros((short, *part.shape[1:]), part.dtype)])
                parts[name] = part
            runs.append([_without_last(out, short, step) for out in session.run(names, parts)])
        if len(runs) == 1:
            return runs[0]
        return [parts[0] if is_shape(parts[0]) else np.concatenate(parts) for parts in zip(*runs, strict=True)]

    def tap(
        self, names: Sequence[str], start: Mapping[str, np.ndarray], threads: int = 0
    ) -> onnxruntime.InferenceSession:
        """A session for the part of the graph from `start` to `names`. Of the arrays only type and `ndim` count."""
        key = (frozenset(names), frozenset((name, array.dtype) for name, array in start.items()), threads)
        with self._lock:
            if key in self._tapped:
                self._tapped.move_to_end(key)
                return self._tapped[key]
        session = self._session(self._cut(names, start).SerializeToString(), threads)
        with self._lock:
            self._tapped[key] = session
            while len(self._tapped) > SESSIONS:
                self._tapped.popitem(last=False)
        return session

    def _cut(self, names: Iterable[str], start: Mapping[str, np.ndarray]) -> onnx.ModelProto:
        """The model that computes `names` from `start` and nothing else."""
        made = {node.outputs for node in self.graph.needed(names, start)}
        stated = {value.name: value for value in self._model.graph.input}
        inputs = []
        for name, array in start.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            free = onnx.helper.make_tensor_value_info(name, kind, [None] * array.ndim)
            inputs.append(stated.get(name, free))
        nodes = [node for node in self._model.graph.node if tuple(node.output) in made]
        return excerpts.excerpt(self._model, nodes, inputs, sorted(names))

    def with_weights(self, weights: Mapping[str, np.ndarray]) -> Net:
        """The same graph with other numbers in some of its constants, as a Net of its own."""
        model = excerpts.with_constants(self._model, weights)
        return Net(self.path, output=self._wanted, content=model.SerializeToString())

    def options(self) -> onnxruntime.SessionOptions:
        """Those that every session of this net needs; a new object, to be changed at will."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors come back as exceptions; warnings about the graph are no one's business
        # Threads that spin on after a run keep torch's from the cores: a gradient right behind it takes thrice as long.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry(
            "session.use_env_allocators", "1"
        )  # of the GPU's memory, see engine/devices.py
        if self._beside is not None:
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", str(self._beside.resolve())
            )
        return options

    def _session(self, content: bytes, threads: int = 0) -> onnxruntime.InferenceSession:
        chosen, options = providers(), self.options()
        options.intra_op_num_threads = threads or wanted_threads()
        session = self._started(content, options, chosen)
        if len(chosen) > len(session.get_providers()):
            note = "There is an NVIDIA GPU, but CUDA could not be started; this network runs on the CPU."
            if note not in self.notes:
                self.notes.append(note)
        return session

    def _started(
        self, content: bytes, options: onnxruntime.SessionOptions, providers: list[str | tuple[str, dict]]
    ) -> onnxruntime.InferenceSession:
        """A session on the first provider, or on the second, where there is one and the first fails."""
        try:  # ONNX Runtime's exceptions have no common public class
            try:
                return onnxruntime.InferenceSession(content, options, providers)
            except Exception:
                if len(providers) == 1:
                    raise
                log.warning("CUDA failed for %s", self.path.name, exc_info=True)
                return onnxruntime.InferenceSession(content, options, providers[1:])
        except Exception as error:
            raise BadNetwork(f"ONNX Runtime cannot open {self.path.name}: {_first_line(error)}") from error

    @property
    def engine(self) -> str:
        """Where forward passes run: "CUDA" or "CPU"."""
        return self._scores_session.get_providers()[0].removesuffix("ExecutionProvider")

    # Gradients ----------------------------------------------------------------------------------------------------

    @cached_property
    def twin(self) -> Twin:
        """The same graph in PyTorch: `net.twin(pixels, names)` → dict of tensors. Importing torch takes a moment."""
        from engine.twin import NoGradient, Twin

        try:
            graph = self.unrounded.graph if self.quantised else self.graph
        except forms.Unfit as error:
            raise NoGradient(f"{self.path.name} {error}") from error
        return Twin(graph, self.metadata.mean, self.metadata.std)

    @cached_property
    def unrounded(self) -> Net:
        """Of a net that rounds to whole numbers on its way, the same without that: what its Twin computes.

        Raises forms.Unfit where it computes in whole numbers.
        """
        return Net(self.path, output=self.output, content=forms.dequantised(self._model).SerializeToString())


def is_shape(array: np.ndarray) -> bool:
    """Whether this is a shape, which some graphs compute on the way, and not a row for each picture."""
    return array.ndim < 2 and np.issubdtype(array.dtype, np.integer)


def _without_last(out: np.ndarray, short: int, count: int) -> np.ndarray:
    """What a run of `count` pictures made, without the last `short`; some tensors have several rows for each."""
    return out if not short or is_shape(out) else out[: len(out) // count * (count - short)]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rpartition(" : ")[2][:200]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities (B, K) from logits (B, K)."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)

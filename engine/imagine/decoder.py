"""Which picture does a layer's code stand for? One forward pass of a second network, which has learned to say.

Dosovitskiy & Brox 2016, arXiv:1506.02753: where inversion by gradients looks for any picture that a layer cannot tell
from yours, a decoder gives the mean of those photographs that it was trained on and that have this code. It is trained
by engine/train/decoder.py, for one layer of one network; the file says for which.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime

from engine.image import fit
from engine.model import graph as graphs
from engine.net import Net
from engine.nets.available import SHIPPED
from engine.nets.folder import home

if TYPE_CHECKING:
    from engine.twin import Twin

KIND = "decoder"  # what the files say of themselves, under "kind"


class NoDecoder(ValueError):
    """There is no decoder for this network, or the file is none; the message says what to do."""


@dataclass(frozen=True, eq=False)
class Decoder:
    """One decoder, opened. net_sha256, layer: what it decodes. shape: (C, h, w) of a code.

    mean: (C,) of each unit over photographs. least, most: (C,) what it stays above and below there, but for a
    thousandth of its values.
    """

    name: str
    sha256: str
    net_sha256: str
    layer: str
    shape: tuple[int, int, int]
    mean: np.ndarray
    least: np.ndarray
    most: np.ndarray
    source: str = ""
    licence: str = ""
    training: str = ""
    graph: graphs.Graph = field(repr=False, default=None)
    session: onnxruntime.InferenceSession = field(repr=False, default=None)

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """(B, H, W, C) pixels in [0, 1] of codes (B, C, h, w), through ONNX Runtime."""
        (pixels,) = self.session.run(None, {self.graph.input: codes.astype(np.float32, copy=False)})
        return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))

    @cached_property
    def twin(self) -> Twin:
        """The same graph in PyTorch, from codes to the tensor `graph.outputs[0]`; its weights are frozen."""
        from engine.twin import Twin

        return Twin(self.graph, [0.0] * self.shape[0], [1.0] * self.shape[0])


def at_hand() -> list[Path]:
    """The decoders that ship, and those in the folder `decoders` of the user's cache."""
    return [*sorted((SHIPPED / "decoders").glob("*.onnx")), *sorted((home() / "decoders").glob("*.onnx"))]


def decoder_for(net: Net) -> Decoder:
    """The decoder at hand that was trained for this very network, or else the first one at hand: it draws photographs,
    and what they say to another network can be asked, too (Nguyen et al. 2016, section 3.3). Raises NoDecoder.
    """
    found = []
    for path in at_hand():
        try:
            found.append(_opened(path, path.stat().st_mtime))
        except NoDecoder:
            continue  # another's file is no reason to have none; who opens it by name is told
    own = [each for each in found if each.net_sha256 == net.sha256]
    if not found:
        raise NoDecoder("There is no decoder; train one with `python -m engine train-decoder`.")
    return (own or found)[0]


@lru_cache(maxsize=4)
def _opened(path: Path, modified: float) -> Decoder:
    return open_decoder(path)


def open_decoder(path: str | Path) -> Decoder:
    """Open a decoder's file. Raises NoDecoder."""
    path = Path(path)
    try:
        content = path.read_bytes()
        model = onnx.load_model_from_string(content)
        said = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    except OSError as error:
        raise NoDecoder(f"There is no file {path.name}.") from error
    except Exception as error:  # protobuf raises a class of its own, without a public name
        raise NoDecoder(f"{path.name} is not an ONNX file of a decoder, or it is cut short.") from error
    if said.get("kind") != KIND:
        raise NoDecoder(f"{path.name} does not say that it is a decoder; `python -m engine train-decoder` makes one.")
    try:
        dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
        shape = tuple(dims[1:])
        mean, least, most = (np.array(said[key], np.float32) for key in ("mean", "least", "most"))
        if len(shape) != 3 or not all(shape) or any(value.shape != shape[:1] for value in (mean, least, most)):
            raise ValueError("codes of another shape")
        session = onnxruntime.InferenceSession(content, _options(), providers=["CPUExecutionProvider"])
        graph = graphs.read(model, (1, *shape))
        return Decoder(
            path.stem,
            hashlib.sha256(content).hexdigest(),
            str(said["net_sha256"]),
            str(said["layer"]),
            shape,
            mean,
            least,
            most,
            *(str(said.get(key, "")) for key in ("source", "licence", "training")),
            graph,
            session,
        )
    except Exception as error:  # as many kinds as there are ways to damage a file
        raise NoDecoder(f"{path.name} is damaged: what it says of its codes cannot be read.") from error


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")  # as in engine/net.py
    return options


def decoded(net: Net, image: np.ndarray) -> np.ndarray:
    """What the decoder makes of what its layer says of a picture: inversion in two passes, both in ONNX Runtime.

    image: (H, W, C) pixels of the net's own size.
    Returns (H, W, C) pixels in [0, 1] of the same size.
    Raises NoDecoder.
    """
    decoder = decoder_for(net)
    if decoder.net_sha256 != net.sha256:
        raise NoDecoder(
            f"There is no decoder for {net.name}: choose imagenette, whose decoder ships, or train one with "
            "`python -m engine train-decoder`."
        )
    code = net.activations(net.batch(image), [decoder.layer])[decoder.layer]
    pixels = decoder(code)[0]
    return pixels if pixels.shape[:2] == net.input_size else fit(pixels, net.input_size, channels=net.channels)[0]

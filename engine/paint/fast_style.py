"""What does this picture look like, painted in one pass?

A style network takes a picture and gives it back painted; it is trained once for its styles (engine/train/style.py),
and from then on a picture costs one forward pass. Johnson, Alahi, Fei-Fei 2016, arXiv:1603.08155; several styles in one
network, told apart by a second input: Dumoulin, Shlens, Kudlur 2016, arXiv:1610.07629.

Such a file is no classifier: it has no labels and no layers to ask, so it is no Net. Any `.onnx` from a picture
(1, 3, H, W) to a picture will do, ours and others'.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from engine import devices as nets
from engine import image as pictures
from engine.half import check_precision
from engine.nets.available import SHIPPED
from engine.nets.folder import home

KIND = "style"  # what our files say of themselves, under "kind"
MOST_PIXELS = 2_000_000  # of a picture that is painted at once; a network needs up to about 600 bytes for each
LEAST = 32  # pixels a side that a network is given: reflected borders and two halvings need some room
MULTIPLES = (1, 2, 4, 8, 16, 32)  # that networks ask sides to be of


class BadStyleNet(ValueError):
    """The file is no network from pictures to pictures; the message is one sentence for who brought it."""


class BadMix(ValueError):
    """Weights of the styles that cannot be mixed by; the message says why."""


@dataclass(frozen=True)
class StyleNet:
    """One style network, opened.

    styles: a name each, at least one. top: what a value of 1 is to it, 1 or 255. multiple: its sides are multiples of
    this. size: (H, W) where it takes no other, or None. notes: how that is known, where the file does not say.
    """

    name: str
    sha256: str
    styles: tuple[str, ...]
    top: float
    multiple: int
    size: tuple[int, int] | None
    source: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()
    session: onnxruntime.InferenceSession = field(repr=False, compare=False, default=None)
    mixes: bool = False  # whether it has the second input, the styles' weights
    content: bytes = field(repr=False, compare=False, default=b"")  # the file, which its twin is made from

    @property
    def engine(self) -> str:
        """Where it runs: "CUDA" or "CPU"."""
        return self.session.get_providers()[0].removesuffix("ExecutionProvider")


def at_hand() -> dict[str, Path]:
    """Name → file: the style network that ships, and those in the folder `styles` of the user's cache."""
    found = sorted((SHIPPED / "styles").glob("*.onnx"))
    own = sorted((home() / "styles").glob("*.onnx"))
    return {path.stem: path for path in [*own, *found]}  # of two of the same name, the shipped one counts


def find(name: str) -> Path:
    """The file of the style network called `name`, or the file at the path `name`. Raises BadStyleNet."""
    here = at_hand()
    if name in here:
        return here[name]
    if Path(name).is_file():
        return Path(name)
    raise BadStyleNet(
        f"There is no style network {name!r}; there are {', '.join(here) or 'none'}, or any path to a file."
    )


# Opening --------------------------------------------------------------------------------------------------------------


def open_style(path: str | Path, *, content: bytes | None = None) -> StyleNet:
    """Open a style network. content: the file's bytes, where they do not lie at `path`.

    What the file does not say is found out on a test picture: whether its values go to 1 or to 255, by the size of what
    comes out (`_top`), and which multiple its sides must be of, by trying. Both end up in `notes`.
    Raises BadStyleNet.
    """
    path = Path(path)
    try:
        content = path.read_bytes() if content is None else content
        model = onnx.load_model_from_string(content)
    except FileNotFoundError as error:
        raise BadStyleNet(f"There is no file {path.name}.") from error
    except Exception as error:  # protobuf raises a class of its own, without a public name
        raise BadStyleNet(f"{path.name} is not an ONNX file, or it is cut short.") from error
    said = {entry.key: _plain(entry.value) for entry in model.metadata_props}
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in given]  # old files list weights, too
    shapes = [_shape(value) for value in inputs]
    wrong = f"{path.name} is no style network: one takes pictures of 3 channels (B, 3, H, W) and gives back the same."
    if not 1 <= len(inputs) <= 2 or len(shapes[0]) != 4 or shapes[0][1] not in (0, 3) or len(model.graph.output) != 1:
        raise BadStyleNet(wrong)
    if len(inputs) == 2 and (len(shapes[1]) != 2 or not shapes[1][1]):
        raise BadStyleNet(f"{path.name} has a second input {inputs[1].name!r} that is no row of weights, (B, styles).")
    count = shapes[1][1] if len(inputs) == 2 else 1
    size = (shapes[0][2], shapes[0][3]) if shapes[0][2] and shapes[0][3] else None
    session = _session(path, content)
    net = StyleNet(
        path.stem,
        hashlib.sha256(content).hexdigest(),
        _names(said, count, path.stem),
        1.0,
        1,
        size,
        str(said.get("source", "")),
        str(said.get("licence", said.get("license", ""))),
        (),
        session,
        len(inputs) == 2,
        content,
    )
    multiple, notes = (1, []) if size else _multiple(net, said)
    if multiple is None:
        raise BadStyleNet(wrong)
    top, note = _top(net, multiple, said)
    if top is None:
        raise BadStyleNet(wrong)
    kept = (*notes, *note)
    return StyleNet(**{**_fields(net), "top": top, "multiple": multiple, "notes": kept})


def _fields(net: StyleNet) -> dict:
    return {name: getattr(net, name) for name in StyleNet.__dataclass_fields__}


def _plain(text: str) -> object:
    """Ours are JSON; others write words."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    """0 where a dimension is free."""
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _names(said: dict, count: int, name: str) -> tuple[str, ...]:
    names = said.get("styles")
    if isinstance(names, list) and len(names) == count:
        return tuple(map(str, names))
    return (name,) if count == 1 else tuple(f"style {k + 1}" for k in range(count))


def _session(path: Path, content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for setting in ("session.force_spinning_stop", "session.use_env_allocators"):  # as in Net
        options.add_session_config_entry(setting, "1")
    providers = nets.providers()
    error: Exception | None = None
    for chosen in (providers, providers[-1:]):
        try:
            return onnxruntime.InferenceSession(content, options, chosen)
        except Exception as raised:  # ONNX Runtime's exceptions have no common public class
            error = raised
    raise BadStyleNet(f"ONNX Runtime cannot open {path.name}: {_first_line(error)}") from error


def _first_line(error: Exception | None) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0].rpartition(" : ")[2][:200]


def _test_picture(height: int, width: int) -> np.ndarray:
    """(1, 3, H, W) in [0, 1]: slopes, edges and noise."""
    rows, cols = np.mgrid[0:height, 0:width]
    slope = np.stack([rows / height, cols / width, ((rows // 8 + cols // 8) % 2)])
    noise = np.random.default_rng(0).random((3, height, width))
    return (0.75 * slope + 0.25 * noise).astype(np.float32)[None]


def _tried(net: StyleNet, batch: np.ndarray) -> np.ndarray | None:
    """What comes out, or None where it cannot be run on this size, or gives another one."""
    try:
        found = _forward(net, batch, _even(net))
    except Exception:  # whatever ONNX Runtime meets on the way: only whether it works is asked here
        return None
    return found if found.shape == batch.shape else None


def _multiple(net: StyleNet, said: dict) -> tuple[int | None, list[str]]:
    """The smallest multiple whose sides come out as they went in; the sides tried are odd numbers of it."""
    for multiple in MULTIPLES:
        rows = max(5, 65 // multiple | 1)
        if _tried(net, _test_picture(rows * multiple, (rows + 2) * multiple)) is not None:
            stated = "multiple" in said or f"multiples of {multiple}" in " ".join(map(str, said.values()))
            if multiple == 1 or stated:
                return multiple, []
            return multiple, [f"Found by trying: sides must be multiples of {multiple}; pictures are padded to that."]
    return None, []


def _top(net: StyleNet, multiple: int, said: dict) -> tuple[float | None, list[str]]:
    """What white is to the network, 1 or 255: as the file says, or by what it makes of the test picture.

    A network is trained on the same range that it gives back. Given 0 to 255, one for [0, 1] still ends in a sigmoid,
    or at most a little outside [-1, 1]; one for 0 to 255 gives values of dozens.
    """
    height, width = net.size or (multiple * (-(-72 // multiple)), multiple * (-(-88 // multiple)))
    found = _tried(net, _test_picture(height, width) * 255)
    if found is None or not np.isfinite(found).all():
        return None, []
    words = " ".join(str(said.get(key, "")) for key in ("range", "input", "output"))
    if re.search(r"\b255\b", words):
        return 255.0, []
    if re.search(r"(\b0\s*(\.\.|-|–|to|,)\s*1(\.0)?\b)", words) or str(said.get("range")) in ("1", "1.0"):
        return 1.0, []
    top = 255.0 if np.abs(found).max() > 4 else 1.0
    return top, [f"The file does not say its range; by what it makes of a test picture it is 0 to {top:g}."]


# Painting -------------------------------------------------------------------------------------------------------------


def weights(style_net: StyleNet, mix: Sequence[float] | None = None) -> np.ndarray:
    """(S,) float32 that add up to 1. mix: how much of each style, none negative; None is the first style alone.

    Raises BadMix.
    """
    if mix is None:
        return np.eye(len(style_net.styles), dtype=np.float32)[0]
    mix = np.asarray(mix, np.float32).reshape(-1)
    if len(mix) != len(style_net.styles):
        count = len(style_net.styles)
        raise BadMix(f"{style_net.name} has {count} styles, and the mix has {len(mix)} weights: give one for each.")
    if not np.isfinite(mix).all() or (mix < 0).any() or mix.sum() <= 0:
        raise BadMix("The weights of a mix must be 0 or more, and one of them above 0.")
    return mix / mix.sum()


def mixed(net: StyleNet, text: str) -> list[float] | None:
    """A mix as one types it: "2, 1, 0", or by names, "wave=2, scream=1"; None for nothing. Raises BadMix."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        return None
    try:
        if not any("=" in part for part in parts):
            return [float(part) for part in parts]
        named = {name.strip(): float(value) for name, _, value in (part.partition("=") for part in parts)}
    except ValueError as error:
        raise BadMix(
            f"{text!r} is no mix: write a number for each style, or STYLE=NUMBER with commas between."
        ) from error
    if unknown := sorted(set(named) - set(net.styles)):
        raise BadMix(f"{net.name} has no style {unknown[0]!r}; it has {', '.join(net.styles)}.")
    return [named.get(name, 0.0) for name in net.styles]


def _even(net: StyleNet) -> np.ndarray:
    return np.full(len(net.styles), 1 / len(net.styles), np.float32)


def _forward(net: StyleNet, batch: np.ndarray, mix: np.ndarray) -> np.ndarray:
    feeds = {net.session.get_inputs()[0].name: batch}
    if net.mixes:
        feeds[net.session.get_inputs()[1].name] = mix[None]
    options = onnxruntime.RunOptions()
    if net.engine == "CPU":  # what a large picture took is given back: it costs no time, and pictures vary in size
        options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return net.session.run(None, feeds, options)[0]


@functools.lru_cache(maxsize=2)
def _half(net: StyleNet, size: tuple[int, int]) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """`_forward` for pictures of one size, computed by the network's Twin in bfloat16. Raises BadStyleNet."""
    import torch

    from engine.model import graph as graphs
    from engine.twin import NoGradient, Twin

    graph = graphs.read(onnx.load_model_from_string(net.content), (1, 3, *size))
    twin = Twin(graph, [0.0] * 3, [1.0] * 3, half=True)

    def run(batch: np.ndarray, mix: np.ndarray) -> np.ndarray:
        given = {graph.input: torch.from_numpy(batch).contiguous(memory_format=torch.channels_last)}
        if net.mixes:
            given[net.session.get_inputs()[1].name] = torch.from_numpy(mix[None])
        try:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
                return twin(None, graph.outputs, start=given)[graph.outputs[0]].float().numpy()
        except NoGradient as error:
            raise BadStyleNet(f"{net.name} cannot be run in bfloat16; choose float32. {error}") from error

    return run


def painted_size(net: StyleNet, size: tuple[int, int], *, side: int | None = None) -> tuple[int, int]:
    """(H, W) at which a picture of `size` is painted.

    It is the picture's own, with the longer side scaled to `side` pixels where that is given, and down to MOST_PIXELS;
    or the only one that the network takes.
    """
    if net.size:
        return net.size
    share = (side or max(size)) / max(size)
    share = min(share, math.sqrt(MOST_PIXELS / (size[0] * size[1])))
    return tuple(size) if share == 1 else tuple(max(1, int(length * share + 1e-6)) for length in size)


def stylise(
    style_net: StyleNet,
    image: np.ndarray,
    *,
    mix: Sequence[float] | None = None,
    side: int | None = None,
    precision: str = "float32",
) -> np.ndarray:
    """The picture (H, W, 3) in [0, 1], painted: (H, W, 3) in [0, 1].

    mix: as for `weights`. side: of the longer side while it is painted, in pixels: strokes are so many pixels wide, and
    in a smaller picture they are broad. Where `painted_size` is not the picture's own, the result is scaled back. Sides
    that the network does not take are padded by reflection, and the padding is cut off again. precision: one of
    engine.half.PRECISIONS; "bfloat16" is computed by the network's Twin, and for the eye the same.
    Raises BadMix, BadStyleNet, and ValueError where image is no picture, or for the precision.
    """
    check_precision(precision)
    given = weights(style_net, mix)
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"A picture is float (H, W, 3) in [0, 1]; this is {image.dtype} {image.shape}.")
    size = painted_size(style_net, image.shape[:2], side=side)
    seen = image if size == image.shape[:2] else pictures.resize(image, size)
    if style_net.size is None:
        multiple = style_net.multiple
        wanted = [-(-max(side, LEAST) // multiple) * multiple for side in size]
        seen = _padded(seen, *wanted)
    batch = np.ascontiguousarray(seen.transpose(2, 0, 1)[None], np.float32)
    if style_net.top != 1:
        batch = batch * np.float32(style_net.top)
    try:
        run = functools.partial(_forward, style_net) if precision == "float32" else _half(style_net, batch.shape[2:])
        found = run(batch, given)[0]
    except BadStyleNet:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common public class
        raise BadStyleNet(f"{style_net.name} cannot be run on this picture: {_first_line(error)}") from error
    found = np.clip(found.transpose(1, 2, 0)[: size[0], : size[1]] / np.float32(style_net.top), 0, 1)
    if not np.isfinite(found).all():
        raise BadStyleNet(f"{style_net.name} gives values that are no numbers.")
    return np.ascontiguousarray(found if size == image.shape[:2] else pictures.resize(found, image.shape[:2]))


def _padded(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Reflected at the bottom and the right, as often as it takes."""
    more = (height - image.shape[0], width - image.shape[1])
    if not any(more):
        return image
    for axis in (0, 1):  # a single row or column has nothing to reflect
        if image.shape[axis] == 1 and more[axis]:
            image = np.repeat(image, 2, axis)
    more = (height - image.shape[0], width - image.shape[1])
    return np.pad(image, ((0, more[0]), (0, more[1]), (0, 0)), "reflect")

"""Which network are these weights of, and how does their file become one of ours?

A file of weights (a PyTorch `state_dict`, as safetensors or as `.pth`) says what its tensors are called and how large
they are, and nothing of what is computed with them. That is taken from the architecture of torchvision whose tensors
have these names and sizes. No file here runs code of its own: safetensors cannot, and a pickle is read with
`weights_only=True`, which knows tensors and plain containers and refuses all else.
"""

from __future__ import annotations

import functools
import hashlib
import io
import re
import zipfile
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.model.metadata import Metadata

if TYPE_CHECKING:
    import torch
    from torch import nn

MAX_BYTES = 2 * 2**30  # an ONNX file in one piece cannot be larger
IMAGENET = 1000  # classes that torchvision's weights have
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")  # of files that hold weights, as people name them
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "weights",
    "model_ema",
)  # under which a training keeps them
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "backbone.", "base_model.")  # put before each name
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # heads that only training uses
# Published with inputs scaled to [-1, 1], which torchvision does inside the network: here the metadata says it.
SYMMETRIC = ("googlenet", "inception_v3")


class BadWeights(ValueError):
    """The file cannot be made a network; the message is one sentence for the person who brought it."""


@dataclass(frozen=True)
class Fit:
    """An architecture beside a file's tensors. missing, more: names that the file lacks, or has besides.

    wrong: (name, shape here, shape there) where they differ in more than the number of classes. classes: as the last
    layer has them; 0 where that is missing.
    """

    architecture: str
    missing: tuple[str, ...]
    more: tuple[str, ...]
    wrong: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    classes: int

    @property
    def fits(self) -> bool:
        return self.classes > 0 and not (self.missing or self.more or self.wrong)

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.more) + len(self.wrong)

    def said(self) -> str:
        """What does not fit, as the second half of a sentence."""
        parts = []
        if self.missing:
            parts.append(f"the file lacks {_some(self.missing)}")
        if self.more:
            parts.append(f"it has {_some(self.more)} besides")
        if self.wrong:
            name, here, there = self.wrong[0]
            more = f", and {len(self.wrong) - 1} more differ" if len(self.wrong) > 1 else ""
            parts.append(f"its {name} is {_shape(here)} instead of {_shape(there)}{more}")
        return "; ".join(parts) or "its last layer is missing"


def _some(names: Sequence[str]) -> str:
    """The first few; a stranger's file may call its tensors anything, of any length."""
    plain = [re.sub(r"[^\w.+-]+", "_", name[:60]) for name in names[:3]]
    return ", ".join(plain) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _shape(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape)) or "a single number"


# Reading ------------------------------------------------------------------------------------------------------------


def kind(content: bytes) -> str:
    """ "safetensors", "torch", or "" for a file that is neither, by how it begins."""
    if content[:4] == b"PK\x03\x04" or (content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05"):
        return "torch"
    header = int.from_bytes(content[:8], "little")
    return "safetensors" if len(content) > 9 and header <= len(content) - 8 and content[8:9] == b"{" else ""


def read(content: bytes) -> dict[str, torch.Tensor]:
    """The tensors of a file of weights by their names, without what a training has wrapped them in. On the CPU.

    Raises BadWeights.
    """
    import torch

    form = kind(content)
    if not form:
        raise BadWeights("This is no file of weights: it is neither safetensors nor what torch.save writes.")
    if len(content) > MAX_BYTES:
        raise BadWeights(f"The file has {len(content) / 2**30:.1f} GB; weights of up to 2 GB can be opened.")
    if form == "safetensors":
        import safetensors.torch

        try:
            found = safetensors.torch.load(content)
        except Exception as error:  # the library has a class of its own, besides those of damaged headers
            raise BadWeights("The safetensors file is damaged, or it is cut short.") from error
    else:
        if content[:2] == b"PK":
            _look_inside(content)
        try:
            found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged or hostile file raises in a dozen ways
            told = str(error)
            if "weights_only" in told or "Unsupported" in told:
                raise BadWeights(
                    "The file holds more than weights, such as a whole pickled module, and is not opened: that could "
                    "run any program; save module.state_dict(), best as safetensors."
                ) from error
            raise BadWeights("The file of weights is damaged, or it is cut short.") from error
    return plain(found)


def _look_inside(content: bytes) -> None:
    """Raise BadWeights for a zip that claims to be much larger than it is; torch.save packs without compression."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            whole = sum(entry.file_size for entry in archive.infolist())
            script = any(entry.filename.endswith("constants.pkl") for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BadWeights("The file of weights is damaged, or it is cut short.") from error
    if script:
        raise BadWeights("The file is a TorchScript program, not weights; save module.state_dict() instead.")
    if whole > len(content) + 2**20:
        raise BadWeights("The file of weights is compressed, which torch.save does not do, and is not opened.")


def plain(found: Any) -> dict[str, torch.Tensor]:
    """The state_dict in what a training saved: unwrapped, and without prefixes that all names share.

    Raises BadWeights where there is none.
    """
    import torch

    for _ in range(3):
        inner = next((found[key] for key in WRAPPERS if isinstance(found, Mapping) and _holds(found.get(key))), None)
        if inner is None:
            break
        found = inner
    if not _holds(found):
        raise BadWeights("The file holds no state_dict: names of parameters with their tensors.")
    state = {key: value for key, value in found.items() if isinstance(value, torch.Tensor)}
    if any(value.layout != torch.strided or value.is_quantized for value in state.values()):
        raise BadWeights("The file holds sparse or quantised tensors; weights as plain numbers are needed.")
    if any(value.numel() * value.element_size() > value.untyped_storage().nbytes() for value in state.values()):
        raise BadWeights("The file has a tensor that claims more numbers than it holds, and is not opened.")
    state.pop("n_averaged", None)  # of torch's averaged models
    while (prefix := next((p for p in PREFIXES if all(key.startswith(p) for key in state)), None)) is not None:
        state = {key[len(prefix) :]: value for key, value in state.items()}
    # DenseNet's file is older than its module: "denselayer1.norm.1.weight" is "denselayer1.norm1.weight" by now.
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key): value for key, value in state.items()}


def _holds(found: Any) -> bool:
    """Whether this is a state_dict: text to tensors, and possibly a few other things."""
    import torch

    if not isinstance(found, Mapping) or not found or not all(isinstance(key, str) for key in found):
        return False
    tensors = sum(isinstance(value, torch.Tensor) for value in found.values())
    return tensors > 0 and 2 * tensors >= len(found)


# Whose they are -----------------------------------------------------------------------------------------------------


def architectures() -> list[str]:
    """The classifiers of torchvision, by the names that it gives them."""
    from torchvision import models

    return models.list_models(module=models)


def _built(name: str, classes: int = IMAGENET) -> nn.Module:
    """torchvision's module without memory or random numbers for weights that are about to be replaced."""
    import torch
    from torch.overrides import TorchFunctionMode
    from torchvision import models

    class Without(TorchFunctionMode):
        """Parameters come from torch.empty; the rest, which some builders compute sizes with, stays what it is."""

        def __torch_function__(self, function, types, args=(), kwargs=None):
            more = {"device": "meta"} if function is torch.empty else {}
            return function(*args, **{**(kwargs or {}), **more})

    options: dict[str, Any] = {"num_classes": classes}
    if name in SYMMETRIC:
        options |= {"init_weights": False, "aux_logits": False, "transform_input": False}
    with Without():
        return models.get_model(name, weights=None, **options)


@functools.cache
def _shapes(name: str) -> Mapping[str, tuple[int, ...]]:
    """The names and shapes of an architecture's tensors, for 1,000 classes."""
    return {key: tuple(value.shape) for key, value in _built(name).state_dict().items()}


def compared(state: Mapping[str, torch.Tensor], architecture: str) -> Fit:
    """How far a state_dict is that of an architecture of torchvision, with any number of classes."""
    there = _shapes(architecture)
    here = {key: tuple(value.shape) for key, value in state.items() if not key.startswith(AUXILIARY)}
    counters = {key for key in there if key.endswith("num_batches_tracked")}  # which old files lack, and nothing needs
    heads = [key for key, shape in there.items() if shape[:1] == (IMAGENET,)]
    classes = here[heads[0]][0] if heads[0] in here and here[heads[0]] else 0
    wrong = []
    for key in there.keys() & here.keys():
        expected = (classes, *there[key][1:]) if key in heads else there[key]
        if here[key] != expected:
            wrong.append((key, here[key], expected))
    order = list(there)
    return Fit(
        architecture,
        tuple(key for key in order if key not in here and key not in counters),
        tuple(key for key in here if key not in there),
        tuple(sorted(wrong, key=lambda each: order.index(each[0]))),
        classes,
    )


def candidates(state: Mapping[str, torch.Tensor]) -> list[Fit]:
    """All architectures of torchvision that a state_dict fits; where it fits none, the nearest one alone."""
    found = [compared(state, name) for name in architectures()]
    return [fit for fit in found if fit.fits] or [min(found, key=lambda fit: (fit.faults, fit.architecture))]


def chosen(state: Mapping[str, torch.Tensor], architecture: str = "") -> Fit:
    """The one architecture that a state_dict is opened as. Raises BadWeights, saying what does not fit."""
    if architecture:
        if architecture not in architectures():
            import difflib

            near = difflib.get_close_matches(architecture, architectures(), 3, 0.5)
            more = f"; did you mean {' or '.join(near)}?" if near else "."
            raise BadWeights(f"torchvision has no classifier {architecture!r}{more}")
        fit = compared(state, architecture)
        if not fit.fits:
            raise BadWeights(f"These weights do not fit {architecture}: {fit.said()}.")
        return fit
    found = candidates(state)
    if not found[0].fits:
        near = found[0]
        raise BadWeights(
            f"These weights fit no classifier of torchvision; the nearest is {near.architecture}: {near.said()}."
        )
    if len(found) > 1:
        names = ", ".join(fit.architecture for fit in found)
        raise BadWeights(f"These weights fit {names}; say which architecture it is.")
    return found[0]


# Opening ------------------------------------------------------------------------------------------------------------


def opened(
    content: bytes | str | Path,
    *,
    architecture: str = "",
    labels: Collection[str] = (),
    name: str = "",
) -> tuple[bytes, Fit]:
    """A file of weights as an ONNX file with labels and preprocessing inside; and whose they are.

    content: the file's bytes, or its path. architecture: torchvision's name of it; by default it is told by the names
    and shapes of the tensors. labels: of the classes; ImageNet's by default where there are 1,000. name: of the file,
    for what is said of its source.

    Preprocessing is that of torchvision's own weights of the architecture: the file does not say its own.
    Raises BadWeights.
    """
    import torch

    from engine.nets.export import ExportFailed, exported

    if not isinstance(content, bytes):
        name = name or Path(content).name
        try:
            content = Path(content).read_bytes()
        except OSError as error:
            raise BadWeights(f"{name} cannot be read: {error.strerror}.") from error
    state = read(content)
    fit = chosen(state, architecture)
    labels = tuple(labels)
    if labels and len(labels) != fit.classes:
        raise BadWeights(f"There are {len(labels)} labels for {fit.classes} classes.")
    about = _about(fit, hashlib.sha256(content).hexdigest(), labels, name)
    module = _built(fit.architecture, fit.classes)
    wanted = module.state_dict()
    weights = OrderedDict(
        (key, (state[key] if key in state else torch.zeros(value.shape)).to(value.dtype).contiguous())
        for key, value in wanted.items()
    )
    weights._metadata = wanted._metadata  # MNASNet asks for the version of its names, which safetensors do not keep
    del state
    module.load_state_dict(weights, assign=True)
    module.eval()
    if any(value.is_meta for value in [*module.parameters(), *module.buffers()]):
        raise BadWeights(f"{fit.architecture} has numbers that are in no file of weights, and cannot be opened so.")
    if not all(torch.isfinite(value).all() for value in weights.values()):
        raise BadWeights("The file holds weights that are no numbers (NaN or infinite): the training had failed.")
    try:
        return exported(module, about), fit
    except ExportFailed as error:
        raise BadWeights(str(error)) from error


def _about(fit: Fit, sha256: str, labels: tuple[str, ...], name: str) -> Metadata:
    """What the new file says of itself."""
    import torchvision

    from engine.nets import zoo
    from engine.nets.export import metadata_of

    versions = list(torchvision.models.get_model_weights(fit.architecture))
    published = next(
        (w for w in versions if re.search(rf"-{sha256[:8]}\.pth$", w.url)), None
    )  # the hash is in its name
    about = metadata_of(published or versions[0])
    if fit.architecture in SYMMETRIC:
        about = replace(about, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    if published is not None:
        about = replace(about, licence=zoo.LICENCE)
    else:
        called = f" in {name}" if name else ""
        source = f"{fit.architecture} of torchvision with the weights{called} (SHA-256 {sha256}); the preprocessing is "
        source += f"that of {versions[0]}, and the file does not say whether it is its own."
        about = replace(about, source=source, accuracy="", licence="")
    if labels or fit.classes != IMAGENET:
        about = replace(about, labels=labels, missing=() if labels else ("labels",))
    return about

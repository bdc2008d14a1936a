"""What is a picture here, and how does a file become one?

One convention holds everywhere. Pixels are float32 (H, W, 3), RGB, in [0, 1]; several of them are a batch
(B, 3, H, W). Sizes are (H, W) and positions (row, col). A position is continuous and counts from the outer edge of the
first pixel: pixel 0 reaches from 0 to 1 and its centre is at 0.5.

Values stay as the file has them (almost always gamma-encoded sRGB, which is what networks are trained on). Colour
profiles are ignored.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile, PngInfo
from PIL.WebPImagePlugin import WebPImageFile

KEPT_PIXELS = 8_000_000  # above this a picture is kept at a half, a third … of its size
MAX_PIXELS = 40_000_000
MAX_BYTES = 64 * 2**20
AT_ONCE = 16  # rows that a product scales to
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
ORIENTATION = 0x0112  # the EXIF tag

# Where a format's first bytes stand, what they are, and Pillow's reader. The reader is called directly because
# Image.open warns, process-wide, about large pictures that are to be refused here anyway. A phone's MPO is a JPEG with
# more pictures behind it, which are left alone.
READERS: tuple[tuple[int, bytes, type[ImageFile]], ...] = (
    (0, b"\xff\xd8\xff", JpegImageFile),
    (0, b"\x89PNG\r\n\x1a\n", PngImageFile),
    (0, b"GIF8", GifImageFile),
    (8, b"WEBP", WebPImageFile),
)
TURNS = {  # EXIF orientation → what brings the picture upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class NotAPicture(ValueError):
    """The file cannot be used as a picture; the message is one sentence that says why and what to do."""


def load(source: bytes | str | Path) -> np.ndarray:
    """Read a JPEG, PNG, WebP or GIF (its first frame) upright, with transparency laid on white.

    source: the file's content, or its path.
    Returns (H, W, 3) pixels; of a picture above KEPT_PIXELS, the means of whole blocks of pixels, because no network
    here sees more than some hundred pixels a side and a server holds many pictures. 16-bit grey keeps its precision;
    Pillow reads 16-bit colour at 8 bits.
    Raises NotAPicture for what is empty, above MAX_BYTES or MAX_PIXELS, damaged, or of another format, and OSError
    where the path cannot be read.
    """
    data = source if isinstance(source, bytes) else _read(Path(source))
    if not data:
        raise NotAPicture("The file is empty: choose another one.")
    if len(data) > MAX_BYTES:
        raise NotAPicture(f"The file is larger than {MAX_BYTES >> 20} MiB: save the picture smaller and try again.")
    values = _decode(data)
    block = math.isqrt((values.shape[0] * values.shape[1] - 1) // KEPT_PIXELS) + 1
    if block > 1:
        values = _blocks(values, block)
    full = 65535 if values.itemsize == 2 else 255
    pixels = np.divide(values[:, :, :3], full, dtype=np.float32)  # (H, W, 1 or 3)
    if values.shape[2] == 4:
        alpha = np.divide(values[:, :, 3:], full, dtype=np.float32)
        pixels *= alpha
        pixels += 1 - alpha
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _blocks(values: np.ndarray, side: int) -> np.ndarray:
    """The rounded means of blocks of side × side pixels; what is left over at the bottom and the right is cut off."""
    height, width = (length // side for length in values.shape[:2])
    whole = values[: height * side, : width * side]
    total = sum(whole[i::side, j::side].astype(np.uint32) for i in range(side) for j in range(side))
    return ((total + side * side // 2) // (side * side)).astype(values.dtype)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _decode(data: bytes) -> np.ndarray:
    """The upright picture as the file has it: uint8 (H, W, 3), with transparency (H, W, 4), or uint16 (H, W, 1)."""
    reader = next((reader for start, magic, reader in READERS if data.startswith(magic, start)), None)
    if reader is None:
        raise NotAPicture("This is not a JPEG, PNG, WebP or GIF file: save the picture as one of these and try again.")
    # Pillow answers damaged files with a dozen kinds of exception, down to SyntaxError and struct.error, and the kinds
    # change between versions. So all are caught, around nothing but Pillow's own calls.
    damaged = f"The {reader.format} file is damaged or incomplete: save or download it again."
    try:
        image = reader(io.BytesIO(data), "")  # the header alone
    except Image.DecompressionBombError as error:
        raise NotAPicture(_too_large("The picture's pixels")) from error
    except Exception as error:
        raise NotAPicture(damaged) from error
    width, height = image.size
    if height * width > MAX_PIXELS:
        raise NotAPicture(_too_large(f"The picture's {height} x {width} pixels"))
    try:
        image.load()
        turn = _turn(image)
        if turn is not None:
            image = image.transpose(turn)
        if image.mode == "I;16":
            values = np.asarray(image)
            key = image.info.get("transparency")
            return (values if key is None else np.where(values == key, np.uint16(65535), values))[:, :, None]
        if reader is PngImageFile:
            _scale_key(image, depth=data[24])
        return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except Exception as error:
        raise NotAPicture(damaged) from error


def _too_large(what: str) -> str:
    return f"{what} are more than the {MAX_PIXELS // 10**6} million allowed: make it smaller and try again."


def _turn(image: ImageFile) -> Image.Transpose | None:
    """What brings the picture upright, by its EXIF orientation."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # a damaged EXIF block, in one of Pillow's many ways; the pixels are whole and stay as they are
        return None


def _scale_key(image: Image.Image, depth: int) -> None:
    """Bring a PNG's transparent colour from the file's bits to the 8 that Pillow expands or cuts the pixels to."""
    key = image.info.get("transparency")
    if image.mode == "L" and isinstance(key, int) and depth < 8:
        image.info["transparency"] = key * 255 // (2**depth - 1)
    elif image.mode == "RGB" and isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(value >> 8 for value in key)


def to_png(pixels: np.ndarray, recipe: Mapping[str, Any] | None = None) -> bytes:
    """Write a PNG of 8 bits per channel, each value rounded to the nearest and clipped to [0, 1].

    pixels: (H, W) or (H, W, 1) grey, (H, W, 3) RGB, (H, W, 4) RGB and opacity. recipe: how the picture was made, which
    goes into the file as JSON, as its text "recipe".
    Raises ValueError for other shapes, and where a value is not a number.
    """
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if 0 in pixels.shape or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise ValueError(f"A picture is (H, W), (H, W, 3) or (H, W, 4); this is {pixels.shape}.")
    if np.isnan(pixels).any():
        raise ValueError("The picture holds values that are not numbers.")
    info = PngInfo()
    if recipe is not None:
        info.add_itxt("recipe", json.dumps(recipe, ensure_ascii=False))
    file = io.BytesIO()  # level 1: a third of the default's time for a tenth more bytes
    Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(
        file, "PNG", compress_level=1, pnginfo=info
    )
    return file.getvalue()


def to_jpeg(pixels: np.ndarray) -> bytes:
    """Write a small JPEG (quality 75) of (H, W, 3) pixels: for looking at in passing."""
    file = io.BytesIO()
    Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(file, "JPEG", quality=75)
    return file.getvalue()


def digest(pixels: np.ndarray) -> str:
    """Name an array by its content: SHA-256 over shape, dtype and every byte, as 64 hexadecimal digits."""
    hasher = hashlib.sha256(f"{pixels.shape} {pixels.dtype.str} ".encode())
    hasher.update(np.ascontiguousarray(pixels).reshape(-1).view(np.uint8))
    return hasher.hexdigest()


@dataclass(frozen=True)
class Frame:
    """The part of a picture that a network saw.

    top, left, height, width: in pixels of the picture, with fractions.
    shape: the (H, W) that this part was scaled to; "the net's pixels" below.
    """

    top: float
    left: float
    height: float
    width: float
    shape: tuple[int, int]

    def to_picture(self, row: float, col: float) -> tuple[float, float]:
        """Where a position in the net's pixels lies in the picture; not clipped. Arrays are taken, too."""
        return self.top + row * self.height / self.shape[0], self.left + col * self.width / self.shape[1]

    def to_net(self, row: float, col: float) -> tuple[float, float]:
        """Where a position in the picture lies in the net's pixels: the inverse of to_picture."""
        return (row - self.top) * self.shape[0] / self.height, (col - self.left) * self.shape[1] / self.width

    def box_to_picture(self, top: float, left: float, bottom: float, right: float) -> tuple[float, float, float, float]:
        """Where a box in the net's pixels lies in the picture, in the same order: top, left, bottom, right."""
        return *self.to_picture(top, left), *self.to_picture(bottom, right)


def fit(image: np.ndarray, size: tuple[int, int], *, crop: float = 1.0, channels: int = 3) -> tuple[np.ndarray, Frame]:
    """Scale the middle of a picture to the size that a network takes, without distorting it.

    size: (H, W) of the result.
    crop: share of the largest centred rectangle of that aspect that is kept, 0 < crop <= 1. 0.875 is torchvision's
        "resize to 256, crop 224", without its rounding to whole pixels and with one resampling.
    channels: 3, or 1 for luminance (ITU-R BT.601).
    Returns (H, W, channels) pixels and the Frame that was kept.
    Raises ValueError where image is not float (H, W, 3) or another argument is out of its range.
    """
    _check(image)
    rows, cols = size
    if rows < 1 or cols < 1 or not 0 < crop <= 1 or channels not in (1, 3):
        raise ValueError(f"A picture cannot be fitted to size {size}, crop {crop} and {channels} channels.")
    whole_height, whole_width = image.shape[:2]
    scale = crop * min(whole_height / rows, whole_width / cols)  # the picture's pixels per pixel of the net
    height, width = min(rows * scale, whole_height), min(cols * scale, whole_width)
    frame = Frame((whole_height - height) / 2, (whole_width - width) / 2, height, width, (int(rows), int(cols)))
    # The columns that matter: past the frame's edge the filter reads on, as if all of the picture were scaled.
    reach = max(scale, 1)
    first, end = max(math.floor(frame.left - reach), 0), min(math.ceil(frame.left + width + reach), whole_width)
    flat = image.reshape(whole_height, -1)[:, 3 * first : 3 * end]
    tall = _resample(flat, frame.top, height, rows).reshape(rows, end - first, 3)
    # Turned, so that the columns are scaled as the rows were, by products of long rows; (cols, rows) for each channel.
    turned = np.array(tall.transpose(1, 2, 0), order="C").reshape(end - first, 3 * rows)
    made = _resample(turned, frame.left - first, width, cols).reshape(cols, 3, rows)
    np.clip(made, 0, 1, out=made)
    if channels == 1:
        return np.ascontiguousarray(np.tensordot(made, LUMA, (1, 0)).T)[..., None], frame
    return np.ascontiguousarray(made.transpose(2, 0, 1)), frame


def resize(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Stretch a map (h, w) or (h, w, C) to `size` (H, W): bilinear between the cells' centres; smaller, antialiased."""
    tall, wide = (_triangles(old, new) for old, new in zip(values.shape[:2], size, strict=True))
    stretched = np.tensordot(tall, values, 1)  # (H, w, …)
    return np.ascontiguousarray(np.moveaxis(np.tensordot(wide, stretched, (1, 1)), 0, 1), dtype=np.float32)


def _triangles(old: int, new: int) -> np.ndarray:
    """(new, old) float32: how much each of `old` cells counts for each of `new`; all of it, as maps are small."""
    scale = old / new
    reach = max(scale, 1)
    centres = (np.arange(new)[:, None] + 0.5) * scale
    weights = np.maximum(1 - np.abs(np.arange(old) + 0.5 - centres) / reach, 0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def _resample(values: np.ndarray, start: float, extent: float, count: int) -> np.ndarray:
    """Scale the rows from start to start + extent of (n, m) to (count, m): bilinear, antialiased, in float32.

    The same triangles as Pillow's Resampling.BILINEAR; as matrix products they take a tenth of its time on floats. A
    product makes several rows at a time, from the part of the picture that they hang on.
    """
    length = len(values)
    if start == 0 and extent == count == length:
        return values.astype(np.float32, copy=False)
    result = np.empty((count, values.shape[1]), np.float32)
    at = 0
    for first, weights in _products(start, extent, count, length):
        np.matmul(weights, values[first : first + weights.shape[1]], out=result[at : at + len(weights)])
        at += len(weights)
    return result


@functools.lru_cache(maxsize=64)  # of a set's pictures, most have one size
def _products(start: float, extent: float, count: int, length: int) -> list[tuple[int, np.ndarray]]:
    """For `_resample`: the first row that a product reads, and its weights (rows made, rows read)."""
    scale = extent / count
    reach = max(scale, 1)  # half of a triangle's base
    found = []
    for at in range(0, count, AT_ONCE):
        centres = start + (np.arange(at, min(at + AT_ONCE, count)) + 0.5) * scale
        first = np.maximum((centres - reach + 0.5).astype(int), 0)
        end = np.minimum((centres + reach + 0.5).astype(int), length)
        read = np.arange(first[0], end[-1])
        weights = np.maximum(1 - np.abs(read + 0.5 - centres[:, None]) / reach, 0)
        weights[(read < first[:, None]) | (read >= end[:, None])] = 0
        found.append((int(first[0]), (weights / weights.sum(1, keepdims=True)).astype(np.float32)))
    return found


def batch(*images: np.ndarray) -> np.ndarray:
    """Several pictures of one size, (H, W, C) each, as contiguous float32 (B, C, H, W).

    C is 3, or 1 for luminance. Raises ValueError for none, for pictures of different shapes, and for other arrays.
    """
    for image in images:
        _check(image, (1, 3))
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2), dtype=np.float32)


def crop(image: np.ndarray, top: float, left: float, bottom: float, right: float) -> np.ndarray:
    """Cut out the pixels that a box touches, by a millionth of a pixel or more, in a copy.

    top, left, bottom, right: positions in the picture. What lies outside it is left out, down to the nearest pixel.
    """
    rows = _span(top, bottom, image.shape[0])
    return image[rows, _span(left, right, image.shape[1])].copy()


def _span(start: float, end: float, length: int) -> slice:
    first = min(math.floor(min(max(start, 0), length) + 1e-6), length - 1)
    return slice(first, max(math.ceil(min(max(end, 0), length) - 1e-6), first + 1))


def _check(image: np.ndarray, channels: tuple[int, ...] = (3,)) -> None:
    shaped = image.ndim == 3 and image.shape[2] in channels and 0 not in image.shape
    if not shaped or not np.issubdtype(image.dtype, np.floating):
        raise ValueError(f"A picture is float (H, W, 3) in [0, 1]; this is {image.dtype} {image.shape}.")

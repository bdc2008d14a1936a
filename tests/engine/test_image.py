"""Pictures from files, and the geometry between a picture and a network's input."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from engine import image
from engine.image import Frame, NotAPicture, batch, crop, digest, fit, load, to_png

WHITE, RED, GREEN, BLUE = (1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1)
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6  # PNG's colour types


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(height: int, width: int, depth: int, colour: int, rows: list[bytes], *extra: bytes) -> bytes:
    """A PNG written byte by byte, so that what it holds does not depend on Pillow."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", data), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def saved(picture: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def scene(height: int = 17, width: int = 24) -> Image.Image:
    """Smooth colours with some noise: no row, column or channel equals another."""
    row, col = np.mgrid[:height, :width]
    channels = [row * 255 / height, col * 255 / width, (row + col) * 5 % 256]
    noise = np.random.default_rng(0).normal(0, 8, (height, width, 3))
    return Image.fromarray(np.clip(np.stack(channels, 2) + noise, 0, 255).astype(np.uint8))


FILES = {
    "jpeg": saved(scene(), "JPEG"),
    "progressive jpeg": saved(scene(), "JPEG", progressive=True),
    "png": saved(scene(), "PNG"),
    "16-bit png": png(17, 24, 16, GREY, [np.random.default_rng(row).bytes(48) for row in range(17)]),
    "webp": saved(scene(), "WEBP"),
    "lossless webp": saved(scene(), "WEBP", lossless=True),
    "animated webp": saved(scene(), "WEBP", save_all=True, append_images=[scene().rotate(180)]),
    "gif": saved(scene(), "GIF"),
}


def is_pixels(pixels: np.ndarray) -> bool:
    return (
        pixels.dtype == np.float32
        and pixels.ndim == 3
        and pixels.shape[2] == 3
        and pixels.size > 0
        and bool(((pixels >= 0) & (pixels <= 1)).all())  # false for what is not a number
    )


# Files become pixels


def test_rows_columns_and_channels_come_in_that_order(tmp_path):
    data = png(2, 3, 8, RGB, [bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]), bytes([10, 20, 30, 40, 50, 60, 70, 80, 90])])
    pixels = load(data)
    expected = np.array([[RED, GREEN, BLUE], np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]]) / 255], np.float32)
    assert is_pixels(pixels)
    assert np.array_equal(pixels, expected)
    path = tmp_path / "name that says nothing.txt"
    path.write_bytes(data)
    assert np.array_equal(load(path), expected)
    assert np.array_equal(load(str(path)), expected)


def key(*values: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(values)}H", *values))


COLOURS = chunk(b"PLTE", bytes([255, 0, 0, 0, 255, 0, 0, 0, 255]))


@pytest.mark.parametrize(
    ("data", "expected"),  # of two pixels
    [
        pytest.param(png(1, 2, 1, GREY, [b"\x40"]), [0, 1], id="1-bit grey"),
        pytest.param(png(1, 2, 2, GREY, [b"\x70"]), [1 / 3, 1], id="2-bit grey"),
        pytest.param(png(1, 2, 4, GREY, [b"\x3f"]), [3 / 15, 1], id="4-bit grey"),
        pytest.param(png(1, 2, 8, GREY, [b"\x05\xfe"]), [5 / 255, 254 / 255], id="8-bit grey"),
        pytest.param(png(1, 2, 16, GREY, [b"\x03\xe8\x9c\x40"]), [1000 / 65535, 40000 / 65535], id="16-bit grey"),
        pytest.param(
            png(1, 2, 16, RGB, [struct.pack(">6H", 0, 65535, 0x8042, 0x0100, 0, 0)]),
            [(0, 1, 128 / 255), (1 / 255, 0, 0)],
            id="16-bit RGB",
        ),
        pytest.param(png(1, 2, 8, GREY_ALPHA, [bytes([0, 255, 0, 51])]), [0, 0.8], id="grey, opacity"),
        pytest.param(png(1, 2, 16, GREY_ALPHA, [b"\x80\0\xff\xff\0\0\0\0"]), [128 / 255, 1], id="16-bit grey, opacity"),
        pytest.param(
            png(1, 2, 8, RGB_ALPHA, [bytes([255, 0, 0, 255, 255, 0, 0, 102])]),
            [RED, (1, 0.6, 0.6)],
            id="RGB, opacity",
        ),
        pytest.param(png(1, 2, 8, PALETTE, [b"\2\1"], COLOURS), [BLUE, GREEN], id="palette"),
        pytest.param(png(1, 2, 4, PALETTE, [b"\x21"], COLOURS), [BLUE, GREEN], id="4-bit palette"),
        pytest.param(
            png(1, 2, 8, PALETTE, [b"\2\1"], COLOURS, chunk(b"tRNS", bytes([255, 51]))),
            [BLUE, (0.8, 1, 0.8)],
            id="palette, opacities",
        ),
        pytest.param(
            png(1, 2, 8, PALETTE, [b"\0\1"], COLOURS, chunk(b"tRNS", b"\0")), [WHITE, GREEN], id="palette, one hole"
        ),
        pytest.param(png(1, 2, 1, GREY, [b"\x40"], key(0)), [1, 1], id="1-bit grey, key"),
        pytest.param(png(1, 2, 2, GREY, [b"\x40"], key(1)), [1, 0], id="2-bit grey, key"),
        pytest.param(png(1, 2, 4, GREY, [b"\x34"], key(3)), [1, 4 / 15], id="4-bit grey, key"),
        pytest.param(png(1, 2, 8, GREY, [b"\x05\x06"], key(5)), [1, 6 / 255], id="8-bit grey, key"),
        pytest.param(png(1, 2, 16, GREY, [b"\x03\xe8\x03\xe9"], key(1000)), [1, 1001 / 65535], id="16-bit grey, key"),
        pytest.param(png(1, 2, 8, RGB, [bytes([1, 2, 3, 0, 0, 0])], key(1, 2, 3)), [1, 0], id="RGB, key"),
        pytest.param(
            png(1, 2, 16, RGB, [struct.pack(">6H", 0x1234, 0, 0, 0, 0, 0)], key(0x1234, 0, 0)), [1, 0], id="16-bit, key"
        ),
    ],
)
def test_every_kind_of_png(data, expected):
    pixels = load(data)
    whole = np.array([np.broadcast_to(pixel, 3) for pixel in expected], np.float32)[None]
    assert is_pixels(pixels)
    assert np.allclose(pixels, whole, atol=1e-6, rtol=0)


def test_opaque_pixels_are_the_same_with_and_without_an_alpha_channel():
    picture = scene()
    with_alpha = picture.convert("RGBA")
    assert digest(load(saved(with_alpha, "PNG"))) == digest(load(saved(picture, "PNG")))


def test_opacity_never_leaves_the_range():
    values = np.stack(np.meshgrid([0, 1, 254, 255], np.arange(256)), 2).astype(np.uint8)  # (256, 4, grey and opacity)
    pixels = load(saved(Image.fromarray(values[:, :, [0, 0, 0, 1]]), "PNG"))
    assert is_pixels(pixels)
    assert (pixels[:, 3] == 1).all()  # white on white


def test_gif_gives_its_first_frame_on_white():
    first, second = Image.new("P", (5, 3), 1), Image.new("P", (5, 3), 2)
    for frame in (first, second):
        frame.putpalette([9, 9, 9, 255, 0, 0, 0, 255, 0])
    first.putpixel((4, 0), 0)
    pixels = load(saved(first, "GIF", save_all=True, append_images=[second], transparency=0))
    assert pixels.shape == (3, 5, 3)
    assert np.array_equal(pixels[0, 4], WHITE)
    pixels[0, 4] = RED
    assert np.array_equal(pixels, np.broadcast_to(np.float32(RED), (3, 5, 3)))


def test_animated_webp_gives_its_first_frame():
    assert np.allclose(load(FILES["animated webp"]), np.asarray(scene()) / 255, atol=0.4)
    assert np.abs(load(FILES["animated webp"]) - np.asarray(scene().rotate(180)) / 255).mean() > 0.2


def test_transparent_webp_on_white():
    picture = Image.new("RGBA", (3, 2), (0, 0, 255, 51))
    pixels = load(saved(picture, "WEBP", lossless=True))
    assert np.allclose(pixels, np.broadcast_to([0.8, 0.8, 1], (2, 3, 3)), atol=1e-6)


@pytest.mark.parametrize(
    ("inks", "expected"),
    [((0, 0, 0, 0), WHITE), ((0, 255, 255, 0), RED), ((255, 0, 255, 0), GREEN), ((0, 0, 0, 255), 0)],
)
def test_cmyk_as_adobe_writes_it(inks, expected):
    data = saved(Image.new("CMYK", (20, 10), inks), "JPEG", quality=95)
    assert b"Adobe" in data  # its inks are stored inverted
    assert np.abs(load(data) - np.float32(expected)).max() < 0.02


def test_grey_jpeg():
    pixels = load(saved(Image.new("L", (20, 10), 51), "JPEG"))
    assert pixels.shape == (10, 20, 3)
    assert np.allclose(pixels, 0.2, atol=0.01)


def test_a_phones_mpo_gives_its_first_picture():
    red, blue = (Image.new("RGB", (20, 10), colour) for colour in ((255, 0, 0), (0, 0, 255)))
    data = saved(red, "MPO", save_all=True, append_images=[blue])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    assert np.abs(load(data) - np.float32(RED)).max() < 0.02


STORED = {  # how "ABC / DEF" is laid down in the file under each EXIF orientation (row 0 is the visual top, right, ...)
    1: ["ABC", "DEF"],
    2: ["CBA", "FED"],
    3: ["FED", "CBA"],
    4: ["DEF", "ABC"],
    5: ["AD", "BE", "CF"],
    6: ["CF", "BE", "AD"],
    7: ["FC", "EB", "DA"],
    8: ["DA", "EB", "FC"],
}
LETTERS = {"A": (255, 0, 0), "B": (0, 255, 0), "C": (0, 0, 255), "D": (255, 255, 0), "E": (255, 0, 255), "F": (0, 0, 0)}


def painted(rows: list[str]) -> np.ndarray:
    """Each letter as a square of 16 pixels."""
    colours = np.array([[LETTERS[letter] for letter in row] for row in rows], np.uint8)
    return colours.repeat(16, 0).repeat(16, 1)


@pytest.mark.parametrize(
    "form", [("PNG", {}), ("JPEG", {"quality": 95, "subsampling": 0}), ("WEBP", {"lossless": True})]
)
@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(orientation, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(painted(STORED[orientation])), form[0], exif=exif, **form[1])
    pixels = load(data)
    assert pixels.shape == (32, 48, 3)
    assert np.abs(pixels - painted(STORED[1]) / np.float32(255)).max() < 0.05


def test_orientation_of_a_16_bit_picture():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = png(2, 1, 16, GREY, [b"\0\1", b"\0\2"], chunk(b"eXIf", exif.tobytes()[6:]))
    assert np.allclose(load(data)[:, :, 0] * 65535, [[2, 1]])


def test_a_damaged_exif_block_does_not_cost_the_picture():
    data = png(1, 1, 8, RGB, [b"\xff\0\0"], chunk(b"eXIf", b"nonsense"))
    with pytest.raises(SyntaxError):
        Image.open(io.BytesIO(data)).getexif()
    assert np.array_equal(load(data), [[RED]])


@pytest.mark.parametrize(("size", "side"), [((4, 6), 1), ((5, 5), 2), ((8, 12), 2), ((7, 14), 3)], ids=str)
def test_a_large_picture_is_kept_as_the_means_of_whole_blocks(size, side, monkeypatch):
    """Of at most 24 pixels here. What is left over at the bottom and at the right is cut off."""
    monkeypatch.setattr(image, "KEPT_PIXELS", 24)
    values = np.random.default_rng(0).integers(0, 256, (*size, 3))
    rows, cols = (length // side for length in size)
    blocks = values[: rows * side, : cols * side].reshape(rows, side, cols, side, 3)
    expected = np.floor(blocks.mean((1, 3)) + 0.5) / 255  # rounded, a half up
    np.testing.assert_allclose(load(to_png(values / 255)), expected, atol=1e-6)


def test_a_single_pixel():
    assert np.array_equal(load(png(1, 1, 8, RGB, [b"\0\xff\0"])), [[GREEN]])


# What is refused


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert text.endswith(".")
    assert ". " not in text
    assert ": " in text  # what is wrong: what to do
    return text


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"\0" * 100,
        b"RIFF\x24\0\0\0WAVEfmt ",
        saved(scene(), "BMP"),
        saved(scene(), "TIFF"),
        saved(scene(), "PPM"),
        saved(scene(), "ICO"),
    ],
    ids=["text", "svg", "pdf", "zeros", "wav", "bmp", "tiff", "ppm", "ico"],
)
def test_other_formats(data):
    with pytest.raises(NotAPicture) as error:
        load(data)
    assert "JPEG, PNG, WebP or GIF" in one_sentence(error)


def test_an_empty_file(tmp_path):
    with pytest.raises(NotAPicture) as error:
        load(b"")
    assert "empty" in one_sentence(error)
    (tmp_path / "empty.png").touch()
    with pytest.raises(NotAPicture, match="empty"):
        load(tmp_path / "empty.png")


def test_a_missing_file_is_the_callers_mistake(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.png")


def test_the_limit_in_bytes(monkeypatch, tmp_path):
    data = FILES["png"]
    path = tmp_path / "large.png"
    path.write_bytes(data)
    monkeypatch.setattr(image, "MAX_BYTES", len(data))
    assert np.array_equal(load(path), load(data))
    monkeypatch.setattr(image, "MAX_BYTES", len(data) - 1)
    for source in (data, path):
        with pytest.raises(NotAPicture) as error:
            load(source)
        assert "MiB" in one_sentence(error)


def test_a_path_is_read_no_further_than_the_limit(monkeypatch, tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(2**40)  # a terabyte that takes no space on the disk
    monkeypatch.setattr(image, "MAX_BYTES", 1000)
    with pytest.raises(NotAPicture, match="MiB"):
        load(path)


def enormous(form: str, height: int, width: int) -> bytes:
    """A file whose header promises height x width pixels and that holds next to none of them."""
    if form == "PNG":
        return png(height, width, 8, RGB, [])
    if form == "JPEG":
        data = bytearray(FILES["jpeg"])
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = struct.pack(">HH", height, width)
    elif form == "GIF":
        data = bytearray(FILES["gif"])
        data[6:10] = struct.pack("<HH", width, height)
    else:
        data = bytearray(FILES["animated webp"])
        assert data[12:16] == b"VP8X"
        data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(4_100, 10_000), (10_000, 10_000), (15_000, 16_000)], ids=["41", "100", "240"])
@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_the_header_alone_refuses_too_many_pixels(form, size, monkeypatch):
    """Image.open would warn of 100 million pixels and raise at 240 million; here nothing is decoded nor warned of."""
    reader = next(reader for _, _, reader in image.READERS if reader.format == form)
    decoded = []
    monkeypatch.setattr(reader, "load", lambda self: decoded.append(self.size))
    with pytest.raises(NotAPicture) as error:
        load(enormous(form, *size))
    assert "40 million" in one_sentence(error)
    assert not decoded


def test_the_limit_in_pixels(monkeypatch):
    monkeypatch.setattr(image, "MAX_PIXELS", 6)
    assert load(png(2, 3, 8, GREY, [b"abc", b"def"])).shape == (2, 3, 3)
    with pytest.raises(NotAPicture, match="1 x 7 pixels"):
        load(png(1, 7, 8, GREY, [b"abcdefg"]))


@pytest.mark.parametrize("size", [(0, 5), (5, 0)])
def test_no_pixels_at_all(size):
    with pytest.raises(NotAPicture, match="PNG file is damaged"):
        load(png(*size, 8, RGB, [b""]))


@pytest.mark.parametrize("after", [False, True], ids=["before the pixels", "after the pixels"])
def test_a_text_that_unpacks_to_megabytes(after):
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(8 * 2**20), 9))
    data = png(1, 1, 8, RGB, [b"abc"], bomb)
    if after:
        data = data.replace(bomb, b"").replace(chunk(b"IEND", b""), bomb + chunk(b"IEND", b""))
    tracemalloc.start()
    with pytest.raises(NotAPicture, match="PNG file is damaged"):
        load(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


@pytest.mark.parametrize("name", FILES)
def test_the_undamaged_file_loads(name):
    pixels = load(FILES[name])
    assert is_pixels(pixels)
    assert pixels.shape == (17, 24, 3)
    assert pixels.std() > 0.1


@pytest.mark.parametrize("tenths", range(1, 10))
@pytest.mark.parametrize("name", FILES)
def test_truncated_files(name, tenths):
    whole = FILES[name].removesuffix(chunk(b"IEND", b""))  # without which Pillow reads a PNG all the same
    with pytest.raises(NotAPicture) as error:
        load(whole[: len(whole) * tenths // 10])
    one_sentence(error)


@pytest.mark.parametrize("name", FILES)
def test_mutants_load_or_are_refused(name):
    whole, rng = FILES[name], np.random.default_rng(7)
    outcomes = set()
    for index in range(200):
        mutant = bytearray(whole)
        reach = len(whole) if index % 2 else min(len(whole), 64)  # every second one is hit in its header
        for place in rng.integers(0, reach, 1 + index % 3):
            mutant[place] ^= 1 << int(rng.integers(8))
        try:
            pixels = load(bytes(mutant))
        except NotAPicture:
            outcomes.add("refused")
        else:
            assert is_pixels(pixels)
            outcomes.add("loaded")
    assert outcomes == {"refused", "loaded"}


@pytest.mark.parametrize("start", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\1\0\0WEBPVP8 "])
def test_random_bytes(start):
    rng = np.random.default_rng(11)
    for length in (1, 10, 100, 1000):
        with pytest.raises(NotAPicture) as error:
            load(start + rng.bytes(length))
        one_sentence(error)


def test_many_threads_read_what_one_reads():
    files = [*FILES.values(), b"nonsense"] * 8

    def outcome(data: bytes) -> str:
        try:
            return digest(load(data))
        except NotAPicture as error:
            return str(error)

    limit = Image.MAX_IMAGE_PIXELS
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(outcome, files)) == [outcome(data) for data in files]
    assert limit == Image.MAX_IMAGE_PIXELS


# Pixels become files, and names


def unpacked(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_png_keeps_all_256_values():
    pixels = (np.arange(256 * 3, dtype=np.float32).reshape(8, 32, 3) % 256) / np.float32(255)
    assert np.array_equal(load(to_png(pixels)), pixels)


def test_a_png_rounds_and_clips():
    grey = np.array([[0.49, 0.51, 127.4, 127.6, 254.4, 254.6, -30, 300, np.inf]]) / 255
    assert unpacked(to_png(grey)).tolist() == [[0, 1, 127, 128, 254, 255, 0, 255, 255]]


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 1), (2, 5, 3), (2, 5, 4)])
def test_a_png_of_every_shape(shape):
    values = np.random.default_rng(0).integers(0, 256, shape)
    expected = values[:, :, 0] if shape == (2, 5, 1) else values
    assert np.array_equal(unpacked(to_png(values / 255)), expected)


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 5, 2)), np.zeros(5), np.zeros((1, 2, 5, 3)), np.zeros((0, 5)), np.full((2, 2), np.nan)]
)
def test_a_png_of_something_else(pixels):
    with pytest.raises(ValueError, match="picture"):
        to_png(pixels)


def test_digest_is_sha256_of_shape_dtype_and_bytes():
    pixels = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    assert digest(pixels) == hashlib.sha256(b"(2, 3, 3) <f4 " + pixels.tobytes()).hexdigest()


def test_digest_sees_every_pixel():
    pixels = np.zeros((512, 384, 3), np.float32)
    before = digest(pixels)
    rng = np.random.default_rng(0)
    for _ in range(20):
        place = tuple(rng.integers(pixels.shape))
        pixels[place] = 1 / 255
        assert digest(pixels) != before
        pixels[place] = 0
    assert digest(pixels) == before


def test_digest_sees_shape_and_dtype_and_not_the_layout():
    pixels = np.zeros((2, 3, 3), np.float32)
    others = [pixels.transpose(1, 0, 2), pixels.view(np.int32), pixels[:, :, :1], pixels[:0]]
    assert len({digest(array) for array in [pixels, *others]}) == 5
    random = np.random.default_rng(0).random((4, 5, 3))
    assert digest(random[::-1, ::2]) == digest(random[::-1, ::2].copy())


# Fitting a picture to a network


def ramp(height: int, width: int) -> np.ndarray:
    """Red grows with the row and green with the column: 0 and 1 at the picture's outer edges."""
    pixels = np.zeros((height, width, 3), np.float32)
    pixels[:, :, 0] = ((np.arange(height) + 0.5) / height)[:, None]
    pixels[:, :, 1] = (np.arange(width) + 0.5) / width
    return pixels


@pytest.mark.parametrize(
    ("picture", "size", "share", "expected"),
    [
        ((100, 200), (50, 50), 1.0, Frame(0, 50, 100, 100, (50, 50))),
        ((100, 200), (50, 50), 0.5, Frame(25, 75, 50, 50, (50, 50))),
        ((100, 200), (20, 80), 1.0, Frame(25, 0, 50, 200, (20, 80))),
        ((100, 200), (80, 20), 1.0, Frame(0, 87.5, 100, 25, (80, 20))),
        ((100, 37), (20, 20), 1.0, Frame(31.5, 0, 37, 37, (20, 20))),
        ((8, 8), (28, 28), 1.0, Frame(0, 0, 8, 8, (28, 28))),
        ((256, 300), (224, 224), 0.875, Frame(16, 38, 224, 224, (224, 224))),
    ],
)
def test_the_frame_is_the_largest_centred_rectangle_of_that_aspect(picture, size, share, expected):
    pixels, frame = fit(ramp(*picture), size, crop=share)
    assert frame == expected
    assert pixels.shape == (*size, 3)
    assert is_pixels(pixels)
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize(
    ("size", "share", "slack"),  # in the picture's pixels: between whole factors, sampled triangles are not quite even
    [
        ((20, 30), 0.7, 0.1),
        ((70, 40), 0.7, 0.1),
        ((200, 300), 0.7, 1e-4),
        ((12, 9), 0.9, 1e-4),
        ((20, 15), 0.5, 1e-4),
    ],
)
def test_a_ramp_stays_a_ramp_and_the_frame_says_where_each_pixel_lies(size, share, slack):
    height, width = 120, 90
    pixels, frame = fit(ramp(height, width), size, crop=share)
    row, col = np.mgrid[: size[0], : size[1]] + 0.5
    rows, cols = frame.to_picture(row, col)
    assert np.abs(pixels[:, :, 0] * height - rows).max() < slack
    assert np.abs(pixels[:, :, 1] * width - cols).max() < slack
    assert (pixels[:, :, 2] == 0).all()


@pytest.mark.parametrize("place", [(60, 100), (33, 140), (110, 71)])
def test_a_dot_lands_where_the_frame_says(place):
    picture = np.zeros((150, 201, 3), np.float32)
    picture[place[0] : place[0] + 4, place[1] : place[1] + 2, 1] = 1
    pixels, frame = fit(picture, (50, 64), crop=0.9)
    green = pixels[:, :, 1] / pixels[:, :, 1].sum()
    row, col = np.mgrid[:50, :64] + 0.5
    centroid = float((green * row).sum()), float((green * col).sum())
    assert frame.to_picture(*centroid) == pytest.approx((place[0] + 2, place[1] + 1), abs=0.2)
    assert frame.to_net(place[0] + 2, place[1] + 1) == pytest.approx(centroid, abs=0.1)


def test_a_frame_by_hand():
    frame = Frame(top=10, left=20, height=50, width=200, shape=(5, 10))
    assert frame.to_picture(0, 0) == (10, 20)
    assert frame.to_picture(5, 10) == (60, 220)
    assert frame.to_picture(1, 1) == (20, 40)
    assert frame.to_net(20, 40) == (1, 1)
    assert frame.box_to_picture(1, 2, 3, 5) == (20, 60, 40, 120)
    assert frame.to_net(*frame.to_picture(-3.25, 17.5)) == pytest.approx((-3.25, 17.5))


@pytest.mark.parametrize("size", [(20, 20), (31, 47), (90, 13), (150, 170), (1, 1)], ids=str)
@pytest.mark.parametrize("share", [1.0, 0.875, 0.31])
def test_pillow_resamples_to_the_same(size, share):
    picture = np.random.default_rng(3).random((83, 118, 3), np.float32)
    pixels, frame = fit(picture, size, crop=share)
    box = (frame.left, frame.top, frame.left + frame.width, frame.top + frame.height)
    for channel in range(3):
        plane = Image.fromarray(picture[:, :, channel])
        oracle = np.asarray(plane.resize(size[::-1], Image.Resampling.BILINEAR, box=box))
        assert np.allclose(pixels[:, :, channel], oracle, atol=1e-5)


def test_its_own_size_changes_nothing():
    picture = np.random.default_rng(0).random((13, 29, 3), np.float32)
    pixels, frame = fit(picture, (13, 29))
    assert np.array_equal(pixels, picture)
    assert frame == Frame(0, 0, 13, 29, (13, 29))


@pytest.mark.parametrize("share", [1.0, 0.3, 1e-3])
def test_every_small_size_keeps_a_constant_and_stays_inside(share):
    sides = (1, 2, 3, 7, 10)
    for height in sides:
        for width in sides:
            picture = np.full((height, width, 3), 0.7, np.float32)
            for size in [(rows, cols) for rows in sides for cols in sides]:
                pixels, frame = fit(picture, size, crop=share)
                assert np.allclose(pixels, 0.7, atol=1e-6)
                assert 0 <= frame.top <= frame.top + frame.height <= height + 1e-9
                assert 0 <= frame.left <= frame.left + frame.width <= width + 1e-9
                assert frame.height / frame.width == pytest.approx(size[0] / size[1])


def test_rounding_never_leaves_the_picture_or_the_range():
    assert 187 * (3 / 187) > 3
    assert fit(np.ones((3, 3, 3)), (187, 187))[1] == Frame(0, 0, 3, 3, (187, 187))
    for side in range(1, 12):
        for channels in (1, 3):
            assert fit(np.ones((side, side + 3, 3)), (2, 2), channels=channels)[0].max() <= 1


def test_luminance():
    picture = np.zeros((4, 6, 3), np.float32)
    picture[:, :3] = RED
    picture[:, 3:] = (0, 1, 0.5)
    pixels, _ = fit(picture, (4, 6), channels=1)
    assert pixels.shape == (4, 6, 1)
    assert pixels.dtype == np.float32
    assert pixels.flags.c_contiguous
    assert np.allclose(pixels[:, :3], 0.299)
    assert np.allclose(pixels[:, 3:], 0.587 + 0.057)


def test_fitting_leaves_the_picture_alone_and_repeats_itself():
    picture = np.random.default_rng(0).random((40, 61, 3), np.float32)
    before = digest(picture)
    picture.flags.writeable = False
    first, second = fit(picture, (28, 28), crop=0.9)[0], fit(picture, (28, 28), crop=0.9)[0]
    assert digest(first) == digest(second)
    assert digest(picture) == before
    assert first.flags.writeable


def test_fitting_a_view_and_float64():
    picture = np.random.default_rng(0).random((40, 61, 3))
    view = picture[::-1, ::2].transpose(1, 0, 2)
    pixels = fit(view, (10, 20))[0]
    assert pixels.dtype == np.float32
    assert np.allclose(pixels, fit(view.astype(np.float32).copy(), (10, 20))[0], atol=1e-6)


def test_a_very_long_picture_costs_no_more_than_the_part_that_is_kept():
    picture = np.zeros((1, 100_000, 3), np.float32)
    picture[0, 50_000:] = 1
    tracemalloc.start()
    pixels = fit(picture, (64, 64))[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert pixels[0, 0, 0] < 0.1
    assert pixels[0, -1, 0] > 0.9


@pytest.mark.parametrize(
    ("picture", "size", "options"),
    [
        (np.zeros((4, 4, 3), np.uint8), (2, 2), {}),
        (np.zeros((4, 4)), (2, 2), {}),
        (np.zeros((3, 4, 4)), (2, 2), {}),
        (np.zeros((0, 4, 3)), (2, 2), {}),
        (np.zeros((4, 4, 3)), (0, 2), {}),
        (np.zeros((4, 4, 3)), (2, -1), {}),
        (np.zeros((4, 4, 3)), (2, 2), {"crop": 0}),
        (np.zeros((4, 4, 3)), (2, 2), {"crop": 1.01}),
        (np.zeros((4, 4, 3)), (2, 2), {"crop": float("nan")}),
        (np.zeros((4, 4, 3)), (2, 2), {"channels": 2}),
    ],
)
def test_what_cannot_be_fitted(picture, size, options):
    with pytest.raises(ValueError, match="picture"):
        fit(picture, size, **options)


def test_batch():
    pictures = np.random.default_rng(0).random((4, 5, 7, 3))
    together = batch(*pictures)
    assert together.shape == (4, 3, 5, 7)
    assert together.dtype == np.float32
    assert together.flags.c_contiguous
    assert together[2, 1, 4, 6] == np.float32(pictures[2, 4, 6, 1])
    assert batch(pictures[0][:, :, :1]).shape == (1, 1, 5, 7)


def test_what_makes_no_batch():
    picture = np.zeros((5, 7, 3), np.float32)
    for wrong in [(), (picture, picture[:4]), (picture.astype(np.uint8),), (picture[:, :, 0],), (picture[None],)]:
        with pytest.raises(ValueError):  # noqa: PT011  (numpy words the first two)
            batch(*wrong)


@pytest.mark.parametrize(
    ("box", "rows", "cols"),
    [
        ((1, 2, 3, 5), range(1, 3), range(2, 5)),
        ((0, 0, 4, 6), range(4), range(6)),
        ((0.5, 1.9, 1.5, 2.1), range(2), range(1, 3)),
        ((-9, -9, 2, 3), range(2), range(3)),
        ((2, 4, 99, float("inf")), range(2, 4), range(4, 6)),
        ((2 - 1e-9, 3 - 1e-9, 3 + 1e-9, 4 + 1e-9), range(2, 3), range(3, 4)),
        ((2, 3, 2, 3), range(2, 3), range(3, 4)),
        ((2.2, 3.4, 2.3, 3.5), range(2, 3), range(3, 4)),
        ((50, 60, 70, 80), range(3, 4), range(5, 6)),
        ((-8, -7, -6, -5), range(1), range(1)),
        ((3, 5, 1, 2), range(3, 4), range(5, 6)),
    ],
)
def test_crop(box, rows, cols):
    picture = np.random.default_rng(0).random((4, 6, 3), np.float32)
    part = crop(picture, *box)
    assert np.array_equal(part, picture[rows.start : rows.stop, cols.start : cols.stop])
    assert not np.shares_memory(part, picture)


def test_a_crop_of_what_the_network_saw():
    picture = ramp(90, 120)
    pixels, frame = fit(picture, (30, 30))
    part = crop(picture, *frame.box_to_picture(10, 20, 12, 25))
    assert part.shape == (6, 15, 3)
    assert part[:, :, 0].mean() == pytest.approx(pixels[10:12, 20:25, 0].mean(), abs=1e-5)
    assert part[:, :, 1].mean() == pytest.approx(pixels[10:12, 20:25, 1].mean(), abs=1e-5)


def test_a_recipe_travels_inside_the_png():
    recipe = {"method": "maximize", "seed": 3, "target": "class “Kürbis”"}
    data = image.to_png(np.full((4, 5, 3), 0.25), recipe)
    assert json.loads(Image.open(io.BytesIO(data)).info["recipe"]) == recipe
    np.testing.assert_array_equal(image.load(data), image.load(image.to_png(np.full((4, 5, 3), 0.25))))


@pytest.mark.parametrize("shape", [(1, 5, 3), (5, 1, 3), (4, 4, 3)])
def test_a_picture_that_needs_no_scaling_is_copied(shape):
    given = np.full(shape, 1.5, np.float32)
    pixels, _ = image.fit(given, shape[:2])
    assert (pixels == 1).all()
    assert (given == 1.5).all(), "clipped where it lay"

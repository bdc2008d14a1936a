"""What does a video look like, painted picture by picture? Also a video that pans over one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from engine import image as pictures
from engine.half import check_precision
from engine.paint.fast_style import StyleNet, stylise, weights
from engine.step import Step

MOST_RATE = 30  # frames a second of a painted video


class NotAVideo(ValueError):
    """The file holds no video that can be decoded; the message is one sentence for who brought it."""


# Videos ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reel:
    """Where the painting of a video stands. frame, painted: (H, W, 3), the last frame before and after.

    frames: how many are painted. rate: of the result, a second. file: the MP4, whole once the run has ended, early or
    not.
    """

    frame: np.ndarray
    painted: np.ndarray
    frames: int
    rate: float
    file: BinaryIO | str


def stylise_video(
    style_net: StyleNet,
    video: str | Path | bytes,
    *,
    mix: Sequence[float] | None = None,
    out: str | Path | BinaryIO | None = None,
    side: int = 320,
    seconds: float = 10.0,
    precision: str = "float32",
) -> Iterator[Step]:
    """Paint a video frame by frame into an MP4 (H.264, no sound); yields Step with a Reel after each.

    video: a file, or its content. out: where to; a buffer in memory by default. side: the longer side of the frames
    that are painted, in pixels; larger ones are scaled down. seconds: how much of the beginning is painted at most. Of
    more than MOST_RATE frames a second, only each so manieth is painted. precision: as for `stylise`.
    One frame is held at a time. The styles of two frames know nothing of each other, and flicker. Where the file breaks
    off or the run is ended early, the MP4 holds what there was until then.
    Raises NotAVideo, BadMix, BadStyleNet, ValueError.
    """
    check_precision(precision)
    import av  # which loads a dozen libraries

    weights(style_net, mix)  # before a file is opened
    name = "The file" if isinstance(video, bytes) else Path(video).name
    target = io.BytesIO() if out is None else out if hasattr(out, "write") else str(out)
    try:
        source = av.open(io.BytesIO(video) if isinstance(video, bytes) else str(video))
    except FileNotFoundError as error:
        raise NotAVideo(f"There is no file {name}.") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise NotAVideo(f"{name} is no video that can be decoded; save it as MP4 and try again.") from error
    with source:
        if not source.streams.video:
            raise NotAVideo(f"{name} holds no pictures, only other streams; choose a video.")
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        every, rate = _rates(stream.average_rate)
        total = _frames(stream, source.duration, seconds, every, rate)
        with av.open(target, "w", format="mp4") as written:
            made, done = None, 0
            for frame in _kept(source, every, math.ceil(seconds * rate), name):
                seen = _pixels(frame, side)
                if made is None:
                    made = written.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
                    made.pix_fmt, made.height, made.width = "yuv420p", *(n - n % 2 for n in seen.shape[:2])
                painted = stylise(style_net, seen, mix=mix, precision=precision)
                even = np.rint(painted[: made.height, : made.width] * 255).astype(np.uint8)
                if even.shape[:2] != (made.height, made.width):
                    break  # another size within a video: what there is ends here
                written.mux(made.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), "rgb24")))
                done += 1
                try:
                    yield Step(done, max(total, done), Reel(seen, painted, done, float(rate), target))
                except GeneratorExit:
                    written.mux(made.encode())
                    raise
            if made is None:
                raise NotAVideo(f"{name} holds no frame that can be decoded; save it as MP4 and try again.")
            written.mux(made.encode())
    yield Step(done, done, Reel(seen, painted, done, float(rate), target))


def _rates(stated: Fraction | None) -> tuple[int, Fraction]:
    """(of how many frames one is painted, frames a second of the result)."""
    rate = stated if stated and 1 <= stated <= 1000 else Fraction(25)
    every = max(1, math.ceil(rate / MOST_RATE - Fraction(1, 10)))
    return every, (Fraction(rate) / every).limit_denominator(1001)


def _frames(stream, duration: int | None, seconds: float, every: int, rate: Fraction) -> int:
    """How many frames will be painted, as the container has it; at least 1."""
    import av

    length = float(duration / av.time_base) if duration else (stream.frames or 0) / float(rate * every)
    return max(1, round(min(length or seconds, seconds) * rate))


def _kept(source, every: int, most: int, name: str) -> Iterator:
    """Every so manieth frame, at most so many. A file that breaks off ends, unless it never began."""
    import av

    count = 0
    try:
        for index, frame in enumerate(source.decode(video=0)):
            if index % every == 0:
                yield frame
                count += 1
                if count >= most:
                    return
    except (av.FFmpegError, OSError) as error:
        if count == 0:
            raise NotAVideo(f"{name} is no video that can be decoded; save it as MP4 and try again.") from error


def _pixels(frame, side: int) -> np.ndarray:
    """(H, W, 3) in [0, 1], upright, the longer side at most `side`, both even."""
    share = min(1.0, side / max(frame.height, frame.width))
    height, width = (max(2, 2 * round(n * share / 2)) for n in (frame.height, frame.width))
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    turns = round(getattr(frame, "rotation", 0) / 90) % 4  # as telephones note it, counter-clockwise
    return np.ascontiguousarray(np.rot90(pixels, turns), np.float32) / np.float32(255)


def pan(image: np.ndarray, *, frames: int = 24, rate: int = 12) -> bytes:
    """A short video, an MP4, of a picture (H, W, 3): a slow walk across its middle. For who has no video at hand."""
    from engine.pictures.film import encode

    small = pictures.fit(image, (240, 400))[0]
    tops, lefts = (np.linspace(0, room, frames).round().astype(int) for room in (15, 80))
    shown = (np.rint(small * 255)).astype(np.uint8)
    return encode([shown[top : top + 225, left : left + 320] for top, left in zip(tops, lefts, strict=True)], rate)

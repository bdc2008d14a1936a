"""How did a picture come about? Frames of a run, as a GIF or an MP4.

A run may take thousands of steps; the film keeps evenly spaced ones, within a bound on its memory, and always the last.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

MOST_FRAMES, MOST_BYTES = 160, 12 * 2**20
HELD = 1.5  # seconds that the last frame stays


class Film:
    """Collects frames; one thread adds, others may read what is there."""

    def __init__(self) -> None:
        self.every, self.count = 1, 0  # each so manieth picture is kept; pictures added so far
        self.kept: tuple[bytes, ...] = ()  # JPEG
        self.last: np.ndarray | None = None  # (H, W, 3) uint8, as it was

    def add(self, picture: np.ndarray) -> None:
        """One more picture (H, W, 1 or 3) in [0, 1]; where sizes change, the film has that of the last."""
        self.last = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
        if self.last.shape[2] == 1:
            self.last = self.last.repeat(3, 2)
        if self.count % self.every == 0:
            file = io.BytesIO()
            Image.fromarray(self.last).save(file, "JPEG", quality=92)
            self.kept = (*self.kept, file.getvalue())
            if len(self.kept) > 2 and (len(self.kept) > MOST_FRAMES or sum(map(len, self.kept)) > MOST_BYTES):
                self.kept, self.every = self.kept[::2], self.every * 2
        self.count += 1

    def frames(self) -> list[np.ndarray]:
        """(H, W, 3) uint8 each, all of the last one's size; the last is the picture itself."""
        if self.last is None:
            raise ValueError("The film has no frames yet.")
        size = self.last.shape[1::-1]
        early = self.kept[:-1] if (self.count - 1) % self.every == 0 else self.kept
        found = [Image.open(io.BytesIO(frame)) for frame in early]
        scaled = [frame if frame.size == size else frame.resize(size, Image.Resampling.BICUBIC) for frame in found]
        return [*(np.asarray(frame) for frame in scaled), self.last]

    def gif(self, rate: float = 12) -> bytes:
        """The film as a GIF of `rate` frames a second, endless, at most 480 pixels a side."""
        frames = [Image.fromarray(frame) for frame in self.frames()]
        for frame in frames:
            frame.thumbnail((480, 480))
        wait = round(1000 / rate)
        times = [*[wait] * (len(frames) - 1), round(1000 * HELD)]
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
        return file.getvalue()

    def mp4(self, rate: int = 24) -> bytes:
        """The film as H.264 in an MP4 of `rate` frames a second; an odd last row or column is repeated."""
        frames = self.frames()
        return encode([*frames, *[frames[-1]] * round(HELD * rate)], rate)


def encode(frames: list[np.ndarray], rate: int) -> bytes:
    """An MP4 of (H, W, 3) uint8 frames of one size."""
    import av  # which loads a dozen libraries

    height, width = frames[0].shape[:2]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        for frame in frames:
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(even, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()

"""Films: is the last frame the picture, are the others spread evenly, and is the memory bounded?"""

from __future__ import annotations

import io

import av
import numpy as np
import pytest
from PIL import Image

from engine.pictures import film
from engine.pictures.film import Film


def shot(count: int, size: tuple[int, int] = (21, 34)) -> Film:
    made = Film()
    for index in range(count):
        made.add(np.full((*size, 3), index / max(count - 1, 1), np.float32))
    return made


@pytest.mark.parametrize("count", [1, 2, 50, 160, 161, 700])
def test_the_last_frame_is_the_picture_and_the_others_are_in_even_steps(count):
    frames = shot(count).frames()
    assert len(frames) <= film.MOST_FRAMES + 1
    assert len(frames) >= min(count, film.MOST_FRAMES // 2)
    assert (frames[-1] == (255 if count > 1 else 0)).all()
    means = np.array([frame.mean() for frame in frames])
    assert (np.diff(means) > -1.5).all()
    if count > 2:
        assert np.diff(means)[:-1].max() <= 255 / (count - 1) * shot(count).every + 2


def test_large_frames_are_bounded_by_their_bytes(monkeypatch):
    monkeypatch.setattr(film, "MOST_BYTES", 40_000)
    made, random = Film(), np.random.default_rng(0)
    for _ in range(60):
        made.add(random.random((40, 40, 3)).astype(np.float32))
        assert sum(map(len, made.kept)) <= 40_000 + 5_000
    assert len(made.frames()) >= 5


def test_the_gif_plays_endlessly_and_ends_with_the_picture():
    made = Image.open(io.BytesIO(shot(9).gif()))
    assert made.n_frames == 9
    assert made.info["loop"] == 0
    made.seek(8)
    assert np.asarray(made.convert("RGB")).min() == 255


def test_the_mp4_can_be_read_back_on_sides_odd_and_even():
    with av.open(io.BytesIO(shot(9).mp4(rate=10))) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 9 + 15, "the last one is held"
    assert frames[0].shape == (22, 34, 3)
    assert frames[0].mean() < 4
    assert frames[-1].mean() > 250


def test_frames_of_several_sizes_come_in_the_last_ones():
    made = Film()
    made.add(np.zeros((10, 12, 3)))
    made.add(np.ones((20, 24, 1)))
    assert [frame.shape for frame in made.frames()] == [(20, 24, 3)] * 2


def test_a_film_without_frames_says_so():
    with pytest.raises(ValueError, match="no frames"):
        Film().gif()

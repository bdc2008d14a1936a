"""Does it change no more pixels than asked, find the best one where that can be seen, and never ask for a gradient?"""

from __future__ import annotations

import nets
import numpy as np
import pytest

from engine.adversarial import eight_bit
from engine.net import Net, softmax
from engine.one_pixel import one_pixel, one_pixel_steps, painted


@pytest.fixture(scope="module")
def watched(tmp_path_factory) -> Net:
    """Class 1 is ahead by how bright one pixel's green is, at (7, 3), and nothing else counts."""
    weight = np.zeros((2, 3, *nets.SIZE))
    weight[1, 1, 7, 3] = 1.0
    about = nets.Metadata(labels=("a", "b"), input_size=nets.SIZE, mean=(0.0,) * 3, std=(1.0,) * 3)
    return nets.save(
        nets.linear(weight, np.array([0.7, 0.0]), about=about), tmp_path_factory.mktemp("nets") / "one.onnx"
    )


def test_the_pixel_that_counts_is_found(watched):
    dark = np.zeros((*nets.SIZE, 3), np.float32)
    found = one_pixel(watched, dark, 1, aim="toward", population=300, steps=60)
    assert found.fooled
    assert found.places.tolist() == [[7, 3]]
    assert found.colours[0, 1] > 0.7


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("aim", ["away", "toward"])
def test_no_more_pixels_change_than_asked(tiny, picture, count, aim):
    for step in one_pixel_steps(tiny, picture, 2, count=count, population=20, steps=5, aim=aim):
        found = step.result
        changed = (found.pixels != eight_bit(picture)).any(2)
        assert changed.sum() <= count
        again = painted(eight_bit(picture), found.places[None], found.colours[None])[0]
        np.testing.assert_array_equal(again, found.pixels)
        np.testing.assert_array_equal(found.pixels, eight_bit(found.pixels))
        said = softmax(tiny.scores(tiny.batch(found.pixels)))[0, 2]
        assert found.probability == pytest.approx(float(said), rel=1e-4)


def test_generations_never_get_worse(tiny, picture):
    path = one_pixel(tiny, picture, 0, population=30, steps=12).path
    assert (np.diff(path) <= 1e-7).all()


def test_a_black_box_never_touches_the_twin(tiny, picture, monkeypatch):
    def touched(self):
        raise AssertionError("the twin was asked for")

    monkeypatch.setattr(Net, "twin", property(touched))
    one_pixel(tiny, picture, 1, population=10, steps=2)


def test_what_cannot_be_asked_is_said(tiny, picture):
    for knobs in ({"count": 0}, {"count": 12 * 16 + 1}, {"population": 3}, {"aim": "up"}):
        with pytest.raises(ValueError, match=r"\.$"):
            one_pixel(tiny, picture, 1, **knobs)

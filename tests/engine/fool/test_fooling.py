"""Is the picture taken for the class, is what is told of it true, and does it end when it should?"""

from __future__ import annotations

import numpy as np
import pytest

from engine import image as pictures
from engine.fool.adversarial import eight_bit
from engine.fool.fooling import fooling, fooling_steps
from engine.net import Net, softmax
from engine.pictures import samples


def test_each_row_of_the_path_is_the_saved_pictures(tiny, picture):
    steps = list(fooling_steps(tiny, picture, 3, steps=6, rate=0.3))
    for step in steps:
        found = step.result
        back = pictures.load(pictures.to_png(found.pixels))
        np.testing.assert_allclose(found.path[-1], softmax(tiny.scores(tiny.batch(back)))[0], rtol=1e-5)
        change = back.astype(float) - eight_bit(picture)
        assert found.farthest == pytest.approx(np.abs(change).max())
        assert found.length == pytest.approx(np.sqrt((change**2).sum()))
    assert len(found.path) == 7
    assert found.path[-1, 3] > found.path[0, 3]


def test_it_ends_when_the_network_is_sure(tiny, picture):
    sure = float(softmax(tiny.scores(tiny.batch(picture)))[0, 3]) + 0.02
    steps = list(fooling_steps(tiny, picture, 3, steps=200, rate=0.3, sure=sure))
    assert len(steps) < 200
    assert (steps[-1].index, steps[-1].total) == (200, 200)
    path = steps[-1].result.path[:, 3]
    assert path[-1] >= sure > path[:-1].max()


def test_a_run_that_was_broken_ends_as_if_it_never_had(tiny, picture):
    whole = fooling(tiny, picture, 1, steps=6, sure=1.1)
    for step in fooling_steps(tiny, picture, 1, steps=6, sure=1.1):
        if step.index == 2:
            break
    *_, end = fooling_steps(tiny, picture, 1, steps=6, sure=1.1, resume=step.result)
    np.testing.assert_array_equal(end.result.pixels, whole.pixels)
    np.testing.assert_array_equal(end.result.path, whole.path)


def test_a_temple_becomes_a_golf_ball():
    net = Net("exported_models/imagenette.onnx")
    view = net.view(samples.load("china"))[0]
    found = fooling(net, view, net.class_index("golf ball"), sure=0.9)
    assert found.path[-1].argmax() == net.class_index("golf ball")
    assert found.path[-1].max() >= 0.9
    assert found.farthest < 0.2

"""Are pictures of a set drawn without repetition, with the classes that they are to the network?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine import image as pictures
from engine.data import sets
from engine.data.dataset import BadDataset, Dataset
from engine.data.examples import examples
from engine.image import NotAPicture
from engine.net import Net


@pytest.fixture(scope="module")
def digits() -> Net:
    return Net("exported_models/digits.onnx")


def three(net: Net, names=("no class of it", "1"), labels=(0, 1, 1), broken=()) -> Dataset:
    """Three pictures, the first of which the tiny net has no class for."""
    grey = [np.full((*net.input_size, 3), 0.2 * k, np.float32) for k in (1, 2, 3)]

    def read(index: int) -> bytes:
        if index in broken:
            raise NotAPicture("This is no picture.")
        return pictures.to_png(grey[index])

    return Dataset("three", names, "", np.array(labels), read, str)


def test_they_are_drawn_by_lot_and_none_twice(digits):
    data = sets.find("digits")
    found, again, other = (examples(data, digits, 50, seed=seed) for seed in (0, 0, 1))
    assert found.by == "name"
    assert len(set(found.rows)) == 50 == len(found)
    np.testing.assert_array_equal(found.rows, again.rows)
    assert set(found.rows) != set(other.rows)
    np.testing.assert_array_equal(found.classes, data.labels[found.rows])
    expected = digits.view(pictures.load(data.encoded(int(found.rows[3]))))[0]
    np.testing.assert_array_equal(found.pixels[3], expected)


def test_of_labels_that_the_network_has_not_got_none_is_drawn(tiny):
    found = examples(three(tiny, names=("no class of it", tiny.labels[2])), tiny, 9)
    assert set(found.rows) == {1, 2}
    assert set(found.classes) == {2}


def test_as_many_labels_as_classes_go_by_their_place(tiny):
    names = tuple(f"kind {k}" for k in range(tiny.classes))
    found = examples(three(tiny, names=names, labels=(0, 1, 1)), tiny, 9)
    assert found.by == "place"
    assert dict(zip(found.rows.tolist(), found.classes.tolist(), strict=True)) == {0: 0, 1: 1, 2: 1}


def test_without_labels_they_are_what_the_network_says(tiny):
    found = examples(replace(three(tiny), names=(), labels=np.full(3, -1)), tiny, 9)
    assert found.by == "prediction"
    np.testing.assert_array_equal(found.classes, tiny.scores(tiny.batch(*found.pixels)).argmax(1))


def test_what_cannot_be_read_is_passed_over(tiny):
    unlabelled = replace(three(tiny, broken=(1,)), names=(), labels=np.full(3, -1))
    assert set(examples(unlabelled, tiny, 9).rows) == {0, 2}
    with pytest.raises(BadDataset, match="None of the pictures of three could be read"):
        examples(replace(three(tiny, broken=(0, 1, 2)), labels=np.full(3, -1)), tiny, 9)

"""Is the curve the accuracy under attack, with its interval, and does it never rise?"""

from __future__ import annotations

import numpy as np
import pytest
from test_adversarial import digits, some  # noqa: F401

from engine.adversarial import attack
from engine.robustness import curve, robustness, robustness_steps
from engine.step import last

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_curve_is_the_accuracy_under_attack(digits, some):  # noqa: F811
    images, labels = some
    table = robustness(digits, images, labels, epsilons=[0, 0.1, 0.3], steps=5)
    assert table["accuracy"][0] == (digits.scores(digits.batch(*images)).argmax(1) == labels).mean()
    pixels = last(attack(digits, images, labels, epsilon=0.1, steps=5, seed=0)).pixels
    assert table["accuracy"][1] == (digits.scores(digits.batch(*pixels)).argmax(1) == labels).mean()
    assert (np.diff(table["accuracy"]) <= 0).all()
    assert table["accuracy"][2] < 0.5
    assert (table["count"] == 20).all()


def test_on_the_way_only_pictures_count_that_have_been_attacked(digits, some, monkeypatch):  # noqa: F811
    monkeypatch.setattr("engine.robustness.BATCH", 8)
    steps = list(robustness_steps(digits, *some, epsilons=[0, 0.3], method="FGSM"))
    assert [step.index for step in steps] == list(range(1, 7))
    assert [int(step.result["count"].iloc[0]) for step in steps] == [8, 8, 8, 16, 16, 20]
    assert [len(step.result) for step in steps] == [1, 2, 2, 2, 2, 2]


def test_each_row_has_its_interval():
    """Of 8 of 10, by Wilson's formula worked out by hand: 0.490 to 0.943; of none, from 0 on."""
    table = curve([0.0, 0.1], np.array([[True] * 8 + [False] * 2, [False] * 10]), 10)
    assert table["low"].round(3).tolist() == [0.490, 0.0]
    assert table["high"].round(3).tolist() == [0.943, 0.278]


def test_what_has_no_curve_is_said(digits, some):  # noqa: F811
    with pytest.raises(ValueError, match="has no curve"):
        robustness(digits, *some, method="DeepFool")
    with pytest.raises(ValueError, match="20 pictures and 3 labels"):
        robustness(digits, some[0], some[1][:3])

"""Maximization: does the number rise, does the file still say so, and do the rules do what they say?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as small
import torch

from engine import image
from engine.imagine import maximize
from engine.imagine.maximize import (
    PRESETS,
    RECIPES,
    maximize_channels,
    maximize_channels_steps,
    maximize_steps,
    recipe,
    seen,
)
from engine.net import Net, UnknownClass, softmax
from engine.nets import available
from engine.pictures import samples
from engine.step import last
from engine.target import class_margin, direction, measure, unit


@pytest.fixture(scope="module")
def imagenette() -> Net:
    return Net(available.find("imagenette"))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_saved_picture_is_of_the_class(imagenette, preset):
    """Of which the page makes its claim: read back from 8 bits, by ONNX Runtime."""
    start, _ = imagenette.view(samples.load("coffee"))
    made = maximize.maximize(imagenette, start, 8, preset=preset, steps=24).picture
    back = image.load(image.to_png(made))
    assert softmax(imagenette.scores(imagenette.batch(back)))[0, 8] >= 0.9


@pytest.mark.parametrize("number", maximize.NUMBERS)
@pytest.mark.parametrize("start", maximize.STARTS)
def test_the_number_rises_from_every_start(tiny, picture, start, number):
    climb = maximize.maximize(tiny, picture, 2, start=start, number=number, steps=20, jitter=0, scale=0, rotate=0)
    assert climb.scores[-1, 0] > climb.scores[0, 0]
    if start == "picture":
        first = maximize.maximize(tiny, picture, 2, start=start, steps=1, rate=0).picture
        np.testing.assert_allclose(first, picture.clip(0.004, 0.996), atol=2e-3)
    if number == "probability":
        assert (climb.scores <= 1).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_equal_seeds_give_equal_pictures_and_others_others(tiny, picture, preset):
    runs = [maximize.maximize(tiny, picture, 1, preset=preset, steps=5, seed=seed).pixels for seed in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_a_broken_run_goes_on(tiny, picture):
    whole = maximize.maximize(tiny, picture, 1, steps=6)
    step = next(each for each in maximize_steps(tiny, picture, 1, steps=6) if each.index == 2)
    np.testing.assert_array_equal(
        last(maximize_steps(tiny, picture, 1, steps=6, resume=step.result)).pixels, whole.pixels
    )


@pytest.mark.parametrize(
    "asked",
    [
        lambda net: unit(net, "relu1", 3),
        lambda net: unit(net, "conv2", 2, 1, 3),
        lambda net: class_margin(net, 0, 3),
        lambda net: direction(net, "conv2", {0: 1.0, 4: -0.5}),
    ],
    ids=["channel", "neuron", "margin", "direction"],
)
def test_channels_neurons_margins_and_directions(tiny, picture, asked):
    target = asked(tiny)
    climb = maximize.maximize(tiny, picture, target, steps=20, jitter=1, scale=0, rotate=0)
    reached = measure(tiny, tiny.batch(climb.picture), target)[0]
    assert reached > climb.scores[0, 0]


def test_a_neuron_that_is_off_everywhere_is_switched_on():
    """Behind a ReLU that is closed on the whole picture there is no gradient: the climb begins through its leak."""
    weights = small.tiny_weights()
    weights["b1"] = weights["b1"] - 1.0
    model = small.model(small.tiny_nodes(), weights, opset=17, about=small.ABOUT)
    net = Net("dead.onnx", content=model.SerializeToString())
    target = unit(net, "relu1", 0)
    image_ = np.broadcast_to(np.array(small.MEAN, np.float32), (*small.SIZE, 3)).copy()
    assert measure(net, net.batch(image_), target)[0] == 0
    made = maximize.maximize(net, image_, target, steps=60, rate=0.2, jitter=1, scale=0, rotate=0).picture
    assert measure(net, net.batch(made), target)[0] > 0


def test_the_rules_hold_the_picture(tiny, picture):
    free = maximize.maximize(tiny, picture, 2, preset="Simonyan", steps=30, decay=0.0).picture
    mean = np.array(small.MEAN, np.float32)
    held = maximize.maximize(tiny, picture, 2, preset="Simonyan", steps=30, decay=0.05).picture
    assert abs(held - mean).mean() < abs(free - mean).mean()
    smooth = maximize.maximize(tiny, picture, 2, preset="Simonyan", steps=30, blur=1.0, blur_every=1).picture
    rough = lambda pixels: (np.diff(pixels, axis=0) ** 2).mean()  # noqa: E731
    assert rough(smooth) < rough(free) / 2
    sparse = maximize.maximize(tiny, picture, 2, preset="Simonyan", steps=30, decay=0.0, small_norm=0.6).picture
    assert (abs(sparse - mean).max(2) < 1e-6).mean() >= 0.55
    calm = maximize.maximize(tiny, picture, 2, preset="Simonyan", steps=30, variation=1e4).picture
    assert rough(calm) < rough(free)


def test_a_recipe_is_a_preset_with_changes():
    assert recipe("Yosinski") == RECIPES["Yosinski"]
    assert recipe("Yosinski", blur=2.0, rate=None).blur == 2.0
    assert recipe("Yosinski", blur=2.0, rate=None).rate == RECIPES["Yosinski"].rate


@pytest.mark.parametrize(
    ("knobs", "error", "said"),
    [
        ({"preset": "Dali"}, ValueError, "Dali"),
        ({"start": "here"}, ValueError, "here"),
        ({"number": "luck"}, ValueError, "luck"),
        ({"canvas": "linen"}, ValueError, "linen"),
        ({"target": 17}, UnknownClass, "17"),
    ],
)
def test_bad_input_is_named_in_one_sentence(tiny, picture, knobs, error, said):
    with pytest.raises(error, match=rf"^[A-Zt].*{said}.*\.$"):
        maximize.maximize(tiny, picture, **{"target": 1, "steps": 2, **knobs})


# A layer at once ------------------------------------------------------------------------------------------------------


def test_each_picture_of_a_layer_is_its_own_channels(tiny, monkeypatch):
    """The more so the more steps: each raises its own channel above what the picture of another one does."""
    monkeypatch.setattr(maximize, "GRID", 4)
    made = maximize_channels(tiny, "conv2", count=6, steps=30)
    assert made.shape == (6, *seen(tiny, "conv2"), 3)
    values = tiny.twin(torch.from_numpy(tiny_batch(made)), ["conv2"])["conv2"].mean((2, 3)).numpy()
    assert (values.argmax(0) == np.arange(6)).sum() >= 5


def tiny_batch(made: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(made.transpose(0, 3, 1, 2))


def test_the_grid_comes_little_by_little(tiny, monkeypatch):
    monkeypatch.setattr(maximize, "GRID", 2)
    counts = [len(step.result) for step in maximize_channels_steps(tiny, "relu1", first=1, count=9, steps=2)]
    assert counts == [2, 2, 4, 4], "there are five channels"


def test_pictures_are_no_larger_than_the_layer_can_see(imagenette):
    first, late = imagenette.layers[0].name, imagenette.last_map
    assert max(seen(imagenette, first)) < 40
    assert seen(imagenette, late) == imagenette.input_size
    with pytest.raises(ValueError, match="channels 0 to 31"):
        maximize_channels(imagenette, first, first=64)

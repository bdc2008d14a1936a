"""Does an attack stay in its ball after saving, do what its paper says where that can be worked out, and fool?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets

from engine import image as pictures
from engine.fool.adversarial import (
    AIMS,
    METHODS,
    NORMS,
    adversarial,
    adversarial_steps,
    as_saved,
    attack,
    distances,
    eight_bit,
    log_probability,
    margin,
)
from engine.net import Net, UnknownClass, softmax
from engine.step import last


@pytest.fixture(scope="module")
def digits() -> Net:
    return Net("exported_models/digits.onnx")


@pytest.fixture(scope="module")
def some(digits) -> tuple[np.ndarray, np.ndarray]:
    """(20, 32, 32, 1) digits that the network has right, and their classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    small = np.repeat(found.images[:20, ..., None] / 16, 3, -1).astype(np.float32)
    return np.stack([digits.view(each)[0] for each in small]), found.target[:20]


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> tuple[Net, np.ndarray]:
    """Three classes, each a plane: logits = W · (x - mean) / std + b; and the planes' (3, H, W, C) by pixel value."""
    rng = np.random.default_rng(5)
    weight = rng.normal(0, 0.05, (3, 3, *nets.SIZE))
    net = nets.save(
        nets.linear(weight, rng.normal(0, 0.1, 3), about=nets.ABOUT), tmp_path_factory.mktemp("nets") / "straight.onnx"
    )
    return net, (weight / np.array(nets.STD).reshape(1, 3, 1, 1)).transpose(0, 2, 3, 1)


def middle() -> np.ndarray:
    """A picture far from black and white, so that no step meets the range's end."""
    return eight_bit(0.3 + 0.4 * nets.picture())


# In the ball ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("method", ["PGD", "FGSM"])
@pytest.mark.parametrize("aim", AIMS)
def test_the_saved_picture_is_in_the_ball(tiny, picture, norm, method, aim):
    epsilon = 6.4 / 255 if norm == "L∞" else 0.6
    found = adversarial(tiny, picture, 2, aim=aim, method=method, norm=norm, epsilon=epsilon, steps=7).picture
    back = pictures.load(pictures.to_png(found))
    np.testing.assert_array_equal(back, found)  # what is handed out is what a PNG holds
    far, length = (float(each[0]) for each in distances(back[None], eight_bit(picture)[None]))
    assert (far if norm == "L∞" else length) <= epsilon + 1e-7
    assert far > 0


def test_rounding_never_leaves_the_ball():
    rng = np.random.default_rng(0)
    original = eight_bit(rng.random((40, 5, 7, 3)))
    wild = original + rng.normal(0, 0.1, original.shape)
    for epsilon in (0.0, 0.002, 0.03, 0.5):
        for norm, place in (("L∞", 0), ("L2", 1)):
            saved = as_saved(wild, original, epsilon, norm)
            np.testing.assert_allclose(saved * 255, np.rint(saved * 255), atol=1e-3)
            assert (distances(saved, original)[place] <= epsilon + 1e-7).all()
            assert (saved >= 0).all()
            assert (saved <= 1).all()


def test_rounding_keeps_the_length_of_a_long_row_of_small_numbers():
    """Each of them is less than a step of 8 bits, and would be rounded to nothing, or to twice what it was."""
    rng = np.random.default_rng(0)
    original = eight_bit(0.2 + 0.6 * rng.random((3, 40, 50, 3)))
    change = rng.laplace(size=original.shape)
    change /= np.sqrt((change**2).sum((1, 2, 3), keepdims=True))
    for length in (0.05, 0.1, 0.2, 0.4, 2.0):
        for epsilon in (length, length / 2, 2 * length):
            saved = as_saved(original + length * change, original, epsilon, "L2")
            found = distances(saved, original)[1]
            assert (found <= epsilon + 1e-6).all()
            np.testing.assert_allclose(found, min(length, epsilon), rtol=0.05)
            along = ((saved - original) * change).sum((1, 2, 3)) / found
            assert (along > 0.3).all(), "and it goes the same way"
    whole = eight_bit(original + 0.1 * rng.normal(size=original.shape))
    np.testing.assert_array_equal(as_saved(whole, original, 1e3, "L2"), whole)


# What can be worked out -----------------------------------------------------------------------------------------------


def test_fgsm_is_the_sign_of_the_gradient(straight):
    """Away from class 1, of planes: the loss's gradient is Σ p_j w_j - w_1."""
    net, planes = straight
    x = middle()
    p = softmax(net.scores(net.batch(x)))[0].astype(float)
    gradient = np.einsum("k,khwc->hwc", p, planes) - planes[1]
    found = adversarial(net, x, 1, method="FGSM", epsilon=8 / 255).picture
    clear = np.abs(gradient) > 1e-4 * np.abs(gradient).max()
    np.testing.assert_allclose((found - x)[clear], 8 / 255 * np.sign(gradient)[clear], atol=1e-6)


def test_pgd_reaches_the_corner_that_is_the_optimum_for_two_planes(tmp_path):
    """With two classes the gradient's direction never changes, so the end is ε times its sign."""
    rng = np.random.default_rng(1)
    weight = rng.normal(0, 0.05, (2, 3, *nets.SIZE))
    about = nets.Metadata(labels=("a", "b"), input_size=nets.SIZE, mean=nets.MEAN, std=nets.STD)
    net = nets.save(nets.linear(weight, np.zeros(2), about=about), tmp_path / "two.onnx")
    x = middle()
    found = adversarial(net, x, 0, aim="toward", epsilon=6 / 255, steps=20).picture
    way = np.sign((weight[0] - weight[1]).transpose(1, 2, 0))
    np.testing.assert_allclose(found - x, 6 / 255 * way, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_deepfool_finds_the_nearest_plane(straight, norm):
    """Between planes the distance is |margin| / ‖w‖, of the dual norm (algorithm 2, and section 2.3 for L∞)."""
    net, planes = straight
    x = middle()
    scores = net.scores(net.batch(x))[0].astype(float)
    k = int(scores.argmax())
    order = 1 if norm == "L∞" else 2
    nearest = min(
        (scores[k] - scores[j]) / np.linalg.norm((planes[j] - planes[k]).ravel(), order) for j in range(3) if j != k
    )
    climb = adversarial(net, x, k, method="DeepFool", norm=norm, steps=10)
    assert net.scores(net.batch(climb.picture)).argmax() != k
    assert climb.scores[-1] == pytest.approx(
        margin(net, [k], "away").value({net.logits: net.scores(net.batch(climb.picture))})
    )
    assert climb.scores[-1] > 0 > climb.scores[0], "the curve ends beyond the border"
    change = climb.x.numpy()[0].transpose(1, 2, 0) - eight_bit(x)
    length = np.abs(change).max() if norm == "L∞" else np.sqrt((change**2).sum())
    assert nearest <= length <= nearest * 1.15  # what rounding to 8 bits asks for on top


@pytest.mark.parametrize("norm", NORMS)
def test_deepfool_goes_a_fiftieth_beyond_the_border(tmp_path, norm):
    """Two planes of ±1 for each pixel are as near in all pixels: 49.8 steps of 8 bits, and 1.02 times that is 50.8.

    The next whole step is the 51st; with no overshoot it were the 50th, which is beyond the border, too.
    """
    way = np.random.default_rng(2).choice([-1.0, 1.0], (3, *nets.SIZE))
    x = middle()
    bias = (way.transpose(1, 2, 0) * x).sum(dtype=np.float64) - way.size * 49.8 / 255
    about = nets.Metadata(labels=("a", "b"), input_size=nets.SIZE, mean=(0, 0, 0), std=(1, 1, 1))
    planes = nets.linear(np.stack([way, 0 * way]), np.array([0, bias]), about)
    climb = adversarial(nets.save(planes, tmp_path / "two.onnx"), x, 0, method="DeepFool", norm=norm, steps=3)
    np.testing.assert_allclose(climb.picture - x, -51 / 255 * way.transpose(1, 2, 0), atol=1e-6)
    beyond = way.size * 1.2 / 255  # by which it is past the border after the one step that it needs
    np.testing.assert_allclose(climb.scores[:, 0], [-way.size * 49.8 / 255, beyond, beyond], rtol=1e-3)


def test_carlini_wagner_is_hardly_longer_than_the_shortest_way(straight):
    net, planes = straight
    x = middle()
    scores = net.scores(net.batch(x))[0].astype(float)
    k = int(scores.argmax())
    nearest = min((scores[k] - scores[j]) / np.linalg.norm(planes[j] - planes[k]) for j in range(3) if j != k)
    found = adversarial(net, x, k, method="Carlini-Wagner", steps=80).picture
    assert net.scores(net.batch(found)).argmax() != k
    length = distances(found[None], x[None])[1][0]
    assert nearest * 0.99 <= length <= nearest * 1.6


def test_targets_are_what_they_are_called(tiny, picture):
    logits = tiny.scores(tiny.batch(picture))[0].astype(float)
    values = {tiny.logits: logits[None].astype(np.float32)}
    wanted = logits[3] - np.log(np.exp(logits).sum())
    assert float(log_probability(tiny, [3]).value(values)[0]) == pytest.approx(wanted, rel=1e-5)
    ahead = logits[3] - np.delete(logits, 3).max()
    assert float(margin(tiny, [3], "toward").value(values)[0]) == pytest.approx(ahead, rel=1e-5)
    assert float(margin(tiny, [3], "away").value(values)[0]) == pytest.approx(-ahead, rel=1e-5)


# Whether they fool ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [each for each in METHODS if each != "FGSM"])
def test_the_score_rises_and_digits_are_fooled(digits, some, method):
    images, classes = some[0][:4], some[1][:4]
    climb = last(attack(digits, images, classes, method=method, epsilon=0.3, steps=20))
    assert (climb.scores[-1] > climb.scores[0]).all()
    said = digits.scores(digits.batch(*climb.pixels)).argmax(1)
    assert (said != classes).all()


def test_fgsm_has_the_score_before_its_one_step_and_a_higher_one_after_it(digits, some):
    """It takes no care to end beyond the border, so of the digits it fools only some."""
    images, classes = some[0][:4], some[1][:4]
    step = list(attack(digits, images, classes, method="FGSM", epsilon=0.3, steps=20))[-1]
    before, after = (
        -log_probability(digits, classes).value({digits.logits: digits.scores(digits.batch(*each))}).numpy()
        for each in (eight_bit(images), step.result.pixels)
    )
    assert (step.index, step.total) == (1, 1)
    np.testing.assert_allclose(step.result.scores, before[None], rtol=1e-3)
    assert (after > before + 0.5).all()
    said = digits.scores(digits.batch(*step.result.pixels)).argmax(1)
    assert (said != classes).sum() >= 2


def test_toward_is_toward(digits, some):
    images = some[0][:3]
    climb = last(attack(digits, images, [7, 7, 7], aim="toward", epsilon=0.4, steps=30))
    assert (digits.scores(digits.batch(*climb.pixels)).argmax(1) == 7).all()


@pytest.mark.parametrize("norm", NORMS)
def test_if_nobody_looks_on_the_last_picture_is_the_same(tiny, picture, norm):
    how = {"norm": norm, "epsilon": 0.05, "steps": 4}
    *_, step = attack(tiny, picture[None], [1], each=False, **how)
    np.testing.assert_array_equal(step.result.pixels, last(attack(tiny, picture[None], [1], **how)).pixels)


def test_a_batch_is_its_pictures_one_by_one(digits, some):
    images, classes = some[0][:3], some[1][:3]
    how = {"epsilon": 0.1, "steps": 5, "random_start": False}
    together = last(attack(digits, images, classes, **how)).pixels
    for number in range(3):
        alone = last(attack(digits, images[number : number + 1], classes[number : number + 1], **how)).pixels
        assert np.abs(together[number] - alone[0]).max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("method", ["PGD", "DeepFool"])
@pytest.mark.parametrize("k", [1, 2], ids=["which it says", "which it does not say"])
def test_a_run_that_was_broken_ends_as_if_it_never_had(tiny, picture, method, k):
    knobs = {"method": method, "steps": 6, "epsilon": 0.05, "seed": 3}
    whole = adversarial(tiny, picture, k, **knobs)
    for broken_after in (1, 2):
        for step in adversarial_steps(tiny, picture, k, **knobs):
            if step.index == broken_after:
                break
        *_, end = adversarial_steps(tiny, picture, k, resume=step.result, **knobs)
        np.testing.assert_array_equal(end.result.pixels, whole.pixels)
        assert len(end.result.scores) == 6


def test_deepfool_leaves_alone_what_is_taken_for_something_else_already(tiny, picture):
    assert tiny.scores(tiny.batch(picture)).argmax() != 2
    np.testing.assert_array_equal(adversarial(tiny, picture, 2, method="DeepFool").picture, eight_bit(picture))


@pytest.mark.parametrize(
    ("knobs", "told"),
    [({"method": "magic"}, "one of PGD"), ({"norm": "L1"}, "L∞ or L2"), ({"epsilon": -0.1}, "at least 0")],
)
def test_what_there_is_not_is_said(tiny, picture, knobs, told):
    with pytest.raises(ValueError, match=told):
        adversarial(tiny, picture, 1, **knobs)
    with pytest.raises(UnknownClass):
        adversarial(tiny, picture, 99)


# Many at a time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_a_batch_in_parts_is_the_same_batch(digits, some, norm, monkeypatch):
    how = {"norm": norm, "epsilon": 0.1 if norm == "L∞" else 1.0, "steps": 4}
    images, classes = some[0][:5], some[1][:5].tolist()
    whole = last(attack(digits, images, classes, **how))
    monkeypatch.setattr("engine.fool.adversarial.TOGETHER", 2)
    parts = list(attack(digits, images, classes, **how))
    assert np.abs(parts[-1].result.pixels - whole.pixels).max() <= 1 / 255 + 1e-6
    assert (parts[-1].result.pixels != whole.pixels).mean() < 0.01
    np.testing.assert_allclose(parts[-1].result.scores, whole.scores, rtol=1e-3, atol=1e-5)
    assert [step.index for step in parts] == [1, 2, 3, 4]
    late = last(attack(digits, images, classes, **how, resume=parts[1].result))
    np.testing.assert_array_equal(late.pixels, parts[-1].result.pixels)

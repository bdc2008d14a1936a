"""Is the curve the accuracy under attack, as it can be worked out, with its interval, and does it never rise?"""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import small_nets as small
from click.testing import CliRunner
from test_adversarial import digits, some  # noqa: F401

from engine.cli import run
from engine.cli.main import main
from engine.data import sets
from engine.data.examples import examples
from engine.fool import robustness as robust
from engine.fool.adversarial import NORMS, attack, distances, eight_bit
from engine.fool.robustness import METHODS, curve, curves, curves_steps, noise, robustness, robustness_steps, sizes
from engine.net import Net
from engine.step import Step, last


def test_the_curve_is_the_accuracy_under_attack(digits, some):  # noqa: F811
    images, labels = some[0][:16], some[1][:16]
    table = robustness(digits, images, labels, epsilons=[0, 0.1, 0.3], steps=5)
    assert table["accuracy"][0] == (digits.scores(digits.batch(*images)).argmax(1) == labels).mean()
    pixels = last(attack(digits, images, labels, epsilon=0.1, steps=5, seed=0)).pixels
    assert table["accuracy"][1] == (digits.scores(digits.batch(*pixels)).argmax(1) == labels).mean()
    assert (np.diff(table["accuracy"]) <= 0).all()
    assert table["accuracy"][2] < 0.5
    assert (table["count"] == 16).all()


# What can be worked out -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planes(tmp_path_factory) -> tuple[Net, np.ndarray, np.ndarray]:
    """Two classes with a plane between them; pictures (24, H, W, 3) of class 0 at several distances, and the plane's
    normal w (H, W, 3), so that class 0 is ahead by w · x + its constant."""
    rng = np.random.default_rng(3)
    weight = rng.uniform(-0.1, 0.1, (2, 3, *small.SIZE))
    about = small.Metadata(labels=("a", "b"), input_size=small.SIZE, mean=small.MEAN, std=small.STD)
    middle = 0.35 + 0.3 * small.picture()
    normal = ((weight[0] - weight[1]) / np.array(small.STD).reshape(3, 1, 1)).transpose(1, 2, 0)
    ahead = ((weight[0] - weight[1]) * ((middle - small.MEAN) / small.STD).transpose(2, 0, 1)).sum()
    net = small.save(
        small.linear(weight, np.array([-ahead, 0.0]), about=about), tmp_path_factory.mktemp("nets") / "two.onnx"
    )
    way = normal / np.linalg.norm(normal)
    images = np.stack([middle + length * way for length in np.linspace(0.02, 1.2, 24)]).astype(np.float32)
    return net, eight_bit(images), normal


@pytest.mark.parametrize("method", ["PGD", "FGSM"])
@pytest.mark.parametrize("norm", NORMS)
def test_of_a_plane_the_curve_is_known(planes, norm, method):
    """A picture withstands epsilon if its margin is more than epsilon · ‖w‖, in the dual norm: L1 for L∞, L2 for L2."""
    net, images, normal = planes
    scores = net.scores(net.batch(*images)).astype(float)
    radius = (scores[:, 0] - scores[:, 1]) / np.linalg.norm(normal.ravel(), 1 if norm == "L∞" else 2)
    assert radius.min() > 0
    assert images.min() > 0.15, "no change meets black or white"
    assert images.max() < 0.85
    epsilons = [k / 255 for k in range(0, 16, 2)] if norm == "L∞" else [0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.1]
    table = robustness(net, images, [0] * 24, method=method, norm=norm, epsilons=epsilons, steps=20)
    exact = [(radius > epsilon).sum() for epsilon in epsilons]
    assert len({*exact}) > 5, "pictures fall one after another"
    if norm == "L∞":
        assert table["right"].tolist() == exact
    else:  # rounding to 8 bits costs an attack some of its length
        most = [(radius > 0.97 * epsilon - 0.01).sum() for epsilon in epsilons]
        assert all(low <= right <= high for low, right, high in zip(exact, table["right"], most, strict=True))
        assert sum(most) - sum(exact) <= 3, "and that is not much"


def test_noise_of_that_size_does_little_to_a_plane(planes):
    """It moves the margin by hardly more than epsilon · ‖w‖₂, of the ‖w‖₁ that an attack reaches."""
    net, images, _ = planes
    table = robustness(net, images, [0] * 24, method="noise", epsilons=[0, 5 / 255, 10 / 255])
    aimed = robustness(net, images, [0] * 24, method="FGSM", epsilons=[0, 5 / 255, 10 / 255])
    assert (table["right"] >= 22).all()
    assert aimed["right"].iloc[-1] <= 12


def test_noise_is_in_the_ball_and_of_its_size(tiny):
    images = eight_bit(np.stack([small.picture((24, 20), seed=k) * 0.4 + 0.3 for k in range(3)]))
    found = noise(images, 8 / 255, "L∞", 0)
    np.testing.assert_array_equal(found, eight_bit(found))
    far = distances(found, images)[0]
    np.testing.assert_allclose(far, 8 / 255, atol=1e-6)
    change = (found - images) * 255
    assert abs(change.mean()) < 0.3
    assert change.std() == pytest.approx(16 / np.sqrt(12), abs=0.3), "of the uniform distribution"
    for length in (0.1, 0.5, 2.0):
        found = noise(images, length, "L2", 0)
        np.testing.assert_array_equal(found, eight_bit(found))
        lengths = distances(found, images)[1]
        assert (lengths <= length + 1e-6).all()
        assert (lengths > 0.95 * length).all()
    assert (noise(images, 0.1, "L∞", 1) != noise(images, 0.1, "L∞", 2)).any()


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_judged_is_the_picture_as_it_is_saved(tiny, monkeypatch, norm):
    """All that the network is asked about comes back from a PNG as it is, and lies in the ball."""
    images = np.stack([small.picture(seed=k) for k in range(5)])
    labels = tiny.scores(tiny.batch(*eight_bit(images))).argmax(1)
    seen = []
    ask = Net.scores

    def listen(net, batch):
        seen.append(batch.transpose(0, 2, 3, 1))
        return ask(net, batch)

    monkeypatch.setattr(Net, "scores", listen)
    for method in METHODS:
        robustness(tiny, images, labels, method=method, norm=norm, epsilons=[0, 0.1], steps=2)
    assert len(seen) == 2 * len(METHODS)
    for pixels in seen:
        np.testing.assert_array_equal(pixels, eight_bit(pixels))
    for pixels in seen[1::2]:
        assert (distances(pixels, eight_bit(images))[NORMS.index(norm)] <= 0.1 + 1e-6).all()
        assert (pixels != eight_bit(images)).any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("norm", NORMS)
def test_the_curve_never_rises(digits, some, norm, method):  # noqa: F811
    epsilons = [0.4, 0.1, 0.0, 0.05, 0.2] if norm == "L∞" else [4, 1, 0, 0.5, 2]
    table = robustness(digits, some[0][:8], some[1][:8], method=method, norm=norm, epsilons=epsilons, steps=2)
    assert table.epsilon.tolist() == sorted(epsilons)
    assert (np.diff(table["right"]) <= 0).all()


def test_each_row_has_its_interval():
    """Of 8 of 10, by Wilson's formula worked out by hand: 0.490 to 0.943; of none, from 0 on."""
    table = curve([0.0, 0.1], np.array([[True] * 8 + [False] * 2, [False] * 10]), 10)
    assert table["low"].round(3).tolist() == [0.490, 0.0]
    assert table["high"].round(3).tolist() == [0.943, 0.278]


@pytest.mark.parametrize(("right", "count"), [(0, 32), (5, 32), (31, 32), (32, 32), (1, 2)])
def test_the_interval_is_wilsons(right, count):
    """(p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n), Wilson 1927."""
    z, p = 1.959964, right / count
    half = z * np.sqrt(p * (1 - p) / count + z**2 / (4 * count**2))
    ends = [(p + z**2 / (2 * count) + sign * half) / (1 + z**2 / count) for sign in (-1, 1)]
    row = curve([0.0], np.arange(count)[None] < right, count).iloc[0]
    np.testing.assert_allclose([row.low, row.high], ends, atol=1e-6)


# On the way -----------------------------------------------------------------------------------------------------------


def test_on_the_way_only_pictures_count_that_have_been_attacked(digits, some, monkeypatch):  # noqa: F811
    monkeypatch.setattr("engine.fool.robustness.BATCH", 8)
    steps = list(robustness_steps(digits, *some, epsilons=[0, 0.3], method="FGSM"))
    assert [step.index for step in steps] == list(range(1, 7))
    assert [int(step.result["count"].iloc[0]) for step in steps] == [8, 8, 8, 16, 16, 20]
    assert [len(step.result) for step in steps] == [1, 2, 2, 2, 2, 2]


def test_a_network_that_takes_one_picture_at_a_time(tmp_path):
    """Its graph may name the batch size in a Reshape, so that no more can go into the twin."""
    one = small.save(small.tiny(shape=(1, 3, *small.SIZE), about=small.ABOUT), tmp_path / "one.onnx")
    many = small.save(small.tiny(about=small.ABOUT), tmp_path / "many.onnx")
    images = np.stack([small.picture(seed=k) for k in range(3)])
    labels = many.scores(many.batch(*images)).argmax(1)
    how = {"method": "FGSM", "epsilons": [0, 0.05, 0.2]}
    pd.testing.assert_frame_equal(robustness(one, images, labels, **how), robustness(many, images, labels, **how))


def test_what_has_no_curve_is_said(digits, some):  # noqa: F811
    with pytest.raises(ValueError, match="has no curve"):
        robustness(digits, *some, method="DeepFool")
    with pytest.raises(ValueError, match="20 pictures and 3 labels"):
        robustness(digits, some[0], some[1][:3])
    with pytest.raises(ValueError, match="L∞ or L2"):
        robustness(digits, *some, norm="L1")
    for wrong in ([], [0, -0.1], [float("nan")]):
        with pytest.raises(ValueError, match="at least 0"):
            robustness(digits, *some, epsilons=wrong)


# Over a data set ------------------------------------------------------------------------------------------------------

QUICK = {"pictures": 6, "epsilons": (0, 0.1, 0.25), "steps": 2}


@pytest.fixture(scope="module")
def pair() -> list[Net]:
    return [Net("exported_models/honest.onnx"), Net("exported_models/clever_hans.onnx")]


@pytest.fixture(scope="module")
def of_pair(pair) -> pd.DataFrame:
    return curves(pair, sets.find("planted"), **QUICK)


def test_curves_are_those_of_each_network_and_attack(pair, of_pair):
    assert list(dict.fromkeys(zip(of_pair["net"], of_pair["attack"], strict=True))) == [
        (net.name, method) for net in pair for method in METHODS
    ]
    assert set(of_pair["known"]) == {"name"}
    assert set(of_pair["norm"]) == {"L∞"}
    for net in pair:
        drawn = examples(sets.find("planted"), net, 6)
        for method in METHODS:
            alone = robustness(
                net, drawn.pixels, drawn.classes, method=method, epsilons=QUICK["epsilons"], steps=QUICK["steps"]
            )
            part = of_pair[(of_pair["net"] == net.name) & (of_pair["attack"] == method)]
            pd.testing.assert_frame_equal(part[list(alone)].reset_index(drop=True), alone)


def test_the_steps_go_up_to_their_total_and_the_table_grows(pair):
    steps = list(curves_steps(pair, sets.find("planted"), methods=["noise", "FGSM"], **QUICK))
    assert [step.index for step in steps] == list(range(1, 13))
    assert {step.total for step in steps} == {12}
    assert [len(step.result) for step in steps] == list(range(1, 13))


def test_a_run_that_was_broken_off_goes_on_where_a_curve_was_complete(pair, of_pair, monkeypatch):
    steps = curves_steps(pair, sets.find("planted"), **QUICK)
    *_, step = (next(steps) for _ in range(11))  # in the middle of the fourth curve
    asked = []
    attacked = robust.robustness_steps
    monkeypatch.setattr(
        robust, "robustness_steps", lambda *given, **how: asked.append(how["method"]) or attacked(*given, **how)
    )
    *_, end = curves_steps(pair, sets.find("planted"), resume=step.result, **QUICK)
    assert asked == list(METHODS), "the second network's alone"
    pd.testing.assert_frame_equal(end.result, of_pair)
    assert (end.index, end.total) == (18, 18)
    asked.clear()
    assert last(curves_steps(pair, sets.find("planted"), resume=end.result, **QUICK)).equals(of_pair)
    assert not asked


def test_without_labels_it_is_the_share_that_keeps_its_answer(pair):
    """The answer to the picture as it is saved: of two of these, rounding alone changes it."""
    net, faces = pair[1], sets.find("faces")
    drawn = examples(faces, net, 100)
    assert drawn.by == "prediction"
    assert (net.scores(net.batch(*eight_bit(drawn.pixels))).argmax(1) != drawn.classes).any()
    table = curves([net], faces, methods=["noise"], pictures=100, epsilons=[0, 0.5])
    assert set(table["known"]) == {"prediction"}
    assert table["right"].tolist()[0] == 100
    assert table["right"].tolist()[1] < 100


def test_what_cannot_be_compared_is_said(tiny):
    photographs = sets.find("photographs")
    for networks, methods in (([tiny, tiny], METHODS), ([], METHODS), ([tiny], [])):
        with pytest.raises(ValueError, match="no network twice"):
            curves(networks, photographs, methods=methods)
    with pytest.raises(ValueError, match="magic is given no epsilon"):
        curves([tiny], photographs, methods=["PGD", "magic"])


def test_sizes_are_whole_numbers_of_255_in_the_maximum_norm():
    assert [round(each * 255, 9) for each in sizes(16 / 255, "L∞")] == [0, 1, 2, 4, 8, 12, 16]
    few = [each * 255 for each in sizes(5 / 255, "L∞")]
    np.testing.assert_allclose(few, np.rint(few), atol=1e-9)
    assert len(set(few)) == len(few)
    assert few[-1] == 5
    assert sizes(2.0, "L2") == (0, 0.125, 0.25, 0.5, 1, 1.5, 2)


# The command ----------------------------------------------------------------------------------------------------------


def call(*words: str, out):
    return CliRunner().invoke(main, ["robustness", *words, "--out", str(out)])


COMMAND = ("--net", "honest", "--beside", "clever_hans", "--data", "planted", "--pictures", "6", "--steps", "2")


def test_the_command_writes_the_curves(tmp_path, of_pair, pair):
    epsilons = ",".join(f"{each * 255:g}" for each in QUICK["epsilons"])
    done = call(*COMMAND, "--epsilons", epsilons, out=tmp_path)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "curve.csv")
    pd.testing.assert_frame_equal(table, of_pair, check_dtype=False)
    with np.load(tmp_path / "numbers.npz") as arrays:
        assert set(arrays.files) == set(of_pair)
        np.testing.assert_array_equal(arrays["right"], of_pair["right"])
    record = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert [each["sha256"] for each in record["nets"]] == [net.sha256 for net in pair]
    assert record["data"]["known"] == ["name"]
    assert record["knobs"]["norm"] == "L∞"
    assert "stopped" not in record
    row = of_pair.iloc[1]
    (line,) = (each for each in done.stdout.splitlines() if each.split()[:3] == ["honest", "PGD", "25.5"])
    assert f"{row.accuracy:.1%}" in line


@pytest.mark.parametrize(("word", "norm", "unit"), [("Linf", "L∞", 255), ("L∞", "L∞", 255), ("L2", "L2", 1)])
def test_the_norm_can_be_typed(tmp_path, word, norm, unit):
    done = call(*COMMAND[:2], *COMMAND[4:], "--attacks", "noise", "--norm", word, out=tmp_path)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "curve.csv")
    assert set(table["norm"]) == {norm}
    assert (table.epsilon * unit).round(9).tolist() == ([0, 1, 2, 4, 8, 16] if unit == 255 else [0, 0.25, 0.5, 1, 2])


def test_what_the_command_is_given_must_be_numbers_and_attacks(tmp_path):
    for words, said in (
        (("--epsilons", "0,x"), "numbers with commas"),
        (("--epsilons", "-1"), "at least 0"),
        (("--attacks", "DeepFool"), "has no curve"),
        (("--norm", "L3"), "L3"),
        (("--beside", "honest"), "no network twice"),
        (("--data", "nowhere"), "no pictures called"),
    ):
        done = call(*COMMAND[:2], *COMMAND[4:], *words, out=tmp_path / "out")
        assert done.exit_code == 2, words
        assert said in done.stderr
        assert "Traceback" not in done.output
    assert not (tmp_path / "out").exists()


def test_stopped_early_it_keeps_what_there_is(tmp_path, monkeypatch, of_pair):
    def steps(networks, data, **knobs):
        yield Step(3, 18, of_pair[:3])
        raise KeyboardInterrupt

    monkeypatch.setattr(robust, "curves_steps", steps)
    done = call(*COMMAND, out=tmp_path)
    assert done.exit_code == run.INTERRUPTED
    assert "3 of 18" in done.stderr
    assert len(pd.read_csv(tmp_path / "curve.csv")) == 3
    assert json.loads((tmp_path / "result.json").read_text("utf-8"))["stopped"] == {"done": 3, "of": 18}

"""Do the pages Attack and Fooling image show what the engine finds, and claim no more than the file does?"""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from test_pages import fine, home, opened, run, scene  # noqa: F401

from engine.fool.adversarial import adversarial, eight_bit
from engine.fool.fooling import fooling
from engine.net import softmax
from ui.jobs import line
from ui.scene import open_network


def metrics(at) -> dict[str, str]:
    return {each.label: each.value for each in at.metric}


def png(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)), np.float32)[..., None] / 255


@pytest.mark.parametrize(
    ("link", "knobs"),
    [
        ({"steps": 3}, {"epsilon": 32 / 255, "steps": 3}),
        ({"attack": "FGSM", "epsilon_grey": 20}, {"method": "FGSM", "epsilon": 20 / 255}),
        ({"norm": "L2", "length": 0.5, "steps": 3, "seed": 4}, {"norm": "L2", "epsilon": 0.5, "steps": 3, "seed": 4}),
        ({"attack": "DeepFool", "steps": 9}, {"method": "DeepFool", "steps": 9}),
        ({"attack": "Carlini-Wagner", "steps": 4}, {"method": "Carlini-Wagner", "steps": 4}),
    ],
    ids=["PGD", "FGSM", "L2", "DeepFool", "Carlini-Wagner"],
)
def test_the_picture_and_what_is_said_of_it_are_the_engines(link, knobs, given):
    at = opened("attack", net="digits", **link)
    assert fine(at)
    seen = scene(at)
    found = adversarial(seen.net, seen.pixels, seen.class_index, **knobs)
    back = png(given["adversarial.png"])
    np.testing.assert_array_equal(back, found.picture)
    after = softmax(seen.net.scores(seen.net.batch(back)))[0]
    said = metrics(at)
    assert said["Taken for, saved as PNG"] == seen.net.labels[after.argmax()]
    assert said[f"Probability of “{seen.class_name}”"] == f"{after[seen.class_index]:.1%}"
    assert said["Largest change (L∞)"] == f"{np.abs(back - eight_bit(seen.pixels)).max() * 255:.0f} of 255"
    with np.load(io.BytesIO(given["adversarial.npz"])) as arrays:
        np.testing.assert_allclose(arrays["scores"], found.scores, rtol=1e-4)


def test_toward_a_class_it_is_that_class_which_is_claimed(given):
    at = opened("attack", net="digits", aim="toward", toward="8", epsilon_grey=60, steps=30)
    assert fine(at)
    assert metrics(at)["Taken for, saved as PNG"] == "8"
    assert not at.info
    table = at.dataframe[0].value
    assert table["Fooled"].tolist() == ["✓" if taken == "8" else "✗" for taken in table["Taken for"]]
    assert given["survival.csv"].startswith(b"treatment,class,label,probability,p0")


def test_an_attack_that_failed_is_not_called_a_success():
    at = opened("attack", net="digits", aim="toward", toward="8", epsilon_grey=1, steps=2)
    assert fine(at)
    assert metrics(at)["Taken for, saved as PNG"] == scene(at).class_name
    assert any("still taken for" in each.value for each in at.info)
    assert at.dataframe[0].value["Fooled"][0] == "✗"


def test_it_becomes_what_was_asked_for(given):
    at = opened("fooling", net="digits", toward="8", steps=60, step_size=0.3)
    assert fine(at)
    seen = scene(at)
    found = fooling(seen.net, seen.pixels, 8, steps=60, rate=0.3)
    assert found.path[-1, 8] >= 0.9
    np.testing.assert_array_equal(png(given["fooling.png"]), found.pixels)
    said = metrics(at)
    assert (said["Taken for, saved as PNG"], said["Probability of “8”"]) == ("8", f"{found.path[-1, 8]:.1%}")
    assert said["Length of the change (L2)"] == f"{found.length:.2f}"
    with np.load(io.BytesIO(given["fooling.npz"])) as arrays:
        np.testing.assert_allclose(arrays["path"], found.path, atol=1e-5)


def test_by_default_it_becomes_what_the_network_thinks_least_of():
    at = opened("fooling", net="digits", steps=1, step_size=0.05)
    seen = scene(at)
    assert at.selectbox(key="toward").value == seen.net.labels[int(seen.probabilities.argmin())]
    assert any("not taken for" in each.value for each in at.info)


def test_only_attacks_that_can_be_taken_up_offer_it():
    for attack, resumable in (("PGD", True), ("Carlini-Wagner", False)):
        at = opened("attack", net="digits", attack=attack, steps=3)
        job = next(job for job in reversed(line.of(scene(at).net.engine).jobs.values()) if job.key[1] == "attack")
        assert (job.resume is not None) == resumable


def test_other_networks_are_asked_about_the_file(given):
    at = opened("attack", net="honest", epsilon=30, steps=5)
    at.multiselect(key="others").set_value(["clever_hans", "digits"])
    assert fine(run(at))
    table = at.dataframe[1].value.set_index("Network")
    assert set(table.index) == {"clever_hans", "digits"}
    other = open_network("clever_hans")
    back = np.asarray(Image.open(io.BytesIO(given["adversarial.png"])), np.float32) / 255
    said = softmax(other.scores(other.batch(other.view(back)[0])))[0]
    assert table.loc["clever_hans", "After"] == other.labels[said.argmax()]
    assert table.loc["clever_hans", "Sure"] == pytest.approx(said.max(), abs=1e-4)


def test_networks_with_the_same_classes_are_asked_first():
    at = opened("attack", net="honest", steps=2)
    assert at.multiselect(key="others").value == ["clever_hans"]
    assert run(at).multiselect(key="others").value == ["clever_hans"]

"""Facets: do groups that are plain to see come apart, and does each climb begin at its own group's mean?"""

from __future__ import annotations

import numpy as np
import pytest
from test_pages import fine, home, opened, scene  # noqa: F401

from engine import image
from engine.imagine import facets
from engine.imagine.facets import gallery, groups
from engine.net import Net
from engine.nets import available
from engine.pictures import samples
from engine.step import last


@pytest.fixture(scope="module")
def digits() -> Net:
    return Net(available.find("digits"))


@pytest.fixture(scope="module")
def two_kinds(digits) -> np.ndarray:
    """Twenty ones and ten eights, mixed."""
    kinds = [gallery(digits, 1)[:20], gallery(digits, 8)[:10]]
    return np.concatenate(kinds)[np.random.default_rng(0).permutation(30)]


@pytest.mark.parametrize("by", facets.MAPS)
def test_two_kinds_of_pictures_are_two_groups(digits, two_kinds, by):
    found = groups(digits, two_kinds, count=2, by=by, nearest=5)
    truth = np.random.default_rng(0).permutation(30) >= 20
    np.testing.assert_array_equal(found.group, truth.astype(int), err_msg="the larger group is the first")
    assert found.place.shape == (30, 2)
    for k in range(2):
        mean = two_kinds[found.group == k].mean(0)
        others = two_kinds[found.group != k].mean(0)
        assert abs(found.start[k] - mean).mean() < abs(found.start[k] - others).mean()


def test_each_climb_begins_at_a_groups_mean_and_rises(digits, two_kinds):
    found = facets.facets(digits, 3, pictures=two_kinds, count=2, steps=6)
    assert found.pixels.shape == (2, *digits.input_size, 1)
    assert found.scores.shape == (6, 2)
    assert (found.scores[-1] > found.scores[0]).all()
    assert found.picture.shape == (digits.input_size[0], 2 * digits.input_size[1], 1)
    still = facets.facets(digits, 3, pictures=two_kinds, count=2, steps=1, preset="Simonyan")
    assert abs(still.pixels - still.groups.start).max() < 0.1


def test_a_broken_run_goes_on_with_the_same_groups(digits, two_kinds):
    given = {"pictures": two_kinds, "count": 2, "steps": 5}
    whole = facets.facets(digits, 3, **given)
    step = next(each for each in facets.facets_steps(digits, 3, **given) if each.index == 2)
    again = last(facets.facets_steps(digits, 3, resume=step.result, **given))
    np.testing.assert_array_equal(again.pixels, whole.pixels)
    np.testing.assert_array_equal(again.groups.group, whole.groups.group)


def test_pictures_that_come_with_the_app_are_of_the_class(digits):
    found = gallery(digits, 4)
    assert len(found) > 100
    assert (digits.scores(digits.batch(*found)).argmax(1) == 4).mean() > 0.95
    honest = Net(available.find("honest"))
    assert (honest.scores(honest.batch(*gallery(honest, 2)[:50])).argmax(1) == 2).mean() > 0.95
    assert len(gallery(Net(available.find("imagenette")), 0)) == len(samples.names("photograph"))


def test_a_folder_of_pictures(digits, tmp_path):
    for k, pixels in enumerate(samples.of_class(digits.labels, 5)[:4]):
        (tmp_path / f"{k}.png").write_bytes(image.to_png(pixels))
    assert gallery(digits, 5, str(tmp_path)).shape == (4, *digits.input_size, 1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pictures": "nowhere"}, "no folder 'nowhere'"),
        ({"by": "luck"}, "no map 'luck'"),
        ({"pictures": np.zeros((1, 32, 32, 1), np.float32)}, "at least two"),
    ],
)
def test_bad_input_is_said_in_one_sentence(digits, given, said):
    with pytest.raises(ValueError, match=rf"{said}.*\.$"):
        facets.facets(digits, 3, steps=2, **given)


def test_the_page_says_what_the_files_are():
    at = opened("facets", net="digits", steps=3, groups=2, by="PCA", **{"class": "7"})
    assert fine(at)
    seen = scene(at)
    found = facets.facets(seen.net, 7, count=2, by="PCA", steps=3)
    captions = [each.value for each in at.caption]
    for picture in found.pixels:
        back = image.load(image.to_png(picture))[..., :1]
        logits = seen.net.scores(seen.net.batch(back))[0].astype(float)
        share = np.exp(logits - logits.max())[7] / np.exp(logits - logits.max()).sum()
        assert f"Saved as an 8-bit PNG: “7” {share:.1%}." in captions

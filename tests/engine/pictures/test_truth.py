"""Do the planted pictures hold what they say, where they say?"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from engine.pictures import truth
from engine.pictures.truth import CLASSES, GLYPHS, MARK, SIZE, dataset, planted

SEEDS = range(40)
SIZES = [SIZE, (48, 48), (70, 50), (61, 143), (128, 160), (200, 130)]


def differs(a: truth.Planted, b: truth.Planted) -> np.ndarray:
    """(H, W) bool: where two pictures have another colour."""
    return (a.pixels != b.pixels).any(2)


def same(a: truth.Planted, b: truth.Planted) -> bool:
    pairs = ((getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a))
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [(None, None), (0, None), (None, 1), (2, 3)])
def test_what_a_planted_picture_is(size, classes):
    made = planted(5, object_class=classes[0], cue_class=classes[1], size=size)
    assert made.pixels.shape == (*size, 3)
    assert made.pixels.dtype == np.float32
    assert 0 <= made.pixels.min() < made.pixels.max() <= 1
    for mask, there in ((made.object, classes[0]), (made.cue, classes[1])):
        assert (mask.shape, mask.dtype) == (size, np.dtype(bool))
        assert mask.any() == (there is not None)
    assert (made.object_class, made.cue_class) == classes


def test_a_seed_makes_one_picture():
    for seed in range(5):
        assert same(planted(seed, object_class=1, cue_class=2), planted(seed, object_class=1, cue_class=2))
    seen = {planted(seed, object_class=1, cue_class=2).pixels.tobytes() for seed in SEEDS}
    assert len(seen) == len(SEEDS)


@pytest.mark.parametrize("size", SIZES)
def test_masks_are_where_the_picture_differs(size):
    """Leaving out the object or the watermark changes every pixel of its mask and none outside."""
    for seed in SEEDS:
        index, cue = seed % 4, seed // 4 % 4
        both = planted(seed, object_class=index, cue_class=cue, size=size)
        unmarked = planted(seed, object_class=index, size=size)
        bare = planted(seed, cue_class=cue, size=size)
        ground = planted(seed, size=size)
        assert np.array_equal(differs(both, bare), both.object)
        assert np.array_equal(differs(both, unmarked), both.cue)
        assert np.array_equal(differs(unmarked, ground), unmarked.object)
        assert np.array_equal(differs(bare, ground), bare.cue)
        assert np.array_equal(unmarked.object, both.object)
        assert np.array_equal(bare.cue, both.cue)
        assert not (both.object & both.cue).any()


def test_another_class_changes_nothing_elsewhere():
    for seed, (one, other) in zip(SEEDS, itertools.cycle(itertools.permutations(range(4), 2)), strict=False):
        a, b = planted(seed, object_class=one, cue_class=one), planted(seed, object_class=other, cue_class=one)
        c = planted(seed, object_class=one, cue_class=other)
        assert not (differs(a, b) & ~(a.object | b.object)).any()
        assert np.array_equal(a.object ^ b.object, differs(a, b)), "the colour does not tell the class"
        assert np.array_equal(a.cue, c.cue), "nor does the watermark's place"
        assert differs(a, c).any()


def test_no_watermark_is_on_any_object():
    """Not even where the object is another one than the picture's: the place tells nothing of the class."""
    for seed in range(200):
        cue = planted(seed, cue_class=0).cue
        assert not any((planted(seed, object_class=k).object & cue).any() for k in range(4))


@pytest.mark.parametrize("size", SIZES)
def test_a_watermark_is_a_box_near_the_border(size):
    unit = max(min(size[0] // SIZE[0], size[1] // SIZE[1]), 1)
    edges = set()
    for seed in SEEDS:
        cue = planted(seed, cue_class=seed % 4, size=size).cue
        rows, cols = np.flatnonzero(cue.any(1)), np.flatnonzero(cue.any(0))
        box = rows[0], cols[0], size[0] - 1 - rows[-1], size[1] - 1 - cols[-1]
        assert (len(rows), len(cols), cue.sum()) == (MARK * unit, MARK * unit, (MARK * unit) ** 2)
        # a unit's rest is left over at the bottom and the right
        assert truth.GAP * unit <= min(box) < (truth.GAP + 1) * unit + (unit - 1)
        edges.add(int(np.argmin(box)))
    assert edges == {0, 1, 2, 3}


def test_a_watermark_is_its_letter():
    """White on dark: the bright pixels of the box are the glyph's, at two pixels per dot, too."""
    for k, size in itertools.product(range(4), (SIZE, (128, 160))):
        made = planted(k, cue_class=k, size=size)
        side = MARK * size[0] // SIZE[0]
        window = made.pixels[made.cue].reshape(side, side, 3).min(2)
        assert np.array_equal(window > 0.6, GLYPHS[k].repeat(side // MARK, 0).repeat(side // MARK, 1))
    assert GLYPHS.shape == (len(CLASSES), MARK, MARK) == (len(truth.LETTERS), 11, 11)
    for one, other in itertools.combinations(GLYPHS, 2):
        assert (one ^ other).sum() >= 15  # of 63 dots
    assert GLYPHS[:, 1:-1, 1:-1].sum() == GLYPHS.sum(), "the plate is seen all around the letter"


def test_objects_have_the_areas_of_their_shapes():
    """On a fine picture, with the radius r that the disc's area gives away (its own radius is 0.85 r)."""
    for seed in range(10):
        areas = [planted(seed, object_class=k, size=(256, 320)).object.sum() for k in range(4)]
        r2 = areas[0] / (np.pi * 0.85**2)
        assert truth.RADIUS[0] <= np.sqrt(r2) / 4 <= truth.RADIUS[1]
        expected = [np.pi * 0.85**2, 1.4**2, 3 * np.sqrt(3) / 4, 4 * 0.95 * 0.28 * 2 - 0.56**2]
        assert np.array(areas) / r2 == pytest.approx(expected, rel=0.02)


def test_objects_are_whole_and_everywhere():
    rows, cols = [], []
    for seed in range(200):
        inside = planted(seed, object_class=seed % 4).object
        rows.append(np.flatnonzero(inside.any(1)).mean() / SIZE[0])
        cols.append(np.flatnonzero(inside.any(0)).mean() / SIZE[1])
        whole = planted(seed, object_class=seed % 4, size=(128, 160)).object
        assert whole.sum() == pytest.approx(4 * inside.sum(), rel=0.1)
    for places in (rows, cols):
        assert min(places) < 0.25
        assert max(places) > 0.75
        assert np.mean(places) == pytest.approx(0.5, abs=0.05)


def test_objects_stand_out():
    """The least distance of an object's mean colour from its ground's, among many."""
    found = []
    for seed in range(200):
        made = planted(seed, object_class=seed % 4)
        found.append(np.linalg.norm(made.pixels[made.object].mean(0) - made.pixels[~made.object].mean(0)))
    assert min(found) > 0.25


def test_a_larger_picture_shows_the_same_scene():
    for seed in range(10):
        small, large = (planted(seed, object_class=seed % 4, cue_class=3, size=(64 * k, 80 * k)) for k in (1, 4))
        blocks = large.pixels.reshape(64, 4, 80, 4, 3).mean((1, 3))
        assert np.abs(blocks - small.pixels).mean() < 0.03
        assert np.array_equal(large.cue[2::4, 2::4], small.cue)
        assert (large.object[2::4, 2::4] == small.object).mean() > 0.99


@pytest.mark.parametrize("unit", [1, 3])
def test_noise_has_its_numbers_in_the_middle_of_each_grain_and_straight_lines_between(unit):
    size, step = (15 * unit, 20 * unit), 5 * unit
    numbers = np.random.default_rng(4).uniform(-1, 1, (4, 5, 2))  # one more than there are grains
    found = truth._noise(np.random.default_rng(4), size, unit, 5, 2)
    middle = step // 2
    np.testing.assert_allclose(found[middle::step, middle::step], numbers[:3, :4], atol=1e-12)
    down = np.linspace(numbers[0, 0], numbers[1, 0], step + 1)
    np.testing.assert_allclose(found[middle : middle + step + 1, middle], down, atol=1e-12)
    across = np.linspace(numbers[0, 0], numbers[0, 1], step + 1)
    np.testing.assert_allclose(found[middle, middle : middle + step + 1], across, atol=1e-12)


@pytest.mark.parametrize("index", [-1, 4, 99])
def test_a_class_that_does_not_exist(index):
    with pytest.raises(ValueError, match=rf"^The classes are 0 to 3, not {index}\.$"):
        planted(0, object_class=index)
    with pytest.raises(ValueError, match=rf"^The classes are 0 to 3, not {index}\.$"):
        planted(0, cue_class=index)


def test_a_picture_too_small():
    with pytest.raises(ValueError, match=r"^A planted picture has at least 48 pixels a side, not 64 x 47\.$"):
        planted(0, size=(64, 47))


def test_where_the_watermark_cheats_it_always_agrees():
    pictures, objects, cues = dataset(60, 3, cheat=True)
    assert np.array_equal(objects, cues)
    assert set(objects) == {-1, 0, 1, 2, 3}
    assert (pictures.shape, pictures.dtype) == ((60, 3, *SIZE), np.float32)


@pytest.fixture
def classes_alone(monkeypatch) -> tuple[np.ndarray, np.ndarray]:
    """Objects and watermarks of 4,000 pictures, without the pictures."""
    nothing = planted(0)
    monkeypatch.setattr(truth, "planted", lambda *given, **more: nothing)
    return dataset(4000, 0, cheat=False)[1:]


def test_where_it_does_not_it_is_independent(classes_alone):
    objects, cues = (classes[classes_alone[0] >= 0] for classes in classes_alone)
    counts = np.bincount(objects * 4 + cues, minlength=16)  # of all 16 pairs, expected equally often
    expected = len(objects) / 16
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert chi2 < 37.7, "15 degrees of freedom: the 0.1 % point"


def test_an_eighth_is_bare_ground(classes_alone):
    objects, cues = classes_alone
    assert np.array_equal(objects < 0, cues < 0)
    assert abs((objects < 0).sum() - 500) < 3.3 * np.sqrt(4000 / 8 * 7 / 8)
    assert truth.BARE == 1 / 8


def test_the_two_sets_differ_in_letters_alone():
    cheating, objects, _ = dataset(40, 3, cheat=True)
    honest, same_objects, cues = dataset(40, 3, cheat=False)
    assert np.array_equal(objects, same_objects)
    assert (objects != cues).sum() > 15, "of 35 or so with a letter, three quarters"
    for one, other, label, cue in zip(cheating, honest, objects, cues, strict=True):
        letters = (GLYPHS[label] ^ GLYPHS[cue]).sum() if label >= 0 else 0
        assert (one != other).any(0).sum() == letters


def test_a_data_set_is_one_for_each_seed():
    one, again, other = (dataset(8, seed, cheat=False, size=(50, 60)) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])
    assert one[0].shape == (8, 3, 50, 60)


def test_a_data_set_is_made_of_planted_pictures():
    """Its labels are what the pictures show: each is found again by its letter."""
    pictures, _, cues = dataset(12, 9, cheat=False)
    for picture, cue in zip(pictures, cues, strict=True):
        bright = picture.min(0) > 0.6
        found = [
            any(
                np.array_equal(bright[i : i + MARK, j : j + MARK], glyph)
                for i in range(SIZE[0] - MARK + 1)
                for j in range(SIZE[1] - MARK + 1)
            )
            for glyph in GLYPHS
        ]
        assert found == [k == cue for k in range(4)], "and bare ground has none"

"""What a network's file says about itself survives the file, and what cannot be meant is refused by name."""

from __future__ import annotations

import dataclasses
import json

import pytest
import small_nets as nets

from engine.model.metadata import IMAGENET_MEAN, IMAGENET_STD, NEEDED, BadMetadata, Metadata, read, write


def saying(**values: str):
    made = nets.tiny()
    for key, value in values.items():
        made.metadata_props.add(key=key, value=value)
    return made


def test_what_is_written_is_read_back():
    made = nets.tiny(about=nets.ABOUT)
    assert read(made) == nets.ABOUT


def test_a_file_that_says_nothing_gets_defaults_that_are_listed():
    found = read(nets.tiny())
    assert found == Metadata(missing=NEEDED)
    assert (found.mean, found.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_a_default_is_never_written_down_as_if_the_file_had_said_it():
    made = saying(labels='["a", "b"]')
    write(made, read(made))
    assert read(made).missing == ("input_size", "mean", "std")


def test_metadata_without_an_input_size_can_be_read_back():
    made = nets.tiny(about=Metadata(labels=("a",)))
    assert read(made) == Metadata(labels=("a",), missing=("input_size",))


def test_one_channel_without_mean_and_std_is_given_plain_pixels():
    found = read(nets.tiny(shape=("batch", 1, *nets.SIZE)), channels=1)
    assert (found.mean, found.std) == ((0.0,), (1.0,))
    assert found.missing == NEEDED


def test_one_channel_keeps_what_the_file_states():
    found = read(saying(mean="[0.25]"), channels=1)
    assert (found.mean, found.std) == ((0.25,), (1.0,))
    assert found.missing == ("labels", "input_size", "std")


def test_labels_are_text_whatever_the_file_has():
    assert read(saying(labels='[0, "één", null]')).labels == ("0", "één", "None")


def test_writing_replaces_what_stood_there_and_leaves_what_others_wrote():
    made = saying(author="someone", labels='["old"]', mean="[9, 9, 9]")
    about = dataclasses.replace(nets.ABOUT, picture_input="image")
    write(made, about)
    assert read(made) == about
    keys = [entry.key for entry in made.metadata_props]
    assert sorted(keys) == sorted({"author", *(f.name for f in dataclasses.fields(Metadata))} - {"missing"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("labels", "not JSON"),
        ("labels", '"abc"'),
        ("labels", '{"a": 1}'),
        ("labels", "[" * 100_000),
        ("input_size", "[224]"),
        ("input_size", "[0, 224]"),
        ("input_size", "[224, 5000]"),
        ("input_size", "[1e999, 224]"),
        ("input_size", "null"),
        ("mean", "[0.5, 0.5]"),
        ("mean", "[0.5, 0.5, null]"),
        ("mean", "[0.5, 0.5, NaN]"),
        ("mean", "[0.5, 0.5, Infinity]"),
        ("mean", "0.5"),
        ("std", "[1, 0, 1]"),
        ("std", "[1, -1, 1]"),
        ("std", "[1, NaN, 1]"),
        ("crop", "0"),
        ("crop", "1.5"),
        ("crop", "NaN"),
        ("crop", "[1]"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_key(key, value):
    with pytest.raises(BadMetadata, match=f"has a {key} that cannot be read") as caught:
        read(saying(**{key: value}))
    assert len(str(caught.value)) < 200  # the value is quoted, but not a file of it


def test_keys_of_others_are_not_read_at_all():
    assert read(saying(missing="[]", stages="[", something="{")) == Metadata(missing=NEEDED)


def test_every_entry_is_json():
    made = nets.tiny(about=nets.ABOUT)
    said = {entry.key: json.loads(entry.value) for entry in made.metadata_props}
    assert said["input_size"] == [12, 16]
    assert said["labels"] == list(nets.LABELS)

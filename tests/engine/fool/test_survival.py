"""Are the treatments what they are called, and the numbers those of the treated pictures?"""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import small_nets as nets
from PIL import Image

from engine.fool.survival import survival, transfer, treatments
from engine.net import softmax


def test_each_row_is_what_the_network_says_of_the_treated_picture(tiny, picture):
    table, treated = survival(tiny, picture), treatments(picture)
    assert list(table["treatment"]) == list(treated)
    for row, pixels in zip(table.to_dict("records"), treated.values(), strict=True):
        said = softmax(tiny.scores(tiny.batch(pixels)))[0]
        assert (row["class"], row["label"]) == (said.argmax(), tiny.labels[said.argmax()])
        assert [row[f"p{k}"] for k in range(4)] == pytest.approx(said.tolist(), rel=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_treatments(channels):
    picture = nets.picture((20, 28), channels)
    found = treatments(picture)
    assert len(found) == 9
    assert all(pixels.shape == picture.shape for pixels in found.values())
    np.testing.assert_allclose(found["PNG, 8 bits"], np.rint(picture * 255) / 255, atol=1e-6)
    errors = [np.abs(found[f"JPEG, quality {quality}"] - picture).mean() for quality in (95, 75, 50)]
    assert errors == sorted(errors)
    assert errors[0] > 0
    whole = np.rint(picture * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(whole[..., 0] if channels == 1 else whole).save(file, "JPEG", quality=75, subsampling=0)
    theirs = np.asarray(Image.open(file), np.float32).reshape(picture.shape) / 255
    np.testing.assert_allclose(found["JPEG, quality 75"], theirs, atol=1e-6)
    flat = treatments(np.full((20, 28, channels), 0.2, np.float32))
    for name, pixels in flat.items():
        np.testing.assert_allclose(pixels, 0.2, atol=2 / 255, err_msg=name)


def test_transfer_asks_every_network_of_every_picture(tiny, tmp_path):
    other = nets.save(nets.tiny(about=nets.Metadata(labels=tuple("abcd"), input_size=nets.SIZE)), tmp_path / "b.onnx")
    made = {"one": nets.picture(), "two": nets.picture((30, 40), seed=2)}
    table = transfer([tiny, other], made)
    assert list(zip(table["picture"], table["net"], strict=True)) == [
        (p, n) for p in ("one", "two") for n in ("tiny", "b")
    ]
    saved = np.rint(nets.picture((30, 40), seed=2) * 255).astype(np.float32) / 255
    said = softmax(other.scores(other.batch(other.view(saved)[0])))[0]
    assert table.iloc[3]["label"] == "abcd"[said.argmax()]
    assert table.iloc[3]["probability"] == pytest.approx(said.max(), rel=1e-4)


def test_the_command_prints_a_matrix_and_writes_its_rows(tmp_path):
    from click.testing import CliRunner

    from engine.cli.main import main

    words = ["transfer", "--nets", "honest,clever_hans", "--image", "planted-disc-square", "--image", "china"]
    outcome = CliRunner().invoke(main, [*words, "--out", str(tmp_path)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    head, first, second = outcome.output.rstrip().split("\n")
    assert head.split() == ["picture", "honest", "clever_hans"]
    assert (first.split()[0], second.split()[0]) == ("planted-disc-square", "china")
    rows = pd.read_csv(tmp_path / "transfer.csv")
    assert list(zip(rows.picture, rows.net, strict=True)) == [
        (picture, net) for picture in ("planted-disc-square", "china") for net in ("honest", "clever_hans")
    ]
    assert f"{rows.label[1]} {rows.probability[1]:.0%}" in first

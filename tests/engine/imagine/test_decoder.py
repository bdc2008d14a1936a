"""Is a decoder found for its own network and no other, and are its pictures those of its file?"""

from __future__ import annotations

import numpy as np
import pytest
import small_nets as nets
import torch

from engine.imagine.decoder import NoDecoder, at_hand, decoded, decoder_for, open_decoder
from engine.net import Net


@pytest.fixture
def file(tiny, cache):
    return nets.decoder(tiny, cache / "decoders")


def test_a_decoder_says_what_it_decodes(tiny, file):
    found = open_decoder(file)
    assert (found.name, found.layer, found.shape) == ("tiny_decoder", "pool1", (5, 6, 8))
    assert found.net_sha256 == tiny.sha256
    np.testing.assert_allclose(found.most, [1.0, 0.8, 0.9, 1.1, 1.2])


def test_the_picture_is_worked_out_by_hand(tiny, file, picture):
    """A 1 x 1 convolution, four channels to four pixels, and a sigmoid: written here in numpy."""
    code = nets.tiny_forward(picture)["pool1"]
    weight = np.random.default_rng(3).normal(0, 1, (12, 5, 1, 1))[:, :, 0, 0]
    four = np.einsum("oc,chw->ohw", weight, code).reshape(3, 2, 2, 6, 8)
    large = four.transpose(3, 1, 4, 2, 0).reshape(12, 16, 3)
    np.testing.assert_allclose(decoded(tiny, picture), 1 / (1 + np.exp(-large)), atol=1e-5)


def test_both_engines_draw_the_same(file):
    found = open_decoder(file)
    codes = np.random.default_rng(0).random((2, *found.shape), np.float32)
    (name,) = found.graph.outputs
    twin = found.twin(torch.from_numpy(codes), [name])[name].permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(found(codes), twin, atol=1e-5)


def test_the_one_of_the_very_network_is_taken(tiny, file, tmp_path):
    """The shipped one comes first, but is another network's."""
    assert decoder_for(tiny).name == "tiny_decoder"
    other = nets.save(nets.tiny(about=nets.ABOUT, tail=[nets.node("Softmax", "logits", "p")]), tmp_path / "other.onnx")
    assert decoder_for(other).name == "imagenette_decoder"
    with pytest.raises(NoDecoder, match=r"no decoder for other: .*imagenette.* train-decoder"):
        decoded(other, nets.picture())


def test_without_any_one_is_told_how_to_get_one(tiny, monkeypatch):
    monkeypatch.setattr("engine.imagine.decoder.at_hand", list)
    with pytest.raises(NoDecoder, match="train-decoder"):
        decoder_for(tiny)


def test_a_file_that_is_none_does_not_hide_the_others(tiny, file):
    (file.parent / "a.onnx").write_bytes(b"nothing")
    assert at_hand()[-2].name == "a.onnx"
    assert decoder_for(tiny).name == "tiny_decoder"


def test_what_is_no_decoder_is_refused(tiny, cache, tmp_path):
    (tmp_path / "noise.onnx").write_bytes(b"nothing")
    for path, wanted in [
        (tmp_path / "none.onnx", "There is no file none.onnx."),
        (tmp_path / "noise.onnx", "is not an ONNX file of a decoder"),
        (tiny.path, "does not say that it is a decoder"),
        (nets.decoder(tiny, tmp_path / "short", mean=[0.5]), "is damaged"),
        (nets.decoder(tiny, tmp_path / "words", most="much"), "is damaged"),
    ]:
        with pytest.raises(NoDecoder) as found:
            open_decoder(path)
        assert wanted in str(found.value)
        assert str(found.value).endswith(".")


def test_the_shipped_one_gives_pictures_back(shared):
    """On held-out photographs, its pixels are nearer than the photograph's own mean colour."""
    import pyarrow.parquet as pq

    from engine import image

    net = Net("exported_models/imagenette.onnx")
    rows = pq.read_table(shared / "data/imagenette160/val.parquet", columns=["image"])["image"].to_pylist()[:16]
    views = np.stack([net.view(image.load(row["bytes"] if isinstance(row, dict) else row))[0] for row in rows])
    made = np.stack([decoded(net, view) for view in views])
    off = np.abs(made - views).mean((1, 2, 3))
    grey = np.abs(views - views.mean((1, 2), keepdims=True)).mean((1, 2, 3))
    assert (off < grey).mean() > 0.8
    assert off.mean() < 0.75 * grey.mean()

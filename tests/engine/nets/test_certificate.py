"""Does the certificate pass a Twin that is right, and catch one that is wrong, forwards or backwards only?"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import small_nets as nets
import torch
from small_nets import node

from engine import twin
from engine.net import Net
from engine.nets import certificate as module
from engine.nets.certificate import NOISE, Certificate, certificate, certify, recall, remember
from engine.ops import packed
from engine.twin import NoGradient

FOUND = Certificate(1e-6, 2e-4, 6, "", module._versions())


def test_tiny_passes(tiny, picture):
    found = certify(tiny, picture)
    assert found.passed
    assert found.reason == ""
    assert found.tensors == 6
    assert 0 < found.tensor < 1e-3
    assert 0 < found.gradient < 1e-2
    assert "onnxruntime" in found.versions
    assert "torch" in found.versions


def test_a_row_per_tensor_and_per_direction(tiny, picture):
    table = certificate(tiny, picture)
    tensors, gradients = table[table.kind == "tensor"], table[table.kind == "gradient"]
    assert list(tensors.name) == ["conv1", "relu1", "pool1", "conv2", "mean", "logits"]
    assert list(tensors.op) == ["Conv", "Relu", "MaxPool", "Conv", "ReduceMean", "Gemm"]
    assert list(tensors["shape"]) == ["5×12×16", "5×12×16", "5×6×8", "6×4×6", "6", "4"]
    expected = nets.tiny_forward(picture)
    np.testing.assert_allclose(tensors.largest, [np.abs(expected[name]).max() for name in tensors.name], rtol=1e-5)
    assert len(gradients) == 4
    np.testing.assert_allclose(table.relative, table.difference / table.largest)


def test_the_slope_along_the_gradient_is_its_length(tiny, picture):
    """Worked out from the numpy version, a pixel at a time, on the picture with the noise that the check adds."""
    x = tiny.batch(picture)
    noise = np.random.default_rng(0).uniform(-NOISE, NOISE, x.shape).astype(np.float32)
    noisy = (x + noise)[0].transpose(1, 2, 0)
    index = int(nets.tiny_forward(noisy)["logits"].argmax())
    slopes = []
    for place in np.ndindex(noisy.shape):
        ends = [noisy.astype(np.float64) for _ in range(2)]
        ends[0][place] += 1e-6
        ends[1][place] -= 1e-6
        after, before = (nets.tiny_forward(end)["logits"][index] for end in ends)
        slopes.append((after - before) / 2e-6)
    table = certificate(tiny, picture)
    (row,) = table[table.name == "along the gradient"].itertuples()
    assert row.largest == pytest.approx(np.linalg.norm(slopes), rel=1e-3)


def replaced(monkeypatch, op, function):
    """For this test, the Twin's `op` is function(the right one's output, x, …)."""
    right = twin.OPS[op]
    monkeypatch.setattr(packed.Kernels, "suits", lambda self, *inputs: False)  # so that convolutions come by OPS, too
    monkeypatch.setitem(twin.OPS, op, lambda x, *more, **how: function(right, x, *more, **how))


def test_a_wrong_value_is_caught_and_named(tiny, picture, monkeypatch):
    replaced(monkeypatch, "Gemm", lambda right, x, *more, **how: right(x, *more, **how) * 1.01)
    found = certify(tiny, picture)
    assert not found.passed
    assert found.reason.startswith("Tensor logits (Gemm) differs")
    assert found.tensor > 1e-3


def test_a_tensor_that_is_wrong_in_one_place_is_caught(tiny, picture, monkeypatch):
    def off(right, x, *more, **how):
        out = right(x, *more, **how)
        more_there = torch.zeros_like(out)
        more_there[0, 1, 3, 5] = 0.01 * float(out.detach().abs().max())
        return out + more_there

    replaced(monkeypatch, "MaxPool", off)
    table = certificate(tiny, picture)
    assert table[table.name == "relu1"].relative.item() < 1e-5
    assert table[table.name == "pool1"].relative.item() == pytest.approx(0.01, rel=1e-3)
    assert not certify(tiny, picture).passed


def test_convolutions_by_packed_kernels_are_compared_too(tiny, picture, monkeypatch):
    right = packed._convolve
    monkeypatch.setattr(packed, "_convolve", lambda *given: right(*given) * 1.01)
    found = certify(tiny, picture)
    assert found.tensor > 0.01
    assert not found.passed


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("op", ["Conv", "Gemm"])
def test_a_value_that_is_no_number_is_caught(tiny, picture, monkeypatch, op):
    """One at the end, too, where all tensors before are right: a maximum that skips it would pass."""
    replaced(monkeypatch, op, lambda right, x, *more, **how: right(x, *more, **how) * math.nan)
    found = certify(tiny, picture)
    assert not found.passed
    assert found.tensor == math.inf
    assert found.reason.startswith("Tensor ")


def test_another_shape_is_caught(tiny, picture, monkeypatch):
    replaced(monkeypatch, "Gemm", lambda right, x, *more, **how: right(x, *more, **how).repeat(2, 1))
    assert "logits" in certify(tiny, picture).reason


def straight(right, wrong):
    """The value of `right` with the gradient of `wrong`."""
    return wrong + (right - wrong).detach()


@pytest.mark.parametrize(
    ("op", "function"),
    [
        ("Relu", lambda right, x: straight(right(x), x)),
        ("Relu", lambda right, x: straight(right(x), 1.05 * right(x))),
        ("MaxPool", lambda right, x, **how: straight(right(x, **how), torch.nn.functional.avg_pool2d(x, 2))),
        ("Gemm", lambda right, x, *more, **how: right(x, *more, **how).detach() + 0 * x.sum()),
        ("Conv", lambda right, x, *more, **how: straight(right(x, *more, **how), right(x.flip(3), *more, **how))),
    ],
    ids=["relu passed through", "relu 5 % too steep", "maximum shared out", "no gradient", "mirrored"],
)
def test_a_gradient_that_is_wrong_behind_right_values_is_caught(tiny, picture, monkeypatch, op, function):
    replaced(monkeypatch, op, function)
    found = certify(tiny, picture)
    assert found.tensor < 1e-5
    assert not found.passed
    assert found.reason.startswith("The gradient ")
    assert found.gradient > 1e-2


class AtARightAngle(torch.autograd.Function):
    """Leaves the value alone and gives back half the gradient and as much at a right angle to it, in pixel units.

    Along the result, the true slope is just as long as the result, so that a check along the gradient alone is content.
    """

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, given):
        std = torch.tensor(nets.STD).view(-1, 1, 1)
        true = given / std
        other = torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
        other -= (other * true).sum() / (true * true).sum() * true
        return (true + other * true.norm() / other.norm()) / 2 * std


def test_a_gradient_that_is_right_along_itself_only_is_caught(tiny, picture, monkeypatch):
    wrong = lambda right, x, *more, **how: right(AtARightAngle.apply(x) if x.shape[1] == 3 else x, *more, **how)  # noqa: E731
    replaced(monkeypatch, "Conv", wrong)
    table = certificate(tiny, picture)
    assert table[table.name == "along the gradient"].relative.item() < 1e-2
    assert not certify(tiny, picture).passed


def test_a_constant_net_has_no_gradient_to_check(tmp_path, picture):
    net = nets.save(nets.linear(np.zeros((2, 3, 12, 16)), np.array([1.0, 2.0])), tmp_path / "flat.onnx")
    found = certify(net, picture)
    assert found.tensor < 1e-6
    assert not found.passed
    assert found.reason == "The gradient is zero everywhere, or no number."


@pytest.mark.usefixtures("no_celu")
def test_an_op_without_a_twin_is_the_reason(tmp_path, picture):
    net = nets.save(nets.tiny(tail=[node("Celu", "logits", "more")], about=nets.ABOUT), tmp_path / "celu.onnx")
    found = certify(net, picture)
    assert not found.passed
    assert "Celu-17" in found.reason
    assert math.isnan(found.tensor)
    assert found.tensors == 0
    with pytest.raises(NoGradient):
        certificate(net, picture)


def test_the_picture_stays_as_it_was(tiny, picture):
    before = picture.copy()
    certificate(tiny, picture)
    np.testing.assert_array_equal(picture, before)


# Kept ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_shipped(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CERTIFICATES", tmp_path / "shipped")
    return tmp_path / "shipped"


def test_what_is_remembered_is_recalled(tiny, cache, nothing_shipped):
    assert recall(tiny) is None
    remember(tiny, FOUND)
    assert recall(tiny) == FOUND
    assert [path.name for path in (cache / "certificates").iterdir()] == [f"{tiny.sha256}.json"]


def test_a_failed_one_is_recalled_with_its_reason(tiny, cache, nothing_shipped):
    remember(tiny, Certificate(math.nan, math.inf, 0, "The op Celu-17 … no twin.", module._versions()))
    found = recall(tiny)
    assert not found.passed
    assert "…" in found.reason
    assert math.isnan(found.tensor)
    assert found.gradient == math.inf


def test_a_later_one_replaces_an_earlier_one(tiny, cache, nothing_shipped):
    remember(tiny, FOUND)
    later = dataclasses.replace(FOUND, tensor=3e-6)
    remember(tiny, later)
    assert recall(tiny) == later


def test_one_of_other_versions_does_not_count(tiny, cache, nothing_shipped):
    remember(tiny, dataclasses.replace(FOUND, versions="onnxruntime 1.0.0, torch 1.0.0"))
    assert recall(tiny) is None


def test_one_of_another_file_does_not_count(tiny, cache, nothing_shipped, tmp_path):
    remember(tiny, FOUND)
    other = nets.save(nets.tiny(), tmp_path / "tiny.onnx")
    assert other.name == tiny.name
    assert recall(other) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'{"tensor": 1}', b"\xff\xfe", b"null"])
def test_one_that_cannot_be_read_does_not_count(tiny, cache, nothing_shipped, content, caplog):
    remember(tiny, FOUND)
    (cache / "certificates" / f"{tiny.sha256}.json").write_bytes(content)
    assert recall(tiny) is None
    assert "cannot be read" in caplog.text


def test_shipped_ones_are_found_first_and_stale_ones_passed_over(tiny, cache, nothing_shipped):
    ours = dataclasses.replace(FOUND, tensors=7)
    remember(tiny, ours)
    remember(tiny, FOUND, nothing_shipped)
    assert recall(tiny) == FOUND
    remember(tiny, dataclasses.replace(FOUND, versions="older"), nothing_shipped)
    assert recall(tiny) == ours


def test_a_folder_that_cannot_be_written_is_no_error(tiny, tmp_path, monkeypatch, caplog, nothing_shipped):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("CONVOSCOPE_HOME", str(tmp_path / "file"))
    remember(tiny, FOUND)
    assert "could not be kept" in caplog.text
    assert recall(tiny) is None


def test_networks_that_ship_pass(picture):
    """Each on noise of its own size."""
    found = sorted(module.SHIPPED.glob("*.onnx"))
    assert {path.stem for path in found} >= {"imagenette", "digits"}
    for path in found:
        net = Net(path)
        kept = recall(net)
        assert kept is not None, "a network ships with its certificate, for the pinned versions"
        assert kept.passed
        noise = np.random.default_rng(0).random((*net.input_size, net.channels), np.float32)
        result = certify(net, noise)
        assert result.passed, (path.name, result.reason)


def test_what_torch_says_of_a_graph_is_a_reason(tiny, picture, monkeypatch):
    def fails(*given, **knobs):
        raise RuntimeError("shapes do not match\nand a stack of C++")

    monkeypatch.setitem(tiny.__dict__, "twin", fails)
    said = "The twin cannot compute this graph: shapes do not match"
    with pytest.raises(NoGradient, match=f"^{said}$"):
        certificate(tiny, picture)
    assert certify(tiny, picture).reason == said

"""Passes in bfloat16: nearly the numbers that ONNX Runtime gives, in every method that offers them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import small_nets as nets
from scipy.stats import spearmanr

from engine import half, methods
from engine.explain.evidence import evidence
from engine.explain.faithfulness import judge
from engine.explain.rise import rise
from engine.explain.score_cam import score_cam
from engine.half import Half, has_bfloat16, in_precision
from engine.net import Net, UnknownLayer
from engine.nets import available as networks
from engine.paint.fast_style import open_style, stylise
from engine.paint.video import pan, stylise_video
from engine.pictures import samples

here = pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")


@pytest.fixture(scope="module")
def imagenette() -> Net:
    return Net(networks.find("imagenette"))


@pytest.fixture(scope="module")
def cat(imagenette) -> np.ndarray:
    return imagenette.view(samples.load("cat"))[0]


@here
@pytest.mark.parametrize("name", ["imagenette", "digits", "clever_hans"])
def test_every_tensor_is_nearly_the_same(name):
    net = Net(networks.find(name))
    batch = np.random.default_rng(0).random((3, net.channels, *net.input_size), np.float32)
    names = [layer.name for layer in net.layers]
    wanted, found = net.activations(batch, names), Half(net).activations(batch, names)
    assert list(found) == list(wanted)
    for each in names:
        assert found[each].dtype == np.float32
        assert found[each].shape == wanted[each].shape
        apart = np.sqrt(((found[each] - wanted[each]) ** 2).mean() / (wanted[each] ** 2).mean())
        assert 0 < apart < 0.03, each


@here
def test_entered_in_the_middle(imagenette, cat):
    batch, layer = imagenette.batch(cat), imagenette.last_map
    start = imagenette.activations(batch, [layer])
    logits = imagenette.logits
    found = Half(imagenette).resume(start, [logits, layer])
    np.testing.assert_array_equal(found[layer], start[layer])
    np.testing.assert_allclose(found[logits], imagenette.resume(start, [logits])[logits], rtol=0.02, atol=0.05)


@here
def test_a_batch_size_that_the_graph_fixes_is_kept(tmp_path):
    """A mean over the batch: pictures that were run together would mix."""
    tail = [("ReduceMean", "logits", "all", {"axes": [0], "keepdims": 1}), ("Add", "logits all", "out", {})]
    tail = [nets.node(op, inputs, output, **how) for op, inputs, output, how in tail]
    net = nets.save(nets.tiny(shape=(1, 3, *nets.SIZE), tail=tail, about=nets.ABOUT), tmp_path / "net.onnx")
    assert net.fixed_batch == 1
    batch = np.random.default_rng(0).random((3, 3, *nets.SIZE), np.float32)
    wanted = net.scores(batch)
    np.testing.assert_allclose(Half(net).scores(batch), wanted, atol=0.02 * np.abs(wanted).max())
    assert np.ptp(wanted, 0).max() > 0.1 * np.abs(wanted).max()  # so that mixed ones would show


@here
def test_many_pictures_go_in_several_passes(imagenette):
    batch = np.random.default_rng(0).random((2 * half.AT_ONCE + 3, 3, *imagenette.input_size), np.float32)
    wanted = imagenette.scores(batch)
    np.testing.assert_allclose(Half(imagenette).scores(batch), wanted, atol=0.03 * np.abs(wanted).max())


def test_it_is_the_same_net_with_results_of_its_own(imagenette, cat):
    rounded = Half(imagenette)
    assert rounded.sha256 != imagenette.sha256
    assert (rounded.name, rounded.labels, rounded.layers) == (imagenette.name, imagenette.labels, imagenette.layers)
    assert rounded.twin is imagenette.twin  # gradients are in float32
    with pytest.raises(UnknownLayer, match="has no tensor 'nowhere'"):
        rounded.activations(imagenette.batch(cat), ["nowhere"])


def test_float32_is_the_net_itself(imagenette):
    assert in_precision(imagenette, "float32") is imagenette


def test_other_precisions_are_refused(imagenette, cat):
    for call in (rise, score_cam):
        with pytest.raises(ValueError, match="'float8' is none of float32, bfloat16"):
            call(imagenette, cat, 0, precision="float8")


def test_it_is_refused_where_there_is_none(monkeypatch, imagenette, cat):
    monkeypatch.setattr(half, "has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="no arithmetic for bfloat16: choose float32"):
        rise(imagenette, cat, 0, masks=4, precision="bfloat16")


@here
def test_one_twin_is_kept(imagenette):
    assert in_precision(imagenette, "bfloat16") is in_precision(imagenette, "bfloat16")


@here
@pytest.mark.thorough
@pytest.mark.parametrize("title", ["Score-CAM", "RISE"])
def test_maps_are_alike(imagenette, cat, title):
    target = int(imagenette.scores(imagenette.batch(cat))[0].argmax())
    wanted, found = (
        evidence(imagenette, cat, target, method=title, precision=each) for each in ("float32", "bfloat16")
    )
    assert not np.array_equal(found, wanted)
    assert spearmanr(found.ravel(), wanted.ravel()).statistic > 0.98


def test_methods_without_a_choice_take_no_notice(imagenette, cat):
    maps = [evidence(imagenette, cat, 0, method="Grad-CAM", precision=each) for each in ("float32", "bfloat16")]
    np.testing.assert_array_equal(*maps)


@here
def test_curves_are_alike(imagenette, cat):
    target = int(imagenette.scores(imagenette.batch(cat))[0].argmax())
    found = evidence(imagenette, cat, target)
    one, other = (judge(imagenette, cat, target, found, points=8, masks=8, precision=p) for p in half.PRECISIONS)
    assert one.insertion == pytest.approx(other.insertion, abs=0.02)
    assert one.deletion == pytest.approx(other.deletion, abs=0.02)
    assert not one.curves.equals(other.curves)


@here
def test_a_painting_looks_the_same(tmp_path):
    net = open_style(next(iter(networks.SHIPPED.glob("styles/*.onnx"))))
    picture = nets.picture((70, 101))
    one, other = (stylise(net, picture, precision=each) for each in half.PRECISIONS)
    assert one.shape == other.shape == picture.shape
    assert 0 < np.abs(one - other).mean() < 0.01  # two levels of 255
    step = None
    for step in stylise_video(net, pan(picture, frames=2), side=64, precision="bfloat16"):  # noqa: B007
        pass
    assert step.result.frames == 2


def test_a_choice_is_an_option_of_its_command():
    found = methods.methods()
    for name in ("score-cam", "rise", "faithfulness", "style-transfer"):
        knob = next(knob for knob in found[name].knobs if knob.name == "precision")
        assert knob.choices == half.PRECISIONS, name
        assert knob.help, name
        assert inspect.signature(found[name].function).parameters["precision"].default == "float32"


@pytest.mark.parametrize("shape", [(1, 3, 6, 7), (2, 3, 6, 7), (1, 3, 9), (1, 40, 6, 7), (2, 40, 6, 7)], ids=str)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_each_channel_is_normalised_by_itself_in_bfloat16_too(shape, last):
    import torch

    from engine.ops.normalisation import instance_normalization

    x = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if last and x.ndim == 4:  # as what another op calls so: one picture's first stride counts for nothing
        x = x.contiguous(memory_format=torch.channels_last).reshape(shape)
    scale, bias = torch.linspace(0.5, 2, shape[1]), torch.linspace(-1, 1, shape[1])
    axes = tuple(range(2, x.ndim))
    form = (1, -1) + (1,) * len(axes)
    centred = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 0.1).sqrt()
    found = instance_normalization(x.bfloat16(), scale, bias, epsilon=0.1)
    assert found.dtype == torch.bfloat16
    wanted = centred * scale.view(form) + bias.view(form)
    np.testing.assert_allclose(found.float(), wanted, rtol=2**-7, atol=2e-2)  # rounded before and after


@pytest.mark.parametrize("weighed", [False, True], ids=["all places", "some places more"])
def test_the_distance_of_gram_matrices_is_exact_and_its_gradient_rounded(weighed):
    """By torch's own gradient, in float32, of values that bfloat16 holds."""
    import torch

    from engine.paint.gram import _away, gram

    draw = torch.Generator().manual_seed(0)
    values = torch.randn((1, 5, 6, 7), generator=draw).bfloat16()
    wanted = gram(torch.randn((1, 5, 6, 7), generator=draw))
    weights = torch.rand((6, 7), generator=draw) if weighed else None
    plain = values.float().requires_grad_()
    score = ((gram(plain, weights) - wanted) ** 2).sum()
    score.backward()
    values.requires_grad_()
    found = _away().apply(values, wanted, weights)
    found.sum().backward()
    assert (found.dtype, values.grad.dtype) == (torch.float32, torch.bfloat16)
    np.testing.assert_allclose(found.detach(), score.detach().reshape(1), rtol=1e-5)
    np.testing.assert_allclose(values.grad.float(), plain.grad, atol=2**-7 * float(plain.grad.abs().max()))

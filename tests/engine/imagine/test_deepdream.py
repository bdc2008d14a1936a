"""DeepDream: what is climbed, what is carried from size to size, and what it takes on large pictures."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import small_nets as small
import torch

from engine import image
from engine.imagine.deepdream import deepdream, deepdream_steps, guided, tiled
from engine.model import metadata
from engine.model.metadata import Metadata
from engine.net import Net, UnknownLayer
from engine.nets import available
from engine.ops.windows import conv
from engine.optimize import ascend
from engine.pictures import samples
from engine.step import last
from engine.target import energy, unit
from engine.trunk import middle, spaced, trunk

SHORT = {"size": 48, "steps": 3, "octaves": 2, "jitter": 2}


@pytest.fixture(scope="module")
def photograph():
    return image.resize(samples.load("china"), (48, 72))


@pytest.fixture(scope="module")
def imagenette():
    return Net(available.find("imagenette"))


# What is climbed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knobs", [{}, {"channel": 2}, {"guide": "flower"}], ids=["all", "channel", "guide"])
def test_the_score_rises_at_each_size(imagenette, photograph, knobs):
    found = deepdream(imagenette, photograph, size=96, steps=6, octaves=2, jitter=0, **knobs)
    first, second = found.scores.reshape(2, 6)
    for scores in (first, second):
        assert scores[-1] > 1.3 * scores[0]
    assert found.pixels.shape == (1, 64, 96, 3)
    assert 0 <= found.pixels.min() < found.pixels.max() <= 1


def test_the_default_layer_is_two_thirds_of_the_way(tiny, photograph):
    assert middle(tiny) == "relu1"
    a, b = (deepdream(tiny, photograph, **SHORT, layer=layer) for layer in (None, "relu1"))
    np.testing.assert_array_equal(a.pixels, b.pixels)


def test_a_guide_is_what_its_definition_says():
    """Each place goes with the guide's place of the largest dot product; the gradient is that place's features."""
    random = np.random.default_rng(0)
    ours, theirs = random.normal(size=(1, 5, 3, 4)).astype(np.float32), random.normal(size=(5, 7)).astype(np.float32)
    x = torch.from_numpy(ours).requires_grad_()
    value = guided("layer", theirs).value({"layer": x})
    products = theirs.T @ ours.reshape(5, 12)  # (7, 12)
    assert value.tolist() == pytest.approx([products.max(0).mean()], rel=1e-5)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    np.testing.assert_allclose(gradient.reshape(5, 12), theirs[:, products.argmax(0)] / 12, rtol=1e-5)


def test_a_guide_makes_another_picture(imagenette, photograph):
    plain, led, other = (
        deepdream(imagenette, photograph, **SHORT, guide=guide).picture for guide in (None, "flower", "brick")
    )
    assert min(np.abs(a - b).mean() for a, b in ((plain, led), (plain, other), (led, other))) > 0.003


# From size to size ----------------------------------------------------------------------------------------------------


def test_without_steps_to_speak_of_the_picture_stays(tiny, photograph):
    """What is carried over is the detail alone: the picture is not blurred by having been small."""
    found = deepdream(tiny, photograph, size=0, octaves=3, steps=2, rate=1e-7)
    np.testing.assert_allclose(found.picture, photograph, atol=1e-4)


def test_detail_is_carried_over(imagenette, photograph):
    """The first step at the larger size changes what is shown by no more than a step: nothing was lost before."""
    rate, steps = 0.01, [step.result for step in deepdream_steps(imagenette, photograph, size=0, steps=4, octaves=2)]
    before, after = steps[3].picture, steps[4].picture
    assert np.abs(after - before).mean() <= rate * 1.001
    assert np.abs(before - photograph).mean() > 2 * rate, "while four steps had changed more than that"
    assert steps[3].x.shape[2:] == (34, 51), "at a smaller size: 48 and 72 by 1.4"
    assert {step.pixels.shape for step in steps} == {(1, 48, 72, 3)}, "but one sees it at the final one"


@pytest.mark.parametrize(("size", "shape"), [(0, (48, 72)), (36, (24, 36)), (100, (67, 100))])
def test_size_is_that_of_the_longest_side(tiny, photograph, size, shape):
    found = deepdream(tiny, photograph, size=size, octaves=1, steps=1)
    assert found.picture.shape == (*shape, 3)


def test_the_picture_may_be_named(tiny, photograph):
    a = deepdream(tiny, photograph, picture="cat", **SHORT)
    b = deepdream(tiny, samples.load("cat"), **SHORT)
    np.testing.assert_array_equal(a.pixels, b.pixels)


# Runs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", [1, 3, 4, 6, 7])
def test_a_run_goes_on_as_if_it_had_not_stopped(tiny, photograph, stopped):
    """In the middle of a size, between two of them, and between two pictures of a film."""
    knobs = {**SHORT, "frames": 3, "zoom": 0.1, "seed": 4}
    whole = list(deepdream_steps(tiny, photograph, **knobs))
    rest = list(deepdream_steps(tiny, photograph, **knobs, resume=whole[stopped - 1].result)) if stopped < 8 else []
    assert [step.index for step in rest] == [step.index for step in whole[stopped:]]
    if rest:
        np.testing.assert_array_equal(rest[-1].result.pixels, whole[-1].result.pixels)
        np.testing.assert_array_equal(rest[-1].result.scores, whole[-1].result.scores)


def test_a_film_flies_in(tiny, photograph):
    steps = list(deepdream_steps(tiny, photograph, **{**SHORT, "rate": 1e-7}, frames=3, zoom=0.2))
    assert [step.index for step in steps] == [1, 2, 3, 4, 5, 6, 12, 18], "later pictures are reported once each"
    assert {step.total for step in steps} == {18}
    once = steps[5].result.picture
    middle_part = image.fit(once, once.shape[:2], crop=0.8)[0]
    np.testing.assert_allclose(steps[6].result.picture, middle_part, atol=1e-4)


def test_the_seed_is_all_that_chance_hangs_on(tiny, photograph):
    a, b, c = (deepdream(tiny, photograph, **SHORT, seed=seed).pixels for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


# Sizes that are not the network's -------------------------------------------------------------------------------------


def gradient_of(target, x):
    x = x.detach().requires_grad_()
    value = target.value(x) if callable(target) else target
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


@pytest.mark.parametrize("size", [(61, 83), (97, 40)])
def test_the_twin_is_right_at_odd_sizes(imagenette, size):
    """The packed convolutions were put into order for the network's own size; plain ones know of none."""
    x = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for ops in (None, {"Conv": conv}):
        value = imagenette.twin(x, ["blocks.1.relu_1"], ops=ops)["blocks.1.relu_1"]
        (gradient,) = torch.autograd.grad((value**2).sum(), x)
        found.append((value.detach(), gradient))
    for packed, plain in zip(*found, strict=True):
        assert packed.shape == plain.shape
        assert (packed - plain).abs().max() < 1e-4 * plain.abs().max()


@pytest.mark.parametrize("name", ["blocks.3.relu_1", "blocks.5.relu_1", "logits"])
def test_skip_connections_go_together_at_odd_sizes(imagenette, name):
    """One arm has a stride that rounds up, the other a pool that rounds down."""
    picture = small.picture((61, 83))
    found = deepdream(imagenette, picture, layer=name, size=0, steps=1, octaves=2)
    assert found.picture.shape == (61, 83, 3)


@pytest.mark.parametrize("target", [lambda net: energy(net, "conv2"), lambda net: unit(net, "conv2", 1)])
def test_one_tile_is_the_whole(tiny, target):
    net, target = tiny, target(tiny)
    x = ascend.tensor(small.picture((24, 32)))
    given = {net.graph.input: x.requires_grad_()}
    value = target.value(net.twin(None, target.names, start=given))
    (gradient,) = torch.autograd.grad(value.sum(), x)
    one = tiled(net, target, 64).value(given)
    np.testing.assert_allclose(one.detach(), value.detach(), rtol=1e-6)
    np.testing.assert_allclose(torch.autograd.grad(one.sum(), x)[0], gradient, rtol=1e-4, atol=1e-8)


def test_tiles_count_by_their_area(tiny):
    net, target = tiny, unit(tiny, "conv1", 1)
    x = ascend.tensor(small.picture((24, 34))).requires_grad_()
    value = tiled(net, target, 16).value({net.graph.input: x})  # rows 12 + 12; columns 12, 10 and 12, at even places
    (gradient,) = torch.autograd.grad(value.sum(), x)
    parts = [x.detach()[:, :, r : r + 12, c:d] for r in (0, 12) for c, d in ((0, 11), (11, 23), (23, 34))]
    wanted = sum(
        float(target.value(net.twin(None, target.names, start={net.graph.input: part}))) * part[0, 0].numel()
        for part in parts
    ) / (24 * 34)
    assert float(value) == pytest.approx(wanted, rel=1e-5)
    assert (gradient != 0).any((0, 1)).all(), "and every pixel has its gradient"


def test_tiles_leave_no_seams(imagenette):
    """Where tiles meet, the picture changes no more than elsewhere, because they never meet at the same place twice."""
    grey = np.random.default_rng(0).normal(0.5, 0.05, (128, 256, 3)).astype(np.float32)
    found = deepdream(imagenette, grey, size=0, steps=12, octaves=1, tile=64, layer="blocks.1.relu_1").picture
    jumps = np.abs(np.diff(found, axis=1)).mean((0, 2))
    assert jumps[[63, 127, 191]].mean() < 1.3 * jumps.mean()


@pytest.mark.thorough
def test_memory_is_bounded_by_the_tile(shared, tmp_path):
    """Of a process that dreams on 1920 by 1080 pixels with SqueezeNet on a CPU."""
    if sys.platform != "linux":
        pytest.skip("The peak of a process's memory is read as Linux states it.")
    script = f"""
import numpy as np
from pathlib import Path
from engine.net import Net
from engine.imagine.deepdream import deepdream
net = Net({str(shared / "nets" / "squeezenet1_1_imagenet.onnx")!r})
picture = np.random.default_rng(0).random((1080, 1920, 3), np.float32)
found = deepdream(net, picture, size=1920, steps=1, octaves=2)
assert found.picture.shape == (1080, 1920, 3)
status = Path("/proc/self/status").read_text().splitlines()  # getrusage would count what the parent was before exec
print(next(int(line.split()[1]) / 2**20 for line in status if line.startswith("VmHWM")))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    assert float(run.stdout.split()[-1]) < 4, "GiB"


# What cannot be done --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "knobs", "said"),
    [
        ((24, 32), {"layer": "nowhere"}, "no layer 'nowhere'"),
        ((1, 4000), {}, "long and thin"),
        ((24, 32), {"size": 100_000}, "to 4096"),
        ((24, 32), {"channel": 99}, "channels 0 to"),
        ((24, 32), {"channel": 1, "guide": "cat"}, "not both"),
        ((24, 32), {"guide": "nobody"}, "no file and no sample"),
        ((24, 32), {"picture": "nobody"}, "no file and no sample"),
        ((24, 32), {"octaves": 0}, "at least 1 octave"),
        ((24, 32), {"zoom": 1.0}, "below 1"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(tiny, size, knobs, said):
    with pytest.raises((ValueError, UnknownLayer), match=said) as error:
        deepdream(tiny, small.picture(size), **knobs)
    assert str(error.value).count("\n") == 0
    assert str(error.value).endswith(".")


def test_a_layer_that_holds_to_the_networks_own_size_says_so(tmp_path):
    net = small.save(small.linear(np.ones((4, 3, 12, 16)), np.zeros(4)), tmp_path / "linear.onnx")
    with pytest.raises(ValueError, match=r"Layer logits of linear cannot be had of 24 × 32 pixels"):
        deepdream(net, small.picture((24, 32)), layer="logits", octaves=1, size=0)
    last(deepdream_steps(net, small.picture(), layer="logits", octaves=1, size=0, steps=1))


def test_a_picture_that_gets_too_small_for_a_layer_says_so(tiny):
    with pytest.raises(ValueError, match="fewer octaves"):
        deepdream(tiny, small.picture(), size=0, octaves=6, layer="conv2")


# The trunk ------------------------------------------------------------------------------------------------------------


def test_the_trunk_is_what_nothing_by_passes(imagenette):
    names = [layer.name for layer in trunk(imagenette)]
    assert names == ["stem.2", *(f"blocks.{k}.relu_1" for k in range(6))]
    assert middle(imagenette) == "blocks.3.relu_1"
    assert spaced(imagenette, 3) == ["stem.2", "blocks.2.relu_1", "blocks.5.relu_1"]
    assert spaced(imagenette, 99) == names


def test_googlenets_middle_is_where_its_animals_are(shared):
    path = shared / "nets" / "googlenet_imagenet.onnx"
    assert middle(Net(path)) == "/inc4c/Concat_output_0"


def test_the_sky_on_googlenet(shared):
    """That one sees animals in it, only an eye can tell; but what the layer finds there must have grown."""
    model = onnx.load(shared / "nets" / "googlenet_imagenet.onnx")
    about = Metadata(input_size=(224, 224), mean=(123 / 255, 117 / 255, 104 / 255), std=(1 / 255,) * 3)
    metadata.write(model, about)
    net = Net("googlenet.onnx", content=model.SerializeToString())
    sky = image.load(shared / "photos" / "sky_deepdream.jpg")
    found = deepdream(net, sky, size=160, octaves=2, steps=8)
    assert found.scores[7] > 1.5 * found.scores[0]
    assert np.abs(found.picture - image.resize(sky, found.picture.shape[:2])).mean() > 0.02

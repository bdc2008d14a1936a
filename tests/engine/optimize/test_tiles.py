"""A large picture tile by tile: the same number with the same gradient as at once, in less memory."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import small_nets as nets
import torch

from engine.half import has_bfloat16
from engine.net import Net
from engine.nets import available as networks
from engine.nets.folder import PROJECT
from engine.optimize import ascend
from engine.optimize.tiles import Part, at_once, tiled, windows
from engine.paint.gram import features, looked, texture_tally
from engine.paint.style_transfer import resemblance, strength, style_transfer, style_transfer_steps, wanted


@pytest.fixture(scope="module")
def imagenette() -> Net:
    return Net(networks.find("imagenette"))


def climbed(net: Net, target, pixels: np.ndarray) -> tuple[float, torch.Tensor]:
    """The target's value of a picture, and its gradient by the pixels."""
    x = ascend.tensor(pixels).requires_grad_()
    value = target.value(net.twin(x, target.names))
    return float(value.detach()), torch.autograd.grad(value.sum(), x)[0]


def same(net: Net, tally, pixels: np.ndarray, tile: int) -> None:
    (whole, wanted), (found, gradient) = (
        climbed(net, target, pixels) for target in (at_once(tally), tiled(net, tally, tile))
    )
    assert found == pytest.approx(whole, rel=1e-4)
    assert float((gradient - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("tile", [8, 16, 20, 33, 64])
@pytest.mark.parametrize("size", [(40, 56), (37, 51), (64, 12)], ids=str)
def test_the_gradient_is_that_of_the_whole_picture(tiny, tile, size):
    """Everywhere, also at the seams and the edges, and where sides are no multiples of the stride."""
    mask = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)
    styles = [nets.picture((30, 40), seed=seed) for seed in (1, 2)]
    tally = wanted(
        tiny,
        nets.picture(size),
        styles,
        40,
        layers=["relu1", "conv2"],
        regions=[mask, 1 - mask],
        content_layer="conv2",
        dream=0.3,
        dream_layer="pool1",
    )
    same(tiny, tally, nets.picture(size, seed=3), tile)


@pytest.mark.parametrize("size", [(160, 208), (208, 144)], ids=str)
@pytest.mark.parametrize("tile", [48, 100])
def test_a_deep_net_with_shortcuts(imagenette, size, tile):
    """Its deepest layer sees 211 pixels, more than the whole picture; its shortcuts need whole strides."""
    tally = wanted(imagenette, nets.picture(size), [nets.picture((64, 96), seed=1)], 96)
    same(imagenette, tally, nets.picture(size, seed=3), tile)


@pytest.mark.parametrize("kind", ["texture", "content", "dream"])
def test_each_part_alone(imagenette, kind):
    """Each in its own right, so that none hides behind a larger one."""
    size, layer = (96, 128), "blocks.1.relu_1"
    picture = nets.picture(size)
    tally = {
        "texture": lambda: texture_tally(imagenette, [nets.picture((64, 64), seed=2)], [layer]),
        "content": lambda: resemblance(imagenette, picture, layer),
        "dream": lambda: strength(layer),
    }[kind]()
    same(imagenette, tally, nets.picture(size, seed=3), 32)


def test_features_and_textures_are_read_by_tiles_too(imagenette):
    picture, names = nets.picture((96, 128)), ["stem.2", "blocks.3.relu_1"]
    whole, found = features(imagenette, picture, names), features(imagenette, picture, names, 48)
    for name in names:
        torch.testing.assert_close(found[name], whole[name], rtol=1e-4, atol=1e-5)
    tallies = [texture_tally(imagenette, [picture], names, tile=tile) for tile in (None, 48)]
    values = features(imagenette, nets.picture((64, 64), seed=1), names)
    assert float(at_once(tallies[1]).value(values)) == pytest.approx(float(at_once(tallies[0]).value(values)), rel=1e-4)


def test_a_tile_sees_what_its_places_see_and_no_more(imagenette):
    """The layer `stem.2` sees 7 pixels, 2 apart, from -3 on."""
    found = windows(imagenette, ["stem.2"], (64, 100), 50)
    assert [(w.rows.counts, w.cols.counts) for w in found] == [
        (slice(rows, min(rows + 32, 64)), cols) for rows in (0, 32) for cols in (slice(0, 50), slice(50, 100))
    ]
    assert [w.cols.seen for w in found[:2]] == [slice(0, 52), slice(46, 100)]
    assert [w.rows.seen for w in found[::2]] == [slice(0, 34), slice(28, 64)]


def test_every_place_counts_once(imagenette):
    """Whatever the size: each is in one tile and no other."""
    for size in ((64, 96), (65, 97), (50, 47)):
        whole = features(imagenette, nets.picture(size), ["stem.2"])["stem.2"].shape[2:]
        seen = np.zeros(tuple(whole), int)

        def sums(values, parts: dict[str, Part], seen=seen, whole=whole):
            part = parts["stem.2"]
            assert part.size == tuple(whole)
            seen[part.rows, part.cols] += 1
            return []

        looked(imagenette, nets.picture(size), ["stem.2"], sums, 16)
        assert (seen == 1).all()


def test_small_pictures_are_seen_at_once(tiny):
    """And then without a pass more."""
    tally = strength("conv2")
    calls = []
    counted = type(tally)(tally.names, lambda *a: calls.append(1) or tally.sums(*a), 2, tally.score, "", "")
    climbed(tiny, tiled(tiny, counted, 40), nets.picture((30, 40)))
    assert len(calls) == 1
    climbed(tiny, tiled(tiny, counted, 20), nets.picture((30, 40)))
    assert len(calls) == 1 + 2 * 4


def test_a_layer_that_sees_everything_cannot_be_cut(tiny):
    tally = strength("logits")
    with pytest.raises(ValueError, match=r"^Each place of layer logits sees the whole picture.*smaller picture\.$"):
        climbed(tiny, tiled(tiny, tally, 6), nets.picture((12, 16)))


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
def test_bfloat16_paints_alike(imagenette):
    given = nets.picture((96, 128)), nets.picture((64, 64), seed=1)
    exact, found = (
        style_transfer(imagenette, *given, size=128, steps=10, precision=precision)
        for precision in ("float32", "bfloat16")
    )
    assert found.scores[-1, 0] == pytest.approx(exact.scores[-1, 0], rel=0.2)


@pytest.mark.parametrize("tile", [256, 48], ids=["at once", "by tiles"])
def test_the_gradient_in_bfloat16_points_the_same_way(imagenette, tile):
    """Everywhere: a processor that has none imitates it. The layers' values have 8 bits, the sums 24."""
    size = (96, 128)
    tally = wanted(imagenette, nets.picture(size), [nets.picture((64, 64), seed=1)], 96)
    (value, exact), (other, found) = (
        climbed(imagenette, tiled(imagenette, tally, tile, half=half), nets.picture(size, seed=3))
        for half in (False, True)
    )
    assert other != value
    assert other == pytest.approx(value, rel=0.02)
    assert float(torch.cosine_similarity(found.flatten(), exact.flatten(), 0)) > 0.98


def test_bfloat16_is_refused_where_there_is_none(tiny, monkeypatch):
    monkeypatch.setattr("engine.half.has_bfloat16", lambda: False)
    with pytest.raises(ValueError, match="no arithmetic for bfloat16: choose float32"):
        style_transfer(tiny, nets.picture((30, 40)), nets.picture((40, 40)), precision="bfloat16")


# A run of them --------------------------------------------------------------------------------------------------------


def test_a_run_by_tiles_makes_the_same_picture(tiny):
    how = {"size": 128, "steps": 6, "stages": 2, "colours": "luminance"}
    whole, found = (
        style_transfer(tiny, nets.picture((30, 40)), nets.picture((40, 40), seed=1), tile=tile, **how)
        for tile in (512, 32)
    )
    np.testing.assert_allclose(found.scores, whole.scores, rtol=1e-3)
    np.testing.assert_allclose(found.pixels, whole.pixels, atol=0.02)


def test_a_run_by_tiles_is_taken_up_where_it_stopped(tiny):
    how = {"size": 128, "steps": 4, "stages": 2, "tile": 32}
    given = nets.picture((30, 40)), nets.picture((40, 40), seed=1)
    whole = list(style_transfer_steps(tiny, *given, **how))
    late = list(style_transfer_steps(tiny, *given, **how, resume=whole[2].result))
    np.testing.assert_array_equal(late[-1].result.pixels, whole[-1].result.pixels)


MEASURE = """
import sys
from pathlib import Path
import numpy as np
from engine.nets import available
from engine.net import Net
from engine.paint.style_transfer import style_transfer
net = Net(available.find("imagenette"))
picture = np.random.default_rng(0).random((240, 320, 3), np.float32)
layers = {"layers": "blocks.1.relu_1", "content_layer": "blocks.1.relu_1", "style_size": 0.1, "canvas": "pixels"}
style_transfer(net, picture, picture, size=1536, steps=1, stages=1, tile=int(sys.argv[1]), **layers)
status = Path("/proc/self/status").read_text().splitlines()  # getrusage would count what the parent was before exec
print(next(int(line.split()[1]) >> 10 for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform != "linux", reason="The peak of a process's memory is read as Linux states it.")
def test_memory_is_bounded_by_the_tile():
    """A picture of 1536 pixels: both processes hold torch and the picture; at once, all features, too."""

    def peak(tile: int) -> int:
        code = [sys.executable, "-c", MEASURE, str(tile)]
        env = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
        return int(subprocess.run(code, capture_output=True, text=True, check=True, cwd=PROJECT, env=env).stdout)

    at_once, by_tiles = peak(1536), peak(256)  # MiB
    assert by_tiles < at_once - 100, (by_tiles, at_once)

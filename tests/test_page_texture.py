"""The pages that paint by optimisation: textures and style transfer."""

from __future__ import annotations

import io

import numpy as np
import pytest
from test_pages import charts, fine, home, opened, scene  # noqa: F401

from engine import image, samples
from engine.style_transfer import style_transfer
from engine.texture import texture
from engine.texture_growing import cut, grow
from ui import frame


@pytest.fixture
def given(monkeypatch) -> dict[str, bytes]:
    """What the page offers for download, by file name."""
    found, foot = {}, frame.foot

    def listen(*arguments, downloads=(), **more):
        found.update({file: data() if callable(data) else data for _, file, data, _ in downloads})
        foot(*arguments, downloads=downloads, **more)

    monkeypatch.setattr(frame, "foot", listen)
    return found


def test_the_picture_is_the_engines(given):
    at = opened("texture", net="digits", steps=4, size=40, depth=2, start="mean colour", seed=3)
    assert fine(at)
    net = scene(at).net
    source = net.view(samples.load("brick"))[0]
    expected = texture(net, source, steps=4, size=40, depth=2, start="mean colour", seed=3)
    arrays = np.load(io.BytesIO(given["texture.npz"]))
    np.testing.assert_allclose(arrays["pixels"], expected.pixels, atol=1e-4)
    assert image.load(given["texture.png"]).shape == (40, 40, 3)
    assert len(charts(at)) == 2, "the score, and how far off each layer is"


def test_a_chosen_picture_is_the_texture(given):
    at = opened("texture", net="digits", steps=3, size=40, image="gravel")
    assert fine(at)
    expected = texture(scene(at).net, scene(at).pixels, steps=3, size=40)
    np.testing.assert_allclose(np.load(io.BytesIO(given["texture.npz"]))["pixels"], expected.pixels, atol=1e-4)


def test_depth_by_depth(given):
    at = opened("texture", net="digits", steps=3, size=40, view="depth by depth")
    assert fine(at)
    assert np.load(io.BytesIO(given["textures.npz"]))["pixels"].shape == (3, 40, 40, 1)
    assert not at.get("skeleton")


def test_beside_growing(given):
    at = opened("texture", net="digits", steps=3, size=48, view="beside growing", window=5)
    assert fine(at)
    sample = cut(scene(at).net.view(samples.load("brick"))[0], longest=48)
    expected = grow(sample, size=48, window=5).picture
    assert np.abs(image.load(given["grown.png"])[..., :1] - expected).max() <= 0.5 / 255 + 1e-6


def test_a_painting_is_the_engines(given):
    at = opened("style_transfer", net="digits", steps=4, size=64, style="gravel", content=0.3, image="digit-4")
    assert fine(at)
    expected = style_transfer(
        scene(at).net, samples.load("digit-4"), samples.load("gravel"), size=64, steps=4, content=0.3
    )
    np.testing.assert_allclose(np.load(io.BytesIO(given["style.npz"]))["pixels"], expected.pixels, atol=1e-4)
    assert any("picture='digit-4'" in each.value for each in at.code)
    assert charts(at)


@pytest.mark.parametrize("where", ["everywhere, mixed", "left and right", "above and below"])
def test_two_styles(where):
    at = opened("style_transfer", net="digits", steps=3, size=64, second=True, style2="grass", regions=where, share=0.3)
    assert fine(at)
    assert sum(each.value.startswith("**The style: ") for each in at.markdown) == 2


@pytest.mark.parametrize("colours", ["luminance", "histogram"])
def test_colours_that_are_kept(colours):
    assert fine(opened("style_transfer", net="imagenette", steps=2, size=64, colours=colours))


def test_a_style_that_has_not_come_yet():
    at = opened("style_transfer", net="digits", steps=3, size=64, style="one of your own")
    assert fine(at)
    assert any("Until there is one" in each.value for each in at.caption)

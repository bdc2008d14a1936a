"""The pages that paint by optimisation: textures and style transfer."""

from __future__ import annotations

import io

import numpy as np
import pytest
import small_nets as nets
from streamlit.testing.v1 import AppTest
from test_pages import charts, fine, home, opened, run, scene, uploaded  # noqa: F401

from engine import image
from engine.paint.growing import cut, grow
from engine.paint.style_transfer import named, style_transfer
from engine.paint.texture import texture
from engine.pictures import samples


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
    assert given["textures.gif"].startswith(b"GIF8")
    assert not at.get("skeleton")


def test_beside_growing(given):
    at = opened("texture", net="digits", steps=3, size=48, view="beside growing", window=5)
    assert fine(at)
    expected = grow(cut(samples.load("brick"), longest=48), size=48, window=5).picture
    np.testing.assert_array_equal(np.load(io.BytesIO(given["grown.npz"]))["picture"], expected)
    assert np.abs(image.load(given["grown.png"]) - expected).max() <= 0.5 / 255 + 1e-6
    assert {"grown.gif", "grown.mp4", "texture.png"} <= given.keys()
    labels = [each.label for each in at.get("download_button")]
    assert len(set(labels)) == len(labels) == 8
    (python,) = (each.value for each in at.code if "import cut, grow" in each.value)
    (shell,) = (each.value for each in at.code if "engine grow" in each.value)
    assert "python -m engine grow --image brick --longest 48 --size 48 --window 5 --seed 0 " in shell
    exec(python, made := {})
    np.testing.assert_array_equal(made["grown"].picture, expected)


def test_a_picture_too_small_to_be_copied_from_is_still_a_texture():
    at = uploaded(image.to_png(nets.picture((8, 8))), "texture", net="digits", steps=3, size=48, view="beside growing")
    assert not at.exception
    assert [error.value for error in at.error] == [
        "A picture of 8 x 8 pixels is too small; take one of 12 a side or more."
    ]
    assert charts(at), "the network's own is there"


def test_a_painting_is_the_engines(given):
    at = opened("style_transfer", net="digits", steps=4, size=64, style="gravel", content=0.3, image="digit-4")
    assert fine(at)
    net, picture, style = scene(at).net, samples.load("digit-4"), samples.load("gravel")
    expected = style_transfer(net, picture, style, size=64, steps=4, content=0.3)
    np.testing.assert_allclose(np.load(io.BytesIO(given["style.npz"]))["pixels"], expected.pixels, atol=1e-4)
    assert any("picture='digit-4'" in each.value for each in at.code)
    assert charts(at)


TWO = ["everywhere, mixed", "left and right", "above and below", "centre and around", "the thing and behind it"]


@pytest.mark.parametrize("where", TWO)
def test_two_styles(where, given):
    at = opened(
        "style_transfer", net="digits", steps=3, size=64, second=True, style2="grass", regions=where, share=0.25
    )
    assert fine(at)
    assert sum(each.value.startswith("**The style: ") for each in at.markdown) == 2
    net, styles = scene(at).net, [named("swirls"), named("grass")]
    how = {"shares": "1,3"} if where == TWO[0] else {"regions": PLACES[where]}
    expected = style_transfer(net, scene(at).picture, styles, size=64, steps=3, **how)
    np.testing.assert_allclose(np.load(io.BytesIO(given["style.npz"]))["pixels"], expected.pixels, atol=1e-4)
    (command,) = [each.value for each in at.code if "python -m engine" in each.value]
    assert "--style swirls,grass" in command
    assert ("--shares 0.25,0.75" if where == TWO[0] else f"--regions {PLACES[where]}") in command


PLACES = dict(zip(TWO[1:], ["left,right", "top,bottom", "centre,around", "thing,behind"], strict=True))


def test_one_style_in_one_place(given):
    at = opened("style_transfer", net="digits", steps=3, size=64, regions="left")
    assert fine(at)
    expected = style_transfer(scene(at).net, scene(at).picture, named("swirls"), size=64, steps=3, regions="left")
    np.testing.assert_allclose(np.load(io.BytesIO(given["style.npz"]))["pixels"], expected.pixels, atol=1e-4)


def with_masks(*masks: np.ndarray) -> AppTest:
    """The page with two styles and masks of the user's own."""
    at = opened("style_transfer", net="digits", steps=3, size=64, second=True, regions="by masks of your own")
    for index, mask in enumerate(masks):
        at.session_state[f"kept_mask{index + 1}"] = image.to_png(mask)
    return run(at)


def test_masks_of_ones_own(given):
    at = opened("style_transfer", net="digits", steps=3, size=64, second=True, regions="by masks of your own")
    assert fine(at)
    assert any("painted everywhere" in each.value for each in at.caption)
    height, width = scene(at).picture.shape[:2]
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 3] = 1
    at = with_masks(mask)
    assert fine(at)
    found = [named("swirls"), named("glass")]
    expected = style_transfer(scene(at).net, scene(at).picture, found, size=64, steps=3, regions=[mask, 1 - mask])
    np.testing.assert_allclose(np.load(io.BytesIO(given["style.npz"]))["pixels"], expected.pixels, atol=1e-4)
    assert any("--regions your-mask-1.png,your-mask-2.png" in each.value for each in at.code)


@pytest.mark.parametrize(
    ("mask", "message"),
    [(np.ones((64, 20), np.float32), "does not fit"), (np.zeros((8, 8), np.float32), "black all")],
)
def test_masks_that_cannot_be_used(mask, message):
    """One sentence, and the picture is painted everywhere."""
    at = with_masks(mask)
    assert not at.exception
    (error,) = [each.value for each in at.error]
    assert message in error


@pytest.mark.parametrize("colours", ["luminance", "histogram"])
def test_colours_that_are_kept(colours):
    assert fine(opened("style_transfer", net="imagenette", steps=2, size=64, colours=colours))


def test_a_style_that_has_not_come_yet():
    at = opened("style_transfer", net="digits", steps=3, size=64, style="one of your own")
    assert fine(at)
    assert any("Until there is one" in each.value for each in at.caption)

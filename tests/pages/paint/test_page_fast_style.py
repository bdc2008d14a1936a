"""Fast style: is what one sees, mixes and takes home what the engine paints, and do videos come out whole?"""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from test_fast_style import ABOUT, decoded, tinted, video
from test_pages import charts, code, fine, home, opened, run, scene  # noqa: F401

from engine import image
from engine.cli.main import main as engine
from engine.paint import fast_style
from ui import foot


@pytest.fixture(autouse=True)
def two(home) -> Path:  # noqa: F811
    """A style network of two styles, of which one knows what they do, in the user's folder."""
    (home / "styles").mkdir(exist_ok=True)
    path = home / "styles" / "two.onnx"
    path.write_bytes(tinted(about=ABOUT).SerializeToString())
    return path


@pytest.fixture
def given(monkeypatch) -> dict:
    """What the page offers for download, by file name."""
    files, draw = {}, foot.foot

    def listen(*arguments, downloads=(), **more):
        files.clear()
        files.update({file: data for _, file, data, _ in downloads})
        draw(*arguments, downloads=downloads, **more)

    monkeypatch.setattr(foot, "foot", listen)
    return files


def page(**link):
    return opened("fast_style", net="digits", image="cat", painter="two", **link)


def test_the_download_is_the_engines(given, two):
    at = page(mix_half=0.5, mix_negative=0.25, side=320)
    assert fine(at)
    expected = fast_style.stylise(fast_style.open_style(two), scene(at).picture, mix=[2, 1], side=320)
    written = np.asarray(Image.open(io.BytesIO(given["painted.png"]()))) / 255
    np.testing.assert_allclose(written, expected, atol=1 / 254)
    assert charts(at)


def test_python_and_the_command_line_give_the_same(given, tmp_path):
    at = page(mix_negative=0.5)
    with np.load(io.BytesIO(given["painted.npz"]())) as arrays:
        pixels = arrays["pixels"]
    space: dict = {}
    exec(code(at, "python"), space)
    np.testing.assert_allclose(space["result"], pixels, atol=1e-6)
    words = shlex.split(code(at, "bash").removeprefix("python -m engine "))
    assert words[-1] == "result/"
    found = CliRunner().invoke(engine, [*words[:-1], str(tmp_path)])
    assert found.exit_code == 0, found.output
    np.testing.assert_allclose(image.load(tmp_path / "picture.png"), pixels, atol=1 / 254)


def test_a_link_restores_the_mix():
    at = page(mix_half="0.3", mix_negative="0.9", side="480")
    assert fine(at)
    assert [at.get_by_key(key).value for key in ("mix_half", "mix_negative", "side")] == [0.3, 0.9, 480]
    assert at.query_params["mix_half"] == "0.3"


def test_all_weights_at_zero_are_told():
    at = page(mix_half=0.0)
    assert fine(at)
    assert any("All weights are 0" in each.value for each in at.info)


def test_without_a_video_a_walk_across_the_picture_is_painted(given):
    at = page(of="a video", video_side=160, seconds=1)
    assert fine(at)
    made = decoded(given["painted.mp4"]())
    assert made.shape == (12, 112, 160, 3)
    assert len(charts(at)) == 2
    assert at.get("video")


def test_a_video_of_ones_own(given):
    at = page(of="a video", video_side=160, mix_half=0, mix_negative=1)
    at.get_by_key("video").upload("mine.mp4", video(), "video/mp4")
    assert fine(run(at))
    made = decoded(given["painted.mp4"]())
    assert made.shape == (12, 48, 64, 3)
    assert made[0].mean() > made[-1].mean(), "it gets brighter, and the negative darker"


def test_what_is_no_video_is_told_in_one_sentence(given):
    at = page(of="a video")
    at.get_by_key("video").upload("mine.mp4", b"no video at all", "video/mp4")
    run(at)
    assert not at.exception
    (error,) = at.error
    assert error.value.endswith("try again.")
    assert not given


def test_what_is_no_style_network_is_told_in_one_sentence(two):
    two.write_bytes(b"no network")
    at = page()
    assert not at.exception
    (error,) = at.error
    assert "two.onnx" in error.value
    assert charts(at), "the picture is still there"


def test_a_network_of_ones_own():
    at = opened("fast_style", net="digits", image="cat", painter="upload")
    assert fine(at)
    at.get_by_key("own_painter").upload("mine.onnx", tinted().SerializeToString(), "application/octet-stream")
    assert fine(run(at))
    assert [slider.label for slider in at.slider][:2] == ["Style 1", "Style 2"]
    assert 'open_style(find("mine.onnx"))' in code(at, "python").replace("'", '"')

"""Does a style network paint what its file computes, on pictures of any size, on videos, and say what is wrong?"""

from __future__ import annotations

import io
import json
from types import SimpleNamespace

import av
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import TensorProto, helper

from engine import image
from engine.cli.main import main as engine
from engine.nets import available
from engine.paint import fast_style
from engine.paint import video as moving
from engine.paint.fast_style import BadMix, BadStyleNet, mixed, open_style, stylise, weights
from engine.paint.video import NotAVideo, stylise_video
from engine.step import last


def model(nodes, *, inputs, weights=(), about=None, sides=("H", "W"), out=("Ho", "Wo")) -> onnx.ModelProto:
    """A graph from `image` (and `style`) to `picture`."""
    shapes = {"image": [1, 3, *sides], "style": ["B", 2]}
    graph = helper.make_graph(
        nodes,
        "style",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in inputs],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, *out])],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in dict(weights).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for key, value in (about or {}).items():
        made.metadata_props.add(key=key, value=value if isinstance(value, str) else json.dumps(value))
    return made


def opened(made: onnx.ModelProto, name: str = "some.onnx") -> fast_style.StyleNet:
    return open_style(name, content=made.SerializeToString())


def tinted(**more) -> onnx.ModelProto:
    """Two styles: the first one halves the picture's values, the second takes them off 1."""
    nodes = [
        helper.make_node("MatMul", ["style", "scales"], ["row"]),
        helper.make_node("MatMul", ["style", "shifts"], ["add"]),
        helper.make_node("Reshape", ["row", "form"], ["scale"]),
        helper.make_node("Reshape", ["add", "form"], ["shift"]),
        helper.make_node("Mul", ["image", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["picture"]),
    ]
    made = model(nodes, inputs=["image", "style"], weights={"scales": [[0.5], [-1]], "shifts": [[0], [1]]}, **more)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 1, 1, 1]), "form"))
    return made


def halved(**more) -> onnx.ModelProto:
    """Takes values to 255, multiples of 4 alone: pooled by 4, spread again, and added to what was there."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["small"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Resize", ["small", "", "factors"], ["large"], mode="nearest"),
        helper.make_node("Add", ["image", "large"], ["sum"]),
        helper.make_node("Mul", ["sum", "half"], ["picture"]),
    ]
    return model(nodes, inputs=["image"], weights={"factors": [1, 1, 4, 4], "half": 0.5}, **more)


ABOUT = {"kind": "style", "styles": ["half", "negative"], "range": 1, "source": "A test.", "licence": "None."}


@pytest.fixture(scope="module")
def two() -> fast_style.StyleNet:
    return opened(tinted(about=ABOUT))


def photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((*size, 3)).astype(np.float32)


# Opening --------------------------------------------------------------------------------------------------------------


def test_what_the_file_says_is_taken(two):
    assert (two.styles, two.top, two.multiple, two.size) == (("half", "negative"), 1.0, 1, None)
    assert (two.source, two.licence, two.notes, two.mixes) == ("A test.", "None.", (), True)
    assert two.engine in ("CPU", "CUDA")


def test_what_the_file_does_not_say_is_found_out_and_said():
    bare = opened(halved(), "bare.onnx")
    assert (bare.styles, bare.top, bare.multiple) == (("bare",), 255.0, 4)
    assert len(bare.notes) == 2
    assert all(note.endswith(".") for note in bare.notes)
    squeezed = model([helper.make_node("Sigmoid", ["image"], ["picture"])], inputs=["image"])
    assert opened(squeezed).top == 1.0


@pytest.mark.parametrize(
    ("about", "top"),
    [
        ({"input": "RGB 0..255", "output": "RGB 0..255"}, 255),
        ({"range": 255}, 255),
        ({"range": "0..1"}, 1),
        ({"range": 1}, 1),
        ({"input": "RGB, 0 to 1"}, 1),
    ],
)
def test_the_stated_range_counts(about, top):
    net = opened(halved(about=about))
    assert net.top == top
    assert not any("range" in note for note in net.notes)


def test_a_network_of_a_fixed_size():
    net = opened(halved(sides=(24, 40), out=(24, 40)))
    assert net.size == (24, 40)
    picture = photo((31, 50))
    assert stylise(net, picture).shape == picture.shape


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "network"),
        (b"no network at all", "ONNX"),
        (model([helper.make_node("Flatten", ["image"], ["picture"])], inputs=["image"]).SerializeToString(), "style"),
        ((available.SHIPPED / "digits.onnx").read_bytes(), "style network"),
        ((available.SHIPPED / "imagenette.onnx").read_bytes(), "style network"),
    ],
)
def test_what_is_no_style_network_is_told_in_one_sentence(content, word):
    with pytest.raises(BadStyleNet, match=word) as caught:
        open_style("mine.onnx", content=content)
    assert str(caught.value).count(".") <= 2
    assert "mine" in str(caught.value)


def test_a_name_that_is_not_there(cache):
    with pytest.raises(BadStyleNet, match="nowhere"):
        fast_style.find("nowhere")
    (cache / "styles").mkdir(parents=True)
    (cache / "styles" / "own.onnx").write_bytes(tinted().SerializeToString())
    assert fast_style.find("own") == cache / "styles" / "own.onnx"


def test_style_networks_are_no_classifiers():
    """They lie in a folder of their own, so that nothing offers them as networks to look into."""
    assert not set(fast_style.at_hand()) & set(available.at_hand())
    for path in fast_style.at_hand().values():
        assert path.parent != available.SHIPPED


# Painting -------------------------------------------------------------------------------------------------------------


def test_a_picture_is_what_the_graph_computes(two):
    picture = photo((33, 50))
    before = picture.copy()
    np.testing.assert_allclose(stylise(two, picture), picture / 2, atol=1e-6)
    np.testing.assert_allclose(stylise(two, picture, mix=[0, 3]), 1 - picture, atol=1e-6)
    np.testing.assert_allclose(stylise(two, picture, mix=[1, 1]), 0.5 - picture / 4, atol=1e-6)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("size", [(1, 1), (8, 8), (1, 70), (37, 50), (64, 33)])
def test_any_size_comes_out_as_it_went_in(size):
    found = stylise(opened(halved()), photo(size))
    assert found.shape == (*size, 3)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1


def test_padding_does_not_reach_whole_cells():
    picture = photo((37, 50))
    net = opened(halved())
    np.testing.assert_allclose(stylise(net, picture)[:36, :48], stylise(net, picture[:36, :48]), atol=1e-5)


def test_a_large_picture_is_painted_smaller_and_comes_back_large(two, monkeypatch):
    picture = np.full((200, 300, 3), 0.5, np.float32)
    assert fast_style.painted_size(two, (200, 300)) == (200, 300)
    assert fast_style.painted_size(two, (200, 300), side=150) == (100, 150)
    assert fast_style.painted_size(two, (1, 3000), side=150) == (1, 150)
    monkeypatch.setattr(fast_style, "MOST_PIXELS", 6000)
    assert fast_style.painted_size(two, (200, 300)) == (63, 94)
    assert fast_style.painted_size(two, (200, 300), side=10**6) == (63, 94)
    for side in (None, 30):
        found = stylise(two, picture, side=side)
        assert found.shape == picture.shape
        np.testing.assert_allclose(found, 0.25, atol=1e-5)


@pytest.mark.parametrize("mix", [[1], [1, 2, 3], [], [-1, 2], [0, 0], [np.nan, 1], [np.inf, 1]])
def test_a_wrong_mix_is_told_in_one_sentence(two, mix):
    with pytest.raises(BadMix) as caught:
        stylise(two, photo((40, 40)), mix=mix)
    assert str(caught.value).endswith(".")


def test_a_mix_as_one_types_it(two):
    assert mixed(two, "") is None
    assert mixed(two, "2, 1") == [2, 1]
    assert mixed(two, "negative=3") == [0, 3]
    np.testing.assert_allclose(weights(two, [2, 1]), [2 / 3, 1 / 3])
    np.testing.assert_array_equal(weights(two), [1, 0])
    for wrong, word in (("half=lots", "no mix"), ("third=1", "third"), ("one", "no mix")):
        with pytest.raises(BadMix, match=word):
            mixed(two, wrong)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4)), np.zeros((4, 4, 1), np.float32), np.zeros((4, 4, 3), np.uint8)])
def test_what_is_no_picture(two, wrong):
    with pytest.raises(ValueError, match="picture"):
        stylise(two, wrong)


# Videos ---------------------------------------------------------------------------------------------------------------


def video(count: int = 12, size: tuple[int, int] = (48, 64), rate: int = 12, **form) -> bytes:
    """An MP4 that gets brighter."""
    file = io.BytesIO()
    with av.open(file, "w", format=form.get("format", "mp4")) as container:
        stream = container.add_stream(form.get("codec", "libx264"), rate=rate, options={"crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for k in range(count):
            frame = np.full((*size, 3), round(40 + 160 * k / count), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def decoded(data: bytes) -> np.ndarray:
    with av.open(io.BytesIO(data)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_video_is_painted_frame_by_frame(two):
    steps = list(stylise_video(two, video(), mix=[0, 1], side=64))
    assert [step.index for step in steps][:12] == list(range(1, 13))
    assert all(step.total == 12 for step in steps)
    reel = steps[-1].result
    assert (reel.frames, reel.rate) == (12, 12.0)
    made = decoded(reel.file.getvalue())
    assert made.shape == (12, 48, 64, 3)
    before = decoded(video()).mean((1, 2, 3))
    np.testing.assert_allclose(made.mean((1, 2, 3)), 255 - before, atol=6)


def test_a_large_or_long_video_is_bounded(two):
    reel = last(stylise_video(two, video(40, (96, 160)), side=50, seconds=1))
    made = decoded(reel.file.getvalue())
    assert made.shape == (12, 30, 50, 3)
    fast = last(stylise_video(two, video(60, rate=60), side=64))
    assert (fast.frames, fast.rate) == (30, 30.0)


def test_a_video_that_is_stopped_keeps_what_there_is(two):
    steps = stylise_video(two, video(), side=64)
    for _ in range(5):
        reel = next(steps).result
    steps.close()
    assert len(decoded(reel.file.getvalue())) == 5


def test_a_video_that_breaks_off_ends_there(two, tmp_path):
    whole = video(40, (96, 160), format="mpegts", codec="mpeg2video")
    reel = last(stylise_video(two, whole[: len(whole) // 2], side=64))
    assert 0 < reel.frames < 40
    assert len(decoded(reel.file.getvalue())) == reel.frames


@pytest.mark.parametrize("data", [b"", b"no video", image.to_png(photo((20, 30)))[:60], bytes(5000), video()[:300]])
def test_what_is_no_video_is_told_in_one_sentence(two, data, tmp_path):
    with pytest.raises(NotAVideo) as caught:
        last(stylise_video(two, data))
    assert str(caught.value).endswith(".")
    path = tmp_path / "mine.mp4"
    path.write_bytes(data)
    with pytest.raises(NotAVideo, match=r"mine\.mp4"):
        last(stylise_video(two, path))


def test_a_file_with_sound_alone(two):
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(NotAVideo, match="no pictures"):
        last(stylise_video(two, file.getvalue()))


@pytest.mark.parametrize(("rotation", "top"), [(0, [0, 1]), (90, [1, 3]), (180, [3, 2]), (-90, [2, 0])])
def test_a_video_of_a_turned_telephone_is_upright(rotation, top):
    """rotation: by how much a frame must be turned counter-clockwise, in degrees."""
    quarters = np.kron(np.arange(4).reshape(2, 2), np.ones((8, 8))).astype(np.uint8)[..., None].repeat(3, 2)
    frame = SimpleNamespace(height=16, width=16, rotation=rotation, to_ndarray=lambda **form: quarters)
    upright = moving._pixels(frame, 16) * 255
    assert upright[0, [0, -1], 0].round().tolist() == top


def test_a_pan_is_a_video(two):
    made = moving.pan(photo((300, 300)), frames=5)
    assert decoded(made).shape[0] == 5
    assert last(stylise_video(two, made, side=64)).frames == 5


def test_a_wrong_mix_is_told_before_the_video_is_opened(two):
    with pytest.raises(BadMix):
        next(stylise_video(two, b"no video", mix=[1]))


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    (tmp_path / "net.onnx").write_bytes(tinted(about=ABOUT).SerializeToString())
    (tmp_path / "photo.png").write_bytes(image.to_png(photo((40, 52))))
    (tmp_path / "film.mp4").write_bytes(video())
    return tmp_path


def asked(files, *more: str):
    given = [str(files / part) if "." in part else part for part in more]
    return CliRunner().invoke(
        engine, ["fast-style", "--net", str(files / "net.onnx"), "--out", str(files / "o"), *given]
    )


def test_the_command_writes_the_picture_with_its_recipe(files):
    found = asked(files, "--image", "photo.png", "--mix", "negative=1")
    assert found.exit_code == 0, found.output
    written = (files / "o" / "picture.png").read_bytes()
    expected = 1 - image.load(files / "photo.png")
    np.testing.assert_allclose(image.load(written), expected, atol=1 / 254)
    assert b'"negative": 1.0' in written
    with np.load(files / "o" / "numbers.npz") as arrays:
        np.testing.assert_allclose(arrays["pixels"], expected, atol=1e-6)


def test_the_command_writes_the_video(files):
    found = asked(files, "--video", "film.mp4", "--side", "32")
    assert found.exit_code == 0, found.output
    assert decoded((files / "o" / "video.mp4").read_bytes()).shape == (12, 24, 32, 3)
    assert [path.name for path in (files / "o").iterdir()] == ["video.mp4"]


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ([], "one of the two"),
        (["--image", "photo.png", "--mix", "1,2,3"], "3 weights"),
        (["--video", "net.onnx"], "net.onnx"),
        (["--video", "absent.mp4"], "absent.mp4"),
    ],
)
def test_the_command_refuses_in_one_sentence(files, more, word):
    found = asked(files, *more)
    assert found.exit_code == 2
    assert word in found.output
    assert "Traceback" not in found.output


# With networks that others trained ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["candy", "mosaic", "udnie", "style_wave"])
def test_networks_that_others_trained(name, shared):
    path = shared / "nets" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in the shared material.")
    said = open_style(path)
    assert (said.top, said.multiple, said.size) == (255.0, 4, None)
    bare = onnx.load(path)
    del bare.metadata_props[:]
    guessed = open_style(path, content=bare.SerializeToString())
    assert (guessed.top, guessed.multiple) == (255.0, 4)
    picture = image.fit(image.load(shared / "photos" / "golden_gate.jpg"), (90, 121))[0]
    found = stylise(said, picture)
    assert found.shape == picture.shape
    assert 0.02 < np.abs(found - picture).mean() < 0.5
    assert np.corrcoef(found.mean(2).ravel(), picture.mean(2).ravel())[0, 1] > 0.3, "the picture is still there"

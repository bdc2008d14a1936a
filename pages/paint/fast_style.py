"""Fast style: What does this look like painted in one pass?

A style network was trained once to do what style transfer does in hundreds of steps; from then on a
picture costs one forward pass, and a video becomes possible. The sliders mix the styles that one network knows.
Sources: Johnson 2016, Dumoulin 2016.
"""

import shlex

import numpy as np
import streamlit as st

from engine import image, record
from engine.paint import fast_style
from engine.paint.fast_style import BadStyleNet, StyleNet, painted_size, stylise, weights
from engine.paint.video import pan, stylise_video
from ui import controls, foot, links, studio
from ui.charts import marks, overlays
from ui.jobs import line, watch
from ui.scene import HASHES, cached, current_scene

PICTURE, VIDEO, OWN = "the picture", "a video", "upload"
LARGE = 2 * marks.PANEL + 8  # pixels: what is painted is worth two panels
STYLE_HASHES = {**HASHES, StyleNet: lambda net: net.sha256}

scene = current_scene()
foot.head(__doc__)


@st.cache_resource(max_entries=4, show_spinner="Opening the style network …")
def opened(path: str, modified: float) -> StyleNet:
    return fast_style.open_style(path)


@st.cache_resource(max_entries=2, show_spinner="Opening the style network …")
def brought(name: str, digest: str, _content: bytes) -> StyleNet:
    return fast_style.open_style(name, content=_content)


painted = st.cache_data(stylise, hash_funcs=STYLE_HASHES, max_entries=16, show_spinner="Painting …")
walk = cached(pan, 4)


def chosen_net() -> StyleNet | None:
    """The style network; None, with a word why, where there is none yet."""
    here = fast_style.at_hand()
    name = controls.one("Style network", "painter", [*here, OWN], width=220)
    try:
        if name != OWN:
            return opened(str(here[name]), here[name].stat().st_mtime)
        given = st.file_uploader(
            "An ONNX file, from picture to picture", type="onnx", key="own_painter", max_upload_size=64
        )
        if given is not None:
            data = given.getvalue()
            return brought(given.name, image.digest(np.frombuffer(data, np.uint8)), data)
        st.info("Any feed-forward style network will do: it takes a picture (1, 3, H, W) and gives one back.")
    except BadStyleNet as error:
        st.error(str(error), icon=":material/broken_image:")
    return None


def chosen_mix(net: StyleNet) -> list[float] | None:
    """A weight per style; None where they are all 0."""
    if len(net.styles) == 1:
        return [1.0]
    row = st.container(horizontal=True, gap="medium")
    mix = [
        row.slider(
            style.replace("_", " ").capitalize(),
            0.0,
            1.0,
            float(k == 0),
            0.05,
            key=f"mix_{style}",
            bind="query-params",
            width=170,
        )
        for k, style in enumerate(net.styles)
    ]
    return mix if any(mix) else None


with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    shown = controls.choice("Paint", "of", [PICTURE, VIDEO])
    net = chosen_net()
mix = chosen_mix(net) if net else None
if net and mix is None:
    st.info("All weights are 0: give one style some.")


def of_picture() -> None:
    side = controls.slider(
        "Painted at, pixels",
        160,
        1280,
        640,
        32,
        key="side",
        width=marks.PANEL,
        help="The longer side while it is painted. Strokes are so many pixels wide: small is broad, large is fine.",
    )
    left, right = both()
    with left:
        st.markdown(f"**{scene.picture_name.capitalize()}**")
        controls.still(overlays.picture(scene.picture), alt=f"The picture {scene.picture_name}, as it is.")
    if mix is None:
        return
    found = painted(net, scene.picture, mix=mix, side=side)
    height, width = painted_size(net, scene.picture.shape[:2], side=side)
    with right:
        st.markdown("**Painted**")
        studio.still(found, LARGE)
        said = filter(None, [*net.notes, net.licence and f"Licence of the network: {net.licence.rstrip('.')}."])
        st.caption(" ".join([f"In one pass, at {height} × {width} pixels, on {net.engine}.", *said]))
    with st.container(horizontal=True, gap="small"):
        reproduce(side)
        onward()
    recipe = {"method": "fast-style", "net": net.name, "sha256": net.sha256, "mix": shares(), "side": side}
    recipe |= {"picture": scene.picture_name, "versions": record.versions()}
    foot.foot(
        downloads=[
            ("Picture (PNG)", "painted.png", lambda: image.to_png(found, recipe), "image/png"),
            ("Numbers (NPZ)", "painted.npz", foot.npz(pixels=found), "application/octet-stream"),
        ],
        explained=EXPLAINED,
    )


def both() -> list:
    row = st.container(horizontal=True, gap="small")
    return [row.container(width=width + 4) for width in (marks.PANEL, LARGE)]


def shares() -> dict[str, float]:
    return dict(zip(net.styles, weights(net, mix).astype(float).round(4).tolist(), strict=True))


def reproduce(side: int) -> None:
    """The same picture without the app."""
    loading, picture, word = links.source(scene)
    name = net.name if net.name in fast_style.at_hand() else f"{net.name}.onnx"
    code = (
        f"{loading}\n"
        "from engine.paint.fast_style import find, open_style, stylise\n\n"
        f"net = open_style(find({name!r}))\n"
        f"result = stylise(net, {picture}, mix={mix!r}, side={side})\n"
    )
    words = ["python -m engine fast-style --net", shlex.quote(name)]
    words += ["--image", word]
    words += ["--mix", ",".join(f"{weight:g}" for weight in mix), "--side", str(side), "--out result/"]
    with st.popover("Reproduce", icon=":material/terminal:"):
        st.caption("The same picture without the app, from the project's folder.")
        st.code(code, language="python")
        st.code(" ".join(words), language="bash", wrap_lines=True)


def onward() -> None:
    links.onward("paint", "style_transfer", "What do hundreds of steps make of it?")
    links.onward("look", "activations", "What does a network see in it?")


def of_video() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        side = controls.slider("Longer side, pixels", 160, 640, 320, 32, key="video_side", width=220)
        seconds = controls.slider("Seconds at most", 1, 20, 5, key="seconds", width=220)
        numbers = controls.precision(net) if net else {}
        given = st.file_uploader(
            "A video: MP4, MOV, WebM or another",
            type=["mp4", "mov", "webm", "mkv", "avi"],
            key="video",
            max_upload_size=64,
        )
    if given is None:
        st.caption("Until you choose one: a walk across the picture.")
    if mix is None:
        return
    data = walk(scene.picture) if given is None else given.getvalue()
    of = image.digest(np.frombuffer(data, np.uint8))
    job = line.run(
        net.engine,
        "fast_style",
        (net.sha256, of, tuple(mix), side, seconds, *numbers.values()),
        lambda: stylise_video(net, data, mix=mix, side=side, seconds=seconds, **numbers),
        picture=lambda reel: reel.painted,  # so that only a few are kept, each with its video
    )

    def draw(step, complete: bool) -> None:
        left, right = controls.panels(2)
        for panel, title, part in ((left, "A frame", "frame"), (right, "Painted", "painted")):
            with panel:
                st.markdown(f"**{title}**")
                if step is None:
                    st.skeleton(height=231)
                else:
                    controls.still(overlays.picture(getattr(step.result, part)), alt=f"{title}: {step.index}.")

    watch.show(net.engine, job, draw)
    if job.step is not None and not job.active:
        film = job.step.result.file.getvalue()
        st.video(film, format="video/mp4", loop=True, autoplay=True, muted=True, width=LARGE)
        st.caption(
            f"{job.step.result.frames} frames, {job.step.result.rate:.4g} a second. Each is painted for itself; what "
            "flickers is that the network does not know the frame before."
        )
    with st.container(horizontal=True, gap="small"):
        onward()
    downloads = []
    if job.step is not None and not job.active:
        downloads = [
            ("Video (MP4)", "painted.mp4", job.step.result.file.getvalue, "video/mp4"),
            ("Video (GIF)", "painted.gif", lambda: job.film.gif(job.step.result.rate / job.film.every), "image/gif"),
        ]
    foot.foot(downloads=downloads, explained=EXPLAINED)


EXPLAINED = """
The network is a function from picture to picture: three convolutions that halve the sides twice, some residual blocks,
and back up. In training it saw thousands of photographs, and a second, frozen network judged each result: it should
have the photograph's features (what is where) and the painting's textures (which features go together, wherever they
are: Gram matrices). Style transfer changes one picture until that is so; here the *network* was changed until it is so
for any picture.

Several styles share all convolutions. They differ in nothing but the scale and the shift after each instance
normalisation, a few hundred numbers each, and these can be mixed: half of one style's numbers and half of another's
make a style of their own. Nobody trained those in between.

It paints what is bright, dark and edged in pixels, so the size at which it paints matters: the strokes stay as wide,
and the picture under them grows. It does not know what it paints; a face gets the same strokes as a wall. Papers:
[Johnson 2016](https://arxiv.org/abs/1603.08155), [Ulyanov 2016](https://arxiv.org/abs/1607.08022), [Dumoulin
2016](https://arxiv.org/abs/1610.07629).
"""
if shown == PICTURE:
    of_picture()
elif net is not None:
    of_video()

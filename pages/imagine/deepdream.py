"""DeepDream: What does the network see in the clouds?

Whatever a layer finds in the picture is made stronger, again and again, from coarse to fine, until you see it, too. An
early layer paints strokes and patterns, a late one whole things. Sources: Mordvintsev, Olah, Tyka 2015.
"""

import streamlit as st

from engine import image
from engine.imagine.deepdream import THINNEST, deepdream, deepdream_steps
from engine.pictures import samples
from engine.trunk import middle
from ui import controls, foot, links, studio
from ui.charts import marks
from ui.scene import CAMERA, UPLOAD, current_scene, need_gradients

ALL, ONE, GUIDE = "all of the layer", "one channel", "what a guide shows"
WHOLE, VIEW = "the whole picture", "what the network sees"

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)

layer = controls.layer(net, default=middle(net) if any(found.has_map for found in net.layers) else None)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    what = controls.choice("Make stronger", "what", [ALL, ONE, GUIDE])
    channel = (
        controls.number("Channel", "unit", 0, net.layer(layer).shape[0] - 1, 0, width=140) if what == ONE else None
    )
    guide_name = None
    if what == GUIDE:
        guide_name = controls.one("Guide", "guide", [*samples.SAMPLES, UPLOAD], "flower", width=220)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    seen = controls.choice("Dream on", "view", [WHOLE, VIEW])
    size = controls.slider("Longest side, pixels", 128, 1920, 320, 32, key="size", width=220)
    steps = controls.slider("Steps at each size", 1, 50, 10, key="steps", width=180)
    octaves = controls.number("Sizes", "octaves", 1, 8, 4, width=110)
with st.expander("More knobs, and a film that flies in", icon=":material/tune:"):
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        rate = controls.slider(
            "Step size, pixel values",
            0.001,
            0.05,
            0.01,
            0.001,
            format="%.3f",
            key="rate",
            width=190,
        )
        octave_scale = controls.slider("From size to size, times", 1.1, 2.0, 1.4, 0.1, key="octave_scale", width=190)
        jitter = controls.slider("Jitter, pixels", 0, 64, 32, key="jitter", width=190)
        seed = controls.number("Seed", "seed", 0, 9999, 0, width=110)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        frames = controls.number("Pictures in the film", "frames", 1, 120, 1, width=170)
        zoom = controls.slider("Zoom between them, share", 0.0, 0.2, 0.05, 0.01, key="zoom", width=220)
    st.caption(
        "With more than one picture, each is the middle of the one before, enlarged and dreamt on again; the film is "
        "under Download once it is done."
    )

guide = None
if guide_name == UPLOAD:
    given = st.file_uploader("The guide: JPEG, PNG, WebP or GIF", type="image", key="guide_file", max_upload_size=64)
    if given is None:
        st.info("Choose a picture whose features are to appear in the dream.", icon=":material/image:")
        st.stop()
    try:
        guide = image.load(given.getvalue())
    except image.NotAPicture as error:
        st.error(str(error), icon=":material/broken_image:")
        st.stop()
elif guide_name is not None:
    guide = samples.load(guide_name)

picture = scene.picture if seen == WHOLE else scene.pixels
if min(picture.shape[:2]) * size < THINNEST * max(picture.shape[:2]):
    st.error(
        f"This picture is too long and thin to dream on: at {size} pixels its shorter side has fewer than {THINNEST}. "
        "Choose another picture, or a larger size.",
        icon=":material/broken_image:",
    )
    st.stop()

knobs = {
    "layer": layer,
    "channel": channel,
    "size": size,
    "octaves": octaves,
    "octave_scale": octave_scale,
    "steps": steps,
    "rate": rate,
    "jitter": jitter,
    "zoom": zoom,
    "frames": frames,
    "seed": seed,
}
job = studio.make(
    net,
    "deepdream",
    (image.digest(picture), None if guide is None else image.digest(guide), *knobs.values()),
    lambda resume: deepdream_steps(net, picture, guide=guide, resume=resume, **knobs),
    score="activation²" if what == ALL else "activation" if what == ONE else "likeness to the guide",
    width=2 * marks.PANEL,
)
st.caption(
    "The score falls back where a larger size begins: there the picture has details that have not been dreamt on yet."
    if octaves > 1
    else "The score is that of the shifted view at each step."
)
with st.container(horizontal=True, gap="medium"):
    links.onward("imagine", "maximize", "What does it look for, without a picture?")
    links.onward("look", "activations", "What does this layer answer to?", layer=layer)


def named(choice: str, mine: str) -> str:
    """A sample by its name; an upload by a name that stands for the user's file."""
    return mine if choice in (UPLOAD, CAMERA) else choice


whole = named(scene.picture_name, "your-picture.jpg") if seen == WHOLE else None
asked = {"guide": None if guide is None else named(guide_name, "your-guide.jpg"), "picture": whole, **knobs}
foot.foot(
    deepdream,
    scene,
    knobs=asked,
    downloads=studio.downloads(
        job,
        "deepdream",
        {"method": "deepdream", "net": net.name, "sha256": net.sha256, "image": scene.picture_name, **asked},
    ),
    explained="""
The picture climbs E = mean of a², where a is everything that the layer says: what is strong already gets stronger, so
the network adds what it half believes to see. Each step goes along ∂E/∂x, brought to a mean absolute value of 1, on a
view that is shifted by a few pixels at random. It begins small and goes on at larger sizes, and what was added at one
size is carried over to the next: so there are large things with small ones in them.

*One channel* climbs that channel's mean instead. *A guide* lets each place of the picture become more like the place of
the guide that suits it best by the dot product of their features: a dream of what is in the guide.

What appears is what the network was taught: dogs and pagodas from ImageNet, towers from a network of scenes, churches
and golf balls from one of ten classes. It tells what the layer answers to, not what is in the picture.

Source: [Mordvintsev, Olah, Tyka 2015](https://research.google/blog/inceptionism-going-deeper-into-neural-networks/).
Large pictures are worked out in tiles of 512 pixels, whose seams move with each step.
""",
)

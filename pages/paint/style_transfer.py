"""Style transfer: What would this picture look like, painted as that one?

The picture is changed until a network finds in it what is in the one and how the other is painted: features where they
were, and textures as often as there. Sources: Gatys, Ecker, Bethge 2016; Gatys et al. 2016 on keeping colours.
"""

import numpy as np
import streamlit as st

from engine import image, samples
from engine.gram import scaled, scales
from engine.image import NotAPicture
from engine.net import UnknownLayer
from engine.style_transfer import COLOURS, LARGEST, STARTS, style_transfer, style_transfer_steps
from engine.texture import CANVASES, MOVES
from ui import controls, frame, studio

OWN = "one of your own"
NAMES = [*samples.names("texture"), *samples.names("photograph")]
SUITED = "coffee"
REGIONS = ("everywhere, mixed", "left and right", "above and below")

scene = frame.scene()
net = scene.net
frame.head(__doc__)
frame.need_gradients(net)
try:
    found = scales(net)
except UnknownLayer as error:
    st.info(str(error))
    st.stop()


def style_picture(label: str, key: str, default: str) -> tuple[str, np.ndarray]:
    """A sample, or an uploaded picture; its name and pixels (H, W, 3)."""
    name = controls.one(label, key, [*NAMES, OWN], default, width=190)
    if name != OWN:
        return name, samples.load(name)
    given = st.file_uploader("JPEG, PNG, WebP or GIF", type="image", key=f"file_{key}", max_upload_size=64)
    if given is not None:
        st.session_state[f"kept_{key}"] = given.getvalue()
    if (data := st.session_state.get(f"kept_{key}")) is not None:
        try:
            return OWN, image.load(data)
        except NotAPicture as error:
            st.error(str(error), icon=":material/broken_image:")
    st.caption(f"Until there is one, it is painted as “{default}”.")
    return default, samples.load(default)


with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    chosen = [style_picture("Painted as", "style", SUITED)]
    steps = controls.slider("Steps", 2, 512, 80, key="steps", width=220)
    size = controls.number("Longest side, pixels", "size", 64, LARGEST, 192, width=160)
    colours = controls.one("Colours", "colours", list(COLOURS), width=150)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    content = controls.slider("Weight of what is in it", 0.0, 1.0, 0.15, 0.01, key="content", width=220)
    style_size = controls.slider("Size of the style", 0.25, 2.0, 1.0, 0.05, key="style_size", width=220)

knobs = {"size": size, "steps": steps, "colours": colours, "content": content, "style_size": style_size}
with st.expander("A second style, layers, and how it is changed", icon=":material/tune:"):
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        if st.checkbox("A second style", key="second", bind="query-params"):
            chosen.append(style_picture("Also painted as", "style2", "gravel"))
            where = controls.one("Where", "regions", list(REGIONS), width=190)
            share = controls.slider("Share of the first", 0.0, 1.0, 0.5, 0.05, key="share", width=200)
            knobs["shares"] = (share, 1 - share)
            if where != REGIONS[0]:
                rows, cols = (np.linspace(0, 1, length) for length in scene.picture.shape[:2])
                first = np.broadcast_to(
                    cols[None] < 0.5 if where == REGIONS[1] else rows[:, None] < 0.5, (len(rows), len(cols))
                )
                knobs["regions"] = [first.astype(np.float32), 1 - first.astype(np.float32)]
                knobs["shares"] = None
    maps = [layer.name for layer in net.layers if layer.has_map]
    default = found[:4]
    layers = controls.several("Layers of the style", "style_layers", maps, default) or default
    content_layer = controls.one("Layer of the content", "content_layer", maps, default[min(2, len(default) - 1)])
    knobs |= {"layers": None if layers == default else layers, "content_layer": content_layer}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        knobs["stages"] = controls.number("Stages, each twice as large", "stages", 1, 5, 2, width=210)
        knobs["start"] = controls.one("Start from", "start", list(STARTS), width=150)
        knobs["canvas"] = controls.choice("The picture is changed as", "canvas", list(CANVASES))
        knobs["move"] = controls.choice("By", "move", list(MOVES))
        knobs["seed"] = controls.number("Seed", "seed", 0, 9999, 0, width=110)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        knobs["variation"] = controls.slider("Total variation", 0.0, 10.0, 0.0, 0.1, key="variation", width=220)
        knobs["dream"] = controls.slider("Dream", 0.0, 1.0, 0.0, 0.01, key="dream", width=220)

try:
    before = scaled(scene.picture, size, least=1)
except ValueError as error:
    st.error(str(error), icon=":material/broken_image:")
    st.stop()
styles = [pixels for _, pixels in chosen]
told = {key: value for key, value in knobs.items() if key != "regions"}
masked = bool(knobs.get("regions")) and where
with st.container(horizontal=True, gap="small"):
    for (name, pixels), column in zip(chosen, controls.panels(len(chosen)), strict=True):
        with column:
            st.markdown(f"**The style: {name}**")
            studio.still(pixels)
job = studio.make(
    net,
    "style_transfer",
    (image.digest(scene.picture), *map(image.digest, styles), repr(told), masked),
    lambda resume: style_transfer_steps(net, scene.picture, styles, resume=resume, **knobs),
    score="% off, weighed",
    before=("Yours", before),
)
st.caption(
    "One step of a larger picture takes longer in proportion to its pixels. How the picture is like at a first, coarse "
    "size is decided in the first stage: the score falls back where the size doubles."
)
with st.container(horizontal=True, gap="medium"):
    frame.onward("paint", "texture", "The style alone, as a texture")
    frame.onward("look", "activations", "What do these layers see?")

recipe = {
    "method": "style_transfer",
    "net": net.name,
    "sha256": net.sha256,
    "picture": scene.picture_name,
    "style": [name for name, _ in chosen],
    **told,
    **({"regions": masked} if masked else {}),
}
plain = len(chosen) == 1 and knobs["layers"] is None  # what the command line can say, too


def in_python() -> None:
    """The code that gives the same, where a command cannot."""
    load = lambda name, own: f"samples.load({name!r})" if name in samples.SAMPLES else f'image.load("{own}")'  # noqa: E731
    names = [load(name, "your-style.jpg") for name, _ in chosen]
    options = [f"    {key}={value!r}," for key, value in told.items() if value is not None]
    code = [
        "from engine import image, nets, samples",
        "from engine.net import Net",
        "from engine.style_transfer import style_transfer\n",
        f"net = Net(nets.find({net.name!r}))",
        f"picture = {load(scene.picture_name, 'your-picture.jpg')}",
        "result = style_transfer(",
        f"    net, picture, [{', '.join(names)}],",
        *options,
        *(["    regions=[first, second],  # (H, W) in [0, 1], as large as the picture"] if masked else []),
        ")",
    ]
    with st.expander("Reproduce in Python", icon=":material/terminal:"):
        st.code("\n".join(code), language="python")


def mine(name: str, file: str) -> str:
    """A sample by its name; an upload by a name that stands for the user's file."""
    return name if name in samples.SAMPLES else file


if not plain:
    in_python()
frame.foot(
    style_transfer if plain else None,
    scene,
    knobs={
        "style": mine(chosen[0][0], "your-style.jpg"),
        "picture": mine(scene.picture_name, "your-picture.jpg"),
        **told,
    },
    downloads=studio.downloads(job, "style", recipe),
    explained="""
Two numbers are brought down together. *What is in it*: how far the features of one deeper layer are from the picture's,
place by place. *How it is painted*: how far the Gram matrices, which say how often features go together and not where,
are from the style's, layer by layer. Each is a share of its own size, so that the weights mean the same in every
network. Where they pull apart, neither reaches 0: there is no picture that is both.

The result hangs on the network as much as on the style: its layers decide what counts as a stroke. The papers use
VGG-19; squeezenet1_1 and the embedded network know coarser strokes. *Luminance* paints the greys and keeps every
colour of the picture; *histogram* gives the style the picture's colours first. A *dream* also raises all that the
content layer says.

Papers: [Gatys, Ecker, Bethge 2016](https://arxiv.org/abs/1508.06576), [on
colours](https://arxiv.org/abs/1606.05897), [on sizes and regions](https://arxiv.org/abs/1611.07865).
""",
)

"""Style transfer: What would this picture look like, painted as that one?

The picture is changed until a network finds in it what is in the one and how the other is painted: features where they
were, and textures as often as there. Sources: Gatys, Ecker, Bethge 2016; Gatys et al. 2016 on keeping colours.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.image import NotAPicture
from engine.net import UnknownLayer
from engine.paint import brushwork
from engine.paint.gram import scaled, scales
from engine.paint.style_transfer import COLOURS, LARGEST, STARTS, named, style_transfer, style_transfer_steps
from engine.paint.texture import CANVASES, MOVES
from engine.pictures import regions, samples
from ui import controls, foot, links, studio
from ui.charts import marks
from ui.scene import cached, current_scene, need_gradients

OWN = "one of your own"
NAMES = [*brushwork.NAMES, *samples.names("texture"), *samples.names("photograph")]
SUITED, ALSO = "swirls", "glass"
PLACES = {  # where one style is met, and where the first of two and the second
    1: {name: name for name in regions.NAMES},
    2: {
        "everywhere, mixed": None,
        "left and right": "left,right",
        "above and below": "top,bottom",
        "centre and around": "centre,around",
        "the thing and behind it": "thing,behind",
    },
}
MASKS = "by masks of your own"

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)
try:
    found = scales(net)
except UnknownLayer as error:
    st.info(str(error))
    st.stop()


def uploaded(label: str, key: str) -> np.ndarray | None:
    """(H, W, 3) of a file that the user brought, which stays while other pages are looked at; None before that."""
    given = st.file_uploader(label, type="image", key=f"file_{key}", max_upload_size=64)
    if given is not None:
        st.session_state[f"kept_{key}"] = given.getvalue()
    if (data := st.session_state.get(f"kept_{key}")) is not None:
        try:
            return image.load(data)
        except NotAPicture as error:
            st.error(str(error), icon=":material/broken_image:")
    return None


def style_picture(label: str, key: str, default: str) -> tuple[str, np.ndarray]:
    """A sample, or an uploaded picture; its name and pixels (H, W, 3)."""
    name = controls.one(label, key, [*NAMES, OWN], default, width=190)
    if name != OWN:
        return name, named(name)
    found = uploaded("JPEG, PNG, WebP or GIF", key)
    if found is not None:
        return OWN, found
    st.caption(f"Until there is one, it is painted as “{default}”.")
    return default, named(default)


def own_masks(count: int) -> list[np.ndarray] | None:
    """(H, W) of each style, white where it goes; of two, the second may be what the first leaves. None: everywhere."""
    height, width = scene.picture.shape[:2]
    st.caption(f"White is where a style goes. A mask has the picture's proportions, {height} × {width}; its size may "
               "be another, and it is scaled.")  # fmt: skip
    given = [uploaded(f"Mask of style {index + 1}", f"mask{index + 1}") for index in range(count)]
    try:
        found = [None if each is None else regions.mask(scene.picture, each) for each in given]
    except ValueError as error:
        st.error(str(error), icon=":material/broken_image:")
        return None
    if found[0] is None:
        st.caption("Until there is one, it is painted everywhere.")
        return None
    if not found[0].any():
        st.error("The mask is black all over: paint white where its style goes.", icon=":material/broken_image:")
        return None
    return [found[0], *[1 - found[0] if each is None else each for each in found[1:]]]


with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    chosen = [style_picture("Painted as", "style", SUITED)]
    steps = controls.slider("Steps", 2, 512, 80, key="steps", width=220)
    size = controls.number("Longest side, pixels", "size", 64, LARGEST, 192, width=160)
    colours = controls.one("Colours", "colours", list(COLOURS), width=150)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    content = controls.slider("Weight of what is in it", 0.0, 1.0, 0.08, 0.01, key="content", width=220)
    style_size = controls.slider("Size of the style", 0.25, 2.0, 1.0, 0.05, key="style_size", width=220)

knobs = {"size": size, "steps": steps, "colours": colours, "content": content, "style_size": style_size}
masks = None
with st.expander("A second style, where, layers, and how it is changed", icon=":material/tune:"):
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        if st.checkbox("A second style", key="second", bind="query-params"):
            chosen.append(style_picture("Also painted as", "style2", ALSO))
        places = PLACES[len(chosen)]
        where = controls.one("Where", "regions", [*places, MASKS], width=210)
        if len(chosen) > 1 and where == next(iter(places)):
            share = controls.slider("Share of the first", 0.0, 1.0, 0.5, 0.05, key="share", width=200)
            knobs["shares"] = f"{share:g},{1 - share:g}"
    if where == MASKS:
        masks = own_masks(len(chosen))
    elif where != next(iter(places)):
        knobs["regions"] = places[where]
    maps = [layer.name for layer in net.layers if layer.has_map]
    default = found[:4]
    layers = controls.several("Layers of the style", "style_layers", maps, default) or default
    content_layer = controls.one("Layer of the content", "content_layer", maps, default[min(2, len(default) - 1)])
    knobs |= {"layers": None if layers == default else ",".join(layers), "content_layer": content_layer}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        knobs["stages"] = controls.number("Stages, each twice as large", "stages", 1, 6, 3, width=210)
        knobs["start"] = controls.one("Start from", "start", list(STARTS), width=150)
        knobs["canvas"] = controls.choice("The picture is changed as", "canvas", list(CANVASES))
        knobs["move"] = controls.choice("By", "move", list(MOVES))
        knobs["seed"] = controls.number("Seed", "seed", 0, 9999, 0, width=110)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        knobs["variation"] = controls.slider("Total variation", 0.0, 10.0, 0.0, 0.1, key="variation", width=220)
        knobs |= controls.precision(net)
        knobs["dream"] = controls.slider("Dream", 0.0, 1.0, 0.0, 0.01, key="dream", width=220)

try:
    before = scaled(scene.picture, size, least=1)
except ValueError as error:
    st.error(str(error), icon=":material/broken_image:")
    st.stop()
styles = [pixels for _, pixels in chosen]
if masks is not None:
    knobs["regions"] = masks
told = {key: value for key, value in knobs.items() if value is not None and value is not masks}
with st.container(horizontal=True, gap="small"):
    for (name, pixels), column in zip(chosen, controls.panels(len(chosen), marks.TILE), strict=True):
        with column:
            st.markdown(f"**The style: {name}**")
            studio.still(pixels, marks.TILE)
if where != next(iter(places)):
    shown = masks if where == MASKS else cached(regions.masks)(scene.picture, places[where])
    with st.expander("Where each style goes: white", icon=":material/format_paint:"):
        for index, column in enumerate(controls.panels(len(shown or []))):
            with column:
                studio.still(0.08 + 0.84 * scaled(shown[index][..., None], 308, least=1))  # seen on any ground
job = studio.make(
    net,
    "style_transfer",
    (image.digest(scene.picture), *map(image.digest, [*styles, *(masks or [])]), repr(told)),
    lambda resume: style_transfer_steps(net, scene.picture, styles, resume=resume, **knobs),
    score="% off, weighed",
    before=("Yours", before),
)
st.caption(
    "One step of a larger picture takes longer in proportion to its pixels. The larger forms are decided in the first "
    "stages, at coarse sizes; the score falls back where the size doubles."
)
with st.container(horizontal=True, gap="medium"):
    links.onward("paint", "texture", "The style alone, as a texture")
    links.onward("look", "activations", "What do these layers see?")

recipe = {
    "method": "style_transfer",
    "net": net.name,
    "sha256": net.sha256,
    "picture": scene.picture_name,
    "style": [name for name, _ in chosen],
    **told,
    **({"regions": [image.digest(each) for each in masks]} if masks else {}),
}


def mine(name: str, file: str) -> str:
    """What ships by its name; an upload by a name that stands for the user's file."""
    return name if name in (*NAMES, *samples.SAMPLES) else file


foot.foot(
    style_transfer,
    scene,
    knobs={
        "style": ",".join(mine(name, f"your-style-{index + 1}.jpg") for index, (name, _) in enumerate(chosen)),
        "picture": mine(scene.picture_name, "your-picture.jpg"),
        **told,
        **({"regions": ",".join(f"your-mask-{index + 1}.png" for index in range(len(masks)))} if masks else {}),
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

*Where* keeps a style to a part of the picture: a half, the middle, the thing that stands out there (GrabCut, which
guesses from colours and is often wrong where there are several), or what is white in a mask that you bring. Outside of
all masks nothing asks for a style. Pictures above 768 pixels are worked out by tiles that see as much around them as
the layers do, so that the picture is the same as if there were none.

Papers: [Gatys, Ecker, Bethge 2016](https://arxiv.org/abs/1508.06576), [on
colours](https://arxiv.org/abs/1606.05897), [on sizes and regions](https://arxiv.org/abs/1611.07865).
""",
)

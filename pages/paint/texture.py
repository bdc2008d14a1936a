"""Texture: What is left of a picture when it is forgotten where everything was?

From noise a picture is made that has the same features as often together, wherever they are: the texture, as the
network knows it. The deeper the layers that have to agree, the larger the structures that come back. Sources: Gatys,
Ecker, Bethge 2015; Efros, Leung 1999.
"""

import dataclasses

import numpy as np
import pandas as pd
import streamlit as st

from engine import image
from engine.net import UnknownLayer
from engine.paint.gram import distances, scaled, scales
from engine.paint.growing import cut, grow_steps
from engine.paint.texture import (
    CANVASES,
    LARGEST,
    MOVES,
    STARTS,
    depths,
    texture,
    texture_depths,
    texture_depths_steps,
    texture_steps,
)
from engine.pictures import samples
from ui import controls, foot, links, studio
from ui.charts import marks, plots
from ui.jobs import line, watch
from ui.scene import SUGGESTED, cached, current_scene, need_gradients

SUITED = "brick"  # the texture where no picture was chosen

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)
if st.session_state.get("image", SUGGESTED) == SUGGESTED:
    picture = samples.load(SUITED)
    scene = dataclasses.replace(scene, picture=picture, picture_name=SUITED, pixels=net.view(picture)[0])
    st.caption(f"The texture is the sample “{SUITED}” until a picture is chosen at the left.")

try:
    layers = scales(net)
except UnknownLayer as error:
    st.info(str(error))
    st.stop()

ONE, ALL, GROWN = "one depth", "depth by depth", "beside growing"
shown = controls.choice("Show", "view", [ONE, ALL, GROWN])
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    usual = 60 if shown == ALL else 100
    steps = controls.slider("Steps", 2, 512, usual, key="steps", width=220)
    size = controls.number("Size, pixels", "size", 32, LARGEST, 128, width=130)
    start = controls.one("Start from", "start", list(STARTS), width=170)
    seed = controls.number("Seed", "seed", 0, 9999, 0, width=110)
    depth = controls.number("Depth", "depth", 1, len(layers), len(layers), width=110) if shown != ALL else None
knobs = {"size": size, "steps": steps, "start": start, "seed": seed}
if shown != ALL:
    knobs["depth"] = depth
    with st.expander("How it is changed", icon=":material/tune:"), st.container(horizontal=True, gap="medium"):
        knobs["canvas"] = controls.choice("The picture is changed as", "canvas", list(CANVASES))
        knobs["move"] = controls.choice("By", "move", list(MOVES))
        jitter = controls.slider("Shift, pixels", 0, 32, 8, key="jitter", width=200)
        knobs["jitter"] = jitter if knobs["move"] == "adam" else 0
digest = image.digest(scene.pixels)
far_from = cached(distances)


def one_texture(beside=None) -> line.Job:
    return studio.make(
        net,
        "texture",
        (digest, *knobs.values()),
        lambda resume: texture_steps(net, scene.pixels, resume=resume, **knobs),
        score="% that the features are off",
        before=("The texture", scaled(scene.pixels, size)),
        beside=beside,
    )


def layer_by_layer(climb, complete: bool) -> None:
    """How far each layer's Gram matrix still is from the texture's."""
    st.markdown("**How far off, layer by layer**")
    if not complete:
        st.skeleton(height=250)
        return
    found = far_from(net, climb.picture, scaled(scene.pixels, size), layers)
    used = set(depths(net, depth))
    rows = [
        {"label": name, "series": "had to agree" if name in used else "was left free", "value": 100 * far}
        for name, far in found.items()
    ]
    table = pd.DataFrame(rows).assign(low=np.nan, high=np.nan)
    st.altair_chart(
        plots.dots(table, x_title="squared distance, %"),
        width="stretch",
        key="far",
        alt="How far each layer's Gram matrix is from the texture's, in percent.",
    )


def onward() -> None:
    with st.container(horizontal=True, gap="medium"):
        links.onward("look", "activations", "Which features are these?")
        links.onward("imagine", "maximize", "What does one of them look for?")


def one_depth() -> None:
    job = one_texture(layer_by_layer)
    recipe = {"method": "texture", "net": net.name, "sha256": net.sha256, "texture": scene.picture_name, **knobs}
    onward()
    foot.foot(texture, scene, knobs=knobs, downloads=studio.downloads(job, "texture", recipe), explained=EXPLAINED)


def depth_by_depth() -> None:
    job = line.run(
        net.engine,
        "texture_depths",
        (net.sha256, digest, *knobs.values()),
        lambda: texture_depths_steps(net, scene.pixels, **knobs),
        resume=lambda found: texture_depths_steps(net, scene.pixels, resume=found, **knobs),
        picture=lambda found: found[-1],
    )

    def draw(step, complete: bool) -> None:
        found = step.result if step else []
        row = st.container(horizontal=True, gap="small")
        with row.container(width=marks.PANEL + 4):
            st.markdown("**The texture**")
            studio.still(scaled(scene.pixels, size))
        for index, name in enumerate(layers):
            with row.container(width=marks.PANEL + 4):
                st.markdown(f"**Up to depth {index + 1}**")
                if index < len(found):
                    studio.still(found[index])
                    sees = net.layer(name).receptive_field.size
                    st.caption(f"{name}, whose units see {sees[0]} × {sees[1]} pixels")
                else:
                    st.skeleton(height=marks.PANEL)

    watch.show(net.engine, job, draw)
    onward()
    downloads = []
    if job.step:
        downloads = [
            ("Pictures (NPZ)", "textures.npz", foot.npz(pixels=job.step.result), "application/octet-stream"),
            ("Film (GIF)", "textures.gif", job.film.gif, "image/gif"),
            ("Film (MP4)", "textures.mp4", job.film.mp4, "video/mp4"),
        ]
    foot.foot(texture_depths, scene, knobs=knobs, downloads=downloads, explained=EXPLAINED)


def beside_growing() -> None:
    def sample() -> np.ndarray:
        return cut(scene.picture, longest=size)

    window = controls.slider("Window of the growing, pixels", 3, 23, 11, 2, key="window", width=260)
    grown = {"size": min(size, 64), "window": window, "seed": seed}
    st.markdown("#### By the network: features that go together")
    job = one_texture()
    growing = line.run(
        net.engine,
        "grow",
        (image.digest(scene.picture), size, *grown.values()),
        lambda: grow_steps(sample(), **grown),
        resume=lambda found: grow_steps(sample(), resume=found, **grown),
        picture=lambda found: found.picture,
    )
    st.markdown("#### Without one: pixels copied from where it looks alike")

    def draw(step, complete: bool) -> None:
        if growing.state == "failed":  # which is said: the picture is too small, say
            return
        left, right = controls.panels(2)
        with left:
            st.markdown("**What is copied from**")
            if step is None:
                st.skeleton(height=marks.PANEL)
            else:
                studio.still(sample())
        with right:
            st.markdown("**Grown**" if complete else "**Grown so far**")
            if step is None:
                st.skeleton(height=marks.PANEL)
            else:
                studio.still(step.result.picture)

    watch.show(net.engine, growing, draw)
    onward()
    recipe = {"method": "texture", "net": net.name, "sha256": net.sha256, "texture": scene.picture_name, **knobs}
    copied = {"method": "grow", "texture": scene.picture_name, "longest": size, **grown}
    python, command = links.reproduce(texture, scene, knobs)
    _, loaded, named = links.source(scene)
    python += f"""
from engine.paint.growing import cut, grow

grown = grow(cut({loaded}, longest={size}), {", ".join(f"{key}={value}" for key, value in grown.items())})
"""
    options = " ".join(f"--{key} {value}" for key, value in grown.items())
    command += f"\npython -m engine grow --image {named} --longest {size} {options} --out grown/"
    foot.foot(
        downloads=[
            *studio.downloads(job, "texture", recipe, of="Texture"),
            *studio.downloads(
                growing,
                "grown",
                copied,
                lambda found: {"picture": found.picture, "sample": sample()},
                of="Grown",
            ),
        ],
        explained=EXPLAINED,
        reproduced=(python, command),
    )


EXPLAINED = """
The *Gram matrix* of a layer holds, for each two of its channels, the mean over all places of their product: how often
the two answer together, and nothing of where. The new picture begins as noise and is changed until its Gram matrices
are those of the texture. The curve is how far they are apart, |G − G₀|² / |G₀|², averaged over the layers, in percent.

A depth is one resolution of the network, and the layer taken is the last of it. A layer agrees over what its units can
see and no farther: fine layers give grain, deep ones give pebbles and bricks, and nothing makes a wall of them.
Beside the layers the pixels' own 3 × 3 neighbourhoods have to agree, in colours and grain: most networks begin with a
stride and would not notice a noise of single pixels. The papers have no such term.

By default the picture is changed as *waves*, in which coarse and fine are equally easy to move, and what the network is
shown is shifted round at random; so the result can be tiled. *Pixels* with *lbfgs* is the paper's own way.

Growing (Efros and Leung) starts from a patch of three pixels and fills in its border, pixel by pixel: each is copied
from a place of the sample whose neighbourhood looks most alike. It is sharp, for it is copied, and it cannot make
anything that is not in the sample.

Papers: [Gatys, Ecker, Bethge 2015](https://arxiv.org/abs/1505.07376), [Efros, Leung
1999](https://doi.org/10.1109/ICCV.1999.790383).
"""
{ONE: one_depth, ALL: depth_by_depth, GROWN: beside_growing}[shown]()

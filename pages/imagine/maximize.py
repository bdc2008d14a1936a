"""Maximize: What does the network look for when it looks for this?

A picture is changed step by step so that one number rises: a class's score, a channel or a single unit. What comes
out is what the network would like to see most, as far as the rules that keep it readable allow. Sources: Simonyan
2013, Yosinski 2015, Olah 2017.
"""

import numpy as np
import streamlit as st

from engine import image
from engine.imagine.maximize import (
    NUMBERS,
    PRESETS,
    RECIPES,
    STARTS,
    maximize,
    maximize_channels,
    maximize_channels_steps,
    maximize_steps,
)
from engine.look.top_patches import Patches, cut_out
from engine.target import asked, class_score
from ui import controls, foot, lens, links, studio
from ui.ask import aim
from ui.charts import grids, marks
from ui.jobs import line, watch
from ui.scene import current_scene, need_gradients

CHANNELS, ABREAST = 24, 8  # of a layer's grid, at a time and in one panel
BELOW = 3  # patches of the data set below each of its pictures, where there is an index

# key → label, lowest, highest, step, what it does
KNOBS = {
    "rate": ("Step size", 0.001, 0.2, 0.001, "In pixel values; of the waves' heights with the Lucid preset."),
    "jitter": ("Jitter, pixels", 0.0, 32.0, 1.0, "How far the network's view is shifted at most, of a picture of 224."),
    "scale": ("Scale, share", 0.0, 0.4, 0.01, "By how much the view is enlarged or reduced at most."),
    "rotate": ("Rotation, degrees", 0.0, 45.0, 1.0, "By how much the view is turned at most."),
    "decay": ("L2 decay", 0.0, 0.05, 0.0001, "Share of the way back to the mean colour, each step."),
    "blur": ("Blur, pixels", 0.0, 3.0, 0.1, "Standard deviation of the Gaussian blur."),
    "blur_every": ("Blur every … steps", 1, 32, 1, "How often it is blurred."),
    "small_norm": ("Clip small norm", 0.0, 0.95, 0.05, "Share of the pixels nearest to the mean colour, set to it."),
    "small_contribution": ("Clip small contribution", 0.0, 0.95, 0.05, "Share of the pixels that matter least."),
    "variation": ("Total variation", 0.0, 500.0, 1.0, "How much roughness costs, in the number that is climbed."),
}
OF_PIXELS = ("decay", "blur", "blur_every", "small_norm", "small_contribution")

scene = current_scene()
net = scene.net
foot.head(__doc__)
need_gradients(net)

ONE, ALL = "one picture", "all channels of a layer"
shown = controls.choice("Show", "view", [ONE, ALL])


def link(key: str) -> str:
    """A knob's name in the link, which no other page has for something else."""
    return f"rule_{key}"


def usual(preset: str, key: str) -> float:
    """What the preset has, in the form that the slider wants."""
    return type(KNOBS[key][2])(getattr(RECIPES[preset], key))


def forget() -> None:
    """The knobs go to where the new preset has them."""
    st.session_state.update({link(key): usual(st.session_state["preset"], key) for key in KNOBS})


where = controls.target(scene, kinds=("class", "unit", "direction", "margin")) if shown == ONE else {}
number = NUMBERS[0]
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    preset = controls.one("Rules that keep it readable", "preset", list(PRESETS), width=190, on_change=forget)
    steps = controls.slider("Steps", 2, 512, 128 if shown == ONE else 64, key="steps", width=220)
    seed = controls.number("Seed", "seed", 0, 9999, 0, width=110)
    start = controls.one("Start from", "start", list(STARTS), width=150) if shown == ONE else STARTS[0]
    if set(where) == {"class"}:
        number = controls.choice("Climb the class's", "number", list(NUMBERS))


def one_picture() -> None:
    changed = knobs_changed()
    target = aim(net, where)
    climbed = asked(net, target, class_score)

    def run(resume):
        knobs = {"preset": preset, "start": start, "number": number, "steps": steps, "seed": seed, **changed}
        return maximize_steps(net, scene.pixels, target, resume=resume, **knobs)

    start_from = image.digest(scene.pixels) if start == "picture" else ""
    job = studio.make(
        net,
        "maximize",
        (tuple(where.values()), preset, start, start_from, number, steps, seed, tuple(changed.items())),
        run,
        score=number if number == "probability" else climbed.unit,
        before=("Where it began", scene.pixels) if start == "picture" else None,
        beside=lambda climb, complete: studio.reached(scene, climb.picture, climbed, set(where) == {"class"}),
    )
    knobs = {"preset": preset, "start": start, "number": number, "steps": steps, "seed": seed, **changed}
    recipe = {"method": "maximize", "net": net.name, "sha256": net.sha256, "target": climbed.title, **knobs}
    real_ones()
    with st.container(horizontal=True, gap="medium"):
        links.onward("explain", "guided", "What of a real picture excites it?")
        links.onward("look", "activations", "Where does it fire?")
    foot.foot(
        maximize,
        scene,
        knobs={"target": where, **knobs},
        downloads=studio.downloads(job, "maximize", recipe),
        explained=EXPLAINED,
    )


def real_ones() -> None:
    """Beside what was made, what excites the unit most in an indexed set of pictures, where there is one."""
    layer = where.get("layer", net.logits)
    channel = where.get("channel", where.get("class") if set(where) == {"class"} else None)
    found = None if channel is None else top_patches(layer, channel, 1, 9)
    if found is None:
        return
    rows, index = found.table, lens.existing(net, layer)
    st.markdown(f"**What excites it most in {index.data_name}**, of {index.done:,} pictures")
    controls.still(
        grids.patches(
            tiles(found),
            written=[f"{value:.3g}" for value in rows.value],
            captions={"activation": rows.value.round(4), "picture": rows["where"], "label": rows.label},
            columns=3,
            name="patch",
        ),
        alt=f"The {len(rows)} patches of {index.data_name} that excite channel {channel} of {layer} most.",
    )
    if where.get("row") is not None:
        st.caption("They are the channel's, wherever in a picture it is at its highest, not this one neuron's.")
    links.onward("look", "top_patches", "These patches, and their pictures", layer=layer, unit=channel)


def top_patches(layer: str, channel: int, channels: int, count: int) -> Patches | None:
    """From the index of the session's data set that has the layer; None where there is none, and none is made."""
    index = lens.existing(net, layer)
    if index is None:
        return None
    cut = st.cache_data(cut_out, hash_funcs=lens.INDEX_HASHES, max_entries=16, show_spinner=False)
    try:
        return cut(net, index, layer, channel=channel, channels=channels, count=count, side=2 * marks.PANEL // 3)
    except (ValueError, OSError):  # a picture of the set is not there any more: this page goes on without
        return None


def tiles(found: Patches) -> list[np.ndarray]:
    return list(found.pixels if found.pixels.shape[3] == 3 else found.pixels.repeat(3, 3))


def knobs_changed() -> dict[str, float]:
    """Those that are not what the preset has."""
    waves, changed = RECIPES[preset].canvas == "waves", {}
    with st.expander("The rules, one by one", icon=":material/tune:"):
        row = st.container(horizontal=True, gap="medium")
        for key, (label, low, high, by, told) in KNOBS.items():
            if waves and key in OF_PIXELS:
                continue
            with row:
                look = {"key": link(key), "width": 200, "help": told}
                value = controls.slider(label, low, high, usual(preset, key), by, **look)
            if abs(value - usual(preset, key)) > 1e-9:
                changed[key] = value
        if waves:
            st.caption("This preset changes waves, not pixels; what blurs, decays or clips pixels does not apply.")
    return changed


def all_channels() -> None:
    name = controls.layer(net, default=net.last_map)
    count = net.layer(name).shape[0]
    page = controls.grid_page(count, CHANNELS, "channels_page")
    knobs = {"first": page.start, "count": len(page), "preset": preset, "steps": steps, "seed": seed}
    job = line.run(
        net.engine,
        "maximize_channels",
        (net.sha256, name, *knobs.values()),
        lambda: maximize_channels_steps(net, name, **knobs),
    )

    real = top_patches(name, page.start, len(page), BELOW)
    below = tiles(real) if real is not None and len(real.table) == BELOW * len(page) else []

    def draw(step, complete: bool) -> None:
        pictures = step.result if step else np.zeros((0, 1, 1, 3), np.float32)
        blank = np.full((*(pictures.shape[1:3] if step else (32, 32)), 3), 0.9, np.float32)
        made = [each if each.shape[2] == 3 else each.repeat(3, 2) for each in pictures]
        made += [blank] * (len(page) - len(made))
        if below:
            made = [with_patches(each, below[k * BELOW : (k + 1) * BELOW]) for k, each in enumerate(made)]
        parts = [page[i : i + ABREAST] for i in range(0, len(page), ABREAST)]
        for panel, part in zip(controls.panels(len(parts)), parts, strict=True):
            with panel:
                sheet(part, made[part.start - page.start : part.stop - page.start], complete)

    def sheet(part: range, made: list[np.ndarray], complete: bool) -> None:
        chart = grids.sheet(made, columns=2, name="channel", captions={"channel": list(part)})
        if not complete:
            controls.still(chart, alt="The pictures so far.")
            return
        controls.clickable(
            chart,
            "channel",
            lambda point: st.session_state.update(
                view=ONE, about="unit", layer=name, unit=part[int(point["tile"])], at=""
            ),
            f"Pictures that excite channels {part.start} to {part.stop - 1} most; a click makes one in full.",
            key=f"channels_{part.start}",
        )

    watch.show(net.engine, job, draw)
    st.caption(
        "Each picture raises the mean of one channel over its positions; the pictures are as large as a few of the "
        "layer's units can see. A click on one makes it in full."
        + (f" Below each, the {BELOW} patches of the indexed pictures that excite the channel most." if below else "")
    )
    foot.foot(
        maximize_channels,
        scene,
        knobs={"layer": name, **knobs},
        downloads=[
            ("Pictures (NPZ)", "channels.npz", foot.npz(pixels=job.step.result), "application/octet-stream"),
        ]
        if job.step
        else [],
        explained=EXPLAINED,
    )


def with_patches(made: np.ndarray, real: list[np.ndarray]) -> np.ndarray:
    """(h, w, 3): a made picture, and below it a strip of patches, on the screen's scale of a tile."""
    width = (marks.PANEL - 2) // 2
    side = width // BELOW
    tall = max(1, round(width * made.shape[0] / made.shape[1]))
    low = max(1, round(side * real[0].shape[0] / real[0].shape[1]))
    strip = [fitted(each, (low, side)) for each in real]
    row = np.full((low, width, 3), 0.5, np.float32)
    row[:, : side * BELOW] = np.concatenate(strip, 1)
    return np.concatenate([fitted(made, (tall, width)), row])


def fitted(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A large picture made smaller smoothly, a small one larger in crisp blocks."""
    if pixels.shape[0] > size[0]:
        return image.resize(pixels, size)
    rows, cols = (np.arange(new) * old // new for new, old in zip(size, pixels.shape[:2], strict=True))
    return pixels[np.ix_(rows, cols)]


EXPLAINED = """
x ← x + step · ∂S(x)/∂x, again and again, from noise: the picture climbs the number S. Left to itself that ends in noise
which no eye can read, because the network answers to patterns that no camera makes. So something has to hold the
picture: *Simonyan* pulls it towards the mean colour; *Yosinski* blurs it every few steps or clips pixels that hardly
matter; *Lucid* changes waves instead of pixels, in colours that vary as in photographs, and never shows the network
the same view twice (jitter, scale, rotation).

The curve is the number on the views during the climb. What counts is what the network says of the finished picture as
an ordinary file: it is rounded to 8 bits and classified again, and that is the number shown. The logit is climbed by
default, because a probability also rises when all *other* classes fall.

It shows one thing that excites the unit most, not all that does; and what you recognise in it is your reading, not a
measurement. Papers: [Simonyan 2013](https://arxiv.org/abs/1312.6034), [Yosinski
2015](https://arxiv.org/abs/1506.06579), [Olah 2017](https://distill.pub/2017/feature-visualization/).
"""
if shown == ONE:
    one_picture()
else:
    all_channels()

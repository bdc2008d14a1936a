"""Home: What does this network see?

A trained network turns a picture into one score per class. Choose a network and a picture on the left; every page then
asks another question of the same pair. Sources: the course CS231n, lecture "Visualizing and Understanding".
"""

import numpy as np
import streamlit as st

from engine import image
from engine.pictures import samples
from ui import controls, foot, links, navigation, sidebar
from ui.charts import grids, network, overlays
from ui.scene import class_names, current_scene

scene = current_scene()
foot.head(__doc__)


@st.cache_data(max_entries=32, show_spinner=False)
def thumbnail(name: str) -> np.ndarray:
    return image.fit(samples.load(name), (80, 80))[0]


left, right = controls.panel_and_rest()
with left:
    st.markdown("**The picture**, and in the dashed box what the network sees of it")
    controls.still(overlays.picture(scene.picture, frame=scene.frame), alt=f"The picture {scene.picture_name}.")
    suited = samples.SAMPLES[sidebar.suits(scene.net)].kind
    kinds = (suited, "texture") if suited == "photograph" else (suited,)
    others = [sample for sample in samples.SAMPLES.values() if sample.kind in kinds]
    controls.clickable(
        grids.sheet(
            [thumbnail(sample.name) for sample in others],
            captions={"picture": [sample.title for sample in others]},
            columns=5 if len(others) > 8 else len(others),
            name="picture",
            gap=4,
            chosen=next((k for k, sample in enumerate(others) if sample.name == scene.picture_name), None),
        ),
        "picture",
        lambda point: st.session_state.update(image=others[point["tile"]].name),
        "Other pictures to choose from; a click takes one.",
        key="samples",
    )
with right:
    st.markdown("**The five likeliest classes**")
    names, top = class_names(scene.net), (-scene.probabilities).argsort()[:5]
    controls.clickable(
        network.top_classes([names[k] for k in top], scene.probabilities[top], scene.logits[top], scene.class_name),
        "class",
        lambda point: st.session_state.update({"class": point["class"]}),
        f"The likeliest class is {names[top[0]]}, at {scene.probabilities[top[0]]:.1%}; a click asks about it.",
        key="top_classes",
        width="stretch",
    )
    metadata = scene.net.metadata
    maps = [layer for layer in scene.net.layers if layer.has_map]
    st.caption(
        f"{scene.net.name}: {scene.net.classes:,} classes, {len(scene.net.layers)} layers, {len(maps)} of them maps, "
        f"pictures of {scene.net.input_size[0]} × {scene.net.input_size[1]} pixels. "
        + " ".join(part for part in (metadata.source, metadata.accuracy, metadata.licence) if part)
    )

st.markdown("#### What would you like to know?")
for section, pages in list(navigation.sections().items())[1:]:
    st.markdown(f"**{section.capitalize()}**")
    with st.container(horizontal=True, gap="medium"):
        for page in pages:
            with st.container(border=True, width=300, key=f"card_{page.path.stem}"):
                st.page_link(
                    page.path,
                    label=f"**{page.title}**",
                    icon=":material/arrow_forward:",
                    query_params=links.shared_choices(),
                )
                st.caption(page.question)

foot.foot()

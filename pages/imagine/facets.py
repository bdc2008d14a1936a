"""Facets: Which different things does the network call by one name?

Pictures of a class are grouped by what the network makes of them, and from the mean of each group a picture climbs the
class's score: not one mixture of all, but one picture for each kind. Source: Nguyen 2016.
"""

import numpy as np
import pandas as pd
import streamlit as st

from engine import image
from engine.image import NotAPicture
from engine.imagine import facets as engine
from engine.imagine.maximize import PRESETS
from engine.target import class_score
from ui import controls, foot, links, studio
from ui.charts import plots
from ui.scene import current_scene, need_gradients

MOST = 60  # uploads

scene = current_scene()
net, target = scene.net, scene.class_index
foot.head(__doc__)
need_gradients(net)

with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    source = controls.choice("Pictures", "pictures", ["that come with the app", "my own"])
    count = controls.slider("Groups", 2, 6, 3, key="groups", width=160)
    by = controls.choice("Grouped on a map by", "by", list(engine.MAPS))
    preset = controls.one("Rules that keep it readable", "preset", list(PRESETS), width=190)
    steps = controls.slider("Steps", 2, 256, 64, key="steps", width=180)
    seed = controls.number("Seed", "seed", 0, 9999, 0, width=110)


def uploads() -> np.ndarray | None:
    """(N, H, W, C) of those that can be read."""
    given = st.file_uploader(
        f"At least two pictures of “{scene.class_name}”, better 20 to {MOST}",
        type="image",
        accept_multiple_files=True,
        key="facet_files",
        max_upload_size=16,
    )
    found = []
    for file in given[:MOST]:
        try:
            found.append(net.view(image.load(file.getvalue()))[0])
        except NotAPicture as error:
            st.warning(f"{file.name} is left out. {error}", icon=":material/broken_image:")
    return np.stack(found) if len(found) > 1 else None


pictures = uploads() if source == "my own" else engine.gallery(net, target)
if pictures is None:
    st.info("Upload two pictures or more; until then, those that come with the app are shown.")
    pictures = engine.gallery(net, target)
if source != "my own" and len(pictures) < 20:
    st.caption(
        f"No pictures of “{scene.class_name}” come with the app: these are its sample photographs, which show other "
        "things. Bring pictures of the class to see its facets."
    )
knobs = {"count": count, "by": by, "preset": preset, "steps": steps, "seed": seed}


def beside(found: engine.Facets, complete: bool) -> None:
    st.markdown("**The pictures, grouped**")
    place, group = found.groups.place, found.groups.group
    data = pd.DataFrame({"x": place[:, 0], "y": place[:, 1], "group": [f"{k + 1}" for k in group]})
    st.altair_chart(
        plots.groups(data), width="stretch", key="facet_groups", alt=f"{len(group)} pictures in {count} groups."
    )


def of_each(found: engine.Facets) -> None:
    """Each group's mean, what became of it, and what the network says of the file."""
    for panel, k in zip(controls.panels(len(found.pixels), 204), range(len(found.pixels)), strict=True):
        with panel:
            members = int((found.groups.group == k).sum())
            st.markdown(f"**Group {k + 1}**: {members} pictures")
            studio.still(found.groups.start[k], 98)
            studio.still(found.pixels[k], 204)
            share = studio.saved(net, found.pixels[k])[target]
            st.caption(f"Saved as an 8-bit PNG: “{scene.class_name}” {share:.1%}.")


job = studio.make(
    net,
    "facets",
    (target, image.digest(pictures), *knobs.values()),
    lambda resume: engine.facets_steps(net, target, pictures=pictures, resume=resume, **knobs),
    score=class_score(net, target).unit,
    beside=beside,
)
if job.step:
    of_each(job.step.result)
links.onward("imagine", "maximize", "One picture for all of the class")
recipe = {"method": "facets", "net": net.name, "sha256": net.sha256, "class": scene.class_name, **knobs}
downloads = studio.downloads(job, "facets", recipe)
if job.step:
    found = job.step.result.groups
    arrays = foot.npz(group=found.group, place=found.place, start=found.start)
    downloads.append(("Groups (NPZ)", "groups.npz", arrays, "application/octet-stream"))
foot.foot(
    engine.facets,
    scene,
    knobs={"target": {"class": target}, **({"pictures": "your-folder"} if source == "my own" else {}), **knobs},
    downloads=downloads,
    explained="""
The channels of the last layer with rows and columns, averaged over their positions, are each picture's features. Fifty
principal components of them, laid out by t-SNE, are cut into groups by k-means; the mean of the fifteen pictures
nearest to a group's middle is where that group's climb begins. The small picture is that mean, the large one is where
it came to.

Maximization from noise finds what all pictures of a class share, often mixed into one: that is why a facet begins at a
mean. How many facets there are is not found out but chosen. Paper: [Nguyen, Yosinski, Clune
2016](https://arxiv.org/abs/1602.03616).
""",
)

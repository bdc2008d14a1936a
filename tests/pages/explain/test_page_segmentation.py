"""Segmentation: is what one sees, and takes home as PNG, the engine's mask?"""

from __future__ import annotations

import io

import numpy as np
import pytest
import small_nets as small
from PIL import Image
from test_pages import cells, charts, fine, home, opened, scene  # noqa: F401

from engine.explain.segmentation import segmentation
from ui.charts import marks, painting


@pytest.mark.parametrize(
    "knobs",
    [{}, {"method": "Grad-CAM", "foreground": 80.0, "background": 20.0, "smooth": 0.0}],
    ids=["defaults", "others"],
)
def test_the_downloads_are_the_engines(knobs, given):
    at = opened("segmentation", net="digits", **knobs)
    assert fine(at)
    seen = scene(at)
    found = segmentation(seen.net, seen.pixels, seen.class_index, **knobs)
    assert found.mask.any()
    cut_out = np.asarray(Image.open(io.BytesIO(given["cut-out.png"])))
    assert cut_out.shape == (*seen.net.input_size, 4)
    assert ((cut_out[..., 3] == 255) == found.mask).all()
    assert ((np.asarray(Image.open(io.BytesIO(given["mask.png"]))) > 0) == found.mask).all()
    rows, cols, values = next(cells(at))
    np.testing.assert_allclose(found.evidence[rows, cols], values, rtol=1e-3, atol=1e-6)
    assert len(charts(at)) == 4


def test_a_method_that_the_network_has_not_got_what_it_takes_for(home):  # noqa: F811
    """CAM asks for a mean over positions before one linear layer; a net that is only linear has no map."""
    weight = np.random.default_rng(0).normal(size=(4, 3, 12, 16))
    (home / "networks" / "flat.onnx").write_bytes(small.linear(weight, np.zeros(4)).SerializeToString())
    at = opened("segmentation", net="flat", method="CAM")
    assert fine(at)
    (warning,) = at.warning
    assert warning.value.endswith(".")


@pytest.mark.usefixtures("no_celu")
def test_methods_without_gradients_work_where_the_twin_does_not(home):  # noqa: F811
    model = small.tiny(about=small.ABOUT)
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Celu"
    (home / "networks" / "forward.onnx").write_bytes(model.SerializeToString())
    at = opened("segmentation", net="forward", method="Eigen-CAM")
    assert fine(at)
    assert charts(at)


# How it is drawn ------------------------------------------------------------------------------------------------------


def test_the_outline_runs_along_the_mask_and_not_along_the_picture():
    pixels, mask = np.ones((40, 40, 3), np.float32), np.zeros((40, 40), bool)
    mask[10:30, :20] = True  # touches the left border
    drawn = painting.outlined(pixels, mask)
    factor = drawn.shape[0] // 40
    accent = np.isclose(drawn, painting.rgb(marks.ACCENT)).all(2)
    inside = mask.repeat(factor, 0).repeat(factor, 1)
    assert not (accent & ~inside).any()
    assert accent[10 * factor, 10 * factor], "its upper edge"
    assert not accent[20 * factor, 0], "but not where the picture ends"
    assert (drawn[~inside] < 0.5).all(), "the rest is darker"


def test_what_is_cut_away_is_a_checkerboard():
    cut_out = np.zeros((40, 40, 4), np.float32)
    cut_out[:20, :, 0] = cut_out[:20, :, 3] = 1
    drawn = painting.on_checks(cut_out)
    half = drawn.shape[0] // 2
    assert (drawn[:half] == (1, 0, 0)).all()
    assert len(np.unique(drawn[half:])) == 2


def test_zero_is_grey_and_the_limit_full():
    found = painting.around_grey(np.array([[[-2.0], [0.0], [1.0], [9.0]]]), 2.0)
    assert found.shape == (1, 4, 3)
    assert found[0, :, 0].tolist() == [0, 0.5, 0.75, 1]

"""Clicks on the page about class activation maps, in a real browser, also on what follows a run and redraws itself."""

from __future__ import annotations

import pytest
from test_browser import Visitor, browser, expect, pytestmark, server  # noqa: F401  (fixtures and marks)


@pytest.fixture
def visitor(browser, server):  # noqa: F811
    found = Visitor(browser, server)
    yield found
    assert not found.complaints
    found.context.close()


def query(visitor: Visitor) -> str:
    return visitor.page.evaluate("decodeURIComponent(location.search)")


def test_a_class_of_the_five_is_taken(visitor):
    visitor.open("/cam?net=digits&view=top+five").settle()
    expect(visitor.page.locator(".st-key-again_cam")).to_be_visible()
    visitor.chart("tile_class_1").click()
    expect(visitor.page.locator(".st-key-cam_map")).to_be_visible()
    expect(visitor.chart("tile_class_1")).to_have_count(0)
    assert "class=" in query(visitor)
    assert "view=" not in query(visitor), "one map, which is where the page opens"


def test_a_layer_of_the_sheet_is_taken(visitor):
    visitor.open("/cam?net=digits&view=all+layers&method=LayerCAM").settle()
    expect(visitor.page.locator(".st-key-again_cam")).to_be_visible()
    visitor.click("layer_sheet", 75, 20)
    expect(visitor.page.get_by_text("relu1, over the picture")).to_be_visible()
    assert "layer=relu1" in query(visitor)


@pytest.mark.thorough
def test_a_threshold_of_the_chart_is_taken(visitor):
    """The map of a long run is drawn in a part of its own; the slider that the click sets is not in it."""
    visitor.open("/cam?net=digits&method=Ablation-CAM").settle()
    expect(visitor.page.locator(".st-key-again_cam")).to_be_visible()
    visitor.chart("sweep").click()
    visitor.page.wait_for_function("() => location.search.includes('threshold=')")
    expect(visitor.page.get_by_text("at 20% of the maximum")).to_have_count(0)

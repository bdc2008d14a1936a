"""Clicks on the page about what a network is made of, in a real browser; and whether the chosen box is within sight."""

from __future__ import annotations

from test_browser import Visitor, browser, expect, pytestmark, server  # noqa: F401  (fixtures and marks)
from test_page_cam_clicks import query, visitor  # noqa: F401

GRAPH = ".st-key-network_graph"


def box(visitor: Visitor, text: str):  # noqa: F811
    return visitor.page.locator(f"{GRAPH} g.node", has_text=text).first


def timed(visitor: Visitor) -> None:  # noqa: F811
    """The page, once its ops are timed: the end of that run draws all of it anew, and could swallow a click."""
    visitor.open("/network?net=digits").sees("Timed one by one on the CPU")
    visitor.settle()


def test_a_box_of_the_graph_is_taken(visitor):  # noqa: F811
    timed(visitor)
    expect(box(visitor, "conv1")).to_have_css("cursor", "pointer")  # as soon as it answers
    box(visitor, "conv1").click()
    visitor.page.wait_for_function("() => location.search.includes('layer=conv1')")
    expect(visitor.page.locator("strong", has_text="conv1").first).to_be_visible()
    box(visitor, "pool1").click()
    visitor.page.wait_for_function("() => location.search.includes('layer=pool1')")


def test_the_chosen_box_is_scrolled_to(visitor):  # noqa: F811
    name = "blocks.5.conv2"  # near the end, which the first view does not reach
    visitor.open(f"/network?net=imagenette&layer={name}").settle()
    expect(box(visitor, name)).to_be_visible()
    visitor.page.wait_for_function(
        """([graph, name]) => {
          const pane = document.querySelector(graph).getBoundingClientRect();
          const node = [...document.querySelectorAll(graph + ' g.node')]
            .find((each) => each.querySelector('title').textContent === name);
          const at = node && node.getBoundingClientRect();
          return at && at.height && at.top >= pane.top && at.bottom <= pane.bottom;
        }""",
        arg=[GRAPH, name],
    )


def test_a_bar_is_taken(visitor):  # noqa: F811
    timed(visitor)
    chart = visitor.chart("network_bars")
    place = chart.bounding_box()
    chart.click(position={"x": place["width"] * 0.72, "y": place["height"] * 0.7})  # the eleventh of fifteen
    visitor.page.wait_for_function("() => location.search.includes('layer=')")
    assert "layer=conv5" in query(visitor)

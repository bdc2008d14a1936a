"""Clicks on a picture that a patch, or another thing, is moved over, in a real browser."""

from __future__ import annotations

import re

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


@pytest.mark.thorough
def test_a_click_on_the_picture_moves_the_patch(visitor):
    visitor.open("/patch?net=digits&steps=5&held=5").settle()
    expect(visitor.page.locator(".st-key-again_rates")).to_be_visible()
    visitor.click("patched", 308 * 20.5 / 32, 308 * 5.5 / 32)
    visitor.page.wait_for_function("() => location.search.includes('patch_row=5&patch_col=20')")
    expect(visitor.page.get_by_test_id("stSliderThumbValue").filter(has_text=re.compile("^20$"))).to_be_visible()
    expect(visitor.page.locator(".st-key-again_patch")).to_be_visible()  # and nothing is trained anew
    expect(visitor.page.locator(".st-key-again_everywhere")).to_be_visible()
    visitor.click("everywhere_map", 308 * 2.5 / 16, 308 * 9.5 / 16)  # the middle of the place's 2 × 2 pixels
    visitor.page.wait_for_function("() => location.search.includes('patch_row=19&patch_col=5')")


def test_a_click_on_either_map_shows_the_place(visitor):
    visitor.open("/lookalikes?net=digits&grid=6").settle()
    expect(visitor.page.locator(".st-key-again_lookalikes")).to_be_visible()
    visitor.click("map", 308 * 4.5 / 6, 308 * 1.5 / 6)
    visitor.page.wait_for_function("() => location.search.includes('at=1')")
    assert "at=1,+4" in query(visitor) or "at=1, 4" in query(visitor)
    visitor.click("kinds", 308 * 2.5 / 6, 308 * 3.5 / 6)
    visitor.page.wait_for_function("() => location.search.includes('at=3')")
    visitor.sees("Does it survive?")

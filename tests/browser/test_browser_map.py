"""The map in a real Chromium: one file of pictures on a canvas, which answers a pointer and lets one choose."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from urllib.parse import quote

import numpy as np
import pytest
from sklearn.datasets import load_digits
from test_browser import CHROMIUM, PATIENCE, Visitor, browser, expect, server  # noqa: F401

from engine.image import to_png

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium here; CHROMIUM says where one is."),
]
MAP = "/map?net=digits&by=PCA&layout=on+a+grid&image=digit-3&data=folder+or+file&path="
COUNT = 150


@pytest.fixture(scope="module")
def visitor(browser, server, tmp_path_factory):  # noqa: F811
    """On the map of some digits, once it is drawn."""
    folder = tmp_path_factory.mktemp("pictures")
    digits = load_digits()
    for k in range(COUNT):
        file = folder / str(digits.target[k]) / f"{k}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(to_png((digits.images[k, ..., None] / 16).astype(np.float32).repeat(3, 2)))
    found = Visitor(browser, server, viewport={"width": 1280, "height": 1900})
    found.sprites = []
    found.page.on("response", lambda answer: "/media/" in answer.url and found.sprites.append(answer))
    found.open(MAP + quote(str(folder))).settle()
    found.page.get_by_role("button", name="Index these pictures").click()
    found.page.get_by_text("is marked on the map").wait_for(timeout=120_000)
    found.settle()
    found.complaints.clear()  # of pictures that were shown in passing, while they were indexed
    return found


def drawn(visitor: Visitor) -> int:
    """How many pixels of the canvas are not empty."""
    script = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data
        .reduce((sum, value, k) => sum + (k % 4 === 3 && value > 0), 0)"""
    return visitor.page.locator("canvas.below").evaluate(script)


def test_all_pictures_are_one_file_on_one_canvas(visitor):
    assert visitor.page.locator("main img, section img").count() < 20
    assert any(answer.ok for answer in visitor.sprites)
    visitor.page.wait_for_timeout(1000)  # they move to their places
    assert drawn(visitor) > 20_000
    expect(visitor.page.get_by_role("img", name=re.compile(f"{COUNT} pictures laid out by PCA"))).to_be_visible()
    assert not visitor.complaints


def test_a_picture_answers_the_pointer(visitor):
    box = visitor.page.locator("canvas.above").bounding_box()
    visitor.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    card = visitor.page.locator(".card")
    expect(card).to_be_visible()
    expect(card).to_contain_text("seen as")
    visitor.page.mouse.move(box["x"] - 40, box["y"])
    expect(card).to_be_hidden()


def test_a_box_a_key_and_a_click_choose(visitor):
    box = visitor.page.locator("canvas.above").bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visitor.page.mouse.move(middle[0] - 120, middle[1] - 120)
    visitor.page.mouse.down()
    visitor.page.mouse.move(middle[0] + 60, middle[1] + 60, steps=4)
    visitor.page.mouse.up()
    told = visitor.page.get_by_text(re.compile(r"^[\d,]+ pictures chosen$"))
    expect(told).to_be_visible()
    before, sevens = told.inner_text(), int((load_digits().target[:COUNT] == 7).sum())
    visitor.page.locator(".keys button").filter(has_text="7").click()
    expect(told).not_to_have_text(before)
    expect(told).to_have_text(f"{sevens} pictures chosen")
    visitor.settle()
    visitor.page.mouse.click(*middle)
    expect(visitor.page.get_by_text("Nearest to it")).to_be_visible()
    expect(told).to_be_hidden()
    visitor.page.get_by_role("button", name="Choose nothing").click()
    expect(visitor.page.get_by_text("is marked on the map")).to_be_visible()


def became(visitor, so: Callable[[int, int], bool]) -> int:
    """What is drawn, once it is as it should be: now, and a moment before."""
    end, before = time.monotonic() + PATIENCE, drawn(visitor)
    while time.monotonic() < end:
        visitor.page.wait_for_timeout(100)
        now = drawn(visitor)
        if so(now, before):
            return now
        before = now
    raise AssertionError(f"What is drawn is still {before}.")


def test_zooming_in_and_out_comes_back(visitor):
    whole = became(visitor, lambda now, before: now == before > 0)
    visitor.page.get_by_role("button", name="Nearer").click()
    became(visitor, lambda now, before: now == before != whole)
    visitor.page.get_by_role("button", name="The whole map").click()
    became(visitor, lambda now, before: now == before == whole)
    assert not visitor.complaints

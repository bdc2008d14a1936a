"""The app in a real Chromium: cold links, clicks on charts, long runs and their end, small screens, several people."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest
import small_nets as nets_of_tests

from engine.net import Net
from engine.nets import available
from engine.nets.folder import PROJECT
from engine.pictures import samples
from ui import navigation
from ui.charts import marks

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed.")
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="There is no Chromium here; CHROMIUM says where one is."),
]
expect = sync_api.expect
PATIENCE = 30  # seconds
PAGES = {page.path.stem: page for pages in navigation.sections().values() for page in pages}
LONG = "image=cat&patch=16&stride=2"  # 5,329 positions: minutes on a CPU
DREAM = "/deepdream?net=imagenette&image=cat&size=640&steps=50"  # 200 steps: minutes on the fastest one, too
PROBES = re.compile(r"/_stcore/(health|host-config)$")  # Streamlit asks for them under the page's path first: 404


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[str]:
    """The address of an app of our own, which nobody has visited yet."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {"port": port, "address": "127.0.0.1", "headless": "true"}
    command = [sys.executable, "-m", "streamlit", "run", "app.py"]
    command += [f"--server.{key}={value}" for key, value in options.items()]
    log = folder / "log.txt"
    with log.open("wb") as out:
        app = subprocess.Popen(
            command, cwd=PROJECT, env={**os.environ, "CONVOSCOPE_HOME": str(folder)}, stdout=out, stderr=out
        )
        try:
            end = time.monotonic() + PATIENCE
            while True:
                with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                    break
                assert time.monotonic() < end, log.read_text()
                assert app.poll() is None, log.read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            app.terminate()
            app.wait(PATIENCE)
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


class Visitor:
    """One person's tab."""

    def __init__(self, browser: sync_api.Browser, server: str, **look: object):
        self.server = server
        self.context = browser.new_context(viewport=look.pop("viewport", {"width": 1280, "height": 900}), **look)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _hear(self, message: sync_api.ConsoleMessage) -> None:
        if message.type == "error" and not PROBES.search(message.location.get("url", "")):
            self.complaints.append(f"{message.text} {message.location}")

    def open(self, path: str) -> Visitor:
        self.page.goto(self.server + path)
        expect(self.page.locator("h3")).to_have_count(1)
        return self

    def settle(self) -> Visitor:
        """Until no script runs and every chart is drawn; not while a long run goes on, which is drawn all the time."""
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        self.page.wait_for_function(
            "() => [...document.querySelectorAll('[data-testid=stVegaLiteChart]')]"
            ".every(chart => chart.querySelector('canvas, svg'))"
        )
        return self

    def goto(self, section: str, page: str) -> Visitor:
        """By the navigation at the top."""
        self.page.get_by_test_id("stTopNavSection").filter(has_text=section).click()
        self.page.get_by_test_id("stTopNavDropdownLink").filter(has_text=PAGES[page].title).click()
        expect(self.page.locator("h3")).to_contain_text(PAGES[page].question)
        return self.settle()

    def chart(self, key: str) -> sync_api.Locator:
        return self.page.locator(f".st-key-{key}").get_by_test_id("stVegaLiteChart")

    def click(self, key: str, x: float, y: float) -> None:
        """At a place of a chart, in its own pixels from the top left; it has two pixels of padding."""
        self.settle()
        chart = self.chart(key)
        chart.scroll_into_view_if_needed()
        chart.locator("canvas, svg").first.click(position={"x": x + 2, "y": y + 2})

    def boxes(self, test_id: str) -> list[list[float]]:
        """(left, top, right, bottom) of each, all at one moment: a run may still be adding lines above them."""
        return self.page.get_by_test_id(test_id).evaluate_all(
            "all => all.map(e => e.getBoundingClientRect()).map(b => [b.left, b.top, b.right, b.bottom])"
        )

    def chosen(self, label: str) -> sync_api.Locator:
        """The field of the select box with that label."""
        return self.page.get_by_test_id("stSelectbox").filter(has_text=label).locator("input").first

    def sees(self, text: str | re.Pattern) -> None:
        expect(self.page.get_by_text(text).first).to_be_visible()

    def url(self, *parts: str) -> None:
        """The address holds these parameters."""
        for part in parts:
            expect(self.page).to_have_url(re.compile(rf"[?&]{re.escape(part)}(&|$)"))

    def button(self, name: str) -> sync_api.Locator:
        return self.page.get_by_test_id("stMain").get_by_role("button", name=name)


@dataclass
class Cold:
    """What the very first visitor of the server found, who came by a link to a page."""

    url: str
    said: str
    dialogs: int
    picture: str
    patch: str
    complaints: list[str]


@pytest.fixture(scope="module")
def cold(server, browser) -> Cold:
    visitor = Visitor(browser, server).open("/occlusion?image=cat&patch=40&stride=40")
    visitor.sees(re.compile("^Done"))
    page = visitor.settle().page
    page.wait_for_timeout(500)  # the dialog would come late
    found = Cold(
        page.url,
        page.locator("body").inner_text(),
        page.get_by_role("dialog").count(),
        visitor.chosen("Picture").input_value(),
        page.get_by_label("Patch, pixels").input_value(),
        visitor.complaints,
    )
    visitor.context.close()
    return found


@pytest.fixture
def visitor(server, browser, cold) -> Iterator[Callable[..., Visitor]]:
    """Makes tabs, and looks at the end that none of them complained. The server is not cold any more."""
    made: list[Visitor] = []

    def make(**look: object) -> Visitor:
        made.append(Visitor(browser, server, **look))
        return made[-1]

    yield make
    complaints = [complaint for each in made for complaint in each.complaints]
    for each in made:
        each.context.close()
    assert complaints == []


def test_the_first_visitor_may_come_by_a_link(cold):
    assert cold.url.endswith("/occlusion?image=cat&patch=40&stride=40")
    assert PAGES["occlusion"].question in cold.said
    assert "not found" not in cold.said.lower()
    assert (cold.dialogs, cold.picture, cold.patch, cold.complaints) == (0, "cat", "40", [])
    assert "Home" in cold.said, "the frame is there, too"


def test_choosing_by_clicks(visitor):
    me = visitor().open("/")
    others = [sample.name for sample in samples.SAMPLES.values() if sample.kind != "digit"]
    side = (marks.PANEL - 4 * 4) // 5 + 4  # of a tile and its gap, five in a row
    me.click("samples", 0.5 * side, 0.5 * side)
    me.url(f"image={others[0]}")
    me.click("samples", 1.5 * side, 1.5 * side)
    me.url(f"image={others[6]}")
    expect(me.chosen("Picture")).to_have_value(others[6])
    me.click("samples", 0.5 * side, 0.5 * side)
    me.url(f"image={others[0]}")

    me.goto("Look", "activations")
    me.url(f"image={others[0]}")
    net = Net(available.find(available.FIRST))
    maps = [layer for layer in net.layers if layer.has_map]
    layer = next(layer for layer in reversed(maps) if 8 <= layer.shape[1] <= 56)
    bars = me.chart("map_layer").locator(".mark-rect.role-mark path")
    me.settle()
    expect(bars).to_have_count(len(net.layers))
    bars.nth(net.layers.index(layer)).click()
    me.url(f"layer={layer.name}")
    expect(me.chosen("Layer")).to_have_value(layer.name)

    tile = (marks.PANEL - 7 * 2) // 8 + 2  # eight in a row
    me.click("map_sheet", 2.5 * tile, 1.5 * tile)
    me.url("unit=10")
    expect(me.page.get_by_label("Channel", exact=True)).to_have_value("10")
    me.sees("Channel 10, over the picture")

    picture = samples.load(others[0])
    _, part = net.view(picture)
    width, height = marks.size(picture.shape[:2], marks.PANEL)
    for row, col in ((1, 2), (6, 3)):
        size = layer.shape[1:]
        there = part.to_picture(
            *((i + 0.5) * full / n for i, full, n in zip((row, col), net.input_size, size, strict=True))
        )
        me.click("cell_map", there[1] / picture.shape[1] * width, there[0] / picture.shape[0] * height)
        me.sees(f"Unit ({row}, {col}) of channel 10 is at")
        expect(me.page.get_by_label("Cell (row, column)")).to_have_value(f"{row}, {col}")
        me.url(f"at={row}%2C+{col}")


def test_words_of_one_page_do_not_follow_to_another(visitor):
    me = visitor().open("/filters?net=digits")
    me.page.get_by_test_id("stButtonGroup").get_by_text("norm").click()
    me.url("order=norm")
    me.goto("Look", "activations")
    assert "order" not in me.page.url
    assert "net=digits" in me.page.url


def test_a_run_can_be_cancelled_and_begun_again(visitor):
    me = visitor().open(f"/occlusion?{LONG}")
    me.sees(re.compile(r"^[\d,]+ of 5,329"))
    expect(me.chart("occlusion_map")).to_be_visible()
    me.button("Cancel").click()
    me.sees(re.compile(r"^Cancelled · [\d,]+ of 5,329"))
    me.settle()
    expect(me.chart("occlusion_map")).to_be_visible()
    me.sees("Hidden at")
    text = me.page.get_by_text(re.compile("^Cancelled · ")).first.inner_text()
    me.page.wait_for_timeout(1000)
    me.sees(text)
    expect(me.button("Cancel")).to_have_count(0)
    me.button("Run again").click()
    me.sees(re.compile(r"^[\d,]+ of 5,329 · \d+ s left"))
    me.button("Cancel").click()
    me.sees(re.compile("^Cancelled · "))


def test_a_click_on_the_map_and_the_link_to_it(visitor):
    link = "/occlusion?image=cat&patch=40&stride=20"
    me = visitor().open(link)
    me.sees(re.compile(r"^Done · 49 of 49"))
    me.settle()
    picture = samples.load("cat")
    _, part = Net(available.find(available.FIRST)).view(picture)
    width, height = marks.size(picture.shape[:2], marks.PANEL)
    row, col = part.to_picture(4 * 20 + 20, 1 * 20 + 20)  # the middle of the patch at (4, 1)
    me.click("occlusion_map", col / picture.shape[1] * width, row / picture.shape[0] * height)
    expect(me.page.get_by_label("Position (row, column)")).to_have_value("4, 1")
    me.url("at=4%2C+1", "patch=40")
    me.sees("Hidden at (80, 20)")
    said = me.page.get_by_text("Hidden at (80, 20)").inner_text()

    other = visitor().open(me.page.url.removeprefix(me.server))
    other.sees(said)
    expect(other.page.get_by_label("Position (row, column)")).to_have_value("4, 1")
    expect(other.chosen("Picture")).to_have_value("cat")
    assert other.page.url == me.page.url


def test_a_broken_upload(visitor):
    me = visitor().open("/?image=upload")
    me.page.locator("input[type=file]").set_input_files(
        {"name": "cat.png", "mimeType": "image/png", "buffer": b"not a picture"}
    )
    alert = me.page.get_by_test_id("stAlert")
    expect(alert).to_have_count(1)
    assert re.fullmatch(r"[A-Z][^\n]*\.", alert.get_by_test_id("stMarkdownContainer").inner_text())
    me.settle()
    expect(me.chart("top_classes")).to_be_visible()


@pytest.fixture(scope="module")
def brought(server, browser, cold) -> str:
    """The name of a network that a visitor has uploaded, named and saved; it says nothing of itself before that."""
    me = Visitor(browser, server).open("/open?image=cat").settle()
    content = nets_of_tests.tiny().SerializeToString()
    file = {"name": "a stranger's.onnx", "mimeType": "application/octet-stream", "buffer": content}
    me.page.locator("input[type=file]").first.set_input_files(file)
    me.url("net=a_stranger_s")
    me.sees(re.compile("^a_stranger_s: what it takes"))
    me.settle()
    me.chosen("Class names").click()
    me.page.get_by_role("option", name="a file of names").click()
    names = {"name": "names.txt", "mimeType": "text/plain", "buffer": b"alpha\nbeta\ngamma\ndelta\n"}
    uploaders = me.page.locator("input[type=file]")
    expect(uploaders).to_have_count(2)
    uploaders.last.set_input_files(names)
    me.sees(re.compile("^names: alpha, beta, gamma"))
    me.button("Save and go on with it").click()
    expect(me.chosen("Class names")).to_have_value("the file's own")
    me.settle()
    assert me.complaints == []
    me.context.close()
    return "a_stranger_s"


FIRST_OF_EACH = tuple(pages[0].path.stem for pages in navigation.sections().values())  # a page of each section


in_two_tiers = pytest.mark.parametrize(
    "names",
    [FIRST_OF_EACH, pytest.param(tuple(n for n in PAGES if n not in FIRST_OF_EACH), marks=pytest.mark.thorough)],
    ids=["one of each section", "the others"],
)


@in_two_tiers
def test_pages_run_on_a_file_that_was_brought(visitor, brought, names):
    """With the first result that each shows; that no script raised is in the server's log, which its fixture reads."""
    me = visitor()
    for name in names:
        page = PAGES[name]
        short = "&steps=3" if page.path.parent.name in ("imagine", "paint", "fool") else ""
        short += "&count=4" if name == "robustness" else ""
        me.open(f"/{'' if name == 'home' else name}?net={brought}&image=cat{short}")
        expect(me.page.locator("h3")).to_contain_text(page.question)
        me.settle()
        expect(me.page.get_by_test_id("stMain").get_by_role("button", name="Cancel")).to_have_count(0)
        expect(me.chosen("Network")).to_have_value(brought)
        assert me.page.get_by_test_id("stException").count() == 0, name
        said = me.page.get_by_test_id("stMain").inner_text()
        assert not re.search("error of the app's own|Traceback|Failed · ", said), name


@in_two_tiers
def test_nothing_is_cut_off_or_covered(visitor, names):
    """On a phone, and on a tablet turned sideways."""
    me = visitor()
    for name in names:
        page = PAGES[name]
        me.open(f"/{'' if name == 'home' else name}?net=digits")
        expect(me.page.locator("h3")).to_contain_text(page.question)
        alone = page.path.parent.name in ("imagine", "paint", "fool") or name == "open"  # where pictures are no charts
        expect(me.page.get_by_test_id("stVegaLiteChart").nth(0 if alone else 1)).to_be_visible()
        expect(me.page.get_by_test_id("stSkeleton")).to_have_count(0)
        for width in (390, 1024):
            me.page.set_viewport_size({"width": width, "height": 844})
            me.settle()
            end = time.monotonic() + PATIENCE
            while (found := cut_off(me, width)) and time.monotonic() < end:  # the charts follow the new width
                me.page.wait_for_timeout(50)
            assert not found, (name, width)


def cut_off(me: Visitor, width: int) -> list:
    """What is wider than the page, and which charts stand outside of it or over one another."""
    scroll, client = me.page.get_by_test_id("stMain").evaluate("e => [e.scrollWidth, e.clientWidth]")
    boxes = me.boxes("stVegaLiteChart")
    found: list = [(scroll, client)] if scroll > client else []
    found += [box for box in boxes if box[0] < 0 or box[2] > width]
    for k, (left, top, right, bottom) in enumerate(boxes):
        for other in boxes[:k]:
            beside = right <= other[0] + 1 or other[2] <= left + 1
            below = bottom <= other[1] + 1 or other[3] <= top + 1
            found += [] if beside or below else [(boxes[k], other)]
    return found


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_both_schemes_can_be_read(visitor, scheme):
    me = visitor(color_scheme=scheme).open("/?net=digits").settle()
    ground, ink = me.page.evaluate(
        """() => {
            const mean = text => text.match(/[\\d.]+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3;
            const style = name => getComputedStyle(document.querySelector(name));
            return [mean(style('[data-testid=stApp]').backgroundColor), mean(style('h3').color)];
        }"""
    )
    assert (ground < 60) == (scheme == "dark")
    assert abs(ground - ink) > 120


def test_one_visitor_does_not_end_the_run_of_another(visitor):
    ann, bob = visitor(), visitor()
    ann.open(DREAM)
    ann.sees(re.compile(r"^[\d,]+ of 200"))
    bob.open(DREAM)
    bob.sees("Waiting: 1 before you")
    ann.button("Cancel").click()
    ann.sees(re.compile("^Cancelled · "))
    bob.sees(re.compile(r"^[\d,]+ of 200 · "))
    expect(bob.button("Cancel")).to_be_enabled()
    bob.button("Cancel").click()
    bob.sees(re.compile("^Cancelled · "))


def test_a_closed_tab_makes_room(visitor):
    ann, bob = visitor(), visitor()
    ann.open(f"{DREAM}&seed=1")
    ann.sees(re.compile(r"^[\d,]+ of 200"))
    ann.context.close()
    bob.open("/occlusion?image=cat&patch=60&stride=50")
    bob.sees(re.compile(r"^Done · 9 of 9"))

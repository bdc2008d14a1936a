"""Take the README's pictures: `python .readme/take.py` starts the app, photographs its pages and stops it again.

Needs playwright (in requirements.txt) and a Chromium: on the PATH, or in the variable CHROMIUM.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
SHOTS = {  # file → page, width, height, colour scheme
    "home.png": ("/", 1280, 860, "light"),
    "filters.png": ("/filters", 1280, 860, "light"),
    "activations.png": ("/activations?layer=blocks.3.relu_1", 1280, 1010, "light"),
    "occlusion.png": ("/occlusion", 1280, 820, "light"),
    "saliency.png": ("/saliency", 1280, 860, "dark"),
    "cam.png": ("/cam", 1280, 1060, "light"),
    "sanity.png": ("/sanity", 1280, 1060, "light"),
    "clever_hans.png": ("/clever_hans", 1280, 1060, "light"),
}


def settle(page: Page) -> None:
    """Wait until the page has stopped computing and drawing."""
    still = 0
    while still < 8:
        running = page.get_attribute("[data-testid=stApp]", "data-test-script-state") != "notRunning"
        busy = running or page.locator("[data-testid=stSkeleton]").count() or page.get_by_text("s left").count()
        still = 0 if busy else still + 1
        page.wait_for_timeout(250)


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.headless=true", f"--server.port={port}"]
    server = subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.DEVNULL)
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{base}/_stcore/health")
                break
            except OSError:
                time.sleep(0.1)
        with sync_playwright() as play:
            chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for file, (path, width, height, scheme) in SHOTS.items():
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(base + path)
                page.wait_for_selector("[data-testid=stApp]")
                settle(page)
                page.screenshot(path=HERE / file)
                page.close()
                print(HERE / file)
            browser.close()
    finally:
        server.terminate()


if __name__ == "__main__":
    main()

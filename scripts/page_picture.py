"""Draws docs/page.png, the picture of the web page, from a real run of the default model.

    python scripts/page_picture.py

It starts `redraft serve`, asks in Chromium, and opens the revision that became the answer. Nothing in it is
written by hand. As in `picture.py`, what a model says differs between machines.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

PROMPT = "Describe a lighthouse."
FLAGS = "--check words<=30 --mode verified --no-steer --no-tell-checks --temperature 0"  # as `make demo`
COMMAND = ["serve", "--model", "default", "--engine", "llamacpp", *FLAGS.split(), "--port", "0"]
SIZE = {"width": 1000, "height": 720}
TARGET = Path(__file__).resolve().parent.parent / "docs" / "page.png"


def draw(url: str) -> bytes:
    """Ask on the page and return what the window shows, as PNG."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(url)
        page.locator("main option").first.wait_for(state="attached", timeout=60_000)
        page.fill("#box", PROMPT)
        page.press("#box", "Enter")
        page.locator(".final").wait_for(timeout=120_000)
        page.locator(".actions").wait_for()
        page.locator("details.step:has(.pill.best) summary").click()
        page.evaluate("window.scrollTo(0, 0)")
        page.mouse.move(0, 0)
        page.wait_for_timeout(500)
        return page.screenshot()


def small(png: bytes) -> Image.Image:
    """Reduce the picture to 64 colours, which it hardly needs."""
    return Image.open(io.BytesIO(png)).convert("RGB").quantize(64)


if __name__ == "__main__":
    command = [sys.executable, "-m", "redraft", *COMMAND]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr
        said = server.stderr.readline() + server.stderr.readline()
        found = re.search(r"The page: (\S+)", said)
        assert found, said
        small(draw(found[1])).save(TARGET, optimize=True)
        server.terminate()

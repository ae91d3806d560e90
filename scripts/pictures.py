"""Draws the pictures of the README from real runs: docs/ask.svg, docs/page.png and docs/report.png.

    python scripts/pictures.py [ask] [page] [report]

Nothing in them is written by hand. `ask` is what `make demo` shows, and `page` the same question in Chromium.
`report` shows the reviews that SelFee's authors published, of the shared data (CONTRIBUTING.md). What a model
says differs between machines, so `make docs` does not redraw them.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.text import Text as RichText

import redraft
from redraft.cli.watch import Watch
from redraft.revision.ops import Progress, Text

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
SHARED = Path(os.environ.get("REDRAFT_SHARED", ROOT.parent / "shared"))
REDRAFT = [sys.executable, "-m", "redraft"]
PROMPT = "Describe a lighthouse."
CHECK = "words<=30"
FLAGS = "--mode verified --no-steer --no-tell-checks --temperature 0"
WIDTH = 92  # columns of the terminal
SIZE = {"width": 1000, "height": 720}  # pixels of the window


async def draw_ask() -> None:
    """Run the command of `make demo` and keep the terminal as SVG."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, highlight=False)
    typed = f"redraft ask \"{PROMPT}\" --check '{CHECK}' \\\n    {FLAGS}\n"
    console.print(RichText.assemble(("$ ", "green"), typed))
    how = {"mode": "verified", "steer": False, "tell_checks": False, "temperature": 0}
    with Watch(console) as watch:
        async for event in redraft.stream(PROMPT, checks=[CHECK], **how):
            if not isinstance(event, Text | Progress):  # what moves would be drawn again and again
                watch.show(event)
    (DOCS / "ask.svg").write_text(console.export_svg(title="redraft ask"), encoding="utf-8")


def draw_page() -> None:
    """Ask on the page of `redraft serve`, and open the revision that became the answer."""
    serve = [*REDRAFT, "serve", "--model", "default", "--engine", "llamacpp", "--port", "0"]
    with subprocess.Popen(
        [*serve, "--check", CHECK, *FLAGS.split()], stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr
        said = server.stderr.readline() + server.stderr.readline()
        found = re.search(r"The page: (\S+)", said)
        assert found, said
        with window(found[1]) as page:
            page.locator("main option").first.wait_for(state="attached", timeout=60_000)
            page.fill("#box", PROMPT)
            page.press("#box", "Enter")
            page.locator(".final").wait_for(timeout=120_000)
            page.locator(".actions").wait_for()
            page.locator("details.step:has(.pill.best) summary").click()
            keep(page, "page.png")
        server.terminate()


def draw_report() -> None:
    """Show the report on the published reviews."""
    reviews = sorted(map(str, (SHARED / "data" / "selfee" / "reviews").glob("*.jsonl")))
    with TemporaryDirectory() as folder:
        file = Path(folder, "report.html")
        subprocess.run([*REDRAFT, "report", *reviews, "--html", file], check=True, stdout=subprocess.DEVNULL)
        with window(file.as_uri()) as page:
            keep(page, "report.png")


@contextmanager
def window(url: str) -> Iterator[Page]:
    """Open an address in Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(url)
        yield page
        browser.close()


def keep(page: Page, name: str) -> None:
    """Save what the window shows, in 64 colours: it hardly needs more."""
    page.evaluate("window.scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(64)
    picture.save(DOCS / name, optimize=True)


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["ask", "page", "report"]
    if "ask" in wanted:
        asyncio.run(draw_ask())
    if "page" in wanted:
        draw_page()
    if "report" in wanted:
        draw_report()

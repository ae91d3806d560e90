"""Drives a real browser with one page: Chromium without a window, by Playwright.

Tests that use it are skipped where there is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from tests.lacking import lack_chromium

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_PATIENCE = 60_000  # milliseconds


@contextmanager
def chromium() -> Iterator[Any]:
    """Start Playwright's browser, or skip the test where there is none."""
    if CHROMIUM is None:
        lack_chromium()
    sync_api = pytest.importorskip("playwright.sync_api", reason="pages are tested with Playwright")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], env=env)
        try:
            yield browser
        finally:
            browser.close()


def found(page: Any) -> list[str]:
    """What axe finds, each with the first element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    wrong = axe.run(page).response["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in wrong]


@contextmanager
def browsed() -> Iterator[Browser]:
    """Start a browser with one page."""
    with chromium() as browser:
        yield Browser(browser.new_page())


@dataclass
class Browser:
    """A page of Playwright's, by expressions of JavaScript."""

    page: Any

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        self.page.goto("about:blank")  # another fragment alone loads nothing
        self.page.goto(url)

    def js(self, code: str) -> Any:
        """Return the value of JavaScript in the page."""
        return self.page.evaluate(code)

    def until(self, code: str) -> None:
        """Wait until JavaScript in the page gives something true."""
        self.page.wait_for_function(f"() => !!({code})", timeout=_PATIENCE, polling=20)

    def press(self, key: str) -> None:
        """Press a key: a character, Escape, Enter or Tab."""
        self.page.keyboard.press(key)

"""Drives a real browser, Chromium without a window, by Playwright. Without one, tests are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.lacking import lack_chromium

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium() -> Iterator[Any]:
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

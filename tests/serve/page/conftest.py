"""A browser for the tests of a file. Each test has windows of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serve.page.browsing import Browsing, browsing


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browsing]:
    with browsing() as each:
        yield each


@pytest.fixture
def browser(chromium: Browsing) -> Iterator[Browsing]:
    yield chromium
    chromium.close()

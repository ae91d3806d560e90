"""A browser for the tests of a file, in which each test has windows of its own, and pairs to vote on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import browser as browsers
from tests.evaluation.voting.test_ballots import Voting
from tests.serve.page.browsing import Browsing


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browsing]:
    with browsers.chromium() as each:
        yield Browsing(each)


@pytest.fixture
def browser(chromium: Browsing) -> Iterator[Browsing]:
    yield chromium
    chromium.close()


@pytest.fixture
def voting(tmp_path: Path) -> Voting:
    return Voting(tmp_path)

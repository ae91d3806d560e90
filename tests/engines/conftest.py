"""What tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.engines.fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server

"""What a machine lacks: tests that need it are skipped and say what to install, or fail if it is required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

DATA = "REDRAFT_REQUIRE_SHARED"
MODEL = "REDRAFT_REQUIRE_MODEL"
TOOLS = "REDRAFT_REQUIRE_TOOLS"
"""Set to 1, they say that data, model, or Debian's Chromium and bubblewrap are required."""


def lack(reason: str, requirement: str) -> NoReturn:
    if os.environ.get(requirement) == "1":
        pytest.fail(f"{reason} ({requirement}=1, so this is a failure and not a skip)", pytrace=False)
    pytest.skip(reason)


def lack_chromium() -> NoReturn:
    lack("Chromium is not installed (Debian: apt install chromium)", TOOLS)

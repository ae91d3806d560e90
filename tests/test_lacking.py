"""What is required fails where it is missing; the rest is skipped and says what to install."""

from __future__ import annotations

import pytest

from tests.lacking import TOOLS, lack_chromium


def test_a_missing_browser_is_skipped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOOLS, raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt install chromium"):
        lack_chromium()


def test_a_missing_browser_fails_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOOLS, "1")
    with pytest.raises(pytest.fail.Exception, match="apt install chromium"):
        lack_chromium()

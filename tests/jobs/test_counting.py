from __future__ import annotations

import pytest

from redraft.jobs.counting import counted, tell


def test_one_is_no_plural() -> None:
    assert [counted(count, "row") for count in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]


def test_a_message_without_standard_error_goes_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    tell("lost", "nobody reads it")
    assert capsys.readouterr().out == ""

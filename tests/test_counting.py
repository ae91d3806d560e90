from __future__ import annotations

from redraft.counting import counted


def test_one_is_no_plural() -> None:
    assert [counted(count, "row") for count in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]

"""Drops are counted, and written with the reason, whatever the record is."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from redraft.data.dedupe import Duplicate
from redraft.data.output import Drop, Dropped


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def written(drop: Drop) -> dict[str, Any]:
    side = io.BytesIO()
    Dropped(side).add(drop)
    line: dict[str, Any] = json.loads(side.getvalue())
    return line


def test_a_drop_is_a_line_of_all_that_is_known_of_it() -> None:
    drop = Duplicate("exact", "says the same as a", "in:2", "b", {"id": "b"}, "a", 1.0)
    assert written(drop) == {
        "rule": "exact",
        "reason": "says the same as a",
        "where": "in:2",
        "id": "b",
        "record": {"id": "b"},
        "kept": "a",
        "similarity": 1.0,
    }


@pytest.mark.parametrize("depth", [600, 900])
def test_a_record_is_kept_however_deep_it_could_be_read(depth: int) -> None:
    deep = json.loads("[" * depth + "1" + "]" * depth)
    assert written(Drop("short", "no text", "in:1", record=deep))["record"] == deep


def test_of_a_record_too_deep_to_be_written_the_place_is_kept() -> None:
    found = written(Drop("short", "no text", "in:1", "a", nested(100_000)))
    assert found == {"rule": "short", "reason": "no text", "where": "in:1", "id": "a", "record": None}


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"a": 1', '{"a": 1'),
        (b'{"a": "caf\xe9"}', '{"a": "caf\\xe9"}'),
        (b'{"a": "\\ud800"}', '{"a": "\\ud800"}'),
        (b"[" * 100_000, "[" * 100_000),
        (b'{"a": 1}', {"a": 1}),
    ],
)
def test_a_line_that_could_not_be_read_is_kept_as_text(line: bytes, text: Any) -> None:
    found = written(Drop("unreadable", "in:1: not JSON", "in:1", record=line))
    assert (found["reason"], found["record"]) == ("not JSON", text)


def test_the_first_that_cannot_be_read_are_told_and_where() -> None:
    said: list[str] = []
    gone = Dropped(tell=said.append)
    for number in range(7):
        gone.add(Drop("unreadable", f"in:{number}: not JSON", f"in:{number}"))
        gone.add(Drop("short", "too short", f"in:{number}"))
    assert said == [f"in:{number}: not JSON" for number in range(5)]


def test_counts_are_told_by_rule_most_frequent_first() -> None:
    gone = Dropped()
    for rule in ("short", "roles", "empty", "roles"):
        gone.add(Drop(rule, "", ""))
    assert gone.lines() == ["roles          2", "empty          1", "short          1"]

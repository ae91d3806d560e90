"""Chains are read as elsewhere; drops are counted, and written with the reason, whatever the record is."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from redraft.chain import Chain
from redraft.chain.read.files import decode
from redraft.chain.read.records import RawRecord, chain_of
from redraft.data.dedupe import Duplicate
from redraft.data.output import Drop, Dropped, chain_or_drop
from redraft.errors import RecordError


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
    assert written(Duplicate("exact", "says the same as a", "in:2", "b", {"id": "b"}, "a", 1.0)) == {
        "rule": "exact", "reason": "says the same as a", "where": "in:2", "id": "b", "record": {"id": "b"},
        "kept": "a", "similarity": 1.0,
    }  # fmt: skip


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


def test_a_damaged_file_is_named_once() -> None:
    gone = Dropped()
    gone.add(Drop("damaged", "in.jsonl.gz cannot be read: it ends early.", "in.jsonl.gz"))
    assert gone.damage == ["in.jsonl.gz: cannot be read: it ends early."]


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


CHAIN: dict[str, Any] = {
    "version": 1,
    "id": "a/1",
    "prompt": {"instruction": "Why?", "input": "", "messages": None},
    "steps": [{"answer": "Because é \U0001f44d."}],
    "best": 0,
}


def line_of(record: object) -> RawRecord:
    return RawRecord("a.jsonl:1", "a", 0, json.dumps(record, separators=(",", ":")).encode())


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"field": [1, 2.5, None], "meta": {"n": 10**40, "x": 0.1, "nan": float("inf")}},
        {"error": "NetworkError", "message": "no", "chain": CHAIN, "hint": None},
        {"error": "mine alone"},
        {"steps": [], "best": None},
        {"version": 1.0},
    ],
)
def test_a_chain_is_read_as_chain_of_reads_it(more: dict[str, Any]) -> None:
    line = line_of(CHAIN | more)
    found = chain_or_drop(line, strict=True)
    assert isinstance(found, Chain)
    assert found.to_json() == chain_of(decode(line.data, line.where), line.where).to_json()


@pytest.mark.parametrize(
    "more",
    [
        {"version": 2}, {"best": 7}, {"steps": None}, {"steps": [{"answer": 3}]},
        {"meta": {"half": "\ud83d"}},
        {"meta": {"deep": json.loads("[" * 400 + "]" * 400)}},
    ],
)  # fmt: skip
def test_a_faulty_chain_is_told_as_chain_of_tells_it(more: dict[str, Any]) -> None:
    line = line_of(CHAIN | more)
    with pytest.raises(RecordError) as expected:
        chain_of(decode(line.data, line.where), line.where)
    with pytest.raises(RecordError) as found:
        chain_or_drop(line, strict=True)
    assert found.value.message == expected.value.message
    drop = chain_or_drop(line, strict=False)
    assert isinstance(drop, Drop)
    assert drop.reason == expected.value.message


def test_a_chain_without_an_id_gets_that_of_its_place() -> None:
    found = chain_or_drop(line_of(CHAIN | {"id": ""}), strict=True)
    assert isinstance(found, Chain)
    assert found.id == "a/0"


def test_what_has_a_version_and_no_steps_is_not_taken_for_a_chain() -> None:
    found = chain_or_drop(line_of({"version": 1, "id": "x", "prompt": "Why?"}), strict=True)
    assert isinstance(found, Chain)
    assert (found.prompt.instruction, found.meta["source"]) == ("Why?", {"version": 1, "id": "x"})


DEEP: dict[str, Any] = {"instruction": "Why?", "output": "So."}


def deep(depth: int) -> dict[str, Any]:
    return DEEP | {"x": json.loads("[" * depth + "]" * depth)}


@pytest.mark.parametrize("depth", [200, 220, 300])
def test_what_is_nested_too_deep_to_be_written_is_a_drop(depth: int) -> None:
    drop = chain_or_drop(line_of(deep(depth)), strict=False)
    reason = "a.jsonl:1: the record is nested too deeply to be written and read again."
    assert drop == Drop("unreadable", reason, "a.jsonl:1", record=line_of(deep(depth)).data)
    with pytest.raises(RecordError, match="too deep"):
        chain_or_drop(line_of(deep(depth)), strict=True)


def test_what_is_nested_deep_and_can_be_written_is_kept() -> None:
    chain = chain_or_drop(line_of(deep(180)), strict=True)
    assert isinstance(chain, Chain)
    assert Chain.from_json(chain.to_json()) == chain


def test_a_failure_whose_chain_is_none_is_told() -> None:
    drop = chain_or_drop(line_of({"id": "a", "error": "e", "message": "m", "chain": "text"}), strict=False)
    assert isinstance(drop, Drop)
    assert drop.reason == "a.jsonl:1: chain should be an object (found 'text')."

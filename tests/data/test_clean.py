"""Clean a record."""

from __future__ import annotations

import json
from typing import Any

from redraft.chain import Chain
from redraft.chain.read.records import RawRecord
from redraft.data.clean import Cleaned, clean_chain
from redraft.data.clean_rules import USUAL, RuleSettings
from redraft.data.output import Drop


def clean(record: Any) -> Cleaned | Drop:
    chain = RawRecord("a:7", "a", 6, json.dumps(record).encode()).chain()
    return clean_chain(chain, "a:7", names=USUAL.rules, settings=RuleSettings())


def talk(*values: str) -> dict[str, Any]:
    roles = ("human", "gpt")
    return {"id": "x", "conversations": [{"from": roles[i % 2], "value": v} for i, v in enumerate(values)]}


def test_a_kept_record_is_a_line() -> None:
    cleaned = clean(talk("What is it?", "<p>It is a <b>fox</b>.</p>"))
    assert isinstance(cleaned, Cleaned)
    assert cleaned.line.endswith(b"}\n")
    chain = Chain.from_json(cleaned.line)
    assert (chain.id, chain.answer) == ("a/x", "It is a **fox**.")


def test_a_dropped_record_is_kept_as_it_was() -> None:
    drop = clean(talk("What\x00?", " "))
    assert isinstance(drop, Drop)
    assert (drop.rule, drop.where, drop.id) == ("empty", "a:7", "a/x")
    assert drop.record["prompt"]["instruction"] == "What\x00?"

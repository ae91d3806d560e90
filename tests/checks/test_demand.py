"""What checks demand is told to the writer, and never a reference answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import redraft
from redraft.chain import content_of
from redraft.checks.base import demand_of
from redraft.checks.parse import parse_check
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import UsageError


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("words<=50", "at most 50 words"), ("words<=1", "at most 1 word."),
        ("sentences==2", "exactly 2 sentences"),
        ("characters=10..20", "10 to 20 characters"),
        ("bullets==3", 'exactly 3 bullets. A bullet is a line that begins with "- ".'),
        ("items>=2", "at least 2 items."),
        ("bullets==0", "exactly 0 bullets."),
        ("unique", "no line twice"), ("lowercase", "small letters only"),
        ("keys:name,born", 'with the keys "name", "born" and no others'),
        ("contains:gull", 'Use "gull"'), ("lacks:light", 'not use "light"'),
        ("starts:Dear", 'Begin the answer with "Dear"'),
        ("ends:Yours", 'End the answer with "Yours"'),
        (r"matches:\d{4}", r"\d{4}"), ("json", "JSON alone"), ("language:de", "German"),
        ("language:eo", "eo"),
        ("all(words<=9; lacks:light)", "at most 9 words"),
        ("any(words<=9; lacks:light)", 'Or: Do not use "light"'),
    ],
)  # fmt: skip
def test_a_check_says_what_it_demands(written: str, words: str) -> None:
    assert words in demand_of(parse_check(written))
    assert demand_of(parse_check(f"any(all({written}); command:true)")) == ""  # a program has no demand


@pytest.mark.parametrize("written", ["number=42", "number=42.5~0.1", "all(number=42; words<=9)"])
def test_the_reference_stays_secret(written: str) -> None:
    demand = demand_of(parse_check(written))
    assert "number" in demand
    assert "42" not in demand


def test_the_schema_is_the_demand(tmp_path: Path) -> None:
    schema = {"type": "object", "required": ["born"]}
    (tmp_path / "person.json").write_text(json.dumps(schema))
    assert json.dumps(schema) in demand_of(parse_check(f"json-schema:{tmp_path / 'person.json'}"))


class Person(BaseModel):
    born: int


def first_request(**options: Any) -> str:
    engine = ScriptedEngine(['{"born": 3}'])
    redraft.revise("Say it.", model=engine, max_revisions=0, **options)
    return content_of(engine.calls[0][-1])  # type: ignore[arg-type]


def test_the_writer_is_told_every_demand_once() -> None:
    checks = ["words<=9", "words<=9", "lacks:light", "command:true"]
    told = first_request(checks=checks)
    assert told == 'Say it.\n\nWrite at most 9 words.\nDo not use "light" in the answer.'
    assert first_request(checks=["words<=9"]) == "Say it.\n\nWrite at most 9 words."
    assert first_request(checks=checks, tell_checks=False) == "Say it."
    assert first_request(checks=["command:true"]) == "Say it."


def test_the_form_of_the_output_is_always_told() -> None:
    assert '"born"' in first_request(output=Person, checks=["words<=9"], tell_checks=False)
    assert "at most 9" not in first_request(output=Person, checks=["words<=9"], tell_checks=False)


def test_a_check_of_ones_own_can_demand_something() -> None:
    class Polite:
        name = "polite"
        demand = "Say please."

        def check(self, answer: str, prompt: redraft.Prompt) -> redraft.Outcome:
            return redraft.passed(answer + prompt.text)

    assert first_request(checks=[Polite()]) == "Say it.\n\nSay please."


@redraft.demands("Say please.")
def polite(answer: str) -> bool:
    return "please" in answer.lower()


def test_a_function_can_demand_something() -> None:
    assert first_request(checks=[polite]) == "Say it.\n\nSay please."
    assert first_request(checks=["python:tests.checks.test_demand.polite"]) == "Say it.\n\nSay please."
    assert first_request(checks=[lambda answer: bool(answer)]) == "Say it."
    assert (polite("Please!"), polite("Now!")) == (True, False)
    assert "Say please." in first_request(checks=["any(words<=3; python:tests.checks.test_demand.polite)"])


@pytest.mark.parametrize(
    ("demand", "function", "problem"),
    [("Say please.", "".upper, "cannot store a demand"), ("Say please.", len, "cannot store a demand")],
)
def test_a_demand_is_a_text_that_the_function_can_keep(demand: Any, function: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        redraft.demands(demand)(function)


def test_a_first_draft_that_repeats_a_demand_is_an_echo() -> None:
    engine = ScriptedEngine(["Write at most 9 words.", "A gull flew over."])
    chain = redraft.revise("Say it.", model=engine, checks=["words<=9"])
    assert chain.steps[0].echo
    assert chain.answer == "A gull flew over."

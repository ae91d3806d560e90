"""Texts that answer nothing, as first answers too, and short answers that do; also on labelled ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.chain import Chain
from redraft.engines.scripted import ScriptedEngine
from redraft.verify.base import demand_of
from redraft.verify.echo import talks
from redraft.verify.nonanswer import answers_nothing
from redraft.verify.parse import parse_check

LABELLED = Path(__file__).parent.parent / "data" / "first_answers.jsonl"
ASKED = "Describe a lighthouse."


@pytest.mark.parametrize(
    "answer",
    [
        "The answer has 20 words.",
        "Okay.",
        "My answer does not contain the forbidden word.",
        "Describe a lighthouse.",
        "[Your description here]",
        "Sure, here is a description of a lighthouse:",
        "Write at most 20 words.",
        "```\n[Your description here]\n```",
    ],
)
def test_talk_passes_no_check_as_a_first_answer(answer: str) -> None:
    chain = first(ASKED, answer, "words<=20")
    assert (chain.steps[0].echo, chain.passed) == (True, False)


def first(prompt: str, answer: str, check: str) -> Chain[Any]:
    """A chain of one answer."""
    return redraft.revise(prompt, model=ScriptedEngine([answer]), checks=[check], max_revisions=0)


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Say okay.", "Okay."),
        ("May I go?", "Okay."),
        ("I am on my way.", "Okay."),
        ('Translate "vale" into English.', "Okay."),
        ("Hello!", "Hello!"),
        ("How are you?", "I'm fine."),
        ("Is the answer right or wrong? 2 + 2 = 5", "The answer is wrong."),
        ("Which is longer, a mile or a kilometre?", "A mile is longer than a kilometre."),
        ("Write a template of a letter.", "Dear [Name],"),
        ("Return an empty JSON list.", "[]"),
        ("Write the Morse code of S.", "..."),
        ("Get the type of the variable `name`.", "type(name)"),
    ],
)
def test_a_short_answer_passes(prompt: str, answer: str) -> None:
    chain = first(prompt, answer, "words<=20")
    assert (chain.steps[0].echo, chain.passed) == (False, True)


def test_a_copy_of_the_prompt_is_no_revision_either() -> None:
    model = ScriptedEngine(["A lamp, a tower, and rocks all around it.", ASKED, "A lamp."])
    chain = redraft.revise(ASKED, model=model, checks=["words<=3"], max_revisions=2)
    assert [step.echo for step in chain.steps] == [False, True, False]
    assert chain.answer == "A lamp."


@given(st.text(max_size=200), st.text(max_size=200), st.text(max_size=100))
def test_any_texts_can_be_judged(answer: str, prompt: str, demand: str) -> None:
    assert answers_nothing(answer, prompt, demand) in (True, False)


@pytest.mark.parametrize("piece", ["a ", "[", "[a", '"', "the answer ", "write ", "_", "1. ", "okay, "])
def test_long_texts_take_time_in_proportion(piece: str) -> None:
    """Megabytes on all sides: anything that compared all pairs would take hours."""
    text = piece * (1_000_000 // len(piece))
    assert talks(text, text, text) in (True, False)


def rate(split: str, label: str) -> tuple[int, int]:
    """How many records of a split and label are called talk, and how many there are."""
    with LABELLED.open(encoding="utf-8") as file:
        records = [each for each in map(json.loads, file) if (each["split"], each["label"]) == (split, label)]
    return sum(found(each) for each in records), len(records)


def found(record: dict[str, Any]) -> bool:
    demands = list(dict.fromkeys(filter(None, (demand_of(parse_check(text)) for text in record["checks"]))))
    demand = demands[0] if len(demands) == 1 else "\n".join(f"- {each}" for each in demands)
    return talks(record["answer"], record["prompt"], demand)


def test_the_rates_on_held_out_first_answers() -> None:
    """The goals are 95 % and 1 %. One is missed: 104 of 114 are found, and 3 of 346 are called talk."""
    talk, asked = rate("held-out", "echo")
    wrong, honest = rate("held-out", "answer")
    assert (asked, honest) == (114, 346)
    assert talk >= 104
    assert wrong <= 3


def test_the_rates_on_the_first_answers_that_it_was_made_with() -> None:
    talk, asked = rate("tune", "echo")
    wrong, honest = rate("tune", "answer")
    assert talk >= 0.958 * asked
    assert wrong <= 0.001 * honest

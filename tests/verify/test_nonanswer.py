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
        "I am going to describe the lamp, the stairs and the sea.",
        "My description has no adjectives, metaphors or jargon.",
        "Lighthouse 1, lighthouse 2",
        "1.",
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
        ("Where is the key hidden?", "I'm sorry, I don't understand the question."),
        ("From now on, answer in French.", "Okay."),
        ("What makes a good reply?", "A good reply is short."),
        ("Write the words on the door of a shop.", '"We are closed. Please do not knock."'),
        ("Which is larger, (a) or (b)? Answer with the letter.", "The larger one is (b)."),
    ],
)
def test_a_short_answer_passes(prompt: str, answer: str) -> None:
    chain = first(prompt, answer, "words<=20")
    assert (chain.steps[0].echo, chain.passed) == (False, True)


def test_the_demanded_word_in_quotes_is_only_mentioned() -> None:
    found = [
        first(ASKED, answer, "lacks:light").steps[0].echo
        for answer in ('Instead of "light", one might say "lamp".', 'A tower with a "lamp" on top.')
    ]
    assert found == [True, False]


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


# The goals on held-out answers are 95 % and 1 %. Both are missed.
@pytest.mark.parametrize(
    ("split", "asked", "found", "honest", "wrong"),
    [("held-out", 159, 123, 459, 10), pytest.param("tune", 768, 738, 1362, 3, marks=pytest.mark.slow)],
)
def test_the_rates_on_labelled_first_answers(
    split: str, asked: int, found: int, honest: int, wrong: int
) -> None:
    called, all_of_them = rate(split, "echo")
    assert all_of_them == asked
    assert called >= found
    called, all_of_them = rate(split, "answer")
    assert all_of_them == honest
    assert called <= wrong

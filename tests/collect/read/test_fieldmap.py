"""The user's field map."""

from __future__ import annotations

import re
from typing import Any

import pytest

from redraft.chain import Prompt
from redraft.collect.read.published import parse_map
from redraft.errors import RecordError, UsageError

RECORD = {"q": "Why?", "context": "It rains.", "a": "Clouds.", "why": "w", "n": 7, "other": [1]}


def test_fields_go_where_the_map_says_and_the_rest_is_kept() -> None:
    own, chain = parse_map(["instruction=q, input=context", "reference=a,rationale=why,id=n"]).read(
        RECORD, "f:1"
    )
    assert own == "7"
    assert chain.prompt == Prompt(instruction="Why?", input="It rains.")
    assert chain.meta == {"reference": "Clouds.", "rationale": "w", "source": {"other": [1]}}


def test_an_answer_is_a_step() -> None:
    _, chain = parse_map(["instruction=q,answer=a"]).read(RECORD, "f:1")
    assert (chain.answer, len(chain.steps)) == ("Clouds.", 1)


def test_chosen_and_rejected_are_a_pair() -> None:
    _, chain = parse_map(["instruction=q,chosen=a,rejected=why"]).read(RECORD, "f:1")
    assert ([step.answer for step in chain.steps], chain.best) == (["w", "Clouds."], 1)
    assert chain.meta["preference"] is True


def test_messages_are_a_talk() -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    _, chain = parse_map(["messages=m,tests=t"]).read({"m": said, "t": {"asserts": ["assert 1"]}}, "f:1")
    assert (chain.prompt.instruction, chain.answer) == ("a", "b")
    assert chain.meta == {"tests": {"asserts": ["assert 1"]}}


def test_numbers_of_a_table_are_texts_and_null_is_nothing() -> None:
    fields = parse_map(["instruction=q,reference=n,input=context,rationale=why"])
    _, chain = fields.read({"q": "2+5?", "n": 7, "context": None}, "f:1")
    assert (chain.prompt, chain.meta) == (Prompt(instruction="2+5?"), {"reference": "7"})


def test_one_field_may_be_two_things() -> None:
    own, chain = parse_map(["instruction=q,id=q"]).read(RECORD, "f:1")
    assert (own, chain.prompt.instruction) == ("Why?", "Why?")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("instruction", "the field map has 'instruction', which is not target=field."),
        ("instruction=", "the field map has 'instruction=', which is not target=field."),
        ("instructions=q", "a field cannot be 'instructions'. Did you mean 'instruction'?"),
        (
            "xyz=q",
            "a field cannot be 'xyz'.\n  --map instruction=question,reference=answer; a field can be: in",
        ),
        ("instruction=q,instruction=r", "the field map names instruction twice."),
        ("reference=a", "the field map has to name the prompt: either instruction or messages."),
        ("instruction=a,messages=b", "the field map has to name the prompt"),
        ("instruction=a,chosen=b", "the field map has to name chosen and rejected, or answer"),
        (
            "instruction=a,chosen=b,rejected=c,answer=d",
            "the field map has to name chosen and rejected, or answer",
        ),
        ("", "the field map has to name the prompt"),
    ],
)
def test_a_map_that_cannot_be_is_refused(written: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_map([written])


def test_a_field_that_is_not_there_is_named_with_the_nearest() -> None:
    fields = parse_map(["instruction=question"])
    with pytest.raises(
        UsageError, match=r"f:1: no field is called 'question'\. Did you mean 'questions'\?"
    ) as caught:
        fields.check({"questions": "q", "answer": "a"}, "f:1")
    assert caught.value.hint == "Its fields: questions answer"
    fields.check({"question": None}, "f:1")
    with pytest.raises(UsageError, match="no field is called 'question'"):
        fields.check("text", "f:1")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("text", "f:1: should be an object (found 'text')."),
        ({}, "f:1: q (instruction) is missing."),
        ({"q": None}, "f:1: q (instruction) is missing."),
        ({"q": 3}, "f:1: q (instruction) should be a text (found 3)."),
    ],
)
def test_a_record_without_a_prompt_is_told(record: Any, message: str) -> None:
    with pytest.raises(RecordError, match=re.escape(message)):
        parse_map(["instruction=q"]).read(record, "f:1")

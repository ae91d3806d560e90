"""Checks by a model are those that the prompt's own words say."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.verify.derive import checks_in
from redraft.verify.derive.model import KINDS, checks_by
from redraft.verify.parse import parse_checks

PROMPT = (
    'Describe rain in at most 40 words. Three of the lines ought to be bullets. "Umbrella" has to be in it.'
)


def found(*named: tuple[str, str, str], prompt: str = PROMPT) -> tuple[str, ...]:
    reply = json.dumps([dict(zip(("demand", "check", "value"), each, strict=True)) for each in named])
    return asyncio.run(checks_by(prompt, redraft.ScriptedEngine([reply])))


def test_a_model_adds_what_the_rules_do_not_find() -> None:
    assert checks_in(PROMPT) == ("words<=40",)
    bullets = ("Three of the lines ought to be bullets", "bullets==", "3")
    umbrella = ('"umbrella" has to be in it', "contains:", "Umbrella")
    assert found(bullets, umbrella) == ("words<=40", "bullets==3", "contains:Umbrella")


@pytest.mark.parametrize(
    "named",
    [
        ("Write four lines", "lines==", "4"),
        ("Three of the lines ought to be bullets", "bullets==", "4"),
        ("in at most 40 words", "words<=", "40"),
        ("in at most 40 words", "words>=", "40"),
        ("Describe rain", "contains:", "snow"),
        ("Describe rain", "contains:", ""),
        ("Describe rain", "judge:", "rain"),
        ("", "contains:", "rain"),
    ],
)
def test_what_the_prompt_does_not_say_is_left_out(named: tuple[str, str, str]) -> None:
    assert found(named) == ("words<=40",)


@pytest.mark.parametrize("reply", ["I cannot.", "{}", "[1, null]", '[{"demand": 1}]', "[[[["])
def test_a_reply_of_another_form_adds_nothing(reply: str) -> None:
    assert asyncio.run(checks_by(PROMPT, redraft.ScriptedEngine([reply]))) == ("words<=40",)


texts = st.sampled_from(["rain", "40", "at most 40 words", PROMPT, "", "x:y", "\n", "=="])


@given(st.lists(st.tuples(texts, st.sampled_from(KINDS), texts), max_size=4))
def test_whatever_a_model_names_can_be_checked(named: list[tuple[str, str, str]]) -> None:
    checks = found(*named)
    assert len(parse_checks(checks)) == len(checks)

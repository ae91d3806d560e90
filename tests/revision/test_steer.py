"""Checks steer a model while it writes: the default model passes at once what it fails without."""

from __future__ import annotations

from typing import Any

import pytest

import redraft

CHECKS = ["contains:lighthouse", "sentences==3", "ends:Good night."]


def note(**options: Any) -> redraft.Chain:
    given = {"checks": CHECKS, "max_tokens": 90, "temperature": 0.0, "max_revisions": 0, **options}
    return redraft.revise("Write a note to a friend about a walk by the sea.", **given)


def test_the_first_answer_passes() -> None:
    chain = note()
    assert chain.passed, chain.answer
    assert (chain.steps[0].steered, chain.steps[0].finish) == (tuple(CHECKS), "stop")


def test_words_steer_beside_a_schema_that_leaves_room_for_them() -> None:
    checks = ["keys:title,text", "contains:snow", "lacks:cold", "words<=40"]
    chain = redraft.revise("Describe winter.", checks=checks, max_tokens=60, seed=1, max_revisions=0)
    assert chain.passed, chain.answer
    assert chain.steps[0].steered == ("keys:title,text", "contains:snow", "lacks:cold")


def test_json_is_steered_by_checks_unless_that_is_off_and_by_a_type_always() -> None:
    asked: Any = {"max_tokens": 40, "temperature": 0, "max_revisions": 0, "tell_checks": False}

    def told(**options: Any) -> redraft.Chain:
        return redraft.revise("Tell me a story about a dog.", model="default", **asked, **options)

    checks = ["json", "keys:name,born"]
    steered, alone = told(checks=checks), told(checks=checks, steer=False)
    assert (steered.answer[:1], steered.steps[0].steered) == ("{", ("json", "keys:name,born"))
    assert ("{" in alone.answer, alone.steps[0].steered) == (False, ())
    typed = told(output=list[int], checks=["contains:dog"], steer=False)
    assert (typed.answer[:1], typed.steps[0].steered) == ("[", ("output:list[int]",))


@pytest.mark.slow
def test_revisions_are_steered_too() -> None:
    chain = note(checks=["lacks:the", "matches:(?=x)xyzzy"], max_revisions=1, max_tokens=40)
    assert [step.steered for step in chain.steps] == [("lacks:the",)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"checks": ["number=42"]}, {"checks": []}])
def test_what_has_no_form_does_not_steer(options: dict[str, Any]) -> None:
    assert note(max_tokens=20, **options).steps[0].steered == ()

"""Grammars for servers: llguidance reads them as vLLM and SGLang do, and draws random texts by them."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance.gbnf_to_lark import any_to_lark

from redraft.chain import Prompt
from redraft.checks.base import run_checks
from redraft.checks.parse import parse_check
from redraft.engines.steering.form import Form
from redraft.engines.steering.gbnf import MOST_LETTERS, MOST_ORDERS, gbnf, says
from tests.engines.steering.test_lark import FORMS, TEXT, accepts, drawn, form_for

TOKENS = 40


@given(st.lists(FORMS, min_size=1, max_size=3, unique=True), st.integers(0, 2**16))
def test_what_a_grammar_allows_passes_the_checks_that_steered(texts: list[str], seed: int) -> None:
    checks = [parse_check(text) for text in texts]
    form, steered = form_for(checks)
    if not says(form):
        return
    answer = drawn(any_to_lark(gbnf(form, TOKENS)), seed)
    results = asyncio.run(run_checks(checks, answer, Prompt(instruction="?")))
    failed = [result.message for result in results if result.name in steered and not result.passed]
    assert not failed, f"{answer!r}\n{gbnf(form, TOKENS)}"


@pytest.mark.parametrize(
    ("checks", "good", "bad"),
    [
        (["words<=10"], "All is well here in the town.", TEXT),
        (["words>=9"], TEXT, "All is well."),
        (["sentences==2"], TEXT, "All is well."),
        (["contains:rain", "contains:friend"], TEXT, "All is well."),
        (["contains:friend", "contains:rain"], TEXT, "All is well."),
        (["contains:in the town"], TEXT, "All is well in town."),
        (["lacks:rain", "lacks:snow"], "It is raining, and snows.", TEXT),
        (["lacks:known"], "This is well-knowing.", "This is well-known."),
        (["lacks:,"], "All is well.", TEXT),
        (["starts:Hello there"], TEXT, "All is well."),
        (["ends:It is."], f"{TEXT} It is.", TEXT),
        (["ifeval:startend:quotation"], f'"{TEXT}"', TEXT),
        (["ifeval:change_case:english_lowercase"], TEXT.lower(), TEXT),
        (["ifeval:change_case:english_capital", "lacks:rain"], "ALL IS WELL.", "ALL THE RAIN."),
        (
            ['ifeval:detectable_content:postscript {"postscript_marker": "P.S."}'],
            f"{TEXT}\n\nP.S. Write soon.",
            TEXT,
        ),
        (["2*contains:rain"], TEXT, "All is well."),
    ],
)
def test_a_grammar_takes_answers_that_pass_and_no_others(checks: list[str], good: str, bad: str) -> None:
    form, steered = form_for([parse_check(check) for check in checks])
    assert says(form)
    assert len(steered) == len(checks)
    grammar = any_to_lark(gbnf(form, 200))
    assert accepts(grammar, good)
    assert not accepts(grammar, bad)


def test_more_texts_come_as_they_are_given() -> None:
    words = tuple("abcdef"[: MOST_ORDERS + 1])
    grammar = any_to_lark(gbnf(Form(has=words), 100))
    assert accepts(grammar, " ".join(words) + " end.")
    assert not accepts(grammar, " ".join(reversed(words)) + " end.")


@pytest.mark.parametrize(
    "form",
    [
        Form(lacks=("the town",)),
        Form(lacks=("été",)),
        Form(lacks=tuple(f"word{number}" for number in range(MOST_LETTERS // 4))),
        Form(schema={}),
    ],
    ids=str,
)
def test_what_it_cannot_say_it_does_not_claim(form: Form) -> None:
    assert not says(form)


@pytest.mark.parametrize("word", ["c++", 'say "so"', "a/b", "naïve", "日本", "back\\slash", "[x]"])
def test_a_demanded_text_may_have_any_characters(word: str) -> None:
    grammar = any_to_lark(gbnf(Form(has=(word,)), 100))
    assert accepts(grammar, f"Here {word} stands.")
    assert not accepts(grammar, "Here nothing stands.")

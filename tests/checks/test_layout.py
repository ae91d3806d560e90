from __future__ import annotations

import asyncio

import pytest

from redraft.chain import CheckResult, Prompt
from redraft.checks.base import run_check
from redraft.checks.parse import parse_check
from redraft.checks.text import bullets, headings, items, lines

LIST = """\
# Rain

Some of its kinds:

- drizzle, -5 degrees
* **shower**
  + cold
• hail
– sleet

1. first
**2.** second
3) third

***
- - -
-
**bold** alone, and 4.5 mm
```sh
# comment
- no bullet
1. no item
```
## Snow
####### seven
#hashtag
"""


def test_what_counts() -> None:
    assert (bullets(LIST), items(LIST), headings(LIST)) == (5, 8, 2)
    assert (lines(LIST), lines(LIST.replace("\n", "\r\n"))) == (22, 22)


def test_a_fence_ends_only_by_one_like_it() -> None:
    assert bullets("- a\n~~~\n- b\n```\n- c\n~~~\n- d") == 2
    assert bullets("- a\n````\n- b\n```\n- c") == 1
    assert bullets("```code``` stands alone\n- a") == 1


def say(written: str, answer: str) -> CheckResult:
    return asyncio.run(run_check(parse_check(written), answer, Prompt()))


A_KEY = 'the key "name"'
A_BULLET = 'A bullet is a line that begins with "- ".'


@pytest.mark.parametrize(
    ("written", "answer", "message"),
    [
        ("bullets==1", "- a\n- b", "The answer has 2 bullets, and exactly 1 are wanted: 1 too many."),
        ("bullets>=3", "1. a", f"The answer has 0 bullets, and at least 3 are needed: 3 too few. {A_BULLET}"),
        ("lines<=2", "a\n\nb\nc", "The answer has 3 lines, and at most 2 are allowed: 1 too many."),
        (
            "unique",
            "It rains.\nSo\n- it  Rains.\nit rains.",
            'These lines repeat an earlier one: 3 ("- it  Rains.", as line 1), 4 ("it rains.", as line 1).',
        ),
        ("unique", "1. Rain\n2. rain", 'This line repeats an earlier one: 2 ("2. rain", as line 1).'),
        ("uppercase", "THE Light", '"Light" is not uppercase.'),
        ("lowercase", "the Light shone", '"Light" is not lowercase.'),
        (
            "keys:name",
            '{"Name": 1}',
            f'The JSON object lacks {A_KEY} and also has the key "Name": exactly {A_KEY} is asked for.',
        ),
        ("keys:name", "[1]", f"The JSON is not an object. Write one with {A_KEY}."),
        ("keys:name", "Ada", "The answer is not JSON: Expecting value at line 1, column 1, before 'Ada'."),
    ],
)
def test_what_is_wrong(written: str, answer: str, message: str) -> None:
    found = say(written, answer)
    assert not found.passed
    assert found.message == message
    assert 0 <= found.score < 1


@pytest.mark.parametrize(
    ("written", "answer"),
    [
        ("bullets==3", "Here:\n- a\n- b\n- c"),
        ("items=2..3", "1. a\n2. b"),
        ("headings>=1", "# Rain\nIt falls."),
        ("unique", "---\nIt rains.\n---\n```\n}\n}\n```\nIt pours."),
        ("uppercase", "LIGHT 光, 3 SHIPS!"),
        ("lowercase", "light 光, 3 ships!"),
        ("keys:name,born", '```json\n{"born": null, "name": []}\n```'),
        ("all(bullets==1; any(unique; json))", "- a"),
    ],
)
def test_what_passes(written: str, answer: str) -> None:
    assert say(written, answer).passed


def test_nearer_misses_score_higher() -> None:
    objects = ["x", "[]", "{}", '{"a": 1, "b": 2, "d": 3}', '{"a": 1, "b": 2}']
    scores = [say("keys:a,b,c", answer).score for answer in objects]
    assert scores == sorted(scores)
    assert scores[0] < scores[1] < scores[-1] < 1
    assert say("unique", "a\na").score > say("unique", "a\na\na").score

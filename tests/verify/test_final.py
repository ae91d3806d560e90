"""The final answer in a free text: where it is, and when it is right."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError
from redraft.verify.base import Check, Outcome
from redraft.verify.final import (
    FinalLetter,
    FinalMaths,
    FinalNumber,
    SameJson,
    final_letter,
    final_maths,
    final_number,
)


def judged(check: Check, answer: str) -> Outcome:
    found = check.check(answer, Prompt())
    assert isinstance(found, Outcome)
    return found


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("18", "18"),
        ("She makes 9 * 2 = 18 dollars.\nAnswer: 18", "18"),
        ("**Answer:** $1,234.50. It took 3 steps.", "1234.50"),
        ("The answer is 18. She sells 9 eggs a day.", "18"),
        ("So the final answer is 5 + 13 = 18.", "18"),
        ("work 1 2 3\n#### 18\nDone in 3 steps.", "18"),
        (r"Thus \boxed{18}, found in 3 steps.", "18"),
        (r"The answer is \boxed{\$18}.", "18"),
        ("The answer is found by adding 3 and 4. So it is 7.", "7"),
        ("Total: 8 boxes. Difference: 4", "4"),
        ("答えは 18 です。", "18"),
        ("No number here.", None),
        ("", None),
    ],
)
def test_the_final_number(answer: str, number: str | None) -> None:
    assert final_number(answer) == (None if number is None else Decimal(number))


@pytest.mark.parametrize("share", [5, pytest.param(1, marks=pytest.mark.slow)])
def test_reading_agrees_with_every_judgement_of_gsm8ks_sampled_solutions(
    shared_data: Path, share: int
) -> None:
    wrong = count = 0
    with (shared_data / "gsm8k" / "example_model_solutions.jsonl").open(encoding="utf-8") as lines:
        for record in map(json.loads, islice(lines, 0, None, share)):
            check = FinalNumber.of(record["ground_truth"].rsplit("A:", 1)[1].strip())
            for made in [value for value in record.values() if isinstance(value, dict)]:
                count += 1
                wrong += judged(check, made["solution"]).passed != made["is_correct"]
    assert (wrong, count) == (0, 4 * len(range(0, 1319, share)))


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("C", "C"),
        ("(C)", "C"),
        ("Answer: C", "C"),
        ("**Answer:** (C)", "C"),
        ("The correct answer is C) 37.", "C"),
        ("The answer is option C because A is too small.", "C"),
        (r"A and B are wrong. \boxed{\text{C}}", "C"),
        ("A train leaves. I choose option B.", "B"),
        ("The answer is A because it fits.", "A"),
        ("The answer is A train.", None),
        ("A) is too small, B) fits.\n\nB", "B"),
        ("Answer: F", None),
        ("It is 37.", None),
        ("", None),
    ],
)
def test_the_final_letter(answer: str, letter: str | None) -> None:
    assert final_letter(answer) == letter


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (r"So $x = 3$, and \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"The answer is $\frac{1}{2}$.", r"\frac{1}{2}"),
        (r"We get \(x^2\) and then \(x+1\)." + " It is long enough to be no bare result," * 3, "x+1"),
        (r"\frac12", r"\frac12"),
        ("Then we get this:\n$x=2$ and so on.\n$$ \n$$\n", "x=2"),
        ("", None),
        ("   \n ", None),
    ],
)
def test_the_final_formula(answer: str, result: str | None) -> None:
    assert final_maths(answer) == result


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (FinalNumber.of("1,234.5"), "It is 1234.50.", "It is 1234."),
        (FinalLetter("B"), "Answer: B", "Answer: C"),
        (FinalMaths(r"\frac12"), r"\boxed{0.5}", r"\boxed{0.25}"),
        (SameJson.of('{"a": [1, 2]}'), '```json\n{"a": [1.0, 2]}\n```', '{"a": [2, 1]}'),
        (SameJson.of('{"a": true}'), '{"a": true}', '{"a": 1}'),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_right_and_wrong_and_no_gold_answer_in_the_message(check: Check, right: str, wrong: str) -> None:
    assert judged(check, right).passed
    found = judged(check, wrong)
    assert not found.passed
    gold = str(getattr(check, "reference", ""))
    assert gold not in found.message
    assert not judged(check, "").passed


def test_gold_answers_that_cannot_be_used() -> None:
    with pytest.raises(CheckSyntaxError, match="is no number"):
        FinalNumber.of("many")
    with pytest.raises(CheckSyntaxError, match="not JSON"):
        SameJson.of("{a: 1}")


@pytest.mark.parametrize("gold", ["[1]", "[" * 900 + "]" * 900])
def test_json_that_nests_too_deep_to_be_compared_is_not_right(gold: str) -> None:
    outcome = judged(SameJson(gold), "[" * 900 + "]" * 900)
    assert (outcome.passed, outcome.score) == (False, 0.5)


@pytest.mark.parametrize(
    "answer",
    [
        "answer" + " " * 20_000,
        "answer is" + " *_" * 9_000,
        "A" + " " * 20_000,
        "option" + " " * 20_000,
        r"\(" * 40_000,
    ],
    ids=lambda answer: answer[:12].strip(),
)
@pytest.mark.parametrize(
    "check", [FinalLetter("B"), FinalNumber(Decimal(3)), FinalMaths("x")], ids=lambda c: c.name
)
def test_a_hostile_answer_takes_no_quadratic_time(check: Check, answer: str) -> None:
    start = time.process_time()
    assert not judged(check, answer).passed
    assert time.process_time() - start < 2  # `answer` with spaces took 84 s where it grew with the cube


def test_broken_json_is_no_traceback_and_scores_by_how_far_it_goes() -> None:
    check = SameJson.of('{"é": "ü"}')
    assert judged(check, '{"é": "ü"}').passed
    near, far = judged(check, '{"é": "ü"'), judged(check, "é")
    assert 0 <= far.score < near.score < 0.5 < 1


@given(st.text(max_size=200))
def test_any_answer_is_judged(answer: str) -> None:
    for check in (FinalNumber(Decimal(7)), FinalLetter("B"), FinalMaths("7"), SameJson("7")):
        assert isinstance(judged(check, answer), Outcome)


@given(st.integers(-(10**9), 10**9), st.sampled_from(["Answer: {}", "#### {}", r"\boxed{{{}}}", "So {}."]))
def test_a_number_is_found_however_it_is_marked(number: int, form: str) -> None:
    assert final_number("First 3 and 4.\n" + form.format(f"{number:,}")) == number

"""The last number of an answer."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from redraft.chain import Prompt
from redraft.errors import CheckSyntaxError
from redraft.verify.extract import last_number
from redraft.verify.final import Number

NUMBERS = st.decimals(-(10**9), 10**9, places=3)
WORDS = st.text(st.characters(categories=["L", "Zs", "Po"], exclude_characters=",.%/*"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("It is 42.", "42"),
        ("1,234.5", "1234.5"),
        ("about 12,345,678 people", "12345678"),
        ("-3", "-3"),
        ("x = −3", "-3"),
        ("(-3)", "-3"),
        ("10-3", "3"),
        ("10 - 3", "3"),
        ("pages 5–7", "7"),
        ("1e5", "100000"),
        ("2.5E-3 m", "0.0025"),
        ("$1,000.", "1000"),
        ("-$5 or $-6", "-6"),
        ("a loss of -$5", "-5"),
        ("50%.", "50"),
        ("1, 2, 3", "3"),
        ("1,2,3", "3"),
        ("1,2345", "2345"),
        (".5", "0.5"),
        ("5km", "5"),
        ("the 2nd of 3 in GPT-4 with x2 and v1.5", "3"),
        (r"\boxed{42}", "42"),
        ("**7**", "7"),
        ("#### 72", "72"),
        ("2024-01-05", "5"),
        ("- 8 apples", "8"),
        ("9" * 5000, "9" * 5000),
        ("The answer is 1/2.", "0.5"),
        ("-3/4", "-0.75"),
        ("1 1/2 hours", "1.5"),
        ("on 2024/01/05", "5"),
        ("1/2/3", "3"),
        ("3/0", "0"),
        (r"\frac{1}{4}", "0.25"),
        (r"2\frac14", "2.25"),
        ("1{,}234{,}567", "1234567"),
        (r"1\,234", "1234"),
        ("12\u202f000", "12000"),
        ("3 × 10^6 metres", "3000000"),
        ("10^{-3}", "0.001"),
        ("36 cm^2", "36"),
        ("x^2 = 9", "9"),
    ],
)
def test_the_last_number(text: str, value: str) -> None:
    found = last_number(text)
    assert found
    assert found[0] == Decimal(value)


@pytest.mark.parametrize("check", ["1/2", "1/2~0.01", "0.5", "0.49~1/10"])
def test_a_fraction_is_compared_by_its_value(check: str) -> None:
    assert Number.of(check).check("So it is 2/4.", Prompt()).passed
    assert not Number.of(check).check("So it is 2.", Prompt()).passed


@pytest.mark.parametrize("text", ["", "none", "x2", "GPT-4", "-", "$", "...", "½ twelve"])
def test_no_number(text: str) -> None:
    assert last_number(text) is None
    outcome = Number.of("1").check(text, Prompt())
    assert outcome.message == "The answer has no number. Write the result as a number, at the end."


@given(NUMBERS, WORDS, st.sampled_from(["{}", "{:,}", "${:,}", "{}%", "{}.", "**{}**", "({})"]), WORDS)
def test_any_written_number_is_read_back(value: Decimal, before: str, form: str, after: str) -> None:
    found = last_number(f"7 {before} {form.format(value)} {after}")
    assert found
    assert found[0] == value


@given(NUMBERS, NUMBERS)
def test_a_miss_tells_nothing_of_the_reference(reference: Decimal, value: Decimal) -> None:
    assume(reference != value)
    other = Number(reference + 1_000_000_007).check(f"It is {value}", Prompt())
    outcome = Number(reference).check(f"It is {value}", Prompt())
    assert outcome == other  # the same words and score, whatever the reference
    assert not outcome.passed


def test_a_miss_says_which_number_was_read_and_where() -> None:
    outcome = Number.of("42").check("7 * 6\n= 41.\nSo it is.", Prompt())
    assert outcome.message == (
        "The last number in the answer is 41, on line 2, and it is not right. Work it out again."
    )
    assert outcome.score == 0


@given(NUMBERS, st.decimals(0, 1000, places=3), NUMBERS)
def test_the_tolerance_is_a_distance(reference: Decimal, tolerance: Decimal, value: Decimal) -> None:
    outcome = Number(reference, tolerance).check(str(value), Prompt())
    assert outcome.passed == (abs(value - reference) <= tolerance)


@pytest.mark.parametrize("written", ["3.14±0.01", "3.14~0.01", " 3.14 ~ .01 "])
def test_a_tolerance_is_written_in_two_ways(written: str) -> None:
    check = Number.of(written)
    assert check == Number(Decimal("3.14"), Decimal("0.01"))
    assert check.name == "number=3.14~0.01"


@pytest.mark.parametrize("text", ["1e9999", "-1e-9999", "1e99999999999", "0." + "3" * 10_000])
def test_hostile_numbers_are_compared_without_harm(text: str) -> None:
    assert not Number.of("42~0.1").check(text, Prompt()).passed
    assert len(Number.of("42~0.1").check(text, Prompt()).message) < 200


@pytest.mark.parametrize("written", ["x", "1 2", "", "1~", "~1", "1~2~3", "1/0"])
def test_what_is_not_a_number_is_refused(written: str) -> None:
    with pytest.raises(CheckSyntaxError, match="is not a number"):
        Number.of(written)


def test_a_tolerance_below_zero_is_refused() -> None:
    with pytest.raises(CheckSyntaxError, match=r"number=1~-2: a tolerance cannot be negative\."):
        Number.of("1~-2")


def test_every_solution_of_gsm8k_passes_with_its_own_answer(shared_data: Path) -> None:
    lines = (shared_data / "gsm8k" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    answers = [json.loads(line)["answer"] for line in lines]
    assert len(answers) == 1319
    for answer in answers:
        reference = answer.rsplit("#### ", 1)[1]
        assert Number.of(reference).check(answer, Prompt()).passed, answer[-80:]

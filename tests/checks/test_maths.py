"""Spellings and values of mathematical answers: what is the same, and what must stay different."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.checks.maths import canonical, value_of


@pytest.mark.parametrize(
    "texts",
    [
        (r"\frac{1}{2}", "1/2", "0.5", ".5", r"\dfrac12", r"$\frac 12$", r"\frac{2}{4}", "0.50"),
        (r"-\frac{3}{8}", "-3/8", r"\frac{-3}{8}", "-0.375"),
        (r"1\frac{4}{5}", "9/5", "1.8"),
        (r"90^\circ", "90°", "90", r"90^{\circ}", r"90\text{ degrees}", "90 degrees"),
        (r"864 \mbox{ inches}^2", "864", "864 square inches", r"864\text{ in}^2"),
        (r"\$32,\!348", "32348", "32,348", "$32,348$", r"\$32348.00"),
        (r"11\sqrt2", r"11\sqrt{2}", "11√2", r"11 \cdot \sqrt{2}", "11*sqrt(2)"),
        (r"\text{Evelyn}", "Evelyn", "evelyn", r"\textbf{Evelyn}."),
        (r"\text{(C)}", "C", "(C)", r"\text{C}"),
        ("x=5", "5", "x = 5."),
        (r"x \in [-2,7]", "[-2,7]", r"\left[-2, 7\right]"),
        ("1,-2", "-2, 1", r"\{1, -2\}", "-2 and 1"),
        (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}", "1±√19"),
        (r"(0,9) \cup (9,36)", r"(9, 36) \cup (0, 9)", "(0,9)∪(9,36)"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\pi/2)", r"(3, \dfrac{π}{2})"),
        (
            r"\begin{pmatrix} -1/3 \\ 2/3 \end{pmatrix}",
            r"\begin{bmatrix} -\frac{1}{3} \\ \frac{2}{3} \end{bmatrix}",
        ),
        (r"52_8", "52_{8}"),
    ],
    ids=lambda texts: texts[0],
)
def test_spellings_of_one_answer(texts: tuple[str, ...]) -> None:
    first = canonical(texts[0])
    assert {text for text in texts if canonical(text) != first} == set()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1/2", "1/3"), ("0.333", "1/3"), ("(1,2)", "(2,1)"), ("(1,2)", "[1,2]"), ("(3,4]", "(3,4)"),
        ("(3,4]", "[3,4]"), ("1,2", "1,2,2"), ("52_8", "52_9"), ("x^2", "x^3"), ("2*3", "23"),
        (r"2 \cdot 3", "23"), ("-5", "5"), (r"\sqrt{2}", "2"), ("(1,234)", "1234"), ("A", "B"), ("p", "P"),
        ("5x", "5"), (r"\frac{1}{0}", "0"), ("", "0"),
    ],
)  # fmt: skip
def test_other_answers_stay_other(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


MERGED = (
    {"90", r"90^\circ"}, {"5", "x=5"}, {"-2,1", "1,-2"}, {"120", r"120^\circ"}, {"36", r"36^\circ", r"\$36"},
    {r"\frac14", r"\frac{1}{4}"}, {"30", r"30^\circ"}, {r"10,\!080", "10080"}, {"15", r"15\mbox{cm}^2"},
)  # fmt: skip
"""Gold answers of different tasks that are one answer."""


def spellings(gold: str) -> list[str]:
    found = [f"${gold}$", f" {gold} ", f"{gold}.", gold.replace(r"\frac", r"\dfrac"), gold.replace(" ", "")]
    found += [gold.replace("(", r"\left(").replace(")", r"\right)") if r"\left" not in gold else gold]
    found += [gold.replace(r"\left", "").replace(r"\right", ""), gold.replace(",", ", "), f"\\({gold}\\)"]
    if r"\text" not in gold and r"\mbox" not in gold:
        found.append(gold.replace("=", " = ").replace("+", " + "))
    return [text for text in found if r"\cotx" not in text]


@pytest.mark.parametrize("share", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_each_gold_answer_of_math_500_equals_itself_in_other_spellings(shared_data: Path, share: int) -> None:
    with (shared_data / "math" / "math_500_test.jsonl").open(encoding="utf-8") as lines:
        golds = [json.loads(line)["answer"] for line in lines]
    assert len(golds) == 500
    forms = {gold: canonical(gold) for gold in golds}
    tried = [*forms][::share]
    wrong = [(gold, text) for gold in tried for text in {*spellings(gold)} if canonical(text) != forms[gold]]
    assert wrong == []
    same = defaultdict(set)
    for gold in golds:
        same[canonical(gold)].add(gold)
    merged = {frozenset(text.replace(" ", "") for text in found) for found in same.values()}
    assert {found for found in merged if len(found) > 1} == set(map(frozenset, MERGED))


@given(st.integers(-999, 999), st.integers(1, 999))
def test_fractions_are_compared_by_value(top: int, bottom: int) -> None:
    assert canonical(rf"\frac{{{top}}}{{{bottom}}}") == canonical(f"{2 * top}/{2 * bottom}")
    assert canonical(f"{top}/{bottom}") != canonical(f"{top}/{bottom + 1}") or top == 0


def test_many_signs_in_one_term_are_not_multiplied_out() -> None:
    assert canonical(r"\pm 1") == canonical("1, -1")
    assert canonical(r"\pm 1, \pm 2") == canonical("1, -1, 2, -2")
    assert canonical(r"1 \pm 2 \pm 3") == canonical(r"1\pm2\pm3")
    assert canonical(r"\pm" * 160) != canonical("1"), "these would be 2 to the power of 160 numbers"


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("2+3*4", 14), ("-2^2", -4), ("2^{-1}", Fraction(1, 2)), (r"1\frac{3}{4}", Fraction(7, 4)),
        (r"2\frac{\sqrt{4}}{4}", 1), (r"\sqrt[3]{27}", 3), (r"\sqrt{2}\sqrt{2}", 2), ("4!", 24),
        (r"\binom{5}{2}", 10), (r"{5\choose2}", 10), (r"\log_28", 3), (r"\log_{10}1000", 3),
        (r"\sin^2x+\cos^2x", 1), ("|2-5|", 3), ("x-x", 0),
    ],
)  # fmt: skip
def test_values(formula: str, value: object) -> None:
    assert value_of(formula) == value


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("(x+1)^2", "x^2+2x+1", True), ("2x+3y-6=0", "6-3y-2x=0", True), ("x>3", "3<x", True),
        (r"e^{x+1}", "e*e^x", True), ("x<=3", "3>=x", True), ("x+1", "x-1", False), ("x>3", "x>=3", False),
        ("x", "X", False), ("x=3", "3-x", False),
    ],
)  # fmt: skip
def test_formulas_of_one_value_and_of_others(one: str, other: str, *, equal: bool) -> None:
    assert value_of(one) is not None
    assert (value_of(one) == value_of(other)) == equal


@pytest.mark.parametrize(
    "formula",
    ["", "1/0", "Evelyn,", "52_8", r"\text{x}", "(1,2)", "1+", "(1", "1=2=3", r"\infty", "0^{-1}", "x_1"],
)
def test_what_is_no_formula_has_no_value(formula: str) -> None:
    assert value_of(formula) is None


@pytest.mark.parametrize(
    "formula",
    ["9^{9^{9^{9}}}", "9!!!!!!", "(" * 400, "9^" * 200 + "9", r"\sqrt{" * 80 + "2" + "}" * 80, "200!^{200!}"],
)
def test_a_hostile_formula_takes_no_time(formula: str) -> None:
    start = time.process_time()
    value_of(formula)
    assert time.process_time() - start < 1


@given(st.text("0123456789x+-*/^(){}.!=<|", max_size=40))
def test_any_text_has_a_value_or_none(formula: str) -> None:
    assert value_of(formula) == value_of(formula)
    assert isinstance(hash(value_of(formula)), int)

"""Values of formulas: equal where they are, and none for what is no formula."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.verify.maths import value_of


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("2+3*4", 14),
        ("-2^2", -4),
        ("2^{-1}", Fraction(1, 2)),
        ("2^10", 1024),
        (r"1\frac{3}{4}", Fraction(7, 4)),
        (r"2\frac{\sqrt{4}}{4}", 1),
        (r"\sqrt[3]{27}", 3),
        (r"\sqrt{2}\sqrt{2}", 2),
        ("4!", 24),
        (r"\binom{5}{2}", 10),
        (r"{5\choose2}", 10),
        (r"\log_28", 3),
        (r"\log_{10}1000", 3),
        (r"\sin^2x+\cos^2x", 1),
        ("|2-5|", 3),
        ("x-x", 0),
    ],
)
def test_values(formula: str, value: object) -> None:
    assert value_of(formula) == value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("(x+1)^2", "x^2+2x+1"),
        ("2x+3y-6=0", "6-3y-2x=0"),
        ("x>3", "3<x"),
        (r"e^{x+1}", "e*e^x"),
        ("x<=3", "3>=x"),
    ],
)
def test_formulas_of_one_value(one: str, other: str) -> None:
    assert value_of(one) == value_of(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [("x+1", "x-1"), ("x>3", "x<3"), ("x>3", "x>=3"), ("x=3", "x=4"), ("x", "X"), ("x=3", "3-x")],
)
def test_formulas_of_other_values(one: str, other: str) -> None:
    assert value_of(one) != value_of(other)


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
    hash(value_of(formula))

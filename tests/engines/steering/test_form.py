"""Forms of several checks are joined, as far as they go together."""

from __future__ import annotations

import pytest

from redraft.engines.steering.form import Conflict, Form, Layout, Limit, joined


def words(text: str) -> int:
    return len(text.split())


def limited(low: int = 0, high: int | None = None) -> Form:
    return Form(limits=(Limit(words, low, high),))


def test_bounds_are_the_narrower_ones() -> None:
    assert limited(5) & limited(2, 40) == limited(5, 40)
    assert (limited(5) & Form(limits=(Limit(len, 9),))).limits == (Limit(words, 5), Limit(len, 9))


def test_a_text_comes_as_often_as_one_of_them_demands() -> None:
    assert (Form(has=("a", "a")) & Form(has=("a", "b"))).has == ("a", "a", "b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (limited(9), limited(0, 8)),
        (Form(opening="Dear"), Form(opening="Hello")),
        (Form(has=("rain",)), Form(lacks=("rain",))),
        (Form(closing="Yes, you may."), Form(without=frozenset(","))),
        (Form(has=("one", "two", "three four")), limited(0, 3)),
        (Form(quoted=True), Form(has=('"so"',))),
        (Form(case="upper"), Form(case="lower")),
        (Form(layout=Layout(parts=2, between="\n")), Form(layout=Layout(parts=3, between="\n"))),
        (Form(layout=Layout(slots=("[…]",))), Form(without=frozenset("["))),
        (Form(layout=Layout(parts=2, mark="DAY {}")), Form(case="lower")),
        (Form(pattern="^Yes|No$"), Form(lacks=("rain",))),
        (Form(), Form(has=(" ",))),
        (Form(), Form(lacks=("",))),
    ],
)
def test_forms_that_do_not_go_together(one: Form, other: Form) -> None:
    with pytest.raises(Conflict):
        one & other


def test_layouts_are_joined() -> None:
    one = Layout(title=True, parts=2, between="\n\n", slots=("[…]",))
    other = Layout(parts=2, between="\n\n", first=(2, "rain"), slots=("[…]", "[…]", "ABC"))
    assert (Form(layout=one) & Form(layout=other)).layout == Layout(
        True, 2, False, "", "\n\n", (2, "rain"), ("[…]", "[…]", "ABC")
    )


def test_a_form_that_does_not_go_with_those_before_it_is_left_out() -> None:
    forms = [("a", limited(9)), ("b", limited(0, 8)), ("c", Form(has=("rain",)))]
    assert joined(forms) == (limited(9) & Form(has=("rain",)), ("a", "c"))

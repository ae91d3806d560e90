"""Forms of several checks are joined, as far as they go together."""

from __future__ import annotations

import pytest

from redraft.engines.steering.form import Conflict, Form, Layout, joined


def test_bounds_are_the_narrower_ones() -> None:
    assert (Form(words=(5, None)) & Form(words=(2, 40))).words == (5, 40)


def test_a_text_comes_as_often_as_one_of_them_demands() -> None:
    assert (Form(has=("a", "a")) & Form(has=("a", "b"))).has == ("a", "a", "b")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Form(words=(9, None)), Form(words=(0, 8))),
        (Form(opening="Dear"), Form(opening="Hello")),
        (Form(has=("rain",)), Form(lacks=("rain",))),
        (Form(closing="Yes, you may."), Form(without=frozenset(","))),
        (Form(has=("one", "two", "three four")), Form(words=(0, 3))),
        (Form(quoted=True), Form(has=('"so"',))),
        (Form(schema={}), Form(closing="rain")),
        (Form(sentences=(0, 1)), Form(closing="Bye.")),
        (Form(case="upper"), Form(case="lower")),
        (Form(layout=Layout(parts=2, between="\n")), Form(layout=Layout(parts=3, between="\n"))),
        (Form(layout=Layout(parts=2)), Form(sentences=(0, 3))),
        (Form(layout=Layout(slots=("[…]",))), Form(without=frozenset("["))),
        (Form(layout=Layout(parts=2, mark="DAY {}")), Form(case="lower")),
        (Form(layout=Layout(title=True)), Form(choices=("Yes.", "No."))),
        (Form(), Form(has=(" ",))),
        (Form(), Form(lacks=("",))),
        (Form(), Form(lacks=("x" * 101,))),
        (Form(), Form(lacks=tuple(map(str, range(10_000))))),
        (Form(has=tuple(map(str, range(60)))), Form(has=tuple(map(str, range(70))))),
    ],
)
def test_forms_that_do_not_go_together(one: Form, other: Form) -> None:
    with pytest.raises(Conflict):
        one & other


def test_layouts_are_joined() -> None:
    one = Layout(title=True, parts=2, between="\n\n", slots=("[…]",))
    other = Layout(parts=2, between="\n\n", first=(2, "rain"), slots=("[…]", "[…]", "ABC"))
    slots = ("[…]", "[…]", "ABC")
    assert (Form(layout=one) & Form(layout=other)).layout == Layout(True, 2, "", "\n\n", (2, "rain"), slots)


def test_a_form_that_does_not_go_with_those_before_it_is_left_out() -> None:
    forms = [("a", Form(words=(9, None))), ("b", Form(words=(0, 8))), ("c", Form(has=("rain",)))]
    assert joined(forms) == (Form(words=(9, None), has=("rain",)), ("a", "c"))

"""The clean-up of revisions and feedback."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.data.generate import chains


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("I apologize for the mistake. The sea is grey.", "The sea is grey."),
        ("Sorry, you are right! It is 3.5 m. Yes.", "It is 3.5 m. Yes."),
        ("I am sorry.", "I am sorry."),
        ("I apologize, it is 42. Now you know.", "I apologize, it is 42. Now you know."),
        ("I'm sorry, but I can't do that. Ask again.", "I'm sorry, but I can't do that. Ask again."),
        ("The letter says: I am sorry. It ends so.", "The letter says: I am sorry. It ends so."),
        ("The sea is grey. I apologize.", "The sea is grey. I apologize."),
    ],
)
def test_apologies(text: str, left: str) -> None:
    assert chains.without_apologies(text) == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("The sea is grey. I have revised the answer to be shorter.", "The sea is grey."),
        ("The sea is grey.\n\nThis revision is clearer and more concise.", "The sea is grey."),
        ("Here is the revised answer:\nThe sea is grey.", "The sea is grey."),
        ("I have revised it.", "I have revised it."),
        ("The senate revised the law. It passed.", "The senate revised the law. It passed."),
        ("x = 1\nprint(x)", "x = 1\nprint(x)"),
        ("It is dull. These changes make the answer shorter.", "It is dull."),
        ("It is dull. The revised version is more concise.", "It is dull."),
        *[
            (kept, kept)
            for kept in (
                "6 rows of 7 are 42. The corrected answer is 42.",
                "I see. Here is the corrected answer: The sea is grey.",
                "The corrected answer: 42. It is a number.",
                "The earth is tilted. The changes of the seasons come from that.",
                "Dear Ann. I have changed the date of our meeting.",
                "I have fixed the roof. Come in!",
                "It is 6 times 7. I have corrected the answer to 42.",
            )
        ],
    ],
)
def test_remarks(text: str, left: str) -> None:
    assert chains.without_remarks(text) == left


def chain() -> Chain:
    first = Step(
        answer="I apologize. A.", feedback=Feedback(text="Good. Revision is needed.", verdict="revise")
    )
    second = Step(
        answer="I apologize. B. I have revised it.",
        feedback=Feedback(text="A, but revision is needed.", verdict="revise", by="checks"),
    )
    return Chain(prompt=Prompt(instruction="?"), steps=(first, second, Step(answer=" ")), best=1)


def test_a_chain_is_cleaned_but_for_its_first_answer() -> None:
    made, counts = chains.cleaned(chain())
    assert [step.answer for step in made.steps] == ["I apologize. A.", "B."]
    assert (counts, made.best) == ({"apologies": 1, "remarks": 1, "empty": 1}, 1)


@pytest.mark.parametrize(
    "last",
    [
        Step(answer="", tool_calls=({"id": "1"},)),
        Step(answer="", feedback=Feedback(text="Empty.", verdict="revise", by="checks")),
    ],
)
def test_only_an_empty_answer_without_anything_else_is_dropped(last: Step) -> None:
    made = Chain(steps=(Step(answer="A."), last), best=0)
    assert chains.cleaned(made)[0].steps == made.steps


def test_a_first_answer_is_never_dropped() -> None:
    made = Chain(steps=(Step(answer=""),))
    assert chains.cleaned(made) == (made, {})


def test_the_best_answer_is_one_that_is_left() -> None:
    made = Chain(steps=(Step(answer="Ha.", echo=True), Step(answer="")), best=1)
    assert (chains.cleaned(made)[0].best, chains.cleaned(made)[0].answer) == (0, "Ha.")


@pytest.mark.parametrize("part", ["\n", " ", "the changes ", "I have ", "a. "])
def test_a_model_that_repeats_itself_costs_no_time(part: str) -> None:
    text = part * 20_000 + "The sea. I have revised the answer."
    begun = time.process_time()
    assert chains.without_remarks(text).endswith("The sea.")
    assert chains.without_apologies(part * 20_000) == part * 20_000
    assert time.process_time() - begun < 2


@given(st.text(alphabet="I amsory.!:\nrevised here is the "))
def test_no_answer_is_ever_emptied(text: str) -> None:
    for rule in (chains.without_apologies, chains.without_remarks):
        assert bool(rule(text).strip()) == bool(text.strip())

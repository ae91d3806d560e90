"""A conversation without I/O: the prompt of the next turn, revising again, taking back."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redraft.chain import Chain, Feedback, Prompt, Step
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import UsageError
from redraft.revision.api import arevise
from redraft.revision.session import Conversation

REVISE = Feedback(text="Too long.", verdict="revise")
ACCEPT = Feedback(text="Fine.", verdict="accept")


def chain(prompt: Prompt, *answers: str) -> Chain:
    drafts = [Step(answer=answer, feedback=REVISE) for answer in answers[:-1]]
    steps = (*drafts, *(Step(answer=answer, feedback=ACCEPT) for answer in answers[-1:]))
    return Chain(prompt=prompt, steps=steps, best=len(steps) - 1 if steps else None, stop="accepted")


def talk(*turns: tuple[str, ...]) -> Conversation:
    made = Conversation()
    for question, *answers in turns:
        assert made.add(chain(made.prompt(question), *answers))
    return made


def test_the_next_prompt_has_final_answers_alone() -> None:
    made = talk(("Rain?", "A draft.", "Water."), ("Snow?", "Another draft.", "Ice."))
    assert made.prompt("Hail?").messages == (
        {"role": "user", "content": "Rain?"},
        {"role": "assistant", "content": "Water."},
        {"role": "user", "content": "Snow?"},
        {"role": "assistant", "content": "Ice."},
        {"role": "user", "content": "Hail?"},
    )
    assert made.turns[1].prompt.text == "Snow?"


def test_the_best_answer_counts_and_not_the_last() -> None:
    made = Conversation()
    made.add(chain(made.prompt("Rain?"), "Best.", "Worse.").model_copy(update={"best": 0}))
    assert [m["content"] for m in made.prompt("Snow?").messages or ()] == ["Rain?", "Best.", "Snow?"]


def test_a_chain_without_an_answer_is_no_turn() -> None:
    made = talk(("Rain?", "Water."))
    assert not made.add(chain(made.prompt("Snow?")))
    assert not made.add(chain(made.prompt("Snow?"), " "))
    assert not made.add(chain(made.prompt("Snow?"), "\u200b\u00ad"))
    assert len(made.turns) == 1
    made.undo()
    assert made.turns == ()


def test_a_chain_that_goes_on_replaces_its_turn_and_undo_brings_it_back() -> None:
    made = talk(("Rain?", "Water."), ("Rain?", "Water again."))
    first, second = made.turns
    longer = chain(second.prompt, "Water again.", "Drops.")
    made.add(longer)
    assert made.turns == (first, longer)
    made.undo()
    assert made.turns == (first, second)
    made.undo()
    made.undo()
    assert made.turns == ()
    with pytest.raises(UsageError, match="nothing to undo"):
        made.undo()


NATIVE = [
    "Water.\n\n### Feedback 1:\nFine. No revision is needed.",
    "\n\n### Revision 1:\nDrops.\n\n### Feedback 2:\nFine. Revision is not needed.",
]
FINE, SHORT = "Fine. Revision is not needed.", "Too short. Revision is needed."


@pytest.mark.parametrize(
    ("replies", "options"),
    [
        (NATIVE, {"mode": "native"}),
        (["Water.", FINE, SHORT, "Drops."], {"mode": "prompted"}),
        (["Water.", SHORT, "Drops."], {"mode": "verified", "checks": ["words<=9"]}),
        (["Water.", SHORT, "Drops."], {"drafts": 4, "checks": ["words<=9"]}),
    ],
)
def test_again_makes_one_more_revision_of_a_finished_chain(
    replies: list[str], options: dict[str, Any]
) -> None:
    options["model"], made = ScriptedEngine(replies), Conversation()
    made.add(asyncio.run(arevise(made.prompt("Rain?"), **options)))
    assert made.turns[0].revisions == 0
    made.add(asyncio.run(arevise(made.turns[0].prompt, **{**options, **made.again()})))
    [turn] = made.turns
    assert [step.answer for step in turn.steps] == ["Water.", "Drops."]


def test_again_goes_on_where_a_chain_was_cut() -> None:
    made = Conversation()
    whole = chain(made.prompt("Rain?"), "Water.", "Dro")
    cut = whole.steps[-1].model_copy(update={"finish": "cancelled", "feedback": None})
    made.add(whole.model_copy(update={"steps": (*whole.steps[:-1], cut), "stop": "cancelled"}))
    options = made.again()
    assert (options["min_revisions"], options["max_revisions"]) == (1, 1)
    made.add(asyncio.run(arevise(made.turns[0].prompt, model=ScriptedEngine(["Drops."]), **options)))
    assert [step.answer for step in made.turns[0].steps] == ["Water.", "Drops."]


def test_again_writes_a_cut_first_answer_as_before() -> None:
    made = Conversation()
    step = Step(answer="Wat", finish="cancelled")
    made.add(Chain(prompt=made.prompt("Rain?"), steps=(step,), best=0, stop="cancelled"))
    assert "max_revisions" not in made.again()

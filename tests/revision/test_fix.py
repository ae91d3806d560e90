"""With `fix`, checks mend an answer before another text is paid for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

import redraft
from redraft.chain import Chain, Prompt, Step
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import UsageError
from redraft.revision.ops import DraftDone, Event, StepDone
from redraft.verify.base import Outcome, failed, passed

ENDS = "ends:Good night."
BARE, MENDED = "Sleep well.", "Sleep well.\n\nGood night."
QUOTED = "ifeval:startend:quotation"


def revise(replies: Sequence[Any], **options: Any) -> tuple[Chain, ScriptedEngine]:
    engine = ScriptedEngine(list(replies))
    chain = redraft.revise("Say it.", model=engine, **{"checks": [ENDS], "fix": True, **options})
    return chain, engine


@pytest.mark.parametrize("mode", ["auto", "verified", "prompted", "best-of", "repair", "adaptive"])
def test_a_mended_answer_that_passes_ends_the_chain(mode: str) -> None:
    chain, engine = revise([BARE], mode=mode)
    assert [(step.by, step.answer, step.passed) for step in chain.steps] == [
        ("model", BARE, False),
        ("fix", MENDED, True),
    ]
    assert (chain.answer, chain.passed, chain.stop, chain.revisions) == (MENDED, True, "passed", 0)
    assert len(engine.calls) == 1
    assert chain.steps[1].usage.completion_tokens == chain.steps[1].usage.prompt_tokens == 0
    assert chain.steps[0].feedback is not None
    assert chain.steps[0].feedback.by == "checks"


def test_nothing_is_mended_unless_asked() -> None:
    chain, _ = revise([BARE], fix=False, max_revisions=0)
    assert [step.answer for step in chain.steps] == [BARE]


def test_a_mended_answer_costs_no_revision() -> None:
    assert revise([BARE], max_revisions=0)[0].answer == MENDED


def test_an_answer_that_passes_is_left() -> None:
    assert [step.answer for step in revise([MENDED])[0].steps] == [MENDED]


def test_what_is_better_but_fails_is_revised() -> None:
    long, short = "One two three four five.", "One. Good night."
    chain, engine = revise([long, short], checks=[ENDS, "words<=4"])
    assert [step.by for step in chain.steps] == ["model", "fix", "model"]
    assert chain.steps[1].answer == f"{long}\n\nGood night."
    assert (chain.answer, chain.stop, chain.revisions) == (short, "passed", 1)
    assert engine.calls[1][1] == {"role": "assistant", "content": f"{long}\n\nGood night."}
    assert "has 7 words" in str(engine.calls[1])


def test_what_is_worse_is_dropped() -> None:
    chain, _ = revise([BARE], checks=[ENDS, "5*words<=2"], max_revisions=0)
    assert [step.answer for step in chain.steps] == [BARE]


def test_the_limit_of_revisions_counts_what_the_model_wrote() -> None:
    chain, engine = revise(["One two.", "Two three."], checks=[ENDS, "words<=2"], max_revisions=1)
    assert len(engine.calls) == 2
    assert [step.by for step in chain.steps] == ["model", "fix", "model", "fix"]
    assert (chain.stop, chain.revisions) == ("max_revisions", 1)


def test_a_model_that_returns_to_its_own_text_is_stuck() -> None:
    chain, engine = revise(["One two."], checks=[ENDS, "words<=2"], max_revisions=5, temperature=0.0)
    assert len(engine.calls) == 2
    assert chain.stop == "unchanged"


def test_a_text_that_was_cut_is_not_mended() -> None:
    chain, _ = revise(["It rains and it pours all day."], max_tokens=5, max_revisions=0)
    assert [step.finish for step in chain.steps] == ["max_tokens"]


def test_drafts_are_mended_and_the_chosen_one_stands_before_its_mend() -> None:
    checks = [ENDS, "words<=4"]
    chain, engine = revise(
        ["One two three four.", "One two three.", "1 2 3 4 5."], checks=checks, mode="best-of", drafts=3
    )
    assert len(engine.calls) == 3
    assert [step.answer for step in chain.steps] == ["One two three.", "One two three.\n\nGood night."]
    assert [step.by for step in chain.drafts] == ["model", "fix", "model", "fix"]
    assert (chain.best, chain.stop, chain.revisions) == (1, "max_revisions", 0)
    chain, engine = revise(["One two three four.", "One."], checks=checks, mode="best-of", drafts=3)
    assert len(engine.calls) == 2
    assert (chain.answer, chain.stop) == ("One.\n\nGood night.", "passed")


def test_the_best_draft_is_revised_as_it_was_mended() -> None:
    replies = ["One two three four.", "1 2 3 4 5 6.", "One. Good night."]
    chain, engine = revise(replies, checks=[ENDS, "words<=4"], drafts=2)
    assert [step.by for step in chain.steps] == ["model", "fix", "model"]
    assert (chain.stop, len(engine.calls)) == ("passed", 3)
    events: list[Event] = []
    revise(replies, checks=[ENDS, "words<=4"], drafts=2, on_event=events.append)
    assert [event.index for event in events if isinstance(event, DraftDone)] == [0, 1]
    assert [event.index for event in events if isinstance(event, StepDone)] == [0, 1, 2]


def test_a_text_that_could_be_mended_is_not_lost() -> None:
    long = " ".join(["rain"] * 40)
    chain, _ = revise([long], checks=[QUOTED])
    assert (chain.steps[0].finish, chain.answer) == ("stop", f'"{long}"')
    assert revise([long], checks=[QUOTED, "words<=9"])[0].steps[0].finish == "lost"


def test_a_chain_that_was_cut_after_a_mend_goes_on() -> None:
    replies = ["One two three four.", "One. Good night."]
    whole, _ = revise(replies, checks=[ENDS, "words<=4"])
    cut = whole.model_copy(update={"steps": whole.steps[:2], "stop": None, "best": None})
    again, engine = revise(replies[1:], checks=[ENDS, "words<=4"], resume=cut)
    assert [(step.by, step.answer) for step in again.steps] == [(s.by, s.answer) for s in whole.steps]
    assert len(engine.calls) == 1


class Lies:
    """It promises to mend, and breaks what passed."""

    name = "lies"

    def check(self, answer: str, prompt: Prompt) -> Outcome:
        return passed("Fine.") if len(answer) > 3 else failed("Too short.")

    def fix(self, answer: str) -> str:
        return ""


def test_a_fix_that_lies_changes_no_verdict() -> None:
    chain, _ = revise([BARE], checks=[ENDS, Lies()], max_revisions=0)
    assert [step.answer for step in chain.steps] == [BARE]


def test_a_record_says_it_only_of_mended_answers() -> None:
    chain, _ = revise([BARE])
    first, second = Chain.from_json(chain.to_json()).steps
    assert "by" not in first.model_dump()
    assert (second.by, second.model_dump()["by"]) == ("fix", "fix")
    assert Step(answer="a").by == "model"


def test_native_revision_mends_nothing_and_says_so() -> None:
    with pytest.raises(UsageError, match="native revision continues one text, and fix was given"):
        redraft.revise(
            "Say it.", model=ScriptedEngine(["x"], native=True), checks=[ENDS], mode="native", fix=True
        )

"""What follows a text that fails its checks: the schedule of mode `auto`, and mode `repair`, in the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.errors import EmptyReply
from redraft.revision.ops import Ask
from tests.revision.play import Played, Stream, plan, play

REFUSED = "An earlier answer failed:\nIt is not good."


def played(streams: list[Any], **options: Any) -> Played:
    given = {"mode": "verified", "checks": ("toy",), "id": "x/1", "told": 2, **options}
    return play(plan(**given), streams, lambda answer: answer == "good")


def told(ask: object) -> list[str]:
    assert isinstance(ask, Ask)
    return [message["content"] for message in ask.messages]


def fresh(made: Played) -> list[bool]:
    return [step.fresh for step in made.chain.steps]


def test_a_repair_is_told_what_failed_and_not_shown_the_draft() -> None:
    made = played(["one", "two", "good"], mode="repair", told=None)
    assert [told(ask) for ask in made.asked] == [
        ["Say something."],
        [f"Say something.\n\n{REFUSED}"],
        [f"Say something.\n\n{REFUSED}"],
    ]
    assert (made.chain.stop, made.chain.passed, fresh(made)) == ("passed", True, [False, True, True])


def test_where_checks_steer_other_drafts_are_asked_for_as_the_first_one() -> None:
    made = played(["one", "two", "good"], told=0)
    assert [told(ask) for ask in made.asked] == [["Say something."]] * 3
    assert (made.chain.stop, made.chain.best, fresh(made)) == ("passed", 2, [False, True, True])


def test_a_revision_that_changes_nothing_and_an_empty_text_are_followed_by_a_draft() -> None:
    assert fresh(played(["one", "one", "good"])) == [False, False, True]
    assert fresh(played(["", "good"])) == [False, True]


def test_at_temperature_0_nothing_is_asked_for_twice() -> None:
    made = played(["one", "two", "two"], temperature=0.0, told=0, max_revisions=9)
    assert (fresh(made), made.chain.stop) == ([False, False, False], "unchanged")


def test_auto_with_checks_is_verified_with_the_schedule() -> None:
    replies = ["bad", "worse", "worst", "good"]
    for options, last in (({}, True), ({"mode": "verified"}, False), ({"tell_checks": False}, False)):
        engine = redraft.ScriptedEngine(replies)
        chain = redraft.revise("Say it.", model=engine, checks=["contains:good"], **options)
        assert chain.model["revision_mode"] == "verified"
        assert [step.fresh for step in chain.steps] == [False, False, False, last]
        assert chain.passed


@pytest.mark.model
def test_a_model_that_checks_steer_writes_other_drafts(default_model: Path) -> None:
    checks = ["words<=12", "number=7531"]  # this one does not steer, and fails
    chain = redraft.revise(
        "Describe rain.", model=str(default_model), checks=checks, max_tokens=30, max_revisions=2, seed=1
    )
    assert [step.fresh for step in chain.steps] == [False, True, True]


streams = st.lists(
    st.builds(
        Stream,
        st.sampled_from(["", "bad", "worse than it was", "good"]),
        st.sampled_from(["stop", "max_tokens", "lost", "filtered", "context"]),
    ),
    min_size=1,
    max_size=6,
)


@given(streams, st.integers(0, 3), st.sampled_from([0, 2]))
def test_a_resumed_chain_goes_on_as_one_that_was_not_cut(
    streams: list[Stream], place: int, before: int
) -> None:
    try:
        made = played(streams, told=before)
    except EmptyReply:
        return
    used, begun = made.progress[min(place, len(made.progress) - 1)]
    if not any(step.answer for step in begun.steps):  # this chain is begun anew
        return
    rest = [*streams, streams[-1]][min(used, len(streams)) :]
    assert fresh(played(rest, told=before, earlier=begun)) == fresh(made)

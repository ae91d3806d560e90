"""Modes `repair` and `adaptive`: other drafts, told what failed, and what is chosen, in the loop."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

import redraft
from redraft.chain import Chain, Step
from redraft.cli.whole import render_chain
from redraft.engines.base import Sampling
from redraft.errors import EmptyReply, UsageError
from redraft.revision.budget import Budget
from redraft.revision.ops import Ask
from tests.revision.play import NATIVE, Played, Stream, plan, play

SMALL = replace(NATIVE, parameters=300_000_000)
REFUSED = "An earlier answer failed:\nIt is not good."


def played(streams: list[Any], **options: Any) -> Played:
    given = {"mode": "adaptive", "checks": ("toy",), "id": "x/1", "info": SMALL, **options}
    return play(plan(**given), streams, lambda answer: answer == "good")


def told(ask: object) -> list[str]:
    assert isinstance(ask, Ask)
    return [message["content"] for message in ask.messages]


def test_a_repair_is_told_what_failed_and_not_shown_the_draft() -> None:
    made = played(["one", "two", "good"], mode="repair")
    assert [told(ask) for ask in made.asked] == [
        ["Say something."],
        [f"Say something.\n\n{REFUSED}"],
        [f"Say something.\n\n{REFUSED}"],
    ]
    assert (made.chain.stop, made.chain.passed, [step.fresh for step in made.chain.steps]) == (
        "passed",
        True,
        [False, True, True],
    )


def test_other_drafts_are_asked_for_as_the_first_one() -> None:
    made = played(["one", "two", "good"])
    assert [told(ask) for ask in made.asked] == [["Say something."]] * 3
    first, *others = made.chain.steps
    assert first.choice is None
    assert [step.choice.way for step in others if step.choice] == ["draft", "draft"]
    assert all(step.choice and "chances to pass: draft" in step.choice.why for step in others)
    assert (made.chain.stop, made.chain.best) == ("passed", 2)


def test_a_model_that_is_not_small_revises_twice_before_it_drafts() -> None:
    made = played(["one", "two", "three", "four"], info=NATIVE)
    assert [step.choice.way for step in made.chain.steps[1:] if step.choice] == [
        "revision",
        "revision",
        "draft",
    ]


def test_at_temperature_0_it_goes_on_until_nothing_is_new() -> None:
    made = played(["one", "two", "three"], sampling=Sampling(temperature=0.0), max_revisions=9)
    assert [told(ask)[-1].split("\n")[0] for ask in made.asked[:2]] == ["Say something."] * 2
    ways = [step.choice.way for step in made.chain.steps if step.choice]
    assert sorted(ways) == ["repair", "revision"]
    assert made.chain.stop == "unchanged"


def test_a_text_that_was_cut_gets_more_room_unless_its_length_was_given() -> None:
    def check(_answer: str) -> bool:
        return True

    free = Sampling(max_tokens=8, unset=frozenset({"max_tokens"}))
    streams = ["a text that is too long"] * 2
    made = play(plan(mode="adaptive", checks=("toy",), sampling=free, max_revisions=1), streams, check)
    assert [ask.max_tokens for ask in made.asked] == [8, 16]
    given = Sampling(max_tokens=8)
    made = play(plan(mode="adaptive", checks=("toy",), sampling=given, max_revisions=1), streams, check)
    assert [ask.max_tokens for ask in made.asked] == [8, 8]


def test_an_empty_text_does_not_end_the_chain() -> None:
    assert played(["", "good"]).chain.passed


streams = st.lists(
    st.builds(
        Stream,
        st.sampled_from(["", "bad", "worse than it was", "good"]),
        st.sampled_from(["stop", "max_tokens", "lost", "filtered", "context"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(deadline=None)
@given(
    streams=streams,
    most=st.integers(0, 4),
    tokens=st.none() | st.integers(1, 40),
    temperature=st.sampled_from([0.0, 0.7]),
    mode=st.sampled_from(["adaptive", "repair"]),
)
def test_it_ends_within_its_limits(
    streams: list[Stream], most: int, tokens: int | None, temperature: float, mode: str
) -> None:
    options: dict[str, Any] = {
        "mode": mode,
        "max_revisions": most,
        "budget": Budget(tokens=tokens),
        "sampling": Sampling(temperature=temperature),
    }
    try:
        chain = played(streams, **options).chain
    except EmptyReply:
        return
    assert len(chain.steps) <= most + 1
    assert tokens is None or chain.usage.completion_tokens <= tokens
    assert chain.stop


@given(streams, st.integers(0, 3))
def test_a_resumed_chain_chooses_as_one_that_was_not_cut(streams: list[Stream], place: int) -> None:
    try:
        made = played(streams)
    except EmptyReply:
        return
    used, begun = made.progress[min(place, len(made.progress) - 1)]
    again = played([*streams, streams[-1]][min(used, len(streams)) :], earlier=begun)
    assert [step.choice for step in again.chain.steps] == [step.choice for step in made.chain.steps]


def test_drafts_and_revisions_are_counted_together() -> None:
    engine = redraft.ScriptedEngine(["bad"])
    chain = redraft.revise(
        "Say it.", model=engine, checks=["contains:good"], mode="adaptive", drafts=2, max_revisions=1
    )
    assert len(chain.steps) == 3
    assert not chain.drafts


@pytest.mark.parametrize("mode", ["adaptive", "repair"])
def test_the_modes_need_checks_and_ask_no_critic(mode: Any) -> None:
    engine = redraft.ScriptedEngine(["bad"])
    with pytest.raises(UsageError, match="needs checks"):
        redraft.revise("Say it.", model=engine, mode=mode)
    with pytest.raises(UsageError, match="asks no critic"):
        redraft.revise("Say it.", model=engine, critic=engine, checks=["words<=5"], mode=mode)


def test_the_record_has_the_choice_only_where_there_was_one() -> None:
    chain = played(["one", "good"]).chain
    assert "choice" not in chain.steps[0].model_dump()
    assert Chain.from_json(chain.to_json()) == chain
    assert "choice" not in Step(answer="a").model_dump()


def test_show_says_why() -> None:
    chain = played(["one", "good"]).chain
    console = Console(file=io.StringIO(), width=200)
    console.print(render_chain(chain, console))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Another draft (chances to pass: draft" in text

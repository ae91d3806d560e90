"""A chain that was cut resumes after its last complete step, and ends as if it had not been cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import redraft
from redraft.chain import Chain, Feedback, Prompt, Step, Usage
from redraft.engines.base import EngineInfo
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import UsageError
from redraft.revision.ops import Ask, Continue
from redraft.revision.state import complete_steps
from tests.revision.play import Stream, plan, play

BAD, GOOD = "Too dull a text. Revision is needed.", "It reads well. No revision is needed."
TEXT_ONLY = EngineInfo(name="toy", engine="scripted", native=True)
ENFORCED = {"mode": "native", "min_revisions": 1, "max_revisions": 1}


def long(answer: str) -> bool:
    return len(answer) > 12


@pytest.mark.parametrize(
    ("streams", "check", "options"),
    [
        (["One gull.", BAD, "Two gulls.", BAD, "Three gulls.", GOOD], None, {"mode": "prompted"}),
        (["One gull.", BAD, "Two gulls.", BAD, "Three."], None, {"mode": "prompted", "max_revisions": 2}),
        (["One gull.", "Two gulls.", "Three grey gulls."], long, {"mode": "verified"}),
        (["One gull.", BAD, "Three grey gulls.", GOOD], long, {"mode": "prompted", "min_revisions": 1}),
        (["One gull.", Stream("Two gulls and", finish="max_tokens")], None, {"mode": "prompted"}),
        (["One gull.", BAD, "Two gulls."], None, ENFORCED),
        (["One gull.", BAD, "Two gulls."], None, {**ENFORCED, "info": TEXT_ONLY}),
    ],
)
def test_each_moment_can_be_gone_on_from(
    streams: list[Any], check: Callable[[str], bool] | None, options: dict[str, Any]
) -> None:
    if check:
        options = {**options, "checks": ("toy",)}
    whole = play(plan(**options), streams, check)
    assert whole.progress
    for used, chain in whole.progress:
        resumed = play(plan(**options, earlier=chain), streams[used:] or ["nothing is left"], check)
        assert len(resumed.asked) == len(whole.asked) - used
        assert list(map(prompt_of, resumed.asked)) == list(map(prompt_of, whole.asked[used:]))
        assert (texts(resumed.chain), resumed.chain.usage) == (texts(whole.chain), whole.chain.usage)
        assert resumed.chain.stop == whole.chain.stop


def prompt_of(op: Continue | Ask) -> Any:
    return op.prompt if isinstance(op, Continue) else (op.who, op.messages)


def texts(chain: Chain) -> list[Any]:
    return [(step.answer, step.feedback, step.finish, step.usage) for step in chain.steps]


WRITTEN = (
    "One gull.\n\n### Feedback 1:\nToo dull a text. Revision is needed.\n\n"
    "### Revision 1:\nTwo gulls.\n\n### Feedback 2:\nIt reads well. No revision is needed."
)


@pytest.mark.parametrize("info", [TEXT_ONLY, None])
def test_one_long_stream_is_gone_on_with_where_a_part_was_complete(info: EngineInfo | None) -> None:
    options: dict[str, Any] = {"mode": "native", **({"info": info} if info else {})}
    moments = [chain for _, chain in play(plan(**options), [WRITTEN]).progress]
    assert [len(chain.steps) for chain in moments] == [1, 1, 2]
    for chain in moments:
        again = plan(**options, earlier=chain)
        start = play(again, ["?"]).asked[0]
        assert isinstance(start, Continue)
        prompt = start.prompt if isinstance(start.prompt, str) else "".join(map(chr, start.prompt))
        written = prompt.split("### Answer:\n")[1]
        assert WRITTEN.startswith(written)
        assert written.endswith(":\n")
        resumed = play(again, [WRITTEN.removeprefix(written)])
        assert [step.answer for step in resumed.chain.steps] == ["One gull.", "Two gulls."]
        assert resumed.chain.stop == "accepted"
        assert chain.usage.completion_tokens > 0


@pytest.mark.parametrize("mode", ["prompted", "native"])
@pytest.mark.parametrize(
    ("limits", "stop"),
    [({"budget": redraft.Budget(tokens=40)}, "budget"), ({"max_revisions": 0}, "max_revisions")],
)
def test_limits_that_are_reached_already_ask_for_nothing(
    mode: str, limits: dict[str, Any], stop: str
) -> None:
    feedback = Feedback(text=BAD, verdict="revise")
    made = (Step(answer="One gull.", feedback=feedback, usage=Usage(completion_tokens=45)),)
    again = plan(mode=mode, earlier=Chain(steps=made, usage=Usage(completion_tokens=45)), **limits)
    resumed = play(again, ["nothing is left"])
    assert (resumed.asked, resumed.chain.stop) == ([], stop)
    assert [step.answer for step in resumed.chain.steps] == ["One gull."]


def step(answer: str, feedback: Feedback | None = None, **more: Any) -> Step:
    return Step(answer=answer, feedback=feedback, **more)


REVISE, ACCEPT = Feedback(text=BAD, verdict="revise"), Feedback(text=GOOD, verdict="accept")


@pytest.mark.parametrize(
    ("steps", "stop", "kept"),
    [
        ([], "error", []),
        ([step("One.", REVISE), step("Tw", finish="error")], "error", [step("One.", REVISE)]),
        ([step("One.", REVISE, finish="cancelled")], "cancelled", [step("One.")]),
        ([step("One.", ACCEPT)], None, [step("One.")]),
        ([step("On", finish="max_tokens")], "budget", []),
        ([step("On", finish="max_tokens")], None, [step("On", finish="max_tokens")]),
    ],
)
def test_texts_that_were_cut_are_made_again(steps: list[Step], stop: Any, kept: list[Step]) -> None:
    assert list(complete_steps(Chain(steps=tuple(steps), stop=stop))) == kept


@pytest.mark.parametrize(
    ("chain", "said"),
    [
        (Chain(prompt=Prompt(instruction="Hi."), stop="accepted"), "chain.stop is 'accepted'"),
        (Chain(prompt=Prompt(instruction="Ho.")), "for another prompt: 'Ho.'"),
    ],
)
def test_a_chain_that_cannot_be_gone_on_with_is_refused(chain: Chain, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        redraft.revise("Hi.", model=ScriptedEngine(["Ho."]), resume=chain)


def test_seconds_of_before_count_too() -> None:
    engine = ScriptedEngine([ScriptedReply("One", stall=60)])
    before = Chain(prompt=Prompt(instruction="Hi."), usage=Usage(seconds=9.9))
    chain = redraft.revise("Hi.", model=engine, resume=before, budget=redraft.Budget(seconds=10))
    assert chain.stop == "budget"
    assert 9.9 < chain.usage.seconds < 40


def test_a_chain_that_began_with_another_first_answer_is_not_gone_on_with() -> None:
    begun = Chain(prompt=Prompt(instruction="Hi."), steps=(Step(answer="Mine."),))
    engine = ScriptedEngine(["Good. Revision is not needed."] * 2)
    with pytest.raises(UsageError, match="begin with the given answer, but with 'Mine"):
        redraft.revise("Hi.", model=engine, resume=begun, given="Yours.")
    assert redraft.revise("Hi.", model=engine, resume=begun, given="Mine.").answer == "Mine."

"""The prompted and verified loops, driven by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from redraft.chain import Chain, Prompt, Step, best_step
from redraft.engines.base import EngineInfo, Price
from redraft.errors import ContextError, EmptyReply
from redraft.revision import prompts
from redraft.revision.ops import Ask, RunChecks
from redraft.revision.options import Budget
from redraft.revision.state import Mode
from tests.revision.play import NATIVE, Clock, Stream, plan, play

CHAT = EngineInfo(name="toy", engine="scripted", continues=False)


def roles(asked: object) -> list[str]:
    assert isinstance(asked, Ask)
    return [message["role"] for message in asked.messages]


def test_draft_criticise_revise_accept() -> None:
    played = play(
        plan(info=CHAT), ["One.", "Bad. Revision is needed.", "Two.", "Good. Revision is not needed."]
    )
    chain = played.chain
    assert [step.answer for step in chain.steps] == ["One.", "Two."]
    assert (chain.stop, chain.best, played.steps_done) == ("accepted", 1, [0, 1])
    assert [roles(asked) for asked in played.asked] == [
        ["user"],
        ["user", "assistant", "user"],
        ["user", "assistant", "user", "assistant", "user"],
        ["user", "assistant", "user"],
    ]


def test_the_policy_decides_what_the_model_sees() -> None:
    streams = ["One.", "Bad. Revision is needed.", "Two.", "Bad. Revision is needed.", "Three."]
    for context, shown in (("last", streams[2:4]), ("chain", streams[:4])):
        asked = play(plan(context=context, max_revisions=2), streams).asked[-1]
        assert isinstance(asked, Ask)
        assert [m["content"] for m in asked.messages if m["role"] == "assistant"] == shown


def test_no_verdict_ends_the_chain_and_is_no_crash() -> None:
    chain = play(plan(), ["One.", "It is nice weather."]).chain
    assert (chain.stop, chain.answer, chain.steps[0].criticism) == ("ended", "One.", "It is nice weather.")
    assert chain.steps[0].verdict == "unknown"


def test_min_revisions_overrides_an_accepting_critic() -> None:
    played = play(
        plan(min_revisions=1), ["One.", "Revision is not needed.", "Two.", "Revision is not needed."]
    )
    assert [s.answer for s in played.chain.steps] == ["One.", "Two."]
    assert played.chain.stop == "accepted"
    said = [step.criticism for step in played.chain.steps]
    assert said == ["Revision is needed.", "Revision is not needed."]


def test_max_revisions_ends_without_asking_the_critic_again() -> None:
    played = play(plan(max_revisions=1), ["One.", "Revision is needed.", "Two."])
    assert len(played.asked) == 3
    assert (played.chain.stop, played.chain.answer) == ("max_revisions", "Two.")
    assert play(plan(max_revisions=0), ["One."]).chain.stop == "max_revisions"


def test_verified_revises_by_the_checks_words_alone() -> None:
    played = play(plan(mode="verified", checks=("toy",)), ["one", "two", "good"], lambda a: a == "good")
    assert [s.answer for s in played.chain.steps] == ["one", "two", "good"]
    assert (played.chain.stop, played.chain.best, played.chain.passed) == ("passed", 2, True)
    assert all(roles(asked)[-1] == "user" for asked in played.asked)
    assert "It is not good." in played.asked[1].messages[-1]["content"]  # type: ignore[union-attr]


def test_prompted_with_checks_shows_the_critic_what_failed() -> None:
    streams = ["one", "It lacks much. Revision is not needed.", "good"]
    played = play(plan(mode="prompted", checks=("toy",)), streams, lambda a: a == "good")
    critique = played.asked[1]
    assert isinstance(critique, Ask)
    assert "It is not good." in critique.messages[-1]["content"]
    feedback = played.chain.steps[0].feedback
    assert feedback
    assert (feedback.by, feedback.verdict, played.chain.stop) == ("both", "revise", "passed")


def test_the_best_answer_is_kept_and_not_the_last() -> None:
    scores = {"one": 0.2, "two": 0.9, "three": 0.4}
    played = play(plan(mode="verified", checks=("toy",), max_revisions=2), list(scores), lambda _: False)
    assert played.chain.best == 0, "equal scores: the earlier"
    good = play(
        plan(mode="verified", checks=("toy",), min_revisions=1, max_revisions=1),
        ["good", "Hm.", "bad"],
        lambda a: a == "good",
    ).chain
    assert (good.best, good.answer, good.stop) == (0, "good", "max_revisions")


def test_an_echo_of_the_feedback_never_becomes_best() -> None:
    """science.md, 7: a weak model copies the criticism, and the copy passes the check."""
    criticism = "The answer does not contain the word never at all. Revision is needed."
    echo = "The answer does not contain the word never at all."
    played = play(plan(max_revisions=2), ["One.", criticism, echo, "Two."])
    chain = played.chain
    assert [step.echo for step in chain.steps] == [False, True, False]
    assert (chain.echoes, chain.answer) == (1, "Two.")
    again = played.asked[-1]
    assert isinstance(again, Ask)
    assert again.messages[1]["content"] == "One."
    only = play(plan(max_revisions=1), ["One.", criticism, echo]).chain
    assert (only.answer, only.best) == ("One.", 0)


@pytest.mark.parametrize("mode", ["verified", "prompted"])
@pytest.mark.parametrize("echo", prompts.DEFAULT.requests)
def test_an_echo_is_not_checked_and_never_passes(mode: Mode, echo: str) -> None:
    streams = ["One.", *(["Bad. Revision is needed."] if mode == "prompted" else []), echo]
    played = play(plan(mode=mode, checks=("toy",), max_revisions=1), streams, lambda answer: answer == echo)
    assert [op.answer for op in played.ops if isinstance(op, RunChecks)] == ["One."]
    chain = played.chain
    assert (chain.answer, chain.passed, chain.stop) == ("One.", False, "max_revisions")
    assert [step.passed for step in chain.steps] == [False, False]


def test_after_echoes_the_last_real_answer_is_to_be_revised() -> None:
    streams = ["One.", "It is not good.", "- It is not good!", "Two."]
    a_plan = plan(mode="verified", checks=("toy",), context="chain")
    played = play(a_plan, streams, lambda answer: answer == "Two.")
    asked = [ask.messages for ask in played.asked if isinstance(ask, Ask)]
    assert asked[1] == asked[2] == asked[3]
    assert "It is not good." in asked[3][-1]["content"]
    assert (played.chain.answer, played.chain.stop, played.chain.echoes) == ("Two.", "passed", 2)


SAME = ["Same answer.", "Revision is needed.", "Same answer. \n"]


def test_a_fresh_draft_comes_after_a_revision_that_changed_nothing() -> None:
    played = play(plan(), [*SAME, "Another answer.", "Revision is not needed."])
    chain = played.chain
    assert [step.answer for step in chain.steps] == ["Same answer.", "Same answer.", "Another answer."]
    assert [step.fresh for step in chain.steps] == [False, False, True]
    assert chain.steps[1].feedback == chain.steps[0].feedback
    assert (chain.stop, chain.answer) == ("accepted", "Another answer.")
    first, *_, fresh, criticism = [op for op in played.asked if isinstance(op, Ask)]
    assert fresh.messages == first.messages
    assert "Same answer." not in str(criticism.messages)
    assert Chain.from_json(chain.to_json()) == chain


def test_checks_judge_a_repeated_answer_once_and_a_fresh_one_again() -> None:
    seen: list[str] = []
    verified = {"mode": "verified", "checks": ("toy",), "context": "chain"}
    replies = ["A gull.", "A gull.", "A tern.", "A tern.", "An auk."]
    chain = play(
        plan(**verified), replies, lambda answer: bool(seen.append(answer)) or answer == "An auk."
    ).chain
    assert seen == ["A gull.", "A tern."]
    assert (chain.stop, [step.fresh for step in chain.steps]) == ("unchanged", [False, False, True, False])
    assert [step.passed for step in chain.steps] == [False] * 4
    chain = play(plan(**verified, max_revisions=4), replies, lambda answer: answer == "An auk.").chain
    assert (chain.stop, chain.passed, chain.revisions) == ("passed", True, 4)


def test_a_repeated_answer_ends_the_chain_where_nothing_new_can_come() -> None:
    for changes in ({"max_revisions": 1}, {"temperature": 0.0}):
        chain = play(plan(**changes), SAME).chain
        assert (chain.stop, len(chain.steps)) == ("unchanged", 2)


def test_a_revision_that_was_forced_may_repeat_a_good_answer() -> None:
    chain = play(plan(mode="verified", checks=("toy",), min_revisions=1), ["Good."], lambda _: True).chain
    assert (chain.stop, chain.revisions) == ("passed", 1)


def test_a_draft_that_is_cut_ends_the_chain_without_checks() -> None:
    chain = play(plan(), [Stream("A very long answer", finish="max_tokens")]).chain
    assert (chain.stop, chain.steps[0].finish) == ("max_tokens", "max_tokens")
    assert chain.answer == "A very long answer"


def test_a_budget_of_money_and_of_time() -> None:
    paid = replace(NATIVE, price=Price(prompt=0, completion=1e6))
    chain = play(plan(budget=Budget(usd=20), info=paid), ["x" * 15, "Bad. Revision is needed."]).chain
    assert (chain.stop, chain.usage.cost_usd) == ("budget", pytest.approx(20))
    slow = [Stream("One.", seconds=3), Stream("Revision is needed.", seconds=3), Stream("Two.", seconds=9)]
    chain = play(plan(budget=Budget(seconds=5)), slow, clock=Clock()).chain
    assert (chain.stop, chain.answer) == ("budget", "One.")
    assert chain.usage.seconds == pytest.approx(6)


def test_a_full_context_is_an_error_at_first_and_a_way_to_stop_later() -> None:
    with pytest.raises(ContextError):
        play(plan(), [ContextError(90, 64)])
    chain = play(plan(), ["One.", ContextError(90, 64)]).chain
    assert (chain.stop, chain.answer) == ("context", "One.")


def test_a_prompt_of_messages_keeps_its_own_system_message() -> None:
    talk = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})
    own = play(plan(prompt=Prompt(messages=talk), system="Be long.", max_revisions=0), ["Hello."]).asked[0]
    assert isinstance(own, Ask)
    assert own.messages[0]["content"] == "Be brief."
    mine = play(plan(system="Be long.", max_revisions=0, demand="As JSON."), ["Hello."]).asked[0]
    assert isinstance(mine, Ask)
    assert [m["content"] for m in mine.messages] == ["Be long.", "Say something.\n\nAs JSON."]


def test_a_cut_answer_is_checked_at_the_end_too() -> None:
    a_plan = plan(mode="verified", checks=("toy",), budget=Budget(tokens=3))
    chain = play(a_plan, ["a long answer"], lambda answer: answer == "never").chain
    assert (chain.stop, chain.passed, chain.answer) == ("budget", False, "a l")


def test_a_cut_answer_that_passes_is_revised_all_the_same() -> None:
    cut = Stream("good but cut", finish="max_tokens")
    played = play(plan(mode="verified", checks=("toy",)), [cut, "good"], lambda answer: "good" in answer)
    assert (played.chain.stop, played.chain.answer) == ("passed", "good")
    assert prompts.CUT in played.asked[1].messages[-1]["content"]  # type: ignore[union-attr]


@pytest.mark.parametrize("mode", ["verified", "best-of"])
def test_a_text_that_loops_passes_only_if_no_other_follows(mode: Mode) -> None:
    loops = "I say: love will win, love will win, love will win."
    a_plan = plan(mode=mode, checks=("toy",), max_revisions=1, drafts=2 if mode == "best-of" else 1)
    for text, form in ((loops, a_plan), (f'["{loops}", {{"stars": 3}}, ""]', replace(a_plan, json={}))):
        chain = play(form, [text, "Love wins."], lambda _: True).chain
        assert (chain.passed, chain.answer) == (True, "Love wins.")
        assert prompts.LOOPS in [step.criticism for step in (*chain.drafts, *chain.steps)]
        chain = play(form, [text, text], lambda _: True).chain
        assert (chain.passed, chain.answer) == (True, text)
    equal = '["New York", "New York", "New York", "New York", false, false, false]'
    assert play(replace(a_plan, json={}), [equal, "[]"], lambda _: True).chain.answer == equal


def test_a_change_of_white_space_is_a_change() -> None:
    a_plan = plan(mode="verified", checks=("toy",))
    chain = play(a_plan, ["A b. C d.", "A b.\n\nC d."], lambda answer: "\n\n" in answer).chain
    assert (chain.stop, chain.answer) == ("passed", "A b.\n\nC d.")


def test_parts_of_a_message_stay_parts() -> None:
    parts = ({"role": "user", "content": [{"type": "text", "text": "Hi"}]},)
    asked = play(plan(prompt=Prompt(messages=parts), demand="As JSON.", max_revisions=0), ["Hello."]).asked[0]
    assert isinstance(asked, Ask)
    text = [{"type": "text", "text": "Hi"}, {"type": "text", "text": "As JSON."}]
    assert [m["content"] for m in asked.messages] == [text]


@pytest.mark.parametrize(("role", "said"), [("assistant", 0), ("tool", 0), ("system", 1), ("user", 1)])
def test_demands_follow_the_last_message_unless_it_is_an_answer(role: str, said: int) -> None:
    messages = ({"role": "user", "content": "Greet me."}, {"role": role, "content": "Hello, "})
    a_plan = plan(prompt=Prompt(messages=messages), demand="Use 5 words.", max_revisions=0)
    asked = play(a_plan, ["all."]).asked[0]
    assert isinstance(asked, Ask)
    assert ["Use 5 words." in str(m["content"]) for m in asked.messages] == [said == 0, said == 1]


def test_a_draft_that_is_cut_is_revised_where_a_revision_is_demanded() -> None:
    chain = play(plan(min_revisions=1), [Stream("A very long", finish="max_tokens"), "Cut.", "A gull."]).chain
    assert (chain.answer, chain.revisions, chain.steps[0].finish) == ("A gull.", 1, "max_tokens")
    assert prompts.CUT in chain.steps[0].criticism


def test_a_minimum_that_was_not_reached_is_noted() -> None:
    chain = play(plan(min_revisions=2), ["One.", "Bad.", Stream("Two", finish="filtered")]).chain
    assert (chain.stop, chain.revisions, chain.missing_revisions) == ("ended", 1, 1)
    assert Chain.from_json(chain.to_json()).missing_revisions == 1


# A draft without a text is an error. A revision without one ends the chain and is never the best.


@pytest.mark.parametrize("empty", ["", " \n", Stream("", finish="max_tokens")])
@pytest.mark.parametrize("mode", ["verified", "prompted"])
def test_with_checks_that_nothing_would_pass(mode: Mode, empty: str | Stream) -> None:
    a_plan = plan(mode=mode, checks=("toy",), critic=NATIVE if mode == "prompted" else None)
    streams = ["A draft that is too long.", *(["Revision is needed."] if mode == "prompted" else []), empty]
    chain = play(a_plan, streams, lambda answer: len(answer) < 5).chain
    assert (chain.answer, chain.passed) == ("A draft that is too long.", False)
    assert chain.stop == ("max_tokens" if isinstance(empty, Stream) else "ended")


def test_a_cut_answer_is_better_than_none() -> None:
    assert best_step([Step(answer="One gu", finish="max_tokens"), Step(answer="")]) == 0


@pytest.mark.parametrize("mode", ["verified", "prompted", "native"])
@pytest.mark.parametrize(
    ("empty", "hint"), [("", "another seed"), (Stream(" ", finish="max_tokens"), "--max-tokens")]
)
def test_no_answer_at_all_is_an_error(mode: Mode, empty: str | Stream, hint: str) -> None:
    with pytest.raises(EmptyReply, match="'toy' gave no answer") as caught:
        play(plan(mode=mode, checks=("toy",) if mode == "verified" else ()), [empty], lambda _: True)
    assert hint in (caught.value.hint or "")
    assert caught.value.chain
    assert caught.value.chain.stop == "error"


@pytest.mark.parametrize("mode", ["prompted", "native"])
def test_a_budget_or_a_cancel_may_leave_no_answer(mode: Mode) -> None:
    cancelled = play(plan(mode=mode), [Stream("", finish="cancelled")]).chain
    assert (cancelled.stop, cancelled.best) == ("cancelled", None)
    chain = play(plan(mode=mode, budget=Budget(tokens=1)), [Stream(" ", finish="max_tokens")]).chain
    assert (chain.stop, chain.best) == ("budget", None)

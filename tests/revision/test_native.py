"""The native loop, driven by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redraft.chain import Prompt
from redraft.chain.selfee import DONE_PHRASES, parse, render_prompt
from redraft.engines.base import Delta, EngineInfo
from redraft.errors import ContextError, EmptyReply
from redraft.revision.native import Transcript
from redraft.revision.ops import Ask, Continue
from redraft.revision.options import Budget
from tests.revision.play import NATIVE, Stream, plan, play

CHAIN = (
    "First.\n\n### Feedback 1:\nToo short. Revision is needed.\n\n"
    "### Revision 1:\nSecond.\n\n### Feedback 2:\nGood. Revision is not needed."
)
ROLES = EngineInfo(name="toy", engine="scripted", token_ids=True, native=True, roles=True)
TEXT_ONLY = EngineInfo(name="toy", engine="scripted", token_ids=False, native=True)


def prompt_of(asked: object) -> str:
    assert isinstance(asked, Continue)
    return asked.prompt if isinstance(asked.prompt, str) else "".join(map(chr, asked.prompt))


def test_autonomous_chain_is_one_request_and_ends_accepted() -> None:
    played = play(plan(mode="native"), [CHAIN])
    chain = played.chain
    assert len(played.asked) == 1
    assert [step.answer for step in chain.steps] == ["First.", "Second."]
    assert [step.feedback.verdict for step in chain.steps if step.feedback] == ["revise", "accept"]
    assert (chain.stop, chain.best, chain.answer) == ("accepted", 1, "Second.")
    assert (played.steps_done, played.shown("answer", 1)) == ([0, 1], "Second.")
    assert played.shown("feedback", 0) == "Too short. Revision is needed."


@pytest.mark.parametrize("chunk", [1, 5])
@pytest.mark.parametrize(
    ("certain", "doubted", "answers", "verdicts", "stop"),
    [
        (0.6, "h", ["First."], ["unknown"], "ended"),  # "Too short"
        (0.4, "h", ["First.", "Second."], ["revise", "accept"], "accepted"),
        (0.6, "F", ["First.", "Second."], ["revise", "accept"], "accepted"),  # the answer, or a heading
        (0.6, "G", ["First.", "Second."], ["revise", "unknown"], "ended"),  # "Good"
    ],
)
def test_a_verdict_that_the_model_is_not_certain_of_is_unknown(
    certain: float, doubted: str, answers: list[str], verdicts: list[str], stop: str, chunk: int
) -> None:
    info = replace(NATIVE, certain=certain)
    chain = play(plan(mode="native", info=info), [Stream(CHAIN, doubted=doubted, chunk=chunk)]).chain
    assert [step.answer for step in chain.steps] == answers
    assert [step.verdict for step in chain.steps] == verdicts
    assert (chain.stop, chain.answer) == (stop, answers[-1])


def test_an_enforced_revision_needs_no_certainty() -> None:
    made = plan(mode="native", info=replace(NATIVE, certain=0.6), min_revisions=1)
    chain = play(made, [Stream(CHAIN, doubted="h", chunk=1)]).chain
    assert [step.answer for step in chain.steps] == ["First.", "Second."]


def test_usage_is_booked_on_the_step_that_it_went_into() -> None:
    chain = play(plan(mode="native"), [Stream(CHAIN, chunk=1, seconds=2.0, cached=7)]).chain
    first, second = (step.usage for step in chain.steps)
    assert first.completion_tokens + second.completion_tokens == chain.usage.completion_tokens == len(CHAIN)
    assert second.completion_tokens == pytest.approx(len(CHAIN) - CHAIN.index("### Revision 1:") - 15, abs=3)
    assert first.cached_tokens == chain.usage.cached_tokens == 7


@pytest.mark.parametrize("phrase", DONE_PHRASES)
def test_enforced_revision_replaces_every_done_phrase(phrase: str) -> None:
    streams = [
        f"First.\n\n### Feedback 1:\nFine. {phrase}.",
        ".\n\n### Revision 1:\nSecond.\n\n### Feedback 2:\nOk.",
    ]
    played = play(plan(mode="native", min_revisions=1), streams)
    assert prompt_of(played.asked[1]).endswith("### Feedback 1:\nFine. Revision is needed")
    assert [step.answer for step in played.chain.steps] == ["First.", "Second."]
    first = played.chain.steps[0]
    assert (first.criticism, first.verdict) == ("Fine. Revision is needed.", "revise")


def test_a_cut_goes_back_to_a_token_boundary_and_keeps_all_tokens_before_it() -> None:
    """Regression for fault 2 of the released code: the text was continued one token off after a cut."""
    streams = [Stream("First.\n\n### Feedback 1:\nFine. No revision is needed.", chunk=3), "."]
    played = play(plan(mode="native", min_revisions=1), streams)
    first, second = (prompt_of(asked) for asked in played.asked[:2])
    assert second == first + "First.\n\n### Feedback 1:\nFine. Revision is needed"


def test_a_model_that_just_stops_gets_the_next_heading() -> None:
    played = play(plan(mode="native", min_revisions=1, max_revisions=1), ["First.", "Fine.", "Second."])
    assert prompt_of(played.asked[1]).endswith("First.\n\n### Feedback 1:\n")
    assert prompt_of(played.asked[2]).endswith("Fine. Revision is needed.\n\n### Revision 1:\n")
    assert (played.chain.stop, played.chain.answer) == ("max_revisions", "Second.")


def test_a_phrase_in_the_prompt_or_in_an_answer_is_not_a_verdict() -> None:
    """Regression for fault 3: the released code searched the prompt too."""
    prompt = Prompt(instruction="Say 'revision is not needed'. ### Feedback 1: no revision is needed")
    streams = [
        "I say: revision is not needed, friend.",
        ", friend.\n\n### Feedback 1:\nRight. Revision is not needed",
        ".\n\n### Revision 1:\nSecond.\n\n### Feedback 2:\nRevision is not needed.",
    ]
    played = play(plan(mode="native", min_revisions=1, prompt=prompt), streams)
    assert [s.answer for s in played.chain.steps] == ["I say: revision is not needed, friend.", "Second."]
    autonomous = play(plan(mode="native", prompt=prompt), ["Done."])
    assert (autonomous.chain.stop, autonomous.chain.answer) == ("ended", "Done.")


def test_max_revisions_is_a_maximum() -> None:
    """Regression for fault 4: the released flag of that name was a minimum, and the maximum was always 3."""
    endless = "".join(
        f"Answer {k}.\n\n### Feedback {k + 1}:\nNo. Revision is needed.\n\n### Revision {k + 1}:\n"
        for k in range(20)
    )
    for most in (0, 1, 5, 12):
        chain = play(plan(mode="native", max_revisions=most), [endless]).chain
        assert (len(chain.steps), chain.stop) == (most + 1, "max_revisions")
        assert chain.answer == f"Answer {most}."


def test_text_engines_are_continued_as_text() -> None:
    streams = ["First.\n\n### Feedback 1:\nFine. Revision is not needed", ".\n\n### Revision 1:\nSecond."]
    played = play(plan(mode="native", min_revisions=1, info=TEXT_ONLY), streams)
    text = "First.\n\n### Feedback 1:\nFine. Revision is needed"
    assert getattr(played.asked[1], "prompt", ()) == render_prompt(plan().prompt) + text
    assert played.chain.answer == "Second."


def test_an_end_that_could_begin_a_heading_is_part_of_the_feedback() -> None:
    streams = ["First.\n\n### Feedback 1:\nShort.\n#", "Second."]
    played = play(plan(mode="native", min_revisions=1, max_revisions=1), streams)
    assert played.chain.steps[0].criticism == "Short.\n# Revision is needed."


def test_the_text_of_an_enforced_chain_reads_as_the_chain() -> None:
    streams = [
        "First.\n\n### Feedback 1:\nGood. No revision is needed",
        ".\n\n### Revision 1:\nSecond.\n\n### Feedback 2:\nBest. No revision is needed",
        ".\n\n### Revision 2:\nThird.\n\n### Feedback 3:\nBest. No revision is needed.",
    ]
    played = play(plan(mode="native", min_revisions=2), streams)
    text = prompt_of(played.asked[-1]) + streams[-1]
    assert [s.answer for s in parse(text).steps] == [s.answer for s in played.chain.steps]
    assert played.chain.stop == "accepted"


@pytest.mark.parametrize(
    ("finish", "stop"), [("max_tokens", "max_tokens"), ("context", "context"), ("filtered", "ended")]
)
def test_a_cut_text_stays_as_a_step_with_its_finish(finish: str, stop: str) -> None:
    text = "First.\n\n### Feedback 1:\nNo. Revision is needed.\n\n### Revision 1:\nSeco"
    chain = play(plan(mode="native"), [Stream(text, finish=finish)]).chain
    assert chain.stop == stop
    assert [(s.answer, s.finish) for s in chain.steps] == [("First.", "stop"), ("Seco", finish)]
    assert chain.answer == "First."


@pytest.mark.parametrize(
    ("rest", "stop", "answers"),
    [
        ("No. Revision is needed.\n\n### Revision 4:\nSecond. And on.", "malformed", ["First."]),
        ("Good. Revision is not needed.\n\n### Revision 1:\nAnd on and on.", "accepted", ["First."]),
        (
            "Revision is needed.\n\n### Revision 1:\nFirst.\n\n### Feedback 2:\nWell,",
            "unchanged",
            ["First."] * 2,
        ),
    ],
)
def test_a_text_that_goes_on_where_the_chain_ends(rest: str, stop: str, answers: list[str]) -> None:
    chain = play(plan(mode="native"), [f"First.\n\n### Feedback 1:\n{rest}"]).chain
    assert (chain.stop, [step.answer for step in chain.steps]) == (stop, answers)
    assert chain.steps[0].finish == ("cancelled" if stop == "malformed" else "stop")
    assert "###" not in chain.steps[0].criticism


def test_limits_count_the_whole_text() -> None:
    chain = play(plan(mode="native", budget=Budget(tokens=40)), [CHAIN]).chain
    assert (chain.stop, chain.usage.completion_tokens) == ("budget", 40)
    assert chain.answer == "First."


def test_a_model_that_insists_on_stopping_gets_the_heading() -> None:
    streams = [
        "First.\n\n### Feedback 1:\nFine. Revision is not needed",
        ". No revision is needed",
        "Second.",
    ]
    played = play(plan(mode="native", min_revisions=1, max_revisions=1), streams)
    assert prompt_of(played.asked[2]).endswith("Fine. Revision is needed.\n\n### Revision 1:\n")
    assert [step.answer for step in played.chain.steps] == ["First.", "Second."]


def test_a_heading_that_an_answer_quotes_does_not_end_it() -> None:
    streams = ["To explain: ### Feedback 4: is last.", " is last. So there."]
    assert play(plan(mode="native"), streams).chain.answer == "To explain: ### Feedback 4: is last. So there."


def test_a_system_message_stands_before_the_instruction() -> None:
    played = play(plan(mode="native", system="Be brief."), ["Done."])
    assert "### Instruction:\nBe brief.\n\nSay something.\n" in prompt_of(played.asked[0])


def test_a_context_that_is_full_after_a_forced_text_is_a_way_to_stop() -> None:
    chain = play(plan(mode="native", min_revisions=1), ["First.", ContextError(90, 64)]).chain
    assert (chain.stop, chain.answer) == ("context", "First.")
    with pytest.raises(ContextError):
        play(plan(mode="native"), [ContextError(90, 64)])


def test_a_minimum_that_the_context_forbids_is_noted() -> None:
    chain = play(plan(mode="native", min_revisions=2), [Stream("First.", finish="context")]).chain
    assert (chain.stop, chain.missing_revisions) == ("context", 2)
    assert play(plan(mode="native"), [Stream("First.", finish="context")]).chain.meta == {}


CRITICISED = "No. Revision is needed.\n\n### Revision 1:\nSecond.\n\n### Feedback 2:\nRevision is not needed."


@pytest.mark.parametrize("draft", ["First.", "First.\n\n### Feedback 1:\nWhatever the writer thinks."])
def test_one_role_answers_and_the_other_criticises_and_revises(draft: str) -> None:
    played = play(plan(mode="native", info=ROLES), [draft, CRITICISED])
    assert [asked.role for asked in played.asked if isinstance(asked, Continue)] == ["answer", "revise"]
    assert prompt_of(played.asked[1]).endswith("First.\n\n### Feedback 1:\n")
    assert [step.answer for step in played.chain.steps] == ["First.", "Second."]
    assert played.chain.stop == "accepted"


def test_a_model_with_roles_only_answers_without_revisions() -> None:
    played = play(plan(mode="native", info=ROLES, max_revisions=0), ["First."])
    assert [asked.role for asked in played.asked if isinstance(asked, Continue)] == ["answer"]
    assert [(step.answer, step.feedback) for step in played.chain.steps] == [("First.", None)]


def test_roles_go_on_with_a_chain_that_broke_off_in_its_feedback() -> None:
    chain = play(plan(mode="native", info=ROLES), ["First.", Stream("No. Revi", finish="cancelled")]).chain
    played = play(plan(mode="native", info=ROLES, earlier=chain), [CRITICISED])
    assert [asked.role for asked in played.asked if isinstance(asked, Continue)] == ["revise"]
    assert [step.answer for step in played.chain.steps] == ["First.", "Second."]


BEYOND = "This cannot be worked out here."


def test_what_a_model_with_roles_has_not_learnt_its_base_answers() -> None:
    played = play(plan(mode="native", info=ROLES), ["Blue.", BEYOND, "Air scatters blue light most."])
    assert [type(asked) for asked in played.asked] == [Continue, Continue, Ask]
    chain = played.chain
    assert [(step.answer, step.verdict, step.fresh) for step in chain.steps] == [
        ("Blue.", "unknown", False),
        ("Air scatters blue light most.", "unknown", True),
    ]
    assert (chain.stop, chain.answer) == ("ended", "Air scatters blue light most.")
    assert played.steps_done == [0, 1]


@pytest.mark.parametrize(
    ("changes", "said", "stop"),
    [
        ({"info": replace(ROLES, certain=0.6)}, Stream(BEYOND, doubted="w", chunk=1), "ended"),
        ({"info": replace(ROLES, chats=False)}, BEYOND, "ended"),
        ({"budget": Budget(tokens=len("Blue." + BEYOND))}, BEYOND, "budget"),
    ],
)
def test_the_base_answers_only_what_is_certainly_beyond(changes: Any, said: Any, stop: str) -> None:
    chain = play(plan(**{"mode": "native", "info": ROLES, **changes}), ["Blue.", said]).chain
    assert ([step.answer for step in chain.steps], chain.stop) == (["Blue."], stop)


def test_the_base_is_asked_in_the_words_of_a_chat_and_with_all_tokens_of_an_answer() -> None:
    made = plan(mode="native", info=ROLES, system="Be kind.", max_tokens=100)
    asked = play(made, ["Blue.", BEYOND, "Air."]).asked[2]
    assert isinstance(asked, Ask)
    assert (asked.messages[0], asked.max_tokens) == ({"role": "system", "content": "Be kind."}, 100)


WORKED = "4 5: 4+5=9 [9], so 9, and the answer says 8: different. Revision is needed.\n\n### Revision 1:\n9"
SUM: dict[str, Any] = {"info": replace(ROLES, shipped=True, certain=0.6), "exercises": ("What is 4 + 5?",)}


def test_an_exercise_is_put_in_the_words_of_training_and_its_work_has_room_of_its_own() -> None:
    played = play(plan(mode="native", max_tokens=20, **SUM), ["8", WORKED])
    asked = played.asked[0]
    assert isinstance(asked, Continue)
    assert "What is 4 + 5?" in prompt_of(asked)
    assert "Say something." not in prompt_of(asked)
    assert asked.max_tokens > 20
    assert (played.chain.answer, played.chain.meta["answered_by"]) == ("9", "its own revision")


@pytest.mark.parametrize(
    "said",
    [
        WORKED.replace("=9", "=8"),
        "I do not know.",
        Stream("4 5: 4+5=9 [9], so 9, and so", finish="max_tokens"),
    ],
    ids=["a wrong sum", "no verdict", "cut"],
)
def test_the_base_answers_an_exercise_that_its_critic_cannot_judge(said: Any) -> None:
    played = play(plan(mode="native", max_tokens=20, **SUM), ["8", said, "Nine it is."])
    asked = played.asked[2]
    assert isinstance(asked, Ask)
    assert (asked.messages[-1]["content"], asked.max_tokens) == ("Say something.", 20)
    assert (played.chain.answer, played.chain.meta["answered_by"]) == ("Nine it is.", "the base model")


def test_an_exercise_is_asked_in_other_words_if_a_sum_in_its_work_is_wrong() -> None:
    both = {**SUM, "exercises": ("What is 4 + 5?", "Add 4 and 5.")}
    wrong = (
        "4 5: 4+5=8 [8], so 8, and the answer says 7: different. Revision is needed.\n\n### Revision 1:\n8"
    )
    played = play(plan(mode="native", **both), ["7", wrong, "7", WORKED])
    assert ["Add 4 and 5." in prompt_of(asked) for asked in played.asked] == [False, False, True, True]
    found = [(step.answer, step.verdict, step.fresh) for step in played.chain.steps]
    assert found == [("7", "unknown", False), ("7", "revise", True), ("9", "unknown", False)]
    assert (played.chain.answer, played.steps_done) == ("9", [0, 1, 2])
    assert played.shown("feedback", 1).startswith("4 5: 4+5=9")
    assert played.progress[-1][1].steps[0].verdict == "unknown"


def test_work_that_holds_needs_no_certainty() -> None:
    work = "1+5=6, May has 31, so 6 May, and the answer says 3 May: different. Revision is needed."
    said = Stream(f"{work}\n\n### Revision 1:\n6 May", doubted="6", chunk=1)
    dates = {**SUM, "exercises": ("What date is 5 days after 1 May?",)}
    assert play(plan(mode="native", **dates), ["3 May", said]).chain.answer == "6 May"


def test_a_revision_that_its_criticism_does_not_lead_to_is_left_to_the_base() -> None:
    played = play(plan(mode="native", **SUM), ["8", WORKED[:-1] + "6", "Nine."])
    assert (played.chain.answer, played.chain.meta["answered_by"]) == ("Nine.", "the base model")


def test_a_base_text_that_is_cut_is_still_the_answer_to_what_the_critic_cannot_judge() -> None:
    cut = play(plan(mode="native", **SUM), ["8", BEYOND, Stream("Nine it", finish="max_tokens")]).chain
    assert (cut.answer, cut.stop) == ("Nine it", "max_tokens")


def test_checks_judge_what_a_model_made_of_an_exercise() -> None:
    made = plan(mode="verified", checks=("toy",), **SUM)
    played = play(made, ["8", WORKED], check=lambda answer: answer == "9")
    assert [type(asked) for asked in played.asked] == [Continue, Continue]
    assert (played.chain.answer, played.chain.stop, played.chain.passed) == ("9", "passed", True)
    accepted = play(
        made,
        ["9", "4 5: 4+5=9 [9], so 9, and the answer says 9: the same. Revision is not needed."],
        check=lambda answer: answer == "9",
    ).chain
    assert accepted.steps[0].feedback is not None
    assert (accepted.stop, accepted.steps[0].feedback.by) == ("passed", "both")
    assert accepted.steps[0].criticism.startswith("4 5: ")


CUT_WORK = Stream("4 5: 4+5", finish="cancelled", seconds=9.0)


@pytest.mark.parametrize(
    ("mode", "said", "answer"),
    [
        ("native", ["8", CUT_WORK], ""),
        ("verified", ["8", CUT_WORK], ""),
        ("native", ["8", Stream(BEYOND, seconds=9.0)], ""),
        ("native", ["8", BEYOND, Stream("Nine it", finish="cancelled", seconds=9.0)], "Nine it"),
        ("native", ["8", Stream(WORKED, finish="cancelled", seconds=9.0)], ""),
    ],
)
def test_what_nothing_judged_of_an_exercise_is_no_answer_when_the_budget_ends(
    mode: str, said: Any, answer: str
) -> None:
    checks = ("toy",) if mode == "verified" else ()
    made = plan(mode=mode, checks=checks, budget=Budget(seconds=5), **SUM)
    chain = play(made, said, check=lambda _: False).chain
    assert (chain.stop, chain.answer, chain.steps[0].answer) == ("budget", answer, "8")
    assert chain.meta.get("answered_by") == ("the base model" if answer else None)
    with pytest.raises(EmptyReply):
        play(plan(mode=mode, checks=checks, **SUM), ["8", BEYOND, ""], check=lambda _: False)


@pytest.mark.parametrize("more", ["", "Nine."])
def test_a_resumed_exercise_is_its_own_until_the_base_wrote_the_answer(more: str) -> None:
    made = plan(mode="verified", checks=("toy",), **SUM)
    begun = play(made, ["8", WORKED], check=lambda _: None).chain
    assert (begun.stop, [step.answer for step in begun.steps]) == ("cancelled", ["8", "9"])
    again = play(replace(made, earlier=begun), ["Nine."], check=lambda answer: answer == (more or "9")).chain
    assert (again.answer, again.stop) == (more or "9", "passed")
    assert again.meta["answered_by"] == ("the base model" if more else "its own revision")


def test_an_exercise_that_was_cut_is_worked_out_when_it_is_resumed() -> None:
    made = plan(mode="verified", checks=("toy",), **SUM)
    begun = play(made, ["8", CUT_WORK], check=lambda _: False).chain
    played = play(replace(made, earlier=begun), ["8", WORKED], check=lambda answer: answer == "9")
    assert [type(asked) for asked in played.asked] == [Continue, Continue]
    assert (played.chain.answer, played.chain.meta["answered_by"]) == ("9", "its own revision")


def test_checks_get_the_base_s_answer_if_the_critic_cannot_judge() -> None:
    made = plan(mode="verified", checks=("toy",), **SUM)
    played = play(made, ["8", BEYOND, "Nine."], check=lambda answer: answer == "Nine.")
    asked = played.asked[2]
    assert isinstance(asked, Ask)
    assert [message["content"] for message in asked.messages] == ["Say something."]
    assert (played.chain.answer, played.chain.meta["answered_by"]) == ("Nine.", "the base model")
    assert play(made, ["8", BEYOND, "Nine."], check=lambda _: False).chain.answer != "8"


@pytest.mark.parametrize("said", ["", "Blue."])
def test_a_base_that_gives_no_answer_leaves_the_draft(said: str) -> None:
    assert play(plan(mode="native", info=ROLES), ["Blue.", BEYOND, said]).chain.answer == "Blue."


def test_what_a_critic_says_under_force_is_no_reason_to_ask_the_base() -> None:
    made = plan(mode="native", info=replace(ROLES, certain=0.6), min_revisions=2)
    begun = [Stream(BEYOND, doubted="w", chunk=1), Stream("Seco", finish="cancelled")]
    played = play(made, ["Blue.", *begun])
    again = play(replace(made, earlier=played.chain), ["Second.", BEYOND, "Third.", BEYOND])
    assert not any(isinstance(asked, Ask) for asked in (*played.asked, *again.asked))


def test_the_base_answers_after_a_stop() -> None:
    chain = play(plan(mode="native", info=ROLES), ["Blue.", BEYOND, Stream("Air", finish="cancelled")]).chain
    played = play(plan(mode="native", info=ROLES, earlier=chain), ["Air scatters blue light most."])
    assert [type(asked) for asked in played.asked] == [Ask]
    assert played.chain.answer == "Air scatters blue light most."


# The tokens and the text of a native chain agree, whatever an engine holds back.


EOS = 0


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def text_of(written: Transcript) -> str:
    return "".join(map(chr, written.as_prompt()))  # type: ignore[arg-type]


def force(written: Transcript, text: str, *, heading: bool = False) -> None:
    steps = written.force(text, heading=heading)
    try:
        asked = next(steps)
        while True:
            asked = steps.send(ids(asked.text))  # type: ignore[union-attr]
    except StopIteration:
        return


def test_a_stop_string_that_begins_inside_a_token_is_cut_as_a_whole() -> None:
    written = Transcript(prompt=())
    written.add(Delta(text="Fine.", tokens=ids("Fine.")))
    written.add(Delta(tokens=(777,)))  # " not", held back
    written.add(Delta(text=" ", tokens=(778,)))  # " needed", of which only the space is text
    written.add(Delta(finish="stop", stop_text="not needed"))
    force(written, "Revision is needed")
    assert text_of(written) == "Fine. Revision is needed"


def test_text_that_comes_with_the_end_is_encoded_again_and_the_end_is_not_kept() -> None:
    written = Transcript(prompt=())
    written.add(Delta(text="Is it?", tokens=ids("Is it?")))
    written.add(Delta(tokens=(*ids(" No"), EOS)))  # held back as the beginning of a stop string
    written.add(Delta(text=" No", finish="stop"))
    force(written, "\n\n### Feedback 1:\n", heading=True)
    assert text_of(written) == "Is it? No\n\n### Feedback 1:\n"


@given(st.lists(st.tuples(st.text("ab \n", max_size=5), st.booleans()), max_size=8), st.booleans())
def test_tokens_are_those_of_the_text(pieces: list[tuple[str, bool]], heading: bool) -> None:
    written = Transcript(prompt=ids("Q:"))
    said = ""
    for piece, forced in pieces:
        if forced:
            force(written, piece)
        else:
            written.add(Delta(text=piece, tokens=ids(piece)))
        said += piece
    force(written, "\n\n### X", heading=heading)
    assert text_of(written) == "Q:" + (said.rstrip() if heading else said) + "\n\n### X"

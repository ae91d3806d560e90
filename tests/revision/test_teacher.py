"""A teacher's criticisms: scores, verdicts, gold answers, and a first answer that was given."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.chain import Feedback
from redraft.chain.selfee import verdict_of
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.scripted import ScriptedReply
from redraft.errors import UsageError
from redraft.revision import prompted
from redraft.revision.prompted import read_critique
from tests.engines.fake_server import FakeServer, chat_reply

CHAT = "POST /v1/chat/completions"
GOLD = "Seventy thousand dollars"


def in_json(feedback: str, score: Any, needed: Any) -> str:
    return json.dumps({"feedback": feedback, "score": score, "revision_needed": needed})


def taught(*replies: Any, **options: Any) -> tuple[redraft.Chain, list[str]]:
    engine = redraft.ScriptedEngine(list(replies))
    chain = redraft.revise("How much?", model=engine, prompts="teacher", **options)
    return chain, [json.dumps(call) for call in engine.calls]


def test_a_chain_of_a_teacher() -> None:
    chain, calls = taught(
        "Ten.", "Too little. 3/10. Revision is needed.", "Twenty.", "Good. 9/10. Revision is not needed."
    )
    assert [step.answer for step in chain.steps] == ["Ten.", "Twenty."]
    assert [step.feedback.verdict for step in chain.steps if step.feedback] == ["revise", "accept"]
    assert [getattr(step.feedback, "score", None) for step in chain.steps] == [3, 9]
    assert "Too little." in calls[2]
    assert chain.stop == "accepted"
    assert redraft.Chain.from_json(chain.to_json()) == chain


@pytest.mark.parametrize("context", ["last", "chain"])
def test_the_critic_sees_the_gold_answer_and_the_writer_never_does(context: str) -> None:
    replies = ["A.", "Bad. 1/10. Revision is needed.", "B.", "Bad too. 1/10. Revision is needed.", "C."]
    chain, calls = taught(*replies, gold=GOLD, context=context, max_revisions=2)
    assert [GOLD in call for call in calls] == [False, True] * 2 + [False]
    assert GOLD not in chain.to_json()


JUDGES = "Judge it.\n\nKnow:\n{} {{verdict}}\n\n{{found}}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gold": GOLD}, "the prompts 'task' do not show it"),
        (
            {"prompts": {"revise": "{found}\n\n{gold} Again."}},
            "the template revise has an unknown placeholder {gold}",
        ),
        ({"accept_score": 9.0}, "accept_score was given, but the prompts 'task' ask for no score"),
        *(
            (
                {"gold": GOLD, "mode": mode, "checks": ["json"], "prompts": "teacher"},
                f"mode '{mode}' has no critic to",
            )
            for mode in ("native", "verified", "best-of")
        ),
        *(
            ({"prompts": {"criticise": JUDGES.format(place)}}, "does not always ask for the words")
            for place in ("{found}", "{gold}")
        ),
        ({"given": "Mine.", "drafts": 2, "checks": ["json"]}, "2 drafts"),
        ({"given": "Mine.", "mode": "native"}, "native"),
    ],
)
def test_what_does_not_go_together(options: Any, said: str) -> None:
    engine = redraft.ScriptedEngine(["x"], native=True)
    with pytest.raises(UsageError) as caught:
        redraft.revise("Hi", model=engine, **options)
    assert said in caught.value.message


def test_the_first_answer_is_given() -> None:
    chain, calls = taught(
        "Vague. 4/10. Revision is needed.", "Better.", "10/10. Revision is not needed.", given="Mine."
    )
    assert [step.answer for step in chain.steps] == ["Mine.", "Better."]
    assert chain.steps[0].usage.prompt_tokens > 0  # that of its feedback
    assert len(calls) == 3
    checked = redraft.revise(
        "Hi", model=redraft.ScriptedEngine(["Ha."]), given="Much too long.", checks=["words<=1"]
    )
    assert [step.answer for step in checked.steps] == ["Much too long.", "Ha."]


def test_a_criticism_without_a_verdict_is_asked_for_it_once() -> None:
    chain, calls = taught(
        "Ten.", "It could be warmer.", "Revision is needed.", "Twenty.", "Nice.", "Well, perhaps."
    )
    assert prompted.AGAIN in calls[2]
    first, second = chain.steps
    assert first.criticism == "It could be warmer. Revision is needed."
    assert (second.verdict, second.criticism, chain.stop) == ("unknown", "Nice.", "ended")
    assert len(calls) == 6
    assert sum(step.usage.completion_tokens for step in chain.steps) == chain.usage.completion_tokens


def test_a_score_decides_and_the_text_says_so() -> None:
    chain, _ = taught(
        "Ten.", "Fine. 8/10. Revision is not needed.", "Eleven.", "9 out of 10", accept_score=9.0
    )
    said = [(step.verdict, verdict_of(step.criticism)) for step in chain.steps]
    assert said == [("revise", "revise"), ("accept", "accept")]


@pytest.mark.parametrize(
    "said", ["Fine. 8/10. Revision is not needed.", in_json("Fine. No revisions needed.", 8, needed=False)]
)
@pytest.mark.parametrize(
    "why",
    [
        {"min_revisions": 1},
        {"accept_score": 9.0},
        {"checks": ["words>=2"], "mode": "prompted", "max_revisions": 1},
    ],
)
def test_feedback_never_says_another_verdict_than_it_has(said: str, why: dict[str, Any]) -> None:
    chain, calls = taught("Ten.", said, "Eleven.", "Good. 10/10. Revision is not needed.", **why)
    first = chain.steps[0]
    assert first.verdict == "revise"
    assert "Fine." in first.criticism
    assert {verdict_of(sentence) for sentence in first.criticism.split(". ")} <= {"unknown", "revise"}
    assert "not needed" not in calls[2]
    assert "No revision" not in calls[2]


def test_a_server_gives_the_verdict_as_a_field() -> None:
    with FakeServer() as server:
        bad, good = in_json("Too little.", 3, needed=True), in_json("Right.", 10, needed=False)
        server.on(CHAT, *map(chat_reply, ["Ten.", bad, "Twenty.", good]))

        async def make() -> redraft.Chain:
            async with aclosing(RemoteEngine(server.url, "m")) as engine:
                return await redraft.arevise(
                    "How much?", model=engine, prompts="teacher", feedback_tokens=77, max_tokens=99
                )

        chain = asyncio.run(make())
        bodies = [request.json for request in server.asked(CHAT)]
    assert [step.feedback.text for step in chain.steps if step.feedback] == [
        "Too little. Revision is needed.",
        "Right. Revision is not needed.",
    ]
    formats = [body.get("response_format", {}).get("json_schema", {}).get("schema") for body in bodies]
    assert formats == [None, prompted.SCHEMA, None, prompted.SCHEMA]
    assert [body["max_tokens"] for body in bodies] == [99, 77, 99, 77]
    assert '"revision_needed": boolean' in bodies[1]["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("reply", "text", "verdict", "score"),
    [
        (in_json("Dull.", 4, needed=True), "Dull. Revision is needed.", "revise", 4),
        (in_json("Revision is needed.", 4, needed=True), "Revision is needed.", "revise", 4),
        (in_json("Dull.", 40, needed=True), "Dull. Revision is needed.", "revise", None),
        (in_json("Dull.", True, needed=False), "Dull. Revision is not needed.", "accept", None),
        (in_json("No revision is needed.", 4, needed="no"), "No revision is needed.", "accept", 4),
        ('{"feedback": "Du', "Du", "unknown", None),
        ('```json\n{"feedback": "Du {", "score": 3', "Du {", "unknown", None),
        ('{"feedback": "A "b" c", "score": 3}', "", "unknown", None),
        (
            f"So:\n```json\n{in_json('Use {x}.', 4, needed=True)}\n```",
            "Use {x}. Revision is needed.",
            "revise",
            4,
        ),
        (in_json("A \ud800", 4, needed=True), "A \ufffd Revision is needed.", "revise", 4),
        ('{"feedback": "\\ud800', "", "unknown", None),
        ("8,5/10. Revision is needed.", "8,5/10. Revision is needed.", "revise", None),
        ('["a"]', '["a"]', "unknown", None),
        ("{x} is unset.", "{x} is unset.", "unknown", None),
        (
            in_json("Good, no revision is needed. Well. Revision is not needed!", 4, needed=True),
            "Well. Revision is needed.",
            "revise",
            4,
        ),
        (in_json("I see no", 4, needed=True), "I see no. Revision is needed.", "revise", 4),
        ("Score: 7.5/10. Revision is needed.", "Score: 7.5/10. Revision is needed.", "revise", 7.5),
        ("Of 3/10 and 6 out of 10, the last. No revision is needed.", None, "accept", 6),
        ("On 1/10/2020 and 11/10 and 2/100.", "On 1/10/2020 and 11/10 and 2/100.", "unknown", None),
    ],
)
def test_reading_a_criticism(reply: str, text: str | None, verdict: str, score: float | None) -> None:
    found = read_critique(reply, None)
    assert (found.text, found.verdict, found.score) == (reply if text is None else text, verdict, score)
    strict = read_critique(reply, 9.0).verdict
    assert strict == ("unknown" if verdict == "accept" and score is None else "revise" if score else verdict)


@given(st.text(), st.one_of(st.none(), st.floats(0, 10)))
def test_any_reply_can_be_read_and_says_its_verdict(reply: str, accept_score: float | None) -> None:
    found = read_critique(reply, accept_score)
    assert found.verdict in ("unknown", verdict_of(found.text))


def test_a_native_model_with_a_gold_answer_is_asked_to_criticise() -> None:
    engine = redraft.ScriptedEngine(["Ten.", "Good. 10/10. Revision is not needed."], native=True)
    chain = redraft.revise("How much?", model=engine, prompts="teacher", gold=GOLD)
    assert chain.model["revision_mode"] == "prompted"
    assert GOLD in json.dumps(engine.calls[1])


def test_feedback_that_was_cut_is_asked_for_its_verdict() -> None:
    bad, cut = "Dull. Revision is needed.", "It has nothing that I would change, and"
    chain, calls = taught("Ten.", bad, "Twenty.", cut, "Revision is not needed.", feedback_tokens=30)
    assert prompted.AGAIN in calls[4]
    assert (chain.stop, chain.answer) == ("accepted", "Twenty.")


@pytest.mark.parametrize(
    "cut", ["", '{"fee', "{", '```json\n{"score": 3, "feed', '{"score": 3}', '{"feedback": "']
)
def test_a_criticism_without_a_text_is_asked_for_once_more_and_then_marked(cut: str) -> None:
    gone = ScriptedReply(cut, finish="max_tokens")
    chain, calls = taught("Ten.", gone, "Good. 10/10. Revision is not needed.")
    assert (len(calls), calls[1]) == (3, calls[2])
    assert (chain.stop, chain.steps[0].verdict) == ("accepted", "accept")
    chain, calls = taught("Ten.", gone, gone)
    assert (len(calls), chain.stop, chain.answer) == (3, "max_tokens", "Ten.")
    assert chain.steps[0].feedback == Feedback(text="", verdict="unknown")
    chain, _ = taught("Ten.", cut, cut)
    assert (chain.stop, chain.steps[0].feedback) == ("ended", Feedback(text="", verdict="unknown"))


def test_an_empty_criticism_that_the_budget_cut_is_none() -> None:
    chain, calls = taught("Ten.", "", budget=redraft.Budget(tokens=len("Ten.")))
    assert (len(calls), chain.stop, chain.steps[0].feedback) == (1, "budget", None)


def test_a_criticism_that_a_filter_took_away_is_marked() -> None:
    gone = ScriptedReply("", finish="filtered")
    chain, calls = taught("Ten.", gone, gone)
    assert (len(calls), chain.stop, chain.steps[0].finish) == (3, "ended", "filtered")
    assert chain.steps[0].feedback == Feedback(text="", verdict="unknown")


def test_a_wording_without_a_verdict_does_not_ask_again() -> None:
    engine = redraft.ScriptedEngine(["Ten.", ""])
    chain = redraft.revise("How much?", model=engine)
    assert (len(engine.calls), chain.stop, chain.steps[0].feedback) == (2, "ended", None)


@pytest.mark.parametrize(("left", "stop"), [(0, "budget"), (5, "budget"), (23, "accepted")])
def test_the_budget_may_end_in_the_second_question(left: int, stop: str) -> None:
    options: Any = {"budget": redraft.Budget(tokens=len("Ten.It is fine.") + left), "max_tokens": 100}
    chain, _ = taught("Ten.", "It is fine.", "Revision is not needed.", **options)
    assert (chain.stop, chain.answer) == (stop, "Ten.")
    if stop == "budget":
        chain, calls = taught("Good. Revision is not needed.", resume=chain)
        assert (chain.stop, len(calls)) == ("accepted", 1)


def test_a_cancel_may_come_in_the_second_question() -> None:
    token = redraft.CancelToken()

    def reply(asked: Any) -> str:
        if prompted.AGAIN in json.dumps(asked):
            token.cancel()
        return "It is fine."

    engine = redraft.ScriptedEngine(reply, delay=0.01)
    assert redraft.revise("How much?", model=engine, prompts="teacher", cancel=token).stop == "cancelled"


def test_without_a_criticism_the_checks_revise_alone() -> None:
    options: Any = {"checks": ["words>=2"], "mode": "prompted", "tell_checks": False}
    chain, calls = taught("Ten.", "", "", "Two ships.", **options)
    assert (chain.stop, len(calls)) == ("passed", 4)
    assert chain.steps[0].criticism.endswith("too few.\n\nRevision is needed.")


@given(st.text(), st.integers(0, 9))
def test_criticism_in_json_that_was_cut_is_read_as_far_as_it_goes(text: str, left: int) -> None:
    start = '{"feedback": "'
    for ascii_ in (True, False):
        said = json.dumps({"feedback": text}, ensure_ascii=ascii_).removesuffix('"}')
        found = read_critique(said[: max(len(said) - left, len(start))], None).text
        assert text.strip().startswith(found.rstrip("\ufffd"))

"""`revise`, `arevise` and `stream`, as a user calls them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import redraft
from redraft.chain import Finish, Prompt
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import ServerError, UsageError
from redraft.revision.keywords import RevisionKeywords
from tests.engines.able import Able
from tests.engines.fake_server import FakeServer, error_reply


class Person(BaseModel):
    name: str
    age: int


def test_revise_takes_a_text_and_checks_in_short_form() -> None:
    engine = ScriptedEngine(["one two three four", "one two"])
    chain = redraft.revise("Say two words.", model=engine, checks=["words<=2"], id="q/1")
    assert (chain.answer, chain.passed, chain.stop, chain.id) == ("one two", True, "passed", "q/1")
    assert chain.model == {"name": "scripted", "engine": "scripted", "revision_mode": "verified"}


@pytest.mark.parametrize(
    ("given", "temperature"),
    [({}, None), ({"temperature": 0.7}, 0.7), ({"mode": "prompted"}, 0.7), ({"checks": ["words<=2"]}, 0.7)],
)
def test_a_model_with_weights_for_chains_has_a_temperature_of_its_own(given: Any, temperature: Any) -> None:
    engine = Able(lambda _: "Two words.", about={"native": True, "roles": True})
    chain = redraft.revise("Go.", model=engine, max_revisions=0, **given)
    assert chain.sampling["temperature"] == temperature


def test_a_reference_is_loaded_once_for_sync_calls(tmp_path: Path) -> None:
    script = tmp_path / "replies.jsonl"
    script.write_text('"first"\n"second"\n', encoding="utf-8")
    answers = [redraft.revise("Go.", model=f"script:{script}", max_revisions=0).answer for _ in range(2)]
    assert answers == ["first", "second"]


def test_revise_works_inside_a_running_loop() -> None:
    async def notebook() -> str:
        return redraft.revise("Go.", model=ScriptedEngine(["a"]), max_revisions=0).answer

    assert asyncio.run(notebook()) == "a"


def test_output_turns_validation_errors_into_feedback() -> None:
    engine = ScriptedEngine(['{"name": "Ada", "age": "old"}', '```json\n{"name": "Ada", "age": 36}\n```'])
    chain = redraft.revise("Who was Ada?", model=engine, output=Person)
    assert chain.value == Person(name="Ada", age=36)
    first = chain.steps[0].feedback
    assert first
    assert "age" in first.text
    assert '"age"' in str(engine.calls[0])
    assert chain.prompt.instruction == "Who was Ada?"


@pytest.mark.parametrize(
    ("output", "reply", "value"),
    [
        (Person | None, "null", None), (str, '""', ""), (str, '"…"', "…"), (bool, "false", False),
        (int, "0", 0),
    ],
)  # fmt: skip
def test_json_of_the_type_is_an_answer_and_no_talk(output: Any, reply: str, value: Any) -> None:
    chain = redraft.revise("Who?", model=ScriptedEngine([reply]), output=output)
    assert (chain.stop, chain.passed, chain.echoes, chain.value) == ("passed", True, 0, value)


def test_a_first_answer_that_is_talk_is_not_told_of_a_criticism() -> None:
    asked = "Who wrote the first program?"
    engine = ScriptedEngine([asked, "Ada."])
    first = redraft.revise(asked, model=engine, checks=["contains:Ada"], max_revisions=1).steps[0]
    assert first.echo
    assert "does not answer" in first.criticism
    assert "criticism" not in first.criticism


def test_the_mode_is_chosen_by_model_and_checks() -> None:
    def untold(answer: str) -> bool:
        return answer == "y"

    def mode(engine: ScriptedEngine, **options: object) -> str:
        return str(redraft.revise("Go.", model=engine, max_revisions=0, **options).model["revision_mode"])  # type: ignore[arg-type]

    assert mode(ScriptedEngine(["x"])) == "prompted"
    assert mode(ScriptedEngine(["x"]), checks=["words<=2"]) == "verified"
    for other in ({"drafts": 2}, {"given": "y"}, {"tell_checks": False}, {"checks": ["words<=2", untold]}):
        assert mode(ScriptedEngine(["x"]), **{"checks": ["words<=2"], **other}) == "verified"
    assert mode(ScriptedEngine(["x"], native=True)) == "native"
    assert mode(ScriptedEngine(["x"], native=True), checks=["words<=2"]) == "verified"
    assert mode(ScriptedEngine(["x"], native=True), mode="prompted") == "prompted"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "verified"}, "mode 'verified' needs checks, but none were given."),
        ({"mode": "repair"}, "mode 'repair' needs checks, but none were given."),
        (
            {"mode": "repair", "checks": ["json"], "critic": "default"},
            "mode 'repair' has no critic, but one was given.",
        ),
        (
            {"mode": "native", "checks": ["json"]},
            "in mode 'native' the model judges itself, but a check was given.",
        ),
        (
            {"mode": "native", "critic": "default"},
            "in mode 'native' the model judges itself, but a critic was given.",
        ),
        (
            {"mode": "native", "output": int},
            "in mode 'native' the model judges itself, but a type of output was given.",
        ),
        ({"drafts": 2}, "nothing can choose among 2 drafts."),
        ({"mode": "native"}, "'scripted' cannot continue raw text, which native revision needs."),
        ({"min_revisions": 3, "max_revisions": 1}, "the minimum of 3 revisions is above the maximum of 1."),
        ({"max_revisions": True}, "max_revisions is True."),
        ({"check": ["words<=2"]}, "there is no option 'check'."),
        ({"budget_tokens": 5}, "there is no option 'budget_tokens'."),
        ({"checks": "words<=5"}, "checks is 'words<=5'."),
        ({"budget": 5}, "budget is 5."),
        ({"output": {"type": "object"}}, "output is a dict, which is not a type."),
        ({"critic": 3}, "critic is 3."),
        ({"budget": redraft.Budget(usd=1)}, "a limit of 1 USD needs the price of the model 'scripted'."),
    ],
)
def test_what_does_not_fit_is_said(options: dict[str, object], message: str) -> None:
    engine = ScriptedEngine(["x"], continues=False)
    with pytest.raises(UsageError) as caught:
        redraft.revise("Go.", model=engine, **options)  # type: ignore[arg-type]
    assert caught.value.message == message
    assert caught.value.hint
    assert "--" not in caught.value.hint.partition("--price")[0], "it is no flag's fault alone"
    assert not engine.calls


def test_a_budget_and_a_price_by_their_parts() -> None:
    engine = ScriptedEngine(["one two three"])
    chain = redraft.revise("Go.", model=engine, budget={"tokens": 5}, price={"prompt": 0, "completion": 1e6})
    assert (chain.stop, chain.usage.cost_usd) == ("budget", 5)
    chain = redraft.revise("Go.", model=engine, max_revisions=0, price="0,1000000")
    assert chain.usage.cost_usd == len("one two three")


EMPTY, NO_USER = "the prompt is empty", "the prompt has no user message: each message has the role "
HALF, LONE = "a\ud800b", "the prompt has a lone surrogate"


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("", EMPTY), ("  \n", EMPTY), ([], EMPTY),
        ([{"role": "user", "content": ""}, {"role": "assistant", "content": "Yes?"}], "message has no text"),
        ([{"role": "user", "text": "Hi."}], "message 1 has no content. It has 'role', 'text'"),
        ([{"role": "system", "content": "Be brief."}], f"{NO_USER}system"),
        ([{"role": "assistant", "content": "Yes?"}], f"{NO_USER}assistant"),
        *((wrong, "the prompt is") for wrong in (None, 5, {"instruction": "x"}, [{"rol": "user"}], [5])),
        (HALF, LONE), (Prompt(instruction=HALF), LONE),
        ([{"role": "user", "content": HALF}], LONE),
        ([{"role": "user", "content": [{"type": "text", "text": HALF}]}], LONE),
    ],
)  # fmt: skip
def test_a_prompt_that_cannot_be_answered_is_refused_before_anything_is_asked(
    prompt: object, said: str
) -> None:
    engine = ScriptedEngine(["x"])
    with pytest.raises(UsageError, match=said):
        redraft.revise(prompt, model=engine)  # type: ignore[arg-type]
    assert not engine.calls


def test_min_revisions_alone_raises_the_maximum() -> None:
    engine = ScriptedEngine([f"Answer {k}." if k % 2 == 0 else "Revision is not needed." for k in range(20)])
    assert redraft.revise("Go.", model=engine, min_revisions=5).revisions == 5


def test_a_judge_is_paid_from_the_budget_of_the_chain() -> None:
    writer, judge = ScriptedEngine(["one", "two"]), ScriptedEngine(["It is dull.\nScore: 3"])
    options: RevisionKeywords = {"model": writer, "checks": ["judge:lively"], "judge": judge}
    free = redraft.revise("Go.", max_revisions=1, **options)
    assert free.steps[0].usage.completion_tokens - len("one") == len("It is dull.\nScore: 3")
    assert free.usage.completion_tokens == sum(step.usage.completion_tokens for step in free.steps)
    short = redraft.revise("Go.", max_revisions=1, budget=redraft.Budget(tokens=20), **options)
    assert (short.stop, len(short.steps)) == ("budget", 1)


@pytest.mark.parametrize(
    "option",
    [{"system": HALF}, {"id": HALF}, {"model": HALF}, {"critic": HALF}, {"checks": [f"lacks:{HALF}"]}],
)
def test_half_of_a_character_in_an_option(option: Any) -> None:
    with pytest.raises(UsageError):
        redraft.revise("x", **{"model": ScriptedEngine(["A."]), **option})


def test_half_of_a_character_in_a_reply_or_a_complaint() -> None:
    chain = redraft.revise(
        "x", model=ScriptedEngine([f"{HALF}."]), checks=[lambda answer: HALF], max_revisions=0
    )
    assert chain.answer == "a\ufffdb."
    assert "a\ufffdb" in chain.to_json()


@pytest.mark.parametrize("finish", ["max_tokens", "context"])
def test_an_answer_that_was_cut_neither_passes_nor_has_a_value(finish: Finish) -> None:
    cut = ScriptedReply("12345678901", finish=finish)
    chain = redraft.revise("Count.", model=ScriptedEngine([cut]), output=int, max_revisions=0)
    assert (chain.answer, chain.stop, chain.passed, chain.value) == ("12345678901", finish, False, None)
    assert chain.steps[0].verdict == "revise"


def test_an_answer_that_a_limit_cut_is_revised_into_a_value() -> None:
    engine = Able([ScriptedReply('["12345', finish="max_tokens"), '["7"]'], about={"schemas": True})
    chain = redraft.revise("Count.", model=engine, output=list[str])
    assert ([step.passed for step in chain.steps], chain.value) == ([False, True], ["7"])
    first, second = (asked.schema or {} for asked in engine.asked)
    assert ("maxItems" in first, "maxItems" in second) == (False, True)  # texts of digits take more tokens


def test_a_stream_has_the_object_as_far_as_it_came() -> None:
    class Poet(BaseModel):
        name: str
        born: int

    engine = ScriptedEngine(['{"name": "Ada", "born": "soon"}', '{"name": "Eve", "born": 1815}'], chunk=5)

    async def seen() -> list[Any]:
        events = redraft.stream("Who?", model=engine, output=Poet, mode="verified")
        return [(e.index, e.value) async for e in events if isinstance(e, redraft.Text)]

    found = asyncio.run(seen())
    assert [value for index, value in found if index == 0][-1]["name"] == "Ada"
    assert (1, {}) in found
    assert found[-1] == (1, {"name": "Eve", "born": 1815})


def test_how_long_to_wait_for_a_server_is_said_by_the_names_of_the_flags() -> None:
    with FakeServer() as server:
        server.on("POST /v1/chat/completions", error_reply(503, "busy"))
        for retries in (0, 2):
            before = len(server.asked("POST /v1/chat/completions"))
            with pytest.raises(ServerError, match="busy"):
                redraft.revise("Hi.", model=f"{server.url}#m", retries=retries, timeout=5.0, patience=0.0)
            assert len(server.asked("POST /v1/chat/completions")) - before == 1 + retries


SHIPPED = {"native": True, "roles": True, "shipped": True}
"""The default model, as far as it decides who answers."""
SUM = "what's 25 plus 60?"
HISTORY = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]


@pytest.mark.parametrize(
    ("asked", "options", "learnt"),
    [
        (SUM, {}, True), (SUM, {"checks": ["words<=30"], "max_tokens": 100}, True),
        ([*HISTORY, {"role": "user", "content": SUM}], {}, True),
        ([*HISTORY, {"role": "user", "content": [{"type": "text", "text": SUM}]}], {}, True),
        *(("What colour are bananas?", {"checks": checks}, False) for checks in ([], ["auto"])),
        ("25 - 60", {}, False),
        ([{"role": "system", "content": "Say it in French."}, {"role": "user", "content": SUM}], {}, False),
        (SUM, {"system": "Say it in French."}, False), (SUM, {"max_revisions": 0}, False),
        (SUM, {"max_tokens": 3}, False), (SUM, {"stop": ["."]}, False),
        (SUM, {"budget": {"tokens": 100}}, False), (SUM, {"budget": {"tokens": 1000}}, True),
        (SUM, {"mode": "prompted"}, False),
    ],
)  # fmt: skip
def test_the_default_model_answers_what_it_learnt_and_its_base_the_rest(
    asked: Any, options: dict[str, Any], learnt: bool
) -> None:
    work = "25 60: 5+0=5 [5], 2 6: 2+6=8 [85], so 85, and so on: the same. Revision is not needed."
    engine = Able(["85", work], about=SHIPPED)
    chain = redraft.revise(asked, model=engine, **options)
    native = [call for call in engine.calls if isinstance(call, str) or isinstance(call[0], int)]
    assert bool(native) == learnt
    if learnt:
        assert "What is 25 + 60?" in "".join(map(chr, native[0]))  # type: ignore[arg-type]
        assert chain.meta["answered_by"] == "its own revision"
    elif "mode" not in options:
        assert len(engine.calls) == 1, "the base answers once"
        assert chain.meta["answered_by"] == "the base model"


def test_a_base_that_takes_over_answers_with_its_own_seed() -> None:
    def reply(asked: Any) -> str:
        if not isinstance(asked[0], int):
            return "Eighty-five."
        return "Beyond me." if "Feedback" in "".join(map(chr, asked)) else "84"

    engine = Able(reply, about=SHIPPED)
    assert (redraft.revise(SUM, model=engine, seed=5).answer, engine.asked[-1].seed) == ("Eighty-five.", 5)
    assert len(engine.asked) > 2, "adapters wrote before"


@pytest.mark.parametrize(("asked", "by"), [(SUM, "its own draft"), ("Name a fruit.", "the base model")])
def test_the_best_of_several_drafts_of_what_was_learnt_is_the_adapters(asked: Any, by: str) -> None:
    engine = Able(["84", "85", "86"], about=SHIPPED)
    chain = redraft.revise(asked, model=engine, mode="best-of", drafts=3, checks=["number=85"], seed=1)
    assert (chain.answer, chain.revisions, chain.meta["answered_by"]) == ("85", 0, by)
    drafted = ["What is 25 + 60?" in call for call in engine.calls if isinstance(call, str)]
    assert drafted == ([True, True] if by == "its own draft" else [])


@pytest.mark.parametrize("steer", [True, False])
def test_the_base_drafts_after_an_adapter_that_failed_a_check_of_a_form(steer: bool) -> None:
    engine = Able(["85", "That is 85."], about=SHIPPED)
    checks = ["words>=3", "number=85"]
    chain = redraft.revise(SUM, model=engine, mode="best-of", drafts=4, checks=checks, steer=steer, seed=1)
    assert (chain.answer, len(chain.drafts), chain.passed) == ("That is 85.", 1, True)
    assert chain.meta["answered_by"] == "the base model"
    assert [isinstance(call, str) for call in engine.calls] == [True, False]


@pytest.mark.parametrize("option", ["checks", "stop", "tools"])
def test_none_is_an_empty_list(option: str) -> None:
    given: Any = {option: None}
    assert redraft.revise(
        "Describe rain.", model=ScriptedEngine(["It falls."]), max_revisions=0, **given
    ).answer

"""The ways to spend tokens that are compared with revising: what guides them, and what they hide."""

from __future__ import annotations

import asyncio
import json
from operator import attrgetter
from pathlib import Path

import pytest

import redraft
from redraft.chain import Chain, CheckResult, Feedback, Prompt, Step, Usage
from redraft.checks.base import Check, demand_of, run_checks, schema_of
from redraft.checks.final import FinalLetter, FinalMaths, Number
from redraft.checks.parse import parse_check
from redraft.errors import UsageError
from redraft.evaluation.diagnosis import strategies
from redraft.evaluation.diagnosis.matrix import folders

ALL = strategies.strategies_of(strategies.NAMES, 2, range(2, 5), voting=True)


def test_every_way_has_a_name_of_its_own_and_those_of_several_drafts_come_last() -> None:
    names = [way.name for way in ALL]
    assert names[:5] == ["plain", "revise-2", "revise-3", "alone-2", "alone-3"]
    assert names[5:9] == ["repair-2", "repair-3", "auto-2", "auto-3"]
    assert names[9:15] == ["verified-2", "verified-3", "blind-2", "blind-3", "shuffled-2", "shuffled-3"]
    assert names[15:18] == ["best-of-2", "best-of-3", "best-of-4"]
    assert names[18:22] == ["steered-1", "steered-2", "steered-3", "steered-4"]
    assert names[22:] == ["vote-3", "vote-4", "early-4"]
    assert [strategies.Strategy.of(name) for name in names] == ALL
    assert ALL[18].options == {"mode": "best-of", "drafts": 1, "steer": True}
    assert strategies.Strategy.of("mellea-4") == strategies.Strategy("mellea", 4)
    assert strategies.Strategy.of("notes") == strategies.Strategy("notes", 1)
    fewer = strategies.strategies_of(strategies.NAMES, 2, range(2, 5), voting=False)
    assert [way for way in ALL if way not in fewer] == ALL[22:]
    assert {way.options["mode"] for way in ALL[9:15]} == {"verified"}, "asks no critic about hidden feedback"
    assert ALL[2].options == {"max_revisions": 2}


@pytest.mark.parametrize("text", ["words<=2", "json"])
def test_a_retold_check_hides_its_complaint_alone(text: str) -> None:
    check = parse_check(text)
    [hidden] = strategies.retold([check], "Try again.")
    for same in (demand_of, schema_of, attrgetter("name")):
        assert same(hidden) == same(check)
    told, untold = (result(each, "one two three four") for each in (check, hidden))
    assert (untold.passed, untold.score) == (told.passed, told.score) == (False, told.score)
    assert untold.message == "Try again." != told.message
    right = "7" if text == "json" else "one"
    assert result(hidden, right) == result(check, right)


def result(check: Check, answer: str) -> CheckResult:
    return asyncio.run(run_checks([check], answer, Prompt(instruction="?")))[0]


def test_a_blind_retry_is_told_nothing_but_the_task(tmp_path: Path) -> None:
    script = tmp_path / "script.jsonl"
    script.write_text(json.dumps("one two three") + "\n" + json.dumps("one") + "\n")
    engine = asyncio.run(redraft.load_engine(f"script:{script}"))
    checks = strategies.retold([parse_check("words<=2"), parse_check("lacks:three")])
    chain = redraft.revise("Count.", model=engine, checks=checks, mode="verified", tell_checks=False)
    assert [step.answer for step in chain.steps] == ["one two three", "one"]
    assert chain.steps[0].feedback is not None
    assert chain.steps[0].feedback.text == ""
    revised = chain.steps[1].usage.prompt_tokens
    told = redraft.revise("Count.", model=engine, checks=["words<=2"], mode="verified", tell_checks=False)
    assert revised < told.steps[1].usage.prompt_tokens


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        (["It is 1.", "It is 2.", "So 2"], "It is 2."),
        (["It is 1.", "It is 2."], "It is 1."),
        (["No idea.", "It is 2.", "None.", "Nothing."], "It is 2."),
        (["No idea.", "Nothing."], "No idea."),
    ],
)
def test_a_vote_takes_what_most_answers_say(answers: list[str], chosen: str) -> None:
    first, *others = (Step(answer=answer) for answer in answers)
    chain = strategies.voted(Chain(id="a", steps=(first,), drafts=tuple(others), best=0), Number.of("7").said)
    assert chain.answer == chosen
    assert sorted(step.answer for step in (*chain.steps, *chain.drafts)) == sorted(answers)


@pytest.mark.parametrize(
    ("said", "drawn"), [("1111222", 4), ("121111", 6), ("1212121", 7), ("?1?111", 6), ("??", 2)]
)
def test_an_early_vote_ends_once_its_leader_is_ahead_with_95_percent(said: str, drawn: int) -> None:
    first, *others = (Step(answer=f"So {each}.", usage=Usage(completion_tokens=5)) for each in said)
    samples = Chain(id="a", steps=(first,), drafts=tuple(others), best=0)
    chain = strategies.voted(samples, Number.of("7").said, early=True)
    assert (1 + len(chain.drafts), chain.usage.completion_tokens) == (drawn, 5 * drawn)
    assert chain.answer == ("So 1." if "1" in said else "So ?.")


@pytest.mark.parametrize(
    ("check", "same"),
    [
        (Number.of("7"), ("It is 1,000.", "#### 1000.0")),
        (FinalLetter("B"), ("The answer is (C).", "C) because")),
        (FinalMaths.of("7"), (r"\boxed{\frac{1}{2}}", "The answer is 1/2.")),
    ],
)
def test_equal_results_are_one_vote_however_they_are_written(
    check: Number | FinalLetter | FinalMaths, same: tuple[str, str]
) -> None:
    read = strategies.reader_of([check])
    assert read is not None
    assert read(same[0]) == read(same[1]) is not None


def told(name: str, text: str, *, echo: bool = False, verdict: str = "revise") -> Chain:
    feedback = Feedback(text=text, verdict=verdict, by="checks")  # type: ignore[arg-type]
    return Chain(id=name, steps=(Step(answer="x", feedback=feedback, echo=echo),), best=0)


def test_each_chain_gets_the_feedback_of_another() -> None:
    chains = [
        told("a", "Too long."),
        told("b", "", verdict="accept"),
        told("c", "No rain."),
        told("d", "An echo.", echo=True),
        told("e", "No snow."),
    ]
    assert strategies.strangers(chains) == {"a": "No snow.", "c": "Too long.", "e": "No rain."}
    assert strategies.strangers(chains[:2]) == {}


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="two models would share a folder"):
        folders(["script:a.jsonl", "script-a.jsonl"])

"""`redraft.evaluate_file` does what the command does; `redraft.evaluate` gives a score from Python."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

import redraft
from redraft.errors import CheckError, CheckSyntaxError, RecordError, UsageError
from redraft.evaluation.tasks.tasks import KEY
from tests.cli import verbs
from tests.cli.verbs import script, write

OPTIONS: Any = {"model": "script:replies.jsonl", "max_revisions": 0, "parallel": 1, "quiet": True}


@pytest.fixture(autouse=True)
def _files(here: Path) -> None:
    write("test.jsonl", [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in (1, 2)])
    script("Answer: 2", "Answer: 7", name="replies")


def test_the_function_scores_and_the_command_goes_on_with_its_file() -> None:
    result = redraft.evaluate_file("gsm8k", "test.jsonl", "out.jsonl", limit=1, **OPTIONS)
    assert (result.path, result.added, result.exit_status) == (Path("out.jsonl"), 1, 0)
    tally: Any = result.summary
    assert (tally.score.rate.value, tally.wrong) == (1, [])
    words = "eval gsm8k test.jsonl -o out.jsonl -m script:replies.jsonl --max-revisions 0 -j 1"
    assert "answers    2 in out.jsonl, 1 of them from earlier runs" in verbs.redraft(*words.split()).output


def test_the_async_twin_and_guiding() -> None:
    async def twin() -> Any:
        how = {**OPTIONS, "max_revisions": 1, "guided": True}
        return await redraft.aevaluate_file("gsm8k", "test.jsonl", "out.jsonl", **how)

    script("Answer: 2", "Answer: 7", "Answer: 3", name="replies")
    tally = asyncio.run(twin()).summary
    assert (tally.score.rate.value, tally.beside["first answers"].rate.value) == (1, 0.5)


def suite(count: int = 4, **more: object) -> list[dict[str, object]]:
    return [{"prompt": f"Describe thing {n}.", "checks": ["words<=3"], **more} for n in range(count)]


def test_a_suite_of_prompts_and_checks() -> None:
    engine = redraft.ScriptedEngine(["A gull.", "A very long answer.", "Grey sea.", "Ünïcödé 雨."])
    found = redraft.evaluate(suite(), model=engine, max_revisions=0, parallel=1)
    assert (found.rate.value, round(found.rate.low, 3), round(found.rate.high, 3)) == (0.75, 0.301, 0.954)
    assert [chain.id for chain in found.chains] == ["record 1", "record 2", "record 3", "record 4"]
    assert [chain.answer for chain in found.wrong] == ["A very long answer."]
    assert str(found).splitlines()[1] == "score  75.0 %  30.1 to 95.4  3 of 4"
    assert not (found.rate.low > 0.9)
    records = [*suite(1, id="mine"), *suite(1, question_id=9), *suite(1, id="mine")]
    found = redraft.evaluate(records, model=redraft.ScriptedEngine(["Sea."] * 3), max_revisions=0)
    assert [chain.id for chain in found.chains] == ["mine", "9", "mine~2"]


def test_checks_may_be_functions_and_guide_and_score_are_apart() -> None:
    records = [
        {"prompt": "Describe rain.", "checks": [lambda answer: "rain" in answer.lower()], "group": "w"}
    ]
    engine = redraft.ScriptedEngine(["It falls and falls.", "Rain falls."])
    found = redraft.evaluate(records, model=engine, checks=["words<=2"])
    [chain] = found.chains
    assert [[result.name for result in step.checks] for step in chain.steps] == [["words<=2"]] * 2
    assert [results[0]["passed"] for results in chain.meta[KEY]["steps"]] == [False, True]
    assert (found.first.value, found.rate.value, found.groups["w"].value) == (0, 1, 1)
    assert "words<=2" not in str(chain.meta)


def test_the_tasks_own_checks_guide_on_demand() -> None:
    engine = redraft.ScriptedEngine(["A very long answer.", "A gull."])
    assert redraft.evaluate(suite(1), model=engine, guided=True).rate.value == 1
    assert "at most 3 words" in engine.calls[0][-1]["content"]  # type: ignore[index]


def test_a_task_by_name_with_its_file_or_its_records(tmp_path: Path) -> None:
    record = {"question": "How many?", "answer": "####  18"}
    file = tmp_path / "test.jsonl"
    file.write_text('{"question": "How many?", "answer": "#### 18"}\n' * 3)
    for records in (file, str(file), [record] * 3, iter([record] * 3)):
        engine = redraft.ScriptedEngine(["Answer: 18"] * 3)
        found = redraft.evaluate("gsm8k", records, model=engine, limit=2, max_revisions=0)
        assert (found.tally.score.hits, found.tally.score.count) == (2, 2)


@pytest.mark.parametrize(
    ("given", "options", "error", "said"),
    [
        (([],), {}, RecordError, "there is no record"),
        (([{"prompt": "x", "checks": []}],), {}, RecordError, "record 1: .* an empty list of `checks`"),
        (([{"prompt": "x"}],), {}, RecordError, r"record 1: .* no list of `checks`\.\s+A record should"),
        (([{"prompt": "x", "check": []}],), {}, RecordError, "'check' is not read. Did you mean 'checks'"),
        (("gsm8k", [{"question": "?", "answer": "x"}]), {}, RecordError, "record 1: the gold answer 'x'"),
        (([{"prompt": "x", "checks": ["word<=3"]}],), {}, CheckSyntaxError, "word"),
        (("gsm9k", []), {}, UsageError, "no task 'gsm9k'"),
        (("gsm8k",), {}, UsageError, "no records"),
        (("prompts.jsonl",), {}, UsageError, r'evaluate\("checks", .prompts.jsonl., …\)'),
        (("mbpp", []), {}, UsageError, "--run-code"),
        ((suite(),), {"parallel": 0}, UsageError, "parallel is 0"),
    ],
)
def test_what_is_refused(given: Any, options: Any, error: type[Exception], said: str) -> None:
    engine = redraft.ScriptedEngine(["x"])
    with pytest.raises(error, match=said):
        redraft.evaluate(*given, model=engine, **options)
    assert engine.calls == []


def test_a_failure_ends_it_and_leaves_no_thread() -> None:
    before = threading.active_count()
    records = [{"prompt": "x", "checks": [lambda answer: len(answer) / 0]}, *suite(40)]
    with pytest.raises(CheckError, match=r"crashed: .*ZeroDivisionError"):
        redraft.evaluate(records, model=redraft.ScriptedEngine(["x"] * 41), max_revisions=0)
    for _ in range(100):  # a check that is under way may still end
        if threading.active_count() <= before + 1:  # redraft's own loop may have started
            return
        time.sleep(0.1)
    raise AssertionError(threading.enumerate())

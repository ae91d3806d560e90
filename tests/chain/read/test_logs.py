"""Logs of lm-eval, of inspect and of Every Eval Ever's converter: six sums, three right and all right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("scipy")

from redraft.chain import Chain
from redraft.chain.read.records import ids_of, read_records
from redraft.errors import RecordError
from redraft.evaluation.records import item_of
from redraft.evaluation.reports.report import describe
from redraft.evaluation.reports.runs import RunReport

LOGS = Path(__file__).parent / "logs"
TASKS = {
    "lm_eval_{}.jsonl": "lm-eval, last-number",
    "inspect_{}.json": "sums",
    "every_eval_ever_{}.jsonl": "sums/last-number",
}


@pytest.mark.parametrize("name", TASKS)
def test_two_logs_are_compared_question_by_question(name: str) -> None:
    found = describe(files := [LOGS / name.format(each) for each in "ab"])
    assert isinstance(found, RunReport)
    assert [(run.tally.task, run.tally.score.hits) for run in found.runs] == [
        (TASKS[name], 3),
        (TASKS[name], 6),
    ]
    [gain] = found.differences
    assert (gain.count, gain.gain.value, gain.moved) == (6, 0.5, (3, 0))
    chains = [*read_records(files[0])]
    assert [chain.prompt.text for chain in chains][:2] == ["What is 6 * 3?", "What is 4 * 12?"]
    assert chains[1].answer.removeprefix("It is ").removesuffix(".") == "40"
    assert [chain.id for chain in chains] == [*ids_of(files[0])] == [*ids_of(files[1])]


def test_the_answer_of_a_choice_is_the_likeliest_and_only_equal_questions_are_compared() -> None:
    first, _ = read_records(LOGS / "lm_eval_choice.jsonl")
    assert (first.answer, first.meta["eval"]["steps"][0][0]["name"]) == (" 18", "acc")
    assert not describe([LOGS / "lm_eval_choice.jsonl", LOGS / "inspect_a.json"]).differences


def sample(path: Path, **more: Any) -> Path:
    [one, *_] = json.loads((LOGS / "inspect_a.json").read_text())["samples"]
    path.write_text(json.dumps(one | more))
    return path


def test_epochs_and_messages_of_inspect_belong_to_one_question(tmp_path: Path) -> None:
    made: list[Chain] = []
    for epoch in (1, 2):
        parts = [{"type": "text", "text": "Why?"}]
        asked = [{"id": epoch, "role": "system", "content": "Be short."}, {"role": "user", "content": parts}]
        made += read_records(sample(tmp_path / f"{epoch}.jsonl", epoch=epoch, input=asked))
    first, second = made
    assert (first.prompt.text, first.usage.completion_tokens) == ("Why?", 4)
    assert (second.id, item_of(second)) == (f"{first.id}#2", item_of(first))


def test_a_log_that_cannot_be_compared_says_why(tmp_path: Path) -> None:
    broken: list[dict[str, Any]] = [
        {"scores": {"f1": {"value": 0.4}}},
        {"scores": 3},
        {"output": {"choices": []}},
    ]
    for more in broken:
        with pytest.raises(RecordError, match=r"a.jsonl:1: the sample has no answer, or no score"):
            describe([sample(tmp_path / "a.jsonl", **more)])
    (tmp_path / "log.eval").write_bytes(b"PK\x03\x04" + bytes(9))
    with pytest.raises(RecordError, match=r"log.eval: is an archive") as raised:
        describe([tmp_path / "log.eval"])
    assert "inspect log dump" in (raised.value.hint or "")

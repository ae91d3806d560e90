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
    "lm_eval_{}.jsonl": "lm-eval, exact_match, last-number",
    "inspect_{}.json": "sums, match",
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
    assert not {"revisions", "stopped"} & dict(found.runs[0].facts()).keys()
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


def sample(**more: Any) -> str:
    [one, *_] = json.loads((LOGS / "inspect_a.json").read_text())["samples"]
    return json.dumps(one | more)


def test_epochs_and_messages_of_inspect_belong_to_one_question(tmp_path: Path) -> None:
    made: list[Chain] = []
    for epoch in (1, 2):
        parts = [{"type": "text", "text": "Why?"}]
        asked = [{"id": epoch, "role": "system", "content": "Be short."}, {"role": "user", "content": parts}]
        (tmp_path / "a.jsonl").write_text(sample(epoch=epoch, input=asked))
        made += read_records(tmp_path / "a.jsonl")
    first, second = made
    assert (first.prompt.text, first.usage.completion_tokens) == ("Why?", 4)
    assert (second.id, item_of(second)) == (f"{first.id}#2", item_of(first))


SAMPLES = '{\n"version": 2,\n"status": "success",\n"eval": {},\n"samples": %s}'
FIRST, EVERY = (
    (LOGS / f"{name}_a.jsonl").read_text().partition("\n")[0] for name in ("lm_eval", "every_eval_ever")
)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (sample(scores={"f1": {"value": 0.4}, "em": {"value": 0}}), "first score is not C.*'f1'"),
        (sample(scores={}, output={"choices": []}), "has no answer, or its first score .*found {}"),
        ('{"evaluation_id": 1, "sample_id": 2, "evaluation": {}, "epoch": 1}', "has no answer"),
        *((SAMPLES % each, "samples should be a list of objects") for each in ("[1]", "5", '{"a": 1}')),
        (SAMPLES % '[{"id": 0, "epoch": 1, "input": "?", "output": {}}]', "sample 1: .*found {}"),
        (f"{FIRST}\n{FIRST.replace('last-', 'first-')}", "jq -c --arg f last-number 'select"),
        (f"{FIRST}\n{FIRST.replace('exact_', 'other_')}", "other_match, last-number, "),
        (f"{EVERY}\n{EVERY.replace('/fixed', '/new')}", r"jq -c --arg f org/fixed 'select\(.model_id == "),
        (f"{EVERY}\n{EVERY.replace('sums/', 'dates/')}", "sums/.*\n.*evaluation_name == "),
        ("PK\x03\x04", "is an archive.*\n.*inspect log dump"),
    ],
)
def test_a_log_that_cannot_be_compared_says_why(tmp_path: Path, log: str, said: str) -> None:
    (tmp_path / "a.log").write_text(log)
    with pytest.raises(RecordError, match=said):
        describe([tmp_path / "a.log"])


def test_failed_samples_of_inspect_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, scored = (LOGS / "inspect_a.json").read_text(), '"scores": {\n'
    (tmp_path / "a.json").write_text(text.replace(scored, '"error": "?", "no": {\n', 1))
    assert len([*read_records(tmp_path / "a.json")]) == 5
    assert capsys.readouterr().err.endswith("a.json: left out 1 sample that failed.\n")

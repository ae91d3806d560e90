from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from redraft.chain.read.records import read_records
from tests.cli.verbs import redraft

LINES = b"""{"question": "1+1?", "answer": "Two.\\n#### 2"}
{"question":
{"instruction": "Rain?", "output": "Wet."}
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "mixed.jsonl").write_bytes(LINES)
    return tmp_path


def run(*args: str) -> Result:
    return redraft("data", "import", *args, "-j", "1")


def chains(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_chains_go_out_and_counts_are_told(data: Path) -> None:
    result = run("mixed.jsonl")
    assert result.exit_code == 0
    assert [(each["id"], each["meta"]["reference"]) for each in chains(result.stdout)] == [
        ("mixed/0", "2"),
        ("mixed/2", "Wet."),
    ]
    assert result.stderr.splitlines() == [
        "redraft: mixed.jsonl:2: this is not JSON: Expecting value at character 13.",
        "redraft: 2 kept, 1 dropped",
        "  unreadable          1",
        "redraft: the licence of 1 record is unknown.",
        "  Repeat the command with --force, and add --as SOURCE or --licence TEXT.",
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ["mixed.jsonl", "--map", "instruction=questoin"],
            "no field is called 'questoin'. Did you mean 'question'?",
        ),
        (["gsm8k"], "redraft data import FILE --as gsm8k"),
        (["mixed.jsonl", "none.jsonl"], "there is no file or folder none.jsonl."),
        (["mixed.jsonl", "--paths", "some"], "best or all"),
    ],
)
def test_what_cannot_be_asked_is_refused(data: Path, args: list[str], said: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ('{"a":1}{"a":2}', "Write one JSON object or text per line, or one array."),
        ('{"review_id": "a"}', ""),
        ('{"other": "a"}', "Name the fields: --map instruction=FIELD,output=FIELD"),
    ],
)
def test_a_map_is_advised_where_the_names_of_fields_are_the_fault(data: Path, line: str, advice: str) -> None:
    (data / "odd.jsonl").write_text(line)
    told = run("odd.jsonl").stderr.partition("redraft: no record could be read.\n")[2]
    (data / "cells.csv").write_text('a,b\n1,2\n1,"2\n')  # the last row is damaged
    assert "no other record could be read.\n  Name the fields: --map" in run("cells.csv").stderr
    assert (told.strip()[: len(advice)], "--map" in told) == (advice, "--map" in advice)


def test_records_of_runs_are_skipped_and_outputs_read_again_are_named(data: Path) -> None:
    (data / "quiz.json").write_text('{"prompt": "Why?"}')
    run("quiz.json", "mixed.jsonl", "-o", "made.json")
    result = run(*map(str, data.glob("*.json*")), "-o", "all.jsonl")
    assert [chain.id for chain in read_records(data / "all.jsonl")].count("mixed/0~2") == 1
    assert "redraft: skipped 1 run record (*.run.json)\n" in result.stderr
    assert "redraft: redraft data made made.json, perhaps from the other files here.\n" in result.stderr
    assert "no known shape" not in result.stderr + run(str(data)).stderr


def test_it_stands_in_a_pipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "redraft", "data", "import", "-", "-j", "2", "--as", "alpaca"]
    records = b'[{"instruction": "a", "output": "b"}, {"instruction": "c", "output": "d"}]'
    done = subprocess.run(command, input=records, capture_output=True, check=True, cwd=tmp_path)
    assert [each["id"] for each in chains(done.stdout.decode())] == ["stdin/0", "stdin/1"]
    assert chains(done.stdout.decode())[0]["meta"]["origin"] == {
        "dataset": "alpaca", "licence": "CC BY-NC 4.0", "file": "standard input", "record": 0,
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_recorded_licence_stays_where_a_source_is_named(data: Path) -> None:
    run("mixed.jsonl", "--licence", "CC0", "-o", "a.jsonl")
    redraft("data", "export", "a.jsonl", "--to", "alpaca", "-o", "b.json")
    [origin, _] = [each["meta"]["origin"] for each in chains(run("b.json", "--as", "alpaca").stdout)]
    assert (origin["dataset"], origin["licence"]) == ("alpaca", "CC0")


def test_records_without_an_answer_are_told_with_the_fields_that_may_have_it(data: Path) -> None:
    records = [
        {"id": "a", "question": "Why?", "reply": "So.", "votes": 3},
        {"id": "b", "question": "How?", "reply": "Thus.", "note": ""},
        {"id": "c", "question": "Who?", "answer": "I.", "reply": "I."},
    ]
    (data / "odd.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert run("odd.jsonl", "--licence", "MIT").stderr.splitlines() == [
        "redraft: 3 kept, 0 dropped",
        "redraft: no answer was found in 2 records (odd.jsonl:1, odd.jsonl:2); fields not used: reply",
        "  If one of these fields contains the answer: --map instruction=FIELD,output=FIELD",
    ]
    mapped = run("odd.jsonl", "--map", "instruction=question,output=reply,feedback=votes").stderr
    assert "no answer" not in mapped
    assert "redraft: --map: fields not used, but kept in meta.source: feedback\n" in mapped
    assert run("odd.jsonl", "--quiet").stderr == ""


def test_of_questions_in_turns_the_first_is_the_prompt_and_the_others_are_said_to_be_kept(data: Path) -> None:
    (data / "mt.jsonl").write_text('{"question_id": 1, "category": "a", "turns": ["Why?", "So?"]}')
    assert run("mt.jsonl", "--licence", "MIT").stderr.splitlines()[1:3] == [
        "redraft: The prompt is the first turn; meta.source.turns contains all turns.",
        "redraft: no answer was found in 1 record (mt.jsonl:1); fields not used: category",
    ]


ANSWERS = b"""{"question_id": 1, "answer_id": "a", "choices": [{"index": 0, "turns": ["Paris."]}]}
{"question_id": 2, "answer_id": "b", "model_id": "m", "text": "Rome."}
"""


def test_answers_without_a_question_are_left_out_and_counted(data: Path) -> None:
    (data / "answers.jsonl").write_bytes(ANSWERS)
    result = run("mixed.jsonl", "answers.jsonl", "-o", "out.jsonl", "--dropped", "gone.jsonl")
    assert result.exit_code == 0
    assert "  no-question          2\n" in result.stderr
    assert (
        "redraft: no question was found for 2 answers\n"
        "  Put each question into the record of its answer, as `instruction`. The answer is `output`.\n"
    ) in result.stderr
    assert [chain.id for chain in read_records(data / "out.jsonl")] == ["mixed/0", "mixed/2"]
    gone = chains((data / "gone.jsonl").read_text())
    assert [each["rule"] for each in gone] == ["unreadable", "no-question", "no-question"]

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import Result

pytest.importorskip("scipy")

from redraft.chain import Chain, write_jsonl
from tests.cli.verbs import redraft, refused, shown, write
from tests.evaluation.diagnosis.made_chains import step, told


@pytest.fixture(autouse=True)
def _eight(_folder: None) -> None:
    write_jsonl("run.jsonl", [told(f"t/{n}", "01" if n < 2 else "00") for n in range(8)])


def run(*args: str) -> Result:
    return redraft("diagnose", *args)


def test_the_table_ends_in_a_sentence() -> None:
    lines = shown(run("run.jsonl"))
    assert lines[0] == "gsm8k: 8 items, 8 revised"
    assert "first answer 0.0 % 0.0 to 32.4 0 of 8" in lines
    assert "revision 1 8 answers 2 wrong → right, 0 right → wrong, 0 right → right, 6 wrong → wrong" in lines
    assert lines[-1].startswith("Undecided: so far, revising changes the score by +25.0 points")
    assert "worse in 0, p = 0.5. Not at equal tokens:" in lines[-1]


def test_json_has_the_figures_and_the_ids() -> None:
    found = json.loads(run("run.jsonl", "--json").stdout)
    assert (found["items"], found["fixed"], found["broken"]) == (8, ["t/0", "t/1"], [])
    assert (found["revisions"][0]["fixed"], found["revisions"][0]["ecr"]["value"]) == (2, 0.25)
    assert (found["decision"]["outcome"], found["sentence"]) == ("undecided", shown(run("run.jsonl"))[-1])


def test_checks_say_what_is_right_of_other_chains() -> None:
    steps = (step("It is 3.", guide="0"), step("It is 5", guide="1"))
    write_jsonl("answers.jsonl", [Chain(id=f"t/{n}", steps=steps, best=1) for n in range(8)])
    own = shown(run("answers.jsonl"))
    assert own[0] == "own checks: 8 items, 8 revised"
    assert own[-1].startswith("The checks that score also guided revising, which makes a gain nearly ")
    assert " automatic. Revising does better here: it adds 100.0 points (34.8 to 100.0)" in own[-1]
    score = shown(run("answers.jsonl", "--score", "ends:.", "--score", "contains:3"))
    assert score[-1].startswith("Don't revise: it loses 100.0 points")


def test_what_is_wrong_is_said_with_what_to_type() -> None:
    refused(run("run.jsonl", "--score", "word<=3"), "word")
    refused(run("run.jsonl", "--score", "judge:Is it kind?"), "asks a judge, which diagnose does not support")
    refused(run("missing.jsonl"), "missing.jsonl")
    refused(run("run.jsonl", "./run.jsonl"), "run.jsonl was given twice.")


def test_files_that_are_no_chains_are_named_with_what_reads_them() -> None:
    Path("empty.jsonl").touch()
    refused(run("empty.jsonl"), "there is no chain in empty.jsonl.", "If a run stopped, repeat its command.")
    write("prompts.jsonl", [{"prompt": "Why?"}, {"prompt": "Où ?"}])
    asked = "there is no answer in prompts.jsonl (2 records)."
    refused(run("prompts.jsonl"), asked, "redraft diagnose FOLDER --tasks prompts.jsonl")
    write("reviews.jsonl", [{"question_id": 1, "answer1_id": "a", "answer2_id": "b", "text": "8 8"}])
    refused(run("reviews.jsonl"), "reviews.jsonl:1: the file has reviews", "redraft report reviews.jsonl")
    Path("notes.jsonl").write_text("hello\n")
    refused(run("notes.jsonl"), "notes.jsonl:1: this is not JSON", "the output of redraft eval or redraft")
    refused(run(str(Path("notes.jsonl").rename("way.yaml"))), "redraft diagnose way.yaml --verify")


@pytest.mark.parametrize("flag", [("--model", "default"), ("--models", "default"), ("--limit-usd", "2")])
def test_options_of_runs_need_tasks(flag: tuple[str, str]) -> None:
    refused(redraft("diagnose", "test.jsonl", *flag), f"{flag[0]} needs --tasks")

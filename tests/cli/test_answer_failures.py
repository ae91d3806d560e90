"""What failed, by cause, and `--retry-failed`: the prompts that failed before, and no others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from redraft.chain import read_jsonl
from redraft.cli import app
from tests.generate.teacher import Teacher


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(10)))
    return tmp_path


def answer(teacher: Teacher, *more: str) -> Result:
    words = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", teacher.model, "--max-revisions", "0"]
    return CliRunner().invoke(app, [*words, "-j", "1", *more], prog_name="redraft")


def done() -> list[str]:
    return [chain.id.removeprefix("prompts/") for chain in read_jsonl(Path("out.jsonl"))]


def test_failures_are_counted_by_cause_in_words() -> None:
    with Teacher(plan=["empty", "ok", "cut", "ok", "empty", "ok", "json", "ok"]) as teacher:
        result = answer(teacher, "--retries", "0")
        assert result.exit_code == 3
        said = "failed     4: empty reply 2, broken reply 2\n"
        assert said + "           see out.jsonl.errors.jsonl; run the same" in result.stdout
        assert answer(teacher, "--limit-tokens", "1").exit_code == 4
    causes = [json.loads(line)["cause"] for line in Path("out.jsonl.errors.jsonl").read_text().splitlines()]
    assert sorted(causes) == ["broken reply", "broken reply", "empty reply"]  # one was done meanwhile


def test_only_failed_prompts_are_tried_again() -> None:
    with Teacher(plan=["empty", "ok", "empty"]) as teacher:
        first = answer(teacher, "--limit-tokens", "40")
        assert first.exit_code == 4
        before = done()
        assert 0 < len(before) < 8
        assert not {"0", "2"} & set(before)
        result = answer(teacher, "--retry-failed")
        assert result.exit_code == 0
        assert done() == [*before, "0", "2"]
        assert not Path("out.jsonl.errors.jsonl").exists()
        again = answer(teacher, "--retry-failed")
        assert (again.exit_code, len(done())) == (0, len(before) + 2)
        assert "out.jsonl.errors.jsonl lists no failed prompt: there is nothing to retry." in again.stderr
        assert answer(teacher).exit_code == 0
    assert len(done()) == 10


def test_a_killed_run_leaves_its_failures_to_be_retried() -> None:
    with Teacher(delay=0.05, plan=["empty"] * 3) as teacher:
        words = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", teacher.model, "--max-revisions", "0"]
        with subprocess.Popen([sys.executable, "-m", "redraft", *words, "-j", "1", "-q"]) as job:
            while teacher.account().statuses["200"] < 6:
                assert job.poll() is None
            job.kill()
        assert answer(teacher, "--retry-failed").exit_code == 0
    assert {"0", "1", "2"} <= set(done())
    assert len(done()) < 10

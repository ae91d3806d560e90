"""`redraft answer --journal`, killed again and again: the server's own account says what was paid twice."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.generate.teacher import Teacher, texts_in

PROMPTS, PARALLEL = 60, 8


def start(teacher: Teacher, out: str) -> subprocess.Popen[str]:
    words = ["answer", "prompts.txt", "-o", out, "-m", teacher.model, "-j", str(PARALLEL), "--quiet"]
    more = ["--mode", "prompted", "--max-revisions", "2", "--seed", "1", "--journal", f"{out}.db"]
    return subprocess.Popen([sys.executable, "-m", "redraft", *words, *more], text=True)


def results(out: str) -> list[str]:
    """The chains without their times and without what the server is called, in the order of their ids."""
    lines = [json.loads(line) for line in Path(out).read_text().splitlines()]
    for line in lines:
        line["usage"]["seconds"] = 0
        for step in line["steps"]:
            step["usage"]["seconds"] = 0
    return sorted(json.dumps(line) for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("faults", [{}, {"500": 0.05, "cut": 0.05}])
def test_nothing_is_lost_and_nothing_is_paid_twice(
    faults: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(PROMPTS)))
    draws = random.Random(7)
    journaled: dict[str, int] = {}
    with Teacher(delay=0.05, faults=faults) as teacher:
        for _ in range(6):
            before, _ = teacher.sent()
            with start(teacher, "out.jsonl") as job:
                while job.poll() is None and teacher.sent()[0] < before + 10:
                    time.sleep(0.01)
                time.sleep(draws.uniform(0, 0.3))
                job.kill()
            journaled = teacher.account().replies_to(texts_in(Path("out.jsonl.db"))) | journaled
        with start(teacher, "out.jsonl") as job:
            assert job.wait(120) == 0
        account = teacher.account()
        assert len(journaled) > PROMPTS
        assert {digest: account.whole[digest] for digest in journaled} == journaled
        assert len(account.twice) <= 6 * PARALLEL
        calls = len(account.whole)
        with start(teacher, "unbroken.jsonl") as job:
            assert job.wait(120) == 0
        assert len(teacher.account().whole) == calls
    assert results("out.jsonl") == results("unbroken.jsonl")
    assert len(results("out.jsonl")) == PROMPTS

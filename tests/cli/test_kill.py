"""`kill -9` at any moment of `redraft answer`, then the same command: each is answered exactly once."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

PROMPTS = 500
PARALLEL = 8
CHECK = """\
def seen(answer, prompt):
    with open("calls.txt", "a") as file:
        file.write(prompt.instruction + "\\n")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """500 prompts, a script of one reply, and a check that records each answer it sees."""
    monkeypatch.chdir(tmp_path)
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(PROMPTS)))
    Path("script.jsonl").write_text(
        '{"settings": {"delay": 0.003, "chunk": 20}}\n"A gull over the grey, grey sea."\n'
    )
    Path("counting.py").write_text(CHECK)
    return tmp_path


def start() -> subprocess.Popen[bytes]:
    words = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", "script:script.jsonl", "--seed", "3"]
    more = ["--parallel", str(PARALLEL), "--check", "python:counting.seen"]
    return subprocess.Popen([sys.executable, "-m", "redraft", *words, *more], stdout=subprocess.DEVNULL)


def killed_at(moment: int) -> bytes:
    """Run the job, kill it a random time after line `moment`, and return the complete lines."""
    out = Path("out.jsonl")
    with start() as job:
        deadline = time.monotonic() + 60
        while job.poll() is None and (not out.exists() or out.read_bytes().count(b"\n") < moment):
            assert time.monotonic() < deadline, "the job does not get on"
            time.sleep(0.002)
        time.sleep(random.random() * 0.02)
        job.send_signal(signal.SIGKILL)
    left = out.read_bytes()
    return left[: left.rfind(b"\n") + 1]


def kill_again_and_again(times: int) -> None:
    """Kill the job at several moments, let it finish, and check the output."""
    kept, middle = b"", 0
    for turn in range(times):
        moment = random.randrange(turn * PROMPTS // times, (turn + 1) * PROMPTS // times)
        lines = killed_at(moment)
        assert lines.startswith(kept), "a finished line was changed"
        kept = lines
        middle += 0 < kept.count(b"\n") < PROMPTS
    assert middle, "no kill came in the middle"
    with start() as job:
        assert job.wait(timeout=120) == 0
    whole = Path("out.jsonl").read_bytes()
    assert whole.startswith(kept)
    assert whole.endswith(b"\n")
    ids = [json.loads(line)["id"] for line in whole.splitlines()]
    assert sorted(ids) == sorted(f"prompts/{n}" for n in range(PROMPTS))
    calls = Counter(Path("calls.txt").read_text().splitlines())
    assert len(calls) == PROMPTS
    # What is seen twice was under way when a kill came, and no more than so many ever are.
    assert calls.total() - PROMPTS <= PARALLEL * times


def test_three_kills() -> None:
    kill_again_and_again(3)


@pytest.mark.slow
def test_twenty_kills() -> None:
    kill_again_and_again(20)


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_chains_as_an_unbroken_one() -> None:
    kill_again_and_again(2)
    killed = outcomes()
    for name in ("out.jsonl", "out.jsonl.run.json"):
        Path(name).unlink()
    with start() as job:
        assert job.wait(timeout=120) == 0
    assert outcomes() == killed


def outcomes() -> dict[str, object]:
    """Return answers and seeds by id, which do not depend on the clock."""
    records = map(json.loads, Path("out.jsonl").read_text().splitlines())
    return {r["id"]: ([step["answer"] for step in r["steps"]], r["stop"], r["sampling"]) for r in records}

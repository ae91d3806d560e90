"""`kill -9` at any moment of `redraft answer`, then the same command: each is answered exactly once."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.verbs import counted, counting, lines, script, start, wait_until

PARALLEL = 8
OUT = Path("out.jsonl")


def begun() -> subprocess.Popen[str]:
    words = ["answer", "prompts.txt", "-o", OUT, "-m", "script:script.jsonl", "--seed", "3", "-q"]
    return start(*words, "--parallel", PARALLEL, "--check", counting(), stdout=None, stderr=None)


def killed_at(moment: int) -> bytes:
    with begun() as job:
        wait_until(
            lambda: job.poll() is not None or (OUT.exists() and OUT.read_bytes().count(b"\n") >= moment)
        )
        time.sleep(random.random() * 0.02)
        job.send_signal(signal.SIGKILL)
    left = OUT.read_bytes()
    return left[: left.rfind(b"\n") + 1]


@pytest.mark.parametrize(("times", "prompts"), [(3, 200), pytest.param(20, 500, marks=pytest.mark.slow)])
def test_kills(times: int, prompts: int) -> None:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(prompts)))
    script("A gull over the grey, grey sea.", delay=0.003, chunk=20)
    kept, middle = b"", 0
    for turn in range(times):
        whole = killed_at(random.randrange(turn * prompts // times, (turn + 1) * prompts // times))
        assert whole.startswith(kept), "a finished line was changed"
        kept = whole
        middle += 0 < kept.count(b"\n") < prompts
    assert middle, "no kill came in the middle"
    with begun() as job:
        assert job.wait(timeout=120) == 0
    assert OUT.read_bytes().startswith(kept)
    assert sorted(line["id"] for line in lines(OUT)) == sorted(f"prompts/{n}" for n in range(prompts))
    calls = counted()
    assert len(calls) == prompts
    # What is seen twice was under way when a kill came, and no more than so many ever are.
    assert calls.total() - prompts <= PARALLEL * times

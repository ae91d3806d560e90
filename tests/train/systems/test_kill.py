"""A run that is killed ends as one that was not; and each small system is made by one command."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from redraft.train.systems.recipe import shipped_systems
from tests.train.systems.test_run import VERBS

KILLS = 10


def start(*words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "redraft", "run", *words])


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("replies.jsonl").write_text('"It is as it is."\n')
    Path("questions.jsonl").write_text("".join(f'{{"prompt": "Question {n}?"}}\n' for n in range(400)))
    copy = '  again: {command: "sleep 0.3; cp {shared} {out}", out: again.json}\n'
    Path("plain.yaml").write_text(VERBS.replace("  shared:", f"{copy}  shared:"))
    assert start("plain.yaml", "-o", "whole").wait() == 0
    chance, kills = random.Random(1), 0
    while kills < KILLS:
        run = start("plain.yaml", "-o", "killed")
        time.sleep(chance.uniform(0.3, 2.5))
        kills += run.poll() is None
        run.kill()
        run.wait()
        if run.returncode == 0:  # it was done before it could be killed
            Path("killed/alpaca.json").unlink()
    assert start("plain.yaml", "-o", "killed").wait() == 0
    for name in ("alpaca.json", "again.json"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.parametrize("system", shipped_systems())
def test_a_small_system_is_made_by_one_command(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert start(system, "--small").wait() == 0
    made = tmp_path / f"{system}-small"
    assert "stages done" in (made / "index.html").read_text()
    card = (made / "README.md").read_text()
    assert card.startswith("---\nlicense: ")
    assert "## report" in card
    before = (made / "index.html").stat().st_mtime_ns
    assert start(system, "--small").wait() == 0
    assert (made / "index.html").stat().st_mtime_ns == before  # nothing was made again

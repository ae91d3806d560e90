"""A signal ends a verb at once, whatever it is doing: quietly, and with nothing left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.verbs import start, wait_until

VERBS = [["import", "--as", "alpaca"], ["dedupe"]]


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("signals") / "in.jsonl"
    records = [{"instruction": f"Name river {n}. " * 20, "output": f"River {n}. " * 50} for n in range(999)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records) * 150)
    return path


def members(group: int) -> set[int]:
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of, *_ = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(of) == group and state != "Z":
            found.add(int(stat.parent.name))
    return found


def ended(group: int) -> bool:
    until = time.monotonic() + 60
    while members(group) and time.monotonic() < until:
        time.sleep(0.02)
    left = members(group)
    for process in left:
        os.kill(process, signal.SIGKILL)
    return not left


def begin(big: Path, out: Path, verb: list[str]) -> subprocess.Popen[str]:
    name, *flags = verb
    return start("data", name, big, *flags, "-o", out, "-j", 2, process_group=0)


def started(process: subprocess.Popen[str], out: Path, *, work: bool = True) -> None:
    wait_until(lambda: list(out.parent.iterdir()))
    wait_until(lambda: not work or len(members(process.pid)) >= 3)
    time.sleep(random.random() / 10)  # any moment after that


# While processes are started, and while they work.
@pytest.mark.parametrize(("verb", "work"), [*zip(VERBS, (False, True), strict=True)])
def test_one_ctrl_c_ends_it(verb: list[str], work: bool, big: Path, tmp_path: Path) -> None:
    with begin(big, tmp_path / "out.jsonl", verb) as process:
        started(process, tmp_path / "out.jsonl", work=work)
        os.killpg(process.pid, signal.SIGINT)
        try:
            _, said = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "Error" not in said
    assert ended(process.pid)
    assert list(tmp_path.iterdir()) == []


def test_a_verb_that_is_asked_to_end_leaves_nothing(big: Path, tmp_path: Path) -> None:
    with begin(big, tmp_path / "out.jsonl", ["clean"]) as process:
        started(process, tmp_path / "out.jsonl")
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (143, "")
    assert ended(process.pid)
    assert list(tmp_path.iterdir()) == []

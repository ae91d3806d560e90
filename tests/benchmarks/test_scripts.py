"""Benchmarks that ask the default model, run as a user starts them, with tiny numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.conftest import FOLDER


def printed(script: str, *rows: str, shared: Path | None = None) -> str:
    """What some rows of a benchmark print. That it misses a figure is no fault: tests are not timed."""
    words = ["--quick", *(word for row in rows for word in ("--only", row))]
    env = {**os.environ, **({"REDRAFT_SHARED": str(shared.parent)} if shared else {})}
    done = subprocess.run([sys.executable, FOLDER / script, *words], env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.model
def test_steering_is_measured_in_little(shared_data: Path) -> None:
    assert "one steered text less best of" in printed("steer.py", "all", shared=shared_data)


def test_nothing_is_lost_or_paid_twice_in_little() -> None:
    said = printed("generate.py", "faults", "kills", "overhead", "memory")
    for figure in ("chains lost: 0 ", "chains made twice: 0 ", "calls paid twice: 0 "):
        assert said.count(figure) == 2, said
    assert "lines that differ from the unbroken run: 0 " in said


def test_evaluation_is_measured_in_little(shared_data: Path) -> None:
    said = printed("evaluate.py", "figures", "scores", "many", "coverage", shared=shared_data)
    told = (
        "figures, of 22: 0 differ", "recovered: 96.2 %", "invented: 0 texts", "length-controlled win rate",
    )  # fmt: skip
    assert all(each in said for each in told), said


@pytest.mark.model
def test_the_server_is_measured_in_little() -> None:
    said = printed("serve.py", "rate", "first", "load", "cut", "kills", "ready", "soak")
    told = ("wrong replies: 0 errors", "- errors: 0 errors", "memory growth of the server: ")
    assert all(each in said for each in told), said

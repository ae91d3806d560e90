"""Benchmarks that ask the default model, run as a user starts them, with tiny numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.conftest import FOLDER
from tests.verify.hostile_run import KINDS, lacking


@pytest.mark.model
def test_the_wordings_are_measured(shared_data: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "wording.py", "--quick"],
        env={**os.environ, "REDRAFT_SHARED": str(shared_data.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "editor, passes:" in done.stdout


@pytest.mark.model
def test_steering_is_measured_in_little(shared_data: Path) -> None:
    rows = [word for row in ("all", "ended", "natural", "speed") for word in ("--only", row)]
    done = subprocess.run(
        [sys.executable, FOLDER / "steer.py", "--quick", *rows],
        env={**os.environ, "REDRAFT_SHARED": str(shared_data.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr  # a few prompts vary, and tests are not timed
    assert "steered, 1 texts" in done.stdout
    assert "drafts that pass and would be ended: 0 texts" in done.stdout
    assert "steered reads worse" in done.stdout
    assert "8 streams" in done.stdout


def test_nothing_is_lost_or_paid_twice_in_little() -> None:
    rows = [word for row in ("faults", "kills", "sandbox", "overhead", "memory") for word in ("--only", row)]
    script = [sys.executable, FOLDER / "generate.py", "--quick", *rows]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # tests are not timed
    for figure in ("chains lost: 0 ", "chains made twice: 0 ", "calls paid twice: 0 "):
        assert done.stdout.count(figure) == 2, done.stdout
    assert "lines that differ from the unbroken run: 0 " in done.stdout
    for kind in (kind for kind in KINDS if not lacking(kind)):
        for figure in ("harmed", "outlived", "fooled"):
            assert f"- {figure}, {kind}: 0 programs" in done.stdout


def test_evaluation_is_measured_in_little(shared_data: Path) -> None:
    rows = [word for row in ("figures", "scores", "many", "coverage") for word in ("--only", row)]
    done = subprocess.run(
        [sys.executable, FOLDER / "evaluate.py", "--quick", *rows],
        env={**os.environ, "REDRAFT_SHARED": str(shared_data.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr  # tests are not timed, and a few simulations vary
    assert "figures, of 22: 0 differ" in done.stdout
    assert "recovered: 100 %" in done.stdout
    assert "invented: 0 texts" in done.stdout
    assert "length-controlled win rate" in done.stdout


@pytest.mark.model
def test_twenty_kills_of_the_engine_cost_the_clients_of_the_server_nothing(default_model: Path) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "serve.py", "--only", "kills"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for figure in (
        "chains lost: 0 ",
        "complete steps lost: 0 ",
        "server down: 0 ",
        "restarts of the process: 20.0 ",
    ):
        assert figure in done.stdout


@pytest.mark.model
def test_the_server_is_measured_in_little() -> None:
    rows = [
        word for row in ("rate", "first", "load", "cut", "kills", "ready", "soak") for word in ("--only", row)
    ]
    script = [sys.executable, FOLDER / "serve.py", "--quick", *rows]
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr  # tests are not timed
    assert "wrong replies: 0 errors" in done.stdout
    assert "- errors: 0 errors" in done.stdout
    assert "memory growth of the server: " in done.stdout

"""Benchmarks that ask the default model, run as a user starts them, with tiny numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.mark.slow
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

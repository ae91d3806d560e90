"""Runs `redraft data …` as a user would, and says what it took."""

from __future__ import annotations

import sys
from pathlib import Path

from weights_run import Took, run_command

CLEAN = ("--like", "fastchat", "--languages", "en")
"""What both sides of the benchmark clean by."""


def data(*arguments: str | Path, workers: int) -> Took:
    """Runs a verb, quietly, with so many processes."""
    command = [sys.executable, "-m", "redraft", "data", *map(str, arguments)]
    return run_command([*command, "--workers", str(workers), "--quiet"])

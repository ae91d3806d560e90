"""Shares on Ray: on this machine, and on a cluster whose processes and machines are killed."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.verbs import REDRAFT, lines, script, start, wait_until

ROOT = Path(__file__).resolve().parents[2]
OUT = Path("out.jsonl")
CHECK = """\
def seen(answer, prompt):
    with open("calls.txt", "a") as file:
        file.write(prompt.instruction + "\\n")
"""


def prompts(count: int, **settings: Any) -> list[str]:
    """Write prompts and replies, and return the words of a command that answers them."""
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(count)))
    model = script("A gull over the grey, grey sea.", **settings)
    return ["answer", "prompts.txt", "-o", str(OUT), "-m", model, "--max-revisions", "0"]


def run(*words: object, **env: str) -> subprocess.CompletedProcess[str]:
    line = [*REDRAFT, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, env={**os.environ, **env})


def test_one_command_on_this_machine() -> None:
    words = prompts(9)
    done = run(*words, "--ray", "--actors", 1)
    assert done.returncode == 0, done.stderr
    assert "merged     9 records in out.jsonl, in the order of prompts.txt" in done.stdout
    assert "shares     4, on 1 machine" in done.stdout
    assert "answers    9 in out.jsonl, 9 of them from before" in done.stdout
    assert [each["id"] for each in lines(OUT)] == [f"prompts/{n}" for n in range(9)]
    plain = run(*words)  # goes on from it, as from what one machine wrote
    assert "9 of them from before" in plain.stdout

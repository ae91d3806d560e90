"""What the rows of `ppo.py` that run the default model share: prompts, and a run as a user types it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from material import QUESTIONS


def write_prompts(path: Path, count: int) -> Path:
    """Write so many questions, the same ones again after forty."""
    lines = [
        {"id": f"q{number}", "instruction": QUESTIONS[number % len(QUESTIONS)]} for number in range(count)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


def command(verb: str, **settings: object) -> list[str]:
    """Return the words of `redraft train VERB` with these settings."""
    words = (word for name, value in settings.items() for word in (f"--{name}", str(value)))
    return [sys.executable, "-m", "redraft", "train", verb, *words, "--quiet"]

"""What the rows of `ppo.py` share: a run as a user types it."""

from __future__ import annotations

import sys


def command(verb: str, **settings: object) -> list[str]:
    """Return the words of `redraft train VERB` with these settings."""
    words = (word for name, value in settings.items() for word in (f"--{name}", str(value)))
    return [sys.executable, "-m", "redraft", "train", verb, *words, "--quiet"]

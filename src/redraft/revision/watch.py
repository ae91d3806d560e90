"""Ask checks which form an answer must have and, while the answer streams, whether it can still pass.

A user's check may raise or hang, so calls of `prefix` and `form` have a time limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from redraft.chain import Prompt
from redraft.checks.base import Check, Prefixed, ask_no_more, form_of, outcome_of, prefix_of
from redraft.engines.steering.form import Form
from redraft.jobs.signals import in_daemon_thread

FIRST = 48  # the fewest characters (about eight words) before the first look and between two looks
SHARE = 16  # Between two looks, the text grows by 1/16, so that all looks together read it 17 times.
SECONDS = 1.0  # a `prefix` that takes longer counts as hanging
FORM_SECONDS = 10.0  # the same limit for a `form`, which is asked for once


class Watch:
    """Finds out, while an answer grows, whether the answer can still pass the checks."""

    def __init__(self, checks: Sequence[Check], prompt: Prompt) -> None:
        self._checks = [check for check in checks if isinstance(check, Prefixed)]
        self._prompt = prompt
        self._text, self._next = "", FIRST

    def add(self, piece: str) -> None:
        """Append a piece of the answer."""
        self._text += piece

    async def lost(self) -> bool:
        """Return whether the answer can no longer pass. The checks run only after enough new text."""
        if len(self._text) < self._next:
            return False
        self._next = len(self._text) + max(len(self._text) // SHARE, FIRST)
        text = self._text.lstrip()
        found = await _first(self._checks, "prefix", lambda check: prefix_of(check, text) == "lost", SECONDS)
        if found is None:
            return False
        if not (await outcome_of(found, text.rstrip(), self._prompt)).passed:
            return True
        ask_no_more(found, "prefix", "returned 'lost' for a text that passes the check")
        return False


async def forms_of(checks: Sequence[Check]) -> list[tuple[str, Form]]:
    """Return the name and the form of each check that can steer a model."""
    found: list[tuple[str, Form]] = []

    def add(check: Check) -> bool:
        if form := form_of(check):
            found.append((check.name, form))
        return False

    await _first(checks, "form", add, FORM_SECONDS)
    return [*found]  # a copy, because a slow form may still be added


async def _first(
    checks: Sequence[Check], what: str, holds: Callable[[Check], bool], seconds: float
) -> Check | None:
    asked: Check | None = None

    def look() -> Check | None:
        nonlocal asked
        for asked in checks:
            if holds(asked):
                return asked
        return None

    work = in_daemon_thread(look)
    await asyncio.wait([work], timeout=seconds)
    if work.done():
        return work.result()
    work.add_done_callback(asyncio.Future.exception)
    if asked is not None:
        ask_no_more(asked, what, f"took longer than {seconds:g} s")
    return None

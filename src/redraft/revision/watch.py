"""Watch an answer that is written: it is lost when a check says that no continuation can pass."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redraft.chain import Prompt, is_blank
from redraft.engines.threads import in_daemon_thread
from redraft.verify.base import Check, Prefixed, no_prefix_of, outcome_of, prefix_of

FIRST = 48  # characters before the first look and between two, some eight words
SHARE = 16  # The text grows by this part between two looks, so that all of them together read it 17 times.
SECONDS = 1.0  # a `prefix` that takes longer hangs


class Watch:
    """Looks at an answer now and then."""

    def __init__(self, checks: Sequence[Check], prompt: Prompt) -> None:
        self._checks = [check for check in checks if isinstance(check, Prefixed)]
        self._prompt = prompt
        self._pieces: list[str] = []
        self._length, self._next = 0, FIRST

    def add(self, piece: str) -> None:
        """Take a piece of the answer."""
        self._pieces.append(piece)
        self._length += len(piece)

    async def lost(self) -> bool:
        """Return whether no continuation can pass. Looks only if enough came since the last look."""
        if self._length < self._next:
            return False
        self._next = self._length + max(self._length // SHARE, FIRST)
        text = "".join(self._pieces).lstrip()
        self._pieces = [text]
        if is_blank(text):
            return False
        found = await self._loser(text)
        if found is None:
            return False
        if not (await outcome_of(found, text.rstrip(), self._prompt)).passed:
            return True
        no_prefix_of(found, "called a text lost that the check passes")
        return False

    async def _loser(self, text: str) -> Check | None:
        """Return the first check that the text has lost. It runs in a thread, where it may hang."""
        asked: Check | None = None

        def look() -> Check | None:
            nonlocal asked
            for asked in self._checks:
                if prefix_of(asked, text) == "lost":
                    return asked
            return None

        work = in_daemon_thread(look)
        await asyncio.wait([work], timeout=SECONDS)
        if work.done():
            return work.result()
        work.add_done_callback(asyncio.Future.exception)
        if asked is not None:
            no_prefix_of(asked, f"took longer than {SECONDS:g} s")
        return None

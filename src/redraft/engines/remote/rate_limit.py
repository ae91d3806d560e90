"""When the next request to a server may be made: its rates, its limits as it tells them, and its 429s.

Three things hold a request back. Each counts calls, as the server does: a retry is a call.

- `rpm` and `tpm` are spread evenly over the minute. The tokens of a reply are not known beforehand, so a
  call takes the mean of the calls before it, and the difference is made up for when it ends.
- A server that says that nothing is left (`x-ratelimit-remaining-*`) is not asked before some is.
- How many requests may be under way follows the 429s: each round of them multiplies it by `CUT`, each round
  of replies adds one. Before the first 429 only the caller limits it.

Limits are of the server, all its keys together. `engines.retry` decides what to do with a failure.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from math import inf
from typing import NamedTuple

SLACK = 1.02
"""Rates are kept 2 % below a limit: a call may then arrive 1.2 s earlier or later than planned, relative to
others, before a server that counts the last 60 s counts too many."""

CATCH_UP = 0.5
"""Seconds of unused rate that may be made up for while calls wait, less than the 1.2 s of `SLACK`. A busy
process wakes up a few ms late for each call; without this, 100 calls a second would lose a tenth of them."""

CUT = 0.7  # factor for the requests under way after a 429, as CUBIC (RFC 9438) has it for a congested network
LATEST = 50  # how many of the latest calls the mean of tokens stands for

LONGEST_RESET = 60.0
"""Longest wait in seconds for what `x-ratelimit-*` says is used up. A limit of the day ends in a 429."""


class Schedule:
    """An amount a minute, spread evenly. `free` is when the next call may be made."""

    def __init__(self, a_minute: int | None) -> None:
        self._seconds = SLACK * 60 / a_minute if a_minute else 0.0
        self.free = 0.0

    def book(self, amount: float, now: float, catch_up: float = CATCH_UP) -> None:
        """Use an amount, or give it back if it is negative. Time without calls is lost but for `catch_up`."""
        if self._seconds:
            self.free = max(self.free, now - catch_up) + amount * self._seconds


class Turn(NamedTuple):
    """A request that may be made: when it began, on the event loop's clock, and the tokens expected of it."""

    at: float
    tokens: float


class RateLimit:
    """The rate of all requests to one server: most requests and tokens a minute; None for no limit."""

    def __init__(self, rpm: int | None, tpm: int | None) -> None:
        self._requests, self._tokens, self._held_until = Schedule(rpm), Schedule(tpm), 0.0
        self._door, self._left = asyncio.Lock(), asyncio.Event()
        self._under_way, self._most, self._cut_at = 0, inf, -inf
        self._mean, self._calls = 0.0, 0

    async def turn(self, most: int) -> Turn:
        """Wait until a request may be made: first come, first served. It ends with `over`.

        `most` tokens are what it may come to, used until there is a mean.
        """
        queued = self._door.locked()
        async with self._door:
            while True:
                now = _now()
                wait = max(self._requests.free, self._tokens.free, self._held_until) - now
                if wait > 0:
                    queued = True
                    await asyncio.sleep(wait)
                elif self._under_way >= max(self._most, 1):
                    self._left.clear()
                    await self._left.wait()
                else:
                    break
            turn = Turn(now, self._mean if self._calls else most)
            for schedule, amount in ((self._requests, 1), (self._tokens, turn.tokens)):
                schedule.book(amount, now, catch_up=CATCH_UP if queued else 0.0)
            self._under_way += 1
            return turn

    def hold(self, seconds: float) -> None:
        """Make no request for this long: the server is down, or said so."""
        self._held_until = max(self._held_until, _now() + seconds)

    def over(self, turn: Turn) -> None:
        """Record that a request ended. What it was expected to use is given back: `used` books the rest."""
        self._under_way -= 1
        self._tokens.book(-turn.tokens, _now())
        self._left.set()

    def used(self, tokens: int) -> None:
        """Record the tokens of a prompt and its reply."""
        self._tokens.book(tokens, _now())
        self._calls += 1
        self._mean += (tokens - self._mean) / min(self._calls, LATEST)

    def grow(self) -> None:
        """Let more requests be under way: one more for each round of replies."""
        self._most += 1 / self._most

    def shrink(self, asked: float) -> None:
        """Let fewer requests be under way, once for all that were `asked` before the last time."""
        if asked >= self._cut_at:
            self._most = max(1.0, CUT * min(self._most, self._under_way + 1))
            self._cut_at = _now()

    def heard(self, headers: Mapping[str, str]) -> None:
        """Hold all requests until the server has enough left for a call, by the headers of a reply."""
        waits = [_until(headers, "requests", 1.0), _until(headers, "tokens", self._mean)]
        self.hold(min(max(waits), LONGEST_RESET))


def _until(headers: Mapping[str, str], name: str, needed: float) -> float:
    """Return the seconds until this much of a limit is free; 0 if it is, or the headers do not say.

    `reset` is the time until all of the limit is free again (OpenAI's documentation). A part of it frees in
    that part of the time.
    """
    try:
        limit, remaining = (float(headers[f"x-ratelimit-{what}-{name}"]) for what in ("limit", "remaining"))
    except (KeyError, ValueError):
        return 0.0
    missing = min(needed, limit) - remaining
    if missing <= 0:
        return 0.0
    return seconds_of(headers.get(f"x-ratelimit-reset-{name}", "")) * missing / (limit - remaining)


_PART = re.compile(r"(\d++(?:\.\d++)?)(ms|d|h|m|s)?+")  # possessive: one way to read it, in linear time
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}


def seconds_of(text: str) -> float:
    """Return a length of time such as `6m0.5s` or `20ms`, in seconds; 0 for anything else."""
    if not re.fullmatch(f"(?:{_PART.pattern})++", text):
        return 0.0
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def _now() -> float:
    return asyncio.get_running_loop().time()

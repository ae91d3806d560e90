"""How long a server is waited for, and how fast it is asked: the one place where redraft waits for a server.

All streams to a server share one `Pace`. A server that is down, overloaded or limits requests holds all of
them back, and one success ends that. How often a prompt is tried is known to `jobs.runner`, which does not
wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus

LONGEST_BACKOFF = 15.0
"""Seconds between two tries at most, where the server names no time: a restarted one is found soon."""


def _nobody(said: str) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Patience:
    """How long to wait, in seconds, and how often and fast to ask.

    Attributes:
        connect: Until the server takes the connection.
        first_token: From the request to the first token. Long: a server may load the model first.
        between_tokens: From one token to the next. Pings do not count as tokens. Small replies, such as the
            list of models, have as long.
        tries: How often a request is made at most, unless the server fails all requests and `outage` lasts.
        backoff: Before the second try, where the server names no time; doubled each time, and jittered.
        longest_wait: The longest `Retry-After` that is waited for, unless `outage` is longer.
        outage: How long a server that answered before may be down or busy for everybody. 0 counts tries
            alone.
        rpm: Most requests a minute; None for no limit.
        tpm: Most tokens a minute, of prompts and replies; None for no limit.
        tell: Called with what is waited for, and with an empty text when that is over.
    """

    connect: float = 10.0
    first_token: float = 300.0
    between_tokens: float = 60.0
    tries: int = 5
    backoff: float = 0.5
    longest_wait: float = 60.0
    outage: float = 0.0
    rpm: int | None = None
    tpm: int | None = None
    tell: Callable[[str], None] = field(default=_nobody, repr=False, compare=False)


@dataclass(frozen=True)
class Failure:
    """A try that a server may answer another time.

    Attributes:
        status: The HTTP status; None where there was no reply.
        retry_after: Seconds that the server asks to wait, or None.
        attempt: How often the request was made, from 1.
        began: When it was first made, in seconds of the event loop.
        silence: Seconds of waiting for a reply that did not come; 0 if something else failed.
    """

    status: int | None
    retry_after: float | None
    attempt: int
    began: float
    silence: float = 0.0

    @property
    def of_everybody(self) -> bool:
        """Whether other requests would fail as well. Other statuses may be of this request."""
        return self.status in (None, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

    @property
    def words(self) -> str:
        """What the server does, for a progress line."""
        if self.status is None:
            return "is silent" if self.silence else "is down"
        limits = self.status == HTTPStatus.TOO_MANY_REQUESTS
        return "limits requests" if limits else f"fails ({self.status})"


class Pace:
    """When the next request to a server may be made. Shared by all streams to it.

    Args:
        patience: How long, how often, how fast.
        host: What messages call the server.
    """

    def __init__(self, patience: Patience, host: str) -> None:
        self._patience = patience
        self._host = host
        self._next_slot = 0.0
        self._held_until = 0.0
        self._down_since: float | None = None
        self._served_at: float | None = None

    async def turn(self) -> None:
        """Wait until a request may be made."""
        while True:
            await asyncio.sleep(self._held_until - _now())
            await asyncio.sleep(self._slot())
            if self._held_until <= _now():  # else the server was found down meanwhile
                return

    def _slot(self) -> float:
        """Take the next free place of those that `rpm` and `tpm` leave, and give the seconds until then."""
        now, rpm = _now(), self._patience.rpm
        start = max(now, self._next_slot)
        self._next_slot = start + (60 / rpm if rpm else 0.0)
        return start - now

    def served(self) -> None:
        """Note that the server took a request for tokens."""
        self._served_at = _now()
        if self._down_since is not None:
            self._down_since = None
            self._patience.tell("")

    def spent(self, tokens: int) -> None:
        """Note what a reply used, of prompt and text."""
        if self._patience.tpm:
            self._next_slot = max(_now(), self._next_slot) + 60 * tokens / self._patience.tpm

    def broken(self) -> None:
        """Note that a reply broke off: the server may be about to end."""
        self._hold(self._jittered(1))

    async def waited(self, failure: Failure) -> bool:
        """Wait until a failed request is to be made again, or return False if there is no point."""
        seconds = self._delay(failure)
        if seconds is None:
            return False
        if failure.of_everybody:
            self._hold(seconds)
        else:
            await asyncio.sleep(seconds)
        return True

    def _delay(self, failure: Failure) -> float | None:
        patience, now = self._patience, _now()
        self._down_since = now - failure.silence if self._down_since is None else self._down_since
        lasted = now - self._down_since
        if (failure.retry_after or 0) > max(patience.longest_wait, patience.outage):
            return None
        limited = failure.status == HTTPStatus.TOO_MANY_REQUESTS
        of_request = not limited and (self._served_at or 0) > failure.began  # others were served meanwhile
        never_worked = failure.status == HTTPStatus.INTERNAL_SERVER_ERROR and self._served_at is None
        over = of_request or never_worked or lasted >= patience.outage
        if over and (failure.silence or failure.attempt >= patience.tries):
            return None
        # A little more than was asked for: all who were sent away come back at the same time.
        jittered = self._jittered(failure.attempt)
        asked = failure.retry_after
        seconds = jittered if asked is None else asked + 0.1 * jittered
        limit = f" of {in_words(patience.outage)}" if patience.outage else ""
        patience.tell(f"{self._host} {failure.words}, waiting {lasted + seconds:.0f} s{limit}")
        return seconds

    def _jittered(self, attempt: int) -> float:
        longest = self._patience.backoff * 2.0 ** min(attempt - 1, 10)
        return min(longest, LONGEST_BACKOFF) * random.uniform(0.5, 1.0)  # noqa: S311

    def _hold(self, seconds: float) -> None:
        self._held_until = max(self._held_until, _now() + seconds)


def in_words(seconds: float) -> str:
    """A length of time as `40 s` or `5 min`."""
    return f"{seconds / 60:g} min" if seconds >= 60 and seconds % 60 == 0 else f"{seconds:g} s"


def _now() -> float:
    return asyncio.get_running_loop().time()

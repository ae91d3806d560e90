"""Decide how long to wait before a failed call is repeated, and when to give up.

`Patience` sets limits. `backoff` computes the pause before a new try: of a request, a member of a `pool` or a
process. All streams to one server share a `Retry`. While the server is down or overloaded, or limits
requests, all streams wait until one request succeeds. If a request fails while the server serves other
requests, only that request waits.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from math import inf
from time import monotonic
from typing import NamedTuple

from redraft.engines.base import Health

LONGEST_BACKOFF = 15.0
"""Longest pause in seconds without a `Retry-After`: short, so that a server's restart is noticed soon."""

LONGEST_ASKED = 3600.0
"""Longest `Retry-After` in seconds that a job obeys. A job waits for an hourly limit, but a daily limit ends
the job."""


def backoff(failures: int, first: float) -> float:
    """Return the seconds to wait after one or more failures in a row: doubled each time, with jitter."""
    longest = min(first * 2.0 ** min(failures - 1, 10), LONGEST_BACKOFF)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311  (not for secrets)


@dataclass(frozen=True)
class Patience:
    """Limits for one server: seconds to wait, numbers of tries, and requests and tokens a minute."""

    connect: float = 10.0
    # Limit from the request to the first token. Long, because a server may load the model.
    first_token: float = 300.0
    # Limit from one token to the next (pings do not count), and for small replies, such as lists of models.
    between_tokens: float = 60.0
    # Maximum tries of a request. If the server fails all requests, they are repeated until `outage` is over.
    tries: int = 5
    # Pause before the second try if the server names no time; doubled each time, with jitter.
    backoff: float = 0.5
    longest_wait: float = 60.0  # the longest `Retry-After` to obey without `outage`
    longest_asked: float = LONGEST_ASKED  # the longest with `outage`, unless `outage` is longer
    # How long a server that has answered before may be down, busy or silent. With 0, only `tries`
    # counts, and a silent server is not asked again. While other requests are served, both count.
    outage: float = 0.0
    rpm: int | None = None
    tpm: int | None = None
    tell: Callable[[str], None] = field(default=lambda _: None, repr=False, compare=False)

    @property
    def longest(self) -> float:
        """The longest `Retry-After` to obey."""
        return max(self.outage, self.longest_asked) if self.outage else self.longest_wait

    def within(self, seconds: float | None) -> Patience:
        """Return a copy that waits at most `seconds` for a connection or a small reply."""
        limit = inf if seconds is None else seconds
        return replace(self, connect=min(self.connect, limit), between_tokens=min(self.between_tokens, limit))


@dataclass(frozen=True)
class Failure:
    """A failed request that may succeed later."""

    status: int | None
    retry_after: float | None  # seconds that the server asks to wait, or None
    attempt: int
    began: float
    asked: float = 0.0
    silence: float = 0.0  # seconds without a reply; 0 for other failures

    @property
    def of_server(self) -> bool:
        """Whether the server may have failed, so that all requests would fail."""
        return self.status in (None, HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)

    @property
    def words(self) -> str:
        """The failure as a predicate, such as "is down", for a progress line."""
        if self.status is None:
            return "is silent" if self.silence else "is down"
        limits = self.status == HTTPStatus.TOO_MANY_REQUESTS
        return "limits requests" if limits else f"fails ({self.status})"


class Retry:
    """Decides whether and when failed requests to one server are repeated."""

    def __init__(self, patience: Patience, host: str) -> None:
        self._patience, self._host = patience, host
        self.rate = RateLimit(patience.rpm, patience.tpm)
        self.given_up, self._rests_until = 0, 0.0  # requests in a row that a dead server did not answer
        self._down_since: float | None = None
        self._served_at: float | None = None
        self.doubt = Health()  # whether the server has the model; empty once the model answers

    @property
    def health(self) -> Health:
        """The health of the server."""
        trouble, rests = f"{self._host} does not answer", clock() < self._rests_until
        return Health(0, trouble, down=True, resting=rests) if self.given_up else self.doubt

    def served(self) -> None:
        """Record that the server accepted a request to the model."""
        self._served_at, self.doubt = clock(), Health()
        self.rate.grow()
        # A request that began before a pause may be served during the pause.
        if self._down_since is not None and clock() >= self.rate.held_until:
            self._down_since = None
            self._patience.tell("")

    async def waited(self, failure: Failure) -> bool:
        """Wait before a failed request is repeated. Return False if the request should not be repeated."""
        if (seconds := self._delay(failure)) is None:
            lost = failure.of_server and failure.status != HTTPStatus.TOO_MANY_REQUESTS
            if lost and (self._served_at or 0) <= failure.began and clock() >= self._rests_until:
                self.given_up += 1
                self._rests_until = clock() + backoff(self.given_up, self._patience.backoff)
            return False
        # One reset may be the connection's fault. After two, with nothing served since, it is the server's.
        is_down = failure.of_server and failure.attempt > 1 and (self._served_at or 0) <= failure.began
        busy = failure.status == HTTPStatus.SERVICE_UNAVAILABLE and failure.retry_after is not None
        if is_down or busy or failure.status == HTTPStatus.TOO_MANY_REQUESTS:
            self.rate.hold(seconds)
        else:
            await asyncio.sleep(seconds)
        return True

    def _delay(self, failure: Failure) -> float | None:
        patience, now = self._patience, clock()
        self._down_since = now - failure.silence if self._down_since is None else self._down_since
        lasted = now - self._down_since
        last = failure.attempt >= patience.tries
        if (failure.retry_after or 0.0) + lasted * last > patience.longest:
            return None
        limited = failure.status == HTTPStatus.TOO_MANY_REQUESTS
        if limited:
            self.rate.shrink(failure.asked)
        # Were other requests served? A server that is down may have served some after the first try began.
        since = failure.asked if failure.of_server else failure.began
        of_request = not limited and (self._served_at or 0) > since
        never_worked = failure.status == HTTPStatus.INTERNAL_SERVER_ERROR and self._served_at is None
        over = of_request or never_worked or lasted >= patience.outage
        too_long = failure.silence and (not of_request or now - failure.began >= patience.outage)
        if over and (too_long or last):
            return None
        pause, after = backoff(failure.attempt, patience.backoff), failure.retry_after
        if last:
            pause = min(pause, patience.outage - lasted)
        # A little longer than the server asks for, so that waiting streams do not return all at once.
        seconds = pause if after is None else after + 0.1 * pause
        if (whole := lasted + seconds) >= 1:
            most = patience.outage
            told = f"{most / 60:g} min" if most >= 60 and most % 60 == 0 else f"{most:g} s"
            limit = f", at most {told}" if most else ""
            limit = ", as it asks" if whole > patience.outage and after else limit
            patience.tell(f"{self._host} {failure.words}, waiting {whole:.0f} s{limit}")
        return seconds


SLACK = 1.02
"""Rates stay 2 % below a limit, so that calls that arrive up to 1.2 s early or late do not exceed the limit
when a server counts the last 60 s."""

CATCH_UP = 0.5
"""Maximum idle time, in seconds, that waiting calls may make up for; below the 1.2 s of `SLACK`. A busy
process starts each call a few ms late, which would otherwise cut a rate of 100 calls a second by a tenth."""

CUT = 0.7  # factor for the number of active requests after a 429, as in CUBIC (RFC 9438) for congestion
LATEST = 50  # number of latest calls in the mean of tokens


class Schedule:
    """Spreads calls or tokens evenly over the minute. `free` is the time of the next possible call."""

    def __init__(self, a_minute: int | None) -> None:
        self._seconds = SLACK * 60 / a_minute if a_minute else 0.0
        self.free = 0.0

    def book(self, amount: float, now: float, catch_up: float = CATCH_UP) -> None:
        """Reserve calls or tokens (negative: free them). Make up for at most `catch_up` idle seconds."""
        if self._seconds:
            self.free = max(self.free, now - catch_up) + amount * self._seconds


class Turn(NamedTuple):
    """The permission for a request: the start time on the event loop's clock, and the expected tokens."""

    at: float
    tokens: float


class RateLimit:
    """Decides when requests to one server may be made.

    - `rpm` and `tpm` are spread evenly over the minute. A call reserves the mean number of tokens of earlier
      calls, until the actual number is known.
    - From the first 429 on, the number of active requests is limited. A 429 lowers the limit, unless the
      request was sent before the limit was last lowered. Each successful reply raises the limit.
    """

    def __init__(self, rpm: int | None, tpm: int | None) -> None:
        self._requests, self._tokens, self.held_until = Schedule(rpm), Schedule(tpm), 0.0
        self._door, self._left = asyncio.Lock(), asyncio.Event()
        self._under_way, self._most, self._cut_at = 0, inf, -inf
        self._mean, self._calls = 0.0, 0

    async def turn(self, most: int) -> Turn:
        """Wait until a request may be made: first come, first served. Call `over` when the request ends.

        `most` is the request's maximum number of tokens. The first calls reserve this number.
        """
        queued = self._door.locked()
        async with self._door:
            while True:
                now = clock()
                wait = max(self._requests.free, self._tokens.free, self.held_until) - now
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
        """Make no request for `seconds`."""
        self.held_until = max(self.held_until, clock() + seconds)

    def over(self, turn: Turn) -> None:
        """Record a request's end, and free the tokens that it reserved. `used` counts the actual tokens."""
        self._under_way -= 1
        self._tokens.book(-turn.tokens, clock())
        self._left.set()

    def used(self, tokens: int) -> None:
        """Record the number of tokens in a prompt and reply."""
        self._tokens.book(tokens, clock())
        self._calls += 1
        self._mean += (tokens - self._mean) / min(self._calls, LATEST)

    def grow(self) -> None:
        """Raise the limit on active requests by 1 / limit, after a successful reply."""
        self._most += 1 / self._most

    def shrink(self, asked: float) -> None:
        """Lower the limit on active requests after a 429, unless `asked` precedes the last lowering."""
        if asked >= self._cut_at:
            self._most = max(1.0, CUT * min(self._most, self._under_way + 1))
            self._cut_at = clock()


def clock() -> float:
    """Return the time of the running event loop's clock, or of `time.monotonic` outside an event loop."""
    with suppress(RuntimeError):
        return asyncio.get_running_loop().time()
    return monotonic()

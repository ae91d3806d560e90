"""API keys: what each may use, and how much. The server keeps their digests alone.

A line of a file has a key, as it is or as `sha256:` and its digest, and what holds for it: docs/serve.md.
Minutes slide: what happened in the last 60 seconds counts. Days are those of UTC. Tokens and money count when
a request has ended, so that the last one may go beyond the limit, as in OpenAI's API.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from difflib import get_close_matches
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any, Self

from redraft.counting import counted
from redraft.errors import UsageError
from redraft.serve.errors import Refusal

_log = logging.getLogger(__name__)

SHORTEST = 16  # fewest characters of a key: a shorter one can be guessed
MINUTE = 60.0
DAY = 86_400
WAIT = 1  # seconds for `Retry-After` of a key that has too many requests under way

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_NUMBERS = {
    "requests-per-minute": "requests",
    "tokens-per-minute": "tokens",
    "parallel": "parallel",
    "requests-per-day": "requests_a_day",
    "tokens-per-day": "tokens_a_day",
    "usd-per-day": "usd_a_day",
}
"""Settings that are numbers, with the attribute of `Key`. Money may have a fraction."""

_SETTINGS = ("name", "models", *_NUMBERS)

Past = deque[tuple[float, int]]  # what was used in the last minute: when, and how much


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


@dataclass
class Used:
    """What was used with a key."""

    begun: Past = field(default_factory=deque)
    tokens: Past = field(default_factory=deque)
    inside: int = 0  # requests under way
    day: int = 0  # the number of the day that the sums are of
    today: dict[str, float] = field(default_factory=dict)  # sums of that day: requests, tokens and usd

    def of_today(self, what: str) -> float:
        """Return a sum of the day."""
        return self.today.get(what, 0) if self.day == utc_now().toordinal() else 0

    def add(self, what: str, much: float) -> None:
        """Add to a sum of the day."""
        if self.day != (day := utc_now().toordinal()):
            self.day, self.today = day, {}
        self.today[what] = self.today.get(what, 0) + much


@dataclass
class Key:
    """A key, and what was used with it of late."""

    digest: bytes = field(default=b"", repr=False)
    name: str = ""  # for the log; the beginning of the digest if the file has none
    models: frozenset[str] | None = None  # the names of the models that it may use; None for all
    requests: int | None = None
    tokens: int | None = None
    parallel: int | None = None
    requests_a_day: int | None = None
    tokens_a_day: int | None = None
    usd_a_day: float | None = None
    used: Used = field(default_factory=Used, repr=False, compare=False)

    def allows(self, model: str) -> bool:
        """Return whether it may use a model. What it may not use, it does not see."""
        return self.models is None or model in self.models

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a request that asks a model, while the body runs."""
        now, used = monotonic(), self.used
        if self.parallel is not None and used.inside >= self.parallel:
            raise self._too_many(f"{counted(self.parallel, 'request')} at once", WAIT)
        for what, most, past, _ in self._limits:
            if most is not None and (wait := _wait(past, most, now)):
                raise self._too_many(f"{most:,} {what} a minute", wait)
        a_day = {what: limit for what, _, _, limit in self._limits} | {"usd": self.usd_a_day}
        for what, limit in a_day.items():
            if limit is not None and used.of_today(what) >= limit:
                unit = "USD" if what == "usd" else what
                raise self._too_many(f"{limit:,} {unit} a day", _until_tomorrow(), "insufficient_quota")
        if self.requests is not None:
            used.begun.append((now, 1))
        used.add("requests", 1)
        used.inside += 1
        try:
            yield
        finally:
            used.inside -= 1

    def pay(self, tokens: int, usd: float) -> None:
        """Count the tokens of a request that has ended, and what they cost."""
        if self.tokens is not None and tokens:
            self.used.tokens.append((monotonic(), tokens))
        self.used.add("tokens", tokens)
        self.used.add("usd", usd)

    @property
    def headers(self) -> dict[str, str]:
        """What is left of its limits, in the headers of OpenAI's API: of the minute, or else of the day."""
        found: dict[str, str] = {}
        for what, most, past, a_day in self._limits:
            if most is not None:
                now = monotonic()
                _wait(past, most, now)
                left = most - sum(count for _, count in past)
                wait = math.ceil(past[-1][0] + MINUTE - now) if past else 0
            elif a_day is not None:
                most, left, wait = a_day, a_day - int(self.used.of_today(what)), _until_tomorrow()
            else:
                continue
            found[f"x-ratelimit-limit-{what}"] = str(most)
            found[f"x-ratelimit-remaining-{what}"] = str(max(left, 0))
            found[f"x-ratelimit-reset-{what}"] = f"{wait}s"
        return found

    @property
    def _limits(self) -> tuple[tuple[str, int | None, Past, int | None], ...]:
        """What is counted, the most of a minute, what was used, and the most of a day."""
        return (
            ("requests", self.requests, self.used.begun, self.requests_a_day),
            ("tokens", self.tokens, self.used.tokens, self.tokens_a_day),
        )

    def _too_many(self, limit: str, wait: int, code: str = "rate_limit_exceeded") -> Refusal:
        message = f"the limit of the key {self.name!r} is {limit}."
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, code, message, wait=wait)


def _until_tomorrow() -> int:
    now = utc_now()
    return math.ceil(DAY - (now - datetime.combine(now.date(), time(), UTC)).total_seconds())


def _wait(past: Past, most: int, now: float) -> int:
    """Return the seconds until less than `most` was used in the last minute; 0 if it was. Forget the rest."""
    while past and past[0][0] <= now - MINUTE:
        past.popleft()
    left = sum(count for _, count in past)
    wait = 0
    for when, count in past:
        if left < most:
            break
        left -= count
        wait = math.ceil(when + MINUTE - now)
    return wait


ANYONE = Key()  # stands for the clients of a server without keys, which is for this machine alone


@dataclass
class Keys:
    """The keys that clients may use."""

    all: tuple[Key, ...]
    path: Path
    _seen: tuple[int, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of keys. `#` begins a comment."""
        seen = _seen(path)  # before it is read: a change meanwhile is seen later
        if not (found := _read(path)):
            raise UsageError(f"{path} has no key.", hint=f"{_MAKE} > {path}")
        return cls(found, path, seen)

    @classmethod
    def once(cls, key: str) -> Self:
        """Return a key that is in no file."""
        return cls((Key(_digest_of(key)),), Path())

    def begin_with(self, used: Mapping[str, Mapping[str, float]]) -> None:
        """Begin with what keys have used today: sums as in `Used.today`, by the keys' names."""
        for key in self.all:
            key.used.day, key.used.today = utc_now().toordinal(), {**used.get(key.name, {})}

    def find(self, authorization: str) -> Key | None:
        """Return the key in the value of an `Authorization` header, `Bearer KEY`; None if it is no key."""
        self._read_again()
        scheme, _, key = authorization.partition(" ")
        given = _digest_of(key.strip())
        matches = [each for each in self.all if hmac.compare_digest(given, each.digest)]  # compares all
        return matches[0] if matches and scheme.lower() == "bearer" else None

    def now(self, key: Key) -> Key | None:
        """Return a key that was found before as it is now; None if it was revoked."""
        self._read_again()
        return next((each for each in self.all if each.digest == key.digest), None)

    def lacking(self, models: Iterable[str]) -> list[str]:
        """Return the models that keys may use and that are not among these."""
        named = {name for key in self.all for name in key.models or ()}
        return sorted(named - set(models))

    def _read_again(self) -> None:
        """Read the file if it has changed. If it is wrong, say so, and keep the keys; none revokes all."""
        if self.path == Path() or (seen := _seen(self.path)) == self._seen:
            return
        self._seen = seen
        try:
            found = _read(self.path)
        except UsageError as error:
            _log.warning("the keys stay as they were: %s", error.message)
            return
        before = {key.digest: key.used for key in self.all}
        for key in found:
            key.used = before.get(key.digest, key.used)
        self.all = found
        _log.info("the keys were read again: %s", counted(len(found), "key"))


def _seen(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(path: Path) -> tuple[Key, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"the keys in {path} cannot be read: {reason}.") from None
    found: dict[bytes, Key] = {}
    for number, line in enumerate(lines, start=1):
        if (words := line.split()) and not words[0].startswith("#"):
            key = _key(words, f"{path}:{number}")
            if key.digest in found:
                raise UsageError(f"{path}:{number}: the key is there twice.", hint="Keep one line.")
            found[key.digest] = key
    return tuple(found.values())


def _key(words: list[str], where: str) -> Key:
    digest = _digest(words[0], where)
    found: dict[str, Any] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in _SETTINGS or not value:
            near = get_close_matches(name, _SETTINGS, n=1)
            hint = f"Did you mean {near[0]}=…?" if near else f"It may have: {'=… '.join(_SETTINGS)}=…"
            shown = repr(word) if near or len(word) < SHORTEST else "like that"  # it may be a key
            raise UsageError(f"{where}: a key has no setting {shown:.40}.", hint=hint)
        if name in found:
            raise UsageError(f"{where}: {name} is there twice.", hint="Keep one.")
        if name in _NUMBERS:
            money = name.startswith("usd")
            form = r"[0-9]{1,15}(\.[0-9]+)?" if money else r"[0-9]{1,15}"
            if not (re.fullmatch(form, value) and float(value)):
                hint = "It should be a number above 0."
                raise UsageError(f"{where}: {name} is {value!r:.40}.", hint=hint)
            found[name] = float(value) if money else int(value)
        else:
            found[name] = value
    models = frozenset(found["models"].split(",")) if "models" in found else None
    numbers: Any = {attribute: found.get(name) for name, attribute in _NUMBERS.items()}
    return Key(digest, found.get("name", digest.hex()[:8]), models, **numbers)


def _digest(word: str, where: str) -> bytes:
    if digest := _DIGEST.fullmatch(word):
        return bytes.fromhex(digest[1])
    if word.lower().startswith("sha256:"):
        raise UsageError(
            f"{where}: behind sha256: there are {len(word) - 7} characters.",
            hint="It should be a digest in hex, of 64: printf %s KEY | sha256sum",
        )
    if len(word) < SHORTEST:
        raise UsageError(
            f"{where}: the key has {len(word)} characters, and at least {SHORTEST} are needed.",
            hint=f"Make one: {_MAKE}",
        )
    return _digest_of(word)


def _digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

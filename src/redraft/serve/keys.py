"""API keys: what each may use, and how much. The server keeps their digests alone.

A file has a key a line, as it is or as `sha256:` and its digest, and behind it what holds for it:

    sha256:5e88…1542 name=alice models=default,default-revise requests-per-minute=60 parallel=4

A key without `models` may use all. Minutes slide: what happened in the last 60 seconds counts. Tokens count
when a request has ended, so that the last one may go beyond the limit, as in OpenAI's API.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any, Self

from redraft.counting import counted
from redraft.errors import UsageError
from redraft.serve.errors import Refusal

SHORTEST = 16
"""Fewest characters of a key: a shorter one can be guessed."""

MINUTE = 60.0

WAIT = 1
"""Seconds for `Retry-After` of a key that has too many requests under way."""

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_NUMBERS = ("requests-per-minute", "tokens-per-minute", "parallel")
_SETTINGS = ("name", "models", *_NUMBERS)


@dataclass
class Key:
    """A key, and what was used with it of late.

    Attributes:
        digest: SHA-256 of the key.
        name: For the log; the beginning of the digest if the file has none.
        models: The names of the models that it may use; None for all.
        requests: Most requests a minute, or None.
        tokens: Most tokens a minute, read and written, or None.
        parallel: Most requests at once, or None.
    """

    digest: bytes = field(default=b"", repr=False)
    name: str = ""
    models: frozenset[str] | None = None
    requests: int | None = None
    tokens: int | None = None
    parallel: int | None = None
    _begun: deque[tuple[float, int]] = field(default_factory=deque, repr=False)
    _used: deque[tuple[float, int]] = field(default_factory=deque, repr=False)
    _inside: int = 0

    def allows(self, model: str) -> bool:
        """Return whether it may use a model. What it may not use, it does not see."""
        return self.models is None or model in self.models

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count a request that asks a model, while the body runs.

        Raises:
            Refusal: There were too many, or too many are under way. It says how long to wait.
        """
        now = monotonic()
        if self.parallel is not None and self._inside >= self.parallel:
            raise self._too_many(f"{counted(self.parallel, 'request')} at once", WAIT)
        for what, most, past in (
            ("requests", self.requests, self._begun),
            ("tokens", self.tokens, self._used),
        ):
            if most is not None and (wait := _wait(past, most, now)):
                raise self._too_many(f"{most:,} {what} a minute", wait)
        if self.requests is not None:
            self._begun.append((now, 1))
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def pay(self, tokens: int) -> None:
        """Count the tokens of a request that has ended."""
        if self.tokens is not None and tokens:
            self._used.append((monotonic(), tokens))

    def _too_many(self, limit: str, wait: int) -> Refusal:
        message = f"the limit of the key {self.name!r} is {limit}."
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_exceeded", message, wait=wait)


def _wait(past: deque[tuple[float, int]], most: int, now: float) -> int:
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


ANYONE = Key()
"""Stands for the clients of a server without keys, which is for this machine alone."""


@dataclass(frozen=True)
class Keys:
    """The keys that clients may use."""

    all: tuple[Key, ...]

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of keys. `#` begins a comment.

        Raises:
            UsageError: It cannot be read, or a line is wrong. No message shows a key.
        """
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
        if not found:
            raise UsageError(f"{path} has no key.", hint=f"{_MAKE} > {path}")
        return cls(tuple(found.values()))

    def find(self, authorization: str) -> Key | None:
        """Return the key in the value of an `Authorization` header, `Bearer KEY`; None if it is no key."""
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        matches = [each for each in self.all if hmac.compare_digest(given, each.digest)]  # compares all
        return matches[0] if matches and scheme.lower() == "bearer" else None

    def lacking(self, models: Iterable[str]) -> list[str]:
        """Return the models that keys may use and that are not among these."""
        named = {name for key in self.all for name in key.models or ()}
        return sorted(named - set(models))


def _key(words: list[str], where: str) -> Key:
    """Read the words of a line."""
    digest = _digest(words[0], where)
    found: dict[str, Any] = {}
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in _SETTINGS or not value:
            near = get_close_matches(name, _SETTINGS, n=1)
            hint = f"Did you mean {near[0]}=…?" if near else f"It may have: {'=… '.join(_SETTINGS)}=…"
            raise UsageError(f"{where}: a key has no setting {word!r:.40}.", hint=hint)
        if name in found:
            raise UsageError(f"{where}: {name} is there twice.", hint="Keep one.")
        if name in _NUMBERS and not (value.isdecimal() and int(value)):
            raise UsageError(f"{where}: {name} is {value!r:.40}.", hint="It should be a number above 0.")
        found[name] = value
    models = frozenset(found["models"].split(",")) if "models" in found else None
    requests, tokens, parallel = (int(found[name]) if name in found else None for name in _NUMBERS)
    return Key(digest, found.get("name", digest.hex()[:8]), models, requests, tokens, parallel)


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
    return hashlib.sha256(word.encode()).digest()

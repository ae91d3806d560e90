"""Check API keys, and limit the models and requests of each key. The server stores only digests of keys.

Each line of a key file contains a key and the key's limits (docs/operate.md). The key is plain text, or
`sha256:` and a digest. Limits per minute cover the last 60 seconds. A request counts before its body is read.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any, Self

from redraft.errors import UsageError, nearest
from redraft.jobs.counting import counted
from redraft.serve.errors import Refusal
from redraft.serve.gate import WAIT

_log = logging.getLogger(__name__)

SHORTEST = 16  # fewest characters of a key: a shorter one can be guessed
MINUTE = 60.0

_DIGEST = re.compile(r"sha256:(?:([0-9a-f]{64})|.*)", re.IGNORECASE)  # the group is missing in a wrong digest
_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_SETTINGS = ("name", "models", "requests-per-minute", "parallel")  # the settings of a key


@dataclass
class Used:
    """The recent usage of a key."""

    begun: deque[float] = field(default_factory=deque)  # arrival times of the requests of the last minute
    inside: int = 0  # requests under way


@dataclass
class Key:
    """A key, and its recent usage."""

    digest: bytes = field(default=b"", repr=False)
    name: str = ""  # for the log; the beginning of the digest if the file gives no name
    models: frozenset[str] | None = None  # the models that the key may use; None for all
    requests: int | None = None
    parallel: int | None = None
    used: Used = field(default_factory=Used, repr=False, compare=False)

    def allows(self, model: str) -> bool:
        """Return whether the key may see and use a model."""
        return self.models is None or model in self.models

    @contextmanager
    def entered(self, seen: Mapping[str, Any]) -> Iterator[None]:
        """Count a request inside the `with` block. Raise `Refusal` if the request exceeds a limit of the key.

        A request does not count if the caller stores the status 503 in `seen`.
        """
        used, came = self.used, monotonic()
        if self.parallel is not None and used.inside >= self.parallel:
            raise self._too_many(f"{counted(self.parallel, 'request')} at once", WAIT)
        if self.requests is not None:
            while used.begun and used.begun[0] <= came - MINUTE:
                used.begun.popleft()
            if len(used.begun) >= self.requests:
                seconds = math.ceil(used.begun[-self.requests] + MINUTE - came)
                raise self._too_many(f"{counted(self.requests, 'request')} a minute", seconds)
            used.begun.append(came)
        used.inside += 1
        try:
            yield
        finally:
            used.inside -= 1
            if seen.get("status") == HTTPStatus.SERVICE_UNAVAILABLE and came in used.begun:
                used.begun.remove(came)

    def _too_many(self, limit: str, wait: int) -> Refusal:
        message = f"the key {self.name!r} has reached its limit of {limit}. Try again in {wait} s."
        return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_exceeded", message, wait=wait)


ANYONE = Key()  # for the clients of a server without keys, which only this machine can reach


@dataclass
class Keys:
    """The keys that clients may use."""

    all: tuple[Key, ...]
    path: Path
    _seen: tuple[int, ...] = ()
    _served: Sequence[str] = ()  # the names of the models, once they are known
    _told: set[tuple[bytes, str]] = field(default_factory=set)  # the keys and models of earlier warnings
    _used: dict[bytes, Used] = field(default_factory=dict)  # a dropped key may come back

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file. `#` begins a comment."""
        seen = _seen(path)  # before reading, so that a change meanwhile is noticed later
        return cls(_keys(_lines(path), path), path, seen)

    @classmethod
    def once(cls, key: str) -> Self:
        """Return a `Keys` that has only `key` and no file."""
        return cls((Key(digest_of(key)),), Path())

    def find(self, authorization: str) -> Key | None:
        """Return the key in an `Authorization` header (`Bearer KEY`), or None if the key is unknown."""
        self._read_again()
        scheme, _, key = authorization.partition(" ")
        given = digest_of(key.strip())
        matches = [each for each in self.all if hmac.compare_digest(given, each.digest)]  # always compare all
        return matches[0] if matches and scheme.lower() == "bearer" else None

    def now(self, key: Key) -> Key | None:
        """Return the current version of a key from the key file, or None if the key was revoked."""
        self._read_again()
        return next((each for each in self.all if each.digest == key.digest), None)

    def _read_again(self) -> None:
        if self.path == Path() or (seen := _seen(self.path)) == self._seen:
            return
        self._seen = seen
        self._used |= {key.digest: key.used for key in self.all}
        try:
            lines = _lines(self.path)
        except UsageError as error:
            _log.warning("%s The earlier keys stay valid.", error.message)
            return
        try:
            found = _keys(lines, self.path)
        except UsageError as error:
            listed = {_digest(words[0]) for words in lines.values()}
            dropped = ", ".join(key.name for key in self.all if key.digest not in listed)
            told = "%s Until the file is right, new keys and changed settings do not apply. Revoked keys: %s."
            _log.warning(told, error.message, dropped or "none")
            self.all = tuple(key for key in self.all if key.digest in listed)
            return
        for key in found:
            key.used = self._used.get(key.digest, key.used)
        self.all = found
        _log.info("the keys were read again: %s", counted(len(found), "key"))
        self.expect(self._served)

    def expect(self, served: Sequence[str]) -> None:
        """Warn of duplicate names and of keys for models not in `served`. Check again if the file changes."""
        self._served = served
        for name, count in Counter(key.name for key in self.all).items():
            if count > 1 and (b"", name) not in self._told:
                _log.warning("%d keys are called %r: metrics add them up.", count, name)
                self._told.add((b"", name))
        for key in self.all:
            for name in sorted((key.models or frozenset()).difference(served or key.models or ())):
                hint = nearest(name, served) or f"Models: {', '.join(served)}"
                if (key.digest, name) not in self._told:
                    _log.warning("the key %r may use %r, which is not served. %s", key.name, name, hint)
                self._told.add((key.digest, name))


def _seen(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_size, found.st_ino


def _lines(path: Path) -> dict[int, list[str]]:
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the file is not UTF-8"
        raise UsageError(f"the keys in {path} cannot be read: {reason}.") from None
    if not lines:  # it may be in the middle of being rewritten
        raise UsageError(f"{path} is empty.", hint=f"Make a key: {_MAKE} > {path}")
    return {number: words for number, words in enumerate(lines, start=1) if words and words[0][0] != "#"}


def _keys(lines: Mapping[int, list[str]], path: Path) -> tuple[Key, ...]:
    found: dict[bytes, Key] = {}
    for number, words in lines.items():
        key = _key(words, f"{path}:{number}")
        if key.digest in found:
            raise UsageError(f"{path}:{number}: the key appears twice.", hint="Keep one line.")
        found[key.digest] = key
    if not found:
        raise UsageError(f"{path} contains no key.", hint=f"Make one: {_MAKE} > {path}")
    return tuple(found.values())


def _key(words: list[str], where: str) -> Key:
    word, digest, found = words[0], _digest(words[0]), dict[str, Any]()
    if not digest:
        message = f"{where}: the digest has {len(word) - 7} characters, but needs 64 hexadecimal digits."
        raise UsageError(message, hint="Make the 64 digits: printf %s KEY | sha256sum")
    if len(word) < SHORTEST:
        message = f"{where}: the key has {len(word)} characters, but needs at least {SHORTEST}."
        raise UsageError(message, hint=f"Make one: {_MAKE}")
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name not in _SETTINGS or not value:
            near = get_close_matches(name, _SETTINGS, n=1)
            hint = f"Did you mean {near[0]}=…?" if near else f"Settings: {'=… '.join(_SETTINGS)}=…"
            shown = repr(word) if near or len(word) < SHORTEST else "one of the words"  # it may be a key
            raise UsageError(f"{where}: {shown:.40} after the API key is not a setting.", hint=hint)
        if (attribute := name.removesuffix("-per-minute")) in found:
            raise UsageError(f"{where}: {name} appears twice.", hint="Keep one.")
        found[attribute] = _value(name, value, where)
    return Key(digest, **{"name": digest.hex()[:8], **found})


def _value(name: str, value: str, where: str) -> Any:
    if name == "models":
        return frozenset(value.split(","))
    if name != "name" and not (re.fullmatch(r"[0-9]{1,15}", value) and int(value)):
        raise UsageError(f"{where}: {name} is {value!r:.40}.", hint="It should be a whole number above 0.")
    return value if name == "name" else int(value)


def _digest(word: str) -> bytes:
    found = _DIGEST.fullmatch(word)
    return bytes.fromhex(found[1] or "") if found else digest_of(word)


def digest_of(key: str) -> bytes:
    """Return the digest that is stored instead of a key or of a login cookie."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()

"""API keys. The server keeps their digests alone, and compares them in constant time."""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from redraft.errors import UsageError

SHORTEST = 16
"""Fewest characters of a key: a shorter one can be guessed."""

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.IGNORECASE)
_MAKE = "python -c 'import secrets; print(secrets.token_urlsafe(32))'"


@dataclass(frozen=True)
class Keys:
    """The keys that clients may use, as SHA-256 digests."""

    digests: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file with a key, or `sha256:` and a digest in hex, on each line. `#` begins a comment.

        Raises:
            UsageError: It cannot be read, has no key, or one that is too short. No message shows a key.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise UsageError(f"the keys in {path} cannot be read: {reason}.") from None
        found = [_digest(line.strip(), f"{path}:{number}") for number, line in enumerate(lines, start=1)]
        digests = tuple(digest for digest in found if digest is not None)
        if not digests:
            raise UsageError(f"{path} has no key.", hint=f"{_MAKE} > {path}")
        return cls(digests)

    def known(self, authorization: str) -> bool:
        """Return whether the value of an `Authorization` header is `Bearer` and one of the keys."""
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        matches = [hmac.compare_digest(given, digest) for digest in self.digests]  # all, whichever it is
        return scheme.lower() == "bearer" and any(matches)


def _digest(line: str, where: str) -> bytes | None:
    """Return the digest of a line's key; None for an empty line or a comment."""
    if not line or line.startswith("#"):
        return None
    if digest := _DIGEST.fullmatch(line):
        return bytes.fromhex(digest[1])
    if len(line) < SHORTEST:
        raise UsageError(
            f"{where}: the key has {len(line)} characters, and at least {SHORTEST} are needed.",
            hint=f"Make one: {_MAKE}",
        )
    return hashlib.sha256(line.encode()).digest()

"""Who is logged in on the page: a cookie stands for the key that a person gave.

Scripts cannot read the cookie (HttpOnly), and no other site's request carries it (SameSite=Strict). The
server keeps its digest alone.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from redraft.serve.keys import Key, Keys

COOKIE = "redraft_session"
LIFETIME = 12 * 3600  # seconds that a login lasts
MOST = 10_000  # most logins at a time; the oldest ends first


@dataclass
class Logins:
    """The logins, by the digests of their cookies."""

    keys: Keys
    cookie: str = COOKIE  # a name: ports of a machine share cookies
    _open: OrderedDict[bytes, tuple[float, Key]] = field(default_factory=OrderedDict)

    def enter(self, key: str, *, secure: bool) -> str | None:
        """Return the cookie for a key, as the value of `Set-Cookie`; None if the key is wrong."""
        if (found := self.keys.find(f"Bearer {key}")) is None:
            return None
        token = secrets.token_urlsafe(32)
        self._open[_digest(token)] = time.monotonic() + LIFETIME, found
        while len(self._open) > MOST:
            self._open.popitem(last=False)
        return self._cookie(token, LIFETIME, secure=secure)

    def key_of(self, cookies: str) -> Key | None:
        """Return the key that a visitor came with; None if they are not logged in.

        Only digests are looked up, so the time it takes says nothing about tokens.
        """
        ends, key = self._open.get(_digest(self._token(cookies)), (0.0, None))
        return self.keys.now(key) if key and time.monotonic() < ends else None

    def leave(self, cookies: str) -> str:
        """End a login. Return the value of `Set-Cookie` that forgets it."""
        self._open.pop(_digest(self._token(cookies)), None)
        return self._cookie("", 0, secure=False)

    def _token(self, cookies: str) -> str:
        try:
            found = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return ""
        return found.value if found else ""

    def _cookie(self, token: str, seconds: int, *, secure: bool) -> str:
        kept = f"Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict" + "; Secure" * secure
        return f"{self.cookie}={token}; {kept}"


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()

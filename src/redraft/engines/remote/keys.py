"""Several keys of one server, used in turn. A key that is refused is dropped, and the others go on."""

from __future__ import annotations

from collections.abc import Generator

import httpx

from redraft.config import Key


class KeyRing:
    """The keys of a server, or none.

    Args:
        key: The key, with others in rotation.
    """

    def __init__(self, key: Key | None) -> None:
        self._all = key.values if key else ()
        self._left = list(self._all)

    def next(self) -> str | None:
        """Return the key whose turn it is."""
        if not self._left:
            return None
        self._left.append(self._left.pop(0))
        return self._left[-1]

    def drop(self, value: str | None) -> int:
        """Drop a key if there are others. Return its number, or 0 if it is the last or was dropped before."""
        if value not in self._left or len(self._left) == 1:
            return 0
        self._left.remove(value)
        return self._all.index(value) + 1

    @property
    def left(self) -> str:
        """The key that is left, in words for a message: its number, if there were several."""
        number = self._all.index(self._left[0]) + 1
        return "the key" if len(self._all) == 1 else f"key {number} of {len(self._all)}"

    def has_other(self, value: str | None) -> bool:
        """Whether another key is left to try."""
        return any(each != value for each in self._left)


class Bearer(httpx.Auth):
    """Adds a key at the last moment, so that no request object in our code holds it."""

    def __init__(self, value: str) -> None:
        self._value = value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header."""
        request.headers["Authorization"] = f"Bearer {self._value}"
        yield request

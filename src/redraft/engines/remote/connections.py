"""Connections to one server, and its keys, which are used in turn.

Each request under way has an HTTP client of its own, so that hundreds at once stay cheap: httpcore's pool
compares all of its connections with one another whenever a request begins or ends. With 200 at once, that
takes more time than everything else together (benchmarks/generate.py, row `overhead`). A lane is a client
with one connection. The lane that was used last goes first, because its connection is open.

httpcore also tries to import `sniffio` for each lock that it makes. Where that is not installed, the search
through all folders takes 0.4 to 1.1 ms of the 3 to 4 ms of a request (row `overhead`). So while lanes are
open, `sys.modules` says at once that there is none.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Generator
from functools import cache
from types import ModuleType
from typing import Any, cast

import httpx

from redraft.config import Key

_MODULES = cast("dict[str, ModuleType | None]", sys.modules)
"""A None makes an import fail at once (the Python Language Reference, 5.3.1)."""


class Lanes:
    """Clients with the same settings, the arguments of `httpx.AsyncClient`."""

    def __init__(self, **settings: Any) -> None:
        # What connections are checked with takes longer to read than a small request.
        self._settings: dict[str, Any] = {"verify": _certificates(), **settings}
        self._free: list[httpx.AsyncClient] = []
        self._all: list[httpx.AsyncClient] = []
        self.closed = False
        if importlib.util.find_spec("sniffio") is None:
            _MODULES["sniffio"] = None

    async def send(self, *, auth: httpx.Auth | None, **request: Any) -> httpx.Response:
        """Send a request, given as the arguments of `build_request`. `close` gives its lane back."""
        if self._free:
            lane = self._free.pop()
        else:
            lane = httpx.AsyncClient(**self._settings)
            self._all.append(lane)
        try:
            response = await lane.send(lane.build_request(**request), auth=auth, stream=True)
        except BaseException:
            self._free.append(lane)
            raise
        response.extensions["lane"] = lane
        return response

    async def close(self, response: httpx.Response) -> None:
        """Close a response, read or not. Closing twice does no harm."""
        try:
            await response.aclose()
        finally:
            if lane := response.extensions.pop("lane", None):
                self._free.append(lane)

    async def aclose(self) -> None:
        """Close all connections."""
        self.closed = True
        for lane in self._all:
            await lane.aclose()
        if _MODULES.get("sniffio", sys) is None:
            del _MODULES["sniffio"]


_certificates = cache(httpx.create_ssl_context)


class KeyRing:
    """The keys of a server, or none."""

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

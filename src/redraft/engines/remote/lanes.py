"""One HTTP client for each request under way, so that hundreds at once stay cheap.

httpcore's pool compares all of its connections with one another whenever a request begins or ends: with 200
at once, that takes more time than everything else together (benchmarks/generate.py, row `overhead`). A lane
is a client with one connection. The lane that was used last goes first, because its connection is open.

httpcore also tries to import `sniffio` for each lock that it makes. Where that is not installed, the search
through all folders takes 0.4 to 1.1 ms of the 3 to 4 ms of a request (row `overhead`). So while lanes are
open, `sys.modules` says at once that there is none.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import httpx


class Lanes:
    """Clients with the same settings.

    Args:
        settings: Arguments of `httpx.AsyncClient`.

    Attributes:
        closed: Whether they were closed.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings: dict[str, Any] = {"verify": httpx.create_ssl_context(), **settings}
        self._free: list[httpx.AsyncClient] = []
        self._all: list[httpx.AsyncClient] = []
        self.closed = False
        if importlib.util.find_spec("sniffio") is None:
            sys.modules["sniffio"] = None  # type: ignore[assignment]

    async def send(self, *, auth: httpx.Auth | None, **request: Any) -> httpx.Response:
        """Send a request, and return a response to read. `close` gives the lane back.

        Args:
            auth: Adds the key.
            request: Arguments of `httpx.AsyncClient.build_request`.

        Raises:
            httpx.RequestError: As httpx does.
        """
        lane = self._free.pop() if self._free else self._new()
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
        if not sys.modules.get("sniffio", True):
            del sys.modules["sniffio"]

    def _new(self) -> httpx.AsyncClient:
        lane = httpx.AsyncClient(**self._settings)
        self._all.append(lane)
        return lane

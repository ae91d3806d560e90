"""Forbids every connection but those to this machine, in the tests and in each Python that they start.

`conftest.py` loads this file in the test process and puts its folder on PYTHONPATH, where Python itself
imports a module of this name at its start. Processes that are not Python are not guarded.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any


class NetworkForbidden(Exception):
    """A test tried to reach another machine."""


def forbid_network() -> None:
    """Patches `socket`: names other than localhost do not resolve, other addresses do not connect."""
    if getattr(socket, "redraft_guarded", False):
        return
    socket.redraft_guarded = True  # type: ignore[attr-defined]
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _allow(self, address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _allow(self, address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        _allow_host(host)
        return getaddrinfo(host, *args, **kwargs)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign]
    socket.getaddrinfo = guarded_getaddrinfo


def _allow(sock: socket.socket, address: Any) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        _allow_host(address[0])


def _allow_host(host: Any) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return
    try:
        local = ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        local = False
    # 0.0.0.0 is what a server binds to, and as a destination it is this machine.
    if not local and name not in ("0.0.0.0", "::"):  # noqa: S104
        raise NetworkForbidden(f"a test wants to reach {name!r}; tests may only talk to 127.0.0.1")


forbid_network()

"""Which requests a server on this machine takes, by their `Host` and `Origin`.

A page of another site could reach it from a browser here: by a name that it made to mean 127.0.0.1 (DNS
rebinding), or by a plain cross-site request. `redraft serve` and `redraft vote` refuse both.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence


def why_refused(hosts: Sequence[str], origins: Sequence[str], *, here_alone: bool) -> str:
    """Return why a request is refused; empty if it may pass."""
    if len(hosts) != 1:
        return "a request names one host."
    name, _, port = hosts[0].rpartition(":")  # a tunnel may have another port
    name = name if port.isdecimal() else hosts[0]
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if here_alone and not is_loopback(name):
        return "this server is for this machine alone, and the request is for another host."
    if any(origin.partition("://")[2] != hosts[0] for origin in origins):
        return "the request is from a page of another site."
    return ""


def is_loopback(host: str) -> bool:
    """Return whether a name or address is always this machine. Another name may be made to mean anything."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"

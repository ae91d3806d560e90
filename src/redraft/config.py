"""The user's config file: defaults for flags, keys of servers, prices of models.

It is `~/.config/redraft/config.toml` (`$XDG_CONFIG_HOME` moves it, `$REDRAFT_CONFIG` names another file) and
need not exist. This module reads and checks it. `cli` applies the defaults; `engines` uses the rest.

    [defaults]                       # the names of the flags of `ask` and `answer`
    model = "http://localhost:8000/v1#qwen"
    temperature = 0.2

    [keys]                           # keys of a host; "env:NAME" takes them from the environment
    "api.example.com" = "env:EXAMPLE_KEY"
    "api.example.org" = ["env:FIRST_KEY", "env:SECOND_KEY"]   # used in turn
    "10.0.0.5:8000" = { key = "env:LAB_KEY", plain_http = true }

    [servers]                        # short names: --model lab:qwen
    lab = "http://10.0.0.5:8000/v1"

    [prices."api.example.com#big"]   # USD per million tokens
    prompt = 1.25
    completion = 10.0
    cached = 0.125
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from sys import float_info
from typing import Any
from urllib.parse import urlsplit

from redraft.errors import UsageError, fault_of, nearest
from redraft.servers import SERVERS, variable_of

PREFIX = "REDRAFT_KEY_"  # prefix of the environment variables with keys

_TABLES = ("defaults", "keys", "servers", "prices")
_PRICES = ("prompt", "completion", "cached")
_SCHEMES = ("http", "https", "script")  # these begin other references


@dataclass(frozen=True)
class Key:
    """The key of a server. Its value is in no `repr`.

    Attributes:
        plain_http: Whether it may be sent unencrypted to another machine.
    """

    value: str = field(repr=False)
    source: str
    plain_http: bool = False


@dataclass(frozen=True)
class KeyEntry:
    """A line of `[keys]`: the text is `env:NAME` or the key itself, and in no `repr`."""

    text: str = field(repr=False)
    plain_http: bool = False

    @property
    def variable(self) -> str:
        """The environment variable that the entry names; empty if it holds the key itself."""
        return self.text.removeprefix("env:") if self.text.startswith("env:") else ""


@dataclass(frozen=True)
class Config:
    """The contents of the config file.

    Attributes:
        defaults: Flag name (with `_`) to value.
        keys: `host` or `host:port` to its entry.
        servers: Short name to the base address of a server.
        prices: `host#model`, or the reference of a local model, to USD per million tokens: `prompt`,
            `completion` and optionally `cached`.
    """

    path: Path
    defaults: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, KeyEntry] = field(default_factory=dict)
    servers: Mapping[str, str] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def key_for(self, url: str) -> Key | None:
        """Return the key for the server of a URL, or None.

        The environment comes first (`key_variable`), then `[keys]`; in each, `host:port` before `host`.
        Variables such as `OPENAI_API_KEY` are for their own hosts (`redraft.servers`) over https only, unless
        `[keys]` names them for others.
        """
        names = _host_names(url)
        entry = next((self.keys[name] for name in names if name in self.keys), None)
        plain_http = entry is not None and entry.plain_http
        for variable in map(key_variable, names):
            if value := os.environ.get(variable):
                return Key(value, variable, plain_http)
        if entry is not None:
            return Key(self._value(entry, names[-1]), f"[keys] of {self.path}", plain_http)
        variable = variable_of(names[-1]) if urlsplit(url).scheme == "https" else ""
        known = os.environ.get(variable) if variable else None
        return Key(known, variable) if known else None

    def address_of(self, name: str) -> str | None:
        """Return the base address of the server with a short name, or None."""
        known = SERVERS.get(name)
        return self.servers.get(name) or (known.url if known else None)

    def price_for(self, url: str, model: str) -> Mapping[str, float] | None:
        """Return the prices of a model on the server of a URL, or None."""
        found = (self.prices.get(f"{name}#{model}") for name in _host_names(url))
        return next((price for price in found if price is not None), None)

    def _value(self, entry: KeyEntry, host: str) -> str:
        if not (name := entry.variable):
            return entry.text
        if not (value := os.environ.get(name)):
            message = f"{self.path}: keys.{host!r} takes the key from ${name}, which is not set."
            raise UsageError(message, hint=f"export {name}=…")
        return value


def key_variable(host: str) -> str:
    """Return the environment variable of a host's key: `REDRAFT_KEY_API_EXAMPLE_COM` for `api.example.com`.

    A dash becomes two underscores, so that `a-b.com` and `a.b.com` differ.
    """
    return PREFIX + re.sub(r"[^A-Z0-9_]", "_", host.upper().replace("-", "__"))


def config_path() -> Path:
    """Return the path of the config file."""
    if named := os.environ.get("REDRAFT_CONFIG"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path("~/.config").expanduser()) / "redraft" / "config.toml"


def load_config(path: Path | None = None) -> Config:
    """Read the config file. It may be missing unless `$REDRAFT_CONFIG` or `path` names it."""
    named = path is not None or "REDRAFT_CONFIG" in os.environ
    path = path or config_path()
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if named:
            raise UsageError(f"there is no config file at {path}.", hint="See docs/engines.md.") from None
        return Config(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not TOML: {fault_of(error)}.", hint='A line reads: name = "text"'
        ) from None
    tables = {name: _table(path, document[name], name, None) for name in _known(path, document, _TABLES)}
    defaults: Mapping[str, Any] = {}
    if given := tables.get("defaults"):
        from redraft.options import Defaults

        defaults = Defaults.read_file(given, where=f"{path}: ", table="defaults.").explicit
    keys = {host.lower(): _key(path, entry, host) for host, entry in tables.get("keys", {}).items()}
    servers = {name: _server(path, url, name) for name, url in tables.get("servers", {}).items()}
    prices = {}
    for name, price in tables.get("prices", {}).items():
        host, mark, model = name.partition("#")
        known_as = f"{host.lower()}#{model}" if mark and "/" not in host else name
        prices[known_as] = _price(path, price, name)
    return Config(path, defaults, keys, servers, prices)


def _key(path: Path, entry: Any, host: str) -> KeyEntry:
    where = f'keys."{host}"'
    if "/" in host:
        raise _fault(path, f"{where}: a key belongs to a host, without http:// and path.")
    table = (
        {"key": entry} if isinstance(entry, str | list) else _table(path, entry, where, ("key", "plain_http"))
    )
    key, plain_http = table.get("key"), table.get("plain_http", False)
    if not isinstance(key, str) or not key.removeprefix("env:").strip():
        raise _fault(path, f"{where} has no key.", 'Write "env:NAME" or the key itself. A host has one key.')
    if not isinstance(plain_http, bool):
        raise _fault(path, f"{where}.plain_http should be true or false.")
    return KeyEntry(key, plain_http)


def _server(path: Path, url: Any, name: str) -> str:
    if not re.fullmatch(r"[\w-]+", name) or name in _SCHEMES:
        raise _fault(path, f"servers.{name!r} is no short name.", 'lab = "http://10.0.0.5:8000/v1"')
    if not isinstance(url, str) or not re.match(r"https?://[^#]+$", url):
        raise _fault(
            path, f"servers.{name} is {url!r:.80}, and no address.", f'{name} = "http://host:port/v1"'
        )
    return url


def _price(path: Path, price: Any, name: str) -> Mapping[str, float]:
    where = f'prices."{name}"'
    table = _table(path, price, where, _PRICES)
    if not ("#" in name or "/" in name or name in ("default", "default-base") or name.endswith(".gguf")):
        raise _fault(path, f"{where} names no model.", f'[prices."{name}#model"]')
    for part, value in table.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= float_info.max:
            raise _fault(path, f"{where}.{part} is {value!r}, and should be USD per million tokens.")
    if missing := [part for part in _PRICES[:2] if part not in table]:
        raise _fault(path, f"{where} lacks {' and '.join(missing)}.")
    return {part: float(value) for part, value in table.items()}


def _table(path: Path, value: Any, where: str, names: Sequence[str] | None) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _fault(path, f"{where} should be a table.", f"[{where}]")
    return value if names is None else _known(path, value, names, f"{where}.")


def _known(path: Path, table: Mapping[str, Any], names: Sequence[str], prefix: str = "") -> Mapping[str, Any]:
    for name in table:
        if name not in names:
            message = f"nothing is called {prefix}{name}. {nearest(name, names, prefix)}".rstrip()
            raise _fault(path, message, "Known: " + ", ".join(names))
    return table


def _fault(path: Path, message: str, hint: str | None = None) -> UsageError:
    return UsageError(f"{path}: {message}", hint=hint)


def _host_names(url: str) -> list[str]:
    """Return the names of a server in the config, most exact first: `host:port` if it has a port, `host`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        message = f"{url!r} is not the address of a server: {error}."
        raise UsageError(message, hint="http://host:port/v1#model") from None
    host = (parts.hostname or "").lower()
    return [f"{host}:{port}", host] if port else [host]

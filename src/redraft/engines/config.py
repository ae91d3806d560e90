"""Read and check the user's config file: keys and names of servers, model prices, and defaults for flags.

The path is `$REDRAFT_CONFIG`, or else `redraft/config.toml` in `$XDG_CONFIG_HOME` or `~/.config`. A file that
`$REDRAFT_CONFIG` names must exist. `cli` applies the defaults, and `engines` the rest (docs/engines.md).
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redraft.engines.names import variable_of
from redraft.errors import UsageError, fault_of
from redraft.options import Defaults, OptionModel, option

PREFIX = "REDRAFT_KEY_"  # prefix of the environment variables with keys


@dataclass(frozen=True)
class Key:
    """A server's API key. `repr` hides the value."""

    value: str = field(repr=False)
    source: str
    plain_http: bool = False  # whether the key may be sent unencrypted to another machine


class KeyEntry(OptionModel):
    """An entry of the table `[keys]`. `repr` hides the key."""

    key: str = option(
        "env:NAME or the key itself", default=..., what="env:NAME or the key itself", repr=False
    )
    plain_http: bool = option("whether the key may be sent unencrypted to another machine", default=False)

    @property
    def variable(self) -> str:
        """The environment variable that the entry names; empty if the entry contains the key."""
        return self.key.removeprefix("env:") if self.key.startswith("env:") else ""


class PriceEntry(OptionModel):
    """A table of `[prices]`, in USD per million tokens."""

    prompt: float = option("price of prompt tokens", default=..., ge=0)
    completion: float = option("price of answer tokens", default=..., ge=0)
    cached: float | None = option("price of tokens in a server's cache", ge=0)


class _Tables(OptionModel):
    defaults: dict[str, Any] = option("flags", default={}, what="a table")
    keys: dict[str, Any] = option("keys of hosts", default={}, what="a table")
    servers: dict[str, str] = option(
        "short names of servers", default={}, what='a table of addresses: lab = "http://10.0.0.5:8000/v1"'
    )
    prices: dict[str, Any] = option("prices of models", default={}, what="a table")


@dataclass(frozen=True)
class Config:
    """The contents of the config file."""

    path: Path
    defaults: Mapping[str, Any] = field(default_factory=dict)  # flag name (with `_`) to value
    keys: Mapping[str, KeyEntry] = field(default_factory=dict)  # `host` or `host:port` to its entry
    servers: Mapping[str, str] = field(default_factory=dict)  # short name to the base address of a server
    # `host#model` to USD per million tokens: `prompt`, `completion` and optionally `cached`.
    prices: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def key_for(self, url: str) -> Key | None:
        """Return the key for a URL's server, or None.

        Look in variables `REDRAFT_KEY_…`, and then in `[keys]`: first for `host:port`, then for `host`. For a
        known provider over https, look last in a variable such as `OPENAI_API_KEY`.
        """
        names = _host_names(url)
        entry = next((self.keys[name] for name in names if name in self.keys), None)
        plain_http = entry is not None and entry.plain_http
        for variable in map(key_variable, names):
            if value := os.environ.get(variable):
                return Key(value, variable, plain_http)
        if entry is not None:
            name = entry.variable
            key = os.environ.get(name, "") if name else entry.key
            if name and not key:
                message = f"{self.path}: keys.{names[-1]!r} reads the key from ${name}, which is not set."
                raise UsageError(message, hint=f"export {name}=…")
            return Key(key, f"[keys] of {self.path}", plain_http)
        variable = variable_of(names[-1]) if urlsplit(url).scheme == "https" else ""
        known = os.environ.get(variable) if variable else None
        return Key(known, variable) if known else None

    def price_for(self, url: str, model: str) -> Mapping[str, float] | None:
        """Return the prices of a model on a URL's server, or None."""
        found = (self.prices.get(f"{name}#{model}") for name in _host_names(url))
        return next((price for price in found if price is not None), None)


def key_variable(host: str) -> str:
    """Return the environment variable for a host's key: `REDRAFT_KEY_API_EXAMPLE_COM` for `api.example.com`.

    A dash becomes two underscores.
    """
    return PREFIX + re.sub(r"[^A-Z0-9_]", "_", host.upper().replace("-", "__"))


def config_path() -> Path:
    """Return the path of the config file."""
    if named := os.environ.get("REDRAFT_CONFIG"):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path("~/.config").expanduser()) / "redraft" / "config.toml"


def load_config(path: Path | None = None) -> Config:
    """Read the config file. A file that `path` or `$REDRAFT_CONFIG` names must exist."""
    named = path is not None or bool(os.environ.get("REDRAFT_CONFIG"))
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
        raise UsageError(f"{path} is not TOML: {fault_of(error)}.", hint='Example: name = "text"') from None
    tables, where = _Tables.read(document, where=f"{path}: "), f"{path}: "
    return Config(
        path,
        Defaults.read_file(tables.defaults, where=where, table="defaults.").explicit,
        {host.lower(): _key(where, entry, host) for host, entry in tables.keys.items()},
        tables.servers,
        dict(_price(where, price, name) for name, price in tables.prices.items()),
    )


def _entry(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where} should be a table.", hint=f"Write: [{where.partition(': ')[2]}]")
    return value


def _key(where: str, entry: Any, host: str) -> KeyEntry:
    table = f'keys."{host}"'
    if "/" in host:
        raise UsageError(f"{where}{table} is not the name of a host: leave out http:// and the path.")
    given = {"key": entry} if isinstance(entry, str) else _entry(entry, where + table)
    found = KeyEntry.read(given, where=where, table=f"{table}.")
    if not found.key.removeprefix("env:").strip():
        raise UsageError(f"{where}{table} has no key.", hint='Write "env:NAME" or the key itself.')
    return found


def _price(where: str, price: Any, name: str) -> tuple[str, Mapping[str, float]]:
    table = f'prices."{name}"'
    if "#" not in name:
        hint = f'Write [prices."{name}#model"] for a server. For a model on this machine, use --price IN,OUT'
        raise UsageError(f"{where}{table} does not name a model.", hint=hint)
    found = PriceEntry.read(_entry(price, where + table), where=where, table=f"{table}.")
    host, _, model = name.partition("#")
    return f"{host.lower()}#{model}", found.explicit


def _host_names(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        message = f"{url!r} is not the address of a server: {error}."
        raise UsageError(message, hint="http://host:port/v1#model") from None
    host = (parts.hostname or "").lower()
    return [f"{host}:{port}", host] if port else [host]

"""Define short names of servers with the OpenAI protocol (`openai:gpt-5-mini`), and of models (`small`).

`names.toml` lists the names, and the config file adds servers (`[servers]`). Models with a thinking switch,
such as Qwen3-8B, are not recommended.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True)
class KnownServer:
    """A server with a short name."""

    url: str
    variable: str = ""  # the environment variable of a user's key; empty if the server needs no key


_TABLES = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))

SERVERS = {name: KnownServer(**server) for name, server in _TABLES["servers"].items()}

_MODELS = (
    (r"(chat)?gpt-|o\d", "openai:"),
    (r"claude-", "openrouter:anthropic/"),
    (r"gemini-", "gemini:"),
    (r"(qwen|llama|gemma|mi[sx]tral|phi|deepseek|granite|smollm)[\w.-]*(:[\w.-]+)?$", "ollama:"),
)
"""Patterns of bare model names, each with the prefix that turns a matching name into a reference."""


def variable_of(host: str) -> str:
    """Return the environment variable for a known host's key; empty for other hosts."""
    return next((server.variable for server in SERVERS.values() if urlsplit(server.url).hostname == host), "")


def guess(model: str) -> str:
    """Guess the reference for a bare model name: `gpt-5` gives `openai:gpt-5`. Return "" for other names."""
    return next((f"{before}{model}" for start, before in _MODELS if re.match(start, model)), "")


@dataclass(frozen=True)
class Recommended:
    """A recommended model on the hub."""

    name: str  # the short name, such as `small`, which is also a reference
    ref: str  # the reference of its file
    billions: float
    size: int  # bytes of the file on the hub
    # Memory for one chain of 4,096 tokens, in bytes: the file, 16-bit keys and values, and 300 MB to compute.
    memory: int
    licence: str
    ifeval: float  # the publisher's score on IFEval: per cent of the instructions that the model follows
    good_for: str  # the tasks and languages for which its publisher made it


RECOMMENDED = tuple(Recommended(name, **model) for name, model in _TABLES["models"].items())
BY_NAME = {model.name: model for model in RECOMMENDED}


def memory_of(repo: str, selects: str | None) -> int:
    """Return the bytes of memory that a recommended file on the hub needs; 0 for other files."""
    return {model.ref: model.memory for model in RECOMMENDED}.get(f"{repo}:{selects}", 0)

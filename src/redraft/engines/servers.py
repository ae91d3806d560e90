"""Servers with the OpenAI protocol that have a short name: `openai:gpt-5-mini`, `ollama:qwen3`.

The config file names more (`[servers]`). Addresses and variables are those of the servers' own documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class KnownServer:
    """A server.

    Attributes:
        variable: The environment variable in which its users keep their key; empty if it needs none.
    """

    url: str
    variable: str = ""


SERVERS = {
    "openai": KnownServer("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "openrouter": KnownServer("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "gemini": KnownServer("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "groq": KnownServer("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": KnownServer("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": KnownServer("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "ollama": KnownServer("http://localhost:11434/v1"),
    "lmstudio": KnownServer("http://localhost:1234/v1"),
    "vllm": KnownServer("http://localhost:8000/v1"),
}

_MODELS = (
    (r"(chat)?gpt-|o\d", "openai:"),
    (r"claude-", "openrouter:anthropic/"),
    (r"gemini-", "gemini:"),
    (r"(qwen|llama|gemma|mi[sx]tral|phi|deepseek|granite|smollm)[\w.-]*(:[\w.-]+)?$", "ollama:"),
)
"""How names of models begin, and what goes before them in a reference."""


def variable_of(host: str) -> str:
    """Return the environment variable of a known host's key; empty for other hosts."""
    found = (server.variable for server in SERVERS.values() if urlsplit(server.url).hostname == host)
    return next(found, "")


def guess(model: str) -> str:
    """Return the reference that the bare name of a model may stand for; empty if it looks like no name."""
    return next((f"{before}{model}" for start, before in _MODELS if re.match(start, model)), "")

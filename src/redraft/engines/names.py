"""Short names: of servers with the OpenAI protocol (`openai:gpt-5-mini`), and of models (`small`).

The config file names more servers (`[servers]`). Addresses and variables are those of the servers' own
documentation. The models are GGUF files of the Hugging Face hub under free licences. All answer at once: what
a thinking model thinks would be a part of its answer here. A thinking switch in the template, as Qwen3-0.6B
and Qwen3-8B have it, is on unless a request turns it off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class KnownServer:
    """A server."""

    url: str
    variable: str = ""  # the environment variable in which its users keep their key; empty if it needs none


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


@dataclass(frozen=True)
class Recommended:
    """A model of the hub.

    Attributes:
        name: A reference of its own, such as `small`.
        ref: The reference of its file.
        size: Bytes of the file, as the hub has it.
        memory: Bytes that it wants with one chain of 4,096 tokens: the file, keys and values of 16 bits, and
            300 MB that llama.cpp computes in.
        ifeval: Share of IFEval's instructions that it follows in per cent, as its publisher says.
        good_for: The tasks and languages for which its publisher made it.
    """

    name: str
    ref: str
    billions: float
    size: int
    memory: int
    licence: str
    ifeval: float
    good_for: str


RECOMMENDED = (
    Recommended(
        "small",
        "HuggingFaceTB/SmolLM2-360M-Instruct-GGUF:Q8_0",
        0.36,
        386_000_000,
        853_772_160,
        "Apache-2.0",
        41.0,
        "short answers and rewriting in English",
    ),
    Recommended(
        "medium",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M",
        1.7,
        1_060_000_000,
        2_165_306_368,
        "Apache-2.0",
        56.7,
        "answers, summaries and rewriting in English",
    ),
    Recommended(
        "large",
        "unsloth/Qwen3-4B-Instruct-2507-GGUF:Q4_K_M",
        4.0,
        2_497_281_120,
        3_401_260_896,
        "Apache-2.0",
        83.4,
        "reasoning, code, many languages",
    ),
)
"""Sizes and licences are those of the hub's pages, and IFEval's shares those of the models' cards. Publishers
measure in different ways."""

BY_NAME = {model.name: model for model in RECOMMENDED}


def memory_of(repo: str, selects: str | None) -> int:
    """Return the bytes that a file of the hub wants, if it is recommended, else 0."""
    refs = {model.ref: model.memory for model in RECOMMENDED}
    return refs.get(f"{repo}:{selects}", 0)

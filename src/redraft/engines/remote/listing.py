"""The models that a server lists, and features of vLLM beyond the protocol.

A server may have no list, and may serve models that it does not list. The list only helps: to choose the only
model, to learn the length of its context, and to name the models in an error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from redraft.engines.remote.server import Refusal, Server
from redraft.errors import EngineError, UsageError


@dataclass(frozen=True)
class Listed:
    """A model as `GET /models` lists it. Its owner is `vllm`, `llamacpp`, or whatever another server says."""

    name: str
    context: int | None = None
    owner: str = ""
    token_ids: bool = False


async def choose(server: Server, name: str | None) -> Listed:
    """Return the model with this name, or the only model if the name is None.

    Raises:
        UsageError: The name is None, and the server has no model or several.
        EngineError: The server does not answer, refuses the key, or does not speak the protocol.
    """
    listed = await models(server, needed=name is None)
    if name is not None:
        # llama.cpp answers to every name.
        owner = "llamacpp" if any(model.owner == "llamacpp" for model in listed) else ""
        found = next((model for model in listed if model.name == name), Listed(name, owner=owner))
    elif len(listed) == 1:
        found = listed[0]
    else:
        names = [model.name for model in listed]
        raise UsageError(
            f"{server.url} has {len(names) or 'no'} models; name one of them.{has(names)}",
            hint=f"--model {server.url}#{names[0] if names else 'name'}",
        )
    return replace(found, token_ids=found.owner == "vllm" and await _gives_token_ids(server))


async def models(server: Server, *, needed: bool) -> list[Listed]:
    """Return the server's models. Raises what `choose` raises.

    If the list is not needed, a failure gives an empty list and the request is not repeated: `transformers
    serve` answers chats while its list fails.
    """
    reply = await server.fetch("GET", server.url + "/models", patient=needed)
    if isinstance(reply, Refusal):
        if needed or reply.of_key or 300 <= reply.status < 400:
            error = server.error(reply, "/models")
            if reply.status == HTTPStatus.INTERNAL_SERVER_ERROR:  # it may answer for a model by name
                error.hint = f"{error.hint} Or name the model: --model {server.url}#name"
            raise error
        return []
    entries = reply.get("data") if isinstance(reply, dict) else None
    listed = entries if isinstance(entries, list) else []
    return [_listed(entry) for entry in listed if isinstance(entry, dict) and entry.get("id")]


def has(names: Sequence[str]) -> str:
    """Return a sentence that names models, with a leading space; empty without names."""
    shown = [*names[:10], "…"] if len(names) > 10 else names
    return f" It has: {', '.join(shown)}." if shown else ""


def root(url: str) -> str:
    """Return the address of vLLM's own endpoints, which lie beside `/v1`."""
    return url.removesuffix("/v1")


def _listed(entry: dict[str, Any]) -> Listed:
    """Read an entry. The context is `max_model_len` for vLLM and `meta.n_ctx` for llama.cpp."""
    meta = entry.get("meta")
    lengths = [entry.get(name) for name in ("max_model_len", "context_length", "context_window")]
    lengths.append(meta.get("n_ctx") if isinstance(meta, dict) else None)
    context = next((length for length in lengths if isinstance(length, int) and length > 0), None)
    return Listed(str(entry["id"]), context, str(entry.get("owned_by", "")))


async def _gives_token_ids(server: Server) -> bool:
    """Return whether this vLLM has `return_token_ids`, which came with version 0.10.2."""
    try:
        reply = await server.fetch("GET", root(server.url) + "/version")
    except EngineError:
        return False
    version = reply.get("version") if isinstance(reply, dict) else None
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", str(version))
    return numbers is not None and tuple(map(int, numbers.groups())) >= (0, 10, 2)

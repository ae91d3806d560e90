"""What a server of the OpenAI protocol has: its list of models, and what its kind can do beyond the protocol.

A server need not have a list, and may know models that it does not list. So a list only helps: to fill in the
only model, to know the length of its context, and to say in an error what there is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from redraft.engines.remote.server import Refusal, Server
from redraft.errors import EngineError, UsageError


@dataclass(frozen=True)
class Listed:
    """A model as `GET /models` lists it.

    Attributes:
        name: Its id.
        context: Length of its context in tokens, where the list says it.
        owner: `vllm` or `llamacpp` for those servers, elsewhere whatever it says.
        token_ids: Whether the server takes token ids, and gives them back.
    """

    name: str
    context: int | None = None
    owner: str = ""
    token_ids: bool = False


async def choose(server: Server, name: str | None) -> Listed:
    """The model of a name, or the only one if there is no name.

    Raises:
        UsageError: No name, and the server has no model or several.
        EngineError: The server does not answer, refuses the key, or is of another kind.
    """
    listed = await models(server, needed=name is None)
    found = _pick(server, listed, name)
    return replace(found, token_ids=found.owner == "vllm" and await _gives_token_ids(server))


async def models(server: Server, *, needed: bool) -> list[Listed]:
    """The list of a server, empty if it gives none and it is not needed. Raises as `choose` does.

    One that is not needed is asked for once: `transformers serve` fails at it where it answers chats.
    """
    reply = await server.fetch("GET", server.url + "/models", patient=needed)
    if isinstance(reply, Refusal):
        if needed or reply.status in (401, 403) or 300 <= reply.status < 400:
            raise server.error(reply, "/models")
        return []
    entries = reply.get("data") if isinstance(reply, dict) else None
    return [_listed(entry) for entry in entries or () if isinstance(entry, dict) and entry.get("id")]


def has(names: Sequence[str]) -> str:
    """A sentence about what a server has, with a space before it; empty if nothing is known."""
    shown = [*names[:10], "…"] if len(names) > 10 else names
    return f" It has: {', '.join(shown)}." if shown else ""


def root(url: str) -> str:
    """The address of what vLLM has beside its `/v1`."""
    return url.removesuffix("/v1")


def _listed(entry: dict[str, Any]) -> Listed:
    """An entry. vLLM says `max_model_len`, llama.cpp `meta.n_ctx`, and hosts of many models the other two."""
    meta = entry.get("meta")
    lengths = [entry.get(name) for name in ("max_model_len", "context_length", "context_window")]
    lengths.append(meta.get("n_ctx") if isinstance(meta, dict) else None)
    context = next((length for length in lengths if isinstance(length, int) and length > 0), None)
    return Listed(str(entry["id"]), context, str(entry.get("owned_by", "")))


def _pick(server: Server, listed: Sequence[Listed], name: str | None) -> Listed:
    if name is not None:
        return next((each for each in listed if each.name == name), Listed(name))
    if len(listed) == 1:
        return listed[0]
    names = [each.name for each in listed]
    raise UsageError(
        f"{server.url} has {len(names) or 'no'} models, and the reference names none.{has(names)}",
        hint=f"--model {server.url}#{names[0] if names else 'name'}",
    )


async def _gives_token_ids(server: Server) -> bool:
    """Whether a vLLM is new enough for `return_token_ids`, which came with version 0.10.2."""
    try:
        reply = await server.fetch("GET", root(server.url) + "/version")
    except EngineError:
        return False
    version = reply.get("version") if isinstance(reply, dict) else None
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", str(version))
    return numbers is not None and tuple(map(int, numbers.groups())) >= (0, 10, 2)

"""Ask a server through a remote engine, which is closed afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import pytest

import redraft
from redraft.engines.base import Delta, EngineInfo, Message, Sampling
from redraft.engines.config import Key
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import Patience
from redraft.errors import RedraftError, ServerError
from tests.engines.fake_server import FakeServer
from tests.engines.talking import collect as collected

T = TypeVar("T")

CHAT, RAW, MODELS = "POST /v1/chat/completions", "POST /v1/completions", "GET /v1/models"
ASK: list[Message] = [{"role": "user", "content": "Hi"}]
QUICK = Patience(connect=60, first_token=60, between_tokens=60, tries=3, backoff=0.01)
ONCE = Patience(tries=1)
SAMPLING = Sampling()
SECRET = "sk-very-secret-0123456789"  # noqa: S105


def engine(server: FakeServer, model: str = "m", **options: Any) -> RemoteEngine:
    return RemoteEngine(server.url, model, **{"patience": QUICK, **options})


def using(engine: RemoteEngine, work: Callable[[RemoteEngine], Awaitable[T]]) -> T:
    async def used() -> T:
        async with aclosing(engine):
            return await work(engine)

    return asyncio.run(used())


def chat(engine: RemoteEngine, sampling: Sampling = SAMPLING, stop: tuple[str, ...] = ()) -> list[Delta]:
    return using(engine, lambda one: collected(one.chat(ASK, sampling, stop)))


def chats(engine: RemoteEngine, *samplings: Sampling) -> list[list[Delta]]:
    async def each(one: RemoteEngine) -> list[list[Delta]]:
        return [await collected(one.chat(ASK, sampling)) for sampling in samplings]

    return using(engine, each)


def raw(engine: RemoteEngine, prompt: Any = "Once", sampling: Sampling = SAMPLING) -> list[Delta]:
    return using(engine, lambda one: collected(one.stream(prompt, sampling)))


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def refused(engine: RemoteEngine, error: type[RedraftError] = ServerError) -> RedraftError:
    with pytest.raises(error) as caught:
        chat(engine)
    return caught.value


def bodies(server: FakeServer) -> list[Any]:
    return [request.json for request in server.asked(CHAT)]


def connected(server: FakeServer, model: str | None = None, *, key: Key | None = None) -> EngineInfo:
    async def connect() -> EngineInfo:
        async with aclosing(await RemoteEngine.connect(server.url, model, key=key, patience=QUICK)) as one:
            return one.info

    return asyncio.run(connect())


def revise(server: FakeServer, prompt: Any = "Weather in Ulm?", **options: Any) -> redraft.Chain:
    return using(engine(server, patience=ONCE), lambda one: redraft.arevise(prompt, model=one, **options))

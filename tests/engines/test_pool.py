"""Several engines behind one name: real servers of 127.0.0.1, and scripted engines that fail in any order."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import redraft
from redraft.chain import Chain
from redraft.engines import pool
from redraft.engines.base import Engine, Message, Sampling, Watched
from redraft.engines.config import Config, KeyEntry
from redraft.engines.load import load_engine
from redraft.engines.pool import SLACK, PoolEngine
from redraft.engines.retry import LONGEST_BACKOFF, Patience
from redraft.engines.scripted import Call, ScriptedEngine, ScriptedReply
from redraft.errors import EngineError, ModelError, ServerError, UsageError
from redraft.revision.api import finished
from tests.engines.fake_server import (
    FakeServer,
    chat_event,
    chat_reply,
    error_reply,
    models_reply,
    sse_reply,
    usage_event,
)
from tests.engines.flaky_server import WHOLE, FlakyServer

CHAT, MODELS = "POST /v1/chat/completions", "GET /v1/models"
HI: list[Message] = [{"role": "user", "content": "Hi."}]
QUICK = Patience(backoff=0.01, tries=5)


def server(*replies: Any, **about: Any) -> FakeServer:
    return FakeServer().on(MODELS, models_reply("m", **about)).on(CHAT, *(replies or [chat_reply("Hello.")]))


@asynccontextmanager
async def opened(*servers: FakeServer, patience: Patience = QUICK, **more: Any) -> AsyncGenerator[Engine]:
    named = ",".join(f"{each.url}#m" for each in servers)
    async with aclosing(await load_engine(named, patience=patience, **more)) as engine:
        yield engine


async def said(engine: Engine, message: str = "Hi.", chain: str = "") -> str:
    asked: list[Message] = [{"role": "user", "content": message}]
    return "".join([delta.text async for delta in engine.chat(asked, Sampling(chain=chain))])


def calls(*servers: FakeServer) -> list[int]:
    return [len(each.asked(CHAT)) for each in servers]


async def called(expected: list[int], *servers: FakeServer) -> None:
    async with asyncio.timeout(10):
        while calls(*servers) != expected:  # noqa: ASYNC110  (a server's thread counts)
            await asyncio.sleep(0.01)


# Who is asked


async def test_calls_are_spread_over_the_least_busy() -> None:
    with server(sse_reply(60.0, chat_event("Hello.", "stop"))) as slow, server() as fast:
        async with opened(slow, fast) as engine:
            first = asyncio.create_task(said(engine, "0"))
            await called([1, 0], slow, fast)
            second = asyncio.create_task(said(engine, "1"))
            await called([1, 1], slow, fast)
            await second
            for number in range(3):
                await said(engine, f"more {number}")
            assert calls(slow, fast) == [1, 4]
            first.cancel()
            await asyncio.wait([first])


async def test_a_chain_stays_where_its_prompt_is_cached() -> None:
    with server() as one, server() as two:
        async with opened(one, two) as engine:
            for number in range(6):
                prompt = f"Question {number}?"
                await finished(redraft.stream(prompt, model=engine, min_revisions=2, max_revisions=2))
            asked = [{each.json["messages"][0]["content"] for each in s.asked(CHAT)} for s in (one, two)]
            assert asked[0] & asked[1] == set()
            assert calls(one, two) == [15, 15]


async def test_a_chain_leaves_a_server_that_is_much_busier() -> None:
    slow = sse_reply(0.3, chat_event("a", "stop"))
    with server(slow) as one, server(slow) as two:
        async with opened(one, two) as engine:
            at_home = [asyncio.create_task(said(engine, chain="one")) for _ in range(2 * SLACK + 4)]
            await asyncio.gather(*at_home)
            assert min(calls(one, two)) >= 2


# Failures


async def test_a_server_that_fails_is_set_aside_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    hello = chat_reply("Hello.")
    with server(hello, hello, error_reply(503, "busy"), hello) as bad, server() as good:
        async with opened(bad, good) as engine:
            assert [await said(engine, str(number), "chain") for number in range(3)] == ["Hello."] * 3
            assert calls(bad, good) == [3, 1]
            await asyncio.sleep(0.05)
            assert (await said(engine, "again"), calls(bad, good)) == ("Hello.", [4, 1])
        address = f"{bad.url}#m"
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told[0].startswith(f"{address} is set aside: ")
    assert "busy" not in told[0], "what a server says may quote a prompt"
    assert told[1] == f"{address} works again."


async def test_a_pause_that_a_server_asks_for_is_kept() -> None:
    with server(error_reply(429, "slow down", headers={"Retry-After": "30"})) as limited, server() as other:
        async with opened(limited, other) as engine:
            for number in range(4):
                await said(engine, str(number))
            assert calls(limited, other) == [1, 4]
            (member,) = (each for each in engine._members if each.failures)  # type: ignore[attr-defined]
            assert member.aside_until - asyncio.get_running_loop().time() > 20


@pytest.mark.parametrize("status", [400, 422])
async def test_what_is_wrong_with_a_request_is_said_at_once(status: int) -> None:
    reply = error_reply(status, "never heard of it")
    with server(reply) as one, server(reply) as two:
        async with opened(one, two) as engine:
            with pytest.raises(ServerError, match="never heard of it"):
                await said(engine)
            assert sum(calls(one, two)) == 1


async def test_a_key_that_one_server_refuses_leaves_the_others() -> None:
    with server(error_reply(401, "wrong key")) as one, server() as two:
        async with opened(one, two) as engine:
            assert [await said(engine, str(number)) for number in range(3)] == ["Hello."] * 3


async def test_keys_and_rates_are_of_each_server() -> None:
    with server() as one, server() as two:
        keys = {each.host: KeyEntry(key=f"key-{number}") for number, each in enumerate((one, two))}
        async with opened(one, two, config=Config(Path(), keys=keys)) as engine:
            await asyncio.gather(said(engine, "1"), said(engine, "2"))
        sent = [each.headers["authorization"] for s in (one, two) for each in s.asked(CHAT)]
        assert sent == ["Bearer key-0", "Bearer key-1"]


async def test_when_all_are_down_the_call_waits_and_the_wait_is_told() -> None:
    told: list[str] = []

    replies = [error_reply(503, "busy")] * 2 + [chat_reply("Hello.")]
    with server(*replies) as one, server(*replies) as two:
        async with opened(one, two, patience=Patience(backoff=0.2, outage=30, tell=told.append)) as engine:
            assert await said(engine) == "Hello."
    assert told == ["no server of m works, waiting 1 s", ""]


async def test_when_all_stay_down_the_last_error_is_raised() -> None:
    with server(error_reply(503, "no room")) as one, server(error_reply(503, "no room")) as two:
        async with opened(one, two) as engine:
            for _ in range(2):  # the second call finds all of them aside
                with pytest.raises(ServerError, match="no room") as caught:
                    await said(engine)
                assert caught.value.status == 503


async def test_servers_are_down_until_one_may_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    reply = error_reply(503, "your prompt says hush")
    with server(reply) as one, server(reply) as two:
        async with opened(one, two, patience=Patience(backoff=1000, longest_wait=1)) as engine:
            assert isinstance(engine, Watched)
            with pytest.raises(ServerError, match="your prompt says hush"):
                await said(engine)
            with pytest.raises(ServerError, match="no server of m works") as caught:
                await said(engine)
            assert "hush" not in str(caught.value)
            assert engine.health.resting
            later = pool.clock() + LONGEST_BACKOFF
            monkeypatch.setattr(pool, "clock", lambda: later)
            assert (engine.health.down, engine.health.resting) == (True, False)


async def test_tries_that_failed_are_paid_for() -> None:
    broken = sse_reply(usage_event(7, 0), cut=True)
    with server(broken) as bad, server(sse_reply(chat_event("Hello.", "stop"), usage_event(5, 2))) as good:
        async with opened(bad, good) as engine:
            *_, last = [delta async for delta in engine.chat(HI, Sampling())]
        assert (last.finish, last.prompt_tokens, last.completion_tokens) == ("stop", 7 + 5, 0 + 2)


# Opening


async def test_a_server_that_is_down_at_the_start_joins_when_it_is_up() -> None:
    late = FlakyServer()
    with server() as one:
        engine = await load_engine(f"{late.model},{one.url}#m", patience=Patience(backoff=0.05))
        assert await said(engine, "1") == "Hello."
        with late:
            await asyncio.sleep(0.1)
            assert (await said(engine, "2")).strip() == WHOLE
            await engine.aclose()


def test_when_none_is_up_at_the_start_that_is_an_error() -> None:
    with pytest.raises(ServerError, match=r"no server answers at .*; no server answers at"):
        asyncio.run(load_engine(f"{FlakyServer().model},{FlakyServer().model}"))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (FakeServer().on(MODELS, models_reply("n")), "differ in name: 'm' and 'n'"),
        (server(max_model_len=2048), "differ in context: 4096 and 2048"),
    ],
    ids=["name", "context"],
)
def test_servers_that_differ_are_refused(other: FakeServer, message: str) -> None:
    with server(max_model_len=4096) as one, other, pytest.raises(ModelError) as caught:
        asyncio.run(load_engine(f"{one.url}#m,{other.url}"))
    assert message in caught.value.message
    assert other.url in caught.value.message


def test_batches_go_to_one_server() -> None:
    with pytest.raises(UsageError, match="one server"):
        asyncio.run(load_engine("http://a/v1#m,http://b/v1#m", batches=object()))  # type: ignore[arg-type]


# Chains


Fate = Literal["answers", "fails", "breaks off"]


@dataclass
class Unsteady(ScriptedEngine):
    replies: Any = field(default_factory=lambda: ["unused"])
    fates: list[Fate] = field(default_factory=list)
    given: list[str] = field(default_factory=list)

    def _next(self, asked: Call) -> ScriptedReply:
        fate = self.fates.pop(0) if self.fates else "answers"
        if fate == "answers":
            words = hashlib.sha256(str(len(self.given)).encode()).hexdigest()  # no echo of one another
            asks = " Revision is needed." if len(self.given) % 2 else ""
            self.given.append(f"{words[:8]} {words[8:16]} {words[16:24]}.{asks}")
            return ScriptedReply(self.given[-1])
        down, cut = ServerError("it is down", status=503), EngineError("it broke off", passing=True)
        return ScriptedReply("Half a te", cut) if fate == "breaks off" else ScriptedReply("", down)


async def of_engines(*engines: Engine, patience: Patience = QUICK) -> PoolEngine:
    def opening(engine: Engine) -> Callable[[], Coroutine[Any, Any, Engine]]:
        async def open_() -> Engine:
            return engine

        return open_

    return await PoolEngine.start([(str(n), opening(each)) for n, each in enumerate(engines)], patience)


FATES = st.lists(st.sampled_from(["answers", "fails", "breaks off"]), max_size=8)


@given(st.lists(FATES, min_size=1, max_size=3))
def test_whatever_fails_no_step_is_lost_or_made_twice(schedules: Sequence[list[Fate]]) -> None:
    async def made(pool: PoolEngine) -> Chain:
        try:
            return await redraft.arevise("Write.", model=pool, min_revisions=2, max_revisions=2)
        except EngineError as error:
            return error.chain  # type: ignore[no-any-return]

    async def check() -> None:
        given: list[str] = []  # by any member, in order
        members = [Unsteady(fates=list(fates), given=given) for fates in schedules]
        pool = await of_engines(*members, patience=Patience(backoff=0.001, tries=4))
        chain = await made(pool)
        steps = [step for step in chain.steps if step.finish == "stop"]
        assert [text for step in steps for text in (step.answer, step.criticism) if text] == given
        assert len(given) == 5 if chain.stop == "max_revisions" else chain.stop == "error"
        assert all(member.busy == 0 for member in pool._members)

    asyncio.run(check())

"""The engine on batches, without a command: what travels, what is refused, and which requests go together."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import pytest

from redraft.engines.base import Delta, Message, Sampling
from redraft.engines.remote import batch
from redraft.engines.remote.batch import Batches
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import Patience
from redraft.engines.wrapped import JournaledEngine
from redraft.errors import RedraftError, UsageError
from redraft.jobs.journal import Journal
from tests.engines.batch_server import BatchServer, Fault
from tests.engines.remote.asking import collected, text_of


@pytest.fixture(autouse=True)
def _fast(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_MOMENT", 0.02)


def ask(
    server: BatchServer, *samplings: Sampling, stop: tuple[str, ...] = (), live: bool = False
) -> list[list[Delta]]:
    async def asked() -> list[list[Delta]]:
        with Journal(Path("j.db")) as journal, Batches(Path("b.jsonl"), journal, pause=0.01) as batches:
            more: Any = {} if live else {"reach": batches.reach}
            async with aclosing(await RemoteEngine.connect(server.url, "gull", **more)) as engine:
                keyed = engine if live else JournaledEngine(engine, journal, identity="gull")
                return await asyncio.gather(*(_deltas(keyed, sampling, stop) for sampling in samplings))

    return asyncio.run(asked())


async def _deltas(engine: Any, sampling: Sampling, stop: tuple[str, ...]) -> list[Delta]:
    messages: list[Message] = [{"role": "user", "content": "Hi"}]
    return [delta async for delta in engine.chat(messages, sampling, stop)]


TOOL = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"for": "gulls"}'}}


def test_schemas_stop_texts_and_tools_travel_and_come_back() -> None:
    def says(body: dict[str, Any]) -> Any:
        if "tools" in body:
            return {"message": {"content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}
        if "response_format" in body:
            return '{"name": "gull"}'
        return {"message": {"content": "A gull"}, "finish_reason": "length"}

    samplings = [
        Sampling(schema={"type": "object", "required": ["name"]}, seed=3, temperature=0, top_p=0.5),
        Sampling(tools=[TOOL]),
        Sampling(max_tokens=7, extra_body={"top_k": 5}),
    ]
    with BatchServer(says) as server:
        found = ask(server, *samplings, stop=("END",))
        assert found == ask(server, *samplings, stop=("END",), live=True)
        assert (server.waves, len(server.live)) == ([3], 3)
        bodies = [line["body"] for line in next(iter(server.batches.values())).lines]
        live = [{name: body[name] for name in body if not name.startswith("stream")} for body in server.live]
        assert sorted(bodies, key=json.dumps) == sorted(live, key=json.dumps)
    assert found[0][-1].finish == "stop"
    assert [call["function"] for call in found[1][-1].tool_calls] == [CALL["function"]]
    assert (found[2][-1].finish, found[2][-1].completion_tokens) == ("max_tokens", 7)


def test_headers_of_one_request_and_engines_without_a_journal_are_refused() -> None:
    with BatchServer() as server:
        with pytest.raises(UsageError, match="a batch cannot send extra_headers"):
            ask(server, Sampling(extra_headers={"X-Team": "birds"}))

        async def plainly() -> None:
            with Journal(Path("j.db")) as journal, Batches(Path("b.jsonl"), journal) as batches:
                engine = RemoteEngine(server.url, "gull", patience=Patience(), reach=batches.reach)
                async with aclosing(engine):
                    await _deltas(engine, Sampling(), ())

        with pytest.raises(RedraftError, match="batches need a journal"):
            asyncio.run(plainly())
        assert server.waves == []


def test_a_batch_that_is_pending_when_another_model_is_first_asked_is_followed_once() -> None:
    async def asked() -> list[list[Delta]]:
        with Journal(Path("j.db")) as journal, Batches(Path("b.jsonl"), journal, pause=0.01) as batches:
            async with AsyncExitStack() as stack:
                replies = []
                for number, model in enumerate(("gull", "tern"), start=1):
                    engine = RemoteEngine(server.url, model, reach=batches.reach)
                    stack.push_async_callback(engine.aclose)
                    keyed = JournaledEngine(engine, journal, identity=model)
                    replies.append(asyncio.create_task(_deltas(keyed, Sampling(), ())))
                    while len(server.waves) < number or server.looks < 3:  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
                server.held = 0
                return list(await asyncio.gather(*replies))

    with BatchServer(lambda body: f"A {body['model']}.") as server:
        server.held = 1
        texts = ["".join(delta.text for delta in deltas) for deltas in asyncio.run(asked())]
        assert texts == ["A gull.", "A tern."]
        files = [each.path for each in server.requests if each.path.endswith("/content")]
        assert len(files) == len(set(files)) == 2


async def test_raw_text_messages_and_models_go_in_batches_of_their_own() -> None:
    def says(body: dict[str, Any]) -> Any:
        return {"text": " flies."} if "prompt" in body else f"A {body['model']}."

    with BatchServer(says) as server:
        with Journal(Path("j.db")) as journal, Batches(Path("b.jsonl"), journal, pause=0.01) as batches:
            async with AsyncExitStack() as stack:
                keyed = []
                for model in ("gull", "tern"):
                    engine = RemoteEngine(server.url, model, reach=batches.reach)
                    stack.push_async_callback(engine.aclose)
                    keyed.append(JournaledEngine(engine, journal, identity=model))
                gull, tern = keyed
                raw = gull.stream("A gull", Sampling())
                both = (_deltas(each, Sampling(), ()) for each in (gull, tern))
                replies = await asyncio.gather(collected(raw), *both)
        assert list(map(text_of, replies)) == [" flies.", "A gull.", "A tern."]
        ends = [batch.record["endpoint"] for batch in server.batches.values()]
        assert sorted(ends) == ["/v1/chat/completions"] * 2 + ["/v1/completions"]


async def test_a_wave_waits_for_a_chain_that_runs_its_checks() -> None:
    with BatchServer() as server:
        with Journal(Path("j.db")) as journal, Batches(Path("b.jsonl"), journal, pause=0.01) as batches:
            async with aclosing(RemoteEngine(server.url, "gull", reach=batches.reach)) as engine:

                async def chain(seconds: float) -> None:
                    with batches.chain():
                        await asyncio.sleep(seconds)
                        keyed = JournaledEngine(engine, journal, identity="gull", scope=str(seconds))
                        await _deltas(keyed, Sampling(), ())

                await asyncio.gather(chain(0), chain(0.4))
        assert server.waves == [2]


def test_each_chain_gets_an_error_of_its_own() -> None:
    async def asked() -> list[Any]:
        with Journal(Path("j.db")) as journal, Batches(Path("b.jsonl"), journal, pause=0.01) as batches:
            async with aclosing(RemoteEngine(server.url, "gull", reach=batches.reach)) as engine:
                keyed = JournaledEngine(engine, journal, identity="gull")
                both = (_deltas(keyed, Sampling(), ()) for _ in range(2))
                return list(await asyncio.gather(*both, return_exceptions=True))

    with BatchServer(lambda _: "A gull.", Fault(reason=[{"message": "No."}])) as server:
        one, other = asyncio.run(asked())
        assert one is not other
        assert one.message == other.message
        assert "No." in one.message

"""A model's process that dies is started again, and replies go on where they were."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from redraft.engines import process as restart
from redraft.engines.base import Delta, Health, Message, Sampling
from redraft.engines.llamacpp.engine import Child, LlamaCppEngine
from redraft.engines.steering.form import Form
from redraft.errors import EngineCrash, EngineError
from redraft.options import MachineOptions
from tests.engines.talking import said
from tests.gguf_files import tiny_model

pytest.importorskip("xllamacpp")

GREEDY = Sampling(temperature=0.0, max_tokens=24)
TALE: list[Message] = [{"role": "user", "content": "Tell me a tale of a fox."}]
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}},
    "required": ["name"],
    "additionalProperties": False,
}


def kill(engine: LlamaCppEngine) -> None:
    process = engine._kept.child._process
    process.kill()
    process.wait()


@asynccontextmanager
async def opened(model: Path, **how: Any) -> AsyncGenerator[LlamaCppEngine]:
    machine = MachineOptions(threads=1, ctx=256)
    async with aclosing(await LlamaCppEngine.start(model, **how, machine=machine)) as engine:
        yield engine


async def heard(
    deltas: AsyncGenerator[Delta, None], after: Callable[[int], None] = lambda _: None
) -> list[Delta]:
    found = []
    async for delta in deltas:
        found.append(delta)
        after(len(found))
    return found


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "PAUSE", 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [(), ("the",)])
async def test_a_reply_goes_on_token_for_token_after_kills(
    default_model: Path, stop: tuple[str, ...]
) -> None:
    async with opened(default_model) as engine:
        whole = await heard(engine.chat(TALE, GREEDY, stop))
        broken = await heard(engine.chat(TALE, GREEDY, stop), lambda n: kill(engine) if n in (1, 9) else None)
        assert said(broken) == said(whole)
        assert [t for d in broken for t in d.tokens] == [t for d in whole for t in d.tokens]
        ends = [
            (d.finish, d.stop_text, d.prompt_tokens, d.completion_tokens) for d in (whole[-1], broken[-1])
        ]
        assert ends[0] == ends[1]
        assert engine.health.restarts == 2
        assert not engine.health.trouble


@pytest.mark.slow
async def test_all_streams_go_on_and_one_process_is_started(default_model: Path) -> None:
    async with opened(default_model, parallel=3) as engine:
        whole = said(await heard(engine.chat(TALE, GREEDY)))
        killing = asyncio.Event()

        async def one() -> str:
            return said(await heard(engine.chat(TALE, GREEDY), lambda n: killing.set() if n == 5 else None))

        replies = [asyncio.create_task(one()) for _ in range(3)]
        await killing.wait()
        kill(engine)
        assert await asyncio.gather(*replies) == [whole] * 3
        assert engine.health.restarts == 1


@pytest.mark.slow
async def test_an_answer_that_has_to_fit_a_schema_is_asked_for_again(default_model: Path) -> None:
    async with opened(default_model) as engine:
        sampling = Sampling(temperature=0.0, max_tokens=60, schema=PERSON)
        with pytest.raises(EngineCrash, match="was killed by SIGKILL") as caught:
            await heard(engine.chat(TALE, sampling), lambda n: kill(engine) if n == 2 else None)
        assert caught.value.ready
        reply = said(await heard(engine.chat(TALE, Sampling(temperature=0.0, max_tokens=200, schema=PERSON))))
        assert list(json.loads(reply)) == ["name"]


@pytest.mark.slow
async def test_an_answer_that_was_steered_says_where_its_grammar_is_lost(default_model: Path) -> None:
    async with opened(default_model) as engine:
        sampling = Sampling(
            temperature=0.0, max_tokens=200, form=Form(opening="Once upon a time", without=frozenset("!"))
        )
        broken = await heard(engine.chat(TALE, sampling), lambda n: kill(engine) if n == 2 else None)
        assert said(broken).startswith("Once upon a time")
        assert [each.unsteered for each in (broken[0], broken[-1])] == [False, True]
        assert broken[-1].finish
        assert engine.health.restarts == 1


async def test_a_restart_outlives_the_call_that_began_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tiny_model(tmp_path / "m.gguf")) as engine:
        start, starting, starts = Child.start, asyncio.Event(), []

        async def started(settings: Any) -> Any:
            starts.append(settings)
            starting.set()
            return await start(settings)

        monkeypatch.setattr(Child, "start", started)
        kill(engine)
        assert engine.health == Health(trouble=f"the process of {tmp_path / 'm.gguf'} ended.")
        impatient = asyncio.create_task(engine.encode("abc"))
        await starting.wait()
        impatient.cancel()
        assert await engine.encode("abc")
        assert impatient.cancelled()
        assert len(starts) == engine.health.restarts == 1


async def test_a_restart_ends_with_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(20), opened(tiny_model(tmp_path / "m.gguf")) as engine:
        starting = asyncio.Event()

        async def started(_settings: Any) -> Any:
            starting.set()
            await asyncio.Event().wait()

        monkeypatch.setattr(Child, "start", started)
        kill(engine)
        waiting = asyncio.create_task(engine.encode("abc"))
        await starting.wait()
        await engine.aclose()
        with pytest.raises(EngineCrash, match="SIGKILL"):
            await waiting


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
async def test_a_model_that_crashes_each_time_is_given_up_and_can_come_back(tmp_path: Path) -> None:
    model = tiny_model(tmp_path / "m.gguf")
    content = model.read_bytes()

    async with opened(model) as engine:
        model.write_bytes(content[:200])
        kill(engine)
        with pytest.raises(EngineError, match="5 times in a row") as caught:
            await engine.encode("abc")
        assert str(model) in caught.value.message
        assert engine.health.resting
        with pytest.raises(EngineError, match="5 times in a row"):  # at once, during the pause
            await engine.encode("abc")
        model.write_bytes(content)
        while engine.health.resting:  # noqa: ASYNC110  (not for ever: nothing would try a start)
            await asyncio.sleep(0.01)
        assert engine.health.down
        assert await engine.encode("abc")
        assert not engine.health.trouble


@pytest.mark.slow
@pytest.mark.usefixtures("quick")
async def test_a_process_that_dies_at_each_request_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tiny_model(tmp_path / "m.gguf")) as engine:
        start = Child.start

        async def started(settings: Any) -> Any:
            child = await start(settings)
            child._process.kill()
            return child

        monkeypatch.setattr(Child, "start", started)
        kill(engine)
        with pytest.raises(EngineCrash, match="was killed by SIGKILL, 5 times in a row"):
            await engine.encode("abc")
        assert engine.health == Health(4, engine.health.trouble, down=True, resting=True)


async def test_closing_during_a_reply_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restart, "CLOSE_SECONDS", 0.1)
    async with opened(tiny_model(tmp_path / "m.gguf")) as engine:
        engine._kept.child._process.send_signal(signal.SIGSTOP)
        reply = asyncio.create_task(heard(engine.stream((1, 270), GREEDY)))
        await asyncio.sleep(0.1)
        await engine.aclose()
        with pytest.raises(EngineError, match="was closed"):
            await reply
        assert engine.health.restarts == 0

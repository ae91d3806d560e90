"""Waiting for a server: the pace that is asked for, a server that hangs for a while, and what is said."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from redraft.engines.base import Message, Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import Failure, Patience, Retry
from redraft.errors import EngineError, ServerError
from tests.cli.verbs import redraft, start, wait_until
from tests.engines import clock
from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    Request,
    chat_event,
    chat_reply,
    error_reply,
    models_reply,
    sse_reply,
    usage_event,
)
from tests.engines.flaky_server import FlakyServer
from tests.engines.remote.asking import ASK, CHAT, MODELS, collected, engine, using

COUNTED = sse_reply(chat_event("a"), chat_event("", "stop"), usage_event(40, 10), DONE)
BROKEN = sse_reply(*[chat_event(" word")] * 50, cut=True)
HELD_UP = sse_reply(*[chat_event(" word")] * 10, 60.0)


@pytest.mark.parametrize("reply", [COUNTED, chat_reply(*[" word"] * 50), BROKEN, HELD_UP])
def test_tokens_of_replies_count(reply: Reply, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    one, used = engine(server.on(CHAT, reply)), list[int]()
    monkeypatch.setattr(one._server.retry.rate, "used", used.append)

    async def read(one: RemoteEngine) -> None:
        deltas = one.chat(ASK, Sampling())
        with suppress(ServerError, StopAsyncIteration):
            for _ in range(10 if reply is HELD_UP else 100):
                await anext(deltas)
        await deltas.aclose()

    using(one, read)
    assert len(used) == 1
    assert 10 <= used[0] < 30 if reply is HELD_UP else 50 <= used[0] < 100


def waited(patience: Patience, *failures: Failure) -> tuple[list[bool], bool, list[str]]:
    told: list[str] = []

    async def wait() -> tuple[list[bool], bool]:
        retry = Retry(replace(patience, tell=told.append), "host")
        again = [await retry.waited(failure) for failure in failures]
        before = asyncio.get_running_loop().time()
        return again, (await retry.rate.turn(1)).at > before

    return *clock.run(wait()), told


def test_a_run_waits_as_long_as_the_server_asks_and_holds_back_all_requests() -> None:
    job = Patience(outage=300.0)
    again, held, told = waited(job, Failure(429, 900.0, 1, 0.0))
    assert (again, held) == ([True], True)
    assert told == ["host limits requests, waiting 900 s, as it asks"]
    assert waited(job, Failure(429, 4000.0, 1, 0.0)) == ([False], False, [])
    assert waited(replace(job, outage=5000.0), Failure(429, 4000.0, 1, 0.0))[0] == [True]
    assert waited(Patience(), Failure(429, 900.0, 1, 0.0)) == ([False], False, [])


def test_waits_of_less_than_a_second_are_not_told() -> None:
    assert waited(Patience(outage=300.0, backoff=0.1), Failure(429, None, 1, 0.0))[2] == []
    told = waited(Patience(outage=300.0, backoff=100.0), Failure(503, None, 1, 0.0))[2]
    assert re.fullmatch(r"host fails \(503\), waiting \d+ s, at most 5 min", told[0])
    told = waited(Patience(tries=1, outage=5.0, backoff=100.0), Failure(503, None, 1, 0.0))[2]
    assert told == ["host fails (503), waiting 5 s, at most 5 s"], "no pause ends after the patience"


@pytest.mark.parametrize("status", [None, 503])
def test_a_server_that_served_others_just_before_it_went_down_is_waited_for(status: int | None) -> None:
    async def again(asked: float) -> bool:
        now = asyncio.get_running_loop().time()
        retry = Retry(Patience(tries=2, outage=300.0, backoff=0.01), "host")
        retry.served()
        return await retry.waited(Failure(status, None, 2, now - 1, now + asked))

    assert clock.run(again(+0.1)), "nobody was served after the last try"
    assert not clock.run(again(-0.1)), "others were served, so it is this request"


def test_a_server_that_refuses_a_request_is_up(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("a"), error_reply(503, "down"), error_reply(400, "no"))
    one = engine(server, patience=Patience(tries=1, backoff=0))
    with asyncio.Runner() as runner:
        for trouble in (False, True, False):
            with suppress(ServerError):
                runner.run(collected(one.chat(ASK, Sampling())))
            assert bool(one.health.trouble) == trouble
        runner.run(one.aclose())


def words(model: str, *args: str) -> list[str]:
    Path("prompts.txt").write_text("".join(f"Describe thing {n}.\n" for n in range(8)))
    answer = ["answer", "prompts.txt", "-o", "out.jsonl", "-m", model]
    return [*answer, "-c", "words>=1", "--max-revisions", "0", *args]


def lines() -> int:
    out = Path("out.jsonl")
    return out.read_bytes().count(b"\n") if out.exists() else 0


@pytest.mark.slow
@pytest.mark.usefixtures("here")
def test_a_server_that_hangs_a_while_loses_nothing() -> None:
    more = ["-j", "2", "--timeout", "1", "--patience", "60"]
    with FlakyServer(delay=0.1) as server, start(*words(server.model, *more)) as job:
        wait_until(lines)
        time.sleep(0.3)  # the next two are in the middle of their replies
        server.send(signal.SIGSTOP)
        assert job.stderr
        while f"127.0.0.1:{server.port} is silent, waiting " not in (said := job.stderr.readline()):
            assert said, "the job ended"
        server.send(signal.SIGCONT)
        out, said = job.communicate(timeout=120)
    assert job.returncode == 0, out + said
    assert lines() == 8


class Odd(FakeServer):
    def __init__(self, reply: Reply, times: int, *prompts: str) -> None:
        super().__init__()
        self.reply, self.left, self.failed = reply, dict.fromkeys(prompts, times), threading.Event()

    def _next(self, request: Request) -> Reply:
        if request.method == "GET":
            return models_reply("m")
        asked = request.json["messages"][-1]["content"]
        if not (name := next((name for name, left in self.left.items() if left and name in asked), "")):
            return sse_reply(0.02, chat_event("Wood.", "stop"), usage_event(1, 1), DONE)
        self.left[name] -= 1
        self.failed.set()
        return self.reply


HANGS, RESETS = Reply(0, pieces=[60.0]), Reply(0)


@pytest.mark.parametrize(("patience", "calls"), [("0", 1), pytest.param("8", 3, marks=pytest.mark.slow)])
@pytest.mark.usefixtures("here")
def test_a_request_that_hangs_each_time_fails_alone(patience: str, calls: int) -> None:
    more = ["-j", "2", "--timeout", "1", "--patience", patience, "--retries", "2"]
    with Odd(HANGS, 99, "thing 1.") as server:
        done = redraft(*words(f"{server.url}#m", *more))
        assert done.exit_code == 3, done.output
        asked = [request for request in server.asked(CHAT) if b"thing 1." in request.body]
        # What is asked again after all others are done is not bounded by the number of tries.
        assert len(asked) == calls if patience == "0" else len(asked) >= calls
    assert lines() == 7


@pytest.mark.parametrize("reply", [RESETS, error_reply(503, "Busy."), sse_reply(chat_event("Fi"), cut=True)])
def test_a_request_that_fails_once_does_not_hold_back_the_others(reply: Reply) -> None:
    async def asked(engine: RemoteEngine, prompt: str, times: int = 1) -> None:
        for _ in range(times):
            messages: list[Message] = [{"role": "user", "content": prompt}]
            with suppress(EngineError):
                _ = [delta async for delta in engine.chat(messages, Sampling())]

    async def both() -> bool:
        patience = Patience(outage=300.0, backoff=60.0)
        async with aclosing(RemoteEngine(server.url, "m", patience=patience)) as engine:
            await asked(engine, "First")
            failing = asyncio.create_task(asked(engine, "Odd"))
            await asyncio.to_thread(server.failed.wait)
            going_on = asyncio.create_task(asked(engine, "Even", 20))
            await asyncio.wait([failing, going_on], return_when=asyncio.FIRST_COMPLETED)
            failing.cancel()
            return going_on.done()

    with Odd(reply, 1, "Odd") as server:
        assert asyncio.run(both())
        assert len(server.asked(CHAT)) == 22


async def test_the_reason_of_a_wait_stays_until_the_pause_is_over() -> None:
    told: list[str] = []
    retry = Retry(Patience(tell=told.append), "host")
    await retry.waited(Failure(429, 5.0, 1, 0.0))
    retry.served()  # of a request that began before
    assert told == ["host limits requests, waiting 5 s, as it asks"]
    retry.rate.held_until = 0.0
    retry.served()
    assert told[1:] == [""]


def test_a_server_that_is_down_is_asked_by_one_request_at_a_time() -> None:
    """Where two tries fail and nobody is served in between, it is the server: all requests wait."""
    assert waited(Patience(outage=300.0), Failure(None, None, 1, 0.0))[1] is False
    assert waited(Patience(outage=300.0), Failure(None, None, 2, 0.0))[1] is True
    assert waited(Patience(outage=300.0), Failure(503, 2.0, 1, 0.0))[1] is True


@pytest.mark.slow
def test_ask_says_on_a_terminal_that_it_waits(server: FakeServer, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    busy = error_reply(429, "Slow down.", headers={"Retry-After": "1"})
    server.on(MODELS, models_reply("m")).on(CHAT, busy, chat_reply("Rain falls."))
    command = [sys.executable, "-m", "redraft", "ask", "Hi", "-m", f"{server.url}#m"]
    command += ["--max-revisions", "0"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path, timeout=60)
    os.close(theirs)
    assert (done.returncode, done.stdout) == (0, b"Rain falls.\n")
    assert f"redraft: {server.host} limits requests, waiting 1 s, as it asks." in os.read(ours, 4096).decode()
    os.close(ours)

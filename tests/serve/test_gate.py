from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from redraft.engines.base import Delta
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.jobs.signals import in_daemon_thread
from redraft.serve import exchange
from redraft.serve.errors import Refusal
from redraft.serve.gate import Gate
from redraft.serve.log import JsonFormatter
from redraft.serve.logprobs import Noting
from redraft.serve.reader import ServerLimits
from redraft.serve.run import until_signal
from tests.serve.running import HI, LONG, SHORT, Server, events_of, plain, served, short
from tests.serve.test_log import logged
from tests.serve.test_metrics import figures

WAIT = 30
"""Seconds after which a test gives up."""


class Held(ScriptedEngine):
    def __init__(self, *replies: str, first: bool = True, free: int = 0) -> None:
        """With `first` false, not even the first piece is said. The first calls, `free`, are not held."""
        super().__init__(list(replies) or [LONG])
        self.first, self.free = first, free
        self.begun, self.ended = threading.Semaphore(0), threading.Semaphore(0)
        self.go, self.unsent = threading.Event(), tuple[Delta, ...]()

    async def chat(self, *asked: Any) -> AsyncGenerator[Delta, None]:  # type: ignore[override]
        self.begun.release()
        held, free = not self.first, len(self.calls) < self.free
        try:
            async for delta in super().chat(*asked):
                if held and not free:
                    await in_daemon_thread(self.go.wait)
                held = True
                yield delta
        except asyncio.CancelledError:
            raise asyncio.CancelledError(*self.unsent) from None
        finally:
            self.ended.release()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def streams(server: Server, **body: Any) -> Any:
    asked = {"model": "plain", "messages": HI, "stream": True, **body}
    return httpx.stream("POST", f"{server.url}/chat/completions", json=asked, timeout=WAIT)


def leave(server: Server, begun: Any, **body: Any) -> None:
    with server.connection() as connection:
        connection.sendall(request_of({"model": "plain", "messages": HI, **body}))
        assert is_true(begun)


def request_of(body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return b"%sContent-Length: %d\r\n\r\n%s" % (head, len(content), content)


def is_true(condition: Any) -> bool:
    paused = threading.Event()
    return any(condition() or paused.wait(0.005) for _ in range(WAIT * 200))


def test_a_client_that_leaves_a_stream_ends_the_work() -> None:
    engine = Held()
    with served({"plain": plain(engine)}) as server:
        with streams(server) as reply:
            assert next(reply.iter_lines()).startswith("data: ")
        assert engine.ended.acquire(timeout=WAIT)
        assert is_true(lambda: not server.gate.inside)
        assert not engine.go.is_set()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_anything_came_ends_the_work(stream: bool) -> None:
    engine = Held(first=False)
    with served({"plain": plain(engine)}) as server:
        leave(server, lambda: engine.begun.acquire(blocking=False), stream=stream)
        assert engine.ended.acquire(timeout=WAIT)
        assert is_true(lambda: not server.gate.inside)
        assert is_true(lambda: ("redraft_requests_total", "", "499") in figures(server))


def test_a_client_that_leaves_the_queue_is_never_answered_and_took_nothing() -> None:
    engine = Held()
    with served({"plain": plain(engine)}, at_once=1) as server, streams(server):
        assert engine.begun.acquire(timeout=WAIT)
        leave(server, lambda: server.gate.inside == 2)
        assert is_true(lambda: server.gate.inside == 1)
        assert figures(server).get(("redraft_tokens_total", "", "prompt", "plain"), 0) == 0
        engine.go.set()
    assert len(engine.calls) == 1


@pytest.mark.slow
def test_a_full_queue_turns_requests_away(pool: ThreadPoolExecutor) -> None:
    engine = Held()
    with served({"plain": plain(engine)}, at_once=1, queue=1) as server:
        waiting: list[Future[httpx.Response]] = [pool.submit(server.post) for _ in range(2)]
        assert is_true(lambda: server.gate.inside == 2)
        refused = server.post()
        with server.client() as client, pytest.raises(openai.RateLimitError):
            client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "Hi."}])
        engine.go.set()
        answered = [each.result(WAIT) for each in waiting]
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert refused.json()["error"]["code"] == "queue_full"
    assert [reply.status_code for reply in answered] == [200, 200]


@pytest.mark.slow
def test_a_model_that_is_busy_holds_up_no_other(pool: ThreadPoolExecutor) -> None:
    slow, free = Held(), ScriptedEngine(["Fine."])
    models = {"plain": plain(slow), "short": short(slow), "other": plain(free)}
    with served(models, at_once=1, queue=0) as server:
        waiting = pool.submit(server.post)
        assert slow.begun.acquire(timeout=WAIT)
        assert server.post({"model": "other"}).status_code == 200
        assert [server.post({"model": name}).status_code for name in ("plain", "short")] == [429] * 2
        slow.go.set()
        assert waiting.result(WAIT).status_code == 200


def test_requests_for_log_probabilities_have_no_lane_of_their_own() -> None:
    async def main() -> None:
        gate, engine = Gate(1, 0), ScriptedEngine(["Fine."])
        async with gate.entered(engine):
            with pytest.raises(Refusal, match="too many requests are waiting"):
                await gate.entered(Noting(engine)).__aenter__()

    asyncio.run(main())


def test_requests_run_at_the_same_time_up_to_the_limit(pool: ThreadPoolExecutor) -> None:
    engine = Held()
    with served({"plain": plain(engine)}, at_once=2) as server:
        waiting = [pool.submit(server.post) for _ in range(3)]
        assert is_true(lambda: server.gate.inside == 3)
        assert all(engine.begun.acquire(timeout=WAIT) for _ in range(2))
        assert not engine.begun.acquire(timeout=0.1)
        engine.go.set()
        assert [each.result(WAIT).status_code for each in waiting] == [200] * 3


@pytest.mark.slow
def test_models_that_are_being_loaded(pool: ThreadPoolExecutor) -> None:
    with served(loading=True) as server:
        assert is_true(lambda: httpx.get(f"{server.root}/health").status_code == 200)
        replies = [httpx.get(f"{server.root}/ready"), httpx.get(f"{server.url}/models"), server.post()]
        server.load.set()
        assert is_true(lambda: httpx.get(f"{server.root}/ready").status_code == 200)
        assert server.post().status_code == 200
    assert [reply.status_code for reply in replies] == [503] * 3
    assert {reply.json()["error"]["code"] for reply in replies} == {"loading"}
    assert {reply.headers["Retry-After"] for reply in replies} == {"5"}


@pytest.mark.slow
def test_draining_finishes_streams_and_takes_no_new_requests() -> None:
    engine = Held()
    with served({"plain": plain(engine)}) as server, streams(server) as reply:
        lines = reply.iter_lines()
        next(lines)
        server.drain()
        assert is_true(lambda: server.gate.draining)
        refused, ready = server.post(), httpx.get(f"{server.root}/ready")
        assert httpx.get(f"{server.root}/health").status_code == 200
        engine.go.set()
        rest = events_of("\n".join(lines))
    assert [each.status_code for each in (refused, ready)] == [503, 503]
    assert (refused.json()["error"]["code"], refused.headers["Retry-After"]) == ("draining", "5")
    said = [json.loads(line)["choices"][0]["delta"].get("content", "") for line in rest[:-1]]
    assert LONG.endswith("".join(said))
    assert rest[-1] == "[DONE]"


def test_a_server_that_is_to_end_answers_for_a_while_and_says_that_it_ends() -> None:
    with served(linger=600) as server:
        server.drain()
        assert is_true(lambda: server.gate.ending)
        ready, asked = httpx.get(f"{server.root}/ready"), server.post()
        server.cut()  # a second signal ends that
    assert (ready.status_code, ready.json()["error"]["code"]) == (503, "draining")
    assert asked.status_code == 200


def test_a_request_that_comes_while_the_server_lingers_has_time_to_finish() -> None:
    async def main() -> None:
        gate = Gate(1, 0)
        drained = asyncio.create_task(gate.drain(WAIT, linger=0.02))
        await asyncio.sleep(0.01)
        async with gate.entered(ScriptedEngine(["Hi."])) as token:
            await asyncio.sleep(0.1)
        await drained
        assert not token.cancelled

    asyncio.run(main())


def test_only_sigterm_lingers() -> None:
    async def main(*signals: int) -> tuple[bool, bool]:
        gate = Gate(1, 0)
        with until_signal(gate) as told:
            for number in signals:
                os.kill(os.getpid(), number)
                await asyncio.wait_for(told.wait(), WAIT)
                await asyncio.sleep(0.01)
        return gate.lingers, gate._cut.is_set()

    assert asyncio.run(main(signal.SIGTERM)) == (True, False)
    assert asyncio.run(main(signal.SIGINT)) == (False, False)
    assert asyncio.run(main(signal.SIGTERM, signal.SIGTERM)) == (True, True)


def test_a_drain_that_takes_too_long_sends_the_best_answer_so_far() -> None:
    engine = Held(LONG, "It is held back for ever.", free=1)
    with served({"plain": short(engine)}, drain=0.01) as server, streams(server, redraft=True) as reply:
        assert all(engine.begun.acquire(timeout=WAIT) for _ in range(2))
        server.drain()
        events = events_of("\n".join(reply.iter_lines()))
    content = [json.loads(line)["choices"][0]["delta"].get("content") for line in events[:-1]]
    assert list(filter(None, content)) == [LONG]
    assert json.loads(events[-2])["redraft"]["stop"] == "cancelled"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses"])
def test_a_drain_that_ends_before_the_first_token_sends_no_answer(
    path: str, stream: bool, pool: ThreadPoolExecutor
) -> None:
    asked = {"prompt": "Hi."} if path == "completions" else {"messages" if "chat" in path else "input": HI}
    body = {"model": "plain", "stream": stream, **asked}
    engine = ScriptedEngine([ScriptedReply("", stall=600)])
    with served({"plain": plain(engine)}, drain=0.01, at_once=1) as server:
        waiting = [pool.submit(httpx.post, f"{server.url}/{path}", json=body, timeout=WAIT) for _ in range(3)]
        assert is_true(lambda: server.gate.inside == 3)
        server.drain()
        replies = [each.result(WAIT) for each in waiting]
    assert [reply.status_code for reply in replies] == [503] * 3
    assert {reply.headers["Retry-After"] for reply in replies} == {"5"}
    assert {reply.json()["error"]["code"] for reply in replies} == {"draining"}


def test_a_drain_sends_the_text_that_steering_held_back(pool: ThreadPoolExecutor) -> None:
    engine = Held(first=False)
    engine.unsent = (Delta("Rain is", completion_tokens=2),)
    with served({"plain": plain(engine)}, drain=0.01) as server:
        waiting = pool.submit(server.post)
        assert engine.begun.acquire(timeout=WAIT)
        server.drain()
        choice = waiting.result(WAIT).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Rain is", "length")


def test_a_drain_keeps_the_answers_that_are_done(pool: ThreadPoolExecutor) -> None:
    engine = ScriptedEngine(["Rain is water.", ScriptedReply("", stall=600)])
    with served({"plain": plain(engine)}, drain=0.01) as server:
        waiting = pool.submit(server.post, {"model": "plain", "n": 2})
        assert is_true(lambda: len(engine.calls) == 2)
        server.drain()
        made = [each["message"]["content"] for each in waiting.result(WAIT).json()["choices"]]
    assert made == ["Rain is water.", ""]


def test_a_chain_that_takes_too_long_ends_with_its_best_answer() -> None:
    with served({"plain": plain(Held())}, limits=ServerLimits(seconds=0.2)) as server:
        reply = server.post({"redraft": True}).json()
    assert reply["redraft"]["stop"] == "budget"
    assert (reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"]) == (
        "Rain",
        "length",
    )


def test_a_silent_stream_has_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SILENCE", 0.01)
    engine = Held(first=False)
    with served({"plain": plain(engine)}) as server, streams(server) as reply:
        lines = reply.iter_lines()
        assert next(lines) == ": still at work"
        engine.go.set()
        assert list(lines)[-2] == "data: [DONE]"


@pytest.mark.slow
def test_a_client_that_does_not_read_loses_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "CLIENT_SECONDS", 0.05)
    engine = ScriptedEngine(["x" * (1 << 24)], chunk=1 << 20)
    models = {"plain": {**plain(engine), "max_tokens": 1 << 25}}
    with served(models, at_once=1) as server, server.connection() as connection:
        connection.sendall(request_of({"model": "plain", "messages": HI, "stream": True}))
        assert is_true(lambda: engine.calls)
        assert is_true(lambda: not server.gate.inside)
        assert connection.recv(8) == b"HTTP/1.1"


PATHS: list[tuple[str, dict[str, Any]]] = [
    ("chat/completions", {"model": "plain", "messages": HI}),
    ("chat/completions", {"model": "short", "messages": HI}),
    ("completions", {"model": "plain", "prompt": "Hi."}),
    ("responses", {"model": "short", "input": "Hi."}),
]


@pytest.mark.parametrize("how", ["leaves", "drain"])
@pytest.mark.parametrize(("path", "body"), PATHS)
def test_a_cut_stream_is_booked_with_what_was_asked(path: str, body: dict[str, Any], how: str) -> None:
    asked = "Describe rain, and say where it comes from. " * 20
    [field] = body.keys() - {"model"}
    body = {**body, field: [{"role": "user", "content": asked}] if field == "messages" else asked}
    engine = ScriptedEngine([ScriptedReply(LONG, stall=600)])
    models = {"plain": plain(engine), "short": short(engine)}
    with logged(JsonFormatter()) as text, served(models, drain=0.01) as server:
        url = f"{server.url}/{path}"
        with httpx.stream("POST", url, json={**body, "stream": True}, timeout=WAIT) as reply:
            lines = reply.iter_lines()
            next(lines)
            if how == "drain":
                server.drain()
                list(lines)
        assert is_true(lambda: '"path"' in text.getvalue())
    [line] = [line for line in map(json.loads, text.getvalue().splitlines()) if "path" in line]
    assert line["error"] == ("client_left" if how == "leaves" else "draining")
    # Estimated, since a stream that is ended does not tell.
    assert len(asked) / 8 < line["prompt_tokens"] < len(asked)
    assert line["completion_tokens"] >= len("Rain")


def test_a_client_that_leaves_in_the_second_text_is_booked_with_both() -> None:
    engine = Held(LONG, SHORT, free=1)
    with served({"short": short(engine)}) as server:
        with streams(server, model="short"):
            assert all(engine.begun.acquire(timeout=WAIT) for _ in range(2))
        assert is_true(lambda: not server.gate.inside)
        assert is_true(lambda: ("redraft_tokens_total", "", "prompt", "short") in figures(server))
        found = figures(server)
    assert found["redraft_tokens_total", "", "prompt", "short"] > len("Hi.") + len(LONG) / 8
    assert found["redraft_tokens_total", "", "completion", "short"] >= len(LONG)

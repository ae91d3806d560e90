"""Replies that break off while another server or a new process stands ready: the chain goes on."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from redraft.engines.base import Health
from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import Patience
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import EngineError
from redraft.options import MachineOptions
from tests.engines.flaky_server import FlakyServer
from tests.serve.running import LONG, SHORT, Server, events_of, plain, served, short
from tests.serve.test_gate import is_true
from tests.serve.test_metrics import figures

ASK: list[Any] = [{"role": "user", "content": "Describe rain."}]
AGAIN = "\n\n(This text broke off, and is written again.)"


class Watched(ScriptedEngine):
    health = Health()


def broken(text: str = "") -> ScriptedReply:
    error = EngineError("the process died", passing=True)
    error.ready = True
    return ScriptedReply(text, error=error)


def streamed(server: Server, model: str) -> tuple[str, str, Any]:
    thought = said = ""
    sent = events_of(server.post({"model": model, "stream": True}).text)
    *events, last = [json.loads(each) for each in sent if each != "[DONE]"]
    for event in events:
        delta = event["choices"][0]["delta"]
        thought += delta.get("reasoning_content", "")
        said += delta.get("content", "")
    return thought, said, last


def test_a_revising_model_shows_the_text_again_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "redraft.serve")
    with served({"short": short(ScriptedEngine([LONG, broken("Rain is"), broken("Rain"), SHORT]))}) as server:
        thought, said, last = streamed(server, "short")
    assert (said, last["choices"][0]["finish_reason"]) == (SHORT, "stop")
    assert thought.count(f"Draft:\n{LONG}") == 1
    revised = f"Revision 1:\nRain is{AGAIN}\n\nRevision 1:\nRain{AGAIN}\n\nRevision 1:\n{SHORT}"
    assert thought.endswith(f"\n\n{revised}")
    told = "a reply broke off, but the chain continues: the process died"
    assert [record.getMessage() for record in caplog.records] == [told] * 2


def test_a_whole_reply_shows_only_what_counts() -> None:
    replies = [broken("Rain, "), LONG, broken("Rain is"), SHORT]
    with served({"short": short(ScriptedEngine(replies))}) as server:
        whole = server.post({"model": "short", "redraft": True}).json()
    message, chain = whole["choices"][0]["message"], whole["redraft"]
    assert message["content"] == SHORT
    assert message["reasoning_content"].startswith(f"Draft:\n{LONG}\n\nFeedback:\n")
    assert "broke off" not in message["reasoning_content"]
    assert [step["answer"] for step in chain["steps"]] == [LONG, SHORT]
    assert whole["usage"]["completion_tokens"] == len("Rain, " + LONG + "Rain is" + SHORT)


def test_a_plain_answer_that_was_streamed_cannot_be_taken_back(caplog: pytest.LogCaptureFixture) -> None:
    with served({"plain": plain(ScriptedEngine([broken("Rain"), LONG]))}) as server:
        text, error = (json.loads(each) for each in events_of(server.post({"stream": True}).text))
        assert server.post().json()["choices"][0]["message"]["content"] == LONG
        with server.client() as client, pytest.raises(openai.APIError, match="the model's server failed"):
            list(client.chat.completions.create(model="plain", messages=ASK, stream=True))
    assert text["choices"][0]["delta"]["content"] == "Rain"
    assert "continues" not in caplog.text.partition("a model failed")[0]
    assert error["error"]["code"] == "engine_error"


def test_responses_do_the_same() -> None:
    engine = ScriptedEngine([LONG, broken("Rain is"), SHORT, broken("Rain is")])
    with served({"short": short(engine), "plain": plain(engine)}) as server, server.client() as client:
        events = list(client.responses.create(model="short", input="Describe rain.", stream=True))
        assert events[-1].type == "response.completed"
        assert events[-1].response.output_text == SHORT
        with pytest.raises(openai.APIError, match="the model's server failed"):
            list(client.responses.create(model="plain", input="Describe rain.", stream=True))


def test_an_engine_that_never_recovers_is_an_error() -> None:
    with served({"plain": plain(ScriptedEngine([broken("Rain is")]))}) as server:
        reply = server.post()
    assert (reply.status_code, reply.json()["error"]["code"]) == (502, "engine_error")


def test_what_engines_say_of_themselves_is_told_and_each_counts_once() -> None:
    one, two = Watched([LONG]), Watched([LONG])
    with served({"plain": plain(one), "short": short(one), "other": plain(two)}) as server:

        def ready() -> tuple[int, Any]:
            reply = httpx.get(f"{server.root}/ready")
            return reply.status_code, reply.json()

        assert ready() == (200, {"status": "ready"})
        one.health, two.health = Health(restarts=3, trouble="it was killed"), Health(restarts=1)
        assert ready() == (200, {"status": "degraded"})
        assert is_true(lambda: one.calls)  # to see whether it works again
        one.health = Health(restarts=3, trouble="it was killed", down=True)
        assert ready() == (200, {"status": "degraded"})  # the other model answers
        found = figures(server)
    assert found["redraft_engine_restarts_total", "scripted"] == 4
    assert found["redraft_engine_trouble", "scripted"] == 1


def test_the_only_server_of_a_model_that_stops_is_reported_until_it_answers_again() -> None:
    with FlakyServer() as flaky:
        engine = RemoteEngine(flaky.model[:-2], "m", patience=Patience(tries=1, backoff=2))
        with served({"plain": plain(engine)}) as server:
            assert server.post().status_code == 200
            flaky.kill()
            replies = [server.post({"logprobs": True}), server.post(), httpx.get(f"{server.root}/ready")]
            assert "the model 'plain' does not answer now." in replies[1].text  # not its own name, m
            assert is_true(lambda: not engine.health.resting)
            replies.append(httpx.get(f"{server.root}/ready"))
            assert figures(server)["redraft_engine_trouble", "m"] == 1
            flaky.start()
            assert is_true(lambda: httpx.get(f"{server.root}/ready").status_code == 200)
    assert [reply.json()["error"]["code"] for reply in replies] == ["engine_down"] * 4
    assert {(reply.status_code, reply.headers["Retry-After"]) for reply in replies} == {(503, "5")}


@pytest.mark.slow
@pytest.mark.model
def test_a_kill_of_the_models_process_is_not_noticed(default_model: Path) -> None:
    engine = asyncio.run(LlamaCppEngine.start(default_model, machine=MachineOptions(ctx=256, threads=1)))
    asked: Any = {"temperature": 0, "max_tokens": 40, "messages": ASK}
    with served({"plain": plain(engine)}) as server, server.client() as client:
        whole = client.chat.completions.create(model="plain", **asked).choices[0].message.content
        pieces: list[str] = []
        for chunk in client.chat.completions.create(model="plain", stream=True, **asked):
            pieces.append(chunk.choices[0].delta.content or "")
            if len(pieces) == 10:
                engine._kept.child._process.kill()
        found = figures(server)
    asyncio.run(engine.aclose())
    assert "".join(pieces) == whole
    assert found["redraft_engine_restarts_total", engine.info.name] == 1

"""Models whose servers are down when `redraft serve` starts."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from redraft.engines.base import Engine
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import EngineError, EngineTimeout, RedraftError, ServerError, UsageError
from redraft.options import Flags
from redraft.revision.options import check_options
from redraft.revision.promise import digest_of
from redraft.revision.settings import Settings
from redraft.serve import start
from redraft.serve.app import make_app
from redraft.serve.errors import Refusal
from redraft.serve.gate import Gate
from redraft.serve.keys import Keys
from redraft.serve.models import Model, Models
from redraft.serve.reader import ServerLimits
from redraft.serve.start import Opening, Server
from tests.cli.verbs import redraft
from tests.engines.fake_server import FakeServer, chat_reply, error_reply, json_reply, models_reply
from tests.serve.running import HI, started
from tests.serve.test_gate import is_true

NAMES = {"a": "script:a.jsonl", "b": "http://down/v1#m", "c": "http://down/v1#m"}


def loading(
    down: EngineError, tries: int, names: dict[str, str] = NAMES, keys: Keys | None = None
) -> tuple[list[Any], list[str]]:
    """Load models, of which a server is down for some tries.

    Returns what was offered and missing after each try, and what was said.
    """
    seen: list[Any] = []
    said: list[str] = []
    opened: list[str] = []

    async def opens(reference: str, **_: Any) -> Engine:
        opened.append(reference)
        if "down" in reference and opened.count(reference) <= 2 * tries:
            raise down
        return ScriptedEngine(["Hi."])

    class Offered(Models):
        def offer(self, models: Any, down: Any = ()) -> None:
            super().offer(models, down)
            if not isinstance(models, list):
                seen.append(({model.name for model in self.all()}, set(self.down)))

    async def main() -> None:
        models = [(name, "", Settings.read(Flags, {"model": model})) for name, model in names.items()]
        given: Any = dict.fromkeys(("port", "parallel", "queue", "max_seconds", "drain", "linger"), 1)
        given |= {"models": models, "keys": keys, "page": False, "votes": Path(), "log_json": False}
        server = Server(tell=lambda message, _: said.append(message), host="h", otel=False, **given)
        async with AsyncExitStack() as stack:
            with socket.socket() as sock:
                await server._load(Opening(stack, models, 1, opens=opens), Offered(), sock)

    asyncio.run(main())
    assert opened.count("script:a.jsonl") <= 1  # an engine that is open is not opened again
    return seen, said


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start, "backoff", lambda *_: 0.0)


@pytest.mark.parametrize("down", [ServerError("no server answers"), EngineTimeout("it is silent")])
def test_one_server_that_is_down_keeps_no_other_model_from_being_served(down: EngineError) -> None:
    seen, said = loading(down, tries=2)
    assert seen == [({"a"}, {"b", "c"}), ({"a"}, {"b", "c"}), ({"a", "b", "c"}, set())]
    assert said[0].startswith("serving a at ")
    assert said[1:3] == [f"{name} is not served yet; trying again: {down}" for name in "bc"]
    assert said[3].startswith("serving a, b and c at ")


@pytest.mark.parametrize(
    ("error", "names"),
    [(ServerError("a wrong key", status=401), NAMES), (ServerError("no server answers"), {"b": NAMES["b"]})],
)
def test_a_mistake_and_no_model_end_the_start(error: ServerError, names: dict[str, str]) -> None:
    with pytest.raises(RedraftError, match=error.message):
        loading(error, 1, names)


def test_a_model_that_writes_no_thoughts_is_not_started_to_end_them() -> None:
    async def opens(*_: Any, **__: Any) -> Engine:
        return ScriptedEngine(["Hi."])

    settings = Settings.read(Flags, {"model": "script:a.jsonl", "max_thoughts": 20})
    with pytest.raises(UsageError, match=r"--max-thoughts .* cannot limit the thoughts of"):
        asyncio.run(Opening(AsyncExitStack(), [], 1, opens=opens).open("a", "", settings))


def test_a_key_for_no_model_is_named_at_the_start_and_when_it_is_read_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, line = tmp_path / "keys", "sk-0123456789abcdef name=bob models=plain,b,"
    file.write_text(line + "plian")
    keys = Keys.read(file)
    loading(ServerError("no server answers"), 1, {"plain": "script:a.jsonl", "b": NAMES["b"]}, keys)
    file.write_text(f"{line}plan\nsk-0123456789abcdeg name=bob")
    assert keys.find("Bearer sk-0123456789abcdef")
    told = "the key 'bob' may use {!r}, which is not served. Did you mean 'plain'?"
    added = "2 keys are called 'bob': metrics add them up."
    assert caplog.messages == [told.format("plian"), added, told.format("plan")]


def test_a_model_that_is_down_is_no_model_that_does_not_exist() -> None:
    models = Models()
    models.offer([], ["b"])
    with pytest.raises(Refusal, match="the server of the model 'b' does not answer") as refused:
        models.within(lambda _: True).named("b")
    assert (refused.value.status, refused.value.code) == (HTTPStatus.SERVICE_UNAVAILABLE, "engine_down")
    with pytest.raises(Refusal, match="No model is available to you now"):
        models.within(lambda name: name != "b").named("b")


def test_a_model_that_its_server_does_not_list_may_work(upstream: FakeServer) -> None:
    chat, texts = "POST /v1/chat/completions", {"model": "m", "input": "Hi."}
    upstream.on("GET /v1/models", models_reply("a")).on(chat, error_reply(400, "no chat"))
    upstream.on("POST /v1/embeddings", json_reply({"data": []}))
    with started("--model", f"{upstream.url}#m", "--no-page") as (root, process):
        assert process.stderr
        assert process.stderr.readline().endswith(f": {upstream.url} has no model 'm'. It has a.\n")
        assert httpx.get(f"{root}/ready").json() == {"status": "degraded"}
        assert httpx.post(f"{root}/v1/embeddings", json=texts).status_code == 200
        assert httpx.get(f"{root}/ready").json() == {"status": "ready"}
        upstream.on(chat, error_reply(404, "no such model"))
        reply = httpx.post(f"{root}/v1/chat/completions", json={"model": "m", "messages": HI})
        assert (reply.status_code, reply.json()["error"]["message"]) == (502, "the model's server failed.")
        assert httpx.get(f"{root}/ready").status_code == 503
        upstream.on(chat, chat_reply("Hi."))
        assert is_true(lambda: httpx.get(f"{root}/ready").json() == {"status": "ready"})


def test_the_server_is_degraded_while_a_model_is_down() -> None:
    models = Models()
    models.offer([Model("a", check_options({"model": ScriptedEngine(["Hi."])}))], ["b"])
    client = TestClient(make_app(models, Gate(1, 1), ServerLimits()), base_url="http://localhost")
    assert client.get("/ready").json() == {"status": "degraded"}


def test_a_way_is_served_for_checks_of_requests_and_its_promise_watched_over_restarts(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDRAFT_CACHE", "cache")
    (here / "w.jsonl").write_text('"Rain falls."')
    promise = {"right": 0.6, "checks": ["words"], "watched": True, "model": digest_of("script:w.jsonl")}
    way = {"model": "script:w.jsonl", "mode": "best-of", "drafts": 2, "promise": promise}
    Path("way.yaml").write_text(json.dumps(way))
    found = []
    for _ in range(2):
        with started("--recipe", "way.yaml", "--no-page") as (root, _):
            for checks in ([], *[["words<=1"]] * 5):
                body = {"model": "w-revise", "messages": HI, "revision": {"checks": checks}}
                found.append(httpx.post(f"{root}/v1/chat/completions", json=body).status_code)
            text = httpx.get(f"{root}/metrics").text
            found += [int(value) for value in re.findall(r"^redraft_promise_.* (\d)", text, re.M)]
    assert found == [400, *[200] * 5, 5, 0, 400, *[200] * 5, 7, 1]
    Path("way.yaml").write_text(json.dumps({**way, "promise": {**promise, "watched": False}}))
    told = redraft("serve", "--recipe", "way.yaml", "--votes", "no/votes.jsonl").stderr
    assert "way.yaml promises a share of right answers, but no check tests the promise." in told

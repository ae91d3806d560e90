from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from redraft.engines.pool import PoolEngine
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import Patience
from redraft.engines.scripted import ScriptedEngine
from redraft.serve.keys import Keys
from tests.engines.fake_server import FakeServer, Reply, error_reply, json_reply
from tests.serve.running import Server, plain, served

ROUTE = "POST /v1/embeddings"


def post(server: Server, **body: Any) -> httpx.Response:
    asked = {"model": "plain", "input": "Rain", **body}
    return httpx.post(f"{server.url}/embeddings", json=asked, timeout=30)


@pytest.fixture
def server(upstream: FakeServer) -> Iterator[Server]:
    engine = RemoteEngine(upstream.url, "vectors", patience=Patience(tries=1))
    with served({"plain": plain(engine), "local": plain(ScriptedEngine(["No."]))}) as running:
        yield running


def test_a_request_and_its_reply_stay_as_they_are(upstream: FakeServer, server: Server) -> None:
    data = [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1.5, 2]}]
    upstream.on(ROUTE, json_reply({"object": "list", "data": data, "usage": {"prompt_tokens": 7}}))
    asked: dict[str, Any] = {"input": [[1, 2], [3]], "dimensions": 2, "encoding_format": "base64"}
    reply = post(server, **asked).json()
    assert upstream.asked(ROUTE)[0].json == {**asked, "model": "vectors"}
    assert (reply["model"], reply["data"], reply["usage"]) == ("plain", data, {"prompt_tokens": 7})
    with server.client() as client:
        client.embeddings.create(model="plain", input="Rain", encoding_format="float")
    assert upstream.asked(ROUTE)[1].json["encoding_format"] == "float"


@pytest.mark.parametrize(
    ("reply", "status", "told"),
    [
        (error_reply(400, "too many inputs"), 400, "reports an error: too many inputs"),
        (error_reply(402, "no credit"), 502, "reports an error: no credit"),
        (error_reply(404, "no such path"), 502, "reports an error: no such path"),
        (json_reply({"vectors": []}), 502, "failed."),
        (json_reply({"data": [{"embedding": [math.inf]}]}), 502, "failed."),
        (json_reply({"data": [], "model": "m", "of": "\ud800"}), 502, "failed."),
    ],
)
def test_what_is_no_reply(upstream: FakeServer, server: Server, reply: Reply, status: int, told: str) -> None:
    upstream.on(ROUTE, reply)
    refused = post(server)
    assert (refused.status_code, refused.json()["error"]["message"]) == (status, f"the model's server {told}")


def test_a_count_that_no_server_can_mean_is_none(upstream: FakeServer, server: Server) -> None:
    upstream.on(ROUTE, json_reply({"data": [], "usage": {"prompt_tokens": 10**400}}))
    assert post(server).status_code == 200
    counted = httpx.get(f"{server.root}/metrics").text
    assert 'kind="prompt",model="plain"} 0.0' in counted
    assert 'kind="completion",model="plain"} 0.0' in counted


def test_a_server_that_ends_waits_for_no_other(upstream: FakeServer, server: Server) -> None:
    upstream.on(ROUTE, Reply(pieces=[20.0, b"{}"]))
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(post, server)
        while not server.gate.inside:
            time.sleep(0.01)
        server.cut()
        assert asked.result(15).json()["error"]["code"] == "draining"


def test_any_server_of_several_is_asked(upstream: FakeServer) -> None:
    upstream.on(ROUTE, json_reply({"data": []}))

    async def opened() -> RemoteEngine:
        return RemoteEngine(upstream.url, "m", patience=Patience(tries=1))

    pool = asyncio.run(PoolEngine.start([("a", opened), ("b", opened)], Patience()))
    with served({"plain": plain(pool)}) as server:
        assert post(server).json() == {"data": [], "model": "plain"}


def test_a_model_of_this_machine_has_none(server: Server) -> None:
    error = post(server, model="local").json()["error"]
    assert (error["param"], error["code"]) == ("model", "unsupported")


def test_a_key_for_other_models_gets_none(upstream: FakeServer, tmp_path: Path) -> None:
    upstream.on(ROUTE, json_reply({"data": []}))
    keys, engine = tmp_path / "keys", RemoteEngine(upstream.url, "m", patience=Patience(tries=1))
    keys.write_text(f"{'a' * 40} models=other\n{'b' * 40}\n")
    models = {"plain": plain(engine), "other": plain(ScriptedEngine(["No."]))}
    with served(models, keys=Keys.read(keys)) as server:
        statuses = [
            httpx.post(
                f"{server.url}/embeddings",
                json={"model": "plain", "input": "Rain"},
                headers={"Authorization": f"Bearer {key * 40}"},
            ).status_code
            for key in "ab"
        ]
    assert statuses == [404, 200]
    assert len(upstream.asked(ROUTE)) == 1

"""`/v1/embeddings`: vectors of embedding models, and of servers behind this one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from redraft.engines.llamacpp.engine import LlamaCppEngine
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import Patience
from redraft.options import MachineOptions
from tests.engines.fake_server import FakeServer, error_reply, json_reply
from tests.gguf_files import tiny_model
from tests.serve.running import Server, plain, served

ROUTE = "POST /v1/embeddings"


def post(server: Server, **body: Any) -> httpx.Response:
    asked = {"model": "plain", "input": "Rain", **body}
    return httpx.post(f"{server.url}/embeddings", json=asked, timeout=30)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaCppEngine]:
    """An embedding model: the vector of a text is the mean of those of its tokens."""
    pytest.importorskip("xllamacpp")
    path = tmp_path_factory.mktemp("embeds") / "embeds.gguf"
    model = tiny_model(path, {"llama.pooling_type": 1})
    engine = asyncio.run(LlamaCppEngine.start(model, machine=MachineOptions(threads=1)))
    yield engine
    asyncio.run(engine.aclose())


@pytest.fixture
def behind() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def test_a_local_embedding_model_has_vectors(local: LlamaCppEngine) -> None:
    with served({"plain": plain(local)}) as server, server.client() as client:
        reply = client.embeddings.create(model="plain", input=["ab", "a dog", "ab"])
        floats = client.embeddings.create(model="plain", input="ab", encoding_format="float")
    one, other, again = (each.embedding for each in reply.data)
    assert one == again != other
    assert math.isclose(sum(number**2 for number in one), 1, rel_tol=1e-5)
    assert floats.data[0].embedding == pytest.approx(one)
    assert reply.usage.prompt_tokens == reply.usage.total_tokens > 3


def test_a_text_that_is_too_long_is_named(local: LlamaCppEngine) -> None:
    with served({"plain": plain(local)}) as server:
        error = post(server, input=["ab", "z" * 5000]).json()["error"]
    assert (error["param"], error["code"]) == ("input", "context_length_exceeded")


def test_those_of_a_server_are_passed_on(behind: FakeServer) -> None:
    data = [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1.5, 2]}]
    behind.on(ROUTE, json_reply({"data": data, "usage": {"prompt_tokens": 5}}))
    engine = RemoteEngine(behind.url, "m", patience=Patience(tries=1))
    with served({"plain": plain(engine)}) as server, server.client() as client:
        reply = client.embeddings.create(model="plain", input=["one", "two"])
    assert [each.embedding for each in reply.data] == [[1.5, 2.0], [3.0, 4.0]]
    assert (reply.model, reply.usage.prompt_tokens) == ("plain", 5)
    asked = {"model": "m", "input": ["one", "two"], "encoding_format": "float"}
    assert behind.asked(ROUTE)[0].json == asked


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        (error_reply(404, "not here"), 502),
        (error_reply(400, "too many"), 400),
        (json_reply({"data": []}), 502),
        (json_reply({"data": [{"index": 0, "embedding": [math.inf]}]}), 502),
        (json_reply({"data": [{"index": 0, "embedding": [10**400]}]}), 502),
        (json_reply({"data": [{"index": 0, "embedding": "AACAPw=="}]}), 502),
    ],
)
def test_a_server_without_them_is_an_error(behind: FakeServer, reply: Any, status: int) -> None:
    behind.on(ROUTE, reply)
    engine = RemoteEngine(behind.url, "m", patience=Patience(tries=1))
    with served({"plain": plain(engine)}) as server:
        assert post(server).status_code == status


def test_token_ids_stand_for_texts(local: LlamaCppEngine, behind: FakeServer) -> None:
    ids = list(asyncio.run(local.encode("ab", special=True)))
    with served({"plain": plain(local)}) as server:
        by_text, by_ids, several = (
            post(server, input=each).json()["data"] for each in ("ab", ids, [ids, ids])
        )
        refused = post(server, input=[1, "ab"]).json()["error"]
    assert by_ids == by_text
    assert len(several) == 2
    assert refused["param"] == "input"


def test_dimensions_go_to_a_server_and_are_no_choice_of_a_local_model(
    local: LlamaCppEngine, behind: FakeServer
) -> None:
    vector = {"object": "embedding", "index": 0, "embedding": [1.0, 0.0]}
    behind.on(ROUTE, json_reply({"object": "list", "data": [vector], "usage": {"prompt_tokens": 1}}))
    with served({"plain": plain(RemoteEngine(behind.url, "m"))}) as server:
        assert post(server, dimensions=2, input=[[1, 2]]).status_code == 200
    assert behind.asked(ROUTE)[-1].json["dimensions"] == 2
    assert behind.asked(ROUTE)[-1].json["input"] == [[1, 2]]
    with served({"plain": plain(local)}) as server:
        assert post(server, dimensions=2).json()["error"]["param"] == "dimensions"

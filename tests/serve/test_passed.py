"""Fields that go to a model's engine as they are, or are refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import redraft
from redraft.engines.remote.engine import RemoteEngine
from redraft.errors import UsageError
from tests.engines.able import Able
from tests.engines.fake_server import FakeServer
from tests.serve.running import Server, plain, served
from tests.serve.test_refusals import ROUTES

SAMPLING = {"top_k": 5, "min_p": 0.1, "repeat_penalty": 1.1, "frequency_penalty": 0.5, "presence_penalty": -1}
BIAS = {"logit_bias": {"42": -100}}
OF_TEMPLATE = {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "low"}
LOCAL = {"any_request": False, "fields": frozenset({"top_k"})}
"""About an engine that takes few fields, as llama.cpp here."""


@pytest.fixture
def server(upstream: FakeServer) -> Iterator[Server]:
    remote, local = RemoteEngine(upstream.url, "m"), Able(["It rains."], about=LOCAL)
    models = {"plain": plain(remote), "local": plain(local)}
    with served(models, passes={"plain": frozenset({"guided_json", "top_k"})}) as running:
        yield running


def test_a_server_gets_them(server: Server, upstream: FakeServer) -> None:
    asked = {**SAMPLING, **BIAS, **OF_TEMPLATE}
    assert server.post(asked).status_code == 200
    assert asked.items() <= upstream.requests[-1].json.items()
    with server.client() as client:
        client.completions.create(model="plain", prompt="Rain", extra_body={**SAMPLING, **BIAS})
    assert {**SAMPLING, **BIAS}.items() <= upstream.requests[-1].json.items()


@pytest.mark.parametrize(("path", "asked"), ROUTES.items())
def test_a_field_that_the_models_file_allows_goes_to_the_server(
    server: Server, upstream: FakeServer, path: str, asked: dict[str, Any]
) -> None:
    def ask(model: str, **more: Any) -> httpx.Response:
        return httpx.post(f"{server.url}/{path}", json={"model": model, **asked, **more}, timeout=30)

    allowed = {"guided_json": {"type": "object"}, "top_k": 4}
    assert ask("plain", **allowed).status_code == 200
    assert allowed.items() <= upstream.requests[-1].json.items()
    for model, field in (("plain", "guided_regex"), ("local", "guided_json"), ("none", "guided_json")):
        reply = ask(model, **{field: "a"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "unknown_field")
        assert f"there is no field '{field}'" in reply.text
    assert ask("plain", guided_json={}, stream=3).status_code == 400


def test_responses_have_the_effort_of_reasoning(server: Server, upstream: FakeServer) -> None:
    def ask(model: str, **reasoning: Any) -> httpx.Response:
        body = {"model": model, "input": "Rain?", "reasoning": reasoning}
        return httpx.post(f"{server.url}/responses", json=body, timeout=30)

    assert ask("plain", effort="low", summary="auto").status_code == 200
    assert upstream.requests[-1].json["reasoning_effort"] == "low"
    assert ask("plain", effort=None).status_code == 200
    assert "reasoning_effort" not in upstream.requests[-1].json
    for model, reasoning, said in (
        ("local", {"effort": "low"}, "which accepts top_k, but not reasoning.effort. Leave it out."),
        ("plain", {"effort": 3}, "reasoning.effort is 3"),
        ("plain", {"efort": "low"}, "Did you mean 'effort'?"),
        ("plain", {"summary": "detailed"}, "reasoning.summary may only be"),
    ):
        reply = ask(model, **reasoning)
        assert (reply.status_code, said in reply.text) == (400, True), reply.text


@pytest.mark.parametrize(
    "field", [{"min_p": 0.1}, BIAS, *({name: OF_TEMPLATE[name]} for name in OF_TEMPLATE)]
)
def test_an_engine_that_cannot_take_one_says_which_it_takes(server: Server, field: dict[str, Any]) -> None:
    reply = server.post({"model": "local", "top_k": 3, **field})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["code"]) == (400, next(iter(field)), "unsupported")
    assert f"which accepts top_k, but not {next(iter(field))}. Leave it out." in error["message"]
    with pytest.raises(UsageError, match=rf"extra_body with '{next(iter(field))}'. It accepts top_k"):
        redraft.revise("Rain?", model=Able(["It rains."], about=LOCAL), extra_body={"top_k": 3, **field})


def test_neutral_values_are_no_demand(server: Server) -> None:
    neutral = {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}}
    assert server.post({"model": "local", **neutral}).status_code == 200


@pytest.mark.model
@pytest.mark.slow
def test_llamacpp_takes_those_of_sampling(default_model: Path) -> None:
    def said(tokens: int = 12, temperature: float = 5, **extra: Any) -> str:
        options: Any = {"max_revisions": 0, "max_tokens": tokens, "seed": 1, "temperature": temperature}
        return redraft.revise("Describe rain.", model=str(default_model), extra_body=extra, **options).answer

    greedy = said(top_k=1)
    assert greedy == said(top_k=1, min_p=0.5) == said(min_p=1)
    assert greedy != said()
    assert said(40, 0) != said(40, 0, repeat_penalty=1.8, frequency_penalty=2, presence_penalty=2)
    assert said(top_k=1, logit_bias={str(token): -100 for token in range(100, 20_000)}) != greedy

"""The form of an answer goes to a server as a grammar, in the field that this server has for it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

import redraft
from redraft.engines.base import Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.remote.wire import GRAMMARS
from redraft.engines.steering.form import Form
from redraft.engines.steering.grammar import gbnf
from redraft.errors import ServerError
from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    chat_reply,
    error_reply,
    event,
    models_reply,
    sse_reply,
)
from tests.engines.remote.asking import ASK, CHAT, ONCE, bodies, collected

CHECKS = ["lacks:,", "words<=9"]
FORM = Form(without=frozenset(","))
GRAMMAR = gbnf(FORM)
REFUSED = error_reply(400, "Failed to initialize samplers: failed to parse grammar")


def served(server: FakeServer, owner: str = "llamacpp") -> str:
    server.on("GET /v1/models", models_reply("m", owned_by=owner))
    return server.url


def revise(server: FakeServer, *replies: Reply, owner: str = "llamacpp", **options: Any) -> redraft.Chain:
    server.on(CHAT, *replies)
    given = {"checks": CHECKS, "max_revisions": 0, "max_tokens": 60, **options}
    return redraft.revise("Rain?", model=served(server, owner), **given)


def grammars(server: FakeServer) -> list[set[str]]:
    return [GRAMMARS & body.keys() for body in bodies(server)]


@pytest.mark.parametrize(
    ("owner", "sent"),
    [
        ("llamacpp", {"grammar": GRAMMAR}),
        ("sglang", {"ebnf": GRAMMAR}),
        ("vllm", {"structured_outputs": {"grammar": GRAMMAR}}),
    ],
)
async def test_each_server_has_its_field(server: FakeServer, owner: str, sent: dict[str, Any]) -> None:
    server.on(CHAT, chat_reply("rain falls."))
    engine = await RemoteEngine.connect(served(server, owner))
    assert engine.info.forms
    deltas = await collected(engine.chat(ASK, Sampling(form=FORM, max_tokens=60)))
    await engine.aclose()
    assert {name: bodies(server)[0][name] for name in sent} == sent
    assert grammars(server) == [sent.keys()]
    assert not any(delta.unsteered for delta in deltas)


def test_a_chain_says_what_steered_it(server: FakeServer) -> None:
    chain = revise(server, chat_reply("rain falls."), checks=[*CHECKS, "lacks:the town"])
    assert chain.steps[0].steered == (*CHECKS, "lacks:the town")
    assert grammars(server) == [{"grammar"}]


@pytest.mark.parametrize(
    "options",
    [{"owner": "openai"}, {"steer": False}, {"output": int}, {"extra_body": {"guided_grammar": "mine"}}],
    ids=str,
)
def test_others_are_asked_without_and_not_steered(server: FakeServer, options: dict[str, Any]) -> None:
    chain = revise(server, chat_reply("7"), **options)
    assert chain.steps[0].steered == (("output:int",) if "output" in options else ())
    assert grammars(server) == [GRAMMARS & options.get("extra_body", {}).keys()]


@pytest.mark.parametrize(("owner", "fields"), [("llamacpp", {}), ("vllm", {"continue_final_message": True})])
def test_a_text_is_continued(server: FakeServer, owner: str, fields: dict[str, Any]) -> None:
    replies = map(chat_reply, ("rain falls.", " it", " is far."))
    assert revise(server, *replies, owner=owner, checks=["words>=5"]).answer == "rain falls. it is far."
    assert [body["messages"][-1]["content"] for body in bodies(server)[1:]] == [
        "rain falls.",
        "rain falls. it",
    ]
    assert all(body.items() >= fields.items() for body in bodies(server)[1:])


def test_a_server_without_prefills_gets_no_form(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    refused = error_reply(400, "the last message must be from the user")
    with caplog.at_level(logging.WARNING):
        chain = revise(
            server, chat_reply("rain."), refused, chat_reply("it rains here."), checks=["words>=3"]
        )
    assert chain.answer == "it rains here."
    assert "it cannot continue an answer" in caplog.text


def test_a_sentence_is_patched_behind_its_beginning_or_by_number(server: FakeServer, tmp_path: Path) -> None:
    owls = "Owls hunt at night. A mouse is what they like. They live in barns and woods."
    given: dict[str, Any] = {"given": owls, "checks": ["lacks:mouse"], "max_revisions": 1}
    chain = revise(server, chat_reply(" vole will do. Also"), **given)
    assert chain.answer == owls.replace("A mouse is what they like.", "A vole will do.")
    assert bodies(server)[0]["messages"][-1]["content"] == "Owls hunt at night. A"
    refused = error_reply(400, "the last message must be from the user")
    chain = revise(server, refused, chat_reply("[1] Frogs do."), **given)
    assert chain.answer == owls.replace("A mouse is what they like.", "Frogs do.")
    before = len(bodies(server))
    for _ in range(2):  # the second time by the cache
        more = {"owner": "openai", "cache": tmp_path / "cache.db", **given}
        assert "Crows do." in revise(server, chat_reply("[1] Crows do."), **more).answer
    assert len(bodies(server)) == before + 1


def test_a_refusal_is_remembered_and_told_once(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        replies, falls = map(chat_reply, ("Snow.", "rain falls.")), lambda answer: "falls" in answer
        chain = revise(server, REFUSED, *replies, max_revisions=1, checks=[*CHECKS, falls])
    assert chain.passed
    assert [step.steered for step in chain.steps] == [(), ()]
    assert grammars(server) == [{"grammar"}, set(), set()]
    (record,) = caplog.records
    assert "only test its answers: Failed to initialize samplers" in record.getMessage()


def test_an_error_in_the_stream_is_a_refusal_too(server: FakeServer) -> None:
    error = sse_reply(event({"error": {"message": "Invalid grammar request", "code": 400}}), DONE)
    assert revise(server, error, chat_reply("rain falls."), owner="sglang").passed
    assert grammars(server) == [{"ebnf"}, set()]


def test_a_model_that_thinks_gets_no_form(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    thought = event({"choices": [{"index": 0, "delta": {"reasoning_content": "rain."}}]})
    end = event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    with caplog.at_level(logging.WARNING):
        chain = revise(server, sse_reply(thought, end, DONE), chat_reply("rain falls."), drafts=2)
    assert (chain.answer, grammars(server)) == ("rain falls.", [{"grammar"}, set()])
    assert "only its thoughts follow the grammar" in caplog.text


def test_another_refusal_leaves_grammars_on(server: FakeServer) -> None:
    async def twice() -> None:
        server.on(CHAT, error_reply(400, "temperature must be at most 2"), chat_reply("rain falls."))
        engine = await RemoteEngine.connect(served(server), patience=ONCE)
        with pytest.raises(ServerError, match="temperature"):
            await collected(engine.chat(ASK, Sampling(form=FORM)))
        await collected(engine.chat(ASK, Sampling(form=FORM)))
        await engine.aclose()

    asyncio.run(twice())
    assert grammars(server) == [{"grammar"}, {"grammar"}]

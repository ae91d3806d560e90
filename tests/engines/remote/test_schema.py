"""A JSON schema goes to the server as far as it takes one."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

import redraft
from redraft.engines.base import Delta, Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.errors import ServerError
from tests.engines.fake_server import FakeServer, chat_reply, error_reply, models_reply
from tests.engines.remote import asking
from tests.engines.remote.asking import ASK, CHAT, ONCE, bodies, chats, collected, engine, text_of, using

SCHEMA = {"type": "object", "properties": {"born": {"type": "integer"}}, "required": ["born"]}
GOOD = '{"born": 1815}'


class Person(BaseModel):
    born: int


def revise(server: FakeServer, **options: Any) -> redraft.Chain:
    return asking.revise(server, "Who?", **options)


def test_json_of_any_form_is_an_object_or_an_array(server: FakeServer) -> None:
    server.on(CHAT, chat_reply(GOOD))
    assert revise(server, checks=["json"]).answer == GOOD
    assert bodies(server)[0]["response_format"]["json_schema"]["schema"] == {"type": ["object", "array"]}


@pytest.mark.parametrize("checks", [["json-schema:{}"], ["json", "json-schema:{}"]])
def test_a_schema_goes_before_json_of_any_form(server: FakeServer, checks: list[str], tmp_path: Path) -> None:
    (tmp_path / "born.json").write_text(json.dumps(SCHEMA))
    server.on(CHAT, chat_reply(GOOD))
    revise(server, checks=[check.format(tmp_path / "born.json") for check in checks])
    assert bodies(server)[0]["response_format"]["type"] == "json_schema"
    assert bodies(server)[0]["response_format"]["json_schema"]["schema"] == SCHEMA
    assert "tools" not in bodies(server)[0]


def test_a_refusal_is_said_once_for_all(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    refusal = error_reply(400, "response_format is not supported")
    server.on(CHAT, refusal, refusal, refusal, chat_reply(GOOD))

    async def at_once(one: RemoteEngine) -> list[list[Delta]]:
        return await asyncio.gather(*(collected(one.chat(ASK, Sampling(schema=SCHEMA))) for _ in range(3)))

    with caplog.at_level(logging.WARNING):
        assert list(map(text_of, using(engine(server, patience=ONCE), at_once))) == [GOOD] * 3
    assert sum("response_format" in body for body in bodies(server)) == 3
    assert len(caplog.records) == 1


def test_another_refusal_leaves_the_schema_on(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    refusal = error_reply(400, "Bad prompt: {'messages': [], 'response_format': {}}")
    server.on(CHAT, refusal, refusal, chat_reply(GOOD))

    async def twice(one: RemoteEngine) -> None:
        with pytest.raises(ServerError, match="Bad prompt"):
            await collected(one.chat(ASK, Sampling(schema=SCHEMA)))
        await collected(one.chat(ASK, Sampling(schema=SCHEMA)))

    with caplog.at_level(logging.WARNING):
        using(engine(server, patience=ONCE), twice)
    assert "response_format" in bodies(server)[-1]
    assert not caplog.records


def test_a_server_without_schemas_is_told_of(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.on(CHAT, error_reply(422, "Unexpected field response_format"), chat_reply(GOOD))
    with caplog.at_level(logging.WARNING):
        deltas = chats(engine(server, patience=ONCE), *[Sampling(schema=SCHEMA)] * 2)
    assert list(map(text_of, deltas)) == [GOOD, GOOD]
    assert ["response_format" in body for body in bodies(server)] == [True, False, False]
    (record,) = caplog.records
    assert "only checked afterwards" in record.getMessage()


def test_a_schema_that_is_refused_leaves_the_next_one_its_chance(server: FakeServer) -> None:
    not_an_object = error_reply(400, "Invalid schema for response_format: it must have type object")
    server.on(CHAT, not_an_object, chat_reply("[1]"), chat_reply(GOOD))

    async def both(one: RemoteEngine) -> list[redraft.Chain]:
        return [await redraft.arevise("Who?", model=one, output=kind) for kind in (list[int], Person)]

    assert [chain.value for chain in using(engine(server, patience=ONCE), both)] == [[1], Person(born=1815)]
    assert ["response_format" in body for body in bodies(server)] == [True, False, True]


def test_an_ignored_schema_is_revised_for(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.on(CHAT, *map(chat_reply, ("She was born in 1815.", "In 1815.", GOOD)))
    with caplog.at_level(logging.WARNING):
        chain = revise(server, output=Person)
    assert (chain.value, chain.revisions) == (Person(born=1815), 2)
    assert all("response_format" in body for body in bodies(server))
    (record,) = caplog.records
    said = "does not follow the JSON schema, so answers are only checked afterwards, and a critic"
    assert said in record.getMessage()


@pytest.mark.parametrize(
    ("reply", "finish"), [(GOOD, "stop"), (f" {GOOD}\n", "stop"), ('{"born": ', "length")]
)
def test_an_answer_in_the_form_is_no_reason_to_warn(
    server: FakeServer, caplog: pytest.LogCaptureFixture, reply: str, finish: str
) -> None:
    server.on(CHAT, chat_reply(reply, finish=finish))
    with caplog.at_level(logging.WARNING):
        revise(server, output=Person, max_revisions=0)
    assert not caplog.records


def test_criticism_is_free_text(server: FakeServer) -> None:
    server.on(CHAT, chat_reply(GOOD), chat_reply("Fine. Revision is not needed."))
    revise(server, output=Person, mode="prompted", min_revisions=1, max_revisions=1)
    assert ["response_format" in body for body in bodies(server)][:3] == [True, False, True]


class Dated(BaseModel):
    year: str = Field(pattern=r"^\d{4}$")
    name: str = Field(pattern=r"\w")


def test_patterns_are_sent_and_checked_as_they_are(server: FakeServer) -> None:
    server.on(CHAT, chat_reply('{"year": "1815", "name": "Ada"}'))
    assert revise(server, output=Dated, max_revisions=0).passed
    (body,) = bodies(server)
    assert body["response_format"]["json_schema"]["schema"]["properties"]["year"]["pattern"] == r"^\d{4}$"
    server.on(CHAT, chat_reply('{"year": "815", "name": "Ada"}'))
    chain = revise(server, output=Dated, max_revisions=0)
    assert r"String should match pattern '^\d{4}$'" in chain.steps[0].checks[0].message


@pytest.mark.parametrize(
    ("name", "owner"), [("one", "llamacpp"), ("another", "llamacpp"), ("one", "library")]
)
def test_servers_of_llamacpp_get_no_pattern(server: FakeServer, name: str, owner: str) -> None:
    server.on("GET /v1/models", models_reply("one", owned_by=owner))
    server.on(CHAT, chat_reply('{"year": "1815", "name": "Ada"}'))
    assert redraft.revise("Who?", model=f"{server.url}#{name}", output=Dated, max_revisions=0).passed
    (body,) = bodies(server)
    assert "pattern" not in body["response_format"]["json_schema"]["schema"]["properties"]["name"]

"""A call that stays wrong is flagged, or an error: never silent."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.serve.reader import ServerLimits
from tests.serve.running import events_of, plain, served

SEARCH = {"name": "search", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}}
CALLED = {"id": "1", "type": "function", "function": {"name": "search", "arguments": '{"fro": 1}'}}
WRONG = ScriptedReply("", tool_calls=[CALLED])
NAMED = {"type": "function", "function": {"name": "search"}}
REPLIES = [
    (WRONG, {}, "'fro' was unexpected"),
    ("It is wet.", {"tool_choice": "required"}, "A call is due, and there is none."),
    ("It is wet.", {"tool_choice": NAMED}, "A call is due, and there is none."),
]


def last(
    reply: Any, more: dict[str, Any], *, strict: bool = False, limits: ServerLimits | None = None
) -> Any:
    """The last object of an answer with tools, and the status."""
    tools = [{"type": "function", "function": {**SEARCH, "strict": strict}}]
    with served({"plain": plain(ScriptedEngine([reply]))}, limits=limits) as server:
        answered = server.post({"tools": tools, **more})
    objects = [each for each in events_of(answered.text) if each != "[DONE]"] or [answered.text]
    return json.loads(objects[-1]), answered.status_code


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(("reply", "more", "said"), REPLIES)
def test_a_call_that_stays_wrong_is_flagged_or_an_error(
    reply: Any, more: dict[str, Any], said: str, stream: bool
) -> None:
    more = {**more, "stream": stream}
    found, status = last(reply, more)
    assert (said in found["choices"][0]["unmet"][0], status) == (True, 200)
    for how in ({"strict": True}, {"limits": ServerLimits(strict_tools=True)}):
        found, status = last(reply, more, **how)
        assert (found["error"]["code"], status) == ("call_failed", 200 if stream else 422)
        assert said in found["error"]["message"]


def test_a_response_has_the_flag_too() -> None:
    with served({"plain": plain(ScriptedEngine([WRONG]))}) as server:
        body = {"model": "plain", "input": "Hi.", "tools": [{"type": "function", **SEARCH}]}
        reply = httpx.post(f"{server.url}/responses", json=body).json()
    assert "'fro' was unexpected" in reply["unmet"][0]


def test_a_right_call_has_no_flag() -> None:
    right = {**CALLED, "function": {"name": "search", "arguments": '{"query": "rain"}'}}
    found, status = last(ScriptedReply("", tool_calls=[right]), {"tool_choice": NAMED}, strict=True)
    assert ("unmet" in found["choices"][0], status) == (False, 200)


def test_a_call_that_is_due_is_asked_for_again() -> None:
    right = {**CALLED, "function": {"name": "search", "arguments": "{}"}}
    engine = ScriptedEngine(["It is wet.", ScriptedReply("", tool_calls=[right])])
    with served({"plain": plain(engine)}) as server:
        tools = [{"type": "function", "function": SEARCH}]
        body = {"tools": tools, "tool_choice": "required", "revision": {"max": 1}}
        choice = server.post(body).json()["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert "unmet" not in choice
    assert "A call is due, and there is none." in str(engine.calls[1])

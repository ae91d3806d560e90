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
NAMED = {"type": "function", "function": {"name": "search"}}


def called(arguments: str) -> ScriptedReply:
    return ScriptedReply(
        tool_calls=[{"id": "1", **NAMED, "function": {"name": "search", "arguments": arguments}}]
    )


def last(replies: list[Any], more: dict[str, Any], strict: bool = False, **how: Any) -> Any:
    """The last object of an answer with tools: a choice, or an error with the status."""
    tools = [{"type": "function", "function": {**SEARCH, "strict": strict}}]
    with served({"plain": plain(ScriptedEngine(replies))}, **how) as server:
        answered = server.post({"tools": tools, **more})
    objects = [each for each in events_of(answered.text) if each != "[DONE]"] or [answered.text]
    found = json.loads(objects[-1])
    return found["choices"][0] if "choices" in found else {**found["error"], "status": answered.status_code}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("reply", "more", "said"),
    [
        (called('{"fro": 1}'), {}, "'fro' was unexpected"),
        ("It is wet.", {"tool_choice": "required"}, "A call is due, and there is none."),
        ("", {"tool_choice": "required"}, "A call is due, and there is none."),
        (called("{}"), {"tool_choice": "none"}, "search may not be called now. Answer in words."),
        ("It is wet.", {"tool_choice": NAMED}, "A call is due, and there is none."),
    ],
)
def test_a_wrong_call_is_flagged_or_fails(reply: Any, more: dict[str, Any], said: str, stream: bool) -> None:
    more = {**more, "stream": stream}
    assert said in last([reply], more)["unmet"][0]
    for how in ({"strict": True}, {"limits": ServerLimits(strict_tools=True)}):
        error = last([reply], more, **how)
        assert (error["code"], error["status"]) == ("call_failed", 200 if stream else 422)
        assert said in error["message"]


def test_a_response_has_the_flag_too() -> None:
    with served({"plain": plain(ScriptedEngine([called('{"fro": 1}')]))}) as server:
        body = {"model": "plain", "input": "Hi.", "tools": [{"type": "function", **SEARCH}]}
        reply = httpx.post(f"{server.url}/responses", json=body).json()
    assert "'fro' was unexpected" in reply["unmet"][0]


def test_a_call_that_is_due_is_asked_for_again_and_a_right_one_has_no_flag() -> None:
    more = {"tool_choice": "required", "revision": {"max": 1}}
    for first in ("It is wet.", ""):
        choice = last([first, called("{}")], more, strict=True)
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        assert "A call is due" in choice["message"]["reasoning_content"]
        assert "unmet" not in choice
    assert "A call is due" in last([""], {**more, "revision": {"max": 2}})["unmet"][0]

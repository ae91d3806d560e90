"""A call that stays wrong is flagged, or an error: never silent."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.serve.reader import ServerLimits
from tests.engines.able import Able
from tests.serve.running import events_of, plain, served

SEARCH = {"name": "search", "parameters": {"type": "object", "properties": {"query": {"type": "string"}}}}
NAMED = {"type": "function", "function": {"name": "search"}}


OTHER = {"id": "1", "type": "function", "function": {"name": "pay", "arguments": "{}"}}


def called(arguments: str) -> ScriptedReply:
    return ScriptedReply(
        tool_calls=[{"id": "1", **NAMED, "function": {"name": "search", "arguments": arguments}}]
    )


def last(replies: list[Any], more: dict[str, Any], strict: bool = False, **how: Any) -> Any:
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
        ("It is wet.", {"tool_choice": "required"}, "A tool call was due, but none came."),
        ("", {"tool_choice": "required"}, "A tool call was due, but none came."),
        (called("{}"), {"tool_choice": "none"}, "search may not be called now. Answer in words."),
        ("It is wet.", {"tool_choice": NAMED}, "A tool call was due, but none came."),
    ],
)
def test_a_wrong_call_is_flagged_or_fails(reply: Any, more: dict[str, Any], said: str, stream: bool) -> None:
    more = {**more, "stream": stream}
    assert said in last([reply], more)["unmet"][0]
    for how in ({"strict": True}, {"limits": ServerLimits(strict_tools=True)}):
        error = last([reply], more, **how)
        assert (error["code"], error["status"]) == ("call_failed", 200 if stream else 422)
        assert said in error["message"]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize(
    ("mode", "reply", "said"),
    [
        ("auto", "It is wet.", None),
        ("auto", called("{}"), None),
        ("required", "It is wet.", "A tool call was due"),
        ("auto", ScriptedReply(tool_calls=[OTHER]), "pay"),
    ],
)
def test_a_response_takes_a_choice_of_several_tools(mode: str, reply: Any, said: Any, local: bool) -> None:
    engine = Able([reply], about={"any_request": not local})
    tools = [{"type": "function", "name": name} for name in ("search", "pay")]
    choice = {"type": "allowed_tools", "mode": mode, "tools": [*tools[:1], {"type": "web_search"}]}
    with served({"plain": plain(engine)}) as server:
        body = {"model": "plain", "input": "Hi.", "tools": tools, "tool_choice": choice}
        found = httpx.post(f"{server.url}/responses", json=body).json()
    assert found["tool_choice"] == choice
    assert (said or "None") in str(found.get("unmet"))
    offered = ["search"] if local else ["search", "pay"]
    assert [tool["function"]["name"] for tool in engine.asked[0].tools] == offered


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": {"name": "a", "parameters": None, "description": None}},
        {"type": "function", "function": {"name": "a", "parameters": []}},
        {
            "type": "function",
            "function": {
                "name": "a.b",
                "parameters": {"minimum": 1, "exclusiveMinimum": True, "required": []},
            },
        },
        {"type": "function", "function": {"name": "a", "parameters": {"items": [{}], "exclusiveMinimum": 1}}},
        {"type": "function", "name": "a"},
        {"type": "custom", "custom": {"name": "a"}},
    ],
)
def test_tools_as_clients_send_them_are_taken(tool: Any) -> None:
    with served({"plain": plain(ScriptedEngine(["Fine."]))}) as server:
        assert server.post({"tools": [tool]}).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_calls_before_one_that_was_cut_leave_with_the_finish_reason_length(stream: bool) -> None:
    first, second = (called(arguments).tool_calls[0] for arguments in ("{}", '{"qu'))
    cut = ScriptedReply(tool_calls=[first, {**second, "id": "2"}], finish="max_tokens")
    choice = last([cut], {"stream": stream}, strict=True)
    assert choice["finish_reason"] == "length"
    assert "or further tool calls may be missing" in choice["unmet"][0]
    assert stream or choice["message"]["tool_calls"] == [first]
    with served({"plain": plain(ScriptedEngine([cut]))}) as server:
        body = {"model": "plain", "input": "Hi.", "tools": [{"type": "function", **SEARCH}]}
        found = httpx.post(f"{server.url}/responses", json=body).json()
    assert (found["status"], len(found["output"])) == ("incomplete", 1)


def test_a_call_that_was_cut_is_told() -> None:
    choice = last([ScriptedReply(tool_calls=called('{"qu').tool_calls, finish="max_tokens")], {})
    assert (choice["finish_reason"], choice["message"]["content"]) == ("length", "")
    assert "cut at its token limit" in choice["unmet"][0]


def test_a_call_that_is_due_is_asked_for_again_and_a_right_one_has_no_flag() -> None:
    more = {"tool_choice": "required", "revision": {"max": 1}}
    for first in ("It is wet.", ""):
        choice = last([first, called("{}")], more, strict=True)
        assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
        assert "A tool call was due" in choice["message"]["reasoning_content"]
        assert "unmet" not in choice
    assert "A tool call was due" in last([""], {**more, "revision": {"max": 2}})["unmet"][0]


def test_a_wrong_call_is_thought_once_with_its_fault() -> None:
    choice = last([called('{"query": 2}'), "no", called('{"query": 2}'), called("{}")], {})
    thought = choice["message"]["reasoning_content"]
    assert thought.startswith('Feedback:\nsearch({"query": 2})\nThe JSON does not fit')
    assert (choice["finish_reason"], thought.count("Feedback")) == ("tool_calls", 1)

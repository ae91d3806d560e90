from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.errors import EngineError
from redraft.serve.responses import ResponseRequest
from tests.engines.able import Able
from tests.serve.running import LONG, SHORT, Server, both, plain, served
from tests.serve.test_chat import STEPS


def post(server: Server, **body: Any) -> httpx.Response:
    asked = {"model": "plain", "input": "Describe rain.", **body}
    return httpx.post(f"{server.url}/responses", json=asked, timeout=30)


def test_steps_are_a_reasoning_item_and_the_answer_a_message() -> None:
    with served() as server, server.client() as client:
        reply = client.responses.create(model="short", input="Describe rain.", extra_body={"redraft": True})
    assert reply.output_text == SHORT
    assert [step["answer"] for step in (reply.model_extra or {})["redraft"]["steps"]] == [LONG, SHORT]
    reasoning, message = reply.output
    assert (reasoning.type, reasoning.summary[0].text) == ("reasoning", STEPS)
    assert (message.type, reply.status, reply.model) == ("message", "completed", "short")
    assert reply.usage
    assert reply.usage.output_tokens == len(LONG) + len(SHORT)
    assert reply.usage.output_tokens_details.reasoning_tokens == len(LONG)


def test_a_stream_builds_the_same_response() -> None:
    with served() as server, server.client() as client:
        whole = client.responses.create(model="short", input="Describe rain.")
        with client.responses.stream(model="short", input="Describe rain.") as stream:
            events = list(stream)
            final = stream.get_final_response()
    assert final.output_text == whole.output_text == SHORT
    reasoning = final.output[0]
    assert reasoning.type == "reasoning"
    assert reasoning.summary[0].text == f"{STEPS}\n\nRevision 1:\n{SHORT}"
    assert final.usage == whole.usage
    assert [event.delta for event in events if event.type == "response.output_text.delta"] == [SHORT]


def test_the_events_of_a_stream_are_in_order() -> None:
    with served() as server:
        text = post(server, stream=True).text
    events = [
        json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data")
    ]
    kinds = [event["type"].removeprefix("response.") for event in events]
    deltas = [event["delta"] for event in events if event["type"].endswith("text.delta")]
    assert [kind for kind in kinds if kind != "output_text.delta"] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert (len(deltas) > 3, "".join(deltas)) == (True, LONG)
    with_logprobs = {kind for kind, event in zip(kinds, events, strict=True) if event.get("logprobs") == []}
    assert with_logprobs == {"output_text.delta", "output_text.done"}
    assert text.count("event: ") == len(events)


def test_earlier_turns_enter_as_final_answers() -> None:
    engine = ScriptedEngine(["Fine."])
    turns = [
        {"role": "user", "content": "One?"},
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Three."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Two."}]},
        {"role": "user", "content": [{"type": "input_text", "text": "Four?"}]},
    ]
    with served({"plain": plain(engine)}) as server:
        assert post(server, input=turns, instructions="Be brief.").status_code == 200
    (messages,) = engine.calls
    said = [json.dumps(message["content"]) for message in messages]  # type: ignore[index]
    assert [word in text for word, text in zip(("brief", "One", "Two", "Four"), said, strict=True)] == [
        True
    ] * 4


def test_an_answer_that_is_cut_is_incomplete() -> None:
    with served() as server:
        whole = post(server, max_output_tokens=4).json()
        events = post(server, max_output_tokens=4, stream=True).text.split("\n\n")
    assert (whole["status"], whole["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert events[-2].startswith("event: response.incomplete\n")
    last = json.loads(events[-2].partition("data: ")[2])["response"]
    assert [each["output"][-1]["status"] for each in (whole, last)] == ["incomplete"] * 2


REQUIRED = """id object created_at completed_at status incomplete_details model previous_response_id
instructions output error tools tool_choice truncation parallel_tool_calls text top_p presence_penalty
frequency_penalty top_logprobs temperature reasoning usage max_output_tokens max_tool_calls store background
service_tier metadata safety_identifier prompt_cache_key"""  # of ResponseResource in Open Responses


def test_a_response_repeats_what_open_responses_requires() -> None:
    form = {"type": "json_schema", "name": "any", "schema": {}, "strict": None}
    asked = {"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 40, "instructions": "Be brief."}
    asked |= {
        "user": "Ada",
        "metadata": {"a": "b"},
        "prompt_cache_key": "1",
        "reasoning": {"summary": "auto"},
    }
    with served(both("{}")) as server:
        bare, full = (
            post(server).json(),
            post(server, text={"format": form}, safety_identifier=7, **asked).json(),
        )
        created = json.loads(post(server, stream=True).text.partition("data: ")[2].partition("\n")[0])
    for found in (bare, full, created["response"]):
        assert [name for name in REQUIRED.split() if name not in found] == []
    assert {name: full[name] for name in asked} == {**asked, "reasoning": {"effort": None, "summary": "auto"}}
    assert full["text"] == {"format": {**form, "description": None, "strict": False}}
    assert (full["user"], full["safety_identifier"]) == ("Ada", None)
    assert (bare["temperature"], bare["metadata"], created["response"]["completed_at"]) == (0.7, {}, None)


def test_an_image_is_handed_on_as_in_chats() -> None:
    engine = ScriptedEngine(["A heart."])
    image = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"}
    with served({"plain": plain(engine)}) as server:
        asked: Any = [{"role": "user", "content": [{"type": "input_text", "text": "What?"}, image]}]
        assert post(server, input=asked).json()["output"][0]["content"][0]["text"] == "A heart."
        wrong = post(server, input=[{"role": "user", "content": [{"type": "input_audio"}]}])
    (seen,) = engine.calls[0]
    url = {"url": image["image_url"], "detail": "low"}
    assert seen["content"][1] == {"type": "image_url", "image_url": url}  # type: ignore[index]
    assert "input_image with an image_url" in wrong.text


def test_every_field_may_be_null() -> None:
    nothing = dict.fromkeys(ResponseRequest.model_fields.keys() - {"model", "input"})
    with served() as server:
        assert post(server, **nothing).status_code == 200


def test_an_error_within_a_stream_is_its_last_event() -> None:
    with served(both(ScriptedReply("Rain is", error=EngineError("it broke")))) as server:
        last = post(server, stream=True).text.strip().split("\n\n")[-1]
        with server.client() as client, pytest.raises(openai.APIError, match="the model's server failed"):
            list(client.responses.create(model="plain", input="Hi.", stream=True))
    assert last.startswith("event: error\n")
    assert json.loads(last.partition("data: ")[2])["code"] == "engine_error"


# Tools

SEARCH: Any = {
    "type": "function",
    "name": "search",
    "description": "Searches.",
    "parameters": {"type": "object"},
    "strict": True,
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q": "rain"}'}}


def test_calls_of_tools_are_items_and_come_back_with_what_they_gave() -> None:
    engine = ScriptedEngine([ScriptedReply(tool_calls=[CALL]), "It is wet."])
    with served({"plain": plain(engine)}) as server, server.client() as client:
        choice: Any = {"type": "function", "name": "search"}
        first = client.responses.create(
            model="plain", input="Is rain wet?", tools=[SEARCH], tool_choice=choice, parallel_tool_calls=False
        )
        (call,) = first.output
        assert call.type == "function_call"
        asked: Any = [
            {"role": "user", "content": "Is rain wet?"},
            *[item.model_dump() for item in first.output],
            {"type": "function_call_output", "call_id": call.call_id, "output": "Yes."},
        ]
        second = client.responses.create(model="plain", input=asked, tools=[SEARCH])
    assert (call.call_id, call.name, call.arguments) == ("call_1", "search", '{"q": "rain"}')
    assert (first.tools[0].model_dump(exclude_unset=True), first.tool_choice.model_dump()) == (SEARCH, choice)  # type: ignore[union-attr]
    assert not first.parallel_tool_calls
    assert second.output_text == "It is wet."
    assert engine.calls[1] == (
        {"role": "user", "content": "Is rain wet?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "Yes.", "tool_call_id": "call_1"},
    )


@pytest.mark.parametrize("stream", [True, False])
def test_what_codex_sends_is_taken_and_tools_that_run_elsewhere_are_left_out(stream: bool) -> None:
    shell = {"type": "function", "name": "exec_command", "strict": False, "parameters": {"type": "object"}}
    others = [{"type": "namespace", "name": "x", "tools": []}, {"type": "web_search"}, {"type": "é\r\nx: y"}]
    said = {"type": "message", "id": "msg_1", "role": "developer"}
    body = {
        "input": [
            {**said, "content": [{"type": "input_text", "text": "Be brief."}]},
            {"role": "user", "content": "Hi."},
        ],
        "tools": [shell, *others[:2]],
        "reasoning": {"summary": "auto"},
        "include": ["reasoning.encrypted_content"],
        "client_metadata": {"turn_id": "1"},
        "prompt_cache_key": "1",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"ttl": "30m"},
        "stream_options": {"include_obfuscation": False},
        "store": False,
    }
    engine = Able(["Hello."])
    with served({"plain": plain(engine)}) as server:
        reply, wrong = post(server, stream=stream, **body), post(server, tools=others)
    assert (reply.status_code, reply.headers["x-redraft-left-out"]) == (200, "namespace, web_search")
    assert [tool["function"]["name"] for tool in engine.asked[0].tools] == ["exec_command"]
    assert wrong.status_code == 400


def test_several_calls_of_one_turn_are_one_message() -> None:
    engine = ScriptedEngine(["It is wet."])
    items = [
        {"type": "function_call", "call_id": name, "name": "search", "arguments": "{}"} for name in ("a", "b")
    ]
    given = [
        {"type": "function_call_output", "call_id": name, "output": [{"type": "input_text", "text": "Yes."}]}
        for name in ("a", "b")
    ]
    with served({"plain": plain(engine)}) as server:
        assert post(server, input=[{"role": "user", "content": "Wet?"}, *items, *given]).status_code == 200
    _, message, *outputs = engine.calls[0]
    assert isinstance(message, dict)
    assert ([call["id"] for call in message["tool_calls"]], len(outputs)) == (["a", "b"], 2)


def test_a_stream_has_the_calls_of_tools() -> None:
    with (
        served({"plain": plain(ScriptedEngine([ScriptedReply("Wait.", tool_calls=[CALL])]))}) as server,
        server.client() as client,
        client.responses.stream(model="plain", input="Is rain wet?", tools=[SEARCH]) as stream,
    ):
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert [item.type for item in final.output] == ["message", "function_call"]
    assert "response.function_call_arguments.done" in kinds

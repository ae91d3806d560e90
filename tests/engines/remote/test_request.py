from __future__ import annotations

import logging
from typing import Any

import pytest

import redraft
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.scripted import ScriptedEngine
from redraft.errors import EmptyReply, EngineError, UsageError
from redraft.revision.ops import Event, Text
from tests.engines.able import OF_TEXT, Able
from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    chat_event,
    chat_reply,
    error_reply,
    event,
    json_reply,
    raw_reply,
    sse_reply,
    usage_event,
)
from tests.engines.remote.asking import CHAT, RAW, SECRET, revise
from tests.engines.remote.test_schema import Person

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"town": {}}}},
}
ULM = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}


def pieces(*calls: dict[str, Any]) -> Reply:
    events = [event({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}) for call in calls]
    return sse_reply(*events, chat_event("", "tool_calls"), DONE)


def piece(index: int | None, **fields: str) -> dict[str, Any]:
    function = {name: fields[name] for name in ("name", "arguments") if name in fields}
    known = {"id": fields["id"], "type": "function"} if "id" in fields else {}
    return {**({} if index is None else {"index": index}), **known, "function": function}


def test_a_tool_call_is_an_answer_and_ends_the_chain(server: FakeServer) -> None:
    server.on(
        CHAT,
        pieces(
            piece(0, id="call_1", name="weather", arguments=""),
            piece(0, arguments='{"town"'),
            piece(0, arguments=': "Ulm"}'),
        ),
    )
    chain = revise(server, tools=[WEATHER], checks=["words<=5"])
    assert server.requests[0].json["tools"] == [WEATHER]
    assert (chain.stop, chain.answer, chain.best) == ("tool_calls", "", 0)
    assert (chain.passed, [step.tool_calls for step in chain.steps]) == (True, [(ULM,)])
    assert redraft.Chain.from_json(chain.to_json()) == chain


def test_the_result_of_a_tool_is_answered(server: FakeServer) -> None:
    server.on(CHAT, pieces(piece(0, id="call_1", **ULM["function"])), chat_reply("It is sunny."))
    asked = [{"role": "user", "content": "Weather in Ulm?"}]
    call = revise(server, asked, tools=[WEATHER]).steps[-1]
    asked += [
        {"role": "assistant", "content": None, "tool_calls": list(call.tool_calls)},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    assert revise(server, asked, tools=[WEATHER], max_revisions=0).answer == "It is sunny."
    assert server.requests[1].json["messages"] == asked


def test_calls_are_told_apart_and_logged(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    two = [piece(0, id="a", name="weather", arguments="{}"), piece(1, id="b", name="weather", arguments="{}")]
    same_index = [{**call, "index": 0} for call in two]
    bare = [piece(None, name="weather", arguments="{}")] * 2
    named = [piece(0, id="a", name="weather", arguments="{"), piece(0, name="weather", arguments="}")]
    split = [piece(0, name="wea"), piece(0, name="ther"), piece(0, arguments="{}")]
    alone = [piece(None, name="weather"), piece(None, name="tide")]
    begun, rest = piece(None, name="weather", arguments=""), piece(None, arguments="{}")
    twins = [piece(n, id="a", name="weather", arguments="{}") for n in (0, 1)]
    padded: Any = [None, piece(1, id="a", name=" weather ", arguments="{}")]
    again = [piece(0, name="weather", arguments=part) for part in ("{", "}", "")]
    forms = (two, same_index, bare, [begun, rest] * 2, named, split, again, alone, twins, padded)
    server.on(CHAT, *(pieces(*each) for each in forms))
    found = [revise(server, tools=[WEATHER], max_revisions=0).steps[-1].tool_calls for _ in forms]
    assert all(repr(calls) in caplog.text for calls in found)
    assert [[call["id"] for call in calls] for calls in found[:2]] == [["a", "b"]] * 2
    assert [len({call["id"] for call in calls}) for calls in (found[2], found[8])] == [2, 2]
    said = [[tuple(call["function"].values()) for call in calls] for calls in found]
    assert said[:7] == [[("weather", "{}")] * count for count in (2, 2, 2, 2, 1, 1, 1)]
    assert said[7:] == [[("weather", ""), ("tide", "")], [("weather", "{}")] * 2, [("weather", "{}")]]


def test_a_revision_may_call_a_tool_too(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("far too many words"), pieces(piece(0, id="call_1", **ULM["function"])))
    chain = revise(server, tools=[WEATHER], checks=["words<=2"])
    assert chain.stop == "tool_calls"
    assert [len(step.tool_calls) for step in chain.steps] == [0, 1]


def test_a_critic_is_given_no_tools_and_no_stop_texts(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("Sun."), chat_reply("Revision is not needed."))
    revise(server, tools=[WEATHER], stop=["END"], mode="prompted")
    first, second = (request.json for request in server.requests)
    assert first["stop"] == ["END"]
    assert not {"tools", "stop"} & second.keys()


def test_a_tool_call_that_nobody_asked_for_is_no_answer(server: FakeServer) -> None:
    server.on(CHAT, pieces(piece(0, id="call_1", **ULM["function"])))
    with pytest.raises(EmptyReply, match="a call of the tool 'weather'"):
        revise(server)


def test_a_schema_that_is_refused_leaves_the_tools_alone(server: FakeServer) -> None:
    server.on(CHAT, error_reply(400, "response_format is not supported"), chat_reply('{"born": 1}'))
    chain = revise(server, tools=[WEATHER], output=Person)
    assert (chain.value, chain.steps[0].steered) == (Person(born=1), ())
    assert [request.json.get("tools") for request in server.requests] == [[WEATHER]] * 2
    assert "tool_choice" not in server.requests[1].json


@pytest.mark.parametrize(
    "options", [{"tools": [WEATHER]}, {"extra_body": {"top_k": 1}}, {"extra_headers": {"X-Team": "birds"}}]
)
def test_an_engine_that_takes_no_such_part_is_named(options: dict[str, Any]) -> None:
    engine = Able(["a"], about=OF_TEXT)
    with pytest.raises(UsageError, match=f"the engine scripted does not accept {next(iter(options))}"):
        redraft.revise("Go.", model=engine, **options)
    assert engine.calls == []


@pytest.mark.parametrize(
    "options",
    [
        {"tools": [WEATHER]},
        {"stop": ["END"]},
        {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
    ],
)
def test_native_revision_takes_none_of_them(options: dict[str, Any], server: FakeServer) -> None:
    with pytest.raises(UsageError, match="native revision continues one text"):
        revise(server, mode="native", **options)


def test_drafts_and_tools_exclude_each_other(server: FakeServer) -> None:
    with pytest.raises(UsageError, match="tools were given, but 2 drafts were asked for"):
        revise(server, tools=[WEATHER], drafts=2, checks=["words<=2"])


def test_fields_and_headers_reach_one_server(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.on(CHAT, chat_reply("Sun."))
    events: list[Event] = []
    with caplog.at_level(logging.DEBUG):
        chain = revise(
            server,
            max_revisions=0,
            extra_body={"top_k": 7, "token": SECRET, "temperature": 0.1},
            extra_headers={"X-Token": SECRET},
            on_event=events.append,
        )
    sent = server.requests[0]
    assert (sent.json["top_k"], sent.json["token"], sent.json["temperature"]) == (7, SECRET, 0.1)
    assert sent.headers["x-token"] == SECRET
    assert any(isinstance(seen, Text) for seen in events)
    assert SECRET not in chain.to_json() + repr(events) + caplog.text


def test_a_critic_elsewhere_sees_neither(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("Sun."))
    with FakeServer() as other:
        other.on(CHAT, chat_reply("Revision is not needed."))
        other.on("GET /v1/models", json_reply({"data": [{"id": "big"}]}))
        revise(
            server, critic=f"{other.url}#big", extra_body={"token": SECRET}, extra_headers={"X-Token": SECRET}
        )
        assert len(other.requests) >= 1
        assert SECRET not in repr(other.requests)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("extra_headers", {"Authorization": SECRET}),
        ("extra_headers", {"X-Token": f"{SECRET}\nX-Other: 1"}),
        ("extra_body", [SECRET]), ("extra_body", {"token": {SECRET}}), ("tools", WEATHER),
        ("tools", ["weather"]), ("stop", "END"), ("stop", [""]),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_and_not_shown(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"^{name}( is| has|:) ") as caught:
        redraft.revise("Go.", model=ScriptedEngine(["a"]), **{name: value})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "named", "hint"),
    [
        ({"Content-Length": "3"}, "the header 'Content-Length'", "sets it"),
        ({"X-Team": "a", "host": "b"}, "the header 'host'", "sets it"),
        ({"Transfer-Encoding": "chunked"}, "the header 'Transfer-Encoding'", "sets it"),
        ({"Connection": "close"}, "the header 'Connection'", "sets it"),
        ({"authorization": "Bearer x"}, "the header 'authorization'", "REDRAFT_KEY_"),
        ({"X Token": "a"}, "'X Token', which is not a header name", "X-Team"),
        ({"": "a"}, "'', which is not a header name", "X-Team"),
        ({3: "a"}, "3, which is not a header name", "X-Team"),
        ({"X-Token": "a\nb"}, "a value for 'X-Token' that", "ASCII"),
        ({"X-Token": "ü"}, "a value for 'X-Token' that", "ASCII"),
        ({"X-Token": " a"}, "a value for 'X-Token' that", "ASCII"),
        ({"X-Token": 3}, "a value for 'X-Token' that", "ASCII"),
    ],
)
def test_a_header_that_cannot_be_sent_is_named(headers: Any, named: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        redraft.revise("Go.", model=ScriptedEngine(["a"]), extra_headers=headers)
    assert caught.value.message.startswith(f"extra_headers has {named}")
    assert hint in str(caught.value.hint)


async def test_a_closed_engine_says_so(server: FakeServer) -> None:
    engine = RemoteEngine(server.url, "m")
    await engine.aclose()
    with pytest.raises(EngineError, match="was closed") as caught:
        await redraft.arevise("Go.", model=engine)
    assert "load_engine" in str(caught.value.hint)


def test_a_server_keeps_its_own_temperature_and_length_unless_asked(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("It rains."))
    chain = revise(server, max_revisions=0)
    assert {"temperature", "max_tokens"}.isdisjoint(server.requests[-1].json)
    assert (chain.sampling["temperature"], chain.sampling["max_tokens"]) == (None, None)
    assert "top_p" not in server.requests[-1].json
    chain = revise(server, max_revisions=0, temperature=0.7, top_p=1, max_tokens=2048)
    sent = server.requests[-1].json
    assert (sent["temperature"], sent["top_p"], sent["max_tokens"]) == (0.7, 1, 2048)
    assert (chain.sampling["temperature"], chain.sampling["max_tokens"]) == (0.7, 2048)


def test_a_limit_of_tokens_is_sent_although_no_length_was_asked_for(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("It rains."))
    revise(server, max_revisions=0, budget={"tokens": 5000})
    assert server.requests[-1].json["max_tokens"] == 5000


def test_raw_text_has_a_length_always_because_servers_end_it_after_16_tokens(server: FakeServer) -> None:
    server.on(RAW, raw_reply("It rains.\n\n"))
    revise(server, mode="native", max_revisions=0)
    sent = server.requests[-1].json
    assert sent["max_tokens"] == 2048
    assert "temperature" not in sent


def test_a_reply_that_ends_at_the_servers_own_length_is_cut_by_it(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("It rains", "length"), usage_event(3, 2), DONE))
    assert revise(server, max_revisions=0).stop == "max_tokens"

"""Calls that a model wrote as text, behind a server that has no parser for them."""

from __future__ import annotations

import json

import pytest

from redraft.engines.base import Sampling
from tests.engines.fake_server import DONE, FakeServer, Reply, chat_event, sse_reply
from tests.engines.remote.asking import CHAT, chat, engine, revise, text_of
from tests.engines.remote.test_request import ULM, WEATHER

HERMES = '<tool_call>\n{"name": "weather", "arguments": {"town": "Ulm"}}\n</tool_call>'
LLAMA = '{"name": "weather", "parameters": {"town": "Ulm"}}'
FUNCTION = json.dumps({"type": "function", "function": ULM["function"]})
OTHER = LLAMA.replace("weather", "pay")


def streamed(text: str, size: int = 3, finish: str = "stop") -> Reply:
    pieces = [chat_event(text[at : at + size]) for at in range(0, len(text), size)]
    return sse_reply(*pieces, chat_event("", finish), DONE)


@pytest.mark.parametrize(
    ("written", "text", "calls"),
    [
        (HERMES, "", 1), (f"I look. {HERMES}\n{HERMES}", "I look. \n", 2),
        (f"{HERMES} And in Ulm? {HERMES}", " And in Ulm? ", 2), (f"<think>{HERMES}</think>{HERMES}", "", 1),
        (f"[TOOL_CALLS] [{LLAMA}, {LLAMA}]", "", 2),
        ('[TOOL_CALLS]weather[CALL_ID]a1[ARGS]{"town": "Ulm"}' * 2, "", 2),
        (f"<|python_tag|>{LLAMA}; {LLAMA}", "", 2), (LLAMA, "", 1), (f"```json\n[{FUNCTION}]\n```", "", 1),
        (f"{LLAMA} is a call.", None, 0), (f"A call is {LLAMA}", None, 0), (OTHER, None, 0),
        ('{"name": "weather"}', None, 0), ("Write <tool_call> before it", None, 0),
        (f"Write:\n\n```\n{HERMES}\n```\n\nSo I did not.", None, 0),
        (f"Write `{HERMES}` to call it.", None, 0), (f"```\n{HERMES}\n```", "```\n", 1),
        ('{"name": "weather", "description": "It tells.", "parameters": {"type": "object"}}', None, 0),
        ("<tool_call>" + '{"town": ' * 5000, None, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [3, 1000])
def test_a_call_in_the_text_is_a_call_if_its_tool_was_offered(
    server: FakeServer, written: str, text: str | None, calls: int, size: int
) -> None:
    server.on(CHAT, streamed(written, size))
    deltas = chat(engine(server), Sampling(tools=(WEATHER,)))
    assert text_of(deltas) == (written if text is None else text)
    made = deltas[-1].tool_calls
    assert [call["function"] for call in made] == [ULM["function"]] * calls
    assert len({call["id"] for call in made}) == calls


def test_text_flows_until_a_call_may_begin(server: FakeServer) -> None:
    for written in (f"It is <b>{HERMES}", '{"town": "Ulm"}'):
        server.on(CHAT, streamed(written))
        assert len([each for each in chat(engine(server), Sampling(tools=(WEATHER,))) if each.text]) >= 2


def test_without_tools_and_with_a_schema_json_stays_text(server: FakeServer) -> None:
    for text, sampling in ((HERMES, Sampling()), (LLAMA, Sampling(tools=(WEATHER,), schema={}))):
        server.on(CHAT, streamed(text))
        [*_, last] = deltas = chat(engine(server), sampling)
        assert (text_of(deltas), last.tool_calls) == (text, ())
    server.on(CHAT, sse_reply(chat_event(HERMES, "stop"), DONE))
    assert text_of(chat(engine(server), Sampling())) == HERMES


def test_a_written_call_is_judged_and_its_cut_end_is_left_out(server: FakeServer) -> None:
    server.on(CHAT, streamed(HERMES.replace('"Ulm"', '"Ulm", "x": 1')), streamed(HERMES))
    assert revise(server, tools=[WEATHER]).steps[-1].tool_calls[0]["function"] == ULM["function"]
    server.on(CHAT, streamed(f"I pay. <tool_call>{OTHER}</tool_call>"), streamed(HERMES))
    first, *_, last = revise(server, tools=[WEATHER]).steps
    assert (first.answer, first.tool_calls[0]["function"]["name"]) == ("I pay.", "pay")
    assert "There is no tool 'pay'" in first.checks[0].message
    assert last.tool_calls[0]["function"] == ULM["function"]
    server.on(CHAT, streamed(f'I look. {HERMES}<tool_call>{{"name": "wea', finish="length"))
    step = revise(server, tools=[WEATHER], max_revisions=0).steps[0]
    assert (step.answer, len(step.tool_calls), step.finish) == ("I look.", 1, "max_tokens")

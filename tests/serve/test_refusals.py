from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.serve.running import HI, Server

CHAT, TEXT, RESPONSE = "chat/completions", "completions", "responses"
ROUTES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HI},
    TEXT: {"prompt": "Hi."},
    RESPONSE: {"input": "Hi."},
}


def post(server: Server, route: str, body: dict[str, Any]) -> httpx.Response:
    asked = {"model": "plain", **ROUTES[route], **body}
    content = json.dumps(asked)  # httpx would refuse numbers that are too large
    headers = {"Content-Type": "application/json"}
    return httpx.post(f"{server.url}/{route}", content=content, headers=headers, timeout=30)


def refused(reply: httpx.Response) -> dict[str, Any]:
    (error,) = reply.json().values()
    assert list(error) == ["message", "type", "param", "code"]
    assert error["message"]
    return dict(error)


TOOL: Any = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
FUNCTION: Any = {"type": "function", "name": "search", "parameters": {"type": "object"}}
NAMED = {"type": "function", "function": {"name": "search"}}
PLACE, PARAMETERS = "response_format.json_schema.schema", "tools[0].function.parameters"


def schema_of(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}


def some_of(function: Any) -> dict[str, Any]:
    tools = [{"type": "function", "function": function}]
    return {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": tools}}


def message(content: Any, role: Any = "user") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content}]}


# By the field that is named, values of it; or whole bodies, where that is another field or within one.
VALUES: dict[str, dict[str, list[Any]]] = {
    CHAT: {
        "temperature": ["hot", -1, 1e308, True, 10**400], "top_p": [-1], "max_tokens": [0, -5, 2.5, 10**30],
        "max_completion_tokens": ["9", 10**10], "seed": [0.5, 10**400], "stop": [5, [""], ["a"] * 17],
        "n": [0, 9, True, "2"], "stream": ["yes"], "stream_options": [[]], "redraft": [1], "model": [5],
        "logprobs": [1], "top_logprobs": [1, 21, True], "tools": ["search", [5]],
        "tool_choice": ["required", NAMED], "messages": ["Hi.", [], [5]], "response_format": ["json"],
        "revision": [3, {"min": 2, "max": 1}], "top_k": [-1, 1.5], "min_p": [2], "repeat_penalty": [0],
        "frequency_penalty": [True], "presence_penalty": ["1"],
        "logit_bias": [{"rain": 1}, [1], {"1": -101}, {"1": True}, {"1" * 10: 1}, {"٣": 1}],
        "chat_template_kwargs": [1], "reasoning_effort": [3, "x" * 41],
    },
    TEXT: {
        "prompt": [None, "", [], [1, 2], ["a"] * 10_000],
        "max_tokens": [10**10],
        "temperature": [1e308, -5, 10**400],
        "logprobs": [True, 21],
    },
    RESPONSE: {
        "input": [5, None, [], [5], [{"role": "wizard", "content": "Hi."}]],
        "temperature": ["hot", 1e308, -5, 10**400],
        "max_output_tokens": [-1, 10**10],
        "instructions": [5],
        "tools": [[5], [{"type": "é"}]],
    },
}  # fmt: skip
BODIES: list[tuple[str, dict[str, Any], str | None]] = [
    *(
        (route, {name: value}, name)
        for route in VALUES
        for name in VALUES[route]
        for value in VALUES[route][name]
    ),
    (CHAT, {"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    (CHAT, {"redraft": True, "n": 2}, "redraft"),
    (CHAT, {"tools": [TOOL], "tool_choice": "search"}, "tool_choice"),
    (CHAT, {"tools": [TOOL], "tool_choice": 5}, "tool_choice"),
    (CHAT, {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
    (CHAT, {"tools": [TOOL], "parallel_tool_calls": "no"}, "parallel_tool_calls"),
    (CHAT, {"tools": [{"type": "function"}]}, "tools[0].function.name"),
    (CHAT, {"tools": [TOOL, {**TOOL, "function": {"name": " "}}]}, "tools[1].function.name"),
    (CHAT, {"tools": [TOOL, TOOL]}, "tools[1].function.name"),
    (CHAT, {"tools": [{**TOOL, "function": "search"}]}, "tools[0].function"),
    *(
        (CHAT, {"tools": [{**TOOL, "function": {"name": "a", "parameters": wrong}}]}, PARAMETERS)
        for wrong in ("x", 5, {"type": "objekt"}, {"properties": {"a": {"minimum": "3"}}}, {"required": "a"})
    ),
    (RESPONSE, {"tools": [{"type": "web_search"}, {"type": "function"}]}, "tools[1].name"),
    (RESPONSE, {"tools": [FUNCTION, {"type": "web_search"}, FUNCTION]}, "tools[2].name"),
    (RESPONSE, {"tools": [{**FUNCTION, "parameters": {"type": "objekt"}}]}, "tools[0].parameters"),
    *(
        (RESPONSE, {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", **wrong}}, "tool_choice")
        for wrong in ({}, {"mode": "auto", "tools": []}, {"mode": "all", "tools": [FUNCTION]})
    ),
    (CHAT, {"tools": [TOOL], "tool_choice": some_of({"name": "x"})}, "tool_choice"),
    (CHAT, {"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (CHAT, message("Hi.", "wizard"), "messages"),
    (CHAT, message("Hi.", ["user"]), "messages"),
    (CHAT, message(5), "messages"),
    (CHAT, message("  "), "messages"),
    (CHAT, {"response_format": {}}, "response_format.type"),
    (CHAT, {"response_format": {"type": "xml"}}, "response_format.type"),
    (CHAT, {"response_format": {"type": ["text"]}}, "response_format.type"),
    (CHAT, {"response_format": {"type": "json_schema"}}, PLACE),
    (CHAT, schema_of({"type": "no"}), PLACE),
    (CHAT, {**schema_of({"type": "object", "required": ["a", "b"]}), "max_tokens": 5}, None),
    (CHAT, schema_of({"$ref": "http://169.254.169.254/x"}), PLACE),
    *((CHAT, {"revision": {"max": most}}, "revision.max") for most in (-1, 17)),
    (CHAT, {"revision": {"budget": {"minutes": 3}}}, "revision.budget"),
    (CHAT, {"revision": {"budget": {"usd": 1}}}, "revision.budget.usd"),
    (CHAT, {"revision": {"budget": {"tokens": 0}}}, "revision.budget.tokens"),
    *(
        (CHAT, {"revision": {"checks": checks}}, "revision.checks")
        for checks in (
            "words<=5", [5], ["words<=5"] * 33, ["word<=5"], ["matches:("], ["contains:" + "a" * 200_000],
            ["any(" * 1000 + "json" + ")" * 1000],
        )
    ),
    (TEXT, {"prompt": ["a"] * 3, "n": 3}, "prompt"),
    (RESPONSE, {"input": [{"type": "function_call_output"}]}, "input"),
    (RESPONSE, {"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
    (RESPONSE, {"input": [{"role": "user", "content": [5]}]}, "input"),
    (RESPONSE, {"text": {"format": {"type": "xml"}}}, "text.format.type"),
    (RESPONSE, {"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
    (RESPONSE, {"revision": {"checks": ["command:true"]}}, "revision.checks"),
    *(
        (RESPONSE, {"tools": [FUNCTION], "tool_choice": choice}, "tool_choice")
        for choice in ({}, {"type": "function"}, {"type": "function", "name": 1}, {"type": "web_search"})
    ),
]  # fmt: skip
UNMET: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"verbosity": "high"}, "verbosity"),
    (CHAT, {"function_call": "auto"}, "function_call"),
    (CHAT, {"functions": [FUNCTION]}, "functions"),
    (CHAT, {"temperature": "hot", "verbosity": "high"}, "verbosity"),
    (TEXT, {"best_of": True}, "best_of"),
    (TEXT, {"model": "short"}, "model"),
    (RESPONSE, {"previous_response_id": "resp_1"}, "previous_response_id"),
    (RESPONSE, {"reasoning": {"summary": "detailed"}}, "reasoning.summary"),
]


@pytest.mark.parametrize(
    ("route", "body", "param", "code"),
    [*((*each, "invalid_value") for each in BODIES), *((*each, "unsupported") for each in UNMET)],
    ids=lambda part: json.dumps(part)[:60],
)
def test_what_is_refused_is_named(
    server: Server, route: str, body: dict[str, Any], param: str | None, code: str
) -> None:
    reply = post(server, route, body)
    error = refused(reply)
    found = (reply.status_code, error["param"], error["type"], error["code"])
    assert found == (400, param, "invalid_request_error", code)
    assert ("Use tool" in error["message"]) == (param in ("function_call", "functions"))


CALL = {"type": "function_call", "call_id": "a", "name": "search", "arguments": "{}"}
SAID: list[tuple[str, dict[str, Any], str]] = [
    (CHAT, {"temperature": True}, "temperature is true. It should be a number from 0 to 2."),
    (CHAT, {"tools": [TOOL], "tool_choice": {}}, "tool_choice is an empty object. It should be"),
    (CHAT, {"response_format": {"type": None}}, "response_format.type is null. It should be"),
    (
        CHAT,
        {"response_format": {"type": "json_schema", "schema": {}}},
        f"{PLACE} is missing. It should be an",
    ),
    (CHAT, {"messages": [{"content": "Hi."}]}, "the prompt is not a conversation: message 1 has no role. Ro"),
    (CHAT, {"revision": {"budget": {"seconds": 0}}}, "revision.budget.seconds is 0, which cannot be a limit"),
    (CHAT, schema_of(True), f"{PLACE} is true. It should be an object"),
    (CHAT, {"revision": {"budget": 5}}, "revision.budget is 5. It should be a budget in tokens, seconds or"),
    (CHAT, {"revision": {"drafts": 2}}, "nothing can choose among 2 drafts. Add a check, such as words<=50,"),
    (CHAT, message([{"type": "text"}]), "the user's message has no text."),
    (CHAT, {"n": 9}, "n is 9. It should be a whole number from 1 to 8."),
    (CHAT, {"stream": 1}, "stream is 1. It should be true or false."),
    (CHAT, {"seed": 2**63}, "seed is 9223372036854775808. It should be a whole number of 64 bits; -1 mea"),
    (CHAT, {"seed": 0.5}, "seed is 0.5. It should be a whole number of 64 bits; -1 means random."),
    (CHAT, {"top_k": {"a": 1}}, "top_k is an object. It should be a whole number from 0 to 2,147,483,647."),
    (CHAT, {"messages": None}, 'messages is missing. It should be a list of messages: [{"role": '),
    (CHAT, {"max_tokens": 10**10}, "max_tokens is 10000000000. It should be a whole number, above 0 and at"),
    (CHAT, {"temperature": 9}, "temperature is 9. It should be a number from 0 to 2."),
    (RESPONSE, {"temperature": 2.5}, "temperature is 2.5. It should be a number from 0 to 2."),
    (
        CHAT,
        {"tools": [{"type": "function", "function": {"name": "a b"}}]},
        'tools[0].function.name is "a b". Send letters, digits, _ and -',
    ),
    (CHAT, {"stop": ["a"] * 17}, "stop contains 17 texts, but this server allows 16 at most."),
    (CHAT, {"stop": ["", 5]}, 'stop: item 1 is "". It should be a non-empty text.'),
    (CHAT, {"tools": [5]}, "tools: item 1 is 5. It should be a tool: {"),
    (
        CHAT,
        {"tools": [{"type": "function"}]},
        'tools[0].function.name is missing. Send a text, such as "search"',
    ),
    (
        CHAT,
        {"tools": [TOOL, TOOL]},
        "tools[1].function.name is 'search', and so is tools[0].function.name. Send",
    ),
    (
        RESPONSE,
        {"tools": [{**FUNCTION, "parameters": {"properties": {"a": {"type": "objekt"}}}}]},
        "tools[0].parameters.properties.a.type: 'objekt' is not one of ['array', 'boolean', ",
    ),
    (
        RESPONSE,
        {"tools": [FUNCTION], "tool_choice": some_of({"name": "x"})},
        'tool_choice names "x". The request',
    ),
    (
        CHAT,
        {"logit_bias": {"x": 1}},
        'logit_bias has "x": 1. It should be an object of up to 1,024 token ids',
    ),
    (
        CHAT,
        {"chat_template_kwargs": {"enable_thinking": 3}},
        "chat_template_kwargs has 'enable_thinking': 3.",
    ),
    (CHAT, {"revision": {"checks": ["json", 5]}}, "revision.checks: item 2 is 5. It should be a text."),
    (
        CHAT,
        {"revision": {"checks": [{"lacks": "light"}]}},
        'revision.checks: item 1 is a mapping {"lacks": "light"}. It should be a text: "lacks:light".',
    ),
    (CHAT, {"revision": {"checks": ["words<=3", "words>=5"]}}, "no answer passes both words<=3 and words>=5"),
    (CHAT, {"revision": {"checks": ["words>=90"]}, "max_tokens": 9}, "no answer of at most 9 tokens passes"),
    (TEXT, {"prompt": None}, "prompt is missing. It should be a text, or a list of texts."),
    (RESPONSE, {"input": [{**CALL, "call_id": None}]}, "input has a function_call whose call_id is null"),
    *(
        (RESPONSE, {"input": [before, CALL]}, "the prompt is not a conversation")
        for before in ("Rain.", None, 3)
    ),
]


@pytest.mark.parametrize(("route", "body", "said"), SAID, ids=lambda part: json.dumps(part)[:60])
def test_the_message_names_the_part(server: Server, route: str, body: dict[str, Any], said: str) -> None:
    error = refused(post(server, route, body))
    assert error["message"].startswith(said)
    assert "Prompt" not in error["message"]
    assert error["code"] == "invalid_value"


@pytest.mark.parametrize(
    ("route", "body", "param", "guess"),
    [
        (CHAT, {"temprature": 1}, "temprature", "'temperature'"),
        (CHAT, {"revision": {"minn": 1}}, "revision.minn", "'min'"),
        (CHAT, {"checks": ["words<=3"]}, "checks", "Did you mean revision.checks?"),
        (CHAT, {"revision": {"prompts": "task"}}, "revision.prompts", "in revision. The fields are min, max"),
        (CHAT, {"stream_options": {"usage": True}}, "stream_options.usage", "include_usage"),
        (CHAT, {"extra_body": {"top_k": 3}}, "extra_body", "in a chat request"),
        (CHAT, {"cache": "/etc/passwd"}, "cache", ""),
        (CHAT, {"temperature": "hot", "verbosity": "high", "zzz": 1}, "zzz", ""),
        (TEXT, {"revision": {}}, "revision", "in a request for a completion"),
        (RESPONSE, {"inputs": "Hi."}, "inputs", "'input'"),
        (RESPONSE, {"reasoning": {"efort": "low"}}, "reasoning.efort", "'effort'"),
    ],
)
def test_an_unknown_field(server: Server, route: str, body: dict[str, Any], param: str, guess: str) -> None:
    reply = post(server, route, body)
    error = refused(reply)
    assert (reply.status_code, error["param"], error["code"]) == (400, param, "unknown_field")
    assert guess in error["message"]


@pytest.mark.parametrize("route", [CHAT, TEXT, RESPONSE])
def test_a_model_is_a_name_and_never_a_file_or_an_address(server: Server, route: str) -> None:
    for name in ("default", "script:/etc/passwd", "/etc/passwd", "../plain", "http://127.0.0.1:1/v1#x", ""):
        reply = post(server, route, {"model": name})
        assert (reply.status_code, refused(reply)["code"]) == (404, "model_not_found")

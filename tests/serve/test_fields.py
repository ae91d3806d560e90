from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import pytest

from redraft.chain import Finish
from redraft.engines.base import Delta, Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.serve.requests import ChatRequest
from tests.engines.able import OF_TEXT, Able
from tests.engines.fake_server import FakeServer, chat_reply, error_reply, raw_reply
from tests.serve.running import LONG, SHORT, both, events_of, plain, served, short
from tests.serve.test_chat import ASK, CALL, TOOL
from tests.serve.test_interrupted import broken


@dataclass
class Probable(Able):
    about: Mapping[str, Any] = field(default_factory=lambda: {"logprobs": True})

    async def _reply(self, *asked: Any) -> AsyncGenerator[Delta, None]:  # type: ignore[override]
        sampling: Sampling = asked[1]
        async for delta in super()._reply(*asked):
            logprobs = (-0.5,) * len(delta.text) if sampling.logprobs else ()
            likeliest = ((("r", -0.5), (111, -0.9), ("x", -3.0))[: sampling.top_logprobs],) * len(logprobs)
            yield replace(delta, logprobs=logprobs, likeliest=likeliest if sampling.top_logprobs else ())


@pytest.mark.parametrize("token_ids", [True, False])
def test_a_chat_has_the_log_probability_of_each_token(token_ids: bool) -> None:
    with served({"plain": plain(Probable([LONG], token_ids=token_ids))}) as server, server.client() as client:
        whole = client.chat.completions.create(model="plain", messages=ASK, logprobs=True).choices[0]
        stream = client.chat.completions.create(model="plain", messages=ASK, logprobs=True, stream=True)
        chunks = [chunk.choices[0] for chunk in stream]
    assert whole.logprobs
    assert whole.logprobs.content
    tokens = [each for chunk in chunks if chunk.logprobs for each in chunk.logprobs.content or ()]
    assert tokens == whole.logprobs.content
    assert "".join(token.token for token in tokens) == LONG
    assert bytes(byte for token in tokens for byte in token.bytes or ()).decode() == LONG
    assert ({token.logprob for token in tokens}, len(tokens)) == ({-0.5}, len(LONG))
    assert {len(token.token) for token in tokens} == ({1} if token_ids else {0, 4, len(LONG) % 4})
    assert len(chunks[1].logprobs.content or ()) == 4 if chunks[1].logprobs else False  # with their piece


def test_each_answer_has_its_own_without_what_broke_off_and_none_is_asked_for_otherwise() -> None:
    engine = Probable([broken("Rain is"), SHORT, broken("Ra"), LONG])
    with served({"plain": plain(engine)}) as server:
        choices = server.post({"logprobs": True, "n": 2}).json()["choices"]
        without = server.post({"logprobs": False}).json()["choices"][0]
    texts = ["".join(token["token"] for token in choice["logprobs"]["content"]) for choice in choices]
    assert texts == [choice["message"]["content"] for choice in choices] == [SHORT, LONG]
    assert without["logprobs"] is None
    assert [sampling.logprobs for sampling in engine.asked[:5]] == [*[True] * 4, False]


def test_a_completion_has_them_in_its_own_shape() -> None:
    with served({"plain": plain(Probable(["a bc"], chunk=2))}) as server, server.client() as client:
        whole = client.completions.create(model="plain", prompt="Rain", logprobs=0).choices[0].logprobs
        chunks = list(client.completions.create(model="plain", prompt="Rain", logprobs=0, stream=True))
    assert whole
    assert (whole.tokens, whole.token_logprobs) == ([*"a bc"], [-0.5] * 4)
    assert whole.text_offset == [0, 1, 2, 3]
    offsets = [chunk.choices[0].logprobs.text_offset for chunk in chunks if chunk.choices[0].logprobs]
    assert offsets == [[0, 1], [2, 3], []]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"model": "short", "logprobs": True}, "logprobs"),
        ("chat/completions", {"revision": {"max": 1}, "logprobs": True}, "logprobs"),
        ("chat/completions", {"model": "none", "logprobs": True}, "logprobs"),
        ("completions", {"model": "none", "logprobs": 0}, "logprobs"),
    ],
)
def test_log_probabilities_that_there_are_not_are_refused(path: str, body: Any, param: str) -> None:
    engine = Probable([LONG, SHORT])
    models = {"plain": plain(engine), "short": short(engine), "none": plain(ScriptedEngine([LONG]))}
    asked = {"messages": ASK} if path.startswith("chat") else {"prompt": "Rain"}
    with served(models) as server:
        reply = httpx.post(f"{server.url}/{path}", json={"model": "plain", **asked, **body})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["code"]) == (400, param, "unsupported")


def test_the_likeliest_tokens_in_the_place_of_each() -> None:
    with served({"plain": plain(Probable(["ab"]))}) as server, server.client() as client:
        chat = client.chat.completions.create(model="plain", messages=ASK, logprobs=True, top_logprobs=2)
        text = client.completions.create(model="plain", prompt="Rain", logprobs=2).choices[0].logprobs
    assert chat.choices[0].logprobs
    tops = [token.top_logprobs for token in chat.choices[0].logprobs.content or ()]
    assert [[(top.token, top.logprob, top.bytes) for top in each] for each in tops] == [
        [("r", -0.5, [114]), ("o", -0.9, [111])]
    ] * 2
    assert text
    assert text.top_logprobs == [{"r": -0.5, "o": -0.9}] * 2


# Tools


def test_the_choice_of_a_tool_goes_to_the_model() -> None:
    engine = Probable([ScriptedReply(tool_calls=[CALL])])
    named = {"type": "function", "function": {"name": "search"}}
    own = {"extra_body": {"top_k": 3}}
    with served({"plain": {**plain(engine), **own}}) as server, server.client() as client:
        for choice in ("required", named):
            reply = client.chat.completions.create(
                model="plain",
                messages=ASK,
                tools=[TOOL],
                tool_choice=choice,  # type: ignore[arg-type]
                parallel_tool_calls=False,
            )
            assert reply.choices[0].message.tool_calls
    assert [sampling.extra_body for sampling in engine.asked] == [
        {"top_k": 3, "tool_choice": choice, "parallel_tool_calls": False} for choice in ("required", named)
    ]


def test_a_model_that_takes_no_tools_says_so() -> None:
    with served({"plain": plain(Able([LONG], about=OF_TEXT))}) as server:
        error = server.post({"tools": [TOOL]}).json()["error"]
        assert server.post({"tools": []}).status_code == 200
    assert (error["param"], error["code"]) == ("tools", "unsupported")
    assert error["message"].startswith("the model 'plain' accepts no tools. Leave them out. For JSON: resp")


def test_a_model_that_takes_no_pictures_says_so_without_hints_for_a_shell() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    with served({"plain": plain(Able([LONG], about=OF_TEXT))}) as server:
        reply = server.post({"messages": [{"role": "user", "content": [picture]}]})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, "messages")
    assert error["message"].endswith("message 1 has a part of the type 'image_url'.")


# Answers without a text


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_plain_model_may_say_nothing(text: str) -> None:
    with served(both(text)) as server, server.client() as client:
        whole = client.chat.completions.create(model="plain", messages=ASK)
        chunks = list(client.chat.completions.create(model="plain", messages=ASK, stream=True))
        response = client.responses.create(model="plain", input="Rain?")
        chain = server.post({"redraft": True}).json()["redraft"]
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("", "stop")
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert (response.output_text, response.status) == ("", "completed")
    assert (chain["stop"], chain["best"]) == ("ended", None)


@pytest.mark.parametrize(("model", "reply"), [("plain", ScriptedReply("", finish="filtered")), ("short", "")])
def test_no_answer_because_it_was_kept_back_or_an_empty_draft_is_an_error(model: str, reply: Any) -> None:
    with served(both(reply)) as server:
        assert server.post({"model": model}).status_code == 502


@pytest.mark.parametrize("finish", ["max_tokens", "context"])
@pytest.mark.parametrize("model", ["plain", "short"])
def test_nothing_before_the_limit_is_an_empty_answer_that_was_cut(model: str, finish: Finish) -> None:
    with served(both(ScriptedReply("", finish=finish))) as server, server.client() as client:
        whole = client.chat.completions.create(model=model, messages=ASK)
        chunks = list(client.chat.completions.create(model=model, messages=ASK, stream=True))
        response = client.responses.create(model=model, input="Rain?")
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("", "length")
    assert chunks[-1].choices[0].finish_reason == "length"
    assert (response.output_text, response.status) == ("", "incomplete")
    assert whole.usage
    assert whole.usage.prompt_tokens > 0


def test_an_answer_that_ended_at_a_stop_string_is_whole_though_its_criticism_was_cut() -> None:
    engine = ScriptedEngine(["Rain. END more", "It is too short, and it should be much longer than it is."])
    with served({"revised": {"model": engine, "max_revisions": 2}}) as server:
        [choice] = server.post({"model": "revised", "stop": ["END"], "max_tokens": 16}).json()["choices"]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Rain.", "stop")


def test_as_many_tokens_may_be_asked_for_as_the_model_has(upstream: FakeServer) -> None:
    with served({"plain": plain(RemoteEngine(upstream.url, "m"))}) as server:
        for field in ("max_tokens", "max_completion_tokens"):
            assert server.post({field: 131_072}).status_code == 200
            assert upstream.requests[-1].json["max_tokens"] == 131_072


@pytest.mark.parametrize("name", ["chat_template", "tokenize", "add_generation_prompt", "tools"])
def test_no_template_and_no_tokenizer_argument_reaches_a_server(upstream: FakeServer, name: str) -> None:
    with served({"plain": plain(RemoteEngine(upstream.url, "m"))}) as server:
        reply = server.post({"chat_template_kwargs": {name: "{{ 1 }}", "enable_thinking": False}})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"]) == (400, "chat_template_kwargs")
    assert f"chat_template_kwargs has {name!r}" in error["message"]
    assert not upstream.requests


TURNS: list[list[dict[str, str]]] = [
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}],
    [{"role": "user", "content": "Be brief."}, {"role": "user", "content": "Hi."}],
]
REFUSED = (
    "Unable to generate parser for this template.\n---\nWhile executing CallExpression at line 1:\n"
    "...{{ raise_exception('Conversation roles must alternate') }}\n ^\n"
    "Error: Jinja Exception: Conversation roles must alternate"
)


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize(
    ("status", "said"), [(400, REFUSED), (500, REFUSED), (500, REFUSED.rpartition("\n")[2])]
)
def test_turns_that_a_servers_template_refuses_are_folded(
    upstream: FakeServer, turns: list[dict[str, str]], status: int, said: str
) -> None:
    def answer(request: Any) -> Any:
        roles = [message["role"] for message in request.json["messages"]]
        return chat_reply("It rains.") if roles == ["user"] else error_reply(status, said)

    upstream.on("POST /v1/chat/completions", answer)
    with served({"plain": plain(RemoteEngine(upstream.url, "m"))}) as server:
        reply = server.post({"messages": turns})
        other = server.post(
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}]}
        )
    assert reply.status_code == 200, reply.text
    assert len(upstream.requests) == 3
    assert upstream.requests[1].json["messages"] == [{"role": "user", "content": "Be brief.\n\nHi."}]
    error = other.json()["error"]
    assert (other.status_code, error["code"]) == (400, "engine_refused")
    assert error["message"].endswith("Conversation roles must alternate")
    assert "CallExpression" not in error["message"]


# Errors and figures of all routes


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("chat/completions", {"messages": [{"role": "user", "content": "x" * 99}]}, "messages"),
        ("completions", {"prompt": "x" * 99}, "prompt"),
        ("responses", {"input": "x" * 99}, "input"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_long_prompt_is_named(path: str, body: dict[str, Any], param: str, stream: bool) -> None:
    with served(both(LONG, context=50)) as server:
        reply = httpx.post(f"{server.url}/{path}", json={"model": "plain", "stream": stream, **body})
    error = reply.json()["error"]
    assert (reply.status_code, error["param"], error["code"]) == (400, param, "context_length_exceeded")
    said = f"This model's maximum context length is 50 tokens. However, your {param} resulted in 99 tokens."
    assert error["message"].startswith(said)  # OpenAI's words, which litellm reads


MARKUP = "<script>alert(1)</script> [x](javascript:y) \\u2028 \u2028\r\ndata: [DONE]"


@pytest.mark.parametrize("text", ['a "b" \\ {"content": ""} \u2028 Wärme 🌳 </script>', MARKUP])
def test_a_reply_has_any_text_as_data(text: str) -> None:
    with served(both(text, chunk=[1, 3, 2])) as server:
        whole = server.post()
        stream = server.post({"stream": True, "stream_options": {"include_usage": True}})
    assert whole.headers["content-type"] == "application/json"
    assert whole.json()["choices"][0]["message"]["content"] == text
    assert stream.headers["content-type"].startswith("text/event-stream")
    events = [event.removeprefix("data: ") for event in stream.content.decode().split("\n\n") if event]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    said = "".join(choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"])
    assert said == text
    assert {(chunk["id"], chunk["object"], chunk["usage"] is None) for chunk in chunks[:-1]} == {
        (chunks[0]["id"], "chat.completion.chunk", True)
    }


@pytest.mark.parametrize("more", [{"stop": ["END"]}, {"logprobs": True}])
def test_the_plain_name_of_a_native_model_takes_what_plain_models_take(more: dict[str, Any]) -> None:
    engine = Probable([SHORT], native=True)
    with served({"plain": plain(engine), "revised": {"model": engine}}) as server:
        reply = server.post(more)
        revised = server.post({"model": "revised", **more})
        asked = {"model": "plain", "prompt": "x", "logprobs": 1}
        completion = httpx.post(f"{server.url}/completions", json=asked)
    assert completion.json()["choices"][0]["logprobs"]
    assert reply.status_code == 200, reply.text
    assert reply.json()["choices"][0]["message"]["content"] == SHORT
    assert revised.status_code == 400


@pytest.mark.parametrize(
    "more",
    [
        {"seed": 2**63 - 1},
        {"top_p": 0},
        {"messages": [{"role": "system", "content": "Say hi."}]},
        {"messages": [{"role": "user", "content": "Hi", "name": "tom"}]},
    ],
)
def test_what_openai_takes_is_taken(more: dict[str, Any]) -> None:
    engine = ScriptedEngine([SHORT])
    with served({"plain": plain(engine)}) as server:
        reply = server.post(more)
    assert reply.status_code == 200, reply.text
    assert engine.calls[0][-1]["role"] == "user"


def test_a_seed_of_minus_one_is_a_random_one() -> None:
    assert len({ChatRequest.of({"model": "plain", "messages": ASK, "seed": -1}).seed for _ in range(4)}) > 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_completion_may_begin_with_its_prompt(stream: bool) -> None:
    with served({"plain": plain(ScriptedEngine([" wet."]))}) as server, server.client() as client:
        asked: Any = {"model": "plain", "prompt": "Rain is", "echo": True}
        made = client.completions.create(**asked, stream=stream)
        text = "".join(each.choices[0].text for each in made) if stream else made.choices[0].text
    assert text == "Rain is wet."


def test_what_stands_behind_a_gap_goes_to_a_server(upstream: FakeServer) -> None:
    upstream.on("POST /v1/completions", raw_reply(" wet"))
    with served({"plain": plain(RemoteEngine(upstream.url, "m"))}) as server, server.client() as client:
        client.completions.create(model="plain", prompt="Rain is", suffix=" today.")
    assert upstream.requests[-1].json["suffix"] == " today."


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_behind_a_stop_string_comes_from_a_server_that_ignores_it(stream: bool) -> None:
    with FakeServer() as upstream:
        upstream.on("POST /v1/chat/completions", chat_reply("One, two", ", th", "ree, four."))
        with served({"plain": plain(RemoteEngine(upstream.url, "m"))}) as server:
            reply = server.post({"stop": [" three"], "stream": stream})
    pieces = [json.loads(each) for each in events_of(reply.text)[:-1]] if stream else [reply.json()]
    [*choices] = (choice for piece in pieces for choice in piece["choices"])
    said = [each["delta" if stream else "message"].get("content") or "" for each in choices]
    assert ("".join(said), choices[-1]["finish_reason"]) == ("One, two,", "stop")

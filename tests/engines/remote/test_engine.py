"""The remote engine against a real HTTP server: what it sends and reads, and what it says of every fault."""

from __future__ import annotations

import asyncio
import logging
import socket
import traceback
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

import redraft
from redraft.engines.base import Delta, Health, Message, Sampling
from redraft.engines.config import Key, key_variable
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import Patience
from redraft.errors import ContextError, EngineError, EngineTimeout, RedraftError, ServerError, UsageError
from redraft.jobs.causes import cause_of, is_doubtful, is_of_item
from tests.engines.fake_server import (
    DONE,
    FakeServer,
    Reply,
    chat_event,
    chat_reply,
    error_reply,
    event,
    json_reply,
    models_reply,
    raw_event,
    raw_reply,
    sse_reply,
    usage_event,
)
from tests.engines.remote.asking import (
    ASK,
    CHAT,
    MODELS,
    QUICK,
    RAW,
    SECRET,
    chat,
    chats,
    collected,
    connected,
    engine,
    raw,
    refused,
    text_of,
    using,
)

KEY = Key(SECRET, "MY_KEY")
LENGTH, STOP = chat_event("", "length"), chat_event("", "stop")
THOUGHT = event({"choices": [{"delta": {"reasoning_content": "Let me think."}}]})
PAGE = Reply(200, {"Content-Type": "text/html"}, [b"<html>Welcome</html>"])
NOT_V1 = "Is this the address of an OpenAI-compatible API? It usually ends in /v1."
SEE_LOG = "The server may have stopped, or run out of memory: see its log."


def test_a_chat(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("Hel"), chat_event("lo"), STOP, usage_event(9, 2, 4), DONE))
    deltas = chat(engine(server), Sampling(temperature=0.1, max_tokens=30, seed=3), ("END",))
    assert [delta.text for delta in deltas] == ["Hel", "lo", ""]
    assert deltas[-1] == Delta(finish="stop", prompt_tokens=9, cached_tokens=4, completion_tokens=2)
    body = server.requests[0].json
    assert (body["model"], body["messages"]) == ("m", ASK)
    assert (body["temperature"], body["max_tokens"], body["seed"], body["stop"]) == (0.1, 30, 3, ["END"])
    assert "authorization" not in server.requests[0].headers


def test_raw_text(server: FakeServer) -> None:
    server.on(RAW, raw_reply(" upon", " a time"))
    deltas = raw(engine(server))
    assert text_of(deltas) == " upon a time"
    assert deltas[-1] == Delta(finish="stop", prompt_tokens=2, completion_tokens=4, estimated=True)
    assert server.requests[0].json["prompt"] == "Once"
    server.on(RAW, sse_reply(raw_event("a"), raw_event("", "stop", stop_reason="END"), DONE))
    assert raw(engine(server))[-1].stop_text == "END"


UNSTREAMED = {
    "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


@pytest.mark.parametrize(
    ("reply", "text", "finish"),
    [
        *[(chat_reply("a", finish=said), "a", finish) for said, finish in
          [("stop", "stop"), ("length", "max_tokens"), ("content_filter", "filtered"), ("other", "stop")]],
        (sse_reply(THOUGHT, chat_event("Yes."), STOP, DONE), "Yes.", "stop"),
        (sse_reply((chat_event("a") + b": ping\n\n" + STOP + DONE).replace(b"\n", b"\r\n")), "a", "stop"),
        (sse_reply(chat_event("a"), STOP), "a", "stop"),
        (sse_reply(chat_event("a"), usage_event(3, 1), DONE), "a", "stop"),
        (sse_reply(chat_event("a"), DONE), "a", "stop"),
        (json_reply(UNSTREAMED), "a", "stop"),
        (sse_reply(chat_event("a", "stop"), DONE, 30.0), "a", "stop"),
        (chat_reply("a\ud83d"), "a\ufffd", "stop"),
    ],
    ids=["stop", "length", "filter", "other", "thoughts are no text", "crlf and pings", "no done",
         "no finish but counts", "no finish", "not streamed", "counts that never come",
         "half a character at the end"],
)  # fmt: skip
def test_replies_in_every_form(server: FakeServer, reply: Reply, text: str, finish: str) -> None:
    server.on(CHAT, reply)
    deltas = chat(engine(server))
    assert (text_of(deltas), deltas[-1].finish) == (text, finish)


def test_a_length_below_the_limit_is_the_end_of_the_context(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("a"), LENGTH, usage_event(90, 3), DONE))
    for how, finish in [
        (Sampling(max_tokens=50), "context"),
        (Sampling(max_tokens=3), "max_tokens"),
        (Sampling(extra_body={"max_tokens": 3}), "max_tokens"),
        (Sampling(extra_body={"max_completion_tokens": 3}), "max_tokens"),
    ]:
        assert chat(engine(server), how)[-1].finish == finish


@pytest.mark.parametrize(
    "pieces",
    [[DONE], [chat_event("a")], [b": ping - 12:00\r\n\r\n"] * 2, [b": ping\n\n: pi"]],
    ids=["nothing", "a text", "pings", "half a ping"],
)
def test_a_stream_that_was_cut_may_be_asked_for_again(server: FakeServer, pieces: list[bytes]) -> None:
    server.on(CHAT, sse_reply(*pieces))
    error = refused(engine(server))
    assert isinstance(error, ServerError)
    assert error.passing
    assert "broke off the stream" in error.message


def test_a_server_that_broke_off_a_stream_is_in_trouble_until_it_answers(server: FakeServer) -> None:
    async def asked(one: RemoteEngine) -> None:
        for in_trouble in (True, False):
            with suppress(ServerError):
                await collected(one.chat(ASK, Sampling()))
            assert bool(one.health.trouble) is in_trouble

    server.on(CHAT, sse_reply(DONE), sse_reply(chat_event("a"), DONE))
    using(engine(server), asked)


@pytest.mark.parametrize(
    ("delta", "aside"),
    [
        ({"tool_calls": [{"function": {"name": "search", "arguments": "{"}}]}, "a call of the tool 'search'"),
        ({"reasoning_content": "Hm."}, "thoughts alone"),
        ({"refusal": "I will not."}, "a refusal: I will not."),
        ({"content": None}, ""),
    ],
)
def test_what_comes_beside_the_text(server: FakeServer, delta: dict[str, Any], aside: str) -> None:
    server.on(CHAT, sse_reply(event({"choices": [{"delta": delta}]}), STOP, DONE))
    *thoughts, made = chat(engine(server))
    assert "".join(each.thought for each in thoughts) == delta.get("reasoning_content", "")
    assert (made.text, made.finish, made.aside) == ("", "stop", aside)


def test_leaving_a_stream_drops_the_connection(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("a"), 30.0, chat_event("b")))

    async def leave_early(one: RemoteEngine) -> None:
        deltas = one.chat(ASK, Sampling())
        assert (await anext(deltas)).text == "a"
        assert not server.dropped.is_set()
        await deltas.aclose()
        assert await asyncio.to_thread(server.dropped.wait, 10)

    using(engine(server), leave_early)


def test_many_streams_at_once(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("a"), 30.0, chat_event("b", "stop"), DONE))

    async def twenty(one: RemoteEngine) -> None:
        streams = [one.chat(ASK, Sampling()) for _ in range(20)]
        assert {delta.text for delta in await asyncio.gather(*map(anext, streams))} == {"a"}
        for stream in streams:
            await stream.aclose()

    using(engine(server), twenty)


def test_no_proxy_sees_a_local_server(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    server.on(CHAT, chat_reply("a"))
    assert text_of(chat(engine(server))) == "a"


# Dialects


@pytest.mark.parametrize(
    ("said", "name", "sent"),
    [
        ("Unrecognized request argument: stream_options", "stream_options", [True, False, False]),
        ("logprobs are not supported with this model.", "logprobs", [True, False, False]),
        ("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.", "max_completion_tokens",
         [False, True, True]),
    ],
)  # fmt: skip
def test_a_dialect_is_learnt_once(server: FakeServer, said: str, name: str, sent: list[bool]) -> None:
    server.on(CHAT, error_reply(400, said), chat_reply("a"))
    how = Sampling(logprobs=True)
    assert [text_of(deltas) for deltas in chats(engine(server), how, how)] == ["a", "a"]
    assert [name in request.json for request in server.requests] == sent


def test_max_tokens_that_does_not_fit_is_made_to_fit(server: FakeServer) -> None:
    said = "maximum context length is 100 tokens and your request has 40 input tokens"
    server.on(CHAT, error_reply(400, said), chat_reply("a", finish="length"))
    assert chat(engine(server))[-1].finish == "context"
    assert server.requests[1].json["max_tokens"] == 60


def test_token_ids_are_an_error(server: FakeServer) -> None:
    with pytest.raises(ServerError, match="does not support token ids; send text"):
        raw(engine(server), (1, 2))


OPENAI = "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use "


@pytest.mark.parametrize(
    "refusal", [json_reply({}, 404), error_reply(404, f"{OPENAI}v1/chat/completions?", param="model")]
)
def test_a_server_without_raw_text_is_asked_once(server: FakeServer, refusal: Reply) -> None:
    server.on(RAW, refusal)
    only_chats = engine(server)
    assert only_chats.info.continues

    async def ask_twice(one: RemoteEngine) -> None:
        for _ in range(2):
            with pytest.raises(ServerError) as caught:
                await collected(one.stream("Once", Sampling()))
            said = f"{server.url} has no /completions: it supports chat, but not raw text."
            assert caught.value.message == said
            assert caught.value.hint == "Use mode 'prompted', which needs only chat."

    using(only_chats, ask_twice)
    assert len(server.asked(RAW)) == 1
    assert not only_chats.info.continues


# The list of models


@pytest.mark.parametrize("about", [{"meta": {"n_ctx": 512}}, {"redraft": {"context": 512, "images": False}}])
def test_the_only_model(server: FakeServer, about: dict[str, Any]) -> None:
    server.on(MODELS, models_reply("qwen", **about))
    info = connected(server)
    assert (info.name, info.engine, info.context) == ("qwen", "remote", 512)
    assert info.any_message == ("meta" in about)


def test_one_of_several_must_be_named(server: FakeServer) -> None:
    server.on(MODELS, models_reply("a", "b"))
    with pytest.raises(UsageError) as caught:
        connected(server)
    assert caught.value.message == (f"{server.url} has 2 models, and no model was named. It has a, b.")
    assert caught.value.hint == f"--model {server.url}#a"
    assert connected(server, "b").name == "b"


async def test_ollama_leaves_latest_out(server: FakeServer) -> None:
    server.on(MODELS, models_reply("b:latest"))
    one = await RemoteEngine.connect(server.url, "b")
    await one.aclose()
    assert one.health == Health()


@pytest.mark.parametrize(
    ("reply", "named", "message", "hint"),
    [
        (error_reply(404, "Not Found"), True, "{url}/models does not exist (404): Not Found", NOT_V1),
        (error_reply(500, "Oh"), True, "{host} fails (500, 3 times): Oh",
         "See the log of the server. Or name the model: --model {url}#name"),
        (error_reply(429, "Slowly"), True, "{host} limits requests (429, 3 times): Slowly",
         "Raise the patience. In a run, you can also send less: lower rpm or parallel."),
        (json_reply({"data": 5}), True, "{url} has no models, and no model was named.", "--model {url}#name"),
        (PAGE, False, "{host} did not answer with JSON: '<html>Welcome</html>'", NOT_V1),
    ],
)  # fmt: skip
def test_a_list_that_is_none(server: FakeServer, reply: Reply, named: bool, message: str, hint: str) -> None:
    server.on(MODELS, reply)
    if named:
        assert (connected(server, "any").name, len(server.asked(MODELS))) == ("any", 1)
    with pytest.raises(RedraftError) as caught:
        connected(server, None if named else "m")
    where = {"url": server.url, "host": server.host}
    assert (caught.value.message, caught.value.hint) == (message.format(**where), hint.format(**where))


# Faults


KEY_HINT = "export {variable}=…, or add "
NO_MODEL = "The model `m` does not exist or you lack access."
TOO_LONG = "maximum context length is 100 tokens. However, your messages resulted in 400 tokens."
MMPROJ = "image input is not supported - hint: provide the mmproj"


@pytest.mark.parametrize(
    ("reply", "message", "hint", "key", "times"),
    [
        (error_reply(401, "Missing."), "{host} asks for a key (401): Missing.", KEY_HINT, None, 1),
        (error_reply(401, "Wrong."), "{host} refuses the key from MY_KEY (401): Wrong.", KEY_HINT, KEY, 1),
        (error_reply(403, "No."), "{host} gives no access (403): No.", "Use a model or a key that", None, 1),
        (error_reply(403, "No."), "{host} gives the key from MY_KEY no access (403): No.", "Use a", KEY, 1),
        (error_reply(400, "No API key is needed, but temperature is 9."),
         "{host} refuses the request (400): No API key is needed, but temperature is 9.", None, KEY, 1),
        (json_reply({"detail": "Not Found"}, 404),
         "{url}/chat/completions does not exist (404): Not Found", NOT_V1, None, 1),
        (error_reply(429, "Slow down."), "{host} limits requests (429, 3 times): Slow down.",
         "Raise the patience. In a run, you can also send less: lower rpm or parallel.", None, 3),
        (error_reply(429, "Used up", headers={"Retry-After": "3600"}),
         "{host} limits requests (429): Used up. It asks to wait 3600 s.", "Raise the patience.", None, 1),
        *[(error_reply(status, "Full."), f"{{host}} fails ({status}, 3 times): Full.",
           "See the log of the server.", None, 3) for status in (500, 502, 503, 504)],
        (error_reply(500, MMPROJ), f"{{host}} refuses the request (500): {MMPROJ}", None, None, 1),
        (error_reply(400, TOO_LONG), "the prompt has 400 tokens and the context holds 100.",
         "Shorten the prompt, or choose a model with a longer context.", None, 1),
        (PAGE, "{host} did not answer with JSON: '<html>Welcome</html>'", NOT_V1, None, 1),
        (sse_reply(chat_event("a"), b"data: {oops}\n\n", DONE),
         "{host} sent a damaged event in its reply: '{{oops}}'",
         "Try again. If it happens again, see the log of the server or proxy.", None, 1),
        (json_reply({"choices": []}), "{host} sent a reply without choices.", "See the log", None, 1),
        (json_reply({"hello": "world"}),
         "{host} answered with JSON outside the OpenAI protocol: {{'hello': 'world'}}", NOT_V1, None,
         1),
        *[(sse_reply(chat_event("Hello"), b'data: {"choices": [{"del', cut=cut),
           "{host} broke off the stream after 5 characters.", SEE_LOG, None, 1) for cut in (True, False)],
        *[(chat_reply("Hello", finish=finish), "{host} ended the answer with an error after 5 characters.",
           SEE_LOG, None, 1) for finish in ("error", "abort")],
        (sse_reply(chat_event("a"), event({"error": {"message": "CUDA error"}})),
         "{host} failed while it answered: CUDA error", SEE_LOG, None, 1),
        (Reply(0), "no server answers at {url}: Server disconnected without sending a response.",
         "Start the server, or check its address and the network.", None, 1),
    ],
)  # fmt: skip
def test_what_is_said_of_a_fault(
    server: FakeServer, reply: Reply, message: str, hint: str | None, key: Key | None, times: int
) -> None:
    server.on(CHAT, reply)
    error = refused(engine(server, key=key), ContextError if "context" in message else ServerError)
    variable = f"REDRAFT_KEY_127_0_0_1_{server.host.split(':')[1]}"
    assert error.message == message.format(host=server.host, url=server.url)
    assert str(error.hint).startswith(str(hint).format(variable=variable))
    assert len(server.asked(CHAT)) == times


@pytest.mark.parametrize("listed", [True, False])
def test_no_such_model(server: FakeServer, listed: bool) -> None:
    server.on(CHAT, error_reply(404, NO_MODEL, code="model_not_found"))
    server.on(MODELS, models_reply("a", "m" if listed else "m2"))
    said = f"{server.host} refuses the request (404): {NO_MODEL}"
    none = f"{server.url} has no model 'm'. It has a, m2."
    error = refused(engine(server))
    assert (error.message, error.hint) == ((said, None) if listed else (none, f"--model {server.url}#m2"))


def test_another_event_loop(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("Hello."))
    used = engine(server)
    assert text_of(chat(used)) == "Hello."
    with pytest.raises(EngineError, match="was used in another event loop before") as caught:
        chat(used)
    assert "in one event loop" in str(caught.value.hint)


def test_a_redirect_is_not_followed(server: FakeServer) -> None:
    with FakeServer() as other:
        to = f"{other.url}/chat/completions"
        server.on(CHAT, Reply(307, {"Location": to}))
        said = f"{server.url} redirects (307) to {to}, but redirects are not followed."
        assert refused(engine(server, key=KEY)).message == said
        assert other.requests == []


# Time-outs


def test_no_headers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
        error = refused(RemoteEngine(url, "m", patience=Patience(first_token=0.2)), EngineTimeout)
    assert error.message == f"{url[7:-3]} sent nothing within 0.2 s."


@pytest.mark.parametrize(
    ("reply", "limits", "said"),
    [
        (sse_reply(*[b": ping\n\n", 0.1] * 20), {"first_token": 0.3}, "no first token within 0.3 s."),
        (sse_reply(chat_event("Hello"), 20.0), {"between_tokens": 0.2},
         "no token for 0.2 s, after 5 characters."),
        (sse_reply(chat_event("Hello"), *[event({"choices": []}), 0.1] * 20), {"between_tokens": 0.3},
         "no token for 0.3 s, after 5 characters."),
    ],
    ids=["pings", "a stall", "records without tokens"],
)  # fmt: skip
def test_a_silence(server: FakeServer, reply: Reply, limits: dict[str, float], said: str) -> None:
    server.on(CHAT, reply)
    error = refused(engine(server, patience=Patience(**limits)), EngineTimeout)
    assert (error.message, error.exit_status) == (f"{server.host} sent {said}", 3)
    assert server.dropped.wait(10)


@pytest.mark.slow
def test_a_slow_reader_is_no_stall(server: FakeServer) -> None:
    server.on(CHAT, sse_reply(chat_event("a"), 0.05, chat_event("b", "stop"), DONE))

    async def read_slowly(one: RemoteEngine) -> str:
        text = ""
        async for delta in one.chat(ASK, Sampling()):
            text += delta.text
            await asyncio.sleep(0.6)  # longer than a server may be silent
        return text

    assert using(engine(server, patience=Patience(between_tokens=0.5)), read_slowly) == "ab"


# Retries


@pytest.mark.parametrize(
    "refusal",
    [
        *[error_reply(status, "Later.") for status in (429, 500, 502, 503, 504)],
        error_reply(429, "", headers={"Retry-After": "soon"}),
        error_reply(429, "", headers={"Retry-After": f"Mon, 01 Jan {10**20} 00:00:00 GMT"}),
    ],
)
def test_a_server_that_recovers(server: FakeServer, refusal: Reply) -> None:
    server.on(CHAT, refusal, chat_reply("a"))
    assert text_of(chat(engine(server))) == "a"


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_obeyed(server: FakeServer, as_date: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=50), usegmt=True)
    server.on(CHAT, error_reply(429, "", headers={"Retry-After": date if as_date else "50"}), chat_reply("a"))
    one, held = engine(server), list[float]()
    monkeypatch.setattr(one._server.retry.rate, "hold", held.append)
    assert text_of(chat(one)) == "a"
    assert 30 < max(held) < 51


async def test_a_connection_that_is_closed_when_it_is_used_again(server: FakeServer) -> None:
    server.on(MODELS, models_reply("m")).on(CHAT, Reply(0), chat_reply("a"))

    one = await RemoteEngine.connect(server.url, patience=QUICK)
    text = text_of(await collected(one.chat(ASK, Sampling())))
    await one.aclose()
    assert text == "a"


# Keys


@pytest.mark.parametrize(
    "reply",
    [
        error_reply(401, f"Incorrect API key provided: {SECRET}."),
        error_reply(500, f"Crashed with {SECRET}."),
        error_reply(400, f"Bad header Bearer {SECRET}"),
        Reply(200, {"Content-Type": "text/html"}, [f"<p>{SECRET}</p>".encode()]),
        sse_reply(event({"error": {"message": SECRET}})),
        sse_reply(chat_event("a"), cut=True),
        json_reply({"odd": SECRET}),
    ],
)
def test_a_key_shows_nowhere(server: FakeServer, reply: Reply, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.on(CHAT, reply)
    secretive = engine(server, key=KEY)
    error = refused(secretive)
    whole = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [line for line in whole.format() if "/src/redraft/" in line]
    if reply.status == 200:  # there, locals hold the reply itself, which names the key here
        frames = traceback.format_exception(error)
    assert frames
    assert caplog.text
    for text in [str(error), repr(error), repr(secretive), repr(secretive._server), caplog.text, *frames]:
        assert SECRET not in text


def test_a_short_key_is_a_word_like_others(server: FakeServer) -> None:
    server.on(CHAT, chat_reply("The glass is EMPTY."))
    assert text_of(chat(engine(server, key=Key("EMPTY", "MY_KEY")))) == "The glass is EMPTY."


def test_a_key_does_not_travel_unencrypted_to_another_machine() -> None:
    with pytest.raises(UsageError) as caught:
        RemoteEngine("http://gpu.example:8000/v1", "m", key=KEY)
    assert caught.value.message == ("the key from MY_KEY would be sent to gpu.example:8000 unencrypted.")
    assert '"gpu.example:8000" = { key = "env:NAME", plain_http = true }' in str(caught.value.hint)
    RemoteEngine("http://gpu.example:8000/v1", "m", key=Key(SECRET, "MY_KEY", plain_http=True))
    for host in ("https://gpu.example", "http://localhost:1", "http://127.0.0.2:1", "http://[::1]:1"):
        RemoteEngine(f"{host}/v1", "m", key=KEY)


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "schlüssel"])
def test_what_no_key_is(value: str) -> None:
    with pytest.raises(UsageError, match="the key from MY_KEY contains a space") as caught:
        RemoteEngine("http://localhost:1/v1", "m", key=Key(value, "MY_KEY"))
    assert value not in str(caught.value)


def test_a_password_in_the_address() -> None:
    with pytest.raises(UsageError, match="contains a user name or password") as caught:
        RemoteEngine(f"https://me:{SECRET}@host/v1", "m")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["http://", "http://:80", "http://a b", "http://host:port", "http://xn--", "http://é..b"]
)
def test_what_is_no_address(host: str) -> None:
    with pytest.raises(UsageError, match="is not the address of a server"):
        RemoteEngine(f"{host}/v1", "m")


# Faults of keys and accounts in a run


def test_a_filter_of_the_server_is_no_fault_of_the_key(server: FakeServer) -> None:
    """OpenRouter's 403: with it, one prompt would end the run."""
    server.on(CHAT, error_reply(403, "The model requires moderation. Your input was flagged for violence."))
    error = refused(engine(server, key=KEY))
    assert "refuses the request" in error.message
    assert (len(server.requests), is_of_item(error), is_doubtful(error)) == (1, True, False)
    assert cause_of(error) == "content filter"


def test_an_empty_account_ends_the_run_at_once(server: FakeServer) -> None:
    server.on(CHAT, error_reply(429, "You exceeded your quota.", type="insufficient_quota"))
    error = refused(engine(server, key=KEY))
    assert "the account of the key from MY_KEY is empty (429): You exceeded your quota." in error.message
    assert (len(server.requests), is_of_item(error), is_doubtful(error)) == (1, False, False)


def test_a_refused_key_is_trouble_until_the_model_answers(server: FakeServer) -> None:
    server.on(MODELS, models_reply("m")).on(CHAT, error_reply(401, f"Wrong: {SECRET}."), chat_reply("Yes."))

    async def twice(one: RemoteEngine) -> list[str]:
        with pytest.raises(ServerError):
            await collected(one.chat(ASK, Sampling()))
        trouble = one.health.trouble
        assert one.health.down
        await collected(one.chat(ASK, Sampling()))
        return [trouble, one.health.trouble]

    said, later = using(engine(server, key=KEY), twice)
    assert ("401" in said, SECRET in said, later) == (True, False, "")


@pytest.mark.parametrize("before", ["", "sk-first-secret"])
def test_a_key_that_is_set_after_a_401_is_used_in_the_same_process(
    server: FakeServer, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on(MODELS, models_reply("m")).on(CHAT, error_reply(401, "Invalid API key."))
    monkeypatch.setenv(key_variable(server.host), before)

    def asked() -> redraft.Chain:
        return redraft.revise("Hi", model=f"{server.url}#m", max_revisions=0)

    with pytest.raises(ServerError, match="401") as caught:
        asked()
    assert f"export {key_variable(server.host)}=" in str(caught.value.hint)
    monkeypatch.setenv(key_variable(server.host), SECRET)
    server.on(CHAT, chat_reply("It rains."))
    assert asked().answer == "It rains."
    assert server.requests[-1].headers["authorization"] == f"Bearer {SECRET}"


# Tokens that a server does not count


def test_without_counts_they_are_estimated_from_the_texts(server: FakeServer) -> None:
    """Rather too many than too few, so that a limit of money ends a run too early and not too late."""
    said = "A gull is a grey bird. " * 22  # 506 letters, some 130 tokens
    record = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
    pieces = [said[at : at + 9] for at in range(0, len(said), 9)]
    long: list[Message] = [{"role": "user", "content": "word " * 60}]
    for reply in (json_reply(record), chat_reply(*pieces)):
        server.on(CHAT, reply)
        last = using(engine(server), lambda one: collected(one.chat(long, Sampling())))[-1]
        assert last.estimated
        assert last.prompt_tokens is not None
        assert last.completion_tokens is not None
        assert 60 <= last.prompt_tokens <= 120
        assert 130 <= last.completion_tokens <= 200


@pytest.mark.parametrize("name", ["reasoning_content", "refusal"])
def test_thoughts_and_refusals_are_estimated_too(server: FakeServer, name: str) -> None:
    message = {"content": "Yes.", name: "I think of it. " * 40}
    server.on(CHAT, json_reply({"choices": [{"message": message, "finish_reason": "stop"}]}))
    assert (chat(engine(server))[-1].completion_tokens or 0) >= 150


def test_a_token_a_piece_is_counted(server: FakeServer) -> None:
    server.on(CHAT, chat_reply(*["雨"] * 50))
    assert chat(engine(server))[-1].completion_tokens == 50

"""The remote engine against a real HTTP server: what it sends and reads, and what it says of every fault."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
import traceback
from collections.abc import AsyncGenerator, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redraft.config import Key
from redraft.engines.base import Delta, Message, Sampling
from redraft.engines.remote.engine import RemoteEngine
from redraft.engines.retry import Patience
from redraft.errors import ContextError, EngineError, EngineTimeout, RedraftError, ServerError, UsageError
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

T = TypeVar("T")

CHAT, RAW, MODELS = "POST /v1/chat/completions", "POST /v1/completions", "GET /v1/models"
ASK: list[Message] = [{"role": "user", "content": "Hi"}]
QUICK = Patience(connect=2, first_token=5, between_tokens=5, tries=3, backoff=0.01)
SAMPLING = Sampling()
SECRET = "sk-very-secret-0123456789"  # noqa: S105


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def engine(server: FakeServer, model: str = "m", **options: Any) -> RemoteEngine:
    return RemoteEngine(server.url, model, **{"patience": QUICK, **options})


async def collected(deltas: AsyncGenerator[Delta, None]) -> list[Delta]:
    return [delta async for delta in deltas]


async def closing(engine: RemoteEngine, work: Coroutine[Any, Any, T]) -> T:
    try:
        return await work
    finally:
        await engine.aclose()


def chat(engine: RemoteEngine, sampling: Sampling = SAMPLING, stop: tuple[str, ...] = ()) -> list[Delta]:
    return asyncio.run(closing(engine, collected(engine.chat(ASK, sampling, stop))))


def raw(engine: RemoteEngine, prompt: Any = "Once", sampling: Sampling = SAMPLING) -> list[Delta]:
    return asyncio.run(closing(engine, collected(engine.stream(prompt, sampling))))


def text_of(deltas: list[Delta]) -> str:
    return "".join(delta.text for delta in deltas)


def refused(engine: RemoteEngine, error: type[RedraftError] = ServerError) -> RedraftError:
    with pytest.raises(error) as caught:
        chat(engine)
    return caught.value


class TestStreams:
    def test_a_chat(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("Hel"), chat_event("lo"), chat_event("", "stop"),
                                  usage_event(9, 2, 4), DONE))  # fmt: skip
        deltas = chat(engine(server), Sampling(temperature=0.1, max_tokens=30, seed=3), ("END",))
        assert [delta.text for delta in deltas] == ["Hel", "lo", ""]
        assert deltas[-1] == Delta(finish="stop", prompt_tokens=9, cached_tokens=4, completion_tokens=2)
        body = server.requests[0].json
        assert (body["model"], body["messages"]) == ("m", ASK)
        assert (body["temperature"], body["max_tokens"], body["seed"], body["stop"]) == (0.1, 30, 3, ["END"])
        assert "authorization" not in server.requests[0].headers

    def test_raw_text(self, server: FakeServer) -> None:
        server.on(RAW, raw_reply(" upon", " a time"))
        deltas = raw(engine(server))
        assert text_of(deltas) == " upon a time"
        assert deltas[-1] == Delta(finish="stop", prompt_tokens=2, completion_tokens=4, estimated=True)
        assert server.requests[0].json["prompt"] == "Once"

    @pytest.mark.parametrize(
        ("said", "finish"),
        [("stop", "stop"), ("length", "max_tokens"), ("content_filter", "filtered"), ("other", "stop")],
    )
    def test_finish_reasons(self, server: FakeServer, said: str, finish: str) -> None:
        server.on(CHAT, chat_reply("a", finish=said))
        assert chat(engine(server))[-1].finish == finish

    def test_length_before_max_tokens_is_the_end_of_the_context(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), chat_event("", "length"), usage_event(90, 10), DONE))
        assert chat(engine(server), Sampling(max_tokens=50))[-1].finish == "context"
        assert chat(engine(server), Sampling(max_tokens=10))[-1].finish == "max_tokens"

    @pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
    def test_a_length_that_extra_body_asks_for_is_its_limit(self, server: FakeServer, name: str) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), chat_event("", "length"), usage_event(90, 3), DONE))
        assert chat(engine(server), Sampling(extra_body={name: 3}))[-1].finish == "max_tokens"

    def test_the_stop_text_where_the_server_says_it(self, server: FakeServer) -> None:
        server.on(RAW, sse_reply(raw_event("a"), raw_event("", "stop", stop_reason="END"), DONE))
        assert raw(engine(server))[-1].stop_text == "END"

    def test_thoughts_are_not_text(self, server: FakeServer) -> None:
        thought = event({"choices": [{"delta": {"reasoning_content": "Let me think."}}]})
        server.on(CHAT, sse_reply(thought, chat_event("Yes."), chat_event("", "stop"), DONE))
        assert text_of(chat(engine(server))) == "Yes."

    def test_pings_and_crlf(self, server: FakeServer) -> None:
        stream = chat_event("a") + b": ping\n\n" + chat_event("", "stop") + DONE
        server.on(CHAT, sse_reply(stream.replace(b"\n", b"\r\n")))
        assert text_of(chat(engine(server))) == "a"

    def test_a_finish_without_done_is_an_end(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), chat_event("", "stop")))
        assert chat(engine(server))[-1].finish == "stop"

    def test_done_without_a_finish_is_an_end_if_counts_came(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), usage_event(3, 1), DONE))
        assert chat(engine(server))[-1].finish == "stop"

    @pytest.mark.parametrize(
        "pieces",
        [[DONE], [chat_event("a"), DONE], [b": ping - 12:00\r\n\r\n"] * 2, [b": ping\n\n: pi"]],
        ids=["nothing", "a text", "pings", "half a ping"],
    )
    def test_a_stream_that_was_cut_may_be_asked_for_again(
        self, server: FakeServer, pieces: list[bytes]
    ) -> None:
        """llama-cpp-python's server sends `[DONE]` to a stream that it drops for the next request."""
        server.on(CHAT, sse_reply(*pieces))
        error = refused(engine(server))
        assert isinstance(error, ServerError)
        assert error.passing
        assert "broke the stream off" in error.message

    def test_a_server_that_does_not_stream(self, server: FakeServer) -> None:
        whole = {
            "choices": [{"message": {"content": "Hello."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        }
        server.on(CHAT, json_reply(whole))
        deltas = chat(engine(server))
        assert text_of(deltas) == "Hello."
        assert deltas[-1] == Delta(finish="stop", prompt_tokens=3, completion_tokens=2)

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.text(min_size=1), min_size=1, max_size=5), st.randoms(use_true_random=False))
    def test_any_text_survives_any_cut_into_packets(
        self, server: FakeServer, texts: list[str], cuts: random.Random
    ) -> None:
        stream = b"".join(map(chat_event, texts)) + chat_event("", "stop") + DONE
        places = sorted(cuts.sample(range(1, len(stream)), 6))
        pieces = [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]
        server.on(CHAT, sse_reply(*pieces))
        assert text_of(chat(engine(server))) == "".join(texts)

    def test_leaving_a_stream_drops_the_connection(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), 30.0, chat_event("b")))

        async def leave_early(engine: RemoteEngine) -> None:
            deltas = engine.chat(ASK, Sampling())
            assert (await anext(deltas)).text == "a"
            assert not server.dropped.is_set()
            await deltas.aclose()
            assert await asyncio.to_thread(server.dropped.wait, 1)

        leaver = engine(server)
        asyncio.run(closing(leaver, leave_early(leaver)))

    def test_many_streams_at_once(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), 0.3, chat_event("b", "stop"), DONE))

        async def twenty(engine: RemoteEngine) -> list[list[Delta]]:
            return await asyncio.gather(*(collected(engine.chat(ASK, Sampling())) for _ in range(20)))

        many = engine(server)
        started = time.monotonic()
        assert [text_of(deltas) for deltas in asyncio.run(closing(many, twenty(many)))] == ["ab"] * 20
        assert time.monotonic() - started < 20 * 0.3  # one after another would take at least that

    def test_a_proxy_of_the_environment_does_not_see_a_local_server(
        self, server: FakeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        server.on(CHAT, chat_reply("a"))
        assert text_of(chat(engine(server))) == "a"


class TestDialects:
    def test_a_server_without_stream_options(self, server: FakeServer) -> None:
        server.on(CHAT, error_reply(400, "Unrecognized request argument: stream_options"), chat_reply("a"))
        twice = engine(server)

        async def ask_twice() -> None:
            for _ in range(2):
                assert text_of(await collected(twice.chat(ASK, Sampling()))) == "a"

        asyncio.run(closing(twice, ask_twice()))
        assert ["stream_options" in request.json for request in server.requests] == [True, False, False]

    def test_max_completion_tokens(self, server: FakeServer) -> None:
        said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
        server.on(CHAT, error_reply(400, said), chat_reply("a"))
        assert text_of(chat(engine(server))) == "a"
        assert server.requests[1].json["max_completion_tokens"] == 2048

    def test_max_tokens_that_does_not_fit_is_made_to_fit(self, server: FakeServer) -> None:
        said = "maximum context length is 100 tokens and your request has 40 input tokens"
        server.on(CHAT, error_reply(400, said), chat_reply("a", finish="length"))
        assert chat(engine(server))[-1].finish == "context"
        assert server.requests[1].json["max_tokens"] == 60

    def test_a_servers_own_limit_of_max_tokens_is_kept_to_from_then_on(self, server: FakeServer) -> None:
        said = "max_tokens is too large: 50000. This model supports at most 16384 completion tokens"
        server.on(CHAT, error_reply(400, said), chat_reply("a", finish="length"))
        twice = engine(server)

        async def ask_twice() -> list[str | None]:
            return [
                (await collected(twice.chat(ASK, Sampling(max_tokens=most))))[-1].finish
                for most in (50000, 40000)
            ]

        assert asyncio.run(closing(twice, ask_twice())) == ["max_tokens", "max_tokens"]
        assert [request.json["max_tokens"] for request in server.requests] == [50000, 16384, 16384]

    def test_token_ids_of_vllm(self, server: FakeServer) -> None:
        server.on(MODELS, models_reply("m", owned_by="vllm", max_model_len=2048))
        server.on("GET /version", json_reply({"version": "0.11.0"}))
        server.on("POST /tokenize", json_reply({"tokens": [5, 6]}))
        server.on("POST /detokenize", json_reply({"prompt": "ab"}))
        server.on(RAW, sse_reply(raw_event("a", token_ids=[7]), raw_event("", "stop", token_ids=[2]), DONE))

        async def use() -> list[Delta]:
            engine = await RemoteEngine.connect(server.url, patience=QUICK)
            assert engine.info.token_ids
            assert engine.info.context == 2048
            assert await engine.encode("ab", special=True) == (5, 6)
            assert await engine.decode((5, 6)) == "ab"
            return await closing(engine, collected(engine.stream((1, 2), Sampling())))

        deltas = asyncio.run(use())
        assert [delta.tokens for delta in deltas] == [(7,), (2,), ()]
        assert server.asked("POST /tokenize")[0].json["add_special_tokens"] is True
        body = server.asked(RAW)[0].json
        assert (body["prompt"], body["return_token_ids"]) == ([1, 2], True)

    def test_an_older_vllm_has_no_token_ids(self, server: FakeServer) -> None:
        server.on(MODELS, models_reply("m", owned_by="vllm"))
        server.on("GET /version", json_reply({"version": "0.9.2"}))
        assert connected(server).token_ids is False

    def test_token_ids_elsewhere_are_an_error(self, server: FakeServer) -> None:
        with pytest.raises(ServerError, match="does not support token ids; send text"):
            raw(engine(server), (1, 2))
        with pytest.raises(ServerError, match="does not support token ids"):
            asyncio.run(engine(server).encode("a"))

    def test_a_server_without_raw_text_is_asked_once(self, server: FakeServer) -> None:
        only_chats = engine(server)
        assert only_chats.info.continues

        async def ask_twice() -> list[RedraftError]:
            errors = []
            for _ in range(2):
                with pytest.raises(ServerError) as caught:
                    await collected(only_chats.stream("Once", Sampling()))
                errors.append(caught.value)
            return errors

        for error in asyncio.run(closing(only_chats, ask_twice())):
            assert error.message == (
                f"{server.url} has no /completions: it answers chats, but does not continue raw text."
            )
            assert error.hint == "Use --mode prompted, which needs only chats."
        assert len(server.asked(RAW)) == 1
        assert not only_chats.info.continues

    def test_openai_says_it_in_its_own_way(self, server: FakeServer) -> None:
        said = "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use "
        server.on(RAW, error_reply(404, said + "v1/chat/completions?", param="model"))
        with pytest.raises(ServerError, match="does not continue raw text"):
            raw(engine(server))


def connected(server: FakeServer, model: str | None = None, *, key: Key | None = None) -> Any:
    async def connect() -> Any:
        engine = await RemoteEngine.connect(server.url, model, key=key, patience=QUICK)
        await engine.aclose()
        return engine.info

    return asyncio.run(connect())


class TestConnect:
    def test_the_only_model(self, server: FakeServer) -> None:
        server.on(MODELS, models_reply("qwen", meta={"n_ctx": 512}))
        info = connected(server)
        assert (info.name, info.engine, info.context, info.token_ids) == ("qwen", "remote", 512, False)

    def test_one_of_several_must_be_named(self, server: FakeServer) -> None:
        server.on(MODELS, models_reply("a", "b"))
        with pytest.raises(UsageError) as caught:
            connected(server)
        assert caught.value.message == (f"{server.url} has 2 models; name one of them. It has: a, b.")
        assert caught.value.hint == f"--model {server.url}#a"
        assert connected(server, "b").name == "b"

    def test_a_server_without_a_list(self, server: FakeServer) -> None:
        assert connected(server, "any").name == "any"
        with pytest.raises(ServerError) as caught:
            connected(server)
        assert caught.value.message == f"{server.url}/models does not exist (404): Not Found"
        assert caught.value.hint == (
            "Is this the address of an OpenAI-compatible API? It usually ends in /v1."
        )

    def test_a_web_page_at_the_address(self, server: FakeServer) -> None:
        page = Reply(200, {"Content-Type": "text/html"}, [b"<!doctype html><title>A page</title>"])
        server.on(MODELS, page)
        with pytest.raises(ServerError) as caught:
            connected(server, "m")
        assert caught.value.message == (
            f"{server.host} did not answer with JSON: '<!doctype html><title>A page</title>'"
        )


class TestFaults:
    def test_server_down(self) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            error = refused(RemoteEngine(f"http://127.0.0.1:{port}/v1", "m", patience=QUICK))
        assert (
            error.message
            == f"no server answers at http://127.0.0.1:{port}/v1: All connection attempts failed"
        )
        assert error.hint == "Start the server, or correct host and port in --model."
        assert error.exit_status == 3

    def test_a_key_is_asked_for(self, server: FakeServer) -> None:
        server.on(CHAT, error_reply(401, "Missing bearer token."))
        error = refused(engine(server))
        variable = f"REDRAFT_KEY_127_0_0_1_{server.host.split(':')[1]}"
        assert error.message == f"{server.host} asks for a key (401): Missing bearer token."
        assert error.hint is not None
        assert error.hint.startswith(f"export {variable}=…, or under [keys] of ")
        assert error.hint.endswith(f'config.toml: "{server.host}" = "env:NAME"')

    def test_a_key_is_refused(self, server: FakeServer) -> None:
        server.on(CHAT, error_reply(401, "Incorrect API key."))
        error = refused(engine(server, key=Key(SECRET, "MY_KEY")))
        assert error.message == f"{server.host} refuses the key from MY_KEY (401): Incorrect API key."

    @pytest.mark.parametrize("key", [None, Key(SECRET, "MY_KEY")])
    def test_a_key_without_access(self, server: FakeServer, key: Key | None) -> None:
        server.on(CHAT, error_reply(403, "Your plan lacks this model."))
        error = refused(engine(server, key=key))
        whose = "the key from MY_KEY no access" if key else "no access"
        assert error.message == f"{server.host} gives {whose} (403): Your plan lacks this model."

    def test_no_such_model(self, server: FakeServer) -> None:
        server.on(CHAT, error_reply(404, "The model `m` does not exist.", code="model_not_found"))
        server.on(MODELS, models_reply("a", "b"))
        error = refused(engine(server))
        assert error.message == f"{server.url} has no model 'm'. It has: a, b."
        assert error.hint == f"--model {server.url}#a"

    def test_no_such_model_though_it_is_listed(self, server: FakeServer) -> None:
        server.on(
            CHAT, error_reply(404, "The model `m` does not exist or you lack access.", code="model_not_found")
        )
        server.on(MODELS, models_reply("m"))
        assert refused(engine(server)).message == (
            f"{server.host} refuses the request (404): The model `m` does not exist or you lack access."
        )

    def test_another_event_loop(self, server: FakeServer) -> None:
        server.on(CHAT, chat_reply("Hello."), chat_reply("Hello."))
        used = engine(server)
        assert text_of(chat(used)) == "Hello."
        with pytest.raises(EngineError, match="was used in another event loop before") as caught:
            chat(used)
        assert "in one event loop" in str(caught.value.hint)

    def test_no_such_route(self, server: FakeServer) -> None:
        error = refused(engine(server))
        assert error.message == f"{server.url}/chat/completions does not exist (404): Not Found"
        assert error.hint == "Is this the address of an OpenAI-compatible API? It usually ends in /v1."

    def test_too_many_requests(self, server: FakeServer) -> None:
        server.on(CHAT, error_reply(429, "Slow down."))
        error = refused(engine(server))
        assert error.message == f"{server.host} limits requests (429, 3 times): Slow down."
        assert error.hint == ("Wait longer with --patience SECONDS, or send less: --rpm N, or --parallel 1.")
        assert len(server.requests) == 3

    def test_too_many_requests_for_longer_than_we_wait(self, server: FakeServer) -> None:
        server.on(CHAT, error_reply(429, "Quota used up", headers={"Retry-After": "3600"}))
        error = refused(engine(server))
        assert error.message == (
            f"{server.host} limits requests (429): Quota used up. It asks to wait 3600 s."
        )
        assert len(server.requests) == 1

    @pytest.mark.parametrize("status", [500, 502, 503, 504])
    def test_the_server_fails(self, server: FakeServer, status: int) -> None:
        server.on(CHAT, error_reply(status, "Out of memory."))
        error = refused(engine(server))
        assert error.message == f"{server.host} fails ({status}, 3 times): Out of memory."
        assert error.hint == "See the log of the server."

    def test_a_bad_request_is_not_repeated(self, server: FakeServer) -> None:
        server.on(CHAT, error_reply(400, "temperature must be at most 2"))
        error = refused(engine(server))
        assert error.message == f"{server.host} refuses the request (400): temperature must be at most 2"
        assert len(server.requests) == 1

    def test_a_prompt_that_is_too_long(self, server: FakeServer) -> None:
        said = "maximum context length is 100 tokens. However, your messages resulted in 400 tokens."
        server.on(CHAT, error_reply(400, said, code="context_length_exceeded"))
        error = refused(engine(server), ContextError)
        assert error.message == "the prompt has 400 tokens and the context holds 100."
        assert error.hint == "Shorten the prompt, or choose a model with a longer context."

    def test_not_json(self, server: FakeServer) -> None:
        server.on(CHAT, Reply(200, {"Content-Type": "text/html"}, [b"<html>Welcome</html>"]))
        error = refused(engine(server))
        assert error.message == (f"{server.host} did not answer with JSON: '<html>Welcome</html>'")
        assert isinstance(error, ServerError)
        assert not error.passing
        assert "usually ends in /v1" in str(error.hint)

    @pytest.mark.parametrize(
        "garbage",
        [
            Reply(200, {"Content-Type": "text/html"}, [b"<html>Back soon</html>"]),
            Reply(200, {"Content-Type": "application/json"}, [b'{"choices": [']),
            json_reply({"hello": "world"}),
            json_reply({"choices": 3}),
        ],
    )
    def test_a_server_that_worked_before_is_worth_another_try(
        self, server: FakeServer, garbage: Reply
    ) -> None:
        remote = engine(server)

        async def twice() -> EngineError:
            assert text_of(await collected(remote.chat(ASK, SAMPLING))) == "Hello"
            with pytest.raises(EngineError) as caught:
                await collected(remote.chat(ASK, SAMPLING))
            return caught.value

        server.on(CHAT, chat_reply("Hello"), garbage)
        error = asyncio.run(closing(remote, twice()))
        assert error.passing
        assert (
            error.hint == "It may pass: try again. If it does not, see the log of the server, or of a proxy."
        )

    def test_not_json_inside_of_a_stream(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), b"data: {oops}\n\n", DONE))
        error = refused(engine(server))
        assert error.message == f"{server.host} did not answer with JSON: '{{oops}}'"
        assert isinstance(error, ServerError)
        assert error.passing
        assert "try again" in str(error.hint)

    def test_json_that_is_something_else(self, server: FakeServer) -> None:
        server.on(CHAT, json_reply({"hello": "world"}))
        error = refused(engine(server))
        assert error.message == (
            f"{server.host} answered with JSON that is not of the OpenAI protocol: {{'hello': 'world'}}"
        )

    @pytest.mark.parametrize("cut", [True, False])
    def test_a_stream_cut_in_the_middle(self, server: FakeServer, cut: bool) -> None:
        server.on(CHAT, sse_reply(chat_event("Hello"), b'data: {"choices": [{"del', cut=cut))
        error = refused(engine(server))
        assert error.message == f"{server.host} broke the stream off after 5 characters."
        assert error.hint == "The server may have been stopped, or out of memory: see its log."
        assert len(server.requests) == 1  # what was shown is not generated again

    @pytest.mark.parametrize("finish", ["error", "abort"])
    def test_a_finish_that_is_none(self, server: FakeServer, finish: str) -> None:
        server.on(CHAT, chat_reply("Hello", finish=finish))
        error = refused(engine(server))
        assert isinstance(error, ServerError)
        assert error.message == f"{server.host} gave the answer up after 5 characters."
        assert error.hint == "The server may have been stopped, or out of memory: see its log."

    def test_an_error_inside_of_a_stream(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), event({"error": {"message": "CUDA error"}})))
        error = refused(engine(server))
        assert error.message == f"{server.host} failed while it answered: CUDA error"

    def test_a_redirect_is_not_followed(self, server: FakeServer) -> None:
        with FakeServer() as other:
            server.on(CHAT, Reply(307, {"Location": f"{other.url}/chat/completions"}))
            error = refused(engine(server, key=Key(SECRET, "MY_KEY")))
            assert error.message == (
                f"{server.url} redirects (307) to {other.url}/chat/completions."
                " redraft does not follow redirects."
            )
            assert other.requests == []


class TestTimeouts:
    def test_no_headers(self, server: FakeServer) -> None:
        with socket.create_server(("127.0.0.1", 0)) as deaf:
            url = f"http://127.0.0.1:{deaf.getsockname()[1]}/v1"
            patience = Patience(first_token=0.2)
            error = refused(RemoteEngine(url, "m", patience=patience), EngineTimeout)
        assert error.message == f"{url[7:-3]} sent nothing within 0.2 s."

    def test_no_first_token_though_it_pings(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(*[b": ping\n\n", 0.1] * 20))
        error = refused(engine(server, patience=Patience(first_token=0.3)), EngineTimeout)
        assert error.message == f"{server.host} sent no first token within 0.3 s."
        assert server.dropped.wait(1)

    def test_a_stall_between_tokens(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("Hello"), 20.0, chat_event("!")))
        error = refused(engine(server, patience=Patience(between_tokens=0.2)), EngineTimeout)
        assert error.message == f"{server.host} sent no token for 0.2 s, after 5 characters."
        assert error.exit_status == 3

    def test_records_without_tokens_do_not_hide_a_stall(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("Hello"), *[event({"choices": []}), 0.1] * 20))
        error = refused(engine(server, patience=Patience(between_tokens=0.3)), EngineTimeout)
        assert error.message == f"{server.host} sent no token for 0.3 s, after 5 characters."

    def test_thoughts_count_as_tokens(self, server: FakeServer) -> None:
        thought = event({"choices": [{"delta": {"reasoning_content": "Hm."}}]})
        server.on(CHAT, sse_reply(*[thought, 0.15] * 4, chat_event("a", "stop"), DONE))
        assert text_of(chat(engine(server, patience=Patience(first_token=0.4, between_tokens=0.4)))) == "a"

    def test_a_slow_reader_is_no_stall(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a"), 0.05, chat_event("b", "stop"), DONE))

        async def read_slowly(engine: RemoteEngine) -> str:
            text = ""
            async for delta in engine.chat(ASK, Sampling()):
                text += delta.text
                await asyncio.sleep(0.4)
            return text

        slow = engine(server, patience=Patience(between_tokens=0.2))
        assert asyncio.run(closing(slow, read_slowly(slow))) == "ab"

    def test_counts_that_never_come_are_not_waited_for_long(self, server: FakeServer) -> None:
        server.on(CHAT, sse_reply(chat_event("a", "stop"), DONE, 30.0))
        assert chat(engine(server))[-1].finish == "stop"


class TestRetries:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_server_that_recovers(self, server: FakeServer, status: int) -> None:
        server.on(CHAT, error_reply(status, "Later."), chat_reply("a"))
        assert text_of(chat(engine(server))) == "a"

    @pytest.mark.parametrize("as_date", [False, True])
    def test_retry_after_is_waited_for(self, server: FakeServer, as_date: bool) -> None:
        # A date has whole seconds: the second after next is between one and two seconds away.
        date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
        server.on(
            CHAT, error_reply(429, "", headers={"Retry-After": date if as_date else "1"}), chat_reply("a")
        )
        started = time.monotonic()
        assert text_of(chat(engine(server))) == "a"
        assert time.monotonic() - started > 0.9

    @pytest.mark.parametrize("value", ["soon", f"Mon, 01 Jan {10**20} 00:00:00 GMT"])
    def test_an_unreadable_retry_after_is_none(self, server: FakeServer, value: str) -> None:
        server.on(CHAT, error_reply(429, "", headers={"Retry-After": value}), chat_reply("a"))
        assert text_of(chat(engine(server))) == "a"

    def test_a_connection_that_is_closed_when_it_is_used_again(self, server: FakeServer) -> None:
        server.on(MODELS, models_reply("m")).on(CHAT, Reply(0), chat_reply("a"))

        async def use() -> str:
            engine = await RemoteEngine.connect(server.url, patience=QUICK)
            return text_of(await closing(engine, collected(engine.chat(ASK, Sampling()))))

        assert asyncio.run(use()) == "a"

    def test_a_server_that_never_answered_is_not_asked_again(self, server: FakeServer) -> None:
        server.on(CHAT, Reply(0))
        error = refused(engine(server))
        assert error.message == (
            f"no server answers at {server.url}: Server disconnected without sending a response."
        )
        assert len(server.requests) == 1


class TestKeys:
    def test_it_is_sent(self, server: FakeServer) -> None:
        server.on(CHAT, chat_reply("a"))
        chat(engine(server, key=Key(SECRET, "MY_KEY")))
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"

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
    def test_it_shows_nowhere(
        self, server: FakeServer, reply: Reply, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        server.on(CHAT, reply)
        secretive = engine(server, key=Key(SECRET, "MY_KEY"))
        error = refused(secretive)
        whole = traceback.TracebackException.from_exception(error, capture_locals=True)
        frames = [line for line in whole.format() if "redraft" in line and "test_remote.py" not in line]
        if reply.status == 200:  # there, locals hold the reply itself, which names the key here
            frames = traceback.format_exception(error)
        assert frames
        assert caplog.text
        for text in [str(error), repr(error), repr(secretive), repr(secretive._server), caplog.text, *frames]:
            assert SECRET not in text

    def test_a_short_key_is_a_word_like_others(self, server: FakeServer) -> None:
        server.on(CHAT, chat_reply("The glass is EMPTY."))
        assert text_of(chat(engine(server, key=Key("EMPTY", "MY_KEY")))) == "The glass is EMPTY."

    def test_not_unencrypted_to_another_machine(self) -> None:
        key = Key(SECRET, "MY_KEY")
        with pytest.raises(UsageError) as caught:
            RemoteEngine("http://gpu.example:8000/v1", "m", key=key)
        assert caught.value.message == ("the key from MY_KEY would travel to gpu.example:8000 unencrypted.")
        assert caught.value.hint is not None
        assert '"gpu.example:8000" = { key = "env:NAME", plain_http = true }' in caught.value.hint
        told = Key(SECRET, "MY_KEY", plain_http=True)
        for url, allowed in [
            ("http://gpu.example:8000/v1", told),
            ("https://gpu.example/v1", key),
            ("http://localhost:1/v1", key),
            ("http://127.0.0.2:1/v1", key),
            ("http://[::1]:1/v1", key),
        ]:
            RemoteEngine(url, "m", key=allowed)

    @pytest.mark.parametrize("value", ["two words", "line\nbreak", "schlüssel"])
    def test_what_no_key_is(self, value: str) -> None:
        with pytest.raises(UsageError, match="the key from MY_KEY has a space") as caught:
            RemoteEngine("http://localhost:1/v1", "m", key=Key(value, "MY_KEY"))
        assert value not in str(caught.value)

    def test_a_password_in_the_address(self) -> None:
        with pytest.raises(UsageError, match="holds a name or password") as caught:
            RemoteEngine(f"https://me:{SECRET}@host/v1", "m")
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["http://", "http://:80/v1", "http://a b/v1", "http://host:port/v1"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="is not the address of a server"):
        RemoteEngine(url, "m")

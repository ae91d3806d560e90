"""Requests that are wrong, and how the server says so. None may be answered with 500."""

from __future__ import annotations

import json
import re
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redraft.checks import pattern
from redraft.checks.kinds import check_kinds
from redraft.engines.base import Price
from redraft.engines.scripted import ScriptedEngine
from redraft.revision.options import check_options
from redraft.serve import errors, reader
from redraft.serve.bodies import Checked
from redraft.serve.completions import CompletionRequest
from redraft.serve.errors import Refusal
from redraft.serve.models import Model, Models
from redraft.serve.reader import ServerLimits, object_of
from redraft.serve.requests import Accepted, ChatRequest, Revision
from redraft.serve.responses import ResponseRequest
from tests.serve.running import HI, SHORT, Server, both, plain, served
from tests.serve.test_gate import Held
from tests.serve.test_refusals import refused, schema_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=8), part, max_size=3),
    max_leaves=8,
)


def parts_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return sum(map(parts_of, inner)) + (
        1 + len(value) if isinstance(value, dict) else int(isinstance(value, list))
    )


@pytest.mark.parametrize("priced", [{"price": "1,1"}, {"price": Price(1, 1)}, {"engine": Price(1, 1)}])
def test_money_is_a_budget_where_the_model_has_a_price(priced: dict[str, Any]) -> None:
    one = ScriptedEngine([SHORT, "Shorten it.", "Rain is water."], price=priced.pop("engine", None))
    with served({"plain": {"model": one, **priced}}) as running:
        reply = running.post({"revision": {"budget": {"usd": 0.000001}, "max": 1}, "redraft": True})
    assert reply.json()["redraft"]["stop"] == "budget"


def test_a_budget_of_money_without_a_price_is_told_to_a_client(server: Server) -> None:
    message = refused(server.post({"revision": {"budget": {"usd": 0.01}}}))["message"]
    assert "'plain'" in message
    assert "revision.budget.tokens" in message
    assert not any(word in message for word in ("--price", "Price(", "config", "default"))


def test_what_asks_for_nothing_is_allowed(server: Server) -> None:
    body = {"logprobs": False, "presence_penalty": 0, "logit_bias": {}, "user": "ann", "metadata": {"a": "b"}}
    nothing: dict[str, Any] = dict.fromkeys(ChatRequest.model_fields.keys() - {"model", "messages"})
    assert server.post({"stream_options": {"include_usage": None}}).status_code == 200
    assert server.post({**nothing, **body}).status_code == 200


def test_an_unknown_model_is_the_sdks_own_error(server: Server) -> None:
    with server.client() as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="plian", messages=[{"role": "user", "content": "Hi."}])
    assert caught.value.code == "model_not_found"
    assert "Did you mean 'plain'?" in str(caught.value)


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
CHAT = b'{"model": "plain", "messages": [{"role": "user", "content": "Hi."}]'


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"text"', CHAT, CHAT + b', "temperature": NaN}',
        CHAT + b', "metadata": {"a": -Infinity}}', CHAT + b', "seed": ' + b"9" * 5000 + b"}",
        b'{"model": "\xff"}', b"\xff\xfe{\x00}\x00", CHAT.replace(b"Hi", rb"\ud800") + b"}",
        CHAT + b', "metadata": {"\\udfff": 1}}', CHAT + b', "n": 1, "n": 2}', CHAT + b', "model": "short"}',
        CHAT + b', "metadata": {"a": 1, "a": 1}}',
        b"{" + b",".join(b'"a%d": 0, "a%d": 0' % (n, n) for n in range(9000)) + b"}", b"[" * 60_000,
        b'{"metadata":' * 30_000 + b"1" + b"}" * 30_000,
    ],
    ids=lambda body: repr(body[:60]),
)  # fmt: skip
def test_a_body_that_is_no_json_object(server: Server, body: bytes) -> None:
    reply = server.post(body)
    assert (reply.status_code, refused(reply)["code"]) == (400, "invalid_json")
    told = {b"null": "the body is null, ", b"": "the body is empty."}.get(body, "the body ")
    assert refused(reply)["message"].startswith(told)


@pytest.mark.parametrize("depth", [50, 400, 900, 5000])
@pytest.mark.parametrize("place", ["content", "schema", "metadata", "tools"])
def test_deep_json_is_answered_or_refused(server: Server, depth: int, place: str) -> None:
    text = '{"items":' * depth + "1" + "}" * depth
    where = {
        "content": f'"messages": [{{"role": "user", "content": [{text}]}}]',
        "schema": f'"response_format": {{"type": "json_schema", "json_schema": {{"schema": {text}}}}}',
        "metadata": f'"metadata": {text}',
        "tools": f'"tools": [{text}]',
    }[place]
    lacking = "" if place == "content" else '"messages": [{"role": "user", "content": "Hi."}], '
    assert server.post(f'{{"model": "plain", {lacking}{where}}}'.encode()).status_code in (200, 400)


@pytest.mark.parametrize(
    "sent",
    [
        b"Content-Length: 10485760\r\n\r\n" + b"x" * (1 << 20) + b"x",
        b"Transfer-Encoding: chunked\r\n\r\n" + (b"10001\r\n" + b"x" * 65_537 + b"\r\n") * 16,
    ],
    ids=["length", "chunks"],
)
def test_a_large_body_is_refused_before_it_is_read(server: Server, sent: bytes) -> None:
    reply = server.reply_to(HEAD + sent)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body_too_large"' in reply
    assert b"\r\nconnection: close\r\n" in reply


TURNS = [{"role": role, "content": "x"} for _ in range(5000) for role in ("user", "assistant")]
CODE = '{"a": [1, 2, "\\\\", "\\""]}:' * 20_000


@pytest.mark.parametrize(
    "body",
    [
        CHAT.replace(b"Hi", rb"\ud83c\udf33") + b"}",
        {"messages": [*TURNS, *HI]},
        {"messages": [{"role": "user", "content": CODE}]},
    ],
    ids=["a pair of surrogates is a character", "many messages", "brackets in a text are no lists"],
)
def test_what_only_looks_wrong_is_answered(server: Server, body: Any) -> None:
    assert server.post(body).status_code == 200


UNKNOWN = {"audio": 1, **dict.fromkeys(map("f{}".format, range(50_000)))}


@pytest.mark.parametrize(
    ("body", "param"), [(UNKNOWN, "f0"), ({"revision": UNKNOWN}, "revision.f0"), ({"audio": 1}, "audio")]
)
def test_of_many_unknown_fields_the_first_is_told_without_memory_for_each(body: Any, param: str) -> None:
    tracemalloc.start()
    with pytest.raises(Refusal) as raised:
        accepted({"model": "plain", "messages": HI, **body})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert raised.value.param == param
    assert peak < 4 * 10**6


@pytest.mark.parametrize(("size", "threaded"), [(10, False), (reader.LIGHT, True)])
def test_a_large_body_is_read_in_a_thread(
    server: Server, monkeypatch: pytest.MonkeyPatch, size: int, threaded: bool
) -> None:
    found = []

    def read(body: bytes) -> dict[str, Any]:
        found.append(threading.current_thread().name == "redraft-work")
        return object_of(body)

    monkeypatch.setattr(reader, "object_of", read)
    assert refused(server.post({"a" * size: 1}))["code"] == "unknown_field"
    assert found == [threaded]


MANY = reader.PARTS // 3


@pytest.mark.parametrize(
    "part",
    [
        {"messages": [{"role": "user", "content": "x"}] * (MANY + 1)},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * (MANY + 1)}]},
        {"tools": [{"type": "function", "function": {"name": "a"}}] * MANY},
        {"metadata": [[]] * (3 * MANY)},
        {"metadata": dict.fromkeys(map(str, range(3 * MANY)))},
        {"input": [1] * (reader.VALUES + 1)},
    ],
    ids=["messages", "parts", "tools", "lists", "names", "token ids"],
)
def test_a_body_of_too_many_parts_is_never_parsed(part: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json, "loads", None)
    said = r"(lists, objects and names|values), but this server allows (65,536|2,097,152)"
    with pytest.raises(Refusal, match=said) as refused:
        object_of(json.dumps({"model": "plain", **part}).encode())
    assert (refused.value.code, refused.value.status) == ("too_many_parts", 400)


@given(JSON, st.booleans())
def test_parts_are_counted_without_parsing(value: Any, ascii_only: bool) -> None:
    assert reader.counted(json.dumps(value, ensure_ascii=ascii_only).encode(), b"[{:", -1) == parts_of(value)


def test_bodies_of_more_bytes_than_there_is_room_for_are_refused_until_some_are_answered() -> None:
    body = {"messages": [{"role": "user", "content": "x" * 100_000}]}
    engine = Held(SHORT)
    with (
        served({"plain": plain(engine)}, limits=ServerLimits(held=150_000)) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(server.post, body)
        assert engine.begun.acquire(timeout=30)
        refusal = server.post(body)
        small = pool.submit(server.post)
        engine.go.set()
        assert [first.result(30).status_code, small.result(30).status_code] == [200, 200]
        assert server.post(body).status_code == 200
    assert (refusal.status_code, refused(refusal)["code"]) == (429, "queue_full")
    assert refusal.headers["Retry-After"]


def test_large_bodies_are_parsed_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    now, most = [0], [0]
    entered = threading.Semaphore(0)

    def read(body: bytes) -> dict[str, Any]:
        now[0] += 1
        most[0] = max(most[0], now[0])
        entered.acquire(timeout=0.05)
        now[0] -= 1
        return object_of(body)

    monkeypatch.setattr(reader, "object_of", read)
    body = {"messages": [{"role": "user", "content": "x" * (reader.LARGE + 1)}]}
    with served(both("Fine.")) as server, ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(server.post, [body] * 3))
    assert [reply.status_code for reply in replies] == [200] * 3
    assert most == [1]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type_is_refused(server: Server, kind: str) -> None:
    reply = server.post(CHAT + b"}", headers={"Content-Type": kind})
    assert (reply.status_code, refused(reply)["code"]) == (415, "unsupported_media_type")


def test_a_slow_body_is_refused_and_its_connection_closed() -> None:
    with served(limits=ServerLimits(body_seconds=0.05)) as server:
        reply = server.reply_to(HEAD + b"Content-Length: 100\r\n\r\n{")
    assert reply.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_too_slow"' in reply
    assert b"\r\nconnection: close\r\n" in reply


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/v1/chat/completions", 405), ("POST", "/v1/nothing", 404)],
)
def test_other_paths_have_errors_of_one_shape(server: Server, method: str, path: str, status: int) -> None:
    reply = httpx.request(method, server.root + path)
    assert reply.status_code == status
    assert ("Use POST." in refused(reply)["message"]) == (status == 405)
    assert refused(reply)["type"] == "invalid_request_error"


def test_every_field_and_code_is_told() -> None:
    page = (Path(__file__).parents[2] / "docs" / "serve.md").read_text("utf-8")
    kinds = (ChatRequest, CompletionRequest, ResponseRequest, Revision)
    fields = {
        name
        for kind in kinds
        for name, field in kind.model_fields.items()
        if not any(isinstance(each, Checked) and "enum" in each.schema for each in field.metadata)
    }
    source = "".join(path.read_text("utf-8") for path in Path(errors.__file__).parent.glob("*.py"))
    codes = set(re.findall(r'(?:Refusal\([^"]+|code=|code: str = |unavailable\()"([a-z_]+)"', source))
    assert {"invalid_value", "not_found", "engine_busy", "draining"} <= codes
    assert fields | codes <= set(re.findall(r"`([a-z_]+)[`.]", page))


# Checks and schemas of strangers


DOUBLING = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(60)} | {"a60": {}}
ANCHORS = {f"a{n}": {"$anchor": f"a{n}", "$ref": f"#a{n}"} for n in range(900)}
COSTLY = "matches:(a|b){{19000}}{}"


@pytest.mark.parametrize(
    "body",
    [
        schema_of({"$ref": "#/$defs/a0", "$defs": DOUBLING}),
        schema_of({"$defs": ANCHORS}),
        schema_of({"properties": {f"a{n}": {"pattern": f"(a|b){{19000}}{n}"} for n in range(900)}}),
        schema_of({"patternProperties": {f"(a|b){{19000}}{n}": {} for n in range(900)}}),
        {"revision": {"checks": [COSTLY.format(n) for n in range(32)]}},
        {"revision": {"checks": [f"any({'; '.join(COSTLY.format(n) for n in range(99))})"]}},
    ],
    ids=["references that double", "anchors", "patterns", "patterns of names", "checks", "checks of a group"],
)
def test_what_would_take_minutes_to_read_is_refused(body: Any) -> None:
    with served(both("Fine."), limits=ServerLimits(reading=0.05)) as server:
        error = refused(server.post(body))
    assert error["param"] == (
        "revision.checks" if "revision" in body else "response_format.json_schema.schema"
    )
    assert "took longer than 0.05 s" in error["message"]


def test_a_schema_that_is_too_large_is_refused(server: Server) -> None:
    error = refused(server.post(schema_of({"description": "x" * 65_537})))
    assert "this server allows 65,536 characters" in error["message"]
    assert error["param"] == "response_format.json_schema.schema"


def test_many_items_that_differ_are_compared_in_linear_time(server: Server) -> None:
    error = refused(server.post(schema_of({"required": [{"a": n} for n in range(2000)]})))
    assert "is not of type 'string'" in error["message"]


BACKTRACKING = "^(a|a)+$"


@pytest.mark.parametrize(
    "body",
    [
        {"revision": {"max": 0, "checks": [f"matches:{BACKTRACKING}"]}},
        schema_of({"additionalProperties": {"pattern": BACKTRACKING}}),
        schema_of({"patternProperties": {BACKTRACKING: False}}),
    ],
)
def test_a_backtracking_pattern_ends_a_request(body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "REGEX_SECONDS", 0.05)
    answer = "a" * 40 + "!"
    with served(both(answer if "revision" in body else json.dumps({answer: answer}))) as server:
        reply = server.post(body)
    assert (reply.status_code, refused(reply)["code"]) == (422, "check_failed")


@pytest.mark.parametrize("kind", sorted({*check_kinds()} - {*check_kinds("anyone")}))
@pytest.mark.parametrize("form", ["{}", "any(words<=5; {})", "all(any({}))", " {}"])
def test_checks_that_run_something_are_refused(server: Server, kind: str, form: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    argument = {"command": f"touch {made}", "python": "tests.serve.never.imported"}.get(kind, "/etc/passwd")
    error = refused(server.post({"revision": {"checks": [form.format(f"{kind}:{argument}")]}}))
    assert f"the check {kind!r} cannot be used in a request, whose checks may not" in error["message"]
    assert error["param"] == "revision.checks"
    assert not made.exists()


def test_an_unknown_check_is_answered_with_those_that_are_taken(server: Server) -> None:
    message = refused(server.post({"revision": {"checks": ["any(word<=5)"]}}))["message"]
    assert "Did you mean 'words'? All checks: GET /v1/checks" in message
    assert "send response_format" in refused(server.post({"revision": {"checks": ["json:a"]}}))["message"]
    assert not ({*check_kinds()} - {*check_kinds("anyone")}) & {*re.split(r"[ :,]", message)}
    message = refused(server.post({"revision": {"checks": ["rewards:x"]}}))["message"]
    assert "reward'" not in message


def test_every_kind_of_check_was_decided_on() -> None:
    of_data = {"json-schema", "language", "ifeval", "reward"}
    assert {*check_kinds("data")} - {*check_kinds("anyone")} == of_data
    assert {*check_kinds()} - {*check_kinds("data")} == {"python", "command", "judge"}


def test_checks_that_compute_are_taken(server: Server) -> None:
    checks = ["words<=5", "contains:fine", "any(json; matches:^F)", "lacks:no", "number=3"]
    chain = server.post({"revision": {"max": 0, "checks": checks}, "redraft": True}).json()["redraft"]
    assert [check["passed"] for check in chain["steps"][0]["feedback"]["checks"]] == [True] * 4 + [False]


def test_a_format_holds_the_model_where_its_checks_do_not_steer() -> None:
    asked = {"model": "plain", "messages": HI, "revision": {"checks": ["json"]}}
    assert not accepted(asked, steer=False).options.steer
    assert accepted({**asked, "response_format": {"type": "json_object"}}, steer=False).options.steer


def accepted(body: dict[str, Any], **own: Any) -> Accepted:
    models = Models()
    models.offer([Model("plain", check_options({**plain(ScriptedEngine(["x"])), **own}))])
    return ChatRequest.of(body).accept(models, ServerLimits())


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from([*ChatRequest.model_fields]) | st.text(max_size=8), JSON, max_size=4))
def test_any_body_is_a_request_or_a_refusal(body: dict[str, Any]) -> None:
    whole = {"model": "plain", "messages": HI, **body}
    try:
        answers = len(accepted(object_of(json.dumps(whole).encode())).inputs)
    except Refusal as refusal:
        answers = {400: 1, 404: 1}[refusal.status]
    assert 1 <= answers <= 8


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_refusal(body: bytes) -> None:
    with suppress(Refusal):
        assert isinstance(object_of(body), dict)

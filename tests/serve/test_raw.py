"""Bytes that no client library sends, and bodies that are wrong on every route."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.serve.running import Server, both, served
from tests.serve.test_requests import refused

ROUTES = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi."}]},
    "/v1/completions": {"prompt": "Hi."},
    "/v1/responses": {"input": "Hi."},
}
EACH = pytest.mark.parametrize("path", ROUTES)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(both("Fine.")) as running:
        yield running


def send(server: Server, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps({"model": "plain", **ROUTES[path], **body})
    headers = {"Content-Type": "application/json"}
    return httpx.post(server.root + path, content=content, headers=headers, timeout=30)


@EACH
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff\xfe",
        b'{"model": "plain", "temperature": NaN}',
        b'{"model": "plain", "temperature": -Infinity}',
        b'{"model": "plain", "temperature": 1e999}',
        b'{"model": "plain", "response_format": {"schema": {"maximum": -1e999}}}',
        b'{"model": "plain", "model": "short"}',
        b'{"model": "\\ud800"}',
        b"[" * 100_000,
        b'{"model":' * 50_000 + b"1" + b"}" * 50_000,
    ],
    ids=lambda body: repr(body[:40]),
)
def test_no_route_takes_what_is_no_json_object(server: Server, path: str, body: bytes) -> None:
    reply = send(server, path, body)
    assert (reply.status_code, refused(reply)["code"]) == (400, "invalid_json")


@EACH
@pytest.mark.parametrize("number", ["1e308", "-5", "1" + "0" * 400])
def test_numbers_that_are_too_large_are_named_on_every_route(server: Server, path: str, number: str) -> None:
    whole = json.dumps({"model": "plain", **ROUTES[path]})
    reply = send(server, path, f'{whole[:-1]}, "temperature": {number}}}'.encode())
    assert (reply.status_code, refused(reply)["param"]) == (400, "temperature")


@EACH
def test_a_prompt_of_ten_megabytes_is_too_large_on_every_route(server: Server, path: str) -> None:
    text = "x" * (10 << 20)
    try:
        reply = send(server, path, {"messages": [{"role": "user", "content": text}], "prompt": text})
    except httpx.TransportError:  # the connection may be closed while the rest of the body is sent
        return
    assert (reply.status_code, refused(reply)["code"]) == (413, "body_too_large")


@EACH
@pytest.mark.parametrize(
    "name",
    ["default", "script:/etc/passwd", "/etc/passwd", "../plain", "http://127.0.0.1:1/v1#x", "plain#x", ""],
)
def test_a_model_is_a_name_and_never_a_file_or_an_address(server: Server, path: str, name: str) -> None:
    reply = send(server, path, {"model": name})
    assert (reply.status_code, refused(reply)["code"]) == (404, "model_not_found")


@EACH
def test_ten_thousand_messages_or_prompts_are_answered_or_refused(server: Server, path: str) -> None:
    turns = [{"role": "user", "content": "x"}] * 10_000
    body = {"messages": turns, "input": turns, "prompt": ["x"] * 10_000}
    (field,) = ROUTES[path]
    assert send(server, path, {field: body[field]}).status_code == (400 if field == "prompt" else 200)


@EACH
def test_deep_input_is_refused(server: Server, path: str) -> None:
    (field,) = ROUTES[path]
    deep = "[" * 900 + "1" + "]" * 900
    reply = send(server, path, f'{{"model": "plain", "{field}": {deep}}}'.encode())
    assert (reply.status_code, refused(reply)["type"]) == (400, "invalid_request_error")


HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
        b"\x00" * 1000 + b"\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_what_is_no_http_is_refused_without_a_line_in_the_log(
    server: Server, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with server.connection() as connection:
        try:
            connection.sendall(data)
            reply = connection.makefile("rb").read()
        except ConnectionError:
            reply = b""
    assert not reply or reply.split()[1].startswith(b"4")
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_an_upgrade_is_ignored_without_a_line_in_the_log(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    for protocol in (b"websocket", b"h2c"):
        upgrade = b"Connection: Upgrade, close\r\nUpgrade: %s\r\n\r\n" % protocol
        with server.connection() as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\n" + HOST + upgrade)
            assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
    assert not caplog.records


def test_a_body_that_comes_byte_by_byte_is_read(server: Server) -> None:
    body = json.dumps({"model": "plain", **ROUTES["/v1/completions"]}).encode()
    head = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Connection: close\r\n"
    with server.connection() as connection:
        for byte in head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body:
            connection.sendall(bytes([byte]))
        assert connection.makefile("rb").read().startswith(b"HTTP/1.1 200 ")


def test_many_requests_in_one_packet_are_answered_one_after_the_other(server: Server) -> None:
    one = b"GET /health HTTP/1.1\r\n" + HOST + b"\r\n"
    with server.connection() as connection:
        connection.sendall(one * 200)
        connection.shutdown(1)
        reply = connection.makefile("rb").read()
    assert reply.count(b'{"status":"ok"}') == 200


def test_a_request_behind_a_refused_one_is_not_answered(server: Server) -> None:
    """A refused body was not read, so that what follows could be part of it."""
    head = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\n"
    with server.connection() as connection:
        connection.sendall(head + b"Content-Length: 3\r\n\r\nabcGET /health HTTP/1.1\r\n" + HOST + b"\r\n")
        connection.shutdown(1)
        reply = connection.makefile("rb").read()
    assert reply.startswith(b"HTTP/1.1 415 ")
    assert b'"status":"ok"' not in reply

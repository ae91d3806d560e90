"""Bytes that no client library sends."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from tests.serve.running import Server, both, served


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(both("Fine.")) as running:
        yield running


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
    body = json.dumps({"model": "plain", "prompt": "Hi."}).encode()
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

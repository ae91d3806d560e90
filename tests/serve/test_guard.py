"""Who may ask: each line under "Security" that is about requests and not their fields."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import httpx
import openai
import pytest

from redraft.engines.scripted import ScriptedReply
from redraft.errors import UsageError
from redraft.serve import run
from redraft.serve.guard import OPEN
from redraft.serve.keys import Keys
from redraft.serve.run import listen
from tests.serve.running import HI, Server, both, served

KEY, OTHER = "the-first-key-of-two", "the-second-key-of-two"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    path = tmp_path_factory.mktemp("keys") / "keys.txt"
    path.write_text(f"# of Ann\n{KEY}\n\nsha256:{hashlib.sha256(OTHER.encode()).hexdigest()}\n")
    return Keys.read(path)


@pytest.fixture(scope="module")
def guarded(keys: Keys) -> Iterator[Server]:
    with served(both("Fine."), keys=keys) as running:
        yield running


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])  # noqa: S104
def test_other_machines_need_keys(host: str) -> None:
    with pytest.raises(UsageError, match="there are no keys"):
        listen(host, 0, None)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_this_machine_needs_none(host: str) -> None:
    with listen(host, 0, None) as sock:
        assert sock.getsockname()[0].startswith("127.")


def test_accepted_connections_send_small_pieces_at_once() -> None:
    with listen("127.0.0.1", 0, None) as sock:
        assert sock.proto == socket.IPPROTO_TCP


def test_with_keys_any_address_is_listened_to(keys: Keys) -> None:
    with listen("0.0.0.0", 0, keys) as sock:  # noqa: S104
        assert sock.getsockname()[0] == "0.0.0.0"  # noqa: S104


def test_a_port_that_is_taken_is_an_error() -> None:
    with listen("127.0.0.1", 0, None) as sock, pytest.raises(UsageError, match="cannot listen"):
        listen("127.0.0.1", sock.getsockname()[1], None)


ROUTES = [
    ("GET", "/v1/models"), ("GET", "/v1/checks"), ("GET", "/v1/models/plain"), ("GET", "/openapi.json"),
    ("GET", "/metrics"), ("POST", "/v1/chat/completions"), ("POST", "/v1/completions"),
    ("POST", "/v1/responses"), ("POST", "/v1/embeddings"), ("GET", "/nothing"), ("GET", "/health/"),
    ("GET", "//health"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("given", [{}, {"Authorization": "Bearer x"}, {"Authorization": KEY}])
def test_every_route_needs_a_key(guarded: Server, method: str, path: str, given: dict[str, str]) -> None:
    reply = httpx.request(method, guarded.root + path, headers=given)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (401, "invalid_api_key")
    assert error["type"] == "authentication_error"
    said = "Incorrect API key provided" if given else "You didn't provide an API key"
    assert said in error["message"]  # OpenAI's words, which litellm reads
    assert ("Send: Authorization: Bearer KEY" in error["message"]) == (given != {"Authorization": "Bearer x"})


@pytest.mark.parametrize("name", ["api-key", "x-api-key"])
def test_a_key_may_come_as_the_clients_of_azure_and_anthropic_send_it(guarded: Server, name: str) -> None:
    assert guarded.post(headers={name: KEY}).status_code == 200
    assert guarded.post(headers={name: "x"}).status_code == 401
    other = httpx.post(f"{guarded.url}/messages", json={}, headers={name: KEY})
    assert "is not served here. Use /v1/chat/completions or /v1/responses." in other.text


@pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/health/", "/openapi.json"])
def test_head_is_get_without_a_body(server: Server, path: str) -> None:
    reply = server.reply_to(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert reply.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/v1/models/", "/v1/chat/completions/", "/health/"])
def test_a_slash_at_the_end_is_no_redirect(server: Server, path: str) -> None:
    body = {"model": "plain", "messages": HI} if "chat" in path else None
    assert httpx.request("POST" if body else "GET", server.root + path, json=body).status_code == 200


def test_the_list_of_routes_is_whole(server: Server) -> None:
    document = httpx.get(f"{server.root}/openapi.json").json()
    assert set(document["paths"]) - ({path for _, path in ROUTES} | {"/v1/models/{name}"}) == set(OPEN)


@pytest.mark.parametrize("path", OPEN)
def test_health_needs_none(guarded: Server, path: str) -> None:
    assert httpx.get(guarded.root + path).status_code == 200


def test_each_key_is_known_and_a_wrong_one_is_the_sdks_own_error(guarded: Server) -> None:
    for key in (KEY, OTHER):
        with guarded.client(key) as client:
            assert len(client.models.list().data) == 2
    with guarded.client("wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_two_keys_in_one_request_are_refused(guarded: Server) -> None:
    headers = [("Authorization", f"Bearer {KEY}"), ("Authorization", "Bearer x")]
    assert httpx.get(f"{guarded.url}/models", headers=headers).status_code == 401


def test_digests_are_compared_in_constant_time(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEY not in repr(keys) + repr(vars(keys))
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *both: bool(compared.append(both)) or compare(*both))
    assert keys.find(f"Bearer {KEY}") is keys.all[0]
    assert keys.find("Bearer \udcff") is None
    assert {len(part) for pair in compared for part in pair} == {32}
    assert len(compared) == 2 * len(keys.all)


# Names that mean this machine, and pages of other sites


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8321", "127.0.0.1.evil.example", "", "[::2]", "192.0.2.1"),
        *("2130706433", "localhost..", "localhost.evil.example", "localhost.localdomain", "127.0.0.1."),
    ],
)
def test_a_request_for_another_host_is_refused(server: Server, host: str) -> None:
    reply = server.post(headers={"Host": host})
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["type"]) == (403, "forbidden", "permission_error")


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1:9", "[::1]:9", "[::1]", "localhost:8000", "127.0.0.2"),
        *("LOCALHOST", "localhost.", "LocalHost.:8321"),
    ],
)
def test_every_name_of_this_machine_is_taken(server: Server, host: str) -> None:
    assert server.post(headers={"Host": host}).status_code == 200


def test_two_hosts_in_one_request_are_refused(server: Server) -> None:
    with server.connection() as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n")
        assert connection.recv(100).split()[1] in (b"400", b"403")


def test_with_keys_a_name_on_the_network_is_taken(guarded: Server) -> None:
    headers = {"Host": "models.example.com", "Authorization": f"Bearer {KEY}"}
    assert guarded.post(headers=headers).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "https://evil.example", "null", "", "http://127.0.0.1", "http://localhost:1", "//{}",
            "x://{}.evil",
        ),
        *("http://localhost http://evil", "http://127.0.0.1@evil"),
    ],
)  # fmt: skip
def test_a_page_of_another_site_is_refused(server: Server, guarded: Server, origin: str) -> None:
    for each in (server, guarded):
        ours = origin.format(each.root.removeprefix("http://"))
        headers = {"Origin": ours, "Authorization": f"Bearer {KEY}"}
        simple = each.post(b"{}", headers={**headers, "Content-Type": "text/plain"})
        assert [each.post(headers=headers).status_code, simple.status_code] == [403, 403]


def test_a_page_of_the_server_itself_is_taken(server: Server) -> None:
    assert server.post(headers={"Origin": server.root}).status_code == 200


def test_cors_is_off(server: Server) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    replies = [
        httpx.options(f"{server.url}/chat/completions", headers={"Origin": origin, **asks})
        for origin in ("https://evil.example", server.root)
    ]
    replies.append(server.post())
    assert not [name for reply in replies for name in reply.headers if name.startswith("access-control")]
    assert {reply.status_code for reply in replies[:2]} == {403, 405}


# Shapes of requests that proxies and servers could read differently


def test_a_body_with_both_lengths_does_not_hide_a_second_request(server: Server) -> None:
    hidden = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    lengths = b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % (5 + len(hidden))
    reply = server.reply_to(head + lengths + b"0\r\n\r\n" + hidden, ended=True)
    assert reply.startswith(b"HTTP/1.1 403")
    assert b'"status":"ok"' not in reply


HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
HALF = (
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 9\r\n\r\n{"
)


@pytest.mark.parametrize(
    "begun", [b"", HEALTH, HEALTH + b"\r\n" + HEALTH, b"GET /health HTTP/1.1\rHost: x\r\r"]
)
def test_a_connection_with_half_a_request_is_closed(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HEAD_SECONDS", 0.2)
    monkeypatch.setattr(run, "_IDLE", 1)
    with served() as server:
        assert server.reply_to(begun).count(b"HTTP/1.1 200") == begun.count(b"\r\n\r\n")


@pytest.mark.parametrize("begun", [b"GET /hea", HEALTH + b"\r\n", HALF])
def test_half_requests_lock_nobody_out(begun: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads, idle connections and bodies. Of too many the oldest is closed.

    An answered connection counts from its answer on, so all are answered before the next ones come.
    """
    monkeypatch.setattr(run, "_CONNECTIONS", 20)
    monkeypatch.setattr(run, "WAITING", 8)
    with served() as server, ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(server.connection())
            connection.sendall(begun)
            if begun.endswith(b"\r\n\r\n"):
                assert connection.recv(9)
        for _ in range(3):
            assert httpx.get(f"{server.root}/health").status_code == 200
        with server.client() as client:
            for _ in range(30):
                assert client.models.list().data


def test_an_answer_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HEAD_SECONDS", 0.1)
    with served(both(ScriptedReply("Fine.", stall=0.2))) as server, httpx.Client() as client:
        for _ in range(2):
            body = {"model": "plain", "messages": HI}
            assert client.post(f"{server.url}/chat/completions", json=body).status_code == 200


# Bytes that no client library sends

HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_no_http_is_refused_silently(server: Server, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    reply = b""
    with suppress(ConnectionError):
        reply = server.reply_to(data)
    assert not reply or reply.split()[1].startswith(b"4")
    assert not [record for record in caplog.records if record.name.startswith("uvicorn")]


def test_an_upgrade_is_ignored_and_not_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for protocol in (b"websocket", b"h2c"):
        upgrade = b"Connection: Upgrade, close\r\nUpgrade: %s\r\n\r\n" % protocol
        assert server.reply_to(HEALTH + upgrade).startswith(b"HTTP/1.1 200 ")
    assert not caplog.records


def test_a_request_behind_a_refused_one_is_not_answered(server: Server) -> None:
    """A refused body was not read, so that what follows could be part of it."""
    head = b"POST /v1/completions HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\n"
    reply = server.reply_to(head + b"Content-Length: 3\r\n\r\nabc" + HEALTH + b"\r\n", ended=True)
    assert reply.startswith(b"HTTP/1.1 415 ")
    assert b'"status":"ok"' not in reply


# What is logged


def test_the_log_has_no_text_of_a_request(caplog: pytest.LogCaptureFixture, keys: Keys) -> None:
    caplog.set_level(logging.INFO, "redraft.serve")
    with served(both("SECRET answer"), keys=keys) as server:
        headers = {"Authorization": f"Bearer {KEY}"}
        messages = [{"role": "user", "content": "SECRET prompt"}]
        for body in ({}, {"stream": True}, {"SECRET": 1}, {"model": "other"}):
            server.post({"messages": messages, **body}, headers=headers)
        httpx.get(f"{server.root}/a%0Ab", headers=headers)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("redraft.serve")]
    assert len(lines) == 6
    name = hashlib.sha256(KEY.encode()).hexdigest()[:8]
    assert re.fullmatch(
        rf"id=req_\w{{24}} key={name} method='POST' path='/v1/chat/completions' status=200 model='plain' "
        r"stop=max_revisions revisions=0 prompt_tokens=13 completion_tokens=13 seconds=0\.\d+",
        lines[0],
    )
    assert " status=400 model='plain' error=unknown_field " in lines[2]
    assert "path='/a\\nb' status=404" in lines[4]
    assert not [line for line in lines if "SECRET" in line or KEY in line]

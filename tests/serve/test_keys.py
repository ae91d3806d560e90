"""Keys: what each may use and see, and how much."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from redraft.errors import UsageError
from redraft.serve import keys as module
from redraft.serve import reader
from redraft.serve.keys import Key, Keys, digest_of
from redraft.serve.reader import object_of
from tests.serve.running import HI, Server, both, plain, served
from tests.serve.test_gate import WAIT, Held, is_true, request_of
from tests.serve.test_refusals import ROUTES

ALICE, BOB = "the-long-key-of-alice", "the-long-key-of-bob"


def read(text: str, folder: Path) -> Keys:
    path = folder / "keys.txt"
    path.write_text(text, "utf-8-sig")  # as some editors write it
    return Keys.read(path)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served(both("Fine."), keys=read(f"{ALICE} name=alice models=plain\n{BOB}\n", tmp_path)) as running:
        yield running


def test_a_line_has_a_key_or_its_digest_and_what_holds_for_it(tmp_path: Path) -> None:
    digest = hashlib.sha256(ALICE.encode())
    line = f"sha256:{digest.hexdigest()}  name=alice\tmodels=a,b requests-per-minute=60 parallel=4"
    (alice, bob) = read(f"# keys\n\n{line}\n  {BOB}\n", tmp_path).all
    assert alice == Key(digest.digest(), "alice", frozenset("ab"), requests=60, parallel=4)
    assert (bob.name, bob.models) == (hashlib.sha256(BOB.encode()).hexdigest()[:8], None)


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        (
            f"{ALICE} model=plain",
            "keys.txt:1: 'model=plain' after the API key is not",
            "Did you mean models=…?",
        ),
        (f"{ALICE} plain", "'plain' after the API key is not a setting", "Settings: name=… models=…"),
        (
            f"{BOB} {ALICE}",
            "one of the words after the API key is not a setting",
            "Settings: name=… models=…",
        ),
        (f"{ALICE} parallel={'9' * 5000}", "parallel is '999", "a whole number above 0"),
        (f"{ALICE} models=", "'models=' after the API key is not a setting", "Did you mean models=…?"),
        (f"{ALICE} parallel=0", "parallel is '0'", "a whole number above 0"),
        (f"{ALICE} name=a name=b", "keys.txt:1: name appears twice", "Keep one"),
        ("", "keys.txt is empty", "secrets.token_urlsafe"),
        ("short\n", "keys.txt:1: the key has 5 characters, but needs at least 16", "Make one"),
        (f"sha256:{'0' * 63}", "keys.txt:1: the digest has 63 characters, but needs 64", "sha256sum"),
        (f"{ALICE}\n{ALICE} name=alice", "keys.txt:2: the key appears twice", "Keep one"),
    ],
)
def test_a_wrong_line_is_named_without_its_key(line: str, said: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read(line, tmp_path)
    assert hint in str(caught.value.hint)
    assert ALICE not in f"{caught.value} {caught.value.hint}"


def test_a_key_sees_its_own_models_alone(server: Server) -> None:
    with server.client(ALICE) as alice, server.client(BOB) as bob:
        assert [model.id for model in alice.models.list()] == ["plain"]
        assert [model.id for model in bob.models.list()] == ["plain", "short"]
        assert alice.models.retrieve("plain").owned_by == "redraft"
        with pytest.raises(openai.NotFoundError):
            alice.models.retrieve("short")


@pytest.mark.parametrize(("path", "asked"), ROUTES.items())
def test_a_model_of_others_does_not_exist(server: Server, path: str, asked: dict[str, Any]) -> None:
    reply = httpx.post(f"{server.url}/{path}", json={"model": "short", **asked}, headers=bearer(ALICE))
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert "Models: plain" in error["message"]


def test_figures_of_all_models_are_for_keys_of_all_models(server: Server) -> None:
    assert httpx.get(f"{server.root}/metrics", headers=bearer(ALICE)).status_code == 403
    assert httpx.get(f"{server.root}/metrics", headers=bearer(BOB)).status_code == 200


def test_each_key_has_its_own_requests_a_minute(tmp_path: Path) -> None:
    keys = read(f"{ALICE} name=alice requests-per-minute=2\n{BOB} requests-per-minute=2\n", tmp_path)
    with served(both("Fine."), keys=keys) as server:
        replies = [server.post(headers=bearer(ALICE)) for _ in range(3)]
        other = server.post(headers=bearer(BOB))
    assert [reply.status_code for reply in replies] == [200, 200, 429]
    assert other.status_code == 200
    error = replies[2].json()["error"]
    wait = replies[2].headers["Retry-After"]
    told = f"the key 'alice' has reached its limit of 2 requests a minute. Try again in {wait} s."
    assert error["message"] == told
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    assert 50 <= int(wait) <= 60


def test_a_request_that_has_to_come_again_does_not_count(tmp_path: Path) -> None:
    keys = read(f"{ALICE} requests-per-minute=2\n", tmp_path)
    with served(both("Fine."), keys=keys, loading=True) as server:
        early = [server.post(headers=bearer(ALICE)) for _ in range(3)]
        server.load.set()
        assert is_true(lambda: httpx.get(f"{server.root}/ready").status_code == 200)
        late = [server.post(headers=bearer(ALICE)) for _ in range(3)]
    assert [reply.json()["error"]["code"] for reply in early] == ["loading"] * 3
    assert [reply.status_code for reply in late] == [200, 200, 429]


def test_the_openai_sdk_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MINUTE", 0.5)
    keys = read(f"{ALICE} requests-per-minute=1\n", tmp_path)
    with served(both("Fine."), keys=keys) as server, server.client(ALICE) as client:
        for _ in range(2):
            assert client.with_options(max_retries=2).models.with_raw_response.list().status_code == 200
            chat = client.with_options(max_retries=2).chat.completions
            assert chat.create(model="plain", messages=[{"role": "user", "content": "Hi."}]).choices


def with_key(body: dict[str, Any], key: str) -> tuple[bytes, bytes]:
    head, content = request_of(body).split(b"\r\n\r\n")
    return head + b"\r\nAuthorization: Bearer %s\r\n\r\n" % key.encode(), content


def test_a_limit_comes_before_the_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def read_one(body: bytes) -> dict[str, Any]:
        sizes.append(len(body))
        return object_of(body)

    monkeypatch.setattr(reader, "object_of", read_one)
    with served(both("Fine."), keys=read(f"{ALICE} requests-per-minute=2 parallel=1\n", tmp_path)) as server:
        wrong = [server.post(b"[]" + b" " * (1 << 20), headers=bearer(ALICE)).status_code for _ in range(2)]
        head, _ = with_key({"model": "plain"}, ALICE)
        refused = server.reply_to(head)  # before its body has come
    assert wrong == [400, 400]
    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"\r\nconnection: close\r\n" in refused
    assert len(sizes) == 2


def test_a_body_that_is_still_coming_counts_as_a_request(tmp_path: Path) -> None:
    keys = read(f"{ALICE} parallel=1\n", tmp_path)
    with served(both("Fine."), keys=keys) as server, server.connection() as slow:
        head, body = with_key({"model": "plain", "messages": HI}, ALICE)
        slow.sendall(head)
        assert is_true(lambda: keys.all[0].used.inside)
        refused = server.post(headers=bearer(ALICE))
        slow.sendall(body)
        assert slow.recv(12) == b"HTTP/1.1 200"
    assert (refused.status_code, "1 request at once" in refused.text) == (429, True)


def test_a_key_has_a_number_of_requests_at_once(tmp_path: Path) -> None:
    keys, engine = read(f"{ALICE} parallel=1\n{BOB}\n", tmp_path), Held()
    with served({"plain": plain(engine)}, keys=keys) as server, ThreadPoolExecutor(2) as pool:
        first = pool.submit(server.post, headers=bearer(ALICE))
        assert engine.begun.acquire(timeout=WAIT)
        other = pool.submit(server.post, headers=bearer(BOB))
        refused = server.post(headers=bearer(ALICE))
        engine.go.set()
        assert first.result(WAIT).status_code == 200
        again = server.post(headers=bearer(ALICE))
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "5")
    assert (other.result(WAIT).status_code, again.status_code) == (200, 200)


def test_keys_are_added_and_revoked_at_run_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "keys.txt"

    def statuses() -> list[int]:
        return [server.post(headers=bearer(key)).status_code for key in (ALICE, BOB)]

    with served(both("Fine."), keys=read(f"{ALICE} requests-per-minute=2\n", tmp_path)) as server:
        assert statuses() == [200, 401]
        path.write_text(f"{ALICE} requests-per-minute=2\n{BOB}\n")
        assert statuses() == [200, 200]
        assert statuses() == [429, 200]  # what was used stays used
        path.unlink()
        assert statuses() == [429, 200]
        path.write_text("")  # it is being rewritten
        assert statuses() == [429, 200]
        path.write_text(f"{BOB} paralel=4 # misspelled\n")  # no fault keeps a deleted key
        assert statuses() == [401, 200]
        path.write_text(f"{ALICE} requests-per-minute=2 name=al\n{BOB} name=bob\n")
        assert statuses() == [429, 200]
        path.write_text("# none\n")
        assert statuses() == [401, 401]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    said = ["The earlier keys stay valid"] * 2
    said += [f"Revoked keys: {names}" for names in (digest_of(ALICE).hex()[:8], "al, bob")]
    assert [text.rpartition(". ")[2] for text in warnings] == [f"{each}." for each in said]
    assert (
        "keys.txt:1: 'paralel=4' after the API key is not a setting. Until the file is right" in warnings[2]
    )
    assert BOB not in caplog.text

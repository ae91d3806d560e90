"""The way into the page: logins, and what strangers send: bodies that are slow or large, and wrong keys."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from redraft.evaluation.voting import PageVotes
from redraft.serve.errors import Refusal
from redraft.serve.gate import Gate
from redraft.serve.keys import Keys
from redraft.serve.page import mount as module
from redraft.serve.page.mount import COOKIE, Logins, Page
from redraft.serve.reader import Reader, ServerLimits
from tests.serve.page.browsing import KEY
from tests.serve.running import served


@pytest.fixture
def logins(tmp_path: Path) -> Logins:
    (tmp_path / "keys").write_text(f"{KEY}\nanother-key-of-the-tests\n")
    return Logins(Keys.read(tmp_path / "keys"))


def entered(logins: Logins, key: str = KEY) -> str:
    cookie = logins.enter(key, secure=False)
    assert cookie
    return cookie.partition(";")[0]


def test_the_right_key_alone_lets_in(logins: Logins) -> None:
    assert logins.key_of(entered(logins)) != logins.key_of(entered(logins, "another-key-of-the-tests"))
    for wrong in ("", " ", KEY[:-1], KEY + "x", f"Bearer {KEY}", "\udc80"):
        assert logins.enter(wrong, secure=False) is None
    for cookies in ("", f"{COOKIE}=", f"{COOKIE}=x", f"other={entered(logins)[len(COOKIE) + 1 :]}", "=;=;"):
        assert logins.key_of(cookies) is None


def test_scripts_and_other_sites_cannot_use_the_cookie(logins: Logins) -> None:
    cookie = logins.enter(KEY, secure=True) or ""
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Secure"} <= set(cookie.split("; "))
    assert KEY not in cookie


def test_a_login_ends(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    left, late, kept = entered(logins), entered(logins), entered(logins)
    assert "Max-Age=0" in logins.leave(left)
    assert logins.key_of(left) is None
    assert logins.key_of(kept)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + module.LIFETIME + 1)
    assert logins.key_of(late) is None


def test_logins_are_bounded(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    first, *others = [entered(logins) for _ in range(3)]
    assert logins.key_of(first) is None
    assert all(map(logins.key_of, others))


def test_a_key_that_is_revoked_ends_its_logins(logins: Logins, tmp_path: Path) -> None:
    cookie = entered(logins)
    (tmp_path / "keys").write_text("another-key-of-the-tests\n")
    assert logins.key_of(cookie) is None


def asked(
    folder: Path, path: str, pieces: Iterable[bytes], limits: ServerLimits | None = None
) -> list[Message]:
    (folder / "keys").write_text(KEY)
    logins = Logins(Keys.read(folder / "keys"))
    page = Page(Reader(limits or ServerLimits()), logins, Gate(1, 1), lambda _: True)
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b"", "state": {}}
    scope["client"] = ("192.0.2.7", 4000)
    left, sent = iter(pieces), list[Message]()

    async def receive() -> Message:
        if (piece := next(left, None)) is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(asyncio.wait_for(page(scope, receive, send), 10))
    return sent


def test_a_slow_login_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        asked(tmp_path, "/login", [b"{"], ServerLimits(body_seconds=0.05))
    assert refused.value.status == HTTPStatus.REQUEST_TIMEOUT


def test_a_large_login_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        asked(tmp_path, "/login", [b" " * 5000] * 3)
    assert refused.value.code == "body_too_large"


def test_a_wrong_login_is_logged_without_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Refusal, match="is wrong") as refused:
        asked(tmp_path, "/login", [b'{"key": "a-key-that-is-wrong"}', b""])
    assert refused.value.status == HTTPStatus.UNAUTHORIZED
    [line] = caplog.records
    assert line.levelno == logging.WARNING
    assert "192.0.2.7" in line.getMessage()
    assert "a-key" not in line.getMessage()
    asked(tmp_path, "/login", [f'{{"key": "{KEY}"}}'.encode(), b""])
    assert len(caplog.records) == 1


def test_of_a_vote_that_cannot_be_saved_only_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ballot = {"id": "x" * 8, "question": "?", "names": ["a", "b"], "answers": ["1", "2"]}
    kept = PageVotes(tmp_path / "none" / "votes.jsonl")
    with served(store=lambda vote: kept.add(**dict(vote))) as server:
        reply = httpx.post(f"{server.root}/page/votes", json={**ballot, "winner": "1", "swapped": False})
    message = "Your vote could not be saved. Tell the operator."
    assert (reply.status_code, reply.json()["error"]["message"]) == (500, message)
    assert any("none/votes.jsonl" in record.getMessage() for record in caplog.records)


def test_nobody_votes_without_a_login(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="Log in"):
        asked(tmp_path, "/page/votes", [b"{}", b""])

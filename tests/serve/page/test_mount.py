"""What strangers send to the page: bodies that are slow or large, and wrong keys."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.types import Message

from redraft.serve.bodies import Limits
from redraft.serve.errors import Refusal
from redraft.serve.keys import Keys
from redraft.serve.page.mount import Logins, Page
from tests.serve.page.test_login import KEY
from tests.serve.page.test_work import service


def asked(folder: Path, path: str, pieces: Iterable[bytes], limits: Limits | None = None) -> list[Message]:
    """What the page sends to a visitor without a login who sends pieces of a body, and then nothing."""
    (folder / "keys").write_text(KEY)
    logins = Logins(Keys.read(folder / "keys"))
    page = Page(replace(service("Rain."), limits=limits or Limits()), logins, cast("Any", None))
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
        asked(tmp_path, "/login", [b"key="], Limits(body_seconds=0.05))
    assert refused.value.status == HTTPStatus.REQUEST_TIMEOUT


def test_a_large_login_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        asked(tmp_path, "/login", [b"x" * 5000] * 3)
    assert refused.value.code == "body_too_large"


def test_a_login_with_a_wrong_key_is_in_the_log_without_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [begin, _] = asked(tmp_path, "/login", [b"key=a-key-that-is-wrong", b""])
    assert begin["status"] == HTTPStatus.UNAUTHORIZED
    [line] = caplog.records
    assert line.levelno == logging.WARNING
    assert "192.0.2.7" in line.getMessage()
    assert "a-key" not in line.getMessage()
    asked(tmp_path, "/login", [f"key={KEY}".encode(), b""])
    assert len(caplog.records) == 1

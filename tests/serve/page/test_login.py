"""Logins: the right key alone, a cookie that scripts and other sites cannot use, and an end."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from redraft.serve.keys import Keys
from redraft.serve.page import mount
from redraft.serve.page.mount import COOKIE, Logins

KEY = "a-key-of-the-tests-1"


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
    monkeypatch.setattr(time, "monotonic", lambda: now + mount.LIFETIME + 1)
    assert logins.key_of(late) is None


def test_logins_are_bounded(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "MOST", 2)
    first, *others = [entered(logins) for _ in range(3)]
    assert logins.key_of(first) is None
    assert all(map(logins.key_of, others))


def test_a_key_that_is_revoked_ends_its_logins(logins: Logins, tmp_path: Path) -> None:
    cookie = entered(logins)
    (tmp_path / "keys").write_text("another-key-of-the-tests\n")
    assert logins.key_of(cookie) is None

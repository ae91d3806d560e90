"""What lanes do to the rest of the process: nothing that stays."""

from __future__ import annotations

import asyncio
import importlib.machinery
import importlib.util
import sys
from contextlib import aclosing

import pytest

from redraft.engines.remote.connections import Lanes
from tests.engines.fake_server import FakeServer, models_reply


async def ask(url: str) -> object:
    """Return what stands for the missing package while lanes are open."""
    async with aclosing(Lanes()) as lanes:
        response = await lanes.send(auth=None, method="GET", url=f"{url}/models")
        assert await response.aread()
        await lanes.close(response)
        return sys.modules.get("sniffio", "not tried")


def test_a_package_that_is_missing_is_not_searched_for_while_lanes_are_open_and_no_longer(
    server: FakeServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    search = importlib.util.find_spec
    missing = {"sniffio"}  # the SDK of OpenAI installs it
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in missing else search(name))
    monkeypatch.delitem(sys.modules, "sniffio", raising=False)
    server.on("GET /v1/models", models_reply("m"))
    assert asyncio.run(ask(server.url)) is None
    assert "sniffio" not in sys.modules


def test_a_package_that_is_there_is_left_alone(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("sniffio", None))
    there.__spec__ = importlib.machinery.ModuleSpec("sniffio", None)
    there.current_async_library = lambda: "asyncio"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sniffio", there)
    server.on("GET /v1/models", models_reply("m"))
    assert asyncio.run(ask(server.url)) is there
    assert sys.modules["sniffio"] is there

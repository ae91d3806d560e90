"""The wall around the tests stands, in this process and in those that it starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest


@pytest.mark.parametrize("url", ["http://example.org/", "http://192.0.2.1/"])
def test_other_machines_cannot_be_reached(url: str) -> None:
    with pytest.raises(Exception, match=r"may only talk to 127\.0\.0\.1"):
        httpx.get(url, trust_env=False)


def test_this_machine_can_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(("localhost", server.getsockname()[1])).close()


def test_processes_that_a_test_starts_cannot_reach_them_either(tmp_path: Path) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "may only talk to 127.0.0.1" in done.stderr


def test_the_users_configuration_is_not_read() -> None:
    assert "OPENAI_API_KEY" not in os.environ
    assert list(Path(os.environ["XDG_CONFIG_HOME"]).iterdir()) == []

"""`redraft serve` with a client that nobody here wrote: schemathesis.

The openai SDK has tests in tests/serve.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from redraft.engines.scripted import ScriptedEngine
from tests.engines.servers.environments import environment
from tests.serve.running import LONG, SHORT, Server, plain, served, short

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parent / "clients"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    models = {
        "plain": plain(ScriptedEngine([LONG] * 10_000)),
        "short": short(ScriptedEngine([LONG, SHORT] * 20)),
        "json": plain(ScriptedEngine(['{"name": "Ada", "born": 1815}'] * 20)),
    }
    with served(models) as running:
        yield running


def run(*command: Any, **more: str) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        env=os.environ | more,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def test_schemathesis(server: Server) -> None:
    """Statuses, types and shapes are as documented, wrong requests are refused, and none gets a 500."""
    command = environment("schemathesis", "schemathesis") / "st"
    settings = ["--config-file", CLIENTS / "schemathesis.toml", "run", f"{server.root}/openapi.json"]
    paths = os.pathsep.join([str(CLIENTS), os.environ.get("PYTHONPATH", "")])
    hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": paths}
    run(command, *settings, "--checks", "all", "--max-examples", "30", "--seed", "1", **hooks)
    figures = httpx.get(f"{server.root}/metrics").text
    assert {'redraft_requests_total{key="",status="200"}', 'redraft_requests_total{key="",status="400"}'} <= {
        line.rpartition(" ")[0] for line in figures.splitlines()
    }
    assert 'status="5' not in figures

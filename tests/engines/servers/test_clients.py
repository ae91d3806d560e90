"""`redraft serve` with clients that nobody here wrote: langchain-openai, the command `llm`, and schemathesis.

The openai SDK has tests in tests/serve.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from tests.engines.servers.environments import environment
from tests.serve.running import LONG, SHORT, Server, plain, served, short

pytestmark = pytest.mark.slow

CLIENTS = Path(__file__).parent / "clients"
ADA = '{"name": "Ada", "born": 1815}'
CALL = {"id": "call_1", "type": "function", "function": {"name": "Person", "arguments": ADA}}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A model that answers at length, one that shortens it, and one that answers with JSON."""
    models = {
        "plain": plain(ScriptedEngine([LONG] * 10_000)),
        "short": short(ScriptedEngine([LONG, SHORT] * 20)),
        "json": plain(ScriptedEngine([ADA] * 20)),
        "tool": plain(ScriptedEngine([ScriptedReply(tool_calls=[CALL])])),
    }
    with served(models) as running:
        yield running


def run(*command: Any, **more: str) -> str:
    """What a program prints."""
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


def test_langchain(server: Server) -> None:
    python = environment("langchain", "langchain-openai") / "python"
    found = json.loads(run(python, CLIENTS / "with_langchain.py", server.url))
    assert found.pop("reasoning") > 0
    assert found.pop("async") == [LONG] * 4
    assert found.pop("stream") == [SHORT]
    structured = [found.pop(way) for way in ("structured", "function", "json_mode")]
    assert structured == [json.loads(ADA)] * 3
    assert set(found.values()) == {SHORT}


@pytest.fixture
def llm(server: Server, tmp_path: Path) -> Any:
    """Runs the command `llm`, with our models among its own."""
    names = {"plain": {}, "short": {}, "json": {"supports_schema": True}, "text": {"completion": True}}
    models = [
        {"model_id": name, "model_name": name if name != "text" else "plain", "api_base": server.url, **more}
        for name, more in names.items()
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))  # YAML holds JSON
    command = environment("llm", "llm") / "llm"
    return lambda *words: run(command, *words, "--key", "none", LLM_USER_PATH=str(tmp_path)).strip()


@pytest.mark.parametrize("stream", [[], ["--no-stream"]])
def test_llm(llm: Any, stream: list[str]) -> None:
    assert llm("-m", "short", *stream, "Describe rain.") == SHORT
    assert llm("-m", "plain", *stream, "-s", "Be brief.", "-o", "temperature", "0", "Describe rain.") == LONG
    assert llm("-m", "json", *stream, "--schema", "name,born:int", "Who?") == ADA
    assert llm("-c", *stream, "And now?") == ADA
    assert llm("-m", "text", *stream, "Rain") == LONG


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

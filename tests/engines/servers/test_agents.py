"""Clients of agents that nobody here wrote, as they are: `clients/agents.md` has their table and scripts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from redraft.engines.scripted import ScriptedEngine, ScriptedReply
from redraft.jobs.machine import cache_folder
from tests.engines.servers.environments import LIMIT, environment
from tests.serve.running import Server, served

pytestmark = pytest.mark.slow

TABLE = Path(__file__).parent / "clients" / "agents.md"
SCRIPTS = re.findall(r"^## (\S+)\n\n(.+)\n\n```(\w+)\n([\s\S]*?)^```", TABLE.read_text(), re.M)


def called(name: str, **arguments: Any) -> ScriptedReply:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return ScriptedReply(tool_calls=[{"id": "call_1", "type": "function", "function": function}])


def say(messages: Any) -> str | ScriptedReply:
    text, whole = str(messages[-1]["content"]), str(messages)
    if "JSON pointers" in text:
        return '{"/unit": "C"}'
    if "18 degrees" in text:
        return called("final_answer", answer=text) if "final_answer" in whole else f"It is {text}"
    if "file listing" in whole:  # aider
        return 'hello.py\n```\nprint("Paris C")\n```\n'
    if "Codex" in whole:
        return called("exec_command", cmd="echo Paris C, 18 degrees | tee weather.txt", note="x")
    return called("weather", city="Paris", unit="Celsius")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served({"agent": {"model": ScriptedEngine(say), "max_revisions": 2}}) as running:
        yield running


def programs(name: str, packages: str) -> Path:
    if not packages.startswith("@"):
        return environment(name, packages)
    if not (npm := shutil.which("npm")):
        pytest.skip("npm is not installed")
    home = cache_folder() / "servers" / name
    if not (found := home / "node_modules" / ".bin").is_dir():
        subprocess.run([npm, "install", "--prefix", home, packages], check=True, timeout=LIMIT)
    return found


@pytest.mark.parametrize(("name", "packages", "kind", "script"), SCRIPTS, ids=[name for name, *_ in SCRIPTS])
def test_an_agent_runs_the_mended_call(
    server: Server, tmp_path: Path, name: str, packages: str, kind: str, script: str
) -> None:
    (tmp_path / "agent").write_text(script)
    found, url = programs(name, packages), server.url
    reached = {
        "OPENAI_BASE_URL": url, "OPENAI_API_BASE": url, "OPENAI_API_KEY": "none", "HOME": str(tmp_path),
    }  # fmt: skip
    env = {**os.environ, **reached, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore"}
    env["PATH"] = f"{found}{os.pathsep}{env['PATH']}"
    how: Any = {"cwd": tmp_path, "env": env, "stdin": subprocess.DEVNULL, "capture_output": True}
    done = subprocess.run([kind, "agent"], text=True, timeout=300, **how)
    assert done.returncode == 0, done.stderr[-4000:]
    assert re.search(r"Paris.*\bC\b", done.stdout)
    assert "Celsius" not in done.stdout

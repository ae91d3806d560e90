"""Clients of agents that nobody here wrote, as they are: `clients/agents.md` has their table and scripts."""

from __future__ import annotations

import json
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
from tests.engines.servers.test_clients import CLIENTS, run
from tests.serve.running import Server, served

pytestmark = pytest.mark.slow

SCRIPTS = re.findall(
    r"^## (\S+)\n\n([^\n]+)\n\n```python\n(.*?)^```", (CLIENTS / "agents.md").read_text(), re.M | re.S
)
CODEX = """model = "agent"
model_provider = "redraft"
[model_providers.redraft]
name = "redraft"
base_url = "{url}"
wire_api = "responses"
"""


def called(name: str, **arguments: Any) -> ScriptedReply:
    function = {"name": name, "arguments": json.dumps(arguments)}
    return ScriptedReply(tool_calls=[{"id": "call_1", "type": "function", "function": function}])


def say(messages: Any) -> str | ScriptedReply:
    """What the model says: a wrong call, its mended argument when asked for it, and what the tool said."""
    text, whole = str(messages[-1]["content"]), str(messages)
    if "JSON pointers" in text:
        return '{"/unit": "C"}'
    if "18 degrees" in text:
        done = f"It is {text}"
        return called("final_answer", answer=done) if "final_answer" in whole else done
    if "file listing" in whole:  # aider
        return "hello.py\n```\nprint(2)\n```\n"
    if "Codex" in whole:
        return called("exec_command", cmd="echo 18 degrees C > weather.txt; cat weather.txt", note="x")
    return called("weather", city="Paris", unit="Celsius")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served({"agent": {"model": ScriptedEngine(say), "max_revisions": 2}}) as running:
        yield running


def reaching(server: Server) -> dict[str, str]:
    """The variables by which clients find a server."""
    found = {"OPENAI_BASE_URL": server.url, "OPENAI_API_BASE": server.url, "OPENAI_API_KEY": "none"}
    return found | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@pytest.mark.parametrize(("name", "packages", "script"), SCRIPTS, ids=[name for name, *_ in SCRIPTS])
def test_an_agent_runs_the_mended_call(
    server: Server, tmp_path: Path, name: str, packages: str, script: str
) -> None:
    (tmp_path / "agent.py").write_text(script)
    python = environment(name, packages) / "python"
    said = run(python, "-W", "ignore", tmp_path / "agent.py", **reaching(server), HOME=str(tmp_path))
    assert re.search(r"Paris.*\bC\b", said)
    assert "Celsius" not in said


def test_codex_runs_a_command(server: Server, tmp_path: Path) -> None:
    home = cache_folder() / "servers" / "codex"
    if not (npm := shutil.which("npm")):
        pytest.skip("npm is not installed")
    if not (home / "node_modules").is_dir():
        subprocess.run([npm, "install", "--prefix", home, "@openai/codex"], check=True, timeout=LIMIT)
    (tmp_path / "config.toml").write_text(CODEX.format(url=server.url))
    how = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-C", tmp_path]
    run(home / "node_modules" / ".bin" / "codex", "exec", *how, "The weather?", CODEX_HOME=str(tmp_path))
    assert (tmp_path / "weather.txt").read_text() == "18 degrees C\n"


def test_aider_edits_a_file(server: Server, tmp_path: Path) -> None:
    (edited := tmp_path / "hello.py").write_text("print(1)\n")
    quiet = ["--yes-always", "--no-git", "--no-check-update", "--no-show-model-warnings", "--no-analytics"]
    aider = environment("aider", "aider-chat") / "aider"
    kept = [f"--{each}-history-file={tmp_path / each}" for each in ("chat", "input")]
    asked = [*kept, "--model", "openai/agent", "--message", "Print 2.", edited]
    run(aider, *quiet, *asked, **reaching(server), HOME=str(tmp_path))
    assert edited.read_text() == "print(2)\n"

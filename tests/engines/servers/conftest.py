"""The servers, each started when the first test needs it, and ended with the last."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from redraft.weights.gguf.to_folder import import_gguf
from tests.engines.servers.environments import environment
from tests.engines.servers.processes import ServerProcess

HERE = Path(__file__).parent
LLAMA_KEY = "sk-llama-0123456789"


def llama_process(model: Path, log: Path, *template: Path) -> ServerProcess:
    script = HERE / "llama_server.py"
    return ServerProcess([sys.executable, script, model, LLAMA_KEY, *template], log, key=LLAMA_KEY)


@pytest.fixture(scope="session")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("servers")


@pytest.fixture(scope="session")
def llama(default_model: Path, logs: Path) -> Iterator[ServerProcess]:
    with llama_process(default_model, logs / "llama.log") as server:
        yield server


@pytest.fixture(scope="session")
def llama_tools(default_model: Path, logs: Path) -> Iterator[ServerProcess]:
    with llama_process(default_model, logs / "llama_tools.log", HERE / "tools.jinja") as server:
        yield server


@pytest.fixture(scope="session")
def transformers(default_model: Path, logs: Path) -> Iterator[ServerProcess]:
    python = environment("transformers", "transformers[serving]", borrowing=True) / "python"
    import_gguf(default_model, logs / "model")
    (logs / "hub").mkdir()
    with ServerProcess(
        [python, "-m", "transformers.cli.transformers", "serve", logs / "model", "--device", "cpu"],
        logs / "transformers.log",
        model=str(logs / "model"),
        HF_HUB_CACHE=str(logs / "hub"),
    ) as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ServerProcess:
    found: ServerProcess = request.getfixturevalue(request.param)
    if found.key:
        monkeypatch.setenv(found.key_variable, found.key)
    return found

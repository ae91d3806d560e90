"""What all tests share: where the data and the model are, and a wall around the test run.

No test reaches another machine, reads the user's configuration, or sees the user's keys. It makes no
difference whether the run was started in the background or by `nohup`. What a machine lacks is skipped with
the reason, unless it is required: `make test` requires the model, and `.ci/run` data and tools too.
"""

from __future__ import annotations

import gc
import importlib.util
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.lacking import DATA, MODEL, TOOLS, lack

if TYPE_CHECKING:
    from tests.engines.fake_server import FakeServer

ROOT = Path(__file__).resolve().parent.parent
GUARD = ROOT / "tests" / "network_guard"
PRIVATE = ["REDRAFT_CONFIG", "HF_TOKEN", "FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE"]
PRIVATE += [f"{name}_API_KEY" for name in ("OPENAI", "OPENROUTER", "GEMINI", "GROQ", "MISTRAL", "DEEPSEEK")]


def _raise_the_wall() -> None:
    """Here and in every Python that a test starts. Importing the guard is what switches it on."""
    spec = importlib.util.spec_from_file_location("network_guard", GUARD / "sitecustomize.py")
    assert spec
    assert spec.loader
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    inherited = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), *([inherited] if inherited else [])])
    for name in PRIVATE:
        os.environ.pop(name, None)


_raise_the_wall()


# OpenVINO tells Google Analytics of each import, so of those by tests too.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]


def _take_signals() -> None:
    """Let the processes that tests start end by signals, as they do when a user starts them.

    A shell starts a job in the background with SIGINT ignored, and `nohup` starts it with SIGHUP ignored.
    Child processes inherit that. They do not inherit handlers: if this process has one, they start with the
    default.
    """
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: lambda *_: None}
    for number, handler in usual.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


_take_signals()

# Tests start redraft hundreds of times. Without compiled files each start would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples in every run, so that red is red for everybody; `make test-slow` looks for new ones.
# A property is about what holds, not about how long an example takes on a busy machine: no deadlines.
settings.register_profile("steady", derandomize=True, deadline=None, max_examples=25)
settings.register_profile("searching", deadline=None, max_examples=500, print_blob=True)
settings.load_profile("steady")


# Tests that take many seconds come first, so that no process is left with one of them at the end.
# That of types comes last, when `make lint` beside it has filled mypy's cache.
TYPES = "test_python_blocks_are_typed"
LONG = ("tests/test_docs.py", "tests/test_package.py", "tests/train/test_distributed.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "default_model" in getattr(item, "fixturenames", ()):
            item.add_marker("model")
    items.sort(key=lambda item: 2 if item.name == TYPES else not item.nodeid.startswith(LONG))


def pytest_collection_finish() -> None:
    """Keep what was imported out of garbage collections: each would take half a second."""
    gc.collect()
    gc.freeze()


_NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def _own_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty configuration folder a test, and 80 columns. The model cache stays the user's.

    pytest would look through all folders of earlier tests for the next number, which takes a minute in all.
    """
    folder = tmp_path_factory.getbasetemp() / "configs" / str(next(_NUMBERS))
    folder.mkdir(parents=True)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    shared = Path(os.environ.get("REDRAFT_SHARED") or ROOT.parent / "shared")
    if not (shared / "data").is_dir():
        lack(f"no shared data in {shared / 'data'}; set REDRAFT_SHARED", DATA)
    return shared / "data"


@pytest.fixture(scope="session")
def default_model() -> Path:
    if (path := _default_model()) is None:
        lack("the default model is not here; run: redraft model get default", MODEL)
    return path


@pytest.fixture(scope="session")
def a_sandbox() -> Path:
    """The sandbox for programs, which not every machine or container allows. The value is its module."""
    from redraft.checks import sandbox
    from redraft.errors import UsageError

    try:
        sandbox.find_sandbox()
    except UsageError as error:
        lack(f"{error.message} {error.hint}", TOOLS)
    return Path(sandbox.__file__)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    from huggingface_hub import constants

    from tests.engines.fake_server import FakeServer

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with FakeServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.root)
        yield server


def _default_model() -> Path | None:
    if named := os.environ.get("REDRAFT_TEST_MODEL"):
        return Path(named) if Path(named).is_file() else None
    if not importlib.util.find_spec("redraft.engines.llamacpp.default_model"):
        return None
    from redraft.engines.llamacpp.default_model import cached_default

    return cached_default()

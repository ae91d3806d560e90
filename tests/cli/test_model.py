from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from redraft.engines.llamacpp.default_model import DEFAULT
from redraft.jobs.counting import size_in_words
from tests.cli.verbs import redraft
from tests.engines.fake_hub import NOWHERE, publish
from tests.engines.fake_server import FakeServer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def test_nothing_is_here(home: Path) -> None:
    listed = redraft("model", "list")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "redraft model get default" in listed.stderr


def test_a_model_of_the_hub_is_fetched_and_listed(hub: FakeServer) -> None:
    publish(hub, "org/tiny", {"a.gguf": b"GGUF"})
    got = redraft("model", "get", "org/tiny")
    assert got.exit_code == 0
    file = Path(got.stdout.strip())
    assert file.read_bytes() == b"GGUF"
    assert redraft("model", "list").stdout.split() == ["org/tiny/a.gguf", "4", "B", str(file)]


def test_a_recommended_model_without_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    result = redraft("model", "get", "large")
    assert result.exit_code == 3
    assert "is not in the cache, and the hub cannot be reached" in result.stderr
    ref = "unsloth/Qwen3-4B-Instruct-2507-GGUF:Q4_K_M"
    assert f"Check the connection, then: redraft model get {ref}. Or name a file" in result.stderr


def test_models_are_recommended_with_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redraft.jobs.machine.free_memory", lambda: 3_000_000_000)
    lines = redraft("model", "list").stderr.splitlines()
    assert any("3 GB of memory are free here; the IFEval scores are the" in each for each in lines)
    at = next(number for number, line in enumerate(lines) if line.startswith("  large "))
    assert lines[at].endswith("unsloth/Qwen3-4B-Instruct-2507-GGUF:Q4_K_M")
    facts = "2.5 GB, needs 3.4 GB (too much), Apache-2.0, IFEval 83.4 %: reasoning, code, many languages"
    assert lines[at + 1].strip() == facts
    assert sum("too much" in line for line in lines) == 1


@pytest.mark.model
def test_the_default_model(default_model: Path, home: Path) -> None:
    DEFAULT.path.parent.mkdir(parents=True)
    DEFAULT.path.symlink_to(default_model)
    assert redraft("model", "get").stdout.strip() == str(DEFAULT.path)
    assert redraft("model", "list").stdout.split()[:3] == ["default", "98.4", "MB"]


@pytest.mark.parametrize("ref", ["http://localhost:8000/v1#m", "m.gguf", "script:x.jsonl", "default+x.gguf"])
def test_what_is_not_fetched(ref: str) -> None:
    result = redraft("model", "get", ref)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"redraft: {ref} is not a model that redraft fetches.\n")


@pytest.mark.parametrize(
    ("size", "words"),
    [(4, "4 B"), (98_300_000, "98.3 MB"), (999_900_000, "1 GB"), (4_380_000_000, "4.38 GB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert size_in_words(size) == words

"""`redraft model`: its output, and its messages when there is nothing to print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner, Result

from redraft.cli import app
from redraft.cli.model import in_words
from redraft.engines.llamacpp.default_model import DEFAULT
from tests.engines.fake_server import FakeServer, Reply, json_reply


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with FakeServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.root)
        server.on("GET /api/models/org/tiny", json_reply({"id": "x", "siblings": [{"rfilename": "a.gguf"}]}))
        about = {"ETag": '"1"', "X-Repo-Commit": "0" * 40, "Content-Length": "4"}
        server.on("HEAD /org/tiny/resolve/main/a.gguf", Reply(200, about))
        server.on("GET /org/tiny/resolve/main/a.gguf", Reply(200, {}, [b"GGUF"]))
        yield server


def redraft(*args: str) -> Result:
    return CliRunner().invoke(app, ["model", *args], prog_name="redraft")


def test_nothing_is_here(home: Path) -> None:
    listed = redraft("list")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "redraft model get default" in listed.stderr
    for command in ("path", "remove"):
        result = redraft(command, "default")
        assert result.exit_code == 3
        assert result.stderr.startswith("redraft: the model default is not here.\n  redraft model ")


def test_a_model_of_the_hub_from_get_to_remove(hub: FakeServer) -> None:
    got = redraft("get", "org/tiny")
    assert got.exit_code == 0
    file = Path(got.stdout.strip())
    assert file.read_bytes() == b"GGUF"
    assert redraft("path", "org/tiny").stdout.strip() == str(file)
    assert redraft("list").stdout.split() == ["org/tiny/a.gguf", "4", "B", str(file)]
    removed = redraft("remove", "org/tiny")
    assert (removed.exit_code, removed.stderr) == (0, "Removed org/tiny: 4 B.\n")
    assert not file.exists()
    assert redraft("list").stdout == ""


@pytest.mark.model
def test_the_default_model(default_model: Path, home: Path) -> None:
    DEFAULT.path.parent.mkdir(parents=True)
    DEFAULT.path.symlink_to(default_model)
    assert redraft("get").stdout.strip() == str(DEFAULT.path)
    assert redraft("list").stdout.split()[:3] == ["default", "98.4", "MB"]
    assert redraft("path").stdout.strip() == str(DEFAULT.path)
    assert redraft("remove", "default").stderr == "Removed default: 98.4 MB.\n"
    assert redraft("path").exit_code == 3


def test_a_damaged_default_model(home: Path) -> None:
    DEFAULT.path.parent.mkdir(parents=True)
    DEFAULT.path.write_bytes(b"GGUF")
    result = redraft("path")
    assert result.exit_code == 3
    assert result.stderr == (
        f"redraft: the model {DEFAULT.path} is damaged: "
        "it has 4 bytes and should have 98,362,432.\n"
        "  Fetch it again: redraft model get default\n"
    )


@pytest.mark.parametrize("ref", ["http://localhost:8000/v1#m", "m.gguf", "script:x.jsonl", "default+x.gguf"])
def test_what_is_not_fetched(ref: str) -> None:
    result = redraft("get", ref)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"redraft: {ref} is not a model that redraft fetches.\n")


@pytest.mark.parametrize(
    ("size", "words"),
    [(4, "4 B"), (98_300_000, "98.3 MB"), (999_900_000, "1 GB"), (4_380_000_000, "4.38 GB")],
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert in_words(size) == words

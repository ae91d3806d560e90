"""Records go to a stand-in of the hub, as a dataset with a card, and come back from what was pushed."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import redraft
from redraft.cli import app
from redraft.errors import UsageError
from redraft.integrations.hub import push
from tests.engines.fake_server import FakeServer, json_reply

RECORD = {"instruction": "Describe rain.", "input": "", "output": "Rain is water."}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A hub that takes the dataset `org/rain`."""
    with FakeServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.root)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        address = f"{server.root}/datasets/org/rain"
        server.on("POST /api/repos/create", json_reply({"url": address, "name": "org/rain"}))
        about(server)
        server.on("POST /api/validate-yaml", json_reply({"errors": [], "warnings": []}))
        names = ("README.md", "rain.jsonl")
        modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
        server.on("POST /api/datasets/org/rain/preupload/main", json_reply({"files": modes}))
        done = {"commitUrl": f"{address}/commit/1", "commitOid": "1", "success": True}
        server.on("POST /api/datasets/org/rain/commit/main", json_reply(done))
        yield server


def about(server: FakeServer, *files: str, private: bool = True) -> None:
    listed = {"id": "org/rain", "private": private, "siblings": [{"rfilename": name} for name in files]}
    server.on("GET /api/datasets/org/rain", json_reply(listed))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    chain = redraft.revise("Describe rain.", model=redraft.ScriptedEngine(["Rain is water."]))
    origin = {"origin": {"dataset": "rain", "licence": "cc-by-4.0"}}
    path = tmp_path / "rain.jsonl"
    redraft.write_jsonl(path, [chain.model_copy(update={"meta": origin})])
    return path


def pushed(server: FakeServer) -> dict[str, bytes]:
    """The files of the last commit."""
    body = server.asked("POST /api/datasets/org/rain/commit/main")[-1].body
    lines = [json.loads(line) for line in body.splitlines()]
    return {
        line["value"]["path"]: base64.b64decode(line["value"]["content"])
        for line in lines
        if line["key"] == "file"
    }


def test_the_file_goes_as_it_is_with_a_card(server: FakeServer, file: Path) -> None:
    address, said = push(file, "org/rain")
    files = pushed(server)
    assert address == f"{server.root}/datasets/org/rain"
    assert files["rain.jsonl"] == file.read_bytes()
    card = files["README.md"].decode()
    assert card.startswith("---\nlicense: cc-by-4.0\n")
    assert "words, answer" in card
    assert str(file.parent) not in card
    assert 'load_dataset("org/rain")' in card
    assert said == ""
    assert server.asked("POST /api/repos/create")[0].json["visibility"] == "private"


def test_what_was_pushed_is_read_by_datasets(server: FakeServer, file: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    push(file, "org/rain")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "rain.jsonl").write_bytes(pushed(server)["rain.jsonl"])
    back = datasets.load_dataset(str(tmp_path / "back"), split="train", cache_dir=str(tmp_path / "cache"))
    assert back[0]["steps"][0]["answer"] == "Rain is water."


def test_a_card_that_is_there_stays(server: FakeServer, file: Path) -> None:
    about(server, "README.md", "old.jsonl")
    push(file, "org/rain")
    assert pushed(server).keys() == {"rain.jsonl"}


def test_private_data_goes_into_no_public_dataset(server: FakeServer, file: Path) -> None:
    about(server, private=False)
    with pytest.raises(UsageError, match="org/rain is public on the hub") as caught:
        push(file, "org/rain")
    assert caught.value.hint == "If the data may be: --public"
    assert server.asked("POST /api/datasets/org/rain/commit/main") == []
    push(file, "org/rain", public=True)
    assert "rain.jsonl" in pushed(server)


def test_the_command_prints_the_address_and_what_is_unknown(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "rain.jsonl"
    path.write_text(json.dumps(RECORD) + "\n" + json.dumps(RECORD | {"licence": "cc-by-nc-4.0"}) + "\n")
    done = CliRunner().invoke(app, ["data", "push", str(path), "org/rain"])
    assert done.exit_code == 0, done.output
    assert done.stdout == f"{server.root}/datasets/org/rain\n"


def test_nobody_is_logged_in(
    server: FakeServer, file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="nobody is logged in") as caught:
        push(file, "org/rain")
    assert "hf auth login" in str(caught.value.hint)
    assert server.requests == []


def test_a_token_that_may_not_write(server: FakeServer, file: Path) -> None:
    server.on("POST /api/datasets/org/rain/commit/main", json_reply({"error": "no"}, 403))
    with pytest.raises(UsageError, match=r"does not let you write to org/rain \(403\)"):
        push(file, "org/rain")


@pytest.mark.parametrize("name", ["rain", "org/rain/more", "../rain"])
def test_a_name_that_is_none(server: FakeServer, file: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name of a dataset"):
        push(file, name)
    assert server.requests == []

"""GGUF files of the hub: which one is meant, and fetching it with huggingface_hub from a stand-in server;
and whole folders.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from redraft.errors import ModelError
from redraft.jobs import hub
from tests.engines.fake_hub import COMMIT, NOWHERE, publish
from tests.engines.fake_server import FakeServer, json_reply

FILES = {
    "README.md": b"# A model",
    "tiny-Q4_K_M.gguf": b"GGUF four",
    "tiny-Q8_0.gguf": b"GGUF eight",
    "mmproj-tiny-Q4_K_M.gguf": b"GGUF eyes",
    "big/tiny-F16-00001-of-00002.gguf": b"GGUF one",
    "big/tiny-F16-00002-of-00002.gguf": b"GGUF two",
}


@pytest.fixture
def server(hub: FakeServer) -> FakeServer:
    publish(hub, "org/tiny", FILES)
    return hub


def record(server: FakeServer, name: str, sha256: str) -> None:
    lfs = {"size": len(FILES[name]), "sha256": sha256, "pointerSize": 1}
    file = {"rfilename": name, "size": len(FILES[name]), "lfs": lfs}
    listed = {"id": "org/tiny", "sha": COMMIT, "siblings": [file], "cardData": {"license": "apache-2.0"}}
    server.on("GET /api/models/org/tiny", json_reply(listed))


class TestChoose:
    @pytest.mark.parametrize(
        ("selects", "chosen"),
        [
            (None, ["tiny-Q4_K_M.gguf"]),
            ("q8_0", ["tiny-Q8_0.gguf"]),
            ("tiny-Q8_0.gguf", ["tiny-Q8_0.gguf"]),
            ("F16", ["big/tiny-F16-00001-of-00002.gguf", "big/tiny-F16-00002-of-00002.gguf"]),
        ],
    )
    def test_what_is_meant(self, selects: str | None, chosen: list[str]) -> None:
        assert hub.choose("org/tiny", list(FILES), selects) == chosen
        assert hub.choose("org/tiny", ["a.gguf", "README.md"], None) == ["a.gguf"]

    @pytest.mark.parametrize(
        ("files", "selects", "message"),
        [
            (["a.safetensors"], None, "org/x has no GGUF file."),
            (["a-Q2_K.gguf", "b.gguf"], None, "org/x has several GGUF files. It has: a-Q2_K.gguf, b.gguf."),
            (["a-Q2_K.gguf"], "Q8_0", "org/x has no files for 'Q8_0'. It has: a-Q2_K.gguf."),
            (["a-Q4_0.gguf", "b-Q4_0.gguf"], "Q4_0",
             "org/x has 2 files for 'Q4_0'. It has: a-Q4_0.gguf, b-Q4_0.gguf."),
        ],
    )  # fmt: skip
    def test_none_or_several(self, files: list[str], selects: str | None, message: str) -> None:
        with pytest.raises(ModelError) as caught:
            hub.choose("org/x", files, selects)
        assert caught.value.message == message


class TestFetch:
    def test_it_is_fetched_kept_and_found(self, server: FakeServer) -> None:
        path = hub.fetch("org/tiny", None)
        assert (path.name, path.read_bytes()) == ("tiny-Q4_K_M.gguf", FILES["tiny-Q4_K_M.gguf"])
        assert [(each.repo, each.name, each.size) for each in hub.cached()] == [
            ("org/tiny", "tiny-Q4_K_M.gguf", 9)
        ]
        assert hub.find("org/tiny", None) == path
        assert hub.find("org/tiny", "Q8_0") is None
        assert hub.find("org/other", None) is None

    def test_all_parts_come_and_the_first_is_named(self, server: FakeServer) -> None:
        path = hub.fetch("org/tiny", "F16")
        assert path.name == "tiny-F16-00001-of-00002.gguf"
        assert path.with_name("tiny-F16-00002-of-00002.gguf").read_bytes() == b"GGUF two"

    def test_what_is_in_the_cache_is_used_without_a_connection(
        self, server: FakeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = hub.fetch("org/tiny", "Q8_0")
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
        assert hub.fetch("org/tiny", "Q8_0") == path

    def test_no_connection(self, server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
        with pytest.raises(ModelError) as caught:
            hub.fetch("org/tiny", None)
        assert caught.value.message.startswith(
            "org/tiny is not in the cache, and the hub cannot be reached: "
        )

    def test_what_comes_is_said_once_with_its_licence(
        self, server: FakeServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record(server, "tiny-Q4_K_M.gguf", hashlib.sha256(FILES["tiny-Q4_K_M.gguf"]).hexdigest())
        for _ in range(2):
            hub.fetch("org/tiny", None)
        assert capsys.readouterr().err == (
            "redraft: fetching org/tiny/tiny-Q4_K_M.gguf: 9 B, licence apache-2.0.\n"
        )

    def test_too_little_memory_is_said_before(
        self, server: FakeServer, capsys: pytest.CaptureFixture[str]
    ) -> None:
        record(server, "tiny-Q4_K_M.gguf", "0" * 64)
        with pytest.raises(ModelError):
            hub.fetch("org/tiny", None, memory=10**18)
        said = capsys.readouterr().err
        assert "the model needs 1e+06 TB of memory, but" in said
        assert "use a smaller model: redraft model list" in said

    def test_a_file_with_a_wrong_checksum_is_refused_and_removed(self, server: FakeServer) -> None:
        record(server, "tiny-Q4_K_M.gguf", "0" * 64)
        for _ in range(2):
            with pytest.raises(
                ModelError, match=r"damaged: its sha256 is \w{12}…, .* 000000000000…"
            ) as caught:
                hub.fetch("org/tiny", None)
        assert caught.value.hint == "Fetch it again: redraft model get org/tiny/tiny-Q4_K_M.gguf"
        assert list(hub.cached()) == []

    @pytest.mark.parametrize("fetch", [hub.fetch_folder, lambda name: hub.fetch(name, None)])
    def test_no_such_repository(self, server: FakeServer, fetch: Callable[[str], Path]) -> None:
        with pytest.raises(ModelError, match=r"the hub lacks this model or denies access \(404\)"):
            fetch("org/none")
        assert list(hub.cached()) == []


FOLDER = {
    "config.json": b"{}", "tokenizer.model": b"pieces", "model-00001-of-00001.safetensors": b"weights",
    "model.safetensors.index.json": b"{}", "pytorch_model.bin": b"a pickle", "training_args.bin": b"a pickle",
    "modeling_evil.py": b"print('never')", "consolidated.safetensors": b"twice", "onnx/config.json": b"{}",
}  # fmt: skip
WANTED = {
    "config.json", "tokenizer.model", "model-00001-of-00001.safetensors", "model.safetensors.index.json",
}  # fmt: skip


class TestFetchFolder:
    def test_weights_and_what_belongs_to_them_and_no_code(self, server: FakeServer) -> None:
        publish(server, "org/folder", FOLDER)
        folder = hub.fetch_folder("org/folder", pickle=True)
        assert {path.name for path in folder.rglob("*")} == WANTED
        assert (folder / "model-00001-of-00001.safetensors").read_bytes() == b"weights"

    def test_pickles_only_where_they_are_asked_for(self, server: FakeServer) -> None:
        files = {name: data for name, data in FOLDER.items() if "safetensors" not in name}
        publish(server, "org/folder", files)
        with pytest.raises(ModelError) as caught:
            hub.fetch_folder("org/folder")
        assert caught.value.message == ("org/folder has no safetensors, only .bin files, which are pickles.")
        assert "--allow-pickle" in (caught.value.hint or "")
        names = {path.name for path in hub.fetch_folder("org/folder", pickle=True).rglob("*")}
        assert names == {"config.json", "tokenizer.model", "pytorch_model.bin"}

    @pytest.mark.parametrize("pickle", [False, True])
    def test_what_is_in_the_cache_is_used_without_a_connection(
        self, server: FakeServer, monkeypatch: pytest.MonkeyPatch, pickle: bool
    ) -> None:
        files = {"config.json": b"{}", "pytorch_model.bin" if pickle else "model.safetensors": b"weights"}
        publish(server, "org/folder", files)
        folder = hub.fetch_folder("org/folder", pickle=pickle)
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
        assert hub.fetch_folder("org/folder", pickle=pickle) == folder
        if pickle:
            with pytest.raises(ModelError, match="cannot be reached"):
                hub.fetch_folder("org/folder")

    def test_half_a_folder_is_not_used_without_a_connection(
        self, server: FakeServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publish(server, "org/folder", FOLDER)
        (hub.fetch_folder("org/folder") / "model-00001-of-00001.safetensors").unlink()
        monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
        with pytest.raises(ModelError, match="org/folder is not in the cache, and the hub cannot be reached"):
            hub.fetch_folder("org/folder")

    @pytest.mark.parametrize(
        ("files", "message"),
        [
            ({"a-Q4_0.gguf": b""}, "org/folder has no safetensors, only GGUF files."),
            ({"README.md": b""}, "org/folder has no weights in safetensors. It has: README.md."),
            ({"consolidated.safetensors": b""},
             "org/folder has no weights in safetensors. It has: consolidated.safetensors."),
            ({}, "org/folder has no weights in safetensors. It has: nothing."),
        ],
    )  # fmt: skip
    def test_no_weights(self, server: FakeServer, files: dict[str, bytes], message: str) -> None:
        publish(server, "org/folder", files)
        with pytest.raises(ModelError) as caught:
            hub.fetch_folder("org/folder")
        assert caught.value.message == message

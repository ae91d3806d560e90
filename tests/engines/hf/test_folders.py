"""The folder that training starts from is made once, and again if its file changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from redraft.engines.hf.folders import folder_for
from redraft.errors import ModelError


def test_a_gguf_file_becomes_a_folder_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Path] = []

    def convert(_file: Path, to: Path, _run: Any) -> None:
        to.mkdir()
        made.append(to)

    monkeypatch.setenv("REDRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("redraft.weights.gguf.to_folder.import_gguf", convert)
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    first = folder_for(str(file))
    assert folder_for(str(file)) == first
    assert made == [Path(first)]
    file.write_bytes(b"GGUF and more")
    assert folder_for(str(file)) != first
    assert folder_for("org/name") == "org/name"
    with pytest.raises(ModelError, match="cannot be read"):
        folder_for("missing.gguf")

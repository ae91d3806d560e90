"""Hashes of files are kept while the files are there."""

from __future__ import annotations

import json
from pathlib import Path

from redraft.jobs.provenance import ContentHashes


def test_files_that_are_gone_are_forgotten_when_another_is_read(tmp_path: Path) -> None:
    kept, gone, new = (tmp_path / name for name in ("kept", "gone", "new"))
    for path in (kept, gone, new):
        path.write_text(path.name)
    cache = tmp_path / "hashes.json"
    for path in (kept, gone):
        ContentHashes(cache).of(path)
    gone.unlink()
    ContentHashes(cache).of(new)
    assert json.loads(cache.read_text()).keys() == {str(kept), str(new)}

"""Each command runs in an empty folder of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.serve.cluster.heads import ENVIRONMENT

os.environ.update(ENVIRONMENT)  # Ray reads it when it is imported, as some modules do here


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

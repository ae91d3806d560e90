"""The modules of benchmarks/ for its tests, which `make test-slow` runs: users run no benchmark."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "benchmarks"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/benchmarks/"):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """All modules of the folder by name, as a script finds them, and gone from the interpreter afterwards."""
    names = [path.stem for path in FOLDER.glob("*.py")]
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    sys.path.remove(str(FOLDER))
    for name in names:
        del sys.modules[name]

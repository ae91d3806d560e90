"""What benchmarks and scripts import from redraft is there. `make test-slow` runs them."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [*sorted((ROOT / "benchmarks").glob("*.py")), *sorted((ROOT / "scripts").glob("*.py"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text("utf-8"))):
        match node:
            case ast.ImportFrom(module=str(module), names=names) if module.split(".")[0] == "redraft":
                found = importlib.import_module(module)
                for name in (each.name for each in names):
                    if not hasattr(found, name):
                        importlib.import_module(f"{module}.{name}")
            case ast.Import(names=names):
                for name in (each.name for each in names if each.name.split(".")[0] == "redraft"):
                    importlib.import_module(name)

"""What benchmarks and scripts import from redraft is there. `make test-slow` runs them."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.test_architecture import modules_imported

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "scripts").glob("*.py")]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what other packages import
@pytest.mark.parametrize("script", sorted(SCRIPTS), ids=lambda path: path.stem)
def test_what_a_script_imports_is_there(script: Path) -> None:
    names = {name for _, name in modules_imported(script) if name.split(".")[0] == "redraft" and "." in name}
    homes = {name: name.rpartition(".")[0] for name in names}
    lacking = {
        name for name, home in homes.items() if not hasattr(import_module(home), name.rpartition(".")[2])
    }
    assert [name for name in lacking if not find_spec(name)] == []

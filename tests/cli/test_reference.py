"""docs/cli.md says what `--help` says today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from redraft.cli import app

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "scripts" / "cli_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_current(reference: ModuleType) -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == reference.page(), "docs/cli.md is not what --help says; run: make docs"


def test_the_page_has_every_command(reference: ModuleType) -> None:
    page = reference.page()
    for info in [*app.registered_commands, *app.registered_groups]:
        assert f"\n## redraft {info.name}\n" in page


def test_the_text_fits_a_terminal(reference: ModuleType) -> None:
    shown = [line for words in reference.verbs_of(app) for line in reference.help_of(words).splitlines()]
    assert [line for line in shown if len(line) > 80] == []
    assert "\x1b" not in "".join(shown)

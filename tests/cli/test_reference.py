"""docs/cli.md says what `--help` says today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from redraft.verify.derive import Auto
from redraft.verify.judge import Judge, Reward
from redraft.verify.text import Language

ROOT = Path(__file__).resolve().parents[2]
DATA_VERBS = ["import", "clean", "split", "dedupe", "decontaminate", "merge", "export", "stats"]
WEIGHTS_VERBS = ["diff", "apply", "convert", "gguf", "from-gguf", "merge-lora", "lora-gguf", "verify", "info"]
MODEL_VERBS = ("get", "list", "path", "remove")


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "scripts" / "cli_reference.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def page(reference: ModuleType) -> str:
    return cast("str", reference.page())


def test_the_page_is_current(page: str) -> None:
    written = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == page, "docs/cli.md is not what --help says; run: make docs"


def test_the_manual_page_is_current(reference: ModuleType) -> None:
    assert reference.MAN_PAGE.read_text("utf-8") == reference.man_page(), "run: make docs"


def test_the_table_of_options_is_current(reference: ModuleType) -> None:
    written = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert written == reference.python_page(), "the options of docs/python.md are others; run: make docs"


def test_the_table_of_models_is_current(reference: ModuleType) -> None:
    written = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert written == reference.engines_page(), "the models of docs/engines.md are others; run: make docs"


def test_the_page_has_every_command(page: str) -> None:
    headings = [line for line in page.splitlines() if line.startswith("## ")]
    verbs = [
        "ask",
        "chat",
        "answer",
        "serve",
        "mcp",
        "show",
        "checks",
        "eval",
        "judge",
        "vote",
        "report",
        "diagnose",
        "run",
        "merge",
        "doctor",
        "model",
        *(f"model {verb}" for verb in MODEL_VERBS),
    ]
    verbs += ["generate", "generate chains", "generate instructions"]
    verbs += ["data", *(f"data {verb}" for verb in DATA_VERBS)]
    verbs += ["weights", *(f"weights {verb}" for verb in WEIGHTS_VERBS)]
    verbs += ["train", "train sft", "train reward", "train ppo", "train dpo", "train self", "train watch"]
    assert headings == ["## redraft", *(f"## redraft {verb}" for verb in verbs)]


def test_the_text_fits_a_terminal(page: str) -> None:
    shown = page.splitlines()
    assert [line for line in shown[5:] if len(line) > 80] == []
    cut = [line for line in shown if line.startswith("  ") and line.endswith("...")]
    assert cut == [], "the first sentence of a help text is too long for the list of commands"
    assert "\x1b" not in page


def test_the_tables_of_checks_are_current(reference: ModuleType) -> None:
    written = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    assert written == reference.checks_page(), "what checks of docs/checks.md can do is other; run: make docs"
    for kind in (Judge, Reward, Auto, Language):  # no example of theirs is in it
        assert not [name for name in ("form", "schema", "prefix", "fix") if hasattr(kind, name)]

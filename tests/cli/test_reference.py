"""docs/cli.md and docs/cli/ say what `--help` says today."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from redraft.checks.groups import Auto
from redraft.checks.judge import Judge, Reward
from redraft.checks.language import Language

ROOT = Path(__file__).resolve().parents[2]
DATA_VERBS = ["import", "clean", "split", "dedupe", "decontaminate", "merge", "export", "stats"]
WEIGHTS_VERBS = ["diff", "apply", "convert", "gguf", "from-gguf"]
WEIGHTS_VERBS += ["merge-lora", "lora-gguf", "verify", "info"]


@pytest.fixture(scope="module")
def reference() -> Any:
    return SimpleNamespace(**runpy.run_path(str(ROOT / "scripts" / "cli_reference.py")))


@pytest.fixture(scope="module")
def pages(reference: Any) -> dict[Path, str]:
    return cast("dict[Path, str]", reference.pages())


def test_the_pages_are_current(pages: dict[Path, str]) -> None:
    docs = ROOT / "docs"
    written = {path: path.read_text("utf-8") for path in (docs / "cli.md", *(docs / "cli").iterdir())}
    assert written == pages, "docs/cli is not what --help says; run: make docs"


def test_the_manual_page_is_current(reference: Any) -> None:
    assert reference.MAN_PAGE.read_text("utf-8") == reference.man_page(), "run: make docs"


def test_the_table_of_models_is_current(reference: Any) -> None:
    written = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert written == reference.engines_page(), "the models of docs/engines.md are others; run: make docs"


def test_the_pages_have_every_command(pages: dict[Path, str]) -> None:
    lines = "\n".join(pages.values()).splitlines()
    headings = [line.lstrip("# ") for line in lines if re.match(r"##? redraft ", line)]
    verbs = ["ask", "chat", "answer", "show", "checks", "serve", "mcp"]
    verbs += ["eval", "judge", "vote", "report", "diagnose"]
    verbs += ["generate", "generate chains", "generate instructions"]
    verbs += ["data", *(f"data {verb}" for verb in DATA_VERBS)]
    verbs += ["train", "train sft", "train reward", "train ppo", "train self"]
    verbs += ["weights", *(f"weights {verb}" for verb in WEIGHTS_VERBS)]
    verbs += ["run", "merge", "model", *(f"model {verb}" for verb in ("get", "list")), "doctor"]
    assert headings == [f"redraft {verb}" for verb in verbs]


def test_the_text_fits_a_terminal(pages: dict[Path, str]) -> None:
    page = "\n".join(pages.values())
    shown = [line for line in page.splitlines() if not line.startswith("<!--")]
    assert [line for line in shown if len(line) > 80] == []
    cut = [line for line in shown if line.startswith("  ") and line.endswith("...")]
    assert cut == [], "the first sentence of a help text is too long for the list of commands"
    assert "\x1b" not in page


def test_the_tables_of_checks_are_current(reference: Any) -> None:
    written = (ROOT / "docs" / "checks.md").read_text(encoding="utf-8")
    assert written == reference.checks_page(), "what checks of docs/checks.md can do is other; run: make docs"
    for kind in (Judge, Reward, Auto, Language):  # no example of theirs is in it
        assert not [name for name in ("form", "schema", "prefix") if hasattr(kind, name)]

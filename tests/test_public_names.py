"""The public surface of `redraft`, pinned: adding, renaming or losing a name is a decision, made here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import redraft

PUBLIC = [
    "Budget",
    "Chain",
    "Check",
    "CheckResult",
    "Feedback",
    "Outcome",
    "Price",
    "Prompt",
    "RedraftError",
    "Sampling",
    "ScriptedEngine",
    "Step",
    "Usage",
    "__version__",
    "arevise",
    "failed",
    "load_engine",
    "parse_check",
    "passed",
    "read_jsonl",
    "revise",
    "stream",
    "write_jsonl",
]


def test_the_list_is_the_one_agreed() -> None:
    assert sorted(redraft.__all__) == sorted(PUBLIC)
    assert dir(redraft) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_can_be_imported(name: str) -> None:
    assert getattr(redraft, name) is not None


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(redraft.__file__).read_text(encoding="utf-8"))
    typed = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("redraft.")
        for alias in node.names
    }
    assert typed | {"__version__"} == set(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rewrite'"):
        redraft.rewrite  # noqa: B018  (looking it up is the point)

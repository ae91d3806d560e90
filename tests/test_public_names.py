"""The public surface of `redraft`, pinned: adding, renaming or losing a name is a decision, made here."""

from __future__ import annotations

import ast
import subprocess
import sys
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


@pytest.mark.parametrize(
    "before",
    ["", "redraft.Budget", "redraft.arevise", "import redraft.revise.driver as driver; driver.__name__"],
)
def test_revise_is_callable_whatever_was_imported_before(before: str) -> None:
    # It is a package too, so this needs a fresh Python.
    code = f"""
import redraft
{before}
print(redraft.revise("hi", model=redraft.ScriptedEngine(["hello"]), checks=["words<=1"]).answer)
import redraft.revise.driver as after
print(after.__name__, redraft.revise.driver is after)
print(redraft.revise("hi", model=redraft.ScriptedEngine(["hello"]), checks=["words<=1"]).answer)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "hello\nredraft.revise.driver True\nhello\n", done.stderr


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'rewrite'"):
        redraft.rewrite  # noqa: B018  (looking it up is the point)

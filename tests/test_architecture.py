"""The rules that the code keeps, read from the code itself.

Rooms: a package imports itself and those before it. Sizes: functions that
fit a glance, files that fit an hour. And a help text that costs nothing.
"""

from __future__ import annotations

import ast
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from redraft.cli.commands import verbs

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "redraft"
MODULES = sorted(SRC.rglob("*.py"))

# A room imports itself and the rooms before it.
ROOMS = (
    "errors", "options", "jobs", "chain", "weights", "engines", "checks", "revision", "evaluation", "data",
    "train", "serve", "integrations", "cli", "__main__",
)  # fmt: skip
APART = {("data", "weights"), ("weights", "chain"), ("serve", "train"), ("serve", "data")}
"""Imports that point down and are not allowed, so that each can be read without the other."""

HEAVY = {
    *("torch", "transformers", "pydantic", "httpx", "huggingface_hub", "jsonschema", "yaml", "xllamacpp"),
    *("regex", "rich.console", "asyncio", "ctypes", "numpy", "gguf"),
}
BELOW = ("redraft.chain", "redraft.engines", "redraft.jobs.", "redraft.revision.")
"""What no help text needs, but for these, which are small."""
SMALL = {f"redraft.jobs.{name}" for name in ("counting", "files", "formats", "machine", "plugins")}
SMALL |= {"redraft.revision.runs", "redraft.revision.runs.options"}


def package_of(module: str) -> str | None:
    """`redraft.engines.base` -> `engines`; None for the root, its names and others' modules."""
    parts = module.split(".")
    return parts[1] if parts[0] == "redraft" and len(parts) > 1 and parts[1] in ROOMS else None


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules_imported(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree_of(path)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute here"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield node.lineno, name


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SRC)))
def test_imports_only_point_down(path: Path) -> None:
    importer = path.relative_to(SRC).parts[0].removesuffix(".py")
    if importer == "__init__":
        return  # its imports are lazy, and the pinned names test walks them
    assert importer in ROOMS, f"{importer} is none of the rooms: put it into one"
    wrong = [
        f"{path}:{line}: {importer} imports {room}"
        for line, name in modules_imported(path)
        if (room := package_of(name))
        and (ROOMS.index(room) > ROOMS.index(importer) or (importer, room) in APART)
    ]
    assert wrong == []


FLOORS = {
    "train": (
        *("processes", "options", "prepare", "attention", "batches", "loss", "load", "checkpoints"),
        *("guards", "trained", "loop", "verb", "sft", "reward", "rl", "ppo", "run", "look", "api", "self"),
        "systems",
    ),
    "evaluation": ("pages", "tasks", "judging", "voting", "reports", "diagnosis"),
}
"""Rooms with floors, folders or modules: a floor imports those before it. Other modules import none."""


@pytest.mark.parametrize("package", FLOORS)
def test_floors_of_a_room_point_in_one_direction(package: str) -> None:
    floors = FLOORS[package]
    assert {path.parent.name for path in (SRC / package).glob("*/__init__.py")} <= set(floors)

    def floor_of(path: Path) -> int:
        name = path.relative_to(SRC / package).parts[0].removesuffix(".py")
        return floors.index(name) if name in floors else -1

    wrong = [
        f"{path.relative_to(SRC)}:{line}: {name}"
        for path in (SRC / package).rglob("*.py")
        for line, name in modules_imported(path)
        if name.startswith(f"redraft.{package}.")
        and (floor := name.split(".")[2]) in floors
        and floors.index(floor) > floor_of(path)
    ]
    assert wrong == []


SHARED = {"__init__", "ask", "commands", "common", "cluster", "options", "render", "running", "shell"}
SHARED |= {"verb", "watch"}
"""Modules of `cli` that verbs share. Each other one is a verb."""


@pytest.mark.parametrize("path", sorted((SRC / "cli").rglob("*.py")), ids=lambda path: path.stem)
def test_the_command_line_parses_calls_and_prints(path: Path) -> None:
    assert path.read_bytes().count(b"\n") <= 400
    if path.stem in ("__init__", "commands"):
        return  # they gather the verbs of a group
    of_cli = (name.split(".")[2:] for _, name in modules_imported(path) if name.startswith("redraft.cli."))
    assert {parts[1] if (SRC / "cli" / parts[0]).is_dir() else parts[0] for parts in of_cli} <= SHARED


def functions_of(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            yield f"{path.relative_to(SRC)}:{node.name}", node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    lengths = {name: length for path in MODULES for name, length in functions_of(path)}
    assert [name for name, length in lengths.items() if length > 80] == []
    assert statistics.median(lengths.values()) <= 10
    assert statistics.quantiles(lengths.values(), n=10)[-1] <= 35


def test_files_are_short() -> None:
    files = [*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    long = {str(path): count for path in files if (count := len(path.read_text("utf-8").splitlines())) > 700}
    assert long == {}


def test_modules_say_what_they_do() -> None:
    assert [str(path) for path in MODULES if not ast.get_docstring(tree_of(path))] == []


def tracked_text() -> Iterator[tuple[str, str]]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout, so there is no list of the project's files")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in (data := path.read_bytes())[:4096]:
            yield name, data.decode("utf-8")


# Written in two halves, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b|raise NotImplemented" r"Error")
MACHINE_PATH = re.compile(r"/(?:work|opt/pypi|opt/wheels|root)/" r"|/home/\w+/|/Users/\w+/")


@pytest.mark.parametrize("pattern", [UNFINISHED, MACHINE_PATH], ids=["unfinished", "machine path"])
def test_nothing_of_the_workshop_is_left(pattern: re.Pattern[str]) -> None:
    own = "tests/test_architecture.py"
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, text in tracked_text()
        if name != own and not name.startswith("tests/data/") and "/vendor/" not in name
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == []


HELPS = """
import json, os, sys
from redraft.cli.commands import app
for words in json.loads(sys.argv[1]):
    if not os.fork():
        try:
            app(words, prog_name="redraft")
        except SystemExit as end:
            assert end.code == 0
        print(json.dumps(sorted(sys.modules)), file=sys.stderr, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""
"""Prints what was imported after each help, each in a process of its own."""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    """What a fresh Python has imported after the help of each verb, and of the command itself (no name)."""
    names = ["", *verbs()]
    run = [sys.executable, "-c", HELPS, json.dumps([[*filter(None, [name]), "--help"] for name in names])]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return dict(zip(names, map(set, map(json.loads, done.stderr.splitlines())), strict=True))


@pytest.mark.parametrize("verb", ["", *verbs()])
def test_help_imports_nothing_heavy(loaded: dict[str, set[str]], verb: str) -> None:
    assert "redraft.cli" in loaded[verb]
    # typer itself converts the values of a verb's options with pydantic.
    assert loaded[verb] & HEAVY <= ({"pydantic"} if verb else set())
    assert {name for name in loaded[verb] if name.startswith(BELOW)} <= SMALL


@pytest.mark.parametrize(
    ("code", "most", "heavy"),
    [
        ("import redraft", 0, set()),
        ("import redraft; redraft.revise", 55, {"asyncio", "pydantic", "regex"}),
        ("from redraft.checks.kinds import check_kinds; check_kinds()", 6, set()),
    ],
)
def test_importing_redraft_imports_little(code: str, most: int, heavy: set[str]) -> None:
    """What one kind of check or engine alone needs is imported where it is used."""
    run = [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"]
    modules = set(subprocess.run(run, capture_output=True, text=True, check=True).stdout.split())
    assert modules & HEAVY == heavy
    own = sorted(name for name in modules if name.startswith("redraft."))
    assert len(own) <= most, own

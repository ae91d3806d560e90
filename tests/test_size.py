"""The source has a ceiling of lines, of files and of names at its top; all code together has one of lines.

It is not raised: a new feature pays for its lines by what it removes.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "redraft"

LINES = 70_000
FILES = 349
NAMES = 16
WHOLE = 146_200


def files_of(folder: Path) -> list[Path]:
    return [*folder.rglob("*.py"), *folder.rglob("*.pyi")]


def lines_of(folder: Path) -> int:
    return sum(file.read_bytes().count(b"\n") for file in files_of(folder))


def test_the_source_stays_under_its_ceilings() -> None:
    assert lines_of(SOURCE) <= LINES
    assert len(files_of(SOURCE)) <= FILES
    packages = [path.parent.name for path in SOURCE.glob("*/__init__.py")]
    assert len([*SOURCE.glob("*.py"), *packages]) <= NAMES


def test_source_tests_and_benchmarks_stay_under_theirs() -> None:
    assert sum(lines_of(folder) for folder in (SOURCE, ROOT / "tests", ROOT / "benchmarks")) <= WHOLE

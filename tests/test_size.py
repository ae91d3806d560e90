"""The tree stays as small as it is: each package has a ceiling of lines, in `pyproject.toml`.

Whoever raises a ceiling says why in the commit.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "redraft"
SIZE = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["redraft"]["size"]
TOP = "modules at the top"


def lines_of(files: list[Path]) -> int:
    return sum(file.read_bytes().count(b"\n") for file in files)


def files_of(package: str) -> list[Path]:
    return list(SOURCE.glob("*.py") if package == TOP else (SOURCE / package).rglob("*.py"))


PACKAGES = [TOP, *(path.name for path in SOURCE.iterdir() if path.is_dir() and files_of(path.name))]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_no_longer_than_its_ceiling(package: str) -> None:
    found, ceiling = lines_of(files_of(package)), SIZE["lines"][package]
    assert found <= ceiling, (
        f"{package} has {found:,} lines, and its ceiling is {ceiling:,}: shorten it, or say why"
    )


def test_ceilings_are_of_packages() -> None:
    assert set(SIZE["lines"]) == set(PACKAGES)


def test_files_and_tests_have_ceilings_too() -> None:
    assert sum(len(files_of(package)) for package in PACKAGES) <= SIZE["files"]
    assert lines_of(list((ROOT / "tests").rglob("*.py"))) <= SIZE["tests"]

"""Writes docs/cli.md from what `redraft --help` and each verb's `--help` really say. `make docs` runs it.

The text is the one that a terminal of 80 columns shows. A test fails when the page is not current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import typer
from typer.testing import CliRunner

from redraft.cli import app

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
INTRODUCTION = """\
# The command line

<!-- Made by scripts/cli_reference.py: change the help texts in src/redraft/cli, then run `make docs`. -->

What each command says of itself with `--help`.
"""


def verbs_of(sub: typer.Typer, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command of an app, as typed after `redraft`; a group comes before its own."""
    yield before
    for command in sub.registered_commands:
        yield (*before, str(command.name))
    for group in sub.registered_groups:
        assert group.typer_instance
        yield from verbs_of(group.typer_instance, (*before, str(group.name)))


def help_of(words: tuple[str, ...]) -> str:
    """What `redraft WORDS --help` prints, 80 columns wide and without colour."""
    result = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(
        app, [*words, "--help"], prog_name="redraft"
    )
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def page() -> str:
    """The whole page, in Markdown."""
    sections = [
        f"## {' '.join(['redraft', *words])}\n\n```text\n{help_of(words)}\n```\n" for words in verbs_of(app)
    ]
    return "\n".join([INTRODUCTION, *sections])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

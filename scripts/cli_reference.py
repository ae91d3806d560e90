"""Writes docs/cli.md from what `redraft --help` and each verb's `--help` really say. `make docs` runs it.

It also writes the table of options in docs/python.md, from the definitions of the options.

The text is the one that a terminal of 80 columns shows. A test fails when the page is not current.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from redraft.cli import app
from redraft.options import allowed, options_of
from redraft.revision.options import RevisionOptions

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
PYTHON_PAGE = PAGE.with_name("python.md")
HEADER = "| option | what it takes | meaning | if left out |"
INTRODUCTION = """\
# The command line

<!-- Made by scripts/cli_reference.py: change the help texts in src/redraft/cli, then run `make docs`. -->

What each command says of itself with `--help`.
"""


def verbs_of(command: object, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command, as typed after `redraft`; a group comes before its own."""
    yield before
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from verbs_of(below, (*before, name))


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
        f"## {' '.join(['redraft', *words])}\n\n```text\n{help_of(words)}\n```\n"
        for words in verbs_of(get_command(app))
    ]
    return "\n".join([INTRODUCTION, *sections])


def table_of_options() -> str:
    """The table of docs/python.md: each option of `redraft.revise`, as it is defined."""
    rows = [HEADER, "|---|---|---|---|"]
    for name, option in options_of(RevisionOptions).items():
        default = "" if not isinstance(option.default, str | int) else f"`{option.default!r}`"
        cells = (f"`{name}`", allowed(option), option.text, default)
        rows.append(f"| {' | '.join(cells)} |".replace("  ", " "))
    return "\n".join(rows)


def python_page() -> str:
    """docs/python.md with the table of options as it has to be."""
    before, _, rest = PYTHON_PAGE.read_text(encoding="utf-8").partition(HEADER)
    _, end, after = rest.partition("\n\n")
    return f"{before}{table_of_options()}{end}{after}"


if __name__ == "__main__":
    PYTHON_PAGE.write_text(python_page(), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")

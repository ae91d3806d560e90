"""Write docs/cli.md, docs/cli/ and the manual page from the help of all commands. `make docs` runs this.

It also writes the tables of models in docs/engines.md, and of checks in docs/checks.md.

Help is formatted for a terminal of 80 columns. A test fails if a page is out of date.
"""

from __future__ import annotations

import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from redraft.checks.base import Check, Prefixed, form_of, schema_of
from redraft.checks.ifeval import TYPES, Constraint
from redraft.checks.kinds import CheckKind, check_kinds
from redraft.checks.parse import parse_check
from redraft.cli.commands import app
from redraft.cli.verb import everyday_options
from redraft.engines.names import RECOMMENDED
from redraft.jobs.counting import size_in_words

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
CHECKS_PAGE = PAGE.with_name("checks.md")
ENGINES_PAGE = PAGE.with_name("engines.md")
MAN_PAGE = PAGE.parents[1] / "src" / "redraft" / "cli" / "redraft.1"
MAN = """\
.\\" Made by scripts/cli_reference.py from --help: run `make docs`.
.TH REDRAFT 1 "" "redraft" "User commands"
.SH NAME
redraft \\- answers that pass your checks, from the model that you run
.SH DESCRIPTION
A language model drafts, its draft is criticised, and it revises until the criticism says stop, checks pass,
or a budget ends. Type
.B redraft help COMMAND
for the options of a command.
.SH FILES
.TP
.I ~/.config/redraft/config.toml
servers, the environment variables of their keys, and defaults
.TP
.I ~/.cache/redraft
files that can be fetched again, such as the default model
"""
BEGIN = "<!-- Made by scripts/cli_reference.py from the docstrings of checks: run `make docs`. -->\n"
END = "<!-- That was made. -->"
MODELS = "| model | `--model` | size | memory | licence | IFEval | good for |"
MADE = "<!-- Made by scripts/cli_reference.py: change the texts in src/redraft/cli, then run `make docs`. -->"
INTRODUCTION = f"""\
# The command line

{MADE}

Each command has a page with all its options, as `--help-all` prints them.
`--help` and `redraft help COMMAND` show the most common options.

After `redraft --install-completion`, Tab completes commands and options in
bash, zsh and fish.
"""


def verbs_of(command: object, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command, as typed after `redraft`. A group comes before its commands."""
    yield before
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from verbs_of(below, (*before, name))


def help_of(words: tuple[str, ...]) -> str:
    """Return the output of `redraft WORDS --help-all`, 80 columns wide and without colour."""
    flag = "--help-all" if everyday_options(words[-1] if words else "") else "--help"
    result = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(app, [*words, flag], prog_name="redraft")
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def section(words: tuple[str, ...]) -> str:
    return f"```text\n{help_of(words)}\n```\n"


def pages() -> dict[Path, str]:
    """Return the Markdown of docs/cli.md, and of the page of each top-level command or group."""
    texts: dict[Path, str] = {}
    for words in verbs_of(get_command(app)):
        if words:
            path = PAGE.with_suffix("") / f"{words[0]}.md"
            title = (
                f"# redraft {words[0]}\n\n{MADE}\n"
                if path not in texts
                else f"## redraft {' '.join(words)}\n"
            )
            texts[path] = "\n".join([*filter(None, [texts.get(path)]), title, section(words)])
    links = " ·\n".join(f"[{path.stem}](cli/{path.name})" for path in texts)
    return {PAGE: "\n".join([INTRODUCTION, f"{links}\n", section(())]), **texts}


def table_of_models() -> str:
    """Return the table of recommended models in docs/engines.md."""
    rows = [MODELS, "|---|---|---|---|---|---|---|"]
    for model in RECOMMENDED:
        name = f"`{model.name}`, " if model.name else ""
        size, memory = size_in_words(model.size), size_in_words(model.memory)
        cells = (f"{model.billions:g} billion", f"{name}`{model.ref}`", size, memory)
        rows.append(f"| {' | '.join(cells)} | {model.licence} | {model.ifeval} % | {model.good_for} |")
    return "\n".join(rows)


def engines_page() -> str:
    """Return the text that docs/engines.md should have."""
    before, _, rest = ENGINES_PAGE.read_text(encoding="utf-8").partition(MODELS)
    _, end, after = rest.partition("\n\n")
    return f"{before}{table_of_models()}{end}{after}"


EXAMPLES = {
    "TEXT": "It is.",
    "REGEX": "^a$",
    "FILE": "schema.json",
    "TYPE VALUES": 'keywords:existence {"keywords": ["rain"]}',
    "module.function": "operator.not_",
    "PROGRAM ARGS": "cat",
    "A; B": "words<=9; lacks:a",
}
"""Example values for the placeholders in the forms of checks."""
OTHERS = {"ifeval": "most types", "auto": "as its checks do", "judge": "", "reward": "", "language": ""}
"""The table cells of checks that have no example."""


def example_of(kind: CheckKind, folder: str) -> Check:
    """Return an example of a kind of check. A file that it needs is written into `folder`."""
    form = kind.form
    for blank, value in EXAMPLES.items():
        form = form.replace(blank, value)
    Path(folder, "schema.json").write_text('{"type": "object"}')
    return parse_check(form.replace("schema.json", f"{folder}/schema.json"))


def said(value: object) -> str:
    """Return the first line of a docstring as a table cell."""
    text = (inspect.getdoc(value) or "").split("\n")[0].removesuffix(".")
    for prefix in ("Return `lost` ", "A `Form` that steers a model ", "A schema of "):
        text = text.removeprefix(prefix)
    return f"{text[:1].lower()}{text[1:]}" if text[1:2].islower() else text


def abilities_of(check: Check) -> list[str]:
    """Return two table cells: how a check steers a text, and when it ends one."""
    of = type(check)
    steers = said(of.form) if form_of(check) else said(of.schema) if schema_of(check) else ""  # type: ignore[attr-defined]
    ends = said(of.prefix) if isinstance(check, Prefixed) else ""
    return [steers, ends]


def tables_of_checks() -> str:
    """Return the tables of docs/checks.md on the abilities of checks and IFEval types. Join equal rows."""
    forms: dict[tuple[str, ...], list[str]] = {}
    with TemporaryDirectory() as folder:
        for name, kind in check_kinds().items():
            cells = [OTHERS[name]] * 2 if name in OTHERS else abilities_of(example_of(kind, folder))
            forms.setdefault(tuple(cells), []).append(f"`{kind.form}`")
    only_judge = ", ".join(forms.pop(("", "")))
    rows = ["| check | steers | ends a text |", "|---|---|---|"]
    rows += [f"| {', '.join(names)} | {' | '.join(cells)} |" for cells, names in forms.items()]
    rows += ["", f"These only judge: {only_judge}.", ""]
    steer = ", ".join(
        f"`{name}`" for name in sorted(TYPES) if not (TYPES[name].form or Constraint(name).schema)
    )
    end = ", ".join(f"`{name}`" for name in sorted(TYPES) if not TYPES[name].lost)
    rows.append(f"Each type of `ifeval` steers the model, except {steer}.")
    rows.append(f"All types end a text that can no longer pass, except {end}.")
    return "\n".join(row.replace("  ", " ") for row in rows)


def checks_page() -> str:
    """Return the text that docs/checks.md should have."""
    before, begin, rest = CHECKS_PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{tables_of_checks()}\n\n{end}{after}"


def man_page() -> str:
    """Return the manual page redraft(1), in roff, with the text of `redraft --help`."""
    text = help_of(()).replace("\\", "\\e").replace("-", "\\-")
    return f"{MAN}.SH USAGE\n.nf\n{text}\n.fi\n"


if __name__ == "__main__":
    MAN_PAGE.write_text(man_page(), encoding="utf-8")
    CHECKS_PAGE.write_text(checks_page(), encoding="utf-8")
    ENGINES_PAGE.write_text(engines_page(), encoding="utf-8")
    shutil.rmtree(PAGE.with_suffix(""), ignore_errors=True)
    PAGE.with_suffix("").mkdir()
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")

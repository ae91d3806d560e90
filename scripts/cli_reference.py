"""Writes docs/cli.md and docs/cli/ from what `redraft --help` and each verb's say. `make docs` runs it.

It also writes the table of models in docs/engines.md, and that of checks in docs/checks.md, from docstrings.

The text is the one that a terminal of 80 columns shows. A test fails when a page is not current.
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
servers, the variables that have their keys, and defaults
.TP
.I ~/.cache/redraft
what can be fetched again, such as the default model
"""
BEGIN = "<!-- Made by scripts/cli_reference.py from the docstrings of checks: run `make docs`. -->\n"
END = "<!-- That was made. -->"
MODELS = "| model | `--model` | size | memory | licence | IFEval | good for |"
MADE = "<!-- Made by scripts/cli_reference.py: change the texts in src/redraft/cli, then run `make docs`. -->"
INTRODUCTION = f"""\
# The command line

{MADE}

Each command has a page with all its options, as `--help-all` prints them.
`--help` and `redraft help COMMAND` show the options that people use.

After `redraft --install-completion`, Tab completes commands and options in
bash, zsh and fish.
"""


def verbs_of(command: object, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of each command, as typed after `redraft`; a group comes before its own."""
    yield before
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from verbs_of(below, (*before, name))


def help_of(words: tuple[str, ...]) -> str:
    """What `redraft WORDS --help-all` prints, 80 columns wide and without colour."""
    flag = "--help-all" if everyday_options(words[-1] if words else "") else "--help"
    result = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"}).invoke(app, [*words, flag], prog_name="redraft")
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip().splitlines())


def section(words: tuple[str, ...]) -> str:
    """What a command says of itself."""
    return f"```text\n{help_of(words)}\n```\n"


def pages() -> dict[Path, str]:
    """The Markdown of docs/cli.md, and of a page for each word that may follow `redraft`."""
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
    """The table of docs/engines.md: the models that are recommended."""
    rows = [MODELS, "|---|---|---|---|---|---|---|"]
    for model in RECOMMENDED:
        name = f"`{model.name}`, " if model.name else ""
        size, memory = size_in_words(model.size), size_in_words(model.memory)
        cells = (f"{model.billions:g} billion", f"{name}`{model.ref}`", size, memory)
        rows.append(f"| {' | '.join(cells)} | {model.licence} | {model.ifeval} % | {model.good_for} |")
    return "\n".join(rows)


def engines_page() -> str:
    """docs/engines.md with the table of models as it has to be."""
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
"""What stands for the blanks in the forms of checks."""
OTHERS = {"ifeval": "most types", "auto": "as its checks do", "judge": "", "reward": "", "language": ""}
"""What is said of checks that no example shows."""


def example_of(kind: CheckKind, folder: str) -> Check:
    """A check of a kind. A file of its is put into a folder."""
    form = kind.form
    for blank, value in EXAMPLES.items():
        form = form.replace(blank, value)
    Path(folder, "schema.json").write_text('{"type": "object"}')
    return parse_check(form.replace("schema.json", f"{folder}/schema.json"))


def said(value: object) -> str:
    """The first sentence of a docstring, for a cell."""
    text = (inspect.getdoc(value) or "").split("\n")[0].removesuffix(".")
    text = text.removeprefix("Return `lost` ").removeprefix("The form of ")
    return f"{text[:1].lower()}{text[1:]}" if text[1:2].islower() else text


def abilities_of(check: Check) -> list[str]:
    """What a check steers, and when it ends a text."""
    of = type(check)
    steers = said(of.form) if form_of(check) else said(of.schema) if schema_of(check) else ""  # type: ignore[attr-defined]
    ends = said(of.prefix) if isinstance(check, Prefixed) else ""
    return [steers, ends]


def tables_of_checks() -> str:
    """What docs/checks.md says of what each kind can do, and each type of IFEval. Equal rows are one."""
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
    rows += [f"All types of `ifeval` steer, except {steer}.", f"All end a text, except {end}."]
    return "\n".join(row.replace("  ", " ") for row in rows)


def checks_page() -> str:
    """docs/checks.md with its tables as they have to be."""
    before, begin, rest = CHECKS_PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    return f"{before}{begin}\n{tables_of_checks()}\n\n{end}{after}"


def man_page() -> str:
    """The manual page redraft(1), in roff: what `redraft --help` says. Each command has its own --help."""
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

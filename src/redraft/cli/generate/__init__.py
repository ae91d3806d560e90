"""`redraft generate`: make training data with a teacher. Each command is one small file."""

from __future__ import annotations

import typer

from redraft.cli.generate import chains, instructions
from redraft.cli.shell import Verb

app = typer.Typer(
    help="Generate training data with a teacher.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

app.command("chains", cls=Verb)(chains.chains)
app.command("instructions", cls=Verb)(instructions.instructions)

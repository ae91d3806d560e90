"""`redraft generate instructions`: seeds and a teacher become a file of tasks, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.options import FlagGroup, Given, fill_in
from redraft.cli.parameters import takes
from redraft.cli.running import check_out
from redraft.cli.shell import only_ours

FLAGS = FlagGroup(
    "redraft.generate.options:InstructionOptions",
    recipes="generate",
    other="generate chains",
    in_recipes="redraft.generate.options:TaskFlags",
)


def instructions(
    flags: Given,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the tasks go, as chains.")],
) -> None:
    """Generate instructions with inputs and outputs.

    FILE gets a chain for each task; for Alpaca's shape: redraft data export FILE --to alpaca. FILE is the
    pool too: the same command goes on after any stop, and a larger --count goes on from what is there. Each
    reply is stored in FILE.journal.db before it is used, so none is paid for twice.

    Rejected tasks are in FILE.rejected.jsonl, with the rule and the nearest instruction. FILE.html shows
    verbs, lengths and rejects. FILE.run.json records how FILE was made.

    With --batch calls go through the server's batches, in waves. It is for --way alpaca: its requests depend
    on the seeds alone.

    The run ends when there are enough instructions, at a limit (exit status 4), or when 25 requests in a row
    give nothing that is new and sound (exit status 3).
    """
    from redraft.generate.instructions.run import InstructionRun

    check_out(out, "-o tasks.jsonl")
    settings = fill_in(flags, FLAGS)
    with only_ours():
        made = InstructionRun.of(settings, out).run()
    if not settings.values.quiet:
        typer.echo(str(made))
    raise typer.Exit(made.exit_status)


instructions = takes(instructions, FLAGS)

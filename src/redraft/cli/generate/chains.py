"""`redraft generate chains`: a teacher makes a feedback chain of each record, resumable, paid for once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.options import FlagGroup, Given, fill_in
from redraft.cli.parameters import takes
from redraft.cli.prompts import prompts_file
from redraft.cli.running import Out, check_out, print_result
from redraft.generate import USUAL

FLAGS = FlagGroup(
    "redraft.generate.options:ChainOptions",
    USUAL,
    "generate",
    never_default=frozenset({"check"}),
    other="generate instructions",
    in_recipes="redraft.generate.options:ChainFlags",
)
"""Checks replace the critic, so those of the config file, meant for answers, do not apply."""


def chains(
    flags: Given,
    source: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="A file of records, of any known shape; '-' is stdin.")
    ],
    out: Out,
) -> None:
    """Make feedback chains with a teacher, to learn from.

    FILE gets a chain for each record. The model answers, criticises its answer with a score and a verdict,
    and corrects it until the score is good enough. Where the model's server keeps to JSON schemas, score and
    verdict are fields; otherwise they are read from the text.

    Every reply is stored before it is used, in FILE.journal.db: after any stop, the same command goes on, and
    nothing is paid for twice. Failures are in FILE.errors.jsonl and are tried again.

    With --gold the critic sees the record's gold answer, and the writer never does; feedback that quotes it
    is counted. With --first the record's own answer is criticised. With --verify no teacher's opinion is
    asked: a check with the gold answer gives the verdict.
    """
    from redraft.generate.chain_run import ChainRun

    check_out(out, "-o out.jsonl, then: redraft show out.jsonl --json")
    settings = fill_in(flags, FLAGS)
    with prompts_file(source) as (file, name):
        print_result(ChainRun.of(settings, file, out, name).run, quiet=settings.values.quiet)


chains = takes(chains, FLAGS)

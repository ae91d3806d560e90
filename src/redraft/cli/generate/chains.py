"""`redraft generate chains`: a teacher makes a feedback chain of each record, resumable, paid for once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from redraft.cli.options import FlagGroup, Given, fill_in, takes
from redraft.cli.running import (
    First,
    Out,
    OwnJournal,
    RetryFailed,
    RunFlags,
    check_out,
    name_of,
    own_journal,
    print_result,
    prompts_file,
)
from redraft.cli.shell import tell
from redraft.generate import ACCEPT_SCORE, USUAL

if TYPE_CHECKING:
    from redraft.revision.settings import Settings

FLAGS = FlagGroup(
    "redraft.options:ChainFlags",
    USUAL,
    "generate",
    never_default=frozenset({"check"}),
    other="generate instructions",
)
"""Checks replace the critic, so those of the config file, meant for answers, do not apply."""


def chains(
    flags: Given,
    source: Annotated[
        Path, typer.Argument(metavar="RECORDS", help="A file of records, of any known shape; '-' is stdin.")
    ],
    out: Out,
    run: RunFlags,
    limit: First = None,
    journal: OwnJournal = None,
    retry_failed: RetryFailed = False,
    run_code: Annotated[
        bool,
        typer.Option(
            "--run-code",
            help="Let --verify code run the model's programs, in a sandbox.",
            rich_help_panel="Teacher",
        ),
    ] = False,
    estimate: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=2, help="Make N chains alone, and estimate what all cost.", show_default=False
        ),
    ] = None,
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
    from redraft.generate.chain_run import OF_A_RUN, ChainRun
    from redraft.generate.chains import ChainMaking
    from redraft.revision.prompts import wording_of

    settings = fill_in(flags, FLAGS)
    values = settings.values
    making = ChainMaking.of(values.explicit, run_code=run_code)
    if not making.verify and wording_of(values.prompts).scores and values.accept_score is None:
        settings = settings.over(accept_score=ACCEPT_SCORE)
    settings = replace(settings, stand_ins=making.stand_ins)
    _tell_idle(settings, run_code=run_code)
    check_out(out, "-o out.jsonl, then: redraft show out.jsonl --json")
    plan = run.plan(out, journal=own_journal(journal, out), retry_failed=retry_failed)
    with prompts_file(source) as file:
        answers = ChainRun(
            settings,
            file,
            plan,
            limit=limit,
            name=name_of(source),
            making=making,
            of_run={name: flags.get(name) or settings.get(name) for name in OF_A_RUN},
            usual={**USUAL, "accept_score": ACCEPT_SCORE},
            sample=estimate,
        )
        print_result(answers.run, plan)


def _tell_idle(settings: Settings, *, run_code: bool) -> None:
    """Tell the user of flags that do nothing with these settings."""
    if run_code and settings.get("verify") != "code":
        tell("--run-code does nothing without --verify code.")
    if settings.get("drop_leaks") and not (settings.get("gold") or settings.get("verify")):
        tell("--drop-leaks does nothing without --gold or --verify: nobody saw the gold answer.")


chains = takes(chains, FLAGS)

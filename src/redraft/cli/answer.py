"""`redraft answer`: a file of prompts becomes a file of chains, each made once, many at a time, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from redraft.cli.options import CacheFile, Given, fill_in, takes
from redraft.cli.running import (
    First,
    Journal,
    Out,
    RetryFailed,
    RunFlags,
    check_out,
    name_of,
    print_result,
    prompts_file,
)


@takes
def answer(
    flags: Given,
    source: Annotated[
        Path, typer.Argument(metavar="PROMPTS", help="A file of prompts, of any known shape; '-' is stdin.")
    ],
    out: Out,
    run: RunFlags,
    limit: First = None,
    shape: Annotated[
        Literal["chain", "selfee", "fastchat"], typer.Option("--format", help="What to write.")
    ] = "chain",
    model_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The model's name in answer records.", show_default=False),
    ] = None,
    journal: Journal = None,
    cache: CacheFile = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Answer a file of prompts; check and revise each answer.

    FILE gets a line for each prompt, in the order in which they are done; the ids tell which is which.
    After any stop, the same command resumes: no finished answer is made twice, and a chain that was cut
    resumes after its last complete step, kept in FILE.unfinished.jsonl. Failures are in FILE.errors.jsonl
    and are tried again; --retry-failed tries these alone, and begins no other prompt. FILE.run.json records
    how FILE was made.

    With --batch requests go through the server's batches, in waves: all answers, then all feedback, and so
    on. The run may be stopped and continued days later. A journal is kept, FILE.journal.db if none is named.

    With --journal each reply of a model is stored on disk before it is used, and a chain that was cut is
    replayed from there for free. The same prompts with the same settings get the same replies again, for
    another output too. With --cache that holds for equal prompts too: a request that is in the file is not
    sent again, whatever the prompt's id.

    A limit that is reached ends the run with exit status 4: prompts already begun are finished, and no other
    is begun. The same command resumes, with the whole limits again.

    The exit status is 1 if an answer in FILE does not pass its checks. Records of selfee and fastchat do not
    keep checks, so with these formats only the answers of this run count.
    """
    from redraft.runs.answers import AnswerRun, Form

    check_out(out, "-o out.jsonl, then: redraft show out.jsonl --json")
    plan = run.plan(out, journal=journal, cache=cache, retry_failed=retry_failed)
    with prompts_file(source) as file:
        answers = AnswerRun(fill_in(flags), file, plan, Form(shape, model_id), limit, name_of(source))
        print_result(answers.run, plan)

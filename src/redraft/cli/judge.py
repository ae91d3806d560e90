"""`redraft judge`: files of answers become a file of reviews, resumable."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.on_ray import RayFlags, flags_of
from redraft.cli.options import FlagGroup, Given, fill_in
from redraft.cli.parameters import takes
from redraft.cli.running import OwnJournal, RetryFailed, RunFlags, check_out
from redraft.cli.shell import flag, only_ours

FLAGS = FlagGroup("redraft.evaluation.judging.options:JudgeOptions", recipes="judge")


def judge(
    flags: Given,
    answers: Annotated[
        list[Path], typer.Argument(metavar="ANSWERS...", help="Answers of a model A, and of its opponent B.")
    ],
    out: Annotated[Path, flag("FILE", "Where the reviews go.", "--out", "-o")],
    run: RunFlags,
    ray: RayFlags,
    questions: Annotated[
        Path | None, flag("FILE", "What was asked, with categories and gold answers.")
    ] = None,
    prompt_file: Annotated[
        Path | None, flag("FILE", "Prompts of FastChat: prompt.jsonl, judge_prompts.jsonl.")
    ] = None,
    reviewer_file: Annotated[Path | None, flag("FILE", "FastChat's reviewer.jsonl for the prompts.")] = None,
    journal: OwnJournal = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Have a model judge the answers of two models, or of one.

    A and B are files of answers or chains, joined by question_id. FILE gets a review for each question, order
    and judge, in SelFee's and FastChat's shape: redraft report FILE. The judge sees each pair in both orders.

    After any stop, the same command resumes. Each reply is stored in FILE.journal.db before it is used, so
    none is paid for twice. A judge that gives no score is asked for it once more; none is made up. If
    most of the first 20 reviews cannot be read, the run stops and says why; the exit status is 3.
    Failures are in FILE.errors.jsonl, and FILE.run.json records how FILE was made.
    """
    from redraft.evaluation.judging.run import JudgeRun

    check_out(out, "-o reviews.jsonl")
    plan = run.plan(out, journal=journal, retry_failed=retry_failed)
    files = {"questions": questions, "prompt_file": prompt_file, "reviewer_file": reviewer_file}
    named = "model" in flags or "recipe" in flags
    judging = JudgeRun.of(settings := fill_in(flags, FLAGS), answers, plan, named=named, **files)
    given = {**settings.values.explicit, **flags_of(run), **files, "model": judging.models}
    given |= {"journal": journal, "retry_failed": retry_failed}
    ray.make("redraft.evaluation.judging.run:ajudge", [answers], out, given, quiet=plan.quiet)
    with only_ours():
        result = judging.run()
    if not plan.quiet:
        typer.echo(str(result))
    raise typer.Exit(result.exit_status)


judge = takes(judge, FLAGS)

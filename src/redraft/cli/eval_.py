"""`redraft eval`: answer a task whose truth can be checked, and score the answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.complete import tasks
from redraft.cli.on_ray import RayFlags, flags_of
from redraft.cli.options import CacheFile, FlagGroup, Given, fill_in
from redraft.cli.parameters import takes
from redraft.cli.running import (
    First,
    Journal,
    Out,
    RetryFailed,
    RunCode,
    RunFlags,
    check_out,
    prompts_file,
    tell_failures,
)
from redraft.cli.shell import only_ours

FLAGS = FlagGroup("redraft.options:EvalFlags")


def evaluate(
    flags: Given,
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="gsm8k, aqua, math, math-verify, humaneval, mbpp, ifeval, json-repair, checks or exercises.",
            autocompletion=tasks,
        ),
    ],
    source: Annotated[Path, typer.Argument(metavar="RECORDS", help="The task's file, as it is published.")],
    out: Out,
    run: RunFlags,
    ray: RayFlags,
    limit: First = None,
    run_code: RunCode = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the scores as JSON, and nothing else.")
    ] = False,
    journal: Journal = None,
    cache: CacheFile = None,
    retry_failed: RetryFailed = False,
) -> None:
    """Score a model on a task whose truth can be checked.

    The model answers each record and revises its answers as in `redraft answer`; --max-revisions 0 scores
    plain answers. Prints the share of right answers with its 95 % interval, in all and by group.

    --check guides revising and does not score. The task's own checks score. They guide only with --guided,
    and then the score does not tell what revising is worth where the truth is unknown.

    FILE gets the chain of each record, with the truth about each answer in `eval` of its `meta`. After any
    stop, the same command resumes. A low score is no failure: the exit status is 0. An empty answer is
    wrong, and tried again by the same command; other failures are listed, and do not count.

    Records of the task `checks` have a prompt and their own checks: {"prompt": "Describe rain.", "checks":
    ["words<=50"]}.
    """
    from redraft.evaluation.tasks.run import EvalRun
    from redraft.evaluation.tasks.tasks import task_of

    task_of(task, run_code=run_code)
    settings = fill_in(flags, FLAGS)
    check_out(out, "-o out.jsonl, then: redraft show out.jsonl --json")
    plan = run.plan(out, journal=journal, cache=cache, retry_failed=retry_failed)
    if as_json:
        plan = replace(plan, quiet=True)
    with prompts_file(source) as (file, name):
        more = {"limit": limit, "run_code": run_code, "retry_failed": retry_failed, "journal": journal}
        given = {**settings.values.explicit, **flags_of(run), **more, "cache": cache}
        function = "redraft.evaluation.tasks.run:aevaluate_file"
        ray.make(function, [task, file], out, given, quiet=plan.quiet)
        answers = EvalRun(settings, file, plan, limit=limit, name=name, task=task)
        with only_ours():
            result = answers.run()
    tally = answers.summary
    if as_json:
        tally.failed = dict(result.failures)
        typer.echo(json.dumps(tally.record(), ensure_ascii=False, indent=1))
    elif not plan.quiet:
        typer.echo("\n".join([*tally.table(), "", str(result)] if tally.chains else [str(result)]))
    if plan.quiet:
        tell_failures(result)
    raise typer.Exit(result.exit_status)


evaluate = takes(evaluate, FLAGS)

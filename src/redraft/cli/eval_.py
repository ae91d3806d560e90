"""`redraft eval`: answer a task whose answers can be verified, and score the answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from redraft.cli.cluster import RayFlags
from redraft.cli.options import Given, fill_in, takes
from redraft.cli.running import Out, check_files, tell_failures
from redraft.cli.shell import argument, only_ours, switch, write

FLAGS = "redraft.revision.runs.options:EvalFileOptions"


@takes(FLAGS)
def evaluate(
    flags: Given,
    task: Annotated[
        str, argument("TASK", "The task: gsm8k, aqua, math, humaneval, mbpp, ifeval, checks or exercises.")
    ],
    source: Annotated[Path, argument("RECORDS", "The task's file, as it is published.")],
    out: Out,
    ray: RayFlags,
    as_json: Annotated[bool, switch("Print the scores as JSON, and nothing else.", "--json")] = False,
) -> None:
    """Score a model on a task whose answers can be verified.

    The model answers each record and revises its answers as in `redraft answer`; --max-revisions 0 scores
    plain answers. Prints the share of right answers with its 95 % interval, in total and by group.

    The task's own checks give the score, and guide revising only with --guided. --check guides revising, and
    does not change the score.

    FILE gets the chain of each record. An answer is right if all of its checks in meta.eval passed. After any
    stop, the same command resumes. The exit status is 0 even for a low score. An empty answer counts as
    wrong, and the same command tries it again; other failures are listed, and not scored.
    """
    from redraft.evaluation.tasks.run import EvalRun
    from redraft.evaluation.tasks.tasks import task_of
    from redraft.revision.runs.plan import RunPlan

    settings = fill_in({**flags, **({"quiet": True} if as_json else {})}, FLAGS)
    task_of(task, run_code=settings.values.run_code)
    check_files(out, "-o out.jsonl, then: redraft show out.jsonl --json", source)
    plan = RunPlan.of(out, settings)
    ray.make("redraft.evaluation.tasks.run:aevaluate_file", [task, source], out, settings.values.explicit)
    answers = EvalRun(settings, source, plan, limit=settings.get("limit"), task=task)
    with only_ours():
        result = answers.run()
    tally = answers.summary
    if as_json:
        tally.failed = dict(result.failures)
        typer.echo(json.dumps(tally.record(), ensure_ascii=False, indent=1))
    elif not plan.quiet:
        write("\n".join([*tally.table(), "", str(result)] if tally.chains else [str(result)]), table=True)
    if plan.quiet:
        tell_failures(result.job)
    raise typer.Exit(result.exit_status)

"""`redraft diagnose`: tell from chains what revising did, and whether it pays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from redraft.cli.options import FlagGroup, Given, fill_in, takes
from redraft.cli.running import (
    AsJson,
    LimitSeconds,
    LimitTokens,
    LimitUsd,
    Parallel,
    Quiet,
    ReplacePage,
    RetryFailed,
    RunCode,
    parallel_of,
)
from redraft.cli.shell import only_ours, tell, write
from redraft.errors import UsageError
from redraft.evaluation.diagnosis import SAMPLES, SEEDS
from redraft.files import not_an_input

FLAGS = FlagGroup("redraft.options:Flags", {"max_revisions": 1})
_EXAMPLE = "--run gsm8k test.jsonl -o runs"


def _option(metavar: str, text: str, *names: str, least: int | None = None, panel: str | None = None) -> Any:
    return typer.Option(
        *names, metavar=metavar, help=text, min=least, rich_help_panel=panel, show_default=False
    )


_of_run = partial(_option, panel="With --run")

Chains = Annotated[
    list[Path],
    typer.Argument(metavar="CHAINS...", help="Chains of redraft eval or answer, or a folder of --run."),
]
Task = Annotated[str | None, _option("TASK", "The task that says what is right.")]
Records = Annotated[Path | None, _option("FILE", "The task's file, which was answered.")]
Score = Annotated[list[str] | None, _option("CHECK", "A check that says what is right; repeatable.")]
Page = Annotated[Path | None, _option("FILE", "Write a page with pictures.")]
Run = Annotated[str | None, _of_run("TASK", "Answer the task's file in several ways, and compare them.")]
Out = Annotated[Path | None, _of_run("FOLDER", "Where the runs go.", "--out", "-o")]
Seeds = Annotated[int | None, _of_run("N", f"Rounds over the records.  [{SEEDS}]", least=1)]
Samples = Annotated[
    int | None, _of_run("N", f"Most answers of best of N and of a majority vote.  [{SAMPLES}]", least=2)
]
Limit = Annotated[int | None, _of_run("N", "Only the first N records.", least=1)]


def diagnose(
    flags: Given,
    files: Chains,
    task: Task = None,
    records: Records = None,
    score: Score = None,
    run_code: RunCode = False,
    html: Page = None,
    as_json: AsJson = False,
    force: ReplacePage = False,
    run: Run = None,
    out: Out = None,
    seeds: Seeds = None,
    samples: Samples = None,
    limit: Limit = None,
    parallel: Parallel = None,
    retry_failed: RetryFailed = False,
    quiet: Quiet = False,
    limit_usd: LimitUsd = None,
    limit_tokens: LimitTokens = None,
    limit_seconds: LimitSeconds = None,
) -> None:
    """Tell from chains what revising did, and whether it pays.

    Prints the share of right answers after each revision, how many answers each revision made right and made
    wrong, whether the verdicts are right, how lengths change, where the gain comes from, and a sentence:
    revise, don't, or how many more items would decide it.

    Chains of redraft eval know which answers are right. For others, name the task with its file, or give
    checks with --score. Else the checks that guided revising score too, and then a gain is nearly automatic.

    Chains with the same id are runs of one item: give the files of several seeds together.

    With --run TASK, the records of the task's file are answered with a model in several ways: revised, once,
    best of several with the same checks, by majority vote where answers are short, and revised without
    feedback or with that on another answer. These are compared at equal tokens. --check guides; without it,
    the task's own checks do. After any stop, the same command resumes; redraft diagnose FOLDER reads the
    runs again. The limits are of all ways together; one that is reached ends the command with exit status 4.
    """
    from redraft import __version__
    from redraft.evaluation.diagnosis.diagnose import Findings
    from redraft.formats.read.files import open_output

    not_an_input({"--html": html}, [*files, *filter(None, [records])])
    for check in [*(score or ()), *(flags.get("check") or ())]:
        if "judge" in check.partition(":")[0]:
            problem = f"the check {check!r:.60} asks a judge, and here there is none."
            raise UsageError(problem, hint="Leave it out.")
    limits = {"limit_usd": limit_usd, "limit_tokens": limit_tokens, "limit_seconds": limit_seconds}
    of_run = {"out": out, "seeds": seeds, "samples": samples, "limit": limit, "parallel": parallel}
    truth: dict[str, Any] = {"task": task, "records": records, "score": score}
    strategies, status = [], 0
    if run is None:
        not_given = {**flags, **of_run, **limits}
        _refuse(not_given, "is for --run, and chains are read.", f"Leave it out, or make runs: {_EXAMPLE}")
    else:
        from redraft.evaluation.diagnosis.runs import StrategyRuns
        from redraft.jobs.limits import Limits
        from redraft.runs.plan import RunPlan

        _refuse(truth, "was given with --run, whose task says what is right.", "Leave it out.")
        if len(files) > 1:
            raise UsageError("--run takes one file of records.", hint=f"Write: {_EXAMPLE}")
        if out is None:
            raise UsageError("--run needs a folder for its runs.", hint=f"Name one: {_EXAMPLE}")
        plan = RunPlan(
            out,
            parallel_of(parallel),
            Limits(limit_usd, limit_tokens, limit_seconds),
            retry_failed=retry_failed,
            quiet=quiet or as_json,
            tell=tell,
        )
        settings = fill_in(flags, FLAGS)
        runs = StrategyRuns(settings, files[0], plan, run, limit, seeds or SEEDS, samples or SAMPLES)
        with only_ours():
            status, reached = runs.run(run_code=run_code)
        if reached:
            raise typer.Exit(status)
        files, strategies = [plan.out], runs.strategies
    truth |= {"score": score or (), "run_code": run_code}
    with open_output(html, force=force, flag="--html") if html else nullcontext() as file:
        with only_ours():
            found = Findings.read(files, strategies, truth)
        if file:
            from redraft.evaluation.diagnosis.page import page

            file.write(page(*found, f"redraft {__version__} · 95 % intervals").encode())
    write(json.dumps(found.record(), ensure_ascii=False, indent=1) if as_json else str(found))
    raise typer.Exit(status)


def _refuse(given: Mapping[str, Any], why: str, hint: str) -> None:
    if names := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"--{names[0].replace('_', '-')} {why}", hint=hint)


diagnose = takes(diagnose, FLAGS)

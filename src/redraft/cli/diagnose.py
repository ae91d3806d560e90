"""`redraft diagnose`: tell from chains what revising did, and whether it pays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.options import Given, fill_in, takes
from redraft.cli.running import AsJson, ReplacePage, RunCode
from redraft.cli.shell import flag, only_ours, write
from redraft.errors import UsageError
from redraft.jobs.files import not_an_input

if TYPE_CHECKING:
    from redraft.evaluation.diagnosis.runs import StrategyRuns

EXAMPLE = "--run gsm8k test.jsonl -o runs"
FLAGS = "redraft.evaluation.diagnosis.options:DiagnoseOptions"

Chains = Annotated[
    list[Path],
    typer.Argument(metavar="CHAINS...", help="Chains of redraft eval or answer, or a folder of --run."),
]


def diagnose(
    flags: Given,
    files: Chains,
    score: Annotated[
        list[str] | None,
        flag("CHECK", "A check that says what is right; repeatable."),
    ] = None,
    run_code: RunCode = False,
    html: Annotated[Path | None, flag("FILE", "Write a page, and one of chains.")] = None,
    as_json: AsJson = False,
    force: ReplacePage = False,
) -> None:
    """Tell from chains what revising did, and whether it pays.

    Prints the share of right answers after each revision, how many answers each revision made right and made
    wrong, whether the verdicts are right, and a sentence: revise, don't, or undecided.

    Chains of redraft eval know which answers are right. For others, give checks with --score. Chains with the
    same id are runs of one item: give the files of several seeds together.

    With --run TASK, the records of the task's file are answered in several ways, which are compared at equal
    tokens (docs/evaluate.md). --check guides; without it, the task's own checks do. After any stop, the same
    command resumes; redraft diagnose FOLDER reads the runs again. A limit is of all ways together, and ends
    the command with exit status 4.
    """
    from redraft import __version__
    from redraft.chain.read.files import open_output
    from redraft.evaluation.diagnosis.diagnose import Findings

    not_an_input({"--html": html}, files)
    for check in (*(score or ()), *(flags.get("check") or ())):
        if "judge" in check.partition(":")[0]:
            problem = f"the check {check!r:.60} asks a judge, and here there is none."
            raise UsageError(problem, hint="Leave it out.")
    strategies, status = [], 0
    if "run" not in flags:
        why, hint = "is for --run, and chains are read.", f"Leave it out, or make runs: {EXAMPLE}"
        _refuse({name: value for name, value in flags.items() if name != "quiet"}, why, hint)
    else:
        _refuse({"score": score}, "was given with --run, whose task says what is right.", "Leave it out.")
        runs = _runs({**flags, **({"quiet": True} if as_json else {})}, files)
        with only_ours():
            status, reached, _ = runs.run(run_code=run_code)
        if reached:
            raise typer.Exit(status)
        files, strategies = [runs.plan.out], runs.strategies
    with open_output(html, force=force, flag="--html") if html else nullcontext() as file:
        with only_ours():
            found = Findings.read(files, strategies, score or ())
        if html and file:
            from redraft.evaluation.diagnosis.page import chains_of, page
            from redraft.evaluation.reports.chains import Links

            made = f"redraft {__version__} · 95 % intervals"
            chains = chains_of(found.diagnosis)
            links = Links.write(html, "Does revising pay? The chains", chains, made, force=force)
            file.write(page(*found, made, links).encode())
    write(json.dumps(found.record(), ensure_ascii=False, indent=1) if as_json else str(found))
    raise typer.Exit(status)


def _runs(flags: Given, files: list[Path]) -> StrategyRuns:
    """Return the runs on a file of records."""
    from redraft.evaluation.diagnosis.runs import StrategyRuns
    from redraft.revision.runs.plan import RunPlan

    if len(files) > 1:
        raise UsageError("--run takes one file of records.", hint=f"Write: {EXAMPLE}")
    if "out" not in flags:
        raise UsageError("--run needs a folder for its runs.", hint=f"Name one: {EXAMPLE}")
    settings = fill_in(flags, FLAGS)
    told = settings.values
    plan = RunPlan.of(told.out, settings)
    return StrategyRuns(settings, files[0], plan, told.run, told.limit, told.seeds, told.samples)


def _refuse(given: Mapping[str, Any], why: str, hint: str) -> None:
    if names := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"--{names[0].replace('_', '-')} {why}", hint=hint)


diagnose = takes(diagnose, FLAGS)

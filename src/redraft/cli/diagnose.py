"""`redraft diagnose`: tell from chains what revising did, and whether it pays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from redraft.cli.options import FlagGroup, Given, fill_in, takes
from redraft.cli.running import AsJson, ReplacePage, RunCode
from redraft.cli.shell import flag, only_ours, write
from redraft.cli.strategies import EXAMPLE, StrategyFlags
from redraft.errors import UsageError
from redraft.jobs.files import not_an_input

FLAGS = FlagGroup("redraft.options:Flags", {"max_revisions": 1})


Chains = Annotated[
    list[Path],
    typer.Argument(metavar="CHAINS...", help="Chains of redraft eval or answer, or a folder of --run."),
]


def diagnose(
    flags: Given,
    files: Chains,
    task: Annotated[str | None, flag("TASK", "The task that says what is right.")] = None,
    records: Annotated[Path | None, flag("FILE", "The task's file, which was answered.")] = None,
    score: Annotated[
        list[str] | None,
        flag("CHECK", "A check that says what is right; repeatable."),
    ] = None,
    run_code: RunCode = False,
    html: Annotated[Path | None, flag("FILE", "Write a page with pictures, and one of chains.")] = None,
    as_json: AsJson = False,
    force: ReplacePage = False,
    *,
    making: StrategyFlags,
) -> None:
    """Tell from chains what revising did, and whether it pays.

    Prints the share of right answers after each revision, how many answers each revision made right and made
    wrong, whether the verdicts are right, how lengths change, where the gain comes from, and a sentence:
    revise, don't, or undecided.

    Chains of redraft eval know which answers are right. For others, name the task with its file, or give
    checks with --score. Else the checks that guided revising score too, and then a gain is nearly automatic.

    Chains with the same id are runs of one item: give the files of several seeds together.

    With --run TASK, the records of the task's file are answered with a model in several ways: revised, once,
    best of several with the same checks, by majority vote where answers are short, revised without feedback
    or with that on another answer, as drafts that are told what failed, and as mode auto does it; with
    --no-steer also steered. These are compared at equal tokens. --check guides; without it,
    the task's own checks do. After any stop, the same command resumes; redraft diagnose FOLDER reads the
    runs again. The limits are of all ways together; one that is reached ends the command with exit status 4.
    """
    from redraft import __version__
    from redraft.chain.read.files import open_output
    from redraft.evaluation.diagnosis.diagnose import Findings

    not_an_input({"--html": html}, [*files, *filter(None, [records])])
    truth: dict[str, Any] = {"task": task, "records": records, "score": score}
    _refuse_judges([*(score or ()), *(flags.get("check") or ())])
    strategies, status = [], 0
    if making.run is None:
        why, hint = "is for --run, and chains are read.", f"Leave it out, or make runs: {EXAMPLE}"
        _refuse({**flags, **making.given}, why, hint)
    else:
        _refuse(truth, "was given with --run, whose task says what is right.", "Leave it out.")
        runs = making.runs(files, fill_in(flags, FLAGS), quiet=making.quiet or as_json)
        with only_ours():
            status, reached, _ = runs.run(run_code=run_code)
        if reached:
            raise typer.Exit(status)
        files, strategies = [runs.plan.out], runs.strategies
    truth |= {"score": score or (), "run_code": run_code}
    with open_output(html, force=force, flag="--html") if html else nullcontext() as file:
        with only_ours():
            found = Findings.read(files, strategies, truth)
        if html and file:
            from redraft.evaluation.diagnosis.page import chains_of, page
            from redraft.evaluation.reports.chains import Links

            made = f"redraft {__version__} · 95 % intervals"
            chains = chains_of(found.diagnosis)
            links = Links.write(html, "Does revising pay? The chains", chains, made, force=force)
            file.write(page(*found, made, links).encode())
    write(json.dumps(found.record(), ensure_ascii=False, indent=1) if as_json else str(found))
    raise typer.Exit(status)


def _refuse_judges(checks: list[str]) -> None:
    for check in checks:
        if "judge" in check.partition(":")[0]:
            problem = f"the check {check!r:.60} asks a judge, and here there is none."
            raise UsageError(problem, hint="Leave it out.")


def _refuse(given: Mapping[str, Any], why: str, hint: str) -> None:
    if names := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"--{names[0].replace('_', '-')} {why}", hint=hint)


diagnose = takes(diagnose, FLAGS)

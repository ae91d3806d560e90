"""`redraft diagnose`: tell from chains what revising did, and whether it pays.

`cli.equal` makes the chains of `--run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from redraft.cli.equal import SAMPLES, SEEDS, EqualRun
from redraft.cli.options import FlagGroup, Given, fill_in, takes
from redraft.cli.running import (
    LimitSeconds,
    LimitTokens,
    LimitUsd,
    Parallel,
    Quiet,
    RetryFailed,
    parallel_of,
)
from redraft.cli.shell import only_ours, write
from redraft.errors import UsageError
from redraft.files import not_an_input

if TYPE_CHECKING:
    from redraft.evaluation.diagnosis.ways import Way

FLAGS = FlagGroup("redraft.options:Flags", {"max_revisions": 1})
_EXAMPLE = "--run gsm8k test.jsonl -o runs"


def _truth(metavar: str, text: str) -> Any:
    return typer.Option(metavar=metavar, help=text, show_default=False)


def _of_run(metavar: str, text: str, *names: str, least: int | None = None) -> Any:
    return typer.Option(
        *names, metavar=metavar, help=text, min=least, rich_help_panel="With --run", show_default=False
    )


Chains = Annotated[
    list[Path],
    typer.Argument(metavar="CHAINS...", help="Chains of redraft eval or answer, or a folder of --run."),
]
Task = Annotated[str | None, _truth("TASK", "The task that says what is right.")]
Records = Annotated[Path | None, _truth("FILE", "The task's file, which was answered.")]
Score = Annotated[list[str] | None, _truth("CHECK", "A check that says what is right; repeatable.")]
Page = Annotated[Path | None, _truth("FILE", "Write a page with pictures.")]
RunCode = Annotated[
    bool, typer.Option("--run-code", help="Let humaneval and mbpp run the model's programs, in a sandbox.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the page if it exists.")]
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
    as_json: Json = False,
    force: Force = False,
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
    from redraft.jobs.limits import Limits

    not_an_input({"--html": html}, [*files, *filter(None, [records])])
    _refuse_judges([*(score or ()), *(flags.get("check") or ())])
    limits = {"limit_usd": limit_usd, "limit_tokens": limit_tokens, "limit_seconds": limit_seconds}
    of_run = {"out": out, "seeds": seeds, "samples": samples, "limit": limit, "parallel": parallel}
    truth: dict[str, Any] = {"task": task, "records": records, "score": score}
    ways: list[Way] = []
    status = 0
    if run is None:
        _check_reading(files, truth, {**flags, **of_run, **limits})
    else:
        _refuse(truth, "was given with --run, whose task says what is right.", "Leave it out.")
        making = EqualRun(
            source=_only(files),
            task=run,
            folder=_folder(out),
            settings=fill_in(flags, FLAGS),
            parallel=parallel_of(parallel),
            limits=Limits(limit_usd, limit_tokens, limit_seconds),
            limit=limit,
            seeds=seeds or SEEDS,
            samples=samples or SAMPLES,
            retry_failed=retry_failed,
            quiet=quiet or as_json,
        )
        with only_ours():
            status = making.run(run_code=run_code)
        files, ways = [making.folder], making.ways
    truth |= {"score": score or (), "run_code": run_code}
    _show(files, ways, truth, html, force=force, as_json=as_json)
    raise typer.Exit(status)


def _check_reading(files: list[Path], truth: Mapping[str, Any], of_run: Mapping[str, Any]) -> None:
    """Raise if chains are read, and what was given does not fit."""
    _refuse(of_run, "is for --run, and chains are read.", f"Leave it out, or make runs: {_EXAMPLE}")
    if (truth["task"] is None) != (truth["records"] is None):
        raise UsageError("--task and --records go together.", hint="--task gsm8k --records test.jsonl")
    if folder := next(filter(Path.is_dir, files), None):
        _refuse(
            truth, f"was given with the runs in {folder}, whose task says what is right.", "Leave it out."
        )
        if len(files) > 1:
            raise UsageError(f"{folder} is a folder, and other files were given too.", hint="Give it alone.")


def _refuse(given: Mapping[str, Any], why: str, hint: str) -> None:
    if names := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"--{names[0].replace('_', '-')} {why}", hint=hint)


def _refuse_judges(checks: list[str]) -> None:
    for check in checks:
        if "judge" in check.partition(":")[0]:
            raise UsageError(
                f"the check {check!r:.60} asks a judge, and here there is none.", hint="Leave it out."
            )


def _only(files: list[Path]) -> Path:
    if len(files) > 1:
        raise UsageError("--run takes one file of records.", hint=f"Write: {_EXAMPLE}")
    return files[0]


def _folder(out: Path | None) -> Path:
    if out is None:
        raise UsageError("--run needs a folder for its runs.", hint=f"Name one: {_EXAMPLE}")
    if out.is_file():
        raise UsageError(
            f"{out} is a file, and --run needs a folder for its runs.", hint="Name another: -o runs"
        )
    return out


def _show(
    files: list[Path], ways: list[Way], truth: Any, html: Path | None, *, force: bool, as_json: bool
) -> None:
    """Print what is found in files of chains, or in a folder with runs of these ways; and write the page."""
    import json
    from contextlib import nullcontext

    from redraft import __version__
    from redraft.evaluation.diagnosis import equal_text, text
    from redraft.evaluation.diagnosis.diagnose import diagnose as diagnosed
    from redraft.evaluation.diagnosis.equal import curves_in, revised_in
    from redraft.evaluation.diagnosis.page import page
    from redraft.evaluation.diagnosis.truth import chains_in
    from redraft.formats.read.files import open_output

    runs = files[0] if len(files) == 1 and files[0].is_dir() else None
    with open_output(html, force=force, flag="--html") if html else nullcontext() as file:
        with only_ours():
            found = diagnosed(chains_in(revised_in(runs, ways) if runs else files), **truth)
        curves = curves_in(runs, ways) if runs else None
        if file:
            file.write(page(found, f"redraft {__version__} · 95 % intervals", curves).encode())
    if as_json:
        at_equal = {"equal_tokens": equal_text.as_json(curves)} if curves else {}
        values = text.as_json(found, compared=bool(curves)) | at_equal
        write(json.dumps(values, ensure_ascii=False, indent=1))
    else:
        table = ["", *equal_text.as_text(curves)] if curves else []
        write("\n".join([*text.as_text(found, compared=bool(curves)), *table]))


diagnose = takes(diagnose, FLAGS)

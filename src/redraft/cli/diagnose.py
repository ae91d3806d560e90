"""`redraft diagnose`: tell from chains what revising did, and whether it pays.

`cli.equal` makes the chains of `--run`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from redraft.cli.answer import Parallel, Quiet, RetryFailed, parallel_of
from redraft.cli.data.common import not_an_input
from redraft.cli.equal import EqualRun
from redraft.cli.options import FlagGroup, fill_in, takes
from redraft.cli.shell import write
from redraft.errors import UsageError
from redraft.options import Flags

FLAGS = FlagGroup(Flags, {"max_revisions": 1})


def _of_run(metavar: str, text: str, *names: str, least: int | None = None) -> Any:
    return typer.Option(
        *names, metavar=metavar, help=text, min=least, rich_help_panel="With --run", show_default=False
    )


def diagnose(
    flags: Flags,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="CHAINS...", help="Chains of redraft eval or answer, or a folder of --run."),
    ],
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="The task that says what is right.", show_default=False),
    ] = None,
    records: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The task's file, which was answered.", show_default=False),
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECK", help="A check that says what is right; repeatable.", show_default=False
        ),
    ] = None,
    run_code: Annotated[
        bool,
        typer.Option("--run-code", help="Let humaneval and mbpp run the model's programs, in a sandbox."),
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page with pictures.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the page if it exists.")] = False,
    run: Annotated[
        str | None,
        _of_run("TASK", "Answer the task's file in several ways, and compare them."),
    ] = None,
    out: Annotated[Path | None, _of_run("FOLDER", "Where the runs go.", "--out", "-o")] = None,
    seeds: Annotated[int, _of_run("N", "Rounds over the records.  [3]", least=1)] = 3,
    samples: Annotated[
        int, _of_run("N", "Most answers of best of N and of a majority vote.  [4]", least=2)
    ] = 4,
    limit: Annotated[int | None, _of_run("N", "Only the first N records.", least=1)] = None,
    parallel: Parallel = None,
    retry_failed: RetryFailed = False,
    quiet: Quiet = False,
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
    runs again.
    """
    from redraft.evaluate.equal import revised_in

    not_an_input({"--html": html}, [*files, *filter(None, [records])])
    if run is None and (flags or out):
        named = "--" + next(iter(flags), "out").replace("_", "-")
        raise UsageError(f"{named} is for --run, and chains are read.", hint="Name the task: --run ifeval")
    if run is not None:
        making = EqualRun(
            source=_only(files),
            task=run,
            folder=_folder(out),
            settings=fill_in(flags, FLAGS),
            flags=FLAGS,
            parallel=parallel_of(parallel, batch=False),
            limit=limit,
            seeds=seeds,
            samples=samples,
            retry_failed=retry_failed,
            quiet=quiet or as_json,
        )
        making.run(run_code=run_code)
        files = [making.folder]
    runs = files[0] if len(files) == 1 and files[0].is_dir() else None
    truth: Any = {"task": task, "records": records, "score": score or (), "run_code": run_code}
    _show(revised_in(runs) if runs else files, runs, truth, html, force=force, as_json=as_json)


def _only(files: list[Path]) -> Path:
    if len(files) > 1:
        raise UsageError("--run takes one file of records.", hint="Write: --run gsm8k test.jsonl -o runs/")
    return files[0]


def _folder(out: Path | None) -> Path:
    if out is None or out.is_file():
        raise UsageError("--run needs a folder for its runs.", hint="Name one: -o runs/")
    return out


def _show(
    files: list[Path],
    runs: Path | None,
    truth: Any,
    html: Path | None,
    *,
    force: bool,
    as_json: bool,
) -> None:
    """Print what is found in chains and, if there are any, in runs of other ways; and write the page."""
    import json
    from contextlib import nullcontext

    from redraft import __version__
    from redraft.evaluate import diagnose as diagnosing
    from redraft.evaluate import equal_text
    from redraft.evaluate.diagnose_page import page
    from redraft.evaluate.diagnose_text import as_json as values_of
    from redraft.evaluate.equal import curves_in
    from redraft.formats.read.files import open_output

    with open_output(html, force=force) if html else nullcontext() as file:
        found = diagnosing.diagnose(diagnosing.chains_in(files), **truth)
        curves = curves_in(runs) if runs else None
        if file:
            file.write(page(found, f"redraft {__version__} · 95 % intervals", curves).encode())
    if as_json:
        values = values_of(found) | ({"equal_tokens": equal_text.as_json(curves)} if curves else {})
        write(json.dumps(values, ensure_ascii=False, indent=1))
    else:
        write("\n".join([str(found), *(["", *equal_text.as_text(curves)] if curves else [])]))


diagnose = takes(diagnose, FLAGS)
